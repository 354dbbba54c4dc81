/* test_kernels_pooling_both.c: the largest of windows, by every table of kernels that this
 * processor runs, against a plain loop: few and many channels, equal numbers, NaN, the end of the
 * image. */
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 23, LINES = 3, CHANNELS_MOST = 37, TAPS_MOST = LINES * LINES, STRIDE = 2 };
enum { PIXELS = (WIDTH - LINES) / STRIDE + 1, COUNT = LINES * WIDTH * CHANNELS_MOST };

struct image {
    real x[COUNT], y[PIXELS * CHANNELS_MOST + 1];
    lane_int place[PIXELS * CHANNELS_MOST + 1];
};

/* Few different numbers, so that there are equal ones; now and then NaN and infinities. */
static void image_fill(struct image *m, int64_t count)
{
    uint64_t state = 88172645463325252u;
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const int n = (int)(state >> 60), special = (int)(state >> 50 & 63);
        m->x[i] = special == 0 ? (real)NAN : special < 20 ? -(real)INFINITY : (real)n;
    }
}

static void check(const struct largest_windows *p, const struct kernels *k)
{
    for (int64_t q = 0; q < p->pixels; q++)
        for (int64_t c = 0; c < p->c; c++) {
            const real *x = p->x + q * p->step + c, found = p->y[q * p->c + c];
            int64_t best = 0;
            for (int64_t t = 1; t < p->taps; t++)
                if (x[p->offset[t]] > x[p->offset[best]] || isnan(x[p->offset[t]]))
                    best = t;
            const lane_int place = p->first + (lane_int)q * p->pixel_step + p->pixel[best];
            const real largest = x[p->offset[best]];
            if (p->place[q * p->c + c] != place ||
                (found != largest && !(isnan(found) && isnan(largest))))
                fail_msg("%s: window %d, channel %d of %d: %g at %d, not %g at %d", k->name, (int)q,
                         (int)c, (int)p->c, (double)found, (int)p->place[q * p->c + c],
                         (double)largest, (int)place);
        }
}

/* Windows of 1 to 9 taps that reach the end of the image, which is all that there is in memory. */
static void try_windows(const struct kernels *k, struct image *m, int64_t c, int64_t side)
{
    int64_t offset[TAPS_MOST];
    lane_int pixel[TAPS_MOST];
    struct image *exact = test_malloc(sizeof *exact);
    const int64_t count = ((side - 1) * WIDTH + STRIDE * (PIXELS - 1) + side) * c;
    real *x = test_malloc((size_t)count * sizeof *x);
    memcpy(x, m->x, (size_t)count * sizeof *x);
    for (int64_t t = 0; t < side * side; t++) {
        pixel[t] = (lane_int)(t / side * WIDTH + t % side);
        offset[t] = pixel[t] * c;
    }
    const struct largest_windows p = {PIXELS, c, side * side, STRIDE * c, offset,      pixel, 1000,
                                      STRIDE, x, x + count,   exact->y,   exact->place};
    exact->y[PIXELS * c] = -12345;
    exact->place[PIXELS * c] = -12345;
    k->largest_windows(&p);
    check(&p, k);
    assert_true(exact->y[PIXELS * c] == -12345 && exact->place[PIXELS * c] == -12345);
    test_free(x);
    test_free(exact);
}

static void test_windows(void **state)
{
    (void)state;
    const struct kernels *k;
    struct image *m = test_malloc(sizeof *m);
    image_fill(m, COUNT);
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int64_t c = 1; c <= CHANNELS_MOST; c++)
            for (int64_t side = 1; side <= LINES; side++)
                try_windows(k, m, c, side);
    test_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
