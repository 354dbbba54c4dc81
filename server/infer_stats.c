/* infer_stats.c: counters of predictions. */
#include "infer_stats.h"

#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t infer_stats_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void pair_add(struct infer_pair *p, uint64_t ns)
{
    count(&p->ns, ns);
    count(&p->count, 1);
}

void infer_stats_add(struct infer_stats *s, const struct infer_times *t, int status)
{
    uint64_t end = infer_stats_now(), queue = (uint64_t)(t->queue_seconds * 1e9);
    __atomic_store_n(&s->last_ms, clock_ns(CLOCK_REALTIME) / 1000000, __ATOMIC_RELAXED);
    if (status >= 400 || !t->computed) {
        pair_add(&s->fail, queue + end - t->begin);
        return;
    }
    pair_add(&s->queue, queue);
    pair_add(&s->input, t->read - t->begin);
    pair_add(&s->infer, t->computed - t->read);
    pair_add(&s->output, end - t->computed);
    pair_add(&s->success, queue + end - t->begin);
    count(&s->samples, (uint64_t)t->samples);
}
