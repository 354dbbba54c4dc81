/* detect.h: from the maps of a detector to boxes: plain arrays in, boxes out. Knows nothing of
 * JSON, requests and models. Any thread may call. */
#ifndef BACKPROPD_DETECT_H
#define BACKPROPD_DETECT_H

#include "backprop.h"

/* An object that was found; corners in pixels of the network's image. */
struct detection {
    double x1, y1, x2, y2;
    double score; /* probability of the category */
    int64_t category;
};

/* Ultralytics' names and meanings. */
struct detect_options {
    double conf;     /* lowest score */
    double iou;      /* a box that overlaps a better one of its category by more is dropped */
    int64_t max_det; /* boxes of an image */
};

/* The maps of one image, each [4 * reg_max + classes][h][w]. */
struct detect_maps {
    const struct detection_spec *spec;
    const real *map[DETECTION_MAX_LEVELS];
};

/* Anchors of the maps: the room that detections of one image need. */
int64_t detect_anchors(const struct detection_spec *spec);

/* The box of every anchor whose most probable class has at least the score `conf`, anchor by
 * anchor, cut at the image's edges. Anchors with numbers that are not finite find nothing. Gives
 * the count. */
int64_t detect_decode(const struct detect_maps *m, double conf, struct detection *out);

/* Non-maximum suppression within each category, in place: sorts by falling score (equal scores stay
 * in their order), keeps the first of boxes that overlap, at most max_det. Gives the count. `room`
 * has place for n. */
int64_t detect_nms(struct detection *d, int64_t n, const struct detect_options *o,
                   struct detection *room);

#endif
