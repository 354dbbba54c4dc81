/* ops_leaf.c: the rows that clients cannot name: leaves, whose values come from outside the run,
 * and the changes of layout that plans insert. */
#include "kernels.h"
#include "op.h"

#include <string.h>

enum { LINE = 16 }; /* elements that lie in a line of the cache */

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

/* A sample is cut along its longer side: in predictions it may be the only one. */
struct samples {
    struct transpose_rows one; /* sample 0 */
    int64_t parts, length;
};

static void transpose_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct samples *all = arg;
    for (int64_t at = begin; at < end; at++) {
        struct transpose_rows t = all->one;
        const bool wide = t.cols > t.rows;
        const int64_t sample = at / all->parts * t.rows * t.cols;
        const int64_t first = at % all->parts * all->length,
                      left = (wide ? t.cols : t.rows) - first;
        *(wide ? &t.cols : &t.rows) = left < all->length ? left : all->length;
        t.src += sample + first * (wide ? 1 : t.src_step);
        t.dst += sample + first * (wide ? t.dst_step : 1);
        kernels()->transpose(&t);
    }
}

void transpose_samples(struct run *r, int64_t samples, int64_t rows, int64_t cols, const real *src,
                       real *dst)
{
    const int64_t longer = cols > rows ? cols : rows, shorter = cols > rows ? rows : cols;
    struct samples all = {.one = {rows, cols, src, cols, dst, rows},
                          .length = (grain_rows(shorter) + LINE - 1) / LINE * LINE};
    if (all.length > longer)
        all.length = longer > 0 ? longer : 1;
    all.parts = (longer + all.length - 1) / all.length;
    run_for(r, samples * all.parts, grain_rows(all.length * shorter), transpose_range, &all);
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
