/* ops_concat.c: concat and narrow: putting values together along a dimension, and taking a range of
 * one. Both copy rows, and work in either layout of images. The batch is dimension 0 and stays
 * whole: what would divide it is refused. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

/* ---- concat ---------------------------------------------------------------------------------- */

struct concat {
    int64_t dim;
};
static const struct attr_def concat_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct concat, dim), "1", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimension along which the inputs follow each other; not the batch"},
    {0},
};

static bool fits_but_for(const struct shape *a, const struct shape *b, int dim)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (i != dim && a->dim[i] != b->dim[i])
            return false;
    return true;
}

static int concat_shape(struct node *n, struct error *e)
{
    struct shape out = n->in[0]->shape;
    struct shape_text a, b;
    int dim;
    for (int i = 0; i < n->n_data; i++)
        if (node_check_rank(n, i, 1, SHAPE_MAX_RANK, e))
            return -1;
    if (node_wrap_dim(n, ((const struct concat *)n->attrs)->dim, out.rank, &dim, e))
        return -1;
    if (out.dim[dim] == BATCH)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension %d of %s is the batch; expects another dimension", n->what,
                         dim, shape_print(&out, &a));
    for (int i = 1; i < n->n_data; i++) {
        const struct shape *in = &n->in[i]->shape;
        if (!fits_but_for(&out, in, dim))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: inputs must have equal shapes but for dimension %d, found %s and "
                             "%s",
                             n->what, dim, shape_print(&n->in[0]->shape, &a), shape_print(in, &b));
        if (__builtin_add_overflow(out.dim[dim], in->dim[dim], &out.dim[dim]))
            return error_set(e, ERROR_TOO_LARGE, "%s: its result has too many elements", n->what);
    }
    return node_set_shape(n, &out, e);
}

/* A value as [outer][size][inner] around dimension `dim`, in the order of its memory: channels-last
 * images are N,H,W,C. */
struct split {
    int64_t outer, size, inner;
};
static struct split split_at(const struct node *n, const struct run *r, const struct node *shaped,
                             int dim)
{
    const int plain[] = {0, 1, 2, 3, 4, 5, 6, 7}, last[] = {0, 2, 3, 1};
    const int *order = n->layout == LAYOUT_LAST ? last : plain;
    const struct shape shape = run_shape(r, shaped);
    struct split s = {1, shape.dim[dim], 1};
    bool before = true;
    for (int i = 0; i < shape.rank; i++) {
        if (order[i] != dim)
            *(before ? &s.outer : &s.inner) *= shape.dim[order[i]];
        before &= order[i] != dim;
    }
    return s;
}

/* Rows of one input and where they lie in the rows of the output, or of its gradient. */
struct rows {
    real *to;
    const real *from;
    int64_t to_step, from_step, row; /* elements */
};

static void rows_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct rows *c = arg;
    for (int64_t i = begin; i < end; i++)
        memcpy(c->to + i * c->to_step, c->from + i * c->from_step, (size_t)c->row * sizeof(real));
}

/* Copies every input into its columns of the output, or with `back` those of the gradient into the
 * inputs' gradients. */
static void concat_copy(const struct node *n, struct run *r, bool back)
{
    int64_t given = ((const struct concat *)n->attrs)->dim, column = 0;
    const int dim = (int)(given < 0 ? given + n->shape.rank : given);
    const struct split out = split_at(n, r, n, dim);
    int64_t step = out.size * out.inner;
    for (int i = 0; i < n->n_data; i++) {
        int64_t row = n->in[i]->shape.dim[dim] * out.inner;
        struct rows c = {run_value(r, n) + column, run_in(r, n, i), step, row, row};
        if (back)
            c = (struct rows){run_grad_in(r, n, i), run_grad(r, n) + column, row, step, row};
        if (c.to)
            run_for(r, out.outer, grain_rows(row), rows_range, &c);
        column += row;
    }
}

static void concat_forward(const struct node *n, struct run *r)
{
    concat_copy(n, r, false);
}

static void concat_backward(const struct node *n, struct run *r)
{
    concat_copy(n, r, true);
}

/* ---- narrow ---------------------------------------------------------------------------------- */

struct narrow {
    int64_t dim, start, length;
};
static const struct attr_def narrow_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct narrow, dim), "1", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimension of which a range is taken; not the batch"},
    {"start", ATTR_INT, offsetof(struct narrow, start), NULL, 0, 0x1p48, NULL,
     "first index of the range"},
    {"length", ATTR_INT, offsetof(struct narrow, length), NULL, 1, 0x1p48, NULL,
     "size of the range"},
    {0},
};

static int narrow_shape(struct node *n, struct error *e)
{
    const struct narrow *a = n->attrs;
    struct shape out = n->in[0]->shape;
    struct shape_text text;
    int dim;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) || node_wrap_dim(n, a->dim, out.rank, &dim, e))
        return -1;
    if (out.dim[dim] == BATCH)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension %d of %s is the batch; expects another dimension", n->what,
                         dim, shape_print(&out, &text));
    if (a->start > out.dim[dim] - a->length)
        return error_set(e, ERROR_BAD_SHAPE, "%s: %lld from %lld on is not within %s, dimension %d",
                         n->what, (long long)a->length, (long long)a->start,
                         shape_print(&out, &text), dim);
    out.dim[dim] = a->length;
    return node_set_shape(n, &out, e);
}

/* The rows of the range, and where they lie in those of the input. */
static struct split narrow_rows(const struct node *n, const struct run *r, int64_t *begin_r)
{
    const struct narrow *a = n->attrs;
    const int dim = (int)(a->dim < 0 ? a->dim + n->shape.rank : a->dim);
    struct split in = split_at(n, r, n->in[0], dim);
    *begin_r = a->start * in.inner;
    return in;
}

static void narrow_forward(const struct node *n, struct run *r)
{
    int64_t begin, row;
    const struct split in = narrow_rows(n, r, &begin);
    row = ((const struct narrow *)n->attrs)->length * in.inner;
    struct rows c = {run_value(r, n), run_in(r, n, 0) + begin, row, in.size * in.inner, row};
    run_for(r, in.outer, grain_rows(row), rows_range, &c);
}

/* Rows of the input's gradient: that of the range, zeros around it. */
struct around {
    struct rows range;
    int64_t begin;
};

static void around_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct around *a = arg;
    const struct rows *c = &a->range;
    for (int64_t i = begin; i < end; i++) {
        real *to = c->to + i * c->to_step;
        const int64_t after = a->begin + c->row;
        memset(to, 0, (size_t)a->begin * sizeof *to);
        memcpy(to + a->begin, c->from + i * c->from_step, (size_t)c->row * sizeof *to);
        memset(to + after, 0, (size_t)(c->to_step - after) * sizeof *to);
    }
}

static void narrow_backward(const struct node *n, struct run *r)
{
    int64_t begin;
    const struct split in = narrow_rows(n, r, &begin);
    const int64_t row = ((const struct narrow *)n->attrs)->length * in.inner;
    const int64_t step = in.size * in.inner;
    struct around a = {{run_grad_in(r, n, 0), run_grad(r, n), step, row, row}, begin};
    if (a.range.to)
        run_for(r, in.outer, grain_rows(step), around_range, &a);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct op ops_concat[] = {
    {"concat", "shape", 1, -1, concat_attrs, sizeof(struct concat), NULL, concat_shape, NULL,
     concat_forward, concat_backward, NULL, OP_ZERO_FLOPS | OP_LAYOUT_ALIKE,
     "Nx3 Nx2; Nx2x3 Nx4x3 Nx1x3; Nx2x3 Nx2x1 dim=-1; 2x3 1x3 dim=0; Nx2x2x2 Nx3x2x2; Nx3",
     "y is the inputs one after the other along dim"},
    {"narrow", "shape", 1, 1, narrow_attrs, sizeof(struct narrow), NULL, narrow_shape, NULL,
     narrow_forward, narrow_backward, NULL, OP_ZERO_FLOPS | OP_LAYOUT_ALIKE,
     "Nx5 start=1 length=3; Nx4x2x3 start=2 length=2; Nx2x4 dim=-1 start=0 length=3; "
     "3x2 dim=0 start=2 length=1; Nx2x3x4 dim=2 start=1 length=1",
     "y is `length` of x's indices along dim, from `start` on"},
    {0},
};
