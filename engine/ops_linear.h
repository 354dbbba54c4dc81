/* ops_linear.h: what the files of the linear family share. The table of its rows is in
 * ops_linear.c; ops_matmul.c has the functions of matmul, gemm.c the products. */
#ifndef BACKPROP_OPS_LINEAR_H
#define BACKPROP_OPS_LINEAR_H

#include "epilogue.h"

#include <limits.h>

/* The sizes that one call of BLAS takes. */
enum { GEMM_MAX_SIZE = INT_MAX };

/* c = op(a) * op(b), contiguous matrices in row-major order: op(a) [m][k], op(b) [k][n], c [m][n];
 * with ta, a is stored [k][m], with tb, b [n][k]. */
struct gemm {
    bool ta, tb;
    int64_t m, n, k;
    const real *a, *b;
    real *c;
    const real *bias; /* [n], added to each row; or NULL */
};
/* Computes it on the run's pool, in tiles that depend on the shape alone, through BLAS or our own
 * kernels: a choice that depends on the shape and the tables of kernels alone. */
void gemm_run(struct run *r, const struct gemm *g);

/* c[i][j] = bias[j] + sum over p of a[i][p] * b[p][j] by our own kernels, on the run's pool: the
 * bits of a row of c do not depend on m. With tb, b is stored [n][k]. ta must be false. */
void gemm_run_invariant(struct run *r, const struct gemm *g);

/* The weights [outs][k] of a product x W^T, packed in panels for the kernels: its elements, and
 * packing them on the run's pool. */
int64_t linear_packed_size(int64_t outs, int64_t k);
void linear_pack(struct run *r, int64_t outs, int64_t k, const real *weight, real *packed);
/* g with tb, its b packed, and what follows it: as gemm_run_invariant, the bits of a row of c do
 * not depend on m, but they are others than that one's. ldc = n. linear_packed.c */
void linear_run_packed(struct run *r, const struct gemm *g, const struct epilogue *e);

/* sums[j] = sum over i < rows of x[i][j], in double and in order, for x [rows][cols]: the gradients
 * of biases. On the run's pool. */
void column_sums_run(struct run *r, int64_t rows, int64_t cols, const real *x, real *sums);

int matmul_shape(struct node *n, struct error *e);
void matmul_forward(const struct node *n, struct run *r);
void matmul_backward(const struct node *n, struct run *r);
double matmul_flops(const struct node *n);

#endif
