/* describe_losses.h: what losses and targets of a description share while they are read. */
#ifndef SERVER_DESCRIBE_LOSSES_H
#define SERVER_DESCRIBE_LOSSES_H

#include "describe_parts.h"

struct loss {
    const char *op, *name, *target;
    const char *inputs[NETWORK_MAX_IO]; /* names of what it judges; n_inputs 0: not said */
    int n_inputs;
    struct place place;
    double weight;
    struct node *of[NETWORK_MAX_IO]; /* what it judges */
    int to;                          /* place of its target, when to_node is NULL */
    struct node *to_node;            /* the input that it compares with */
    const json_t *given;             /* NULL: only the operator's name was given */
    struct attr *attrs;
    int n_attrs;
    bool mixed; /* its target is class indices that are given, or mixed, as probabilities */
};

struct losses {
    struct loss at[NETWORK_MAX_IO];
    int n;
    bool list; /* given as `losses` */
    struct tensor_spec targets[NETWORK_MAX_IO];
    bool used[NETWORK_MAX_IO], mixed[NETWORK_MAX_IO];
    int n_targets;
    bool targets_given;
};

/* In this order: the list `targets`; the target of each loss, whose datatype and shape follow from
 * the loss where they are left out; then all become leaves of the graph. describe_targets.c */
int describe_targets_read(struct describe *d, struct losses *ls);
int describe_target_resolve(struct describe *d, struct losses *ls, struct loss *l);
int describe_targets_add(struct describe *d, const struct losses *ls);

#endif
