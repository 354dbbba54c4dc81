/* work_queue.c: the queues of work.h: how they are made, filled, limited and ended. */
#include "work_private.h"

#include <stdlib.h>

enum { TOGETHER = 64 };

/* ---- queues ---------------------------------------------------------------------------------- */

void work_queue_init(struct work_queue *q, struct work *w, enum work_kind kind, size_t max_waiting)
{
    *q = (struct work_queue){
        .work = w, .kind = kind, .max_waiting = max_waiting, .together = TOGETHER};
    job_list_init(&q->jobs);
}

struct work_queue *work_queue_create(struct work *w, enum work_kind kind, size_t max_waiting,
                                     struct error *e)
{
    struct work_queue *q = malloc(sizeof *q);
    if (!q) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a queue");
        return NULL;
    }
    work_queue_init(q, w, kind, max_waiting);
    return q;
}

void work_queue_limit(struct work_queue *q, size_t max_waiting)
{
    pthread_mutex_lock(&q->work->mutex);
    q->max_waiting = max_waiting;
    pthread_mutex_unlock(&q->work->mutex);
}

void work_queue_together(struct work_queue *q, size_t jobs, uint64_t delay_ns)
{
    pthread_mutex_lock(&q->work->mutex);
    q->together = jobs ? jobs : 1;
    q->delay_ns = delay_ns;
    sleepers_wake(&q->work->idle); /* what waits may be due now */
    pthread_mutex_unlock(&q->work->mutex);
}

void work_queue_cancel(struct work *w, struct work_queue *q)
{
    struct work_job *chain = work_take_back(w, q);
    pthread_mutex_unlock(&w->mutex);
    job_chain_cancel(chain);
    pthread_mutex_lock(&w->mutex);
}

void work_queue_destroy(struct work_queue **queue)
{
    struct work_queue *q = *queue;
    *queue = NULL;
    if (!q)
        return;
    struct work *w = q->work;
    pthread_mutex_lock(&w->mutex);
    q->closed = true;
    work_queue_cancel(w, q);
    if (q->running && q->kind == WORK_WRITES && pthread_equal(q->runner, pthread_self())) {
        q->orphan = true;
    } else {
        while (q->running)
            pthread_cond_wait(&w->ended, &w->mutex);
        free(q);
    }
    pthread_mutex_unlock(&w->mutex);
}

size_t work_queue_waiting(struct work_queue *q)
{
    pthread_mutex_lock(&q->work->mutex);
    size_t n = q->jobs.count;
    pthread_mutex_unlock(&q->work->mutex);
    return n;
}

/* ---- submitting ------------------------------------------------------------------------------ */

static int queue_full(const struct work *w, const struct work_queue *q, struct error *e)
{
    static const char *const what[] = {"for a prediction of this model",
                                       "for an answer about this model", "to change this model"};
    return error_set(e, ERROR_QUEUE_FULL, "%zu requests are waiting %s, the limit is %zu",
                     q->jobs.count, q == &w->shared ? "for a worker" : what[q->kind],
                     q->max_waiting);
}

static int submit(struct work *w, struct work_queue *q, struct work_job *job, struct error *e)
{
    if (w->stop)
        return error_set(e, ERROR_NOT_READY, "the server is stopping");
    if (q->closed)
        return error_set(e, ERROR_CONFLICT, "the model is being deleted");
    if (q->jobs.count >= q->max_waiting)
        return queue_full(w, q, e);
    job->submitted = w->now(w->now_arg);
    job_list_push(&q->jobs, job);
    work_schedule_job(w, q);
    return 0;
}

int work_submit(struct work *w, struct work_queue *q, struct work_job *job, struct error *e)
{
    pthread_mutex_lock(&w->mutex);
    int failed = submit(w, q ? q : &w->shared, job, e);
    pthread_mutex_unlock(&w->mutex);
    return failed;
}
