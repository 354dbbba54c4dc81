/* api_infer.c: predictions. They take one published state, write nothing to the model, and say
 * which state it was. */
#include "api_detections.h"
#include "api_images.h"

#include <stdio.h>
#include <string.h>

static const struct field infer_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"outputs", IS_LIST, "a list of outputs", false},
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
        *bits_r |= o.bit;
    }
    return 0;
}

/* Where the slices of inference are put together. */
struct gathered {
    unsigned shown; /* bits of the outputs that the answer has; others are gathered, too */
    int top_k;      /* classes that the answer names for each sample */
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

/* Where the probabilities are; NULL: they were not gathered. */
static const real *probabilities(const struct gathered *g, int64_t *classes_r)
{
    for (int i = 0; i < g->n; i++)
        if (g->output[i].bit == OUTPUT_PROBABILITIES) {
            *classes_r = g->row[i];
            return g->data[i];
        }
    return NULL;
}

static int reply_image(struct request *q, const struct snapshot *s, const struct gathered *g)
{
    int64_t classes;
    const real *p = g->top_k ? probabilities(g, &classes) : NULL;
    if (p)
        return api_reply_classes(q, s->description, p, classes, g->top_k);
    return reply_errorf(q, ERROR_CONFLICT,
                        "Accept is image/png, but the model has no classes that could be drawn");
}

/* "model_name", "model_version" and the counters of the state. */
static void write_head(struct json_out *w, const struct request *q, const struct snapshot *s,
                       const char *version)
{
    api_write_name(w, q, request_model(q)->name);
    if (version)
        out_put_string(w, "model_version", version);
    out_key(w, "parameters");
    out_open_object(w);
    api_write_counters(w, &s->at);
    out_close(w);
}

static int reply_outputs(struct request *q, const struct snapshot *s, const char *version,
                         int64_t n, const struct gathered *g, const struct output_wishes *w)
{
    struct tensor_reply r;
    tensor_reply_begin(&r, q);
    write_head(&r.json, q, s, version);
    out_key(&r.json, "outputs");
    out_open_array(&r.json);
    for (int i = 0; i < g->n; i++) {
        struct output_wish store;
        if (!(g->shown & g->output[i].bit))
            continue;
        const struct output_wish *wish = output_wish_find(w, g->output[i].name, &store);
        struct tensor_out t = {.name = g->output[i].name,
                               .dtype = DTYPE_REAL,
                               .shape = *node_shape(g->output[i].node),
                               .data = g->data[i]};
        bool batched = shape_batched(&t.shape);
        if (batched)
            t.shape.dim[0] = n;
        shape_count(&t.shape, 1, &t.count);
        if (wish && wish->classification)
            api_reply_classified(&r, s->description, &t, batched, wish->classification,
                                 wish->binary);
        else
            tensor_reply_add(&r, &t, wish ? wish->binary : w->binary);
    }
    out_close(&r.json);
    int64_t classes;
    const real *p = g->top_k ? probabilities(g, &classes) : NULL;
    if (p)
        api_write_predictions(&r.json, q, s->description, p, n, classes, g->top_k);
    return tensor_reply_end(&r, 200);
}

/* A detector's answer, unless its maps were asked for by name: the boxes that are in them. */
static int reply_detections(struct request *q, const struct snapshot *s, const char *version,
                            const struct batch *b, const struct detector *detector,
                            struct infer_times *t)
{
    struct detections d = {.detector = detector,
                           .options = {.conf = 0.25, .iou = 0.7, .max_det = 300}};
    struct error e;
    if (detect_options_read(q, &d.options, &e) || detections_find(q, s, b, &d, &e))
        return reply_error(q, &e);
    t->computed = infer_stats_now();
    model_count_predictions(request_model(q), b->n);
    if (api_wants_png(q))
        return detections_draw(q, s->description, &d);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    write_head(&w, q, s, version);
    out_key(&w, "outputs"); /* the protocol wants them to be there */
    out_open_array(&w);
    out_close(&w);
    detections_write(&w, s->description, &d);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int answer(struct request *q, struct snapshot *s, const char *version, struct infer_times *t)
{
    const struct network *net = program_network(s->program);
    struct output_wishes wishes;
    struct gathered g;
    struct batch b;
    struct error e;
    unsigned bits;
    bool drawn = api_wants_png(q);
    struct detector detector;
    if (api_check_body(q, infer_fields, &e) || api_choose_weights(q, s, &e) ||
        output_wishes_read(q, &wishes, &e) || wanted_outputs(net, &wishes, &g.shown, &e) ||
        api_read_batch(q, net, false, &b, &e) || api_top_k(q, net, &g.top_k, &e) ||
        (drawn && api_check_drawable(q, &e)))
        return reply_error(q, &e);
    t->read = infer_stats_now();
    t->samples = b.n;
    if (wishes.all && !wishes.binary && detector_find(net, &detector))
        return reply_detections(q, s, version, &b, &detector, t);
    bits = g.shown | (g.top_k ? OUTPUT_PROBABILITIES : 0);
    if (gather_begin(q, net, bits, b.n, &g, &e) ||
        snapshot_infer(s, q->server->pool, &b, bits, gather, &g, &e))
        return reply_error(q, &e);
    t->computed = infer_stats_now();
    model_count_predictions(request_model(q), b.n);
    if (drawn)
        return reply_image(q, s, &g);
    return reply_outputs(q, s, version, b.n, &g, &wishes);
}

static int infer(struct request *q, struct snapshot *s, const char *version)
{
    struct infer_times t = {.queue_seconds = q->queue_seconds, .begin = infer_stats_now()};
    int status = answer(q, s, version, &t);
    infer_stats_add(&request_model(q)->infer_stats, &t, status);
    return status;
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
    if (api_param_version(q, &version))
        return q->status;
    if (model_version_snapshot(request_model(q), version, &s, &e))
        return reply_error(q, &e);
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)version); /* what an alias stands for */
    int status = infer(q, &s, number);
    snapshot_release(&s);
    return status;
}
