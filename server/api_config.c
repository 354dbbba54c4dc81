/* api_config.c: what a model is made of: the description in force, its layers and parameters, and,
 * when asked for, the plans that run. */
#include "api.h"

#include <string.h>

static void write_layer(struct json_out *w, const struct node *n)
{
    out_open_object(w);
    out_put_string(w, "name", node_name(n));
    out_put_string(w, "op", node_op(n));
    api_put_shape(w, "output_shape", node_shape(n));
    out_put_int(w, "parameter_count", node_param_count(n));
    out_put_double(w, "flops_per_sample", node_flops(n));
    out_close(w);
}

static void write_parameter(struct json_out *w, const struct param *p)
{
    out_open_object(w);
    out_put_string(w, "name", p->name);
    api_put_shape(w, "shape", &p->shape);
    out_put_bool(w, "buffer", p->buffer);
    out_put_bool(w, "frozen", p->frozen);
    out_close(w);
}

/* As Triton's configuration has them: what is in force. 0: requests are run as they come. */
static void write_batching(struct json_out *w, const struct snapshot *s, int64_t max_queue)
{
    int64_t slice = program_slice(s->program), max = s->batching.max_batch_size;
    int64_t own = s->batching.max_queue_size;
    out_put_int(w, "max_batch_size", max ? max : slice == INT64_MAX ? 0 : slice);
    out_key(w, "dynamic_batching");
    out_open_object(w);
    out_put_int(w, "max_queue_delay_microseconds", s->batching.max_queue_delay_microseconds);
    out_key(w, "default_queue_policy");
    out_open_object(w);
    out_put_int(w, "max_queue_size", own ? own : max_queue);
    out_close(w);
    out_close(w);
}

static void write_step(void *arg, const struct plan_step *step)
{
    struct json_out *w = arg;
    out_open_object(w);
    out_put_string(w, "name", step->name);
    out_put_string(w, "op", step->op);
    if (step->algorithm)
        out_put_string(w, "algorithm", step->algorithm);
    if (step->again)
        out_put_bool(w, "recompute", true);
    out_put_uint(w, "value_bytes", step->value_bytes);
    out_put_uint(w, "saved_bytes", step->saved_bytes);
    out_put_uint(w, "work_bytes", step->work_bytes);
    out_put_uint(w, "prepared_bytes", step->prepared_bytes);
    out_close(w);
}

static int write_steps(struct json_out *w, const char *key, struct program *p,
                       const struct program_use *use, struct error *e)
{
    out_key(w, key);
    out_open_array(w);
    const int status = program_steps(p, use, write_step, w, e);
    out_close(w);
    return status;
}

/* What runs for a prediction and for a training step, with batches of one. */
static int write_plan(struct json_out *w, struct program *p, struct error *e)
{
    const struct network *net = program_network(p);
    const struct program_use infer = {.outputs = (1u << net->n_outputs) - 1, .n = 1};
    const struct program_use train = {
        .training = true, .loss = true, .params_wrt = true, .outputs = OUTPUT_PREDICTIONS, .n = 1};
    out_key(w, "plan");
    out_open_object(w);
    if (write_steps(w, "infer", p, &infer, e) ||
        (net->loss && write_steps(w, "train", p, &train, e)))
        return -1;
    out_close(w);
    return 0;
}

static void write_graph(struct json_out *w, const struct graph *g)
{
    out_key(w, "layers");
    out_open_array(w);
    for (int i = 0; i < graph_node_count(g); i++)
        if (node_input_count(graph_node(g, i)) && node_name(graph_node(g, i))[0])
            write_layer(w, graph_node(g, i));
    out_close(w);
    out_key(w, "parameters");
    out_open_array(w);
    for (int i = 0; i < graph_param_count(g); i++)
        write_parameter(w, graph_param(g, i));
    out_close(w);
}

/* `version` NULL: of the live state. Predictions with a version run by the model's plans and wait
 * in its queue, so that only the description is its own. */
static int reply_config(struct request *q, const struct store_version *version)
{
    struct snapshot s;
    struct error e;
    bool plan;
    if (query_bool(q, "plan", false, &plan))
        return q->status;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "name", request_model(q)->name);
    out_put_string(&w, "platform", API_PLATFORM);
    write_batching(&w, &s, request_models(q)->max_queue);
    if (version) {
        out_key(&w, "description");
        out_raw(&w, version->description, strlen(version->description));
    } else {
        api_put_json(&w, "description", s.description);
    }
    write_graph(&w, program_network(s.program)->graph);
    const int status = plan ? write_plan(&w, s.program, &e) : 0;
    snapshot_release(&s);
    if (status) {
        out_free(&w);
        return reply_error(q, &e);
    }
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_model_config(struct request *q)
{
    return reply_config(q, NULL);
}

int api_version_config(struct request *q)
{
    struct store_version v;
    return api_version_find(q, &v) ? q->status : reply_config(q, &v);
}
