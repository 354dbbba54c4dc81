/* api_infer.c: predictions. They take one published state, write nothing to the model, and say
 * which state it was. Those that waited for a worker together are run together (infer_batch.h):
 * each is read, those that ask for the same are run, each is answered; what is wrong with one is
 * nothing to the others. */
#include "api_detections.h"
#include "api_images.h"
#include "infer_batch.h"

#include <stdio.h>
#include <string.h>

static const struct field infer_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"outputs", IS_LIST, "a list of outputs", false},
    {0},
};

/* The last five are the protocol's own, for sequences and schedulers: clients may set them for any
 * server, and they are not used here. */
static const struct field infer_parameters[] = {
    {"weights", IS_STRING, "\"live\" or \"ema\"", false},
    {"top_k", IS_INT, "a whole number", false},
    {"conf", IS_NUMBER, "a number", false},
    {"iou", IS_NUMBER, "a number", false},
    {"max_det", IS_INT, "a whole number", false},
    {"binary_data_output", IS_BOOL, "true or false", false},
    {"sequence_id", IS_INT | IS_STRING, "a number or a string", false},
    {"sequence_start", IS_BOOL, "true or false", false},
    {"sequence_end", IS_BOOL, "true or false", false},
    {"priority", IS_INT, "a whole number", false},
    {"timeout", IS_INT, "a whole number", false},
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

/* An output as clients get it: indices, which the engine has as reals, as INT64. */
static int add_output(struct tensor_reply *r, const struct node *n, struct tensor_out *t,
                      bool binary, struct error *e)
{
    t->dtype = api_wire_dtype(n);
    if (t->dtype == DTYPE_INT64) {
        const real *from = t->data;
        int64_t *to = arena_array(r->q->arena, (size_t)t->count, sizeof *to);
        if (!to)
            return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the output '%s'", t->name);
        for (int64_t i = 0; i < t->count; i++)
            to[i] = (int64_t)from[i];
        t->data = to;
    }
    tensor_reply_add(r, t, binary);
    return 0;
}

static int reply_outputs(struct request *q, const struct snapshot *s, const char *version,
                         int64_t n, const struct gathered *g, const struct output_wishes *w)
{
    struct tensor_reply r;
    struct error e;
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
        else if (add_output(&r, g->output[i].node, &t, wish ? wish->binary : w->binary, &e))
            return tensor_reply_fail(&r, &e);
    }
    out_close(&r.json);
    int64_t classes;
    const real *p = g->top_k ? probabilities(g, &classes) : NULL;
    if (p)
        api_write_predictions(&r.json, q, s->description, p, n, classes, g->top_k);
    return tensor_reply_end(&r, 200);
}

/* ---- one request ----------------------------------------------------------------------------- */

/* A request on its way, in its own arena. */
struct asked {
    struct request *q;
    const char *version; /* NULL: the live weights */
    struct output_wishes wishes;
    struct batch b;
    unsigned bits; /* of the outputs that are computed */
    struct gathered g;
    const struct detector *detector; /* NULL: not asked for what a detector finds */
    struct detections found;
    struct infer_part part;
    struct infer_times t;
    bool run;
};

/* What takes the outputs of the run: a detector's answer has no maps, but the boxes in them, unless
 * the maps were asked for. */
static int asked_prepare(struct asked *a, const struct network *net, struct error *e)
{
    struct request *q = a->q;
    a->part = (struct infer_part){
        .batch = &a->b, .f = gather, .arg = &a->g, .gone = request_gone, .gone_arg = q};
    if (!a->detector) {
        a->bits = a->g.shown | (a->g.top_k ? OUTPUT_PROBABILITIES : 0);
        return gather_begin(q, net, a->bits, a->b.n, &a->g, e);
    }
    a->bits = a->detector->bits;
    a->found = (struct detections){.detector = a->detector,
                                   .options = {.conf = 0.25, .iou = 0.7, .max_det = 300}};
    a->part.f = detections_slice;
    return detect_options_read(q, &a->found.options, e) ||
           detections_begin(q, a->b.n, &a->found, &a->part.arg, e);
}

/* As Triton does. Without a limit of the model's own, large requests are cut. */
static int check_size(const struct snapshot *s, int64_t n, struct error *e)
{
    if (!s->batching.max_batch_size || n <= s->batching.max_batch_size)
        return 0;
    return error_set(e, ERROR_BATCH_TOO_LARGE,
                     "the request has %lld samples, the model's max_batch_size is %lld",
                     (long long)n, (long long)s->batching.max_batch_size);
}

/* What only detectors take. */
static int check_detects(const struct request *q, bool detects, struct error *e)
{
    static const char *const theirs[] = {"conf", "iou", "max_det"};
    for (size_t i = 0; !detects && i < sizeof theirs / sizeof *theirs; i++)
        if (api_parameter(q, theirs[i]))
            return error_set(e, ERROR_CONFLICT, "parameters.%s: the model is no detector",
                             theirs[i]);
    return 0;
}

static int asked_read(struct asked *a, const struct snapshot *s, const struct detector *detector,
                      struct error *e)
{
    const struct network *net = program_network(s->program);
    struct request *q = a->q;
    a->t.begin = infer_stats_now();
    if (api_check_body(q, infer_fields, infer_parameters, e) ||
        check_detects(q, detector != NULL, e) || output_wishes_read(q, &a->wishes, e) ||
        wanted_outputs(net, &a->wishes, &a->g.shown, e) ||
        api_read_batch(q, net, false, &a->b, e) || check_size(s, a->b.n, e) ||
        api_top_k(q, net, &a->g.top_k, e) || (api_wants_png(q) && api_check_drawable(q, e)))
        return -1;
    if (a->wishes.all && !a->wishes.binary)
        a->detector = detector;
    if (asked_prepare(a, net, e))
        return -1;
    a->t.read = infer_stats_now();
    a->t.samples = a->b.n;
    return 0;
}

static int reply_detections(struct asked *a, const struct snapshot *s)
{
    struct request *q = a->q;
    struct json_out w = JSON_OUT_INIT;
    detections_end(q, &a->found);
    if (api_wants_png(q))
        return detections_draw(q, s->description, &a->found);
    out_open_object(&w);
    write_head(&w, q, s, a->version);
    out_key(&w, "outputs"); /* the protocol wants them to be there */
    out_open_array(&w);
    out_close(&w);
    detections_write(&w, s->description, &a->found);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int asked_answer(struct asked *a, const struct snapshot *s)
{
    struct request *q = a->q;
    a->t.start = a->part.start;
    a->t.computed = a->part.computed;
    a->t.run = a->part.run;
    a->t.write = infer_stats_now();
    if (a->part.failed)
        return reply_error(q, &a->part.error);
    model_count_predictions(request_model(q), a->b.n);
    if (a->detector)
        return reply_detections(a, s);
    if (api_wants_png(q))
        return reply_image(q, s, &a->g);
    return reply_outputs(q, s, a->version, a->b.n, &a->g, &a->wishes);
}

/* ---- several --------------------------------------------------------------------------------- */

enum { TOGETHER_MAX = 64 }; /* requests in a run, at most */

/* Those of one state: a list by request.together of which `pick` is true. */
struct group {
    struct asked *asked[TOGETHER_MAX];
    int n;
    struct infer_stats *stats[2]; /* of the model, of the version or NULL */
};

/* Runs those that were read and want the same outputs as the first that has not been run. */
static bool run_some(const struct snapshot *s, struct group *g)
{
    struct infer_part *parts[TOGETHER_MAX];
    const struct asked *first = NULL;
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        struct asked *a = g->asked[i];
        if (a->run || (first && a->bits != first->bits))
            continue;
        if (!first)
            first = a;
        a->run = true;
        parts[n++] = &a->part;
    }
    if (!first)
        return false;
    infer_parts_run(s, pool_first(first->q->server->pool), first->bits, parts, n,
                    s->batching.max_batch_size, g->stats);
    return true;
}

static void group_answer(const struct snapshot *s, struct group *g)
{
    struct error e;
    struct detector detector;
    bool detects = detector_find(program_network(s->program), &detector);
    for (int i = 0; i < g->n; i++) {
        struct asked *a = g->asked[i];
        if (asked_read(a, s, detects ? &detector : NULL, &e)) {
            reply_error(a->q, &e);
            a->run = true;
        }
    }
    while (run_some(s, g))
        continue;
    for (int i = 0; i < g->n; i++) {
        struct asked *a = g->asked[i];
        if (!a->q->status)
            asked_answer(a, s);
        for (int k = 0; k < 2; k++)
            if (g->stats[k])
                infer_stats_add(g->stats[k], &a->t, a->q->status);
    }
}

/* The version that a request names, 0 for the live weights; read or reply. */
static int version_of(struct request *q, int64_t *version_r)
{
    *version_r = 0;
    return request_param(q, "version") ? api_param_version(q, version_r) : 0;
}

static void group_refuse(struct group *g, const struct error *e)
{
    for (int i = 0; i < g->n; i++)
        reply_error(g->asked[i]->q, e);
}

static void group_run(struct group *g, int64_t version)
{
    struct model *m = request_model(g->asked[0]->q);
    struct snapshot s;
    struct error e;
    char number[24]; /* what an alias stands for */
    snprintf(number, sizeof number, "%lld", (long long)version);
    for (int i = 0; version && i < g->n; i++)
        g->asked[i]->version = number;
    if (version ? model_version_snapshot(m, version, &s, &e) : model_snapshot(m, &s, &e)) {
        group_refuse(g, &e);
        return;
    }
    if (api_choose_weights(g->asked[0]->q, &s, &e)) {
        group_refuse(g, &e);
        snapshot_release(&s);
        return;
    }
    g->stats[0] = &m->infer_stats;
    g->stats[1] = version ? model_version_stats(m, version, true) : NULL;
    group_answer(&s, g);
    snapshot_release(&s);
}

/* The request as one that is asked; false with an answer. */
static bool group_add(struct group *g, struct request *q)
{
    struct asked *a = arena_alloc(q->arena, sizeof *a);
    if (!a) {
        reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the request");
        return false;
    }
    a->q = q;
    a->t.queue_seconds = q->queue_seconds;
    a->t.taken = infer_stats_now();
    g->asked[g->n++] = a;
    return true;
}

/* Whether both want the same of a version's weights: api_choose_weights. */
static bool same_weights(const struct request *a, const struct request *b)
{
    const json_t *one = api_parameter(a, "weights"), *other = api_parameter(b, "weights");
    return one && other ? json_equal(one, other) : one == other;
}

/* Takes from `q` on the first that is not answered and all that ask for the same version and
 * weights. */
static bool infer_some(struct request *q)
{
    struct group g = {.n = 0};
    int64_t version, asked = 0;
    for (; q && g.n < TOGETHER_MAX; q = q->together) {
        if (q->status || version_of(q, &version) ||
            (g.n && (version != asked || !same_weights(q, g.asked[0]->q))))
            continue;
        if (group_add(&g, q))
            asked = version;
    }
    if (g.n)
        group_run(&g, asked);
    return g.n > 0;
}

int api_infer(struct request *q)
{
    while (infer_some(q))
        continue;
    return q->status;
}
