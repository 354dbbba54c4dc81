/* test_number.c: numbers against strtof, strtod and strtoll, bit by bit, and what they cost. */
#define _GNU_SOURCE
#include "../../server/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static uint64_t double_bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    return u;
}

/* Reads text whole; the results must have the bits that the C library gives. */
static void check_text(const char *text)
{
    struct number n;
    const char *where = NULL, *end = text + strlen(text);
    if (number_scan(text, end, &n, &where) != end)
        fail_msg("%s: not read to its end", text);
    float f = strtof(text, NULL), got = 0;
    bool fits = number_float(&n, &got);
    if (fits != (bool)isfinite(f) || (fits && float_bits(f) != float_bits(got)))
        fail_msg("%s: float %.9g, strtof %.9g", text, (double)got, (double)f);
    double d = strtod(text, NULL), got_d = 0;
    fits = number_double(&n, &got_d);
    if (fits != (bool)isfinite(d) || (fits && double_bits(d) != double_bits(got_d)))
        fail_msg("%s: double %.17g, strtod %.17g", text, got_d, d);
}

static void test_known_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "-0.0e5",
        "0e999999999999999999999",
        "1",
        "-1",
        "10",
        "1e22",
        "1e23",
        "16777216",
        "16777217",
        "16777219",
        "16777217.0000000000000000000000001",
        "9007199254740992",
        "9007199254740993",
        "9007199254740993.00000000000000000000000001",
        "9007199254740992.99999999999999999999999",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999",
        "3.4028235e38",
        "3.4028234663852886e38",
        "3.4028235677973366e38",
        "3.40282356779733661637e38",
        "1e39",
        "1e308",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e309",
        "1e400",
        "1e-400",
        "1.17549435e-38",
        "1.1754943508e-38",
        "1.4e-45",
        "7.006492321624085e-46",
        "7.0064923216240853546186479164495e-46",
        "7.0064923216240853546186479164496e-46",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "4.9e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "0.000000000000000000000000000000000000000000000000001e51",
        "100000000000000000000000000000000000000000000000000e-50",
        "1e0000000000000000000000001",
        "0.30000000000000004",
        "8.98846567431158e307",
        "123456789012345678",
        "1234567890123456789",
        "12345678901234567890",
        "0.1234567890123456789012345678901234567890",
        "1E5",
        "1e+5",
        "1e-05",
        "1.00000000000000000000000000000000000000",
        "0.500000029802322387695312500000000000000000000000000000000000001"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_text(texts[i]);
}

/* Decimals around the middle between two floats: every digit counts. */
static void test_midpoints(void **state)
{
    (void)state;
    uint64_t seed = 7;
    char text[1200];
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = (uint32_t)random_next(&seed) & 0x7FFFFFFF;
        float low, high;
        uint32_t next = bits + 1;
        memcpy(&low, &bits, sizeof low);
        memcpy(&high, &next, sizeof high);
        if (!isfinite(low) || !isfinite(high))
            continue;
        double middle = ((double)low + (double)high) / 2;
        size_t n = (size_t)snprintf(text, sizeof text, "%.180e", middle);
        check_text(text);
        char *e = strchr(text, 'e');
        e[-1] = '1'; /* a little more than the middle */
        check_text(text);
        snprintf(text, sizeof text, "%.*e", (int)(n % 40), middle);
        check_text(text);
    }
}

static void test_long_digits(void **state)
{
    (void)state;
    uint64_t seed = 9;
    char text[1300];
    for (int i = 0; i < 3000; i++) {
        uint64_t bits = random_next(&seed) & 0x7FFFFFFFFFFFFFFFu;
        double d;
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d))
            continue;
        snprintf(text, sizeof text, "%.1100e", d);
        check_text(text);
        strchr(text, 'e')[-1] = '3';
        check_text(text);
    }
}

static void test_random_texts(void **state)
{
    (void)state;
    uint64_t seed = 1;
    char text[80];
    for (int i = 0; i < 2000000; i++) {
        uint64_t r = random_next(&seed), bits = random_next(&seed);
        double d;
        float f;
        memcpy(&d, &bits, sizeof d);
        memcpy(&f, &bits, sizeof f);
        if (!isfinite(d) || !isfinite(f))
            continue;
        switch (r % 5) {
        case 0:
            snprintf(text, sizeof text, "%.*g", (int)(r >> 8) % 24 + 1, d);
            break;
        case 1:
            snprintf(text, sizeof text, "%.*g", (int)(r >> 8 & 15) + 1, (double)f);
            break;
        case 2:
            snprintf(text, sizeof text, "%.*f", (int)(r >> 8 & 15), (double)(int64_t)bits * 1e-12);
            break;
        case 3:
            snprintf(text, sizeof text, "%llue%d", (unsigned long long)bits,
                     (int)(r >> 8 & 63) - 40);
            break;
        default:
            snprintf(text, sizeof text, "%.*f", (int)(r >> 8 & 15), (double)bits * 0x1p-64);
        }
        check_text(text);
    }
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum number_whole want;
        int64_t value;
    } rows[] = {
        {"0", NUMBER_WHOLE, 0},
        {"-0", NUMBER_WHOLE, 0},
        {"7", NUMBER_WHOLE, 7},
        {"1.0", NUMBER_WHOLE, 1},
        {"1e3", NUMBER_WHOLE, 1000},
        {"1200e-2", NUMBER_WHOLE, 12},
        {"0e99999999999", NUMBER_WHOLE, 0},
        {"9223372036854775807", NUMBER_WHOLE, INT64_MAX},
        {"-9223372036854775808", NUMBER_WHOLE, INT64_MIN},
        {"9223372036854775808", NUMBER_OVERFLOW, 0},
        {"-9223372036854775809", NUMBER_OVERFLOW, 0},
        {"9223372036854775807.000000000000000", NUMBER_WHOLE, INT64_MAX},
        {"5.0000000000000000000000000000", NUMBER_WHOLE, 5},
        {"5.0000000000000000000000000001", NUMBER_FRACTIONAL, 0},
        {"123456789012345678901234567890", NUMBER_OVERFLOW, 0},
        {"1e30", NUMBER_OVERFLOW, 0},
        {"1e-1", NUMBER_FRACTIONAL, 0},
        {"1.5", NUMBER_FRACTIONAL, 0},
        {"1e-99999999999999", NUMBER_FRACTIONAL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct number n;
        const char *where;
        int64_t v = 0;
        assert_non_null(number_scan(rows[i].text, rows[i].text + strlen(rows[i].text), &n, &where));
        if (number_int64(&n, &v) != rows[i].want || v != rows[i].value)
            fail_msg("%s: %lld", rows[i].text, (long long)v);
    }
    uint64_t u = 0, seed = 3;
    struct number n;
    const char *where, most[] = "18446744073709551615", more[] = "18446744073709551616";
    number_scan(most, most + 20, &n, &where);
    assert_true(number_uint64(&n, &u) == NUMBER_WHOLE && u == UINT64_MAX);
    number_scan(more, more + 20, &n, &where);
    assert_true(number_uint64(&n, &u) == NUMBER_OVERFLOW);
    for (int i = 0; i < 100000; i++) {
        int64_t v = (int64_t)random_next(&seed) >> (random_next(&seed) & 63), got = 0;
        char text[NUMBER_INT_MAX];
        size_t size = number_write_int(text, v);
        number_scan(text, text + size, &n, &where);
        assert_true(number_int64(&n, &got) == NUMBER_WHOLE && got == v);
    }
}

/* What is no number, and where it stops being one. */
static void test_grammar(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int used; /* length of the number; -1 - where it broke */
    } rows[] = {{"", -1},     {"-", -2},        {"+1", -1},        {".5", -1},  {"1.", -3},
                {"1.e5", -3}, {"1e", -3},       {"1e+", -4},       {"1ex", -3}, {"-a", -2},
                {"NaN", -1},  {"Infinity", -1}, {"-Infinity", -2}, {"01", 1},   {"0x10", 1},
                {"1f", 1},    {"1,2", 1},       {"1.5.2", 3},      {"-01", 2},  {"12345678]", 8},
                {"1e5e5", 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct number n;
        const char *where = NULL, *text = rows[i].text;
        const char *after = number_scan(text, text + strlen(text), &n, &where);
        int used = after ? (int)(after - text) : -1 - (int)(where - text);
        if (used != rows[i].used)
            fail_msg("'%s': %d, expected %d", text, used, rows[i].used);
    }
}

static void check_write_float(float f)
{
    char text[NUMBER_FLOAT_MAX + 1];
    size_t size = number_write_float(text, f);
    assert_in_range(size, 1, NUMBER_FLOAT_MAX);
    text[size] = 0;
    struct number n;
    const char *where;
    float back = 0;
    if (number_scan(text, text + size, &n, &where) != text + size || !number_float(&n, &back) ||
        float_bits(back) != float_bits(f))
        fail_msg("%.9g was written as %s", (double)f, text);
}

/* No shorter decimal reads back, and none as short is nearer. */
static void check_shortest(float f)
{
    char text[NUMBER_FLOAT_MAX + 1], printed[40];
    text[number_write_float(text, f)] = 0;
    int precision = 0;
    do
        snprintf(printed, sizeof printed, "%.*e", precision, (double)f);
    while (strtof(printed, NULL) != f && precision++ < 9);
    int digits = 0, zeros = 0;
    for (const char *p = text; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9' && (digits || *p != '0')) {
            digits++;
            zeros = *p == '0' ? zeros + 1 : 0;
        }
    if (digits - zeros > precision + 1)
        fail_msg("%s has more digits than %s", text, printed);
    if (digits - zeros == precision + 1 &&
        fabs(strtod(printed, NULL) - (double)f) < fabs(strtod(text, NULL) - (double)f))
        fail_msg("%s is nearer than %s", printed, text);
}

static void test_write_float(void **state)
{
    (void)state;
    static const struct {
        float f;
        const char *text;
    } rows[] = {{0, "0"},
                {-0.0f, "-0.0"},
                {1, "1"},
                {-1, "-1"},
                {0.1f, "0.1"},
                {0.3f, "0.3"},
                {1e-5f, "0.00001"},
                {1.2345679e-5f, "0.000012345679"},
                {1e-6f, "1e-6"},
                {1e-45f, "1e-45"},
                {3.4028235e38f, "3.4028235e38"},
                {1.1754944e-38f, "1.1754944e-38"},
                {16777216, "16777216"},
                {1e9f, "1e9"},
                {123456790, "123456790"},
                {2.5f, "2.5"},
                {-1.17549435e-38f, "-1.1754944e-38"},
                {8388608.5f, "8388608"},
                {0.5f, "0.5"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[NUMBER_FLOAT_MAX + 1];
        text[number_write_float(text, rows[i].f)] = 0;
        assert_string_equal(text, rows[i].text);
        check_write_float(rows[i].f);
    }
    uint64_t seed = 5;
    for (int i = 0; i < 4000000; i++) {
        uint32_t bits = (uint32_t)random_next(&seed);
        float f;
        memcpy(&f, &bits, sizeof f);
        if (!isfinite(f))
            continue;
        check_write_float(f);
        if (i % 20 == 0)
            check_shortest(f);
    }
    for (uint32_t e = 0; e < 255; e++) /* powers of two and their neighbours */
        for (int i = -2; i <= 2; i++) {
            uint32_t bits = (e << 23) + (uint32_t)i;
            float f;
            memcpy(&f, &bits, sizeof f);
            if (isfinite(f)) {
                check_write_float(f);
                check_shortest(f);
            }
        }
}

static void test_write_double(void **state)
{
    (void)state;
    uint64_t seed = 6;
    char text[NUMBER_DOUBLE_MAX + 1];
    for (int i = 0; i < 300000; i++) {
        uint64_t bits = random_next(&seed);
        double d;
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d))
            continue;
        text[number_write_double(text, d)] = 0;
        assert_true(double_bits(strtod(text, NULL)) == bits);
    }
    static const struct {
        double d;
        const char *text;
    } rows[] = {{0.1, "0.1"},      {-0.0, "-0.0"},     {0, "0"},
                {100, "100"},      {5e-324, "5e-324"}, {0.1 + 0.2, "0.30000000000000004"},
                {1e300, "1e+300"}, {-2.5, "-2.5"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        text[number_write_double(text, rows[i].d)] = 0;
        assert_string_equal(text, rows[i].text);
    }
}

/* ---- what they cost -------------------------------------------------------------------------- */

enum { TIMED = 20000, ROUNDS = 10 };

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void time_reading(const char *format, const char *what)
{
    char *text = malloc(TIMED * 32), *p = text;
    uint64_t seed = 11;
    assert_non_null(text);
    for (int i = 0; i < TIMED; i++)
        p += sprintf(p, format, ((double)random_next(&seed) * 0x1p-63 - 1) * 3) + 1;
    double best = 1e30;
    float sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        const char *q = text;
        while (q < p) {
            struct number n;
            const char *where;
            float f = 0;
            q = number_scan(q, p, &n, &where) + 1;
            number_float(&n, &f);
            sum += f;
        }
        best = fmin(best, now_ns() - start);
    }
    assert_true(isfinite(sum));
    print_message("number_float, %s: %.1f ns\n", what, best / TIMED);
    free(text);
}

static void test_time(void **state)
{
    (void)state;
    time_reading("%.4f", "5 digits");
    time_reading("%.8f", "9 digits");
    time_reading("%.16f", "17 digits");
    uint64_t seed = 12;
    float *v = malloc(TIMED * sizeof *v);
    assert_non_null(v);
    for (int i = 0; i < TIMED; i++)
        v[i] = (float)((double)random_next(&seed) * 0x1p-63 - 1);
    double best = 1e30;
    size_t bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char out[NUMBER_FLOAT_MAX];
        double start = now_ns();
        for (int i = 0; i < TIMED; i++)
            bytes += number_write_float(out, v[i]);
        best = fmin(best, now_ns() - start);
    }
    assert_true(bytes > 0);
    print_message("number_write_float: %.1f ns\n", best / TIMED);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_texts), cmocka_unit_test(test_midpoints),
        cmocka_unit_test(test_long_digits), cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_integers),    cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_write_float), cmocka_unit_test(test_write_double),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
