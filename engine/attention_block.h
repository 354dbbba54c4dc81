/* attention_block.h: blocks of queries, which attention.c and attention_backward.c go through. */
#ifndef BACKPROP_ATTENTION_BLOCK_H
#define BACKPROP_ATTENTION_BLOCK_H

#include "attention.h"

/* One block of queries of one head, and what a task needs for it. */
struct attention_block {
    int64_t sample, head, first, rows, keys;
    real *weights, *slopes; /* [rows][keys] */
    real *turned;           /* [depth or width][keys] */
};

static inline int64_t attention_at(const struct attention_rows *at, int64_t sample, int64_t head,
                                   int64_t row)
{
    return sample * at->sample + head * at->head + row * at->row;
}

/* Block of the queries from `first` of a head, counted through all samples, in a task's scratch.
 * Causal blocks need no key behind their last query. */
struct attention_block attention_block_at(const struct attention *a, int64_t head, int64_t first,
                                          real *scratch);
/* Keys that can count for query i of a block: those behind are in its future. */
int64_t attention_row_keys(const struct attention *a, const struct attention_block *b, int64_t i);

/* weights = scale q k^T + mask, -infinity where a mask says that a key does not count. What keys in
 * a query's future have does not matter. */
void attention_block_scores(const struct attention *a, const struct attention_block *b);
/* to [rows][keys] = scale * x y^T, for rows of `n` numbers, x_row and y_row apart. */
void attention_block_product(const struct attention_block *b, int64_t n, real scale, const real *x,
                             int64_t x_row, const real *y, int64_t y_row, real *to);

/* Factors of the weights of row i, for keys first .. first + 3: 0 where one is dropped. Each row
 * begins with a block of random words of its own. */
void attention_dropout_factors(const struct attention *a, const struct attention_block *b,
                               int64_t i, int64_t first, real factor[4]);

#endif
