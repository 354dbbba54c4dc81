/* plan.c: compiling a graph for one purpose. First lowered (plan_lower.c), then fused
 * (plan_fuse.c, plan_epilogue.c), then placed (plan_place.c, plan_recompute.c, plan_arena.c); what
 * is left is read-only and may be run by many threads, each with its own run.
 */
#include "plan.h"
#include "epilogue.h"

static int check_spec(const struct plan_spec *spec, struct error *e)
{
    if (spec->capacity < 1)
        return error_set(e, ERROR_EMPTY_BATCH, "a batch must hold at least one example");
    if (!spec->loss && (spec->n_wrt || spec->params_wrt))
        return error_set(e, ERROR_BAD_GRAPH, "there is no loss to take gradients of");
    if (spec->loss && spec->loss->size.sample + spec->loss->size.fixed != 1) {
        struct shape_text text;
        return error_set(e, ERROR_BAD_SHAPE,
                         "gradients are those of one number; this has the shape %s: "
                         "take its sum or mean",
                         shape_print(&spec->loss->shape, &text));
    }
    if (spec->loss && shape_batched(&spec->loss->shape))
        return error_set(e, ERROR_BAD_SHAPE, "the loss is one number a batch, not one an example");
    for (int i = 0; i < spec->n_wrt; i++)
        if (spec->wrt[i]->dtype != DTYPE_REAL)
            return error_set(e, ERROR_BAD_GRAPH, "no gradient exists for '%s'", spec->wrt[i]->name);
    return 0;
}

struct plan *plan_create(const struct graph *g, const struct plan_spec *spec, struct error *e)
{
    if (check_spec(spec, e))
        return NULL;
    struct graph *lowered = graph_create(e);
    if (!lowered)
        return NULL;
    lowered->invariant = !spec->training && !(spec->loss && (spec->n_wrt || spec->params_wrt));
    lowered->most = spec->capacity;
    struct plan *p = arena_alloc(lowered->arena, sizeof *p);
    if (!p) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
        graph_destroy(&lowered);
        return NULL;
    }
    *p = (struct plan){.graph = lowered,
                       .source = g,
                       .capacity = spec->capacity,
                       .threads = spec->threads < 1 ? 1 : spec->threads,
                       .training = spec->training,
                       .params_wrt = spec->params_wrt,
                       .fence = spec->fence};
    if (plan_lower(p, g, spec, e) || (!spec->unfused && plan_fuse(p, e)) ||
        plan_place(p, spec, e) || plan_cost(p, e))
        plan_destroy(&p);
    return p;
}

void plan_destroy(struct plan **p)
{
    if (!*p)
        return;
    struct graph *lowered = (*p)->graph; /* the plan lies in its arena */
    *p = NULL;
    graph_destroy(&lowered);
}

size_t plan_arena_bytes(const struct plan *p)
{
    size_t pointers = (size_t)(4 * p->n_nodes + p->n_in) * sizeof(void *);
    return p->arena_bytes + (size_t)p->threads * p->scratch_bytes + pointers;
}

int64_t plan_capacity(const struct plan *p)
{
    return p->capacity;
}

/* ---- looking at it --------------------------------------------------------------------------- */

static size_t slot_bytes(const struct plan *p, int slot)
{
    return slot < 0 ? 0 : p->slots[slot].bytes;
}

bool plan_step_at(const struct plan *p, int i, struct plan_step *step_r)
{
    for (int id = 0; id < p->n_nodes; id++) {
        const struct node *n = p->graph->nodes[id];
        if ((n->op->flags & OP_LEAF) || i-- > 0)
            continue;
        const size_t forward = slot_bytes(p, p->work_forward[id]);
        const size_t backward = slot_bytes(p, p->work_backward[id]);
        *step_r =
            (struct plan_step){.name = n->name,
                               .op = n->fused ? n->fused->text : n->op->name,
                               .algorithm = n->algorithm,
                               .value_bytes = p->root[id] == id ? slot_bytes(p, p->value[id]) : 0,
                               .saved_bytes = slot_bytes(p, p->saved[id]),
                               .work_bytes = forward > backward ? forward : backward,
                               .again = p->again[id]};
        if (p->prepared[id] >= 0)
            step_r->prepared_bytes = (size_t)n->prepared * sizeof(real);
        return true;
    }
    return false;
}
