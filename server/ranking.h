/* ranking.h: the largest numbers of a row and where they are. Any thread. */
#ifndef BACKPROPD_RANKING_H
#define BACKPROPD_RANKING_H

#include "backprop.h"

struct ranked {
    real value;
    int64_t index;
};

/* Room that ranking_best needs, in elements, for the best k of n. */
int64_t ranking_room(int64_t n, int64_t k);
/* The best k of n, k <= n: the larger first, NaN last, and of equals the lower index. */
void ranking_best(const real *row, int64_t n, int64_t k, struct ranked *best);

#endif
