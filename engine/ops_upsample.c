/* ops_upsample.c: upsample, torch.nn.Upsample of mode nearest by whole factors: each pixel becomes
 * a block of equal pixels. Backward adds up the block. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

enum { FACTOR_MAX = 64, MODE_NEAREST = 0 };

struct upsample {
    int64_t scale[2]; /* of height and width */
    int mode;
};
static const struct attr_def upsample_attrs[] = {
    {"scale_factor", ATTR_PAIR, offsetof(struct upsample, scale), "2", 1, FACTOR_MAX, NULL,
     "how many times as high and as wide the output is; whole numbers"},
    {"mode", ATTR_CHOICE, offsetof(struct upsample, mode), "nearest", 0, 0, "nearest",
     "where the output's pixels come from"},
    {0},
};

static int upsample_shape(struct node *n, struct error *e)
{
    const struct upsample *a = n->attrs;
    struct shape out = n->in[0]->shape;
    if (node_check_rank(n, 0, 4, 4, e))
        return -1;
    for (int i = 0; i < 2; i++)
        if (__builtin_mul_overflow(out.dim[2 + i], a->scale[i], &out.dim[2 + i]))
            return error_set(e, ERROR_TOO_LARGE, "%s: its result has too many elements", n->what);
    return node_set_shape(n, &out, e);
}

/* Rows of pixels of the small image, with the rows of the large one that are made of them. */
struct blow {
    const struct upsample *a;
    int64_t w, c;
    real *small, *large; /* [N * h][w][c], [N * h * scale][w * scale][c] */
};

static void blow_up(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct blow *b = arg;
    const int64_t sy = b->a->scale[0], sx = b->a->scale[1], wide = b->w * sx * b->c;
    for (int64_t row = begin; row < end; row++) {
        real *first = b->large + row * sy * wide;
        for (int64_t x = 0; x < b->w * sx; x++)
            memcpy(first + x * b->c, b->small + (row * b->w + x / sx) * b->c,
                   (size_t)b->c * sizeof(real));
        for (int64_t y = 1; y < sy; y++)
            memcpy(first + y * wide, first, (size_t)wide * sizeof(real));
    }
}

static void add_blocks(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct blow *b = arg;
    const int64_t sy = b->a->scale[0], sx = b->a->scale[1], wide = b->w * sx * b->c;
    for (int64_t row = begin; row < end; row++) {
        real *to = b->small + row * b->w * b->c;
        memset(to, 0, (size_t)(b->w * b->c) * sizeof *to);
        for (int64_t y = 0; y < sy; y++) {
            const real *from = b->large + (row * sy + y) * wide;
            for (int64_t x = 0; x < b->w * sx; x++)
                for (int64_t c = 0; c < b->c; c++)
                    to[x / sx * b->c + c] += from[x * b->c + c];
        }
    }
}

static void upsample_rows(const struct node *n, struct run *r, real *small, real *large, pool_fn *f)
{
    const struct image in = run_image(r, n->in[0]);
    struct blow b = {n->attrs, in.w, in.c, small, large};
    run_for(r, in.n * in.h, grain_rows(in.w * in.c * b.a->scale[0] * b.a->scale[1]), f, &b);
}

/* The side that is only read is passed without its const. */
static void upsample_forward(const struct node *n, struct run *r)
{
    upsample_rows(n, r, r->value[n->in[0]->id], run_value(r, n), blow_up);
}

static void upsample_backward(const struct node *n, struct run *r)
{
    if (run_grad_in(r, n, 0))
        upsample_rows(n, r, run_grad_in(r, n, 0), r->grad[n->id], add_blocks);
}

const struct op ops_upsample[] = {
    {"upsample", "pooling", 1, 1, upsample_attrs, sizeof(struct upsample), NULL, upsample_shape,
     NULL, upsample_forward, upsample_backward, NULL, OP_LAYOUT_LAST | OP_ZERO_FLOPS,
     "Nx3x2x4; Nx2x3x2 scale_factor=3,2; Nx1x1x1 scale_factor=4",
     "y[i,j] = x[floor(i / scale_factor), floor(j / scale_factor)]"},
    {0},
};
