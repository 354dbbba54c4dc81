/* ops_loss_classes.c: cross_entropy, with PyTorch's semantics.
 *
 * Each row of C logits, one for each sample and position, is compared with a distribution a over
 * the classes: loss = -sum_c a_c log softmax(x)_c. With label smoothing s and class weights w:
 *
 *   class index y:    a_c = (1 - s) w_y [c = y] + s / C w_c, and the mean is taken over the sum of
 *                     w_y; rows whose y is ignore_index count in neither;
 *   probabilities t:  a_c = w_c ((1 - s) t_c + s / C), and the mean is taken over the rows;
 *   mixed indices t:  probabilities that are sums of index targets (mixup): a_c = w_c ((1 - s) t_c
 * + s / C sum(t)), and the mean is taken over the sum of w_c t_c: what indices give where t is 0
 * or 1. A row of zeros, an ignored one, counts in neither.
 *
 * The gradient is softmax(x)_c sum(a) - a_c. Kept for it: the logarithms of the softmax, then the
 * divisor and the loss. */
#include "ops_loss.h"

#include "real.h"

#include <string.h>

enum { CLASSES_LEAST = 2048 }; /* logits that are worth a chunk */

const struct attr_def cross_entropy_attrs[] = {
    LOSS_REDUCTION(struct cross_entropy),
    {"label_smoothing", ATTR_REAL, offsetof(struct cross_entropy, label_smoothing), "0", 0, 1, NULL,
     "how much of each target is spread over all classes"},
    {"weight", ATTR_REALS, offsetof(struct cross_entropy, weight), "", 0, 1e30, NULL,
     "weight of each class; empty: all 1"},
    {"ignore_index", ATTR_INT, offsetof(struct cross_entropy, ignore_index), "-100",
     -9007199254740992.0, 9007199254740992.0, NULL, "class index of rows that do not count"},
    {"mixed_indices", ATTR_BOOL, offsetof(struct cross_entropy, mixed_indices), "false", 0, 0, NULL,
     "probabilities are class indices, or mixtures of them: divide by the sum of their weights"},
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

/* Dimension 1, or the only one; -1: none that could be it. */
static int class_dim(const struct shape *logits)
{
    const int d = logits->rank >= 2 ? 1 : 0;
    return logits->rank == 0 || logits->dim[d] < 1 ? -1 : d;
}

bool cross_entropy_classes_shape(const struct shape *logits, struct shape *classes_r)
{
    const int d = class_dim(logits);
    if (d < 0)
        return false;
    *classes_r = *logits;
    classes_r->rank--;
    for (int i = d; i < classes_r->rank; i++)
        classes_r->dim[i] = logits->dim[i + 1];
    return true;
}

static int check_target(const struct node *n, const struct shape *classes, struct error *e)
{
    const struct node *target = n->in[1];
    const bool indices = target->dtype == DTYPE_INT64;
    struct shape_text one, all, found;
    if (shape_equal(&target->shape, indices ? classes : &n->in[0]->shape))
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: the target must be class indices (INT64) of the shape %s or "
                     "probabilities of the shape %s, not %s of the shape %s",
                     n->what, shape_print(classes, &one), shape_print(&n->in[0]->shape, &all),
                     indices ? "INT64" : "floating point", shape_print(&target->shape, &found));
}

int cross_entropy_shape(struct node *n, struct error *e)
{
    const struct cross_entropy *a = n->attrs;
    const struct shape *logits = &n->in[0]->shape;
    struct shape classes;
    struct shape_text text;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e))
        return -1;
    if (!cross_entropy_classes_shape(logits, &classes))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects logits of the shape [N, classes, ...], found %s", n->what,
                         shape_print(logits, &text));
    if (check_target(n, &classes, e))
        return -1;
    const int64_t c = logits->dim[class_dim(logits)];
    if (a->weight.n && a->weight.n != c)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'weight' must have one number for each of the %lld "
                         "classes, not %d",
                         n->what, (long long)c, a->weight.n);
    return node_set_shape(n, &(struct shape){0}, e);
}

void cross_entropy_memory(struct node *n)
{
    n->saved = n->in[0]->size; /* log softmax(x), as x */
    n->saved.fixed += 2;       /* the divisor, the loss */
}

double cross_entropy_flops(const struct node *n)
{
    return 5 * (double)(n->in[0]->size.sample + n->in[0]->size.fixed);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Row i has its class c at element first(i) + c * inner. */
struct class_rows {
    const struct cross_entropy *a;
    int64_t count, c, inner;
    double smooth;          /* of each class: label_smoothing / C */
    const int64_t *classes; /* [count], or NULL and */
    const real *targets;    /* as the logits */
};

static struct class_rows rows_of(const struct node *n, const struct run *r)
{
    const struct node *x = n->in[0];
    const int d = class_dim(&x->shape);
    struct class_rows rows = {.a = n->attrs, .c = x->shape.dim[d], .inner = 1};
    for (int i = d + 1; i < x->shape.rank; i++)
        rows.inner *= x->shape.dim[i];
    rows.count = run_count(r, x) / rows.c;
    rows.smooth = rows.a->label_smoothing / (double)rows.c;
    if (n->in[1]->dtype == DTYPE_INT64)
        rows.classes = run_in_int64(r, n, 1);
    else
        rows.targets = run_in(r, n, 1);
    return rows;
}

static int64_t row_first(const struct class_rows *rows, int64_t i)
{
    return i / rows->inner * rows->c * rows->inner + i % rows->inner;
}

static double class_weight(const struct class_rows *rows, int64_t c)
{
    return rows->a->weight.n ? rows->a->weight.v[c] : 1;
}

static double probability(const struct class_rows *rows, int64_t i, int64_t c)
{
    return (double)rows->targets[row_first(rows, i) + c * rows->inner];
}

static bool is_mixed(const struct class_rows *rows)
{
    return rows->targets && rows->a->mixed_indices;
}

/* How much of a target row i has: of mixed indices some may be ignored. */
static double row_total(const struct class_rows *rows, int64_t i)
{
    double total = 0;
    for (int64_t c = 0; is_mixed(rows) && c < rows->c; c++)
        total += probability(rows, i, c);
    return is_mixed(rows) ? total : 1;
}

static bool row_ignored(const struct class_rows *rows, int64_t i)
{
    if (rows->classes)
        return rows->classes[i] == rows->a->ignore_index;
    return is_mixed(rows) && row_total(rows, i) == 0;
}

/* What row i adds to the divisor of the mean. */
static double row_weight(const struct class_rows *rows, int64_t i)
{
    double weight = 0;
    if (rows->classes)
        return class_weight(rows, rows->classes[i]);
    for (int64_t c = 0; is_mixed(rows) && c < rows->c; c++)
        weight += class_weight(rows, c) * probability(rows, i, c);
    return is_mixed(rows) ? weight : 1;
}

/* a_c of row i, which has `total` of a target. */
static double share(const struct class_rows *rows, int64_t i, int64_t c, double total)
{
    const double rest = 1 - rows->a->label_smoothing, w = class_weight(rows, c);
    if (rows->classes)
        return (c == rows->classes[i] ? rest * w : 0) + rows->smooth * w;
    return w * (rest * probability(rows, i, c) + rows->smooth * total);
}

/* False, and the run fails, when a class index is none and not the one to ignore. */
static bool check_classes(const struct node *n, struct run *r, const struct class_rows *rows)
{
    for (int64_t i = 0; rows->classes && i < rows->count; i++) {
        const int64_t y = rows->classes[i];
        if ((y >= 0 && y < rows->c) || y == rows->a->ignore_index)
            continue;
        run_fail(r, ERROR_BAD_VALUE,
                 "%s: class index %lld at position %lld of target is outside 0..%lld", n->what,
                 (long long)y, (long long)i, (long long)(rows->c - 1));
        return false;
    }
    return true;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Writes log softmax of one row. */
static void row_log_softmax(const real *x, real *out, int64_t c, int64_t stride)
{
    real max = x[0];
    double sum = 0;
    for (int64_t k = 1; k < c; k++)
        max = x[k * stride] > max ? x[k * stride] : max;
    for (int64_t k = 0; k < c; k++)
        sum += (double)RM(exp)(x[k * stride] - max);
    const double log_sum = log(sum);
    for (int64_t k = 0; k < c; k++)
        out[k * stride] = (real)((double)x[k * stride] - (double)max - log_sum);
}

/* A class that has no share in an index target does not count, however small its softmax. */
static double row_loss(const struct class_rows *rows, int64_t i, const real *logs)
{
    const bool dense = !rows->classes || rows->a->label_smoothing > 0;
    if (!dense)
        return -share(rows, i, rows->classes[i], 1) * (double)logs[rows->classes[i] * rows->inner];
    const double total = row_total(rows, i);
    double loss = 0;
    for (int64_t c = 0; c < rows->c; c++) {
        const double a = share(rows, i, c, total);
        if (a != 0 || !is_mixed(rows))
            loss -= a * (double)logs[c * rows->inner];
    }
    return loss;
}

static void forward_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    struct loss_sum *sum = arg;
    const struct class_rows rows = rows_of(sum->n, sum->r);
    const real *x = run_in(sum->r, sum->n, 0);
    real *saved = run_saved(sum->r, sum->n);
    struct loss_part part = {0, 0};
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = row_first(&rows, i);
        if (row_ignored(&rows, i))
            continue;
        row_log_softmax(x + first, saved + first, rows.c, rows.inner);
        part.terms += row_loss(&rows, i, saved + first);
        part.weights += row_weight(&rows, i);
    }
    sum->part[begin / sum->grain] = part;
}

void cross_entropy_forward(const struct node *n, struct run *r)
{
    const struct class_rows rows = rows_of(n, r);
    if (!check_classes(n, r, &rows))
        return;
    struct loss_sum sum = {.n = n, .r = r};
    const struct loss_part total =
        loss_sum_run(&sum, rows.count, 1 + CLASSES_LEAST / rows.c, forward_rows);
    const double divisor = rows.a->reduction == REDUCE_MEAN ? total.weights : 1;
    real *saved = run_saved(r, n) + rows.count * rows.c;
    saved[0] = (real)divisor;
    saved[1] = *run_value(r, n) = (real)(total.terms / divisor);
}

/* ---- backward -------------------------------------------------------------------------------- */

static void row_gradient(const struct class_rows *rows, int64_t i, const real *logs, double scale,
                         real *dx)
{
    const bool ignored = row_ignored(rows, i);
    const double total = row_total(rows, i);
    double all = 0;
    for (int64_t c = 0; !ignored && c < rows->c; c++)
        all += share(rows, i, c, total);
    for (int64_t c = 0; c < rows->c; c++) {
        const int64_t at = c * rows->inner;
        dx[at] =
            ignored ? 0 : (real)(scale * (exp((double)logs[at]) * all - share(rows, i, c, total)));
    }
}

/* The gradient of probabilities; of mixed indices they are in the divisor, too. */
static void row_target_gradient(const struct class_rows *rows, int64_t i, const real *logs,
                                double scale, double loss, real *dt)
{
    const double rest = 1 - rows->a->label_smoothing;
    const bool mixed = is_mixed(rows), ignored = row_ignored(rows, i);
    double spread = 0;
    for (int64_t c = 0; mixed && !ignored && c < rows->c; c++)
        spread += rows->smooth * class_weight(rows, c) * (double)logs[c * rows->inner];
    for (int64_t c = 0; c < rows->c; c++) {
        const double w = class_weight(rows, c);
        const double by_mean = mixed && rows->a->reduction == REDUCE_MEAN ? loss * w : 0;
        dt[c * rows->inner] =
            ignored
                ? 0
                : (real)(-scale * (rest * w * (double)logs[c * rows->inner] + spread + by_mean));
    }
}

static void backward_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct node_run *nr = arg;
    const struct class_rows rows = rows_of(nr->n, nr->r);
    const real *saved = run_saved(nr->r, nr->n);
    const real *whole = saved + rows.count * rows.c; /* divisor, loss */
    const double scale = (double)*run_grad(nr->r, nr->n) / (double)whole[0];
    real *dx = run_grad_in(nr->r, nr->n, 0);
    real *dt = rows.targets ? run_grad_in(nr->r, nr->n, 1) : NULL;
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = row_first(&rows, i);
        if (dx)
            row_gradient(&rows, i, saved + first, scale, dx + first);
        if (dt)
            row_target_gradient(&rows, i, saved + first, scale, (double)whole[1], dt + first);
    }
}

void cross_entropy_backward(const struct node *n, struct run *r)
{
    const struct class_rows rows = rows_of(n, r);
    run_for(r, rows.count, 1 + CLASSES_LEAST / rows.c, backward_rows, &(struct node_run){n, r});
}
