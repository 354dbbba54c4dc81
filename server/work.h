/* work.h: the threads that do the work of requests.
 *
 * Jobs wait in queues. Those of WORK_WRITES, one queue for each model, run one at a time in the
 * order in which they were submitted, so they need no locks among themselves; those of the other
 * kinds run at the same time as anything else. Who goes next:
 *   - predictions, and what is in no queue of its own (NULL: quick reads), go before the rest; but
 *     while others wait they get a turn after 32 of those, or after a few times as long as they
 *     are expected to take;
 *   - of the same rank, the queue goes next that has used the least time (turns.h). So two models
 *     that train get equal time, and a heavy model's predictions leave time for a light one's;
 *   - at most workers - 1 workers run writes, so a prediction never waits for a training step. When
 *     all workers do what takes long, one more thread is there for what is known to be quick.
 *
 * Predictions that wait in one queue when a thread comes free are handed over together.
 *
 * Any thread may call any of this, jobs included. */
#ifndef BACKPROPD_WORK_H
#define BACKPROPD_WORK_H

#include "backprop.h"

struct work;
struct work_queue;

/* The caller's, untouched and in place from work_submit until `run` is called, which may free it.
 * `cancelled`: the job must not do its work, only answer; the queue or the daemon is going away.
 * A job of WORK_PREDICTIONS that is not cancelled heads a chain by `next`: all of it is to be done
 * by this call. */
struct work_job {
    void (*run)(struct work_job *job, bool cancelled);
    struct work_job *next;
    uint64_t submitted; /* of work.c */
};

enum work_kind {
    WORK_PREDICTIONS, /* first, and together */
    WORK_QUESTIONS,   /* reads that may take long: gradients, evaluations */
    WORK_WRITES,      /* one at a time */
    WORK_KINDS
};

/* Starts threads for `workers` jobs at a time (2 or more). In no queue of their own at most
 * `max_waiting` jobs wait. */
struct work *work_create(int workers, size_t max_waiting, struct error *e);

/* Stops and frees. Jobs that run are waited for, jobs that wait are run with cancelled. Queues must
 * have been destroyed before. Not to be called from a job. */
void work_destroy(struct work **w);

/* As the first half of work_destroy: after it, every submit is refused with ERROR_NOT_READY, what
 * waited has been cancelled, and what ran has ended. */
void work_stop(struct work *w);

/* The pool that jobs compute on: jobs that go first are announced to it (pool_hurry) from their
 * submission to their end. Before anything is submitted; the pool must outlive `w`. */
void work_set_pool(struct work *w, struct pool *p);

/* Another clock than the monotonic one, for tests; nanoseconds. Before anything is submitted. */
void work_set_clock(struct work *w, uint64_t (*now)(void *arg), void *arg);

/* At most `max_waiting` jobs wait in it. */
struct work_queue *work_queue_create(struct work *w, enum work_kind kind, size_t max_waiting,
                                     struct error *e);

/* Of WORK_PREDICTIONS: at most `jobs` are handed over together (at first 64), and fewer only when
 * the oldest has waited for `delay_ns` (at first 0). */
void work_queue_together(struct work_queue *q, size_t jobs, uint64_t delay_ns);

/* Another limit; what waits already stays. */
void work_queue_limit(struct work_queue *q, size_t max_waiting);

/* Refuses new jobs (ERROR_CONFLICT), runs the waiting ones with cancelled in the caller's thread,
 * waits for the running ones, frees. From within the running job of a queue of WORK_WRITES, which
 * then is the last to use the queue, it returns at once and the queue is freed when the job ends.
 * Nobody may submit to the queue during or after this call. */
void work_queue_destroy(struct work_queue **q);

/* 0: `job->run` will be called exactly once, from a worker, or the job be part of the chain of one
 * that is. -1: it will not; ERROR_QUEUE_FULL when as many wait as may, ERROR_CONFLICT when the
 * queue and ERROR_NOT_READY when the daemon stops. */
int work_submit(struct work *w, struct work_queue *q, struct work_job *job, struct error *e);

struct work_stats {
    int workers, running, running_writes;
    size_t waiting_reads, waiting_writes;
};
void work_stats_get(struct work *w, struct work_stats *stats_r);
size_t work_queue_waiting(struct work_queue *q);

#endif
