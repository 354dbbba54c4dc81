/* ops_tile.c: operators that repeat or line up their inputs: expand and repeat, whose gradient is a
 * sum over the copies, and stack, which puts its inputs side by side along a new dimension. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

/* ---- expand and repeat ----------------------------------------------------------------------- */

struct tile {
    struct int_list sizes;
};
static const struct attr_def expand_attrs[] = {
    {"shape", ATTR_INTS, offsetof(struct tile, sizes), NULL, -1, 0x1p48, NULL,
     "the new sizes; -1 keeps one; the batch is a leading -1"},
    {0},
};
static const struct attr_def repeat_attrs[] = {
    {"repeats", ATTR_INTS, offsetof(struct tile, sizes), NULL, 1, 0x1p31, NULL,
     "how often each dimension is repeated; 1 for the batch"},
    {0},
};

/* Both have as many numbers as the result has dimensions; the input's dimensions are the last. */
static int tile_rank(const struct node *n, struct shape *in_r, struct error *e)
{
    const struct int_list *list = &((const struct tile *)n->attrs)->sizes;
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e))
        return -1;
    const int more = list->n - in->rank;
    if (more < 0 || (more > 0 && shape_batched(in)))
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute '%s' must have one number for each dimension of %s, not %d",
                         n->what, n->op->attrs[0].name, shape_print(in, &text), list->n);
    *in_r = (struct shape){.rank = list->n};
    for (int i = 0; i < list->n; i++)
        in_r->dim[i] = i < more ? 1 : in->dim[i - more];
    return 0;
}

static int expand_shape(struct node *n, struct error *e)
{
    const struct int_list *list = &((const struct tile *)n->attrs)->sizes;
    struct shape out;
    struct shape_text text;
    const int more = list->n - n->in[0]->shape.rank;
    if (tile_rank(n, &out, e))
        return -1;
    for (int i = 0; i < out.rank; i++) {
        const int64_t want = list->v[i];
        if ((want == -1 && i >= more) || want == out.dim[i])
            continue;
        if (out.dim[i] != 1 || want < 1)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: dimension %d of %s cannot be expanded to %lld: only sizes of 1 "
                             "can",
                             n->what, i, shape_print(&out, &text), (long long)want);
        out.dim[i] = want;
    }
    return node_set_shape(n, &out, e);
}

static int repeat_shape(struct node *n, struct error *e)
{
    const struct int_list *list = &((const struct tile *)n->attrs)->sizes;
    struct shape out;
    if (tile_rank(n, &out, e))
        return -1;
    for (int i = 0; i < out.rank; i++) {
        if (out.dim[i] == BATCH && list->v[i] != 1)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: dimension 0 is the batch; expects 1 there, not %lld", n->what,
                             (long long)list->v[i]);
        if (list->v[i] != 1 && __builtin_mul_overflow(out.dim[i], list->v[i], &out.dim[i]))
            return error_set(e, ERROR_TOO_LARGE, "%s: its result has too many elements", n->what);
    }
    return node_set_shape(n, &out, e);
}

/* Both results are the input `times` over along each dimension. */
struct tiling {
    int rank;
    int64_t size[SHAPE_MAX_RANK], times[SHAPE_MAX_RANK]; /* of the input's dimensions */
    int64_t copies;
    const real *from;
    real *to;
};

static struct tiling tiling_of(const struct node *n, const struct run *r)
{
    const struct shape in = run_shape(r, n->in[0]), out = run_shape(r, n);
    struct tiling t = {.rank = out.rank, .copies = 1};
    for (int i = 0; i < out.rank; i++) {
        const int j = i - (out.rank - in.rank);
        t.size[i] = j < 0 ? 1 : in.dim[j];
        t.times[i] = out.dim[i] / t.size[i];
        t.copies *= t.times[i];
    }
    return t;
}

static void tile_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct tiling *t = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t rest = i, at = 0, step = 1;
        for (int d = t->rank - 1; d >= 0; d--) {
            at += rest % (t->size[d] * t->times[d]) % t->size[d] * step;
            rest /= t->size[d] * t->times[d];
            step *= t->size[d];
        }
        t->to[i] = t->from[at];
    }
}

/* The place of copy k of input element i in the result. */
static int64_t copy_at(const struct tiling *t, int64_t i, int64_t k)
{
    int64_t at = 0, step = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        at += (i % t->size[d] + k % t->times[d] * t->size[d]) * step;
        i /= t->size[d];
        k /= t->times[d];
        step *= t->size[d] * t->times[d];
    }
    return at;
}

static void tile_sums_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct tiling *t = arg;
    for (int64_t i = begin; i < end; i++) {
        double sum = 0;
        for (int64_t k = 0; k < t->copies; k++)
            sum += (double)t->from[copy_at(t, i, k)];
        t->to[i] = (real)sum;
    }
}

static void tile_forward(const struct node *n, struct run *r)
{
    struct tiling t = tiling_of(n, r);
    t.from = run_in(r, n, 0);
    t.to = run_value(r, n);
    run_for(r, run_count(r, n), GRAIN_ELEMENTS, tile_range, &t);
}

static void tile_backward(const struct node *n, struct run *r)
{
    struct tiling t = tiling_of(n, r);
    t.from = run_grad(r, n);
    t.to = run_grad_in(r, n, 0);
    if (t.to)
        run_for(r, run_count(r, n->in[0]), grain_rows(t.copies), tile_sums_range, &t);
}

/* ---- stack ----------------------------------------------------------------------------------- */

struct stack {
    int64_t dim;
};
static const struct attr_def stack_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct stack, dim), "1", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "where the new dimension stands; not before the batch"},
    {0},
};

static int stack_dim(const struct node *n, int *dim_r, struct error *e)
{
    return node_wrap_dim(n, ((const struct stack *)n->attrs)->dim, n->in[0]->shape.rank + 1, dim_r,
                         e);
}

static int stack_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    struct shape out = *in;
    struct shape_text a, b;
    int dim;
    for (int i = 0; i < n->n_data; i++)
        if (node_check_rank(n, i, 0, SHAPE_MAX_RANK - 1, e))
            return -1;
    if (stack_dim(n, &dim, e))
        return -1;
    if (dim == 0 && shape_batched(in))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension 0 of %s is the batch and must stay in front", n->what,
                         shape_print(in, &a));
    for (int i = 1; i < n->n_data; i++)
        if (!shape_equal(in, &n->in[i]->shape))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: inputs must have equal shapes, found %s and %s", n->what,
                             shape_print(in, &a), shape_print(&n->in[i]->shape, &b));
    memmove(&out.dim[dim + 1], &out.dim[dim], sizeof out.dim[0] * (size_t)(in->rank - dim));
    out.dim[dim] = n->n_data;
    out.rank++;
    return node_set_shape(n, &out, e);
}

/* Blocks of one input, which stand `step` apart in the result. */
struct stacking {
    real *to;
    const real *from;
    int64_t block, to_step, from_step;
};

static void stack_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct stacking *s = arg;
    for (int64_t i = begin; i < end; i++)
        memcpy(s->to + i * s->to_step, s->from + i * s->from_step, (size_t)s->block * sizeof(real));
}

static void stack_copy(const struct node *n, struct run *r, bool back)
{
    const struct shape in = run_shape(r, n->in[0]);
    int64_t block = 1;
    int dim = 0;
    stack_dim(n, &dim, NULL);
    for (int i = dim; i < in.rank; i++)
        block *= in.dim[i];
    for (int i = 0; i < n->n_data; i++) {
        struct stacking s = {run_value(r, n) + i * block, run_in(r, n, i), block, n->n_data * block,
                             block};
        if (back)
            s = (struct stacking){run_grad_in(r, n, i), run_grad(r, n) + i * block, block, block,
                                  n->n_data * block};
        if (s.to)
            run_for(r, run_count(r, n->in[i]) / block, grain_rows(block), stack_range, &s);
    }
}

static void stack_forward(const struct node *n, struct run *r)
{
    stack_copy(n, r, false);
}

static void stack_backward(const struct node *n, struct run *r)
{
    stack_copy(n, r, true);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct op ops_tile[] = {
    {"expand", "shape", 1, 1, expand_attrs, sizeof(struct tile), NULL, expand_shape, NULL,
     tile_forward, tile_backward, NULL, OP_ZERO_FLOPS,
     "Nx1x3 shape=-1,4,-1; 3 shape=2,3; 1x2x1 shape=3,2,2; scalar shape=2,2",
     "y is x with its dimensions of size 1 repeated to shape"},
    {"repeat", "shape", 1, 1, repeat_attrs, sizeof(struct tile), NULL, repeat_shape, NULL,
     tile_forward, tile_backward, NULL, OP_ZERO_FLOPS,
     "Nx2x3 repeats=1,2,2; 3 repeats=2,2; Nx2 repeats=1,1",
     "y is x, `repeats` times over along "
     "each dimension"},
    {"stack", "shape", 1, -1, stack_attrs, sizeof(struct stack), NULL, stack_shape, NULL,
     stack_forward, stack_backward, NULL, OP_ZERO_FLOPS,
     "Nx3 Nx3; Nx2x3 Nx2x3 Nx2x3 dim=-1; 2 2 dim=0; Nx2x3 Nx2x3 dim=2; Nx3",
     "y is the inputs side by side along a new dimension dim"},
    {0},
};
