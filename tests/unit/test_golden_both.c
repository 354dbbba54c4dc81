/* test_golden_both.c: the engine against PyTorch's numbers, tensor by tensor, in double and in
 * float. Each file of tests/data/golden (written by tests/golden/make_golden.py, which says what
 * it holds) is one test: output, loss and gradients of a first batch; then 20 steps, and the
 * losses, parameters, buffers and eval-mode output that they lead to. The measure is the relative
 * L2 error of a tensor. Run from the root of the repository. */
#include "../../server/describe.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/data/golden"

#ifdef BACKPROP_DOUBLE
static const double TOLERANCE = 1e-9, WHOLE_TOLERANCE = 1e-9, KINK_TOLERANCE = 1e-9;
#else
/* Whole networks have fifty layers of rounding. In those of ReLU ("kinks") a few of a million units
 * lie within rounding of a kink and fall to either side, which depends on the processor's kernels,
 * and each that does moves gradients by up to some percent: PyTorch's own float32 does so too (the
 * file's "float_error"). There the gradients and what follows from them are held to the last of
 * these, and to 1e-9 in double. */
static const double TOLERANCE = 1e-5, WHOLE_TOLERANCE = 1e-4, KINK_TOLERANCE = 1e-1;
#endif

enum { MAX_BATCHES = 8, THREADS = 2 };

/* One file, and the network that it describes. */
struct golden {
    json_t *file;
    struct network *net;
    struct pool *pool;
    struct generation *now, *next;
    real *grads; /* block of parameters */
    int n_batches;
    int64_t samples[MAX_BATCHES];
    void *inputs[MAX_BATCHES][2 * NETWORK_MAX_IO]; /* inputs, then targets */
};

/* ---- tensors by rule ------------------------------------------------------------------------- */

static uint64_t key_hash(const char *key)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3;
    return h;
}

/* Element i of what is made from the key with this hash, in [-1, 1). */
static double made(uint64_t hash, size_t i)
{
    uint64_t z = hash + i + 0x9e3779b97f4a7c15; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return ((double)(z >> 52) - 2048) / 2048;
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static size_t count_of(const json_t *tensor)
{
    const json_t *sizes = json_object_get(tensor, "shape");
    size_t n = 1;
    for (size_t i = 0; i < json_array_size(sizes); i++)
        n *= (size_t)json_integer_value(json_array_get(sizes, i));
    return n;
}

/* All numbers of a tensor that goes in. */
static void numbers_of(const json_t *tensor, size_t n, real *out)
{
    const json_t *data = json_object_get(tensor, "data"), *rule = json_object_get(tensor, "made");
    assert_true(rule || json_array_size(data) == n);
    const uint64_t hash = rule ? key_hash(json_string_value(json_object_get(rule, "key"))) : 0;
    const double scale = number_of(rule, "scale"), offset = number_of(rule, "offset");
    for (size_t i = 0; i < n; i++)
        out[i] = (real)(rule ? offset + scale * made(hash, i)
                             : json_number_value(json_array_get(data, i)));
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* Of what a first forward gives, and of what gradients lead to. */
static double forward_tolerance(const json_t *file)
{
    const json_t *whole = json_object_get(file, "float_error");
    return whole ? WHOLE_TOLERANCE : TOLERANCE;
}

static double backward_tolerance(const json_t *file)
{
    return json_is_true(json_object_get(file, "kinks")) ? KINK_TOLERANCE : forward_tolerance(file);
}

/* `expected`: the norm, then products with three tensors. */
static void check_digest(const char *what, const char *name, const real *found, size_t n,
                         const json_t *expected, double tolerance)
{
    static const char *const keys[] = {"digest0", "digest1", "digest2"};
    const double norm = json_number_value(json_array_get(expected, 0));
    for (size_t k = 0; k < 3; k++) {
        const uint64_t hash = key_hash(keys[k]);
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)found[i] * made(hash, i);
            squares += (double)found[i] * (double)found[i];
        }
        const double x = json_number_value(json_array_get(expected, k + 1));
        if (!(fabs(sum - x) <= tolerance * norm) ||
            !(fabs(sqrt(squares) - norm) <= tolerance * norm))
            fail_msg("%s %s: product %.9g, expected %.9g; norm %.9g, expected %.9g; at most %.0e "
                     "of the norm is allowed",
                     what, name, sum, x, sqrt(squares), norm, tolerance);
    }
}

static void check_numbers(const char *what, const char *name, const real *found,
                          const json_t *expected, double tolerance)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < json_array_size(expected); i++) {
        double x = json_number_value(json_array_get(expected, i)), d = (double)found[i] - x;
        error += d * d;
        norm += x * x;
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm)))
        fail_msg("%s %s: relative error %.3g, at most %.0e is allowed (norm %.3g)", what, name,
                 sqrt(error / norm), tolerance, sqrt(norm));
}

/* A tensor {"shape", "data"} whose first size is the batch. */
static void check_tensor(const char *what, const char *name, const struct shape *shape,
                         const real *found, const json_t *tensor, double tolerance)
{
    const json_t *sizes = json_object_get(tensor, "shape");
    if (json_array_size(sizes) != (size_t)shape->rank)
        fail_msg("%s %s: rank %d, expected %zu", what, name, shape->rank, json_array_size(sizes));
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] != BATCH)
            assert_int_equal(shape->dim[i], json_integer_value(json_array_get(sizes, (size_t)i)));
    if (json_object_get(tensor, "digest"))
        check_digest(what, name, found, count_of(tensor), json_object_get(tensor, "digest"),
                     tolerance);
    else
        check_numbers(what, name, found, json_object_get(tensor, "data"), tolerance);
}

/* Every parameter or buffer that the file has under `key`, in this block. */
static void check_params(const struct golden *g, const char *key, const real *block)
{
    size_t seen = 0;
    const json_t *expected = json_object_get(g->file, key);
    for (int i = 0; i < graph_param_count(g->net->graph); i++) {
        const struct param *p = graph_param(g->net->graph, i);
        const json_t *tensor = json_object_get(expected, p->name);
        if (!tensor)
            continue;
        check_tensor(key, p->name, &p->shape, block + p->offset, tensor,
                     backward_tolerance(g->file));
        seen++;
    }
    assert_int_equal(seen, json_object_size(expected));
}

/* ---- reading a case -------------------------------------------------------------------------- */

static struct param *param_find(const struct golden *g, const char *name, bool buffer)
{
    for (int i = 0; i < graph_param_count(g->net->graph); i++) {
        struct param *p = graph_param(g->net->graph, i);
        if (strcmp(p->name, name) == 0 && p->buffer == buffer)
            return p;
    }
    fail_msg("the network has no %s '%s'", buffer ? "buffer" : "parameter", name);
    return NULL;
}

static size_t load_params(const struct golden *g, const char *key, bool buffer, real *block)
{
    const char *name;
    json_t *tensor, *params = json_object_get(g->file, key);
    json_object_foreach(params, name, tensor)
    {
        const struct param *p = param_find(g, name, buffer);
        assert_int_equal(count_of(tensor), p->count);
        numbers_of(tensor, p->count, block + p->offset);
    }
    return json_object_size(params);
}

static void *load_tensor(const json_t *tensor, enum dtype dtype)
{
    const json_t *data = json_object_get(tensor, "data");
    const size_t n = count_of(tensor);
    void *values = test_malloc(n * dtype_size(dtype));
    if (dtype != DTYPE_INT64)
        numbers_of(tensor, n, values);
    for (size_t i = 0; dtype == DTYPE_INT64 && i < n; i++)
        ((int64_t *)values)[i] = json_integer_value(json_array_get(data, i));
    return values;
}

static void load_batch(struct golden *g, int b, const json_t *batch)
{
    const struct network *net = g->net;
    for (int i = 0; i < net->n_inputs + net->n_targets; i++) {
        bool target = i >= net->n_inputs;
        const struct node *leaf = target ? net->targets[i - net->n_inputs] : net->inputs[i];
        const json_t *list = json_object_get(batch, target ? "targets" : "inputs");
        const json_t *tensor = json_object_get(list, node_name(leaf));
        if (!tensor)
            fail_msg("the file has no batch for '%s'", node_name(leaf));
        g->inputs[b][i] = load_tensor(tensor, node_dtype(leaf));
        g->samples[b] = json_integer_value(json_array_get(json_object_get(tensor, "shape"), 0));
    }
}

static void golden_open(struct golden *g, const char *path)
{
    struct error e = {0};
    json_error_t reason;
    *g = (struct golden){.file = json_load_file(path, 0, &reason)};
    if (!g->file)
        fail_msg("%s: %s", path, reason.text);
    g->net = describe_network(json_object_get(g->file, "description"), &e);
    if (!g->net)
        fail_msg("%s: %s", path, e.text);
    assert_non_null(g->pool = pool_create(THREADS, &e));
    assert_non_null(g->now = generation_create(g->net, &e));
    assert_non_null(g->next = generation_create(g->net, &e));
    g->grads = test_calloc(graph_params_size(g->net->graph) + 1, sizeof *g->grads);
    size_t loaded = load_params(g, "params", false, g->now->params) +
                    load_params(g, "buffers", true, g->now->buffers);
    assert_int_equal(loaded, graph_param_count(g->net->graph));
    generation_averages_reset(g->net, g->now);
    const json_t *batches = json_object_get(g->file, "batches");
    g->n_batches = (int)json_array_size(batches);
    assert_in_range(g->n_batches, 1, MAX_BATCHES);
    for (int b = 0; b < g->n_batches; b++)
        load_batch(g, b, json_array_get(batches, (size_t)b));
}

static void golden_close(struct golden *g)
{
    for (int b = 0; b < g->n_batches; b++)
        for (int i = 0; i < g->net->n_inputs + g->net->n_targets; i++)
            test_free(g->inputs[b][i]);
    test_free(g->grads);
    generation_unref(&g->now);
    generation_unref(&g->next);
    pool_destroy(&g->pool);
    network_destroy(&g->net);
    json_decref(g->file);
}

/* ---- the parts of a case --------------------------------------------------------------------- */

/* A plan of the network and its only run. */
struct job {
    struct plan *plan;
    struct run *run;
};

static struct job job_create(const struct golden *g, bool training, bool input_grads)
{
    struct network *net = g->net;
    struct error e = {0};
    struct plan_spec spec = {.training = training,
                             .outputs = net->outputs,
                             .n_outputs = net->n_outputs,
                             .capacity = g->samples[0] + 3,
                             .threads = THREADS,
                             .fence = 64};
    if (training) {
        spec.loss = net->loss;
        spec.params_wrt = true;
    }
    /* Indices have no gradient; they come last. */
    spec.wrt = net->inputs;
    while (input_grads && spec.n_wrt < net->n_inputs &&
           node_dtype(net->inputs[spec.n_wrt]) == DTYPE_REAL)
        spec.n_wrt++;
    struct job j = {.plan = plan_create(net->graph, &spec, &e)};
    if (!j.plan || !(j.run = run_create(j.plan, &e)))
        fail_msg("plan: %s", e.text);
    return j;
}

static void job_execute(struct job *j, struct golden *g, int batch)
{
    struct error e = {0};
    struct run_args args = {.pool = g->pool,
                            .n = g->samples[batch],
                            .inputs = (const void *const *)g->inputs[batch],
                            .params = g->now->params,
                            .buffers = g->now->buffers,
                            .buffers_out = g->next->buffers,
                            .grads = g->grads};
    memcpy(g->next->buffers, g->now->buffers, graph_buffers_size(g->net->graph) * sizeof(real));
    if (run_execute(j->run, &args, &e))
        fail_msg("run: %s", e.text);
    assert_true(run_fences_intact(j->run));
}

static void job_destroy(struct job *j)
{
    run_destroy(&j->run);
    plan_destroy(&j->plan);
}

static void check_first_batch(struct golden *g)
{
    struct job j = job_create(g, true, true);
    const json_t *input_grads = json_object_get(g->file, "input_grad");
    job_execute(&j, g, 0);
    check_tensor("output", g->net->output_names[0], node_shape(g->net->outputs[0]),
                 run_output(j.run, 0), json_object_get(g->file, "output"),
                 forward_tolerance(g->file));
    double loss = json_number_value(json_object_get(g->file, "loss"));
    assert_true(fabs((double)run_loss(j.run) - loss) <= forward_tolerance(g->file) * fabs(loss));
    check_params(g, "grads", g->grads);
    for (int i = 0; i < g->net->n_inputs; i++) {
        const struct node *leaf = g->net->inputs[i];
        if (node_dtype(leaf) == DTYPE_INT64)
            continue;
        check_tensor("gradient of the input", node_name(leaf), node_shape(leaf),
                     run_wrt_grad(j.run, i), json_object_get(input_grads, node_name(leaf)),
                     backward_tolerance(g->file));
    }
    job_destroy(&j);
}

static void train(struct golden *g)
{
    struct job j = job_create(g, true, false);
    const json_t *losses = json_object_get(g->file, "losses");
    size_t steps = json_array_size(losses);
    real *found = test_calloc(steps, sizeof *found);
    struct error e = {0};
    for (size_t s = 0; s < steps; s++) {
        job_execute(&j, g, (int)s % g->n_batches);
        found[s] = run_loss(j.run);
        double norm = gradients_norm(g->net, g->pool, g->grads);
        double lr[NETWORK_MAX_GROUPS + 1];
        network_rates(g->net, g->now, NAN, s, lr);
        if (network_apply(g->net, g->pool, g->now, g->grads, norm, lr, g->next, &e))
            fail_msg("step %zu: %s", s, e.text);
        schedule_observe(g->net->schedule, &g->next->schedule, (double)found[s], s);
        struct generation *last = g->now;
        g->now = g->next;
        g->next = last;
    }
    check_numbers("losses of", "all steps", found, losses, backward_tolerance(g->file));
    test_free(found);
    job_destroy(&j);
}

static void check_end(struct golden *g)
{
    assert_int_equal(g->now->optimizer_step, json_array_size(json_object_get(g->file, "losses")));
    check_params(g, "final_params", g->now->params);
    check_params(g, "final_buffers", g->now->buffers);
    if (json_object_get(g->file, "final_ema"))
        check_params(g, "final_ema", g->now->averages);
    struct job j = job_create(g, false, false);
    job_execute(&j, g, 0);
    check_tensor("eval-mode output", g->net->output_names[0], node_shape(g->net->outputs[0]),
                 run_output(j.run, 0), json_object_get(g->file, "eval_output"),
                 backward_tolerance(g->file));
    job_destroy(&j);
}

static void test_golden(void **state)
{
    struct golden g;
    golden_open(&g, *state);
    check_first_batch(&g);
    train(&g);
    check_end(&g);
    golden_close(&g);
}

/* ---- one test a file ------------------------------------------------------------------------- */

static int is_json(const struct dirent *d)
{
    const char *end = strrchr(d->d_name, '.');
    return end && strcmp(end, ".json") == 0;
}

int main(void)
{
    struct dirent **files;
    int n = scandir(FOLDER, &files, is_json, alphasort);
    if (n <= 0) {
        fprintf(stderr,
                "no golden files in " FOLDER "; run this from the root of the repository\n");
        return 1;
    }
    struct CMUnitTest *tests = calloc((size_t)n, sizeof *tests);
    for (int i = 0; i < n; i++) {
        char path[sizeof FOLDER + sizeof files[i]->d_name];
        snprintf(path, sizeof path, FOLDER "/%s", files[i]->d_name);
        tests[i] = (struct CMUnitTest){
            .name = files[i]->d_name, .test_func = test_golden, .initial_state = strdup(path)};
    }
    engine_start();
    int failed = _cmocka_run_group_tests("golden", tests, (size_t)n, NULL, NULL);
    for (int i = 0; i < n; i++) {
        free(tests[i].initial_state);
        free(files[i]);
    }
    free(files);
    free(tests);
    return failed;
}
