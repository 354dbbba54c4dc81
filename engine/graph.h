/* graph.h: a graph from the inside, for graph.c and the plan. */
#ifndef BACKPROP_GRAPH_H
#define BACKPROP_GRAPH_H

#include "op.h"

struct graph {
    struct arena *arena; /* nodes, names, attributes, constants */
    struct node **nodes; /* inputs come before their users */
    int n_nodes, cap_nodes;
    struct param *params;
    int n_params, cap_params;
    size_t params_size, buffers_size; /* elements */
    int n_inputs;
    bool invariant; /* lowered, for plans that only predict (struct run has the same flag) */
    int64_t most;   /* lowered: examples of the largest batch */
};

/* Appends a copy of `from` (of any graph) with these inputs; the copy shares attributes and
 * keeps key, shape and size. The plan's lowering is made of this. NULL: out of memory. */
struct node *graph_copy_node(struct graph *g, const struct node *from, struct node *const *in);
/* Makes a node of an internal operator with one input, e.g. a change of layout. */
struct node *graph_add_internal(struct graph *g, const char *op, struct node *in);

/* The initialiser of this name; its table is in init.c. */
const struct init_def *init_find(const char *name);

#endif
