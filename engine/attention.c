/* attention.c: scaled dot product attention, block of queries by block of queries (attention.h).
 *
 * Forward, for a block: s = scale q k^T; p = softmax of each row over the keys that count;
 * y = p v; kept: log_sum = maximum + ln sum. Backward makes p = e^(s - log_sum) again, and with
 * D = sum of dy y over a row:
 *     dv += p^T dy;  ds = p (dy v^T - D) scale;  dq = ds k;  dk += ds^T q.
 * One task owns a head, so dk and dv are summed over the blocks in order. */
#include "attention.h"

#include "blas.h"
#include "kernels.h"
#include "real.h"

#include <math.h>
#include <string.h>

/* One block of queries of one head. */
struct block {
    int64_t sample, head, first, rows, keys;
    real *weights, *slopes; /* [rows][keys] */
};

int64_t attention_scratch(int64_t keys)
{
    return 2 * ATTENTION_ROWS * keys;
}

static int64_t rows_at(const struct attention_rows *at, int64_t sample, int64_t head, int64_t row)
{
    return sample * at->sample + head * at->head + row * at->row;
}

/* Causal blocks need no key behind their last query. */
static struct block block_at(const struct attention *a, int64_t head, int64_t first, real *scratch)
{
    const int64_t left = a->queries - first;
    struct block b = {head / a->heads, head % a->heads, first, 0, a->keys, scratch, NULL};
    b.rows = left < ATTENTION_ROWS ? left : ATTENTION_ROWS;
    if (a->causal && first + b.rows < b.keys)
        b.keys = first + b.rows;
    b.slopes = scratch + ATTENTION_ROWS * a->keys;
    return b;
}

/* Keys that can count for query i of a block: those behind are in its future. */
static int64_t row_keys(const struct attention *a, const struct block *b, int64_t i)
{
    return a->causal && b->first + i + 1 < b->keys ? b->first + i + 1 : b->keys;
}

/* weights = scale q k^T, -infinity where a key does not count. */
static void block_scores(const struct attention *a, const struct block *b)
{
    const real *q = a->q + rows_at(&a->q_rows, b->sample, b->head, b->first);
    const real *k = a->k + rows_at(&a->k_rows, b->sample, b->head, 0);
    blas_gemm(false, true, b->rows, b->keys, a->depth, (real)a->scale, q, a->q_rows.row, k,
              a->k_rows.row, 0, b->weights, b->keys);
    for (int64_t i = 0; (a->causal || a->mask) && i < b->rows; i++) {
        const int64_t mask = rows_at(&a->mask_rows, b->sample, b->head, b->first + i);
        real *row = b->weights + i * b->keys;
        for (int64_t j = 0; a->mask && j < b->keys; j++)
            row[j] = a->mask[mask + j * a->mask_step] ? row[j] : -(real)INFINITY;
        for (int64_t j = row_keys(a, b, i); j < b->keys; j++)
            row[j] = -(real)INFINITY;
    }
}

/* The largest number; NaN when there is one. In lanes, for the compiler. */
static real row_max(const real *row, int64_t n)
{
    enum { LANES = 16 };
    real lane[LANES], max = -(real)INFINITY;
    int64_t j = 0;
    for (int k = 0; k < LANES; k++)
        lane[k] = max;
    for (; j + LANES <= n; j += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] = (row[j + k] > lane[k]) | (row[j + k] != row[j + k]) ? row[j + k] : lane[k];
    for (; j < n; j++)
        max = row[j] > max || row[j] != row[j] ? row[j] : max;
    for (int k = 0; k < LANES; k++)
        max = lane[k] > max || lane[k] != lane[k] ? lane[k] : max;
    return max;
}

/* Scores of n keys become weights; their log_sum is returned, -infinity when no key counts. */
static double softmax_row(real *row, int64_t n)
{
    const real max = row_max(row, n);
    if (max == -(real)INFINITY) {
        memset(row, 0, (size_t)n * sizeof *row);
        return -INFINITY;
    }
    const double sum = kernels()->exponentials(n, max, row);
    const real scale = (real)(1 / sum);
    for (int64_t j = 0; j < n; j++)
        row[j] *= scale;
    return (double)max + log(sum);
}

static void forward_block(const struct attention *a, const struct block *b)
{
    real *log_sum = a->log_sum + (b->sample * a->heads + b->head) * a->queries + b->first;
    block_scores(a, b);
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t n = row_keys(a, b, i);
        real *row = b->weights + i * b->keys;
        log_sum[i] = (real)softmax_row(row, n);
        memset(row + n, 0, (size_t)(b->keys - n) * sizeof *row);
    }
    const real *v = a->v + rows_at(&a->v_rows, b->sample, b->head, 0);
    real *out = a->out + rows_at(&a->y_rows, b->sample, b->head, b->first);
    if (kernels()->as_fast_as_blas)
        kernels()->matmul(b->rows, a->width, b->keys, b->weights, b->keys, v, a->v_rows.row, out,
                          a->y_rows.row);
    else
        blas_gemm(false, false, b->rows, a->width, b->keys, 1, b->weights, b->keys, v,
                  a->v_rows.row, 0, out, a->y_rows.row);
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attention *a = arg;
    const int64_t blocks = (a->queries + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    for (int64_t i = begin; i < end; i++) {
        const struct block b =
            block_at(a, i / blocks, i % blocks * ATTENTION_ROWS, run_scratch(a->r, worker));
        forward_block(a, &b);
    }
}

void attention_forward(const struct attention *a)
{
    const int64_t blocks = (a->queries + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    run_for(a->r, a->samples * a->heads * blocks, 1, forward_range, (void *)a);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* The weights again, and slopes = scale weights (slopes - D), where slopes came as dy v^T. */
static void block_slopes(const struct attention *a, const struct block *b)
{
    const real *log_sum = a->log_sum + (b->sample * a->heads + b->head) * a->queries + b->first;
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t at = rows_at(&a->y_rows, b->sample, b->head, b->first + i);
        real *p = b->weights + i * b->keys, *s = b->slopes + i * b->keys;
        double d = 0;
        for (int64_t c = 0; c < a->width; c++)
            d += (double)a->dy[at + c] * (double)a->y[at + c];
        const bool none = log_sum[i] == -(real)INFINITY;
        for (int64_t j = 0; j < b->keys; j++) {
            p[j] = none ? 0 : RM(exp)(p[j] - log_sum[i]);
            s[j] = (real)a->scale * p[j] * (s[j] - (real)d);
        }
    }
}

/* Adds to dk and dv, which were cleared; writes dq. */
static void backward_block(const struct attention *a, const struct block *b)
{
    const int64_t y = rows_at(&a->y_rows, b->sample, b->head, b->first);
    const int64_t q = rows_at(&a->q_rows, b->sample, b->head, b->first);
    const int64_t k = rows_at(&a->k_rows, b->sample, b->head, 0);
    const int64_t v = rows_at(&a->v_rows, b->sample, b->head, 0);
    block_scores(a, b);
    blas_gemm(false, true, b->rows, b->keys, a->width, 1, a->dy + y, a->y_rows.row, a->v + v,
              a->v_rows.row, 0, b->slopes, b->keys);
    block_slopes(a, b);
    blas_gemm(true, false, b->keys, a->width, b->rows, 1, b->weights, b->keys, a->dy + y,
              a->y_rows.row, 1, a->dv + v, a->v_rows.row);
    blas_gemm(false, false, b->rows, a->depth, b->keys, 1, b->slopes, b->keys, a->k + k,
              a->k_rows.row, 0, a->dq + q, a->q_rows.row);
    blas_gemm(true, false, b->keys, a->depth, b->rows, 1, b->slopes, b->keys, a->q + q,
              a->q_rows.row, 1, a->dk + k, a->k_rows.row);
}

static void clear_rows(real *x, const struct attention_rows *at, int64_t sample, int64_t head,
                       int64_t rows, int64_t width)
{
    for (int64_t t = 0; t < rows; t++)
        memset(x + rows_at(at, sample, head, t), 0, (size_t)width * sizeof *x);
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attention *a = arg;
    for (int64_t head = begin; head < end; head++) {
        clear_rows(a->dk, &a->k_rows, head / a->heads, head % a->heads, a->keys, a->depth);
        clear_rows(a->dv, &a->v_rows, head / a->heads, head % a->heads, a->keys, a->width);
        for (int64_t first = 0; first < a->queries; first += ATTENTION_ROWS) {
            const struct block b = block_at(a, head, first, run_scratch(a->r, worker));
            backward_block(a, &b);
        }
    }
}

void attention_backward(const struct attention *a)
{
    run_for(a->r, a->samples * a->heads, 1, backward_range, (void *)a);
}
