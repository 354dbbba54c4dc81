/* test_random_both.c: Philox4x32-10 against the known answers of Random123, the moments of uniform
 * and normal numbers, and the initialisers: bounds, moments, attributes, and keys. */
#include "op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DRAWS = 1 << 17 };

/* kat_vectors of Random123: philox 4x32 10 rounds, counter, key, result. random_block makes the
 * counter of (block, draw, key) as random.c describes. */
static const struct {
    uint32_t counter[4], key[2], result[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const uint32_t *c = known[i].counter;
        struct random_key k = {.seed = known[i].key[0] | (uint64_t)known[i].key[1] << 32,
                               .draw = c[2] | (uint64_t)(c[1] >> 16) << 32,
                               .key = c[3]};
        uint32_t word[4];
        random_block(&k, c[0] | (uint64_t)(c[1] & 0xffff) << 32, word);
        assert_memory_equal(word, known[i].result, sizeof word);
    }
}

static void test_uniform_is_words_of_blocks(void **state)
{
    struct random_key k = {7, 3, 11};
    uint32_t word[4];
    (void)state;
    random_block(&k, 5, word);
    for (int i = 0; i < 4; i++)
        assert_true(random_uniform(&k, 20 + (uint64_t)i) == word[i] / 4294967296.0);
}

/* Mean and variance within five standard errors. */
static void check_moments(const double *x, int n, double mean, double variance, double fourth)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    for (int i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    assert_true(fabs(sum / n - mean) < 5 * sqrt(variance / n));
    assert_true(fabs(squares / n - variance) < 5 * sqrt((fourth - variance * variance) / n));
}

static void test_uniform_moments(void **state)
{
    struct random_key k = {1, 2, 3};
    double *x = test_malloc(DRAWS * sizeof *x), serial = 0;
    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        x[i] = random_uniform(&k, (uint64_t)i);
        assert_true(x[i] >= 0 && x[i] < 1);
    }
    check_moments(x, DRAWS, 0.5, 1.0 / 12, 1.0 / 80);
    for (int i = 1; i < DRAWS; i++)
        serial += (x[i] - 0.5) * (x[i - 1] - 0.5);
    assert_true(fabs(serial / DRAWS) < 5.0 / 12 / sqrt(DRAWS));
    test_free(x);
}

static void test_normal_moments(void **state)
{
    struct random_key k = {1, 2, 3};
    double *x = test_malloc(DRAWS * sizeof *x), pairs = 0;
    int beyond_two = 0;
    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        x[i] = random_normal(&k, (uint64_t)i);
        beyond_two += fabs(x[i]) > 2;
    }
    check_moments(x, DRAWS, 0, 1, 3);
    for (int i = 0; i < DRAWS; i += 2)
        pairs += x[i] * x[i + 1];
    assert_true(fabs(pairs / (DRAWS / 2)) < 5 / sqrt(DRAWS / 2));
    assert_true(fabs(beyond_two / (double)DRAWS - 0.0455) < 5 * sqrt(0.0455 / DRAWS));
    test_free(x);
}

static void test_keys_give_other_numbers(void **state)
{
    const struct random_key keys[] = {{0, 0, 0}, {1, 0, 0},          {0, 1, 0},
                                      {0, 0, 1}, {1ull << 32, 0, 0}, {0, 1ull << 32, 0}};
    enum { KEYS = sizeof keys / sizeof keys[0] };
    uint32_t word[KEYS + 1][4];
    (void)state;
    for (int i = 0; i < KEYS; i++)
        random_block(&keys[i], 0, word[i]);
    random_block(&keys[0], 1ull << 32, word[KEYS]);
    for (int i = 0; i <= KEYS; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(word[i], word[j], sizeof word[i]);
}

/* ---- initialisers ---------------------------------------------------------------------------- */

enum { IN = 64, OUT = 96, WEIGHTS = IN * OUT };

/* A linear layer, 64 -> 96, with its weight initialised as asked. NULL: PyTorch's default. */
struct layer {
    struct graph *graph;
    real *params; /* [96, 64] weight, [96] bias */
};

static struct layer layer_create(const char *init, const struct attr *attrs, int n, uint64_t seed)
{
    struct error e = {0};
    struct layer l = {.graph = graph_create(&e)};
    struct node *x = graph_input(l.graph, "x", DTYPE_REAL, &SHAPE(BATCH, IN), &e);
    struct attr out = {.name = "out_features", .kind = ATTR_IS_INT, .i = OUT, .d = OUT};
    assert_non_null(graph_add(l.graph, "linear", "fc", &x, 1, &out, 1, &e));
    if (init && graph_set_init(l.graph, 0, init, attrs, n, &e))
        fail_msg("%s", e.text);
    l.params = test_malloc(graph_params_size(l.graph) * sizeof(real));
    graph_init(l.graph, seed, l.params, NULL);
    return l;
}

static void layer_destroy(struct layer *l)
{
    test_free(l->params);
    graph_destroy(&l->graph);
}

/* The weight's numbers lie within +-bound, reach near it, and have this standard deviation. */
static void check_weights(const char *init, const struct attr *attrs, int n, double bound,
                          double std)
{
    struct layer l = layer_create(init, attrs, n, 42);
    double largest = 0, sum = 0, squares = 0;
    for (int i = 0; i < WEIGHTS; i++) {
        double w = (double)l.params[i];
        largest = fmax(largest, fabs(w));
        sum += w;
        squares += w * w;
    }
    assert_true(largest <= bound * (1 + 1e-6));
    if (isfinite(bound))
        assert_true(largest > 0.99 * bound);
    assert_true(fabs(sum / WEIGHTS) < 5 * std / sqrt(WEIGHTS));
    assert_true(fabs(sqrt(squares / WEIGHTS) / std - 1) < 0.05);
    layer_destroy(&l);
}

static struct attr number(const char *name, double value)
{
    return (struct attr){.name = name, .kind = ATTR_IS_REAL, .d = value};
}

static void test_default_is_pytorch_linear(void **state)
{
    double bound = 1 / sqrt(IN);
    (void)state;
    check_weights(NULL, NULL, 0, bound, bound / sqrt(3));
    struct layer l = layer_create(NULL, NULL, 0, 42);
    for (int i = WEIGHTS; i < WEIGHTS + OUT; i++)
        assert_true(fabs((double)l.params[i]) <= bound && l.params[i] != 0);
    layer_destroy(&l);
}

static void test_distributions(void **state)
{
    const struct attr gain = number("gain", 2), slope = number("a", 0), std = number("std", 0.02);
    const struct attr fan_out = {.name = "mode", .kind = ATTR_IS_STRING, .s = "fan_out"};
    const struct attr range[] = {number("a", -0.25), number("b", 0.25)};
    const double xavier = sqrt(2.0 / (IN + OUT));
    (void)state;
    check_weights("kaiming_uniform", &slope, 1, sqrt(6.0 / IN), sqrt(2.0 / IN));
    check_weights("kaiming_normal", NULL, 0, INFINITY, sqrt(2.0 / IN));
    check_weights("kaiming_normal", &fan_out, 1, INFINITY, sqrt(2.0 / OUT));
    check_weights("xavier_uniform", NULL, 0, sqrt(3) * xavier, xavier);
    check_weights("xavier_normal", &gain, 1, INFINITY, 2 * xavier);
    check_weights("fan_in_uniform", NULL, 0, 1 / sqrt(IN), 1 / sqrt(3.0 * IN));
    check_weights("uniform", range, 2, 0.25, 0.25 / sqrt(3));
    check_weights("normal", &std, 1, INFINITY, 0.02);
    /* A normal distribution cut at two deviations has 0.7737 of the variance; at 100, all. */
    check_weights("trunc_normal", NULL, 0, 2, sqrt(0.7737413));
    check_weights("trunc_normal", &std, 1, INFINITY, 0.02);
}

/* The 64 columns of the weight [96, 64], and the 64 rows of its transpose. */
static void test_orthogonal(void **state)
{
    const struct attr gain = number("gain", 3);
    const double tolerance = sizeof(real) == 8 ? 1e-12 : 1e-5;
    (void)state;
    struct layer l = layer_create("orthogonal", &gain, 1, 9);
    for (int i = 0; i < IN; i++)
        for (int j = 0; j <= i; j++) {
            double dot = 0;
            for (int k = 0; k < OUT; k++)
                dot += (double)l.params[k * IN + i] * (double)l.params[k * IN + j];
            assert_true(fabs(dot / 9 - (i == j)) < tolerance);
        }
    layer_destroy(&l);
}

static void check_constant(const char *init, const struct attr *attrs, int n, real value)
{
    struct layer l = layer_create(init, attrs, n, 1);
    for (int i = 0; i < WEIGHTS; i++)
        assert_true(l.params[i] == value);
    layer_destroy(&l);
}

static void test_constants(void **state)
{
    const struct attr value = number("value", 0.75);
    (void)state;
    check_constant("zeros", NULL, 0, 0);
    check_constant("ones", NULL, 0, 1);
    check_constant("constant", &value, 1, (real)0.75);
}

static void test_seed_decides(void **state)
{
    struct layer a = layer_create(NULL, NULL, 0, 5), b = layer_create(NULL, NULL, 0, 5);
    struct layer c = layer_create(NULL, NULL, 0, 6);
    (void)state;
    assert_memory_equal(a.params, b.params, (WEIGHTS + OUT) * sizeof(real));
    assert_memory_not_equal(a.params, c.params, (WEIGHTS + OUT) * sizeof(real));
    assert_memory_not_equal(a.params, a.params + WEIGHTS, OUT * sizeof(real));
    layer_destroy(&a);
    layer_destroy(&b);
    layer_destroy(&c);
}

static void test_refusals(void **state)
{
    struct layer l = layer_create(NULL, NULL, 0, 1);
    const struct attr range[] = {number("a", 1), number("b", 0)};
    struct error e = {0};
    (void)state;
    assert_int_equal(graph_set_init(l.graph, 0, "kaiming", NULL, 0, &e), -1);
    assert_int_equal(e.code, ERROR_UNKNOWN_OPERATOR);
    assert_non_null(strstr(e.text, "kaiming_uniform"));
    assert_int_equal(graph_set_init(l.graph, 0, "constant", NULL, 0, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    assert_int_equal(graph_set_init(l.graph, 0, "uniform", range, 2, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    assert_int_equal(graph_set_init(l.graph, 0, "trunc_normal", range, 2, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    struct error too_large = {0};
    struct node *x = graph_input(l.graph, "y", DTYPE_REAL, &SHAPE(BATCH, 4096), &e);
    const struct attr out = {.name = "out_features", .kind = ATTR_IS_INT, .i = 4096, .d = 4096};
    assert_non_null(graph_add(l.graph, "linear", "large", &x, 1, &out, 1, &e));
    assert_int_equal(graph_set_init(l.graph, 2, "orthogonal", NULL, 0, &too_large), -1);
    assert_int_equal(too_large.code, ERROR_TOO_LARGE);
    layer_destroy(&l);
}

static void test_table_is_complete(void **state)
{
    struct optimizer_info info;
    int n = 0;
    (void)state;
    for (; init_info_at(n, &info); n++)
        assert_true(info.name[0] && info.doc[0]);
    assert_true(n > 0);
    assert_false(init_info_at(-1, &info));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_uniform_is_words_of_blocks),
        cmocka_unit_test(test_uniform_moments),
        cmocka_unit_test(test_orthogonal),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_keys_give_other_numbers),
        cmocka_unit_test(test_default_is_pytorch_linear),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_seed_decides),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_table_is_complete),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
