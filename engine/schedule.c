/* schedule.c: learning rates that change with the steps. A schedule is a row and its attributes; it
 * has no state: the rate of a step is a function of the base rate and of the steps taken before it
 * (s, 0 for the first), so going back to a version also goes back in the schedule.
 *
 *   constant   lr
 *   cosine     lr * (s + 1) / warmup_steps                               while s < warmup_steps
 *              min_lr + (lr - min_lr) * (1 + cos(pi * p)) / 2            while s < total_steps
 *              min_lr                                                    from then on
 *              where p = (s - warmup_steps) / (total_steps - warmup_steps)
 *
 * The first step after the warm-up has the full rate. Without a warm-up these are the rates of
 * torch.optim.lr_scheduler.CosineAnnealingLR(T_max = total_steps, eta_min = min_lr). */
#include "rows.h"

#include <math.h>

struct schedule_def {
    struct row row;
    double (*lr)(const void *attrs, double base, uint64_t step);
};

struct schedule {
    struct choice choice; /* all there is */
};

static double constant_lr(const void *attrs, double base, uint64_t step)
{
    (void)attrs, (void)step;
    return base;
}

/* ---- cosine ---------------------------------------------------------------------------------- */

struct cosine {
    int64_t warmup_steps, total_steps;
    double min_lr;
};

static double cosine_lr(const void *attrs, double base, uint64_t step)
{
    const struct cosine *c = attrs;
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

/* ---- the table ------------------------------------------------------------------------------- */

static const struct schedule_def schedules[] = {
    {{{"constant", "lr", NULL}, 0, NULL}, constant_lr},
    {{{"cosine",
       "lr (s+1)/warmup_steps, then min_lr + (lr - min_lr) (1 + cos(pi p))/2 with p from 0 to 1",
       cosine_attrs},
      sizeof(struct cosine),
      cosine_check},
     cosine_lr},
    {.row.info.name = NULL},
};
static const struct rows table = {&schedules[0].row, sizeof schedules[0], "schedule"};

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

double schedule_lr(const struct schedule *s, double base, uint64_t step)
{
    if (!s)
        return base;
    const struct schedule_def *def = (const struct schedule_def *)s->choice.row;
    return def->lr(s->choice.attrs, base, step);
}
