/* conv_gather.h: the windows of a convolution as rows of a matrix, and back; and the weights in the
 * same order. For conv_gemm.c, whose essay says what blocks, rows and col are. */
#ifndef BACKPROP_CONV_GATHER_H
#define BACKPROP_CONV_GATHER_H

#include "conv.h"

/* Output pixels, numbered through all images. */
struct range {
    int64_t begin, end;
};

/* Windows of pixels p of one group, from images x to col [rows][kh*kw*cg], zeros in the padding
 * (im2col). */
void conv_gather(const struct conv *v, const real *x, struct range p, int64_t group, real *col);

/* The transpose: adds col into images dx (col2im). */
void conv_scatter(const struct conv *v, real *dx, struct range p, int64_t group, const real *col);

/* Weights [o][cg][kh*kw] as [o][kh*kw][cg], at the start of the job's work; those of 1x1 kernels
 * are so already and stay where they are. conv_packed_size: what it takes there, in whole lines of
 * memory, so that what lies behind is aligned. */
const real *conv_pack(const struct conv_job *j);
int64_t conv_packed_size(const struct conv *v);

#endif
