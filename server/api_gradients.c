/* api_gradients.c: what train_step would compute for a batch, as a question: the state is not
 * touched. Statistics of each gradient always, its values on request. */
#include "api.h"

#include <fnmatch.h>
#include <math.h>
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
    {"binary_data_output", IS_BOOL, "true or false", false},
    {0},
};

struct question {
    bool values, training, binary;
    const json_t *wrt; /* NULL: the parameters */
    bool inputs;       /* one of the inputs' gradients is wanted */
};

/* Whether `name` is among what wrt names: itself, a glob, or the group that it belongs to. */
static bool wrt_matches(const json_t *wrt, const char *group, const char *name)
{
    size_t i;
    json_t *item;
    if (!wrt)
        return strcmp(group, "parameters") == 0;
    json_array_foreach((json_t *)wrt, i, item)
    {
        const char *glob = json_string_value(item);
        if (strcmp(glob, group) == 0 || fnmatch(glob, name, 0) == 0)
            return true;
    }
    return false;
}

/* A name in wrt that matches nothing is refused, with the nearest that there is. */
static int check_wrt_item(const struct network *net, const char *glob, struct error *e)
{
    struct nearest near = {.given = glob};
    bool found = strcmp(glob, "parameters") == 0 || strcmp(glob, "inputs") == 0;
    for (int i = 0; i < graph_param_count(net->graph) && !found; i++) {
        const struct param *p = graph_param(net->graph, i);
        if (p->buffer)
            continue;
        found = fnmatch(glob, p->name, 0) == 0;
        nearest_offer(&near, p->name);
    }
    for (int i = 0; i < net->n_inputs && !found; i++) {
        found = fnmatch(glob, node_name(net->inputs[i]), 0) == 0;
        nearest_offer(&near, node_name(net->inputs[i]));
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
    json_array_foreach(wrt, i, item)
    {
        if (!json_is_string(item))
            return error_set(e, ERROR_BAD_TYPE, "parameters.wrt[%zu] must be a string", i);
        if (check_wrt_item(net, json_string_value(item), e))
            return -1;
    }
    for (int k = 0; k < net->n_inputs; k++)
        x->inputs |= node_dtype(net->inputs[k]) == DTYPE_REAL &&
                     wrt_matches(x->wrt, "inputs", node_name(net->inputs[k]));
    return 0;
}

static int read_question(struct request *q, const struct network *net, struct question *x,
                         struct error *e)
{
    const json_t *given = json_object_get(q->json.root, "parameters");
    *x = (struct question){.training = true};
    if (api_check_body(q, fields, e) ||
        (given && describe_check_fields(given, "parameters", parameters, false, e)))
        return -1;
    x->values = json_is_true(api_parameter(q, "values"));
    x->binary = json_is_true(api_parameter(q, "binary_data_output"));
    const char *mode = json_string_value(api_parameter(q, "mode"));
    if (mode && strcmp(mode, "train") != 0 && strcmp(mode, "eval") != 0)
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.mode must be \"train\" or \"eval\", not \"%.40s\"", mode);
    x->training = !mode || strcmp(mode, "train") == 0;
    return read_wrt(net, q, x, e);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static double norm_of(const real *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void write_statistics(struct json_out *w, const real *g, int64_t n)
{
    double sum = 0, squares = 0, most = 0;
    int64_t zeros = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)g[i];
        sum += x;
        squares += x * x;
        most = fabs(x) > most ? fabs(x) : most;
        zeros += x == 0;
    }
    double mean = sum / (double)n, variance = 0;
    for (int64_t i = 0; i < n; i++)
        variance += ((double)g[i] - mean) * ((double)g[i] - mean);
    out_put_double(w, "norm", sqrt(squares));
    out_put_double(w, "mean", mean);
    out_put_double(w, "std", sqrt(variance / (double)n));
    out_put_double(w, "abs_max", most);
    out_put_double(w, "zero_fraction", (double)zeros / (double)n);
}

/* One entry of "gradients"; `of` is the parameter itself, NULL for an input. */
static void write_gradient(struct tensor_reply *r, const struct question *x,
                           const struct tensor_out *t, const real *of)
{
    out_open_object(&r->json);
    if (x->values) {
        tensor_reply_fields(r, t, x->binary);
    } else {
        out_put_string(&r->json, "name", t->name);
        api_put_shape(&r->json, "shape", &t->shape);
    }
    write_statistics(&r->json, t->data, t->count);
    if (of)
        out_put_double(&r->json, "parameter_norm", norm_of(of, t->count));
    out_close(&r->json);
}

static void write_parameters(struct tensor_reply *r, const struct question *x,
                             const struct snapshot *s, const real *grads)
{
    const struct network *net = program_network(s->program);
    for (int i = 0; i < graph_param_count(net->graph); i++) {
        const struct param *p = graph_param(net->graph, i);
        struct tensor_out t = {p->name, DTYPE_REAL, p->shape, grads + p->offset, (int64_t)p->count};
        if (!p->buffer && !p->frozen && wrt_matches(x->wrt, "parameters", p->name))
            write_gradient(r, x, &t, s->generation->params + p->offset);
    }
}

static void write_inputs(struct tensor_reply *r, const struct question *x, const struct snapshot *s,
                         const struct program_lease *l, int64_t n)
{
    const struct network *net = program_network(s->program);
    for (int i = 0, place = 0; x->inputs && i < net->n_inputs; i++) {
        const struct node *in = net->inputs[i];
        if (node_dtype(in) != DTYPE_REAL)
            continue;
        struct tensor_out t = {node_name(in), DTYPE_REAL, *node_shape(in),
                               run_wrt_grad(l->run, place++), 0};
        if (shape_batched(&t.shape))
            t.shape.dim[0] = n;
        shape_count(&t.shape, 1, &t.count);
        if (wrt_matches(x->wrt, "inputs", t.name))
            write_gradient(r, x, &t, NULL);
    }
}

static int reply_gradients(struct request *q, const struct question *x, const struct snapshot *s,
                           const struct program_lease *l, const real *grads,
                           const struct step_result *result)
{
    struct tensor_reply r;
    tensor_reply_begin(&r, q);
    api_write_name(&r.json, q, request_model(q)->name);
    api_write_counters(&r.json, &result->at);
    metrics_write(&r.json, result);
    out_put_double(&r.json, "grad_norm", result->grad_norm);
    out_key(&r.json, "gradients");
    out_open_array(&r.json);
    write_parameters(&r, x, s, grads);
    write_inputs(&r, x, s, l, result->samples);
    out_close(&r.json);
    return tensor_reply_end(&r, 200);
}

static int gradients(struct request *q, struct snapshot *s, real *grads)
{
    const struct network *net = program_network(s->program);
    struct program_lease lease = {0};
    struct step_result result;
    struct question x;
    struct batch b;
    struct error e;
    if (read_question(q, net, &x, &e) ||
        (x.training ? api_read_training_batch(q, net, s->at.draw, &b, &e)
                    : api_read_batch(q, net, true, &b, &e)) ||
        snapshot_gradients(s, q->server->pool, &b, x.training, x.inputs, grads, &lease, &result,
                           &e))
        return reply_error(q, &e);
    int status = reply_gradients(q, &x, s, &lease, grads, &result);
    program_release(&lease);
    return status;
}

int api_gradients(struct request *q)
{
    struct snapshot s;
    struct error e;
    struct budget *budget = &request_models(q)->budget;
    if (model_snapshot(request_model(q), &s, &e))
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
