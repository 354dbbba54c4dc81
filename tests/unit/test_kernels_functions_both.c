/* test_kernels_functions_both.c: e^x and the activations of every table of kernels that this
 * processor runs, against the C library in double: the error in units of the last place, what
 * becomes of infinities and NaN, and that a number's bits depend on nothing else. */
#include "kernels.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 100003, SHORT = 70 };

static double sigmoid_of(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double relu_of(double x)
{
    return x <= 0 ? 0 : x;
}

static double relu_slope(double x)
{
    return x <= 0 ? 0 : 1;
}

static double silu_of(double x)
{
    return x * sigmoid_of(x);
}

static double silu_slope(double x)
{
    const double s = sigmoid_of(x);
    return s * (1 + x * (1 - s));
}

static double gelu_of(double x)
{
    return x * 0.5 * erfc(-x * M_SQRT1_2);
}

static double gelu_slope(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2) + x * exp(-0.5 * x * x) * 0.5 * M_2_SQRTPI * M_SQRT1_2;
}

static double gelu_inner(double x)
{
    return tanh(M_SQRT2 * M_2_SQRTPI * 0.5 * (x + 0.044715 * x * x * x));
}

static double gelu_tanh_of(double x)
{
    return 0.5 * x * (1 + gelu_inner(x));
}

static double gelu_tanh_slope(double x)
{
    const double t = gelu_inner(x);
    const double inner = M_SQRT2 * M_2_SQRTPI * 0.5 * (1 + 3 * 0.044715 * x * x);
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner;
}

/* `units`: of the last place, of the result; or of `size` where the result is smaller. */
struct function {
    const char *name;
    size_t kernel; /* in struct kernels */
    double (*value)(double x), (*slope)(double x);
    double units, size, slope_units;
};

#define FUNCTION(name, value, slope, ...)                                                          \
    {                                                                                              \
#name, offsetof(struct kernels, name), value, slope, __VA_ARGS__                           \
    }
static const struct function functions[] = {
    FUNCTION(exp, exp, NULL, 2, 0, 0),
    FUNCTION(sigmoid, sigmoid_of, NULL, 4, 0, 0),
    FUNCTION(tanh, tanh, NULL, 4, 0, 0),
    FUNCTION(relu, relu_of, relu_slope, 0, 0, 0),
    FUNCTION(silu, silu_of, silu_slope, 5, 1e-30, 10),
    FUNCTION(gelu, gelu_of, gelu_slope, 5, 1, 5),
    FUNCTION(gelu_tanh, gelu_tanh_of, gelu_tanh_slope, 5, 1, 10),
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static const struct kernel_function *kernel_of(const struct kernels *k, const struct function *f)
{
    return (const struct kernel_function *)(const void *)((const char *)k + f->kernel);
}

/* The distance of two numbers of real near y, or near `least` where y is smaller. */
static double unit_of(double y, double least)
{
    const double epsilon = sizeof(real) == sizeof(float) ? FLT_EPSILON : DBL_EPSILON;
    const double smallest = sizeof(real) == sizeof(float) ? FLT_TRUE_MIN : DBL_TRUE_MIN;
    const double size = fmax(fabs(y), least);
    return fmax(epsilon * size, smallest);
}

/* Both signs of all sizes from 1e-9 to 200, and some special numbers. */
static void numbers_fill(real *x)
{
    for (int i = 0; i < COUNT; i++) {
        const double size = exp(log(1e-9) + (log(200) - log(1e-9)) * i / COUNT);
        x[i] = (real)(i % 2 ? size : -size);
    }
    x[5] = 0;
    x[6] = -(real)0.0;
}

static void check_near(const struct kernels *k, const char *name, double x, double found,
                       double expected, double bound)
{
    if (expected > (sizeof(real) == sizeof(float) ? FLT_MAX : DBL_MAX))
        expected = INFINITY;
    if (found != expected && !(fabs(found - expected) <= bound))
        fail_msg("%s of %s at %.9g: %.9g, not %.9g; %.2f of what is allowed", name, k->name, x,
                 found, expected, fabs(found - expected) / bound);
}

static void check_function(const struct kernels *k, const struct function *f, const real *x,
                           const real *ones, real *y)
{
    kernel_of(k, f)->value(COUNT, x, y);
    for (int i = 0; i < COUNT; i++) {
        const double expected = f->value((double)x[i]);
        check_near(k, f->name, (double)x[i], (double)y[i], expected,
                   f->units * unit_of(expected, f->size));
    }
    if (!f->slope)
        return;
    kernel_of(k, f)->gradient(COUNT, x, ones, y);
    for (int i = 0; i < COUNT; i++)
        check_near(k, f->name, (double)x[i], (double)y[i], f->slope((double)x[i]),
                   f->slope_units * unit_of(1, 1));
}

static void test_error(void **state)
{
    (void)state;
    const struct kernels *k;
    real *x = calloc(3 * COUNT, sizeof *x), *ones = x + COUNT, *y = ones + COUNT;
    assert_non_null(x);
    numbers_fill(x);
    for (int i = 0; i < COUNT; i++)
        ones[i] = 1;
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int f = 0; f < FUNCTIONS; f++)
            check_function(k, &functions[f], x, ones, y);
    free(x);
}

/* exp's overflow and the numbers below the smallest normal one. */
static void test_exp_ends(void **state)
{
    (void)state;
    const struct kernels *k;
    const double top = log(sizeof(real) == sizeof(float) ? FLT_MAX : DBL_MAX);
    const double bottom = log(sizeof(real) == sizeof(float) ? FLT_TRUE_MIN : DBL_TRUE_MIN);
    real x[SHORT], y[SHORT];
    for (int i = 0; i < SHORT; i++)
        x[i] = (real)(i % 2 ? top + (i - SHORT / 2) * 0.02 : bottom + (i - 10) * 0.4);
    for (int i = 0; (k = kernels_at(i)); i++) {
        k->exp.value(SHORT, x, y);
        for (int j = 0; j < SHORT; j++) {
            const double expected = exp((double)x[j]);
            check_near(k, "exp", (double)x[j], (double)y[j], expected, 2 * unit_of(expected, 0));
        }
    }
}

static void test_special(void **state)
{
    (void)state;
    const struct kernels *k;
    const real x[] = {INFINITY, -INFINITY, NAN}, one[] = {1, 1, 1};
    real y[3];
    for (int i = 0; (k = kernels_at(i)); i++) {
        k->exp.value(3, x, y);
        assert_true(y[0] == INFINITY && y[1] == 0);
        k->sigmoid.value(3, x, y);
        assert_true(y[0] == 1 && y[1] == 0);
        k->tanh.value(3, x, y);
        assert_true(y[0] == 1 && y[1] == -1);
        for (int f = 0; f < FUNCTIONS; f++) {
            kernel_of(k, &functions[f])->value(3, x, y);
            assert_true(isnan(y[2]));
            if (functions[f].slope) {
                kernel_of(k, &functions[f])->gradient(3, x, one, y);
                if (functions[f].slope == relu_slope) /* as torch's: it lets the gradient through */
                    assert_true(y[0] == 1 && y[1] == 0 && y[2] == 1);
                else
                    assert_true(isnan(y[2]));
            }
        }
    }
}

/* Alone, in place and among others a number becomes the same; what lies behind stays as it was. */
static void check_bits(const struct kernel_function *f, const real *x)
{
    real all[SHORT], some[SHORT + 1];
    f->value(SHORT, x, all);
    for (int n = 1; n < SHORT; n++) {
        memcpy(some, x + SHORT - n, (size_t)n * sizeof *some);
        some[n] = 12345;
        f->value(n, some, some);
        assert_memory_equal(some, all + SHORT - n, (size_t)n * sizeof *some);
        assert_true(some[n] == 12345);
    }
}

static void test_bits(void **state)
{
    (void)state;
    const struct kernels *k;
    real x[SHORT];
    for (int i = 0; i < SHORT; i++)
        x[i] = (real)(0.37 * (i - SHORT / 2));
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int f = 0; f < FUNCTIONS; f++)
            check_bits(kernel_of(k, &functions[f]), x);
}

static void check_softmax(const struct kernels *k, int n, const real *x)
{
    real y[SHORT + 1];
    double sum = 0, most = -INFINITY;
    for (int i = 0; i < n; i++)
        most = fmax(most, (double)x[i]);
    y[n] = 12345;
    assert_true((double)k->largest(n, x) == most);
    const double found = k->exp_sum(n, x, 3, y);
    for (int i = 0; i < n; i++) {
        const double expected = exp((double)x[i] - 3);
        check_near(k, "exp_sum", (double)x[i], (double)y[i], expected, 10 * unit_of(expected, 0));
        sum += (double)y[i];
    }
    assert_true(y[n] == 12345);
    assert_true(fabs(found - sum) <= 20 * unit_of(sum, 0));
}

static void test_softmax(void **state)
{
    (void)state;
    const struct kernels *k;
    real x[SHORT];
    for (int i = 0; i < SHORT; i++)
        x[i] = (real)(i * 37 % SHORT) / 8;
    for (int i = 0; (k = kernels_at(i)); i++) {
        for (int n = 1; n <= SHORT; n++)
            check_softmax(k, n, x);
        assert_true(k->largest(0, x) == -INFINITY);
        for (int n = 1; n <= SHORT; n++)
            for (int at = 0; at < n; at++) {
                real with[SHORT];
                memcpy(with, x, sizeof with);
                with[at] = 1000;
                assert_true(k->largest(n, with) == 1000);
                with[at] = NAN;
                assert_true(isnan(k->largest(n, with)));
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error),   cmocka_unit_test(test_exp_ends),
        cmocka_unit_test(test_special), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
