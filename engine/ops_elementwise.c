/* ops_elementwise.c: arithmetic. Functions of one input, and operators of two that broadcast.
 *
 * Both kinds are lists of rows: a row names the operator and gives its formulas, and the loops and
 * the row of the table follow from it. An operator of two inputs also takes one input and a number,
 * as torch.add(x, 1) does; the number is then an operand that every element shares. */
#include "strided.h"
#include "unary.h"

#include <stddef.h>

/* ---- one input ------------------------------------------------------------------------------- */

/* U(name, what backward keeps, y of x, gradient of x, samples, doc) */
/* clang-format off */
#define UNARY_LIST(U)                                                                              \
    U(log,  IN,   RM(log)(x),  g / x,            "Nx3:positive", "y = ln(x)")                      \
    U(sqrt, OUT,  RM(sqrt)(x), g / (2 * y),      "Nx3:positive", "y = sqrt(x)")                    \
    U(rsqrt, OUT, 1 / RM(sqrt)(x), -g * (y * y * y) / 2, "Nx3:positive", "y = 1 / sqrt(x)")        \
    U(abs,  IN,   RM(fabs)(x), x > 0 ? g : x < 0 ? -g : 0, "Nx7:spread", "y = |x|, gradient 0 at 0") \
    U(neg,  NONE, -x,          -g,               "Nx3; scalar",  "y = -x")                         \
    U(sin,  IN,   RM(sin)(x),  g * RM(cos)(x),   "Nx3",          "y = sin(x)")                     \
    U(cos,  IN,   RM(cos)(x),  -g * RM(sin)(x),  "Nx3",          "y = cos(x)")
/* clang-format on */

#define UNARY_DEFINE(name, keep, f, df, samples, doc) UNARY_LOOPS(name, keep, f, df)
UNARY_LIST(UNARY_DEFINE)
UNARY_KERNEL_VALUE(exp, OUT, exp, g *y)

int unary_shape(struct node *n, struct error *e)
{
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e))
        return -1;
    return node_set_shape(n, &n->in[0]->shape, e);
}

double unary_flops(const struct node *n)
{
    return (double)(n->size.sample + n->size.fixed);
}

/* ---- two inputs ------------------------------------------------------------------------------ */

/* Exact where the result is: a * a is rounded once. */
static inline real power(real a, real b)
{
    return b == 2 ? a * a : b == 1 ? a : RM(pow)(a, b);
}

/* B(name, flags, attribute for the second operand, y of a and b, gradients of a and of b from g, a
 * and b, samples, doc). The special cases of pow are PyTorch's. */
/* clang-format off */
#define BINARY_LIST(B)                                                                             \
    B(add, 0, "other", a + b, g, g,                                                                \
      "Nx3 Nx3; Nx3x4 Nx1x4; Nx3 3; 2x3 scalar; 2x1x3 4x1; Nx3 other=2", "y = a + b, broadcast")   \
    B(sub, 0, "other", a - b, g, -g,                                                               \
      "Nx3 Nx3; 3 Nx3; scalar 2x3; Nx2x3 2x1; Nx3 other=2", "y = a - b, broadcast")                \
    B(mul, OP_KEEPS_IN, "other", a * b, g * b, g * a,                                              \
      "Nx3 Nx3; Nx3x4 Nx1x4; Nx3x2x2 3x1x1; 2x3 scalar; 1x3 2x1; Nx3 other=-3",                    \
      "y = a * b, broadcast")                                                                      \
    B(div, OP_KEEPS_IN, "other", a / b, g / b, -g * ((a / b) / b),                                 \
      "Nx3 Nx3:positive; Nx3 3:positive; scalar 2x3:positive; Nx3 other=4",                        \
      "y = a / b, broadcast")                                                                      \
    B(pow, OP_KEEPS_IN, "exponent", power(a, b),                                                   \
      b == 0 ? 0 : g * (b * power(a, b - 1)),                                                      \
      a == 0 && b >= 0 ? 0 : g * (power(a, b) * RM(log)(a)),                                       \
      "Nx3:positive Nx3; Nx3:positive 3; scalar:positive 2x3; Nx3 exponent=2; Nx3 exponent=3; "    \
      "Nx3:positive exponent=-0.5", "y = a^b, broadcast; the gradient of a is 0 where b is 0, "    \
      "that of b where a is 0 and b is not negative")                                              \
    B(maximum, OP_KEEPS_IN, "other", a > b || a != a ? a : b, a > b ? g : a == b ? g / 2 : 0,      \
      b > a ? g : a == b ? g / 2 : 0,                                                              \
      "Nx3:spread Nx3:positive; Nx3x4 1x4:positive; Nx4:spread other=0.05",                        \
      "y = the larger of a and b, broadcast; where they are equal each has half of the gradient")  \
    B(minimum, OP_KEEPS_IN, "other", a < b || a != a ? a : b, a < b ? g : a == b ? g / 2 : 0,      \
      b < a ? g : a == b ? g / 2 : 0,                                                              \
      "Nx3:spread Nx3:positive; Nx3x4 1x4:positive; Nx4:spread other=0.05",                        \
      "y = the smaller of a and b, broadcast; where they are equal each has half of the gradient")

/* C(name, y of a and b, doc): comparisons, 1 where they hold, 0 elsewhere. */
#define COMPARE_LIST(C)                                                                            \
    C(eq, a == b, "y = 1 where a = b, else 0, broadcast")                                          \
    C(ne, a != b, "y = 1 where a and b differ, else 0, broadcast")                                 \
    C(lt, a < b, "y = 1 where a < b, else 0, broadcast")                                           \
    C(le, a <= b, "y = 1 where a <= b, else 0, broadcast")                                         \
    C(gt, a > b, "y = 1 where a > b, else 0, broadcast")                                           \
    C(ge, a >= b, "y = 1 where a >= b, else 0, broadcast")
/* clang-format on */

/* A strip of n elements. A step of 0 is an operand that the whole strip shares. */
struct strip {
    int64_t n;
    const real *g, *a, *b;
    int64_t step_a, step_b; /* 0 or 1, not both 0 */
    real *out;
};

/* The loop for each pair of steps, so that they are constants in it. */
#define BINARY_EACH(read_g, step_a, step_b, expression)                                            \
    for (int64_t i = 0; i < s->n; i++) {                                                           \
        const real a UNUSED = s->a[i * step_a], b UNUSED = s->b[i * step_b];                       \
        read_g s->out[i] = expression;                                                             \
    }
#define BINARY_STRIP(function, read_g, expression)                                                 \
    static void function(const struct strip *s)                                                    \
    {                                                                                              \
        if (s->step_a && s->step_b)                                                                \
            BINARY_EACH(read_g, 1, 1, expression)                                                  \
        else if (s->step_a)                                                                        \
            BINARY_EACH(read_g, 1, 0, expression)                                                  \
        else                                                                                       \
            BINARY_EACH(read_g, 0, 1, expression)                                                  \
    }
#define BINARY_READ_G const real g = s->g[i];

#define BINARY_DEFINE(name, flags, attribute, f, da, db, samples, doc)                             \
    BINARY_STRIP(name##_strip, , f)                                                                \
    BINARY_STRIP(name##_strip_da, BINARY_READ_G, da)                                               \
    BINARY_STRIP(name##_strip_db, BINARY_READ_G, db)
BINARY_LIST(BINARY_DEFINE)

#define COMPARE_DEFINE(name, f, doc) BINARY_STRIP(name##_strip, , f)
COMPARE_LIST(COMPARE_DEFINE)

struct binary_attrs {
    double other; /* NaN: not given */
};
#define OTHER_MAX 1e38 /* a float holds it */

static bool other_given(const struct node *n)
{
    return !isnan(((const struct binary_attrs *)n->attrs)->other);
}

static int binary_shape(struct node *n, struct error *e)
{
    const char *other = n->op->attrs[0].name;
    struct shape_text a, b;
    struct shape shape = n->in[0]->shape;
    if (n->n_data == 1 && !other_given(n))
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: expects a second input or the attribute '%s', found neither", n->what,
                         other);
    if (n->n_data == 2 && other_given(n))
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute '%s' stands for the second input, but there are two inputs",
                         n->what, other);
    for (int i = 0; i < n->n_data; i++)
        if (node_check_rank(n, i, 0, SHAPE_MAX_RANK, e))
            return -1;
    if (n->n_data == 2 && !shape_broadcast(&n->in[0]->shape, &n->in[1]->shape, &shape))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: cannot broadcast %s with %s: sizes, matched from the right, must be "
                         "equal or 1, and the batch N matches N, 1 or nothing",
                         n->what, shape_print(&n->in[0]->shape, &a),
                         shape_print(&n->in[1]->shape, &b));
    return node_set_shape(n, &shape, e);
}

/* Backward sums the gradient of an operand that is broadcast. */
static void binary_memory(struct node *n)
{
    for (int i = 0; i < n->n_data; i++)
        if (!shape_equal(&n->in[i]->shape, &n->shape))
            n->work = strided_room(n->size);
}

/* One pass over the result's space: the strip function and what it reads. */
struct binary_pass {
    void (*f)(const struct strip *);
    const real *g, *a, *b;
    real *out;
    struct strided space;
    real other; /* b of an operator with one input */
};

static struct strip strip_at(const struct binary_pass *p, const int64_t at[STRIDED_OPERANDS],
                             int64_t n)
{
    int inner = p->space.rank - 1;
    return (struct strip){.n = n,
                          .g = p->g + at[STRIDED_SELF],
                          .a = p->a + at[STRIDED_A],
                          .b = p->b + at[STRIDED_B],
                          .step_a = p->space.stride[STRIDED_A][inner],
                          .step_b = p->space.stride[STRIDED_B][inner]};
}

static void pass_strip(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n)
{
    const struct binary_pass *p = arg;
    struct strip s = strip_at(p, at, n);
    s.out = p->out + at[STRIDED_SELF];
    p->f(&s);
}

static const real *pass_terms(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n,
                              real *room)
{
    const struct binary_pass *p = arg;
    struct strip s = strip_at(p, at, n);
    s.out = room;
    p->f(&s);
    return room;
}

static void pass_begin(struct binary_pass *p, const struct node *n, struct run *r)
{
    struct shape self = run_shape(r, n), a = run_shape(r, n->in[0]), b = {0};
    *p = (struct binary_pass){.a = run_in(r, n, 0), .other = 0};
    if (n->n_data == 2) {
        b = run_shape(r, n->in[1]);
        p->b = run_in(r, n, 1);
    } else {
        p->other = (real)((const struct binary_attrs *)n->attrs)->other;
        p->b = &p->other;
    }
    p->space = strided_space(&self, &a, &b);
}

static void binary_forward(const struct node *n, struct run *r, void (*f)(const struct strip *))
{
    struct binary_pass p;
    pass_begin(&p, n, r);
    p.f = f;
    p.out = run_value(r, n);
    p.g = p.out; /* not read */
    strided_for(r, &p.space, pass_strip, &p);
}

/* The gradient of input i: elementwise, or summed where the input was broadcast. */
static void binary_backward(const struct node *n, struct run *r, int i,
                            void (*f)(const struct strip *))
{
    if (i >= n->n_data || !run_grad_in(r, n, i))
        return;
    struct binary_pass p;
    pass_begin(&p, n, r);
    p.f = f;
    p.g = run_grad(r, n);
    p.out = run_grad_in(r, n, i);
    if (run_count(r, n->in[i]) == run_count(r, n)) {
        strided_for(r, &p.space, pass_strip, &p);
        return;
    }
    struct strided_sum sum = {.space = p.space,
                              .into = i ? STRIDED_B : STRIDED_A,
                              .terms = pass_terms,
                              .arg = &p,
                              .divisor = 1,
                              .out = p.out,
                              .partials = run_work(r, n),
                              .samples = shape_batched(&n->in[i]->shape) ? r->args.n : 1};
    strided_sum(r, &sum);
}

#define BINARY_NODE(name, flags, attribute, f, da, db, samples, doc)                               \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        binary_forward(n, r, name##_strip);                                                        \
    }                                                                                              \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        binary_backward(n, r, 0, name##_strip_da);                                                 \
        binary_backward(n, r, 1, name##_strip_db);                                                 \
    }                                                                                              \
    static const struct attr_def name##_attrs[] = {                                                \
        {attribute, ATTR_REAL, offsetof(struct binary_attrs, other), "nan", -OTHER_MAX, OTHER_MAX, \
         NULL, "a number in place of the second input"},                                           \
        {0},                                                                                       \
    };
BINARY_LIST(BINARY_NODE)

static const struct attr_def compare_attrs[] = {
    {"other", ATTR_REAL, offsetof(struct binary_attrs, other), "nan", -OTHER_MAX, OTHER_MAX, NULL,
     "a number in place of the second input"},
    {0},
};
#define COMPARE_NODE(name, f, doc)                                                                 \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        binary_forward(n, r, name##_strip);                                                        \
    }
COMPARE_LIST(COMPARE_NODE)

/* ---- the table ------------------------------------------------------------------------------- */

#define UNARY_TABLE(name, keep, f, df, samples, doc)                                               \
    UNARY_ROW(name, "elementwise", keep, samples, doc)
#define BINARY_TABLE(name, flags, attribute, f, da, db, samples, doc)                              \
    {#name,                                                                                        \
     "elementwise",                                                                                \
     1,                                                                                            \
     2,                                                                                            \
     name##_attrs,                                                                                 \
     sizeof(struct binary_attrs),                                                                  \
     NULL,                                                                                         \
     binary_shape,                                                                                 \
     binary_memory,                                                                                \
     name##_forward,                                                                               \
     name##_backward,                                                                              \
     unary_flops,                                                                                  \
     OP_LAYOUT_SAME | flags,                                                                       \
     samples,                                                                                      \
     doc},

#define COMPARE_TABLE(name, f, doc)                                                                \
    {#name,                                                                                        \
     "elementwise",                                                                                \
     1,                                                                                            \
     2,                                                                                            \
     compare_attrs,                                                                                \
     sizeof(struct binary_attrs),                                                                  \
     NULL,                                                                                         \
     binary_shape,                                                                                 \
     NULL,                                                                                         \
     name##_forward,                                                                               \
     NULL,                                                                                         \
     unary_flops,                                                                                  \
     OP_LAYOUT_SAME | OP_NO_GRAD,                                                                  \
     "Nx3:spread Nx3:positive; Nx3x4:spread 1x4:positive; Nx4:spread other=0.05",                  \
     doc},

const struct op ops_elementwise[] = {
    UNARY_ROW(exp, "elementwise", OUT, "Nx3; 2x3x2; Nx19", "y = e^x") UNARY_LIST(UNARY_TABLE)
        BINARY_LIST(BINARY_TABLE) COMPARE_LIST(COMPARE_TABLE){0}};
