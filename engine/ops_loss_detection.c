/* ops_loss_detection.c: yolo_detection, the loss of anchor-free detectors, as Ultralytics' YOLOv8
 * computes it. Inputs are the maps of the strides and the target [N, max_boxes, 5]. Forward assigns
 * objects to anchors (detect_assign.c), which is saved, and sums the terms of each image
 * (detect_terms.c); both go image by image on the pool, and images are added in their order. The
 * assignment, its scores and the alpha of CIoU are constants to backward, as in Ultralytics. */
#include "detection.h"
#include "ops_loss.h"

#include "channels.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { SUMS = sizeof(struct detection_terms) / sizeof(double) };

const struct attr_def yolo_attrs[] = {
    {"strides", ATTR_INTS, offsetof(struct yolo, strides), "", 1, 4096, NULL,
     "pixels of the image a cell of each map; 8, 16, 32, ... when left out"},
    {"reg_max", ATTR_INT, offsetof(struct yolo, reg_max), "16", 2, DETECTION_MAX_BINS, NULL,
     "bins of the distribution of each side's distance"},
    {"box", ATTR_REAL, offsetof(struct yolo, box), "7.5", 0, 1e6, NULL, "gain of the CIoU loss"},
    {"cls", ATTR_REAL, offsetof(struct yolo, cls), "0.5", 0, 1e6, NULL, "gain of the class loss"},
    {"dfl", ATTR_REAL, offsetof(struct yolo, dfl), "1.5", 0, 1e6, NULL,
     "gain of the distribution focal loss"},
    {"topk", ATTR_INT, offsetof(struct yolo, topk), "10", 1, 128, NULL,
     "anchors that an object chooses"},
    {"alpha", ATTR_REAL, offsetof(struct yolo, alpha), "0.5", 0, 100, NULL,
     "exponent of the class's probability in the alignment"},
    {"beta", ATTR_REAL, offsetof(struct yolo, beta), "6.0", 0, 100, NULL,
     "exponent of the CIoU in the alignment"},
    {"reduction", ATTR_CHOICE, offsetof(struct yolo, reduction), "mean", 0, 0, "mean|sum",
     "sum: the loss is multiplied by the number of images, as Ultralytics' trainer does"},
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

static int64_t yolo_stride(const struct yolo *a, int k)
{
    return a->strides.n ? a->strides.v[k] : (int64_t)8 << k;
}

static int check_map(const struct node *n, int k, struct error *e)
{
    const struct yolo *a = n->attrs;
    const int64_t *d = n->in[k]->shape.dim, *first = n->in[0]->shape.dim;
    struct shape_text text;
    if (node_check_rank(n, k, 4, 4, e))
        return -1;
    if (d[0] != BATCH || d[1] <= 4 * a->reg_max || d[1] != first[1])
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: map %d must be [N, 4 * reg_max + classes, h, w], more than %lld "
                         "channels and as many as map 0, not %s",
                         n->what, k, (long long)(4 * a->reg_max),
                         shape_print(&n->in[k]->shape, &text));
    if (d[2] > 1 << 16 || d[3] > 1 << 16)
        return error_set(e, ERROR_TOO_LARGE, "%s: map %d has more than 65536 cells a side: %s",
                         n->what, k, shape_print(&n->in[k]->shape, &text));
    if (d[2] * yolo_stride(a, k) != first[2] * yolo_stride(a, 0) ||
        d[3] * yolo_stride(a, k) != first[3] * yolo_stride(a, 0))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: map %d is %lld x %lld cells of %lld pixels, map 0 %lld x %lld of "
                         "%lld: these are not the same image",
                         n->what, k, (long long)d[2], (long long)d[3], (long long)yolo_stride(a, k),
                         (long long)first[2], (long long)first[3], (long long)yolo_stride(a, 0));
    return 0;
}

static int check_target(const struct node *n, struct error *e)
{
    const int target = n->n_data - 1;
    const struct shape *s = &n->in[target]->shape;
    struct shape_text text;
    if (node_check_rank(n, target, 3, 3, e))
        return -1;
    if (s->dim[0] == BATCH && s->dim[2] == 5 && s->dim[1] <= 1 << 20)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: the target must be [N, max_boxes, 5], rows (class, cx, cy, w, h), not %s",
                     n->what, shape_print(s, &text));
}

int yolo_shape(struct node *n, struct error *e)
{
    const struct yolo *a = n->attrs;
    const int maps = n->n_data - 1;
    if (a->strides.n && a->strides.n != maps)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: expects a stride for each of the %d maps, "
                         "found %d",
                         n->what, maps, a->strides.n);
    for (int k = 0; k < maps; k++)
        if (check_map(n, k, e))
            return -1;
    return check_target(n, e) ? -1 : node_set_shape(n, &(struct shape){0}, e);
}

static struct detection_grid grid_of(const struct node *n)
{
    const struct yolo *a = n->attrs;
    const int64_t *first = n->in[0]->shape.dim;
    struct detection_grid g = {.n_levels = n->n_data - 1,
                               .reg_max = a->reg_max,
                               .classes = first[1] - 4 * a->reg_max,
                               .width = first[3] * yolo_stride(a, 0),
                               .height = first[2] * yolo_stride(a, 0)};
    for (int k = 0; k < g.n_levels; k++) {
        const int64_t *d = n->in[k]->shape.dim;
        g.level[k] = (struct detection_level){d[2], d[3], yolo_stride(a, k), g.anchors};
        g.anchors += d[2] * d[3];
    }
    return g;
}

bool node_detection(const struct node *n, struct detection_spec *spec_r)
{
    if (!(n->op->flags & OP_TARGET_BOXES))
        return false;
    const struct detection_grid g = grid_of(n);
    *spec_r = (struct detection_spec){.n_maps = g.n_levels,
                                      .reg_max = g.reg_max,
                                      .classes = g.classes,
                                      .width = g.width,
                                      .height = g.height};
    for (int k = 0; k < g.n_levels; k++)
        spec_r->stride[k] = g.level[k].stride;
    return true;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Saved: the divisor as a double, then object, score and alpha of all anchors, image by image. */
void yolo_memory(struct node *n)
{
    const struct detection_grid g = grid_of(n);
    const int64_t max_boxes = n->in[n->n_data - 1]->shape.dim[1];
    n->saved = (struct extent){3 * g.anchors, doubles_as_reals(1)};
    n->work.sample = doubles_as_reals(SUMS);
    n->work_backward.fixed = 1;
    n->scratch = doubles_as_reals(detection_assign_room(&g, max_boxes));
}

/* What the functions that go over images share. */
struct yolo_run {
    const struct node *n;
    struct run *r;
    struct detection_grid grid;
    const real *target;
    int64_t max_boxes;
    struct detection_gains gains;
};

static struct yolo_run yolo_run(const struct node *n, struct run *r)
{
    const int target = n->n_data - 1;
    return (struct yolo_run){.n = n,
                             .r = r,
                             .grid = grid_of(n),
                             .target = run_in(r, n, target),
                             .max_boxes = n->in[target]->shape.dim[1]};
}

static int64_t map_numbers(const struct yolo_run *y, int k)
{
    const struct detection_level *l = &y->grid.level[k];
    return l->h * l->w * (4 * y->grid.reg_max + y->grid.classes);
}

static struct detection_maps image_maps(const struct yolo_run *y, int64_t i)
{
    struct detection_maps m = {.grid = &y->grid};
    for (int k = 0; k < y->grid.n_levels; k++)
        m.map[k] = run_in(y->r, y->n, k) + i * map_numbers(y, k);
    return m;
}

static struct assigned image_assigned(const struct yolo_run *y, int64_t i)
{
    const int64_t anchors = y->grid.anchors;
    real *first = run_saved(y->r, y->n) + doubles_as_reals(1) + i * 3 * anchors;
    return (struct assigned){first, first + anchors, first + 2 * anchors};
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Before the images are handed out: rows that are no object are refused. */
static bool check_rows(const struct yolo_run *y)
{
    for (int64_t i = 0; i < y->r->args.n * y->max_boxes; i++) {
        const real *row = y->target + 5 * i;
        const double category = (double)row[0], w = (double)row[3], h = (double)row[4];
        const char *wrong = NULL;
        if (category < 0)
            continue;
        if (!(category < (double)y->grid.classes) || category != floor(category))
            wrong = "its class is none of the model's";
        else if (!isfinite((double)row[1]) || !isfinite((double)row[2]))
            wrong = "its centre is not finite";
        else if (!(w > 0 && h > 0 && isfinite(w) && isfinite(h)))
            wrong = "its width and height must be above 0";
        if (!wrong)
            continue;
        run_fail(y->r, ERROR_BAD_VALUE,
                 "target: box %lld of image %lld is (%g, %g, %g, %g, %g): %s (class, cx, cy, w, h; "
                 "%lld classes)",
                 (long long)(i % y->max_boxes), (long long)(i / y->max_boxes), category,
                 (double)row[1], (double)row[2], w, h, wrong, (long long)y->grid.classes);
        return false;
    }
    return true;
}

static void forward_images(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct yolo_run *y = arg;
    const struct yolo *a = y->n->attrs;
    const struct assigner t = {a->topk, a->alpha, a->beta};
    for (int64_t i = begin; i < end; i++) {
        const struct detection_maps m = image_maps(y, i);
        const struct assigned assigned = image_assigned(y, i);
        const real *rows = y->target + i * y->max_boxes * 5;
        detection_assign(&t, &m, rows, y->max_boxes, (double *)(void *)run_scratch(y->r, worker),
                         &assigned);
        const struct detection_terms terms = detection_terms(&m, rows, &assigned);
        memcpy(run_work(y->r, y->n) + i * doubles_as_reals(SUMS), &terms, sizeof terms);
    }
}

void yolo_forward(const struct node *n, struct run *r)
{
    const struct yolo *a = n->attrs;
    struct yolo_run y = yolo_run(n, r);
    struct detection_terms sum = {0};
    if (!check_rows(&y))
        return;
    run_for(r, r->args.n, 1, forward_images, &y);
    for (int64_t i = 0; i < r->args.n; i++) {
        struct detection_terms t;
        memcpy(&t, run_work(r, n) + i * doubles_as_reals(SUMS), sizeof t);
        sum.box += t.box;
        sum.cls += t.cls;
        sum.dfl += t.dfl;
        sum.score += t.score;
    }
    const double divisor = sum.score < 1 ? 1 : sum.score;
    const double box = a->box * sum.box / divisor, cls = a->cls * sum.cls / divisor;
    const double dfl = a->dfl * sum.dfl / divisor, total = box + cls + dfl;
    memcpy(run_saved(r, n), &divisor, sizeof divisor);
    *run_value(r, n) = (real)(a->reduction == REDUCE_SUM ? total * (double)r->args.n : total);
    run_report(r, "box_loss", box);
    run_report(r, "cls_loss", cls);
    run_report(r, "dfl_loss", dfl);
}

/* ---- backward -------------------------------------------------------------------------------- */

static void backward_images(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct yolo_run *y = arg;
    for (int64_t i = begin; i < end; i++) {
        const struct detection_maps m = image_maps(y, i);
        const struct assigned assigned = image_assigned(y, i);
        real *slope[DETECTION_MAX_LEVELS];
        for (int k = 0; k < y->grid.n_levels; k++) {
            real *whole = run_grad_in(y->r, y->n, k);
            slope[k] = whole ? whole + i * map_numbers(y, k) : NULL;
        }
        detection_slopes(&m, y->target + i * y->max_boxes * 5, &assigned, &y->gains, slope);
    }
}

void yolo_backward(const struct node *n, struct run *r)
{
    const struct yolo *a = n->attrs;
    struct yolo_run y = yolo_run(n, r);
    real *target = run_grad_in(r, n, n->n_data - 1);
    double divisor, scale = (double)*run_grad(r, n);
    memcpy(&divisor, run_saved(r, n), sizeof divisor);
    scale *= (a->reduction == REDUCE_SUM ? (double)r->args.n : 1) / divisor;
    y.gains = (struct detection_gains){scale * a->box, scale * a->cls, scale * a->dfl};
    run_for(r, r->args.n, 1, backward_images, &y);
    if (target) /* a constant, too */
        memset(target, 0, (size_t)run_count(r, n->in[n->n_data - 1]) * sizeof *target);
}

/* About five operations for each logit, forward. */
double yolo_flops(const struct node *n)
{
    const struct detection_grid g = grid_of(n);
    return 5 * (double)g.anchors * (double)(4 * g.reg_max + g.classes);
}
