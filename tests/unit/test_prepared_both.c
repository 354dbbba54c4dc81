/* test_prepared_both.c: weights that are packed once for a generation: predictions have the same
 * bits without a block, from the run that fills it and from those that read it; plans of other
 * capacities share it, others leave it alone; it goes with its generation. */
#include "../../server/trainer.h"
#include "kernels.h"
#include "plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH_SIZE = 5, CLASSES = 3 };

/* Winograd's, direct, grouped and depthwise convolutions. */
static const char description[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3,16,16]}],\"layers\":["
    "{\"op\":\"conv2d\",\"out_channels\":18,\"kernel_size\":3,\"padding\":1},{\"op\":\"relu\"},"
    "{\"op\":\"conv2d\",\"out_channels\":20,\"kernel_size\":3,\"padding\":1,\"name\":\"wide\"},"
    "{\"op\":\"batch_norm2d\"},{\"op\":\"relu\"},"
    "{\"op\":\"conv2d\",\"out_channels\":12,\"kernel_size\":3,\"stride\":2,\"groups\":2},"
    "{\"op\":\"conv2d\",\"out_channels\":12,\"kernel_size\":3,\"groups\":12},"
    "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":{\"op\":\"cross_entropy\"},\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1}}";

struct predictor {
    struct plan *plan;
    struct run *run;
};

static void require(bool ok, const struct error *e)
{
    if (!ok)
        fail_msg("%s", e->text);
}

/* Of the network's output, or of one layer's. */
static struct predictor predictor_open(const struct trainer *t, struct node *output,
                                       int64_t capacity)
{
    struct error e = {0};
    struct plan_spec spec = {
        .outputs = &output, .n_outputs = 1, .capacity = capacity, .threads = 2, .fence = 64};
    struct predictor p = {.plan = plan_create(t->net->graph, &spec, &e)};
    require(p.plan, &e);
    p.run = run_create(p.plan, &e);
    require(p.run, &e);
    return p;
}

static void predictor_close(struct predictor *p)
{
    run_destroy(&p->run);
    plan_destroy(&p->plan);
}

static void predict(const struct trainer *t, const struct predictor *p, int64_t n,
                    const real *params, struct prepared *b, real *out)
{
    struct error e = {0};
    const struct run_args args = {.pool = t->pool,
                                  .n = n,
                                  .inputs = t->pointers,
                                  .params = params,
                                  .buffers = t->now->buffers,
                                  .prepared = b};
    require(!run_execute(p->run, &args, &e), &e);
    assert_true(run_fences_intact(p->run));
    memcpy(out, run_output(p->run, 0), (size_t)(n * CLASSES) * sizeof *out);
}

static void count_bytes(void *arg, size_t bytes)
{
    *(size_t *)arg += bytes;
}

static struct trainer open_trainer(void)
{
    struct error e = {0};
    struct trainer t;
    require(!trainer_open(&t, description, BATCH_SIZE, 2, &e), &e);
    return t;
}

static void check_same_bits(void)
{
    struct trainer t = open_trainer();
    struct predictor five = predictor_open(&t, t.net->outputs[0], BATCH_SIZE);
    struct predictor one = predictor_open(&t, t.net->outputs[0], 1);
    real expected[BATCH_SIZE * CLASSES], found[BATCH_SIZE * CLASSES];
    size_t released = 0;
    struct prepared *b = prepared_create(five.plan, count_bytes, &released);
    assert_non_null(b);
    predict(&t, &five, BATCH_SIZE, t.now->params, NULL, expected);
    assert_false(prepared_ready(b));
    for (int i = 0; i < 3; i++) {
        predict(&t, &five, BATCH_SIZE, t.now->params, b, found);
        assert_memory_equal(found, expected, sizeof found);
        assert_true(prepared_ready(b));
    }
    predict(&t, &one, 1, t.now->params, b, found);
    assert_memory_equal(found, expected, CLASSES * sizeof *found);
    assert_int_equal(released, 0);
    prepared_destroy(&b);
    assert_int_equal(released, plan_prepared_bytes(five.plan));
    predictor_close(&one);
    predictor_close(&five);
    trainer_close(&t);
}

static void test_same_bits(void **state)
{
    (void)state;
    const struct kernels *k;
    for (int i = 0; (k = kernels_at(i)); i++) {
        setenv("BACKPROP_KERNELS", k->name, 1);
        engine_start();
        check_same_bits();
    }
}

/* Filled once: weights that change behind its back are not seen, which proves that they are not
 * packed again. (Biases are read from the parameters.) */
static void test_packed_once(void **state)
{
    (void)state;
    struct trainer t = open_trainer();
    struct node *wide = NULL;
    for (int i = 0; i < graph_node_count(t.net->graph); i++)
        if (strcmp(node_name(graph_node(t.net->graph, i)), "wide") == 0)
            wide = graph_node(t.net->graph, i);
    struct predictor p = predictor_open(&t, wide, BATCH_SIZE);
    real expected[BATCH_SIZE * CLASSES], found[BATCH_SIZE * CLASSES];
    struct prepared *b = prepared_create(p.plan, NULL, NULL);
    predict(&t, &p, BATCH_SIZE, t.now->params, b, expected);
    for (int i = 0; i < graph_param_count(t.net->graph); i++) {
        const struct param *param = graph_param(t.net->graph, i);
        for (size_t k = 0; !param->buffer && param->shape.rank == 4 && k < param->count; k++)
            t.now->params[param->offset + k] += 1;
    }
    predict(&t, &p, BATCH_SIZE, t.now->params, b, found);
    assert_memory_equal(found, expected, sizeof found);
    predict(&t, &p, BATCH_SIZE, t.now->params, NULL, found);
    assert_memory_not_equal(found, expected, sizeof found);
    prepared_destroy(&b);
    predictor_close(&p);
    trainer_close(&t);
}

/* A block of a plan with other layers is not touched. */
static void test_other_layout(void **state)
{
    (void)state;
    struct trainer t = open_trainer();
    struct predictor all = predictor_open(&t, t.net->outputs[0], BATCH_SIZE);
    struct predictor part = predictor_open(&t, graph_node(t.net->graph, 3), BATCH_SIZE);
    real expected[BATCH_SIZE * CLASSES], found[BATCH_SIZE * CLASSES];
    struct prepared *b = prepared_create(all.plan, NULL, NULL);
    assert_true(plan_prepared_bytes(part.plan) > 0);
    predict(&t, &part, BATCH_SIZE, t.now->params, NULL, expected);
    predict(&t, &part, BATCH_SIZE, t.now->params, b, found);
    assert_memory_equal(found, expected, sizeof found);
    assert_false(prepared_ready(b));
    prepared_destroy(&b);
    predictor_close(&part);
    predictor_close(&all);
    trainer_close(&t);
}

/* Plans with backward prepare nothing; a block goes when its generation is written anew. */
static void test_generations(void **state)
{
    (void)state;
    struct trainer t = open_trainer();
    struct predictor p = predictor_open(&t, t.net->outputs[0], BATCH_SIZE);
    size_t released = 0;
    struct prepared *b = prepared_create(p.plan, count_bytes, &released);
    struct prepared *second = prepared_create(p.plan, count_bytes, &released);
    assert_int_equal(plan_prepared_bytes(t.plan), 0);
    assert_null(generation_prepared(t.now));
    generation_prepare(t.now, &b);
    assert_null(b);
    assert_non_null(generation_prepared(t.now));
    generation_prepare(t.now, &second);
    assert_int_equal(released, plan_prepared_bytes(p.plan));
    generation_forget(t.now);
    assert_null(generation_prepared(t.now));
    assert_int_equal(released, 2 * plan_prepared_bytes(p.plan));
    b = prepared_create(p.plan, count_bytes, &released);
    generation_prepare(t.now, &b);
    predictor_close(&p);
    const size_t each = released / 2;
    trainer_close(&t); /* the last reference */
    assert_int_equal(released, 3 * each);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_packed_once),
        cmocka_unit_test(test_other_layout),
        cmocka_unit_test(test_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
