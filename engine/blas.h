/* blas.h: the few BLAS calls that the engine makes, for `real`, row-major, with 64-bit sizes.
 *
 * BLAS runs on the calling thread (engine_start sees to that); operators parallelise by calling it
 * from run_for. A row's bits may depend on m and on the row's place: callers that owe the same bits
 * to a sample alone and in a batch cut their rows into blocks that start at the sample. Each size
 * and leading dimension must fit an int, which row.shape checks. Any thread may call. */
#ifndef BACKPROP_BLAS_H
#define BACKPROP_BLAS_H

#include "backprop.h"

#include <cblas.h>

/* c[m][n] = alpha * op(a)[m][k] * op(b)[k][n] + beta * c. With ta, a is stored [k][m]; with tb, b
 * is stored [n][k]. lda, ldb and ldc are the elements from one stored row to the next. With beta 0
 * what c held does not matter. (BLAS's gemm.) */
static inline void blas_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha,
                             const real *a, int64_t lda, const real *b, int64_t ldb, real beta,
                             real *c, int64_t ldc)
{
    const CBLAS_TRANSPOSE opa = ta ? CblasTrans : CblasNoTrans;
    const CBLAS_TRANSPOSE opb = tb ? CblasTrans : CblasNoTrans;
#ifdef BACKPROP_DOUBLE
    cblas_dgemm(CblasRowMajor, opa, opb, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb,
                beta, c, (int)ldc);
#else
    cblas_sgemm(CblasRowMajor, opa, opb, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb,
                beta, c, (int)ldc);
#endif
}

/* y = alpha * op(a) * x + beta * y for a stored [m][n]; op(a) is its transpose with ta. x and y are
 * contiguous. (BLAS's gemv.) */
static inline void blas_gemv(bool ta, int64_t m, int64_t n, real alpha, const real *a, int64_t lda,
                             const real *x, real beta, real *y)
{
    const CBLAS_TRANSPOSE op = ta ? CblasTrans : CblasNoTrans;
#ifdef BACKPROP_DOUBLE
    cblas_dgemv(CblasRowMajor, op, (int)m, (int)n, alpha, a, (int)lda, x, 1, beta, y, 1);
#else
    cblas_sgemv(CblasRowMajor, op, (int)m, (int)n, alpha, a, (int)lda, x, 1, beta, y, 1);
#endif
}

#endif
