/* conv_bias.c: the gradient of a convolution's bias: sums of dy for each channel, in chunks that
 * depend on the shape only (channels.h) and are then added in order. */
#include "channels.h"
#include "conv.h"

#include <string.h>

struct task {
    const struct conv_job *j;
    struct channels v;
    double *parts; /* [chunks][o] */
};

static void chunks_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t at;
        const struct channels v = channel_chunk(&t->v, i, &at);
        double *sum = t->parts + i * v.c;
        memset(sum, 0, (size_t)v.c * sizeof *sum);
        channels_sum(&v, t->j->dy + at, sum);
    }
}

void conv_bias_backward(const struct conv_job *j, real *work)
{
    const struct conv *v = &j->v;
    struct task t = {j, {v->images * v->oh * v->ow, v->o, 1}, (double *)work};
    const struct channel_chunks chunks = channel_chunks(&t.v);
    run_for(j->r, chunks.count, 1, chunks_range, &t);
    conv_reduce_bias(t.parts, chunks.count, v->o, j->dbias);
}

int64_t conv_bias_memory(const struct conv *v)
{
    return doubles_as_reals(CHANNEL_CHUNKS * v->o);
}

void conv_reduce_bias(const double *parts, int64_t n_parts, int64_t o, real *dbias)
{
    for (int64_t i = 0; i < o; i++) {
        double sum = 0;
        for (int64_t p = 0; p < n_parts; p++)
            sum += parts[p * o + i];
        dbias[i] = (real)sum;
    }
}
