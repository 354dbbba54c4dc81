/* test_optimizer_double.c: optimisers, schedules, clipping and generations, by values that can be
 * computed by hand. Many steps are compared with PyTorch in test_golden_both.c. */
#include "backprop.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ATTRS(...)                                                                                 \
    (const struct attr[]){__VA_ARGS__}, sizeof((struct attr[]){__VA_ARGS__}) / sizeof(struct attr)
#define NUMBER(attr_name, value)                                                                   \
    {                                                                                              \
        .name = attr_name, .kind = ATTR_IS_REAL, .d = value                                        \
    }
#define FLAG(attr_name)                                                                            \
    {                                                                                              \
        .name = attr_name, .kind = ATTR_IS_BOOL, .i = 1                                            \
    }

/* Two linear layers: fc1.weight [2, 3], fc1.bias [2], fc2.weight [1, 2], fc2.bias [1]. */
enum { FC1_BIAS = 6, FC2_WEIGHT = 8, FC2_BIAS = 10, PARAMS = 11 };

struct bench {
    struct network net;
    struct pool *pool;
    struct generation *now, *next;
    real grads[PARAMS];
};

static struct node *add_linear(struct graph *g, const char *name, struct node *x, int out)
{
    struct error e = {0};
    const struct attr attr = {.name = "out_features", .kind = ATTR_IS_INT, .i = out, .d = out};
    struct node *n = graph_add(g, "linear", name, &x, 1, &attr, 1, &e);
    if (!n)
        fail_msg("%s", e.text);
    return n;
}

static void bench_open(struct bench *b, const char *optimizer, const struct attr *attrs, int n)
{
    struct error e = {0};
    *b = (struct bench){.net.graph = graph_create(&e)};
    struct graph *g = b->net.graph;
    struct node *x = graph_input(g, "x", DTYPE_REAL, &SHAPE(BATCH, 3), &e);
    add_linear(g, "fc2", add_linear(g, "fc1", x, 2), 1);
    assert_int_equal(graph_params_size(g), PARAMS);
    b->net.optimizer = optimizer_create(optimizer, attrs, n, &e);
    if (!b->net.optimizer)
        fail_msg("%s", e.text);
    b->pool = pool_create(2, &e);
    b->now = generation_create(&b->net, &e);
    b->next = generation_create(&b->net, &e);
    for (int i = 0; i < PARAMS; i++) {
        b->now->params[i] = 1;
        b->grads[i] = 0.5;
    }
}

static void bench_close(struct bench *b)
{
    generation_unref(&b->now);
    generation_unref(&b->next);
    pool_destroy(&b->pool);
    optimizer_destroy(&b->net.optimizer);
    graph_destroy(&b->net.graph);
}

static int bench_step(struct bench *b, struct error *e)
{
    double norm = gradients_norm(&b->net, b->pool, b->grads);
    double lr = optimizer_lr(b->net.optimizer);
    int failed = network_apply(&b->net, b->pool, b->now, b->grads, norm, &lr, b->next, e);
    struct generation *last = b->now;
    b->now = b->next;
    b->next = last;
    return failed;
}

static void near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-14 * fabs(expected) + 1e-300))
        fail_msg("%.17g, expected %.17g", found, expected);
}

/* One step with all gradients g, after which all parameters are as expected. */
static void step_to(struct bench *b, double g, double expected)
{
    struct error e = {0};
    for (int i = 0; i < PARAMS; i++)
        b->grads[i] = g;
    if (bench_step(b, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < PARAMS; i++)
        near(b->now->params[i], expected);
}

/* ---- optimisers ------------------------------------------------------------------------------ */

static void test_sgd(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd", ATTRS(NUMBER("lr", 0.1)));
    assert_int_equal(optimizer_slots(b.net.optimizer), 0);
    step_to(&b, 0.5, 0.95);
    step_to(&b, -1, 1.05);
    assert_int_equal(b.now->optimizer_step, 2);
    bench_close(&b);
}

/* The first buffer is the gradient, without dampening. */
static void test_sgd_momentum_and_dampening(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd",
               ATTRS(NUMBER("lr", 0.1), NUMBER("momentum", 0.9), NUMBER("dampening", 0.25)));
    assert_int_equal(optimizer_slots(b.net.optimizer), 1);
    step_to(&b, 0.5, 1 - 0.1 * 0.5);
    near(b.now->slots[FC2_BIAS], 0.5);
    step_to(&b, 0.2, 0.95 - 0.1 * (0.9 * 0.5 + 0.75 * 0.2));
    near(b.now->slots[0], 0.6);
    bench_close(&b);
}

static void test_sgd_nesterov_and_decay(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd",
               ATTRS(NUMBER("lr", 0.1), NUMBER("momentum", 0.5), NUMBER("weight_decay", 0.2),
                     FLAG("nesterov")));
    double d1 = 0.5 + 0.2 * 1, p1 = 1 - 0.1 * (d1 + 0.5 * d1);
    step_to(&b, 0.5, p1);
    double d2 = -1 + 0.2 * p1, b2 = 0.5 * d1 + d2;
    step_to(&b, -1, p1 - 0.1 * (d2 + 0.5 * b2));
    bench_close(&b);
}

static void test_sgd_maximize(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd", ATTRS(NUMBER("lr", 0.1), NUMBER("weight_decay", 0.2), FLAG("maximize")));
    step_to(&b, 0.5, 1 - 0.1 * (-0.5 + 0.2));
    bench_close(&b);
}

/* After the first step both corrected averages are those of the gradient alone. */
static void test_adam(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "adam", NULL, 0);
    assert_int_equal(optimizer_slots(b.net.optimizer), 2);
    double p1 = 1 - 0.001 * 0.5 / (0.5 + 1e-8);
    step_to(&b, 0.5, p1);
    near(b.now->slots[0], 0.05);
    near(b.now->slots[PARAMS], 0.00025);
    double m = 0.9 * 0.05 + 0.1 * -0.25, v = 0.999 * 0.00025 + 0.001 * 0.0625;
    double m_hat = m / (1 - 0.81), v_hat = v / (1 - 0.999 * 0.999);
    step_to(&b, -0.25, p1 - 0.001 * m_hat / (sqrt(v_hat) + 1e-8));
    bench_close(&b);
}

static void test_adam_decays_into_the_gradient(void **state)
{
    struct bench b;
    const struct attr given[] = {NUMBER("lr", 0.1), NUMBER("weight_decay", 0.5), NUMBER("eps", 1)};
    (void)state;
    bench_open(&b, "adam", given, 3);
    step_to(&b, 0.5, 1 - 0.1 * 1 / (1 + 1.0));
    bench_close(&b);
}

static void test_adamw_decays_the_parameter(void **state)
{
    struct bench b;
    const struct attr given[] = {NUMBER("lr", 0.1), NUMBER("weight_decay", 0.5), NUMBER("eps", 1)};
    (void)state;
    bench_open(&b, "adamw", given, 3);
    step_to(&b, 0.5, 1 - 0.1 * 0.5 * 1 - 0.1 * 0.5 / (0.5 + 1));
    bench_close(&b);
    bench_open(&b, "adamw", NULL, 0); /* its decay falls back to 0.01 */
    step_to(&b, 0.5, 1 - 0.001 * 0.01 - 0.001 * 0.5 / (0.5 + 1e-8));
    bench_close(&b);
}

static void test_betas_as_a_list(void **state)
{
    struct bench a, b;
    struct error e = {0};
    const double both[] = {0.5, 0.75};
    const struct attr list = {.name = "betas", .kind = ATTR_IS_LIST, .list = both, .n_list = 2};
    (void)state;
    bench_open(&a, "adam", &list, 1);
    bench_open(&b, "adam", ATTRS(NUMBER("beta1", 0.5), NUMBER("beta2", 0.75)));
    for (int s = 0; s < 3; s++)
        assert_int_equal(bench_step(&a, &e) | bench_step(&b, &e), 0);
    assert_memory_equal(a.now->params, b.now->params, PARAMS * sizeof(real));
    near(a.now->slots[0], 0.5 * (0.5 + 0.25 + 0.125));
    bench_close(&a);
    bench_close(&b);
}

static void check_refused(const char *name, const struct attr *attrs, int n, enum error_code code,
                          const char *part)
{
    struct error e = {0};
    assert_null(optimizer_create(name, attrs, n, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.text, part))
        fail_msg("'%s' does not say '%s'", e.text, part);
}

static void test_refusals(void **state)
{
    const double three[] = {0.9, 0.99, 0.999};
    const struct attr list = {.name = "betas", .kind = ATTR_IS_LIST, .list = three, .n_list = 3};
    (void)state;
    check_refused("adamx", NULL, 0, ERROR_UNKNOWN_OPERATOR, "sgd, adam, adamw");
    check_refused("sgd", ATTRS(FLAG("nesterov")), ERROR_BAD_ATTRIBUTE, "momentum 0");
    check_refused("sgd", ATTRS(FLAG("nesterov"), NUMBER("momentum", 0.9), NUMBER("dampening", 0.1)),
                  ERROR_BAD_ATTRIBUTE, "dampening 0.1");
    check_refused("sgd", ATTRS(NUMBER("lr", -1)), ERROR_BAD_ATTRIBUTE, "at least 0, not -1");
    check_refused("sgd", ATTRS(NUMBER("momentun", 0.9)), ERROR_BAD_ATTRIBUTE, "'momentum'?");
    check_refused("adam", &list, 1, ERROR_BAD_ATTRIBUTE, "two numbers, not 3");
    check_refused("adamw", ATTRS(NUMBER("beta2", 1)), ERROR_BAD_ATTRIBUTE, "beta2 must be below 1");
}

static void test_set_lr(void **state)
{
    struct error e = {0};
    struct optimizer *o = optimizer_create("sgd", NULL, 0, &e);
    (void)state;
    near(optimizer_lr(o), 0.01);
    assert_string_equal(optimizer_name(o), "sgd");
    assert_int_equal(optimizer_set_lr(o, 0.5, &e), 0);
    assert_int_equal(optimizer_set_lr(o, -0.5, &e), -1);
    assert_int_equal(optimizer_set_lr(o, NAN, &e), -1);
    assert_int_equal(optimizer_set_lr(o, INFINITY, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    near(optimizer_lr(o), 0.5);
    optimizer_destroy(&o);
    assert_null(o);
}

static void test_tables_are_complete(void **state)
{
    struct optimizer_info info;
    struct error e = {0};
    int n = 0;
    (void)state;
    for (; optimizer_info_at(n, &info); n++) {
        assert_true(info.doc[0]);
        struct optimizer *o = optimizer_create(info.name, NULL, 0, &e);
        assert_non_null(o);
        optimizer_destroy(&o);
    }
    assert_true(n > 0);
    for (n = 0; schedule_info_at(n, &info); n++)
        assert_true(info.name[0] && info.doc[0]);
    assert_true(n > 0);
}

/* ---- the step -------------------------------------------------------------------------------- */

static void test_frozen_are_copied(void **state)
{
    struct bench b;
    struct error e = {0};
    (void)state;
    bench_open(&b, "adam", ATTRS(NUMBER("lr", 0.1)));
    graph_param(b.net.graph, 1)->frozen = true; /* fc1.bias */
    graph_param(b.net.graph, 2)->frozen = true; /* fc2.weight */
    for (int i = 0; i < 2 * PARAMS; i++)
        b.now->slots[i] = 3;
    assert_int_equal(bench_step(&b, &e), 0);
    for (int i = 0; i < PARAMS; i++) {
        bool frozen = i >= FC1_BIAS && i < FC2_BIAS;
        assert_int_equal(b.now->params[i] == 1, frozen);
        assert_int_equal(b.now->slots[i] == 3, frozen);
        assert_int_equal(b.now->slots[PARAMS + i] == 3, frozen);
    }
    bench_close(&b);
}

static void test_the_old_generation_is_kept(void **state)
{
    struct bench b;
    struct error e = {0};
    (void)state;
    bench_open(&b, "adamw", NULL, 0);
    size_t bytes = generation_bytes(&b.net) - sizeof(struct generation) - 64;
    void *before = test_malloc(bytes);
    memcpy(before, b.now->params, bytes);
    assert_int_equal(bench_step(&b, &e), 0);
    assert_memory_equal(b.next->params, before, bytes);
    assert_int_equal(b.next->optimizer_step, 0);
    test_free(before);
    bench_close(&b);
}

static void check_not_finite(struct bench *b, const char *part)
{
    struct error e = {0};
    assert_int_equal(bench_step(b, &e), -1);
    assert_int_equal(e.code, ERROR_NOT_FINITE);
    if (!strstr(e.text, part))
        fail_msg("'%s' does not say '%s'", e.text, part);
}

static void test_not_finite_names_the_first(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd", ATTRS(NUMBER("lr", 1e10)));
    b.grads[FC2_WEIGHT + 1] = 1e300;
    b.grads[FC2_BIAS] = INFINITY;
    check_not_finite(&b, "parameter 'fc2.weight' would become not finite (-inf at element 1)");
    bench_close(&b);
    bench_open(&b, "adam", NULL, 0);
    b.grads[FC1_BIAS] = 1e200; /* its square overflows, the parameter does not move */
    check_not_finite(&b, "state of parameter 'fc1.bias'");
    bench_close(&b);
}

static void test_clip_grad_norm(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd", ATTRS(NUMBER("lr", 1)));
    b.net.clip_grad_norm = 0.25;
    double norm = 0.5 * sqrt(PARAMS);
    step_to(&b, 0.5, 1 - 0.5 * (0.25 / (norm + 1e-6)));
    b.net.clip_grad_norm = 100; /* over the norm: nothing is scaled, not even up */
    memset(b.now->params, 0, PARAMS * sizeof(real));
    step_to(&b, 0.5, -0.5);
    bench_close(&b);
}

static void test_clip_grad_value(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd", ATTRS(NUMBER("lr", 1)));
    b.net.clip_grad_value = 0.125;
    step_to(&b, 0.5, 0.875);
    step_to(&b, -7, 1);
    step_to(&b, 0.0625, 0.9375);
    b.grads[0] = NAN;
    check_not_finite(&b, "'fc1.weight'");
    bench_close(&b);
}

/* ---- gradients ------------------------------------------------------------------------------- */

static void test_norm(void **state)
{
    struct bench b;
    (void)state;
    bench_open(&b, "sgd", NULL, 0);
    memset(b.grads, 0, sizeof b.grads);
    b.grads[1] = -3;
    b.grads[FC2_BIAS] = 4;
    near(gradients_norm(&b.net, b.pool, b.grads), 5);
    b.grads[3] = -INFINITY;
    assert_true(isinf(gradients_norm(&b.net, b.pool, b.grads)));
    b.grads[4] = NAN;
    assert_true(isnan(gradients_norm(&b.net, b.pool, b.grads)));
    bench_close(&b);
}

/* Over many chunks: the value, and the same bits at any number of threads. */
static void test_norm_and_sum_of_many(void **state)
{
    enum { SIDE = 500, COUNT = SIDE * SIDE + SIDE };
    struct error e = {0};
    struct network net = {.graph = graph_create(&e)};
    struct node *x = graph_input(net.graph, "x", DTYPE_REAL, &SHAPE(BATCH, SIDE), &e);
    (void)state;
    add_linear(net.graph, "fc", x, SIDE);
    real *g = test_malloc(COUNT * sizeof *g), *sum = test_malloc(COUNT * sizeof *sum);
    double squares = 0, norm = 0;
    for (int i = 0; i < COUNT; i++) {
        sum[i] = i;
        g[i] = sin(i);
        squares += g[i] * g[i];
    }
    for (int threads = 1; threads <= 3; threads++) {
        struct pool *pool = pool_create(threads, &e);
        double found = gradients_norm(&net, pool, g);
        assert_true(threads == 1 || found == norm);
        norm = found;
        gradients_add(&net, pool, sum, g);
        pool_destroy(&pool);
    }
    assert_true(fabs(norm / sqrt(squares) - 1) < 1e-12);
    for (int i = 0; i < COUNT; i++)
        assert_true(sum[i] == ((i + g[i]) + g[i]) + g[i]);
    test_free(g);
    test_free(sum);
    graph_destroy(&net.graph);
}

/* ---- generations ----------------------------------------------------------------------------- */

static void test_generation(void **state)
{
    struct bench b;
    struct error e = {0};
    (void)state;
    bench_open(&b, "adam", NULL, 0);
    struct generation *g = generation_create(&b.net, &e);
    assert_int_equal(g->bytes, generation_bytes(&b.net));
    assert_int_equal((uintptr_t)g->params % 64, 0);
    assert_int_equal((uintptr_t)g->buffers % 64, 0);
    assert_int_equal((uintptr_t)g->slots % 64, 0);
    for (int i = 0; i < 2 * PARAMS; i++)
        assert_true(g->slots[i] == 0 && g->params[i % PARAMS] == 0);
    struct generation *same = generation_ref(g);
    generation_unref(&g);
    assert_null(g);
    same->slots[2 * PARAMS - 1] = 1; /* still there */
    generation_unref(&same);
    generation_unref(&same); /* NULL is allowed */
    bench_close(&b);
}

static void test_apply_needs_an_optimizer(void **state)
{
    struct bench b;
    struct error e = {0};
    const double one = 1;
    (void)state;
    bench_open(&b, "sgd", NULL, 0);
    optimizer_destroy(&b.net.optimizer);
    assert_int_equal(network_apply(&b.net, b.pool, b.now, b.grads, 1, &one, b.next, &e), -1);
    bench_close(&b);
}

/* ---- schedules ------------------------------------------------------------------------------- */

static struct schedule *cosine(const struct attr *attrs, int n)
{
    struct error e = {0};
    struct schedule *s = schedule_create("cosine", attrs, n, &e);
    if (!s)
        fail_msg("%s", e.text);
    return s;
}

static void test_schedules(void **state)
{
    struct error e = {0};
    struct schedule *s = schedule_create("constant", NULL, 0, &e);
    (void)state;
    near(schedule_lr(NULL, 0.3, 17, NULL), 0.3);
    near(schedule_lr(s, 0.3, 17, NULL), 0.3);
    schedule_destroy(&s);
    s = cosine(ATTRS(NUMBER("warmup_steps", 4), NUMBER("total_steps", 12), NUMBER("min_lr", 0.1)));
    const double expected[] = {0.25, 0.5, 0.75, 1, 1};
    for (int i = 0; i < 5; i++)
        near(schedule_lr(s, 1, (uint64_t)i, NULL), expected[i]);
    near(schedule_lr(s, 1, 6, NULL), 0.1 + 0.9 * (1 + sqrt(0.5)) / 2);
    near(schedule_lr(s, 1, 8, NULL), 0.1 + 0.9 / 2);
    near(schedule_lr(s, 1, 12, NULL), 0.1);
    near(schedule_lr(s, 1, UINT64_MAX, NULL), 0.1);
    schedule_destroy(&s);
    assert_null(s);
    s = cosine(ATTRS(NUMBER("warmup_steps", 3), NUMBER("total_steps", 3)));
    near(schedule_lr(s, 1, 2, NULL), 1);
    near(schedule_lr(s, 1, 3, NULL), 0);
    schedule_destroy(&s);
}

static void test_schedule_refusals(void **state)
{
    struct error e = {0};
    (void)state;
    assert_null(schedule_create("cosines", NULL, 0, &e));
    assert_int_equal(e.code, ERROR_UNKNOWN_OPERATOR);
    assert_null(schedule_create("cosine", NULL, 0, &e));
    assert_non_null(strstr(e.text, "'total_steps' is missing"));
    assert_null(
        schedule_create("cosine", ATTRS(NUMBER("warmup_steps", 9), NUMBER("total_steps", 8)), &e));
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    assert_non_null(strstr(e.text, "'warmup_steps' must be at most total_steps (8), not 9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_sgd_momentum_and_dampening),
        cmocka_unit_test(test_sgd_nesterov_and_decay),
        cmocka_unit_test(test_sgd_maximize),
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_adam_decays_into_the_gradient),
        cmocka_unit_test(test_adamw_decays_the_parameter),
        cmocka_unit_test(test_betas_as_a_list),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_set_lr),
        cmocka_unit_test(test_tables_are_complete),
        cmocka_unit_test(test_frozen_are_copied),
        cmocka_unit_test(test_the_old_generation_is_kept),
        cmocka_unit_test(test_not_finite_names_the_first),
        cmocka_unit_test(test_clip_grad_norm),
        cmocka_unit_test(test_clip_grad_value),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_norm_and_sum_of_many),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_apply_needs_an_optimizer),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_schedule_refusals),
    };
    return cmocka_run_group_tests_name("optimizer", tests, NULL, NULL);
}
