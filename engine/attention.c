/* attention.c: scaled dot product attention, block of queries by block of queries (attention.h).
 *
 * Forward, for a block: s = scale q k^T; p = softmax of each row over the keys that count;
 * y = p v; kept: log_sum = maximum + ln sum. Backward makes p = e^(s - log_sum) again, and with
 * D = sum of dy y over a row:
 *     dv += p^T dy;  ds = p (dy v^T - D) scale;  dq = ds k;  dk += ds^T q.
 * One task owns a head, so dk and dv are summed over the blocks in order.
 *
 * With dropout the weights are m p instead of p, m being 0 or 1 / (1 - dropout): y = (m p) v,
 * dv += (m p)^T dy, ds = p (m (dy v^T) - D) scale, and D is as before. m is a function of (seed,
 * draw, node, sample, head, query, key), so that it is not kept either. */
#include "attention.h"

#include "blas.h"
#include "kernels.h"

#include <math.h>
#include <string.h>

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

/* Keys that can count for query i of a block: those behind are in its future. */
static int64_t row_keys(const struct attention *a, const struct block *b, int64_t i)
{
    return a->causal && b->first + i + 1 < b->keys ? b->first + i + 1 : b->keys;
}

/* weights = scale q k^T + mask, -infinity where a key does not count. */
static void block_scores(const struct attention *a, const struct block *b)
{
    const real *q = a->q + rows_at(&a->q_rows, b->sample, b->head, b->first);
    const real *k = a->k + rows_at(&a->k_rows, b->sample, b->head, 0);
    blas_gemm(false, true, b->rows, b->keys, a->depth, (real)a->scale, q, a->q_rows.row, k,
              a->k_rows.row, 0, b->weights, b->keys);
    for (const struct attention_mask *m = a->masks; m < a->masks + a->n_masks; m++)
        for (int64_t i = 0; i < b->rows; i++)
            mask_row(m, rows_at(&m->rows, b->sample, b->head, b->first + i),
                     b->weights + i * b->keys, b->keys);
    for (int64_t i = 0; a->causal && i < b->rows; i++)
        for (int64_t j = row_keys(a, b, i); j < b->keys; j++)
            b->weights[i * b->keys + j] = -(real)INFINITY;
}

/* Factors of the weights of row i, for keys first .. first + 3: 0 where one is dropped. Each row
 * begins with a block of random words of its own. */
static void dropout_factors(const struct attention *a, const struct block *b, int64_t i,
                            int64_t first, real factor[4])
{
    const uint64_t row = (uint64_t)((b->sample * a->heads + b->head) * a->queries + b->first + i);
    const uint64_t threshold = (uint64_t)(a->dropout * 0x1p32);
    const real kept = a->dropout < 1 ? (real)(1 / (1 - a->dropout)) : 0;
    uint32_t word[4];
    random_block(&a->random, row * (uint64_t)((a->keys + 3) / 4) + (uint64_t)first / 4, word);
    for (int k = 0; k < 4; k++)
        factor[k] = word[k] >= threshold ? kept : 0;
}

/* The weights times their factors of dropout. */
static void block_dropout(const struct attention *a, const struct block *b)
{
    for (int64_t i = 0; a->dropout > 0 && i < b->rows; i++)
        for (int64_t j = 0; j < b->keys; j += 4) {
            real factor[4];
            dropout_factors(a, b, i, j, factor);
            for (int64_t k = 0; k < 4 && j + k < b->keys; k++)
                b->weights[i * b->keys + j + k] *= factor[k];
        }
}

/* Scores of n keys become weights; their log_sum is returned, -infinity when no key counts. */
static double softmax_row(real *row, int64_t n)
{
    const real max = kernels()->largest(n, row);
    if (max == -(real)INFINITY) {
        memset(row, 0, (size_t)n * sizeof *row);
        return -INFINITY;
    }
    const double sum = kernels()->exp_sum(n, row, max, row);
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
    block_dropout(a, b);
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

/* Row i of slopes with dropout, after which the weights are m p. */
static void dropout_slopes(const struct attention *a, const struct block *b, int64_t i, real scale,
                           real d)
{
    real *p = b->weights + i * b->keys, *s = b->slopes + i * b->keys;
    for (int64_t j = 0; j < b->keys; j += 4) {
        real factor[4];
        dropout_factors(a, b, i, j, factor);
        for (int64_t k = 0; k < 4 && j + k < b->keys; k++) {
            s[j + k] = scale * p[j + k] * (s[j + k] * factor[k] - d);
            p[j + k] *= factor[k];
        }
    }
}

/* slopes = scale p (m dy v^T - D), and the weights m p. */
static void block_slopes(const struct attention *a, const struct block *b, real scale)
{
    const int64_t y = rows_at(&a->y_rows, b->sample, b->head, b->first);
    const int64_t v = rows_at(&a->v_rows, b->sample, b->head, 0);
    const real *log_sum = a->log_sum + (b->sample * a->heads + b->head) * a->queries + b->first;
    block_scores(a, b);
    blas_gemm(false, true, b->rows, b->keys, a->width, 1, a->dy + y, a->y_rows.row, a->v + v,
              a->v_rows.row, 0, b->slopes, b->keys);
    for (int64_t i = 0; i < b->rows; i++) {
        const int64_t at = rows_at(&a->y_rows, b->sample, b->head, b->first + i);
        real *p = b->weights + i * b->keys, *s = b->slopes + i * b->keys;
        double d = 0;
        for (int64_t c = 0; c < a->width; c++)
            d += (double)a->dy[at + c] * (double)a->y[at + c];
        if (log_sum[i] == -(real)INFINITY)
            memset(p, 0, (size_t)b->keys * sizeof *p);
        else
            kernels()->exp_sum(b->keys, p, log_sum[i], p);
        if (a->dropout > 0)
            dropout_slopes(a, b, i, scale, (real)d);
        else
            for (int64_t j = 0; j < b->keys; j++)
                s[j] = scale * p[j] * (s[j] - (real)d);
    }
}

/* Adds to dk and dv, which were cleared; writes dq. */
static void backward_block(const struct attention *a, const struct block *b)
{
    const int64_t y = rows_at(&a->y_rows, b->sample, b->head, b->first);
    const int64_t q = rows_at(&a->q_rows, b->sample, b->head, b->first);
    const int64_t k = rows_at(&a->k_rows, b->sample, b->head, 0);
    const int64_t v = rows_at(&a->v_rows, b->sample, b->head, 0);
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

/* ---- the gradient of a mask ------------------------------------------------------------------ */

struct mask_pass {
    const struct attention *a;
    const struct attention_mask *mask;
    real *gradient;
    int64_t samples, heads, blocks; /* that have numbers of their own in the mask; else 1 */
};

static void mask_block(const struct mask_pass *m, const struct block *b)
{
    block_slopes(m->a, b, 1);
    for (int64_t i = 0; i < b->rows; i++) {
        real *to = m->gradient + rows_at(&m->mask->rows, b->sample, b->head, b->first + i);
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
        memset(m->gradient + rows_at(&m->mask->rows, sample, head, i), 0,
               (size_t)(m->mask->step ? a->keys : 1) * sizeof *m->gradient);
    for (int64_t s = sample; s < (m->samples > 1 ? sample + 1 : a->samples); s++)
        for (int64_t h = head; h < (m->heads > 1 ? head + 1 : a->heads); h++)
            for (int64_t at = first; at < last; at += ATTENTION_ROWS) {
                const struct block b = block_at(a, s * a->heads + h, at, scratch);
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
