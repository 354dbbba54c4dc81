/* ops_reduce.c: sums and means over dimensions. The sums themselves are strided.c's: in double, in
 * an order that follows from the sizes. Reducing the batch dimension is allowed, for losses that
 * are put together from operators; what depends on it depends on every sample of the batch. */
#include "strided.h"
#include "unary.h"

#include <stddef.h>

struct reduce {
    struct int_list dim; /* empty: all */
    bool keepdim;
};
static const struct attr_def reduce_attrs[] = {
    {"dim", ATTR_INTS, offsetof(struct reduce, dim), "", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimensions to reduce; none given: all of them"},
    {"keepdim", ATTR_BOOL, offsetof(struct reduce, keepdim), "false", 0, 0, NULL,
     "keep reduced dimensions with size 1"},
    {0},
};

/* Which dimensions of a shape of this rank go; BAD_ATTRIBUTE when out of range or given twice. */
static int reduced_dims(const struct node *n, int rank, bool reduced[SHAPE_MAX_RANK],
                        struct error *e)
{
    const struct int_list *list = &((const struct reduce *)n->attrs)->dim;
    for (int i = 0; i < rank; i++)
        reduced[i] = list->n == 0;
    for (int i = 0; i < list->n; i++) {
        int dim;
        if (node_wrap_dim(n, list->v[i], rank, &dim, e))
            return -1;
        if (reduced[dim])
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: dimension %d is given twice in 'dim'",
                             n->what, dim);
        reduced[dim] = true;
    }
    return 0;
}

static int reduce_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    bool reduced[SHAPE_MAX_RANK], keep = ((const struct reduce *)n->attrs)->keepdim;
    struct shape out = {0};
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e) || reduced_dims(n, in->rank, reduced, e))
        return -1;
    for (int i = 0; i < in->rank; i++)
        if (!reduced[i] || keep)
            out.dim[out.rank++] = reduced[i] ? 1 : in->dim[i];
    return node_set_shape(n, &out, e);
}

static void reduce_memory(struct node *n)
{
    n->work = strided_room(n->in[0]->size);
}

static double reduce_flops(const struct node *n)
{
    return (double)(n->in[0]->size.sample + n->in[0]->size.fixed);
}

/* The input's space with the output as operand A; the number of terms of one output. */
static struct strided reduce_space(const struct node *n, const struct run *r, int64_t *terms_r)
{
    struct shape in = run_shape(r, n->in[0]), out = in;
    bool reduced[SHAPE_MAX_RANK] = {false};
    reduced_dims(n, in.rank, reduced, NULL);
    *terms_r = 1;
    for (int i = 0; i < in.rank; i++)
        if (reduced[i]) {
            *terms_r *= in.dim[i];
            out.dim[i] = 1;
        }
    return strided_space(&in, &out, NULL);
}

static const real *input_terms(const void *arg, const int64_t at[STRIDED_OPERANDS],
                               int64_t n UNUSED, real *room UNUSED)
{
    return (const real *)arg + at[STRIDED_SELF];
}

static void reduce_forward(const struct node *n, struct run *r, bool mean)
{
    int64_t terms;
    struct strided space = reduce_space(n, r, &terms);
    struct strided_sum sum = {.space = space,
                              .into = STRIDED_A,
                              .terms = input_terms,
                              .arg = run_in(r, n, 0),
                              .samples = shape_batched(&n->shape) ? r->args.n : 1,
                              .divisor = mean ? (double)terms : 1,
                              .out = run_value(r, n),
                              .partials = run_work(r, n)};
    strided_sum(r, &sum);
}

/* Gives every term its output's gradient, divided. */
struct spread {
    const real *grad;
    real *out;
    real divisor;
    int64_t step; /* 0: the strip has one output */
};

static void spread_strip(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n)
{
    const struct spread *s = arg;
    const real *grad = s->grad + at[STRIDED_A];
    real *out = s->out + at[STRIDED_SELF];
    real first = grad[0] / s->divisor;
    for (int64_t i = 0; i < n; i++)
        out[i] = s->step ? grad[i] / s->divisor : first;
}

static void reduce_backward(const struct node *n, struct run *r, bool mean)
{
    if (!run_grad_in(r, n, 0))
        return;
    int64_t terms;
    struct strided space = reduce_space(n, r, &terms);
    struct spread s = {run_grad(r, n), run_grad_in(r, n, 0), mean ? (real)terms : 1,
                       space.stride[STRIDED_A][space.rank - 1]};
    strided_for(r, &space, spread_strip, &s);
}

static void sum_forward(const struct node *n, struct run *r)
{
    reduce_forward(n, r, false);
}

static void sum_backward(const struct node *n, struct run *r)
{
    reduce_backward(n, r, false);
}

static void mean_forward(const struct node *n, struct run *r)
{
    reduce_forward(n, r, true);
}

static void mean_backward(const struct node *n, struct run *r)
{
    reduce_backward(n, r, true);
}

#define REDUCE_ROW(name, samples, doc)                                                             \
    {                                                                                              \
#name, "reduce", 1, 1, reduce_attrs, sizeof(struct reduce), NULL, reduce_shape,            \
            reduce_memory, name##_forward, name##_backward, reduce_flops, 0, samples, doc          \
    }

const struct op ops_reduce[] = {
    REDUCE_ROW(sum,
               "Nx3; Nx3x4 dim=1; Nx3x4 dim=-1 keepdim=true; 2x3x4x2 dim=0,2; Nx3x4 dim=0; scalar",
               "y = sum of x over dim; over the batch too when dim 0 or nothing is given"),
    REDUCE_ROW(mean, "Nx3; Nx3x4 dim=1; Nx3x4x2 dim=2,3; 2x3x4 dim=0,2 keepdim=true; Nx3x4 dim=0",
               "y = sum of x over dim / number of terms; over the batch too when dim 0 or nothing "
               "is given"),
    {0},
};
