/* norm_layer.c: layer normalisation, y = (x - mean) * invstd * weight + bias for each row, where a
 * row is the last dimensions together and mean and variance (biased) are the row's own.
 *
 * Rows are independent, forward and backward. With g = dy * weight and xhat = (x - mean) * invstd:
 *     dx = invstd * (g - mean(g) - xhat * mean(g xhat)).
 * rms_norm is the same with a mean of 0 in place of the row's, which mean(g) then does not enter.
 * Gradients of weight and bias are sums over rows, taken chunk by chunk in double. Sums within a
 * row are taken in double, in an order that depends on its length only. */
#include "norm.h"

#include "channels.h"
#include "kernels.h"

#include <math.h>
#include <string.h>

struct job {
    const struct node *n;
    struct run *r;
    bool centred; /* layer_norm; else rms_norm */
    int64_t rows, d;
    struct channel_chunks chunks;
    const real *x, *dy, *weight, *bias;
    real *y, *dx, *mean, *invstd; /* mean and invstd are [rows] */
    double *sums;                 /* [chunks][2][d]: sum dy xhat, sum dy */
};

static int64_t row_length(const struct node *n)
{
    const struct layer_norm_attrs *a = n->attrs;
    int64_t d = 1;
    for (int i = 0; i < a->normalized_shape.n; i++)
        d *= a->normalized_shape.v[i];
    return d;
}

static struct job layer_norm_job(const struct node *n, struct run *r, bool centred)
{
    struct job j = {.n = n, .r = r, .centred = centred, .d = row_length(n), .x = run_in(r, n, 0)};
    j.rows = run_count(r, n) / j.d;
    j.chunks = channel_chunks(&(struct channels){j.rows, j.d, 1});
    j.weight = norm_param(n, r, NORM_WEIGHT);
    j.bias = norm_param(n, r, NORM_BIAS);
    j.mean = run_saved(r, n);
    j.invstd = j.mean + j.rows;
    j.sums = (double *)run_work(r, n);
    return j;
}

void layer_norm_memory(struct node *n)
{
    const int64_t d = row_length(n);
    n->saved = (struct extent){2 * (n->size.sample / d), 2 * (n->size.fixed / d)};
    n->work_backward.fixed = doubles_as_reals(CHANNEL_CHUNKS * 2 * d);
    n->scratch = d; /* g */
}

static struct norm_row row_of(const struct job *j, int64_t row)
{
    return (struct norm_row){.n = j->d,
                             .mean = j->mean[row],
                             .invstd = j->invstd[row],
                             .x = j->x + row * j->d,
                             .weight = j->weight,
                             .bias = j->bias};
}

static void forward_row(const struct job *j, int64_t row)
{
    const struct layer_norm_attrs *a = j->n->attrs;
    const struct kernels *f = kernels();
    const real *x = j->x + row * j->d;
    const double mean = j->centred ? f->row_sum(j->d, x) / (double)j->d : 0;
    const double var = f->row_squares(j->d, x, mean) / (double)j->d;
    j->mean[row] = (real)mean;
    j->invstd[row] = (real)(1 / sqrt(var + a->eps));
    struct norm_row p = row_of(j, row);
    p.y = j->y + row * j->d;
    f->row_normalize(&p);
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t row = begin; row < end; row++)
        forward_row(arg, row);
}

static void rows_forward(const struct node *n, struct run *r, bool centred)
{
    struct job j = layer_norm_job(n, r, centred);
    j.y = run_value(r, n);
    run_for(r, j.rows, grain_rows(j.d), forward_range, &j);
}

void layer_norm_forward(const struct node *n, struct run *r)
{
    rows_forward(n, r, true);
}

void rms_norm_forward(const struct node *n, struct run *r)
{
    rows_forward(n, r, false);
}

static void backward_row(const struct job *j, int64_t row, real *restrict g)
{
    const struct kernels *f = kernels();
    const struct norm_row p = row_of(j, row);
    const real *restrict dy = j->dy + row * j->d;
    for (int64_t i = 0; i < j->d; i++)
        g[i] = j->weight ? dy[i] * j->weight[i] : dy[i];
    const double inv = (double)p.invstd, per = 1 / (double)j->d;
    const real shift = (real)(j->centred ? f->row_sum(j->d, g) * per : 0);
    const real slope = (real)(f->row_dot(j->d, g, p.x, (double)p.mean) * inv * inv * per);
    f->row_normalize_gradient(&p, shift, slope, g, j->dx + row * j->d);
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t row = begin; row < end; row++)
        backward_row(j, row, run_scratch(j->r, worker));
}

/* A chunk's sums for the gradients of weight and bias. */
static void chunk_sums(const struct job *j, int64_t chunk)
{
    int64_t begin;
    struct channels v = channel_chunk(&(struct channels){j->rows, j->d, 1}, chunk, &begin);
    double *restrict dot = j->sums + chunk * 2 * j->d, *restrict sum = dot + j->d;
    memset(dot, 0, (size_t)(2 * j->d) * sizeof *dot);
    for (int64_t i = 0; i < v.rows; i++) {
        const int64_t row = begin / j->d + i;
        const real *restrict x = j->x + row * j->d, *restrict dy = j->dy + row * j->d;
        const real mean = j->mean[row], s = j->invstd[row];
        for (int64_t k = 0; k < j->d; k++) {
            dot[k] += (double)(dy[k] * ((x[k] - mean) * s));
            sum[k] += (double)dy[k];
        }
    }
}

static void sums_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t chunk = begin; chunk < end; chunk++)
        chunk_sums(arg, chunk);
}

/* to[i] = sum over chunks of sums[chunk][which][i], in order. */
static void reduce(const struct job *j, int which, real *to)
{
    for (int64_t i = 0; to && i < j->d; i++) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < j->chunks.count; chunk++)
            sum += j->sums[(chunk * 2 + which) * j->d + i];
        to[i] = (real)sum;
    }
}

static void rows_backward(const struct node *n, struct run *r, bool centred)
{
    struct job j = layer_norm_job(n, r, centred);
    real *dweight = norm_param_grad(n, r, NORM_WEIGHT), *dbias = norm_param_grad(n, r, NORM_BIAS);
    j.dy = run_grad(r, n);
    j.dx = run_grad_in(r, n, 0);
    if (j.dx)
        run_for(r, j.rows, grain_rows(j.d), backward_range, &j);
    if (!dweight && !dbias)
        return;
    run_for(r, j.chunks.count, 1, sums_range, &j);
    reduce(&j, 0, dweight);
    reduce(&j, 1, dbias);
}

void layer_norm_backward(const struct node *n, struct run *r)
{
    rows_backward(n, r, true);
}

void rms_norm_backward(const struct node *n, struct run *r)
{
    rows_backward(n, r, false);
}
