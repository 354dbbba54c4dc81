/* describe_build.c: from layers that refer to each other by name to nodes of a graph, which must
 * come after their inputs. Layers are built in the given order, so that parameters are declared in
 * it; one that takes a later layer waits until that one and what it needs are built. The search
 * keeps its own path, not the C stack: a chain may be as long as the list. */
#include "describe_parts.h"

#include <stdio.h>
#include <string.h>

enum { CYCLE_NAMES = 6 }; /* as many layers of a cycle are named in its sentence */

/* The path of the search: each layer takes the one above it. */
struct path {
    int *layer; /* places of layers */
    int *next;  /* the input that is looked at next */
    int depth;
};

static bool op_is_loss(const char *name)
{
    struct op_info info;
    return op_info_named(name, &info) && info.is_loss;
}

/* Losses need targets, which layers do not have. */
static int layer_check(struct describe *d, const struct layer *l, const char *place)
{
    if (l->node && !node_is_loss(l->node))
        return 0;
    if (l->node || op_is_loss(l->op))
        error_set(d->e, ERROR_BAD_GRAPH, "'%s' is a loss: it belongs in the field 'loss'", l->op);
    return error_prefix(d->e, "%s", place);
}

static int layer_add(struct describe *d, struct layer *l, const char *place)
{
    struct node **in = arena_array(d->scratch, (size_t)l->n_inputs, sizeof(struct node *));
    if (!in)
        return describe_no_memory(d);
    for (int k = 0; k < l->n_inputs; k++)
        in[k] = l->inputs[k] < 0 ? d->net->inputs[~l->inputs[k]] : d->layers[l->inputs[k]].node;
    l->built = true;
    l->node = graph_add(d->net->graph, l->op, l->name, in, l->n_inputs, l->attrs, l->n_attrs, d->e);
    if (l->node)
        node_set_block(l->node, l->block);
    return layer_check(d, l, place) || describe_init(d, l, place) ? -1 : 0;
}

/* The path from its top down to `first` goes the way the numbers flow. */
static int cycle_error(struct describe *d, const struct path *path, int first)
{
    char names[400];
    int n = snprintf(names, sizeof names, "'%.48s'", d->layers[first].name), named = 0;
    for (int k = path->depth - 1; k >= 0 && path->layer[k] != first; k--) {
        if (named++ == CYCLE_NAMES - 1) {
            snprintf(names + n, sizeof names - (size_t)n, " -> ...");
            break;
        }
        n += snprintf(names + n, sizeof names - (size_t)n, " -> '%.48s'",
                      d->layers[path->layer[k]].name);
    }
    const char *plural = named ? "s" : "";
    return error_set(d->e, ERROR_CYCLE, "layer%s %s -> '%.48s' feed%s %s", plural, names,
                     d->layers[first].name, named ? "" : "s", named ? "themselves" : "itself");
}

static int path_push(struct describe *d, struct path *path, int layer)
{
    if (d->layers[layer].entered)
        return cycle_error(d, path, layer);
    d->layers[layer].entered = true;
    path->layer[path->depth] = layer;
    path->next[path->depth++] = 0;
    return 0;
}

/* Looks at the next input of the layer on top, or builds it when all are there. */
static int path_step(struct describe *d, struct path *path)
{
    int top = path->layer[path->depth - 1];
    struct layer *l = &d->layers[top];
    if (path->next[path->depth - 1] < l->n_inputs) {
        int in = l->inputs[path->next[path->depth - 1]++];
        return in < 0 || d->layers[in].built ? 0 : path_push(d, path, in);
    }
    path->depth--;
    l->entered = false;
    struct place p = describe_place("layers[%d]", top);
    return layer_add(d, l, p.text);
}

/* Parameters are counted in elements; a block of so many bytes must still be countable. */
static int check_size(struct describe *d)
{
    size_t limit = (size_t)1 << 48;
    size_t params = graph_params_size(d->net->graph), buffers = graph_buffers_size(d->net->graph);
    if (params <= limit && buffers <= limit)
        return 0;
    return error_set(d->e, ERROR_TOO_LARGE, "layers: expected at most 2^48 parameters, found %zu",
                     params > limit ? params : buffers);
}

int describe_build(struct describe *d)
{
    struct path path = {0};
    path.layer = arena_array(d->scratch, (size_t)d->n_layers, sizeof *path.layer);
    path.next = arena_array(d->scratch, (size_t)d->n_layers, sizeof *path.next);
    if (!path.layer || !path.next)
        return describe_no_memory(d);
    for (int i = 0; i < d->n_layers; i++) {
        if (!d->layers[i].built && path_push(d, &path, i))
            return -1;
        while (path.depth)
            if (path_step(d, &path))
                return -1;
    }
    return check_size(d);
}
