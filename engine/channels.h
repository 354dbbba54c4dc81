/* channels.h: sums for each channel over all rows and positions of a value: statistics and their
 * gradients, gradients of biases.
 *
 * Sums of 16 numbers are taken in `real`, all longer ones in double, in an order that depends on
 * the shape only. Each function adds to the sums that it is given. Callers cut rows into chunks
 * (channel_chunks) and add up the chunks' sums in order. The loops are kernels. Any thread may
 * call.
 */
#ifndef BACKPROP_CHANNELS_H
#define BACKPROP_CHANNELS_H

#include "kernels.h"
#include "op.h"

/* A value [rows][c][inner]; inner is 1 where channels lie last. */
struct channels {
    int64_t rows, c, inner;
};

/* Elements of real that `count` doubles take in a buffer; buffers begin aligned for double. */
static inline int64_t doubles_as_reals(int64_t count)
{
    return count * (int64_t)(sizeof(double) / sizeof(real));
}

/* Cuts rows into at most CHANNEL_CHUNKS ranges: chunk i is [i * rows_each, (i + 1) * rows_each),
 * cut at rows. A pure function of the shape. */
enum { CHANNEL_CHUNKS = 32 };
struct channel_chunks {
    int64_t count, rows_each;
};
static inline struct channel_chunks channel_chunks(const struct channels *v)
{
    int64_t each = grain_rows(v->c * v->inner);
    if (each * CHANNEL_CHUNKS < v->rows)
        each = (v->rows + CHANNEL_CHUNKS - 1) / CHANNEL_CHUNKS;
    return (struct channel_chunks){(v->rows + each - 1) / each, each};
}

/* The part of `v` that chunk i is, and where it begins in the value, in elements. */
static inline struct channels channel_chunk(const struct channels *v, int64_t i, int64_t *begin_r)
{
    struct channel_chunks chunks = channel_chunks(v);
    int64_t begin = i * chunks.rows_each, left = v->rows - begin;
    *begin_r = begin * v->c * v->inner;
    return (struct channels){left < chunks.rows_each ? left : chunks.rows_each, v->c, v->inner};
}

/* sum[c] += x */
static inline void channels_sum(const struct channels *v, const real *x, double *sum)
{
    kernels()->channels_sum(v, x, sum);
}

/* sum[c] += x - centre[c]; squares[c] += (x - centre[c])^2 */
static inline void channels_squares(const struct channels *v, const real *x, const real *centre,
                                    double *sum, double *squares)
{
    kernels()->channels_squares(v, x, centre, sum, squares);
}

/* sum[c] += dy; dot[c] += dy * (x - centre[c]) */
static inline void channels_dot(const struct channels *v, const real *dy, const real *x,
                                const real *centre, double *sum, double *dot)
{
    kernels()->channels_dot(v, dy, x, centre, sum, dot);
}

#endif
