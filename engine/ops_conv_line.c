/* ops_conv_line.c: conv1d: a convolution of images that are one pixel high. Values of rank 3 are
 * plain inside plans, so forward and backward change the layout themselves, in their work buffers,
 * around the methods of conv2d. */
#include "conv.h"

#include <limits.h>
#include <stddef.h>

enum { LINE_WEIGHT, LINE_BIAS };
enum { CHANNELS_MAX = 1 << 24, SLACK = 64 /* elements behind a copy that kernels may read */ };

#define CONV(field) offsetof(struct conv_attrs, field)
static const struct attr_def conv1d_attrs[] = {
    {"out_channels", ATTR_INT, CONV(out_channels), NULL, 1, CHANNELS_MAX, NULL,
     "channels of the output"},
    {"kernel_size", ATTR_INT, CONV(window.kernel[WIDTH]), NULL, 1, WINDOW_MAX, NULL,
     "length of the kernel"},
    {"stride", ATTR_INT, CONV(window.stride[WIDTH]), "1", 1, WINDOW_MAX, NULL,
     "steps from one window to the next"},
    {"padding", ATTR_INT, CONV(window.padding[WIDTH]), "0", 0, WINDOW_MAX, "same",
     "zeros around the sequence, on each side; \"same\": so many that its length stays"},
    {"dilation", ATTR_INT, CONV(window.dilation[WIDTH]), "1", 1, WINDOW_MAX, NULL,
     "steps from one tap of the kernel to the next"},
    {"groups", ATTR_INT, CONV(groups), "1", 1, CHANNELS_MAX, NULL,
     "parts of the channels that are convolved apart"},
    {"bias", ATTR_BOOL, CONV(bias), "true", 0, 0, NULL, "add a number to each output channel"},
    INPUT_FACT("in_channels", 1, "channels"),
    {0},
};
static const struct param_def conv1d_params[] = {
    {"weight", false, "kaiming_uniform"}, /* [out][in / groups][k] */
    {"bias", false, "fan_in_uniform"},    /* [out] */
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

static int line_window(const struct node *n, struct window *w_r, struct error *e)
{
    *w_r = ((const struct conv_attrs *)n->attrs)->window;
    w_r->kernel[HEIGHT] = w_r->stride[HEIGHT] = w_r->dilation[HEIGHT] = 1;
    return window_same(n, w_r, 1, e);
}

static int check_channels(const struct node *n, struct error *e)
{
    const struct conv_attrs *a = n->attrs;
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 3, 3, e))
        return -1;
    if (in->dim[1] > CHANNELS_MAX || in->dim[2] > INT_MAX)
        return error_set(e, ERROR_TOO_LARGE, "%s: an input of %s is too large", n->what,
                         shape_print(in, &text));
    if (in->dim[1] % a->groups == 0 && a->out_channels % a->groups == 0)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: groups %lld must divide the %lld input and the %lld output channels "
                     "without remainder",
                     n->what, (long long)a->groups, (long long)in->dim[1],
                     (long long)a->out_channels);
}

static int conv1d_shape(struct node *n, struct error *e)
{
    const struct conv_attrs *a = n->attrs;
    struct window w;
    struct shape out = n->in[0]->shape;
    int64_t length;
    if (check_channels(n, e) || line_window(n, &w, e) ||
        window_output_line(n, &w, false, &length, e))
        return -1;
    const int64_t cg = out.dim[1] / a->groups, k = w.kernel[WIDTH];
    if (cg * k > INT_MAX)
        return error_set(e, ERROR_TOO_LARGE, "%s: a kernel of %lld x %lld is too large", n->what,
                         (long long)cg, (long long)k);
    if (!a->bias && node_param_in(n, LINE_BIAS))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    if (node_param(n, LINE_WEIGHT, &SHAPE(a->out_channels, cg, k), cg * k, a->out_channels * k,
                   e) ||
        (a->bias &&
         node_param(n, LINE_BIAS, &SHAPE(a->out_channels), cg * k, a->out_channels * k, e)))
        return -1;
    out.dim[1] = a->out_channels;
    out.dim[2] = length;
    return node_set_shape(n, &out, e);
}

/* ---- running --------------------------------------------------------------------------------- */

static struct conv line_conv(const struct node *n)
{
    const int64_t *in = n->in[0]->shape.dim, *out = n->shape.dim;
    struct conv v = {.groups = ((const struct conv_attrs *)n->attrs)->groups};
    line_window(n, &v.window, NULL); /* it was possible when the node was made */
    v.c = in[1], v.h = 1, v.w = in[2];
    v.o = out[1], v.oh = 1, v.ow = out[2];
    v.cg = v.c / v.groups;
    v.og = v.o / v.groups;
    v.taps = v.window.kernel[WIDTH];
    v.k = v.taps * v.cg;
    v.depthwise = v.cg == 1 && v.og == 1;
    return v;
}

static int64_t rounded(int64_t count)
{
    return (count + SLACK - 1) / SLACK * SLACK;
}

/* The method's work, then the input and the output channels-last, and in backward the input's
 * gradient. */
static void conv1d_memory(struct node *n)
{
    const struct conv v = line_conv(n);
    const struct conv_memory m = conv_method(&v)->memory(&v);
    const struct extent in = n->in[0]->size, out = n->size;
    n->work = (struct extent){in.sample + out.sample,
                              rounded(m.forward) + in.fixed + out.fixed + 4 * SLACK};
    n->work_backward = (struct extent){2 * in.sample + out.sample,
                                       rounded(m.backward) + 2 * in.fixed + out.fixed + 6 * SLACK};
    n->scratch = m.scratch;
}

static struct conv_job line_job(const struct node *n, struct run *r)
{
    struct conv_job j = {.v = line_conv(n), .r = r, .work = run_work(r, n)};
    j.v.images = run_dim(r, n, 0);
    j.weight = run_in(r, n, n->n_data + LINE_WEIGHT);
    j.bias = node_param_in(n, LINE_BIAS) ? run_in(r, n, n->n_data + LINE_BIAS) : NULL;
    return j;
}

static void conv1d_forward(const struct node *n, struct run *r)
{
    struct conv_job j = line_job(n, r);
    const struct conv sizes = line_conv(n);
    real *x = j.work + rounded(conv_method(&sizes)->memory(&sizes).forward);
    j.y = x + rounded(run_count(r, n->in[0])) + SLACK;
    j.x = x;
    transpose_samples(r, j.v.images, j.v.c, j.v.w, run_in(r, n, 0), x);
    conv_method(&j.v)->forward(&j);
    transpose_samples(r, j.v.images, j.v.ow, j.v.o, j.y, run_value(r, n));
}

static void conv1d_backward(const struct node *n, struct run *r)
{
    struct conv_job j = line_job(n, r);
    const struct conv sizes = line_conv(n);
    const int64_t room = rounded(run_count(r, n->in[0])) + SLACK;
    real *x = j.work + rounded(conv_method(&sizes)->memory(&sizes).backward), *dy = x + room;
    real *dx = dy + rounded(run_count(r, n)) + SLACK, *out = run_grad_in(r, n, 0);
    transpose_samples(r, j.v.images, j.v.c, j.v.w, run_in(r, n, 0), x);
    transpose_samples(r, j.v.images, j.v.o, j.v.ow, run_grad(r, n), dy);
    j.x = x;
    j.dy = dy;
    j.dx = out ? dx : NULL;
    j.dweight = run_grad_in(r, n, n->n_data + LINE_WEIGHT);
    j.dbias = j.bias ? run_grad_in(r, n, n->n_data + LINE_BIAS) : NULL;
    conv_method(&j.v)->backward(&j);
    if (out)
        transpose_samples(r, j.v.images, j.v.w, j.v.c, dx, out);
}

static double conv1d_flops(const struct node *n)
{
    return 2.0 * (double)line_conv(n).k * (double)(n->size.sample + n->size.fixed);
}

const struct op ops_conv_line[] = {
    {"conv1d", "convolution", 1, 1, conv1d_attrs, sizeof(struct conv_attrs), conv1d_params,
     conv1d_shape, conv1d_memory, conv1d_forward, conv1d_backward, conv1d_flops, OP_KEEPS_IN,
     "Nx3x7 out_channels=4 kernel_size=3; Nx2x9 out_channels=5 kernel_size=3 padding=2 stride=2 "
     "dilation=2; Nx4x6 out_channels=6 kernel_size=2 groups=2 bias=false; Nx3x8 out_channels=3 "
     "kernel_size=3 padding=1 groups=3; Nx1x1 out_channels=2 kernel_size=1; 2x3x5 out_channels=2 "
     "kernel_size=5; Nx2x9 out_channels=2 kernel_size=5 padding=same in_channels=2",
     "y[o,i] = bias[o] + sum over c,u of weight[o,c,u] x[c, i*stride - padding + u*dilation]"},
    {0},
};
