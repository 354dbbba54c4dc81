/* api_gradients.c: what train_step would compute for a batch, as a question: the state is not
 * touched. Reads what is asked, and finds it out; api_gradients_reply.c writes it. */
#include "api_gradients.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static const struct field fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", false}, /* api_read_batch: when there are any */
    {0},
};

static const struct field parameters[] = {
    {"wrt", IS_LIST | IS_STRING, "a list of names", false},
    {"values", IS_BOOL, "true or false", false},
    {"mode", IS_STRING, "\"train\" or \"eval\"", false},
    {"signals", IS_BOOL, "true or false", false},
    {"histograms", IS_OBJECT, "an object, {\"bins\":32}", false},
    {"per_sample_norms", IS_BOOL, "true or false", false},
    {"binary_data_output", IS_BOOL, "true or false", false},
    {0},
};

static const struct field histogram_fields[] = {{"bins", IS_INT, "a whole number", false}, {0}};
enum { DEFAULT_BINS = 32 };

/* ---- with respect to what -------------------------------------------------------------------- */

bool question_wants(const struct question *x, const char *group, const char *name)
{
    size_t i;
    json_t *item;
    if (!x->wrt)
        return strcmp(group, "parameters") == 0;
    json_array_foreach((json_t *)x->wrt, i, item)
    {
        const char *glob = json_string_value(item);
        if (strcmp(glob, group) == 0 || fnmatch(glob, name, 0) == 0)
            return true;
    }
    return false;
}

/* Whether a name in wrt is a group, or matches a parameter or an input; `near` sees all of them. */
static bool matches_leaf(const struct network *net, const char *glob, struct nearest *near)
{
    bool found = strcmp(glob, "parameters") == 0 || strcmp(glob, "inputs") == 0;
    for (int i = 0; i < graph_param_count(net->graph) && !found; i++) {
        const struct param *p = graph_param(net->graph, i);
        if (p->buffer)
            continue;
        found = fnmatch(glob, p->name, 0) == 0;
        nearest_offer(near, p->name);
    }
    for (int i = 0; i < net->n_inputs && !found; i++) {
        found = fnmatch(glob, node_name(net->inputs[i]), 0) == 0;
        nearest_offer(near, node_name(net->inputs[i]));
    }
    return found;
}

static bool is_layer(const struct node *n)
{
    return node_name(n)[0] && node_input_count(n) && !node_is_loss(n) &&
           node_dtype(n) == DTYPE_REAL;
}

/* Adds a layer, once. */
static void layer_want(struct question *x, struct node *n)
{
    for (int i = 0; i < x->n_layers; i++)
        if (x->layers[i] == n)
            return;
    x->layers[x->n_layers++] = n;
}

/* A pattern means layers when nothing else is called so: "conv*" stays what parameters it names,
 * "conv1" is a layer. One that matches nothing is refused, with the nearest that there is. */
static int read_wrt_item(const struct network *net, const char *glob, struct question *x,
                         struct error *e)
{
    struct nearest near = {.given = glob};
    if (matches_leaf(net, glob, &near))
        return 0;
    bool all = strcmp(glob, "layers") == 0, found = all;
    for (int i = 0; i < graph_node_count(net->graph); i++) {
        struct node *n = graph_node(net->graph, i);
        if (!is_layer(n))
            continue;
        nearest_offer(&near, node_name(n));
        if (!all && fnmatch(glob, node_name(n), 0) != 0)
            continue;
        found = true;
        layer_want(x, n);
    }
    if (found)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "parameters.wrt: nothing is called '%.60s'%s%s%s", glob,
                     near.best ? "; did you mean '" : "", near.best ? near.best : "",
                     near.best ? "'?" : "");
}

static int read_wrt(const struct network *net, struct request *q, struct question *x,
                    struct error *e)
{
    size_t i;
    json_t *item;
    json_t *wrt = (json_t *)api_parameter(q, "wrt");
    if (json_is_string(wrt)) { /* one name stands for a list of one; kept with the body */
        wrt = json_pack("[O]", wrt);
        json_object_set_new(json_object_get(q->json.root, "parameters"), "wrt", wrt);
    }
    x->wrt = wrt;
    x->layers = arena_array(q->arena, (size_t)graph_node_count(net->graph), sizeof *x->layers);
    if (!x->layers)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the list of layers");
    json_array_foreach(wrt, i, item)
    {
        if (!json_is_string(item))
            return error_set(e, ERROR_BAD_TYPE, "parameters.wrt[%zu] must be a string", i);
        if (read_wrt_item(net, json_string_value(item), x, e))
            return -1;
    }
    for (int k = 0; k < net->n_inputs; k++)
        x->inputs |= node_dtype(net->inputs[k]) == DTYPE_REAL &&
                     question_wants(x, "inputs", node_name(net->inputs[k]));
    return 0;
}

/* ---- the question ---------------------------------------------------------------------------- */

static int read_histograms(struct request *q, struct question *x, struct error *e)
{
    const json_t *given = api_parameter(q, "histograms");
    if (!given || json_is_null(given))
        return 0;
    if (describe_check_fields(given, "parameters.histograms", histogram_fields, false, e))
        return -1;
    const json_t *bins = describe_get(given, "bins");
    json_int_t n = bins ? json_integer_value(bins) : DEFAULT_BINS;
    if (n < 1 || n > HISTOGRAM_MAX_BINS)
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.histograms.bins: expected 1 to %d, found %lld",
                         HISTOGRAM_MAX_BINS, (long long)n);
    x->bins = (int)n;
    return 0;
}

static int read_question(struct request *q, const struct network *net, struct question *x,
                         struct error *e)
{
    *x = (struct question){.training = true};
    if (api_check_body(q, fields, parameters, e))
        return -1;
    x->values = json_is_true(api_parameter(q, "values"));
    x->signals = json_is_true(api_parameter(q, "signals"));
    x->per_sample = json_is_true(api_parameter(q, "per_sample_norms"));
    x->binary = json_is_true(api_parameter(q, "binary_data_output"));
    const char *mode = json_string_value(api_parameter(q, "mode"));
    if (mode && strcmp(mode, "train") != 0 && strcmp(mode, "eval") != 0)
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.mode must be \"train\" or \"eval\", not \"%.40s\"", mode);
    x->training = !mode || strcmp(mode, "train") == 0;
    return read_histograms(q, x, e) || read_wrt(net, q, x, e) ? -1 : 0;
}

/* ---- finding out ----------------------------------------------------------------------------- */

/* Sees the activations of the forward. */
struct watch {
    struct arena *arena;
    struct signals *signals;
    struct histogram **histograms; /* of each layer; NULL: none are wanted */
    int bins;
    bool failed; /* out of memory */
};

static void watch_value(void *arg, const struct node *n, const real *value, int64_t count)
{
    struct watch *v = arg;
    int at = signals_place(v->signals, n);
    signals_observe(v->signals, n, value, count);
    if (at < 0 || !v->histograms)
        return;
    if (!v->histograms[at])
        v->histograms[at] = histogram_create(v->arena, v->bins);
    if (v->histograms[at])
        histogram_fill(v->histograms[at], value, count);
    v->failed |= !v->histograms[at];
}

/* The update that train_step would make, for the update ratios. Clipping changes the gradients, so
 * it works on a copy. One that would not be finite has no ratio. */
static int watch_update(struct request *q, const struct snapshot *s, struct watch *v,
                        const struct gradients_found *found, struct error *e)
{
    const struct network *net = program_network(s->program);
    struct budget *budget = &request_models(q)->budget;
    size_t block = graph_params_size(net->graph) * sizeof(real), bytes;
    struct error ignored;
    if (__builtin_add_overflow(generation_bytes(net), block, &bytes))
        return error_set(e, ERROR_TOO_LARGE, "the parameters have too many elements");
    if (budget_take(budget, bytes, "the update of the weights", e))
        return -1;
    real *copy = malloc(block ? block : 1);
    struct generation *to = copy ? generation_create(net, e) : NULL;
    if (to) {
        memcpy(copy, found->grads, block);
        if (!snapshot_apply(s, q->server->pool, copy, found->result.grad_norm, to, &ignored))
            signals_updates(v->signals, s->generation->params, to->params);
    } else {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the update of the weights");
    }
    free(copy);
    int status = to ? 0 : -1;
    generation_unref(&to);
    budget_give(budget, bytes);
    return status;
}

/* What the signals need besides the forward. */
static int finish_signals(struct request *q, const struct snapshot *s, const struct question *x,
                          struct watch *v, struct gradients_found *found, struct error *e)
{
    if (!v->signals)
        return 0;
    if (v->failed)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the histograms");
    found->signals = v->signals;
    found->histograms = v->histograms;
    signals_gradients(v->signals, found->grads);
    signals_weights(v->signals, s->generation->params);
    return x->signals && x->training ? watch_update(q, s, v, found, e) : 0;
}

/* Into a block of its own: the gradients of the batch are still to be written. */
static int find_sample_norms(struct request *q, const struct snapshot *s, const struct question *x,
                             const struct batch *b, struct gradients_found *found, struct error *e)
{
    if (!x->per_sample)
        return 0;
    struct budget *budget = &request_models(q)->budget;
    size_t bytes = graph_params_size(program_network(s->program)->graph) * sizeof(real);
    double *norms = arena_array(q->arena, (size_t)b->n, sizeof *norms);
    if (budget_take(budget, bytes, "the gradients of one sample", e))
        return -1;
    real *grads = malloc(bytes ? bytes : 1);
    int status = norms && grads
                     ? snapshot_sample_norms(s, q->server->pool, b, x->training, grads, norms, e)
                     : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the gradients");
    free(grads);
    budget_give(budget, bytes);
    found->sample_norms = norms;
    return status;
}

static int answer(struct request *q, const struct snapshot *s, const struct question *x,
                  struct watch *v, real *grads, const struct batch *b)
{
    struct program_lease lease = {0};
    struct gradients_found found = {.grads = grads};
    struct gradients_wish wish = {.training = x->training,
                                  .inputs = x->inputs,
                                  .layers = x->layers,
                                  .n_layers = x->n_layers,
                                  .observe = v->signals ? watch_value : NULL,
                                  .observe_arg = v};
    struct error e;
    if (snapshot_gradients(s, q->server->pool, b, &wish, grads, &lease, &found.result, &e))
        return reply_error(q, &e);
    int status = finish_signals(q, s, x, v, &found, &e) || find_sample_norms(q, s, x, b, &found, &e)
                     ? reply_error(q, &e)
                     : api_gradients_reply(q, x, s, &lease, &found);
    program_release(&lease);
    return status;
}

static int watch_begin(struct request *q, const struct graph *g, const struct question *x,
                       struct watch *v, struct error *e)
{
    const struct layer_signals *layers;
    *v = (struct watch){.arena = q->arena, .bins = x->bins};
    if (!x->signals && !x->bins)
        return 0;
    v->signals = signals_create(g, q->server->pool, e);
    if (!v->signals || !x->bins)
        return v->signals ? 0 : -1;
    size_t n = (size_t)signals_layers(v->signals, &layers);
    v->histograms = arena_array(q->arena, n + 1, sizeof *v->histograms);
    return v->histograms ? 0 : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for histograms");
}

static int gradients(struct request *q, struct snapshot *s, real *grads)
{
    const struct network *net = program_network(s->program);
    struct question x;
    struct watch v = {0};
    struct batch b;
    struct error e;
    bool failed = read_question(q, net, &x, &e) ||
                  (x.training ? api_read_training_batch(q, net, s->at.draw, &b, &e)
                              : api_read_batch(q, net, true, &b, &e)) ||
                  watch_begin(q, net->graph, &x, &v, &e);
    int status = failed ? reply_error(q, &e) : answer(q, s, &x, &v, grads, &b);
    signals_destroy(&v.signals);
    return status;
}

int api_gradients(struct request *q)
{
    struct snapshot s;
    struct error e;
    struct budget *budget = &request_models(q)->budget;
    if (api_snapshot(q, 0, &s, &e))
        return reply_error(q, &e);
    size_t bytes = graph_params_size(program_network(s.program)->graph) * sizeof(real);
    int status;
    if (budget_take(budget, bytes, "the block of gradients", &e)) {
        status = reply_error(q, &e);
    } else {
        real *grads = malloc(bytes ? bytes : 1);
        status = grads ? gradients(q, &s, grads)
                       : reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the gradients");
        free(grads);
        budget_give(budget, bytes);
    }
    snapshot_release(&s);
    return status;
}
