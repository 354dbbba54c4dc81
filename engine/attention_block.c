/* attention_block.c: a block of queries of one head: its scores against the keys, the masks and the
 * random factors of its weights.
 *
 * Products of rows with rows, q k^T and dy v^T, turn the keys round first where the engine's own
 * product is as fast as BLAS's: for a head's few dozen numbers that takes a fraction of the
 * product, and BLAS is slow in small ones. */
#include "attention_block.h"

#include "blas.h"
#include "kernels.h"

#include <math.h>

/* ---- masks ----------------------------------------------------------------------------------- */

int attention_mask_check(const struct node *n, int i, const struct shape *scores, struct error *e)
{
    const struct shape *mask = &n->in[i]->shape;
    struct shape_text a, b;
    bool fits = mask->rank == scores->rank;
    for (int d = 0; fits && d < scores->rank; d++)
        fits = mask->dim[d] == scores->dim[d] || mask->dim[d] == 1;
    if (fits)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: the mask must have the shape %s, with 1 where it is the same for all, "
                     "not %s",
                     n->what, shape_print(scores, &a), shape_print(mask, &b));
}

void attention_mask_add(struct attention *a, const struct node *n, int i)
{
    const struct shape s = run_shape(a->r, n->in[i]);
    const int64_t rows = s.dim[s.rank - 2], keys = s.dim[s.rank - 1];
    const int64_t heads = s.rank == 4 ? s.dim[1] : 1;
    struct attention_mask *m = &a->masks[a->n_masks++];
    *m = (struct attention_mask){.step = keys > 1};
    if (n->in[i]->dtype == DTYPE_INT64)
        m->counts = run_in_int64(a->r, n, i);
    else
        m->added = run_in(a->r, n, i);
    m->rows.row = rows > 1 ? keys : 0;
    m->rows.head = heads > 1 ? rows * keys : 0;
    m->rows.sample = s.dim[0] > 1 ? heads * rows * keys : 0;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

int64_t attention_scratch(int64_t keys, int64_t depth, int64_t width)
{
    return (2 * ATTENTION_ROWS + (depth > width ? depth : width)) * keys;
}

struct attention_block attention_block_at(const struct attention *a, int64_t head, int64_t first,
                                          real *scratch)
{
    const int64_t left = a->queries - first;
    struct attention_block b = {head / a->heads, head % a->heads, first, 0,
                                a->keys,         scratch,         NULL,  NULL};
    b.rows = left < ATTENTION_ROWS ? left : ATTENTION_ROWS;
    if (a->causal && first + b.rows < b.keys)
        b.keys = first + b.rows;
    b.slopes = scratch + ATTENTION_ROWS * a->keys;
    b.turned = b.slopes + ATTENTION_ROWS * a->keys;
    return b;
}

/* What one mask does to a row of scores. */
static void mask_row(const struct attention_mask *m, int64_t at, real *row, int64_t keys)
{
    if (m->counts)
        for (int64_t j = 0; j < keys; j++)
            row[j] = m->counts[at + j * m->step] ? row[j] : -(real)INFINITY;
    else
        for (int64_t j = 0; j < keys; j++)
            row[j] += m->added[at + j * m->step];
}

int64_t attention_row_keys(const struct attention *a, const struct attention_block *b, int64_t i)
{
    return a->causal && b->first + i + 1 < b->keys ? b->first + i + 1 : b->keys;
}

/* to [n][rows] = scale * from^T, some rows at a time: whole lines of the cache are written. */
static void turn(int64_t rows, int64_t n, const real *from, int64_t row, real scale, real *to)
{
    enum { TOGETHER = 16 };
    for (int64_t first = 0; first < rows; first += TOGETHER) {
        const int64_t end = first + TOGETHER < rows ? first + TOGETHER : rows;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = first; j < end; j++)
                to[i * rows + j] = scale * from[j * row + i];
    }
}

void attention_block_product(const struct attention_block *b, int64_t n, real scale, const real *x,
                             int64_t x_row, const real *y, int64_t y_row, real *to)
{
    if (!kernels()->as_fast_as_blas) {
        blas_gemm(false, true, b->rows, b->keys, n, scale, x, x_row, y, y_row, 0, to, b->keys);
        return;
    }
    turn(b->keys, n, y, y_row, scale, b->turned);
    kernels()->matmul(b->rows, b->keys, n, x, x_row, b->turned, b->keys, to, b->keys);
}

void attention_block_scores(const struct attention *a, const struct attention_block *b)
{
    const real *q = a->q + attention_at(&a->q_rows, b->sample, b->head, b->first);
    const real *k = a->k + attention_at(&a->k_rows, b->sample, b->head, 0);
    attention_block_product(b, a->depth, (real)a->scale, q, a->q_rows.row, k, a->k_rows.row,
                            b->weights);
    for (const struct attention_mask *m = a->masks; m < a->masks + a->n_masks; m++)
        for (int64_t i = 0; i < b->rows; i++)
            mask_row(m, attention_at(&m->rows, b->sample, b->head, b->first + i),
                     b->weights + i * b->keys, b->keys);
}

void attention_dropout_factors(const struct attention *a, const struct attention_block *b,
                               int64_t i, int64_t first, real factor[4])
{
    const uint64_t row = (uint64_t)((b->sample * a->heads + b->head) * a->queries + b->first + i);
    const uint64_t threshold = (uint64_t)(a->dropout * 0x1p32);
    const real kept = a->dropout < 1 ? (real)(1 / (1 - a->dropout)) : 0;
    uint32_t word[4];
    random_block(&a->random, row * (uint64_t)((a->keys + 3) / 4) + (uint64_t)first / 4, word);
    for (int k = 0; k < 4; k++)
        factor[k] = word[k] >= threshold ? kept : 0;
}
