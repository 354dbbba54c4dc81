/* pool.c: worker threads that many callers share.
 *
 * A call of pool_for is a task on its caller's stack, linked into the crew's list while it is not
 * done. The caller works on it too; helpers take the first task in the list that has ranges to
 * give away. Each worker has a share of the ranges, and takes from those of others when its own is
 * used up, so nobody waits while there is work. Shares are for the caches: the next operator's
 * ranges of the same rows go to the core that has just written them, and reading from another
 * core's cache takes several times as long as computing with what comes from there.
 *
 * The caller leaves when no range is left and no helper is inside its task; helpers enter and leave
 * a task under the crew's mutex, and do not touch it once they have left, which is what makes the
 * stack safe. Both sides look out for SPIN_NS before they sleep: the next operator of a step, or
 * the end of the last range, is mostly nearer than the price of sleeping, which in a virtual
 * machine is 50 us and more until a core runs again.
 *
 * Some work goes first: its tasks stand before the others in the list, and between two ranges of
 * any other task a thread looks whether it is one too many: whether what goes first (announced by
 * pool_hurry, and helpers inside its tasks) and the threads on other ranges together are more than
 * the crew has. Then a helper leaves for a task that goes first, or to sleep, and a caller waits;
 * but after PAUSE_NS it does one range, so that it gets on however much goes first.
 *
 * Invariant: what a range computes depends on (begin, end) alone; which thread runs it, and when,
 * is chance.
 */
#include "backprop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_THREADS = 256, PAUSE_NS = 5000000, SPIN_NS = 150000, SPIN_TURNS = 64 };

struct task {
    struct crew *crew; /* NULL: nobody helps */
    pool_fn *f;
    void *arg;
    int64_t count, grain, ranges;
    bool first;
    _Atomic int inside;   /* helpers working on it; changed under the mutex */
    _Atomic int64_t left; /* ranges that nobody has taken */
    int shares;
    _Atomic int64_t next[MAX_THREADS]; /* of each share, the range to take next */
    struct task *link;
};

struct helper {
    struct crew *crew;
    int worker; /* 1 and up; 0 is every caller */
    pthread_t thread;
};

/* How a caller sees the crew. */
struct pool {
    struct crew *crew;
    bool first;
};

struct crew {
    struct pool pools[2]; /* by `first` */
    pthread_mutex_t mutex;
    pthread_cond_t work, left, resume; /* a task was added; a helper left a task; less goes first */
    struct task *tasks;                /* those that go first before the others */
    _Atomic int pending;               /* tasks with ranges left, for the spin before sleeping */
    _Atomic int pending_first;         /* of them those that go first */
    _Atomic int first;                 /* that are announced, and helpers inside tasks of them */
    _Atomic int rest;                  /* threads inside other tasks */
    _Atomic int waiting;               /* callers that paused, and helpers that left tasks alone */
    bool stop;
    int threads;
    struct helper helpers[];
};

/* ---- who goes first -------------------------------------------------------------------------- */

/* Whether so many more threads on ranges that do not go first were too many. */
static bool too_many(const struct crew *c, int more)
{
    return atomic_load(&c->first) &&
           atomic_load(&c->first) + atomic_load(&c->rest) + more > c->threads;
}

static void wake_waiting(struct crew *c)
{
    if (!atomic_load(&c->waiting))
        return;
    pthread_mutex_lock(&c->mutex);
    pthread_cond_broadcast(&c->resume);
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->mutex);
}

void pool_hurry(struct pool *p, int change)
{
    if (!p)
        return;
    atomic_fetch_add(&p->crew->first, change);
    if (change < 0)
        wake_waiting(p->crew);
}

/* A caller is one too many: it waits, but not for long. */
static void caller_pause(struct crew *c)
{
    struct timespec until;
    int status = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PAUSE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    atomic_fetch_sub(&c->rest, 1);
    pthread_mutex_lock(&c->mutex);
    atomic_fetch_add(&c->waiting, 1);
    while (status != ETIMEDOUT && too_many(c, 1))
        status = pthread_cond_timedwait(&c->resume, &c->mutex, &until);
    atomic_fetch_sub(&c->waiting, 1);
    atomic_fetch_add(&c->rest, 1);
    pthread_mutex_unlock(&c->mutex);
}

/* ---- ranges ---------------------------------------------------------------------------------- */

/* The first range of share `i`. */
static int64_t share_begin(const struct task *t, int i)
{
    return t->ranges / t->shares * i + (t->ranges % t->shares < i ? t->ranges % t->shares : i);
}

/* Helpers need not look at it any more. */
static void task_is_given_away(const struct task *t)
{
    if (!t->crew)
        return;
    atomic_fetch_sub_explicit(&t->crew->pending, 1, memory_order_relaxed);
    atomic_fetch_sub(&t->crew->pending_first, t->first);
}

/* The next range: of the worker's own share, or else of one after it; -1: none is left. */
static int64_t task_take(struct task *t, int worker)
{
    for (int i = 0; i < t->shares; i++) {
        const int share = (worker + i) % t->shares;
        const int64_t end = share_begin(t, share + 1);
        if (atomic_load_explicit(&t->next[share], memory_order_relaxed) >= end)
            continue;
        const int64_t at = atomic_fetch_add_explicit(&t->next[share], 1, memory_order_relaxed);
        if (at >= end)
            continue;
        if (atomic_fetch_sub_explicit(&t->left, 1, memory_order_relaxed) == 1)
            task_is_given_away(t);
        return at;
    }
    return -1;
}

static bool task_run_one(struct task *t, int worker)
{
    const int64_t i = task_take(t, worker);
    if (i < 0)
        return false;
    int64_t begin = i * t->grain, left = t->count - begin;
    t->f(t->arg, begin, begin + (left < t->grain ? left : t->grain), worker);
    return true;
}

/* ---- helpers --------------------------------------------------------------------------------- */

/* What a helper may do now; *denied_r: there is more, but it would be one too many. */
static struct task *task_choose(const struct crew *c, bool *denied_r)
{
    *denied_r = false;
    for (struct task *t = c->tasks; t; t = t->link) {
        if (atomic_load_explicit(&t->left, memory_order_relaxed) <= 0)
            continue;
        if (t->first || !too_many(c, 1))
            return t;
        *denied_r = true;
    }
    return NULL;
}

static inline void cpu_relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

struct spin {
    int turns;
    int64_t end; /* ns */
};

/* False when SPIN_NS are over. Others that want the core get it. */
static bool spin_turn(struct spin *s)
{
    struct timespec t;
    cpu_relax();
    if (++s->turns % SPIN_TURNS)
        return true;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const int64_t now = t.tv_sec * 1000000000 + t.tv_nsec;
    if (!s->end)
        s->end = now + SPIN_NS;
    else
        sched_yield();
    return now < s->end;
}

static void spin_for_work(struct crew *c)
{
    struct spin s = {0, 0};
    while (!atomic_load_explicit(&c->pending, memory_order_relaxed) && spin_turn(&s))
        continue;
}

static void spin_until_left(struct task *t)
{
    struct spin s = {0, 0};
    while (atomic_load_explicit(&t->inside, memory_order_acquire) && spin_turn(&s))
        continue;
}

/* Inside a task, which it leaves when there are no ranges or when it should do something else. */
static void helper_work(struct crew *c, struct task *t, int worker)
{
    _Atomic int *count = t->first ? &c->first : &c->rest;
    atomic_fetch_add(count, 1);
    t->inside++;
    pthread_mutex_unlock(&c->mutex);
    while (task_run_one(t, worker) &&
           (t->first || (!too_many(c, 0) && !atomic_load(&c->pending_first))))
        continue;
    pthread_mutex_lock(&c->mutex);
    atomic_fetch_sub(count, 1);
    if (--t->inside == 0)
        pthread_cond_broadcast(&c->left);
    if (atomic_load(&c->waiting)) {
        pthread_cond_broadcast(&c->resume);
        pthread_cond_broadcast(&c->work);
    }
}

static void helper_sleep(struct crew *c, bool denied)
{
    atomic_fetch_add(&c->waiting, denied);
    /* What went first may have ended before it could see that somebody waits. */
    if (!denied || too_many(c, 1))
        pthread_cond_wait(&c->work, &c->mutex);
    atomic_fetch_sub(&c->waiting, denied);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct crew *c = h->crew;
    bool denied;
    pthread_mutex_lock(&c->mutex);
    while (!c->stop) {
        struct task *t = task_choose(c, &denied);
        if (!t) {
            helper_sleep(c, denied);
            continue;
        }
        helper_work(c, t, h->worker);
        pthread_mutex_unlock(&c->mutex);
        spin_for_work(c);
        pthread_mutex_lock(&c->mutex);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

/* ---- callers --------------------------------------------------------------------------------- */

static void task_add(struct crew *c, struct task *t)
{
    pthread_mutex_lock(&c->mutex);
    struct task **at = &c->tasks;
    while (*at && (!t->first || (*at)->first))
        at = &(*at)->link;
    t->link = *at;
    *at = t;
    atomic_fetch_add_explicit(&c->pending, 1, memory_order_relaxed);
    atomic_fetch_add(&c->pending_first, t->first);
    if (t->ranges == 2)
        pthread_cond_signal(&c->work);
    else
        pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->mutex);
}

static void task_remove(struct crew *c, struct task *t)
{
    pthread_mutex_lock(&c->mutex);
    struct task **at = &c->tasks;
    while (*at != t)
        at = &(*at)->link;
    *at = t->link;
    pthread_mutex_unlock(&c->mutex);
    spin_until_left(t);
    if (atomic_load_explicit(&t->inside, memory_order_acquire) == 0)
        return;
    pthread_mutex_lock(&c->mutex);
    while (t->inside)
        pthread_cond_wait(&c->left, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

/* All ranges that nobody else takes. What goes first is counted already: pool_hurry. */
static void caller_work(struct crew *c, struct task *t)
{
    bool gives_way = c && !t->first;
    if (gives_way)
        atomic_fetch_add(&c->rest, 1);
    do
        if (gives_way && too_many(c, 0))
            caller_pause(c);
    while (task_run_one(t, 0));
    if (!gives_way)
        return;
    atomic_fetch_sub(&c->rest, 1);
    wake_waiting(c);
}

static void task_init(struct task *t, const struct pool *p, int64_t count, int64_t grain,
                      pool_fn *f, void *arg)
{
    const int threads = p ? p->crew->threads : 1;
    t->f = f;
    t->arg = arg;
    t->count = count;
    t->grain = grain < 1 ? 1 : grain;
    t->ranges = count / t->grain + (count % t->grain > 0);
    t->first = p && p->first;
    t->crew = threads > 1 && t->ranges > 1 ? p->crew : NULL;
    t->left = t->ranges;
    t->inside = 0;
    t->shares = t->ranges < threads ? (int)(t->ranges > 1 ? t->ranges : 1) : threads;
    for (int i = 0; i < t->shares; i++)
        t->next[i] = share_begin(t, i);
}

void pool_for(struct pool *p, int64_t count, int64_t grain, pool_fn *f, void *arg)
{
    struct crew *c = p ? p->crew : NULL;
    struct task t;
    task_init(&t, p, count, grain, f, arg);
    if (t.crew)
        task_add(t.crew, &t);
    caller_work(c, &t);
    if (t.crew)
        task_remove(t.crew, &t);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void crew_init(struct crew *c)
{
    pthread_condattr_t monotonic;
    c->pools[0] = (struct pool){c, false};
    c->pools[1] = (struct pool){c, true};
    pthread_mutexattr_t adaptive; /* it is held for less than sleeping takes */
    pthread_mutexattr_init(&adaptive);
    pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&c->mutex, &adaptive);
    pthread_mutexattr_destroy(&adaptive);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->left, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->resume, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct pool *pool_create(int threads, struct error *e)
{
    if (threads < 1 || threads > MAX_THREADS) {
        error_set(e, ERROR_BAD_VALUE, "threads must be within 1 and %d, not %d", MAX_THREADS,
                  threads);
        return NULL;
    }
    struct crew *c = calloc(1, sizeof *c + (size_t)threads * sizeof c->helpers[0]);
    if (!c) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %d threads", threads);
        return NULL;
    }
    crew_init(c);
    struct pool *p = &c->pools[0];
    for (c->threads = 1; c->threads < threads; c->threads++) {
        struct helper *h = &c->helpers[c->threads];
        *h = (struct helper){.crew = c, .worker = c->threads};
        if (pthread_create(&h->thread, NULL, helper_main, h)) {
            error_set(e, ERROR_INTERNAL, "cannot start thread %d of %d", c->threads + 1, threads);
            pool_destroy(&p);
            return NULL;
        }
    }
    return p;
}

struct pool *pool_first(struct pool *p)
{
    return p ? &p->crew->pools[1] : NULL;
}

void pool_destroy(struct pool **pool)
{
    if (!*pool)
        return;
    struct crew *c = (*pool)->crew;
    pthread_mutex_lock(&c->mutex);
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->mutex);
    for (int i = 1; i < c->threads; i++)
        pthread_join(c->helpers[i].thread, NULL);
    pthread_cond_destroy(&c->resume);
    pthread_cond_destroy(&c->left);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->mutex);
    free(c);
    *pool = NULL;
}

int pool_threads(const struct pool *p)
{
    return p ? p->crew->threads : 1;
}
