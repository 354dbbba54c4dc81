/* test_kernels_products_both.c: rows_product and outer_product of every table of kernels that this
 * processor runs: against sums in double, at all widths around a vector and a panel, the bits of a
 * number however the work is cut, and that nothing else is read or written. */
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ROWS = 27, MAX_COLS = 140, MAX_RUNS = 6, MAX_LENGTH = 40, PAD = 3 };
enum { MAX_K = MAX_RUNS * MAX_LENGTH, ROW_STEP = 2 * MAX_K, COUNT = MAX_K * (MAX_COLS + 70) };

static const real SENTINEL = (real)-12345;

/* Rows of a lie ROW_STEP apart, with NaN between their runs; y has PAD columns behind each row. */
struct buffers {
    real a[MAX_ROWS * ROW_STEP], b[COUNT], packed[COUNT], bias[MAX_COLS];
    real y[MAX_K * (MAX_COLS + PAD)], again[MAX_K * (MAX_COLS + PAD)];
    const real *row[MAX_ROWS];
};

static real next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (real)((double)(*state >> 40) / (1 << 24) - 0.5);
}

static struct buffers *buffers_create(void)
{
    struct buffers *f = test_malloc(sizeof *f);
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < COUNT; i++)
        f->b[i] = next_random(&state);
    for (int i = 0; i < MAX_COLS; i++)
        f->bias[i] = next_random(&state);
    for (int i = 0; i < MAX_ROWS; i++)
        f->row[i] = f->a + (MAX_ROWS - 1 - i) * ROW_STEP; /* in any order */
    return f;
}

static void near(const char *what, const struct kernels *k, double found, double sum, double size,
                 int64_t terms)
{
    const double unit = sizeof(real) == sizeof(float) ? 6e-8 : 1.2e-16;
    if (!(fabs(found - sum) <= unit * size * (double)(terms + 4)))
        fail_msg("%s %s: %.17g, not %.17g", k->name, what, found, sum);
}

/* ---- rows_product ---------------------------------------------------------------------------- */

struct sizes {
    int64_t rows, cols, runs, length;
};

static void pack(const struct kernels *k, const struct sizes *s, const real *b, real *packed)
{
    const int64_t depth = s->runs * s->length;
    for (int64_t panel = 0; panel * k->panel < s->cols; panel++) {
        const int64_t width = kernels_panel_width(k, s->cols, panel);
        for (int64_t p = 0; p < depth; p++)
            for (int64_t j = 0; j < width; j++) {
                int64_t col = panel * k->panel + j;
                packed[panel * k->panel * depth + p * width + j] =
                    col < s->cols ? b[p * s->cols + col] : 0;
            }
    }
}

/* Run i of a row begins at 2 * i * length: what lies between is NaN. */
static void fill_rows(struct buffers *f, const struct sizes *s, int64_t *offset)
{
    uint64_t state = 17;
    for (int i = 0; i < MAX_ROWS * ROW_STEP; i++)
        f->a[i] = (real)NAN;
    for (int64_t run = 0; run < s->runs; run++) {
        offset[run] = 2 * run * s->length;
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t q = 0; q < s->length; q++)
                ((real *)(uintptr_t)f->row[i])[offset[run] + q] = next_random(&state);
    }
    for (int i = 0; i < MAX_K * (MAX_COLS + PAD); i++)
        f->y[i] = SENTINEL;
}

static void check_rows_product(const struct kernels *k, const struct sizes *s, struct buffers *f,
                               const int64_t *offset, bool bias)
{
    const int64_t ldy = s->cols + PAD, depth = s->runs * s->length;
    for (int64_t i = 0; i < s->rows; i++) {
        for (int64_t j = 0; j < s->cols; j++) {
            double sum = bias ? (double)f->bias[j] : 0, size = fabs(sum);
            for (int64_t p = 0; p < depth; p++) {
                double a = (double)f->row[i][offset[p / s->length] + p % s->length];
                sum += a * (double)f->b[p * s->cols + j];
                size += fabs(a * (double)f->b[p * s->cols + j]);
            }
            near("rows_product", k, (double)f->y[i * ldy + j], sum, size, depth);
        }
        for (int64_t j = s->cols; j < ldy; j++)
            assert_true(f->y[i * ldy + j] == SENTINEL);
    }
    assert_true(f->y[s->rows * ldy] == SENTINEL);
}

/* Row by row, and run by run into y, gives the same bits. */
static void check_cut(const struct kernels *k, const struct rows_product *whole, struct buffers *f,
                      const struct sizes *s)
{
    struct rows_product p = *whole;
    p.y = f->again;
    p.runs = 1;
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t run = 0; run < s->runs; run++) {
            p.row = whole->row + i;
            p.rows = 1;
            p.y = f->again + i * p.ldy;
            p.offset = whole->offset + run;
            p.first = run * s->length;
            p.add = run > 0;
            k->rows_product(&p);
        }
    for (int64_t i = 0; i < s->rows; i++)
        assert_memory_equal(f->again + i * p.ldy, f->y + i * p.ldy, (size_t)s->cols * sizeof(real));
}

/* What the caches are asked for changes no bit, whatever the last rows are. */
static void check_far(const struct kernels *k, const struct rows_product *whole, struct buffers *f)
{
    struct rows_product p = *whole;
    p.far = true;
    for (; p.rows > 0; p.rows--) {
        p.y = f->again;
        k->rows_product(&p);
        for (int64_t i = 0; i < p.rows; i++)
            assert_memory_equal(f->again + i * p.ldy, f->y + i * p.ldy,
                                (size_t)p.cols * sizeof(real));
    }
}

static void try_rows_product(const struct sizes *s)
{
    struct buffers *f = buffers_create();
    const struct kernels *k;
    int64_t offset[MAX_RUNS];
    for (int i = 0; (k = kernels_at(i)); i++) {
        const bool bias = s->rows % 2;
        assert_true(kernels_packed(k, s->runs * s->length, s->cols) <= COUNT);
        fill_rows(f, s, offset);
        pack(k, s, f->b, f->packed);
        const struct rows_product p = {.rows = s->rows,
                                       .cols = s->cols,
                                       .row = f->row,
                                       .offset = offset,
                                       .runs = s->runs,
                                       .length = s->length,
                                       .packed = f->packed,
                                       .k = s->runs * s->length,
                                       .bias = bias ? f->bias : NULL,
                                       .y = f->y,
                                       .ldy = s->cols + PAD};
        k->rows_product(&p);
        check_rows_product(k, s, f, offset, bias);
        check_cut(k, &p, f, s);
        check_far(k, &p, f);
    }
    test_free(f);
}

static void test_rows_product(void **state)
{
    static const int64_t lengths[] = {1, 2, 9, MAX_LENGTH};
    (void)state;
    for (int64_t rows = 1; rows <= MAX_ROWS; rows += rows < 12 ? 1 : 5)
        for (int64_t cols = 1; cols <= MAX_COLS; cols += cols < 34 ? 1 : 15)
            try_rows_product(&(struct sizes){rows, cols, 1 + cols % MAX_RUNS, lengths[cols % 4]});
}

/* ---- outer_product --------------------------------------------------------------------------- */

/* Where row i of the result takes its numbers from. */
static int64_t outer_at(const struct outer_product *p, int64_t i)
{
    return p->offset + (p->runs ? p->runs[i / p->length] + i % p->length : i);
}

static void check_outer(const struct kernels *k, const struct outer_product *p,
                        const struct buffers *f)
{
    for (int64_t i = 0; i < p->rows; i++) {
        for (int64_t j = 0; j < p->cols; j++) {
            double sum = 0, size = 0;
            for (int64_t q = 0; q < p->pixels; q++) {
                double term = (double)p->row[q][outer_at(p, i)] * (double)p->b[q * p->step + j];
                sum += term;
                size += fabs(term);
            }
            near("outer_product", k, (double)f->y[i * p->ldc + j], sum, size, p->pixels);
        }
        for (int64_t j = p->cols; j < p->ldc; j++)
            assert_true(f->y[i * p->ldc + j] == SENTINEL);
    }
}

/* A second call with `add` doubles what is there; a call for the last rows alone gives their bits.
 */
static void check_outer_again(const struct kernels *k, const struct outer_product *whole,
                              struct buffers *f)
{
    struct outer_product p = *whole;
    memcpy(f->again, f->y, sizeof f->y);
    p.add = true;
    k->outer_product(&p);
    for (int64_t i = 0; i < p.rows; i++)
        for (int64_t j = 0; j < p.cols; j++)
            assert_true(f->y[i * p.ldc + j] == 2 * f->again[i * p.ldc + j]);
    p.add = false;
    p.offset += whole->rows / 2;
    p.rows -= whole->rows / 2;
    p.c += whole->rows / 2 * p.ldc;
    k->outer_product(&p);
    for (int64_t i = whole->rows / 2; i < whole->rows; i++)
        assert_memory_equal(f->y + i * p.ldc, f->again + i * p.ldc, (size_t)p.cols * sizeof(real));
}

static void try_outer(int64_t pixels, int64_t rows, int64_t cols)
{
    struct buffers *f = buffers_create();
    const struct kernels *k;
    int64_t offset[MAX_RUNS];
    for (int i = 0; (k = kernels_at(i)); i++) {
        fill_rows(f, &(struct sizes){pixels, 0, 1, rows + 1}, offset);
        const struct outer_product p = {.pixels = pixels,
                                        .rows = rows,
                                        .cols = cols,
                                        .row = f->row,
                                        .offset = 1,
                                        .b = f->b,
                                        .step = (cols + k->lanes - 1) / k->lanes * k->lanes,
                                        .c = f->y,
                                        .ldc = cols + PAD};
        k->outer_product(&p);
        check_outer(k, &p, f);
        check_outer_again(k, &p, f);
    }
    test_free(f);
}

/* Runs, and rows of b that follow each other closely: whole vectors of them reach into the next.
 * The bits are those of one call a run. */
static void try_outer_runs(int64_t pixels, int64_t length, int64_t cols)
{
    struct buffers *f = buffers_create();
    const struct kernels *k;
    const struct sizes sizes = {pixels, 0, MAX_RUNS, length};
    int64_t offset[MAX_RUNS];
    for (int i = 0; (k = kernels_at(i)); i++) {
        fill_rows(f, &sizes, offset);
        struct outer_product p = {.pixels = pixels,
                                  .rows = MAX_RUNS * length,
                                  .cols = cols,
                                  .row = f->row,
                                  .runs = offset,
                                  .length = length,
                                  .b = f->b,
                                  .step = cols,
                                  .c = f->y,
                                  .ldc = cols + PAD};
        k->outer_product(&p);
        check_outer(k, &p, f);
        memcpy(f->again, f->y, sizeof f->y);
        p.rows = length;
        for (int run = 0; run < MAX_RUNS; run++, p.c += length * p.ldc) {
            p.runs = offset + run;
            k->outer_product(&p);
        }
        assert_memory_equal(f->again, f->y, sizeof f->y);
    }
    test_free(f);
}

static void test_outer_runs(void **state)
{
    (void)state;
    for (int64_t length = 1; length <= MAX_LENGTH; length += length < 14 ? 1 : 13)
        for (int64_t cols = 1; cols <= MAX_COLS; cols += cols < 34 ? 3 : 21)
            try_outer_runs(1 + (length + cols) % MAX_ROWS, length, cols);
}

static void test_outer_product(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows <= MAX_LENGTH; rows += rows < 22 ? 1 : 7)
        for (int64_t cols = 1; cols <= MAX_COLS; cols += cols < 34 ? 3 : 13)
            try_outer(1 + (rows + cols) % MAX_ROWS, rows, cols);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_product),
        cmocka_unit_test(test_outer_product),
        cmocka_unit_test(test_outer_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
