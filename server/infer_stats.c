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

static struct infer_batch *batch_of(struct infer_stats *s, int64_t samples)
{
    return &s->batches[samples < 0 ? 0 : samples > INFER_MAX_BATCH ? INFER_MAX_BATCH : samples];
}

void infer_stats_run(struct infer_stats *s, int64_t samples, uint64_t ns)
{
    pair_add(&batch_of(s, samples)->infer, ns);
}

uint64_t infer_stats_runs(const struct infer_stats *s)
{
    uint64_t n = 0;
    for (int i = 0; i <= INFER_MAX_BATCH; i++)
        n += __atomic_load_n(&s->batches[i].infer.count, __ATOMIC_RELAXED);
    return n;
}

void infer_stats_add(struct infer_stats *s, const struct infer_times *t, int status)
{
    uint64_t end = infer_stats_now(), queue = (uint64_t)(t->queue_seconds * 1e9);
    __atomic_store_n(&s->last_ms, clock_ns(CLOCK_REALTIME) / 1000000, __ATOMIC_RELAXED);
    if (status >= 400 || !t->computed) {
        pair_add(&s->fail, queue + end - t->taken);
        return;
    }
    uint64_t input = t->read - t->begin, output = end - t->write;
    pair_add(&s->queue,
             queue + (t->begin - t->taken) + (t->start - t->read) + (t->write - t->computed));
    pair_add(&s->input, input);
    pair_add(&s->infer, t->computed - t->start);
    pair_add(&s->output, output);
    pair_add(&s->success, queue + end - t->taken);
    count(&s->samples, (uint64_t)t->samples);
    count(&batch_of(s, t->run)->input_ns, input);
    count(&batch_of(s, t->run)->output_ns, output);
}
