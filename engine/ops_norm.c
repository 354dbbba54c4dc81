/* ops_norm.c: batch_norm1d, batch_norm2d, layer_norm, rms_norm, group_norm and instance_norm:
 * attributes, shapes and rows. The arithmetic is in norm_batch.c, norm_layer.c and norm_group.c. */
#include "norm.h"

#include "window.h"

#include <math.h>
#include <stddef.h>

#define BATCH_NORM(field) offsetof(struct batch_norm_attrs, field)
#define LAYER_NORM(field) offsetof(struct layer_norm_attrs, field)

static const struct attr_def batch_norm_attr_defs[] = {
    {"eps", ATTR_REAL, BATCH_NORM(eps), "1e-5", 0, 1, NULL, "added to the variance"},
    {"momentum", ATTR_REAL, BATCH_NORM(momentum), "0.1", -1, 1, "-1",
     "share of a new batch in the running statistics; null or -1: the mean of all batches"},
    {"affine", ATTR_BOOL, BATCH_NORM(affine), "true", 0, 0, NULL,
     "scale and shift each channel by a learnt number"},
    {"track_running_stats", ATTR_BOOL, BATCH_NORM(track_running_stats), "true", 0, 0, NULL,
     "keep running statistics and use them outside training"},
    INPUT_FACT("num_features", 1, "channels"),
    {0},
};

static const struct attr_def layer_norm_attr_defs[] = {
    {"normalized_shape", ATTR_INTS, LAYER_NORM(normalized_shape), NULL, 1, 1 << 30, NULL,
     "sizes of the last dimensions, which are normalised together"},
    {"eps", ATTR_REAL, LAYER_NORM(eps), "1e-5", 0, 1, NULL, "added to the variance"},
    {"elementwise_affine", ATTR_BOOL, LAYER_NORM(elementwise_affine), "true", 0, 0, NULL,
     "scale each element by a learnt number"},
    {"bias", ATTR_BOOL, LAYER_NORM(bias), "true", 0, 0, NULL,
     "with elementwise_affine: shift each element by a learnt number"},
    {0},
};

static const struct attr_def rms_norm_attr_defs[] = {
    {"normalized_shape", ATTR_INTS, LAYER_NORM(normalized_shape), NULL, 1, 1 << 30, NULL,
     "sizes of the last dimensions, which are normalised together"},
    {"eps", ATTR_REAL, LAYER_NORM(eps), "1.1920928955078125e-7", 0, 1, NULL,
     "added to the mean square; float32's epsilon when left out, as in torch"},
    {"elementwise_affine", ATTR_BOOL, LAYER_NORM(elementwise_affine), "true", 0, 0, NULL,
     "scale each element by a learnt number"},
    {0},
};

#define GROUP_NORM(field) offsetof(struct group_norm_attrs, field)
static const struct attr_def group_norm_attr_defs[] = {
    {"num_groups", ATTR_INT, GROUP_NORM(num_groups), NULL, 1, 1 << 30, NULL,
     "parts of the channels that are normalised apart"},
    {"eps", ATTR_REAL, GROUP_NORM(eps), "1e-5", 0, 1, NULL, "added to the variance"},
    {"affine", ATTR_BOOL, GROUP_NORM(affine), "true", 0, 0, NULL,
     "scale and shift each channel by a learnt number"},
    INPUT_FACT("num_channels", 1, "channels"),
    {0},
};

static const struct attr_def instance_norm_attr_defs[] = {
    {"eps", ATTR_REAL, GROUP_NORM(eps), "1e-5", 0, 1, NULL, "added to the variance"},
    {"momentum", ATTR_REAL, GROUP_NORM(momentum), "0.1", 0, 1, "0",
     "share of a batch in the running statistics; null: 0, as in torch"},
    {"affine", ATTR_BOOL, GROUP_NORM(affine), "false", 0, 0, NULL,
     "scale and shift each channel by a learnt number"},
    {"track_running_stats", ATTR_BOOL, GROUP_NORM(track_running_stats), "false", 0, 0, NULL,
     "keep running statistics, which evaluation uses"},
    INPUT_FACT("num_features", 1, "channels"),
    {0},
};

static const struct param_def batch_norm_params[] = {
    {"weight", false, "ones"},
    {"bias", false, "zeros"},
    {"running_mean", true, "zeros"},
    {"running_var", true, "ones"},
    {"num_batches_tracked", true, "zeros"},
    {0},
};

static const struct param_def layer_norm_params[] = {
    {"weight", false, "ones"},
    {"bias", false, "zeros"},
    {0},
};

/* Declares parameter k of shape s if the attribute asks for it. */
static int declare(struct node *n, int k, bool wanted, const char *attr, const struct shape *s,
                   struct error *e)
{
    if (!wanted && node_param_in(n, k))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a %s was brought, but '%s' is false", n->what,
                         op_param_def(n->op, k)->name, attr);
    return wanted ? node_param(n, k, s, 0, 0, e) : 0;
}

static int batch_norm_shape(struct node *n, struct error *e)
{
    const struct batch_norm_attrs *a = n->attrs;
    const struct shape *in = &n->in[0]->shape, c = SHAPE(in->dim[1]), scalar = {0};
    const bool tracks = a->track_running_stats;
    if (declare(n, NORM_WEIGHT, a->affine, "affine", &c, e) ||
        declare(n, NORM_BIAS, a->affine, "affine", &c, e) ||
        declare(n, NORM_MEAN, tracks, "track_running_stats", &c, e) ||
        declare(n, NORM_VAR, tracks, "track_running_stats", &c, e) ||
        declare(n, NORM_BATCHES, tracks, "track_running_stats", &scalar, e))
        return -1;
    return node_set_shape(n, in, e);
}

static int batch_norm1d_shape(struct node *n, struct error *e)
{
    struct shape_text text;
    if (node_check_rank(n, 0, 2, 3, e))
        return -1;
    const struct shape *in = &n->in[0]->shape;
    for (int i = 1; i < in->rank; i++)
        if (in->dim[i] < 1)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: expects [N, C] or [N, C, L] with sizes of at least 1, found %s",
                             n->what, shape_print(in, &text));
    return batch_norm_shape(n, e);
}

static int batch_norm2d_shape(struct node *n, struct error *e)
{
    return window_check_image(n, e) ? -1 : batch_norm_shape(n, e);
}

static int layer_norm_shape(struct node *n, struct error *e)
{
    const struct layer_norm_attrs *a = n->attrs;
    const struct int_list *last = &a->normalized_shape;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e))
        return -1;
    const struct shape *in = &n->in[0]->shape;
    struct shape want = {.rank = last->n};
    for (int i = 0; i < last->n; i++)
        want.dim[i] = last->v[i];
    struct shape tail = {.rank = last->n};
    for (int i = 0; i < last->n && last->n <= in->rank; i++)
        tail.dim[i] = in->dim[in->rank - last->n + i];
    struct shape_text expected, found;
    if (last->n == 0 || !shape_equal(&want, &tail))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: normalized_shape %s must be the last dimensions of its input, which "
                         "is %s",
                         n->what, shape_print(&want, &expected), shape_print(in, &found));
    bool bias = a->elementwise_affine && a->bias;
    const char *off = a->elementwise_affine ? "bias" : "elementwise_affine";
    if (declare(n, NORM_WEIGHT, a->elementwise_affine, "elementwise_affine", &want, e) ||
        declare(n, NORM_BIAS, bias, off, &want, e))
        return -1;
    return node_set_shape(n, in, e);
}

static int group_norm_shape(struct node *n, struct error *e)
{
    const struct group_norm_attrs *a = n->attrs;
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 2, SHAPE_MAX_RANK, e))
        return -1;
    const int64_t channels = in->dim[1];
    if (a->num_groups && channels % a->num_groups)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: num_groups %lld must divide the channels of %s (%lld) without "
                         "remainder",
                         n->what, (long long)a->num_groups, shape_print(in, &text),
                         (long long)channels);
    if (declare(n, NORM_WEIGHT, a->affine, "affine", &SHAPE(channels), e) ||
        declare(n, NORM_BIAS, a->affine, "affine", &SHAPE(channels), e))
        return -1;
    return node_set_shape(n, in, e);
}

/* A single number cannot be normalised: torch refuses it, too. */
static int instance_norm_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    int64_t positions = 1;
    if (node_check_rank(n, 0, 3, SHAPE_MAX_RANK, e))
        return -1;
    for (int i = 2; i < in->rank; i++)
        positions = in->dim[i] == 1 ? positions : in->dim[i];
    if (positions == 1)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects more than one number in each channel, found %s", n->what,
                         shape_print(in, &text));
    const bool tracks = ((const struct group_norm_attrs *)n->attrs)->track_running_stats;
    if (group_norm_shape(n, e) ||
        declare(n, NORM_MEAN, tracks, "track_running_stats", &SHAPE(in->dim[1]), e) ||
        declare(n, NORM_VAR, tracks, "track_running_stats", &SHAPE(in->dim[1]), e) ||
        declare(n, NORM_BATCHES, tracks, "track_running_stats", &(struct shape){0}, e))
        return -1;
    return 0;
}

/* Subtract, multiply, multiply, add. */
static double batch_norm_flops(const struct node *n)
{
    return 4.0 * (double)(n->size.sample + n->size.fixed);
}

/* The same, and one addition for the mean, three operations for the variance. */
static double layer_norm_flops(const struct node *n)
{
    return 8.0 * (double)(n->size.sample + n->size.fixed);
}

const struct op ops_norm[] = {
    {"batch_norm1d", "normalisation", 1, 1, batch_norm_attr_defs, sizeof(struct batch_norm_attrs),
     batch_norm_params, batch_norm1d_shape, batch_norm_memory, batch_norm_forward,
     batch_norm_backward, batch_norm_flops, OP_KEEPS_IN | OP_BATCH_STATISTICS | OP_STATISTICS_ONCE,
     "Nx5; Nx3x4; Nx18 affine=false; Nx2x17 momentum=-1; Nx3 track_running_stats=false",
     "y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of each channel"},
    {"batch_norm2d", "normalisation", 1, 1, batch_norm_attr_defs, sizeof(struct batch_norm_attrs),
     batch_norm_params, batch_norm2d_shape, batch_norm_memory, batch_norm_forward,
     batch_norm_backward, batch_norm_flops,
     OP_KEEPS_IN | OP_LAYOUT_LAST | OP_BATCH_STATISTICS | OP_STATISTICS_ONCE,
     "Nx3x4x5; Nx18x3x2 eps=0.001; Nx2x5x5 affine=false; Nx2x3x3 momentum=-1;"
     "Nx2x2x3 track_running_stats=false",
     "y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of each channel"},
    {"batch_norm_relu", "normalisation", 1, 1, NULL, 0, NULL, NULL, batch_norm_memory,
     batch_norm_relu_forward, batch_norm_relu_backward, batch_norm_flops,
     OP_INTERNAL | OP_KEEPS_IN | OP_STATISTICS_ONCE | OP_CHEAP_AGAIN, NULL,
     "y = max(batch_norm(x), 0)"},
    {"batch_norm_silu", "normalisation", 1, 1, NULL, 0, NULL, NULL, batch_norm_memory,
     batch_norm_silu_forward, batch_norm_silu_backward, batch_norm_flops,
     OP_INTERNAL | OP_KEEPS_IN | OP_STATISTICS_ONCE | OP_CHEAP_AGAIN, NULL,
     "y = batch_norm(x) / (1 + e^-batch_norm(x))"},
    {"batch_norm_add_relu", "normalisation", 2, 2, NULL, 0, NULL, NULL, batch_norm_memory,
     batch_norm_relu_forward, batch_norm_relu_backward, batch_norm_flops,
     OP_INTERNAL | OP_KEEPS_IN | OP_KEEPS_OUT | OP_STATISTICS_ONCE, NULL,
     "y = max(batch_norm(x) + other, 0)"},
    {"layer_norm", "normalisation", 1, 1, layer_norm_attr_defs, sizeof(struct layer_norm_attrs),
     layer_norm_params, layer_norm_shape, layer_norm_memory, layer_norm_forward,
     layer_norm_backward, layer_norm_flops, OP_KEEPS_IN,
     "Nx6 normalized_shape=6; Nx3x19 normalized_shape=19; Nx4x5 normalized_shape=4,5;"
     "Nx7 normalized_shape=7 elementwise_affine=false; Nx2x9 normalized_shape=9 bias=false;"
     "3x4 normalized_shape=3,4",
     "y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var over the last dimensions"},
    {"rms_norm", "normalisation", 1, 1, rms_norm_attr_defs, sizeof(struct layer_norm_attrs),
     layer_norm_params, layer_norm_shape, layer_norm_memory, rms_norm_forward, rms_norm_backward,
     layer_norm_flops, OP_KEEPS_IN,
     "Nx6 normalized_shape=6; Nx3x19 normalized_shape=19 eps=0.01; Nx4x5 normalized_shape=4,5 "
     "elementwise_affine=false",
     "y = x / sqrt(mean of x^2 + eps) * weight, mean over the last dimensions"},
    {"group_norm", "normalisation", 1, 1, group_norm_attr_defs, sizeof(struct group_norm_attrs),
     layer_norm_params, group_norm_shape, group_norm_memory, group_norm_forward,
     group_norm_backward, layer_norm_flops, OP_KEEPS_IN | OP_LAYOUT_ALIKE,
     "Nx6x3x4 num_groups=2; Nx4x5 num_groups=4; Nx6 num_groups=3; Nx4x2x2 num_groups=1 "
     "affine=false; 2x4x3 num_groups=2 eps=0.01",
     "y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of a sample's group of "
     "channels"},
    {"instance_norm", "normalisation", 1, 1, instance_norm_attr_defs,
     sizeof(struct group_norm_attrs), batch_norm_params, instance_norm_shape, group_norm_memory,
     group_norm_forward, group_norm_backward, layer_norm_flops, OP_KEEPS_IN | OP_LAYOUT_ALIKE,
     "Nx3x4x2; Nx2x5 affine=true; Nx3x2x3 affine=true eps=0.01; Nx3x2x2 affine=true "
     "track_running_stats=true; Nx2x4 track_running_stats=true momentum=0.5",
     "y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of a sample's channel"},
    {0},
};
