/* window.h: windows that slide over images, for convolution and pooling: their attributes, the size
 * of what they give, and which of their taps lie inside the image. */
#ifndef BACKPROP_WINDOW_H
#define BACKPROP_WINDOW_H

#include "op.h"

enum { HEIGHT, WIDTH };

struct window { /* [HEIGHT], [WIDTH], in pixels */
    int64_t kernel[2], stride[2], padding[2], dilation[2];
};

enum { WINDOW_MAX = 65535 }; /* the largest of each of those */

/* Where padding is -1, on the last `axes` of the two, it becomes what keeps the size of in[0].
 * BAD_ATTRIBUTE where that takes another stride, or more on one side than on the other. */
int window_same(const struct node *n, struct window *w, int axes, struct error *e);

/* Checks that in[0] is N,C,H,W with at least one channel and one pixel. BAD_SHAPE, BAD_DTYPE. */
int window_check_image(const struct node *n, struct error *e);

/* Height and width of the output over in[0], as PyTorch computes them; with `ceil_mode` a last
 * window may hang over the edge if it begins inside. BAD_SHAPE when there would be none. */
int window_output(const struct node *n, const struct window *w, bool ceil_mode, int64_t out_r[2],
                  struct error *e);

/* The same along WIDTH alone, over the last dimension of in[0]. */
int window_output_line(const struct node *n, const struct window *w, bool ceil_mode, int64_t *out_r,
                       struct error *e);

/* Taps [begin, end) along one axis. */
struct taps {
    int64_t begin, end;
};

/* The taps of output coordinate `out` that lie in [0, size); none: begin == end. */
static inline struct taps window_taps(const struct window *w, int axis, int64_t out, int64_t size)
{
    const int64_t d = w->dilation[axis], k = w->kernel[axis];
    const int64_t start = out * w->stride[axis] - w->padding[axis], left = size - start;
    struct taps t = {0, k};
    if (start < 0)
        t.begin = d == 1 ? -start : (-start + d - 1) / d;
    if (left <= (k - 1) * d)
        t.end = left <= 0 ? 0 : d == 1 ? left : (left + d - 1) / d;
    if (t.end < t.begin)
        t.end = t.begin;
    return t;
}

/* The input coordinate of a tap. */
static inline int64_t window_at(const struct window *w, int axis, int64_t out, int64_t tap)
{
    return out * w->stride[axis] - w->padding[axis] + tap * w->dilation[axis];
}

#endif
