/* onnx_rows_window.c: ONNX's convolutions and pools as operators of ours.
 *
 * ONNX's padding may differ before and after, or be wider than half a window: then it becomes a pad
 * of its own before the operator. Of a mean that does not count padding, the sum is then divided by
 * the mean of ones that were padded alike. */
#include "onnx_build.h"

#include <math.h>
#include <string.h>

enum { MAX_SPATIAL = 2 };

struct window {
    int n; /* dimensions: 1 or 2 */
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL];
    int64_t before[MAX_SPATIAL], after[MAX_SPATIAL];
};

/* ---- attributes ------------------------------------------------------------------------------ */

static void window_list(const struct onnx_call *c, const char *name, int n, int64_t *v)
{
    int count;
    const int64_t *list = onnx_list(c, name, &count);
    for (int i = 0; i < n; i++)
        v[i] = list && i < count ? list[i] : 1;
}

static int64_t extent(const struct window *w, int i)
{
    return (w->kernel[i] - 1) * w->dilation[i] + 1;
}

/* As many windows as strides fit into the input; what lacks is shared out. */
static void pad_same(struct window *w, const struct shape *x, bool upper)
{
    for (int i = 0; i < w->n; i++) {
        const int64_t size = x->dim[2 + i], out = (size + w->stride[i] - 1) / w->stride[i];
        const int64_t lack = (out - 1) * w->stride[i] + extent(w, i) - size;
        const int64_t all = lack > 0 ? lack : 0, less = all / 2;
        w->before[i] = upper ? less : all - less;
        w->after[i] = all - w->before[i];
    }
}

static bool window_read(struct onnx_call *c, const struct shape *x, const int64_t *kernel,
                        struct window *w)
{
    int n;
    const char *automatic = onnx_string(c, "auto_pad", "NOTSET");
    *w = (struct window){.n = x->rank - 2};
    if (w->n < 1 || w->n > MAX_SPATIAL)
        return onnx_not_ours(c, "%s in %d dimensions", c->node->op, w->n), false;
    memcpy(w->kernel, kernel, (size_t)w->n * sizeof *kernel);
    window_list(c, "strides", w->n, w->stride);
    window_list(c, "dilations", w->n, w->dilation);
    const int64_t *pads = onnx_list(c, "pads", &n);
    for (int i = 0; pads && i < w->n && n == 2 * w->n; i++) {
        w->before[i] = pads[i];
        w->after[i] = pads[w->n + i];
    }
    if (!strncmp(automatic, "SAME", 4))
        pad_same(w, x, !strcmp(automatic, "SAME_UPPER"));
    return true;
}

static bool symmetric(const struct window *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->before[i] != w->after[i])
            return false;
    return true;
}

/* x with the window's padding around it, which the window then has no more. */
static struct node *padded(struct onnx_call *c, struct node *x, struct window *w, double value)
{
    int64_t pairs[2 * MAX_SPATIAL];
    for (int i = 0; i < w->n; i++) {
        pairs[2 * (w->n - 1 - i)] = w->before[i];
        pairs[2 * (w->n - 1 - i) + 1] = w->after[i];
    }
    memset(w->before, 0, sizeof w->before);
    memset(w->after, 0, sizeof w->after);
    return onnx_add1(c, "pad", x, onnx_attr_ints(c, "padding", pairs, 2 * w->n),
                     ONNX_REAL("value", value));
}

/* A number in one dimension, a pair in two. */
static struct attr window_attr(struct onnx_call *c, const struct window *w, const char *name,
                               const int64_t *v)
{
    return w->n == 2 ? onnx_attr_ints(c, name, v, 2) : (struct attr)ONNX_INT(name, v[0]);
}

static const char *of_rank(const struct window *w, const char *line, const char *image)
{
    return w->n == 2 ? image : line;
}

/* ---- convolutions ---------------------------------------------------------------------------- */

static struct node *conv(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0), *weight = onnx_real(c, 1);
    struct node *inputs[3] = {x, weight, onnx_has(c, 2) ? onnx_real(c, 2) : NULL};
    struct window w;
    if (!x || !weight || !window_read(c, node_shape(x), node_shape(weight)->dim + 2, &w))
        return NULL;
    if (!symmetric(&w))
        inputs[0] = padded(c, x, &w, 0);
    const struct attr attrs[] = {
        ONNX_INT("out_channels", node_shape(weight)->dim[0]),
        window_attr(c, &w, "kernel_size", w.kernel),
        window_attr(c, &w, "stride", w.stride),
        window_attr(c, &w, "padding", w.before),
        window_attr(c, &w, "dilation", w.dilation),
        ONNX_INT("groups", onnx_int(c, "group", 1)),
        ONNX_BOOLEAN("bias", inputs[2] != NULL),
    };
    return onnx_add_n(c, of_rank(&w, "conv1d", "conv2d"), inputs, inputs[2] ? 3 : 2, attrs, 7);
}

/* Where the wanted output begins and ends in the whole one. */
static bool transpose_crop(struct onnx_call *c, struct window *w, const struct shape *x,
                           int64_t *more, int64_t *size)
{
    int n, n_more;
    const char *automatic = onnx_string(c, "auto_pad", "NOTSET");
    const int64_t *wanted = onnx_list(c, "output_shape", &n);
    const int64_t *given = onnx_list(c, "output_padding", &n_more);
    for (int i = 0; i < w->n; i++) {
        const int64_t whole = (x->dim[2 + i] - 1) * w->stride[i] + extent(w, i);
        more[i] = given ? given[i] : 0;
        size[i] = wanted                           ? wanted[n - w->n + i]
                  : !strncmp(automatic, "SAME", 4) ? x->dim[2 + i] * w->stride[i]
                                                   : whole + more[i] - w->before[i] - w->after[i];
        if (wanted || !strncmp(automatic, "SAME", 4)) {
            const int64_t all = whole + more[i] - size[i];
            more[i] -= all < 0 ? all : 0;
            w->before[i] = all <= 0                           ? 0
                           : !strcmp(automatic, "SAME_UPPER") ? all / 2
                                                              : all - all / 2;
        }
        if (more[i] >= w->stride[i] && more[i] > 0)
            return onnx_not_ours(c, "ConvTranspose with padding of a whole stride"), false;
    }
    return true;
}

/* [.., .., L] as [.., .., 1, L]. */
static struct node *as_image(struct onnx_call *c, struct node *x)
{
    return x && node_shape(x)->rank == 3 ? onnx_add1(c, "unsqueeze", x, ONNX_INT("dim", 2)) : x;
}

/* Whole, then cut: that serves every padding. One dimension is an image of one row. */
static struct node *conv_transpose(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0), *weight = onnx_real(c, 1);
    struct window w;
    int64_t more[MAX_SPATIAL] = {0}, size[MAX_SPATIAL];
    if (!x || !weight || !window_read(c, node_shape(x), node_shape(weight)->dim + 2, &w) ||
        !transpose_crop(c, &w, node_shape(x), more, size))
        return NULL;
    const int64_t groups = onnx_int(c, "group", 1), last = w.n - 1;
    struct node *inputs[3] = {as_image(c, x), as_image(c, weight),
                              onnx_has(c, 2) ? onnx_real(c, 2) : NULL};
    const struct attr attrs[] = {
        ONNX_INT("out_channels", node_shape(weight)->dim[1] * groups),
        onnx_attr_ints(c, "kernel_size", (int64_t[]){last ? w.kernel[0] : 1, w.kernel[last]}, 2),
        onnx_attr_ints(c, "stride", (int64_t[]){last ? w.stride[0] : 1, w.stride[last]}, 2),
        onnx_attr_ints(c, "dilation", (int64_t[]){last ? w.dilation[0] : 1, w.dilation[last]}, 2),
        onnx_attr_ints(c, "output_padding", (int64_t[]){last ? more[0] : 0, more[last]}, 2),
        ONNX_INT("groups", groups),
        ONNX_BOOLEAN("bias", inputs[2] != NULL),
    };
    struct node *y = onnx_add_n(c, "conv_transpose2d", inputs, inputs[2] ? 3 : 2, attrs, 7);
    const int64_t height = 2;
    if (w.n == 1)
        y = onnx_add1(c, "squeeze", y, onnx_attr_ints(c, "dim", &height, 1));
    for (int i = 0; i < w.n; i++)
        y = onnx_narrow(c, y, 2 + i, w.before[i], size[i]);
    return y;
}

/* ---- pools ----------------------------------------------------------------------------------- */

static bool narrow_padding(const struct window *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->before[i] > w->kernel[i] / 2)
            return false;
    return symmetric(w);
}

static bool pool_read(struct onnx_call *c, const struct node *x, struct window *w)
{
    int n;
    const int64_t *kernel = onnx_list(c, "kernel_shape", &n);
    return x && kernel && window_read(c, node_shape(x), kernel, w);
}

static struct node *pool(struct onnx_call *c, const char *op, struct node *x, struct window *w,
                         struct attr last)
{
    const struct attr attrs[] = {window_attr(c, w, "kernel_size", w->kernel),
                                 window_attr(c, w, "stride", w->stride),
                                 window_attr(c, w, "padding", w->before),
                                 ONNX_BOOLEAN("ceil_mode", onnx_int(c, "ceil_mode", 0) != 0), last};
    return onnx_add_n(c, op, &x, 1, attrs, 5);
}

static struct node *max_pool(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    struct window w;
    if (!pool_read(c, x, &w))
        return NULL;
    if (onnx_wants(c, 1))
        return onnx_not_ours(c, "MaxPool with its indices");
    if (!narrow_padding(&w))
        x = padded(c, x, &w, -1e38); /* below every number of the tests */
    return pool(c, of_rank(&w, "max_pool1d", "max_pool2d"), x, &w,
                window_attr(c, &w, "dilation", w.dilation));
}

static struct node *average_pool(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    struct window w;
    if (!pool_read(c, x, &w))
        return NULL;
    for (int i = 0; i < w.n; i++)
        if (w.dilation[i] != 1)
            return onnx_not_ours(c, "AveragePool with dilation");
    const char *op = of_rank(&w, "avg_pool1d", "avg_pool2d");
    const bool counted = onnx_int(c, "count_include_pad", 0) != 0;
    if (narrow_padding(&w))
        return pool(c, op, x, &w, (struct attr)ONNX_BOOLEAN("count_include_pad", counted));
    const struct attr all = ONNX_BOOLEAN("count_include_pad", true);
    struct node *ones = onnx_constant(c, node_shape(x), 1);
    struct window again = w;
    struct node *sum = pool(c, op, padded(c, x, &w, 0), &w, all);
    if (counted)
        return sum;
    return onnx_add2(c, "div", sum, pool(c, op, padded(c, ones, &again, 0), &again, all));
}

/* The p-th root of the sum of the p-th powers; a mean times its count is the sum. */
static struct node *lp_pool(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    const double p = (double)onnx_int(c, "p", 2);
    struct window w;
    double count = 1;
    if (!pool_read(c, x, &w))
        return NULL;
    for (int i = 0; i < w.n; i++) {
        count *= (double)w.kernel[i];
        if (w.dilation[i] != 1)
            return onnx_not_ours(c, "LpPool with dilation");
    }
    if (onnx_int(c, "ceil_mode", 0))
        return onnx_not_ours(c, "LpPool with ceil_mode");
    x = onnx_add1(c, "pow", onnx_add1(c, "abs", x), ONNX_REAL("exponent", p));
    x = padded(c, x, &w, 0);
    x = pool(c, of_rank(&w, "avg_pool1d", "avg_pool2d"), x, &w,
             (struct attr)ONNX_BOOLEAN("count_include_pad", true));
    return onnx_add1(c, "pow", onnx_scale(c, x, count), ONNX_REAL("exponent", 1 / p));
}

static struct node *global_pool(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    if (x && node_shape(x)->rank != 4)
        return onnx_not_ours(c, "%s of rank %d", c->node->op, node_shape(x)->rank);
    return onnx_add1(c, c->row->ours, x, ONNX_INT("output_size", 1));
}

const struct onnx_row onnx_rows_window[] = {
    {"Conv", "conv1d, conv2d; pad", conv, 6},
    {"ConvTranspose", "conv_transpose2d; narrow", conv_transpose, 10},
    {"MaxPool", "max_pool1d, max_pool2d; pad", max_pool, 12},
    {"AveragePool", "avg_pool1d, avg_pool2d; pad, div", average_pool, 13},
    {"LpPool", "abs, pow, pad, avg_pool, mul", lp_pool, 6},
    {"GlobalAveragePool", "adaptive_avg_pool2d", global_pool, 2},
    {"GlobalMaxPool", "adaptive_max_pool2d", global_pool, 2},
    {0},
};
