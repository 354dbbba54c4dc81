/* optimizer_adaptive.c: adagrad, adadelta, rmsprop, nadam, radam, lion and lamb: one loop each,
 * which reads d, the gradient with its sign and decay, and its slots. The arithmetic is that of
 * torch.optim (of lion and lamb, their papers), the factors of a step rounded to `real` once.
 * nadam's product of momenta is that of torch 2, found in closed form from the count of steps, so
 * no state is kept for it. */
#include "optimizer_rows.h"

/* One struct for all: a row reads what its table of attributes fills. */
struct adaptive {
    struct common common;
    double beta1, beta2, eps, lr_decay, initial_accumulator_value, rho, momentum, momentum_decay;
    struct real_list betas; /* [beta1, beta2]; empty: those above */
    bool centered;
};
#define ADAPTIVE(field) offsetof(struct adaptive, field)

static int one_slot(const void *attrs)
{
    (void)attrs;
    return 1;
}

static int two_slots(const void *attrs)
{
    (void)attrs;
    return 2;
}

static double beta_of(const struct adaptive *o, int i)
{
    return o->betas.n ? o->betas.v[i] : i ? o->beta2 : o->beta1;
}

static int betas_check(const void *attrs, const char *what, struct error *e)
{
    const struct adaptive *o = attrs;
    if (o->betas.n != 0 && o->betas.n != 2)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'betas' must be two numbers, not %d", what, o->betas.n);
    for (int i = 0; i < 2; i++)
        if (beta_of(o, i) >= 1)
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: beta%d must be below 1, not %.10g", what,
                             i + 1, beta_of(o, i));
    return 0;
}

/* The gradient of element i with its sign, and the decay times the parameter. */
static inline real slope_at(const struct update *u, size_t i)
{
    const struct common *c = u->attrs;
    return (c->maximize ? -u->grads[i] : u->grads[i]) + (real)c->weight_decay * u->params[i];
}

/* s += d^2; p -= lr / (1 + t lr_decay) d / (sqrt(s) + eps) */
static bool adagrad_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const real lr = (real)(u->lr / (1 + (double)u->t * o->lr_decay)), eps = (real)o->eps;
    const real first = u->t ? 0 : (real)o->initial_accumulator_value;
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        const real d = slope_at(u, i), s = first + u->slots[i] + d * d;
        u->slots_out[i] = s;
        u->params_out[i] = u->params[i] - lr * (d / (SQRT(s) + eps));
        bad |= not_finite(u->params_out[i]) | not_finite(s);
    }
    return !bad;
}

/* s = rho s + (1 - rho) d^2; step = sqrt(a + eps) / sqrt(s + eps) d; a likewise of step^2. */
static bool adadelta_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const real lr = (real)u->lr, eps = (real)o->eps, keep = (real)o->rho, add = (real)(1 - o->rho);
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        const real d = slope_at(u, i), old = u->slots[u->size + i];
        const real s = keep * u->slots[i] + add * (d * d);
        const real step = SQRT(old + eps) / SQRT(s + eps) * d;
        u->slots_out[i] = s;
        u->slots_out[u->size + i] = keep * old + add * (step * step);
        u->params_out[i] = u->params[i] - lr * step;
        bad |= not_finite(u->params_out[i]) | not_finite(s);
    }
    return !bad;
}

/* ---- rmsprop --------------------------------------------------------------------------------- */

static int rmsprop_slots(const void *attrs)
{
    const struct adaptive *o = attrs;
    return 1 + (o->momentum > 0) + o->centered;
}

/* s = alpha s + (1 - alpha) d^2, less the square of the average when centered; the step
 * d / (sqrt(s) + eps) may go through a momentum buffer. Slots: s, buffer, average. */
static bool rmsprop_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const real lr = (real)u->lr, eps = (real)o->eps, keep = (real)o->rho, add = (real)(1 - o->rho);
    const size_t buffer = u->size, average = o->momentum > 0 ? 2 * u->size : u->size;
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        const real d = slope_at(u, i), s = keep * u->slots[i] + add * (d * d);
        real mean = 0;
        if (o->centered)
            u->slots_out[average + i] = mean = keep * u->slots[average + i] + add * d;
        real step = d / (SQRT(s - mean * mean) + eps);
        if (o->momentum > 0)
            u->slots_out[buffer + i] = step = (real)o->momentum * u->slots[buffer + i] + step;
        u->slots_out[i] = s;
        u->params_out[i] = u->params[i] - lr * step;
        bad |= not_finite(u->params_out[i]) | not_finite(s);
    }
    return !bad;
}

/* ---- nadam and radam ------------------------------------------------------------------------- */

/* Both keep averages m of d and v of d^2: p -= of_d d + of_m m, each over sqrt(v) / root + eps, or
 * over 1 where root is 0. */
struct moments {
    real keep1, add1, keep2, add2, of_d, of_m, root, eps;
};

static struct moments moments_of(const struct adaptive *o)
{
    const double beta1 = beta_of(o, 0), beta2 = beta_of(o, 1);
    return (struct moments){.keep1 = (real)beta1,
                            .add1 = (real)(1 - beta1),
                            .keep2 = (real)beta2,
                            .add2 = (real)(1 - beta2),
                            .eps = (real)o->eps};
}

static bool moments_range(const struct update *u, const struct moments f, size_t begin, size_t end)
{
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        const real d = slope_at(u, i), m = f.keep1 * u->slots[i] + f.add1 * d;
        const real v = f.keep2 * u->slots[u->size + i] + f.add2 * (d * d);
        const real below = f.root > 0 ? SQRT(v) / f.root + f.eps : 1;
        u->slots_out[i] = m;
        u->slots_out[u->size + i] = v;
        u->params_out[i] = u->params[i] - (f.of_d * d + f.of_m * m) / below;
        bad |= not_finite(u->params_out[i]) | not_finite(m) | not_finite(v);
    }
    return !bad;
}

/* The product over i from 1 to t of beta (1 - q^i / 2), q = 0.96^decay. The logarithm of the second
 * factor is a series in powers of q^i / 2, whose sums over i are geometric. */
static double momentum_product(double beta, double decay, double t)
{
    const double log_q = decay * log(0.96);
    double sum = 0, half = 1;
    for (int k = 1; k <= 60; k++) {
        half /= 2;
        const double powers = log_q == 0 ? t : expm1(k * t * log_q) / expm1(k * log_q);
        sum -= half / k * exp(k * log_q) * powers;
    }
    return pow(beta, t) * exp(sum);
}

static bool nadam_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const double beta = beta_of(o, 0), t = (double)u->t + 1;
    const double mu = beta * (1 - 0.5 * pow(0.96, t * o->momentum_decay));
    const double next = beta * (1 - 0.5 * pow(0.96, (t + 1) * o->momentum_decay));
    const double product = momentum_product(beta, o->momentum_decay, t);
    struct moments f = moments_of(o);
    f.of_d = (real)(u->lr * (1 - mu) / (1 - product));
    f.of_m = (real)(u->lr * next / (1 - product * next));
    f.root = (real)sqrt(1 - pow(beta_of(o, 1), t));
    return moments_range(u, f, begin, end);
}

/* While too few steps were taken to know the variance, the step is not divided by it. */
static bool radam_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const double beta2 = beta_of(o, 1), t = (double)u->t + 1, left = 1 - pow(beta2, t);
    const double limit = 2 / (1 - beta2) - 1, length = limit - 2 * t * pow(beta2, t) / left;
    const double lr = u->lr / (1 - pow(beta_of(o, 0), t));
    struct moments f = moments_of(o);
    f.of_m = (real)lr;
    if (length > 5) {
        const double known = (length - 4) * (length - 2) * limit;
        f.of_m = (real)(lr * sqrt(left) * sqrt(known / ((limit - 4) * (limit - 2) * length)));
        f.root = 1;
    }
    return moments_range(u, f, begin, end);
}

/* ---- lion ------------------------------------------------------------------------------------ */

/* p -= lr weight_decay p + lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g */
static bool lion_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const real lr = (real)u->lr, shrink = (real)(1 - u->lr * o->common.weight_decay);
    const real keep1 = (real)beta_of(o, 0), add1 = (real)(1 - beta_of(o, 0));
    const real keep2 = (real)beta_of(o, 1), add2 = (real)(1 - beta_of(o, 1));
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        const real g = o->common.maximize ? -u->grads[i] : u->grads[i];
        const real d = keep1 * u->slots[i] + add1 * g, m = keep2 * u->slots[i] + add2 * g;
        u->slots_out[i] = m;
        u->params_out[i] = shrink * u->params[i] - lr * (real)((d > 0) - (d < 0));
        bad |= not_finite(u->params_out[i]) | not_finite(m);
    }
    return !bad;
}

/* ---- lamb ------------------------------------------------------------------------------------ */

/* The direction m' / (sqrt(v') + eps) + weight_decay p; how far to go along it is lamb_trust's. */
static bool lamb_update(const struct update *u, size_t begin, size_t end)
{
    const struct adaptive *o = u->attrs;
    const double t = (double)u->t + 1;
    const struct moments f = moments_of(o);
    const real size = (real)(1 / (1 - pow(beta_of(o, 0), t)));
    const real root = (real)sqrt(1 - pow(beta_of(o, 1), t)), decay = (real)o->common.weight_decay;
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        const real g = o->common.maximize ? -u->grads[i] : u->grads[i];
        const real m = f.keep1 * u->slots[i] + f.add1 * g;
        const real v = f.keep2 * u->slots[u->size + i] + f.add2 * (g * g);
        const real d = size * m / (SQRT(v) / root + f.eps) + decay * u->params[i];
        u->slots_out[i] = m;
        u->slots_out[u->size + i] = v;
        u->params_out[i] = d;
        bad |= not_finite(d) | not_finite(m) | not_finite(v);
    }
    return !bad;
}

/* A parameter moves by a share of its own length; one that is zero, or not moved, plainly. */
static double lamb_trust(double param_norm, double direction_norm)
{
    return param_norm > 0 && direction_norm > 0 ? param_norm / direction_norm : 1;
}

/* ---- the table ------------------------------------------------------------------------------- */

#define DECAYS WEIGHT_DECAY_ROW("0", "added to the gradient, times the parameter")
#define EPS_ROW(fallback)                                                                          \
    {                                                                                              \
        "eps", ATTR_REAL, ADAPTIVE(eps), fallback, 0, INFINITY, NULL, "added to the denominator"   \
    }
#define BETA_ROWS(second)                                                                          \
    {"beta1", ATTR_REAL, ADAPTIVE(beta1), "0.9", 0, 1, NULL, "decay of the average gradient"},     \
        {"beta2",                                                                                  \
         ATTR_REAL,                                                                                \
         ADAPTIVE(beta2),                                                                          \
         second,                                                                                   \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         "decay of the average square (lion: of its one average)"},                                \
    {                                                                                              \
        "betas", ATTR_REALS, ADAPTIVE(betas), "", 0, 1, NULL,                                      \
            "[beta1, beta2], in place of the two"                                                  \
    }

static const struct attr_def adagrad_attrs[] = {
    LR_ROW("0.01"),
    {"lr_decay", ATTR_REAL, ADAPTIVE(lr_decay), "0", 0, INFINITY, NULL,
     "lr is divided by 1 + steps times this"},
    {"initial_accumulator_value", ATTR_REAL, ADAPTIVE(initial_accumulator_value), "0", 0, INFINITY,
     NULL, "what the sum of squares begins with"},
    EPS_ROW("1e-10"),
    DECAYS,
    MAXIMIZE_ROW,
    {0},
};
static const struct attr_def adadelta_attrs[] = {
    LR_ROW("1.0"),   {"rho", ATTR_REAL, ADAPTIVE(rho), "0.9", 0, 1, NULL, "decay of both averages"},
    EPS_ROW("1e-6"), DECAYS,
    MAXIMIZE_ROW,    {0},
};
static const struct attr_def rmsprop_attrs[] = {
    LR_ROW("0.01"),
    {"alpha", ATTR_REAL, ADAPTIVE(rho), "0.99", 0, 1, NULL, "decay of the average square"},
    EPS_ROW("1e-8"),
    {"momentum", ATTR_REAL, ADAPTIVE(momentum), "0", 0, INFINITY, NULL,
     "share of the last step's buffer"},
    {"centered", ATTR_BOOL, ADAPTIVE(centered), "false", 0, 0, NULL,
     "divide by the standard deviation, not by the root of the mean square"},
    DECAYS,
    MAXIMIZE_ROW,
    {0},
};
static const struct attr_def nadam_attrs[] = {
    LR_ROW("0.002"),
    BETA_ROWS("0.999"),
    EPS_ROW("1e-8"),
    {"momentum_decay", ATTR_REAL, ADAPTIVE(momentum_decay), "0.004", 0, 1e6, NULL,
     "how fast the momentum grows to beta1"},
    DECAYS,
    MAXIMIZE_ROW,
    {0},
};
static const struct attr_def radam_attrs[] = {
    LR_ROW("0.001"), BETA_ROWS("0.999"), EPS_ROW("1e-8"), DECAYS, MAXIMIZE_ROW, {0},
};
static const struct attr_def lion_attrs[] = {
    LR_ROW("0.0001"),
    BETA_ROWS("0.99"),
    WEIGHT_DECAY_ROW("0", "times lr, the share taken off the parameter"),
    MAXIMIZE_ROW,
    {0},
};
static const struct attr_def lamb_attrs[] = {
    LR_ROW("0.001"), BETA_ROWS("0.999"),
    EPS_ROW("1e-6"), WEIGHT_DECAY_ROW("0.01", "added to the direction, times the parameter"),
    MAXIMIZE_ROW,    {0},
};

#define ROW(name, doc, check, slots)                                                               \
    {                                                                                              \
        {{#name, doc, name##_attrs}, sizeof(struct adaptive), check}, slots, name##_update, NULL   \
    }
const struct optimizer_def optimizers_adaptive[] = {
    ROW(adagrad, "s += g^2; p -= lr g / (sqrt(s) + eps)", NULL, one_slot),
    ROW(adadelta, "p -= lr g sqrt(average step^2 + eps) / sqrt(average g^2 + eps)", NULL,
        two_slots),
    ROW(rmsprop, "p -= lr g / (sqrt(average g^2) + eps)", NULL, rmsprop_slots),
    ROW(nadam, "adam whose first average looks ahead by one step", betas_check, two_slots),
    ROW(radam, "adam that trusts its second average only as far as it is known", betas_check,
        two_slots),
    ROW(lion, "p -= lr sign(beta1 m + (1 - beta1) g) + lr weight_decay p", betas_check, one_slot),
    {{{"lamb", "p -= lr |p| / |d| d with d = m' / (sqrt(v') + eps) + weight_decay p, by parameter",
       lamb_attrs},
      sizeof(struct adaptive),
      betas_check},
     two_slots,
     lamb_update,
     lamb_trust},
    {.row.info.name = NULL},
};
