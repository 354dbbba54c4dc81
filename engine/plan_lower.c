/* plan_lower.c: from the graph that was described to the graph that is executed.
 *
 * Only nodes that an output, the loss or a wanted gradient needs are copied. On the way each
 * rank-4 value gets a layout: operators flagged OP_LAYOUT_LAST take and give channels-last;
 * OP_LAYOUT_SAME and OP_LAYOUT_ALIKE go along with their inputs; all others take and give the plain
 * layout. A change of layout becomes a node of its own, once for each value, so that forward and
 * backward need to know nothing of it. Inputs, outputs and parameters are always plain. */
#include "plan.h"

#include <string.h>

/* For each node of the source: is it needed, and what stands for it. */
struct lowering {
    struct plan *plan;
    bool *needed;
    bool *plain; /* its gradient is asked for: all that take it do so through the plain layout */
    struct node **copy;  /* as its operator left it */
    struct node **other; /* in the other layout, made when first asked for */
};

static void mark_needed(struct lowering *l, const struct graph *g, const struct plan_spec *spec)
{
    for (int i = 0; i < spec->n_outputs; i++)
        l->needed[spec->outputs[i]->id] = true;
    for (int i = 0; i < spec->n_wrt; i++)
        l->needed[spec->wrt[i]->id] = l->plain[spec->wrt[i]->id] = true;
    if (spec->loss)
        l->needed[spec->loss->id] = true;
    for (int i = g->n_nodes - 1; i >= 0; i--)
        for (int j = 0; l->needed[i] && j < g->nodes[i]->n_in; j++)
            if (g->nodes[i]->in[j])
                l->needed[g->nodes[i]->in[j]->id] = true;
}

static enum layout current_layout(const struct lowering *l, const struct node *source)
{
    return l->copy[source->id]->layout;
}

/* The layout in which `n`'s inputs of rank 4 are wanted. */
static enum layout wanted_layout(const struct lowering *l, const struct node *n)
{
    if (n->op->flags & OP_LAYOUT_LAST)
        return LAYOUT_LAST;
    if (!(n->op->flags & (OP_LAYOUT_SAME | OP_LAYOUT_ALIKE)) || n->shape.rank != 4)
        return LAYOUT_PLAIN;
    bool any_last = false;
    for (int i = 0; i < n->n_data; i++) {
        if ((n->op->flags & OP_LAYOUT_SAME) && !shape_equal(&n->in[i]->shape, &n->shape))
            return LAYOUT_PLAIN;
        any_last |= current_layout(l, n->in[i]) == LAYOUT_LAST;
    }
    return any_last ? LAYOUT_LAST : LAYOUT_PLAIN;
}

/* The lowered value of a source node in this layout, for a reader of this block. NULL: out of
 * memory. */
static struct node *value_in_layout(struct lowering *l, const struct node *source,
                                    enum layout layout, int block)
{
    struct node *n = l->copy[source->id];
    if (n->shape.rank != 4 || n->layout == layout)
        return n;
    if (!l->other[source->id]) {
        const int64_t *d = n->shape.dim;
        bool same_order = d[1] == 1 || d[2] * d[3] == 1;
        const char *op = same_order              ? "relabel"
                         : layout == LAYOUT_LAST ? "to_channels_last"
                                                 : "to_channels_first";
        struct node *change = graph_add_internal(l->plan->graph, op, n);
        if (change) {
            change->layout = layout;
            change->block = block;
        }
        l->other[source->id] = change;
    }
    return l->other[source->id];
}

/* Parameters are always plain; data inputs come as the operator wants them. */
static int copy_node(struct lowering *l, const struct node *n)
{
    struct node *in[n->n_in + 1];
    enum layout layout = wanted_layout(l, n);
    for (int i = 0; i < n->n_in; i++) {
        enum layout wanted = i < n->n_data ? layout : LAYOUT_PLAIN;
        in[i] = n->in[i] ? value_in_layout(l, n->in[i], wanted, n->block) : NULL;
        if (n->in[i] && !in[i])
            return -1;
    }
    struct node *copy = graph_copy_node(l->plan->graph, n, in);
    if (!copy)
        return -1;
    copy->layout = n->shape.rank == 4 && !(n->op->flags & OP_LEAF) ? layout : LAYOUT_PLAIN;
    l->copy[n->id] = copy;
    if (l->plain[n->id]) {
        l->copy[n->id] = value_in_layout(l, n, LAYOUT_PLAIN, n->block);
        l->other[n->id] = NULL; /* made again from the plain one when it is asked for */
    }
    return l->copy[n->id] ? 0 : -1;
}

static int keep_outputs(struct lowering *l, const struct plan_spec *spec)
{
    struct plan *p = l->plan;
    p->outputs = arena_array(p->graph->arena, (size_t)spec->n_outputs + 1, sizeof *p->outputs);
    p->wrt = arena_array(p->graph->arena, (size_t)spec->n_wrt + 1, sizeof *p->wrt);
    if (!p->outputs || !p->wrt)
        return -1;
    for (p->n_outputs = 0; p->n_outputs < spec->n_outputs; p->n_outputs++) {
        struct node *out = value_in_layout(l, spec->outputs[p->n_outputs], LAYOUT_PLAIN, 0);
        if (!out)
            return -1;
        p->outputs[p->n_outputs] = out;
    }
    for (p->n_wrt = 0; p->n_wrt < spec->n_wrt; p->n_wrt++)
        p->wrt[p->n_wrt] = l->copy[spec->wrt[p->n_wrt]->id];
    p->loss = spec->loss ? l->copy[spec->loss->id] : NULL;
    return 0;
}

int plan_lower(struct plan *p, const struct graph *g, const struct plan_spec *spec, struct error *e)
{
    size_t n = (size_t)g->n_nodes;
    struct arena *scratch = arena_create(n * 32);
    struct lowering l = {.plan = p};
    int status = -1;
    if (scratch) {
        l.needed = arena_array(scratch, n, sizeof *l.needed);
        l.plain = arena_array(scratch, n, sizeof *l.plain);
        l.copy = arena_array(scratch, n, sizeof *l.copy);
        l.other = arena_array(scratch, n, sizeof *l.other);
    }
    if (l.needed && l.plain && l.copy && l.other) {
        mark_needed(&l, g, spec);
        status = 0;
        for (size_t i = 0; i < n && !status; i++)
            if (l.needed[i])
                status = copy_node(&l, g->nodes[i]);
        if (!status)
            status = keep_outputs(&l, spec);
    }
    arena_destroy(&scratch);
    if (status)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    return 0;
}
