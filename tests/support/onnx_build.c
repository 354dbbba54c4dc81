/* onnx_build.c: from the nodes of an ONNX model to a graph; onnx_build.h says how. */
#include "onnx_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- verdicts -------------------------------------------------------------------------------- */

void *onnx_not_ours(struct onnx_call *c, const char *format, ...)
{
    va_list list;
    if (c->b->verdict != ONNX_APPLIES)
        return NULL;
    c->b->verdict = ONNX_NOT_OURS;
    va_start(list, format);
    vsnprintf(c->b->why, sizeof c->b->why, format, list);
    va_end(list);
    return NULL;
}

static void *fails(struct onnx_call *c, const struct error *e)
{
    if (c->b->verdict != ONNX_APPLIES)
        return NULL;
    c->b->verdict = ONNX_FAILS;
    snprintf(c->b->why, sizeof c->b->why, "%.40s: %.150s", c->node->op, e->text);
    return NULL;
}

/* ---- values ---------------------------------------------------------------------------------- */

static struct onnx_value *value_find(const struct onnx_build *b, const char *name)
{
    for (int i = b->n_values - 1; i >= 0; i--)
        if (!strcmp(b->values[i].name, name))
            return (struct onnx_value *)&b->values[i];
    return NULL;
}

static void value_add(struct onnx_build *b, struct onnx_value v)
{
    if (b->n_values < ONNX_MAX_VALUES)
        b->values[b->n_values++] = v;
    else if (b->verdict == ONNX_APPLIES) {
        b->verdict = ONNX_NOT_OURS;
        snprintf(b->why, sizeof b->why, "more than %d values", ONNX_MAX_VALUES);
    }
}

const struct onnx_value *onnx_output(const struct onnx_build *b, const char *name)
{
    return value_find(b, name);
}

static struct onnx_value *input(const struct onnx_call *c, int i)
{
    return i < c->node->n_inputs && c->node->inputs[i][0] ? value_find(c->b, c->node->inputs[i])
                                                          : NULL;
}

bool onnx_has(const struct onnx_call *c, int i)
{
    return input(c, i) != NULL;
}

bool onnx_wants(const struct onnx_call *c, int i)
{
    return i < c->node->n_outputs && c->node->outputs[i][0];
}

int onnx_type(const struct onnx_call *c, int i)
{
    const struct onnx_value *v = input(c, i);
    return v ? v->type : ONNX_NO_TENSOR;
}

/* A new input of the graph. */
static struct node *feed(struct onnx_call *c, const char *name, enum dtype dtype,
                         const struct shape *shape, const void *data)
{
    struct error e = {0};
    if (c->b->n_feeds == ONNX_MAX_FEEDS)
        return onnx_not_ours(c, "more than %d inputs", ONNX_MAX_FEEDS);
    const char *unique = arena_printf(c->b->arena, "%d_%s", c->b->n_feeds, name);
    struct node *n = graph_input(c->b->graph, unique, dtype, shape, &e);
    if (!n)
        return fails(c, &e);
    c->b->feeds[c->b->n_feeds++] = data;
    return n;
}

struct node *onnx_real(struct onnx_call *c, int i)
{
    struct onnx_value *v = input(c, i);
    struct error e = {0};
    if (!v)
        return onnx_not_ours(c, "%s without input %d", c->node->op, i);
    if (!onnx_computes(v->type))
        return onnx_not_ours(c, "%s of a dtype that is not computed in (%d)", c->node->op, v->type);
    if (v->node)
        return v->node;
    if (!v->fixed)
        return v->node = feed(c, v->name, DTYPE_REAL, &v->tensor->shape, v->tensor->reals);
    v->node = graph_constant(c->b->graph, &v->tensor->shape, v->tensor->reals, &e);
    return v->node ? v->node : fails(c, &e);
}

bool onnx_computes(int type)
{
    return type == ONNX_FLOAT || type == ONNX_BOOL ||
           (type == ONNX_DOUBLE && sizeof(real) == sizeof(double));
}

const struct onnx_tensor *onnx_known(struct onnx_call *c, int i)
{
    const struct onnx_value *v = input(c, i);
    if (!v || !v->tensor)
        return onnx_not_ours(c, "%s whose input %d is computed", c->node->op, i);
    return v->tensor;
}

const int64_t *onnx_ints(struct onnx_call *c, int i, int *n_r)
{
    const struct onnx_tensor *t = onnx_known(c, i);
    *n_r = t ? (int)t->count : 0;
    if (t && !t->ints)
        return onnx_not_ours(c, "%s whose input %d has no integers", c->node->op, i);
    return t ? t->ints : NULL;
}

bool onnx_number(struct onnx_call *c, int i, double *x_r)
{
    const struct onnx_tensor *t = onnx_known(c, i);
    if (!t || !t->reals || t->count != 1)
        return onnx_not_ours(c, "%s whose input %d is no number", c->node->op, i), false;
    *x_r = (double)t->reals[0];
    return true;
}

const struct onnx_tensor *onnx_reshaped(struct onnx_call *c, const struct onnx_tensor *t,
                                        struct shape shape)
{
    struct onnx_tensor *copy = arena_alloc(c->b->arena, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *t;
    copy->shape = shape;
    return copy;
}

const struct onnx_tensor *onnx_wrapped(struct onnx_call *c, const struct onnx_tensor *t,
                                       int64_t size)
{
    struct onnx_tensor *copy = arena_alloc(c->b->arena, sizeof *copy);
    int64_t *list = arena_array(c->b->arena, (size_t)t->count + 1, sizeof *list);
    if (!copy || !list || !t->ints)
        return onnx_not_ours(c, "%s whose indices are no integers", c->node->op);
    *copy = *t;
    copy->ints = list;
    for (int64_t i = 0; i < t->count; i++)
        list[i] = t->ints[i] < 0 ? t->ints[i] + size : t->ints[i];
    return copy;
}

struct node *onnx_indices(struct onnx_call *c, const struct onnx_tensor *t, struct shape shape)
{
    if (!t || !t->ints)
        return onnx_not_ours(c, "%s whose indices are no integers", c->node->op);
    return feed(c, t->name, DTYPE_INT64, &shape, t->ints);
}

/* ---- attributes ------------------------------------------------------------------------------ */

int64_t onnx_int(const struct onnx_call *c, const char *name, int64_t fallback)
{
    const struct onnx_attr *a = onnx_attr_find(c->node, name);
    return a ? a->i : fallback;
}

double onnx_float(const struct onnx_call *c, const char *name, double fallback)
{
    const struct onnx_attr *a = onnx_attr_find(c->node, name);
    return a ? a->f : fallback;
}

const char *onnx_string(const struct onnx_call *c, const char *name, const char *fallback)
{
    const struct onnx_attr *a = onnx_attr_find(c->node, name);
    return a ? a->s : fallback;
}

const int64_t *onnx_list(const struct onnx_call *c, const char *name, int *n_r)
{
    const struct onnx_attr *a = onnx_attr_find(c->node, name);
    *n_r = a ? a->n_ints : 0;
    return a ? a->ints : NULL;
}

const int64_t *onnx_list_or_input(struct onnx_call *c, const char *name, int i, int *n_r)
{
    const int64_t *list = onnx_list(c, name, n_r);
    return list || !onnx_has(c, i) ? list : onnx_ints(c, i, n_r);
}

int onnx_axis(struct onnx_call *c, int64_t axis, int rank)
{
    if (axis >= -rank && axis < rank)
        return (int)(axis < 0 ? axis + rank : axis);
    onnx_not_ours(c, "%s with an axis out of range", c->node->op);
    return -1;
}

struct attr onnx_attr_ints(struct onnx_call *c, const char *name, const int64_t *v, int n)
{
    double *list = arena_array(c->b->arena, (size_t)n + 1, sizeof *list);
    for (int i = 0; list && i < n; i++)
        list[i] = (double)v[i];
    return (struct attr){.name = name, .kind = ATTR_IS_LIST, .list = list, .n_list = list ? n : 0};
}

struct attr onnx_attr_shape(struct onnx_call *c, const char *name, const struct shape *s)
{
    return onnx_attr_ints(c, name, s->dim, s->rank);
}

/* ---- adding ---------------------------------------------------------------------------------- */

struct node *onnx_add_n(struct onnx_call *c, const char *op, struct node *const *inputs, int n,
                        const struct attr *attrs, int n_attrs)
{
    struct error e = {0};
    for (int i = 0; i < n; i++)
        if (!inputs[i])
            return NULL;
    struct node *added = graph_add(c->b->graph, op, NULL, inputs, n, attrs, n_attrs, &e);
    return added ? added : fails(c, &e);
}

struct node *onnx_reshape(struct onnx_call *c, struct node *x, struct shape to)
{
    if (!x || shape_equal(node_shape(x), &to))
        return x;
    return onnx_add1(c, "reshape", x, onnx_attr_shape(c, "shape", &to));
}

struct node *onnx_narrow(struct onnx_call *c, struct node *x, int dim, int64_t start,
                         int64_t length)
{
    if (x && start == 0 && length == node_shape(x)->dim[dim])
        return x;
    return onnx_add1(c, "narrow", x, ONNX_INT("dim", dim), ONNX_INT("start", start),
                     ONNX_INT("length", length));
}

struct node *onnx_permute(struct onnx_call *c, struct node *x, const int64_t *dims, int n)
{
    return onnx_add1(c, "permute", x, onnx_attr_ints(c, "dims", dims, n));
}

struct node *onnx_scale(struct onnx_call *c, struct node *x, double factor)
{
    return factor == 1 ? x : onnx_add1(c, "mul", x, ONNX_REAL("other", factor));
}

struct node *onnx_constant(struct onnx_call *c, const struct shape *shape, real value)
{
    struct error e = {0};
    int64_t count;
    real *data = shape_count(shape, 1, &count)
                     ? arena_array(c->b->arena, (size_t)count, sizeof *data)
                     : NULL;
    for (int64_t i = 0; data && i < count; i++)
        data[i] = value;
    struct node *n = data ? graph_constant(c->b->graph, shape, data, &e) : NULL;
    return n ? n : fails(c, &e);
}

void onnx_give(struct onnx_call *c, int i, struct node *x)
{
    if (x && onnx_wants(c, i))
        value_add(c->b,
                  (struct onnx_value){.name = c->node->outputs[i], .node = x, .type = ONNX_FLOAT});
}

struct node *onnx_give_known(struct onnx_call *c, const struct onnx_tensor *t)
{
    struct onnx_value v = {c->node->outputs[0], t, true, NULL, t->type};
    value_add(c->b, v);
    return NULL;
}

/* ---- the model ------------------------------------------------------------------------------- */

const struct onnx_row *onnx_row_at(int i)
{
    static const struct onnx_row *const tables[] = {
        onnx_rows_elementwise, onnx_rows_reduce, onnx_rows_shape,
        onnx_rows_window,      onnx_rows_resize, onnx_rows_norm,
        onnx_rows_sequence,    onnx_rows_loss,   onnx_rows_optimizer};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct onnx_row *row = tables[t]; row->name; row++)
            if (i-- == 0)
                return row;
    return NULL;
}

static const struct onnx_row *row_find(const struct onnx_node *n)
{
    const struct onnx_row *row;
    for (int i = 0; !n->domain[0] && (row = onnx_row_at(i)); i++)
        if (!strcmp(row->name, n->op))
            return row;
    return NULL;
}

static bool ours(int type)
{
    return onnx_computes(type) || type == ONNX_INT64 || type == ONNX_INT32;
}

/* The type of a result: what ONNX says of these operators, else numbers. */
static int result_type(const struct onnx_call *c)
{
    static const char *const logical[] = {
        "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"};
    static const char *const kept[] = {"Identity", "Reshape", "Transpose",
                                       "Expand",   "Squeeze", "Unsqueeze"};
    for (size_t i = 0; i < sizeof logical / sizeof *logical; i++)
        if (!strcmp(c->node->op, logical[i]))
            return ONNX_BOOL;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (!strcmp(c->node->op, kept[i]))
            return onnx_type(c, 0);
    if (!strcmp(c->node->op, "ArgMax") || !strcmp(c->node->op, "ArgMin"))
        return ONNX_INT64;
    return ONNX_FLOAT;
}

static void build_node(struct onnx_build *b, const struct onnx_node *n)
{
    struct onnx_call c = {b, n, row_find(n)};
    if (!c.row) {
        onnx_not_ours(&c, "no operator %s%s%s", n->domain, n->domain[0] ? "." : "", n->op);
        return;
    }
    struct node *x = n->n_outputs ? c.row->translate(&c) : NULL;
    if (x && n->outputs[0][0])
        value_add(b,
                  (struct onnx_value){.name = n->outputs[0], .node = x, .type = result_type(&c)});
}

static void build_leaf(struct onnx_build *b, const char *name, const struct onnx_tensor *t,
                       bool fixed)
{
    value_add(b, (struct onnx_value){name, t, fixed, NULL, t->type});
    if (b->verdict != ONNX_APPLIES || (ours(t->type) && (t->count > 0 || t->type == ONNX_INT64)))
        return;
    b->verdict = ONNX_NOT_OURS;
    snprintf(b->why, sizeof b->why, t->count ? "dtype %d is not computed in" : "empty tensors (%d)",
             t->type);
}

void onnx_build(struct onnx_build *b, const struct onnx_model *m,
                const struct onnx_tensor *const *inputs)
{
    b->opset = m->opset;
    b->verdict = ONNX_APPLIES;
    for (int i = 0; i < m->n_initializers; i++)
        build_leaf(b, m->initializers[i].name, &m->initializers[i], true);
    for (int i = 0; i < m->n_inputs; i++)
        build_leaf(b, m->inputs[i].name, inputs[i], false);
    for (int i = 0; i < m->n_nodes && b->verdict == ONNX_APPLIES; i++)
        build_node(b, &m->nodes[i]);
}
