/* attention.h: scaled dot product attention over rows that may lie apart, for ops_attention.c
 * and ops_multihead.c.
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

/* One number for each query and key: 0 where the key does not count, or what is added to their
 * score. One of the two is there. */
struct attention_mask {
    const int64_t *counts;
    const real *added;
    struct attention_rows rows; /* row: of a query; 0 where it is the same for all */
    int64_t step;               /* from key to key: 1, or 0 */
};
enum { ATTENTION_MASKS = 2 };

/* dropout(softmax(scale q k^T + mask)) v for each sample and head. A query with no key to attend to
 * gets zeros. */
struct attention {
    struct run *r;
    int64_t samples, heads, queries, keys;
    int64_t depth, width; /* numbers of a row of q and k, and of v */
    double scale;
    bool causal; /* key j counts for query i where j <= i */
    struct attention_rows q_rows, k_rows, v_rows, y_rows;
    const real *q, *k, *v, *y, *dy;
    real *out;          /* y, in forward */
    real *dq, *dk, *dv; /* as q, k, v; all are written */
    struct attention_mask masks[ATTENTION_MASKS];
    int n_masks;
    double dropout; /* of the weights; 0: none. Backward draws the same numbers again */
    struct random_key random;
    real *log_sum; /* [samples][heads][queries] */
};

/* Whether input i of the node, a mask of either dtype, broadcasts to `scores`, [N, (heads,) L, S]
 * dimension by dimension: BAD_SHAPE. */
int attention_mask_check(const struct node *n, int i, const struct shape *scores, struct error *e);
/* Adds input i of the node, of run a->r: its rows from its shape. */
void attention_mask_add(struct attention *a, const struct node *n, int i);

/* Scratch for each thread, in elements. */
int64_t attention_scratch(int64_t keys, int64_t depth, int64_t width);
/* Both run on the run's pool. */
void attention_forward(const struct attention *a);
void attention_backward(const struct attention *a);
/* The gradient of what mask `which` adds, in the mask's own shape: summed where it is the same for
 * several. Reads what attention_backward does. */
void attention_backward_mask(const struct attention *a, int which, real *gradient);

#endif
