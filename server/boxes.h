/* boxes.h: objects of images on the wire, as targets of a detector:
 *
 *   {"name":"boxes","boxes":[[{"category":1,"bbox":[x,y,width,height]}, ...], ...]}
 *
 * one list an image. `category` is an index of `labels` or one of them; `bbox` is in pixels of the
 * image as it was sent, of the network's image when numbers were sent. With "format":"cxcywhn" it
 * is centre and size as shares of the image. Objects with "iscrowd":1 are no targets of training.
 */
#ifndef BACKPROPD_BOXES_H
#define BACKPROPD_BOXES_H

#include "api.h"

/* The loss of the network that takes this target, if it is a detector's; NULL: it is not. */
const struct node *boxes_loss(const struct network *net, const struct node *target,
                              struct detection_spec *spec_r);

/* An object as it was sent: x, y, width, height in pixels of the image as it was sent, or of the
 * network's when numbers were. */
struct sent_box {
    int64_t category;
    double bbox[4], area; /* width * height unless it was given */
    bool crowd;
};
/* Those of image i are at[first[i]] to at[first[i + 1] - 1]. In the request's arena. */
struct sent_boxes {
    struct detection_spec spec;
    int64_t n, *first; /* [n + 1] */
    struct sent_box *at;
};
/* Reads a tensor that has `boxes`. Inputs were read before: q->fits has the sizes of the images.
 * BAD_TYPE, UNKNOWN_FIELD, MISSING_FIELD, BAD_VALUE, BAD_SHAPE, EMPTY_BATCH, OUT_OF_MEMORY, which
 * name the entry. */
int boxes_read_sent(struct request *q, const struct network *net, const struct node *target,
                    const struct tensor *t, struct sent_boxes *sent_r, struct error *e);

/* The same as rows [n, max_boxes, 5] of (class, cx, cy, w, h), as the target of a detector wants
 * them: where the network sees them, cut at its edges. */
int boxes_read(struct request *q, const struct network *net, const struct node *target,
               const struct tensor *t, const void **rows_r, int64_t *n_r, struct error *e);

#endif
