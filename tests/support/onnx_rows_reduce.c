/* onnx_rows_reduce.c: ONNX's reductions and products of matrices as operators of ours. */
#include "onnx_build.h"

#include <string.h>

/* ---- reductions ------------------------------------------------------------------------------ */

/* What is done before and after the sum, the maximum and so on. */
static const struct reduction {
    const char *name, *before, *op, *after;
} reductions[] = {
    {"ReduceSum", NULL, "sum", NULL},
    {"ReduceMean", NULL, "mean", NULL},
    {"ReduceMax", NULL, "amax", NULL},
    {"ReduceMin", NULL, "amin", NULL},
    {"ReduceProd", NULL, "prod", NULL},
    {"ReduceL1", "abs", "sum", NULL},
    {"ReduceL2", "square", "sum", "sqrt"},
    {"ReduceLogSum", NULL, "sum", "log"},
    /* Its cases are DOUBLE. */
    {"ReduceLogSumExp", NULL, "logsumexp", NULL},
    {"ReduceSumSquare", "square", "sum", NULL},
};

static struct node *unary(struct onnx_call *c, const char *op, struct node *x)
{
    if (!op)
        return x;
    return strcmp(op, "square") ? onnx_add1(c, op, x) : onnx_add2(c, "mul", x, x);
}

static struct node *reduce(struct onnx_call *c)
{
    const struct reduction *r = reductions;
    int n;
    while (strcmp(r->name, c->node->op))
        r++;
    const int64_t *axes = onnx_list_or_input(c, "axes", 1, &n);
    if (onnx_type(c, 0) == ONNX_BOOL)
        return onnx_not_ours(c, "%s of BOOL", c->node->op);
    struct node *x = unary(c, r->before, onnx_real(c, 0));
    if (n == 0 && onnx_int(c, "noop_with_empty_axes", 0))
        return unary(c, r->after, x);
    x = onnx_add1(c, r->op, x, onnx_attr_ints(c, "dim", axes, n),
                  ONNX_BOOLEAN("keepdim", onnx_int(c, "keepdims", 1) != 0));
    return unary(c, r->after, x);
}

static struct node *arg(struct onnx_call *c)
{
    const int64_t axis = onnx_int(c, "axis", 0);
    if (onnx_int(c, "select_last_index", 0))
        return onnx_not_ours(c, "%s of the last of equals", c->node->op);
    return onnx_add1(c, c->row->ours, onnx_real(c, 0), onnx_attr_ints(c, "dim", &axis, 1),
                     ONNX_BOOLEAN("keepdim", onnx_int(c, "keepdims", 1) != 0));
}

/* ---- products -------------------------------------------------------------------------------- */

static struct shape with_dim(const struct node *x, int at, int64_t size)
{
    struct shape s = *node_shape(x);
    memmove(s.dim + at + 1, s.dim + at, (size_t)(s.rank - at) * sizeof *s.dim);
    s.dim[at] = size;
    s.rank++;
    return s;
}

static struct shape without_dim(const struct node *x, int at)
{
    struct shape s = *node_shape(x);
    s.rank--;
    memmove(s.dim + at, s.dim + at + 1, (size_t)(s.rank - at) * sizeof *s.dim);
    return s;
}

/* Vectors are matrices of one row or one column, which the result then loses. */
static struct node *matmul(struct onnx_call *c)
{
    struct node *a = onnx_real(c, 0), *b = onnx_real(c, 1);
    if (!a || !b)
        return NULL;
    const bool row = node_shape(a)->rank == 1, column = node_shape(b)->rank == 1;
    a = row ? onnx_reshape(c, a, with_dim(a, 0, 1)) : a;
    b = column ? onnx_reshape(c, b, with_dim(b, 1, 1)) : b;
    struct node *y = onnx_add2(c, "matmul", a, b);
    y = y && column ? onnx_reshape(c, y, without_dim(y, node_shape(y)->rank - 1)) : y;
    return y && row ? onnx_reshape(c, y, without_dim(y, node_shape(y)->rank - 2 + column)) : y;
}

static struct node *transposed(struct onnx_call *c, struct node *x, const char *attr)
{
    if (!onnx_int(c, attr, 0))
        return x;
    return onnx_add1(c, "transpose", x, ONNX_INT("dim0", 0), ONNX_INT("dim1", 1));
}

static struct node *gemm(struct onnx_call *c)
{
    struct node *a = transposed(c, onnx_real(c, 0), "transA");
    struct node *b = transposed(c, onnx_real(c, 1), "transB");
    struct node *y = onnx_scale(c, onnx_add2(c, "matmul", a, b), onnx_float(c, "alpha", 1));
    if (!onnx_has(c, 2))
        return y;
    return onnx_add2(c, "add", y, onnx_scale(c, onnx_real(c, 2), onnx_float(c, "beta", 1)));
}

const struct onnx_row onnx_rows_reduce[] = {
    {"ReduceSum", "sum", reduce, 71},
    {"ReduceMean", "mean", reduce, 11},
    {"ReduceMax", "amax", reduce, 36},
    {"ReduceMin", "amin", reduce, 8},
    {"ReduceProd", "prod", reduce, 8},
    {"ReduceL1", "abs, sum", reduce, 8},
    {"ReduceL2", "mul, sum, sqrt", reduce, 8},
    {"ReduceLogSum", "sum, log", reduce, 4},
    {"ReduceLogSumExp", "logsumexp", reduce, sizeof(real) == sizeof(double) ? 8 : 0},
    {"ReduceSumSquare", "mul, sum", reduce, 8},
    {"ArgMax", "argmax", arg, 8},
    {"ArgMin", "argmin", arg, 8},
    {"MatMul", "matmul", matmul, 7},
    {"Gemm", "matmul, add", gemm, 11},
    {0},
};
