/* evaluation.h: an evaluation of a detector over several requests. It holds the state that was
 * published when it began, which finds the objects in every batch, and collects truths and
 * detections until the numbers are asked for (coco.h). Evaluations are not kept over a restart.
 *
 * Any thread may call; batches that are added at once come in any order. */
#ifndef BACKPROPD_EVALUATION_H
#define BACKPROPD_EVALUATION_H

#include "coco.h"
#include "detect.h"
#include "key.h"
#include "model.h"
#include "request.h"

enum { EVALUATIONS_MAX = 4 /* of one model */ };

struct evaluation {
    struct evaluation *next;
    int64_t id;
    int refs;              /* atomic */
    char by[KEY_ID_SIZE];  /* the key that began it; "": none was needed */
    struct snapshot state; /* never changes */
    struct detect_options options;
    struct budget *budget;
    int64_t used_ms; /* guarded by the model's lock */

    pthread_mutex_t lock; /* guards what follows */
    int64_t images;
    struct coco_truth *truths;
    struct coco_detection *found;
    size_t n_truths, cap_truths, n_found, cap_found; /* elements */
    size_t reserved;                                 /* bytes taken from the budget */
};

/* Begins one of the model's state `*s`, which it takes over, also when it fails; it is held. `by`
 * is the key of whoever asks, NULL for anybody. An evaluation that nobody has used for ten minutes
 * makes room. CONFLICT when EVALUATIONS_MAX are in use; OUT_OF_MEMORY. */
struct evaluation *evaluation_start(struct model *m, struct snapshot *s,
                                    const struct detect_options *o, const struct key *by,
                                    struct error *e);
/* Held until evaluation_release. UNKNOWN_EVALUATION. */
struct evaluation *evaluation_find(struct model *m, int64_t id, struct error *e);
void evaluation_release(struct evaluation **v);
/* It cannot be found any more. */
void evaluation_remove(struct model *m, struct evaluation *v);
/* Gives up those that nobody has used for ten minutes. */
void evaluations_reclaim(struct model *m);
/* For the model's end, when nobody holds it. */
void evaluations_destroy(struct model *m);

/* Adds images: their places in truths and detections count from 0. All or nothing. */
struct evaluation_batch {
    int64_t images;
    const struct coco_truth *truths;
    const struct coco_detection *found;
    size_t n_truths, n_found;
};
int evaluation_add(struct evaluation *v, const struct evaluation_batch *b, struct error *e);

/* The numbers by this protocol for `q`, in its arena, and only while its client waits. Categories
 * are 0 to `categories` - 1. */
int evaluation_compute(struct evaluation *v, const char *protocol, int64_t categories,
                       struct request *q, struct coco_result *r_r, struct error *e);

#endif
