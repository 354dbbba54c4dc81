/* test_determinism_both.c: the same bits at any number of threads, and in inference whatever the
 * company. Networks are large enough to be cut into many chunks, and cover every way in which work
 * is cut: convolutions of all kinds, statistics, pooling, sums, products, dropout, the optimiser.
 * Everything is done once for each table of kernels that this processor runs. */
#include "../../server/trainer.h"
#include "kernels.h"
#include "op.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
/* What threads share is the same in all tables and steps, test_kernels_* reaches what each table
 * reads and writes, and this is slow. */
enum { TABLES_MOST = 1, STEPS = 5, SIZES_STEP = 5 };
#else
enum { TABLES_MOST = 8, STEPS = 10, SIZES_STEP = 1 };
#endif
enum { BATCH_MOST = 64 };

#define ADAMW "\"optimizer\":{\"op\":\"adamw\",\"lr\":0.001},\"clip_grad_norm\":1.0,\"seed\":3}"

/* Grouped, depthwise, strided, dilated, 1x1, wide and Winograd's convolutions, an image of few and
 * of many channels, all pools, dropout on images and rows, a residual sum. */
static const char cnn[] =
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,3,20,20]}],\"layers\":["
    "{\"op\":\"conv2d\",\"out_channels\":24,\"kernel_size\":3,\"padding\":1},"
    "{\"op\":\"batch_norm2d\"},{\"op\":\"relu\",\"name\":\"stem\"},"
    "{\"op\":\"conv2d\",\"out_channels\":24,\"kernel_size\":3,\"padding\":1,\"groups\":24},"
    "{\"op\":\"batch_norm2d\"},{\"op\":\"silu\"},"
    "{\"op\":\"conv2d\",\"out_channels\":24,\"kernel_size\":1,\"bias\":false},"
    "{\"op\":\"batch_norm2d\",\"name\":\"deep\"},"
    "{\"op\":\"add\",\"inputs\":[\"stem\",\"deep\"]},"
    "{\"op\":\"conv2d\",\"out_channels\":24,\"kernel_size\":3,\"padding\":1},"
    "{\"op\":\"dropout\",\"p\":0.2},"
    "{\"op\":\"max_pool2d\",\"kernel_size\":3,\"stride\":2,\"padding\":1},"
    "{\"op\":\"conv2d\",\"out_channels\":48,\"kernel_size\":3,\"padding\":1,\"groups\":4},"
    "{\"op\":\"leaky_relu\"},{\"op\":\"avg_pool2d\",\"kernel_size\":2},"
    "{\"op\":\"conv2d\",\"out_channels\":272,\"kernel_size\":3,\"padding\":2,\"dilation\":2},"
    "{\"op\":\"batch_norm2d\"},{\"op\":\"gelu\"},"
    "{\"op\":\"conv2d\",\"out_channels\":36,\"kernel_size\":2,\"stride\":2},"
    "{\"op\":\"adaptive_avg_pool2d\",\"output_size\":1},{\"op\":\"flatten\"},"
    "{\"op\":\"dropout\",\"p\":0.5},{\"op\":\"linear\",\"out_features\":10}],"
    "\"loss\":{\"op\":\"cross_entropy\",\"label_smoothing\":0.1}," ADAMW;

static const char mlp[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,300]}],\"layers\":["
                          "{\"op\":\"linear\",\"out_features\":513},{\"op\":\"batch_norm1d\"},"
                          "{\"op\":\"relu\"},{\"op\":\"dropout\",\"p\":0.5},"
                          "{\"op\":\"linear\",\"out_features\":257},{\"op\":\"tanh\"},"
                          "{\"op\":\"linear\",\"out_features\":10}],"
                          "\"loss\":{\"op\":\"cross_entropy\"}," ADAMW;

/* One block of a transformer: rows of 48 positions with 64 features. */
static const char attention[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,48,64]}],\"layers\":["
    "{\"op\":\"layer_norm\",\"normalized_shape\":[64],\"name\":\"norm\"},"
    "{\"op\":\"linear\",\"out_features\":64,\"name\":\"q\"},"
    "{\"op\":\"linear\",\"out_features\":64,\"name\":\"k\",\"inputs\":[\"norm\"]},"
    "{\"op\":\"linear\",\"out_features\":64,\"name\":\"v\",\"inputs\":[\"norm\"]},"
    "{\"op\":\"transpose\",\"dim0\":1,\"dim1\":2,\"name\":\"kt\",\"inputs\":[\"k\"]},"
    "{\"op\":\"matmul\",\"name\":\"scores\",\"inputs\":[\"q\",\"kt\"]},"
    "{\"op\":\"mul\",\"other\":0.125},{\"op\":\"softmax\",\"dim\":-1,\"name\":\"weights\"},"
    "{\"op\":\"matmul\",\"name\":\"mixed\",\"inputs\":[\"weights\",\"v\"]},"
    "{\"op\":\"linear\",\"out_features\":64,\"name\":\"out\"},"
    "{\"op\":\"add\",\"name\":\"sum\",\"inputs\":[\"x\",\"out\"]},"
    "{\"op\":\"layer_norm\",\"normalized_shape\":[64]},"
    "{\"op\":\"linear\",\"out_features\":256},{\"op\":\"gelu\"},"
    "{\"op\":\"linear\",\"out_features\":64,\"name\":\"down\"},"
    "{\"op\":\"add\",\"inputs\":[\"sum\",\"down\"]},{\"op\":\"flatten\"},"
    "{\"op\":\"linear\",\"out_features\":10}],\"loss\":{\"op\":\"cross_entropy\"}," ADAMW;

/* Recurrent layers: both directions, dropout between layers, all cells. */
static const char recurrent[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,9,20]}],\"layers\":["
    "{\"op\":\"lstm\",\"hidden_size\":33,\"num_layers\":2,\"bidirectional\":true,"
    "\"dropout\":0.3},{\"op\":\"gru\",\"hidden_size\":41},"
    "{\"op\":\"rnn\",\"hidden_size\":24,\"output\":\"last\"},"
    "{\"op\":\"linear\",\"out_features\":10}],\"loss\":{\"op\":\"cross_entropy\"}," ADAMW;

static const struct {
    const char *name, *description;
    int64_t batch;
} nets[] = {{"cnn", cnn, 48},
            {"mlp", mlp, 200},
            {"attention", attention, 40},
            {"recurrent", recurrent, 70}};
enum { NETS = sizeof nets / sizeof nets[0] };

/* ---- training -------------------------------------------------------------------------------- */

/* What the first step and all steps of a network leave behind. */
struct trace {
    real loss, last_loss;
    size_t n_params, n_buffers, n_output, n_slots;
    real *grads, *buffers, *output;                   /* after the first forward and backward */
    real *params, *last_buffers, *slots, *last_grads; /* after all steps */
};

static real *copy_of(const real *from, size_t n)
{
    real *to = test_malloc(n * sizeof *to + 1);
    memcpy(to, from, n * sizeof *to);
    return to;
}

static void trace_free(struct trace *t)
{
    real *all[] = {t->grads,        t->buffers, t->output,    t->params,
                   t->last_buffers, t->slots,   t->last_grads};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        test_free(all[i]);
}

static void require(int status, const struct error *e)
{
    if (status)
        fail_msg("%s", e->text);
}

static void *scratch_mark(const struct run *r)
{
    size_t bytes = r->scratch_bytes;
    return bytes ? memset(r->scratch, 0xFF, bytes * (size_t)pool_threads(r->args.pool)) : NULL;
}

/* Workers that have written into their scratch since scratch_mark. */
static int scratch_writers(const struct run *r, int threads)
{
    int writers = 0;
    for (int w = 0; w < threads; w++) {
        bool wrote = false;
        for (size_t i = 0; i < r->scratch_bytes; i++)
            wrote |= ((unsigned char *)run_scratch(r, w))[i] != 0xFF;
        writers += wrote;
    }
    return writers;
}

static struct trace train(int net, int threads, int *writers_r)
{
    struct error e = {0};
    struct trainer t;
    require(trainer_open(&t, nets[net].description, nets[net].batch, threads, &e), &e);
    assert_int_equal(pool_threads(t.pool), threads);
    const struct graph *g = t.net->graph;
    int64_t n_output;
    assert_true(shape_count(node_shape(t.net->outputs[0]), t.batch, &n_output));
    struct trace out = {.n_params = graph_params_size(g),
                        .n_buffers = graph_buffers_size(g),
                        .n_output = (size_t)n_output};
    out.n_slots = out.n_params * (size_t)optimizer_slots(t.net->optimizer);
    require(trainer_gradients(&t, &e), &e);
    out.loss = run_loss(t.run);
    out.grads = copy_of(t.grads, out.n_params);
    out.buffers = copy_of(t.next->buffers, out.n_buffers);
    out.output = copy_of(run_output(t.run, 0), out.n_output);
    scratch_mark(t.run);
    for (int i = 0; i < STEPS; i++)
        require(trainer_step(&t, &e), &e);
    *writers_r = scratch_writers(t.run, threads);
    out.last_loss = run_loss(t.run);
    out.params = copy_of(t.now->params, out.n_params);
    out.last_buffers = copy_of(t.now->buffers, out.n_buffers);
    out.slots = copy_of(t.now->slots, out.n_slots);
    out.last_grads = copy_of(t.grads, out.n_params);
    trainer_close(&t);
    return out;
}

static void same(const char *what, const char *net, int threads, const real *a, const real *b,
                 size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a))
            fail_msg("%s of %s: element %zu is %.9g at 1 thread and %.9g at %d", what, net, i,
                     (double)a[i], (double)b[i], threads);
}

static void compare(const char *net, int threads, const struct trace *a, const struct trace *b)
{
    same("loss", net, threads, &a->loss, &b->loss, 1);
    same("output", net, threads, a->output, b->output, a->n_output);
    same("gradients", net, threads, a->grads, b->grads, a->n_params);
    same("moved buffers", net, threads, a->buffers, b->buffers, a->n_buffers);
    same("last loss", net, threads, &a->last_loss, &b->last_loss, 1);
    same("last gradients", net, threads, a->last_grads, b->last_grads, a->n_params);
    same("parameters", net, threads, a->params, b->params, a->n_params);
    same("buffers", net, threads, a->last_buffers, b->last_buffers, a->n_buffers);
    same("optimizer state", net, threads, a->slots, b->slots, a->n_slots);
}

/* The same numbers are worth something only if they are numbers that moved. */
static void check_moved(const struct trace *t)
{
    size_t moved = 0;
    for (size_t i = 0; i < t->n_params; i++)
        moved += t->grads[i] != 0 && t->grads[i] == t->grads[i];
    assert_true(moved > t->n_params / 2);
    assert_true(t->last_loss < t->loss);
}

/* `all`: with pools of all sizes. */
static void train_at_all_threads(int net, bool all)
{
    static const int threads[] = {3, 2, 8};
    int writers;
    struct trace one = train(net, 1, &writers);
    check_moved(&one);
    for (int i = 0; i < (all ? 3 : 1); i++) {
        struct trace many = train(net, threads[i], &writers);
        compare(nets[net].name, threads[i], &one, &many);
        trace_free(&many);
        if (net == 0)
            assert_true(writers > 1);
    }
    trace_free(&one);
}

/* ---- inference ------------------------------------------------------------------------------- */

/* A forward-only plan and what it is run with. */
struct inference {
    const struct network *net;
    struct pool *pool;
    struct plan *plan;
    struct run *run;
    const struct generation *g;
};

static struct inference inference_open(const struct trainer *t, int64_t capacity, int threads)
{
    struct error e = {0};
    struct inference f = {.net = t->net, .g = t->now, .pool = pool_create(threads, &e)};
    struct node *outputs[] = {t->net->outputs[0], t->net->probabilities};
    struct plan_spec spec = {
        .outputs = outputs, .n_outputs = 2, .capacity = capacity, .threads = threads};
    assert_non_null(t->net->probabilities);
    f.plan = f.pool ? plan_create(t->net->graph, &spec, &e) : NULL;
    f.run = f.plan ? run_create(f.plan, &e) : NULL;
    require(f.run ? 0 : -1, &e);
    return f;
}

static void inference_close(struct inference *f)
{
    run_destroy(&f->run);
    plan_destroy(&f->plan);
    pool_destroy(&f->pool);
}

/* Samples [first, first + n) of the trainer's batch; outputs stay in the run. */
static void infer(const struct inference *f, const struct trainer *t, int64_t first, int64_t n)
{
    struct error e = {0};
    int64_t each;
    assert_true(shape_count(node_shape(f->net->inputs[0]), 1, &each));
    const void *inputs[2 * NETWORK_MAX_IO] = {(const real *)t->data[0] + first * each};
    const struct run_args args = {.pool = f->pool,
                                  .n = n,
                                  .inputs = inputs,
                                  .params = f->g->params,
                                  .buffers = f->g->buffers};
    require(run_execute(f->run, &args, &e), &e);
}

enum { CLASSES = 10 };

static void compare_rows(const struct inference *f, const char *net, const real *alone,
                         int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int out = 0; out < 2; out++)
            if (memcmp(run_output(f->run, out) + i * CLASSES,
                       alone + (2 * (first + i) + out) * CLASSES, CLASSES * sizeof *alone))
                fail_msg("%s: sample %lld is another alone than at place %lld of %lld, %s", net,
                         (long long)(first + i), (long long)i, (long long)n,
                         out ? "probabilities" : "logits");
}

/* A batch of n at each end of the samples, so that a sample is seen at several places. */
static void compare_batches(const struct inference *f, const struct trainer *t, const char *net,
                            const real *alone, int64_t n)
{
    for (int64_t first = 0; first <= BATCH_MOST - n; first += n < BATCH_MOST ? BATCH_MOST - n : 1) {
        infer(f, t, first, n);
        compare_rows(f, net, alone, first, n);
    }
}

static void infer_in_company(int net, bool all)
{
    static const int threads[] = {3, 2, 1, 8};
    struct error e = {0};
    struct trainer t;
    require(trainer_open(&t, nets[net].description, BATCH_MOST, 2, &e), &e);
    for (int i = 0; i < 3; i++)
        require(trainer_step(&t, &e), &e);
    real *alone = test_malloc(BATCH_MOST * 2 * CLASSES * sizeof *alone);
    struct inference one = inference_open(&t, 1, 1);
    for (int64_t i = 0; i < BATCH_MOST; i++) {
        infer(&one, &t, i, 1);
        for (int out = 0; out < 2; out++)
            memcpy(alone + (2 * i + out) * CLASSES, run_output(one.run, out),
                   CLASSES * sizeof *alone);
    }
    inference_close(&one);
    for (int i = 0; i < (all ? 4 : 1); i++) {
        struct inference many = inference_open(&t, BATCH_MOST + 36 * (i == 1), threads[i]);
        for (int64_t n = 1 + i % 2; n <= 17; n += i < 2 ? SIZES_STEP : 5)
            compare_batches(&many, &t, nets[net].name, alone, n);
        compare_batches(&many, &t, nets[net].name, alone, BATCH_MOST);
        inference_close(&many);
        struct inference exact = inference_open(&t, 3 + 4 * i, threads[i]);
        compare_batches(&exact, &t, nets[net].name, alone, 3 + 4 * i);
        inference_close(&exact);
    }
    test_free(alone);
    trainer_close(&t);
}

/* ---- the tests ------------------------------------------------------------------------------- */

/* Makes engine_start choose table i; no thread is running. */
static bool use_kernels(int i)
{
    const struct kernels *k = kernels_at(i);
    if (!k || i >= TABLES_MOST)
        return false;
    setenv("BACKPROP_KERNELS", k->name, 1);
    engine_start();
    assert_ptr_equal(kernels(), k);
    return true;
}

static void test_training(void **state)
{
    for (int i = 0; use_kernels(i); i++)
        train_at_all_threads(*(int *)*state, i == 0);
}

static void test_inference(void **state)
{
    for (int i = 0; use_kernels(i); i++)
        infer_in_company(*(int *)*state, i == 0);
}

int main(void)
{
    static int which[NETS];
    static struct CMUnitTest tests[2 * NETS];
    static char names[2 * NETS][64];
    for (int i = 0; i < NETS; i++) {
        which[i] = i;
        tests[2 * i] = (struct CMUnitTest){.test_func = test_training, .initial_state = &which[i]};
        tests[2 * i + 1] =
            (struct CMUnitTest){.test_func = test_inference, .initial_state = &which[i]};
        snprintf(names[2 * i], sizeof names[0], "training of %s at any number of threads",
                 nets[i].name);
        snprintf(names[2 * i + 1], sizeof names[0], "inference of %s in any company", nets[i].name);
        tests[2 * i].name = names[2 * i];
        tests[2 * i + 1].name = names[2 * i + 1];
    }
    return cmocka_run_group_tests_name("determinism", tests, NULL, NULL);
}
