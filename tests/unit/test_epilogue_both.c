/* test_epilogue_both.c: plans without backward, in which convolutions and linear layers do what
 * follows them: what is fused and what must not be; the same bits as operators by themselves where
 * no batch norm is folded in, and within rounding where one is; a sample's bits in any company,
 * with kept weights and without; other running statistics are other numbers. */
#include "../../server/trainer.h"
#include "kernels.h"
#include "plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH_SIZE = 7, STEPS_MOST = 8 };

#define OP(op)        "{\"op\":\"" op "\"}"
#define NAMED(op, as) "{\"op\":\"" op "\",\"name\":\"" as "\"}"
#define CONV(out)     "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":3,\"padding\":1}"
#define WIDE(out)     "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":5,\"padding\":2}"
#define FREE(out)                                                                                  \
    "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":3,\"padding\":1,\"bias\":false}"
#define DEEP(out)                                                                                  \
    "{\"op\":\"conv2d\",\"out_channels\":" #out                                                    \
    ",\"kernel_size\":3,\"padding\":1,\"groups\":" #out "}"
#define SPARSE    "{\"op\":\"conv2d\",\"out_channels\":12,\"kernel_size\":3,\"stride\":2,\"groups\":2}"
#define ROWS(n)   "{\"op\":\"linear\",\"out_features\":" #n "}"
#define SUM(a, b) "{\"op\":\"add\",\"inputs\":[\"" a "\",\"" b "\"]}"
#define NET(shape, layers)                                                                         \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1," shape "]}],\"layers\":[" layers                  \
    "],\"loss\":{\"op\":\"mse\"},\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01}}"

/* `steps`: the operators of the plan, in order; layouts that change are left out. */
static const struct {
    const char *what, *description;
    bool folds; /* a batch norm */
    const char *steps[STEPS_MOST];
} nets[] = {
    {"direct, a batch norm and each activation",
     NET("3,9,10",
         FREE(7) "," OP("batch_norm2d") "," OP("relu") "," CONV(5) "," OP("gelu") "," CONV(
             6) "," OP("tanh") "," CONV(4) "," OP("relu6") "," CONV(9) "," OP("sigmoid")),
     true,
     {"conv2d+batch_norm2d+relu", "conv2d+gelu", "conv2d+tanh", "conv2d+relu6", "conv2d+sigmoid"}},
    {"few channels, pixels in the lanes",
     NET("1,20,18",
         WIDE(2) "," OP("batch_norm2d") "," OP("relu") ",{\"op\":\"relu\",\"name\":\"a\"}," WIDE(
             2) "," NAMED("batch_norm2d", "b") "," SUM("a", "b") "," OP("silu")),
     true,
     {"conv2d+batch_norm2d+relu", "relu", "conv2d+batch_norm2d+add+silu"}},
    {"Winograd's, tiles that hang over",
     NET("20,18,19", CONV(18) "," OP("batch_norm2d") "," OP("silu") "," CONV(70) "," OP("relu")),
     true,
     {"conv2d+batch_norm2d+silu", "conv2d+relu"}},
    {"depthwise and grouped",
     NET("12,9,9", DEEP(12) "," OP("batch_norm2d") "," OP("relu6") "," SPARSE "," OP(
                       "batch_norm2d") "," DEEP(12) "," OP("relu")),
     true,
     {"conv2d+batch_norm2d+relu6", "conv2d+batch_norm2d", "conv2d+relu"}},
    {"a sum before the activation",
     NET("6,8,8", "{\"op\":\"relu\",\"name\":\"a\"}," CONV(6) "," NAMED(
                      "batch_norm2d", "b") "," SUM("a", "b") "," OP("relu")),
     true,
     {"relu", "conv2d+batch_norm2d+add+relu"}},
    {"a sum after it, Winograd's",
     NET("16,16,16",
         "{\"op\":\"relu\",\"name\":\"a\"}," CONV(16) "," NAMED("silu", "b") "," SUM("b", "a")),
     false,
     {"relu", "conv2d+silu+add"}},
    {"a sum of two that could take it",
     NET("5,6,6", "{\"op\":\"relu\",\"name\":\"a\"},{\"op\":\"conv2d\",\"out_channels\":8,"
                  "\"kernel_size\":1,\"name\":\"c\"}," NAMED(
                      "batch_norm2d",
                      "d") ",{\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":1,\"inputs\":["
                           "\"a\"]}," NAMED("batch_norm2d", "e") "," SUM("d", "e") "," OP("relu")),
     true,
     {"relu", "conv2d+batch_norm2d", "conv2d+batch_norm2d+add+relu"}},
    {"a value that two read",
     NET("5,6,6",
         "{\"op\":\"conv2d\",\"out_channels\":5,\"kernel_size\":3,\"padding\":1,"
         "\"name\":\"c\"}," NAMED("relu", "r") ",{\"op\":\"mul\",\"inputs\":[\"c\",\"r\"]}"),
     false,
     {"conv2d", "relu", "mul"}},
    {"a norm of the batch's own statistics",
     NET("5,6,6", CONV(5) ",{\"op\":\"batch_norm2d\",\"track_running_stats\":false}," OP("relu")),
     false,
     {"conv2d", "batch_norm_relu"}},
    {"linear layers",
     NET("300", ROWS(130) "," OP("batch_norm1d") "," OP("relu") "," ROWS(
                    19) ","
                        "{\"op\":\"gelu\",\"approximate\":\"tanh\",\"name\":\"g\"}," ROWS(
                            19) "," SUM("g", "layers.5") "," ROWS(1)),
     true,
     {"linear+batch_norm1d+relu", "linear+gelu", "linear+add", "linear"}},
    {"planes have no channels last",
     NET("4,11", ROWS(6) "," OP("batch_norm1d") "," OP("relu")),
     false,
     {"linear", "batch_norm1d", "relu"}},
};
enum { NETS = sizeof nets / sizeof nets[0] };

/* ---- running --------------------------------------------------------------------------------- */

struct predictor {
    struct plan *plan;
    struct run *run;
    int64_t each; /* numbers of a sample's output */
};

static void require(bool ok, const char *what, const struct error *e)
{
    if (!ok)
        fail_msg("%s: %s", what, e->text);
}

static struct predictor predictor_open(const struct trainer *t, const char *what, bool unfused)
{
    struct error e = {0};
    struct predictor p;
    struct plan_spec spec = {.outputs = t->net->outputs,
                             .n_outputs = 1,
                             .capacity = BATCH_SIZE,
                             .threads = 2,
                             .fence = 64,
                             .unfused = unfused};
    require((p.plan = plan_create(t->net->graph, &spec, &e)), what, &e);
    require((p.run = run_create(p.plan, &e)), what, &e);
    assert_true(shape_count(node_shape(t->net->outputs[0]), 1, &p.each));
    return p;
}

static void predictor_close(struct predictor *p)
{
    run_destroy(&p->run);
    plan_destroy(&p->plan);
}

/* n samples from `first` on. */
static const real *predict(const struct trainer *t, const struct predictor *p, int64_t first,
                           int64_t n, struct prepared *b)
{
    struct error e = {0};
    int64_t each;
    assert_true(shape_count(node_shape(t->net->inputs[0]), 1, &each));
    const void *inputs[] = {(const real *)t->pointers[0] + first * each};
    const struct run_args args = {.pool = t->pool,
                                  .n = n,
                                  .inputs = inputs,
                                  .params = t->now->params,
                                  .buffers = t->now->buffers,
                                  .prepared = b};
    require(!run_execute(p->run, &args, &e), "a prediction", &e);
    assert_true(run_fences_intact(p->run));
    return run_output(p->run, 0);
}

static struct trainer open_net(int i)
{
    struct error e = {0};
    struct trainer t;
    require(!trainer_open(&t, nets[i].description, BATCH_SIZE, 2, &e), nets[i].what, &e);
    for (int step = 0; step < 3; step++) /* running statistics of its own */
        require(!trainer_step(&t, &e), nets[i].what, &e);
    return t;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void check_near(int net, const real *a, const real *b, int64_t n)
{
    double size = 0;
    for (int64_t i = 0; i < n; i++)
        size = fmax(size, fabs((double)b[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= size * (sizeof(real) == 4 ? 2e-5 : 1e-13)))
            fail_msg("%s: number %lld is %.9g fused and %.9g by itself", nets[net].what,
                     (long long)i, (double)a[i], (double)b[i]);
}

static void check_numbers(int net, const struct trainer *t)
{
    struct predictor fused = predictor_open(t, nets[net].what, false);
    struct predictor own = predictor_open(t, nets[net].what, true);
    const int64_t n = BATCH_SIZE * fused.each;
    const real *a = predict(t, &fused, 0, BATCH_SIZE, NULL);
    const real *b = predict(t, &own, 0, BATCH_SIZE, NULL);
    if (nets[net].folds)
        check_near(net, a, b, n);
    else
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
    predictor_close(&fused);
    predictor_close(&own);
}

/* Alone, with kept weights or without, in the run that keeps them and later. */
static void check_company(int net, const struct trainer *t)
{
    struct predictor p = predictor_open(t, nets[net].what, false);
    const size_t bytes = (size_t)(BATCH_SIZE * p.each) * sizeof(real);
    const bool batch = strstr(nets[net].description, "\"track_running_stats\":false");
    real *all = malloc(bytes);
    struct prepared *b = prepared_create(p.plan, NULL, NULL);
    memcpy(all, predict(t, &p, 0, BATCH_SIZE, NULL), bytes);
    for (int64_t i = 0; i < 2 * BATCH_SIZE && !batch; i++)
        assert_memory_equal(predict(t, &p, i % BATCH_SIZE, 1, i < BATCH_SIZE ? b : NULL),
                            all + i % BATCH_SIZE * p.each, (size_t)p.each * sizeof *all);
    assert_memory_equal(predict(t, &p, 0, BATCH_SIZE, b), all, bytes);
    prepared_destroy(&b);
    predictor_close(&p);
    free(all);
}

static void test_numbers(void **state)
{
    (void)state;
    const struct kernels *k;
    for (int table = 0; (k = kernels_at(table)); table++) {
        setenv("BACKPROP_KERNELS", k->name, 1);
        engine_start();
        for (int i = 0; i < NETS; i++) {
            struct trainer t = open_net(i);
            check_numbers(i, &t);
            check_company(i, &t);
            trainer_close(&t);
        }
    }
}

static bool moves_numbers(const char *op)
{
    return strncmp(op, "to_channels", 11) == 0 || strcmp(op, "relabel") == 0;
}

static void test_steps(void **state)
{
    (void)state;
    for (int i = 0; i < NETS; i++) {
        struct trainer t = open_net(i);
        struct predictor p = predictor_open(&t, nets[i].what, false);
        struct plan_step step;
        int found = 0;
        for (int at = 0; plan_step_at(p.plan, at, &step); at++) {
            if (moves_numbers(step.op))
                continue;
            const char *expected = nets[i].steps[found++];
            if (!expected || strcmp(step.op, expected) != 0)
                fail_msg("%s: step %d is %s, not %s", nets[i].what, found, step.op,
                         expected ? expected : "there");
        }
        assert_null(nets[i].steps[found]);
        predictor_close(&p);
        trainer_close(&t);
    }
}

/* A value that is asked for is there: a chain ends with it. */
static void test_outputs_stay(void **state)
{
    (void)state;
    struct error e = {0};
    struct trainer t = open_net(0);
    struct node *conv = NULL, *norm = NULL;
    for (int i = 0; i < graph_node_count(t.net->graph) && !norm; i++) {
        struct node *n = graph_node(t.net->graph, i);
        conv = !conv && strcmp(node_op(n), "conv2d") == 0 ? n : conv;
        norm = strcmp(node_op(n), "batch_norm2d") == 0 ? n : norm;
    }
    struct node *outputs[] = {conv, norm, t.net->outputs[0]};
    static const char *const steps[] = {"conv2d", "batch_norm2d", "relu", "conv2d+gelu"};
    const struct plan_spec spec = {.outputs = outputs, .n_outputs = 3, .capacity = 1, .threads = 1};
    struct plan *p = plan_create(t.net->graph, &spec, &e);
    require(p, "outputs", &e);
    struct plan_step step;
    for (int at = 0, found = 0; found < 4; at++) {
        assert_true(plan_step_at(p, at, &step));
        if (!moves_numbers(step.op))
            assert_string_equal(step.op, steps[found++]);
    }
    plan_destroy(&p);
    trainer_close(&t);
}

/* What is short stays on one core, what is long does not. */
static void test_cost(void **state)
{
    (void)state;
    struct trainer t = open_net(0);
    struct predictor p = predictor_open(&t, nets[0].what, false);
    for (int id = 0; id < p.plan->n_nodes; id++) {
        const struct node *n = p.plan->graph->nodes[id];
        if (n->op->flags & OP_LEAF)
            continue;
        assert_false(plan_cost_shares(p.plan, id, 1));
        assert_true(plan_cost_shares(p.plan, id, 1 << 20));
    }
    predictor_close(&p);
    trainer_close(&t);
}

/* A step of training moves running statistics and weights: the next generation's predictions are
 * those of its own numbers, not of what was kept for the last. */
static void test_generations(void **state)
{
    (void)state;
    struct error e = {0};
    struct trainer t = open_net(0);
    struct predictor fused = predictor_open(&t, nets[0].what, false);
    struct predictor own = predictor_open(&t, nets[0].what, true);
    const int64_t n = BATCH_SIZE * fused.each;
    real *before = malloc((size_t)n * sizeof *before);
    struct prepared *b = prepared_create(fused.plan, NULL, NULL);
    memcpy(before, predict(&t, &fused, 0, BATCH_SIZE, b), (size_t)n * sizeof *before);
    for (size_t i = 0; i < graph_buffers_size(t.net->graph); i++) /* alone: what is kept stays */
        t.now->buffers[i] += (real)0.25;
    assert_memory_equal(predict(&t, &fused, 0, BATCH_SIZE, b), before, (size_t)n * sizeof *before);
    assert_memory_not_equal(predict(&t, &fused, 0, BATCH_SIZE, NULL), before,
                            (size_t)n * sizeof *before);
    check_near(0, predict(&t, &fused, 0, BATCH_SIZE, NULL), predict(&t, &own, 0, BATCH_SIZE, NULL),
               n);
    require(!trainer_step(&t, &e), "a step", &e);
    prepared_destroy(&b);
    b = prepared_create(fused.plan, NULL, NULL);
    for (int i = 0; i < 2; i++)
        check_near(0, predict(&t, &fused, 0, BATCH_SIZE, b), predict(&t, &own, 0, BATCH_SIZE, NULL),
                   n);
    prepared_destroy(&b);
    predictor_close(&fused);
    predictor_close(&own);
    trainer_close(&t);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),       cmocka_unit_test(test_outputs_stay),
        cmocka_unit_test(test_cost),        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
