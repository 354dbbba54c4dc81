/* api.c: what the handlers share. */
#include "api_images.h"
#include "api_once.h"
#include "boxes.h"
#include "class_indices.h"
#include "labels.h"

#include <stdlib.h>
#include <string.h>

int api_find_model(struct request *q, struct error *e)
{
    const char *name = request_param(q, "model");
    struct model *m = models_find(q->server->models, name, e);
    if (!m && q->route->flags & ROUTE_LIFE && request_header(q, "Idempotency-Key"))
        return 0;                                 /* it may be a retry: api_once_deed knows */
    if (!m && q->caller && q->caller->key.models) /* not the nearest: it may be another's */
        return error_set(e, ERROR_UNKNOWN_MODEL, "no model '%s'", name);
    if (!m)
        return -1;
    q->model = m;
    q->queues = m->queue;
    if (!api_once_begin(q, e))
        return 0;
    api_release_model(q);
    return -1;
}

void api_release_model(struct request *q)
{
    struct model *m = q->model;
    budget_give(&request_models(q)->budget, q->reserved);
    q->reserved = 0;
    api_once_end(q);
    q->model = NULL;
    model_release(&m);
}

struct seen {
    const struct caller *caller;
    models_fn *f;
    void *arg;
};

static void each_seen(void *arg, struct model *m)
{
    const struct seen *s = arg;
    if (caller_sees(s->caller, m->name))
        s->f(s->arg, m);
}

void api_models_each(struct request *q, models_fn *f, void *arg)
{
    struct seen s = {q->caller, f, arg};
    models_each(request_models(q), each_seen, &s);
}

/* A parameter beside "parameters" is told where it belongs. */
static int check_misplaced(const struct request *q, const struct field *fields,
                           const struct field *parameters, struct error *e)
{
    const char *key;
    json_t *value;
    json_object_foreach(q->json.root, key, value)
    {
        if (!describe_field(fields, key) && describe_field(parameters, key))
            return error_set(e, ERROR_UNKNOWN_FIELD,
                             "unknown field '%s'; it belongs into 'parameters'", key);
    }
    return 0;
}

int api_check_body(const struct request *q, const struct field *fields,
                   const struct field *parameters, struct error *e)
{
    const json_t *given = parameters ? describe_get(q->json.root, "parameters") : NULL;
    if (q->raw_tensor || !q->json.root)
        return 0;
    if (parameters && check_misplaced(q, fields, parameters, e))
        return -1;
    if (describe_check_fields(q->json.root, "", fields, false, e))
        return -1;
    return given ? describe_check_fields(given, "parameters", parameters, false, e) : 0;
}

const json_t *api_parameter(const struct request *q, const char *name)
{
    const json_t *v = json_object_get(json_object_get(q->json.root, "parameters"), name);
    return json_is_null(v) ? NULL : v;
}

int api_snapshot(struct request *q, int64_t version, struct snapshot *s_r, struct error *e)
{
    struct model *m = request_model(q);
    if (version ? model_version_snapshot(m, version, s_r, e) : model_snapshot(m, s_r, e))
        return -1;
    s_r->gone = request_gone;
    s_r->gone_arg = q;
    return 0;
}

enum dtype api_wire_dtype(const struct node *n)
{
    return node_is_indices(n) ? DTYPE_INT64 : node_dtype(n);
}

int api_take_averages(struct snapshot *s, struct error *e)
{
    if (!s->generation->averages)
        return error_set(e, ERROR_CONFLICT,
                         "the model keeps no moving average: its description has no 'ema'");
    struct generation *averaged = generation_averaged(s->generation, e);
    if (!averaged)
        return -1;
    generation_unref(&s->generation);
    s->generation = averaged;
    return 0;
}

int api_choose_weights(const struct request *q, struct snapshot *s, struct error *e)
{
    const json_t *given = api_parameter(q, "weights");
    const char *name = json_string_value(given);
    if (!given || (name && strcmp(name, "live") == 0))
        return 0;
    if (!name || strcmp(name, "ema") != 0)
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.weights: expected \"live\" or \"ema\", found %.60s",
                         name ? name : "something else");
    return api_take_averages(s, e) ? error_prefix(e, "parameters.weights") : 0;
}

/* ---- batches --------------------------------------------------------------------------------- */

/* The leaves of one kind: their names, and where their data go. */
struct leaves {
    const char *field; /* "inputs" */
    struct node *const *node;
    int n;
    const void **data;
    const struct network *net; /* whose inputs they are: images will do; NULL: targets */
    int images;                /* the input that images without a name are for; -1: none */
    unsigned indices;          /* of these, class indices will do */
    const struct network *owner;
};

static int leaf_find(const struct leaves *l, const struct tensor *t, struct error *e)
{
    struct tensor_text what;
    struct nearest near = {.given = t->name};
    if (!t->name && l->n == 1)
        return 0;
    if (!t->name && l->images >= 0 && tensor_is_bytes(t))
        return l->images;
    if (!t->name)
        return error_set(e, ERROR_MISSING_FIELD, "%s has no name, and the model has %d %s",
                         tensor_what(t, &what), l->n, l->field);
    for (int i = 0; i < l->n; i++) {
        if (strcmp(node_name(l->node[i]), t->name) == 0)
            return i;
        nearest_offer(&near, node_name(l->node[i]));
    }
    if (l->n == 1)
        near.best = node_name(l->node[0]);
    return error_set(e, ERROR_UNKNOWN_FIELD, "%s: the model has no such tensor%s%s%s",
                     tensor_what(t, &what), near.best ? "; did you mean '" : "",
                     near.best ? near.best : "", near.best ? "'?" : "");
}

static int numbers_read(struct request *q, const struct node *node, struct tensor *t,
                        const void **data_r, int64_t *batch_r, struct error *e)
{
    const enum dtype dtype = node_dtype(node);
    int64_t count;
    if (tensor_resolve(t, dtype, node_shape(node), batch_r, &count, e))
        return -1;
    return tensor_take(t, dtype, q->arena, count, data_r, e);
}

static int leaf_data(struct request *q, const struct leaves *l, int i, struct tensor *t,
                     const void **data_r, int64_t *batch_r, struct error *e)
{
    const struct node *node = l->node[i];
    if (l->net && tensor_is_bytes(t))
        return api_images_read(q, l->net, i, t, data_r, batch_r, e);
    if (t->boxes)
        return boxes_read(q, l->owner, node, t, data_r, batch_r, e);
    if (!l->net && labels_given(t, node))
        return labels_read(q, t, node, data_r, batch_r, e);
    if ((l->indices >> i & 1) && class_indices_given(t))
        return class_indices_read(q, t, l->owner, node, data_r, batch_r, e);
    return numbers_read(q, node, t, data_r, batch_r, e);
}

static int leaf_read(struct request *q, const struct leaves *l, int i, struct tensor *t, int64_t *n,
                     struct error *e)
{
    const struct node *node = l->node[i];
    struct tensor_text what;
    int64_t batch;
    const void *data;
    if (l->data[i])
        return error_set(e, ERROR_BAD_VALUE, "%s is given twice", tensor_what(t, &what));
    if (leaf_data(q, l, i, t, &data, &batch, e))
        return -1;
    if (shape_batched(node_shape(node))) {
        if (*n && *n != batch)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s holds %lld examples, the tensors before it %lld",
                             tensor_what(t, &what), (long long)batch, (long long)*n);
        *n = batch;
    }
    l->data[i] = data;
    return 0;
}

static int leaves_read(struct request *q, const struct leaves *l, int64_t *n, struct error *e)
{
    struct tensor *tensors, raw;
    int n_tensors = 1;
    if (q->raw_tensor) {
        tensor_read_raw(q, &raw);
        tensors = &raw;
    } else if (tensors_read(q, l->field, &tensors, &n_tensors, e)) {
        return -1;
    }
    for (int i = 0; i < n_tensors; i++) {
        int at = leaf_find(l, &tensors[i], e);
        if (at < 0 || leaf_read(q, l, at, &tensors[i], n, e))
            return -1;
    }
    for (int i = 0; i < l->n; i++)
        if (!l->data[i])
            return error_set(e, ERROR_MISSING_FIELD, "%s: '%s' is missing", l->field,
                             node_name(l->node[i]));
    return 0;
}

/* Whether there are targets where the network takes some. One whose losses compare with inputs (an
 * autoencoder) takes none. */
static int targets_check(struct request *q, const struct network *net, struct error *e)
{
    const bool given = describe_get(q->json.root, "targets");
    if (net->n_targets > 0 && q->raw_tensor)
        return error_set(e, ERROR_MISSING_FIELD, "a raw tensor has no targets");
    if (net->n_targets > 0 && !given)
        return error_set(e, ERROR_MISSING_FIELD,
                         "the field 'targets' is missing (a list of tensors)");
    if (given && !net->loss)
        return error_set(e, ERROR_CONFLICT,
                         "targets: the model takes none, it was created without a loss");
    if (net->n_targets == 0 && given)
        return error_set(e, ERROR_UNKNOWN_FIELD,
                         "targets: the model takes none; its losses compare with its inputs");
    return 0;
}

int api_read_batch(struct request *q, const struct network *net, bool targets, struct batch *b_r,
                   struct error *e)
{
    if (api_read_batch_raw(q, net, targets, b_r, e))
        return -1;
    api_batch_normalise(q, net, b_r);
    return 0;
}

int api_read_batch_raw(struct request *q, const struct network *net, bool targets,
                       struct batch *b_r, struct error *e)
{
    *b_r = (struct batch){.n = 0};
    struct leaves inputs = {.field = "inputs",
                            .owner = net,
                            .node = net->inputs,
                            .n = net->n_inputs,
                            .data = b_r->data,
                            .net = net,
                            .images = api_images_input(q, net)};
    struct leaves wanted = {.field = "targets",
                            .owner = net,
                            .node = net->targets,
                            .n = net->n_targets,
                            .indices = net->index_targets,
                            .data = b_r->data + net->n_inputs};
    if (targets && targets_check(q, net, e))
        return -1;
    targets = targets && net->n_targets > 0;
    if (leaves_read(q, &inputs, &b_r->n, e) || (targets && leaves_read(q, &wanted, &b_r->n, e)))
        return -1;
    if (!b_r->n)
        b_r->n = 1;
    return tensors_end(q, e);
}

/* ---- writing --------------------------------------------------------------------------------- */

void api_put_json(struct json_out *w, const char *key, const json_t *value)
{
    char *text = json_in_dump(value, JSON_COMPACT | JSON_ENCODE_ANY);
    out_key(w, key);
    if (text)
        out_raw(w, text, strlen(text));
    else
        out_null(w);
    free(text);
}

void api_put_shape(struct json_out *w, const char *key, const struct shape *s)
{
    out_put_int64s(w, key, s->dim, (size_t)s->rank);
}

void api_write_name(struct json_out *w, const struct request *q, const char *model_name)
{
    const char *id = json_string_value(json_object_get(q->json.root, "id"));
    out_put_string(w, "model_name", model_name);
    if (id)
        out_put_string(w, "id", id);
}

void api_write_counters(struct json_out *w, const struct counters *at)
{
    out_put_uint(w, "step", at->step);
    out_put_uint(w, "revision", at->revision);
}
