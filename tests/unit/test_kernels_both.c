/* test_kernels_both.c: every table of kernels that this processor runs against sums in double, the
 * bits of a number alone and among others, and that nothing else is read or written. */
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_SIZE = 200, PAD = 3, COUNT = MAX_SIZE * (MAX_SIZE + PAD) };

static const real SENTINEL = (real)-12345;

struct buffers {
    real a[COUNT], b[COUNT], bias[MAX_SIZE], c[COUNT], again[COUNT];
};

static struct buffers *buffers_create(void)
{
    struct buffers *f = malloc(sizeof *f);
    assert_non_null(f);
    uint64_t state = 88172645463325252u;
    real *all[] = {f->a, f->b, f->bias};
    const int counts[] = {COUNT, COUNT, MAX_SIZE};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < counts[k]; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            all[k][i] = (real)((double)(state >> 40) / (1 << 24) - 0.5);
        }
    return f;
}

/* One product: c[rows][cols] of a[rows][k] and b, which is [cols][k] for linear, [k][cols] for
 * matmul. Leading dimensions are PAD more than the sizes; the pads hold NaN. */
struct product {
    bool linear;
    int64_t rows, cols, k;
};

static int64_t ldb_of(const struct product *p)
{
    return (p->linear ? p->k : p->cols) + PAD;
}

static void run_kernel(const struct kernels *kernels, const struct product *p, const real *a,
                       const real *b, const real *bias, real *c)
{
    if (p->linear)
        kernels->linear(p->rows, p->cols, p->k, a, p->k + PAD, b, ldb_of(p), bias, c,
                        p->cols + PAD);
    else
        kernels->matmul(p->rows, p->cols, p->k, a, p->k + PAD, b, ldb_of(p), c, p->cols + PAD);
}

static void fill_pads(real *x, int64_t rows, int64_t cols, real value)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = cols; j < cols + PAD; j++)
            x[i * (cols + PAD) + j] = value;
}

static void check_values(const struct kernels *kernels, const struct product *p,
                         const struct buffers *f)
{
    const double unit = sizeof(real) == sizeof(float) ? 6e-8 : 1.2e-16;
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < p->cols; j++) {
            double sum = p->linear ? (double)f->bias[j] : 0, size = fabs(sum);
            for (int64_t q = 0; q < p->k; q++) {
                int64_t at = p->linear ? j * ldb_of(p) + q : q * ldb_of(p) + j;
                double term = (double)f->a[i * (p->k + PAD) + q] * (double)f->b[at];
                sum += term;
                size += fabs(term);
            }
            double found = (double)f->c[i * (p->cols + PAD) + j];
            if (!(fabs(found - sum) <= unit * size * (double)(p->k + 4)))
                fail_msg("%s %s %dx%dx%d at (%d, %d): %.17g, not %.17g", kernels->name,
                         p->linear ? "linear" : "matmul", (int)p->rows, (int)p->cols, (int)p->k,
                         (int)i, (int)j, found, sum);
        }
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = p->cols; j < p->cols + PAD; j++)
            assert_true(f->c[i * (p->cols + PAD) + j] == SENTINEL);
}

/* Each row alone has the bits that it has among the others. */
static void check_rows_alone(const struct kernels *kernels, const struct product *p,
                             struct buffers *f)
{
    struct product alone = *p;
    alone.rows = 1;
    for (int64_t i = 0; i < p->rows; i++) {
        run_kernel(kernels, &alone, f->a + i * (p->k + PAD), f->b, f->bias, f->again);
        assert_memory_equal(f->again, f->c + i * (p->cols + PAD), (size_t)p->cols * sizeof(real));
    }
}

/* A block from the middle has them, too: linear cuts its outputs as callers please. */
static void check_block(const struct kernels *kernels, const struct product *p, struct buffers *f)
{
    if (!p->linear || p->rows < 3 || p->cols < 3)
        return;
    run_kernel(kernels, &(struct product){true, p->rows - 2, p->cols - 2, p->k}, f->a + p->k + PAD,
               f->b + ldb_of(p), f->bias + 1, f->again);
    for (int64_t i = 0; i < p->rows - 2; i++)
        assert_memory_equal(f->again + i * (p->cols - 2 + PAD),
                            f->c + (i + 1) * (p->cols + PAD) + 1,
                            (size_t)(p->cols - 2) * sizeof(real));
}

static void check_product(const struct product *p)
{
    const struct kernels *kernels;
    struct buffers *f = buffers_create();
    fill_pads(f->a, p->rows, p->k, (real)NAN);
    fill_pads(f->b, p->linear ? p->cols : p->k, p->linear ? p->k : p->cols, (real)NAN);
    for (int i = 0; (kernels = kernels_at(i)); i++) {
        for (int64_t j = 0; j < p->rows * (p->cols + PAD); j++)
            f->c[j] = SENTINEL;
        run_kernel(kernels, p, f->a, f->b, f->bias, f->c);
        check_values(kernels, p, f);
        check_rows_alone(kernels, p, f);
        check_block(kernels, p, f);
    }
    free(f);
}

static const int64_t sizes_k[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 79, 200};

static void test_products(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows <= 9; rows++)
        for (int64_t cols = 1; cols <= 9; cols++)
            for (size_t k = 0; k < sizeof sizes_k / sizeof sizes_k[0]; k++)
                for (int linear = 0; linear < 2; linear++)
                    check_product(&(struct product){linear, rows, cols, sizes_k[k]});
}

static void test_wide_products(void **state)
{
    (void)state;
    const int64_t widths[] = {15, 16, 17, 31, 32, 33, 63, 65, 127, 130, 163, 200};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        for (int64_t rows = 1; rows <= 6; rows++)
            for (int linear = 0; linear < 2; linear++)
                check_product(&(struct product){linear, rows, widths[i], 19});
}

static void test_no_bias(void **state)
{
    (void)state;
    struct buffers *f = buffers_create();
    const struct kernels *k;
    for (int i = 0; (k = kernels_at(i)); i++) {
        k->linear(3, 5, 21, f->a, 21, f->b, 21, NULL, f->c, 5);
        memset(f->bias, 0, sizeof f->bias);
        k->linear(3, 5, 21, f->a, 21, f->b, 21, f->bias, f->again, 5);
        assert_memory_equal(f->c, f->again, 15 * sizeof(real));
    }
    free(f);
}

/* A NaN or an infinity stays in its own row. */
static void test_not_finite(void **state)
{
    (void)state;
    struct buffers *f = buffers_create();
    const struct kernels *k;
    f->a[2 * 21 + 20] = (real)NAN;
    f->a[4 * 21] = (real)INFINITY;
    for (int i = 0; (k = kernels_at(i)); i++) {
        k->linear(6, 5, 21, f->a, 21, f->b, 21, f->bias, f->c, 5);
        k->matmul(6, 20, 21, f->a, 21, f->b, 20, f->again, 20);
        for (int row = 0; row < 6; row++)
            for (int j = 0; j < 5; j++) {
                assert_int_equal(isfinite(f->c[row * 5 + j]) != 0, row != 2 && row != 4);
                assert_int_equal(isfinite(f->again[row * 20 + j]) != 0, row != 2 && row != 4);
            }
    }
    free(f);
}

/* ---- rows of layer norm ---------------------------------------------------------------------- */

/* As the kernels' header says it, in double. Some rows are longer than their sums have lanes. */
static void check_row(const struct kernels *k, int64_t n, const struct buffers *f,
                      struct buffers *to, const real *weight, const real *bias)
{
    const real mean = (real)0.125, invstd = (real)1.5, shift = (real)0.25, slope = (real)0.75;
    const real *x = f->a, *g = f->b;
    double sum = 0, squares = 0, dot = 0;
    to->c[n] = to->again[n] = SENTINEL;
    const struct norm_row p = {n, mean, invstd, x, weight, bias, to->c};
    k->row_normalize(&p);
    k->row_normalize_gradient(&p, shift, slope, g, to->again);
    for (int64_t i = 0; i < n; i++) {
        const double off = (double)x[i] - (double)mean;
        const double scaled = off * (double)invstd * (weight ? (double)weight[i] : 1);
        const double dx = ((double)g[i] - (double)shift - off * (double)slope) * (double)invstd;
        sum += (double)x[i];
        squares += off * off;
        dot += (double)g[i] * off;
        assert_true(fabs((double)to->c[i] - scaled - (bias ? (double)bias[i] : 0)) < 1e-6);
        assert_true(fabs((double)to->again[i] - dx) < 1e-6);
    }
    assert_true(to->c[n] == SENTINEL && to->again[n] == SENTINEL);
    assert_true(fabs(k->row_sum(n, x) - sum) < 1e-12);
    assert_true(fabs(k->row_squares(n, x, (double)mean) - squares) < 1e-12);
    assert_true(fabs(k->row_dot(n, g, x, (double)mean) - dot) < 1e-12);
}

static void test_rows(void **state)
{
    (void)state;
    struct buffers *f = buffers_create(), *to = buffers_create();
    const struct kernels *k;
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int64_t n = 0; n < MAX_SIZE; n++) {
            check_row(k, n, f, to, NULL, NULL);
            check_row(k, n, f, to, f->bias, NULL);
            check_row(k, n, f, to, NULL, f->bias);
            check_row(k, n, f, to, f->a + 7, f->bias);
        }
    free(f);
    free(to);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Each number once, what lies between runs not at all. */
static void test_add_runs(void **state)
{
    (void)state;
    struct buffers *f = buffers_create(), *to = buffers_create();
    const struct kernels *k;
    enum { RUNS = 3, FROM = 50, TO = 60 };
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int64_t n = 0; n <= FROM; n++) {
            for (int64_t at = 0; at < RUNS * TO; at++)
                to->c[at] = f->b[at];
            k->add_runs(RUNS, n, f->a, FROM, to->c, TO);
            for (int64_t at = 0; at < RUNS * TO; at++)
                assert_true(to->c[at] ==
                            f->b[at] + (at % TO < n ? f->a[at / TO * FROM + at % TO] : 0));
        }
    free(f);
    free(to);
}

/* ---- layouts --------------------------------------------------------------------------------- */

/* Every number goes to its place, and nothing beside the rows is written; rows that touch and rows
 * that do not. */
static void check_transpose(const struct kernels *k, struct buffers *f, int64_t rows, int64_t cols,
                            int64_t gap)
{
    const int64_t src_step = cols + gap, dst_step = rows + gap, n = cols * dst_step;
    for (int64_t i = 0; i < n + PAD; i++)
        f->c[i] = SENTINEL;
    k->transpose(&(struct transpose_rows){rows, cols, f->a, src_step, f->c, dst_step});
    for (int64_t i = 0; i < n + PAD; i++) {
        const bool inside = i < n && i % dst_step < rows;
        assert_true(f->c[i] == (inside ? f->a[i % dst_step * src_step + i / dst_step] : SENTINEL));
    }
}

static void test_transpose(void **state)
{
    (void)state;
    struct buffers *f = buffers_create();
    const struct kernels *k;
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int64_t rows = 0; rows <= 35; rows++)
            for (int64_t cols = 0; cols <= 35; cols++)
                for (int64_t gap = 0; gap < 2; gap++)
                    check_transpose(k, f, rows, cols, gap);
    free(f);
}

static void test_choice(void **state)
{
    (void)state;
    const struct kernels *best = kernels_at(0), *k;
    assert_ptr_equal(kernels(), best);
    for (int i = 0; (k = kernels_at(i)); i++) {
        setenv("BACKPROP_KERNELS", k->name, 1);
        engine_start();
        assert_ptr_equal(kernels(), k);
        assert_non_null(strstr(engine_fingerprint(), k->name));
    }
    setenv("BACKPROP_KERNELS", "nonesuch", 1);
    engine_start();
    assert_ptr_equal(kernels(), best);
    unsetenv("BACKPROP_KERNELS");
    engine_start();
    assert_ptr_equal(kernels(), best);
    assert_non_null(strstr(engine_fingerprint(), sizeof(real) == 4 ? "float" : "double"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),        cmocka_unit_test(test_products),
        cmocka_unit_test(test_wide_products), cmocka_unit_test(test_no_bias),
        cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_rows),
        cmocka_unit_test(test_add_runs),      cmocka_unit_test(test_transpose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
