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
    int64_t n, *first; /* [n + 1] */
    struct detection *at;
};
/* Runs the batch by this state and finds the objects, slice by slice; boxes are in pixels of the
 * images that the request brought, if it did. Detector and options are set before; what is found
 * lies in the request's arena. OUT_OF_MEMORY and those of snapshot_infer. In three parts, for a run
 * with others: what comes before it, the infer_fn that gets the outputs with *arg_r, what follows.
 */
int detections_begin(struct request *q, int64_t n, struct detections *d, void **arg_r,
                     struct error *e);
infer_fn detections_slice;
void detections_end(const struct request *q, struct detections *d);
int detections_find(struct request *q, const struct snapshot *s, const struct batch *b,
                    struct detections *d, struct error *e);

/* "detections":[[{"category","label","score","bbox":[x,y,width,height]},...],...] */
void detections_write(struct json_out *w, const json_t *description, const struct detections *d);
/* The one image of the request with its boxes drawn. */
int detections_draw(struct request *q, const json_t *description, const struct detections *d);

#endif
