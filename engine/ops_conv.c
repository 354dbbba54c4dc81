/* ops_conv.c: conv2d, its shapes and its row. The arithmetic is in conv_direct.c,
 * conv_winograd.c, conv_planes.c and, for depthwise layers, in conv_depthwise.c. */
#include "conv.h"
#include "graph.h"

#include <limits.h>
#include <stddef.h>

enum { CONV_WEIGHT, CONV_BIAS };
enum { CHANNELS_MAX = 1 << 24 };

static const struct attr_def conv_attr_defs[] = {
    {"out_channels", ATTR_INT, offsetof(struct conv_attrs, out_channels), "0", 1, CHANNELS_MAX,
     NULL, "channels of the output"},
    {"kernel_size", ATTR_PAIR, offsetof(struct conv_attrs, window.kernel), "0", 1, WINDOW_MAX, NULL,
     "height and width of the kernel"},
    {"stride", ATTR_PAIR, offsetof(struct conv_attrs, window.stride), "1", 1, WINDOW_MAX, NULL,
     "pixels from one window to the next"},
    {"padding", ATTR_PAIR, offsetof(struct conv_attrs, window.padding), "0", 0, WINDOW_MAX, "same",
     "zeros around the image, on each side; \"same\": so many that its size stays"},
    {"dilation", ATTR_PAIR, offsetof(struct conv_attrs, window.dilation), "1", 1, WINDOW_MAX, NULL,
     "pixels from one tap of the kernel to the next"},
    {"groups", ATTR_INT, offsetof(struct conv_attrs, groups), "1", 1, CHANNELS_MAX, NULL,
     "parts of the channels that are convolved apart"},
    {"bias", ATTR_BOOL, offsetof(struct conv_attrs, bias), "true", 0, 0, NULL,
     "add a number to each output channel"},
    {"winograd", ATTR_BOOL, offsetof(struct conv_attrs, winograd), "true", 0, 0, NULL,
     "use Winograd's algorithm where it is faster; its rounding error is a few times larger"},
    INPUT_FACT("in_channels", 1, "channels"),
    {0},
};

static const struct param_def conv_params[] = {
    {"weight", false, "kaiming_uniform"},
    {"bias", false, "fan_in_uniform"},
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

/* Out channels and kernel, as the attributes say or as the weight that the caller brought has them.
 */
static int conv_sizes(const struct node *n, int64_t *out_r, int64_t kernel_r[2], struct error *e)
{
    const struct conv_attrs *a = n->attrs;
    const struct node *weight = node_param_in(n, CONV_WEIGHT);
    const int64_t given[3] = {a->out_channels, a->window.kernel[0], a->window.kernel[1]};
    const char *const names[3] = {"out_channels", "kernel_size", "kernel_size"};
    const int from[3] = {0, 2, 3}; /* dimensions of the weight */
    int64_t *const to[3] = {out_r, &kernel_r[0], &kernel_r[1]};
    struct shape_text text;
    if (weight && (weight->dtype != DTYPE_REAL || weight->shape.rank != 4))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: its weight must be floating point with the shape "
                         "[out_channels, in_channels / groups, height, width], not %s",
                         n->what, shape_print(&weight->shape, &text));
    for (int i = 0; i < 3; i++) {
        if (given[i] == 0 && !weight)
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: attribute '%s' is missing", n->what,
                             names[i]);
        *to[i] = given[i] ? given[i] : weight->shape.dim[from[i]];
        if (*to[i] < 1 || *to[i] > (i == 0 ? CHANNELS_MAX : WINDOW_MAX))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: its weight's dimension %d must be within [1, %d], not %lld",
                             n->what, from[i], i == 0 ? CHANNELS_MAX : WINDOW_MAX,
                             (long long)*to[i]);
    }
    return 0;
}

static int check_groups(const struct node *n, int64_t in, int64_t out, int64_t groups,
                        struct error *e)
{
    if (in % groups == 0 && out % groups == 0)
        return 0;
    bool bad_in = in % groups != 0;
    return error_set(
        e, ERROR_BAD_SHAPE, "%s: groups %lld must divide the %lld %s channels without remainder",
        n->what, (long long)groups, (long long)(bad_in ? in : out), bad_in ? "input" : "output");
}

static int conv_declare(struct node *n, int64_t out, const int64_t kernel[2], struct error *e)
{
    const struct conv_attrs *a = n->attrs;
    int64_t cg = n->in[0]->shape.dim[1] / a->groups, fan_in, fan_out;
    struct shape weight = SHAPE(out, cg, kernel[0], kernel[1]), bias = SHAPE(out);
    if (__builtin_mul_overflow(kernel[0] * kernel[1], cg, &fan_in) ||
        __builtin_mul_overflow(kernel[0] * kernel[1], out, &fan_out) || fan_in > INT_MAX ||
        n->in[0]->shape.dim[1] > INT_MAX) {
        struct shape_text text;
        return error_set(e, ERROR_TOO_LARGE, "%s: a weight of shape %s is too large", n->what,
                         shape_print(&weight, &text));
    }
    if (node_param(n, CONV_WEIGHT, &weight, fan_in, fan_out, e))
        return -1;
    if (a->bias)
        return node_param(n, CONV_BIAS, &bias, fan_in, fan_out, e);
    if (node_param_in(n, CONV_BIAS))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    return 0;
}

/* Images are copied with their padding, forward the input's and backward the output's. */
static int check_padding(const struct node *n, const struct window *w, int64_t out, struct error *e)
{
    const int64_t *in = n->in[0]->shape.dim, most = (int64_t)1 << 40;
    int64_t size = in[1] > out ? in[1] : out;
    for (int axis = HEIGHT; axis <= WIDTH; axis++)
        if (__builtin_mul_overflow(size, in[2 + axis] + 2 * w->padding[axis], &size) || size > most)
            return error_set(e, ERROR_TOO_LARGE,
                             "%s: attribute 'padding': images of %lld x %lld padded by %lld and "
                             "%lld are too large to count",
                             n->what, (long long)in[2], (long long)in[3],
                             (long long)w->padding[HEIGHT], (long long)w->padding[WIDTH]);
    return 0;
}

static int conv_shape(struct node *n, struct error *e)
{
    const struct conv_attrs *a = n->attrs;
    struct window w = a->window;
    int64_t out = 0, size[2];
    if (window_check_image(n, e) || conv_sizes(n, &out, w.kernel, e) ||
        check_groups(n, n->in[0]->shape.dim[1], out, a->groups, e) || window_same(n, &w, 2, e) ||
        window_output(n, &w, false, size, e) || check_padding(n, &w, out, e) ||
        conv_declare(n, out, w.kernel, e))
        return -1;
    struct shape s = SHAPE(n->in[0]->shape.dim[0], out, size[HEIGHT], size[WIDTH]);
    return node_set_shape(n, &s, e);
}

/* ---- running --------------------------------------------------------------------------------- */

static struct conv conv_of(const struct node *n)
{
    const struct conv_attrs *a = n->attrs;
    const int64_t *in = n->in[0]->shape.dim, *out = n->shape.dim;
    const int64_t *weight = node_param_in(n, CONV_WEIGHT)->shape.dim;
    struct conv v = {.window = a->window, .groups = a->groups};
    v.window.kernel[HEIGHT] = weight[2];
    v.window.kernel[WIDTH] = weight[3];
    window_same(n, &v.window, 2, NULL); /* it was possible when the node was made */
    v.c = in[1], v.h = in[2], v.w = in[3];
    v.o = out[1], v.oh = out[2], v.ow = out[3];
    v.cg = v.c / v.groups;
    v.og = v.o / v.groups;
    v.taps = weight[2] * weight[3];
    v.k = v.taps * v.cg;
    v.depthwise = v.cg == 1 && v.og == 1;
    v.winograd = a->winograd;
    v.predicts = n->graph->invariant;
    return v;
}

/* A convolution of one channel to one is depthwise too, but long in pixels, not in channels. */
const struct conv_method *conv_method(const struct conv *v)
{
    if (v->depthwise && v->groups > 1)
        return &conv_depthwise;
    if (v->winograd && conv_winograd_pays(v))
        return &conv_winograd;
    return conv_planes_pays(v) ? &conv_planes : &conv_direct;
}

static struct conv_job conv_job(const struct node *n, struct run *r)
{
    struct conv_job j = {.v = conv_of(n), .r = r, .x = run_in(r, n, 0), .work = run_work(r, n)};
    j.v.images = run_dim(r, n, 0);
    j.weight = run_in(r, n, n->n_data + CONV_WEIGHT);
    j.bias = node_param_in(n, CONV_BIAS) ? run_in(r, n, n->n_data + CONV_BIAS) : NULL;
    return j;
}

/* With a batch norm to fold in: the folded bias lies behind what is kept or behind the work, the
 * folded weights at the end of the work. */
static void conv_memory(struct node *n)
{
    struct conv v = conv_of(n);
    v.images = n->shape.dim[0] == BATCH ? n->graph->most : n->shape.dim[0];
    const int64_t weights = epilogue_fold_size(n, v.o, v.k), bias = weights ? v.o : 0;
    struct conv_memory m = conv_method(&v)->memory(&v);
    n->algorithm = conv_method(&v)->name;
    n->work.fixed = m.forward + bias + weights;
    n->work_backward.fixed = m.backward;
    n->scratch = m.scratch;
    n->prepared = m.prepared + bias;
}

static void conv_forward(const struct node *n, struct run *r)
{
    struct conv_job j = conv_job(n, r);
    const struct conv_memory m = conv_method(&j.v)->memory(&j.v);
    const struct epilogue e = epilogue_of(n, r);
    real *behind = j.work + m.forward;
    j.y = run_value(r, n);
    j.prepared = run_prepared(r, n);
    j.ready = j.prepared && !r->prepares;
    const struct folded f =
        epilogue_fold(n, r, j.v.o, j.v.k, (struct folded){j.weight, j.bias}, j.ready,
                      j.prepared ? j.prepared + m.prepared : behind, behind + j.v.o);
    j.weight = f.weight;
    j.bias = f.bias;
    j.epilogue = &e;
    conv_method(&j.v)->forward(&j);
}

static void conv_backward(const struct node *n, struct run *r)
{
    struct conv_job j = conv_job(n, r);
    j.dy = run_grad(r, n);
    j.dx = run_grad_in(r, n, 0);
    j.dweight = run_grad_in(r, n, n->n_data + CONV_WEIGHT);
    j.dbias = j.bias ? run_grad_in(r, n, n->n_data + CONV_BIAS) : NULL;
    conv_method(&j.v)->backward(&j);
}

static double conv_flops(const struct node *n)
{
    return 2.0 * (double)conv_of(n).k * (double)(n->size.sample + n->size.fixed);
}

const struct op ops_conv[] = {
    {"conv2d", "convolution", 1, 1, conv_attr_defs, sizeof(struct conv_attrs), conv_params,
     conv_shape, conv_memory, conv_forward, conv_backward, conv_flops,
     OP_LAYOUT_LAST | OP_KEEPS_IN | OP_EPILOGUE,
     "Nx3x6x5 out_channels=4 kernel_size=3; Nx3x7x8 out_channels=5 kernel_size=3 padding=1 "
     "stride=2;"
     "Nx2x9x8 out_channels=3 kernel_size=3 padding=2 dilation=2 bias=false;"
     "Nx4x5x5 out_channels=6 kernel_size=3 padding=1 groups=2;"
     "Nx4x4x5 out_channels=6 kernel_size=1; Nx4x4x4 out_channels=4 kernel_size=1 groups=2;"
     "Nx3x5x5 out_channels=2 kernel_size=1 stride=2; Nx3x4x4 out_channels=4 kernel_size=4;"
     "Nx5x6x7 out_channels=5 kernel_size=3 padding=1 groups=5;"
     "Nx4x7x7 out_channels=4 kernel_size=3 padding=2 stride=2 dilation=2 groups=4 bias=false;"
     "Nx3x4x4 out_channels=6 kernel_size=3 padding=1 groups=3;"
     "Nx1x4x4 out_channels=1 kernel_size=2; Nx3x20x20 out_channels=2 kernel_size=3 padding=1;"
     "Nx16x4x5 out_channels=17 kernel_size=3 padding=1;"
     "Nx1x8x8 out_channels=2 kernel_size=5 padding=2;"
     "Nx2x7x16 out_channels=2 kernel_size=5 padding=2 stride=2;"
     "Nx2x5x6 out_channels=3 kernel_size=3 padding=same dilation=2 in_channels=2",
     "y[o,i,j] = bias[o] + sum over c,u,v of weight[o,c,u,v] x[c, i*stride - padding + u*dilation, "
     "j*stride - padding + v*dilation]"},
    {0},
};
