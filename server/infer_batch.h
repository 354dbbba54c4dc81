/* infer_batch.h: predictions of several requests in one run.
 *
 * In plans for inference the bits of a sample do not depend on the others (backprop.h), so requests
 * that ask one state for the same outputs can share a run without any of them seeing it. Nor does
 * one suffer by another: what fails together is run again alone. */
#ifndef BACKPROPD_INFER_BATCH_H
#define BACKPROPD_INFER_BATCH_H

#include "model.h"

/* The part of one request. */
struct infer_part {
    const struct batch *batch;
    infer_fn *f; /* gets the outputs of its own samples, as from snapshot_infer */
    void *arg;
    run_gone_fn *gone; /* asked while it runs alone; may be NULL */
    void *gone_arg;

    bool failed; /* these are set */
    struct error error;
    uint64_t start, computed; /* moments of infer_stats_now: of the run that it was in */
    int64_t run;              /* its samples */
};

/* Runs all of them, as many as fit into `max_batch` samples at a time; 0: as many as pay. A larger
 * part is cut. Each run is counted in both `stats`, which may be
 * NULL. */
void infer_parts_run(const struct snapshot *s, struct pool *pool, unsigned outputs,
                     struct infer_part *const *parts, int n, int64_t max_batch,
                     struct infer_stats *const stats[2]);

#endif
