/* test_fuse_both.c: plans whose operators share passes against plans in which each has its own:
 * what is fused and what must not be; loss, outputs, gradients of parameters and of inputs, and
 * moved statistics are the same, in training and with running statistics. */
#include "../../server/trainer.h"
#include "kernels.h"
#include "plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH_SIZE = 6 };

#define CONV(out) "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":3,\"padding\":1},"
#define BN        "{\"op\":\"batch_norm2d\"},"
#define RELU      "{\"op\":\"relu\"}"
#define NET(inputs, layers)                                                                        \
    "{\"inputs\":[" inputs "],\"layers\":[" layers                                                 \
    ",{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"                               \
    "\"loss\":{\"op\":\"cross_entropy\"},\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1}}"
#define SILU  "{\"op\":\"silu\"}"
#define IMAGE "{\"name\":\"x\",\"shape\":[-1,5,6,7]}"

/* How many operators of a name the fused plan has. */
struct count {
    const char *op;
    int n;
};

static const struct {
    const char *what, *description;
    struct count counts[3];
} nets[] = {
    {"a chain",
     NET(IMAGE, CONV(7) BN RELU "," CONV(20) BN RELU),
     {{"batch_norm_relu", 2}, {"batch_norm2d", 0}, {"relu", 0}}},
    {"a chain with silu",
     NET(IMAGE, CONV(7) BN SILU "," CONV(20) BN SILU "," CONV(3) BN SILU),
     {{"batch_norm_silu", 3}, {"batch_norm2d", 0}, {"silu", 0}}},
    {"a residual sum before silu",
     NET(IMAGE, "{\"op\":\"conv2d\",\"out_channels\":5,\"kernel_size\":1}," BN
                "{\"op\":\"add\",\"inputs\":[\"layers.1\",\"x\"]}," SILU),
     {{"batch_norm_silu", 0}, {"add", 1}, {"silu", 1}}},
    {"a residual sum",
     NET(IMAGE, CONV(18) "{\"op\":\"relu\",\"name\":\"a\"}," CONV(18)
                    BN CONV(18) "{\"op\":\"batch_norm2d\",\"name\":\"b\"},"
                                "{\"op\":\"add\",\"inputs\":[\"b\",\"a\"]}," RELU),
     {{"batch_norm_add_relu", 1}, {"add", 0}, {"relu", 1}}},
    {"a sum of two norms, the second first",
     NET(IMAGE, "{\"op\":\"conv2d\",\"out_channels\":9,\"kernel_size\":1,\"name\":\"c\"},"
                "{\"op\":\"batch_norm2d\",\"name\":\"d\"},"
                "{\"op\":\"conv2d\",\"out_channels\":9,\"kernel_size\":1,\"inputs\":[\"x\"]},"
                "{\"op\":\"batch_norm2d\",\"name\":\"e\",\"affine\":false},"
                "{\"op\":\"add\",\"inputs\":[\"c\",\"e\"]}," RELU
                ",{\"op\":\"add\",\"name\":\"f\",\"inputs\":[\"d\",\"c\"]}," RELU),
     {{"batch_norm_add_relu", 1}, {"batch_norm2d", 0}, {"add", 0}}},
    {"a residual that no parameter is behind",
     NET(IMAGE, "{\"op\":\"conv2d\",\"out_channels\":5,\"kernel_size\":1}," BN
                "{\"op\":\"add\",\"inputs\":[\"layers.1\",\"x\"]}," RELU),
     {{"batch_norm_add_relu", 1}, {"add", 0}, {"relu", 0}}},
    {"a norm that two read",
     NET(IMAGE, CONV(5) "{\"op\":\"batch_norm2d\",\"name\":\"b\"},"
                        "{\"op\":\"relu\",\"name\":\"r\"},"
                        "{\"op\":\"mul\",\"inputs\":[\"b\",\"r\"]}"),
     {{"batch_norm_relu", 0}, {"batch_norm2d", 1}, {"relu", 1}}},
    {"a sum that broadcasts",
     NET(IMAGE ",{\"name\":\"z\",\"shape\":[-1,5,1,1]}",
         "{\"op\":\"batch_norm2d\",\"name\":\"b\",\"inputs\":[\"x\"]},"
         "{\"op\":\"add\",\"inputs\":[\"b\",\"z\"]}," RELU),
     {{"batch_norm_add_relu", 0}, {"batch_norm2d", 1}, {"add", 1}}},
    {"rows",
     NET("{\"name\":\"x\",\"shape\":[-1,11]}",
         "{\"op\":\"linear\",\"out_features\":17},{\"op\":\"batch_norm1d\"}," RELU),
     {{"batch_norm_relu", 1}, {"batch_norm1d", 0}, {"relu", 0}}},
    {"rows with silu, of the input",
     NET("{\"name\":\"x\",\"shape\":[-1,11]}", "{\"op\":\"batch_norm1d\"}," SILU),
     {{"batch_norm_silu", 1}, {"batch_norm1d", 0}, {"silu", 0}}},
    {"planes",
     NET("{\"name\":\"x\",\"shape\":[-1,4,11]}", "{\"op\":\"batch_norm1d\"}," RELU),
     {{"batch_norm_relu", 0}, {"batch_norm1d", 1}, {"relu", 1}}},
};
enum { NETS = sizeof nets / sizeof nets[0] };

static int count_ops(const struct plan *p, const char *op)
{
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++)
        n += strcmp(node_op(p->graph->nodes[i]), op) == 0;
    return n;
}

/* ---- running --------------------------------------------------------------------------------- */

struct result {
    struct plan *plan;
    struct run *run;
    real *grads, *buffers;
};

static void require(bool ok, const char *what, const struct error *e)
{
    if (!ok)
        fail_msg("%s: %s", what, e->text);
}

/* `wrt`: also the gradients of the inputs. */
static struct result run(const struct trainer *t, const char *what, bool training, bool wrt,
                         bool unfused)
{
    struct error e = {0};
    const struct network *net = t->net;
    const size_t n_buffers = graph_buffers_size(net->graph);
    struct plan_spec spec = {.training = training,
                             .outputs = net->outputs,
                             .n_outputs = net->n_outputs,
                             .loss = net->loss,
                             .wrt = net->inputs,
                             .n_wrt = wrt ? net->n_inputs : 0,
                             .params_wrt = true,
                             .capacity = BATCH_SIZE,
                             .threads = 2,
                             .fence = 64,
                             .unfused = unfused};
    struct result r = {.plan = plan_create(net->graph, &spec, &e)};
    require(r.plan, what, &e);
    r.run = run_create(r.plan, &e);
    require(r.run, what, &e);
    r.grads = test_malloc((graph_params_size(net->graph) + 1) * sizeof *r.grads);
    r.buffers = test_malloc((n_buffers + 1) * sizeof *r.buffers);
    memcpy(r.buffers, t->now->buffers, n_buffers * sizeof *r.buffers);
    const struct run_args args = {.pool = t->pool,
                                  .n = BATCH_SIZE,
                                  .inputs = t->pointers,
                                  .params = t->now->params,
                                  .buffers = t->now->buffers,
                                  .buffers_out = r.buffers,
                                  .grads = r.grads};
    require(!run_execute(r.run, &args, &e), what, &e);
    assert_true(run_fences_intact(r.run));
    return r;
}

static void result_free(struct result *r)
{
    run_destroy(&r->run);
    plan_destroy(&r->plan);
    test_free(r->grads);
    test_free(r->buffers);
}

/* Not only near: training that is observed runs unfused, and must not differ. */
static void same(const char *net, const char *what, const real *a, const real *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            fail_msg("%s: %s: number %lld is %.17g fused and %.17g by itself", net, what,
                     (long long)i, (double)a[i], (double)b[i]);
}

static void compare(const char *net, const struct trainer *t, bool training, bool wrt)
{
    const struct graph *g = t->net->graph;
    struct result fused = run(t, net, training, wrt, false), own = run(t, net, training, wrt, true);
    int64_t n;
    assert_true(shape_count(node_shape(t->net->outputs[0]), BATCH_SIZE, &n));
    same(net, "losses", &(real){run_loss(fused.run)}, &(real){run_loss(own.run)}, 1);
    same(net, "outputs", run_output(fused.run, 0), run_output(own.run, 0), n);
    same(net, "gradients", fused.grads, own.grads, (int64_t)graph_params_size(g));
    same(net, "statistics", fused.buffers, own.buffers, (int64_t)graph_buffers_size(g));
    for (int i = 0; wrt && i < t->net->n_inputs; i++) {
        assert_true(shape_count(node_shape(t->net->inputs[i]), BATCH_SIZE, &n));
        same(net, "gradients of inputs", run_wrt_grad(fused.run, i), run_wrt_grad(own.run, i), n);
    }
    result_free(&fused);
    result_free(&own);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static struct trainer open_net(int i)
{
    struct error e = {0};
    struct trainer t;
    require(!trainer_open(&t, nets[i].description, BATCH_SIZE, 2, &e), nets[i].what, &e);
    for (int step = 0; step < 3; step++) /* running statistics of its own */
        require(!trainer_step(&t, &e), nets[i].what, &e);
    return t;
}

static void test_same_numbers(void **state)
{
    (void)state;
    const struct kernels *k;
    for (int table = 0; (k = kernels_at(table)); table++) {
        setenv("BACKPROP_KERNELS", k->name, 1);
        engine_start();
        for (int i = 0; i < NETS; i++) {
            struct trainer t = open_net(i);
            for (int way = 0; way < 4; way++)
                compare(nets[i].what, &t, way & 1, way & 2);
            trainer_close(&t);
        }
    }
}

static void test_what_is_fused(void **state)
{
    (void)state;
    for (int i = 0; i < NETS; i++) {
        struct trainer t = open_net(i);
        for (size_t j = 0; j < sizeof nets[i].counts / sizeof nets[i].counts[0]; j++) {
            const struct count *c = &nets[i].counts[j];
            if (count_ops(t.plan, c->op) != c->n)
                fail_msg("%s: %d of %s, not %d", nets[i].what, count_ops(t.plan, c->op), c->op,
                         c->n);
        }
        trainer_close(&t);
    }
}

/* A value that is asked for keeps its operator. */
static void test_outputs_stay(void **state)
{
    (void)state;
    struct error e = {0};
    struct trainer t = open_net(0);
    struct node *norm = NULL;
    for (int i = 0; i < graph_node_count(t.net->graph) && !norm; i++)
        if (strcmp(node_op(graph_node(t.net->graph, i)), "batch_norm2d") == 0)
            norm = graph_node(t.net->graph, i);
    const struct plan_spec spec = {.training = true,
                                   .outputs = &norm,
                                   .n_outputs = 1,
                                   .loss = t.net->loss,
                                   .capacity = 2,
                                   .threads = 1};
    struct plan *p = plan_create(t.net->graph, &spec, &e);
    require(p, "outputs", &e);
    assert_int_equal(count_ops(p, "batch_norm2d"), 1);
    assert_int_equal(count_ops(p, "batch_norm_relu"), 1);
    plan_destroy(&p);
    trainer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_fused),
        cmocka_unit_test(test_outputs_stay),
        cmocka_unit_test(test_same_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
