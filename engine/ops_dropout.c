/* ops_dropout.c: dropout and drop_path. Element i is dropped when word i of the node's random
 * numbers, for this seed and draw, lies below p: a pure function of (seed, draw, node, i), whatever
 * the threads. What was kept is saved as one bit an element for backward. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

struct dropout {
    double p;
};
static const struct attr_def dropout_attrs[] = {
    {"p", ATTR_REAL, offsetof(struct dropout, p), "0.5", 0, 1, NULL,
     "probability that an element is dropped"},
    {0},
};

enum { MASK_BITS = 32 }; /* a mask word; GRAIN_ELEMENTS is a multiple: a word has one writer */

/* Words of 32 bits in an array of reals, which are at least that large. */
static void dropout_memory(struct node *n)
{
    n->saved.sample = (n->size.sample + MASK_BITS - 1) / MASK_BITS;
    n->saved.fixed = (n->size.fixed + MASK_BITS - 1) / MASK_BITS;
}

struct dropout_pass {
    struct random_key key;
    uint64_t threshold; /* a 32-bit word below it drops */
    real scale;
    const real *from;
    real *to;
    uint32_t *mask;
};

static struct dropout_pass dropout_pass(const struct node *n, const struct run *r)
{
    double p = ((const struct dropout *)n->attrs)->p;
    return (struct dropout_pass){.key = run_random(r, n),
                                 .threshold = (uint64_t)(p * 0x1p32),
                                 .scale = p < 1 ? (real)(1 / (1 - p)) : 0,
                                 .mask = (uint32_t *)(void *)run_saved(r, n)};
}

/* Bit i: element `first` + i is kept. `first` is a multiple of MASK_BITS. */
static uint32_t draw_mask(const struct dropout_pass *d, int64_t first)
{
    uint32_t mask = 0;
    for (int block = 0; block < MASK_BITS / 4; block++) {
        uint32_t word[4];
        random_block(&d->key, (uint64_t)first / 4 + (uint64_t)block, word);
        for (int k = 0; k < 4; k++)
            mask |= (uint32_t)(word[k] >= d->threshold) << (4 * block + k);
    }
    return mask;
}

static void apply_mask(const struct dropout_pass *d, uint32_t mask, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++, mask >>= 1)
        d->to[i] = d->from[i] * (mask & 1 ? d->scale : 0); /* NaN shows where it is dropped, too */
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct dropout_pass *d = arg;
    for (int64_t i = begin; i < end; i += MASK_BITS) {
        uint32_t mask = draw_mask(d, i);
        d->mask[i / MASK_BITS] = mask;
        apply_mask(d, mask, i, i + MASK_BITS < end ? i + MASK_BITS : end);
    }
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct dropout_pass *d = arg;
    for (int64_t i = begin; i < end; i += MASK_BITS)
        apply_mask(d, d->mask[i / MASK_BITS], i, i + MASK_BITS < end ? i + MASK_BITS : end);
}

static void dropout_forward(const struct node *n, struct run *r)
{
    if (!r->training) {
        identity_forward(n, r);
        return;
    }
    struct dropout_pass d = dropout_pass(n, r);
    d.from = run_in(r, n, 0);
    d.to = run_value(r, n);
    run_for(r, run_count(r, n), GRAIN_ELEMENTS, forward_range, &d);
}

static void dropout_backward(const struct node *n, struct run *r)
{
    if (!r->training) {
        identity_backward(n, r);
        return;
    }
    struct dropout_pass d = dropout_pass(n, r);
    d.from = run_grad(r, n);
    d.to = run_grad_in(r, n, 0);
    if (d.to)
        run_for(r, run_count(r, n), GRAIN_ELEMENTS, backward_range, &d);
}

/* ---- drop_path ------------------------------------------------------------------------------- */

/* Samples are dropped whole (stochastic depth). What was drawn is drawn again in backward. */
struct path_pass {
    struct random_key key;
    double p;
    int64_t size; /* of a sample */
    const real *from;
    real *to;
};

static int drop_path_shape(struct node *n, struct error *e)
{
    return node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) ? -1 : unary_shape(n, e);
}

static void path_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct path_pass *d = arg;
    for (int64_t s = begin; s < end; s++) {
        const bool kept = random_uniform(&d->key, (uint64_t)s) >= d->p;
        const real scale = kept && d->p < 1 ? (real)(1 / (1 - d->p)) : 0;
        for (int64_t i = s * d->size; i < (s + 1) * d->size; i++)
            d->to[i] = d->from[i] * scale;
    }
}

static void path_apply(const struct node *n, struct run *r, const real *from, real *to)
{
    const int64_t samples = run_dim(r, n, 0);
    struct path_pass d = {run_random(r, n), ((const struct dropout *)n->attrs)->p,
                          run_count(r, n) / samples, from, to};
    if (to)
        run_for(r, samples, grain_rows(d.size), path_range, &d);
}

static void drop_path_forward(const struct node *n, struct run *r)
{
    if (r->training)
        path_apply(n, r, run_in(r, n, 0), run_value(r, n));
    else
        identity_forward(n, r);
}

static void drop_path_backward(const struct node *n, struct run *r)
{
    if (r->training)
        path_apply(n, r, run_grad(r, n), run_grad_in(r, n, 0));
    else
        identity_backward(n, r);
}

static const struct attr_def drop_path_attrs[] = {
    {"p", ATTR_REAL, offsetof(struct dropout, p), "0.5", 0, 1, NULL,
     "probability that a sample is dropped"},
    {0},
};

const struct op ops_dropout[] = {
    {"dropout", "dropout", 1, 1, dropout_attrs, sizeof(struct dropout), NULL, unary_shape,
     dropout_memory, dropout_forward, dropout_backward, unary_flops, OP_RANDOM | OP_LAYOUT_SAME,
     "Nx12; Nx2x3x3 p=0.2; Nx12 p=0; 40 p=0.9",
     "training: y = x / (1 - p), or 0 with probability p; otherwise y = x"},
    {"drop_path", "dropout", 1, 1, drop_path_attrs, sizeof(struct dropout), NULL, drop_path_shape,
     NULL, drop_path_forward, drop_path_backward, unary_flops, OP_RANDOM | OP_LAYOUT_SAME,
     "Nx12; Nx2x3x3 p=0.2; Nx4 p=0; 5x3 p=0.9",
     "training: y = x / (1 - p), or 0 for a whole sample with probability p; otherwise y = x"},
    {0},
};
