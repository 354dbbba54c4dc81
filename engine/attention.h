/* attention.h: scaled dot product attention over rows that may lie apart, for ops_attention.c.
 *
 * Memory is linear in the lengths: a task takes ATTENTION_ROWS queries of one head at a time
 * against all keys, and what is kept for backward is one number a query, the logarithm of the sum
 * of its exponentials, from which backward makes the weights again. Results depend on a head's own
 * numbers only: a sample's bits do not depend on its company. */
#ifndef BACKPROP_ATTENTION_H
#define BACKPROP_ATTENTION_H

#include "op.h"

enum { ATTENTION_ROWS = 64 }; /* queries at a time */

/* Rows of one operand: number i of the row of position t, head h, sample s is at
 * s * sample + h * head + t * row + i. */
struct attention_rows {
    int64_t sample, head, row;
};

/* softmax(scale q k^T + mask) v for each sample and head. A query with no key to attend to gets
 * zeros. */
struct attention {
    struct run *r;
    int64_t samples, heads, queries, keys;
    int64_t depth, width; /* numbers of a row of q and k, and of v */
    double scale;
    bool causal; /* key j counts for query i where j <= i */
    struct attention_rows q_rows, k_rows, v_rows, y_rows;
    const real *q, *k, *v, *y, *dy;
    real *out;                       /* y, in forward */
    real *dq, *dk, *dv;              /* as q, k, v; all are written */
    const int64_t *mask;             /* 0: the key does not count; or NULL */
    struct attention_rows mask_rows; /* row: of a query; keys are mask_step apart */
    int64_t mask_step;
    real *log_sum; /* [samples][heads][queries] */
};

/* Scratch for each thread, in elements. */
int64_t attention_scratch(int64_t keys);
/* Both run on the run's pool. */
void attention_forward(const struct attention *a);
void attention_backward(const struct attention *a);

#endif
