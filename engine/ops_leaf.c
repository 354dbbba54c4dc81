/* ops_leaf.c: the rows that clients cannot name: leaves, whose values come from outside the run,
 * and the changes of layout that plans insert. */
#include "op.h"

#include <string.h>

static int leaf_shape(struct node *n, struct error *e)
{
    (void)n;
    (void)e;
    return 0;
}

static int same_shape(struct node *n, struct error *e)
{
    n->dtype = n->in[0]->dtype;
    return node_set_shape(n, &n->in[0]->shape, e);
}

/* dst[c][p] = src[p][c] for one sample, in blocks that stay in cache. */
static void transpose_sample(real *dst, const real *src, int64_t p, int64_t c)
{
    enum { TILE = 32 };
    for (int64_t i0 = 0; i0 < p; i0 += TILE)
        for (int64_t j0 = 0; j0 < c; j0 += TILE)
            for (int64_t j = j0; j < c && j < j0 + TILE; j++)
                for (int64_t i = i0; i < p && i < i0 + TILE; i++)
                    dst[j * p + i] = src[i * c + j];
}

struct transpose {
    real *dst;
    const real *src;
    int64_t rows, cols; /* of src, one sample */
};

static void transpose_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    struct transpose *t = arg;
    int64_t size = t->rows * t->cols;
    for (int64_t s = begin; s < end; s++)
        transpose_sample(t->dst + s * size, t->src + s * size, t->rows, t->cols);
}

void transpose_samples(struct run *r, int64_t samples, int64_t rows, int64_t cols, const real *src,
                       real *dst)
{
    struct transpose t = {dst, src, rows, cols};
    run_for(r, samples, grain_rows(rows * cols), transpose_range, &t);
}

static void transpose_images(const struct node *n, struct run *r, real *dst, const real *src,
                             bool to_last)
{
    struct image m = run_image(r, n);
    int64_t p = m.h * m.w;
    transpose_samples(r, m.n, to_last ? m.c : p, to_last ? p : m.c, src, dst);
}

static void to_last_forward(const struct node *n, struct run *r)
{
    transpose_images(n, r, run_value(r, n), run_in(r, n, 0), true);
}

static void to_last_backward(const struct node *n, struct run *r)
{
    transpose_images(n, r, run_grad_in(r, n, 0), run_grad(r, n), false);
}

static void to_first_forward(const struct node *n, struct run *r)
{
    transpose_images(n, r, run_value(r, n), run_in(r, n, 0), false);
}

static void to_first_backward(const struct node *n, struct run *r)
{
    transpose_images(n, r, run_grad_in(r, n, 0), run_grad(r, n), true);
}

/* The plan makes both a view whose memory is the input's; these run only when it could not. */
static void relabel_forward(const struct node *n, struct run *r)
{
    memcpy(run_value(r, n), run_in(r, n, 0), (size_t)run_count(r, n) * sizeof(real));
}

static void relabel_backward(const struct node *n, struct run *r)
{
    memcpy(run_grad_in(r, n, 0), run_grad(r, n), (size_t)run_count(r, n) * sizeof(real));
}

#define LEAF(name, doc)                                                                            \
    {                                                                                              \
        name, "leaf", 0, 0, NULL, 0, NULL, leaf_shape, NULL, NULL, NULL, NULL,                     \
            OP_INTERNAL | OP_LEAF | OP_ZERO_FLOPS, NULL, doc                                       \
    }
#define LAYOUT(name, forward, backward, flags, doc)                                                \
    {                                                                                              \
        name, "layout", 1, 1, NULL, 0, NULL, same_shape, NULL, forward, backward, NULL,            \
            OP_INTERNAL | OP_ZERO_FLOPS | flags, NULL, doc                                         \
    }

const struct op ops_leaf[] = {
    LEAF("input", "given with each run"),
    LEAF("parameter", "a view into the block of parameters"),
    LEAF("buffer", "a view into the block of buffers"),
    LEAF("constant", "kept with the graph"),
    LAYOUT("to_channels_last", to_last_forward, to_last_backward, 0, "N,C,H,W to N,H,W,C"),
    LAYOUT("to_channels_first", to_first_forward, to_first_backward, 0, "N,H,W,C to N,C,H,W"),
    LAYOUT("relabel", relabel_forward, relabel_backward, OP_VIEW,
           "another layout with the same order of numbers: one channel or one pixel"),
    {0},
};
