/* onnx_rows_elementwise.c: ONNX's activations, arithmetic, comparisons and casts as operators of
 * ours. */
#include "onnx_build.h"

#include <math.h>
#include <string.h>

/* ---- one input ------------------------------------------------------------------------------- */

/* The row names our operator, which has no attributes to set. */
static struct node *same(struct onnx_call *c)
{
    return onnx_add1(c, c->row->ours, onnx_real(c, 0));
}

static struct node *identity(struct onnx_call *c)
{
    const struct onnx_tensor *t = onnx_type(c, 0) == ONNX_INT64 ? onnx_known(c, 0) : NULL;
    return t ? onnx_give_known(c, t) : onnx_real(c, 0);
}

static struct node *constant(struct onnx_call *c)
{
    const struct onnx_attr *a = onnx_attr_find(c->node, "value");
    if (!a || !a->t)
        return onnx_not_ours(c, "Constant without a tensor");
    return onnx_give_known(c, a->t);
}

/* BOOL is 0 and 1 here, so a cast between it and FLOAT is a comparison or nothing. */
static struct node *cast_to(struct onnx_call *c, int type)
{
    if (type != ONNX_FLOAT && type != ONNX_BOOL)
        return onnx_not_ours(c, "%s to a dtype that is not computed in (%d)", c->node->op, type);
    if (type == ONNX_BOOL)
        return onnx_not_ours(c, "%s to BOOL", c->node->op);
    return onnx_real(c, 0);
}

static struct node *cast(struct onnx_call *c)
{
    return cast_to(c, (int)onnx_int(c, "to", 0));
}

static struct node *cast_like(struct onnx_call *c)
{
    return cast_to(c, onnx_type(c, 1));
}

static struct node *dropout(struct onnx_call *c)
{
    double ratio = onnx_float(c, "ratio", 0.5);
    const struct onnx_tensor *training = onnx_has(c, 2) ? onnx_known(c, 2) : NULL;
    if (onnx_has(c, 1) && !onnx_number(c, 1, &ratio))
        return NULL;
    if (training && training->ints && training->ints[0] && ratio != 0)
        return onnx_not_ours(c, "Dropout in training, whose mask is ONNX's");
    if (onnx_wants(c, 1))
        return onnx_not_ours(c, "Dropout with its mask");
    return onnx_add1(c, "dropout", onnx_real(c, 0), ONNX_REAL("p", ratio == 1 ? 0.5 : ratio));
}

static struct node *leaky_relu(struct onnx_call *c)
{
    return onnx_add1(c, "leaky_relu", onnx_real(c, 0),
                     ONNX_REAL("negative_slope", onnx_float(c, "alpha", 0.01)));
}

static struct node *with_alpha(struct onnx_call *c)
{
    return onnx_add1(c, c->row->ours, onnx_real(c, 0),
                     ONNX_REAL("alpha", onnx_float(c, "alpha", 1)));
}

/* gamma * elu with its alpha; selu itself where they are left out. */
static struct node *selu(struct onnx_call *c)
{
    if (!onnx_attr_find(c->node, "alpha") && !onnx_attr_find(c->node, "gamma"))
        return onnx_add1(c, "selu", onnx_real(c, 0));
    const double alpha = onnx_float(c, "alpha", 1.67326319217681884765625);
    return onnx_scale(c, onnx_add1(c, "elu", onnx_real(c, 0), ONNX_REAL("alpha", alpha)),
                      onnx_float(c, "gamma", 1.05070102214813232421875));
}

static struct node *thresholded_relu(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    return onnx_add2(c, "mul", x,
                     onnx_add1(c, "gt", x, ONNX_REAL("other", onnx_float(c, "alpha", 1))));
}

/* max(0, min(1, alpha x + beta)); ours has alpha = 1/6. */
static struct node *hard_sigmoid(struct onnx_call *c)
{
    struct node *x = onnx_scale(c, onnx_real(c, 0), onnx_float(c, "alpha", 0.2));
    x = onnx_add1(c, "add", x, ONNX_REAL("other", onnx_float(c, "beta", 0.5)));
    return onnx_add1(c, "clamp", x, ONNX_REAL("min", 0), ONNX_REAL("max", 1));
}

static struct node *gelu(struct onnx_call *c)
{
    return onnx_add1(c, "gelu", onnx_real(c, 0),
                     ONNX_TEXT("approximate", onnx_string(c, "approximate", "none")));
}

static struct node *swish(struct onnx_call *c)
{
    const double alpha = onnx_float(c, "alpha", 1);
    struct node *x = onnx_real(c, 0);
    if (alpha == 1)
        return onnx_add1(c, "silu", x);
    return onnx_add2(c, "mul", x, onnx_add1(c, "sigmoid", onnx_scale(c, x, alpha)));
}

/* relu(x) - slope relu(-x), as slopes of any shape broadcast. */
static struct node *prelu(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    struct node *below = onnx_add1(c, "relu", onnx_add1(c, "neg", x));
    return onnx_add2(c, "sub", onnx_add1(c, "relu", x),
                     onnx_add2(c, "mul", onnx_real(c, 1), below));
}

static struct node *clip(struct onnx_call *c)
{
    double low = onnx_float(c, "min", -INFINITY), high = onnx_float(c, "max", INFINITY);
    if ((onnx_has(c, 1) && !onnx_number(c, 1, &low)) ||
        (onnx_has(c, 2) && !onnx_number(c, 2, &high)))
        return NULL;
    struct node *x = onnx_real(c, 0);
    if (!isinf(low))
        x = onnx_add1(c, "clamp", x, ONNX_REAL("min", low));
    return isinf(high) ? x : onnx_add1(c, "clamp", x, ONNX_REAL("max", high));
}

static struct node *reciprocal(struct onnx_call *c)
{
    return onnx_add1(c, "pow", onnx_real(c, 0), ONNX_REAL("exponent", -1));
}

static struct node *logical_not(struct onnx_call *c)
{
    return onnx_add1(c, "eq", onnx_real(c, 0), ONNX_REAL("other", 0));
}

/* x + bias below -lambd, x - bias above it, else 0. */
static struct node *shrink(struct onnx_call *c)
{
    const double lambd = onnx_float(c, "lambd", 0.5), bias = onnx_float(c, "bias", 0);
    struct node *x = onnx_real(c, 0);
    struct node *low = onnx_add1(c, "lt", x, ONNX_REAL("other", -lambd));
    struct node *high = onnx_add1(c, "gt", x, ONNX_REAL("other", lambd));
    return onnx_add2(c, "add",
                     onnx_add2(c, "mul", low, onnx_add1(c, "add", x, ONNX_REAL("other", bias))),
                     onnx_add2(c, "mul", high, onnx_add1(c, "sub", x, ONNX_REAL("other", bias))));
}

static struct node *softmax(struct onnx_call *c)
{
    if (c->b->opset < 13)
        return onnx_not_ours(c, "%s of an opset before 13", c->node->op);
    return onnx_add1(c, c->row->ours, onnx_real(c, 0), ONNX_INT("dim", onnx_int(c, "axis", -1)));
}

/* ---- more inputs ----------------------------------------------------------------------------- */

static struct node *binary(struct onnx_call *c)
{
    return onnx_add2(c, c->row->ours, onnx_real(c, 0), onnx_real(c, 1));
}

/* One after the other. */
static struct node *variadic(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    for (int i = 1; i < c->node->n_inputs; i++)
        x = onnx_add2(c, c->row->ours, x, onnx_real(c, i));
    return x;
}

static struct node *mean(struct onnx_call *c)
{
    return onnx_scale(c, variadic(c), 1.0 / c->node->n_inputs);
}

static struct node *where(struct onnx_call *c)
{
    return onnx_add3(c, "where", onnx_real(c, 0), onnx_real(c, 1), onnx_real(c, 2));
}

const struct onnx_row onnx_rows_elementwise[] = {
    {"Relu", "relu", same, 1},
    {"Sigmoid", "sigmoid", same, 2},
    {"Tanh", "tanh", same, 5},
    {"Softsign", "softsign", same, 2},
    {"Softplus", "softplus", same, 3},
    {"Mish", "mish", same, 1},
    {"HardSwish", "hardswish", same, 1},
    {"Exp", "exp", same, 32},
    {"Log", "log", same, 22},
    {"Sqrt", "sqrt", same, 13},
    {"Abs", "abs", same, 11},
    {"Neg", "neg", same, 13},
    {"Sin", "sin", same, 2},
    {"Cos", "cos", same, 2},
    {"Identity", "nothing", identity, 2},
    {"Constant", "a constant", constant, 50},
    {"Cast", "nothing", cast, 8},
    {"CastLike", "nothing", cast_like, 17},
    {"Dropout", "dropout", dropout, 5},
    {"LeakyRelu", "leaky_relu", leaky_relu, 3},
    {"Elu", "elu", with_alpha, 4},
    {"Celu", "celu", with_alpha, 1},
    {"Selu", "selu; elu, mul", selu, 3},
    {"ThresholdedRelu", "gt, mul", thresholded_relu, 3},
    {"HardSigmoid", "mul, add, clamp", hard_sigmoid, 4},
    {"Gelu", "gelu", gelu, 4},
    {"Swish", "silu; sigmoid, mul", swish, 1},
    {"PRelu", "relu, mul, sub", prelu, 2},
    {"Clip", "clamp", clip, 9},
    {"Reciprocal", "pow", reciprocal, 2},
    {"Not", "eq", logical_not, 3},
    {"Shrink", "lt, gt, mul, add", shrink, 2},
    {"Softmax", "softmax", softmax, 7},
    {"LogSoftmax", "log_softmax", softmax, 7},
    {"Add", "add", binary, 7},
    {"Sub", "sub", binary, 32},
    {"Mul", "mul", binary, 31},
    {"Div", "div", binary, 24},
    {"Pow", "pow", binary, 7},
    {"Equal", "eq", binary, 4},
    {"Less", "lt", binary, 14},
    {"LessOrEqual", "le", binary, 2},
    {"Greater", "gt", binary, 4},
    {"GreaterOrEqual", "ge", binary, 2},
    {"And", "mul", binary, 8},
    {"Or", "maximum", binary, 12},
    {"Xor", "ne", binary, 8},
    {"Max", "maximum", variadic, 5},
    {"Min", "minimum", variadic, 4},
    {"Sum", "add", variadic, 5},
    {"Mean", "add", mean, 3},
    {"Where", "where", where, 11},
    {0},
};
