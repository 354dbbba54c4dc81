/* ops_move.c: transpose, which only moves numbers. The batch is dimension 0 and stays there: what
 * would move it is refused. */
#include "kernels.h"
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

static int64_t swap_from(const struct swap *s, int64_t outer, int64_t middle, int64_t r, int64_t c)
{
    return ((outer * s->rows + r) * s->middle + middle) * s->cols + c;
}

static int64_t swap_to(const struct swap *s, int64_t outer, int64_t middle, int64_t r, int64_t c)
{
    return ((outer * s->cols + c) * s->middle + middle) * s->rows + r;
}

static void swap_tile(const struct swap *s, int64_t outer, int64_t middle, int64_t row, int64_t col)
{
    const int64_t rows = row + TILE < s->rows ? row + TILE : s->rows;
    const int64_t cols = col + TILE < s->cols ? col + TILE : s->cols;
    if (s->inner == 1) {
        kernels()->transpose(
            &(struct transpose_rows){.rows = rows - row,
                                     .cols = cols - col,
                                     .src = s->from + swap_from(s, outer, middle, row, col),
                                     .src_step = s->middle * s->cols,
                                     .dst = s->to + swap_to(s, outer, middle, row, col),
                                     .dst_step = s->middle * s->rows});
        return;
    }
    for (int64_t c = col; c < cols; c++)
        for (int64_t r = row; r < rows; r++)
            memcpy(s->to + swap_to(s, outer, middle, r, c) * s->inner,
                   s->from + swap_from(s, outer, middle, r, c) * s->inner,
                   (size_t)s->inner * sizeof(real));
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

/* ---- the table ------------------------------------------------------------------------------- */

const struct op ops_move[] = {
    {"transpose", "shape", 1, 1, transpose_attrs, sizeof(struct transpose), NULL, transpose_shape,
     NULL, transpose_forward, transpose_backward, NULL, OP_ZERO_FLOPS,
     "Nx3x4 dim0=1 dim1=2; Nx2x3x4 dim0=3 dim1=1; 2x3 dim0=0 dim1=1; Nx3x2x2 dim0=1 dim1=2; "
     "40x35 dim0=0 dim1=1; Nx3 dim0=1 dim1=1",
     "y is x with dimensions dim0 and dim1 exchanged"},
    {0},
};
