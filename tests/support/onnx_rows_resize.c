/* onnx_rows_resize.c: ONNX's Pad, Resize and Upsample as operators of ours. */
#include "onnx_build.h"

#include <math.h>
#include <string.h>

/* ---- pad ------------------------------------------------------------------------------------- */

static struct node *pad(struct onnx_call *c)
{
    static const char *const modes[][2] = {{"constant", "constant"},
                                           {"reflect", "reflect"},
                                           {"edge", "replicate"},
                                           {"wrap", "circular"}};
    int n, n_axes = 0, mode = 0;
    double value = onnx_float(c, "value", 0);
    const int64_t *pads = onnx_list_or_input(c, "pads", 1, &n);
    const int64_t *axes = onnx_has(c, 3) ? onnx_ints(c, 3, &n_axes) : NULL;
    struct node *x = onnx_real(c, 0);
    while (mode < 3 && strcmp(onnx_string(c, "mode", "constant"), modes[mode][0]))
        mode++;
    if (!x || !pads || (onnx_has(c, 2) && !onnx_number(c, 2, &value)))
        return NULL;
    const int rank = node_shape(x)->rank;
    int64_t pairs[2 * SHAPE_MAX_RANK] = {0};
    if (rank > SHAPE_MAX_RANK / 2)
        return onnx_not_ours(c, "Pad of rank %d", rank);
    for (int i = 0; i < n / 2; i++) {
        const int dim = onnx_axis(c, axes ? axes[i] : i, rank);
        if (dim < 0)
            return NULL;
        pairs[2 * (rank - 1 - dim)] = pads[i];
        pairs[2 * (rank - 1 - dim) + 1] = pads[n / 2 + i];
    }
    return onnx_add1(c, "pad", x, onnx_attr_ints(c, "padding", pairs, 2 * rank),
                     ONNX_TEXT("mode", modes[mode][1]), ONNX_REAL("value", value));
}

/* ---- resize ---------------------------------------------------------------------------------- */

/* Sizes after resizing and the scales, of all dimensions. */
struct resize {
    struct shape to;
    double scale[SHAPE_MAX_RANK];
};

static bool resize_read(struct onnx_call *c, const struct node *x, int scales_at, struct resize *r)
{
    int n_axes, n = 0;
    const int64_t *axes = onnx_list(c, "axes", &n_axes);
    const bool by_size = onnx_has(c, scales_at + 1);
    const struct onnx_tensor *scales = by_size ? NULL : onnx_known(c, scales_at);
    const int64_t *sizes = by_size ? onnx_ints(c, scales_at + 1, &n) : NULL;
    r->to = *node_shape(x);
    for (int i = 0; i < SHAPE_MAX_RANK; i++)
        r->scale[i] = 1;
    if (strcmp(onnx_string(c, "keep_aspect_ratio_policy", "stretch"), "stretch"))
        return onnx_not_ours(c, "Resize that keeps the aspect ratio"), false;
    if (!sizes && (!scales || !scales->reals))
        return false;
    for (int i = 0; i < (sizes ? n : (int)scales->count); i++) {
        const int dim = onnx_axis(c, axes ? axes[i] : i, r->to.rank);
        if (dim < 0)
            return false;
        const int64_t in = node_shape(x)->dim[dim];
        r->scale[dim] = sizes ? (double)sizes[i] / (double)in : (double)scales->reals[i];
        r->to.dim[dim] = sizes ? sizes[i] : (int64_t)floor((double)in * r->scale[dim]);
    }
    return true;
}

/* Where output i comes from, in the input's pixels. NaN: a rule that we do not know. */
static double source(const char *mode, double i, double in, double out, double scale)
{
    if (!strcmp(mode, "asymmetric"))
        return i / scale;
    if (!strcmp(mode, "align_corners"))
        return out > 1 ? i * (in - 1) / (out - 1) : 0;
    return !strcmp(mode, "half_pixel") ? (i + 0.5) / scale - 0.5 : NAN;
}

static double rounded(const char *mode, double x)
{
    if (!strcmp(mode, "floor"))
        return floor(x);
    if (!strcmp(mode, "ceil"))
        return ceil(x);
    return !strcmp(mode, "round_prefer_ceil") ? floor(x + 0.5) : ceil(x - 0.5);
}

/* Any rule of nearest pixels is a list of indices for each dimension; where it is that of ours,
 * floor(i in / out), interpolate itself is taken. */
static struct node *nearest(struct onnx_call *c, struct node *x, const struct resize *r,
                            const char *coordinates, const char *rounding)
{
    bool usual = r->to.rank == 4;
    int64_t *list[SHAPE_MAX_RANK];
    const struct shape from = *node_shape(x);
    for (int d = 0; d < from.rank; d++) {
        const double in = (double)from.dim[d], out = (double)r->to.dim[d];
        list[d] = arena_array(c->b->arena, (size_t)r->to.dim[d], sizeof **list);
        for (int64_t i = 0; list[d] && i < r->to.dim[d]; i++) {
            const double at = source(coordinates, (double)i, in, out, r->scale[d]);
            if (isnan(at))
                return onnx_not_ours(c, "Resize with coordinates '%s'", coordinates);
            list[d][i] = (int64_t)fmin(fmax(rounded(rounding, at), 0), in - 1);
            usual &= list[d][i] == i * from.dim[d] / r->to.dim[d];
        }
        usual &= d > 1 || r->to.dim[d] == from.dim[d];
    }
    if (usual)
        return onnx_add1(c, "interpolate", x, onnx_attr_ints(c, "size", r->to.dim + 2, 2));
    for (int d = 0; d < from.rank; d++)
        if (r->to.dim[d] != from.dim[d])
            x = onnx_add1(c, "index_select", x, ONNX_INT("dim", d),
                          onnx_attr_ints(c, "index", list[d], (int)r->to.dim[d]));
    return x;
}

static struct node *bilinear(struct onnx_call *c, struct node *x, const struct resize *r,
                             const char *coordinates)
{
    const bool corners = !strcmp(coordinates, "align_corners");
    const struct shape *from = node_shape(x);
    if (from->rank != 4 || r->to.dim[0] != from->dim[0] || r->to.dim[1] != from->dim[1])
        return onnx_not_ours(c, "Resize, linear, of more than two dimensions");
    if (!corners && strcmp(coordinates, "half_pixel"))
        return onnx_not_ours(c, "Resize with coordinates '%s'", coordinates);
    if (onnx_int(c, "antialias", 0))
        return onnx_not_ours(c, "Resize with antialias");
    for (int d = 2; d < 4; d++)
        if (r->scale[d] * (double)from->dim[d] != (double)r->to.dim[d])
            return onnx_not_ours(c, "Resize by a scale that is not that of the sizes");
    return onnx_add1(c, "interpolate", x, onnx_attr_ints(c, "size", r->to.dim + 2, 2),
                     ONNX_TEXT("mode", "bilinear"), ONNX_BOOLEAN("align_corners", corners));
}

static struct node *resize(struct onnx_call *c)
{
    const char *mode = onnx_string(c, "mode", "nearest");
    const char *coordinates = onnx_string(c, "coordinate_transformation_mode", "half_pixel");
    struct node *x = onnx_real(c, 0);
    struct resize r;
    if (!x || !resize_read(c, x, 2, &r))
        return NULL;
    if (!strcmp(mode, "linear"))
        return bilinear(c, x, &r, coordinates);
    if (!strcmp(mode, "nearest"))
        return nearest(c, x, &r, coordinates, onnx_string(c, "nearest_mode", "round_prefer_floor"));
    return onnx_not_ours(c, "Resize, %s", mode);
}

static struct node *upsample(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    struct resize r;
    if (!x || !resize_read(c, x, 1, &r))
        return NULL;
    if (strcmp(onnx_string(c, "mode", "nearest"), "nearest"))
        return onnx_not_ours(c, "Upsample, linear");
    return nearest(c, x, &r, "asymmetric", "floor");
}

const struct onnx_row onnx_rows_resize[] = {
    {"Pad", "pad", pad, 3},
    {"Resize", "interpolate; index_select", resize, 13},
    {"Upsample", "interpolate", upsample, 1},
    {0},
};
