/* norm_batch.c: batch normalisation, y = (x - mean) * invstd * weight + bias for each channel.
 *
 * Statistics (norm_statistics.c) are the batch's in training, or when none are tracked; else the
 * running ones.
 *
 * Backward, with sums over the batch of m values a channel:
 *     dbias = sum dy, dweight = invstd * sum dy (x - mean),
 *     dx = weight * invstd * (dy - dbias / m - (x - mean) * invstd^2 * sum dy (x - mean) / m);
 * with running statistics, which do not depend on x, only the first term of dx is left.
 *
 * Plans put what follows into the same passes (plan_fuse.c): y = relu(batch_norm(x)),
 * y = relu(batch_norm(x) + residual), y = silu(batch_norm(x)). In place of dy then stands its
 * product with the slope of the activation, which the sums' pass makes; relu's is cheap to make
 * twice. */
#include "norm_batch.h"

#include <string.h>

static struct batch_norm batch_norm_job(const struct node *n, struct run *r)
{
    const int64_t c = n->shape.dim[1];
    const int64_t inner = n->shape.rank == 3 ? n->shape.dim[2] : 1; /* planes; else channels last */
    struct batch_norm j = {.n = n, .r = r, .x = run_in(r, n, 0)};
    j.residual = n->n_data > 1 ? run_in(r, n, 1) : NULL;
    j.v = (struct channels){run_count(r, n) / (c * inner), c, inner};
    j.chunks = channel_chunks(&j.v);
    j.sums = (double *)run_work(r, n);
    real *at = run_work(r, n) + doubles_as_reals(CHANNEL_CHUNKS * 2 * c);
    j.k = (struct coefficients){at, at + c, at + 2 * c, at + 3 * c, at + 4 * c};
    return j;
}

void batch_norm_memory(struct node *n)
{
    const int64_t c = n->shape.dim[1];
    n->saved.fixed = 2 * c; /* mean, invstd */
    n->work.fixed = doubles_as_reals(CHANNEL_CHUNKS * 2 * c) + 5 * c;
    n->scratch = c; /* centre */
}

/* Whether this run takes the statistics of its batch. */
static bool uses_batch(const struct node *n, const struct run *r)
{
    return r->training || !node_param_in(n, NORM_MEAN);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Rows [begin, end), with what forward knows of them. */
static struct norm_rows norm_rows(const struct batch_norm *j, int64_t begin, int64_t end)
{
    const int64_t at = begin * j->v.c;
    return (struct norm_rows){.rows = end - begin,
                              .c = j->v.c,
                              .activation = j->activation,
                              .mean = j->k.mean,
                              .scale = j->k.scale,
                              .shift = j->k.shift,
                              .x = j->x + at,
                              .residual = j->residual ? j->residual + at : NULL};
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
    if (inner == 1) {
        struct norm_rows rows = norm_rows(j, begin, end);
        rows.y = j->y + begin * c;
        kernels()->norm_apply(&rows);
        return;
    }
    for (int64_t plane = begin * c; plane < end * c; plane++)
        apply_plane(&j->k, plane % c, j->x + plane * inner, j->y + plane * inner, inner);
}

/* y = (x - mean) * scale + shift with the mean that was taken and its inverse deviation. */
static void set_coefficients(const struct batch_norm *j, const real *mean, const real *invstd)
{
    const real *weight = norm_param(j->n, j->r, NORM_WEIGHT);
    const real *bias = norm_param(j->n, j->r, NORM_BIAS);
    for (int64_t c = 0; c < j->v.c; c++) {
        j->k.mean[c] = mean[c];
        j->k.scale[c] = weight ? weight[c] * invstd[c] : invstd[c];
        j->k.shift[c] = bias ? bias[c] : 0;
    }
}

static void forward(const struct node *n, struct run *r, enum activation activation)
{
    struct batch_norm j = batch_norm_job(n, r);
    real *saved = run_saved(r, n), *mean = saved, *invstd = saved + j.v.c;
    j.y = run_value(r, n);
    j.activation = activation;
    if (uses_batch(n, r) && j.v.rows * j.v.inner < 2) {
        run_fail(r, ERROR_BAD_VALUE,
                 "%s: batch statistics need more than one value per channel, found a batch of %lld "
                 "with one value each",
                 n->what, (long long)r->args.n);
        return;
    }
    if (uses_batch(n, r) && !r->again)
        batch_norm_use_batch(&j, mean, invstd);
    else if (!r->again)
        batch_norm_use_running(&j, mean, invstd);
    set_coefficients(&j, mean, invstd);
    run_for(r, j.v.rows, grain_rows(j.v.c * j.v.inner), apply_range, &j);
}

void batch_norm_forward(const struct node *n, struct run *r)
{
    forward(n, r, ACTIVATION_NONE);
}

void batch_norm_relu_forward(const struct node *n, struct run *r)
{
    forward(n, r, ACTIVATION_RELU);
}

void batch_norm_silu_forward(const struct node *n, struct run *r)
{
    forward(n, r, ACTIVATION_SILU);
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
        if (v.inner > 1) {
            channels_dot(&v, j->dy + at, j->x + at, j->k.mean, sum, sum + c);
            continue;
        }
        struct norm_rows rows = norm_rows(j, at / c, at / c + v.rows);
        rows.dy = j->dy + at;
        rows.kept = j->kept ? j->kept + at : NULL;
        rows.masked = j->masked ? j->masked + at : NULL;
        kernels()->norm_dot(&rows, sum, sum + c);
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

static inline void gradient_plane(const struct coefficients *k, int64_t c, const real *restrict x,
                                  const real *restrict dy, real *restrict dx, int64_t inner)
{
    const real mean = k->mean[c], scale = k->scale[c], dy_mean = k->dy_mean[c];
    const real slope = k->slope[c];
    for (int64_t i = 0; i < inner; i++)
        dx[i] = (dy[i] - dy_mean) * scale - (x[i] - mean) * slope;
}

static void gradient_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct batch_norm *j = arg;
    const int64_t c = j->v.c, inner = j->v.inner;
    if (inner == 1) {
        struct norm_rows rows = norm_rows(j, begin, end);
        if (j->masked)
            rows.activation = ACTIVATION_NONE;
        rows.dy_mean = j->k.dy_mean;
        rows.slope = j->k.slope;
        rows.dy = (j->masked ? j->masked : j->dy) + begin * c;
        rows.dx = j->dx + begin * c;
        kernels()->norm_gradient(&rows);
        return;
    }
    for (int64_t plane = begin * c; plane < end * c; plane++)
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

static void backward(const struct node *n, struct run *r, enum activation activation)
{
    struct batch_norm j = batch_norm_job(n, r);
    const real *saved = run_saved(r, n), *invstd = saved + j.v.c;
    const double per = uses_batch(n, r) ? 1 / (double)(j.v.rows * j.v.inner) : 0;
    j.dy = run_grad(r, n);
    j.dx = run_grad_in(r, n, 0);
    j.activation = activation;
    if (j.residual) {
        j.kept = run_value(r, n);
        j.masked = run_grad_in(r, n, 1) ? run_grad_in(r, n, 1) : j.dx;
    } else if (activation == ACTIVATION_SILU) {
        j.masked = j.dx;
    }
    set_coefficients(&j, saved, invstd);
    run_for(r, j.chunks.count, 1, dots_range, &j);
    add_chunks(&j);
    for (int64_t c = 0; c < j.v.c; c++) {
        double inv = (double)invstd[c], scale = (double)j.k.scale[c];
        j.k.dy_mean[c] = (real)(j.sums[c] * per);
        j.k.slope[c] = (real)(scale * inv * inv * j.sums[j.v.c + c] * per);
    }
    param_gradients(&j, invstd);
    if (j.dx)
        run_for(r, j.v.rows, grain_rows(j.v.c * j.v.inner), gradient_range, &j);
}

void batch_norm_backward(const struct node *n, struct run *r)
{
    backward(n, r, ACTIVATION_NONE);
}

void batch_norm_relu_backward(const struct node *n, struct run *r)
{
    backward(n, r, ACTIVATION_RELU);
}

void batch_norm_silu_backward(const struct node *n, struct run *r)
{
    backward(n, r, ACTIVATION_SILU);
}
