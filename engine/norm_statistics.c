/* norm_statistics.c: means and variances of batch norm.
 *
 * Those of a batch are taken chunk by chunk (channels.h): a chunk's deviations from a centre near
 * its mean are summed, which loses nothing to a large mean, and the chunks' means and sums of
 * squares are then joined in order (Chan, Golub and LeVeque 1979). The chunks depend on the shape
 * only. The variance that normalises is the biased one, the one that moves running_var the unbiased
 * one, as in PyTorch. */
#include "norm_batch.h"

#include <math.h>
#include <string.h>

/* ---- the statistics of a batch --------------------------------------------------------------- */

/* The centre of a chunk is the mean of its first rows, as far as they fill a tile of sums. */
static void chunk_centre(const struct channels *v, const real *x, double *sum, real *centre)
{
    enum { FIRST_ROWS = 16 };
    struct channels first = {v->rows < FIRST_ROWS ? v->rows : FIRST_ROWS, v->c, v->inner};
    memset(sum, 0, (size_t)v->c * sizeof *sum);
    channels_sum(&first, x, sum);
    for (int64_t c = 0; c < v->c; c++)
        centre[c] = (real)(sum[c] / (double)(first.rows * v->inner));
}

/* A chunk's mean and sum of squared deviations from it. */
static void chunk_statistics(const struct batch_norm *j, int64_t chunk, real *centre)
{
    int64_t begin, c = j->v.c;
    struct channels v = channel_chunk(&j->v, chunk, &begin);
    double *mean = j->sums + chunk * 2 * c, *squares = mean + c;
    const double count = (double)(v.rows * v.inner);
    chunk_centre(&v, j->x + begin, mean, centre);
    memset(mean, 0, (size_t)(2 * c) * sizeof *mean);
    channels_squares(&v, j->x + begin, centre, mean, squares);
    for (int64_t i = 0; i < c; i++) {
        double off = mean[i] / count;
        squares[i] -= off * mean[i];
        squares[i] = squares[i] < 0 ? 0 : squares[i]; /* by rounding; a NaN stays */
        mean[i] = (double)centre[i] + off;
    }
}

static void statistics_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct batch_norm *j = arg;
    for (int64_t chunk = begin; chunk < end; chunk++)
        chunk_statistics(j, chunk, run_scratch(j->r, worker));
}

struct statistics {
    double count, mean, squares;
};

/* Channel c of all chunks, joined in order. */
static struct statistics join_chunks(const struct batch_norm *j, int64_t c)
{
    struct statistics s = {0, 0, 0};
    for (int64_t chunk = 0; chunk < j->chunks.count; chunk++) {
        int64_t begin;
        struct channels v = channel_chunk(&j->v, chunk, &begin);
        const double *mean = j->sums + chunk * 2 * j->v.c + c, count = (double)(v.rows * v.inner);
        const double total = s.count + count, delta = *mean - s.mean;
        s.mean += delta * (count / total);
        s.squares += mean[j->v.c] + delta * delta * (s.count * count / total);
        s.count = total;
    }
    return s;
}

/* ---- running statistics ---------------------------------------------------------------------- */

/* Where parameter k's moved numbers go; NULL: nowhere. */
static real *moved(const struct batch_norm *j, int k)
{
    const struct node *leaf = node_param_in(j->n, k);
    return leaf && leaf->param && leaf->param->buffer ? run_buffer_out(j->r, leaf) : NULL;
}

/* How much of the new statistics goes into the running ones; counts the batch. A float counts to
 * 2^24 and stays there: the mean of all batches then takes the next ones by that share. */
static double count_batch(const struct batch_norm *j)
{
    const struct batch_norm_attrs *a = j->n->attrs;
    real batches = *norm_param(j->n, j->r, NORM_BATCHES) + 1, *to = moved(j, NORM_BATCHES);
    if (to)
        *to = batches;
    return a->momentum < 0 ? 1 / (double)batches : a->momentum;
}

static void move_running(const struct batch_norm *j, int k, int64_t c, double factor, double value)
{
    real *to = moved(j, k);
    if (to)
        to[c] = (real)((1 - factor) * (double)norm_param(j->n, j->r, k)[c] + factor * value);
}

void batch_norm_use_batch(const struct batch_norm *j, real *mean, real *invstd)
{
    const struct batch_norm_attrs *a = j->n->attrs;
    bool moves = j->r->training && node_param_in(j->n, NORM_MEAN);
    double factor = moves ? count_batch(j) : 0;
    run_for(j->r, j->chunks.count, 1, statistics_range, (void *)j);
    for (int64_t c = 0; c < j->v.c; c++) {
        struct statistics s = join_chunks(j, c);
        mean[c] = (real)s.mean;
        invstd[c] = (real)(1 / sqrt(s.squares / s.count + a->eps));
        if (moves) {
            move_running(j, NORM_MEAN, c, factor, s.mean);
            move_running(j, NORM_VAR, c, factor, s.squares / (s.count - 1));
        }
    }
}

void batch_norm_use_running(const struct batch_norm *j, real *mean, real *invstd)
{
    const struct batch_norm_attrs *a = j->n->attrs;
    const real *running_var = norm_param(j->n, j->r, NORM_VAR);
    memcpy(mean, norm_param(j->n, j->r, NORM_MEAN), (size_t)j->v.c * sizeof *mean);
    for (int64_t c = 0; c < j->v.c; c++)
        invstd[c] = (real)(1 / sqrt((double)running_var[c] + a->eps));
}
