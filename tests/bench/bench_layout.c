/* bench_layout.c: which layout activations should have inside a plan, by measurement.
 *
 * For some convolutions it times two ways of doing the same work on one thread: images N,C,H,W with
 * im2col and sgemm an image, and images N,H,W,C with im2col and sgemm in blocks of output pixels.
 * Forward, gradient of the weights, and a pass that applies batch norm and ReLU. Both ways run in
 * turns (A B A B ...) and medians are compared, so that a busy machine hurts both alike. A ratio
 * above 1 means that N,H,W,C is faster. From the root of the repository:
 *
 *   gcc -std=gnu11 -O3 -Iengine $(pkg-config --cflags openblas) tests/bench/bench_layout.c \
 *       -o build/bench_layout $(pkg-config --libs openblas) && build/bench_layout [KB [ROWS]]
 *
 * KB is the size of an im2col block (192), ROWS the fewest rows of one (32). */
#include "blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 9 };

struct conv_case {
    const char *name;
    int64_t n, c, h, o, k, s; /* square images and kernels, padding k/2 */
};

static const struct conv_case cases[] = {
    {"stem 3->64, 32x32", 16, 3, 32, 64, 3, 1},   {"16->32, 40x40, stride 2", 16, 16, 40, 32, 3, 2},
    {"64->64, 32x32", 8, 64, 32, 64, 3, 1},       {"128->128, 16x16", 8, 128, 16, 128, 3, 1},
    {"256->256, 8x8", 8, 256, 8, 256, 3, 1},      {"512->512, 4x4", 8, 512, 4, 512, 3, 1},
    {"1x1 64->256, 28x28", 8, 64, 28, 256, 1, 1},
};

struct bench {
    struct conv_case v;
    int64_t oh, p, kk;          /* output side, output pixels of an image, c * k * k */
    int64_t rows;               /* of an im2col block, N,H,W,C */
    float *x, *y, *w, *dw;      /* n*h*h*c, n*p*o, o*kk, o*kk in either layout */
    float *col, *scale, *shift; /* kk*p, o, o */
};

/* ---- N,C,H,W -------------------------------------------------------------------------------- */

/* One image [c][h][h] to col [c*k*k][p]. */
static void im2col_planes(const struct bench *b, const float *x)
{
    const struct conv_case *v = &b->v;
    float *col = b->col;
    for (int64_t row = 0; row < b->kk; row++) {
        int64_t c = row / (v->k * v->k), ky = row / v->k % v->k, kx = row % v->k;
        for (int64_t oy = 0; oy < b->oh; oy++) {
            int64_t iy = oy * v->s + ky - v->k / 2;
            const float *line = x + (c * v->h + iy) * v->h;
            for (int64_t ox = 0; ox < b->oh; ox++) {
                int64_t ix = ox * v->s + kx - v->k / 2;
                bool inside = iy >= 0 && iy < v->h && ix >= 0 && ix < v->h;
                *col++ = inside ? line[ix] : 0;
            }
        }
    }
}

static const float *planes_of(const struct bench *b, int64_t i)
{
    const float *x = b->x + i * b->v.c * b->v.h * b->v.h;
    if (b->v.k == 1)
        return x;
    im2col_planes(b, x);
    return b->col;
}

static void planes_forward(const struct bench *b)
{
    for (int64_t i = 0; i < b->v.n; i++)
        blas_gemm(false, false, b->v.o, b->p, b->kk, 1, b->w, b->kk, planes_of(b, i), b->p, 0,
                  b->y + i * b->p * b->v.o, b->p);
}

static void planes_weights(const struct bench *b)
{
    for (int64_t i = 0; i < b->v.n; i++)
        blas_gemm(false, true, b->v.o, b->kk, b->p, 1, b->y + i * b->p * b->v.o, b->p,
                  planes_of(b, i), b->p, i > 0, b->dw, b->kk);
}

static void planes_apply(const struct bench *b)
{
    float *y = b->y;
    for (int64_t row = 0; row < b->v.n * b->v.o; row++) {
        float scale = b->scale[row % b->v.o], shift = b->shift[row % b->v.o];
        for (int64_t j = 0; j < b->p; j++, y++)
            *y = *y * scale + shift > 0 ? *y * scale + shift : 0;
    }
}

/* ---- N,H,W,C -------------------------------------------------------------------------------- */

/* Taps of one row of the kernel: k*c numbers, which lie together in the image. */
static void copy_taps(const struct bench *b, const float *line, int64_t ix, float *col)
{
    int64_t c = b->v.c, k = b->v.k, h = b->v.h;
    int64_t begin = ix < 0 ? -ix : 0, end = ix + k > h ? h - ix : k;
    if (begin > 0)
        memset(col, 0, (size_t)(begin * c) * sizeof *col);
    if (end < k)
        memset(col + end * c, 0, (size_t)((k - end) * c) * sizeof *col);
    memcpy(col + begin * c, line + (ix + begin) * c, (size_t)((end - begin) * c) * sizeof *col);
}

/* Output pixels [begin, end) of the batch to col [end-begin][k*k*c]. */
static const float *last_rows(const struct bench *b, int64_t begin, int64_t end)
{
    const struct conv_case *v = &b->v;
    if (v->k == 1)
        return b->x + begin * v->c;
    float *col = b->col;
    for (int64_t q = begin; q < end; q++) {
        const float *x = b->x + q / b->p * v->h * v->h * v->c;
        int64_t oy = q % b->p / b->oh, ox = q % b->oh;
        for (int64_t ky = 0; ky < v->k; ky++, col += v->k * v->c) {
            int64_t iy = oy * v->s + ky - v->k / 2;
            if (iy < 0 || iy >= v->h)
                memset(col, 0, (size_t)(v->k * v->c) * sizeof *col);
            else
                copy_taps(b, x + iy * v->h * v->c, ox * v->s - v->k / 2, col);
        }
    }
    return b->col;
}

static void last_blocks(const struct bench *b, void (*f)(const struct bench *, int64_t, int64_t))
{
    for (int64_t q = 0; q < b->v.n * b->p; q += b->rows)
        f(b, q, q + b->rows < b->v.n * b->p ? q + b->rows : b->v.n * b->p);
}

static void last_forward_block(const struct bench *b, int64_t begin, int64_t end)
{
    blas_gemm(false, true, end - begin, b->v.o, b->kk, 1, last_rows(b, begin, end), b->kk, b->w,
              b->kk, 0, b->y + begin * b->v.o, b->v.o);
}

static void last_weights_block(const struct bench *b, int64_t begin, int64_t end)
{
    blas_gemm(true, false, b->v.o, b->kk, end - begin, 1, b->y + begin * b->v.o, b->v.o,
              last_rows(b, begin, end), b->kk, begin > 0, b->dw, b->kk);
}

static void last_forward(const struct bench *b)
{
    last_blocks(b, last_forward_block);
}

static void last_weights(const struct bench *b)
{
    last_blocks(b, last_weights_block);
}

static void last_apply(const struct bench *b)
{
    for (int64_t q = 0; q < b->v.n * b->p; q++) {
        float *restrict y = b->y + q * b->v.o;
        for (int64_t c = 0; c < b->v.o; c++)
            y[c] = y[c] * b->scale[c] + b->shift[c] > 0 ? y[c] * b->scale[c] + b->shift[c] : 0;
    }
}

/* ---- timing --------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians of both ways, in milliseconds. */
static void time_pair(const struct bench *b, void (*planes)(const struct bench *),
                      void (*last)(const struct bench *), double *planes_r, double *last_r)
{
    double t[2][ROUNDS];
    planes(b);
    last(b);
    for (int i = 0; i < ROUNDS; i++) {
        double start = seconds();
        planes(b);
        t[0][i] = seconds() - start;
        start = seconds();
        last(b);
        t[1][i] = seconds() - start;
    }
    qsort(t[0], ROUNDS, sizeof t[0][0], compare);
    qsort(t[1], ROUNDS, sizeof t[1][0], compare);
    *planes_r = 1e3 * t[0][ROUNDS / 2];
    *last_r = 1e3 * t[1][ROUNDS / 2];
}

static float *numbers(int64_t count, uint32_t *seed)
{
    float *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; x && i < count; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        x[i] = (float)(*seed >> 8) / (1 << 24) - 0.5f;
    }
    return x;
}

static void run_case(const struct conv_case *v, int64_t block, int64_t fewest)
{
    struct bench b = {.v = *v};
    uint32_t seed = 1;
    b.oh = (v->h + 2 * (v->k / 2) - v->k) / v->s + 1;
    b.p = b.oh * b.oh;
    b.kk = v->c * v->k * v->k;
    b.rows = block / (b.kk * (int64_t)sizeof(float));
    b.rows = b.rows < fewest ? fewest : b.rows;
    int64_t col_rows = b.rows > b.p ? b.rows : b.p;
    float **const buffers[] = {&b.x, &b.y, &b.w, &b.dw, &b.col, &b.scale, &b.shift};
    const int64_t counts[] = {v->n * v->c * v->h * v->h,
                              v->n * b.p * v->o,
                              v->o * b.kk,
                              v->o * b.kk,
                              b.kk * col_rows,
                              v->o,
                              v->o};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        if (!(*buffers[i] = numbers(counts[i], &seed)))
            exit(1);
    double planes[3], last[3], flop = 2e-6 * (double)(v->n * b.p * v->o * b.kk);
    time_pair(&b, planes_forward, last_forward, &planes[0], &last[0]);
    time_pair(&b, planes_weights, last_weights, &planes[1], &last[1]);
    time_pair(&b, planes_apply, last_apply, &planes[2], &last[2]);
    printf("%-24s %5lld %7.2f %7.2f %6.2f (%3.0f) %7.2f %7.2f %6.2f (%3.0f) %7.3f %7.3f %6.2f\n",
           v->name, (long long)b.rows, planes[0], last[0], planes[0] / last[0], flop / last[0],
           planes[1], last[1], planes[1] / last[1], flop / last[1], planes[2], last[2],
           planes[2] / last[2]);
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        free(*buffers[i]);
}

int main(int argc, char **argv)
{
    int64_t block = 1024 * (argc > 1 ? atoll(argv[1]) : 192);
    int64_t fewest = argc > 2 ? atoll(argv[2]) : 32;
    openblas_set_num_threads(1);
    printf("medians of %d in ms: N,C,H,W, N,H,W,C, ratio (GFLOP/s of N,H,W,C)\n", ROUNDS);
    printf("%-24s %5s %-29s %-29s %s\n", "", "rows", " forward", " gradient of weights",
           "batch norm + ReLU");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(&cases[i], block, fewest);
}
