/* gemm_peak.c: what the machine's BLAS reaches on a large product of matrices, the yardstick for
 * everything else. */
#include "blas.h"

#include <stdlib.h>
#include <time.h>

enum { SIZE = 768, PRODUCTS = 2 /* of each thread */, TRIES = 5 };

struct peak {
    const real *a, *b; /* [SIZE][SIZE] */
    real *c;           /* [threads][SIZE][SIZE] */
};

static void multiply(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct peak *p = arg;
    for (int64_t i = begin; i < end; i++)
        blas_gemm(false, false, SIZE, SIZE, SIZE, 1, p->a, SIZE, p->b, SIZE, 0,
                  p->c + (size_t)worker * SIZE * SIZE, SIZE);
}

static double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double best_rate(struct pool *pool, struct peak *p)
{
    const int64_t count = (int64_t)PRODUCTS * pool_threads(pool);
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        const double begin = clock_seconds();
        pool_for(pool, count, 1, multiply, p);
        const double rate = 2.0 * SIZE * SIZE * SIZE * (double)count / (clock_seconds() - begin);
        best = rate > best ? rate : best;
    }
    return best;
}

size_t gemm_peak_bytes(const struct pool *pool)
{
    return (2 + (size_t)pool_threads(pool)) * SIZE * SIZE * sizeof(real);
}

int gemm_peak(struct pool *pool, double *flops_per_second_r, struct error *e)
{
    const size_t count = gemm_peak_bytes(pool) / sizeof(real);
    real *block = malloc(count * sizeof *block);
    if (!block)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory to measure the machine's peak");
    for (size_t i = 0; i < count; i++)
        block[i] = (real)(i % 7) - 3;
    struct peak p = {block, block + SIZE * SIZE, block + 2 * SIZE * SIZE};
    *flops_per_second_r = best_rate(pool, &p);
    free(block);
    return 0;
}
