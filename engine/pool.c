/* pool.c: worker threads that many callers share.
 *
 * A call of pool_for is a task on its caller's stack, linked into the pool's list while it has
 * ranges to give away. The caller works on it too; helpers take the first task in the list that
 * has ranges left. Ranges are handed out by one atomic counter, so nobody waits while there is
 * work. The caller leaves when no range is left and no helper is inside its task; helpers enter
 * and leave a task under the pool's mutex, and do not touch it once they have left, which is what
 * makes the stack safe. Both sides wait a moment before they sleep: the next operator of a step, or
 * the end of the last range, is mostly nearer than the price of sleeping.
 *
 * Invariant: what a range computes depends on (begin, end) alone; which thread runs it is chance.
 */
#include "backprop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 2000, MAX_THREADS = 256 };

struct task {
    pool_fn *f;
    void *arg;
    int64_t count, grain, ranges;
    _Atomic int64_t next; /* range to hand out */
    _Atomic int inside;   /* helpers working on it; changed under the mutex */
    struct task *link;
};

struct helper {
    struct pool *pool;
    int worker; /* 1 and up; 0 is every caller */
    pthread_t thread;
};

struct pool {
    pthread_mutex_t mutex;
    pthread_cond_t work, left; /* a task was added; a helper left a task */
    struct task *tasks;
    _Atomic int pending; /* tasks in the list, for the spin before sleeping */
    bool stop;
    int threads;
    struct helper helpers[];
};

static bool task_run_one(struct task *t, int worker)
{
    int64_t i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
    if (i >= t->ranges)
        return false;
    int64_t begin = i * t->grain, left = t->count - begin;
    t->f(t->arg, begin, begin + (left < t->grain ? left : t->grain), worker);
    return true;
}

static struct task *task_with_ranges(struct pool *p)
{
    for (struct task *t = p->tasks; t; t = t->link)
        if (atomic_load_explicit(&t->next, memory_order_relaxed) < t->ranges)
            return t;
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

static void spin_for_work(struct pool *p)
{
    for (int i = 0; i < SPINS && !atomic_load_explicit(&p->pending, memory_order_relaxed); i++)
        cpu_relax();
}

static void spin_until_left(struct task *t)
{
    for (int i = 0; i < SPINS && atomic_load_explicit(&t->inside, memory_order_acquire); i++)
        cpu_relax();
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct pool *p = h->pool;
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        struct task *t = task_with_ranges(p);
        if (!t) {
            pthread_cond_wait(&p->work, &p->mutex);
            continue;
        }
        t->inside++;
        pthread_mutex_unlock(&p->mutex);
        while (task_run_one(t, h->worker)) {
        }
        pthread_mutex_lock(&p->mutex);
        if (--t->inside == 0)
            pthread_cond_broadcast(&p->left);
        pthread_mutex_unlock(&p->mutex);
        spin_for_work(p);
        pthread_mutex_lock(&p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static void task_add(struct pool *p, struct task *t)
{
    pthread_mutex_lock(&p->mutex);
    struct task **end = &p->tasks;
    while (*end)
        end = &(*end)->link;
    *end = t;
    atomic_fetch_add_explicit(&p->pending, 1, memory_order_relaxed);
    if (t->ranges == 2)
        pthread_cond_signal(&p->work);
    else
        pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
}

static void task_remove(struct pool *p, struct task *t)
{
    pthread_mutex_lock(&p->mutex);
    struct task **at = &p->tasks;
    while (*at != t)
        at = &(*at)->link;
    *at = t->link;
    atomic_fetch_sub_explicit(&p->pending, 1, memory_order_relaxed);
    pthread_mutex_unlock(&p->mutex);
    spin_until_left(t);
    if (atomic_load_explicit(&t->inside, memory_order_acquire) == 0)
        return;
    pthread_mutex_lock(&p->mutex);
    while (t->inside)
        pthread_cond_wait(&p->left, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}

void pool_for(struct pool *p, int64_t count, int64_t grain, pool_fn *f, void *arg)
{
    struct task t = {.f = f, .arg = arg, .count = count, .grain = grain < 1 ? 1 : grain};
    t.ranges = count / t.grain + (count % t.grain > 0);
    bool shared = p && p->threads > 1 && t.ranges > 1;
    if (shared)
        task_add(p, &t);
    while (task_run_one(&t, 0)) {
    }
    if (shared)
        task_remove(p, &t);
}

struct pool *pool_create(int threads, struct error *e)
{
    if (threads < 1 || threads > MAX_THREADS) {
        error_set(e, ERROR_BAD_VALUE, "threads must be within 1 and %d, not %d", MAX_THREADS,
                  threads);
        return NULL;
    }
    struct pool *p = calloc(1, sizeof *p + (size_t)threads * sizeof p->helpers[0]);
    if (!p) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %d threads", threads);
        return NULL;
    }
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->left, NULL);
    for (p->threads = 1; p->threads < threads; p->threads++) {
        struct helper *h = &p->helpers[p->threads];
        *h = (struct helper){.pool = p, .worker = p->threads};
        if (pthread_create(&h->thread, NULL, helper_main, h)) {
            error_set(e, ERROR_INTERNAL, "cannot start thread %d of %d", p->threads + 1, threads);
            pool_destroy(&p);
            return NULL;
        }
    }
    return p;
}

void pool_destroy(struct pool **pool)
{
    struct pool *p = *pool;
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->left);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->mutex);
    free(p);
    *pool = NULL;
}

int pool_threads(const struct pool *p)
{
    return p ? p->threads : 1;
}
