/* budget.h: the memory that models may take, counted before it is allocated. What is counted:
 * generations, gradients and the arenas of runs; request bodies have limits of their own. */
#ifndef BACKPROPD_BUDGET_H
#define BACKPROPD_BUDGET_H

#include "backprop.h"

struct budget {
    size_t limit;
    size_t used; /* atomic */
    /* Asked once when there is too little: frees what can be made again. May be NULL. */
    void (*reclaim)(void *arg);
    void *reclaim_arg;
};

/* Any thread may call; the caller holds no lock that reclaim takes. ERROR_OUT_OF_MEMORY names
 * `what`, what it needs and what is left. */
int budget_take(struct budget *b, size_t bytes, const char *what, struct error *e);
void budget_give(struct budget *b, size_t bytes);
size_t budget_used(const struct budget *b);

#endif
