/* ops_activation.c: activation functions. Those of e^x are kernels; leaky_relu and gelu read an
 * attribute; softmax and log_softmax work along a dimension, after subtracting its maximum, with
 * sums in double. NaN passes through all. */
#include "epilogue.h"
#include "unary.h"

#include <stddef.h>
#include <string.h>

/* ---- functions of one number ----------------------------------------------------------------- */

UNARY_KERNEL(relu, OUT, relu)
UNARY_KERNEL_VALUE(sigmoid, OUT, sigmoid, g *((1 - y) * y))
UNARY_KERNEL_VALUE(tanh, OUT, tanh, g *(1 - y * y))
UNARY_KERNEL(silu, IN, silu)

/* ---- leaky_relu ------------------------------------------------------------------------------ */

struct leaky_relu {
    double negative_slope;
};
static const struct attr_def leaky_relu_attrs[] = {
    {"negative_slope", ATTR_REAL, offsetof(struct leaky_relu, negative_slope), "0.01", -1e6, 1e6,
     NULL, "factor of negative inputs"},
    {0},
};

static inline real slope(const struct node *n)
{
    return (real)((const struct leaky_relu *)n->attrs)->negative_slope;
}

UNARY_LOOPS(leaky_relu, IN, x > 0 ? x : x * slope(n), x > 0 ? g : g * slope(n))

/* ---- gelu ------------------------------------------------------------------------------------ */

struct gelu {
    int approximate; /* GELU_NONE, GELU_TANH */
};
enum { GELU_NONE, GELU_TANH };
static const struct attr_def gelu_attrs[] = {
    {"approximate", ATTR_CHOICE, offsetof(struct gelu, approximate), "none", 0, 0, "none|tanh",
     "none: with the error function; tanh: an approximation of it"},
    {0},
};

UNARY_KERNEL(gelu_erf, IN, gelu)
UNARY_KERNEL(gelu_tanh, IN, gelu_tanh)

static bool gelu_is_tanh(const struct node *n)
{
    return ((const struct gelu *)n->attrs)->approximate == GELU_TANH;
}

static void gelu_forward(const struct node *n, struct run *r)
{
    (gelu_is_tanh(n) ? gelu_tanh_forward : gelu_erf_forward)(n, r);
}

static void gelu_backward(const struct node *n, struct run *r)
{
    (gelu_is_tanh(n) ? gelu_tanh_backward : gelu_erf_backward)(n, r);
}

enum activation activation_of(const struct node *n)
{
    static const struct {
        const char *op;
        enum activation activation;
    } all[] = {{"relu", ACTIVATION_RELU},       {"relu6", ACTIVATION_RELU6},
               {"sigmoid", ACTIVATION_SIGMOID}, {"tanh", ACTIVATION_TANH},
               {"silu", ACTIVATION_SILU},       {"gelu", ACTIVATION_GELU}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].op, n->op->name) == 0)
            return all[i].activation == ACTIVATION_GELU && gelu_is_tanh(n) ? ACTIVATION_GELU_TANH
                                                                           : all[i].activation;
    return ACTIVATION_NONE;
}

/* ---- softmax and log_softmax ----------------------------------------------------------------- */

struct softmax {
    int64_t dim;
};
static const struct attr_def softmax_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct softmax, dim), "-1", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1,
     NULL, "dimension that sums to 1; not the batch"},
    {0},
};

static int softmax_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    int dim;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) ||
        node_wrap_dim(n, ((const struct softmax *)n->attrs)->dim, in->rank, &dim, e))
        return -1;
    struct shape_text text;
    if (in->dim[dim] == BATCH)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension %d of %s is the batch; expects another dimension", n->what,
                         dim, shape_print(in, &text));
    return node_set_shape(n, in, e);
}

static double softmax_flops(const struct node *n)
{
    return 5.0 * unary_flops(n); /* maximum, difference, exponential, sum, quotient */
}

/* A lane is one index after `dim`; lanes lie side by side and are done LANES at a time. */
enum { LANES = 64 };
struct lanes {
    int64_t size, step; /* along dim: numbers, distance of one from the next; step lanes an outer */
    int64_t blocks;     /* of lanes, for each outer index */
    const real *in;     /* forward: x; backward: y */
    const real *grad;   /* of y, or NULL in forward */
    real *out;
    /* One block: `at` is its first number, `count` its lanes. */
    void (*block)(const struct lanes *l, int64_t at, int64_t count);
};

static void lanes_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct lanes *l = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t outer = i / l->blocks, first = i % l->blocks * LANES, left = l->step - first;
        l->block(l, outer * l->size * l->step + first, left < LANES ? left : LANES);
    }
}

static void lanes_run(const struct node *n, struct run *r, struct lanes l)
{
    struct shape s = run_shape(r, n);
    int64_t dim = ((const struct softmax *)n->attrs)->dim, outer = 1;
    dim = dim < 0 ? dim + s.rank : dim;
    for (int i = 0; i < dim; i++)
        outer *= s.dim[i];
    l.size = s.dim[dim];
    l.step = 1;
    for (int i = (int)dim + 1; i < s.rank; i++)
        l.step *= s.dim[i];
    l.blocks = (l.step + LANES - 1) / LANES;
    int64_t width = l.step < LANES ? l.step : LANES;
    run_for(r, outer * l.blocks, grain_rows(l.size * width), lanes_range, &l);
}

/* For a lane that is contiguous its maximum, and the sum of e^(x - maximum), which go to out. */
static double lane_exp(const struct lanes *l, int64_t at, real *max)
{
    *max = kernels()->largest(l->size, l->in + at);
    return kernels()->exp_sum(l->size, l->in + at, *max, l->out + at);
}

/* The same for each of `count` lanes. */
static void lanes_exp(const struct lanes *l, int64_t at, int64_t count, real *max, double *sum)
{
    if (l->step == 1) {
        *sum = lane_exp(l, at, max);
        return;
    }
    for (int64_t c = 0; c < count; c++) {
        max[c] = -INFINITY;
        sum[c] = 0;
    }
    for (int64_t j = 0; j < l->size; j++)
        for (int64_t c = 0; c < count; c++) {
            real x = l->in[at + j * l->step + c];
            max[c] = x > max[c] ? x : max[c];
        }
    for (int64_t j = 0; j < l->size; j++) {
        const real *x = l->in + at + j * l->step;
        real *power = l->out + at + j * l->step;
        for (int64_t c = 0; c < count; c++)
            power[c] = x[c] - max[c];
        kernels()->exp.value(count, power, power);
        for (int64_t c = 0; c < count; c++)
            sum[c] += (double)power[c];
    }
}

static void softmax_block(const struct lanes *l, int64_t at, int64_t count)
{
    real max[LANES];
    double sum[LANES];
    lanes_exp(l, at, count, max, sum);
    for (int64_t j = 0; j < l->size; j++)
        for (int64_t c = 0; c < count; c++) {
            int64_t i = at + j * l->step + c;
            l->out[i] = (real)((double)l->out[i] / sum[c]);
        }
}

static void log_softmax_block(const struct lanes *l, int64_t at, int64_t count)
{
    real max[LANES];
    double sum[LANES];
    lanes_exp(l, at, count, max, sum);
    for (int64_t c = 0; c < count; c++)
        sum[c] = log(sum[c]);
    for (int64_t j = 0; j < l->size; j++)
        for (int64_t c = 0; c < count; c++) {
            int64_t i = at + j * l->step + c;
            l->out[i] = (real)((double)(l->in[i] - max[c]) - sum[c]);
        }
}

/* dx = y (g - sum of g y) */
static void softmax_block_backward(const struct lanes *l, int64_t at, int64_t count)
{
    double sum[LANES] = {0};
    for (int64_t j = 0; j < l->size; j++)
        for (int64_t c = 0; c < count; c++) {
            int64_t i = at + j * l->step + c;
            sum[c] += (double)l->grad[i] * (double)l->in[i];
        }
    for (int64_t j = 0; j < l->size; j++)
        for (int64_t c = 0; c < count; c++) {
            int64_t i = at + j * l->step + c;
            l->out[i] = (real)((double)l->in[i] * ((double)l->grad[i] - sum[c]));
        }
}

/* dx = g - e^y sum of g */
static void log_softmax_block_backward(const struct lanes *l, int64_t at, int64_t count)
{
    double sum[LANES] = {0};
    for (int64_t j = 0; j < l->size; j++)
        for (int64_t c = 0; c < count; c++)
            sum[c] += (double)l->grad[at + j * l->step + c];
    for (int64_t j = 0; j < l->size; j++) {
        const int64_t i = at + j * l->step;
        kernels()->exp.value(count, l->in + i, l->out + i);
        for (int64_t c = 0; c < count; c++)
            l->out[i + c] = (real)((double)l->grad[i + c] - (double)l->out[i + c] * sum[c]);
    }
}

static void softmax_forward(const struct node *n, struct run *r)
{
    lanes_run(
        n, r,
        (struct lanes){.in = run_in(r, n, 0), .out = run_value(r, n), .block = softmax_block});
}

static void softmax_backward(const struct node *n, struct run *r)
{
    if (run_grad_in(r, n, 0))
        lanes_run(n, r,
                  (struct lanes){.in = run_value(r, n),
                                 .grad = run_grad(r, n),
                                 .out = run_grad_in(r, n, 0),
                                 .block = softmax_block_backward});
}

static void log_softmax_forward(const struct node *n, struct run *r)
{
    lanes_run(
        n, r,
        (struct lanes){.in = run_in(r, n, 0), .out = run_value(r, n), .block = log_softmax_block});
}

static void log_softmax_backward(const struct node *n, struct run *r)
{
    if (run_grad_in(r, n, 0))
        lanes_run(n, r,
                  (struct lanes){.in = run_value(r, n),
                                 .grad = run_grad(r, n),
                                 .out = run_grad_in(r, n, 0),
                                 .block = log_softmax_block_backward});
}

/* ---- the table ------------------------------------------------------------------------------- */

/* clang-format off */
#define SOFTMAX_ROW(name, doc)                                                                     \
    {#name, "activation", 1, 1, softmax_attrs, sizeof(struct softmax), NULL, softmax_shape, NULL,  \
     name##_forward, name##_backward, softmax_flops, OP_KEEPS_OUT,                                 \
     "Nx5; Nx3x4 dim=1; 3x2x2 dim=0; Nx2x70 dim=1", doc}

const struct op ops_activation[] = {
    UNARY_ROW(relu, "activation", OUT, "Nx7:spread; Nx2x3x3:spread", "y = max(x, 0)")
    UNARY_ROW(sigmoid, "activation", OUT, "Nx3", "y = 1 / (1 + e^-x)")
    UNARY_ROW(tanh, "activation", OUT, "Nx3", "y = tanh(x)")
    UNARY_ROW(silu, "activation", IN, "Nx3; Nx19", "y = x / (1 + e^-x)")
    {"leaky_relu", "activation", 1, 1, leaky_relu_attrs, sizeof(struct leaky_relu), NULL,
     unary_shape, NULL, leaky_relu_forward, leaky_relu_backward, unary_flops,
     OP_LAYOUT_SAME | OP_KEEPS_IN, "Nx7:spread; Nx7:spread negative_slope=0.2",
     "y = x where x > 0, else negative_slope * x"},
    {"gelu", "activation", 1, 1, gelu_attrs, sizeof(struct gelu), NULL, unary_shape, NULL,
     gelu_forward, gelu_backward, unary_flops, OP_LAYOUT_SAME | OP_KEEPS_IN,
     "Nx3; Nx3 approximate=tanh; Nx19; Nx19 approximate=tanh",
     "y = x P(X <= x) for X normal(0, 1); tanh: x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2"},
    SOFTMAX_ROW(softmax, "y_i = e^x_i / sum_j e^x_j along dim"),
    SOFTMAX_ROW(log_softmax, "y_i = x_i - ln sum_j e^x_j along dim"),
    {0},
};
/* clang-format on */
