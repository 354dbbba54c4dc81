/* score.h: metrics of a labelled batch that are not the loss. */
#ifndef BACKPROPD_SCORE_H
#define BACKPROPD_SCORE_H

#include "model.h"

/* Share of targets that the prediction gets right, for networks whose first loss is a classifier's:
 * the largest logit for cross_entropy, the sign for bce_with_logits. `prediction` is what the loss
 * compares with its target. NaN where accuracy has no meaning. */
double score_accuracy(const struct network *net, const struct batch *b, const real *prediction);

#endif
