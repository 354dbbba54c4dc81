/* attention.c: scaled dot product attention, block of queries by block of queries (attention.h).
 *
 * Forward, for a block: s = scale q k^T; p = softmax of each row over the keys that count;
 * y = p v; kept: log_sum = maximum + ln sum. The rows of y are divided by the sums instead of the
 * weights, of which there are more. Backward (attention_backward.c) makes p = e^(s - log_sum)
 * again, and with D = sum of dy y over a row:
 *     dv += p^T dy;  ds = p (dy v^T - D) scale;  dq = ds k;  dk += ds^T q.
 * One task owns a head, so dk and dv are summed over the blocks in order.
 *
 * With dropout the weights are m p instead of p, m being 0 or 1 / (1 - dropout): y = (m p) v,
 * dv += (m p)^T dy, ds = p (m (dy v^T) - D) scale, and D is as before. m is a function of (seed,
 * draw, node, sample, head, query, key), so that it is not kept either. */
#include "attention_block.h"

#include "blas.h"
#include "kernels.h"

#include <math.h>
#include <string.h>

/* The weights times their factors of dropout. */
static void block_dropout(const struct attention *a, const struct attention_block *b)
{
    for (int64_t i = 0; a->dropout > 0 && i < b->rows; i++)
        for (int64_t j = 0; j < b->keys; j += 4) {
            real factor[4];
            attention_dropout_factors(a, b, i, j, factor);
            for (int64_t k = 0; k < 4 && j + k < b->keys; k++)
                b->weights[i * b->keys + j + k] *= factor[k];
        }
}

/* Scores of n keys become weights, of which the sum is returned; and their log_sum, -infinity when
 * no key counts. */
static double exponentials_row(real *row, int64_t n, real *log_sum_r)
{
    const real max = kernels()->largest(n, row);
    if (max == -(real)INFINITY) {
        memset(row, 0, (size_t)n * sizeof *row);
        *log_sum_r = max;
        return 1;
    }
    const double sum = kernels()->exp_sum(n, row, max, row);
    *log_sum_r = (real)((double)max + log(sum));
    return sum;
}

static void forward_block(const struct attention *a, const struct attention_block *b)
{
    real *log_sum = a->log_sum + (b->sample * a->heads + b->head) * a->queries + b->first;
    double sum[ATTENTION_ROWS];
    attention_block_scores(a, b);
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t n = attention_row_keys(a, b, i);
        real *row = b->weights + i * b->keys;
        sum[i] = exponentials_row(row, n, &log_sum[i]);
        memset(row + n, 0, (size_t)(b->keys - n) * sizeof *row);
    }
    block_dropout(a, b);
    const real *v = a->v + attention_at(&a->v_rows, b->sample, b->head, 0);
    real *out = a->out + attention_at(&a->y_rows, b->sample, b->head, b->first);
    if (kernels()->as_fast_as_blas)
        kernels()->matmul(b->rows, a->width, b->keys, b->weights, b->keys, v, a->v_rows.row, out,
                          a->y_rows.row);
    else
        blas_gemm(false, false, b->rows, a->width, b->keys, 1, b->weights, b->keys, v,
                  a->v_rows.row, 0, out, a->y_rows.row);
    for (int64_t i = 0; i < b->rows; i++)
        for (int64_t c = 0; c < a->width; c++)
            out[i * a->y_rows.row + c] *= (real)(1 / sum[i]);
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attention *a = arg;
    const int64_t blocks = (a->queries + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    for (int64_t i = begin; i < end; i++) {
        const struct attention_block b = attention_block_at(
            a, i / blocks, i % blocks * ATTENTION_ROWS, run_scratch(a->r, worker));
        forward_block(a, &b);
    }
}

void attention_forward(const struct attention *a)
{
    const int64_t blocks = (a->queries + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    run_for(a->r, a->samples * a->heads * blocks, 1, forward_range, (void *)a);
}
