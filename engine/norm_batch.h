/* norm_batch.h: what the two files of batch norm share. Statistics: norm_statistics.c; forward and
 * backward: norm_batch.c. */
#ifndef BACKPROP_NORM_BATCH_H
#define BACKPROP_NORM_BATCH_H

#include "channels.h"
#include "norm.h"

/* Coefficients of a channel: [c] each. */
struct coefficients {
    real *mean, *scale, *shift; /* y = (x - mean) * scale + shift */
    real *dy_mean, *slope;      /* dx = (dy - dy_mean) * scale - (x - mean) * slope */
};

/* One forward or backward: the argument of its ranges. */
struct batch_norm {
    const struct node *n;
    struct run *r;
    struct channels v;
    struct channel_chunks chunks;
    struct coefficients k;
    double *sums; /* [chunks][2][c]: forward mean, sum of squares; backward sum dy, dot */
    const real *x, *dy;
    real *y, *dx;
    enum activation activation;
    const real *residual, *kept; /* NULL: none; y, where it says what dy counts */
    real *masked; /* what counts of dy, where it is written: with a residual its gradient */
};

/* Mean and 1 / sqrt(var + eps) of each channel of the batch, which has more than one value a
 * channel; in training moves the running statistics. */
void batch_norm_use_batch(const struct batch_norm *j, real *mean, real *invstd);

/* The same from the running statistics. */
void batch_norm_use_running(const struct batch_norm *j, real *mean, real *invstd);

#endif
