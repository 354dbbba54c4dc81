/* work.c: worker threads. One mutex guards all lists; it is held for a few instructions at a time,
 * never while a job runs. Invariants, whenever the mutex is free:
 *   - a queue is in `ready` exactly when it has waiting jobs and none of its jobs runs;
 *   - running_writes <= workers - 1;
 *   - a worker sleeps only when there is no read, and no ready queue it would be allowed to take.
 */
#include "job_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_TURN = 32 }; /* of so many jobs one is a write, if there is one */

struct work_queue {
    struct work *work;
    struct job_list jobs;
    size_t max_waiting;
    struct work_queue *next; /* in ready */
    bool running, closed;
    bool orphan; /* destroyed by its own job: freed by the worker */
    pthread_t runner;
};

struct work {
    pthread_mutex_t mutex;
    pthread_cond_t wanted; /* a job may be there to take, or stop */
    pthread_cond_t ended;  /* a job has ended */
    struct job_list reads[WORK_PRIORITIES];
    size_t max_waiting, waiting_writes;
    struct work_queue *ready, **last_ready; /* queues take turns */
    int workers, running, running_writes;
    unsigned turn;
    bool stop, exit;
    pthread_t *threads;
};

static void ready_push(struct work *w, struct work_queue *q)
{
    q->next = NULL;
    *w->last_ready = q;
    w->last_ready = &q->next;
}

static struct work_queue *ready_pop(struct work *w)
{
    struct work_queue *q = w->ready;
    w->ready = q->next;
    if (!w->ready)
        w->last_ready = &w->ready;
    return q;
}

static void ready_remove(struct work *w, struct work_queue *q)
{
    struct work_queue **p = &w->ready;
    while (*p && *p != q)
        p = &(*p)->next;
    if (!*p)
        return;
    *p = q->next;
    if (!*p)
        w->last_ready = p;
}

/* ---- taking and running ---------------------------------------------------------------------- */

static bool write_allowed(const struct work *w)
{
    return w->ready && w->running_writes < w->workers - 1;
}

static struct work_job *take_read(struct work *w)
{
    struct work_job *job = NULL;
    for (int i = 0; i < WORK_PRIORITIES && !job; i++)
        job = job_list_pop(&w->reads[i]);
    return job;
}

static struct work_job *take_write(struct work *w, struct work_queue **q_r)
{
    struct work_queue *q = ready_pop(w);
    q->running = true;
    q->runner = pthread_self();
    w->running_writes++;
    w->waiting_writes--;
    *q_r = q;
    return job_list_pop(&q->jobs);
}

/* The next job for this thread; *q_r is its queue, NULL for a read. NULL: nothing to do now. */
static struct work_job *take(struct work *w, struct work_queue **q_r)
{
    *q_r = NULL;
    bool write = write_allowed(w);
    if (write && w->turn++ % WRITE_TURN == 0)
        return take_write(w, q_r);
    struct work_job *job = take_read(w);
    return job || !write ? job : take_write(w, q_r);
}

/* A job of q has ended: its next may run, and a worker that had to leave writes alone may look. */
static void write_ended(struct work *w, struct work_queue *q)
{
    w->running_writes--;
    q->running = false;
    if (q->orphan)
        free(q);
    else if (q->jobs.count)
        ready_push(w, q);
    if (write_allowed(w))
        pthread_cond_signal(&w->wanted);
}

static void *worker(void *arg)
{
    struct work *w = arg;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        struct work_queue *q;
        struct work_job *job = take(w, &q);
        if (!job && w->exit)
            break;
        if (!job) {
            pthread_cond_wait(&w->wanted, &w->mutex);
            continue;
        }
        w->running++;
        bool cancelled = w->stop;
        pthread_mutex_unlock(&w->mutex);
        job->run(job, cancelled);
        pthread_mutex_lock(&w->mutex);
        w->running--;
        if (q)
            write_ended(w, q);
        pthread_cond_broadcast(&w->ended);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* ---- submitting ------------------------------------------------------------------------------ */

static int submit_read(struct work *w, struct work_job *job, enum work_priority p, struct error *e)
{
    size_t waiting = 0;
    for (int i = 0; i < WORK_PRIORITIES; i++)
        waiting += w->reads[i].count;
    if (waiting >= w->max_waiting)
        return error_set(e, ERROR_QUEUE_FULL,
                         "%zu requests are waiting for a worker, the limit is %zu", waiting,
                         w->max_waiting);
    job_list_push(&w->reads[p], job);
    return 0;
}

static int submit_write(struct work *w, struct work_queue *q, struct work_job *job, struct error *e)
{
    if (q->closed)
        return error_set(e, ERROR_CONFLICT, "the model is being deleted");
    if (q->jobs.count >= q->max_waiting)
        return error_set(e, ERROR_QUEUE_FULL,
                         "%zu requests are waiting to change this model, the limit is %zu",
                         q->jobs.count, q->max_waiting);
    job_list_push(&q->jobs, job);
    w->waiting_writes++;
    if (!q->running && q->jobs.count == 1)
        ready_push(w, q);
    return 0;
}

int work_submit(struct work *w, struct work_queue *q, struct work_job *job,
                enum work_priority priority, struct error *e)
{
    int failed;
    pthread_mutex_lock(&w->mutex);
    if (w->stop)
        failed = error_set(e, ERROR_NOT_READY, "the server is stopping");
    else if (q)
        failed = submit_write(w, q, job, e);
    else
        failed = submit_read(w, job, priority, e);
    if (!failed)
        pthread_cond_signal(&w->wanted);
    pthread_mutex_unlock(&w->mutex);
    return failed;
}

/* ---- queues ---------------------------------------------------------------------------------- */

struct work_queue *work_queue_create(struct work *w, size_t max_waiting, struct error *e)
{
    struct work_queue *q = calloc(1, sizeof *q);
    if (!q) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a queue");
        return NULL;
    }
    q->work = w;
    q->max_waiting = max_waiting;
    job_list_init(&q->jobs);
    return q;
}

/* With the mutex held; gives it up while the jobs are told. */
static void queue_cancel(struct work *w, struct work_queue *q)
{
    w->waiting_writes -= q->jobs.count;
    struct work_job *chain = job_list_take(&q->jobs);
    ready_remove(w, q);
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
    queue_cancel(w, q);
    if (q->running && pthread_equal(q->runner, pthread_self())) {
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

/* ---- the whole ------------------------------------------------------------------------------- */

static void work_free(struct work *w)
{
    pthread_cond_destroy(&w->ended);
    pthread_cond_destroy(&w->wanted);
    pthread_mutex_destroy(&w->mutex);
    free(w->threads);
    free(w);
}

/* Ends the threads that were started. */
static void work_join(struct work *w, int started)
{
    pthread_mutex_lock(&w->mutex);
    w->exit = true;
    pthread_cond_broadcast(&w->wanted);
    pthread_mutex_unlock(&w->mutex);
    for (int i = 0; i < started; i++)
        pthread_join(w->threads[i], NULL);
}

static int work_start(struct work *w, struct error *e)
{
    for (int i = 0; i < w->workers; i++)
        if (pthread_create(&w->threads[i], NULL, worker, w)) {
            work_join(w, i);
            return error_set(e, ERROR_NOT_READY, "cannot start worker thread %d of %d", i + 1,
                             w->workers);
        }
    return 0;
}

struct work *work_create(int workers, size_t max_waiting, struct error *e)
{
    struct work *w = calloc(1, sizeof *w);
    pthread_t *threads = calloc((size_t)(workers < 2 ? 2 : workers), sizeof *threads);
    if (!w || !threads) {
        free(w);
        free(threads);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %d workers", workers);
        return NULL;
    }
    w->workers = workers < 2 ? 2 : workers;
    w->max_waiting = max_waiting;
    w->threads = threads;
    w->last_ready = &w->ready;
    for (int i = 0; i < WORK_PRIORITIES; i++)
        job_list_init(&w->reads[i]);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wanted, NULL);
    pthread_cond_init(&w->ended, NULL);
    if (!work_start(w, e))
        return w;
    work_free(w);
    return NULL;
}

void work_stop(struct work *w)
{
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    for (int i = 0; i < WORK_PRIORITIES; i++) {
        struct work_job *chain = job_list_take(&w->reads[i]);
        pthread_mutex_unlock(&w->mutex);
        job_chain_cancel(chain);
        pthread_mutex_lock(&w->mutex);
    }
    while (w->ready) { /* a queue that is running is not in it, its jobs are cancelled by workers */
        struct work_queue *q = w->ready;
        queue_cancel(w, q);
    }
    while (w->running || w->waiting_writes)
        pthread_cond_wait(&w->ended, &w->mutex);
    pthread_mutex_unlock(&w->mutex);
}

void work_destroy(struct work **work)
{
    struct work *w = *work;
    if (!w)
        return;
    work_stop(w);
    work_join(w, w->workers);
    work_free(w);
    *work = NULL;
}

void work_stats_get(struct work *w, struct work_stats *s)
{
    pthread_mutex_lock(&w->mutex);
    *s = (struct work_stats){w->workers, w->running, w->running_writes, 0, w->waiting_writes};
    for (int i = 0; i < WORK_PRIORITIES; i++)
        s->waiting_reads += w->reads[i].count;
    pthread_mutex_unlock(&w->mutex);
}
