/* ops_linear.c: linear, and the family's table. Products are gemm.c's: in training the faster ones,
 * in plans without backward those of packed weights, whose rows do not depend on the batch
 * (linear_packed.c). */
#include "ops_linear.h"

#include "graph.h"

#include <stddef.h>

enum { LINEAR_WEIGHT, LINEAR_BIAS };

struct linear {
    int64_t out_features;
    bool bias;
};

static const struct attr_def linear_attrs[] = {
    {"out_features", ATTR_INT, offsetof(struct linear, out_features), "0", 1, GEMM_MAX_SIZE, NULL,
     "size of each output row; may be left out when a weight is brought"},
    {"bias", ATTR_BOOL, offsetof(struct linear, bias), "true", 0, 0, NULL,
     "whether a learnt bias is added"},
    INPUT_FACT("in_features", ATTR_FACT_LAST, "size of each row"),
    {0},
};

static const struct param_def linear_params[] = {
    {"weight", false, "kaiming_uniform"}, /* [out][in] */
    {"bias", false, "fan_in_uniform"},    /* [out] */
    {0},
};

/* The sizes of one call: y[rows][out] = x[rows][in] * weight[out][in]^T. */
struct linear_sizes {
    int64_t rows, in, out;
};

static struct linear_sizes linear_sizes(const struct node *n, const struct run *r)
{
    const struct node *weight = node_param_in(n, LINEAR_WEIGHT);
    int64_t in = weight->shape.dim[1], out = weight->shape.dim[0];
    return (struct linear_sizes){run_count(r, n) / out, in, out};
}

/* out_features as given, or as the weight that was brought says. */
static int linear_out_features(const struct node *n, int64_t *out_r, struct error *e)
{
    const struct linear *a = n->attrs;
    const struct node *weight = node_param_in(n, LINEAR_WEIGHT);
    *out_r = a->out_features;
    if (*out_r)
        return 0;
    if (!weight)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'out_features' is missing (size of each output row)",
                         n->what);
    struct shape_text text;
    *out_r = weight->shape.rank == 2 ? weight->shape.dim[0] : 0;
    if (*out_r >= 1 && *out_r <= GEMM_MAX_SIZE)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: its weight must have the shape [out_features, in_features], not %s",
                     n->what, shape_print(&weight->shape, &text));
}

static int linear_shape(struct node *n, struct error *e)
{
    const struct linear *a = n->attrs;
    struct shape shape = n->in[0]->shape;
    struct shape_text text;
    int64_t out;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) || linear_out_features(n, &out, e))
        return -1;
    int64_t in = shape.dim[shape.rank - 1];
    if (in < 1 || in > GEMM_MAX_SIZE)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: the last dimension of its input must be 1 to %d features, found %s",
                         n->what, GEMM_MAX_SIZE, shape_print(&shape, &text));
    if (!a->bias && node_param_in(n, LINEAR_BIAS))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    if (node_param(n, LINEAR_WEIGHT, &SHAPE(out, in), in, out, e) ||
        (a->bias && node_param(n, LINEAR_BIAS, &SHAPE(out), in, out, e)))
        return -1;
    shape.dim[shape.rank - 1] = out;
    return node_set_shape(n, &shape, e);
}

/* In plans without backward: packed weights, kept or of this run, then the folded bias; in the work
 * the folded weights too. */
static void linear_memory(struct node *n)
{
    const int64_t *weight = node_param_in(n, LINEAR_WEIGHT)->shape.dim;
    if (!n->graph->invariant)
        return;
    n->prepared = linear_packed_size(weight[0], weight[1]) + weight[0];
    n->work.fixed = n->prepared + epilogue_fold_size(n, weight[0], weight[1]);
    n->algorithm = "packed";
}

static void linear_predict(const struct node *n, struct run *r, struct gemm *g)
{
    const struct epilogue e = epilogue_of(n, r);
    real *kept = run_prepared(r, n), *packed = kept ? kept : run_work(r, n);
    const bool ready = kept && !r->prepares;
    const int64_t size = linear_packed_size(g->n, g->k);
    const struct folded f = epilogue_fold(n, r, g->n, g->k, (struct folded){g->b, g->bias}, ready,
                                          packed + size, run_work(r, n) + size + g->n);
    if (!ready)
        linear_pack(r, g->n, g->k, f.weight, packed);
    g->b = packed;
    g->bias = f.bias;
    linear_run_packed(r, g, &e);
}

static void linear_forward(const struct node *n, struct run *r)
{
    const struct linear_sizes s = linear_sizes(n, r);
    const struct node *bias = node_param_in(n, LINEAR_BIAS);
    struct gemm g = {.tb = true,
                     .m = s.rows,
                     .n = s.out,
                     .k = s.in,
                     .a = run_in(r, n, 0),
                     .b = run_in(r, n, n->n_data + LINEAR_WEIGHT),
                     .c = run_value(r, n),
                     .bias = bias ? r->value[bias->id] : NULL};
    if (r->invariant)
        linear_predict(n, r, &g);
    else
        gemm_run(r, &g);
}

static void linear_backward(const struct node *n, struct run *r)
{
    const struct linear_sizes s = linear_sizes(n, r);
    const real *dy = run_grad(r, n);                         /* [rows][out] */
    real *dx = run_grad_in(r, n, 0);                         /* [rows][in] */
    real *dw = run_grad_in(r, n, n->n_data + LINEAR_WEIGHT); /* [out][in] */
    real *db = node_param_in(n, LINEAR_BIAS) ? run_grad_in(r, n, n->n_data + LINEAR_BIAS) : NULL;
    if (dx)
        gemm_run(r, &(struct gemm){.m = s.rows,
                                   .n = s.in,
                                   .k = s.out,
                                   .a = dy,
                                   .c = dx,
                                   .b = run_in(r, n, n->n_data + LINEAR_WEIGHT)});
    if (dw)
        gemm_run(r, &(struct gemm){.ta = true,
                                   .m = s.out,
                                   .n = s.in,
                                   .k = s.rows,
                                   .a = dy,
                                   .b = run_in(r, n, 0),
                                   .c = dw});
    if (db)
        column_sums_run(r, s.rows, s.out, dy, db);
}

static double linear_flops(const struct node *n)
{
    double rows = (double)(n->size.sample + n->size.fixed);
    return rows * 2 * (double)node_param_in(n, LINEAR_WEIGHT)->shape.dim[1];
}

const struct op ops_linear[] = {
    {"linear", "linear", 1, 1, linear_attrs, sizeof(struct linear), linear_params, linear_shape,
     linear_memory, linear_forward, linear_backward, linear_flops, OP_KEEPS_IN | OP_EPILOGUE,
     "Nx7 out_features=5; Nx3x4 out_features=2 bias=false; 5 out_features=3; Nx2x2x19 "
     "out_features=9",
     "y = x W^T + b over the last dimension"},
    {"matmul", "linear", 2, 2, NULL, 0, NULL, matmul_shape, NULL, matmul_forward, matmul_backward,
     matmul_flops, OP_KEEPS_IN,
     "4 4; 3x4 4x5; 4 4x5; 3x4 4; Nx4 4x20; Nx4 4; Nx3x4 4x2; Nx3x4 4; Nx3x4 Nx4x2; 3x4 Nx4x2; "
     "4 Nx4x2; Nx1x3x4 2x4x5; Nx2x3x4 1x1x4x2; 1x3x4 5x4x2; Nx2x1x1x3 Nx1x4x3x2",
     "y = a b, matrices in the last two dimensions, the others broadcast"},
    {0},
};
