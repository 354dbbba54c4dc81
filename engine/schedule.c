/* schedule.c: learning rates that change with the steps. A schedule is a row and its attributes;
 * the rate of a step is a function of the base rate and of the steps taken before it (s, 0 for the
 * first), so going back to a version also goes back in the schedule. Only reduce_on_plateau has a
 * state beside that (schedule_plateau.c).
 *
 *   constant   lr
 *   cosine     lr * (s + 1) / warmup_steps                               while s < warmup_steps
 *              min_lr + (lr - min_lr) * (1 + cos(pi * p)) / 2            while s < total_steps
 *              min_lr                                                    from then on
 *              where p = (s - warmup_steps) / (total_steps - warmup_steps)
 *
 * The first step after the warm-up has the full rate. Without a warm-up these are the rates of
 * torch.optim.lr_scheduler.CosineAnnealingLR(T_max = total_steps, eta_min = min_lr).
 *
 * The other rows are torch's StepLR, MultiStepLR, ExponentialLR, LinearLR, PolynomialLR,
 * CosineAnnealingWarmRestarts and OneCycleLR under short names, stepped once a training step, each
 * after its own warm-up. */
#include "schedule.h"

#include <math.h>
#include <string.h>

struct schedule {
    struct choice choice; /* all there is */
};

static double constant_lr(const void *attrs, double base, uint64_t step,
                          const struct schedule_state *state)
{
    (void)attrs, (void)step, (void)state;
    return base;
}

/* ---- cosine ---------------------------------------------------------------------------------- */

struct cosine {
    int64_t warmup_steps, total_steps;
    double min_lr;
};

static double cosine_lr(const void *attrs, double base, uint64_t step,
                        const struct schedule_state *state)
{
    const struct cosine *c = attrs;
    (void)state;
    if (step < (uint64_t)c->warmup_steps)
        return base * ((double)step + 1) / (double)c->warmup_steps;
    if (step >= (uint64_t)c->total_steps)
        return c->min_lr;
    double done = (double)(step - (uint64_t)c->warmup_steps);
    double all = (double)(c->total_steps - c->warmup_steps);
    return c->min_lr + (base - c->min_lr) * (1 + cos(M_PI * done / all)) / 2;
}

static int cosine_check(const void *attrs, const char *what, struct error *e)
{
    const struct cosine *c = attrs;
    if (c->warmup_steps <= c->total_steps)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute 'warmup_steps' must be at most total_steps (%lld), not %lld",
                     what, (long long)c->total_steps, (long long)c->warmup_steps);
}

#define COSINE(field) offsetof(struct cosine, field)
static const struct attr_def cosine_attrs[] = {
    {"warmup_steps", ATTR_INT, COSINE(warmup_steps), "0", 0, INFINITY, NULL,
     "steps of linear growth from lr / warmup_steps to lr"},
    {"total_steps", ATTR_INT, COSINE(total_steps), NULL, 1, INFINITY, NULL,
     "the step from which the rate is min_lr, warm-up included"},
    {"min_lr", ATTR_REAL, COSINE(min_lr), "0", 0, INFINITY, NULL, "the rate at the end"},
    {0},
};

/* ---- the others ------------------------------------------------------------------------------ */

/* One struct for all: a row reads what its table of attributes fills. */
struct decay {
    int64_t warmup_steps, step_size, total_iters, total_steps, t_0, t_mult;
    struct real_list milestones;
    double gamma, start_factor, end_factor, power, min_lr;
    double pct_start, div_factor, final_div_factor;
    int anneal; /* ANNEAL_COS, ANNEAL_LINEAR */
};
enum { ANNEAL_COS, ANNEAL_LINEAR };

/* The factor of the base rate after the warm-up; s counts from there. */
typedef double factor_fn(const struct decay *d, double base, double s);

static double decay_lr(const void *attrs, double base, uint64_t step, factor_fn *f)
{
    const struct decay *d = attrs;
    if (step < (uint64_t)d->warmup_steps)
        return base * ((double)step + 1) / (double)d->warmup_steps;
    return f(d, base, (double)(step - (uint64_t)d->warmup_steps));
}

static double step_rate(const struct decay *d, double base, double s)
{
    return base * pow(d->gamma, floor(s / (double)d->step_size));
}

static double multistep_rate(const struct decay *d, double base, double s)
{
    double passed = 0;
    for (int i = 0; i < d->milestones.n; i++)
        passed += d->milestones.v[i] <= s;
    return base * pow(d->gamma, passed);
}

static double exponential_rate(const struct decay *d, double base, double s)
{
    return base * pow(d->gamma, s);
}

static double linear_rate(const struct decay *d, double base, double s)
{
    const double all = (double)d->total_iters, done = s < all ? s / all : 1;
    return base * (d->start_factor + (d->end_factor - d->start_factor) * done);
}

static double polynomial_rate(const struct decay *d, double base, double s)
{
    const double all = (double)d->total_iters, left = s < all ? 1 - s / all : 0;
    return base * pow(left, d->power);
}

/* Rounds of t_0, t_0 t_mult, ... steps, each a half cosine from lr to min_lr. */
static double cosine_restarts_rate(const struct decay *d, double base, double s)
{
    double round = (double)d->t_0;
    if (d->t_mult == 1)
        s = fmod(s, round);
    while (s >= round) {
        s -= round;
        round *= (double)d->t_mult;
    }
    return d->min_lr + (base - d->min_lr) * (1 + cos(M_PI * s / round)) / 2;
}

static double annealed(const struct decay *d, double from, double to, double done)
{
    if (d->anneal == ANNEAL_LINEAR)
        return from + (to - from) * done;
    return to + (from - to) / 2 * (1 + cos(M_PI * done));
}

/* lr is the highest rate, as OneCycleLR's max_lr. */
static double one_cycle_rate(const struct decay *d, double base, double s)
{
    const double all = (double)d->total_steps, up = d->pct_start * all - 1;
    const double first = base / d->div_factor, last = first / d->final_div_factor;
    if (s >= all)
        return last;
    if (s <= up)
        return annealed(d, first, base, up > 0 ? s / up : 1);
    return annealed(d, base, last, (s - up) / (all - 1 - up));
}

#define RATE(name)                                                                                 \
    static double name##_lr(const void *attrs, double base, uint64_t step,                         \
                            const struct schedule_state *state)                                    \
    {                                                                                              \
        (void)state;                                                                               \
        return decay_lr(attrs, base, step, name##_rate);                                           \
    }
RATE(step)
RATE(multistep)
RATE(exponential)
RATE(linear)
RATE(polynomial)
RATE(cosine_restarts)
RATE(one_cycle)

#define DECAY(field) offsetof(struct decay, field)
#define WARMUP_ROW                                                                                 \
    {                                                                                              \
        "warmup_steps", ATTR_INT, DECAY(warmup_steps), "0", 0, INFINITY, NULL,                     \
            "steps of linear growth from lr / warmup_steps to lr, before the schedule begins"      \
    }
#define GAMMA_ROW(fallback)                                                                        \
    {                                                                                              \
        "gamma", ATTR_REAL, DECAY(gamma), fallback, 0, 1e6, NULL, "factor of each decay"           \
    }
#define MIN_LR_ROW                                                                                 \
    {                                                                                              \
        "min_lr", ATTR_REAL, DECAY(min_lr), "0", 0, INFINITY, NULL, "the rate at the end"          \
    }
static const struct attr_def step_attrs[] = {
    {"step_size", ATTR_INT, DECAY(step_size), NULL, 1, INFINITY, NULL, "steps between decays"},
    GAMMA_ROW("0.1"),
    WARMUP_ROW,
    {0},
};
static const struct attr_def multistep_attrs[] = {
    {"milestones", ATTR_REALS, DECAY(milestones), NULL, 0, INFINITY, NULL,
     "the steps at which the rate decays"},
    GAMMA_ROW("0.1"),
    WARMUP_ROW,
    {0},
};
static const struct attr_def exponential_attrs[] = {GAMMA_ROW(NULL), WARMUP_ROW, {0}};
static const struct attr_def linear_attrs[] = {
    {"start_factor", ATTR_REAL, DECAY(start_factor), "0.3333333333333333", 0, 1e6, NULL,
     "factor of lr at the first step"},
    {"end_factor", ATTR_REAL, DECAY(end_factor), "1", 0, 1e6, NULL, "factor of lr at the end"},
    {"total_iters", ATTR_INT, DECAY(total_iters), "5", 1, INFINITY, NULL,
     "steps from the one to the other"},
    WARMUP_ROW,
    {0},
};
static const struct attr_def polynomial_attrs[] = {
    {"total_iters", ATTR_INT, DECAY(total_iters), "5", 1, INFINITY, NULL, "steps until it is 0"},
    {"power", ATTR_REAL, DECAY(power), "1", 0, 1000, NULL, "exponent"},
    WARMUP_ROW,
    {0},
};
static const struct attr_def cosine_restarts_attrs[] = {
    {"T_0", ATTR_INT, DECAY(t_0), NULL, 1, INFINITY, NULL, "steps of the first round"},
    {"T_mult", ATTR_INT, DECAY(t_mult), "1", 1, 1e6, NULL,
     "how many times as long each round is as the one before"},
    MIN_LR_ROW,
    WARMUP_ROW,
    {0},
};
static const struct attr_def one_cycle_attrs[] = {
    {"total_steps", ATTR_INT, DECAY(total_steps), NULL, 2, INFINITY, NULL, "steps of the cycle"},
    {"pct_start", ATTR_REAL, DECAY(pct_start), "0.3", 0, 1, NULL,
     "share of the steps in which the rate grows to lr"},
    {"anneal_strategy", ATTR_CHOICE, DECAY(anneal), "cos", 0, 0, "cos|linear", "how it changes"},
    {"div_factor", ATTR_REAL, DECAY(div_factor), "25", 1e-6, 1e12, NULL,
     "lr is this many times the first rate"},
    {"final_div_factor", ATTR_REAL, DECAY(final_div_factor), "10000", 1e-6, 1e12, NULL,
     "the first rate is this many times the last"},
    WARMUP_ROW,
    {0},
};

/* The growth must leave a step to come down in. */
static int one_cycle_check(const void *attrs, const char *what, struct error *e)
{
    const struct decay *d = attrs;
    if (d->pct_start < 1)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: attribute 'pct_start' must be below 1, not %.10g",
                     what, d->pct_start);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define RATE_ROW(name, doc, check)                                                                 \
    {                                                                                              \
        {{#name, doc, name##_attrs}, sizeof(struct decay), check}, name##_lr, NULL                 \
    }
static const struct schedule_def schedules[] = {
    {{{"constant", "lr", NULL}, 0, NULL}, constant_lr, NULL},
    {{{"cosine",
       "lr (s+1)/warmup_steps, then min_lr + (lr - min_lr) (1 + cos(pi p))/2 with p from 0 to 1",
       cosine_attrs},
      sizeof(struct cosine),
      cosine_check},
     cosine_lr,
     NULL},
    RATE_ROW(step, "lr gamma^floor(s / step_size)", NULL),
    RATE_ROW(multistep, "lr gamma^(milestones passed)", NULL),
    RATE_ROW(exponential, "lr gamma^s", NULL),
    RATE_ROW(linear, "lr times start_factor to end_factor over total_iters", NULL),
    RATE_ROW(polynomial, "lr (1 - s / total_iters)^power", NULL),
    RATE_ROW(cosine_restarts, "min_lr + (lr - min_lr) (1 + cos(pi p))/2, p from 0 to 1 in rounds",
             NULL),
    RATE_ROW(one_cycle,
             "from lr / div_factor up to lr, then down to lr / div_factor / "
             "final_div_factor",
             one_cycle_check),
    {.row.info.name = NULL},
};
static const struct rows plateau = {&schedules_plateau[0].row, sizeof schedules[0], "schedule",
                                    NULL};
static const struct rows table = {&schedules[0].row, sizeof schedules[0], "schedule", &plateau};

bool schedule_info_at(int i, struct optimizer_info *info_r)
{
    return rows_info_at(&table, i, info_r);
}

struct schedule *schedule_create(const char *name, const struct attr *attrs, int n, struct error *e)
{
    return (struct schedule *)rows_choose(&table, name, attrs, n, e);
}

void schedule_destroy(struct schedule **s)
{
    choice_destroy((struct choice **)s);
}

static const struct schedule_def *def_of(const struct schedule *s)
{
    return (const struct schedule_def *)s->choice.row;
}

double schedule_lr(const struct schedule *s, double base, uint64_t step,
                   const struct schedule_state *state)
{
    return s ? def_of(s)->lr(s->choice.attrs, base, step, state) : base;
}

bool schedule_has_state(const struct schedule *s)
{
    return s && def_of(s)->observe;
}

void schedule_observe(const struct schedule *s, struct schedule_state *state, double loss,
                      uint64_t step)
{
    if (schedule_has_state(s))
        def_of(s)->observe(s->choice.attrs, state, loss, step);
}

/* Rows with a state have no lists among their attributes. */
bool schedule_same_state(const struct schedule *a, const struct schedule *b)
{
    return schedule_has_state(a) && schedule_has_state(b) && def_of(a) == def_of(b) &&
           memcmp(a->choice.attrs, b->choice.attrs, def_of(a)->row.attrs_size) == 0;
}
