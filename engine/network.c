/* network.c: networks, their generations, and the step from one generation to the next.
 *
 * A step never writes in place: network_apply reads generation n and writes parameters and slots of
 * generation n+1, so predictions may go on reading n. Only the gradients, which are the step's own,
 * are clipped where they lie. Everything here is cut into chunks by size alone, and sums are added
 * in the order of the chunks: the same bits at any number of threads. */
#include "optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRAIN = 16384, ALIGN = 64 }; /* elements; bytes */

void network_destroy(struct network **net)
{
    if (!*net)
        return;
    struct network *n = *net;
    graph_destroy(&n->graph);
    optimizer_destroy(&n->optimizer);
    schedule_destroy(&n->schedule);
    augment_destroy(&n->augment);
    struct arena *a = n->arena; /* the network itself lies in it */
    arena_destroy(&a);
    *net = NULL;
}

/* ---- generations ----------------------------------------------------------------------------- */

static size_t slots_size(const struct network *net)
{
    return net->optimizer ? (size_t)optimizer_slots(net->optimizer) : 0;
}

/* Bytes of `count` elements, rounded up so that the next block is aligned. False: too many. */
static bool block_bytes(size_t count, size_t *bytes_r)
{
    if (__builtin_mul_overflow(count, sizeof(real), bytes_r) || *bytes_r > SIZE_MAX - ALIGN)
        return false;
    *bytes_r = (*bytes_r + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    return true;
}

/* Where the blocks of a generation begin, in bytes from the first, and the bytes of all. */
struct places {
    size_t buffers, slots, bytes;
};

static bool generation_places(const struct network *net, struct places *at_r)
{
    size_t params, buffers, slots, count;
    return block_bytes(graph_params_size(net->graph), &params) &&
           block_bytes(graph_buffers_size(net->graph), &buffers) &&
           !__builtin_mul_overflow(graph_params_size(net->graph), slots_size(net), &count) &&
           block_bytes(count, &slots) && !__builtin_add_overflow(params, buffers, &at_r->slots) &&
           !__builtin_add_overflow(at_r->slots, slots, &at_r->bytes) &&
           !__builtin_add_overflow(at_r->bytes, sizeof(struct generation) + ALIGN, &count) &&
           ((at_r->buffers = params), true);
}

size_t generation_bytes(const struct network *net)
{
    struct places at;
    return generation_places(net, &at) ? at.bytes + sizeof(struct generation) + ALIGN : SIZE_MAX;
}

struct generation *generation_create(const struct network *net, struct error *e)
{
    struct places at;
    if (!generation_places(net, &at)) {
        error_set(e, ERROR_TOO_LARGE, "the parameters have too many elements");
        return NULL;
    }
    struct generation *g = calloc(1, at.bytes + sizeof *g + ALIGN);
    if (!g) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %zu bytes of parameters", at.bytes);
        return NULL;
    }
    char *first = (char *)(((uintptr_t)(g + 1) + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    g->params = (real *)first;
    g->buffers = (real *)(first + at.buffers);
    g->slots = (real *)(first + at.slots);
    g->bytes = at.bytes + sizeof *g + ALIGN;
    g->refs = 1;
    return g;
}

struct generation *generation_ref(struct generation *g)
{
    __atomic_add_fetch(&g->refs, 1, __ATOMIC_RELAXED);
    return g;
}

void generation_unref(struct generation **g)
{
    if (*g && __atomic_sub_fetch(&(*g)->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        generation_forget(*g);
        free(*g);
    }
    *g = NULL;
}

/* ---- gradients ------------------------------------------------------------------------------- */

enum { NORM_CHUNKS = 1024, LANES = 8 };

struct norm {
    const real *grads;
    int64_t grain;
    double sum[NORM_CHUNKS]; /* of squares, of each chunk */
};

/* Lanes are added apart, so that the loop vectorises without a change of order by the compiler. */
static void norm_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    struct norm *n = arg;
    double lane[LANES] = {0}, sum = 0;
    int64_t i = begin;
    (void)worker;
    for (; i + LANES <= end; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)n->grads[i + j] * (double)n->grads[i + j];
    for (; i < end; i++)
        sum += (double)n->grads[i] * (double)n->grads[i];
    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    n->sum[begin / n->grain] = sum;
}

double gradients_norm(const struct network *net, struct pool *pool, const real *grads)
{
    int64_t count = (int64_t)graph_params_size(net->graph);
    int64_t grain = count / NORM_CHUNKS + 1;
    struct norm n = {.grads = grads, .grain = grain > GRAIN ? grain : GRAIN};
    pool_for(pool, count, n.grain, norm_chunk, &n);
    double sum = 0;
    for (int i = 0; i < NORM_CHUNKS; i++)
        sum += n.sum[i];
    return sqrt(sum);
}

struct add {
    real *dst;
    const real *src;
};

static void add_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    real *restrict dst = ((struct add *)arg)->dst;
    const real *restrict src = ((struct add *)arg)->src;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        dst[i] += src[i];
}

void gradients_add(const struct network *net, struct pool *pool, real *dst, const real *src)
{
    struct add a = {dst, src};
    pool_for(pool, (int64_t)graph_params_size(net->graph), GRAIN, add_chunk, &a);
}

struct clip {
    real *grads;
    real scale; /* clip_grad_norm_ */
    real limit; /* clip_grad_value_; infinite when off */
};

/* NaN stays NaN in both. */
static void clip_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct clip *c = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        real x = c->grads[i] * c->scale;
        c->grads[i] = x > c->limit ? c->limit : x < -c->limit ? -c->limit : x;
    }
}

/* By the norm first, as torch.nn.utils.clip_grad_norm_ does, then by value. */
static void gradients_clip(const struct network *net, struct pool *pool, real *grads, double norm)
{
    double scale = net->clip_grad_norm > 0 ? net->clip_grad_norm / (norm + 1e-6) : 1;
    struct clip c = {grads, scale >= 1 ? 1 : (real)scale,
                     net->clip_grad_value > 0 ? (real)net->clip_grad_value : (real)INFINITY};
    if (c.scale != 1 || net->clip_grad_value > 0)
        pool_for(pool, (int64_t)graph_params_size(net->graph), GRAIN, clip_chunk, &c);
}

/* ---- the step -------------------------------------------------------------------------------- */

struct apply {
    struct update update;
    update_fn *run;
    size_t begin; /* of the segment */
    int slots;
    bool frozen;
    int failed; /* atomic */
};

static void copy_chunk(const struct update *u, int slots, size_t begin, size_t count)
{
    memcpy(u->params_out + begin, u->params + begin, count * sizeof(real));
    for (int k = 0; k < slots; k++) {
        size_t at = (size_t)k * u->size + begin;
        memcpy(u->slots_out + at, u->slots + at, count * sizeof(real));
    }
}

static void apply_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    struct apply *a = arg;
    size_t first = a->begin + (size_t)begin, count = (size_t)(end - begin);
    (void)worker;
    if (a->frozen)
        copy_chunk(&a->update, a->slots, first, count);
    else if (!a->run(&a->update, first, first + count))
        __atomic_store_n(&a->failed, 1, __ATOMIC_RELAXED);
}

/* A segment: consecutive parameters that are all frozen or all not. Begins at parameter *i, which
 * is moved past it; false when there are no more. */
static bool next_segment(const struct graph *g, int *i, struct apply *a, size_t *count_r)
{
    bool found = false;
    for (; *i < graph_param_count(g); ++*i) {
        const struct param *p = graph_param(g, *i);
        if (p->buffer)
            continue;
        if (found && p->frozen != a->frozen)
            break;
        if (!found) {
            a->begin = p->offset;
            a->frozen = p->frozen;
        }
        found = true;
        *count_r = p->offset + p->count - a->begin;
    }
    return found;
}

static bool all_finite(const real *x, size_t n, size_t *at_r)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) {
            *at_r = i;
            return false;
        }
    return true;
}

/* Names the first parameter, in their order, whose value or state is not finite. */
static int explain(const struct network *net, const struct generation *to, struct error *e)
{
    size_t size = graph_params_size(net->graph), at;
    for (int i = 0; i < graph_param_count(net->graph); i++) {
        const struct param *p = graph_param(net->graph, i);
        if (p->buffer)
            continue;
        if (!all_finite(to->params + p->offset, p->count, &at))
            return error_set(
                e, ERROR_NOT_FINITE,
                "parameter '%s' would become not finite (%g at element %zu); a smaller "
                "learning rate or clip_grad_norm may help",
                p->name, (double)to->params[p->offset + at], at);
        for (size_t k = 0; k < slots_size(net); k++)
            if (!all_finite(to->slots + k * size + p->offset, p->count, &at))
                return error_set(e, ERROR_NOT_FINITE,
                                 "the optimizer's state of parameter '%s' would become not finite "
                                 "(%g at element %zu)",
                                 p->name, (double)to->slots[k * size + p->offset + at], at);
    }
    return error_set(e, ERROR_INTERNAL, "a step was not finite, but all its numbers are");
}

int network_apply(const struct network *net, struct pool *pool, const struct generation *from,
                  real *grads, double grad_norm, double lr, struct generation *to, struct error *e)
{
    if (!net->optimizer)
        return error_set(e, ERROR_BAD_GRAPH, "the model has no optimizer, so it cannot train");
    gradients_clip(net, pool, grads, grad_norm);
    struct apply a = {.slots = optimizer_slots(net->optimizer)};
    a.update = (struct update){.lr = lr,
                               .t = from->optimizer_step,
                               .size = graph_params_size(net->graph),
                               .params = from->params,
                               .grads = grads,
                               .slots = from->slots,
                               .params_out = to->params,
                               .slots_out = to->slots};
    a.run = optimizer_update(net->optimizer, &a.update);
    size_t count;
    for (int i = 0; next_segment(net->graph, &i, &a, &count);)
        pool_for(pool, (int64_t)count, GRAIN, apply_chunk, &a);
    to->optimizer_step = from->optimizer_step + 1;
    return a.failed ? explain(net, to, e) : 0;
}
