/* ops_shape.c: operators that give numbers another shape in the same order. The plan lets them
 * share their input's memory; their forward and backward copy where it could not. The batch is
 * dimension 0 and stays there. */
#include "unary.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- identity -------------------------------------------------------------------------------- */

struct copy {
    real *to;
    const real *from;
};

static void copy_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct copy *c = arg;
    memcpy(c->to + begin, c->from + begin, (size_t)(end - begin) * sizeof(real));
}

static void copy_numbers(struct run *r, real *to, const real *from, int64_t count)
{
    if (to && to != from)
        run_for(r, count, GRAIN_ELEMENTS, copy_range, &(struct copy){to, from});
}

void identity_forward(const struct node *n, struct run *r)
{
    copy_numbers(r, run_value(r, n), run_in(r, n, 0), run_count(r, n));
}

void identity_backward(const struct node *n, struct run *r)
{
    copy_numbers(r, run_grad_in(r, n, 0), run_grad(r, n), run_count(r, n));
}

/* ---- reshape --------------------------------------------------------------------------------- */

struct reshape {
    struct int_list shape;
};
static const struct attr_def reshape_attrs[] = {
    {"shape", ATTR_INTS, offsetof(struct reshape, shape), NULL, -1, 0x1p48, NULL,
     "the new sizes; one may be -1 and is inferred; the batch is a leading -1 or left out"},
    {0},
};

/* "[-1, 3, 4]" as it was given. */
static const char *list_print(const struct int_list *list, char *text, size_t size)
{
    int used = snprintf(text, size, "[");
    for (int i = 0; i < list->n; i++)
        used += snprintf(text + used, size - (size_t)used, "%s%lld", i ? ", " : "",
                         (long long)list->v[i]);
    snprintf(text + used, size - (size_t)used, "]");
    return text;
}

static int reshape_refuse(const struct node *n, const char *why, struct error *e)
{
    char wanted[SHAPE_MAX_RANK * 22 + 3];
    struct shape_text text;
    return error_set(e, ERROR_BAD_SHAPE, "%s: cannot reshape %s to %s: %s", n->what,
                     shape_print(&n->in[0]->shape, &text),
                     list_print(&((const struct reshape *)n->attrs)->shape, wanted, sizeof wanted),
                     why);
}

/* Replaces the -1 in `shape` (from dimension `first` on) so that it has `count` elements. */
static int infer_dim(const struct node *n, struct shape *shape, int first, int64_t count,
                     struct error *e)
{
    struct shape known = {0};
    int unknown = -1;
    int64_t product;
    for (int i = first; i < shape->rank; i++) {
        if (shape->dim[i] >= 0)
            known.dim[known.rank++] = shape->dim[i];
        else if (unknown >= 0)
            return reshape_refuse(n, "only one size can be inferred", e);
        else
            unknown = i;
    }
    char why[96];
    if (!shape_count(&known, 1, &product))
        return reshape_refuse(n, "it has too many elements", e);
    if (unknown >= 0 && product > 0 && count % product == 0) {
        shape->dim[unknown] = count / product;
        return 0;
    }
    if (unknown < 0 && product == count)
        return 0;
    snprintf(why, sizeof why, "%lld elements%s do not fit %lld%s", (long long)count,
             first ? " a sample (the batch apart)" : "", (long long)product,
             unknown >= 0 ? " and an inferred size" : "");
    return reshape_refuse(n, why, e);
}

static int reshape_shape(struct node *n, struct error *e)
{
    const struct int_list *list = &((const struct reshape *)n->attrs)->shape;
    struct shape out = {0};
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e))
        return -1;
    int batch = shape_batched(&n->in[0]->shape), given = batch && list->n > 0 && list->v[0] == -1;
    out.rank = list->n - given + batch;
    if (out.rank > SHAPE_MAX_RANK)
        return reshape_refuse(n, "a shape has at most 8 dimensions", e);
    if (batch)
        out.dim[0] = BATCH;
    for (int i = given; i < list->n; i++)
        out.dim[i - given + batch] = list->v[i];
    const struct extent *size = &n->in[0]->size;
    if (infer_dim(n, &out, batch, batch ? size->sample : size->fixed, e))
        return -1;
    return node_set_shape(n, &out, e);
}

/* ---- flatten --------------------------------------------------------------------------------- */

struct flatten {
    int64_t start_dim, end_dim;
};
static const struct attr_def flatten_attrs[] = {
    {"start_dim", ATTR_INT, offsetof(struct flatten, start_dim), "1", -SHAPE_MAX_RANK,
     SHAPE_MAX_RANK - 1, NULL, "first dimension to flatten; not the batch"},
    {"end_dim", ATTR_INT, offsetof(struct flatten, end_dim), "-1", -SHAPE_MAX_RANK,
     SHAPE_MAX_RANK - 1, NULL, "last dimension to flatten"},
    {0},
};

static int flatten_shape(struct node *n, struct error *e)
{
    const struct flatten *attrs = n->attrs;
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    struct shape out = {0};
    int start, end;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) ||
        node_wrap_dim(n, attrs->start_dim, in->rank, &start, e) ||
        node_wrap_dim(n, attrs->end_dim, in->rank, &end, e))
        return -1;
    if (start > end)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: start_dim %d comes after end_dim %d for an input of rank %d", n->what,
                         start, end, in->rank);
    if (in->dim[start] == BATCH && end > start)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: start_dim 0 of %s is the batch; expects 1 or more", n->what,
                         shape_print(in, &text));
    for (int i = 0; i < in->rank; i++)
        if (i > start && i <= end)
            out.dim[start] *= in->dim[i]; /* within the input's count */
        else
            out.dim[out.rank++] = in->dim[i];
    return node_set_shape(n, &out, e);
}

/* ---- squeeze and unsqueeze ------------------------------------------------------------------- */

struct squeeze {
    struct int_list dim;
};
static const struct attr_def squeeze_attrs[] = {
    {"dim", ATTR_INTS, offsetof(struct squeeze, dim), "", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimensions to leave out where their size is 1; none given: all of size 1"},
    {0},
};
struct unsqueeze {
    int64_t dim;
};
static const struct attr_def unsqueeze_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct unsqueeze, dim), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1,
     NULL, "where a dimension of size 1 is put in; not before the batch"},
    {0},
};

static int squeeze_shape(struct node *n, struct error *e)
{
    const struct int_list *list = &((const struct squeeze *)n->attrs)->dim;
    const struct shape *in = &n->in[0]->shape;
    struct shape out = {0};
    bool chosen[SHAPE_MAX_RANK] = {false};
    int dim;
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e))
        return -1;
    for (int i = 0; i < list->n; i++) {
        if (node_wrap_dim(n, list->v[i], in->rank, &dim, e))
            return -1;
        chosen[dim] = true;
    }
    for (int i = 0; i < in->rank; i++)
        if (in->dim[i] != 1 || (list->n && !chosen[i]))
            out.dim[out.rank++] = in->dim[i];
    return node_set_shape(n, &out, e);
}

static int unsqueeze_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    struct shape out = *in;
    struct shape_text text;
    int dim;
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK - 1, e) ||
        node_wrap_dim(n, ((const struct unsqueeze *)n->attrs)->dim, in->rank + 1, &dim, e))
        return -1;
    if (dim == 0 && shape_batched(in))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension 0 of %s is the batch and must stay in front", n->what,
                         shape_print(in, &text));
    memmove(&out.dim[dim + 1], &out.dim[dim], sizeof out.dim[0] * (size_t)(in->rank - dim));
    out.dim[dim] = 1;
    out.rank++;
    return node_set_shape(n, &out, e);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define VIEW_ROW(name, samples, doc)                                                               \
    {                                                                                              \
#name, "shape", 1, 1, name##_attrs, sizeof(struct name), NULL, name##_shape, NULL,         \
            identity_forward, identity_backward, NULL, OP_VIEW | OP_ZERO_FLOPS, samples, doc       \
    }

const struct op ops_shape[] = {
    VIEW_ROW(reshape,
             "Nx3x4 shape=6,2; Nx3x4 shape=-1,2,-1; Nx2x3x2 shape=12; 2x6 shape=3,-1; "
             "scalar shape=1,1",
             "y has the elements of x in the same order; a batch stays in front"),
    VIEW_ROW(flatten, "Nx2x3x2; Nx2x3x2 start_dim=2; Nx2x3x2 end_dim=2; 2x3x2 start_dim=0; Nx3",
             "y has dimensions start_dim to end_dim of x as one"),
    VIEW_ROW(squeeze, "Nx1x3x1; Nx1x3x1 dim=1; 1x2x1 dim=0,2; Nx2 dim=1",
             "y is x without its dimensions of size 1"),
    VIEW_ROW(unsqueeze, "Nx3 dim=1; Nx2x3 dim=-1; 2 dim=0; scalar dim=0",
             "y is x with a dimension of size 1 at dim"),
    {0},
};
