/* gemm.c: products of matrices on the run's pool. The result is cut into tiles that depend on the
 * shape alone; a tile goes through BLAS or through our own kernels, whichever is faster for the
 * shape, or through the kernels whose rows do not depend on the batch. */
#include "ops_linear.h"

#include "blas.h"
#include "kernels.h"

#include <string.h>

enum {
    TILE = 128,       /* rows and columns of a tile for BLAS */
    KERNEL_ROWS = 32, /* of a tile for the kernels */
    KERNEL_COLS = 64,
    GEMM_GRAIN = 1 << 18, /* multiplications that are worth a range of their own */
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A product and how its result is cut: tiles are counted row by row. */
struct tiling {
    const struct gemm *g;
    int64_t rows, cols; /* of a tile */
    int64_t across;     /* tiles next to each other */
};

struct tile {
    int64_t i, j, m, n; /* place and size in c */
};

static struct tile tile_at(const struct tiling *t, int64_t at)
{
    int64_t i = at / t->across * t->rows, j = at % t->across * t->cols;
    return (struct tile){i, j, min_int64(t->rows, t->g->m - i), min_int64(t->cols, t->g->n - j)};
}

static void tiling_run(struct run *r, const struct gemm *g, int64_t rows, int64_t cols, pool_fn *f)
{
    struct tiling t = {g, rows, cols, ceil_div(g->n, cols)};
    double work = (double)min_int64(rows, g->m) * (double)min_int64(cols, g->n) * (double)g->k;
    int64_t grain = work < GEMM_GRAIN ? (int64_t)(GEMM_GRAIN / (work + 1)) + 1 : 1;
    run_for(r, ceil_div(g->m, rows) * t.across, grain, f, &t);
}

static void blas_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct tiling *tiling = arg;
    const struct gemm *g = tiling->g;
    const int64_t lda = g->ta ? g->m : g->k, ldb = g->tb ? g->k : g->n;
    for (int64_t at = begin; at < end; at++) {
        struct tile t = tile_at(tiling, at);
        const real *a = g->a + t.i * (g->ta ? 1 : lda), *b = g->b + t.j * (g->tb ? ldb : 1);
        real *c = g->c + t.i * g->n + t.j;
        int64_t p = 0, k;
        do { /* once, unless k is beyond what BLAS can count */
            k = min_int64(g->k - p, GEMM_MAX_SIZE);
            blas_gemm(g->ta, g->tb, t.m, t.n, k, 1, a + p * (g->ta ? lda : 1), lda,
                      b + p * (g->tb ? 1 : ldb), ldb, p > 0, c, g->n);
            p += k;
        } while (p < g->k);
        for (int64_t i = 0; g->bias && i < t.m; i++)
            for (int64_t j = 0; j < t.n; j++)
                c[i * g->n + j] += g->bias[t.j + j];
    }
}

static void kernel_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct tiling *tiling = arg;
    const struct gemm *g = tiling->g;
    for (int64_t at = begin; at < end; at++) {
        struct tile t = tile_at(tiling, at);
        const real *a = g->a + t.i * g->k;
        real *c = g->c + t.i * g->n + t.j;
        if (g->tb)
            kernels()->linear(t.m, t.n, g->k, a, g->k, g->b + t.j * g->k, g->k,
                              g->bias ? g->bias + t.j : NULL, c, g->n);
        else
            kernels()->matmul(t.m, t.n, g->k, a, g->k, g->b + t.j, g->n, c, g->n);
    }
}

void gemm_run_invariant(struct run *r, const struct gemm *g)
{
    struct gemm own = *g;
    own.tb |= g->n == 1; /* one column lies in memory as one row */
    tiling_run(r, &own, KERNEL_ROWS, KERNEL_COLS, kernel_tiles);
}

enum { OUTER_ROWS = 256, LANES_MOST = 16 }; /* of k at a time */

/* Columns [j, j + n) of a tile's product of a transposed and rows of k. b is readable as the kernel
 * wants it. */
static void outer_columns(const struct gemm *g, const struct tile *t, const real *const *row,
                          int64_t rows, const real *b, int64_t step, int64_t j, int64_t n, bool add)
{
    if (n > 0)
        kernels()->outer_product(&(struct outer_product){.pixels = rows,
                                                         .rows = t->m,
                                                         .cols = n,
                                                         .row = row,
                                                         .b = b,
                                                         .step = step,
                                                         .add = add,
                                                         .c = g->c + t->i * g->n + t->j + j,
                                                         .ldc = g->n});
}

/* a is stored [k][m]. What is left of the columns behind whole vectors is copied, since the kernel
 * reads a vector. */
static void outer_tile(const struct gemm *g, const struct tile *t)
{
    const int64_t lanes = kernels()->lanes, whole = t->n / lanes * lanes, left = t->n - whole;
    const real *row[OUTER_ROWS];
    real rest[OUTER_ROWS * LANES_MOST] = {0}; /* [rows][lanes] */
    for (int64_t p = 0; p < g->k; p += OUTER_ROWS) {
        const int64_t rows = min_int64(g->k - p, OUTER_ROWS);
        const real *b = g->b + p * g->n + t->j;
        for (int64_t q = 0; q < rows; q++) {
            row[q] = g->a + (p + q) * g->m + t->i;
            memcpy(rest + q * lanes, b + q * g->n + whole, (size_t)left * sizeof *rest);
        }
        outer_columns(g, t, row, rows, b, g->n, 0, whole, p > 0);
        outer_columns(g, t, row, rows, rest, lanes, whole, left, p > 0);
    }
}

static void outer_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct tiling *tiling = arg;
    for (int64_t at = begin; at < end; at++) {
        struct tile t = tile_at(tiling, at);
        outer_tile(tiling->g, &t);
    }
}

/* BLAS packs both matrices first, which does not pay for a few rows. The kernels sum a dot product
 * over lanes first, which does not pay for short ones. */
static bool kernels_are_faster(const struct gemm *g)
{
    enum { FEW_ROWS = 128, LONG_DOT = 512 };
    if (!g->ta && (g->m == 1 || g->n == 1))
        return true;
    return kernels()->as_fast_as_blas && (!g->tb || g->m <= FEW_ROWS || g->k >= LONG_DOT);
}

void gemm_run(struct run *r, const struct gemm *g)
{
    if (!kernels_are_faster(g))
        tiling_run(r, g, TILE, TILE, blas_tiles);
    else if (g->ta)
        tiling_run(r, g, TILE, TILE, outer_tiles);
    else
        gemm_run_invariant(r, g);
}

/* ---- sums of columns --------------------------------------------------------------------------
 */

struct column_sums {
    int64_t rows, cols;
    const real *x; /* [rows][cols] */
    real *sums;    /* [cols] */
};

enum { SUM_COLS = 64 };

/* Columns [begin, end), at most SUM_COLS, over all rows in order. */
static void column_sums_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct column_sums *s = arg;
    double sum[SUM_COLS] = {0};
    const int64_t cols = end - begin;
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < cols; j++)
            sum[j] += s->x[i * s->cols + begin + j];
    for (int64_t j = 0; j < cols; j++)
        s->sums[begin + j] = (real)sum[j];
}

void column_sums_run(struct run *r, int64_t rows, int64_t cols, const real *x, real *sums)
{
    run_for(r, cols, SUM_COLS, column_sums_range, &(struct column_sums){rows, cols, x, sums});
}
