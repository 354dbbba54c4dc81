/* ops_loss_margin.c: losses of rows of numbers, one a class, and a target that is a class: nll, of
 * logarithms of probabilities, and multi_margin. Semantics are torch's. */
#include "ops_loss_rows.h"

/* Row i: `count` numbers from `first` on, `step` apart. */
struct row {
    int64_t first, step, count;
};

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
        loss_rows_forward(n, r, &nll_loss);
}

static void multi_margin_forward(const struct node *n, struct run *r)
{
    if (check_classes(n, r, false))
        loss_rows_forward(n, r, &multi_margin_loss);
}

/* ---- the table ------------------------------------------------------------------------------- */

ROWS_BACKWARD(nll)
ROWS_BACKWARD(multi_margin)

const struct op ops_loss_margin[] = {
    ROWS_ROW(nll, 2, classes_shape, OP_TARGET_CLASSES,
             "Nx5 N:classes=5; Nx4x3 Nx3:classes=4 ignore_index=1 weight=0.5,1,2,1.5; Nx3 "
             "N:classes=3 reduction=sum; 5 scalar:classes=5",
             "-x[target] for logarithms x of probabilities, over dimension 1"),
    ROWS_ROW(multi_margin, 2, multi_margin_shape, OP_TARGET_CLASSES,
             "Nx5:spread N:classes=5; Nx4:spread N:classes=4 p=2 margin=0.5 weight=0.5,1,2,1; "
             "Nx3:spread N:classes=3 reduction=sum margin=0.1",
             "sum over other classes of max(0, margin - x[target] + x[c])^p / classes"),
    {0},
};
