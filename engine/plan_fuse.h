/* plan_fuse.h: what the two files that fuse operators share. plan_fuse.c: batch norms with what
 * follows, in any plan; plan_epilogue.c: what follows convolutions and linear layers, in plans
 * without backward. */
#ifndef BACKPROP_PLAN_FUSE_H
#define BACKPROP_PLAN_FUSE_H

#include "plan.h"

struct fusing {
    struct plan *p;
    int *readers; /* of each node's value, those outside the plan too */
};

/* Whether n's operator has this name. */
bool fusing_is(const struct node *n, const char *op);
/* Takes from the graph the nodes that nobody reads, and counts the readers of the others anew. */
void fusing_remove_unread(const struct fusing *f);
/* -1: out of memory. */
int fusing_epilogues(const struct fusing *f);

#endif
