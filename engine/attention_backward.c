/* attention_backward.c: the gradients of attention; attention.c opens with the algorithm. */
#include "attention_block.h"

#include "blas.h"
#include "kernels.h"

#include <math.h>
#include <string.h>

/* Row i of slopes with dropout, after which the weights are m p. */
static void dropout_slopes(const struct attention *a, const struct attention_block *b, int64_t i,
                           real scale, real d)
{
    real *p = b->weights + i * b->keys, *s = b->slopes + i * b->keys;
    for (int64_t j = 0; j < b->keys; j += 4) {
        real factor[4];
        attention_dropout_factors(a, b, i, j, factor);
        for (int64_t k = 0; k < 4 && j + k < b->keys; k++) {
            s[j + k] = scale * p[j + k] * (s[j + k] * factor[k] - d);
            p[j + k] *= factor[k];
        }
    }
}

/* slopes = scale p (m dy v^T - D), and the weights m p. */
static void block_slopes(const struct attention *a, const struct attention_block *b, real scale)
{
    const int64_t y = attention_at(&a->y_rows, b->sample, b->head, b->first);
    const int64_t v = attention_at(&a->v_rows, b->sample, b->head, 0);
    const real *log_sum = a->log_sum + (b->sample * a->heads + b->head) * a->queries + b->first;
    attention_block_scores(a, b);
    attention_block_product(b, a->width, 1, a->dy + y, a->y_rows.row, a->v + v, a->v_rows.row,
                            b->slopes);
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t at = attention_at(&a->y_rows, b->sample, b->head, b->first + i);
        const int64_t n = log_sum[i] == -(real)INFINITY ? 0 : attention_row_keys(a, b, i);
        real *p = b->weights + i * b->keys, *s = b->slopes + i * b->keys;
        double d = 0;
        for (int64_t c = 0; c < a->width; c++)
            d += (double)a->dy[at + c] * (double)a->y[at + c];
        kernels()->exp_sum(n, p, log_sum[i], p);
        memset(p + n, 0, (size_t)(b->keys - n) * sizeof *p);
        memset(s + n, 0, (size_t)(b->keys - n) * sizeof *s);
        if (a->dropout > 0)
            dropout_slopes(a, b, i, scale, (real)d);
        else
            for (int64_t j = 0; j < n; j++)
                s[j] = scale * p[j] * (s[j] - (real)d);
    }
}

/* Adds to dk and dv, which were cleared; writes dq. */
static void backward_block(const struct attention *a, const struct attention_block *b)
{
    const int64_t y = attention_at(&a->y_rows, b->sample, b->head, b->first);
    const int64_t q = attention_at(&a->q_rows, b->sample, b->head, b->first);
    const int64_t k = attention_at(&a->k_rows, b->sample, b->head, 0);
    const int64_t v = attention_at(&a->v_rows, b->sample, b->head, 0);
    block_slopes(a, b, (real)a->scale);
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
        memset(x + attention_at(at, sample, head, t), 0, (size_t)width * sizeof *x);
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attention *a = arg;
    for (int64_t head = begin; head < end; head++) {
        clear_rows(a->dk, &a->k_rows, head / a->heads, head % a->heads, a->keys, a->depth);
        clear_rows(a->dv, &a->v_rows, head / a->heads, head % a->heads, a->keys, a->width);
        for (int64_t first = 0; first < a->queries; first += ATTENTION_ROWS) {
            const struct attention_block b =
                attention_block_at(a, head, first, run_scratch(a->r, worker));
            backward_block(a, &b);
        }
    }
}

void attention_backward(const struct attention *a)
{
    run_for(a->r, a->samples * a->heads, 1, backward_range, (void *)a);
}

/* ---- the gradient of a mask ------------------------------------------------------------------ */

struct mask_pass {
    const struct attention *a;
    const struct attention_mask *mask;
    real *gradient;
    int64_t samples, heads, blocks; /* that have numbers of their own in the mask; else 1 */
};

static void mask_block(const struct mask_pass *m, const struct attention_block *b)
{
    block_slopes(m->a, b, 1);
    for (int64_t i = 0; i < b->rows; i++) {
        real *to = m->gradient + attention_at(&m->mask->rows, b->sample, b->head, b->first + i);
        for (int64_t j = 0; j < b->keys; j++)
            to[j * m->mask->step] += b->slopes[i * b->keys + j];
    }
}

/* A task owns the numbers of a block of queries of the mask, and goes in order through the samples,
 * heads and blocks that share them. */
static void mask_task(const struct mask_pass *m, int64_t task, real *scratch)
{
    const struct attention *a = m->a;
    const int64_t block = task % m->blocks, head = task / m->blocks % m->heads;
    const int64_t sample = task / m->blocks / m->heads, first = block * ATTENTION_ROWS;
    const int64_t last =
        m->blocks > 1 && first + ATTENTION_ROWS < a->queries ? first + ATTENTION_ROWS : a->queries;
    for (int64_t i = first; i < (m->mask->rows.row ? last : first + 1); i++)
        memset(m->gradient + attention_at(&m->mask->rows, sample, head, i), 0,
               (size_t)(m->mask->step ? a->keys : 1) * sizeof *m->gradient);
    for (int64_t s = sample; s < (m->samples > 1 ? sample + 1 : a->samples); s++)
        for (int64_t h = head; h < (m->heads > 1 ? head + 1 : a->heads); h++)
            for (int64_t at = first; at < last; at += ATTENTION_ROWS) {
                const struct attention_block b =
                    attention_block_at(a, s * a->heads + h, at, scratch);
                mask_block(m, &b);
            }
}

static void mask_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct mask_pass *m = arg;
    for (int64_t task = begin; task < end; task++)
        mask_task(m, task, run_scratch(m->a->r, worker));
}

void attention_backward_mask(const struct attention *a, int which, real *gradient)
{
    const struct attention_mask *mask = &a->masks[which];
    struct mask_pass m = {a, mask, gradient, 1, 1, 1};
    if (mask->rows.sample)
        m.samples = a->samples;
    if (mask->rows.head)
        m.heads = a->heads;
    if (mask->rows.row)
        m.blocks = (a->queries + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    run_for(a->r, m.samples * m.heads * m.blocks, 1, mask_range, &m);
}
