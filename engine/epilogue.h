/* epilogue.h: what a product or a convolution does to its results while they lie in the nearest
 * caches, in place of operators that would each pass over memory: batch norm, folded into weights
 * and bias; a sum with another value; an activation. plan_epilogue.c finds the chains.
 *
 * The operator hands each block of rows to epilogue_apply as soon as their sums are complete. The
 * kernels are those of the operators that were replaced: their bits are the same but for batch
 * norm, which differs by rounding. */
#ifndef BACKPROP_EPILOGUE_H
#define BACKPROP_EPILOGUE_H

#include "kernels.h"
#include "op.h"

/* Of a node: what was fused into it. The residual is its data input 1; parameters of the batch norm
 * are its inputs from `norm` on, by their places in norm.h. */
struct fused {
    const char *text; /* the operators' names: "conv2d+batch_norm2d+relu" */
    int norm;         /* 0: none */
    double eps;
    bool residual, residual_last; /* added, and after the activation */
    enum activation activation;
};

/* In a run: residual is laid out as the result; NULL for none. */
struct epilogue {
    enum activation activation;
    const real *residual;
    bool residual_last;
};

/* Of node n, which may have nothing fused into it. */
struct epilogue epilogue_of(const struct node *n, const struct run *r);

/* Which activation n's operator is; NONE: it is none. ops_activation.c */
enum activation activation_of(const struct node *n);

/* Rows of `cols` numbers, the first at `y` + `at`, ld from one to the next: elements.
 * Without an epilogue (NULL) nothing happens. */
static inline void epilogue_apply(const struct epilogue *e, real *y, int64_t at, int64_t rows,
                                  int64_t cols, int64_t ld)
{
    if (!e || (!e->residual && e->activation == ACTIVATION_NONE))
        return;
    kernels()->finish[e->activation](
        &(struct finish_rows){.rows = rows,
                              .cols = cols,
                              .ld = ld,
                              .x = y + at,
                              .residual = e->residual ? e->residual + at : NULL,
                              .residual_last = e->residual_last,
                              .y = y + at});
}

/* ---- batch norm in weights --------------------------------------------------------------------
 */

/* Weights [outs][each] and a bias, with the batch norm behind them made part of them:
 * w' = w s, b' = (b - mean) s + shift, where s = scale / sqrt(var + eps), computed in double. */
struct folded {
    const real *weight, *bias; /* bias: NULL for none */
};
/* Elements that folding takes beside what is kept. */
int64_t epilogue_fold_size(const struct node *n, int64_t outs, int64_t each);
/* The bias goes to `bias` [outs], the weights to `work`; with `ready` the bias is there already and
 * the weights are not asked for. Without a batch norm what was given is given back. */
struct folded epilogue_fold(const struct node *n, const struct run *r, int64_t outs, int64_t each,
                            struct folded given, bool ready, real *bias, real *work);

#endif
