/* work.c: worker threads. One mutex guards all lists; it is held for a few instructions at a time,
 * never while a job runs. Invariants, whenever the mutex is free:
 *   - a queue is in `ready` exactly when it has waiting jobs and may start one: a queue of writes
 *     when none of its jobs runs;
 *   - running_writes <= workers - 1, running_slow <= workers, and running <= workers, or one more
 *     when all of those are slow;
 *   - a worker sleeps only when there is nothing that may start, or another one was woken for it.
 *
 * Which job is next says work_schedule.c; the queues are in work_queue.c. */
#include "work_private.h"

#include <stdlib.h>
#include <time.h>

static uint64_t monotonic_ns(void *arg)
{
    struct timespec t;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void run(struct work *w, struct work_taken *t)
{
    bool cancelled = w->stop;
    uint64_t due;
    if (w->idle.last &&
        (work_choose(w, &due) || due != UINT64_MAX)) /* or it may be the next to sleep until */
        sleepers_wake(&w->idle);
    pthread_mutex_unlock(&w->mutex);
    if (cancelled)
        job_chain_cancel(t->job);
    else
        t->job->run(t->job, false);
    pthread_mutex_lock(&w->mutex);
    work_taken_end(w, t);
}

static void *worker(void *arg)
{
    struct worker *me = arg;
    struct work *w = me->work;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        uint64_t due;
        struct work_taken t;
        struct work_queue *q = work_choose(w, &due);
        if (!q && w->exit)
            break;
        if (!q) {
            sleepers_wait(&w->idle, &me->sleeper, &w->mutex, due);
            continue;
        }
        work_take(w, q, &t);
        run(w, &t);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void work_free(struct work *w)
{
    pthread_cond_destroy(&w->ended);
    for (int i = 0; i <= w->workers; i++)
        sleeper_destroy(&w->threads[i].sleeper);
    pthread_mutex_destroy(&w->mutex);
    free(w->threads);
    free(w);
}

/* Ends the threads that were started. */
static void work_join(struct work *w, int started)
{
    pthread_mutex_lock(&w->mutex);
    w->exit = true;
    sleepers_wake_all(&w->idle);
    pthread_mutex_unlock(&w->mutex);
    for (int i = 0; i < started; i++)
        pthread_join(w->threads[i].thread, NULL);
}

static int work_start(struct work *w, struct error *e)
{
    for (int i = 0; i <= w->workers; i++)
        if (pthread_create(&w->threads[i].thread, NULL, worker, &w->threads[i])) {
            work_join(w, i);
            return error_set(e, ERROR_NOT_READY, "cannot start worker thread %d of %d", i + 1,
                             w->workers + 1);
        }
    return 0;
}

static void work_init(struct work *w)
{
    w->last_ready = &w->ready;
    w->now = monotonic_ns;
    pthread_mutexattr_t adaptive; /* it is held for less than a change of threads takes */
    pthread_mutexattr_init(&adaptive);
    pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&w->mutex, &adaptive);
    pthread_mutexattr_destroy(&adaptive);
    pthread_cond_init(&w->ended, NULL);
    for (int i = 0; i <= w->workers; i++) {
        w->threads[i].work = w;
        sleeper_init(&w->threads[i].sleeper);
    }
}

struct work *work_create(int workers, size_t max_waiting, struct error *e)
{
    struct work *w = calloc(1, sizeof *w);
    workers = workers < 2 ? 2 : workers;
    struct worker *threads = calloc((size_t)workers + 1, sizeof *threads);
    if (!w || !threads) {
        free(w);
        free(threads);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %d workers", workers);
        return NULL;
    }
    w->workers = workers;
    w->threads = threads;
    work_queue_init(&w->shared, w, WORK_QUESTIONS, max_waiting);
    work_init(w);
    if (!work_start(w, e))
        return w;
    work_free(w);
    return NULL;
}

void work_set_pool(struct work *w, struct pool *p)
{
    w->pool = p;
}

void work_set_clock(struct work *w, uint64_t (*now)(void *arg), void *arg)
{
    pthread_mutex_lock(&w->mutex);
    w->now = now;
    w->now_arg = arg;
    pthread_mutex_unlock(&w->mutex);
}

void work_stop(struct work *w)
{
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    while (
        w->ready) /* a queue of writes that runs is not in it, its jobs are cancelled by workers */
        work_queue_cancel(w, w->ready);
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
    work_join(w, w->workers + 1);
    work_free(w);
    *work = NULL;
}

void work_stats_get(struct work *w, struct work_stats *s)
{
    pthread_mutex_lock(&w->mutex);
    *s = (struct work_stats){w->workers, w->running, w->running_writes, w->waiting_reads,
                             w->waiting_writes};
    pthread_mutex_unlock(&w->mutex);
}
