/* api_profile.c: some steps on random data as a question: how long each layer takes, and what it
 * makes of the machine. Runs on a snapshot, into memory of its own: the model does not change. */
#include "api.h"
#include "profile_table.h"
#include "random_batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct field fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {0},
};

static const struct field parameters[] = {
    {"steps", IS_INT, "a whole number", false},
    {"batch", IS_INT, "a whole number", false},
    {"mode", IS_STRING, "\"train\" or \"infer\"", false},
    {0},
};

enum { DEFAULT_STEPS = 5, MAX_STEPS = 100, DEFAULT_BATCH = 32, MAX_BATCH = 4096 };
static const double MAX_FLOPS = 4e12; /* of all steps: a minute or so of a core */

/* A question, and all that answering it takes. */
struct profiling {
    struct request *q;
    struct snapshot s;
    bool training;
    struct profiled p;
    struct profile *profile;
    struct program_lease lease;
    struct batch b;
    real *grads;           /* block of parameters; predictions: NULL */
    struct generation *to; /* what steps would make; predictions: NULL */
    size_t taken;          /* of the budget */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the question ---------------------------------------------------------------------------- */

static int read_whole(const struct request *q, const char *name, int64_t fallback, int64_t max,
                      int64_t *value_r, struct error *e)
{
    const json_t *given = api_parameter(q, name);
    *value_r = given && !json_is_null(given) ? json_integer_value(given) : fallback;
    if (*value_r >= 1 && *value_r <= max)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "parameters.%s: expected 1 to %lld, found %lld", name,
                     (long long)max, (long long)*value_r);
}

static int read_mode(struct profiling *x, const struct network *net, struct error *e)
{
    const char *mode = json_string_value(api_parameter(x->q, "mode"));
    if (mode && strcmp(mode, "train") != 0 && strcmp(mode, "infer") != 0)
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.mode must be \"train\" or \"infer\", not \"%.40s\"", mode);
    const bool can = net->loss && net->optimizer;
    x->training = mode ? strcmp(mode, "train") == 0 : can;
    if (x->training && !can)
        return error_set(e, ERROR_CONFLICT, "the model was created without a loss");
    return 0;
}

/* Refuses what would keep the machine busy for long. */
static int check_work(const struct profiling *x, const struct network *net, struct error *e)
{
    double flops = 0;
    for (int i = 0; i < graph_node_count(net->graph); i++)
        flops += node_flops(graph_node(net->graph, i));
    flops *= (double)(x->p.steps * x->p.batch) * (x->training ? 3 : 1);
    if (flops <= MAX_FLOPS)
        return 0;
    return error_set(e, ERROR_TOO_LARGE,
                     "parameters: %lld steps of %lld samples are %.3g TFLOP, expected at most %.3g",
                     (long long)x->p.steps, (long long)x->p.batch, flops * 1e-12,
                     MAX_FLOPS * 1e-12);
}

static int read_question(struct profiling *x, struct error *e)
{
    struct request *q = x->q;
    const struct network *net = program_network(x->s.program);
    if (api_check_body(q, fields, parameters, e))
        return -1;
    return read_whole(q, "steps", DEFAULT_STEPS, MAX_STEPS, &x->p.steps, e) ||
                   read_whole(q, "batch", DEFAULT_BATCH, MAX_BATCH, &x->p.batch, e) ||
                   read_mode(x, net, e) || check_work(x, net, e)
               ? -1
               : 0;
}

/* ---- getting ready --------------------------------------------------------------------------- */

static int take(struct profiling *x, size_t bytes, struct error *e)
{
    if (budget_take(&request_models(x->q)->budget, bytes, "a profile", e))
        return -1;
    x->taken += bytes;
    return 0;
}

static int make_batch(struct profiling *x, const struct network *net, struct error *e)
{
    x->b.n = x->p.batch;
    for (int i = 0; i < net->n_inputs + (x->training ? net->n_targets : 0); i++) {
        size_t bytes;
        if (random_leaf_bytes(net, i, x->b.n, &bytes, e) || take(x, bytes, e))
            return -1;
        void *data = arena_alloc(x->q->arena, bytes);
        if (!data)
            return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for random data");
        random_leaf_fill(net, i, x->b.n, net->seed, data);
        x->b.data[i] = data;
    }
    return 0;
}

static int make_blocks(struct profiling *x, const struct network *net, struct error *e)
{
    const size_t bytes = graph_params_size(net->graph) * sizeof(real);
    if (!x->training)
        return 0;
    if (take(x, bytes + generation_bytes(net), e))
        return -1;
    x->grads = malloc(bytes ? bytes : 1);
    x->to = x->grads ? generation_create(net, e) : NULL;
    return x->to ? 0 : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the gradients");
}

static int make_run(struct profiling *x, const struct network *net, struct error *e)
{
    const struct program_use use = {.training = x->training,
                                    .loss = x->training,
                                    .params_wrt = x->training,
                                    .outputs = x->training ? (unsigned)OUTPUT_PREDICTIONS
                                                           : (1u << net->n_outputs) - 1,
                                    .n = x->p.batch};
    if (program_acquire(x->s.program, &use, &x->lease, e))
        return -1;
    x->p.profile = x->profile = profile_create(x->lease.run, x->p.batch, e);
    return x->profile ? 0 : -1;
}

static int measure_peak(struct profiling *x, struct error *e)
{
    struct pool *pool = x->q->server->pool;
    struct budget *budget = &request_models(x->q)->budget;
    const size_t bytes = gemm_peak_bytes(pool);
    if (budget_take(budget, bytes, "a profile", e))
        return -1;
    const int status = gemm_peak(pool, &x->p.peak, e);
    budget_give(budget, bytes);
    return status;
}

/* ---- the steps ------------------------------------------------------------------------------- */

static int step(struct profiling *x, struct profile *profile, struct error *e)
{
    const struct network *net = program_network(x->s.program);
    const struct generation *g = x->s.generation;
    struct pool *pool = x->q->server->pool;
    struct run_args args = {.pool = pool,
                            .n = x->b.n,
                            .inputs = x->b.data,
                            .params = g->params,
                            .buffers = g->buffers,
                            .grads = x->grads,
                            .seed = net->seed,
                            .draw = x->s.at.draw,
                            .profile = profile,
                            .gone = request_gone,
                            .gone_arg = x->q};
    const double begin = now();
    if (x->training) {
        args.buffers_out = x->to->buffers;
        memcpy(x->to->buffers, g->buffers, graph_buffers_size(net->graph) * sizeof(real));
    } else {
        args.prepared = program_prepared(&x->lease, x->s.generation);
    }
    if (run_execute(x->lease.run, &args, e))
        return -1;
    const double between = now();
    if (x->training &&
        snapshot_apply(&x->s, pool, x->grads, gradients_norm(net, pool, x->grads), x->to, e))
        return -1;
    if (profile) {
        x->p.update += now() - between;
        x->p.seconds += now() - begin;
    }
    return 0;
}

/* The first step meets cold memory, and the second prediction prepares the weights that those after
 * it use (program_prepared): they are not counted. */
static int run_steps(struct profiling *x, struct error *e)
{
    const int64_t uncounted = x->training ? 1 : 2;
    x->p.threads = pool_threads(x->q->server->pool);
    for (int64_t i = 0; i < uncounted + x->p.steps; i++)
        if (step(x, i < uncounted ? NULL : x->profile, e))
            return -1;
    return measure_peak(x, e);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void write_pass(struct json_out *w, const struct profiled *p, const struct profile_row *row,
                       enum run_pass pass)
{
    const double seconds = row->seconds[pass] / (double)p->steps;
    if (seconds <= 0)
        return;
    out_key(w, pass == RUN_FORWARD ? "forward" : "backward");
    out_open_object(w);
    out_put_double(w, "milliseconds", 1e3 * seconds);
    out_put_double(w, "time_share", row->seconds[pass] / p->seconds);
    out_put_double(w, "flops", row->flops[pass]);
    out_put_double(w, "bytes", row->bytes[pass]);
    out_put_double(w, "gflops_per_second", row->flops[pass] / seconds * 1e-9);
    out_put_double(w, "gbytes_per_second", row->bytes[pass] / seconds * 1e-9);
    out_put_double(w, "peak_share", profiled_share(p, row, pass));
    out_close(w);
}

static void write_layers(struct json_out *w, const struct profiled *p)
{
    const struct profile_row *rows;
    const int n = profile_rows(p->profile, &rows);
    out_key(w, "layers");
    out_open_array(w);
    for (int i = 0; i < n; i++) {
        out_open_object(w);
        out_put_string(w, "name", node_name(rows[i].node));
        out_put_string(w, "op", node_op(rows[i].node));
        write_pass(w, p, &rows[i], RUN_FORWARD);
        write_pass(w, p, &rows[i], RUN_BACKWARD);
        out_close(w);
    }
    out_close(w);
}

static void write_operators(struct json_out *w, const struct profiled *p)
{
    const struct profile_row *rows;
    const int n = profile_rows(p->profile, &rows);
    out_key(w, "operators");
    out_open_array(w);
    for (int i = 0; i < n; i++) {
        struct profile_row sum;
        const int count = profiled_operator(p, i, &sum);
        if (!count)
            continue;
        out_open_object(w);
        out_put_string(w, "op", node_op(sum.node));
        out_put_int(w, "count", count);
        write_pass(w, p, &sum, RUN_FORWARD);
        write_pass(w, p, &sum, RUN_BACKWARD);
        out_close(w);
    }
    out_close(w);
}

static int reply_table(struct request *q, const struct profiled *p)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out)
        profile_table_print(p, out);
    if (!out || fclose(out)) {
        free(text);
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for a table");
    }
    char *kept = arena_strdup(q->arena, text);
    free(text);
    return kept ? reply_text(q, 200, "text/plain; charset=utf-8", kept)
                : reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for a table");
}

static int reply(const struct profiling *x)
{
    struct request *q = x->q;
    const struct profiled *p = &x->p;
    const char *accept = request_header(q, "Accept");
    struct json_out w = JSON_OUT_INIT;
    reply_header(q, "Vary", "Accept");
    if (accept && strncmp(accept, "text/plain", strlen("text/plain")) == 0)
        return reply_table(q, p);
    out_open_object(&w);
    api_write_name(&w, q, request_model(q)->name);
    api_write_counters(&w, &x->s.at);
    out_put_string(&w, "mode", x->training ? "train" : "infer");
    out_put_int(&w, "batch", p->batch);
    out_put_int(&w, "steps", p->steps);
    out_put_int(&w, "threads", p->threads);
    out_put_double(&w, "milliseconds", 1e3 * p->seconds / (double)p->steps);
    out_put_double(&w, "optimizer_milliseconds",
                   x->training ? 1e3 * p->update / (double)p->steps : 0);
    out_put_double(&w, "examples_per_second", (double)(p->steps * p->batch) / p->seconds);
    out_put_double(&w, "peak_gflops_per_second", p->peak * 1e-9);
    write_layers(&w, p);
    write_operators(&w, p);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static void release(struct profiling *x)
{
    profile_destroy(&x->profile);
    program_release(&x->lease);
    generation_unref(&x->to);
    free(x->grads);
    budget_give(&request_models(x->q)->budget, x->taken);
    snapshot_release(&x->s);
}

int api_profile(struct request *q)
{
    struct profiling x = {.q = q};
    struct error e;
    if (model_snapshot(request_model(q), &x.s, &e))
        return reply_error(q, &e);
    const struct network *net = program_network(x.s.program);
    const bool failed = read_question(&x, &e) || make_batch(&x, net, &e) ||
                        make_blocks(&x, net, &e) || make_run(&x, net, &e) || run_steps(&x, &e);
    const int status = failed ? reply_error(q, &e) : reply(&x);
    release(&x);
    return status;
}
