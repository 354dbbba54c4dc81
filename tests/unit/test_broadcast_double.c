/* test_broadcast_double.c: broadcasting against brute force, and long sums: right, the same bits on
 * any number of threads, and for a sample alone and in a batch. */
#include "backprop.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One operator on one or two inputs. With `backward` the loss is the sum of its output. */
struct calc {
    struct graph *graph;
    struct plan *plan;
    struct run *run;
    struct node *in[2], *out;
    int n_in;
};

static void calc_open(struct calc *c, const char *op, const struct shape *shapes, int n_in,
                      const struct attr *attrs, int n_attrs, int64_t capacity, bool backward)
{
    struct error e = {0};
    struct node *loss = NULL;
    *c = (struct calc){.graph = graph_create(&e), .n_in = n_in};
    for (int i = 0; i < n_in; i++)
        c->in[i] = graph_input(c->graph, "x", DTYPE_REAL, &shapes[i], &e);
    c->out = graph_add(c->graph, op, NULL, c->in, n_in, attrs, n_attrs, &e);
    if (!c->out)
        fail_msg("%s", e.text);
    if (backward)
        loss = graph_add(c->graph, "sum", NULL, &c->out, 1, NULL, 0, &e);
    struct plan_spec spec = {.outputs = &c->out,
                             .n_outputs = 1,
                             .loss = loss,
                             .wrt = c->in,
                             .n_wrt = backward ? n_in : 0,
                             .capacity = capacity,
                             .threads = 4};
    c->plan = plan_create(c->graph, &spec, &e);
    assert_non_null(c->plan);
    c->run = run_create(c->plan, &e);
    assert_non_null(c->run);
}

static const real *calc_run(struct calc *c, int64_t n, const real *a, const real *b,
                            struct pool *pool)
{
    struct error e = {0};
    const void *inputs[] = {a, b};
    struct run_args args = {.pool = pool, .n = n, .inputs = inputs};
    if (run_execute(c->run, &args, &e))
        fail_msg("%s", e.text);
    return run_output(c->run, 0);
}

static void calc_close(struct calc *c)
{
    run_destroy(&c->run);
    plan_destroy(&c->plan);
    graph_destroy(&c->graph);
}

/* Numbers in [0.5, 1.5) from a linear congruential generator. */
static real next_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (real)(0.5 + (double)(*state >> 40) * 0x1p-24);
}

static real *numbers(uint64_t *state, int64_t n)
{
    real *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = next_number(state);
    return x;
}

/* ---- broadcasting ---------------------------------------------------------------------------- */

/* The place in an operand of element `i` of a result of shape `out`. */
static int64_t place(const struct shape *out, const struct shape *operand, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int d = out->rank - 1, k = operand->rank - 1; k >= 0; d--, k--) {
        int64_t index = i % out->dim[d];
        i /= out->dim[d];
        at += operand->dim[k] == 1 ? 0 : index * step;
        step *= operand->dim[k];
    }
    return at;
}

static real mul(real a, real b)
{
    return a * b;
}

static real quotient(real a, real b)
{
    return a / b;
}

static real first(real a, real b)
{
    return (void)b, a;
}

static real second(real a, real b)
{
    return (void)a, b;
}

static real quotient_da(real a, real b)
{
    return (void)a, 1 / b;
}

static real quotient_db(real a, real b)
{
    return -a / (b * b);
}

static const struct formula {
    const char *op;
    real (*f)(real, real), (*da)(real, real), (*db)(real, real);
} formulas[] = {
    {"mul", mul, second, first},
    {"div", quotient, quotient_da, quotient_db},
};

static void check_close(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-12 * (1 + fabs(expected))))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

/* The gradient of operand i, by adding up the terms of each of its elements. */
static void check_gradient(const struct calc *c, const struct formula *f, int i, const real *a,
                           const real *b)
{
    const struct shape *out = node_shape(c->out), *self = node_shape(c->in[i]);
    int64_t n_out, n;
    assert_true(shape_count(out, 1, &n_out) && shape_count(self, 1, &n));
    double *sum = calloc((size_t)n, sizeof *sum);
    for (int64_t k = 0; k < n_out; k++) {
        real x = a[place(out, node_shape(c->in[0]), k)], y = b[place(out, node_shape(c->in[1]), k)];
        sum[place(out, self, k)] += (double)(i ? f->db : f->da)(x, y);
    }
    for (int64_t k = 0; k < n; k++)
        check_close((double)run_wrt_grad(c->run, i)[k], sum[k]);
    free(sum);
}

static void check_broadcast(const struct formula *f, const struct shape shapes[2], uint64_t *state)
{
    struct calc c;
    int64_t na, nb, n;
    calc_open(&c, f->op, shapes, 2, NULL, 0, 1, true);
    const struct shape *out = node_shape(c.out);
    assert_true(shape_count(&shapes[0], 1, &na) && shape_count(&shapes[1], 1, &nb) &&
                shape_count(out, 1, &n));
    real *a = numbers(state, na), *b = numbers(state, nb);
    const real *y = calc_run(&c, 1, a, b, NULL);
    for (int64_t k = 0; k < n; k++) {
        real want = f->f(a[place(out, &shapes[0], k)], b[place(out, &shapes[1], k)]);
        assert_true(y[k] == want);
    }
    check_gradient(&c, f, 0, a, b);
    check_gradient(&c, f, 1, a, b);
    free(a);
    free(b);
    calc_close(&c);
}

/* Two shapes that broadcast: of one random shape, each without some leading sizes and with 1 in
 * place of others. */
static void random_shapes(uint64_t *state, struct shape shapes[2])
{
    int rank = (int)(4 * next_number(state)) - 1;
    struct shape full = {.rank = rank};
    for (int d = 0; d < rank; d++)
        full.dim[d] = (int64_t)(5 * next_number(state)) - 1;
    for (int i = 0; i < 2; i++) {
        int skip = next_number(state) < 0.8 ? rank / 2 : 0;
        shapes[i] = (struct shape){.rank = rank - skip};
        for (int d = skip; d < rank; d++)
            shapes[i].dim[d - skip] = next_number(state) < 0.8 ? 1 : full.dim[d];
    }
}

static void test_random_broadcasts(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (int i = 0; i < 400; i++) {
        struct shape shapes[2];
        random_shapes(&random, shapes);
        check_broadcast(&formulas[i % 2], shapes, &random);
    }
}

static void test_large_broadcasts(void **state)
{
    (void)state;
    uint64_t random = 2;
    const struct shape pairs[][2] = {{SHAPE(300, 700), SHAPE(700)},
                                     {SHAPE(300, 700), SHAPE(300, 1)},
                                     {{0}, SHAPE(40000)},
                                     {SHAPE(50000, 3), SHAPE(3)},
                                     {SHAPE(20, 7, 30, 30), SHAPE(7, 1, 1)}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        for (size_t f = 0; f < 2; f++)
            check_broadcast(&formulas[f], pairs[i], &random);
}

static void test_refused(void **state)
{
    (void)state;
    const struct shape pairs[][2] = {{SHAPE(BATCH, 3), SHAPE(4, 3)},
                                     {SHAPE(2, 3), SHAPE(2)},
                                     {SHAPE(BATCH, 3), SHAPE(2, 1, 3)},
                                     {SHAPE(BATCH), SHAPE(BATCH, 1)}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct error e = {0};
        struct shape_text a, b;
        struct graph *g = graph_create(&e);
        struct node *in[2];
        for (int k = 0; k < 2; k++)
            in[k] = graph_input(g, "x", DTYPE_REAL, &pairs[i][k], &e);
        assert_null(graph_add(g, "add", NULL, in, 2, NULL, 0, &e));
        assert_int_equal(e.code, ERROR_BAD_SHAPE);
        assert_non_null(strstr(e.text, shape_print(&pairs[i][0], &a)));
        assert_non_null(strstr(e.text, shape_print(&pairs[i][1], &b)));
        graph_destroy(&g);
    }
}

/* The example of the interface: (2 * 3 - 10)^2 and its derivative, exactly. */
static void test_power_is_exact(void **state)
{
    (void)state;
    struct calc c;
    struct shape one = SHAPE(1);
    struct attr exponent = {.name = "exponent", .kind = ATTR_IS_INT, .i = 2, .d = 2};
    real x = -4;
    calc_open(&c, "pow", &one, 1, &exponent, 1, 1, true);
    assert_true(*calc_run(&c, 1, &x, NULL, NULL) == 16);
    assert_true(*run_wrt_grad(c.run, 0) == -8);
    calc_close(&c);
}

static void test_relu_shows_nan(void **state)
{
    (void)state;
    struct calc c;
    struct shape three = SHAPE(3);
    const real x[] = {(real)NAN, -1, 2};
    calc_open(&c, "relu", &three, 1, NULL, 0, 1, false);
    const real *y = calc_run(&c, 1, x, NULL, NULL);
    assert_true(isnan(y[0]) && y[1] == 0 && y[2] == 2);
    calc_close(&c);
}

/* ---- sums ------------------------------------------------------------------------------------ */

enum { SAMPLES = 5 };

/* Sums of [N, 90, 800] over `dim`, which leaves `left` numbers a sample. */
static void check_long_sum(double dim, int64_t left, struct pool *pool)
{
    struct calc c;
    struct shape shape = SHAPE(BATCH, 90, 800);
    struct attr attr = {.name = "dim", .kind = ATTR_IS_REAL, .d = dim};
    uint64_t random = 3;
    int64_t size = 90 * 800;
    real *x = numbers(&random, SAMPLES * size), together[SAMPLES * 800];
    calc_open(&c, "sum", &shape, 1, &attr, 1, SAMPLES, false);
    size_t bytes = (size_t)(SAMPLES * left) * sizeof(real);
    memcpy(together, calc_run(&c, SAMPLES, x, NULL, NULL), bytes);
    for (int64_t i = 0; i < SAMPLES * left; i++) {
        double sum = 0;
        for (int64_t k = 0; k < size / left; k++)
            sum += (double)(dim == 1 ? x[i / left * size + k * left + i % left] : x[i * 800 + k]);
        check_close((double)together[i], sum);
    }
    assert_memory_equal(together, calc_run(&c, SAMPLES, x, NULL, pool), bytes);
    for (int64_t i = 0; i < SAMPLES; i++)
        assert_memory_equal(together + i * left, calc_run(&c, 1, x + i * size, NULL, pool),
                            (size_t)left * sizeof(real));
    free(x);
    calc_close(&c);
}

/* [N, 50000] to [N]: few results of many terms, which are cut into parts. */
static void check_few_results(struct pool *pool)
{
    struct calc c;
    struct shape shape = SHAPE(BATCH, 50000);
    struct attr attr = {.name = "dim", .kind = ATTR_IS_REAL, .d = 1};
    uint64_t random = 4;
    real *x = numbers(&random, SAMPLES * 50000), together[SAMPLES];
    calc_open(&c, "sum", &shape, 1, &attr, 1, SAMPLES, false);
    memcpy(together, calc_run(&c, SAMPLES, x, NULL, NULL), sizeof together);
    assert_memory_equal(together, calc_run(&c, SAMPLES, x, NULL, pool), sizeof together);
    for (int i = 0; i < SAMPLES; i++) {
        double sum = 0;
        for (int64_t k = 0; k < 50000; k++)
            sum += (double)x[i * 50000 + k];
        check_close((double)together[i], sum);
        assert_true(*calc_run(&c, 1, x + i * 50000, NULL, pool) == together[i]);
    }
    free(x);
    calc_close(&c);
}

static void test_long_sums(void **state)
{
    (void)state;
    struct pool *pool = pool_create(4, NULL);
    check_long_sum(1, 800, pool);
    check_long_sum(2, 90, pool);
    check_few_results(pool);
    pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_broadcasts), cmocka_unit_test(test_large_broadcasts),
        cmocka_unit_test(test_refused),           cmocka_unit_test(test_power_is_exact),
        cmocka_unit_test(test_relu_shows_nan),    cmocka_unit_test(test_long_sums),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
