/* ops_loss.c: losses that compare number by number, and the table of all losses. A loss takes a
 * prediction and a target of its shape, never broadcast, and gives a scalar. */
#include "ops_loss.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LOSS_LEAST = 4096 }; /* terms that are worth a chunk */

struct loss_part loss_sum_run(struct loss_sum *sum, int64_t count, int64_t least, pool_fn *f)
{
    const int64_t even = (count + LOSS_CHUNKS - 1) / LOSS_CHUNKS;
    struct loss_part total = {0, 0};
    sum->grain = even > least ? even : least;
    run_for(sum->r, count, sum->grain, f, sum);
    for (int64_t i = 0; i * sum->grain < count; i++) {
        total.terms += sum->part[i].terms;
        total.weights += sum->part[i].weights;
    }
    return total;
}

int loss_same_shape(struct node *n, struct error *e)
{
    struct shape_text prediction, target;
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e) || node_check_rank(n, 1, 0, SHAPE_MAX_RANK, e))
        return -1;
    if (!shape_equal(&n->in[0]->shape, &n->in[1]->shape))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: the target must have the prediction's shape %s, not %s", n->what,
                         shape_print(&n->in[0]->shape, &prediction),
                         shape_print(&n->in[1]->shape, &target));
    return node_set_shape(n, &(struct shape){0}, e);
}

double loss_term_count(const struct node *n)
{
    return (double)(n->in[0]->size.sample + n->in[0]->size.fixed);
}

void loss_pointwise_forward(const struct node *n, struct run *r, int reduction, pool_fn *f)
{
    struct loss_sum sum = {.n = n, .r = r};
    const int64_t count = run_count(r, n->in[0]);
    const double total = loss_sum_run(&sum, count, LOSS_LEAST, f).terms;
    *run_value(r, n) = (real)(reduction == REDUCE_MEAN ? total / (double)count : total);
}

double loss_pointwise_scale(const struct node *n, const struct run *r, int reduction)
{
    const double upstream = (double)*run_grad(r, n);
    return reduction == REDUCE_MEAN ? upstream / (double)run_count(r, n->in[0]) : upstream;
}

void loss_pointwise_backward(const struct node *n, struct run *r, pool_fn *f)
{
    run_for(r, run_count(r, n->in[0]), LOSS_LEAST, f, &(struct node_run){n, r});
}

/* ---- losses of the difference d = prediction - target ---------------------------------------- */

struct regression {
    int reduction;
    double delta; /* huber's */
};

static const struct attr_def regression_attrs[] = {
    LOSS_REDUCTION(struct regression),
    {0},
};

typedef double regression_fn(const struct regression *a, double d);

/* Inlined once for each loss, with its term or slope. */
LOSS_INLINE void regression_sum(struct loss_sum *sum, int64_t begin, int64_t end,
                                regression_fn *term)
{
    const real *x = run_in(sum->r, sum->n, 0), *t = run_in(sum->r, sum->n, 1);
    const struct regression a = *(const struct regression *)sum->n->attrs;
    double total = 0;
    for (int64_t i = begin; i < end; i++)
        total += term(&a, (double)x[i] - (double)t[i]);
    sum->part[begin / sum->grain].terms = total;
}

LOSS_INLINE void regression_slopes(const struct node_run *nr, int64_t begin, int64_t end,
                                   regression_fn *slope)
{
    const struct regression a = *(const struct regression *)nr->n->attrs;
    const double scale = loss_pointwise_scale(nr->n, nr->r, a.reduction);
    const real *x = run_in(nr->r, nr->n, 0), *t = run_in(nr->r, nr->n, 1);
    real *dx = run_grad_in(nr->r, nr->n, 0), *dt = run_grad_in(nr->r, nr->n, 1);
    for (int64_t i = begin; i < end; i++) {
        const real d = (real)(scale * slope(&a, (double)x[i] - (double)t[i]));
        if (dx)
            dx[i] = d;
        if (dt)
            dt[i] = -d;
    }
}

static void regression_forward(const struct node *n, struct run *r, pool_fn *f)
{
    loss_pointwise_forward(n, r, ((const struct regression *)n->attrs)->reduction, f);
}

static double regression_flops(const struct node *n)
{
    return 3 * loss_term_count(n);
}

LOSS_INLINE double mse_term(const struct regression *a, double d)
{
    (void)a;
    return d * d;
}

LOSS_INLINE double mse_slope(const struct regression *a, double d)
{
    (void)a;
    return 2 * d;
}

static void mse_sum(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    regression_sum(arg, begin, end, mse_term);
}

static void mse_slopes(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    regression_slopes(arg, begin, end, mse_slope);
}

static void mse_forward(const struct node *n, struct run *r)
{
    regression_forward(n, r, mse_sum);
}

static void mse_backward(const struct node *n, struct run *r)
{
    loss_pointwise_backward(n, r, mse_slopes);
}

LOSS_INLINE double l1_term(const struct regression *a, double d)
{
    (void)a;
    return fabs(d);
}

/* 0 at 0; not a number stays one. */
LOSS_INLINE double l1_slope(const struct regression *a, double d)
{
    (void)a;
    return d > 0 ? 1 : d < 0 ? -1 : d;
}

static void l1_sum(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    regression_sum(arg, begin, end, l1_term);
}

static void l1_slopes(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    regression_slopes(arg, begin, end, l1_slope);
}

static void l1_forward(const struct node *n, struct run *r)
{
    regression_forward(n, r, l1_sum);
}

static void l1_backward(const struct node *n, struct run *r)
{
    loss_pointwise_backward(n, r, l1_slopes);
}

static const struct attr_def huber_attrs[] = {
    LOSS_REDUCTION(struct regression),
    {"delta", ATTR_REAL, offsetof(struct regression, delta), "1.0", 1e-30, 1e30, NULL,
     "difference at which the square turns into a line"},
    {0},
};

LOSS_INLINE double huber_term(const struct regression *a, double d)
{
    const double size = fabs(d);
    return size < a->delta ? 0.5 * d * d : a->delta * (size - 0.5 * a->delta);
}

LOSS_INLINE double huber_slope(const struct regression *a, double d)
{
    return d >= a->delta ? a->delta : d <= -a->delta ? -a->delta : d;
}

static void huber_sum(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    regression_sum(arg, begin, end, huber_term);
}

static void huber_slopes(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    regression_slopes(arg, begin, end, huber_slope);
}

static void huber_forward(const struct node *n, struct run *r)
{
    regression_forward(n, r, huber_sum);
}

static void huber_backward(const struct node *n, struct run *r)
{
    loss_pointwise_backward(n, r, huber_slopes);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct op ops_loss[] = {
    {"cross_entropy", "loss", 2, 2, cross_entropy_attrs, sizeof(struct cross_entropy), NULL,
     cross_entropy_shape, cross_entropy_memory, cross_entropy_forward, cross_entropy_backward,
     cross_entropy_flops, OP_LOSS | OP_TARGET_CLASSES | OP_KEEPS_IN,
     "Nx5 N:classes=5; Nx5 N:classes=5 label_smoothing=0.1 reduction=sum; "
     "Nx4x3 Nx3:classes=4 ignore_index=1 weight=0.5,1,2,1.5; "
     "Nx3x2x2 Nx2x2:classes=3 ignore_index=0 label_smoothing=0.3; "
     "Nx3x4 Nx4:classes=3 ignore_index=2 label_smoothing=0.2 weight=2,0,0.7; "
     "Nx5 Nx5:probabilities; Nx3x2 Nx3x2:probabilities label_smoothing=0.1 weight=0.5,1,2; "
     "Nx4 Nx4:probabilities reduction=sum; "
     "Nx3x2 Nx3x2:probabilities label_smoothing=0.1 weight=0.5,1,2 mixed_indices=true; "
     "Nx4 Nx4:probabilities weight=0.5,1,2,3 mixed_indices=true reduction=sum; 5 scalar:classes=5; "
     "4x3 4:classes=3",
     "-log softmax(x)[target], or -sum(target * log softmax(x)), over dimension 1"},
    {"bce_with_logits", "loss", 2, 2, bce_attrs, sizeof(struct bce), NULL, bce_shape, NULL,
     bce_forward, bce_backward, bce_flops, OP_LOSS | OP_KEEPS_IN,
     "Nx3 Nx3:binary; Nx3 Nx3:positive pos_weight=0.5,1,3 weight=2,1,0.3; "
     "Nx2x2 Nx2x2:binary pos_weight=2.5 reduction=sum; N N:binary; 4 4 weight=0.5",
     "-(t log sigmoid(x) + (1 - t) log(1 - sigmoid(x)))"},
    {"mse", "loss", 2, 2, regression_attrs, sizeof(struct regression), NULL, loss_same_shape, NULL,
     mse_forward, mse_backward, regression_flops, OP_LOSS | OP_KEEPS_IN,
     "Nx3 Nx3; Nx2x3 Nx2x3 reduction=sum; N N; 4 4; scalar scalar", "(x - t)^2"},
    {"l1", "loss", 2, 2, regression_attrs, sizeof(struct regression), NULL, loss_same_shape, NULL,
     l1_forward, l1_backward, regression_flops, OP_LOSS | OP_KEEPS_IN,
     "Nx3:spread Nx3:positive; Nx2x5:spread Nx2x5:positive reduction=sum", "|x - t|"},
    {"huber", "loss", 2, 2, huber_attrs, sizeof(struct regression), NULL, loss_same_shape, NULL,
     huber_forward, huber_backward, regression_flops, OP_LOSS | OP_KEEPS_IN,
     "Nx3:spread Nx3:positive; Nx4x5:spread Nx4x5 delta=0.3; Nx3:spread Nx3 reduction=sum "
     "delta=0.7",
     "(x - t)^2 / 2 where |x - t| < delta, else delta (|x - t| - delta / 2)"},
    {"yolo_detection", "loss", 2, DETECTION_MAX_LEVELS + 1, yolo_attrs, sizeof(struct yolo), NULL,
     yolo_shape, yolo_memory, yolo_forward, yolo_backward, yolo_flops,
     OP_LOSS | OP_TARGET_BOXES | OP_DETACHES | OP_LAYOUT_LAST | OP_KEEPS_IN,
     "Nx35x8x8 Nx35x4x4 Nx6x5:boxes=3 reg_max=8 topk=4; Nx18x6x4 Nx4x5:boxes=2 reg_max=4 "
     "strides=[16] reduction=sum; Nx10x5x5 Nx10x3x3 Nx10x2x2 Nx3x5:boxes=2 reg_max=2 "
     "strides=6,10,15",
     "(7.5 sum of s (1 - CIoU) + 0.5 sum of BCE(x, s) + 1.5 sum of s DFL) / sum of s; s: alignment "
     "of anchors with objects"},
    {0},
};

enum { DETECTION_BOXES = 100 }; /* objects an image, unless the target's shape says otherwise */

/* ---- what target a loss wants ---------------------------------------------------------------- */

/* All tables of losses. */
static const struct op *const tables[] = {ops_loss,        ops_loss_pairs,   ops_loss_rows,
                                          ops_loss_margin, ops_loss_vectors, ops_loss_ctc};
enum { TABLES = sizeof tables / sizeof tables[0] };

/* "cross_entropy, mse, ...", cut where `size` ends. */
static void print_losses(char *text, size_t size)
{
    size_t used = 0;
    for (int t = 0; t < TABLES; t++)
        for (const struct op *op = tables[t]; op->name && used < size; op++)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", op->name);
}

static const struct op *loss_find(const char *name, struct error *e)
{
    struct nearest near = {.given = name};
    for (int t = 0; t < TABLES; t++)
        for (const struct op *op = tables[t]; op->name; op++) {
            if (strcmp(op->name, name) == 0)
                return op;
            nearest_offer(&near, op->name);
        }
    char names[400] = "";
    if (!near.best)
        print_losses(names, sizeof names);
    error_set(e, ERROR_UNKNOWN_OPERATOR, "no loss '%.60s'; %s%s%s", name,
              near.best ? "did you mean '" : "there are ", near.best ? near.best : names,
              near.best ? "'?" : "");
    return NULL;
}

int loss_target(const char *op, const struct shape *prediction, enum dtype *dtype_r,
                struct shape *shape_r, struct error *e)
{
    const struct op *loss = loss_find(op, e);
    struct shape_text text;
    if (!loss)
        return -1;
    if (loss->flags & OP_TARGET_BOXES) {
        *dtype_r = DTYPE_REAL;
        *shape_r = SHAPE(BATCH, DETECTION_BOXES, 5);
        return 0;
    }
    if (loss->flags & OP_TARGET_LABELS) {
        *dtype_r = DTYPE_INT64;
        *shape_r = *prediction;
        shape_r->rank = prediction->rank < 2 ? prediction->rank : 2;
        return 0;
    }
    const bool classes = loss->flags & OP_TARGET_CLASSES;
    *dtype_r = classes ? DTYPE_INT64 : DTYPE_REAL;
    *shape_r = *prediction;
    shape_r->rank -= (loss->flags & OP_TARGET_ROWS) && prediction->rank > 0;
    if (classes && !cross_entropy_classes_shape(prediction, shape_r))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects a prediction of the shape [N, classes, ...], found %s", op,
                         shape_print(prediction, &text));
    return 0;
}
