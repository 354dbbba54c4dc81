/* graph.c: building graphs. graph_add is the one builder for all operators: it finds the row,
 * parses the attributes, lets the row check shapes and declare parameters, and appends the node. A
 * node's inputs are there before it, so a graph cannot have a cycle and its order is a valid one to
 * run. */
#include "graph.h"

#include <string.h>

struct graph *graph_create(struct error *e)
{
    struct arena *a = arena_create(4096);
    struct graph *g = a ? arena_alloc(a, sizeof *g) : NULL;
    if (g) {
        g->arena = a;
        return g;
    }
    if (a)
        arena_destroy(&a);
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a graph");
    return NULL;
}

void graph_destroy(struct graph **g)
{
    if (!*g)
        return;
    struct arena *a = (*g)->arena; /* the graph itself lies in it */
    arena_destroy(&a);
    *g = NULL;
}

/* Room for one more of `size` bytes in an array of the graph's: a grown copy in its arena. */
static void *grow(struct graph *g, void *array, int count, int *cap, size_t size)
{
    if (count < *cap)
        return array;
    int want = *cap ? 2 * *cap : 16;
    void *more = arena_array(g->arena, (size_t)want, size);
    if (more && count)
        memcpy(more, array, (size_t)count * size);
    if (more)
        *cap = want;
    return more;
}

static int graph_append(struct graph *g, struct node *n)
{
    struct node **nodes = grow(g, g->nodes, g->n_nodes, &g->cap_nodes, sizeof *nodes);
    if (!nodes)
        return -1;
    g->nodes = nodes;
    n->id = g->n_nodes;
    n->graph = g;
    g->nodes[g->n_nodes++] = n;
    return 0;
}

static struct node *node_create(struct graph *g, const struct op *op, int n_in)
{
    struct node *n = arena_alloc(g->arena, sizeof *n);
    struct node **in = arena_array(g->arena, (size_t)n_in + 1, sizeof *in);
    if (!n || !in)
        return NULL;
    n->op = op;
    n->name = "";
    n->what = op->name;
    n->graph = g;
    n->n_in = n_in;
    n->in = in;
    n->input = -1;
    return n;
}

int node_set_shape(struct node *n, const struct shape *s, struct error *e)
{
    int64_t count;
    struct shape_text text;
    if (!shape_count(s, 1, &count))
        return error_set(e, ERROR_TOO_LARGE, "%s: its result %s has too many elements", n->what,
                         shape_print(s, &text));
    if (count == 0)
        return error_set(e, ERROR_BAD_SHAPE, "%s: its shape %s holds no number", n->what,
                         shape_print(s, &text));
    n->shape = *s;
    n->size = shape_batched(s) ? (struct extent){count, 0} : (struct extent){0, count};
    return 0;
}

static struct node *out_of_memory(struct error *e)
{
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a graph");
    return NULL;
}

/* A leaf with no inputs, appended. */
static struct node *leaf_add(struct graph *g, const char *op, const char *name,
                             const struct shape *shape, struct error *e)
{
    struct node *n = node_create(g, op_find(op), 0);
    if (!n || !(n->name = arena_strdup(g->arena, name)))
        return out_of_memory(e);
    n->what = n->name[0] ? n->name : op;
    if (node_set_shape(n, shape, e))
        return NULL;
    if (graph_append(g, n))
        return out_of_memory(e);
    n->key = n->id;
    return n;
}

struct node *graph_input(struct graph *g, const char *name, enum dtype dtype,
                         const struct shape *shape, struct error *e)
{
    struct node *n = leaf_add(g, "input", name, shape, e);
    if (!n)
        return NULL;
    n->dtype = dtype;
    n->input = g->n_inputs++;
    return n;
}

struct node *graph_constant(struct graph *g, const struct shape *shape, const real *data,
                            struct error *e)
{
    struct node *n = leaf_add(g, "constant", "", shape, e);
    if (!n)
        return NULL;
    real *copy = arena_array(g->arena, (size_t)n->size.fixed + 1, sizeof *copy);
    if (!copy)
        return out_of_memory(e);
    memcpy(copy, data, (size_t)n->size.fixed * sizeof *copy);
    n->data = copy;
    return n;
}

/* ---- parameters ------------------------------------------------------------------------------ */

struct node *node_param_in(const struct node *n, int k)
{
    return n->n_data + k < n->n_in ? n->in[n->n_data + k] : NULL;
}

static int param_register(struct node *leaf, const struct param_def *def, int64_t fan_in,
                          int64_t fan_out, struct error *e)
{
    struct graph *g = leaf->graph;
    struct param *params = grow(g, g->params, g->n_params, &g->cap_params, sizeof *params);
    if (!params)
        return out_of_memory(e), -1;
    if (params != g->params) /* leaves point into the array */
        for (int i = 0; i < g->n_params; i++)
            params[i].leaf->param = &params[i];
    g->params = params;
    size_t *size = def->buffer ? &g->buffers_size : &g->params_size;
    struct param *p = &params[g->n_params++];
    *p = (struct param){.name = leaf->name,
                        .shape = leaf->shape,
                        .offset = *size,
                        .count = (size_t)leaf->size.fixed,
                        .buffer = def->buffer,
                        .init = init_find(def->init),
                        .fan_in = fan_in,
                        .fan_out = fan_out,
                        .leaf = leaf};
    *size += p->count;
    leaf->param = p;
    return 0;
}

int node_param(struct node *n, int k, const struct shape *shape, int64_t fan_in, int64_t fan_out,
               struct error *e)
{
    const struct param_def *def = op_param_def(n->op, k);
    struct node **slot = &n->in[n->n_data + k];
    if (*slot) {
        struct shape_text want, got;
        if ((*slot)->dtype == DTYPE_REAL && shape_equal(&(*slot)->shape, shape))
            return 0;
        return error_set(e, ERROR_BAD_SHAPE, "%s: its %s must have the shape %s, not %s", n->what,
                         def->name, shape_print(shape, &want), shape_print(&(*slot)->shape, &got));
    }
    struct graph *g = n->graph;
    char *name = arena_printf(g->arena, "%s%s%s", n->name, n->name[0] ? "." : "", def->name);
    if (!name)
        return out_of_memory(e), -1;
    struct node *leaf = leaf_add(g, def->buffer ? "buffer" : "parameter", name, shape, e);
    if (!leaf)
        return -1;
    *slot = leaf;
    return param_register(leaf, def, fan_in, fan_out, e);
}

/* ---- checks for row.shape -------------------------------------------------------------------- */

int node_check_rank(const struct node *n, int i, int min, int max, struct error *e)
{
    const struct node *in = n->in[i];
    struct shape_text text;
    if (in->dtype != DTYPE_REAL)
        return error_set(e, ERROR_BAD_DTYPE, "%s: input %d must be floating point, not INT64",
                         n->what, i);
    if (in->shape.rank >= min && in->shape.rank <= max)
        return 0;
    if (min == max)
        return error_set(e, ERROR_BAD_SHAPE, "%s: expects an input of rank %d, found %s", n->what,
                         min, shape_print(&in->shape, &text));
    return error_set(e, ERROR_BAD_SHAPE, "%s: expects an input of rank %d to %d, found %s", n->what,
                     min, max, shape_print(&in->shape, &text));
}

int node_wrap_dim(const struct node *n, int64_t dim, int rank, int *dim_r, struct error *e)
{
    if (dim < -rank || dim >= rank)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: dimension %lld is out of range for an input of rank %d", n->what,
                         (long long)dim, rank);
    *dim_r = (int)(dim < 0 ? dim + rank : dim);
    return 0;
}

/* ---- the builder ----------------------------------------------------------------------------- */

static int param_def_count(const struct op *op)
{
    int k = 0;
    while (op_param_def(op, k))
        k++;
    return k;
}

static int check_arity(const struct node *n, const struct op *op, int n_inputs, struct error *e)
{
    int params = param_def_count(op);
    if (n_inputs >= op->min_in && (op->max_in < 0 || n_inputs <= op->max_in + params))
        return 0;
    if (op->max_in < 0)
        return error_set(e, ERROR_BAD_GRAPH, "%s: expects at least %d inputs, found %d", n->what,
                         op->min_in, n_inputs);
    if (op->min_in == op->max_in)
        return error_set(e, ERROR_BAD_GRAPH, "%s: expects %d input%s, found %d", n->what,
                         op->min_in, op->min_in == 1 ? "" : "s", n_inputs);
    return error_set(e, ERROR_BAD_GRAPH, "%s: expects %d to %d inputs, found %d", n->what,
                     op->min_in, op->max_in, n_inputs);
}

/* A node with room for its parameters behind its data inputs. */
static struct node *node_begin(struct graph *g, const struct op *op, const char *name,
                               struct node *const *inputs, int n_inputs, struct error *e)
{
    int params = param_def_count(op);
    int n_data = op->max_in >= 0 && n_inputs > op->max_in ? op->max_in : n_inputs;
    struct node *n = node_create(g, op, n_data + params);
    if (!n)
        return out_of_memory(e);
    n->n_data = n_data;
    if (name && name[0]) {
        n->name = arena_strdup(g->arena, name);
        n->what = arena_printf(g->arena, "layer '%s' (%s)", name, op->name);
        if (!n->name || !n->what)
            return out_of_memory(e);
    }
    if (check_arity(n, op, n_inputs, e))
        return NULL;
    memcpy(n->in, inputs, (size_t)n_inputs * sizeof *inputs);
    return n;
}

/* What a client says of the first input must be so. Of an input without such a dimension the row
 * itself says what is wrong. */
static int check_facts(const struct node *n, const struct attr *attrs, int n_attrs, struct error *e)
{
    const struct shape *in = n->n_data ? &n->in[0]->shape : &(struct shape){0};
    for (const struct attr_def *d = n->op->attrs; d && d->name; d++)
        for (int i = 0; i < n_attrs && d->type == ATTR_FACT; i++) {
            const int at = d->offset == ATTR_FACT_LAST ? in->rank - 1 : (int)d->offset;
            if (strcmp(attrs[i].name, d->name) != 0 || attrs[i].kind == ATTR_IS_NULL || at < 0 ||
                at >= in->rank || in->dim[at] == BATCH || attrs[i].d == (double)in->dim[at])
                continue;
            return error_set(e, ERROR_BAD_SHAPE, "%s: %s is %.0f, but the input has %lld", n->what,
                             d->name, attrs[i].d, (long long)in->dim[at]);
        }
    return 0;
}

struct node *graph_add(struct graph *g, const char *op_name, const char *name,
                       struct node *const *inputs, int n_inputs, const struct attr *attrs,
                       int n_attrs, struct error *e)
{
    char what[96];
    strncpy(what, name && name[0] ? name : "graph", sizeof what - 1);
    what[sizeof what - 1] = 0;
    const struct op *op = op_find_public(op_name, what, e);
    struct node *n = op ? node_begin(g, op, name, inputs, n_inputs, e) : NULL;
    if (!n)
        return NULL;
    void *values = arena_alloc(g->arena, op->attrs_size + 1);
    if (!values)
        return out_of_memory(e);
    n->attrs = values;
    if (attrs_parse(op->attrs, n->what, attrs, n_attrs, g->arena, values, e) ||
        check_facts(n, attrs, n_attrs, e))
        return NULL;
    n->dtype = DTYPE_REAL;
    if (op->shape(n, e))
        return NULL;
    if (graph_append(g, n))
        return out_of_memory(e);
    n->key = n->id;
    return n;
}

/* ---- for the plan ---------------------------------------------------------------------------- */

struct node *graph_copy_node(struct graph *g, const struct node *from, struct node *const *in)
{
    struct node *n = node_create(g, from->op, from->n_in);
    if (!n)
        return NULL;
    struct node **room = n->in;
    *n = *from;
    n->in = room;
    if (from->n_in)
        memcpy(room, in, (size_t)from->n_in * sizeof *in);
    return graph_append(g, n) ? NULL : n;
}

struct node *graph_add_internal(struct graph *g, const char *op, struct node *in)
{
    struct node *n = node_create(g, op_find(op), 1);
    if (!n)
        return NULL;
    n->n_data = 1;
    n->in[0] = in;
    n->name = in->name;
    n->key = in->key;
    if (n->op->shape(n, NULL) || graph_append(g, n))
        return NULL;
    return n;
}

/* ---- looking at graphs ----------------------------------------------------------------------- */

const char *node_name(const struct node *n)
{
    return n->name;
}

const char *node_op(const struct node *n)
{
    return n->op->name;
}

const struct shape *node_shape(const struct node *n)
{
    return &n->shape;
}

enum dtype node_dtype(const struct node *n)
{
    return n->dtype;
}

double node_flops(const struct node *n)
{
    return n->op->flops ? n->op->flops(n) : 0;
}

int64_t node_param_count(const struct node *n)
{
    int64_t count = 0;
    for (int i = n->n_data; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->param && !n->in[i]->param->buffer)
            count += (int64_t)n->in[i]->param->count;
    return count;
}

int node_input_count(const struct node *n)
{
    return n->n_data;
}

struct node *node_input(const struct node *n, int i)
{
    return n->in[i];
}

bool node_is_loss(const struct node *n)
{
    return n->op->flags & OP_LOSS;
}

bool node_is_indices(const struct node *n)
{
    while (n->op->flags & OP_VIEW)
        n = n->in[0];
    return n->op->flags & OP_INDICES;
}

bool node_attr_int(const struct node *n, const char *name, int64_t *value_r)
{
    for (const struct attr_def *d = n->op->attrs; d && d->name; d++)
        if ((d->type == ATTR_INT || d->type == ATTR_BOOL) && strcmp(d->name, name) == 0) {
            const char *at = (const char *)n->attrs + d->offset;
            *value_r = d->type == ATTR_INT ? *(const int64_t *)(const void *)at
                                           : *(const bool *)(const void *)at;
            return true;
        }
    return false;
}

/* The shape rules of the operators see to it that dimension 0 stays the batch or goes. */
static bool loses_batch(const struct node *n)
{
    for (int i = 0; i < n->n_data; i++)
        if (shape_batched(&n->in[i]->shape))
            return !shape_batched(&n->shape);
    return false;
}

bool node_mixes_samples(const struct node *n, bool training)
{
    if (loses_batch(n))
        return true;
    if (!(n->op->flags & OP_BATCH_STATISTICS))
        return false;
    for (int i = n->n_data; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->param && n->in[i]->param->buffer)
            return training;
    return true;
}

int64_t graph_param_untrained_row(const struct graph *g, int i)
{
    int64_t row;
    for (int k = 0; k < g->n_nodes; k++) {
        const struct node *n = g->nodes[k], *table = n->n_in > n->n_data ? n->in[n->n_data] : NULL;
        if (table && table->param == &g->params[i] && node_attr_int(n, "padding_idx", &row))
            return row;
    }
    return -1;
}

bool node_detaches(const struct node *n)
{
    return n->op->flags & OP_DETACHES;
}

void node_set_block(struct node *n, int block)
{
    n->block = block;
}

int graph_node_count(const struct graph *g)
{
    return g->n_nodes;
}

struct node *graph_node(const struct graph *g, int i)
{
    return g->nodes[i];
}

int graph_param_count(const struct graph *g)
{
    return g->n_params;
}

struct param *graph_param(const struct graph *g, int i)
{
    return &g->params[i];
}

size_t graph_params_size(const struct graph *g)
{
    return g->params_size;
}

size_t graph_buffers_size(const struct graph *g)
{
    return g->buffers_size;
}
