/* detection.h: what an anchor-free detector's maps say, for the loss and for reading predictions.
 *
 * A detector gives one map a stride, [reg_max * 4 + classes][h][w]. Each cell of a map is an anchor
 * point, the middle of the cell. Its first 4 * reg_max numbers are logits of the distances from the
 * point to the left, top, right and bottom edge of its box, counted in cells: the distance is the
 * expectation over 0, 1, ..., reg_max - 1 (distribution focal loss, Li et al. 2020). The rest are
 * the logits of the classes.
 *
 * Anchors are numbered map by map, row by row. Here maps are channels-last: the numbers of an
 * anchor follow each other. Arithmetic is in double. Any thread may call. */
#ifndef BACKPROP_DETECTION_H
#define BACKPROP_DETECTION_H

#include "backprop.h"

enum { DETECTION_MAX_BINS = 64 };

/* The corners of a box; in pixels of the network's image, or in cells where said. */
struct box {
    double x1, y1, x2, y2;
};

/* Complete IoU (Zheng et al. 2020) of a with b, in its parts: iou - distance - alpha * v, with the
 * epsilons of Ultralytics. alpha weighs the aspect ratio and counts as a constant in gradients. */
struct ciou {
    double iou, distance, v, alpha;
};
struct ciou box_ciou(const struct box *a, const struct box *b);
static inline double ciou_value(const struct ciou *c)
{
    return c->iou - c->distance - c->alpha * c->v;
}
/* Its gradient with respect to the corners of a. */
struct box box_ciou_slope(const struct box *a, const struct box *b, double alpha);

/* softmax of `n` logits into p; the expectation of 0, 1, ..., n - 1 under it. */
double bins_expectation(const real *logits, int64_t n, double *p);

/* The maps of one image, and where its anchors are. */
struct detection_level {
    int64_t h, w, stride;
    int64_t first; /* number of its first anchor */
};
struct detection_grid {
    struct detection_level level[DETECTION_MAX_LEVELS];
    int n_levels;
    int64_t reg_max, classes, anchors;
    int64_t width, height; /* of the network's image, pixels */
};
struct detection_maps {
    const struct detection_grid *grid;
    const real *map[DETECTION_MAX_LEVELS]; /* [h][w][4 * reg_max + classes] */
};

/* An anchor of an image: its numbers, and its point in cells. */
struct anchor {
    const real *logits;
    double x, y, stride;
};
struct anchor detection_anchor(const struct detection_maps *m, int64_t i);
/* The box that its logits say, in cells. */
struct box anchor_box(const struct anchor *a, int64_t reg_max);

/* An object: a row (class, cx, cy, w, h) of the target, normalised by the image. */
struct truth {
    int64_t category; /* -1: none, padding */
    struct box box;   /* pixels */
};
struct truth detection_truth(const struct detection_grid *g, const real row[5]);

/* Task-aligned assignment (Feng et al. 2021) of the objects of one image to its anchors. An
 * anchor may serve an object when its point lies inside. Its alignment is p^alpha * ciou^beta,
 * where p is what it says of the object's class. The topk best aligned anchors of an object serve
 * it; one that would serve several serves that with the highest CIoU. The target of its class is
 * its alignment, scaled so that an object's best anchor gets the object's best CIoU. */
struct assigner {
    int64_t topk;
    double alpha, beta;
};
struct assigned { /* each [anchors] */
    real *object; /* row of the target, -1: none */
    real *score;  /* target of its class; 0 where there is no object */
    real *alpha;  /* of the CIoU of its box with the object's */
};
/* `rows` is the image's target [max_boxes][5], checked before. `room` holds what
 * detection_assign_room says, in doubles. Where predictions are NaN, so are scores. */
void detection_assign(const struct assigner *t, const struct detection_maps *m, const real *rows,
                      int64_t max_boxes, double *room, const struct assigned *out);
int64_t detection_assign_room(const struct detection_grid *g, int64_t max_boxes);

/* Sums over the anchors of one image, before gains and the division by all images' scores. */
struct detection_terms {
    double box, cls, dfl, score;
};
struct detection_terms detection_terms(const struct detection_maps *m, const real *rows,
                                       const struct assigned *a);

/* The gradient of box * terms.box + cls * terms.cls + dfl * terms.dfl, with the assignment held
 * constant, written to the numbers of anchors [begin, end): slope[level] is laid out as the map. */
struct detection_gains {
    double box, cls, dfl;
};
void detection_slopes(const struct detection_maps *m, const real *rows, const struct assigned *a,
                      const struct detection_gains *gains, real *const *slope);

#endif
