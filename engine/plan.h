/* plan.h: a compiled plan from the inside, for plan*.c and run.c. */
#ifndef BACKPROP_PLAN_H
#define BACKPROP_PLAN_H

#include "graph.h"

/* A buffer of the arena and the span of time in which it holds something. Time runs from 0: the
 * forward of lowered node i is at i; its backward, and before it the forward of those that run
 * again, at times that plan_recompute.c decides. */
struct slot {
    struct extent size; /* elements */
    size_t elem;        /* bytes of an element */
    int start, end;     /* inclusive */
    size_t bytes, offset;
};

enum { SLOT_NONE = -1, SLOT_OUTSIDE = -2 /* in memory that the run is given */, SLOT_ALIGN = 64 };

/* After the backward of a node, `from` (what it wrote) is added to the gradient of `to`. */
struct sum {
    int after; /* node id */
    int to;    /* node id */
    int slot;  /* temporary */
};

/* About how long something takes on one core: ns. plan_cost.c */
struct cost {
    double sample, fixed;
};

struct plan {
    struct graph *graph; /* lowered; everything here lies in its arena */
    const struct graph *source;
    int64_t capacity;
    int threads;
    bool training, backward, params_wrt;
    size_t fence;

    int n_nodes;
    int *first_in;     /* of each node: where its inputs begin in grad_in arrays */
    int n_in;          /* of all nodes together */
    int *root;         /* node whose memory the value lies in (views) */
    bool *wanted;      /* the node's gradient is computed */
    int *value, *grad; /* slot of each node, SLOT_NONE or SLOT_OUTSIDE */
    int *grad_in;      /* slot that backward of (node, input) writes, or OUTSIDE, NONE */
    int *saved, *work_forward, *work_backward;
    bool *again;      /* its forward runs a second time, in backward */
    bool *held;       /* its value is kept from forward to backward, also when it runs again */
    int *again_first; /* before the backward of node i, those of its block from this node on run
                         again; -1: none */
    int *value_again, *saved_again, *work_again; /* slots of the second time; else the first's */
    int *time_again, *time_back;                 /* of each node */
    bool
        *skip_backward; /* a view whose gradient is its input's; or no input's gradient is wanted */
    struct sum *sums;   /* in the order of backward */
    int n_sums;

    struct slot *slots;
    int n_slots, cap_slots;
    int64_t *prepared;      /* of each node: where its part of a block of prepared begins, or -1 */
    int64_t prepared_count; /* elements of a block */
    struct cost *cost;      /* of the forward of each node */
    uint64_t prepared_layout;          /* a digest of which parameters are where */
    size_t arena_bytes, scratch_bytes; /* scratch: of one thread */

    struct node **outputs; /* lowered, plain */
    int n_outputs;
    struct node *loss;
    bool *param_written; /* of each parameter of the source: backward writes its gradient */
    struct node **wrt;   /* lowered, plain */
    int n_wrt;
};

/* plan_lower.c: fills graph, outputs, loss and wrt: copies what is needed and inserts changes of
 * layout. -1: out of memory or BAD_GRAPH. */
int plan_lower(struct plan *p, const struct graph *g, const struct plan_spec *spec,
               struct error *e);
/* plan_fuse.c: puts what several operators do into one pass over memory, where the values between
 * them are asked for by nobody. -1: out of memory. */
int plan_fuse(struct plan *p, struct error *e);
/* plan_fuse.c: readers_r[id]: how often node id is an input of others, or asked for from outside.
 */
void plan_count_readers(const struct plan *p, int *readers_r);
/* plan_place.c: decides the lifetime of every buffer, and calls the two below. */
int plan_place(struct plan *p, const struct plan_spec *spec, struct error *e);
/* plan_recompute.c: fills again, held, again_first and the times, from wanted, root and what
 * operators save. -1: out of memory. */
int plan_recompute(struct plan *p, struct error *e);
/* plan_arena.c: gives every slot its bytes and its place. TOO_LARGE, OUT_OF_MEMORY. */
int plan_arena(struct plan *p, struct error *e);

/* plan_cost.c: sets cost. -1: out of memory. */
int plan_cost(struct plan *p, struct error *e);
/* Whether node id's forward with n samples is worth more than one thread. */
bool plan_cost_shares(const struct plan *p, int id, int64_t n);

/* prepared.c: around a forward. `filled`: it got to its end. */
void run_prepared_begin(struct run *r);
void run_prepared_end(struct run *r, bool filled);
/* profile.c: a pass of a node took this long. */
void profile_add(struct profile *p, const struct node *n, enum run_pass pass, double seconds);

#endif
