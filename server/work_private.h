/* work_private.h: what the files of the workers share: work.c the threads, work_schedule.c which
 * job is next, work_queue.c the queues. All of it with the mutex of struct work held. */
#ifndef BACKPROPD_WORK_PRIVATE_H
#define BACKPROPD_WORK_PRIVATE_H

#include "job_list.h"
#include "sleepers.h"
#include "turns.h"

#include <pthread.h>

struct work_queue {
    struct work *work;
    enum work_kind kind;
    struct job_list jobs;
    size_t max_waiting, together, announced;
    uint64_t delay_ns;
    struct turn turn;
    struct work_queue *next; /* in ready */
    int running;
    bool ready, closed;
    bool orphan;      /* destroyed by its own job: freed by the worker */
    pthread_t runner; /* of a write */
};

struct work {
    pthread_mutex_t mutex;
    pthread_cond_t ended;     /* a job has ended */
    struct work_queue shared; /* jobs without a queue */
    struct work_queue *ready, **last_ready;
    struct turns turns[2]; /* by rank: of those that go first, of the rest */
    size_t waiting_reads, waiting_writes;
    int workers, running, running_writes, running_slow;
    struct sleepers idle;
    unsigned turn;
    uint64_t first_ns; /* that jobs which go first took while others waited */
    bool stop, exit;
    struct pool *pool;
    uint64_t (*now)(void *arg);
    void *now_arg;
    struct worker *threads; /* workers + 1 */
};

struct worker {
    struct work *work;
    pthread_t thread;
    struct sleeper sleeper;
};

/* A running job or chain. */
struct work_taken {
    struct work_queue *queue;
    struct work_job *job;
    size_t n;
    uint64_t charged, started;
    bool slow;
};

/* ---- work_schedule.c ------------------------------------------------------------------------- */

/* q has jobs that wait and is not in `ready`: it is now. */
void work_ready_push(struct work *w, struct work_queue *q);
void work_ready_remove(struct work *w, struct work_queue *q); /* if it is there */
bool work_may_start(const struct work *w, const struct work_queue *q);
/* A job was put into q: it is counted and announced, and somebody woken for it. */
void work_schedule_job(struct work *w, struct work_queue *q);
/* The queue whose turn it is. NULL: nothing may start before *due_r. */
struct work_queue *work_choose(struct work *w, uint64_t *due_r);
/* A job or chain of it, to be run; and when it has run. */
void work_take(struct work *w, struct work_queue *q, struct work_taken *t_r);
void work_taken_end(struct work *w, const struct work_taken *t);
/* What waits in q is not to be run: it is the caller's. */
struct work_job *work_take_back(struct work *w, struct work_queue *q);

/* ---- work_queue.c ---------------------------------------------------------------------------- */

void work_queue_init(struct work_queue *q, struct work *w, enum work_kind kind, size_t max_waiting);
/* Gives the mutex up while the jobs are told. */
void work_queue_cancel(struct work *w, struct work_queue *q);

#endif
