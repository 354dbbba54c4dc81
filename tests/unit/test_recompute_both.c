/* test_recompute_both.c: networks whose blocks are computed again in backward, asked for or made by
 * the plan, against the same networks that keep everything: losses, gradients of parameters and of
 * inputs and of layers, moved statistics and weights after steps are the same bits; memory is less;
 * what is asked for twice is computed once. */
#include "../../server/trainer.h"
#include "kernels.h"
#include "plan.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH_SIZE = 6, STEPS = 4 };

#define IN(block)   ",\"recompute\":\"" block "\"}"
#define CONV        "{\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":3,\"padding\":1"
#define BN          "{\"op\":\"batch_norm2d\""
#define RELU        "{\"op\":\"relu\""
#define SILU        "{\"op\":\"silu\""
#define NAMED(name) ",\"name\":\"" name "\""
#define IMAGE       "{\"name\":\"x\",\"shape\":[-1,4,6,7]}"
#define ROWS        "{\"name\":\"x\",\"shape\":[-1,9,16]}"
#define NET(inputs, layers)                                                                        \
    "{\"inputs\":[" inputs "],\"layers\":[" layers                                                 \
    ",{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"                               \
    "\"loss\":{\"op\":\"cross_entropy\"},\"optimizer\":{\"op\":\"adamw\",\"lr\":0.01}}"
#define BASIC_BLOCK(name, from)                                                                    \
    CONV ",\"inputs\":[\"" from "\"]" IN(name) "," BN IN(name) "," RELU IN(name) "," CONV IN(      \
        name) "," BN                                                                               \
    NAMED(name "b") IN(name) ",{\"op\":\"add\",\"inputs\":[\"" name "b\",\"" from                  \
                             "\"]" IN(name) "," RELU                                               \
                             NAMED(name) IN(name)

static const struct {
    const char *what, *description;
    bool smaller; /* the arena of its training */
    bool unasked; /* its blocks are the plan's, of fused operators */
} nets[] = {
    {"residual blocks",
     NET(IMAGE, CONV "}," BN "}," RELU NAMED("s") "}," BASIC_BLOCK("a", "s") "," BASIC_BLOCK(
                    "b", "a") "," BASIC_BLOCK("c", "b") "," BASIC_BLOCK("d", "c")),
     true, false},
    {"norms that one convolution reads",
     NET(IMAGE, CONV "}," BN "}," RELU "}," CONV "}," BN "}," SILU "}," CONV "}," BN "}," RELU
                     "}," CONV "}," BN "}," RELU NAMED("r") "}," CONV "}," BN NAMED(
                         "b") "},{\"op\":\"add\",\"inputs\":[\"b\",\"r\"]}"),
     true, true},
    {"true, in a row",
     NET(IMAGE, CONV ",\"recompute\":true}," BN ",\"recompute\":true}," RELU
                     ",\"recompute\":true},{\"op\":\"dropout\",\"p\":0.4,\"recompute\":true}," CONV
                     ",\"recompute\":true}," RELU ",\"recompute\":true},{\"op\":\"max_pool2d\","
                     "\"kernel_size\":2,\"recompute\":true}"),
     false, false},
    {"the whole of it",
     NET(IMAGE, CONV IN("a") "," BN IN("a") "," RELU IN("a") ",{\"op\":\"flatten\"" IN(
                    "a") ",{\"op\":\"linear\",\"out_features\":40" IN("a") ",{\"op\":\"dropout\","
                                                                           "\"p\":0.3" IN("a")),
     false, false},
    {"a block that another stands within, and a view of it outside",
     NET(IMAGE, CONV IN("a") "," CONV IN("b") "," RELU
                    IN("a") ",{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":20" IN(
                        "b") ",{"
                             "\"op\":\"tanh\"" IN("a")),
     false, false},
    {"a value that is read from without",
     NET(IMAGE,
         CONV NAMED("c") IN("a") "," RELU NAMED("r") IN("a") ",{\"op\":\"tanh\"" IN("a") "," BN IN(
             "a") ",{\"op\":\"mul\",\"inputs\":[\"layers.3\",\"c\"]},{\"op\":\"mul\","
                  "\"inputs\":[\"layers.4\",\"r\"]}"),
     false, false},
    {"a branch that leads nowhere",
     NET(IMAGE, CONV NAMED("c") IN("a") "," RELU NAMED("r") IN("a") "," CONV NAMED("nowhere")
                    IN("a") ",{\"op\":\"tanh\",\"inputs\":[\"r\"]}"),
     false, false},
    {"recurrent, alone",
     NET(ROWS,
         "{\"op\":\"lstm\",\"hidden_size\":12" IN("a") ",{\"op\":\"lstm\",\"hidden_size\":12" IN(
             "b") ",{\"op\":\"lstm\",\"hidden_size\":12,\"dropout\":0.5,\"num_layers\":2" IN("c")),
     true, false},
    {"attention",
     NET(ROWS, "{\"op\":\"multihead_attention\",\"num_heads\":4" IN(
                   "a") ",{\"op\":\"linear\","
                        "\"out_features\":64" IN("a") ",{\"op\":\"gelu\"" IN(
                            "a") ",{\"op\":\"linear\","
                                 "\"out_features\":16" NAMED("m")
                                     IN("a") ",{\"op\":\"multihead_attention\","
                                             "\"num_heads\":4" IN(
                                                 "b") ",{\"op\":\"linear\",\"out_"
                                                      "features\":64" IN("b") ",{\"op\":"
                                                                              "\"gelu\"" IN(
                                                                                  "b") ",{"
                                                                                       "\"o"
                                                                                       "p\""
                                                                                       ":\""
                                                                                       "lin"
                                                                                       "ear"
                                                                                       "\","
                                                                                       "\"o"
                                                                                       "ut_"
                                                                                       "fea"
                                                                                       "tur"
                                                                                       "es"
                                                                                       "\":"
                                                                                       "1"
                                                                                       "6" IN("b")),
     true, false},
    {"resnet18",
     "{\"template\":{\"name\":\"resnet18\",\"stem\":\"cifar\",\"image_size\":16,\"width\":8,"
     "\"num_classes\":5,\"recompute\":true}}",
     true, false},
    {"wide_resnet",
     "{\"template\":{\"name\":\"wide_resnet\",\"depth\":16,\"widen_factor\":1,\"image_size\":16,"
     "\"dropout\":0.3,\"recompute\":true}}",
     true, false},
    {"char_gpt",
     "{\"template\":{\"name\":\"char_gpt\",\"vocab_size\":11,\"block_size\":12,\"n_embd\":16,"
     "\"dropout\":0.2,\"recompute\":true}}",
     true, false},
    {"transformer",
     "{\"template\":{\"name\":\"transformer_encoder_classifier\",\"vocab_size\":11,"
     "\"sequence_length\":12,\"embedding_dim\":16,\"num_layers\":4,\"recompute\":true}}",
     true, false},
};
enum { NETS = sizeof nets / sizeof nets[0] };

static void require(bool ok, const char *what, const struct error *e)
{
    if (!ok)
        fail_msg("%s: %s", what, e->text);
}

static void same(const char *net, const char *what, const real *a, const real *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            fail_msg("%s: %s: number %zu is %.17g kept and %.17g computed again", net, what, i,
                     (double)a[i], (double)b[i]);
}

/* The i-th network; `keep`: without blocks, which `unfused` plans make none of their own. */
static struct trainer open_net(int i, bool keep, bool unfused)
{
    struct error e = {0};
    struct trainer t;
    require(!trainer_open(&t, nets[i].description, BATCH_SIZE, 2, &e), nets[i].what, &e);
    for (int k = 0; keep && k < graph_node_count(t.net->graph); k++)
        node_set_block(graph_node(t.net->graph, k), 0);
    if (!unfused)
        return t;
    const struct plan_spec spec = {.training = true,
                                   .outputs = t.net->outputs,
                                   .n_outputs = t.net->n_outputs,
                                   .loss = t.net->loss,
                                   .params_wrt = true,
                                   .capacity = BATCH_SIZE,
                                   .threads = 2,
                                   .unfused = true};
    run_destroy(&t.run);
    plan_destroy(&t.plan);
    t.plan = plan_create(t.net->graph, &spec, &e);
    require(t.plan, nets[i].what, &e);
    t.run = run_create(t.plan, &e);
    require(t.run, nets[i].what, &e);
    return t;
}

static int count_again(const struct plan *p)
{
    struct plan_step step;
    int n = 0;
    for (int i = 0; plan_step_at(p, i, &step); i++)
        n += step.again;
    return n;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void test_steps_are_the_same(void **state)
{
    (void)state;
    struct error e = {0};
    const struct kernels *k;
    for (int table = 0; (k = kernels_at(table)); table++) {
        setenv("BACKPROP_KERNELS", k->name, 1);
        engine_start();
        for (int i = 0; i < NETS; i++) {
            struct trainer kept = open_net(i, true, true), again = open_net(i, false, false);
            const struct graph *g = kept.net->graph;
            assert_int_equal(count_again(kept.plan), 0);
            assert_true(count_again(again.plan) > 0);
            for (int step = 0; step < STEPS; step++) {
                require(!trainer_step(&kept, &e), nets[i].what, &e);
                require(!trainer_step(&again, &e), nets[i].what, &e);
                same(nets[i].what, "loss", &(real){run_loss(kept.run)},
                     &(real){run_loss(again.run)}, 1);
                same(nets[i].what, "gradients", kept.grads, again.grads, graph_params_size(g));
            }
            same(nets[i].what, "weights", kept.now->params, again.now->params,
                 graph_params_size(g));
            same(nets[i].what, "statistics", kept.now->buffers, again.now->buffers,
                 graph_buffers_size(g));
            trainer_close(&kept);
            trainer_close(&again);
        }
    }
}

/* ---- gradients of all that can be asked for -------------------------------------------------- */

struct observed {
    int calls;
    double sum;
};

static void observe(void *arg, const struct node *n, const real *value, int64_t count)
{
    struct observed *o = arg;
    (void)n;
    o->calls++;
    for (int64_t i = 0; i < count; i++)
        o->sum += (double)value[i];
}

struct result {
    struct plan *plan;
    struct run *run;
    real *grads, *buffers;
    struct observed seen;
};

enum { MAX_WRT = 64 };

/* The real inputs and every third layer, in and out of blocks. */
static int pick_wrt(const struct network *net, struct node **wrt)
{
    int n = 0;
    for (int i = 0; i < net->n_inputs; i++)
        if (node_dtype(net->inputs[i]) == DTYPE_REAL)
            wrt[n++] = net->inputs[i];
    for (int i = 0; i < graph_node_count(net->graph) && n < MAX_WRT; i += 3) {
        struct node *node = graph_node(net->graph, i);
        if (node_input_count(node) && node != net->loss && node_dtype(node) == DTYPE_REAL)
            wrt[n++] = node;
    }
    return n;
}

static struct result gradients(const struct trainer *t, const char *what, struct node **wrt,
                               int n_wrt, bool unfused)
{
    struct error e = {0};
    const struct network *net = t->net;
    const size_t n_buffers = graph_buffers_size(net->graph);
    struct plan_spec spec = {.training = true,
                             .outputs = net->outputs,
                             .n_outputs = net->n_outputs,
                             .loss = net->loss,
                             .wrt = wrt,
                             .n_wrt = n_wrt,
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
    struct run_args args = {.pool = t->pool,
                            .n = BATCH_SIZE,
                            .inputs = t->pointers,
                            .params = t->now->params,
                            .buffers = t->now->buffers,
                            .buffers_out = r.buffers,
                            .grads = r.grads,
                            .observe = observe,
                            .observe_arg = &r.seen};
    for (int batch = BATCH_SIZE - 2; batch <= BATCH_SIZE; batch += 2) { /* a run is used again */
        args.n = batch;
        r.seen = (struct observed){0, 0};
        memcpy(r.buffers, t->now->buffers, n_buffers * sizeof *r.buffers);
        require(!run_execute(r.run, &args, &e), what, &e);
        assert_true(run_fences_intact(r.run));
    }
    return r;
}

static void result_free(struct result *r)
{
    run_destroy(&r->run);
    plan_destroy(&r->plan);
    test_free(r->grads);
    test_free(r->buffers);
}

static void compare(int i, bool unfused)
{
    const char *what = nets[i].what;
    struct trainer kept = open_net(i, true, true), again = open_net(i, false, false);
    struct node *wrt_kept[MAX_WRT], *wrt_again[MAX_WRT];
    const int n_wrt = pick_wrt(kept.net, wrt_kept);
    assert_int_equal(pick_wrt(again.net, wrt_again), n_wrt);
    struct result a = gradients(&kept, what, wrt_kept, n_wrt, unfused || nets[i].unasked);
    struct result b = gradients(&again, what, wrt_again, n_wrt, unfused);
    const struct graph *g = kept.net->graph;
    int64_t n;
    assert_int_equal(count_again(b.plan) > 0, !nets[i].unasked || !unfused);
    assert_true(shape_count(node_shape(kept.net->outputs[0]), BATCH_SIZE, &n));
    same(what, "outputs", run_output(a.run, 0), run_output(b.run, 0), (size_t)n);
    same(what, "gradients", a.grads, b.grads, graph_params_size(g));
    same(what, "statistics", a.buffers, b.buffers, graph_buffers_size(g));
    for (int k = 0; k < n_wrt; k++) {
        assert_true(shape_count(node_shape(wrt_kept[k]), BATCH_SIZE, &n));
        same(what, node_name(wrt_kept[k]), run_wrt_grad(a.run, k), run_wrt_grad(b.run, k),
             (size_t)n);
    }
    if (unfused || !nets[i].unasked) { /* else one of them has fewer operators */
        assert_int_equal(a.seen.calls, b.seen.calls);
        assert_memory_equal(&a.seen.sum, &b.seen.sum, sizeof a.seen.sum);
    }
    result_free(&a);
    result_free(&b);
    trainer_close(&kept);
    trainer_close(&again);
}

static void test_gradients_are_the_same(void **state)
{
    (void)state;
    engine_start();
    for (int i = 0; i < NETS; i++)
        for (int unfused = 0; unfused < 2; unfused++)
            compare(i, unfused);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void test_memory_is_less(void **state)
{
    (void)state;
    for (int i = 0; i < NETS; i++) {
        struct trainer kept = open_net(i, true, true);
        struct trainer again = open_net(i, false, !nets[i].unasked);
        const size_t a = plan_arena_bytes(kept.plan), b = plan_arena_bytes(again.plan);
        if (nets[i].smaller ? b >= a : b > a + a / 4)
            fail_msg("%s: %zu bytes kept, %zu computed again", nets[i].what, a, b);
        trainer_close(&kept);
        trainer_close(&again);
    }
}

static const struct node *find(const struct plan *p, const char *name)
{
    for (int i = 0; i < p->n_nodes; i++)
        if (strcmp(node_name(p->graph->nodes[i]), name) == 0)
            return p->graph->nodes[i];
    fail_msg("no %s", name);
    return NULL;
}

/* What enters the next block, and what is read from outside, is not computed twice; nor is what
 * nobody reads in backward. */
static void test_what_runs_again(void **state)
{
    (void)state;
    struct trainer t = open_net(0, false, false);
    assert_false(t.plan->again[find(t.plan, "ab")->id]); /* the fused end of block a */
    assert_true(t.plan->again[find(t.plan, "layers.3")->id]);
    assert_true(t.plan->again[find(t.plan, "layers.4")->id]);
    assert_false(t.plan->again[find(t.plan, "layers.0")->id]); /* in no block */
    trainer_close(&t);
    t = open_net(6, false, false);
    assert_true(t.plan->backward);
    for (int i = 0; i < t.plan->n_nodes; i++)
        assert_string_not_equal(node_name(t.plan->graph->nodes[i]), "nowhere");
    trainer_close(&t);
}

/* A plan makes blocks of what is cheap and has one reader that keeps it; statistics are taken once.
 */
static void test_blocks_of_the_plan(void **state)
{
    (void)state;
    struct trainer t = open_net(1, false, false);
    const struct plan *p = t.plan;
    assert_true(p->again[find(p, "layers.1")->id]);
    assert_true(p->again[find(p, "layers.4")->id]);
    assert_true(p->again[find(p, "layers.7")->id]);
    assert_int_equal(count_again(p), 3); /* that of r is read by two */
    for (int i = 0; i < p->n_nodes; i++)
        assert_int_equal(p->saved_again[i], p->saved[i]);
    trainer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_runs_again),    cmocka_unit_test(test_blocks_of_the_plan),
        cmocka_unit_test(test_memory_is_less),     cmocka_unit_test(test_gradients_are_the_same),
        cmocka_unit_test(test_steps_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
