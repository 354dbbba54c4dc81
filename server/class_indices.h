/* class_indices.h: class indices where a network wants probabilities. */
#ifndef BACKPROPD_CLASS_INDICES_H
#define BACKPROPD_CLASS_INDICES_H

#include "tensor.h"

/* Whether the tensor looks like class indices: one number for each sample, not said to be floating
 * point. */
bool class_indices_given(const struct tensor *t);

/* Reads indices, [N], into the probabilities [N, C] of a network's target: 1 for the class, else 0,
 * and only 0 for the index that its losses ignore. They lie in the request's arena. BAD_VALUE for
 * what is no class; those of tensor.h. */
int class_indices_read(struct request *q, struct tensor *t, const struct network *net,
                       const struct node *target, const void **data_r, int64_t *batch_r,
                       struct error *e);

#endif
