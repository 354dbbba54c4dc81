/* ops_move.c: operators that only move numbers: transpose and concat. The batch is dimension 0 and
 * stays there: what would move or divide it is refused. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

/* ---- transpose ------------------------------------------------------------------------------- */

struct transpose {
    int64_t dim0, dim1;
};
static const struct attr_def transpose_attrs[] = {
    {"dim0", ATTR_INT, offsetof(struct transpose, dim0), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1,
     NULL, "dimension that changes places with dim1; not the batch"},
    {"dim1", ATTR_INT, offsetof(struct transpose, dim1), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1,
     NULL, "dimension that changes places with dim0; not the batch"},
    {0},
};

/* The two dimensions in order. */
static int transpose_dims(const struct node *n, int *low_r, int *high_r, struct error *e)
{
    const struct transpose *attrs = n->attrs;
    int rank = n->in[0]->shape.rank, a, b;
    if (node_wrap_dim(n, attrs->dim0, rank, &a, e) || node_wrap_dim(n, attrs->dim1, rank, &b, e))
        return -1;
    *low_r = a < b ? a : b;
    *high_r = a < b ? b : a;
    return 0;
}

static int transpose_shape(struct node *n, struct error *e)
{
    struct shape out = n->in[0]->shape;
    struct shape_text text;
    int low, high;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) || transpose_dims(n, &low, &high, e))
        return -1;
    if (out.dim[low] == BATCH && low != high)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension 0 of %s is the batch and cannot be transposed", n->what,
                         shape_print(&out, &text));
    out.dim[low] = n->in[0]->shape.dim[high];
    out.dim[high] = n->in[0]->shape.dim[low];
    return node_set_shape(n, &out, e);
}

/* from: [outer, rows, middle, cols, inner]; to: [outer, cols, middle, rows, inner]. Done in tiles
 * of TILE rows and columns, so that both sides stay in cache. */
enum { TILE = 32 };
struct swap {
    int64_t outer, rows, middle, cols, inner;
    int64_t row_tiles, col_tiles;
    const real *from;
    real *to;
};

static void swap_tile(const struct swap *s, int64_t outer, int64_t middle, int64_t row, int64_t col)
{
    int64_t rows = row + TILE < s->rows ? row + TILE : s->rows;
    int64_t cols = col + TILE < s->cols ? col + TILE : s->cols;
    for (int64_t c = col; c < cols; c++)
        for (int64_t r = row; r < rows; r++) {
            int64_t i = ((outer * s->rows + r) * s->middle + middle) * s->cols + c;
            int64_t o = ((outer * s->cols + c) * s->middle + middle) * s->rows + r;
            if (s->inner == 1)
                s->to[o] = s->from[i];
            else
                memcpy(s->to + o * s->inner, s->from + i * s->inner,
                       (size_t)s->inner * sizeof(real));
        }
}

static void swap_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct swap *s = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i % s->row_tiles, rest = i / s->row_tiles;
        int64_t col = rest % s->col_tiles;
        rest /= s->col_tiles;
        swap_tile(s, rest / s->middle, rest % s->middle, row * TILE, col * TILE);
    }
}

/* `from` has the shape of `shaped`. The same exchange takes gradients back. */
static void swap_dims(const struct node *n, struct run *r, const struct node *shaped,
                      const real *from, real *to)
{
    int low = 0, high = 0;
    struct shape shape = run_shape(r, shaped);
    transpose_dims(n, &low, &high, NULL);
    struct swap s = {1, shape.dim[low], 1, low < high ? shape.dim[high] : 1, 1, 0, 0, from, to};
    for (int i = 0; i < shape.rank; i++)
        if (i < low)
            s.outer *= shape.dim[i];
        else if (i > low && i < high)
            s.middle *= shape.dim[i];
        else if (i > high)
            s.inner *= shape.dim[i];
    s.row_tiles = (s.rows + TILE - 1) / TILE;
    s.col_tiles = (s.cols + TILE - 1) / TILE;
    run_for(r, s.outer * s.middle * s.row_tiles * s.col_tiles, grain_rows(TILE * TILE * s.inner),
            swap_range, &s);
}

static void transpose_forward(const struct node *n, struct run *r)
{
    swap_dims(n, r, n->in[0], run_in(r, n, 0), run_value(r, n));
}

static void transpose_backward(const struct node *n, struct run *r)
{
    if (run_grad_in(r, n, 0))
        swap_dims(n, r, n, run_grad(r, n), run_grad_in(r, n, 0));
}

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
    struct shape out = run_shape(r, n);
    int64_t dim = ((const struct concat *)n->attrs)->dim, outer = 1, inner = 1, column = 0;
    dim = dim < 0 ? dim + out.rank : dim;
    for (int i = 0; i < out.rank; i++)
        if (i != dim)
            *(i < dim ? &outer : &inner) *= out.dim[i];
    int64_t step = out.dim[dim] * inner;
    for (int i = 0; i < n->n_data; i++) {
        int64_t row = n->in[i]->shape.dim[dim] * inner;
        struct rows c = {run_value(r, n) + column, run_in(r, n, i), step, row, row};
        if (back)
            c = (struct rows){run_grad_in(r, n, i), run_grad(r, n) + column, row, step, row};
        if (c.to)
            run_for(r, outer, grain_rows(row), rows_range, &c);
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

/* ---- the table ------------------------------------------------------------------------------- */

#define MOVE_ROW(name, max_in, samples, doc)                                                       \
    {                                                                                              \
#name, "shape", 1, max_in, name##_attrs, sizeof(struct name), NULL, name##_shape, NULL,    \
            name##_forward, name##_backward, NULL, OP_ZERO_FLOPS, samples, doc                     \
    }

const struct op ops_move[] = {
    MOVE_ROW(
        transpose, 1,
        "Nx3x4 dim0=1 dim1=2; Nx2x3x4 dim0=3 dim1=1; 2x3 dim0=0 dim1=1; Nx3x2x2 dim0=1 dim1=2; "
        "40x35 dim0=0 dim1=1; Nx3 dim0=1 dim1=1",
        "y is x with dimensions dim0 and dim1 exchanged"),
    MOVE_ROW(concat, -1,
             "Nx3 Nx2; Nx2x3 Nx4x3 Nx1x3; Nx2x3 Nx2x1 dim=-1; 2x3 1x3 dim=0; Nx2x2x2 Nx3x2x2; Nx3",
             "y is the inputs one after the other along dim"),
    {0},
};
