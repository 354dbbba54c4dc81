/* api_detections.h: what a detector's answers are made of: its boxes, found in the outputs of a
 * prediction. */
#ifndef BACKPROPD_API_DETECTIONS_H
#define BACKPROPD_API_DETECTIONS_H

#include "api.h"
#include "detect.h"

/* A network whose loss is a detector's, with all the maps that the loss takes among its outputs. */
struct detector {
    struct detection_spec spec;
    int output[DETECTION_MAX_LEVELS]; /* place of each map among the network's outputs */
    const struct node *target;
    unsigned bits; /* of those outputs */
};
/* False: the network is none. */
bool detector_find(const struct network *net, struct detector *d_r);

/* parameters.conf, .iou and .max_det over the fallbacks that are in *o. BAD_TYPE, BAD_VALUE. */
int detect_options_read(const struct request *q, struct detect_options *o, struct error *e);

/* Found in n images: those of image i are at[first[i]] to at[first[i + 1] - 1]. */
struct detections {
    const struct detector *detector;
    struct detect_options options;
    struct arena *arena;
    int64_t n;
    int64_t *first; /* [n + 1] */
    struct detection *at;
};
/* `maps`: each map of all n images, in the order of detector.output. OUT_OF_MEMORY. */
int detections_find(struct detections *d, struct pool *pool, const real *const *maps, int64_t n,
                    struct error *e);

/* To the coordinates of the images that the request brought, if it did. */
void detections_unfit(const struct request *q, struct detections *d);

/* "detections":[[{"category","label","score","bbox":[x,y,width,height]},...],...] */
void detections_write(struct json_out *w, const json_t *description, const struct detections *d);
/* The one image of the request with its boxes drawn. */
int detections_draw(struct request *q, const json_t *description, const struct detections *d);

#endif
