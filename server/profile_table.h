/* profile_table.h: profiles of several runs as rows for people: by layer, with shares of what the
 * machine's BLAS reaches. */
#ifndef BACKPROPD_PROFILE_TABLE_H
#define BACKPROPD_PROFILE_TABLE_H

#include "backprop.h"

#include <stdio.h>

/* What was measured; seconds are of all steps together. */
struct profiled {
    const struct profile *profile;
    int64_t steps, batch;
    int threads;
    double seconds; /* of the steps, from begin to end */
    double update;  /* of them, the optimiser's */
    double peak;    /* operations a second of BLAS with as many threads */
};

/* Operations a second in a pass of a row, over the peak; 0 where there are none. */
double profiled_share(const struct profiled *p, const struct profile_row *row, enum run_pass pass);

/* When row `i` is the first of its operator: how many there are, and their sums (`node` is the
 * first's); else 0. */
int profiled_operator(const struct profiled *p, int i, struct profile_row *sum_r);

/* A table in plain text: a line a row in the order of forward, then the sums by operator. */
void profile_table_print(const struct profiled *p, FILE *out);

#endif
