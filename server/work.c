/* work.c: worker threads. One mutex guards all lists; it is held for a few instructions at a time,
 * never while a job runs. Invariants, whenever the mutex is free:
 *   - a queue is in `ready` exactly when it has waiting jobs and may start one: a queue of writes
 *     when none of its jobs runs;
 *   - running_writes <= workers - 1, running_slow <= workers, and running <= workers, or one more
 *     when all of those are slow;
 *   - a worker sleeps only when there is nothing that may start, or another one was woken for it.
 *
 * A job is slow unless its queue has shown to be quick: a thread is kept for those that are. */
#include "job_list.h"
#include "sleepers.h"
#include "turns.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LATER_TURN = 32,   /* of so many jobs one is not of those that go first, if there is one */
    LATER_TIME = 4,    /* or after so many times as long as it is expected to take */
    SLOW_NS = 5000000, /* jobs that take longer are slow */
    TOGETHER = 64,
};

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

static uint64_t monotonic_ns(void *arg)
{
    struct timespec t;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- queues that may start a job ------------------------------------------------------------- */

static bool goes_first(const struct work *w, const struct work_queue *q)
{
    return q == &w->shared || q->kind == WORK_PREDICTIONS;
}

/* Predictions are announced to the pool when they come, or when they start if they wait on purpose
 * until then. */
static void announce(struct work *w, struct work_queue *q)
{
    if (q->kind != WORK_PREDICTIONS || q->delay_ns)
        return;
    q->announced++;
    pool_hurry(w->pool, 1);
}

static void announce_rest(struct work *w, struct work_queue *q, size_t n)
{
    size_t before = n < q->announced ? n : q->announced;
    q->announced -= before;
    if (q->kind == WORK_PREDICTIONS && n > before)
        pool_hurry(w->pool, (int)(n - before));
}

/* After announce_rest: they have ended. */
static void announce_end(struct work *w, const struct work_queue *q, size_t n)
{
    if (q->kind == WORK_PREDICTIONS)
        pool_hurry(w->pool, -(int)n);
}

static struct turns *turns_of(struct work *w, const struct work_queue *q)
{
    return &w->turns[!goes_first(w, q)];
}

static size_t *waiting_of(struct work *w, const struct work_queue *q)
{
    return q->kind == WORK_WRITES ? &w->waiting_writes : &w->waiting_reads;
}

static void ready_push(struct work *w, struct work_queue *q)
{
    q->next = NULL;
    q->ready = true;
    *w->last_ready = q;
    w->last_ready = &q->next;
}

static void ready_remove(struct work *w, struct work_queue *q)
{
    struct work_queue **p = &w->ready;
    if (!q->ready)
        return;
    while (*p != q)
        p = &(*p)->next;
    *p = q->next;
    if (!*p)
        w->last_ready = p;
    q->ready = false;
}

/* ---- taking ---------------------------------------------------------------------------------- */

static bool slow(const struct work_queue *q)
{
    return q->kind == WORK_WRITES || !q->turn.expected || q->turn.expected > SLOW_NS;
}

static bool may_start(const struct work *w, const struct work_queue *q)
{
    if (w->running >= w->workers)
        return w->running == w->workers && w->running_slow == w->workers && !slow(q);
    return q->kind != WORK_WRITES || w->running_writes < w->workers - 1;
}

/* When what waits in it may start: 0 is now. */
static uint64_t due(const struct work_queue *q)
{
    bool full = !q->delay_ns || q->jobs.count >= q->together || q->work->stop;
    return full ? 0 : q->jobs.first->submitted + q->delay_ns;
}

/* The queue of this rank whose turn it is; *due_r: the next that will be due, if it is sooner. */
static struct work_queue *best(struct work *w, bool first, uint64_t now, uint64_t *due_r)
{
    struct work_queue *found = NULL;
    for (struct work_queue *q = w->ready; q; q = q->next) {
        if (goes_first(w, q) != first || !may_start(w, q))
            continue;
        uint64_t at = due(q);
        if (at > now && at < *due_r)
            *due_r = at;
        if (at <= now && turn_before(&q->turn, found ? &found->turn : NULL))
            found = q;
    }
    return found;
}

/* NULL: nothing may start before *due_r. */
static struct work_queue *choose(struct work *w, uint64_t *due_r)
{
    uint64_t now = w->now(w->now_arg);
    *due_r = UINT64_MAX;
    struct work_queue *first = best(w, true, now, due_r), *later = best(w, false, now, due_r);
    if (!first || !later)
        return first ? first : later;
    bool turn = w->turn % LATER_TURN == 0 || w->first_ns > LATER_TIME * later->turn.expected;
    return turn && (later->turn.expected || w->turn % LATER_TURN == 0) ? later : first;
}

/* What a thread that comes free takes of a queue: of predictions its share of those that wait, so
 * that threads which are about to come free have some, too. */
static size_t take_count(const struct work *w, const struct work_queue *q)
{
    size_t n = q->jobs.count, threads = (size_t)(w->workers - w->running_slow);
    if (q->kind != WORK_PREDICTIONS)
        return 1;
    if (!q->delay_ns && threads > 1)
        n = (n + threads - 1) / threads;
    return n < q->together ? n : q->together;
}

/* A running job or chain. */
struct taken {
    struct work_queue *queue;
    struct work_job *job;
    size_t n;
    uint64_t charged, started;
    bool slow;
};

static void take(struct work *w, struct work_queue *q, struct taken *t_r)
{
    size_t n = q == &w->shared ? 1 : take_count(w, q);
    *t_r = (struct taken){.queue = q, .slow = slow(q), .started = w->now(w->now_arg)};
    ready_remove(w, q);
    t_r->job = job_list_cut(&q->jobs, n);
    t_r->n = n;
    announce_rest(w, q, n);
    *waiting_of(w, q) -= n;
    t_r->charged = turn_start(turns_of(w, q), &q->turn);
    if (!goes_first(w, q))
        w->first_ns = 0;
    w->turn++;
    w->running++;
    w->running_slow += t_r->slow;
    w->running_writes += q->kind == WORK_WRITES;
    q->running++;
    q->runner = pthread_self();
    if (q->jobs.count && q->kind != WORK_WRITES)
        ready_push(w, q);
}

static bool others_wait(const struct work *w)
{
    for (const struct work_queue *q = w->ready; q; q = q->next)
        if (!goes_first(w, q))
            return true;
    return false;
}

static void taken_end(struct work *w, const struct taken *t)
{
    struct work_queue *q = t->queue;
    uint64_t took = w->now(w->now_arg) - t->started;
    turn_end(&q->turn, t->charged, took);
    w->running--;
    w->running_slow -= t->slow;
    w->running_writes -= q->kind == WORK_WRITES;
    q->running--;
    if (goes_first(w, q) && others_wait(w))
        w->first_ns += took;
    if (q->orphan)
        free(q);
    else if (q->kind == WORK_WRITES && q->jobs.count)
        ready_push(w, q);
    pthread_cond_broadcast(&w->ended);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void run(struct work *w, struct taken *t)
{
    bool cancelled = w->stop;
    uint64_t due;
    if (w->idle.last &&
        (choose(w, &due) || due != UINT64_MAX)) /* or it may be the next to sleep until */
        sleepers_wake(&w->idle);
    pthread_mutex_unlock(&w->mutex);
    if (cancelled)
        job_chain_cancel(t->job);
    else
        t->job->run(t->job, false);
    announce_end(w, t->queue, t->n);
    pthread_mutex_lock(&w->mutex);
    taken_end(w, t);
}

static void *worker(void *arg)
{
    struct worker *me = arg;
    struct work *w = me->work;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        uint64_t due;
        struct taken t;
        struct work_queue *q = choose(w, &due);
        if (!q && w->exit)
            break;
        if (!q) {
            sleepers_wait(&w->idle, &me->sleeper, &w->mutex, due);
            continue;
        }
        take(w, q, &t);
        run(w, &t);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
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
    if (!q->jobs.count && !q->running)
        turn_wake(turns_of(w, q), &q->turn);
    job->submitted = w->now(w->now_arg);
    job_list_push(&q->jobs, job);
    ++*waiting_of(w, q);
    announce(w, q);
    if (!q->ready && (q->kind != WORK_WRITES || !q->running))
        ready_push(w, q);
    if (q->ready && may_start(w, q))
        sleepers_wake(&w->idle);
    return 0;
}

int work_submit(struct work *w, struct work_queue *q, struct work_job *job, struct error *e)
{
    pthread_mutex_lock(&w->mutex);
    int failed = submit(w, q ? q : &w->shared, job, e);
    pthread_mutex_unlock(&w->mutex);
    return failed;
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void queue_init(struct work_queue *q, struct work *w, enum work_kind kind,
                       size_t max_waiting)
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
    queue_init(q, w, kind, max_waiting);
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

/* With the mutex held; gives it up while the jobs are told. */
static void queue_cancel(struct work *w, struct work_queue *q)
{
    *waiting_of(w, q) -= q->jobs.count;
    announce_end(w, q, q->announced);
    q->announced = 0;
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
    queue_init(&w->shared, w, WORK_QUESTIONS, max_waiting);
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
        queue_cancel(w, w->ready);
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
