/* prepared.c: what predictions make of a generation's parameters once and not again: weights that
 * are packed or transformed.
 *
 * A plan without backward gives each operator that wants it a place in one block (plan_place.c).
 * The block belongs to the generation whose parameters it was made of, so it can never be taken for
 * that of another. The first run that is given an empty block fills it on its way; runs that come
 * meanwhile do without. Plans of other capacities can share it: `layout` says which parameters are
 * where. */
#include "plan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { EMPTY, FILLING, READY, ALIGN = 64 };

struct prepared {
    uint64_t layout;
    size_t bytes;
    atomic_int state;
    prepared_release_fn *release;
    void *release_arg;
    real *data;
};

size_t plan_prepared_bytes(const struct plan *p)
{
    return p->prepared_count ? (size_t)p->prepared_count * sizeof(real) + sizeof(struct prepared)
                             : 0;
}

struct prepared *prepared_create(const struct plan *p, prepared_release_fn *release, void *arg)
{
    const size_t bytes = ((size_t)p->prepared_count * sizeof(real) + ALIGN - 1) / ALIGN * ALIGN;
    struct prepared *b = malloc(sizeof *b);
    real *data = bytes ? aligned_alloc(ALIGN, bytes) : NULL;
    if (!b || !data) {
        free(b);
        free(data);
        return NULL;
    }
    large_advise(data, bytes);
    *b = (struct prepared){.layout = p->prepared_layout,
                           .bytes = plan_prepared_bytes(p),
                           .release = release,
                           .release_arg = arg,
                           .data = data};
    return b;
}

void prepared_destroy(struct prepared **b)
{
    if (!*b)
        return;
    if ((*b)->release)
        (*b)->release((*b)->release_arg, (*b)->bytes);
    free((*b)->data);
    free(*b);
    *b = NULL;
}

bool prepared_ready(const struct prepared *b)
{
    return b && atomic_load_explicit(&b->state, memory_order_acquire) == READY;
}

/* ---- generations ----------------------------------------------------------------------------- */

struct prepared *generation_prepared(struct generation *g)
{
    return __atomic_load_n(&g->prepared, __ATOMIC_ACQUIRE);
}

void generation_prepare(struct generation *g, struct prepared **b)
{
    struct prepared *none = NULL;
    if (__atomic_compare_exchange_n(&g->prepared, &none, *b, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        *b = NULL;
    else
        prepared_destroy(b);
}

void generation_forget(struct generation *g)
{
    prepared_destroy(&g->prepared);
    g->predictions = 0;
}

/* ---- runs ------------------------------------------------------------------------------------ */

void run_prepared_begin(struct run *r)
{
    struct prepared *b = r->args.prepared;
    int empty = EMPTY;
    r->prepared = NULL;
    r->prepares = false;
    if (!b || b->layout != r->plan->prepared_layout || !r->plan->prepared_count)
        return;
    r->prepares = atomic_compare_exchange_strong(&b->state, &empty, FILLING);
    if (r->prepares || prepared_ready(b))
        r->prepared = b->data;
}

void run_prepared_end(struct run *r, bool filled)
{
    if (r->prepares)
        atomic_store_explicit(&r->args.prepared->state, filled ? READY : EMPTY,
                              memory_order_release);
    r->prepares = false;
}

real *run_prepared(const struct run *r, const struct node *n)
{
    const int64_t at = r->prepared ? r->plan->prepared[n->id] : -1;
    return at < 0 ? NULL : r->prepared + at;
}
