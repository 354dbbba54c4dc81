/* norm_batch.c: batch normalisation, y = (x - mean) * invstd * weight + bias for each channel.
 *
 * Statistics (norm_statistics.c) are the batch's in training, or when none are tracked; else the
 * running ones.
 *
 * Backward, with sums over the batch of m values a channel:
 *     dbias = sum dy, dweight = invstd * sum dy (x - mean),
 *     dx = weight * invstd * (dy - dbias / m - (x - mean) * invstd^2 * sum dy (x - mean) / m);
 * with running statistics, which do not depend on x, only the first term of dx is left. */
#include "norm_batch.h"

#include <string.h>

static struct batch_norm batch_norm_job(const struct node *n, struct run *r)
{
    const int64_t c = n->shape.dim[1];
    const int64_t inner = n->shape.rank == 3 ? n->shape.dim[2] : 1; /* planes; else channels last */
    struct batch_norm j = {.n = n, .r = r, .x = run_in(r, n, 0)};
    j.v = (struct channels){run_count(r, n) / (c * inner), c, inner};
    j.chunks = channel_chunks(&j.v);
    j.sums = (double *)run_work(r, n);
    real *at = run_work(r, n) + doubles_as_reals(CHANNEL_CHUNKS * 2 * c);
    j.k = (struct coefficients){at, at + c, at + 2 * c, at + 3 * c};
    return j;
}

void batch_norm_memory(struct node *n)
{
    const int64_t c = n->shape.dim[1];
    n->saved.fixed = 2 * c; /* mean, invstd */
    n->work.fixed = doubles_as_reals(CHANNEL_CHUNKS * 2 * c) + 4 * c;
    n->scratch = c; /* centre */
}

/* Whether this run takes the statistics of its batch. */
static bool uses_batch(const struct node *n, const struct run *r)
{
    return r->training || !node_param_in(n, NORM_MEAN);
}

/* ---- forward --------------------------------------------------------------------------------- */

static inline void apply_row(const struct coefficients *k, const real *restrict x, real *restrict y,
                             int64_t c)
{
    const real *restrict mean = k->mean, *restrict scale = k->scale, *restrict shift = k->shift;
    for (int64_t i = 0; i < c; i++)
        y[i] = (x[i] - mean[i]) * scale[i] + shift[i];
}

static inline void apply_plane(const struct coefficients *k, int64_t c, const real *restrict x,
                               real *restrict y, int64_t inner)
{
    const real mean = k->mean[c], scale = k->scale[c], shift = k->shift[c];
    for (int64_t i = 0; i < inner; i++)
        y[i] = (x[i] - mean) * scale + shift;
}

static void apply_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct batch_norm *j = arg;
    const int64_t c = j->v.c, inner = j->v.inner;
    for (int64_t row = begin; inner == 1 && row < end; row++)
        apply_row(&j->k, j->x + row * c, j->y + row * c, c);
    for (int64_t plane = begin * c; inner > 1 && plane < end * c; plane++)
        apply_plane(&j->k, plane % c, j->x + plane * inner, j->y + plane * inner, inner);
}

void batch_norm_forward(const struct node *n, struct run *r)
{
    struct batch_norm j = batch_norm_job(n, r);
    const real *weight = norm_param(n, r, NORM_WEIGHT), *bias = norm_param(n, r, NORM_BIAS);
    real *saved = run_saved(r, n), *mean = saved, *invstd = saved + j.v.c;
    j.y = run_value(r, n);
    if (uses_batch(n, r) && j.v.rows * j.v.inner < 2) {
        run_fail(r, ERROR_BAD_VALUE,
                 "%s: batch statistics need more than one value per channel, found a batch of %lld "
                 "with one value each",
                 n->what, (long long)r->args.n);
        return;
    }
    if (uses_batch(n, r))
        batch_norm_use_batch(&j, mean, invstd);
    else
        batch_norm_use_running(&j, mean, invstd);
    for (int64_t c = 0; c < j.v.c; c++) {
        j.k.mean[c] = mean[c];
        j.k.scale[c] = weight ? weight[c] * invstd[c] : invstd[c];
        j.k.shift[c] = bias ? bias[c] : 0;
    }
    run_for(r, j.v.rows, grain_rows(j.v.c * j.v.inner), apply_range, &j);
}

/* ---- backward -------------------------------------------------------------------------------- */

static void dots_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct batch_norm *j = arg;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t at, c = j->v.c;
        struct channels v = channel_chunk(&j->v, chunk, &at);
        double *sum = j->sums + chunk * 2 * c;
        memset(sum, 0, (size_t)(2 * c) * sizeof *sum);
        channels_dot(&v, j->dy + at, j->x + at, j->k.mean, sum, sum + c);
    }
}

/* Adds the chunks in order: sums[0..c) and sums[c..2c) then hold those of the batch. */
static void add_chunks(const struct batch_norm *j)
{
    const int64_t width = 2 * j->v.c;
    if (j->chunks.count == 0)
        memset(j->sums, 0, (size_t)width * sizeof *j->sums);
    for (int64_t chunk = 1; chunk < j->chunks.count; chunk++)
        for (int64_t i = 0; i < width; i++)
            j->sums[i] += j->sums[chunk * width + i];
}

static inline void gradient_row(const struct coefficients *k, const real *restrict x,
                                const real *restrict dy, real *restrict dx, int64_t c)
{
    const real *restrict mean = k->mean, *restrict scale = k->scale, *restrict shift = k->shift;
    const real *restrict slope = k->slope;
    for (int64_t i = 0; i < c; i++)
        dx[i] = (dy[i] - shift[i]) * scale[i] - (x[i] - mean[i]) * slope[i];
}

static inline void gradient_plane(const struct coefficients *k, int64_t c, const real *restrict x,
                                  const real *restrict dy, real *restrict dx, int64_t inner)
{
    const real mean = k->mean[c], scale = k->scale[c], shift = k->shift[c], slope = k->slope[c];
    for (int64_t i = 0; i < inner; i++)
        dx[i] = (dy[i] - shift) * scale - (x[i] - mean) * slope;
}

static void gradient_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct batch_norm *j = arg;
    const int64_t c = j->v.c, inner = j->v.inner;
    for (int64_t row = begin; inner == 1 && row < end; row++)
        gradient_row(&j->k, j->x + row * c, j->dy + row * c, j->dx + row * c, c);
    for (int64_t plane = begin * c; inner > 1 && plane < end * c; plane++)
        gradient_plane(&j->k, plane % c, j->x + plane * inner, j->dy + plane * inner,
                       j->dx + plane * inner, inner);
}

/* Gradients of running statistics, for callers who bring their own as part of the graph. */
static void running_gradients(const struct batch_norm *j, const real *invstd)
{
    real *dmean = norm_param_grad(j->n, j->r, NORM_MEAN);
    real *dvar = norm_param_grad(j->n, j->r, NORM_VAR);
    real *dbatches = norm_param_grad(j->n, j->r, NORM_BATCHES);
    bool used = !uses_batch(j->n, j->r);
    for (int64_t c = 0; c < j->v.c; c++) {
        double scale = used ? (double)j->k.scale[c] : 0, inv = (double)invstd[c];
        if (dmean)
            dmean[c] = (real)(-scale * j->sums[c]);
        if (dvar)
            dvar[c] = (real)(-0.5 * scale * inv * inv * j->sums[j->v.c + c]);
    }
    if (dbatches)
        *dbatches = 0;
}

static void param_gradients(const struct batch_norm *j, const real *invstd)
{
    real *dweight = norm_param_grad(j->n, j->r, NORM_WEIGHT);
    real *dbias = norm_param_grad(j->n, j->r, NORM_BIAS);
    for (int64_t c = 0; c < j->v.c; c++) {
        if (dweight)
            dweight[c] = (real)(j->sums[j->v.c + c] * (double)invstd[c]);
        if (dbias)
            dbias[c] = (real)j->sums[c];
    }
    running_gradients(j, invstd);
}

void batch_norm_backward(const struct node *n, struct run *r)
{
    struct batch_norm j = batch_norm_job(n, r);
    const real *weight = norm_param(n, r, NORM_WEIGHT), *saved = run_saved(r, n);
    const real *invstd = saved + j.v.c;
    const double per = uses_batch(n, r) ? 1 / (double)(j.v.rows * j.v.inner) : 0;
    j.dy = run_grad(r, n);
    j.dx = run_grad_in(r, n, 0);
    memcpy(j.k.mean, saved, (size_t)j.v.c * sizeof *saved);
    run_for(r, j.chunks.count, 1, dots_range, &j);
    add_chunks(&j);
    for (int64_t c = 0; c < j.v.c; c++) {
        double inv = (double)invstd[c], scale = weight ? (double)weight[c] * inv : inv;
        j.k.scale[c] = (real)scale;
        j.k.shift[c] = (real)(j.sums[c] * per);
        j.k.slope[c] = (real)(scale * inv * inv * j.sums[j.v.c + c] * per);
    }
    param_gradients(&j, invstd);
    if (j.dx)
        run_for(r, j.v.rows, grain_rows(j.v.c * j.v.inner), gradient_range, &j);
}
