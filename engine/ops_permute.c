/* ops_permute.c: operators whose result is their input's numbers in another order: permute,
 * pixel_shuffle, pixel_unshuffle and flip. Each is a shape and a stride for every dimension of the
 * result, split into more dimensions where that is needed; one pair of loops serves all. */
#include "unary.h"

#include <stddef.h>

struct permute {
    struct int_list dims;
    int64_t factor;
};
static const struct attr_def permute_attrs[] = {
    {"dims", ATTR_INTS, offsetof(struct permute, dims), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1,
     NULL, "the input's dimensions in their new order; a batch stays in front"},
    {0},
};
static const struct attr_def flip_attrs[] = {
    {"dims", ATTR_INTS, offsetof(struct permute, dims), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1,
     NULL, "the dimensions whose order is reversed; not the batch"},
    {0},
};
static const struct attr_def pixel_shuffle_attrs[] = {
    {"upscale_factor", ATTR_INT, offsetof(struct permute, factor), NULL, 1, 1024, NULL,
     "how many times as high and as wide the output is"},
    {0},
};
static const struct attr_def pixel_unshuffle_attrs[] = {
    {"downscale_factor", ATTR_INT, offsetof(struct permute, factor), NULL, 1, 1024, NULL,
     "how many times lower and narrower the output is"},
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

/* Each listed dimension, wrapped; BAD_ATTRIBUTE when one is given twice. */
static int listed_dims(const struct node *n, int dims[SHAPE_MAX_RANK], struct error *e)
{
    const struct int_list *list = &((const struct permute *)n->attrs)->dims;
    unsigned seen = 0;
    for (int i = 0; i < list->n; i++) {
        if (node_wrap_dim(n, list->v[i], n->in[0]->shape.rank, &dims[i], e))
            return -1;
        if (seen >> dims[i] & 1)
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: dimension %d is given twice in 'dims'",
                             n->what, dims[i]);
        seen |= 1u << dims[i];
    }
    return 0;
}

static int permute_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    const int given = ((const struct permute *)n->attrs)->dims.n;
    struct shape out = *in;
    struct shape_text text;
    int dims[SHAPE_MAX_RANK];
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e))
        return -1;
    if (given != in->rank)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'dims' must name all %d dimensions of %s, not %d", n->what,
                         in->rank, shape_print(in, &text), given);
    if (listed_dims(n, dims, e))
        return -1;
    if (shape_batched(in) && dims[0] != 0)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension 0 of %s is the batch and must stay in front", n->what,
                         shape_print(in, &text));
    for (int i = 0; i < in->rank; i++)
        out.dim[i] = in->dim[dims[i]];
    return node_set_shape(n, &out, e);
}

static int flip_shape(struct node *n, struct error *e)
{
    const struct permute *a = n->attrs;
    struct shape_text text;
    int dims[SHAPE_MAX_RANK];
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) || listed_dims(n, dims, e))
        return -1;
    for (int i = 0; i < a->dims.n; i++)
        if (n->in[0]->shape.dim[dims[i]] == BATCH)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: dimension 0 of %s is the batch; expects another dimension",
                             n->what, shape_print(&n->in[0]->shape, &text));
    return node_set_shape(n, &n->in[0]->shape, e);
}

static int pixel_shuffle_shape(struct node *n, struct error *e)
{
    const int64_t f = ((const struct permute *)n->attrs)->factor;
    struct shape s = n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 4, 4, e))
        return -1;
    if (s.dim[1] % (f * f))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: the channels of %s must be a multiple of upscale_factor^2 (%lld)",
                         n->what, shape_print(&s, &text), (long long)(f * f));
    s.dim[1] /= f * f;
    s.dim[2] *= f;
    s.dim[3] *= f;
    return node_set_shape(n, &s, e);
}

static int pixel_unshuffle_shape(struct node *n, struct error *e)
{
    const int64_t f = ((const struct permute *)n->attrs)->factor;
    struct shape s = n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 4, 4, e))
        return -1;
    if (s.dim[2] % f || s.dim[3] % f)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: height and width of %s must be multiples of downscale_factor (%lld)",
                         n->what, shape_print(&s, &text), (long long)f);
    s.dim[1] *= f * f;
    s.dim[2] /= f;
    s.dim[3] /= f;
    return node_set_shape(n, &s, e);
}

/* ---- moving ---------------------------------------------------------------------------------- */

/* The result in the order of its memory: sizes, and the input's step along each. */
struct order {
    int rank;
    int64_t size[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK], base;
};

static void order_add(struct order *o, int64_t size, int64_t step)
{
    o->size[o->rank] = size;
    o->step[o->rank++] = step;
}

static void input_steps(const struct shape *in, int64_t step[SHAPE_MAX_RANK])
{
    int64_t next = 1;
    for (int d = in->rank - 1; d >= 0; d--) {
        step[d] = next;
        next *= in->dim[d];
    }
}

static struct order permute_order(const struct node *n, const struct shape *in)
{
    struct order o = {0};
    int64_t step[SHAPE_MAX_RANK];
    int dims[SHAPE_MAX_RANK] = {0};
    input_steps(in, step);
    listed_dims(n, dims, NULL);
    for (int i = 0; i < in->rank; i++)
        order_add(&o, in->dim[dims[i]], step[dims[i]]);
    return o;
}

static struct order flip_order(const struct node *n, const struct shape *in)
{
    struct order o = {0};
    int64_t step[SHAPE_MAX_RANK];
    int dims[SHAPE_MAX_RANK] = {0};
    input_steps(in, step);
    for (int i = 0; i < in->rank; i++)
        order_add(&o, in->dim[i], step[i]);
    listed_dims(n, dims, NULL);
    for (int i = 0; i < ((const struct permute *)n->attrs)->dims.n; i++) {
        const int d = dims[i];
        o.base += (o.size[d] - 1) * step[d];
        o.step[d] = -step[d];
    }
    return o;
}

/* [N, C, r, r, H, W] -> [N, C, H, r, W, r] */
static struct order pixel_shuffle_order(const struct node *n, const struct shape *in)
{
    const int64_t f = ((const struct permute *)n->attrs)->factor;
    const int64_t h = in->dim[2], w = in->dim[3], c = in->dim[1] / (f * f);
    struct order o = {0};
    order_add(&o, in->dim[0] * c, f * f * h * w);
    order_add(&o, h, w);
    order_add(&o, f, f * h * w);
    order_add(&o, w, 1);
    order_add(&o, f, h * w);
    return o;
}

/* [N, C, H, r, W, r] -> [N, C, r, r, H, W] */
static struct order pixel_unshuffle_order(const struct node *n, const struct shape *in)
{
    const int64_t f = ((const struct permute *)n->attrs)->factor;
    const int64_t h = in->dim[2], w = in->dim[3];
    struct order o = {0};
    order_add(&o, in->dim[0] * in->dim[1], h * w);
    order_add(&o, f, w);
    order_add(&o, f, 1);
    order_add(&o, h / f, f * w);
    order_add(&o, w / f, f);
    return o;
}

struct moving {
    struct order o;
    const real *from;
    real *to;
    bool back; /* from the result's order to the input's */
};

/* Rows of the result's innermost dimension. */
static void move_rows(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct moving *m = arg;
    const struct order *o = &m->o;
    const int64_t row = o->size[o->rank - 1], step = o->step[o->rank - 1];
    for (int64_t i = begin; i < end; i++) {
        int64_t at = o->base, rest = i;
        for (int d = o->rank - 2; d >= 0; d--) {
            at += rest % o->size[d] * o->step[d];
            rest /= o->size[d];
        }
        for (int64_t k = 0; k < row; k++)
            if (m->back)
                m->to[at + k * step] = m->from[i * row + k];
            else
                m->to[i * row + k] = m->from[at + k * step];
    }
}

static void move(struct run *r, const struct moving *m)
{
    const int64_t row = m->o.size[m->o.rank - 1];
    int64_t rows = 1;
    for (int d = 0; d < m->o.rank - 1; d++)
        rows *= m->o.size[d];
    run_for(r, rows, grain_rows(row), move_rows, (void *)m);
}

typedef struct order order_fn(const struct node *n, const struct shape *in);

static void order_forward(const struct node *n, struct run *r, order_fn *f)
{
    const struct shape in = run_shape(r, n->in[0]);
    move(r, &(struct moving){f(n, &in), run_in(r, n, 0), run_value(r, n), false});
}

static void order_backward(const struct node *n, struct run *r, order_fn *f)
{
    const struct shape in = run_shape(r, n->in[0]);
    if (run_grad_in(r, n, 0))
        move(r, &(struct moving){f(n, &in), run_grad(r, n), run_grad_in(r, n, 0), true});
}

/* ---- the table ------------------------------------------------------------------------------- */

#define ORDER_BOTH(name)                                                                           \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        order_forward(n, r, name##_order);                                                         \
    }                                                                                              \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        order_backward(n, r, name##_order);                                                        \
    }
ORDER_BOTH(permute)
ORDER_BOTH(flip)
ORDER_BOTH(pixel_shuffle)
ORDER_BOTH(pixel_unshuffle)

#define ORDER_ROW(name, samples, doc)                                                              \
    {                                                                                              \
#name, "shape", 1, 1, name##_attrs, sizeof(struct permute), NULL, name##_shape, NULL,      \
            name##_forward, name##_backward, NULL, OP_ZERO_FLOPS, samples, doc                     \
    }

const struct op ops_permute[] = {
    ORDER_ROW(permute,
              "Nx2x3x4 dims=0,3,1,2; 2x3x2 dims=2,0,-2; Nx3 dims=0,1; Nx2x1x2x3 dims=0,4,2,1,3",
              "y has the dimensions of x in the order dims"),
    ORDER_ROW(flip, "Nx2x3 dims=2; Nx2x3x2 dims=1,-1; 2x3 dims=0", "y is x reversed along dims"),
    ORDER_ROW(pixel_shuffle, "Nx8x2x3 upscale_factor=2; Nx9x1x2 upscale_factor=3",
              "y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w]"),
    ORDER_ROW(pixel_unshuffle, "Nx2x4x6 downscale_factor=2; Nx1x3x3 downscale_factor=3",
              "y[c r^2 + i r + j, h, w] = x[c, h r + i, w r + j]"),
    {0},
};
