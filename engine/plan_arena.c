/* plan_arena.c: where in the arena each buffer lies. Two may share bytes when their lives do not
 * meet; the largest come first, each at the lowest offset where it fits. */
#include "plan.h"

#include <stdlib.h>

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

static int slot_sizes(struct plan *p, struct error *e)
{
    size_t sum = 0;
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

int plan_arena(struct plan *p, struct error *e)
{
    const size_t n = (size_t)p->n_slots + 1;
    struct slot **order = arena_array(p->graph->arena, n, sizeof(struct slot *));
    struct slot **placed = arena_array(p->graph->arena, n, sizeof(struct slot *));
    if (!order || !placed)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    if (slot_sizes(p, e))
        return -1;
    assign_offsets(p, order, placed);
    return 0;
}
