/* pooling.h: pooling of images, shared by pooling_max.c and pooling_avg.c; ops_pool.c holds the
 * attributes, shapes and rows.
 *
 * Images are N,H,W,C inside plans, so a window's result is computed for all channels at once, in
 * vector code. Forward is parallel over output pixels; backward, where windows may overlap, over
 * images. */
#ifndef BACKPROP_POOLING_H
#define BACKPROP_POOLING_H

#include "window.h"

struct pool_attrs {
    struct window window; /* stride 0: the kernel's size */
    bool ceil_mode, count_include_pad;
    int64_t output_size[2]; /* adaptive */
};

/* The window of a node, with what its attributes leave open filled in. */
struct window pooling_window(const struct node *n);

/* The taps of one output pixel that lie in the image, and what a mean divides by. */
struct cell {
    struct taps down, across;
    int64_t y, x; /* input coordinates of tap 0; outside the image where it is padding */
    double count;
};

struct pooling;
typedef struct cell cell_fn(const struct pooling *p, int64_t oy, int64_t ox);

/* What one forward or backward works on: the argument of its ranges. */
struct pooling {
    const struct node *n;
    struct run *r;
    struct image in, out;
    struct window window;
    bool count_include_pad;
    cell_fn *cell;
};
/* Values [N, C, L] are N C images of one channel, one pixel high. */
struct pooling pooling_of(const struct node *n, struct run *r, cell_fn *cell);

/* A window of kernel, stride, padding and dilation. */
cell_fn pooling_window_cell;

/* Calls f for ranges of output pixels, numbered through all images. */
void pooling_each_pixel(struct pooling *p, pool_fn *f);

/* Where in an image of `in` the tap lies, in pixels. */
static inline int64_t pooling_pixel(const struct pooling *p, const struct cell *c, int64_t ky,
                                    int64_t kx)
{
    return (c->y + ky * p->window.dilation[HEIGHT]) * p->in.w + c->x +
           kx * p->window.dilation[WIDTH];
}

/* Columns of the rows. */
void max_pool_memory(struct node *n);
void max_pool_forward(const struct node *n, struct run *r);
void max_pool_backward(const struct node *n, struct run *r);
void avg_pool_memory(struct node *n);
void avg_pool_forward(const struct node *n, struct run *r);
void avg_pool_backward(const struct node *n, struct run *r);
void adaptive_avg_pool_forward(const struct node *n, struct run *r);
void adaptive_avg_pool_backward(const struct node *n, struct run *r);
void adaptive_max_pool_forward(const struct node *n, struct run *r);
void adaptive_max_pool_backward(const struct node *n, struct run *r);

/* The cell of an adaptive pool. */
cell_fn adaptive_cell;

#endif
