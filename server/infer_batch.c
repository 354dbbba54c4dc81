/* infer_batch.c: parts are taken in their order, as many as fit a run; their inputs are copied next
 * to each other, and each gets its rows of the outputs. One that is alone is not copied. */
#define _GNU_SOURCE /* mempcpy */
#include "infer_batch.h"

#include "model_private.h"

#include <stdlib.h>
#include <string.h>

enum { APART_FLOPS = 4 << 20, APART_TOGETHER_FLOPS = 32 << 20 }; /* of a run on one thread */

struct joint {
    const struct snapshot *s;
    struct pool *pool;
    unsigned outputs;
    struct infer_stats *const *stats;
};

/* Waking other threads for a run and waiting for them costs some ten microseconds: one that is
 * short is faster without them. Several requests together mean that the others have work, too. */
static struct pool *pool_for_run(const struct joint *j, int64_t samples, bool together)
{
    double flops = program_cost(j->s->program).flops * (double)samples;
    return flops <= (together ? APART_TOGETHER_FLOPS : APART_FLOPS) ? NULL : j->pool;
}

static void count_run(const struct joint *j, int64_t samples, uint64_t ns)
{
    for (int i = 0; i < 2; i++)
        if (j->stats[i])
            infer_stats_run(j->stats[i], samples, ns);
}

/* ---- one alone ------------------------------------------------------------------------------- */

struct alone {
    const struct joint *j;
    struct infer_part *part;
    uint64_t begun;
};

/* After each slice of it. */
static void alone_slice(void *arg, int64_t begin, int64_t n, const real *const *out)
{
    struct alone *a = arg;
    struct infer_part *p = a->part;
    uint64_t now = infer_stats_now();
    count_run(a->j, n, now - a->begun);
    a->begun = now;
    p->run = n;
    p->f(p->arg, begin, n, out);
}

static void run_alone(const struct joint *j, struct infer_part *p)
{
    struct alone a = {j, p, infer_stats_now()};
    struct snapshot s = *j->s;
    s.gone = p->gone;
    s.gone_arg = p->gone_arg;
    p->start = a.begun;
    struct pool *pool = pool_for_run(j, p->batch->n, false);
    p->failed = snapshot_infer(&s, pool, p->batch, j->outputs, alone_slice, &a, &p->error) != 0;
    p->computed = infer_stats_now();
}

/* ---- several together ------------------------------------------------------------------------ */

/* Whether requests may share a run: a sample's answer is then the same in any company. */
static bool may_join(const struct program *p)
{
    const struct network *net = program_network(p);
    if (program_slice(p) == INT64_MAX)
        return false;
    for (int i = 0; i < net->n_inputs; i++)
        if (!shape_batched(node_shape(net->inputs[i])))
            return false;
    return true;
}

/* Bytes of one sample of an input. */
static size_t sample_bytes(const struct node *input)
{
    int64_t count;
    shape_count(node_shape(input), 1, &count);
    return (size_t)count * dtype_size(node_dtype(input));
}

/* The inputs of all parts one after the other, in memory that the caller frees; NULL: there is
 * none. */
static char *inputs_join(const struct network *net, struct infer_part *const *parts, int n,
                         struct batch *b)
{
    size_t sample = 0;
    for (int i = 0; i < net->n_inputs; i++)
        sample += sample_bytes(net->inputs[i]);
    char *memory = large_alloc(sample * (size_t)b->n), *at = memory;
    for (int i = 0; memory && i < net->n_inputs; i++) {
        b->data[i] = at;
        for (int k = 0; k < n; k++)
            at = mempcpy(at, parts[k]->batch->data[i],
                         sample_bytes(net->inputs[i]) * (size_t)parts[k]->batch->n);
    }
    return memory;
}

/* Gives each part its rows of the outputs. */
static void outputs_part(const struct joint *j, const real *const *out,
                         struct infer_part *const *parts, int n)
{
    const real *own[NETWORK_MAX_IO + 2];
    int64_t row[NETWORK_MAX_IO + 2];
    int n_out = program_output_rows(j->s->program, j->outputs, row);
    memcpy(own, out, (size_t)n_out * sizeof *own);
    for (int k = 0; k < n; k++) {
        parts[k]->f(parts[k]->arg, 0, parts[k]->batch->n, own);
        for (int i = 0; i < n_out; i++)
            own[i] += row[i] * parts[k]->batch->n;
    }
}

struct handing {
    const struct joint *j;
    struct infer_part *const *parts;
    int n;
};

static void hand_out(void *arg, int64_t begin, int64_t n, const real *const *out)
{
    const struct handing *h = arg;
    (void)begin, (void)n; /* it is one slice */
    outputs_part(h->j, out, h->parts, h->n);
}

/* -1: not done, nobody has got anything. */
static int run_together(const struct joint *j, struct infer_part *const *parts, int n, int64_t sum)
{
    struct handing h = {j, parts, n};
    struct batch b = {.n = sum};
    uint64_t start = infer_stats_now();
    char *memory = inputs_join(program_network(j->s->program), parts, n, &b);
    struct pool *pool = pool_for_run(j, sum, true);
    int status = memory ? snapshot_infer(j->s, pool, &b, j->outputs, hand_out, &h, NULL) : -1;
    uint64_t end = infer_stats_now();
    free(memory);
    if (status)
        return -1;
    count_run(j, sum, end - start);
    for (int k = 0; k < n; k++) {
        parts[k]->start = start;
        parts[k]->computed = end;
        parts[k]->run = sum;
        parts[k]->failed = false;
    }
    return 0;
}

void infer_parts_run(const struct snapshot *s, struct pool *pool, unsigned outputs,
                     struct infer_part *const *parts, int n, int64_t max_batch,
                     struct infer_stats *const stats[2])
{
    struct joint j = {s, pool, outputs, stats};
    int64_t most = program_slice(s->program);
    const bool joins = may_join(s->program);
    if (max_batch && max_batch < most)
        most = max_batch;
    for (int i = 0, end; i < n; i = end) {
        int64_t sum = parts[i]->batch->n;
        for (end = i + 1; joins && end < n && sum + parts[end]->batch->n <= most; end++)
            sum += parts[end]->batch->n;
        if (end - i > 1 && !run_together(&j, parts + i, end - i, sum))
            continue;
        for (int k = i; k < end; k++)
            run_alone(&j, parts[k]);
    }
}
