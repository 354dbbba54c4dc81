/* random_batch.h: batches of random data that a network takes, for benchmarks and profiles: normal
 * numbers as inputs, tokens that embeddings know, classes that the losses know, boxes. The same
 * bits for the same network, seed and size. Any thread. */
#ifndef BACKPROPD_RANDOM_BATCH_H
#define BACKPROPD_RANDOM_BATCH_H

#include "backprop.h"

/* Of the network's leaf at `place`: inputs, then targets. TOO_LARGE. */
int random_leaf_bytes(const struct network *net, int place, int64_t n, size_t *bytes_r,
                      struct error *e);
/* Fills as many. */
void random_leaf_fill(const struct network *net, int place, int64_t n, uint64_t seed, void *out);

#endif
