/* optimizer.h: what an optimiser is, inside the engine. The table is in optimizer.c;
 * network_step.c applies it to a whole network.
 *
 * State is double-buffered: an update reads one generation's parameters and slots and writes
 * another's (network_step.c). A slot is a block of state of the parameters' layout, zero before the
 * first step. */
#ifndef BACKPROP_OPTIMIZER_H
#define BACKPROP_OPTIMIZER_H

#include "rows.h"

/* One step of one network. All blocks have the layout of the block of parameters; slot k begins at
 * k * size. `in` and `out` blocks do not overlap. */
struct update {
    const void *attrs; /* of the optimiser's row */
    double lr;
    uint64_t t; /* steps that the slots have seen: 0 at the first */
    size_t size;
    const real *params, *grads, *slots;
    real *params_out, *slots_out;
    /* Not NULL: update writes a direction into params_out, and the step of a parameter is
     * lr * trust(|parameter|, |direction|) times it. (lamb) */
    double (*trust)(double param_norm, double direction_norm);
};

/* Writes elements [begin, end). False when one of the new numbers is not finite. */
typedef bool update_fn(const struct update *u, size_t begin, size_t end);

/* Fills in the attributes, and returns the function of the optimiser's row. Threads: it may be
 * called on disjoint ranges at the same time. */
update_fn *optimizer_update(const struct optimizer *o, struct update *u);

/* Euclidean norm of a block, in chunks of fixed sizes. network.c */
double block_norm(struct pool *pool, const real *x, int64_t count);

#endif
