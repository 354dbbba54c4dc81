/* ops_smooth.c: smooth activation functions: the family of elu, softplus, softsign, mish and
 * log_sigmoid. Both branches of a function are exact in its tails; NaN passes through all. */
#include "unary.h"

#include <stddef.h>

static inline real logistic(real x)
{
    real z = RM(exp)(-RM(fabs)(x));
    return (x >= 0 ? 1 : z) / (1 + z);
}

/* ln(1 + e^x); from 20 on the rest is below the rounding of a float, as torch has it. */
static inline real softplus_of(real x)
{
    return x > 20 ? x : RM(log1p)(RM(exp)(x));
}

static inline real mish_derivative(real x)
{
    real t = RM(tanh)(softplus_of(x));
    return t + x * (1 - t * t) * logistic(x);
}

/* The fixed point of mean 0 and variance 1 (torch.nn.SELU). */
#define SELU_ALPHA ((real)1.6732632423543772848170429916717)
#define SELU_SCALE ((real)1.0507009873554804934193349852946)

/* U(name, what backward keeps, y of x, gradient of x, samples, doc) */
/* clang-format off */
#define UNARY_LIST(U)                                                                              \
    U(selu, IN, SELU_SCALE * (x > 0 ? x : SELU_ALPHA * RM(expm1)(x)),                              \
      g * SELU_SCALE * (x > 0 ? 1 : SELU_ALPHA * RM(exp)(x)), "Nx7:spread; Nx2x3x3:spread",        \
      "y = 1.0507 (x where x > 0, else 1.6733 (e^x - 1))")                                         \
    U(softsign, IN, x / (1 + RM(fabs)(x)),                                                         \
      g / ((1 + RM(fabs)(x)) * (1 + RM(fabs)(x))), "Nx7:spread", "y = x / (1 + |x|)")              \
    U(mish, IN, x * RM(tanh)(softplus_of(x)), g * mish_derivative(x), "Nx3; Nx2x3x3",              \
      "y = x tanh(ln(1 + e^x))")                                                                   \
    U(log_sigmoid, IN, (x < 0 ? x : x != x ? x : 0) - RM(log1p)(RM(exp)(-RM(fabs)(x))), g * logistic(-x),   \
      "Nx7:spread", "y = -ln(1 + e^-x)")
/* clang-format on */

#define UNARY_DEFINE(name, keep, f, df, samples, doc) UNARY_LOOPS(name, keep, f, df)
UNARY_LIST(UNARY_DEFINE)

/* ---- with a parameter ------------------------------------------------------------------------ */

struct elu {
    double alpha;
};
static const struct attr_def elu_attrs[] = {
    {"alpha", ATTR_REAL, offsetof(struct elu, alpha), "1", -1e6, 1e6, NULL,
     "how far below zero it goes"},
    {0},
};
static const struct attr_def celu_attrs[] = {
    {"alpha", ATTR_REAL, offsetof(struct elu, alpha), "1", 1e-6, 1e6, NULL,
     "how far below zero it goes, and how slowly"},
    {0},
};

static inline real alpha_of(const struct node *n)
{
    return (real)((const struct elu *)n->attrs)->alpha;
}

UNARY_LOOPS(elu, IN, x > 0 ? x : alpha_of(n) * RM(expm1)(x),
            x > 0 ? g : g * (alpha_of(n) * RM(exp)(x)))
UNARY_LOOPS(celu, IN, x > 0 ? x : alpha_of(n) * RM(expm1)(x / alpha_of(n)),
            x > 0 ? g : g * RM(exp)(x / alpha_of(n)))

struct softplus {
    double beta, threshold;
};
static const struct attr_def softplus_attrs[] = {
    {"beta", ATTR_REAL, offsetof(struct softplus, beta), "1", 1e-6, 1e6, NULL, "sharpness"},
    {"threshold", ATTR_REAL, offsetof(struct softplus, threshold), "20", -1e6, 1e6, NULL,
     "where beta x is larger, y is x"},
    {0},
};

static inline real soft_beta(const struct node *n)
{
    return (real)((const struct softplus *)n->attrs)->beta;
}

static inline bool soft_is_line(const struct node *n, real x)
{
    return x * soft_beta(n) > (real)((const struct softplus *)n->attrs)->threshold;
}

UNARY_LOOPS(softplus, IN,
            soft_is_line(n, x) ? x : RM(log1p)(RM(exp)(x *soft_beta(n))) / soft_beta(n),
            soft_is_line(n, x) ? g : g *logistic(x *soft_beta(n)))

/* ---- the table ------------------------------------------------------------------------------- */

#define UNARY_TABLE(name, keep, f, df, samples, doc)                                               \
    UNARY_ROW(name, "activation", keep, samples, doc)
#define SMOOTH_ROW(name, type, samples, doc)                                                       \
    {                                                                                              \
#name, "activation", 1, 1, name##_attrs, sizeof(struct type), NULL, unary_shape, NULL,     \
            name##_forward, name##_backward, unary_flops, OP_LAYOUT_SAME | OP_KEEPS_IN, samples,   \
            doc                                                                                    \
    }

const struct op ops_smooth[] = {
    UNARY_LIST(UNARY_TABLE) SMOOTH_ROW(elu, elu, "Nx7:spread; Nx7:spread alpha=0.3",
                                       "y = x where x > 0, else alpha (e^x - 1)"),
    SMOOTH_ROW(celu, elu, "Nx7:spread; Nx7:spread alpha=0.3",
               "y = x where x > 0, else alpha (e^(x / alpha) - 1)"),
    SMOOTH_ROW(softplus, softplus, "Nx3; Nx7 beta=3 threshold=1.01",
               "y = ln(1 + e^(beta x)) / beta, or x where beta x > threshold"),
    {0},
};
