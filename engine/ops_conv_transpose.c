/* ops_conv_transpose.c: conv_transpose2d. It is the adjoint of a convolution that goes the other
 * way: from this operator's output to its input, with the weight [in][out / groups][kh][kw] as that
 * convolution has it. So forward is that convolution's backward to its image, and backward its
 * forward and its gradient of the weight. */
#include "channels.h"
#include "conv.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

enum { UP_WEIGHT, UP_BIAS };
enum { CHANNELS_MAX = 1 << 24 };

struct up {
    struct conv_attrs conv;
    int64_t output_padding[2];
};
#define UP(field) offsetof(struct up, field)
static const struct attr_def up_attrs[] = {
    {"out_channels", ATTR_INT, UP(conv.out_channels), NULL, 1, CHANNELS_MAX, NULL,
     "channels of the output"},
    {"kernel_size", ATTR_PAIR, UP(conv.window.kernel), NULL, 1, WINDOW_MAX, NULL,
     "height and width of the kernel"},
    {"stride", ATTR_PAIR, UP(conv.window.stride), "1", 1, WINDOW_MAX, NULL,
     "pixels of the output from one pixel of the input to the next"},
    {"padding", ATTR_PAIR, UP(conv.window.padding), "0", 0, WINDOW_MAX, NULL,
     "pixels that are cut off the output, on each side"},
    {"output_padding", ATTR_PAIR, UP(output_padding), "0", 0, WINDOW_MAX, NULL,
     "pixels more at the bottom and at the right; below stride or dilation"},
    {"groups", ATTR_INT, UP(conv.groups), "1", 1, CHANNELS_MAX, NULL,
     "parts of the channels that are convolved apart"},
    {"bias", ATTR_BOOL, UP(conv.bias), "true", 0, 0, NULL, "add a number to each output channel"},
    {"dilation", ATTR_PAIR, UP(conv.window.dilation), "1", 1, WINDOW_MAX, NULL,
     "pixels from one tap of the kernel to the next"},
    INPUT_FACT("in_channels", 1, "channels"),
    {0},
};
static const struct param_def up_params[] = {
    {"weight", false, "kaiming_uniform"}, /* [in][out / groups][kh][kw] */
    {"bias", false, "fan_in_uniform"},    /* [out] */
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

static int up_size(const struct node *n, int axis, int64_t *size_r, struct error *e)
{
    const struct up *a = n->attrs;
    const struct window *w = &a->conv.window;
    const int64_t more = a->output_padding[axis], in = n->in[0]->shape.dim[2 + axis];
    if (more >= w->stride[axis] && more >= w->dilation[axis])
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'output_padding' must be below stride (%lld) or dilation "
                         "(%lld), not %lld",
                         n->what, (long long)w->stride[axis], (long long)w->dilation[axis],
                         (long long)more);
    if (in > INT_MAX)
        return error_set(e, ERROR_TOO_LARGE, "%s: images of %lld pixels are too large", n->what,
                         (long long)in);
    *size_r = (in - 1) * w->stride[axis] - 2 * w->padding[axis] +
              w->dilation[axis] * (w->kernel[axis] - 1) + more + 1;
    if (*size_r >= 1 && *size_r <= INT_MAX)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: an input of %lld pixels would give %lld; expects padding that leaves at "
                     "least one",
                     n->what, (long long)in, (long long)*size_r);
}

static int up_declare(struct node *n, struct error *e)
{
    const struct conv_attrs *a = &((const struct up *)n->attrs)->conv;
    const int64_t in = n->in[0]->shape.dim[1], *kernel = a->window.kernel;
    int64_t fan_in, fan_out;
    if (in % a->groups || a->out_channels % a->groups)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: groups %lld must divide the %lld input and the %lld output channels "
                         "without remainder",
                         n->what, (long long)a->groups, (long long)in, (long long)a->out_channels);
    const int64_t og = a->out_channels / a->groups;
    if (__builtin_mul_overflow(kernel[0] * kernel[1], og, &fan_in) ||
        __builtin_mul_overflow(kernel[0] * kernel[1], in, &fan_out) || fan_in > INT_MAX ||
        in > CHANNELS_MAX)
        return error_set(e, ERROR_TOO_LARGE, "%s: a kernel of %lld x %lld x %lld is too large",
                         n->what, (long long)og, (long long)kernel[0], (long long)kernel[1]);
    if (!a->bias && node_param_in(n, UP_BIAS))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    if (node_param(n, UP_WEIGHT, &SHAPE(in, og, kernel[0], kernel[1]), fan_in, fan_out, e))
        return -1;
    return a->bias ? node_param(n, UP_BIAS, &SHAPE(a->out_channels), fan_in, fan_out, e) : 0;
}

static int up_shape(struct node *n, struct error *e)
{
    const struct up *a = n->attrs;
    int64_t size[2];
    if (window_check_image(n, e) || up_size(n, HEIGHT, &size[HEIGHT], e) ||
        up_size(n, WIDTH, &size[WIDTH], e) || up_declare(n, e))
        return -1;
    return node_set_shape(
        n, &SHAPE(n->in[0]->shape.dim[0], a->conv.out_channels, size[HEIGHT], size[WIDTH]), e);
}

/* ---- running --------------------------------------------------------------------------------- */

/* The convolution from this output to this input. */
static struct conv adjoint(const struct node *n)
{
    const struct conv_attrs *a = &((const struct up *)n->attrs)->conv;
    const int64_t *in = n->in[0]->shape.dim, *out = n->shape.dim;
    struct conv v = {.window = a->window, .groups = a->groups};
    v.c = out[1], v.h = out[2], v.w = out[3];
    v.o = in[1], v.oh = in[2], v.ow = in[3];
    v.cg = v.c / v.groups;
    v.og = v.o / v.groups;
    v.taps = v.window.kernel[0] * v.window.kernel[1];
    v.k = v.taps * v.cg;
    v.depthwise = v.cg == 1 && v.og == 1;
    return v;
}

static void up_memory(struct node *n)
{
    const struct conv v = adjoint(n);
    const struct conv_memory m = conv_method(&v)->memory(&v);
    const int64_t sums = doubles_as_reals(CHANNEL_CHUNKS * v.c);
    n->work.fixed = m.backward;
    n->work_backward.fixed = larger(larger(m.forward, m.backward), sums);
    n->scratch = m.scratch;
}

static struct conv_job up_job(const struct node *n, struct run *r)
{
    struct conv_job j = {.v = adjoint(n), .r = r, .work = run_work(r, n)};
    j.v.images = run_dim(r, n, 0);
    j.weight = run_in(r, n, n->n_data + UP_WEIGHT);
    return j;
}

/* Rows of pixels, and their numbers for each channel. */
struct bias_job {
    struct channels v;
    const real *bias;
    real *y;
    const real *dy;
    double *sums; /* [chunks][c] */
};

static void bias_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct bias_job *b = arg;
    (void)worker;
    for (int64_t row = begin; row < end; row++)
        for (int64_t c = 0; c < b->v.c; c++)
            b->y[row * b->v.c + c] += b->bias[c];
}

static void bias_sums_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct bias_job *b = arg;
    (void)worker;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t first;
        const struct channels v = channel_chunk(&b->v, chunk, &first);
        double *sum = b->sums + chunk * v.c;
        memset(sum, 0, (size_t)v.c * sizeof *sum);
        channels_sum(&v, b->dy + first, sum);
    }
}

static void up_forward(const struct node *n, struct run *r)
{
    struct conv_job j = up_job(n, r);
    j.dy = run_in(r, n, 0);
    j.dx = run_value(r, n);
    conv_method(&j.v)->backward(&j);
    if (!node_param_in(n, UP_BIAS))
        return;
    struct bias_job b = {.v = {j.v.images * j.v.h * j.v.w, j.v.c, 1},
                         .bias = run_in(r, n, n->n_data + UP_BIAS),
                         .y = j.dx};
    run_for(r, b.v.rows, grain_rows(b.v.c), bias_range, &b);
}

static void up_backward_bias(const struct node *n, struct run *r, const struct conv *v, real *dbias)
{
    struct bias_job b = {.v = {v->images * v->h * v->w, v->c, 1},
                         .dy = run_grad(r, n),
                         .sums = (double *)(void *)run_work(r, n)};
    const int64_t chunks = channel_chunks(&b.v).count;
    run_for(r, chunks, 1, bias_sums_range, &b);
    conv_reduce_bias(b.sums, chunks, v->c, dbias);
}

static void up_backward(const struct node *n, struct run *r)
{
    struct conv_job j = up_job(n, r);
    real *dbias = node_param_in(n, UP_BIAS) ? run_grad_in(r, n, n->n_data + UP_BIAS) : NULL;
    j.x = run_grad(r, n);
    j.y = run_grad_in(r, n, 0);
    if (j.y)
        conv_method(&j.v)->forward(&j);
    j.dy = run_in(r, n, 0);
    j.dweight = run_grad_in(r, n, n->n_data + UP_WEIGHT);
    if (j.dweight)
        conv_method(&j.v)->backward(&j);
    if (dbias)
        up_backward_bias(n, r, &j.v, dbias);
}

static double up_flops(const struct node *n)
{
    const struct node *in = n->in[0];
    return 2.0 * (double)adjoint(n).k * (double)(in->size.sample + in->size.fixed);
}

const struct op ops_conv_transpose[] = {
    {"conv_transpose2d", "convolution", 1, 1, up_attrs, sizeof(struct up), up_params, up_shape,
     up_memory, up_forward, up_backward, up_flops, OP_LAYOUT_LAST | OP_KEEPS_IN,
     "Nx3x3x4 out_channels=2 kernel_size=2 stride=2; Nx2x4x3 out_channels=3 kernel_size=3 "
     "padding=1; Nx4x3x3 out_channels=2 kernel_size=3 stride=2 padding=1 output_padding=1 groups=2 "
     "bias=false; Nx3x3x2 out_channels=3 kernel_size=3 stride=2 groups=3; Nx2x2x3 out_channels=4 "
     "kernel_size=2,3 dilation=2,1 padding=1,2 stride=1,3; Nx1x1x1 out_channels=1 kernel_size=1",
     "y[o, i*stride - padding + u*dilation, ...] adds weight[c,o,u,v] x[c,i,j], plus bias[o]"},
    {0},
};
