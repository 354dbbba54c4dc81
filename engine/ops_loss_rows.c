/* ops_loss_rows.c: the loops over losses with one term a row, and two of those losses: dice, with
 * one term a sample, and gaussian_nll, whose term has a variance. */
#include "ops_loss_rows.h"

#include <math.h>

enum { ROWS_LEAST = 64 };

struct row_job {
    struct loss_sum sum; /* first: loss_sum_run hands it on */
    const struct row_loss *loss;
    double scale;
};

static void rows_sum(void *arg, int64_t begin, int64_t end, int worker)
{
    struct row_job *j = arg;
    struct loss_part part = {0, 0};
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        part.terms += j->loss->term(j->sum.n, j->sum.r, i);
        part.weights += j->loss->weight ? j->loss->weight(j->sum.n, j->sum.r, i) : 1;
    }
    j->sum.part[begin / j->sum.grain] = part;
}

static void rows_slopes(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct row_job *j = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        j->loss->slope(j->sum.n, j->sum.r, i, j->scale);
}

/* The divisor of the mean is kept for backward. */
void loss_rows_memory(struct node *n)
{
    n->saved.fixed = 1;
}

void loss_rows_forward(const struct node *n, struct run *r, const struct row_loss *loss)
{
    struct row_job j = {.sum = {.n = n, .r = r}, .loss = loss};
    const struct loss_part total = loss_sum_run(&j.sum, loss->rows(n, r), ROWS_LEAST, rows_sum);
    const double divisor = attrs_of(n)->reduction == REDUCE_MEAN ? total.weights : 1;
    *run_saved(r, n) = (real)divisor;
    *run_value(r, n) = (real)(total.terms / divisor);
}

void loss_rows_backward(const struct node *n, struct run *r, const struct row_loss *loss)
{
    struct row_job j = {.sum = {.n = n, .r = r}, .loss = loss};
    j.scale = (double)*run_grad(r, n) / (double)*run_saved(r, n);
    run_for(r, loss->rows(n, r), ROWS_LEAST, rows_slopes, &j);
}

double loss_rows_flops(const struct node *n)
{
    return 6 * loss_term_count(n);
}

/* ---- dice ------------------------------------------------------------------------------------ */

static const struct attr_def dice_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"smooth", ATTR_REAL, ROWS(smooth), "1", 1e-12, 1e30, NULL,
     "added to both sides of the quotient"},
    {"from_logits", ATTR_BOOL, ROWS(from_logits), "true", 0, 0, NULL,
     "take the sigmoid of the prediction first; false: it is probabilities"},
    {0},
};

static int dice_shape(struct node *n, struct error *e)
{
    return node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) ? -1 : loss_same_shape(n, e);
}

static int64_t dice_rows(const struct node *n, const struct run *r)
{
    return run_dim(r, n->in[0], 0);
}

static double dice_probability(const struct node *n, double x)
{
    return attrs_of(n)->from_logits ? 1 / (1 + exp(-x)) : x;
}

/* Twice what both share, and what they have together, of sample i. */
struct overlap {
    int64_t first, count;
    double both, all;
};

static struct overlap overlap_of(const struct node *n, struct run *r, int64_t i)
{
    const real *x = run_in(r, n, 0), *t = run_in(r, n, 1);
    const double smooth = attrs_of(n)->smooth;
    struct overlap o = {.count = run_count(r, n->in[0]) / dice_rows(n, r)};
    o.first = i * o.count;
    o.both = o.all = smooth;
    for (int64_t k = o.first; k < o.first + o.count; k++) {
        const double p = dice_probability(n, (double)x[k]);
        o.both += 2 * p * (double)t[k];
        o.all += p + (double)t[k];
    }
    return o;
}

static double dice_term(const struct node *n, struct run *r, int64_t i)
{
    const struct overlap o = overlap_of(n, r, i);
    return 1 - o.both / o.all;
}

static void dice_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const struct overlap o = overlap_of(n, r, i);
    const real *x = run_in(r, n, 0), *t = run_in(r, n, 1);
    real *dx = run_grad_in(r, n, 0), *dt = run_grad_in(r, n, 1);
    const double share = o.both / o.all;
    for (int64_t k = o.first; k < o.first + o.count; k++) {
        const double p = dice_probability(n, (double)x[k]);
        const double by_p = -scale * (2 * (double)t[k] - share) / o.all;
        if (dx)
            dx[k] = (real)(attrs_of(n)->from_logits ? by_p * p * (1 - p) : by_p);
        if (dt)
            dt[k] = (real)(-scale * (2 * p - share) / o.all);
    }
}

static const struct row_loss dice_loss = {dice_rows, dice_term, dice_slope, NULL};

/* ---- gaussian_nll ---------------------------------------------------------------------------- */

static const struct attr_def gaussian_nll_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"full", ATTR_BOOL, ROWS(full), "false", 0, 0, NULL, "add the constant ln(2 pi) / 2"},
    {"eps", ATTR_REAL, ROWS(eps), "1e-6", 1e-30, 1, NULL, "the smallest variance"},
    {0},
};

static int gaussian_nll_shape(struct node *n, struct error *e)
{
    struct shape_text a, b;
    if (node_check_rank(n, 2, 0, SHAPE_MAX_RANK, e) || loss_same_shape(n, e))
        return -1;
    if (shape_equal(&n->in[0]->shape, &n->in[2]->shape))
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: expects mean, variance and target of one shape, found %s and %s", n->what,
                     shape_print(&n->in[0]->shape, &a), shape_print(&n->in[2]->shape, &b));
}

static int64_t number_rows(const struct node *n, const struct run *r)
{
    return run_count(r, n->in[0]);
}

static double variance_at(const struct node *n, struct run *r, int64_t i)
{
    const double v = (double)run_in(r, n, 1)[i], eps = attrs_of(n)->eps;
    return v < eps ? eps : v;
}

static double gaussian_nll_term(const struct node *n, struct run *r, int64_t i)
{
    const double v = variance_at(n, r, i);
    const double d = (double)run_in(r, n, 0)[i] - (double)run_in(r, n, 2)[i];
    return 0.5 * (log(v) + d * d / v) + (attrs_of(n)->full ? 0.5 * log(2 * M_PI) : 0);
}

static void gaussian_nll_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const double v = variance_at(n, r, i);
    const double d = (double)run_in(r, n, 0)[i] - (double)run_in(r, n, 2)[i];
    const double slopes[3] = {d / v, 0.5 * (1 / v - d * d / (v * v)), -d / v};
    for (int k = 0; k < 3; k++)
        if (run_grad_in(r, n, k))
            run_grad_in(r, n, k)[i] = (real)(scale * slopes[k]);
}

static const struct row_loss gaussian_nll_loss = {number_rows, gaussian_nll_term,
                                                  gaussian_nll_slope, NULL};

static void gaussian_nll_forward(const struct node *n, struct run *r)
{
    for (int64_t i = 0; i < number_rows(n, r); i++)
        if (run_in(r, n, 1)[i] < 0) {
            run_fail(r, ERROR_BAD_VALUE, "%s: variance %lld is %g; expects at least 0", n->what,
                     (long long)i, (double)run_in(r, n, 1)[i]);
            return;
        }
    loss_rows_forward(n, r, &gaussian_nll_loss);
}

/* ---- the table ------------------------------------------------------------------------------- */

ROWS_FORWARD(dice)
ROWS_BACKWARD(dice)
ROWS_BACKWARD(gaussian_nll)

const struct op ops_loss_rows[] = {
    ROWS_ROW(dice, 2, dice_shape, 0,
             "Nx5 Nx5:binary; Nx2x3 Nx2x3:probabilities smooth=0.1 reduction=sum; "
             "Nx4:probabilities Nx4:binary from_logits=false",
             "1 - (2 sum of p t + smooth) / (sum of p + sum of t + smooth) of each sample"),
    ROWS_ROW(gaussian_nll, 3, gaussian_nll_shape, 0,
             "Nx3 Nx3:positive Nx3; Nx2x2 Nx2x2:positive Nx2x2 full=true reduction=sum",
             "(ln v + (x - t)^2 / v) / 2; inputs mean, variance, target"),
    {0},
};
