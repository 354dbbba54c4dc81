/* test_kernels_finish_both.c: activations that end a pass, of every table of kernels that this
 * processor runs: against the C library in double, at the edges, the bits of a number whatever its
 * place, and that nothing else is read or written. */
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POINTS = 400001, COLS_MOST = 70 };

static const real SENTINEL = (real)-12345;

/* ---- what they should be --------------------------------------------------------------------- */

static double none(double x)
{
    return x;
}

static double relu(double x)
{
    return x <= 0 ? 0 : x;
}

static double relu6(double x)
{
    return x <= 0 ? 0 : x >= 6 ? 6 : x;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double gelu(double x)
{
    return 0.5 * x * (1 + erf(x * M_SQRT1_2));
}

static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* `error`: in units of the type's precision, of the size of the argument and of the result. Gelu
 * subtracts nearly equal numbers in its left tail: there the argument's size counts. */
static const struct {
    const char *name;
    double (*f)(double x);
    double of_argument, of_result;
} functions[ACTIVATIONS] = {
    [ACTIVATION_NONE] = {"none", none, 0, 0},
    [ACTIVATION_RELU] = {"relu", relu, 0, 0},
    [ACTIVATION_RELU6] = {"relu6", relu6, 0, 0},
    [ACTIVATION_SIGMOID] = {"sigmoid", sigmoid, 0, 4},
    [ACTIVATION_TANH] = {"tanh", tanh, 0, 3},
    [ACTIVATION_SILU] = {"silu", silu, 0, 5},
    [ACTIVATION_GELU] = {"gelu", gelu, 1, 4},
    [ACTIVATION_GELU_TANH] = {"gelu, tanh", gelu_tanh, 2, 6},
};

static double unit(void)
{
    return sizeof(real) == sizeof(float) ? 6e-8 : 1.2e-16;
}

static void finish(const struct kernels *k, int f, const struct finish_rows *rows)
{
    k->finish[f](rows);
}

static void check_values(const struct kernels *k, int f, const real *x, real *y)
{
    finish(k, f, &(struct finish_rows){.rows = 1, .cols = POINTS, .ld = POINTS, .x = x, .y = y});
    for (int i = 0; i < POINTS; i++) {
        const double expected = functions[f].f((double)x[i]), found = (double)y[i];
        const double error = unit() * (functions[f].of_argument * fabs((double)x[i]) +
                                       functions[f].of_result * fabs(expected));
        if (!(fabs(found - expected) <= error + 1e-38))
            fail_msg("%s %s(%.9g) is %.9g, not %.9g", k->name, functions[f].name, (double)x[i],
                     found, expected);
    }
}

static void test_values(void **state)
{
    (void)state;
    real *x = malloc(POINTS * sizeof *x), *y = malloc(POINTS * sizeof *y);
    const struct kernels *k;
    for (int i = 0; i < POINTS; i++) /* denser near 0 */
        x[i] = (real)(30 * pow((i - POINTS / 2) / (POINTS / 2.0), 3));
    for (int t = 0; (k = kernels_at(t)); t++)
        for (int f = 0; f < ACTIVATIONS; f++)
            check_values(k, f, x, y);
    free(x);
    free(y);
}

/* NaN stays, infinities have limits. */
static void test_edges(void **state)
{
    (void)state;
    static const double limits[ACTIVATIONS][2] = {[ACTIVATION_NONE] = {-INFINITY, INFINITY},
                                                  [ACTIVATION_RELU] = {0, INFINITY},
                                                  [ACTIVATION_RELU6] = {0, 6},
                                                  [ACTIVATION_SIGMOID] = {0, 1},
                                                  [ACTIVATION_TANH] = {-1, 1},
                                                  [ACTIVATION_SILU] = {0, 200},
                                                  [ACTIVATION_GELU] = {0, 200},
                                                  [ACTIVATION_GELU_TANH] = {0, 200}};
    const struct kernels *k;
    for (int t = 0; (k = kernels_at(t)); t++)
        for (int f = 0; f < ACTIVATIONS; f++) {
            const bool finite = isfinite(limits[f][1]) && limits[f][1] > 6;
            real x[3] = {finite ? -200 : -(real)INFINITY, finite ? 200 : (real)INFINITY, (real)NAN};
            finish(k, f, &(struct finish_rows){.rows = 3, .cols = 1, .ld = 1, .x = x, .y = x});
            assert_true(fabs((double)x[0] - limits[f][0]) < 1e-30 || (double)x[0] == limits[f][0]);
            assert_true((double)x[1] == limits[f][1]);
            assert_true(isnan(x[2]));
        }
}

/* Two rows of `cols` numbers and a residual against one number at a time. */
static void check_rows(const struct kernels *k, int f, int64_t cols, bool last)
{
    enum { LD = COLS_MOST + 3 };
    real x[2 * LD], residual[2 * LD], y[2 * LD];
    for (int i = 0; i < 2 * LD; i++) {
        const bool pad = i % LD >= cols;
        x[i] = pad ? (real)NAN : (real)(i % 17 - 8) / 3;
        residual[i] = pad ? (real)NAN : (real)(i % 11 - 5) / 7;
        y[i] = SENTINEL;
    }
    struct finish_rows rows = {
        .rows = 2, .cols = cols, .ld = LD, .x = x, .residual = residual, .residual_last = last};
    rows.y = y;
    finish(k, f, &rows);
    for (int i = 0; i < 2 * LD; i++) {
        real one;
        if (i % LD >= cols) {
            assert_true(y[i] == SENTINEL);
            continue;
        }
        finish(k, f,
               &(struct finish_rows){.rows = 1,
                                     .cols = 1,
                                     .ld = 1,
                                     .x = x + i,
                                     .residual = residual + i,
                                     .residual_last = last,
                                     .y = &one});
        assert_memory_equal(&one, y + i, sizeof one);
        real apart;
        finish(k, f, &(struct finish_rows){.rows = 1, .cols = 1, .ld = 1, .x = x + i, .y = &apart});
        if (last) { /* the bits of two operators */
            apart += residual[i];
            assert_memory_equal(&one, &apart, sizeof one);
        }
        const double a = (double)x[i], b = (double)residual[i];
        const double expected =
            last ? functions[f].f(a) + b : functions[f].f((double)(real)(a + b));
        assert_true(fabs((double)one - expected) < 1e-6);
    }
}

static void test_rows(void **state)
{
    (void)state;
    const struct kernels *k;
    for (int t = 0; (k = kernels_at(t)); t++)
        for (int f = 0; f < ACTIVATIONS; f++)
            for (int64_t cols = 1; cols <= COLS_MOST; cols++)
                for (int last = 0; last < 2; last++)
                    check_rows(k, f, cols, last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
