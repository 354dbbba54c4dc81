/* plan_place.c: when each buffer of a plan is alive; plan_arena.c says where in the arena it lies.
 *
 * A value lives from its forward to its last reader: a later forward, or the backward of an
 * operator that keeps its inputs or its output. What is computed again (plan_recompute.c) has two
 * lives, each with a buffer of its own: one that ends with the last forward that reads it, and one
 * from the second forward on. A gradient lives from the first backward that writes it to the
 * backward of the node itself.
 *
 * Backward writes, never adds. The consumer of a value that comes last in the graph is the first in
 * backward and writes the gradient itself; every other one writes a temporary, which the run adds
 * afterwards. The order is fixed, so the sum is the same bits each time. */
#include "plan.h"

#include <string.h>

enum { FOREVER = 1 << 30 };
static const int64_t SCRATCH_LIMIT = (int64_t)1 << 40; /* elements, of one thread */

struct placing {
    struct plan *p;
    int *contributions; /* backward writes to each node's gradient */
    int n;
    bool failed; /* out of memory */
    bool scratch_limit_passed;
};

static const struct node *node_at(const struct placing *pl, int id)
{
    return pl->p->graph->nodes[id];
}

static bool is_leaf(const struct node *n)
{
    return n->op->flags & OP_LEAF;
}

static int slot_add(struct placing *pl, struct extent size, size_t elem, int start, int end)
{
    struct plan *p = pl->p;
    if (p->n_slots == p->cap_slots) {
        int cap = p->cap_slots ? 2 * p->cap_slots : 64;
        struct slot *more = arena_array(p->graph->arena, (size_t)cap, sizeof *more);
        if (!more) {
            pl->failed = true;
            return SLOT_NONE;
        }
        if (p->n_slots)
            memcpy(more, p->slots, (size_t)p->n_slots * sizeof *more);
        p->slots = more;
        p->cap_slots = cap;
    }
    p->slots[p->n_slots] = (struct slot){size, elem, start, end, 0, 0};
    return p->n_slots++;
}

static void slot_extend(struct placing *pl, int slot, int time)
{
    if (slot >= 0 && pl->p->slots[slot].end < time)
        pl->p->slots[slot].end = time;
}

/* ---- which gradients ------------------------------------------------------------------------- */

static bool in_wrt(const struct plan *p, const struct node *n)
{
    for (int i = 0; i < p->n_wrt; i++)
        if (p->wrt[i] == n)
            return true;
    return false;
}

/* A gradient is wanted where a wanted leaf or node is behind the node, or is the node, and the loss
 * before it. */
static void find_wanted(struct placing *pl, bool *reaches)
{
    struct plan *p = pl->p;
    for (int i = 0; i < pl->n; i++) {
        const struct node *n = node_at(pl, i);
        bool wanted = in_wrt(p, n) || (is_leaf(n) && p->params_wrt && n->param &&
                                       !n->param->buffer && !n->param->frozen);
        for (int j = 0; n->op->backward && j < n->n_in; j++)
            wanted |= n->in[j] && p->wanted[n->in[j]->id];
        p->wanted[i] = wanted;
    }
    reaches[p->loss->id] = true;
    for (int i = pl->n - 1; i >= 0; i--) {
        const struct node *n = node_at(pl, i);
        p->wanted[i] &= reaches[i];
        for (int j = 0; p->wanted[i] && j < n->n_in; j++)
            if (n->in[j] && p->wanted[n->in[j]->id]) {
                reaches[n->in[j]->id] = true;
                pl->contributions[n->in[j]->id]++;
            }
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

static void find_roots(struct plan *p)
{
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *n = p->graph->nodes[i];
        const bool view = (n->op->flags & OP_VIEW) && n->dtype == n->in[0]->dtype;
        p->root[i] = view ? p->root[n->in[0]->id] : i;
    }
}

static void place_value(struct placing *pl, const struct node *n)
{
    struct plan *p = pl->p;
    const int i = n->id, root = p->root[i];
    if (is_leaf(n))
        p->value[i] = SLOT_OUTSIDE;
    else if (root != i)
        p->value[i] = p->value[root];
    else
        p->value[i] = slot_add(pl, n->size, dtype_size(n->dtype), i, i);
    p->value_again[i] = p->value[i];
    if (root != i)
        p->value_again[i] = p->value_again[root];
    else if (p->again[i] && p->held[i]) /* writes the same numbers to where they are */
        slot_extend(pl, p->value[i], p->time_again[i]);
    else if (p->again[i])
        p->value_again[i] =
            slot_add(pl, n->size, dtype_size(n->dtype), p->time_again[i], p->time_again[i]);
}

/* What the node's passes read lives until then. */
static void extend_reads(struct placing *pl, const struct node *n)
{
    struct plan *p = pl->p;
    const int i = n->id;
    for (int j = 0; j < n->n_in; j++) {
        if (!n->in[j])
            continue;
        const int in = n->in[j]->id;
        slot_extend(pl, p->value[in], i);
        if (p->again[i])
            slot_extend(pl, p->value_again[in], p->time_again[i]);
        if (p->wanted[i] && (n->op->flags & OP_KEEPS_IN))
            slot_extend(pl, p->value_again[in], p->time_back[i]);
    }
    if (p->wanted[i] && (n->op->flags & OP_KEEPS_OUT))
        slot_extend(pl, p->value_again[i], p->time_back[i]);
}

static void place_values(struct placing *pl)
{
    struct plan *p = pl->p;
    for (int i = 0; i < pl->n; i++) {
        place_value(pl, node_at(pl, i));
        extend_reads(pl, node_at(pl, i));
    }
    for (int i = 0; i < p->n_outputs; i++)
        slot_extend(pl, p->value[p->outputs[i]->id], FOREVER);
    if (p->loss)
        slot_extend(pl, p->value[p->loss->id], FOREVER);
}

/* FNV-1a of 64-bit words. */
static uint64_t digest_add(uint64_t digest, uint64_t word)
{
    return (digest ^ word) * 0x100000001b3;
}

/* Parameters that are computed by the graph may be others in each run. */
static bool params_are_leaves(const struct node *n)
{
    for (int i = n->n_data; i < n->n_in; i++)
        if (n->in[i] && !n->in[i]->param)
            return false;
    return true;
}

/* The digest is of what the numbers are made of and of their count: equal digests, equal blocks. */
static void place_prepared(struct placing *pl, const struct node *n)
{
    struct plan *p = pl->p;
    p->prepared[n->id] = -1;
    if (n->prepared == 0 || !p->graph->invariant || !params_are_leaves(n))
        return;
    p->prepared[n->id] = p->prepared_count;
    p->prepared_count += (n->prepared + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
    p->prepared_layout = digest_add(p->prepared_layout, (uint64_t)n->prepared);
    for (int i = n->n_data; i < n->n_in; i++)
        if (n->in[i])
            p->prepared_layout = digest_add(p->prepared_layout, n->in[i]->param->offset + 1);
}

/* What the operators say that they need, which depends on shapes alone. */
static void ask_memory(const struct plan *p)
{
    for (int i = 0; i < p->n_nodes; i++) {
        struct node *n = p->graph->nodes[i];
        n->saved = n->work = n->work_backward = (struct extent){0, 0};
        n->scratch = n->prepared = 0;
        if (n->op->memory)
            n->op->memory(n);
    }
}

static bool is_empty(struct extent x)
{
    return !x.sample && !x.fixed;
}

static void place_saved(struct placing *pl, const struct node *n)
{
    struct plan *p = pl->p;
    const int i = n->id, end = p->wanted[i] ? p->time_back[i] : i;
    if (is_empty(n->saved))
        return;
    const bool twice = p->again[i] && !(n->op->flags & OP_STATISTICS_ONCE);
    p->saved[i] = p->saved_again[i] = slot_add(pl, n->saved, sizeof(real), i, twice ? i : end);
    if (twice)
        p->saved_again[i] = slot_add(pl, n->saved, sizeof(real), p->time_again[i], end);
}

static void place_work(struct placing *pl, const struct node *n)
{
    struct plan *p = pl->p;
    const int i = n->id, again = p->time_again[i], back = p->time_back[i];
    const struct extent backward = is_empty(n->work_backward) ? n->work : n->work_backward;
    if (!is_empty(n->work)) {
        p->work_forward[i] = slot_add(pl, n->work, sizeof(real), i, i);
        if (p->again[i])
            p->work_again[i] = slot_add(pl, n->work, sizeof(real), again, again);
    }
    if (p->wanted[i] && !is_empty(backward))
        p->work_backward[i] = slot_add(pl, backward, sizeof(real), back, back);
}

static void place_memory(struct placing *pl)
{
    struct plan *p = pl->p;
    for (int i = 0; i < pl->n; i++) {
        const struct node *n = node_at(pl, i);
        place_saved(pl, n);
        place_work(pl, n);
        place_prepared(pl, n);
        pl->scratch_limit_passed |= n->scratch > SCRATCH_LIMIT;
        size_t scratch = (size_t)n->scratch * sizeof(real);
        scratch = (scratch + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
        if (scratch > p->scratch_bytes)
            p->scratch_bytes = scratch;
    }
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* The first write to the gradient of x, by the backward of node i: where it goes. A view that is
 * the only consumer hands on its own gradient. */
static int first_write(struct placing *pl, int i, int x)
{
    struct plan *p = pl->p;
    const struct node *target = node_at(pl, x);
    if (is_leaf(target) && target->param)
        return SLOT_OUTSIDE;
    if (p->root[i] != i && pl->contributions[x] == 1 && !is_leaf(target)) {
        p->skip_backward[i] = true;
        slot_extend(pl, p->grad[i], p->time_back[x]);
        return p->grad[i];
    }
    int end = is_leaf(target) ? FOREVER : p->time_back[x];
    return slot_add(pl, target->size, sizeof(real), p->time_back[i], end);
}

/* Where the backward of node i writes the gradient of its input x. */
static int place_write(struct placing *pl, int i, int x)
{
    struct plan *p = pl->p;
    if (p->grad[x] == SLOT_NONE)
        return p->grad[x] = first_write(pl, i, x);
    int back = p->time_back[i];
    int slot = slot_add(pl, node_at(pl, x)->size, sizeof(real), back, back);
    p->sums[p->n_sums++] = (struct sum){i, x, slot};
    return slot;
}

static void place_gradients(struct placing *pl)
{
    struct plan *p = pl->p;
    int loss = p->loss->id;
    if (p->wanted[loss])
        p->grad[loss] = slot_add(pl, node_at(pl, loss)->size, sizeof(real), p->time_back[loss],
                                 is_leaf(p->loss) ? FOREVER : p->time_back[loss]);
    for (int i = pl->n - 1; i >= 0; i--) {
        const struct node *n = node_at(pl, i);
        bool writes = false;
        for (int j = 0; p->wanted[i] && j < n->n_in; j++)
            if (n->in[j] && p->wanted[n->in[j]->id]) {
                p->grad_in[p->first_in[i] + j] = place_write(pl, i, n->in[j]->id);
                writes = true;
            }
        p->skip_backward[i] |= !writes;
    }
    for (int i = 0; i < p->n_wrt; i++) {
        int *grad = &p->grad[p->wrt[i]->id];
        if (*grad == SLOT_NONE) /* the loss does not depend on it: a slot for its zeros */
            *grad = slot_add(pl, p->wrt[i]->size, sizeof(real), pl->n, FOREVER);
        slot_extend(pl, *grad, FOREVER); /* to be read after the run */
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int *int_array(struct placing *pl, int count, int value)
{
    int *a = arena_array(pl->p->graph->arena, (size_t)count + 1, sizeof *a);
    pl->failed |= !a;
    for (int i = 0; a && i < count; i++)
        a[i] = value;
    return a;
}

static bool *bool_array(struct placing *pl, int count)
{
    bool *a = arena_array(pl->p->graph->arena, (size_t)count + 1, sizeof *a);
    pl->failed |= !a;
    return a;
}

static bool make_arrays(struct placing *pl)
{
    struct plan *p = pl->p;
    p->first_in = int_array(pl, pl->n, 0);
    for (int i = 0; p->first_in && i < pl->n; i++) {
        p->first_in[i] = p->n_in;
        p->n_in += node_at(pl, i)->n_in;
    }
    p->root = int_array(pl, pl->n, 0);
    p->value = int_array(pl, pl->n, SLOT_NONE);
    p->grad = int_array(pl, pl->n, SLOT_NONE);
    p->grad_in = int_array(pl, p->n_in, SLOT_NONE);
    p->saved = int_array(pl, pl->n, SLOT_NONE);
    p->work_forward = int_array(pl, pl->n, SLOT_NONE);
    p->work_backward = int_array(pl, pl->n, SLOT_NONE);
    p->value_again = int_array(pl, pl->n, SLOT_NONE);
    p->saved_again = int_array(pl, pl->n, SLOT_NONE);
    p->work_again = int_array(pl, pl->n, SLOT_NONE);
    p->prepared = arena_array(p->graph->arena, (size_t)pl->n + 1, sizeof *p->prepared);
    pl->failed |= !p->prepared;
    p->prepared_layout = 0xcbf29ce484222325;
    p->wanted = bool_array(pl, pl->n);
    p->skip_backward = bool_array(pl, pl->n);
    p->sums = arena_array(p->graph->arena, (size_t)p->n_in + 1, sizeof *p->sums);
    pl->contributions = int_array(pl, pl->n, 0);
    p->param_written = bool_array(pl, p->source->n_params);
    return !pl->failed && p->sums;
}

static void note_written_params(struct placing *pl)
{
    for (int i = 0; i < pl->n; i++)
        if (pl->p->grad[i] == SLOT_OUTSIDE)
            pl->p->param_written[node_at(pl, i)->param - pl->p->source->params] = true;
}

int plan_place(struct plan *p, const struct plan_spec *spec, struct error *e)
{
    struct placing pl = {.p = p, .n = p->graph->n_nodes};
    p->n_nodes = pl.n;
    p->backward = p->loss && (spec->n_wrt || spec->params_wrt);
    bool *reaches = bool_array(&pl, pl.n);
    if (!make_arrays(&pl) || !reaches)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    if (p->backward)
        find_wanted(&pl, reaches);
    find_roots(p);
    ask_memory(p);
    if (plan_recompute(p, e))
        return -1;
    place_values(&pl);
    place_memory(&pl);
    if (p->backward)
        place_gradients(&pl);
    note_written_params(&pl);
    if (pl.failed)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    if (pl.scratch_limit_passed)
        return error_set(e, ERROR_TOO_LARGE, "a layer needs scratch that is too large to count");
    return plan_arena(p, e);
}
