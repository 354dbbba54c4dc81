/* onnx_rows_shape.c: ONNX's operators that move numbers, as operators of ours. Shapes, axes and
 * bounds must be known: they become attributes. */
#include "onnx_build.h"

#include <string.h>

/* ---- shapes ---------------------------------------------------------------------------------- */

static struct node *reshape(struct onnx_call *c)
{
    int n;
    const int64_t *sizes = onnx_ints(c, 1, &n);
    struct node *x = onnx_real(c, 0);
    if (!sizes || !x || n > SHAPE_MAX_RANK)
        return NULL;
    struct shape to = {.rank = n};
    for (int i = 0; i < n; i++) {
        const bool copied = sizes[i] == 0 && !onnx_int(c, "allowzero", 0);
        to.dim[i] = copied && i < node_shape(x)->rank ? node_shape(x)->dim[i] : sizes[i];
    }
    int64_t all, known = 1;
    shape_count(node_shape(x), 1, &all);
    for (int i = 0; i < n; i++)
        known *= to.dim[i] < 0 ? 1 : to.dim[i];
    for (int i = 0; i < n && known > 0; i++)
        to.dim[i] = to.dim[i] < 0 ? all / known : to.dim[i];
    return onnx_reshape(c, x, to);
}

static struct node *flatten(struct onnx_call *c)
{
    struct node *x = onnx_real(c, 0);
    if (!x)
        return NULL;
    const struct shape *s = node_shape(x);
    const int64_t given = onnx_int(c, "axis", 1), axis = given < 0 ? given + s->rank : given;
    struct shape to = SHAPE(1, 1);
    for (int i = 0; i < s->rank; i++)
        to.dim[i >= axis] *= s->dim[i];
    return onnx_reshape(c, x, to);
}

static struct node *squeeze(struct onnx_call *c)
{
    int n;
    const int64_t *axes = onnx_list_or_input(c, "axes", 1, &n);
    return onnx_add1(c, "squeeze", onnx_real(c, 0), onnx_attr_ints(c, "dim", axes, n));
}

/* The shape with sizes of 1 at the axes, which are those of the result. False: out of range. */
static bool unsqueezed(struct onnx_call *c, const struct shape *from, const int64_t *axes, int n,
                       struct shape *to_r)
{
    bool added[SHAPE_MAX_RANK] = {false};
    *to_r = (struct shape){.rank = from->rank + n};
    if (to_r->rank > SHAPE_MAX_RANK)
        return onnx_not_ours(c, "Unsqueeze to too high a rank"), false;
    for (int i = 0; i < n; i++) {
        const int axis = onnx_axis(c, axes[i], to_r->rank);
        if (axis < 0)
            return false;
        added[axis] = true;
    }
    for (int i = 0, k = 0; i < to_r->rank; i++)
        to_r->dim[i] = added[i] ? 1 : from->dim[k++];
    return true;
}

/* Also of indices that are known. */
static struct node *unsqueeze(struct onnx_call *c)
{
    int n;
    const int64_t *axes = onnx_list_or_input(c, "axes", 1, &n);
    const struct onnx_tensor *t = onnx_type(c, 0) == ONNX_INT64 ? onnx_known(c, 0) : NULL;
    struct node *x = t ? NULL : onnx_real(c, 0);
    struct shape to;
    if (!axes || (!t && !x) || !unsqueezed(c, t ? &t->shape : node_shape(x), axes, n, &to))
        return NULL;
    if (t)
        return onnx_give_known(c, onnx_reshaped(c, t, to));
    for (int i = 0; i < to.rank; i++)
        if (i >= node_shape(x)->rank || node_shape(x)->dim[i] != to.dim[i])
            x = onnx_add1(c, "unsqueeze", x, ONNX_INT("dim", i));
    return x;
}

static struct node *transpose(struct onnx_call *c)
{
    int n;
    const int64_t *perm = onnx_list(c, "perm", &n);
    struct node *x = onnx_real(c, 0);
    int64_t reversed[SHAPE_MAX_RANK];
    if (!x)
        return NULL;
    for (int i = 0; i < node_shape(x)->rank; i++)
        reversed[i] = node_shape(x)->rank - 1 - i;
    return onnx_permute(c, x, perm ? perm : reversed, node_shape(x)->rank);
}

/* The wanted sizes and the given ones broadcast with each other. */
static struct node *expand(struct onnx_call *c)
{
    int n;
    const int64_t *sizes = onnx_ints(c, 1, &n);
    struct node *x = onnx_real(c, 0);
    if (!sizes || !x)
        return NULL;
    const struct shape *s = node_shape(x);
    struct shape to = {.rank = n > s->rank ? n : s->rank};
    for (int i = 1; i <= to.rank; i++) {
        const int64_t a = i <= n ? sizes[n - i] : 1, b = i <= s->rank ? s->dim[s->rank - i] : 1;
        to.dim[to.rank - i] = a > b ? a : b;
    }
    return onnx_add1(c, "expand", x, onnx_attr_shape(c, "shape", &to));
}

static struct node *tile(struct onnx_call *c)
{
    int n;
    const int64_t *repeats = onnx_ints(c, 1, &n);
    return onnx_add1(c, "repeat", onnx_real(c, 0), onnx_attr_ints(c, "repeats", repeats, n));
}

static struct node *concat(struct onnx_call *c)
{
    struct node *inputs[ONNX_MAX_FEEDS];
    const int n = c->node->n_inputs;
    if (n > ONNX_MAX_FEEDS)
        return onnx_not_ours(c, "Concat of %d inputs", n);
    for (int i = 0; i < n; i++)
        inputs[i] = onnx_real(c, i);
    const struct attr dim = ONNX_INT("dim", onnx_int(c, "axis", 0));
    return onnx_add_n(c, "concat", inputs, n, &dim, 1);
}

/* Parts of equal size, the last one smaller, unless their sizes are given. */
static struct node *split(struct onnx_call *c)
{
    int n = 0;
    const int64_t *sizes = onnx_list_or_input(c, "split", 1, &n);
    struct node *x = onnx_real(c, 0), *first = NULL;
    const int axis = x ? onnx_axis(c, onnx_int(c, "axis", 0), node_shape(x)->rank) : -1;
    if (axis < 0)
        return NULL;
    const int64_t all = node_shape(x)->dim[axis], parts = c->node->n_outputs;
    int64_t start = 0;
    for (int i = 0; i < parts; i++) {
        const int64_t equal = (all + parts - 1) / parts;
        const int64_t size = sizes ? sizes[i] : equal < all - start ? equal : all - start;
        if (size < 1)
            return onnx_not_ours(c, "Split into empty parts");
        struct node *part = onnx_narrow(c, x, axis, start, size);
        if (i > 0)
            onnx_give(c, i, part);
        else
            first = part;
        start += size;
    }
    return first;
}

/* ---- slices and indices ---------------------------------------------------------------------- */

static struct node *select_known(struct onnx_call *c, struct node *x, int dim,
                                 const int64_t *indices, int n)
{
    return onnx_add1(c, "index_select", x, ONNX_INT("dim", dim),
                     onnx_attr_ints(c, "index", indices, n));
}

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Steps of 1 are narrow, others index_select. */
static struct node *slice_dim(struct onnx_call *c, struct node *x, int dim, int64_t start,
                              int64_t end, int64_t step)
{
    const int64_t size = node_shape(x)->dim[dim], back = step < 0;
    int n = 0;
    int64_t *indices = arena_array(c->b->arena, (size_t)size, sizeof *indices);
    start = clamp(start < 0 ? start + size : start, 0, size - back);
    end = clamp(end < 0 ? end + size : end, -back, size);
    for (int64_t i = start; indices && (back ? i > end : i < end); i += step)
        indices[n++] = i;
    if (n == 0)
        return onnx_not_ours(c, "Slice that leaves nothing");
    return step == 1 ? onnx_narrow(c, x, dim, start, n) : select_known(c, x, dim, indices, n);
}

static struct node *slice(struct onnx_call *c)
{
    int n, n_axes, n_steps = 0;
    const int64_t *starts = onnx_list_or_input(c, "starts", 1, &n);
    const int64_t *ends = onnx_list_or_input(c, "ends", 2, &n);
    const int64_t *axes = onnx_list_or_input(c, "axes", 3, &n_axes);
    const int64_t *steps = onnx_has(c, 4) ? onnx_ints(c, 4, &n_steps) : NULL;
    struct node *x = onnx_real(c, 0);
    for (int i = 0; i < n && x && starts && ends; i++) {
        const int dim = onnx_axis(c, axes ? axes[i] : i, node_shape(x)->rank);
        x = dim < 0 ? NULL : slice_dim(c, x, dim, starts[i], ends[i], steps ? steps[i] : 1);
    }
    return starts && ends ? x : NULL;
}

/* All of x's rows at indices of any shape: one list of them, then their shape. */
static struct node *gather(struct onnx_call *c)
{
    const struct onnx_tensor *t = onnx_known(c, 1);
    struct node *x = onnx_real(c, 0);
    const int axis = x && t ? onnx_axis(c, onnx_int(c, "axis", 0), node_shape(x)->rank) : -1;
    t = axis < 0 ? NULL : onnx_wrapped(c, t, node_shape(x)->dim[axis]);
    if (!t)
        return NULL;
    const struct shape *s = node_shape(x);
    struct shape to = {0};
    if (s->rank - 1 + t->shape.rank > SHAPE_MAX_RANK)
        return onnx_not_ours(c, "Gather of too high a rank");
    for (int i = 0; i < s->rank; i++)
        for (int k = 0; k < (i == axis ? t->shape.rank : 1); k++)
            to.dim[to.rank++] = i == axis ? t->shape.dim[k] : s->dim[i];
    return onnx_reshape(c, select_known(c, x, axis, t->ints, (int)t->count), to);
}

static struct node *gather_elements(struct onnx_call *c)
{
    const struct onnx_tensor *t = onnx_known(c, 1);
    struct node *x = onnx_real(c, 0);
    const int axis = x && t ? onnx_axis(c, onnx_int(c, "axis", 0), node_shape(x)->rank) : -1;
    t = axis < 0 ? NULL : onnx_wrapped(c, t, node_shape(x)->dim[axis]);
    return t ? onnx_add2(c, "gather", x, onnx_indices(c, t, t->shape), ONNX_INT("dim", axis))
             : NULL;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static struct node *depth_to_space(struct onnx_call *c)
{
    static const int64_t order[] = {0, 3, 4, 1, 5, 2};
    const int64_t r = onnx_int(c, "blocksize", 1);
    struct node *x = onnx_real(c, 0);
    if (!x || !strcmp(onnx_string(c, "mode", "DCR"), "CRD"))
        return onnx_add1(c, "pixel_shuffle", x, ONNX_INT("upscale_factor", r));
    const int64_t *d = node_shape(x)->dim, n = d[0], depth = d[1] / (r * r), h = d[2], w = d[3];
    x = onnx_permute(c, onnx_reshape(c, x, SHAPE(n, r, r, depth, h, w)), order, 6);
    return onnx_reshape(c, x, SHAPE(n, depth, h * r, w * r));
}

static struct node *space_to_depth(struct onnx_call *c)
{
    static const int64_t order[] = {0, 3, 5, 1, 2, 4};
    const int64_t r = onnx_int(c, "blocksize", 1);
    struct node *x = onnx_real(c, 0);
    if (!x)
        return NULL;
    const int64_t *d = node_shape(x)->dim, n = d[0], depth = d[1], h = d[2] / r, w = d[3] / r;
    x = onnx_permute(c, onnx_reshape(c, x, SHAPE(n, depth, h, r, w, r)), order, 6);
    return onnx_reshape(c, x, SHAPE(n, depth * r * r, h, w));
}

const struct onnx_row onnx_rows_shape[] = {
    {"Reshape", "reshape", reshape, 9},
    {"Flatten", "reshape", flatten, 9},
    {"Squeeze", "squeeze", squeeze, 13},
    {"Unsqueeze", "unsqueeze", unsqueeze, 18},
    {"Transpose", "permute", transpose, 7},
    {"Expand", "expand", expand, 2},
    {"Tile", "repeat", tile, 2},
    {"Concat", "concat", concat, 12},
    {"Split", "narrow", split, 14},
    {"Slice", "narrow; index_select", slice, 18},
    {"Gather", "index_select", gather, 9},
    {"GatherElements", "gather", gather_elements, 14},
    {"DepthToSpace", "pixel_shuffle; permute", depth_to_space, 2},
    {"SpaceToDepth", "permute", space_to_depth, 2},
    {0},
};
