/* work.h: the threads that do the work of requests.
 *
 * Jobs come in two kinds. Reads (queue NULL) run at the same time as anything else and are taken
 * first, those of WORK_FIRST before those of WORK_NEXT. Writes belong to a queue, one for each
 * model: the jobs of a queue run one at a time in the order in which they were submitted, so they
 * need no locks among themselves. At most workers - 1 workers run writes at any time: a read never
 * waits for a training step. Queues with waiting jobs take turns; one in 32 free workers takes a
 * write before a read, so that a stream of predictions cannot starve training.
 *
 * Any thread may call any of this, jobs included. */
#ifndef BACKPROPD_WORK_H
#define BACKPROPD_WORK_H

#include "backprop.h"

struct work;
struct work_queue;

/* The caller's, untouched and in place from work_submit until `run` is called, which may free it.
 * `cancelled`: the job must not do its work, only answer; the queue or the daemon is going away. */
struct work_job {
    void (*run)(struct work_job *job, bool cancelled);
    struct work_job *next; /* of work.c */
};

enum work_priority { WORK_FIRST, WORK_NEXT, WORK_PRIORITIES };

/* Starts `workers` threads (2 or more). At most `max_waiting` reads wait. */
struct work *work_create(int workers, size_t max_waiting, struct error *e);

/* Stops and frees. Jobs that run are waited for, jobs that wait are run with cancelled. Queues must
 * have been destroyed before. Not to be called from a job. */
void work_destroy(struct work **w);

/* As the first half of work_destroy: after it, every submit is refused with ERROR_NOT_READY, what
 * waited has been cancelled, and what ran has ended. */
void work_stop(struct work *w);

/* At most `max_waiting` jobs wait in it. */
struct work_queue *work_queue_create(struct work *w, size_t max_waiting, struct error *e);

/* Refuses new jobs (ERROR_CONFLICT), runs the waiting ones with cancelled in the caller's thread,
 * waits for the running one, frees. From within the running job itself, which then is the last to
 * use the queue, it returns at once and the queue is freed when the job ends. Nobody may submit to
 * the queue during or after this call. */
void work_queue_destroy(struct work_queue **q);

/* 0: `job->run` will be called exactly once, from a worker. -1: it will not; ERROR_QUEUE_FULL when
 * as many wait as may, ERROR_CONFLICT when the queue and ERROR_NOT_READY when the daemon stops.
 * The priority of a job with a queue has no meaning. */
int work_submit(struct work *w, struct work_queue *q, struct work_job *job,
                enum work_priority priority, struct error *e);

struct work_stats {
    int workers, running, running_writes;
    size_t waiting_reads, waiting_writes;
};
void work_stats_get(struct work *w, struct work_stats *stats_r);
size_t work_queue_waiting(struct work_queue *q);

#endif
