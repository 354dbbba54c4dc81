/* ops_hard.c: piecewise linear activation functions, and clamp. At a kink the gradient is that of
 * torch: 0 at both ends of hardtanh, relu6 and hardsigmoid, 1 at both ends of clamp. */
#include "unary.h"

#include <stddef.h>

/* x held within [low, high]; NaN stays. */
static inline real held(real x, real low, real high)
{
    return x < low ? low : x > high ? high : x;
}

static inline real hardswish_derivative(real x)
{
    return x < -3 ? 0 : x <= 3 ? x / 3 + (real)0.5 : 1;
}

/* U(name, what backward keeps, y of x, gradient of x, samples, doc) */
/* clang-format off */
#define UNARY_LIST(U)                                                                              \
    U(relu6, IN, held(x, 0, 6), x <= 0 || x >= 6 ? 0 : g, "Nx7:spread; Nx2x3x3:spread",            \
      "y = min(max(x, 0), 6)")                                                                     \
    U(hardsigmoid, IN, held(x + 3, 0, 6) / 6, x <= -3 || x >= 3 ? 0 : g / 6, "Nx7:spread",         \
      "y = min(max(x + 3, 0), 6) / 6")                                                             \
    U(hardswish, IN, x * held(x + 3, 0, 6) / 6, g * hardswish_derivative(x), "Nx7:spread",         \
      "y = x min(max(x + 3, 0), 6) / 6")
/* clang-format on */

#define UNARY_DEFINE(name, keep, f, df, samples, doc) UNARY_LOOPS(name, keep, f, df)
UNARY_LIST(UNARY_DEFINE)

/* ---- hardtanh and clamp ---------------------------------------------------------------------- */

#define BOUND_MAX 1e38 /* a float holds it */

struct bounds {
    double low, high; /* NaN: none */
};
static const struct attr_def hardtanh_attrs[] = {
    {"min_val", ATTR_REAL, offsetof(struct bounds, low), "-1", -BOUND_MAX, BOUND_MAX, NULL,
     "the smallest result"},
    {"max_val", ATTR_REAL, offsetof(struct bounds, high), "1", -BOUND_MAX, BOUND_MAX, NULL,
     "the largest result"},
    {0},
};
static const struct attr_def clamp_attrs[] = {
    {"min", ATTR_REAL, offsetof(struct bounds, low), "nan", -BOUND_MAX, BOUND_MAX, NULL,
     "the smallest result; none given: no lower bound"},
    {"max", ATTR_REAL, offsetof(struct bounds, high), "nan", -BOUND_MAX, BOUND_MAX, NULL,
     "the largest result; none given: no upper bound"},
    {0},
};

static inline real low_of(const struct node *n)
{
    return (real)((const struct bounds *)n->attrs)->low;
}

static inline real high_of(const struct node *n)
{
    return (real)((const struct bounds *)n->attrs)->high;
}

static int hardtanh_shape(struct node *n, struct error *e)
{
    const struct bounds *b = n->attrs;
    if (b->low >= b->high)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'max_val' must be above min_val (%.10g), not %.10g",
                         n->what, b->low, b->high);
    return unary_shape(n, e);
}

static int clamp_shape(struct node *n, struct error *e)
{
    const struct bounds *b = n->attrs;
    if (isnan(b->low) && isnan(b->high))
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: expects the attribute 'min', 'max' or both, found neither", n->what);
    return unary_shape(n, e);
}

/* A bound that is NaN compares false: it is none. Where max is below min, max wins, as in torch. */
UNARY_LOOPS(hardtanh, IN, held(x, low_of(n), high_of(n)), x <= low_of(n) || x >= high_of(n) ? 0 : g)
UNARY_LOOPS(clamp, IN,
            x > high_of(n) || low_of(n) > high_of(n) ? high_of(n)
            : x < low_of(n)                          ? low_of(n)
                                                     : x,
            x<low_of(n) || x> high_of(n) ? 0 : g)

/* ---- the table ------------------------------------------------------------------------------- */

#define UNARY_TABLE(name, keep, f, df, samples, doc)                                               \
    UNARY_ROW(name, "activation", keep, samples, doc)
#define BOUNDS_ROW(name, family, samples, doc)                                                     \
    {                                                                                              \
#name, family, 1, 1, name##_attrs, sizeof(struct bounds), NULL, name##_shape, NULL,        \
            name##_forward, name##_backward, unary_flops, OP_LAYOUT_SAME | OP_KEEPS_IN, samples,   \
            doc                                                                                    \
    }

const struct op ops_hard[] = {
    UNARY_LIST(UNARY_TABLE)
        BOUNDS_ROW(hardtanh, "activation", "Nx7:spread min_val=-0.1 max_val=0.06; Nx7:spread",
                   "y = min(max(x, min_val), max_val)"),
    BOUNDS_ROW(clamp, "elementwise",
               "Nx7:spread min=-0.1 max=0.06; Nx7:spread min=0; Nx7:spread max=0.1",
               "y = min(max(x, min), max)"),
    {0},
};
