/* optimizer.c: the optimisers sgd, adam and adamw, and the table of all. Each is one pass over
 * memory: it reads gradient, parameter and slots, writes the new ones, and sees whether they are
 * finite.
 *
 * The arithmetic is that of torch.optim (1.13): the same factors, rounded to `real` once, in the
 * same order. Two things follow from counting steps for the network and not for each parameter: the
 * first momentum buffer of SGD is the gradient itself at step 0 of the slots, and the bias
 * correction of Adam uses the network's count also for a parameter that was frozen for a while. */
#include "optimizer_rows.h"

#include <string.h>

struct optimizer {
    struct choice choice; /* all there is; its attributes begin with struct common */
};

/* ---- sgd ------------------------------------------------------------------------------------- */

struct sgd {
    struct common common;
    double momentum, dampening;
    bool nesterov, decoupled;
};

static int sgd_slots(const void *attrs)
{
    return ((const struct sgd *)attrs)->momentum != 0;
}

static int sgd_check(const void *attrs, const char *what, struct error *e)
{
    const struct sgd *o = attrs;
    if (!o->nesterov || (o->momentum > 0 && o->dampening == 0))
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute 'nesterov' needs a momentum above 0 and no dampening, found "
                     "momentum %.10g and dampening %.10g",
                     what, o->momentum, o->dampening);
}

/* The share of a parameter that stays where its decay does not enter the gradient. */
static real sgd_shrink(const struct update *u)
{
    const struct sgd *o = u->attrs;
    return o->decoupled ? (real)(1 - u->lr * o->common.weight_decay) : 1;
}

static real sgd_decay(const struct sgd *o)
{
    return o->decoupled ? 0 : (real)o->common.weight_decay;
}

/* d = g + weight_decay p; p -= lr d */
static bool sgd_plain(const struct update *u, real sign, size_t begin, size_t end)
{
    const struct sgd *o = u->attrs;
    const real *restrict p = u->params, *restrict g = u->grads;
    real *restrict p_out = u->params_out;
    const real lr = (real)u->lr, decay = sgd_decay(o), shrink = sgd_shrink(u);
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        real d = sign * g[i] + decay * p[i];
        p_out[i] = shrink * p[i] - lr * d;
        bad |= not_finite(p_out[i]);
    }
    return !bad;
}

/* buf = momentum buf + (1 - dampening) d, or d at the first step; then d + momentum buf (nesterov)
 * or buf in place of d. Both are sums of a share of buf and a share of d. */
static bool sgd_momentum(const struct update *u, real sign, size_t begin, size_t end)
{
    const struct sgd *o = u->attrs;
    const real *restrict p = u->params, *restrict g = u->grads, *restrict buf = u->slots;
    real *restrict p_out = u->params_out, *restrict buf_out = u->slots_out;
    const real lr = (real)u->lr, decay = sgd_decay(o), shrink = sgd_shrink(u);
    const real keep = u->t ? (real)o->momentum : 0, add = u->t ? (real)(1 - o->dampening) : 1;
    const real of_d = o->nesterov, of_buf = o->nesterov ? (real)o->momentum : 1;
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        real d = sign * g[i] + decay * p[i];
        real b = keep * buf[i] + add * d;
        buf_out[i] = b;
        p_out[i] = shrink * p[i] - lr * (of_d * d + of_buf * b);
        bad |= not_finite(p_out[i]) | not_finite(b);
    }
    return !bad;
}

static bool sgd_update(const struct update *u, size_t begin, size_t end)
{
    const struct sgd *o = u->attrs;
    real sign = o->common.maximize ? -1 : 1;
    return (o->momentum != 0 ? sgd_momentum : sgd_plain)(u, sign, begin, end);
}

/* ---- adam and adamw -------------------------------------------------------------------------- */

struct adam {
    struct common common;
    double beta1, beta2, eps;
    struct real_list betas; /* [beta1, beta2]; empty: those above */
    bool amsgrad;
};

static int adam_slots(const void *attrs)
{
    return 2 + ((const struct adam *)attrs)->amsgrad; /* exp_avg, exp_avg_sq, max_exp_avg_sq */
}

static double adam_beta(const struct adam *o, int i)
{
    return o->betas.n ? o->betas.v[i] : i ? o->beta2 : o->beta1;
}

static int adam_check(const void *attrs, const char *what, struct error *e)
{
    const struct adam *o = attrs;
    if (o->betas.n != 0 && o->betas.n != 2)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'betas' must be two numbers, not %d", what, o->betas.n);
    for (int i = 0; i < 2; i++)
        if (adam_beta(o, i) >= 1)
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: beta%d must be below 1, not %.10g", what,
                             i + 1, adam_beta(o, i));
    return 0;
}

/* The numbers of one step, rounded once. */
struct adam_factors {
    real sign, decay, shrink, beta1, add1, beta2, add2, size, root, eps;
};

/* m = beta1 m + (1 - beta1) d;  v = beta2 v + (1 - beta2) d^2
 * p = shrink p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 * where d is the gradient plus `decay` p. */
static bool adam_range(const struct adam_factors f, size_t n, const real *restrict g,
                       const real *restrict p, const real *restrict m, const real *restrict v,
                       real *restrict p_out, real *restrict m_out, real *restrict v_out)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        real d = f.sign * g[i] + f.decay * p[i];
        real m1 = f.beta1 * m[i] + f.add1 * d;
        real v1 = f.beta2 * v[i] + f.add2 * (d * d);
        real p1 = f.shrink * p[i] - f.size * (m1 / (SQRT(v1) / f.root + f.eps));
        m_out[i] = m1;
        v_out[i] = v1;
        p_out[i] = p1;
        bad |= not_finite(p1) | not_finite(m1) | not_finite(v1);
    }
    return !bad;
}

/* The same with the largest v so far under the root (the third slot). */
static bool amsgrad_range(const struct adam_factors f, const struct update *u, size_t begin,
                          size_t end)
{
    const real *restrict m = u->slots, *restrict v = m + u->size, *restrict most = v + u->size;
    real *restrict m_out = u->slots_out;
    real *restrict v_out = m_out + u->size, *restrict most_out = v_out + u->size;
    int bad = 0;
    for (size_t i = begin; i < end; i++) {
        real d = f.sign * u->grads[i] + f.decay * u->params[i];
        real m1 = f.beta1 * m[i] + f.add1 * d;
        real v1 = f.beta2 * v[i] + f.add2 * (d * d);
        real most1 = v1 > most[i] ? v1 : most[i];
        real p1 = f.shrink * u->params[i] - f.size * (m1 / (SQRT(most1) / f.root + f.eps));
        m_out[i] = m1;
        v_out[i] = v1;
        most_out[i] = most1;
        u->params_out[i] = p1;
        bad |= not_finite(p1) | not_finite(m1) | not_finite(v1);
    }
    return !bad;
}

static bool adam_step(const struct update *u, double decay, double shrink, size_t begin, size_t end)
{
    const struct adam *o = u->attrs;
    const double beta1 = adam_beta(o, 0), beta2 = adam_beta(o, 1), t = (double)u->t + 1;
    const struct adam_factors f = {
        .sign = o->common.maximize ? -1 : 1,
        .decay = (real)decay,
        .shrink = (real)shrink,
        .beta1 = (real)beta1,
        .add1 = (real)(1 - beta1),
        .beta2 = (real)beta2,
        .add2 = (real)(1 - beta2),
        .size = (real)(u->lr / (1 - pow(beta1, t))),
        .root = (real)sqrt(1 - pow(beta2, t)),
        .eps = (real)o->eps,
    };
    size_t m = begin, v = u->size + begin;
    if (o->amsgrad)
        return amsgrad_range(f, u, begin, end);
    return adam_range(f, end - begin, u->grads + begin, u->params + begin, u->slots + m,
                      u->slots + v, u->params_out + begin, u->slots_out + m, u->slots_out + v);
}

static bool adam_update(const struct update *u, size_t begin, size_t end)
{
    const struct adam *o = u->attrs;
    return adam_step(u, o->common.weight_decay, 1, begin, end);
}

/* Decay is taken off the parameter, and does not enter the averages. */
static bool adamw_update(const struct update *u, size_t begin, size_t end)
{
    const struct adam *o = u->attrs;
    return adam_step(u, 0, 1 - u->lr * o->common.weight_decay, begin, end);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define SGD(field)  offsetof(struct sgd, field)
#define ADAM(field) offsetof(struct adam, field)

#define ADAM_ROWS                                                                                  \
    {"beta1", ATTR_REAL, ADAM(beta1), "0.9", 0, 1, NULL, "decay of the average gradient"},         \
        {"beta2", ATTR_REAL, ADAM(beta2), "0.999", 0, 1, NULL, "decay of the average square"},     \
        {"betas", ATTR_REALS, ADAM(betas), "", 0, 1, NULL, "[beta1, beta2], in place of the two"}, \
    {                                                                                              \
        "eps", ATTR_REAL, ADAM(eps), "1e-8", 0, INFINITY, NULL, "added to the denominator"         \
    }
#define AMSGRAD_ROW                                                                                \
    {                                                                                              \
        "amsgrad", ATTR_BOOL, ADAM(amsgrad), "false", 0, 0, NULL,                                  \
            "divide by the largest average square so far"                                          \
    }

static const struct attr_def sgd_attrs[] = {
    LR_ROW("0.01"),
    {"momentum", ATTR_REAL, SGD(momentum), "0", 0, INFINITY, NULL, "share of the last buffer"},
    {"dampening", ATTR_REAL, SGD(dampening), "0", -INFINITY, INFINITY, NULL,
     "share of the gradient that does not enter the buffer"},
    {"nesterov", ATTR_BOOL, SGD(nesterov), "false", 0, 0, NULL, "look ahead by one momentum step"},
    WEIGHT_DECAY_ROW("0", "added to the gradient, times the parameter"),
    {"decoupled_weight_decay", ATTR_BOOL, SGD(decoupled), "false", 0, 0, NULL,
     "take lr weight_decay p off the parameter instead (SGDW)"},
    MAXIMIZE_ROW,
    {0},
};
static const struct attr_def adam_attrs[] = {
    LR_ROW("0.001"),
    ADAM_ROWS,
    WEIGHT_DECAY_ROW("0", "added to the gradient, times the parameter"),
    AMSGRAD_ROW,
    MAXIMIZE_ROW,
    {0},
};
static const struct attr_def adamw_attrs[] = {
    LR_ROW("0.001"),
    ADAM_ROWS,
    WEIGHT_DECAY_ROW("0.01", "times lr, the share taken off the parameter"),
    AMSGRAD_ROW,
    MAXIMIZE_ROW,
    {0},
};

static const struct optimizer_def optimizers[] = {
    {{{"sgd", "b = momentum b + (1 - dampening)(g + weight_decay p); p -= lr b", sgd_attrs},
      sizeof(struct sgd),
      sgd_check},
     sgd_slots,
     sgd_update,
     NULL},
    {{{"adam", "p -= lr m' / (sqrt(v') + eps), with averages m of g and v of g^2", adam_attrs},
      sizeof(struct adam),
      adam_check},
     adam_slots,
     adam_update,
     NULL},
    {{{"adamw", "p -= lr weight_decay p + lr m' / (sqrt(v') + eps)", adamw_attrs},
      sizeof(struct adam),
      adam_check},
     adam_slots,
     adamw_update,
     NULL},
    {.row.info.name = NULL},
};
static const struct rows adaptive = {&optimizers_adaptive[0].row, sizeof optimizers[0], "optimizer",
                                     NULL};
static const struct rows table = {&optimizers[0].row, sizeof optimizers[0], "optimizer", &adaptive};

bool optimizer_info_at(int i, struct optimizer_info *info_r)
{
    return rows_info_at(&table, i, info_r);
}

static bool is_given(const struct attr *attrs, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(attrs[i].name, name) == 0)
            return attrs[i].kind != ATTR_IS_NULL;
    return false;
}

/* Two ways to say the same: one of them would be ignored. */
static int check_one_form(const char *name, const struct attr *attrs, int n, struct error *e)
{
    static const char *const single[] = {"beta1", "beta2"};
    for (int i = 0; i < 2; i++)
        if (is_given(attrs, n, "betas") && is_given(attrs, n, single[i]))
            return error_set(e, ERROR_BAD_ATTRIBUTE,
                             "optimizer '%.60s': attributes 'betas' and '%s' say the same thing; "
                             "expected one of them",
                             name, single[i]);
    return 0;
}

struct optimizer *optimizer_create(const char *name, const struct attr *attrs, int n,
                                   struct error *e)
{
    if (check_one_form(name, attrs, n, e))
        return NULL;
    return (struct optimizer *)rows_choose(&table, name, attrs, n, e);
}

void optimizer_destroy(struct optimizer **o)
{
    choice_destroy((struct choice **)o);
}

static const struct optimizer_def *def_of(const struct optimizer *o)
{
    return (const struct optimizer_def *)o->choice.row;
}

const char *optimizer_name(const struct optimizer *o)
{
    return o->choice.row->info.name;
}

double optimizer_lr(const struct optimizer *o)
{
    return ((const struct common *)o->choice.attrs)->lr;
}

int optimizer_set_lr(struct optimizer *o, double lr, struct error *e)
{
    if (!(lr >= 0 && isfinite(lr)))
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "optimizer '%s': attribute 'lr' must be finite and at least 0, not %.10g",
                         optimizer_name(o), lr);
    ((struct common *)o->choice.attrs)->lr = lr;
    return 0;
}

int optimizer_slots(const struct optimizer *o)
{
    return def_of(o)->slots(o->choice.attrs);
}

update_fn *optimizer_update(const struct optimizer *o, struct update *u)
{
    u->attrs = o->choice.attrs;
    u->trust = def_of(o)->trust;
    return def_of(o)->update;
}
