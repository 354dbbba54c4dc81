/* ops_loss_pairs.c: more losses that compare a prediction x with a target t number by number:
 * smooth_l1, bce, kl_div, poisson_nll, focal, hinge and soft_margin, and gaussian_nll, which has a
 * variance beside each prediction. Each is a term and its slopes by x and by t; the loops follow
 * from a macro. Semantics are torch's, of sigmoid_focal_loss torchvision's. */
#include "ops_loss.h"

#include <math.h>
#include <stddef.h>

enum { REDUCE_BATCHMEAN = 2 };

struct pair {
    int reduction;
    double beta, eps, alpha, gamma, margin;
    bool log_target, log_input, full;
};
#define PAIR(field) offsetof(struct pair, field)

typedef double pair_fn(const struct pair *a, double x, double t);

LOSS_INLINE void pair_sum(struct loss_sum *sum, int64_t begin, int64_t end, pair_fn *term)
{
    const real *x = run_in(sum->r, sum->n, 0), *t = run_in(sum->r, sum->n, 1);
    const struct pair a = *(const struct pair *)sum->n->attrs;
    double total = 0;
    for (int64_t i = begin; i < end; i++)
        total += term(&a, (double)x[i], (double)t[i]);
    sum->part[begin / sum->grain].terms = total;
}

/* What the mean divides by over what loss_pointwise divides by: batchmean counts samples only. */
static double batch_share(const struct node *n, const struct run *r)
{
    const struct node *x = n->in[0];
    if (((const struct pair *)n->attrs)->reduction != REDUCE_BATCHMEAN)
        return 1;
    return x->shape.rank ? (double)run_dim(r, x, 0) : 1;
}

LOSS_INLINE void pair_slopes(const struct node_run *nr, int64_t begin, int64_t end, pair_fn *by_x,
                             pair_fn *by_t)
{
    const struct pair a = *(const struct pair *)nr->n->attrs;
    const double scale =
        loss_pointwise_scale(nr->n, nr->r, a.reduction) / batch_share(nr->n, nr->r);
    const real *x = run_in(nr->r, nr->n, 0), *t = run_in(nr->r, nr->n, 1);
    real *dx = run_grad_in(nr->r, nr->n, 0), *dt = run_grad_in(nr->r, nr->n, 1);
    for (int64_t i = begin; i < end; i++) {
        if (dx)
            dx[i] = (real)(scale * by_x(&a, (double)x[i], (double)t[i]));
        if (dt)
            dt[i] = (real)(scale * by_t(&a, (double)x[i], (double)t[i]));
    }
}

static void pair_forward(const struct node *n, struct run *r, pool_fn *f)
{
    loss_pointwise_forward(n, r, ((const struct pair *)n->attrs)->reduction, f);
    *run_value(r, n) = (real)((double)*run_value(r, n) / batch_share(n, r));
}

#define PAIR_DEFINE(name)                                                                          \
    static void name##_sum(void *arg, int64_t begin, int64_t end, int worker)                      \
    {                                                                                              \
        (void)worker;                                                                              \
        pair_sum(arg, begin, end, name##_term);                                                    \
    }                                                                                              \
    static void name##_slopes(void *arg, int64_t begin, int64_t end, int worker)                   \
    {                                                                                              \
        (void)worker;                                                                              \
        pair_slopes(arg, begin, end, name##_by_x, name##_by_t);                                    \
    }                                                                                              \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        loss_pointwise_backward(n, r, name##_slopes);                                              \
    }
#define PAIR_FORWARD(name)                                                                         \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        pair_forward(n, r, name##_sum);                                                            \
    }

static double pair_flops(const struct node *n)
{
    return 6 * loss_term_count(n);
}

/* ---- smooth_l1 ------------------------------------------------------------------------------- */

static const struct attr_def smooth_l1_attrs[] = {
    LOSS_REDUCTION(struct pair),
    {"beta", ATTR_REAL, PAIR(beta), "1.0", 0, 1e30, NULL,
     "difference at which the square turns into a line; 0: l1"},
    {0},
};

LOSS_INLINE double smooth_l1_term(const struct pair *a, double x, double t)
{
    const double d = fabs(x - t);
    return d < a->beta ? 0.5 * d * d / a->beta : d - 0.5 * a->beta;
}

LOSS_INLINE double smooth_l1_by_x(const struct pair *a, double x, double t)
{
    const double d = x - t;
    return fabs(d) < a->beta ? d / a->beta : d > 0 ? 1 : d < 0 ? -1 : d;
}

LOSS_INLINE double smooth_l1_by_t(const struct pair *a, double x, double t)
{
    return -smooth_l1_by_x(a, x, t);
}
PAIR_DEFINE(smooth_l1)
PAIR_FORWARD(smooth_l1)

/* ---- bce ------------------------------------------------------------------------------------- */

static const struct attr_def bce_pair_attrs[] = {LOSS_REDUCTION(struct pair), {0}};

/* Logarithms are held at -100, as in torch. */
LOSS_INLINE double held_log(double p)
{
    return fmax(log(p), -100);
}

LOSS_INLINE double bce_pair_term(const struct pair *a, double x, double t)
{
    (void)a;
    return -(t * held_log(x) + (1 - t) * held_log(1 - x));
}

LOSS_INLINE double bce_pair_by_x(const struct pair *a, double x, double t)
{
    (void)a;
    return (x - t) / fmax((1 - x) * x, 1e-12);
}

LOSS_INLINE double bce_pair_by_t(const struct pair *a, double x, double t)
{
    (void)a, (void)t;
    return held_log(1 - x) - held_log(x);
}
PAIR_DEFINE(bce_pair)

static void bce_pair_forward(const struct node *n, struct run *r)
{
    const real *x = run_in(r, n, 0);
    for (int64_t i = 0; i < run_count(r, n->in[0]); i++)
        if (x[i] < 0 || x[i] > 1) {
            run_fail(r, ERROR_BAD_VALUE,
                     "%s: prediction %lld is %g; expects probabilities within [0, 1] (a sigmoid "
                     "before it, or bce_with_logits)",
                     n->what, (long long)i, (double)x[i]);
            return;
        }
    pair_forward(n, r, bce_pair_sum);
}

/* ---- kl_div ---------------------------------------------------------------------------------- */

static const struct attr_def kl_div_attrs[] = {
    {"reduction", ATTR_CHOICE, PAIR(reduction), "mean", 0, 0, "mean|sum|batchmean",
     "whether the loss is the mean or the sum of its terms, or the sum over the samples"},
    {"log_target", ATTR_BOOL, PAIR(log_target), "false", 0, 0, NULL,
     "the target is logarithms, too"},
    {0},
};

LOSS_INLINE double kl_div_term(const struct pair *a, double x, double t)
{
    return a->log_target ? exp(t) * (t - x) : t == 0 ? 0 : t * (log(t) - x);
}

LOSS_INLINE double kl_div_by_x(const struct pair *a, double x, double t)
{
    (void)x;
    return a->log_target ? -exp(t) : -t;
}

LOSS_INLINE double kl_div_by_t(const struct pair *a, double x, double t)
{
    return a->log_target ? exp(t) * (t - x + 1) : t == 0 ? 0 : log(t) + 1 - x;
}
PAIR_DEFINE(kl_div)
PAIR_FORWARD(kl_div)

/* ---- poisson_nll ----------------------------------------------------------------------------- */

static const struct attr_def poisson_nll_attrs[] = {
    LOSS_REDUCTION(struct pair),
    {"log_input", ATTR_BOOL, PAIR(log_input), "true", 0, 0, NULL,
     "the prediction is the logarithm of the rate"},
    {"full", ATTR_BOOL, PAIR(full), "false", 0, 0, NULL,
     "add Stirling's approximation of ln t! where t > 1"},
    {"eps", ATTR_REAL, PAIR(eps), "1e-8", 0, 1, NULL, "added to a rate under the logarithm"},
    {0},
};

LOSS_INLINE double poisson_nll_term(const struct pair *a, double x, double t)
{
    const double stirling = a->full && t > 1 ? t * log(t) - t + 0.5 * log(2 * M_PI * t) : 0;
    return (a->log_input ? exp(x) - t * x : x - t * log(x + a->eps)) + stirling;
}

LOSS_INLINE double poisson_nll_by_x(const struct pair *a, double x, double t)
{
    return a->log_input ? exp(x) - t : 1 - t / (x + a->eps);
}

LOSS_INLINE double poisson_nll_by_t(const struct pair *a, double x, double t)
{
    return (a->log_input ? -x : -log(x + a->eps)) + (a->full && t > 1 ? log(t) + 0.5 / t : 0);
}
PAIR_DEFINE(poisson_nll)
PAIR_FORWARD(poisson_nll)

/* ---- focal ----------------------------------------------------------------------------------- */

static const struct attr_def focal_attrs[] = {
    LOSS_REDUCTION(struct pair),
    {"alpha", ATTR_REAL, PAIR(alpha), "0.25", -1, 1, NULL,
     "weight of positive answers, 1 - alpha that of others; below 0: no weights"},
    {"gamma", ATTR_REAL, PAIR(gamma), "2", 0, 100, NULL,
     "how strongly answers that are right already count less"},
    {0},
};

/* Parts of one term: cross entropy, how wrong the answer is, its weight. */
struct focal {
    double p, ce, wrong, weight;
};

LOSS_INLINE struct focal focal_of(const struct pair *a, double x, double t)
{
    const double z = exp(-fabs(x)), p = (x >= 0 ? 1 : z) / (1 + z);
    return (struct focal){.p = p,
                          .ce = (1 - t) * x + log1p(z) + (x < 0 ? -x : 0),
                          .wrong = p + t - 2 * p * t,
                          .weight = a->alpha < 0 ? 1 : a->alpha * t + (1 - a->alpha) * (1 - t)};
}

/* The slope of wrong^gamma, of that of wrong. */
LOSS_INLINE double focal_power_slope(const struct pair *a, double wrong)
{
    return a->gamma == 0 ? 0 : a->gamma * pow(wrong, a->gamma - 1);
}

LOSS_INLINE double focal_term(const struct pair *a, double x, double t)
{
    const struct focal f = focal_of(a, x, t);
    return f.weight * f.ce * pow(f.wrong, a->gamma);
}

LOSS_INLINE double focal_by_x(const struct pair *a, double x, double t)
{
    const struct focal f = focal_of(a, x, t);
    const double wrong = (1 - 2 * t) * f.p * (1 - f.p);
    return f.weight *
           ((f.p - t) * pow(f.wrong, a->gamma) + f.ce * focal_power_slope(a, f.wrong) * wrong);
}

LOSS_INLINE double focal_by_t(const struct pair *a, double x, double t)
{
    const struct focal f = focal_of(a, x, t);
    const double weight = a->alpha < 0 ? 0 : 2 * a->alpha - 1, power = pow(f.wrong, a->gamma);
    return weight * f.ce * power +
           f.weight * (f.ce * focal_power_slope(a, f.wrong) * (1 - 2 * f.p) - x * power);
}
PAIR_DEFINE(focal)
PAIR_FORWARD(focal)

/* ---- hinge and soft_margin ------------------------------------------------------------------- */

static const struct attr_def hinge_attrs[] = {
    LOSS_REDUCTION(struct pair),
    {"margin", ATTR_REAL, PAIR(margin), "1", 0, 1e30, NULL,
     "how far on its side of 0 a prediction must be to cost nothing"},
    {0},
};
static const struct attr_def soft_margin_attrs[] = {LOSS_REDUCTION(struct pair), {0}};

LOSS_INLINE double hinge_term(const struct pair *a, double x, double t)
{
    const double short_of = a->margin - t * x;
    return short_of < 0 ? 0 : short_of;
}

LOSS_INLINE double hinge_by_x(const struct pair *a, double x, double t)
{
    return a->margin - t * x < 0 ? 0 : -t;
}

LOSS_INLINE double hinge_by_t(const struct pair *a, double x, double t)
{
    return a->margin - t * x < 0 ? 0 : -x;
}
PAIR_DEFINE(hinge)
PAIR_FORWARD(hinge)

LOSS_INLINE double soft_margin_term(const struct pair *a, double x, double t)
{
    const double z = t * x;
    (void)a;
    return log1p(exp(-fabs(z))) + (z < 0 ? -z : 0);
}

LOSS_INLINE double soft_margin_by_x(const struct pair *a, double x, double t)
{
    (void)a;
    return -t / (1 + exp(t * x));
}

LOSS_INLINE double soft_margin_by_t(const struct pair *a, double x, double t)
{
    (void)a;
    return -x / (1 + exp(t * x));
}
PAIR_DEFINE(soft_margin)
PAIR_FORWARD(soft_margin)

/* ---- the table ------------------------------------------------------------------------------- */

#define PAIR_ROW(name, prefix, samples, doc)                                                       \
    {                                                                                              \
        name, "loss", 2, 2, prefix##_attrs, sizeof(struct pair), NULL, loss_same_shape, NULL,      \
            prefix##_forward, prefix##_backward, pair_flops, OP_LOSS | OP_KEEPS_IN, samples, doc   \
    }

const struct op ops_loss_pairs[] = {
    PAIR_ROW("smooth_l1", smooth_l1,
             "Nx3:spread Nx3:positive; Nx4x5:spread Nx4x5 beta=0.3; Nx3:spread Nx3 reduction=sum",
             "(x - t)^2 / (2 beta) where |x - t| < beta, else |x - t| - beta / 2"),
    PAIR_ROW("bce", bce_pair,
             "Nx3:probabilities Nx3:binary; Nx3x2:probabilities Nx3x2:probabilities reduction=sum",
             "-(t log x + (1 - t) log(1 - x)) of probabilities x"),
    PAIR_ROW("kl_div", kl_div,
             "Nx3 Nx3:probabilities; Nx3 Nx3 log_target=true reduction=batchmean; Nx3x2 "
             "Nx3x2:probabilities reduction=sum; Nx3 Nx3:positive reduction=batchmean",
             "t (log t - x) for logarithms x of probabilities"),
    PAIR_ROW("poisson_nll", poisson_nll,
             "Nx3 Nx3:positive; Nx3:positive Nx3:positive log_input=false full=true; Nx3 Nx3 "
             "reduction=sum",
             "e^x - t x, or x - t log x with log_input false"),
    PAIR_ROW("focal", focal,
             "Nx3 Nx3:binary; Nx3 Nx3:probabilities alpha=-1 gamma=1.5 reduction=sum; Nx2x2 "
             "Nx2x2:binary gamma=0",
             "alpha_t (1 - p_t)^gamma (-log p_t) of logits x"),
    PAIR_ROW("hinge", hinge, "Nx3:spread Nx3:positive; Nx3:spread Nx3 margin=0.05 reduction=sum",
             "max(0, margin - t x), targets 1 and -1"),
    PAIR_ROW("soft_margin", soft_margin, "Nx3 Nx3; Nx2x3 Nx2x3:positive reduction=sum",
             "log(1 + e^(-t x)), targets 1 and -1"),
    {0},
};
