/* onnx_rows_norm.c: ONNX's normalisations as operators of ours. */
#include "onnx_build.h"

#include <string.h>

/* ---- layers ---------------------------------------------------------------------------------- */

/* The dimensions from `axis` on, as a list. */
static int last_dims(const struct shape *s, int axis, int64_t *dims)
{
    for (int i = axis; i < s->rank; i++)
        dims[i - axis] = i;
    return s->rank - axis;
}

/* Its other outputs are the mean and 1 / sqrt(var + eps). */
static void layer_statistics(struct onnx_call *c, struct node *x, int axis, double eps)
{
    int64_t dims[SHAPE_MAX_RANK];
    const int n = last_dims(node_shape(x), axis, dims);
    const struct attr dim = onnx_attr_ints(c, "dim", dims, n), keep = ONNX_BOOLEAN("keepdim", true);
    if (onnx_wants(c, 1))
        onnx_give(c, 1, onnx_add1(c, "mean", x, dim, keep));
    if (!onnx_wants(c, 2))
        return;
    struct node *var = onnx_add1(c, "var", x, dim, keep, ONNX_REAL("correction", 0));
    onnx_give(c, 2, onnx_add1(c, "rsqrt", onnx_add1(c, "add", var, ONNX_REAL("other", eps))));
}

static struct node *layer_norm(struct onnx_call *c)
{
    const double eps = onnx_float(c, "epsilon", 1e-5);
    struct node *x = onnx_real(c, 0);
    const int axis = x ? onnx_axis(c, onnx_int(c, "axis", -1), node_shape(x)->rank) : -1;
    if (axis < 0)
        return NULL;
    const bool bias = onnx_has(c, 2), rms = !strcmp(c->row->ours, "rms_norm");
    const struct shape *s = node_shape(x);
    const struct attr attrs[] = {
        onnx_attr_ints(c, "normalized_shape", s->dim + axis, s->rank - axis), ONNX_REAL("eps", eps),
        ONNX_BOOLEAN("bias", bias)};
    struct node *inputs[] = {x, onnx_real(c, 1), bias ? onnx_real(c, 2) : NULL};
    struct node *y = onnx_add_n(c, c->row->ours, inputs, bias ? 3 : 2, attrs, rms ? 2 : 3);
    layer_statistics(c, x, axis, eps);
    return y;
}

static struct node *group_norm(struct onnx_call *c)
{
    if (c->b->opset < 21)
        return onnx_not_ours(c, "GroupNormalization whose scale is that of a group (opset < 21)");
    return onnx_add3(c, "group_norm", onnx_real(c, 0), onnx_real(c, 1), onnx_real(c, 2),
                     ONNX_INT("num_groups", onnx_int(c, "num_groups", 1)),
                     ONNX_REAL("eps", onnx_float(c, "epsilon", 1e-5)));
}

static struct node *instance_norm(struct onnx_call *c)
{
    return onnx_add3(c, "instance_norm", onnx_real(c, 0), onnx_real(c, 1), onnx_real(c, 2),
                     ONNX_REAL("eps", onnx_float(c, "epsilon", 1e-5)),
                     ONNX_BOOLEAN("affine", true));
}

/* x / |x|_p; zeros stay zeros. */
static struct node *lp_norm(struct onnx_call *c)
{
    const int64_t axis = onnx_int(c, "axis", -1);
    struct node *x = onnx_real(c, 0);
    struct node *norm =
        onnx_add1(c, "norm", x, onnx_attr_ints(c, "dim", &axis, 1), ONNX_BOOLEAN("keepdim", true),
                  ONNX_REAL("p", (double)onnx_int(c, "p", 2)));
    return onnx_add2(c, "div", x, onnx_add1(c, "maximum", norm, ONNX_REAL("other", 1e-30)));
}

/* (x - mean) / (std + 1e-9), as ONNX's own reference has it. */
static struct node *mean_variance(struct onnx_call *c)
{
    static const int64_t usual[] = {0, 2, 3};
    int n;
    const int64_t *axes = onnx_list(c, "axes", &n);
    struct node *x = onnx_real(c, 0);
    const struct attr dim = onnx_attr_ints(c, "dim", axes ? axes : usual, axes ? n : 3);
    const struct attr keep = ONNX_BOOLEAN("keepdim", true);
    struct node *std = onnx_add1(c, "std", x, dim, keep, ONNX_REAL("correction", 0));
    return onnx_add2(c, "div", onnx_add2(c, "sub", x, onnx_add1(c, "mean", x, dim, keep)),
                     onnx_add1(c, "add", std, ONNX_REAL("other", 1e-9)));
}

/* ---- batches --------------------------------------------------------------------------------- */

static const char *batch_row(const struct node *x)
{
    return node_shape(x)->rank == 4 ? "batch_norm2d" : "batch_norm1d";
}

/* momentum * old + (1 - momentum) * new; ONNX's variance is that of the population. */
static void batch_statistic(struct onnx_call *c, struct node *x, int output, const char *op)
{
    int64_t dims[SHAPE_MAX_RANK] = {0};
    const double momentum = onnx_float(c, "momentum", 0.9);
    const int n = 1 + last_dims(node_shape(x), 2, dims + 1);
    const struct attr attrs[] = {onnx_attr_ints(c, "dim", dims, n), ONNX_REAL("correction", 0)};
    struct node *now = onnx_add_n(c, op, &x, 1, attrs, strcmp(op, "var") ? 1 : 2);
    onnx_give(c, output,
              onnx_add2(c, "add", onnx_scale(c, onnx_real(c, 2 + output), momentum),
                        onnx_scale(c, now, 1 - momentum)));
}

static struct node *batch_norm(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    struct node *inputs[] = {x, onnx_real(c, 1), onnx_real(c, 2), onnx_real(c, 3), onnx_real(c, 4)};
    const bool training = onnx_int(c, "training_mode", 0) != 0;
    if (x && (node_shape(x)->rank < 2 || node_shape(x)->rank > 4))
        return onnx_not_ours(c, "BatchNormalization of rank %d", node_shape(x)->rank);
    const struct attr attrs[] = {ONNX_REAL("eps", onnx_float(c, "epsilon", 1e-5)),
                                 ONNX_BOOLEAN("track_running_stats", !training)};
    struct node *y = x ? onnx_add_n(c, batch_row(x), inputs, training ? 3 : 5, attrs, 2) : NULL;
    if (y && training) {
        c->b->training = true;
        batch_statistic(c, x, 1, "mean");
        batch_statistic(c, x, 2, "var");
    }
    return y;
}

const struct onnx_row onnx_rows_norm[] = {
    {"BatchNormalization", "batch_norm1d, batch_norm2d; mean, var", batch_norm, 4},
    {"LayerNormalization", "layer_norm", layer_norm, 19},
    {"RMSNormalization", "rms_norm", layer_norm, 19},
    {"GroupNormalization", "group_norm", group_norm, 2},
    {"InstanceNormalization", "instance_norm", instance_norm, 2},
    {"LpNormalization", "norm, div", lp_norm, 6},
    {"MeanVarianceNormalization", "mean, std, sub, div", mean_variance, 1},
    {0},
};
