/* backprop_augment.h: augmentation: training images, and with them boxes and soft targets,
 * changed at random. Part of backprop.h, which says what these objects mean. */
#ifndef BACKPROP_PUBLIC_AUGMENT_H
#define BACKPROP_PUBLIC_AUGMENT_H

#include "backprop_optimizer.h"
#include "backprop_run.h"

/* ---- augmentation: training images, and with them boxes and soft targets, changed at random -- */

enum { NETWORK_MAX_IO = 16 }; /* inputs, targets, outputs or losses of a network */
enum { NETWORK_MAX_GROUPS = 16 };

/* A table of augmentations, like that of operators, under the names of Ultralytics and torchvision.
 * What a batch becomes depends on the batch and on (seed, draw), not on threads. */
struct augment_info {
    struct optimizer_info row; /* name, doc, attributes */
    const char *kind;          /* "geometric", "color" or "mixing" */
};
bool augment_info_at(int i, struct augment_info *info_r);

struct augment; /* a list of rows and their attributes, applied in order. Read-only once made */
struct augment *augment_create(struct error *e);
void augment_destroy(struct augment **a);
/* Appends a row. UNKNOWN_OPERATOR, BAD_ATTRIBUTE, TOO_LARGE (more than 32 rows). */
int augment_add(struct augment *a, const char *name, const struct attr *attrs, int n,
                struct error *e);
/* Whether a row mixes samples so that class indices will not do as targets: mixup, cutmix. */
bool augment_mixes(const struct augment *a);
/* Whether a row moves pixels, and pixel-wise targets would have to move with them. */
bool augment_moves(const struct augment *a);
/* Whether images of [c, h, w] can be augmented: some rows want three channels, or `boxes` as
 * targets. BAD_SHAPE, BAD_GRAPH. */
int augment_check(const struct augment *a, int64_t c, int64_t h, int64_t w, bool boxes,
                  struct error *e);

/* A batch and where its augmented form goes; nothing is modified in place. */
struct augment_batch {
    int64_t n, c, h, w;
    const real *images; /* [n,c,h,w]; colour rows want values in 0..1 */
    real *images_out;
    int64_t max_boxes;
    const real *boxes; /* [n,max_boxes,5]: class, cx, cy, w, h in 0..1 of the image; class -1: none.
                          NULL: no boxes */
    real *boxes_out;
    struct { /* targets that are mixed with their images, such as probabilities */
        const real *data;
        real *out;     /* [n,count] */
        int64_t count; /* of one sample */
    } soft[NETWORK_MAX_IO];
    int n_soft;
    uint64_t seed, draw;
};

/* Bytes of work memory for batches of up to `n` samples like `b`, on `threads` threads. TOO_LARGE.
 */
int augment_work_bytes(const struct augment *a, const struct augment_batch *b, int64_t n,
                       int threads, size_t *bytes_r, struct error *e);
/* Allocates nothing; writes the outputs and `work`, which is aligned as malloc does. -1 and
 * BAD_VALUE when colour rows find values outside of 0..1. Threads: several calls at once, each with
 * its own outputs and work. */
int augment_apply(const struct augment *a, struct pool *pool, const struct augment_batch *b,
                  void *work, struct error *e);

#endif
