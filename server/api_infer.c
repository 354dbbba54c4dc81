/* api_infer.c: predictions and evaluations. They take one published state, write nothing to the
 * model, and say which state it was. */
#include "api.h"

#include <math.h>
#include <string.h>

static const struct field infer_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"outputs", IS_LIST, "a list of outputs", false},
    {0},
};

static const struct field evaluate_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", true},
    {0},
};

/* An output of the network: its name on the wire, its bit and its node. */
struct output {
    const char *name;
    unsigned bit;
    const struct node *node;
};

/* The i-th output that may be asked for; name NULL past the last. */
static struct output output_at(const struct network *net, int i)
{
    if (i < net->n_outputs)
        return (struct output){net->output_names[i], 1u << i, net->outputs[i]};
    if (i == net->n_outputs && net->probabilities)
        return (struct output){"probabilities", OUTPUT_PROBABILITIES, net->probabilities};
    return (struct output){0};
}

/* Outputs that were asked for by name must exist; probabilities are given only then. */
static int wanted_outputs(const struct network *net, const struct output_wishes *w,
                          unsigned *bits_r, struct error *e)
{
    *bits_r = w->all ? (1u << net->n_outputs) - 1 : 0;
    for (int i = 0; i < w->n; i++) {
        struct nearest near = {.given = w->list[i].name};
        struct output o = {0};
        int k = 0;
        for (; o = output_at(net, k), o.name && strcmp(o.name, w->list[i].name) != 0; k++)
            nearest_offer(&near, o.name);
        if (!o.name)
            return error_set(e, ERROR_UNKNOWN_FIELD,
                             "outputs: the model has no output '%.60s'%s%s%s", w->list[i].name,
                             near.best ? "; did you mean '" : "", near.best ? near.best : "",
                             near.best ? "'?" : "");
        if (w->list[i].classification)
            return error_set(e, ERROR_BAD_VALUE,
                             "outputs: the classification extension is not offered; ask for the "
                             "output 'probabilities'");
        *bits_r |= o.bit;
    }
    return 0;
}

/* Where the slices of inference are put together. */
struct gathered {
    int n;
    struct output output[NETWORK_MAX_IO + 1];
    int64_t row[NETWORK_MAX_IO + 1]; /* elements of one sample, or of all when not batched */
    real *data[NETWORK_MAX_IO + 1];
};

static void gather(void *arg, int64_t begin, int64_t n, const real *const *out)
{
    struct gathered *g = arg;
    for (int i = 0; i < g->n; i++) {
        bool batched = shape_batched(node_shape(g->output[i].node));
        memcpy(g->data[i] + (batched ? begin * g->row[i] : 0), out[i],
               (size_t)(g->row[i] * (batched ? n : 1)) * sizeof(real));
    }
}

static int gather_begin(struct request *q, const struct network *net, unsigned bits, int64_t n,
                        struct gathered *g, struct error *e)
{
    struct output o;
    g->n = 0;
    for (int k = 0; o = output_at(net, k), o.name; k++) {
        int64_t count;
        if (!(bits & o.bit))
            continue;
        shape_count(node_shape(o.node), 1, &g->row[g->n]);
        if (!shape_count(node_shape(o.node), n, &count) ||
            !(g->data[g->n] = arena_array(q->arena, (size_t)count, sizeof(real))))
            return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the output '%s'", o.name);
        g->output[g->n++] = o;
    }
    return 0;
}

static int reply_outputs(struct request *q, const struct snapshot *s, const char *version,
                         int64_t n, const struct gathered *g, const struct output_wishes *w)
{
    struct tensor_reply r;
    tensor_reply_begin(&r, q);
    api_write_name(&r.json, q, request_model(q)->name);
    if (version)
        out_put_string(&r.json, "model_version", version);
    out_key(&r.json, "parameters");
    out_open_object(&r.json);
    api_write_counters(&r.json, &s->at);
    out_close(&r.json);
    out_key(&r.json, "outputs");
    out_open_array(&r.json);
    for (int i = 0; i < g->n; i++) {
        struct output_wish store;
        const struct output_wish *wish = output_wish_find(w, g->output[i].name, &store);
        struct tensor_out t = {.name = g->output[i].name,
                               .dtype = DTYPE_REAL,
                               .shape = *node_shape(g->output[i].node),
                               .data = g->data[i]};
        if (shape_batched(&t.shape))
            t.shape.dim[0] = n;
        shape_count(&t.shape, 1, &t.count);
        tensor_reply_add(&r, &t, wish ? wish->binary : w->binary);
    }
    out_close(&r.json);
    out_put_non_finite(&r.json);
    return tensor_reply_end(&r, 200);
}

static int infer(struct request *q, struct snapshot *s, const char *version)
{
    const struct network *net = program_network(s->program);
    struct output_wishes wishes;
    struct gathered g;
    struct batch b;
    struct error e;
    unsigned bits;
    if (api_check_body(q, infer_fields, &e) || output_wishes_read(q, &wishes, &e) ||
        wanted_outputs(net, &wishes, &bits, &e) || api_read_batch(q, net, false, &b, &e) ||
        gather_begin(q, net, bits, b.n, &g, &e) ||
        snapshot_infer(s, q->server->pool, &b, bits, gather, &g, &e))
        return reply_error(q, &e);
    return reply_outputs(q, s, version, b.n, &g, &wishes);
}

int api_infer(struct request *q)
{
    struct snapshot s;
    struct error e;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    int status = infer(q, &s, NULL);
    snapshot_release(&s);
    return status;
}

int api_version_infer(struct request *q)
{
    struct snapshot s;
    struct error e;
    int64_t version;
    if (param_int(q, "version", 1, &version))
        return q->status;
    if (model_version_snapshot(request_model(q), version, &s, &e))
        return reply_error(q, &e);
    int status = infer(q, &s, request_param(q, "version"));
    snapshot_release(&s);
    return status;
}

/* ---- evaluate -------------------------------------------------------------------------------- */

static int evaluate(struct request *q, struct snapshot *s)
{
    const struct network *net = program_network(s->program);
    struct step_result r;
    struct batch b;
    struct error e;
    if (api_check_body(q, evaluate_fields, &e) || api_read_batch(q, net, true, &b, &e) ||
        snapshot_evaluate(s, q->server->pool, &b, &r, &e))
        return reply_error(q, &e);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    api_write_name(&w, q, request_model(q)->name);
    api_write_counters(&w, &r.at);
    metrics_write(&w, &r);
    out_put_non_finite(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_evaluate(struct request *q)
{
    struct snapshot s;
    struct error e;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    int status = evaluate(q, &s);
    snapshot_release(&s);
    return status;
}
