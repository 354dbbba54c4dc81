/* norm_group.c: group normalisation, y = (x - mean) * invstd * weight + bias, where mean and
 * variance (biased) are those of a sample's group of channels over all positions. instance_norm is
 * the same with one channel a group.
 *
 * A group of a sample is a block of lines: plain, a line is a channel's positions; channels-last,
 * a position's channels of the group. Blocks are independent, forward and backward. With
 * g = dy * weight and xhat = (x - mean) * invstd:
 *     dx = invstd * (g - mean(g) - xhat * mean(g xhat)).
 * The gradients of weight and bias are kept for each sample and channel, then added up in order. */
#include "norm.h"

#include "channels.h"

#include <math.h>

struct job {
    const struct node *n;
    struct run *r;
    int64_t samples, channels, groups, positions;
    double eps;
    const real *x, *dy, *weight, *bias;
    real *y, *mean, *invstd; /* y or dx; [samples][groups] */
    double *sums;            /* [samples][channels][2]: sum dy xhat, sum dy */
    real *var;               /* [samples][groups], unbiased: for the running statistics, or NULL */
    const real *running_mean, *running_var; /* in place of the sample's own; or NULL */
};

/* One sample's group: lines of numbers, and how the channel moves with them. */
struct block {
    int64_t first, lines, line, step; /* elements from line to line */
    int64_t channel, by_line, by_item;
};

static int64_t group_count(const struct node *n)
{
    const struct group_norm_attrs *a = n->attrs;
    return a->num_groups ? a->num_groups : n->shape.dim[1];
}

static struct job group_job(const struct node *n, struct run *r)
{
    const struct group_norm_attrs *a = n->attrs;
    struct job j = {.n = n, .r = r, .eps = a->eps, .x = run_in(r, n, 0), .positions = 1};
    j.samples = run_dim(r, n, 0);
    j.channels = n->shape.dim[1];
    j.groups = group_count(n);
    for (int i = 2; i < n->shape.rank; i++)
        j.positions *= n->shape.dim[i];
    j.weight = norm_param(n, r, NORM_WEIGHT);
    j.bias = norm_param(n, r, NORM_BIAS);
    j.mean = run_saved(r, n);
    j.invstd = j.mean + j.samples * j.groups;
    if (a->track_running_stats && r->training)
        j.var = j.invstd + j.samples * j.groups;
    if (a->track_running_stats && !r->training) {
        j.running_mean = norm_param(n, r, NORM_MEAN);
        j.running_var = norm_param(n, r, NORM_VAR);
    }
    j.sums = (double *)(void *)run_work(r, n);
    return j;
}

/* So many elements for each index of dimension 0. */
static struct extent per_sample(const struct node *n, int64_t count)
{
    if (shape_batched(&n->shape))
        return (struct extent){count, 0};
    return (struct extent){0, count * n->shape.dim[0]};
}

void group_norm_memory(struct node *n)
{
    const bool tracks = ((const struct group_norm_attrs *)n->attrs)->track_running_stats;
    n->saved = per_sample(n, (2 + tracks) * group_count(n));
    n->work_backward = per_sample(n, doubles_as_reals(2 * n->shape.dim[1]));
}

static struct block block_at(const struct job *j, int64_t i)
{
    const int64_t width = j->channels / j->groups, channel = i % j->groups * width;
    const int64_t sample = i / j->groups * j->channels * j->positions;
    if (j->n->layout == LAYOUT_LAST)
        return (struct block){sample + channel, j->positions, width, j->channels, channel, 0, 1};
    return (struct block){
        sample + channel * j->positions, width, j->positions, j->positions, channel, 1, 0};
}

static void statistics(const struct job *j, const struct block *b, int64_t i)
{
    const double count = (double)(b->lines * b->line);
    double sum = 0, squares = 0;
    if (j->running_mean) {
        j->mean[i] = j->running_mean[b->channel];
        j->invstd[i] = (real)(1 / sqrt((double)j->running_var[b->channel] + j->eps));
        return;
    }
    for (int64_t l = 0; l < b->lines; l++)
        for (int64_t k = 0; k < b->line; k++)
            sum += (double)j->x[b->first + l * b->step + k];
    const double mean = sum / count;
    for (int64_t l = 0; l < b->lines; l++)
        for (int64_t k = 0; k < b->line; k++) {
            const double d = (double)j->x[b->first + l * b->step + k] - mean;
            squares += d * d;
        }
    j->mean[i] = (real)mean;
    j->invstd[i] = (real)(1 / sqrt(squares / count + j->eps));
    if (j->var)
        j->var[i] = (real)(squares / (count - 1));
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const struct block b = block_at(j, i);
        statistics(j, &b, i);
        for (int64_t l = 0; l < b.lines; l++)
            for (int64_t k = 0; k < b.line; k++) {
                const int64_t at = b.first + l * b.step + k;
                const int64_t c = b.channel + l * b.by_line + k * b.by_item;
                const real xhat = (j->x[at] - j->mean[i]) * j->invstd[i];
                j->y[at] = (j->weight ? xhat * j->weight[c] : xhat) + (j->bias ? j->bias[c] : 0);
            }
    }
}

/* The sums of dy xhat and of dy, of each channel of the block. */
static void channel_sums(const struct job *j, const struct block *b, int64_t i)
{
    const int64_t width = j->channels / j->groups;
    double *sums = j->sums + 2 * (i / j->groups * j->channels + b->channel);
    for (int64_t c = 0; c < 2 * width; c++)
        sums[c] = 0;
    for (int64_t l = 0; l < b->lines; l++)
        for (int64_t k = 0; k < b->line; k++) {
            const int64_t at = b->first + l * b->step + k;
            double *sum = sums + 2 * (l * b->by_line + k * b->by_item);
            sum[0] += (double)j->dy[at] * ((double)j->x[at] - (double)j->mean[i]);
            sum[1] += (double)j->dy[at];
        }
    for (int64_t c = 0; c < width; c++)
        sums[2 * c] *= (double)j->invstd[i];
}

static void backward_block(const struct job *j, int64_t i)
{
    const struct block b = block_at(j, i);
    const int64_t width = j->channels / j->groups;
    const double per = 1 / (double)(b.lines * b.line), inv = (double)j->invstd[i];
    const double *sums = j->sums + 2 * (i / j->groups * j->channels + b.channel);
    double dot = 0, sum = 0;
    channel_sums(j, &b, i);
    for (int64_t c = 0; c < width; c++) {
        const double weight = j->weight ? (double)j->weight[b.channel + c] : 1;
        dot += weight * sums[2 * c];
        sum += weight * sums[2 * c + 1];
    }
    if (j->running_mean) /* they do not depend on x */
        dot = sum = 0;
    for (int64_t l = 0; j->y && l < b.lines; l++)
        for (int64_t k = 0; k < b.line; k++) {
            const int64_t at = b.first + l * b.step + k;
            const int64_t c = b.channel + l * b.by_line + k * b.by_item;
            const double g = (double)j->dy[at] * (j->weight ? (double)j->weight[c] : 1);
            const double xhat = ((double)j->x[at] - (double)j->mean[i]) * inv;
            j->y[at] = (real)(inv * (g - sum * per - xhat * dot * per));
        }
}

static void backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        backward_block(arg, i);
}

static void reduce(const struct job *j, int which, real *to)
{
    for (int64_t c = 0; to && c < j->channels; c++) {
        double sum = 0;
        for (int64_t s = 0; s < j->samples; s++)
            sum += j->sums[2 * (s * j->channels + c) + which];
        to[c] = (real)sum;
    }
}

static void each_block(struct job *j, pool_fn *f)
{
    const int64_t block = j->channels / j->groups * j->positions;
    run_for(j->r, j->samples * j->groups, grain_rows(block), f, j);
}

/* The mean over the samples of `of` moves a running statistic; torch does not count the batches. */
static void track(const struct job *j, int which, const real *of)
{
    const double share = ((const struct group_norm_attrs *)j->n->attrs)->momentum;
    const struct node *leaf = node_param_in(j->n, which);
    const real *old = run_value(j->r, leaf);
    real *to = run_buffer_out(j->r, leaf);
    for (int64_t c = 0; to && c < j->channels; c++) {
        double sum = 0;
        for (int64_t s = 0; s < j->samples; s++)
            sum += (double)of[s * j->channels + c];
        to[c] = (real)((1 - share) * (double)old[c] + share * sum / (double)j->samples);
    }
}

void group_norm_forward(const struct node *n, struct run *r)
{
    struct job j = group_job(n, r);
    j.y = run_value(r, n);
    each_block(&j, forward_range);
    if (j.var) {
        track(&j, NORM_MEAN, j.mean);
        track(&j, NORM_VAR, j.var);
    }
}

void group_norm_backward(const struct node *n, struct run *r)
{
    struct job j = group_job(n, r);
    j.dy = run_grad(r, n);
    j.y = run_grad_in(r, n, 0);
    each_block(&j, backward_range);
    reduce(&j, 0, norm_param_grad(n, r, NORM_WEIGHT));
    reduce(&j, 1, norm_param_grad(n, r, NORM_BIAS));
}
