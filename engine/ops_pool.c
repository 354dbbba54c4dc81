/* ops_pool.c: pooling of images and sequences, by windows and adaptive: attributes, shapes and
 * rows. The arithmetic is in pooling_max.c and pooling_avg.c. */
#include "pooling.h"

#include <stddef.h>

#define POOL_ATTR(name, type, field, fallback, min, max, doc)                                      \
    {                                                                                              \
        name, type, offsetof(struct pool_attrs, field), fallback, min, max, NULL, doc              \
    }

#define WINDOW_ATTRS                                                                               \
    POOL_ATTR("kernel_size", ATTR_PAIR, window.kernel, NULL, 1, WINDOW_MAX,                        \
              "height and width of the window"),                                                   \
        POOL_ATTR("stride", ATTR_PAIR, window.stride, "0", 1, WINDOW_MAX,                          \
                  "pixels from one window to the next; kernel_size when left out"),                \
        POOL_ATTR("padding", ATTR_PAIR, window.padding, "0", 0, WINDOW_MAX,                        \
                  "pixels around the image, at most half of kernel_size"),                         \
        POOL_ATTR("ceil_mode", ATTR_BOOL, ceil_mode, "false", 0, 0,                                \
                  "a last window may hang over the edge")

static const struct attr_def max_pool_attrs[] = {
    WINDOW_ATTRS,
    POOL_ATTR("dilation", ATTR_PAIR, window.dilation, "1", 1, WINDOW_MAX,
              "pixels from one element of the window to the next"),
    {0},
};

static const struct attr_def avg_pool_attrs[] = {
    WINDOW_ATTRS,
    POOL_ATTR("count_include_pad", ATTR_BOOL, count_include_pad, "true", 0, 0,
              "whether padding counts in the mean, as zeros"),
    {0},
};

/* Of values [N, C, L]; the height is left at 0. */
#define LINE_ATTRS                                                                                 \
    POOL_ATTR("kernel_size", ATTR_INT, window.kernel[WIDTH], NULL, 1, WINDOW_MAX,                  \
              "length of the window"),                                                             \
        POOL_ATTR("stride", ATTR_INT, window.stride[WIDTH], "0", 1, WINDOW_MAX,                    \
                  "steps from one window to the next; kernel_size when left out"),                 \
        POOL_ATTR("padding", ATTR_INT, window.padding[WIDTH], "0", 0, WINDOW_MAX,                  \
                  "places around the sequence, at most half of kernel_size"),                      \
        POOL_ATTR("ceil_mode", ATTR_BOOL, ceil_mode, "false", 0, 0,                                \
                  "a last window may hang over the edge")

static const struct attr_def max_pool1d_attrs[] = {
    LINE_ATTRS,
    POOL_ATTR("dilation", ATTR_INT, window.dilation[WIDTH], "1", 1, WINDOW_MAX,
              "places from one element of the window to the next"),
    {0},
};

static const struct attr_def avg_pool1d_attrs[] = {
    LINE_ATTRS,
    POOL_ATTR("count_include_pad", ATTR_BOOL, count_include_pad, "true", 0, 0,
              "whether padding counts in the mean, as zeros"),
    {0},
};

static const struct attr_def adaptive_pool1d_attrs[] = {
    POOL_ATTR("output_size", ATTR_INT, output_size[WIDTH], NULL, 1, 1 << 24,
              "length of the output"),
    {0},
};

static const struct attr_def adaptive_avg_pool_attrs[] = {
    POOL_ATTR("output_size", ATTR_PAIR, output_size, NULL, 1, 1 << 24,
              "height and width of the output"),
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

/* A sequence [N, C, L] with sizes of at least 1. */
static int check_line(const struct node *n, struct error *e)
{
    struct shape_text text;
    if (node_check_rank(n, 0, 3, 3, e))
        return -1;
    const struct shape *s = &n->in[0]->shape;
    if (s->dim[1] >= 1 && s->dim[2] >= 1)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: expects sequences [N, C, L] with sizes of at least 1, found %s", n->what,
                     shape_print(s, &text));
}

static int check_half(const struct node *n, const struct window *w, int axis, struct error *e)
{
    if (w->padding[axis] <= w->kernel[axis] / 2)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute 'padding' must be at most half of kernel_size %lld, not %lld",
                     n->what, (long long)w->kernel[axis], (long long)w->padding[axis]);
}

static int set_output(struct node *n, const int64_t size[2], struct error *e)
{
    const int64_t *in = n->in[0]->shape.dim;
    return node_set_shape(n, &SHAPE(in[0], in[1], size[HEIGHT], size[WIDTH]), e);
}

static int pool_shape(struct node *n, struct error *e)
{
    const struct pool_attrs *a = n->attrs;
    struct window w = pooling_window(n);
    int64_t size[2];
    if (window_check_image(n, e))
        return -1;
    if (check_half(n, &w, HEIGHT, e) || check_half(n, &w, WIDTH, e))
        return -1;
    if (window_output(n, &w, a->ceil_mode, size, e))
        return -1;
    return set_output(n, size, e);
}

static int max_pool_shape(struct node *n, struct error *e)
{
    if (pool_shape(n, e))
        return -1;
    const int64_t *in = n->in[0]->shape.dim;
    if (in[2] <= INT32_MAX / in[3])
        return 0;
    return error_set(e, ERROR_TOO_LARGE, "%s: images of %lld x %lld have too many pixels", n->what,
                     (long long)in[2], (long long)in[3]);
}

static int pool1d_shape(struct node *n, struct error *e)
{
    const struct pool_attrs *a = n->attrs;
    const struct window w = pooling_window(n);
    struct shape out = n->in[0]->shape;
    int64_t length;
    if (check_line(n, e) || check_half(n, &w, WIDTH, e) ||
        window_output_line(n, &w, a->ceil_mode, &length, e))
        return -1;
    if (out.dim[2] > INT32_MAX)
        return error_set(e, ERROR_TOO_LARGE, "%s: sequences of %lld are too long", n->what,
                         (long long)out.dim[2]);
    out.dim[2] = length;
    return node_set_shape(n, &out, e);
}

static int adaptive1d_shape(struct node *n, struct error *e)
{
    struct shape out = n->in[0]->shape;
    if (check_line(n, e))
        return -1;
    out.dim[2] = ((const struct pool_attrs *)n->attrs)->output_size[WIDTH];
    return node_set_shape(n, &out, e);
}

static int adaptive_max_shape(struct node *n, struct error *e)
{
    const struct pool_attrs *a = n->attrs;
    if (window_check_image(n, e))
        return -1;
    const int64_t *in = n->in[0]->shape.dim;
    if (in[2] > INT32_MAX / in[3])
        return error_set(e, ERROR_TOO_LARGE, "%s: images of %lld x %lld have too many pixels",
                         n->what, (long long)in[2], (long long)in[3]);
    return set_output(n, a->output_size, e);
}

static int adaptive_shape(struct node *n, struct error *e)
{
    const struct pool_attrs *a = n->attrs;
    return window_check_image(n, e) ? -1 : set_output(n, a->output_size, e);
}

/* ---- what the arithmetic shares -------------------------------------------------------------- */

struct window pooling_window(const struct node *n)
{
    const struct pool_attrs *a = n->attrs;
    struct window w = a->window;
    for (int axis = HEIGHT; axis <= WIDTH; axis++) {
        w.kernel[axis] = w.kernel[axis] ? w.kernel[axis] : 1;
        w.stride[axis] = w.stride[axis] ? w.stride[axis] : w.kernel[axis];
        w.dilation[axis] = w.dilation[axis] ? w.dilation[axis] : 1;
    }
    return w;
}

struct cell pooling_window_cell(const struct pooling *p, int64_t oy, int64_t ox)
{
    const struct window *w = &p->window;
    struct cell c = {window_taps(w, HEIGHT, oy, p->in.h), window_taps(w, WIDTH, ox, p->in.w),
                     window_at(w, HEIGHT, oy, 0), window_at(w, WIDTH, ox, 0), 0};
    if (!p->count_include_pad) {
        c.count = (double)((c.down.end - c.down.begin) * (c.across.end - c.across.begin));
        return c;
    }
    int64_t bottom = p->in.h + w->padding[HEIGHT], right = p->in.w + w->padding[WIDTH];
    int64_t height = bottom - c.y, width = right - c.x; /* what hangs over the padding is cut off */
    height = height < w->kernel[HEIGHT] ? height : w->kernel[HEIGHT];
    width = width < w->kernel[WIDTH] ? width : w->kernel[WIDTH];
    c.count = (double)(height * width);
    return c;
}

/* [N, C, L] as images of one channel and one line; [N, C, H, W] as it is. */
static struct image image_of(const struct run *r, const struct node *n)
{
    if (n->shape.rank == 4)
        return run_image(r, n);
    return (struct image){run_dim(r, n, 0) * n->shape.dim[1], 1, 1, n->shape.dim[2]};
}

struct pooling pooling_of(const struct node *n, struct run *r, cell_fn *cell)
{
    const struct pool_attrs *a = n->attrs;
    return (struct pooling){
        n, r, image_of(r, n->in[0]), image_of(r, n), pooling_window(n), a->count_include_pad, cell};
}

void pooling_each_pixel(struct pooling *p, pool_fn *f)
{
    int64_t inputs = p->in.h * p->in.w, outputs = p->out.h * p->out.w;
    int64_t each = inputs > outputs ? inputs / outputs : 1;
    run_for(p->r, p->out.n * outputs, grain_rows(p->in.c * each), f, p);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* One comparison or addition for each element of each window. */
static double pool_flops(const struct node *n)
{
    const struct window w = pooling_window(n);
    double taps = (double)w.kernel[HEIGHT] * (double)w.kernel[WIDTH];
    return (double)(n->size.sample + n->size.fixed) * taps;
}

static double adaptive_flops(const struct node *n)
{
    return (double)(n->in[0]->size.sample + n->in[0]->size.fixed);
}

const struct op ops_pool[] = {
    {"max_pool2d", "pooling", 1, 1, max_pool_attrs, sizeof(struct pool_attrs), NULL, max_pool_shape,
     max_pool_memory, max_pool_forward, max_pool_backward, pool_flops, OP_LAYOUT_LAST,
     "Nx3x6x4:spread kernel_size=2; Nx2x7x8:spread kernel_size=3 stride=2 padding=1;"
     "Nx2x6x7:spread kernel_size=2 stride=1 dilation=2; Nx1x7x5:spread kernel_size=2 "
     "ceil_mode=true;"
     "Nx17x5x5:spread kernel_size=3 stride=2 padding=1 ceil_mode=true;"
     "Nx17x2x3:spread kernel_size=3 stride=2 ceil_mode=true;"
     "Nx1x2x2:spread kernel_size=5 stride=3 padding=1 ceil_mode=true",
     "y[i,j] = max over u,v of x[i*stride - padding + u*dilation, j*stride - padding + "
     "v*dilation]"},
    {"avg_pool2d", "pooling", 1, 1, avg_pool_attrs, sizeof(struct pool_attrs), NULL, pool_shape,
     avg_pool_memory, avg_pool_forward, avg_pool_backward, pool_flops, OP_LAYOUT_LAST,
     "Nx3x6x4 kernel_size=2; Nx2x7x8 kernel_size=3 stride=2 padding=1;"
     "Nx2x7x8 kernel_size=3 stride=2 padding=1 count_include_pad=false;"
     "Nx1x6x5 kernel_size=3 stride=2 padding=1 ceil_mode=true;"
     "Nx2x5x6 kernel_size=2 ceil_mode=true count_include_pad=false;"
     "Nx2x2x3 kernel_size=3 stride=2 ceil_mode=true;"
     "Nx1x2x2 kernel_size=5 stride=3 padding=1 ceil_mode=true",
     "y[i,j] = mean over u,v of x[i*stride - padding + u, j*stride - padding + v]"},
    {"adaptive_avg_pool2d", "pooling", 1, 1, adaptive_avg_pool_attrs, sizeof(struct pool_attrs),
     NULL, adaptive_shape, avg_pool_memory, adaptive_avg_pool_forward, adaptive_avg_pool_backward,
     adaptive_flops, OP_LAYOUT_LAST,
     "Nx3x5x4 output_size=1; Nx2x7x5 output_size=3; Nx2x3x2 output_size=4; Nx1x6x6 output_size=6",
     "y[i,j] = mean of x over rows [i H/H', (i+1) H/H') and columns [j W/W', (j+1) W/W')"},
    {"adaptive_max_pool2d", "pooling", 1, 1, adaptive_avg_pool_attrs, sizeof(struct pool_attrs),
     NULL, adaptive_max_shape, max_pool_memory, adaptive_max_pool_forward,
     adaptive_max_pool_backward, adaptive_flops, OP_LAYOUT_LAST,
     "Nx3x5x4:spread output_size=1; Nx2x7x5:spread output_size=3; Nx2x3x2:spread output_size=4",
     "y[i,j] = max of x over rows [i H/H', (i+1) H/H') and columns [j W/W', (j+1) W/W')"},
    {"max_pool1d", "pooling", 1, 1, max_pool1d_attrs, sizeof(struct pool_attrs), NULL, pool1d_shape,
     max_pool_memory, max_pool_forward, max_pool_backward, pool_flops, 0,
     "Nx3x8:spread kernel_size=2; Nx2x7:spread kernel_size=3 stride=2 padding=1; Nx2x9:spread "
     "kernel_size=2 stride=1 dilation=3; Nx1x7:spread kernel_size=2 ceil_mode=true; Nx2x1:spread "
     "kernel_size=1; Nx1x2:spread kernel_size=3 stride=2 ceil_mode=true",
     "y[i] = max over u of x[i*stride - padding + u*dilation]"},
    {"avg_pool1d", "pooling", 1, 1, avg_pool1d_attrs, sizeof(struct pool_attrs), NULL, pool1d_shape,
     avg_pool_memory, avg_pool_forward, avg_pool_backward, pool_flops, 0,
     "Nx3x8 kernel_size=2; Nx2x7 kernel_size=3 stride=2 padding=1; Nx2x7 kernel_size=3 stride=2 "
     "padding=1 count_include_pad=false; Nx1x7 kernel_size=2 ceil_mode=true; Nx1x2 kernel_size=3 "
     "stride=2 ceil_mode=true",
     "y[i] = mean over u of x[i*stride - padding + u]"},
    {"adaptive_avg_pool1d", "pooling", 1, 1, adaptive_pool1d_attrs, sizeof(struct pool_attrs), NULL,
     adaptive1d_shape, avg_pool_memory, adaptive_avg_pool_forward, adaptive_avg_pool_backward,
     adaptive_flops, 0, "Nx3x5 output_size=1; Nx2x7 output_size=3; Nx2x3 output_size=4",
     "y[i] = mean of x over [i L/L', (i+1) L/L')"},
    {"adaptive_max_pool1d", "pooling", 1, 1, adaptive_pool1d_attrs, sizeof(struct pool_attrs), NULL,
     adaptive1d_shape, max_pool_memory, adaptive_max_pool_forward, adaptive_max_pool_backward,
     adaptive_flops, 0, "Nx3x5:spread output_size=1; Nx2x7:spread output_size=3",
     "y[i] = max of x over [i L/L', (i+1) L/L')"},
    {0},
};
