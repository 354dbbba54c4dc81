/* ops_pool.c: max_pool2d, avg_pool2d, adaptive_avg_pool2d: attributes, shapes and rows. The
 * arithmetic is in pooling_max.c and pooling_avg.c. */
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

static const struct attr_def adaptive_avg_pool_attrs[] = {
    POOL_ATTR("output_size", ATTR_PAIR, output_size, NULL, 1, 1 << 24,
              "height and width of the output"),
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

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
    for (int axis = HEIGHT; axis <= WIDTH; axis++)
        if (w.padding[axis] > w.kernel[axis] / 2)
            return error_set(e, ERROR_BAD_ATTRIBUTE,
                             "%s: attribute 'padding' must be at most half of kernel_size %lld, "
                             "not %lld",
                             n->what, (long long)w.kernel[axis], (long long)w.padding[axis]);
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

struct pooling pooling_of(const struct node *n, struct run *r, cell_fn *cell)
{
    const struct pool_attrs *a = n->attrs;
    return (struct pooling){
        n,   r, run_image(r, n->in[0]), run_image(r, n), pooling_window(n), a->count_include_pad,
        cell};
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
    const struct pool_attrs *a = n->attrs;
    double taps = (double)a->window.kernel[HEIGHT] * (double)a->window.kernel[WIDTH];
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
     "Nx17x5x5:spread kernel_size=3 stride=2 padding=1 ceil_mode=true",
     "y[i,j] = max over u,v of x[i*stride - padding + u*dilation, j*stride - padding + "
     "v*dilation]"},
    {"avg_pool2d", "pooling", 1, 1, avg_pool_attrs, sizeof(struct pool_attrs), NULL, pool_shape,
     avg_pool_memory, avg_pool_forward, avg_pool_backward, pool_flops, OP_LAYOUT_LAST,
     "Nx3x6x4 kernel_size=2; Nx2x7x8 kernel_size=3 stride=2 padding=1;"
     "Nx2x7x8 kernel_size=3 stride=2 padding=1 count_include_pad=false;"
     "Nx1x6x5 kernel_size=3 stride=2 padding=1 ceil_mode=true;"
     "Nx2x5x6 kernel_size=2 ceil_mode=true count_include_pad=false",
     "y[i,j] = mean over u,v of x[i*stride - padding + u, j*stride - padding + v]"},
    {"adaptive_avg_pool2d", "pooling", 1, 1, adaptive_avg_pool_attrs, sizeof(struct pool_attrs),
     NULL, adaptive_shape, avg_pool_memory, adaptive_avg_pool_forward, adaptive_avg_pool_backward,
     adaptive_flops, OP_LAYOUT_LAST,
     "Nx3x5x4 output_size=1; Nx2x7x5 output_size=3; Nx2x3x2 output_size=4; Nx1x6x6 output_size=6",
     "y[i,j] = mean of x over rows [i H/H', (i+1) H/H') and columns [j W/W', (j+1) W/W')"},
    {0},
};
