/* turns.h: who goes next when several want the same threads: fair by time, not by count.
 *
 * Start-time fair queueing: each of the rivals has the time that it has used, and the one that has
 * used least goes next. What it is expected to use is charged when it starts, so that several
 * threads do not all take the same; when it ends, that is corrected by what it took. One that was
 * away has saved nothing up: it comes back at the time that the others have reached.
 *
 * Times are nanoseconds of any clock. No locks: the owner has one. */
#ifndef BACKPROPD_TURNS_H
#define BACKPROPD_TURNS_H

#include <stdbool.h>
#include <stdint.h>

struct turns {
    uint64_t reached; /* used by the one that went last, when it started */
};

struct turn {
    uint64_t used;
    uint64_t expected; /* of its next go; 0: it never went */
};

/* It wants to go again after it did not. */
static inline void turn_wake(const struct turns *all, struct turn *t)
{
    if (t->used < all->reached)
        t->used = all->reached;
}

/* Whether `a` goes before `b`, which may be NULL. */
static inline bool turn_before(const struct turn *a, const struct turn *b)
{
    return !b || a->used < b->used;
}

/* It goes: what was charged, which turn_end wants to know. */
static inline uint64_t turn_start(struct turns *all, struct turn *t)
{
    if (all->reached < t->used)
        all->reached = t->used;
    t->used += t->expected;
    return t->expected;
}

static inline void turn_end(struct turn *t, uint64_t charged, uint64_t took)
{
    took += !took; /* 0 is what was never measured */
    t->used += took - charged;
    t->expected = t->expected ? (3 * t->expected + took) / 4 : took;
}

#endif
