/* work_schedule.c: which job is next. work.h says who goes before whom; the invariants are those of
 * work.c. A job is slow unless its queue has shown to be quick: a thread is kept for those that
 * are. */
#include "work_private.h"

#include <stdlib.h>

enum {
    LATER_TURN = 32,   /* of so many jobs one is not of those that go first, if there is one */
    LATER_TIME = 4,    /* or after so many times as long as it is expected to take */
    SLOW_NS = 5000000, /* jobs that take longer are slow */
};

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

void work_ready_push(struct work *w, struct work_queue *q)
{
    q->next = NULL;
    q->ready = true;
    *w->last_ready = q;
    w->last_ready = &q->next;
}

void work_ready_remove(struct work *w, struct work_queue *q)
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

bool work_may_start(const struct work *w, const struct work_queue *q)
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
        if (goes_first(w, q) != first || !work_may_start(w, q))
            continue;
        uint64_t at = due(q);
        if (at > now && at < *due_r)
            *due_r = at;
        if (at <= now && turn_before(&q->turn, found ? &found->turn : NULL))
            found = q;
    }
    return found;
}

struct work_queue *work_choose(struct work *w, uint64_t *due_r)
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

void work_take(struct work *w, struct work_queue *q, struct work_taken *t_r)
{
    size_t n = q == &w->shared ? 1 : take_count(w, q);
    *t_r = (struct work_taken){.queue = q, .slow = slow(q), .started = w->now(w->now_arg)};
    work_ready_remove(w, q);
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
        work_ready_push(w, q);
}

static bool others_wait(const struct work *w)
{
    for (const struct work_queue *q = w->ready; q; q = q->next)
        if (!goes_first(w, q))
            return true;
    return false;
}

void work_taken_end(struct work *w, const struct work_taken *t)
{
    struct work_queue *q = t->queue;
    uint64_t took = w->now(w->now_arg) - t->started;
    announce_end(w, q, t->n);
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
        work_ready_push(w, q);
    pthread_cond_broadcast(&w->ended);
}

/* ---- putting and taking back ----------------------------------------------------------------- */

void work_schedule_job(struct work *w, struct work_queue *q)
{
    if (q->jobs.count == 1 && !q->running)
        turn_wake(turns_of(w, q), &q->turn);
    ++*waiting_of(w, q);
    announce(w, q);
    if (!q->ready && (q->kind != WORK_WRITES || !q->running))
        work_ready_push(w, q);
    if (q->ready && work_may_start(w, q))
        sleepers_wake(&w->idle);
}

struct work_job *work_take_back(struct work *w, struct work_queue *q)
{
    *waiting_of(w, q) -= q->jobs.count;
    announce_end(w, q, q->announced);
    q->announced = 0;
    work_ready_remove(w, q);
    return job_list_take(&q->jobs);
}
