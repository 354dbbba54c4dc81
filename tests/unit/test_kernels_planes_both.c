/* test_kernels_planes_both.c: planes_product of every table of kernels that this processor runs:
 * against sums in double for all numbers of columns and around whole vectors of pixels, the bits of
 * a number however lines and pixels are cut, and that nothing behind the result is written. */
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LINES_MOST = 5, PIXELS_MOST = 40, TAPS_MOST = 27, STEP = 70, BEHIND = 16 };
enum { X_COUNT = LINES_MOST * STEP + TAPS_MOST * 2 + PIXELS_MOST + BEHIND };
enum { Y_COUNT = LINES_MOST * PIXELS_MOST * PLANES_COLS_MOST + BEHIND };

static const real SENTINEL = (real)-12345;

struct numbers {
    real x[X_COUNT], weight[TAPS_MOST * PLANES_COLS_MOST], bias[PLANES_COLS_MOST];
    real y[Y_COUNT], again[Y_COUNT];
    int64_t offset[TAPS_MOST];
};

static void fill(real *p, int64_t n, uint64_t seed)
{
    uint64_t state = seed;
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        p[i] = (real)((double)(state >> 40) / (1 << 24) - 0.5);
    }
}

static void check_sums(const struct planes_product *p, const struct kernels *k)
{
    const double unit = sizeof(real) == sizeof(float) ? 6e-8 : 1.2e-16;
    for (int64_t at = 0; at < p->lines * p->pixels * p->cols; at++) {
        const int64_t j = at % p->cols, q = at / p->cols % p->pixels, i = at / p->cols / p->pixels;
        double sum = p->bias ? (double)p->bias[j] : 0, size = fabs(sum);
        for (int64_t t = 0; t < p->k; t++) {
            const double term =
                (double)p->x[i * p->step + p->offset[t] + q] * (double)p->weight[t * p->cols + j];
            sum += term;
            size += fabs(term);
        }
        if (!(fabs((double)p->y[at] - sum) <= unit * size * (double)(p->k + 4)))
            fail_msg("%s: line %d, pixel %d of %d, column %d of %d: %.17g, not %.17g", k->name,
                     (int)i, (int)q, (int)p->pixels, (int)j, (int)p->cols, (double)p->y[at], sum);
    }
    for (int i = 0; i < BEHIND; i++)
        assert_true(p->y[p->lines * p->pixels * p->cols + i] == SENTINEL);
}

/* Line by line from the last, and each in two pieces. */
static void check_cut(const struct planes_product *p, const struct kernels *k, real *again)
{
    const int64_t half = p->pixels / 2;
    for (int64_t line = p->lines - 1; line >= 0; line--)
        for (int piece = 0; piece < 2; piece++) {
            struct planes_product part = *p;
            part.lines = 1;
            part.pixels = piece ? p->pixels - half : half;
            part.x += line * p->step + (piece ? half : 0);
            part.y = again + (line * p->pixels + (piece ? half : 0)) * p->cols;
            k->planes_product(&part);
        }
    assert_memory_equal(p->y, again, (size_t)(p->lines * p->pixels * p->cols) * sizeof *again);
}

static void check(const struct kernels *k, struct numbers *n, struct planes_product p)
{
    p.x = n->x, p.offset = n->offset, p.weight = n->weight, p.y = n->y, p.step = STEP;
    for (int64_t i = 0; i < Y_COUNT; i++)
        n->y[i] = SENTINEL;
    k->planes_product(&p);
    check_sums(&p, k);
    check_cut(&p, k, n->again);
}

static void test_sums(void **state)
{
    (void)state;
    static const int64_t taps[] = {1, 9, 25, 27};
    struct numbers *n = test_malloc(sizeof *n);
    const struct kernels *k;
    fill(n->x, X_COUNT, 1);
    fill(n->weight, TAPS_MOST * PLANES_COLS_MOST, 2);
    fill(n->bias, PLANES_COLS_MOST, 3);
    for (int t = 0; t < TAPS_MOST; t++)
        n->offset[t] = t * 7 % TAPS_MOST * 2; /* in any order */
    for (int table = 0; (k = kernels_at(table)); table++)
        for (int64_t cols = 1; cols <= PLANES_COLS_MOST; cols++)
            for (int64_t pixels = 1; pixels <= PIXELS_MOST; pixels++)
                for (size_t t = 0; t < sizeof taps / sizeof taps[0]; t++)
                    check(k, n,
                          (struct planes_product){.lines = 1 + (pixels + cols) % LINES_MOST,
                                                  .pixels = pixels,
                                                  .cols = cols,
                                                  .k = taps[t],
                                                  .bias = pixels % 2 ? n->bias : NULL});
    test_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
