/* plan_place.c: when each buffer of a plan is alive, and where in the arena it lies.
 *
 * A value lives from its forward to its last reader: a later forward, or the backward of an
 * operator that keeps its inputs or its output. A gradient lives from the first backward that
 * writes it to the backward of the node itself. Two buffers may share bytes when their lives do not
 * meet; the arena is filled largest buffer first, each at the lowest offset where it fits.
 *
 * Backward writes, never adds. The consumer of a value that comes last in the graph is the first in
 * backward and writes the gradient itself; every other one writes a temporary, which the run adds
 * afterwards. The order is fixed, so the sum is the same bits each time. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

enum { SLOT_ALIGN = 64, FOREVER = 1 << 30 };
static const int64_t SCRATCH_LIMIT = (int64_t)1 << 40; /* elements, of one thread */

struct placing {
    struct plan *p;
    int *contributions; /* backward writes to each node's gradient */
    int n;
    bool failed; /* out of memory */
    bool scratch_limit_passed;
};

static int time_backward(const struct placing *pl, int id)
{
    return 2 * pl->n - 1 - id;
}

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

static void place_values(struct placing *pl)
{
    struct plan *p = pl->p;
    for (int i = 0; i < pl->n; i++) {
        const struct node *n = node_at(pl, i);
        bool view = (n->op->flags & OP_VIEW) && n->dtype == n->in[0]->dtype;
        p->root[i] = view ? p->root[n->in[0]->id] : i;
        if (is_leaf(n))
            p->value[i] = SLOT_OUTSIDE;
        else if (view)
            p->value[i] = p->value[p->root[i]];
        else
            p->value[i] = slot_add(pl, n->size, dtype_size(n->dtype), i, i);
        for (int j = 0; j < n->n_in; j++) {
            if (!n->in[j])
                continue;
            bool kept = p->wanted[i] && (n->op->flags & OP_KEEPS_IN);
            slot_extend(pl, p->value[n->in[j]->id], kept ? time_backward(pl, i) : i);
        }
        if (p->wanted[i] && (n->op->flags & OP_KEEPS_OUT))
            slot_extend(pl, p->value[i], time_backward(pl, i));
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

static void place_memory(struct placing *pl)
{
    struct plan *p = pl->p;
    for (int i = 0; i < pl->n; i++) {
        struct node *n = p->graph->nodes[i];
        n->saved = n->work = n->work_backward = (struct extent){0, 0};
        n->scratch = n->prepared = 0;
        if (n->op->memory)
            n->op->memory(n);
        int back = time_backward(pl, i);
        bool backward = p->wanted[i];
        if (n->saved.sample || n->saved.fixed)
            p->saved[i] = slot_add(pl, n->saved, sizeof(real), i, backward ? back : i);
        struct extent again = n->work_backward;
        if (!again.sample && !again.fixed)
            again = n->work;
        if (n->work.sample || n->work.fixed)
            p->work_forward[i] = slot_add(pl, n->work, sizeof(real), i, i);
        if (backward && (again.sample || again.fixed))
            p->work_backward[i] = slot_add(pl, again, sizeof(real), back, back);
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
        slot_extend(pl, p->grad[i], time_backward(pl, x));
        return p->grad[i];
    }
    int end = is_leaf(target) ? FOREVER : time_backward(pl, x);
    return slot_add(pl, target->size, sizeof(real), time_backward(pl, i), end);
}

/* Where the backward of node i writes the gradient of its input x. */
static int place_write(struct placing *pl, int i, int x)
{
    struct plan *p = pl->p;
    if (p->grad[x] == SLOT_NONE)
        return p->grad[x] = first_write(pl, i, x);
    int back = time_backward(pl, i);
    int slot = slot_add(pl, node_at(pl, x)->size, sizeof(real), back, back);
    p->sums[p->n_sums++] = (struct sum){i, x, slot};
    return slot;
}

static void place_gradients(struct placing *pl)
{
    struct plan *p = pl->p;
    int loss = p->loss->id;
    if (p->wanted[loss])
        p->grad[loss] = slot_add(pl, node_at(pl, loss)->size, sizeof(real), time_backward(pl, loss),
                                 is_leaf(p->loss) ? FOREVER : time_backward(pl, loss));
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

/* ---- the arena ------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
    const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y;
}

static bool slots_meet(const struct slot *a, const struct slot *b)
{
    return a->start <= b->end && b->start <= a->end;
}

/* The lowest offset at which `s` fits between the placed slots (sorted by offset) that it meets. */
static size_t lowest_gap(struct slot *const *placed, int n, const struct slot *s)
{
    size_t offset = 0;
    for (int i = 0; i < n; i++) {
        if (!slots_meet(placed[i], s))
            continue;
        if (placed[i]->offset >= offset + s->bytes)
            break;
        size_t end = placed[i]->offset + placed[i]->bytes;
        offset = end > offset ? end : offset;
    }
    return offset;
}

static int slot_sizes(struct placing *pl, struct error *e)
{
    struct plan *p = pl->p;
    size_t sum = 0;
    if (pl->scratch_limit_passed)
        return error_set(e, ERROR_TOO_LARGE, "a layer needs scratch that is too large to count");
    for (int i = 0; i < p->n_slots; i++) {
        struct slot *s = &p->slots[i];
        size_t count, bytes;
        if (__builtin_mul_overflow((size_t)s->size.sample, (size_t)p->capacity, &count) ||
            __builtin_add_overflow(count, (size_t)s->size.fixed, &count) ||
            __builtin_mul_overflow(count, s->elem, &bytes) ||
            __builtin_add_overflow(sum, bytes, &sum) || sum > (size_t)1 << 50)
            return error_set(e, ERROR_TOO_LARGE,
                             "a batch of %lld makes buffers that are too large to count",
                             (long long)p->capacity);
        s->bytes = (bytes + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN + p->fence;
    }
    return 0;
}

/* With fences every buffer has its own place, so that a fence is never anybody's number. */
static void assign_offsets(struct plan *p, struct slot **order, struct slot **placed)
{
    for (int i = 0; i < p->n_slots; i++)
        order[i] = &p->slots[i];
    qsort(order, (size_t)p->n_slots, sizeof *order, by_bytes);
    for (int i = 0; i < p->n_slots; i++) {
        struct slot *s = order[i];
        s->offset = p->fence ? p->arena_bytes : lowest_gap(placed, i, s);
        if (p->arena_bytes < s->offset + s->bytes)
            p->arena_bytes = s->offset + s->bytes;
        int at = i;
        for (; at > 0 && placed[at - 1]->offset > s->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = s;
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
    place_values(&pl);
    place_memory(&pl);
    if (p->backward)
        place_gradients(&pl);
    note_written_params(&pl);
    struct slot **order = arena_array(p->graph->arena, (size_t)p->n_slots + 1, sizeof *order);
    struct slot **placed = arena_array(p->graph->arena, (size_t)p->n_slots + 1, sizeof *placed);
    if (pl.failed || !order || !placed)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    if (slot_sizes(&pl, e))
        return -1;
    assign_offsets(p, order, placed);
    return 0;
}
