/* conv.h: a convolution's sizes, and its four algorithms: products of windows with packed weights
 * (conv_direct.c), products of transformed tiles for kernels of 3 x 3 (conv_winograd.c), products
 * of planes for few output channels (conv_planes.c), and that of depthwise layers
 * (conv_depthwise.c). ops_conv.c holds the row of conv2d and chooses; ops_conv_line.c (conv1d) and
 * ops_conv_transpose.c put other operators on top.
 *
 * Inside plans images are N,H,W,C. Weights come as O,I/groups,kh,kw and are packed at the start of
 * forward and of backward, so that the numbers of a window follow each other as in an image. */
#ifndef BACKPROP_CONV_H
#define BACKPROP_CONV_H

#include "epilogue.h"
#include "window.h"

struct conv_attrs {
    int64_t out_channels, groups;
    struct window window; /* kernel 0: that of the weight */
    bool bias, winograd;
};

struct conv {
    struct window window;
    int64_t c, h, w;   /* input */
    int64_t o, oh, ow; /* output */
    int64_t groups, cg, og;
    int64_t taps, k; /* of the kernel; numbers in a window of one group */
    int64_t images;  /* 0 while the batch is not known: `memory` is then that of any */
    bool depthwise;  /* one input and one output channel a group */
    bool winograd;   /* may be used where it pays */
    bool predicts;   /* in a plan that may run with one image at a time */
};

/* What one forward or backward works on. Gradients that are not wanted are NULL. */
struct conv_job {
    struct conv v;
    struct run *r;
    const real *x;      /* [images][h][w][c] */
    const real *weight; /* [o][cg][kh][kw] */
    const real *bias;   /* [o] or NULL */
    const real *dy;     /* [images][oh][ow][o] */
    real *y, *dx;       /* as dy, as x */
    real *dweight, *dbias;
    const struct epilogue *epilogue; /* of forward; NULL: none */
    real *work;
    real *prepared; /* packed weights that are kept, or NULL: they are packed into work */
    bool ready;     /* they are there already */
};

/* Of batches of v.images and all smaller ones; `forward` and `prepared` are the same for all. */
struct conv_memory {
    int64_t forward, backward, scratch; /* elements of real */
    int64_t prepared;                   /* what forward can keep from run to run; 0: nothing */
};

/* Of two sizes of memory. */
static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct conv_method {
    const char *name;
    struct conv_memory (*memory)(const struct conv *v);
    void (*forward)(const struct conv_job *j);
    void (*backward)(const struct conv_job *j);
};

extern const struct conv_method conv_direct, conv_winograd, conv_planes, conv_depthwise;
/* The method for these sizes: a pure function of them, but not of `images`, and of the kernels. */
const struct conv_method *conv_method(const struct conv *v);

/* Parts into which sums over the batch are cut: part i of n of [0, count). */
static inline int64_t conv_part(int64_t i, int64_t n, int64_t count)
{
    return count / n * i + count % n * i / n;
}

/* dbias[o] = sum of parts [n_parts][o], in order. */
void conv_reduce_bias(const double *parts, int64_t n_parts, int64_t o, real *dbias);

/* The convolution that takes dy to dx, 3 x 3 or any, where the stride is 1 and there is one; then
 * weights are packed flipped (conv_pack.c). */
bool conv_transposed(const struct conv *v, struct conv *u_r);

/* dbias[o] = sum of dy over images and pixels; `work` as conv_bias_memory says. conv_bias.c */
int64_t conv_bias_memory(const struct conv *v);
void conv_bias_backward(const struct conv_job *j, real *work);

/* Whether Winograd's algorithm can be used for these sizes and is faster. conv_winograd.c */
bool conv_winograd_pays(const struct conv *v);
/* Whether pixels fill the vectors better than channels. conv_planes.c */
bool conv_planes_pays(const struct conv *v);

#endif
