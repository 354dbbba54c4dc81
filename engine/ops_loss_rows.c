/* ops_loss_rows.c: losses with one term a row or a sample: nll and multi_margin, whose target is a
 * class; cosine_embedding and triplet_margin, which compare vectors; dice; and gaussian_nll, whose
 * term has a variance. Each is two functions, of a term and of its slopes; the loops are shared.
 * Semantics are torch's. */
#include "ops_loss.h"

#include <math.h>
#include <stddef.h>

enum { ROWS_LEAST = 64 };

struct rows_attrs {
    int reduction;
    double margin, p, eps, smooth;
    struct real_list weight;
    int64_t ignore_index;
    bool swap, full, from_logits;
};
#define ROWS(field) offsetof(struct rows_attrs, field)

/* Row i: `count` numbers from `first` on, `step` apart. */
struct row {
    int64_t first, step, count;
};

struct row_loss {
    int64_t (*rows)(const struct node *n, const struct run *r);
    double (*term)(const struct node *n, struct run *r, int64_t i);
    void (*slope)(const struct node *n, struct run *r, int64_t i, double scale);
    double (*weight)(const struct node *n, struct run *r, int64_t i); /* in the mean; NULL: 1 */
};

static const struct rows_attrs *attrs_of(const struct node *n)
{
    return n->attrs;
}

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
static void rows_memory(struct node *n)
{
    n->saved.fixed = 1;
}

static void rows_forward(const struct node *n, struct run *r, const struct row_loss *loss)
{
    struct row_job j = {.sum = {.n = n, .r = r}, .loss = loss};
    const struct loss_part total = loss_sum_run(&j.sum, loss->rows(n, r), ROWS_LEAST, rows_sum);
    const double divisor = attrs_of(n)->reduction == REDUCE_MEAN ? total.weights : 1;
    *run_saved(r, n) = (real)divisor;
    *run_value(r, n) = (real)(total.terms / divisor);
}

static void rows_backward(const struct node *n, struct run *r, const struct row_loss *loss)
{
    struct row_job j = {.sum = {.n = n, .r = r}, .loss = loss};
    j.scale = (double)*run_grad(r, n) / (double)*run_saved(r, n);
    run_for(r, loss->rows(n, r), ROWS_LEAST, rows_slopes, &j);
}

static double rows_flops(const struct node *n)
{
    return 6 * loss_term_count(n);
}

/* ---- classes: nll and multi_margin ----------------------------------------------------------- */

static const struct attr_def nll_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"weight", ATTR_REALS, ROWS(weight), "", 0, 1e30, NULL, "weight of each class; empty: all 1"},
    {"ignore_index", ATTR_INT, ROWS(ignore_index), "-100", -9007199254740992.0, 9007199254740992.0,
     NULL, "class index of rows that do not count"},
    {0},
};
static const struct attr_def multi_margin_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"p", ATTR_REAL, ROWS(p), "1", 1, 2, NULL, "exponent, 1 or 2"},
    {"margin", ATTR_REAL, ROWS(margin), "1", -1e30, 1e30, NULL,
     "how far the right class must be ahead to cost nothing"},
    {"weight", ATTR_REALS, ROWS(weight), "", 0, 1e30, NULL, "weight of each class; empty: all 1"},
    {0},
};

static int class_dim(const struct node *n)
{
    return n->in[0]->shape.rank >= 2 ? 1 : 0;
}

static int classes_shape(struct node *n, struct error *e)
{
    const struct rows_attrs *a = attrs_of(n);
    const struct shape *x = &n->in[0]->shape;
    struct shape classes;
    struct shape_text want, found;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e))
        return -1;
    if (!cross_entropy_classes_shape(x, &classes))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects a prediction of the shape [N, classes, ...], found %s",
                         n->what, shape_print(x, &found));
    if (n->in[1]->dtype != DTYPE_INT64 || !shape_equal(&n->in[1]->shape, &classes))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: the target must be class indices (INT64) of the shape %s, not %s of "
                         "the shape %s",
                         n->what, shape_print(&classes, &want),
                         n->in[1]->dtype == DTYPE_INT64 ? "INT64" : "floating point",
                         shape_print(&n->in[1]->shape, &found));
    const int64_t c = x->dim[class_dim(n)];
    if (a->weight.n && a->weight.n != c)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'weight' must have one number for each of the %lld "
                         "classes, not %d",
                         n->what, (long long)c, a->weight.n);
    return node_set_shape(n, &(struct shape){0}, e);
}

static int multi_margin_shape(struct node *n, struct error *e)
{
    const double p = attrs_of(n)->p;
    if (p != 1 && p != 2)
        return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: attribute 'p' must be 1 or 2, not %.10g",
                         n->what, p);
    return classes_shape(n, e);
}

static struct row class_row(const struct node *n, int64_t i)
{
    const struct shape *x = &n->in[0]->shape;
    struct row row = {.step = 1, .count = x->dim[class_dim(n)]};
    for (int d = class_dim(n) + 1; d < x->rank; d++)
        row.step *= x->dim[d];
    row.first = i / row.step * row.count * row.step + i % row.step;
    return row;
}

static int64_t class_rows(const struct node *n, const struct run *r)
{
    return run_count(r, n->in[0]) / n->in[0]->shape.dim[class_dim(n)];
}

static double class_weight(const struct node *n, int64_t c)
{
    const struct real_list *weight = &attrs_of(n)->weight;
    return weight->n ? weight->v[c] : 1;
}

/* False, and the run fails, when a class is none and, where `ignore` says so, not ignored. */
static bool check_classes(const struct node *n, struct run *r, bool ignore)
{
    const int64_t *y = run_in_int64(r, n, 1), c = n->in[0]->shape.dim[class_dim(n)];
    for (int64_t i = 0; i < class_rows(n, r); i++)
        if ((y[i] < 0 || y[i] >= c) && !(ignore && y[i] == attrs_of(n)->ignore_index)) {
            run_fail(r, ERROR_BAD_VALUE,
                     "%s: class index %lld at position %lld of target is outside 0..%lld", n->what,
                     (long long)y[i], (long long)i, (long long)(c - 1));
            return false;
        }
    return true;
}

static double nll_weight(const struct node *n, struct run *r, int64_t i)
{
    const int64_t y = run_in_int64(r, n, 1)[i];
    return y == attrs_of(n)->ignore_index ? 0 : class_weight(n, y);
}

static double nll_term(const struct node *n, struct run *r, int64_t i)
{
    const int64_t y = run_in_int64(r, n, 1)[i];
    const struct row row = class_row(n, i);
    if (y == attrs_of(n)->ignore_index)
        return 0;
    return -class_weight(n, y) * (double)run_in(r, n, 0)[row.first + y * row.step];
}

static void nll_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const struct row row = class_row(n, i);
    real *dx = run_grad_in(r, n, 0);
    for (int64_t c = 0; dx && c < row.count; c++)
        dx[row.first + c * row.step] =
            c == run_in_int64(r, n, 1)[i] ? (real)(-scale * nll_weight(n, r, i)) : 0;
}

/* What class c costs row i. */
static double margin_short(const struct node *n, struct run *r, const struct row *row, int64_t y,
                           int64_t c)
{
    const real *x = run_in(r, n, 0) + row->first;
    const double d = attrs_of(n)->margin - (double)x[y * row->step] + (double)x[c * row->step];
    return c == y || d < 0 ? 0 : d;
}

static double multi_margin_term(const struct node *n, struct run *r, int64_t i)
{
    const struct row row = class_row(n, i);
    const int64_t y = run_in_int64(r, n, 1)[i];
    double sum = 0;
    for (int64_t c = 0; c < row.count; c++) {
        const double d = margin_short(n, r, &row, y, c);
        sum += attrs_of(n)->p == 2 ? d * d : d;
    }
    return sum * class_weight(n, y) / (double)row.count;
}

static void multi_margin_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const struct row row = class_row(n, i);
    const int64_t y = run_in_int64(r, n, 1)[i];
    const double each = scale * class_weight(n, y) / (double)row.count;
    real *dx = run_grad_in(r, n, 0);
    double right = 0;
    for (int64_t c = 0; dx && c < row.count; c++) {
        const double d = margin_short(n, r, &row, y, c);
        const double slope = d > 0 ? each * (attrs_of(n)->p == 2 ? 2 * d : 1) : 0;
        dx[row.first + c * row.step] = (real)slope;
        right -= slope;
    }
    if (dx)
        dx[row.first + y * row.step] = (real)right;
}

static const struct row_loss nll_loss = {class_rows, nll_term, nll_slope, nll_weight};
static const struct row_loss multi_margin_loss = {class_rows, multi_margin_term, multi_margin_slope,
                                                  NULL};

static void nll_forward(const struct node *n, struct run *r)
{
    if (check_classes(n, r, true))
        rows_forward(n, r, &nll_loss);
}

static void multi_margin_forward(const struct node *n, struct run *r)
{
    if (check_classes(n, r, false))
        rows_forward(n, r, &multi_margin_loss);
}

/* ---- vectors: cosine_embedding and triplet_margin -------------------------------------------- */

static const struct attr_def cosine_embedding_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"margin", ATTR_REAL, ROWS(margin), "0", -1, 1, NULL,
     "cosine below which vectors that should differ cost nothing"},
    {0},
};
static const struct attr_def triplet_margin_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"margin", ATTR_REAL, ROWS(margin), "1", 0, 1e30, NULL,
     "how much further the negative must be"},
    {"p", ATTR_REAL, ROWS(p), "2", 1, 100, NULL, "exponent of the distance"},
    {"eps", ATTR_REAL, ROWS(eps), "1e-6", 0, 1, NULL, "added to each difference"},
    {0},
};

/* All inputs are vectors of one shape, along the last dimension; cosine_embedding's target has one
 * number for each. */
static int vectors_shape(struct node *n, struct error *e)
{
    const struct shape *x = &n->in[0]->shape;
    struct shape_text a, b;
    for (int i = 0; i < 3; i++) {
        struct shape want = *x;
        if (node_check_rank(n, i, 0, SHAPE_MAX_RANK, e))
            return -1;
        want.rank -= i == 2 && n->op->attrs == cosine_embedding_attrs;
        if (x->rank == 0 || x->dim[x->rank - 1] < 1 || !shape_equal(&want, &n->in[i]->shape))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: its input %d must have the shape %s, to go with vectors along "
                             "the last dimension, not %s",
                             n->what, i, shape_print(&want, &a), shape_print(&n->in[i]->shape, &b));
    }
    return node_set_shape(n, &(struct shape){0}, e);
}

static int64_t vector_length(const struct node *n)
{
    const struct shape *x = &n->in[0]->shape;
    return x->dim[x->rank - 1];
}

static int64_t vector_rows(const struct node *n, const struct run *r)
{
    return run_count(r, n->in[0]) / vector_length(n);
}

/* cos = dot / (|a| |b|), with torch's guard of 1e-12 in each square. */
struct cosine {
    double aa, bb, cos;
};

static struct cosine cosine_of(const struct node *n, struct run *r, int64_t i)
{
    const int64_t d = vector_length(n);
    const real *a = run_in(r, n, 0) + i * d, *b = run_in(r, n, 1) + i * d;
    struct cosine c = {1e-12, 1e-12, 0};
    for (int64_t k = 0; k < d; k++) {
        c.aa += (double)a[k] * (double)a[k];
        c.bb += (double)b[k] * (double)b[k];
        c.cos += (double)a[k] * (double)b[k];
    }
    c.cos /= sqrt(c.aa * c.bb);
    return c;
}

static bool is_similar(const struct node *n, struct run *r, int64_t i)
{
    return run_in(r, n, 2)[i] > (real)0.5;
}

static double cosine_embedding_term(const struct node *n, struct run *r, int64_t i)
{
    const struct cosine c = cosine_of(n, r, i);
    const double over = c.cos - attrs_of(n)->margin;
    return is_similar(n, r, i) ? 1 - c.cos : over < 0 ? 0 : over;
}

static void cosine_embedding_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const int64_t d = vector_length(n);
    const real *a = run_in(r, n, 0) + i * d, *b = run_in(r, n, 1) + i * d;
    real *da = run_grad_in(r, n, 0), *db = run_grad_in(r, n, 1), *dt = run_grad_in(r, n, 2);
    const struct cosine c = cosine_of(n, r, i);
    const double apart = c.cos - attrs_of(n)->margin > 0 ? scale : 0;
    const double slope = is_similar(n, r, i) ? -scale : apart, root = sqrt(c.aa * c.bb);
    for (int64_t k = 0; k < d; k++) {
        if (da)
            da[i * d + k] = (real)(slope * ((double)b[k] / root - c.cos * (double)a[k] / c.aa));
        if (db)
            db[i * d + k] = (real)(slope * ((double)a[k] / root - c.cos * (double)b[k] / c.bb));
    }
    if (dt)
        dt[i] = 0;
}

/* |a - b + eps|_p of row i, for inputs j and k of the node. */
static double distance(const struct node *n, struct run *r, int64_t i, int j, int k)
{
    const struct rows_attrs *o = attrs_of(n);
    const int64_t d = vector_length(n);
    const real *a = run_in(r, n, j) + i * d, *b = run_in(r, n, k) + i * d;
    double sum = 0;
    for (int64_t c = 0; c < d; c++)
        sum += pow(fabs((double)a[c] - (double)b[c] + o->eps), o->p);
    return pow(sum, 1 / o->p);
}

/* The slope of the distance by element c of its first input. */
static double distance_slope(const struct node *n, struct run *r, int64_t at, int j, int k,
                             double dist)
{
    const struct rows_attrs *o = attrs_of(n);
    const double v = (double)run_in(r, n, j)[at] - (double)run_in(r, n, k)[at] + o->eps;
    const double size = dist == 0 || v == 0 ? 0 : pow(fabs(v) / dist, o->p - 1);
    return v < 0 ? -size : size;
}

static double triplet_margin_term(const struct node *n, struct run *r, int64_t i)
{
    const double over = attrs_of(n)->margin + distance(n, r, i, 0, 1) - distance(n, r, i, 0, 2);
    return over < 0 ? 0 : over;
}

static void triplet_margin_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const int64_t d = vector_length(n);
    const double near = distance(n, r, i, 0, 1), far = distance(n, r, i, 0, 2);
    const double slope = attrs_of(n)->margin + near - far > 0 ? scale : 0;
    real *to[3] = {run_grad_in(r, n, 0), run_grad_in(r, n, 1), run_grad_in(r, n, 2)};
    for (int64_t at = i * d; at < (i + 1) * d; at++) {
        const double by_near = slope * distance_slope(n, r, at, 0, 1, near);
        const double by_far = slope * distance_slope(n, r, at, 0, 2, far);
        const double slopes[3] = {by_near - by_far, -by_near, by_far};
        for (int k = 0; k < 3; k++)
            if (to[k])
                to[k][at] = (real)slopes[k];
    }
}

static const struct row_loss cosine_embedding_loss = {vector_rows, cosine_embedding_term,
                                                      cosine_embedding_slope, NULL};
static const struct row_loss triplet_margin_loss = {vector_rows, triplet_margin_term,
                                                    triplet_margin_slope, NULL};

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
    rows_forward(n, r, &gaussian_nll_loss);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define ROWS_FORWARD(name)                                                                         \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        rows_forward(n, r, &name##_loss);                                                          \
    }
#define ROWS_BACKWARD(name)                                                                        \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        rows_backward(n, r, &name##_loss);                                                         \
    }
ROWS_BACKWARD(nll)
ROWS_BACKWARD(multi_margin)
ROWS_FORWARD(cosine_embedding)
ROWS_BACKWARD(cosine_embedding)
ROWS_FORWARD(triplet_margin)
ROWS_BACKWARD(triplet_margin)
ROWS_FORWARD(dice)
ROWS_BACKWARD(dice)
ROWS_BACKWARD(gaussian_nll)

#define ROWS_ROW(name, inputs, shape, flags, samples, doc)                                         \
    {                                                                                              \
#name, "loss", inputs, inputs, name##_attrs, sizeof(struct rows_attrs), NULL, shape,       \
            rows_memory, name##_forward, name##_backward, rows_flops,                              \
            OP_LOSS | OP_KEEPS_IN | (flags), samples, doc                                          \
    }

const struct op ops_loss_rows[] = {
    ROWS_ROW(nll, 2, classes_shape, OP_TARGET_CLASSES,
             "Nx5 N:classes=5; Nx4x3 Nx3:classes=4 ignore_index=1 weight=0.5,1,2,1.5; Nx3 "
             "N:classes=3 reduction=sum; 5 scalar:classes=5",
             "-x[target] for logarithms x of probabilities, over dimension 1"),
    ROWS_ROW(multi_margin, 2, multi_margin_shape, OP_TARGET_CLASSES,
             "Nx5:spread N:classes=5; Nx4:spread N:classes=4 p=2 margin=0.5 weight=0.5,1,2,1; "
             "Nx3:spread N:classes=3 reduction=sum margin=0.1",
             "sum over other classes of max(0, margin - x[target] + x[c])^p / classes"),
    ROWS_ROW(cosine_embedding, 3, vectors_shape, OP_TARGET_ROWS,
             "Nx5 Nx5 N:binary; Nx4:positive Nx4 N:binary margin=0.3 reduction=sum; Nx2x3 Nx2x3 "
             "Nx2:binary",
             "1 - cos(a, b) where the target is 1, else (-1) max(0, cos(a, b) - margin)"),
    ROWS_ROW(triplet_margin, 3, vectors_shape, 0,
             "Nx5 Nx5:spread Nx5:positive; Nx4:positive Nx4 Nx4 margin=2 p=3; Nx3 Nx3:spread Nx3 "
             "margin=5 reduction=sum",
             "max(0, margin + |anchor - positive|_p - |anchor - negative|_p)"),
    ROWS_ROW(dice, 2, dice_shape, 0,
             "Nx5 Nx5:binary; Nx2x3 Nx2x3:probabilities smooth=0.1 reduction=sum; "
             "Nx4:probabilities Nx4:binary from_logits=false",
             "1 - (2 sum of p t + smooth) / (sum of p + sum of t + smooth) of each sample"),
    ROWS_ROW(gaussian_nll, 3, gaussian_nll_shape, 0,
             "Nx3 Nx3:positive Nx3; Nx2x2 Nx2x2:positive Nx2x2 full=true reduction=sum",
             "(ln v + (x - t)^2 / v) / 2; inputs mean, variance, target"),
    {0},
};
