/* network.c: networks, their generations, and gradients; network_step.c has the step. Everything is
 * cut into chunks by size alone, and sums are added in the order of the chunks: the same bits at
 * any number of threads. */
#include "kernels.h"
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
    for (int i = 0; i < n->n_groups; i++)
        optimizer_destroy(&n->groups[i]);
    schedule_destroy(&n->schedule);
    augment_destroy(&n->augment);
    struct arena *a = n->arena; /* the network itself lies in it */
    arena_destroy(&a);
    *net = NULL;
}

static bool is_loss_of(const struct network *net, const struct node *n)
{
    for (int i = 0; i < net->n_losses; i++)
        if (net->losses[i] == n)
            return true;
    return false;
}

const struct node *network_mixing_layer(const struct network *net, bool training)
{
    for (int i = 0; i < graph_node_count(net->graph); i++) {
        const struct node *n = graph_node(net->graph, i);
        if (node_mixes_samples(n, training) && !is_loss_of(net, n))
            return n;
    }
    return NULL;
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
    size_t buffers, slots, averages, missed, bytes;
};

static bool generation_places(const struct network *net, struct places *at_r)
{
    const size_t missed = (size_t)graph_param_count(net->graph) * sizeof(uint64_t);
    size_t params, buffers, slots, count, averages = 0;
    return block_bytes(graph_params_size(net->graph), &params) &&
           block_bytes(graph_buffers_size(net->graph), &buffers) &&
           !__builtin_mul_overflow(graph_params_size(net->graph), slots_size(net), &count) &&
           block_bytes(count, &slots) && !__builtin_add_overflow(params, buffers, &at_r->slots) &&
           !__builtin_add_overflow(at_r->slots, slots, &at_r->averages) &&
           (net->ema_decay == 0 || ((averages = params), true)) &&
           !__builtin_add_overflow(at_r->averages, averages, &at_r->missed) &&
           !__builtin_add_overflow(at_r->missed, missed, &at_r->bytes) &&
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
    g->averages = net->ema_decay > 0 ? (real *)(first + at.averages) : NULL;
    g->missed = (uint64_t *)(first + at.missed);
    g->bytes = at.bytes + sizeof *g + ALIGN;
    large_advise(g, g->bytes);
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
        if ((*g)->base)
            generation_unref(&(*g)->base);
        free(*g);
    }
    *g = NULL;
}

struct generation *generation_averaged(struct generation *g, struct error *e)
{
    struct generation *averaged = malloc(sizeof *averaged);
    if (!averaged) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    /* Not what was prepared: that is made of other parameters, and g's. */
    *averaged = (struct generation){.params = g->averages,
                                    .buffers = g->buffers,
                                    .slots = g->slots,
                                    .averages = g->averages,
                                    .schedule = g->schedule,
                                    .base = generation_ref(g),
                                    .optimizer_step = g->optimizer_step,
                                    .missed = g->missed,
                                    .bytes = sizeof *averaged,
                                    .refs = 1};
    return averaged;
}

void generation_take_steps(const struct network *net, struct generation *to,
                           const struct generation *from)
{
    const size_t bytes = (size_t)graph_param_count(net->graph) * sizeof *to->missed;
    to->optimizer_step = from ? from->optimizer_step : 0;
    if (from)
        memcpy(to->missed, from->missed, bytes);
    else
        memset(to->missed, 0, bytes);
}

bool generation_missed_any(const struct network *net, const struct generation *g)
{
    for (int i = 0; i < graph_param_count(net->graph); i++)
        if (g->missed[i])
            return true;
    return false;
}

void generation_averages_reset(const struct network *net, struct generation *g)
{
    if (g->averages)
        memcpy(g->averages, g->params, graph_params_size(net->graph) * sizeof(real));
}

/* ---- gradients ------------------------------------------------------------------------------- */

enum { NORM_CHUNKS = 1024 };

struct norm {
    const real *grads;
    int64_t grain;
    double sum[NORM_CHUNKS]; /* of squares, of each chunk */
};

static void norm_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    struct norm *n = arg;
    (void)worker;
    n->sum[begin / n->grain] = kernels()->row_squares(end - begin, n->grads + begin, 0);
}

double block_norm(struct pool *pool, const real *x, int64_t count)
{
    int64_t grain = count / NORM_CHUNKS + 1;
    struct norm n = {.grads = x, .grain = grain > GRAIN ? grain : GRAIN};
    pool_for(pool, count, n.grain, norm_chunk, &n);
    double sum = 0;
    for (int i = 0; i < NORM_CHUNKS; i++)
        sum += n.sum[i];
    return sqrt(sum);
}

double gradients_norm(const struct network *net, struct pool *pool, const real *grads)
{
    return block_norm(pool, grads, (int64_t)graph_params_size(net->graph));
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
