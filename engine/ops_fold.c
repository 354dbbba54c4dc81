/* ops_fold.c: reductions over dimensions that are no plain sums: amax, amin, argmax, argmin, prod,
 * var, std, norm and logsumexp. sum and mean are ops_reduce.c's. */
#include "fold.h"
#include "unary.h"

#include <stddef.h>
#include <string.h>

#define FOLD(field) offsetof(struct fold, field)
#define FOLD_DIMS                                                                                  \
    {"dim",                                                                                        \
     ATTR_INTS,                                                                                    \
     FOLD(dim),                                                                                    \
     "",                                                                                           \
     -SHAPE_MAX_RANK,                                                                              \
     SHAPE_MAX_RANK - 1,                                                                           \
     NULL,                                                                                         \
     "dimensions to reduce; none given: all of them"},                                             \
    {                                                                                              \
        "keepdim", ATTR_BOOL, FOLD(keepdim), "false", 0, 0, NULL,                                  \
            "keep reduced dimensions with size 1"                                                  \
    }
static const struct attr_def fold_attrs[] = {FOLD_DIMS, {0}};
static const struct attr_def var_attrs[] = {
    FOLD_DIMS,
    {"correction", ATTR_REAL, FOLD(correction), "1", 0, 1e9, NULL,
     "subtracted from the number of terms in the divisor; 0: biased"},
    {0},
};
static const struct attr_def norm_attrs[] = {
    FOLD_DIMS,
    {"p", ATTR_REAL, FOLD(p), "2", 0.5, 1e4, NULL,
     "exponent; 1: sum of absolute values, 2: Euclidean"},
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

static int fold_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    const bool keep = ((const struct fold *)n->attrs)->keepdim;
    bool folded[SHAPE_MAX_RANK];
    struct shape out = {0};
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e) || fold_dims(n, in->rank, folded, e))
        return -1;
    for (int i = 0; i < in->rank; i++)
        if (!folded[i] || keep)
            out.dim[out.rank++] = folded[i] ? 1 : in->dim[i];
    return node_set_shape(n, &out, e);
}

/* The number of terms must be known, and above the correction, before the batch is. */
static int var_shape(struct node *n, struct error *e)
{
    const struct fold *a = n->attrs;
    bool folded[SHAPE_MAX_RANK];
    double terms = 1;
    if (fold_shape(n, e) || fold_dims(n, n->in[0]->shape.rank, folded, e))
        return -1;
    for (int i = 0; i < n->in[0]->shape.rank; i++)
        if (folded[i] && n->in[0]->shape.dim[i] == BATCH)
            return 0;
        else if (folded[i])
            terms *= (double)n->in[0]->shape.dim[i];
    if (terms > a->correction)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: attribute 'correction' must be below the number of terms (%.0f), not "
                     "%.10g",
                     n->what, terms, a->correction);
}

static int arg_shape(struct node *n, struct error *e)
{
    const struct int_list *dim = &((const struct fold *)n->attrs)->dim;
    if (dim->n > 1)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'dim' must be one dimension or none, not %d", n->what,
                         dim->n);
    return fold_shape(n, e);
}

static double fold_flops(const struct node *n)
{
    return 2.0 * (double)(n->in[0]->size.sample + n->in[0]->size.fixed);
}

/* ---- extremes -------------------------------------------------------------------------------- */

/* The first of equals wins, and NaN wins over all. */
static inline __attribute__((always_inline)) void extreme(const struct cells *c, const real *x,
                                                          struct gathered *g, double sign)
{
    for (int64_t i = 0; i < c->length; i++, g->seen++) {
        const double v = sign * (double)x[i * c->step];
        if (g->seen == 0 || v > g->first || (isnan(v) && !isnan(g->first))) {
            g->first = v;
            g->at = g->seen;
        }
    }
}

static void line_max(const struct cells *c, const real *x, struct gathered *g)
{
    extreme(c, x, g, 1);
}

static void line_min(const struct cells *c, const real *x, struct gathered *g)
{
    extreme(c, x, g, -1);
}

static double max_result(const struct cells *c UNUSED, const struct gathered *g)
{
    return g->first;
}

static double min_result(const struct cells *c UNUSED, const struct gathered *g)
{
    return -g->first;
}

static double arg_result(const struct cells *c UNUSED, const struct gathered *g)
{
    return (double)g->at;
}

static void line_equals(const struct cells *c, const real *x, struct gathered *g)
{
    for (int64_t i = 0; i < c->length; i++)
        g->second += (double)x[i * c->step] == g->first;
}

/* ---- sums and products ----------------------------------------------------------------------- */

static void line_sum(const struct cells *c, const real *x, struct gathered *g)
{
    for (int64_t i = 0; i < c->length; i++)
        g->first += (double)x[i * c->step];
}

static double mean_middle(const struct cells *c, struct gathered *g)
{
    return g->first /= cell_terms(c);
}

static void line_squares(const struct cells *c, const real *x, struct gathered *g)
{
    for (int64_t i = 0; i < c->length; i++) {
        const double d = (double)x[i * c->step] - g->first;
        g->second += d * d;
    }
}

static double var_result(const struct cells *c, const struct gathered *g)
{
    return g->second / (cell_terms(c) - c->a->correction);
}

static double std_result(const struct cells *c, const struct gathered *g)
{
    return sqrt(var_result(c, g));
}

static void var_slope(const struct cells *c, const real *x, const struct gathered *g,
                      double y UNUSED, double dy, real *dx)
{
    const double scale = 2 * dy / (cell_terms(c) - c->a->correction);
    for (int64_t i = 0; i < c->length; i++)
        dx[i * c->step] = (real)(scale * ((double)x[i * c->step] - g->first));
}

/* 0 where all terms are equal, as in torch. */
static void std_slope(const struct cells *c, const real *x, const struct gathered *g, double y,
                      double dy, real *dx)
{
    const double scale = y == 0 ? 0 : dy / (y * (cell_terms(c) - c->a->correction));
    for (int64_t i = 0; i < c->length; i++)
        dx[i * c->step] = (real)(scale * ((double)x[i * c->step] - g->first));
}

static void line_product(const struct cells *c, const real *x, struct gathered *g)
{
    for (int64_t i = 0; i < c->length; i++) {
        const double v = (double)x[i * c->step];
        g->first = (g->seen++ ? g->first : 1) * (v == 0 ? 1 : v);
        g->at += v == 0;
    }
}

static double product_result(const struct cells *c UNUSED, const struct gathered *g)
{
    return g->at ? 0 : g->first;
}

/* The product of the others: that of the terms that are not zero, unless another is. */
static void product_slope(const struct cells *c, const real *x, const struct gathered *g,
                          double y UNUSED, double dy, real *dx)
{
    for (int64_t i = 0; i < c->length; i++) {
        const double v = (double)x[i * c->step];
        const double others = v == 0 ? (g->at > 1 ? 0 : g->first) : g->at ? 0 : g->first / v;
        dx[i * c->step] = (real)(dy * others);
    }
}

static void line_powers(const struct cells *c, const real *x, struct gathered *g)
{
    for (int64_t i = 0; i < c->length; i++) {
        const double v = fabs((double)x[i * c->step]);
        g->first += c->a->p == 2 ? v * v : c->a->p == 1 ? v : pow(v, c->a->p);
    }
}

static double norm_result(const struct cells *c, const struct gathered *g)
{
    return c->a->p == 2 ? sqrt(g->first) : c->a->p == 1 ? g->first : pow(g->first, 1 / c->a->p);
}

/* sign(x) (|x| / y)^(p - 1); 0 where x or the norm is 0. */
static void norm_slope(const struct cells *c, const real *x, const struct gathered *g UNUSED,
                       double y, double dy, real *dx)
{
    for (int64_t i = 0; i < c->length; i++) {
        const double v = (double)x[i * c->step], share = fabs(v) / y;
        const double slope = c->a->p == 2 ? share : pow(share, c->a->p - 1);
        dx[i * c->step] = (real)(v == 0 ? 0 : dy * (v < 0 ? -slope : slope));
    }
}

/* ---- logsumexp ------------------------------------------------------------------------------- */

/* An infinite maximum is not subtracted. */
static double shift_middle(const struct cells *c UNUSED, struct gathered *g)
{
    return g->first = isinf(g->first) ? 0 : g->first;
}

static void line_exponentials(const struct cells *c, const real *x, struct gathered *g)
{
    for (int64_t i = 0; i < c->length; i++)
        g->second += exp((double)x[i * c->step] - g->first);
}

static double logsumexp_result(const struct cells *c UNUSED, const struct gathered *g)
{
    return log(g->second) + g->first;
}

static void logsumexp_slope(const struct cells *c, const real *x, const struct gathered *g UNUSED,
                            double y, double dy, real *dx)
{
    for (int64_t i = 0; i < c->length; i++)
        dx[i * c->step] = (real)(dy * exp((double)x[i * c->step] - y));
}

/* The gradient of an extreme goes to all terms that have it, in equal shares. */
static void extreme_slope(const struct cells *c, const real *x, const struct gathered *g, double y,
                          double dy, real *dx)
{
    for (int64_t i = 0; i < c->length; i++)
        dx[i * c->step] = (real)((double)x[i * c->step] == y ? dy / g->second : 0);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct folder amax_folder = {line_max,   NULL,        NULL,
                                          max_result, line_equals, extreme_slope};
static const struct folder amin_folder = {line_min,   NULL,        NULL,
                                          min_result, line_equals, extreme_slope};
static const struct folder argmax_folder = {line_max, NULL, NULL, arg_result, NULL, NULL};
static const struct folder argmin_folder = {line_min, NULL, NULL, arg_result, NULL, NULL};
static const struct folder prod_folder = {line_product,   NULL,         NULL,
                                          product_result, line_product, product_slope};
static const struct folder var_folder = {line_sum,   line_squares, mean_middle,
                                         var_result, line_sum,     var_slope};
static const struct folder std_folder = {line_sum,   line_squares, mean_middle,
                                         std_result, line_sum,     std_slope};
static const struct folder norm_folder = {line_powers, NULL, NULL, norm_result, NULL, norm_slope};
static const struct folder logsumexp_folder = {
    line_max, line_exponentials, shift_middle, logsumexp_result, NULL, logsumexp_slope};

#define FOLD_FORWARD(name)                                                                         \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        fold_forward(n, r, &name##_folder);                                                        \
    }
#define FOLD_BOTH(name)                                                                            \
    FOLD_FORWARD(name)                                                                             \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        fold_backward(n, r, &name##_folder);                                                       \
    }
FOLD_BOTH(amax)
FOLD_BOTH(amin)
FOLD_FORWARD(argmax)
FOLD_FORWARD(argmin)
FOLD_BOTH(prod)
FOLD_BOTH(var)
FOLD_BOTH(std)
FOLD_BOTH(norm)
FOLD_BOTH(logsumexp)

#define FOLD_ROW(name, attrs, shape, backward, flags, samples, doc)                                \
    {                                                                                              \
#name, "reduce", 1, 1, attrs, sizeof(struct fold), NULL, shape, NULL, name##_forward,      \
            backward, fold_flops, flags, samples, doc                                              \
    }

const struct op ops_fold[] = {
    FOLD_ROW(
        amax, fold_attrs, fold_shape, amax_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
        "Nx5:spread dim=1; Nx3x4x2:spread dim=1,-1; Nx3:spread; 2x3x2:spread dim=0 keepdim=true",
        "y = largest x over dim; its gradient goes in equal shares to all that have it"),
    FOLD_ROW(
        amin, fold_attrs, fold_shape, amin_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
        "Nx5:spread dim=1; Nx3x4x2:spread dim=1,-1; Nx3:spread; 2x3x2:spread dim=0 keepdim=true",
        "y = smallest x over dim; its gradient goes in equal shares to all that have it"),
    FOLD_ROW(argmax, fold_attrs, arg_shape, NULL, OP_NO_GRAD | OP_INDICES,
             "Nx5:spread dim=1; Nx3x4:spread dim=1 keepdim=true; Nx3:spread",
             "y = index of the largest x along dim (of all without it), the first of equals; "
             "INT64 as an output, a number to other layers"),
    FOLD_ROW(argmin, fold_attrs, arg_shape, NULL, OP_NO_GRAD | OP_INDICES,
             "Nx5:spread dim=1; Nx3x4:spread dim=1 keepdim=true; Nx3:spread",
             "y = index of the smallest x along dim (of all without it), the first of equals; "
             "INT64 as an output, a number to other layers"),
    FOLD_ROW(prod, fold_attrs, fold_shape, prod_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
             "Nx3 dim=1; Nx2x3:positive dim=1,2; 2x3:spread dim=0; Nx2",
             "y = product of x over dim"),
    FOLD_ROW(var, var_attrs, var_shape, var_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
             "Nx5 dim=1; Nx3x4x2 dim=1,3 correction=0; Nx3; Nx3 dim=0 keepdim=true",
             "y = sum of (x - mean)^2 / (terms - correction) over dim"),
    FOLD_ROW(std, var_attrs, var_shape, std_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
             "Nx5 dim=1; Nx3x4x2 dim=1,3 correction=0; Nx3",
             "y = sqrt(sum of (x - mean)^2 / (terms - correction)) over dim"),
    FOLD_ROW(norm, norm_attrs, fold_shape, norm_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
             "Nx5 dim=1; Nx3x4:spread dim=1,2 p=1; Nx4:spread dim=1 p=3; Nx3",
             "y = (sum of |x|^p over dim)^(1/p)"),
    FOLD_ROW(logsumexp, fold_attrs, fold_shape, logsumexp_backward, OP_KEEPS_IN | OP_KEEPS_OUT,
             "Nx5 dim=1; Nx3x4 dim=1 keepdim=true; Nx3; 2x3x2 dim=0,2",
             "y = ln(sum of e^x over dim)"),
    {0},
};
