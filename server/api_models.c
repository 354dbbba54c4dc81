/* api_models.c: models as things: creating, listing, describing, changing, deleting. */
#include "access.h"
#include "api_once.h"
#include "dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- metadata -------------------------------------------------------------------------------- */

static void write_tensor(struct json_out *w, const char *name, const struct node *n)
{
    out_open_object(w);
    out_put_string(w, "name", name);
    out_put_string(w, "datatype", datatype_of(api_wire_dtype(n))->name);
    api_put_shape(w, "shape", node_shape(n));
    out_close(w);
}

static void write_leaves(struct json_out *w, const char *key, struct node *const *nodes, int n)
{
    out_key(w, key);
    out_open_array(w);
    for (int i = 0; i < n; i++)
        write_tensor(w, node_name(nodes[i]), nodes[i]);
    out_close(w);
}

static void write_outputs(struct json_out *w, const struct network *net)
{
    out_key(w, "outputs");
    out_open_array(w);
    for (int i = 0; i < net->n_outputs; i++)
        write_tensor(w, net->output_names[i], net->outputs[i]);
    out_close(w);
    if (!net->probabilities)
        return;
    out_key(w, "outputs_on_request");
    out_open_array(w);
    write_tensor(w, "probabilities", net->probabilities);
    out_close(w);
}

static int write_version_number(void *arg, const struct store_version *v)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)v->version);
    out_string(arg, text);
    return 0;
}

static void write_bytes(struct json_out *w, const char *key, struct program *p,
                        const struct program_use *use)
{
    size_t bytes;
    out_key(w, key);
    if (program_bytes(p, use, &bytes, NULL))
        out_null(w);
    else
        out_uint(w, bytes);
}

/* What the model takes for as long as it lives, and what one request takes besides. */
static void write_memory(struct json_out *w, struct program *p)
{
    const struct network *net = program_network(p);
    unsigned outputs = (1u << net->n_outputs) - 1;
    struct program_use infer = {.outputs = outputs, .n = 1};
    struct program_use train = {
        .training = true, .loss = true, .params_wrt = true, .outputs = OUTPUT_PREDICTIONS, .n = 1};
    out_key(w, "memory_bytes");
    out_open_object(w);
    out_put_uint(w, "model", model_bytes(net));
    write_bytes(w, "infer_batch_1", p, &infer);
    infer.n = 32;
    write_bytes(w, "infer_batch_32", p, &infer);
    if (net->loss) {
        write_bytes(w, "train_batch_1", p, &train);
        train.n = 32;
        write_bytes(w, "train_batch_32", p, &train);
    }
    out_close(w);
}

/* Parameters as PyTorch counts them; FLOPs of one forward of one sample. */
static void write_size(struct json_out *w, const struct network *net)
{
    double flops = 0;
    for (int i = 0; i < graph_node_count(net->graph); i++)
        if (!node_is_loss(graph_node(net->graph, i)))
            flops += node_flops(graph_node(net->graph, i));
    out_put_uint(w, "parameter_count", graph_params_size(net->graph));
    out_put_double(w, "flops_per_sample", flops);
}

/* What the redo log gave back at start. On another engine the numbers are equal but for rounding.
 */
static void write_replay(struct json_out *w, const struct model *m)
{
    out_key(w, "replayed");
    out_open_object(w);
    out_put_uint(w, "records", m->replayed);
    out_put_uint(w, "records_of_another_engine", m->replayed_other_engine);
    out_put_uint(w, "torn_bytes", m->torn_bytes);
    out_close(w);
}

int api_write_metadata(struct json_out *w, const struct model *m, const struct network *net,
                       struct error *e)
{
    out_put_string(w, "name", m->name);
    out_key(w, "versions");
    out_open_array(w);
    int status = store_version_list(m->models->store, m->id, write_version_number, w, e);
    out_close(w);
    out_put_string(w, "platform", API_PLATFORM);
    write_leaves(w, "inputs", net->inputs, net->n_inputs);
    write_outputs(w, net);
    write_leaves(w, "targets", net->targets, net->n_targets);
    return status;
}

static int write_metadata(struct json_out *w, struct model *m, struct error *e)
{
    struct snapshot s;
    if (model_snapshot(m, &s, e))
        return -1;
    const struct network *net = program_network(s.program);
    int status = api_write_metadata(w, m, net, e);
    api_write_counters(w, &s.at);
    out_put_uint(w, "draw", s.at.draw);
    out_put_bool(w, "gradients_pending", s.pending);
    out_put_double(w, "last_loss", s.last_loss);
    out_put_int(w, "created_ms", m->created_ms);
    out_put_string(w, "who", m->who);
    out_put_string(w, "durability", durability_name(m->durability));
    write_replay(w, m);
    write_size(w, net);
    write_memory(w, s.program);
    const json_t *labels = json_object_get(s.description, "labels");
    if (labels)
        api_put_json(w, "labels", labels);
    snapshot_release(&s);
    return status;
}

static int reply_metadata(struct request *q, int status, struct model *m, bool hash)
{
    struct json_out w = JSON_OUT_INIT;
    char sha256[DIGEST_HEX];
    struct error e;
    if (hash && model_state_sha256(m, sha256, &e))
        return reply_error(q, &e);
    out_open_object(&w);
    if (write_metadata(&w, m, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    if (hash)
        out_put_string(&w, "state_sha256", sha256);
    out_close(&w);
    return reply_json(q, status, &w);
}

int api_model_get(struct request *q)
{
    bool hash;
    if (query_bool(q, "state_sha256", false, &hash))
        return q->status;
    return reply_metadata(q, 200, request_model(q), hash);
}

int api_model_ready(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "name", request_model(q)->name);
    out_put_bool(&w, "ready", true);
    out_close(&w);
    return reply_json(q, 200, &w);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void write_list_item(void *arg, struct model *m)
{
    struct json_out *w = arg;
    struct snapshot s;
    if (model_snapshot(m, &s, NULL))
        return;
    out_open_object(w);
    out_put_string(w, "name", m->name);
    api_write_counters(w, &s.at);
    out_put_double(w, "last_loss", s.last_loss);
    out_put_uint(w, "parameter_count", graph_params_size(program_network(s.program)->graph));
    out_put_int(w, "created_ms", m->created_ms);
    out_close(w);
    snapshot_release(&s);
}

int api_model_list(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_key(&w, "models");
    out_open_array(&w);
    api_models_each(q, write_list_item, &w);
    out_close(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

/* ---- changes --------------------------------------------------------------------------------- */

/* Answers with the model, which is released. */
static int reply_made(struct request *q, int status, struct model *m)
{
    reply_changed(q);
    status = reply_metadata(q, status, m, false);
    model_release(&m);
    return status;
}

/* To a retry: with the model that the first request has made or found. */
static int reply_made_before(struct request *q, const char *name, const struct store_deed *d)
{
    struct error e;
    struct model *m = models_find(request_models(q), name, &e);
    if (m && m->id == d->model_id)
        return reply_made(q, d->status, m);
    if (m || e.code == ERROR_UNKNOWN_MODEL)
        error_set(&e, ERROR_UNKNOWN_MODEL,
                  "this request was carried out before, and the model '%s' of its answer has been "
                  "deleted since",
                  name);
    model_release(&m);
    return reply_error(q, &e);
}

static int put_once(struct request *q)
{
    const char *name = request_param(q, "model");
    const struct store_deed *keep;
    struct store_deed d;
    struct error e;
    bool created;
    if (dispatch_check_new_name(q->server->routes, name, &e))
        return reply_error(q, &e);
    int known = api_once_deed(q, 201, &d, &keep, &e);
    if (known)
        return known > 0 ? reply_made_before(q, name, &d) : reply_error(q, &e);
    struct model *m = models_put(request_models(q), name, q->json.root, caller_key(q->caller), keep,
                                 &created, &e);
    if (!m)
        return reply_error(q, &e);
    if (keep && !created) {
        d.status = 200;
        d.model_id = m->id;
        if (store_deed_save(request_models(q)->store, keep, &e)) {
            model_release(&m);
            return reply_error(q, &e);
        }
    }
    return reply_made(q, created ? 201 : 200, m);
}

int api_model_put(struct request *q)
{
    int status = put_once(q);
    api_once_deed_end(q);
    return status;
}

static const struct field patch_fields[] = {
    {"lr", IS_NUMBER, "a number", false},
    {"optimizer", IS_OBJECT | IS_NULL, "an object", false},
    {"schedule", IS_OBJECT | IS_NULL, "an object", false},
    {"augment", IS_LIST | IS_OBJECT | IS_NULL, "a list or an object", false},
    {"clip_grad_norm", IS_NUMBER | IS_NULL, "a number", false},
    {"clip_grad_value", IS_NUMBER | IS_NULL, "a number", false},
    {"frozen", IS_LIST | IS_NULL, "a list of globs", false},
    {"ema", IS_OBJECT | IS_NULL, "an object", false},
    {"labels", IS_LIST | IS_NULL, "a list of strings", false},
    {"signals", IS_OBJECT | IS_NULL, "an object, {\"every\":50}", false},
    {"durability", IS_STRING | IS_NULL, "\"process\", \"power\" or \"none\"", false},
    {"max_batch_size", IS_INT | IS_NULL, "a whole number", false},
    {"dynamic_batching", IS_OBJECT | IS_NULL, "an object", false},
    {0},
};

/* "lr" alone changes the present optimiser's; null takes it back to what it was created with. */
static int patch_lr(const struct model *m, json_t *patch, struct error *e)
{
    json_t *lr = json_object_get(patch, "lr");
    if (!lr)
        return 0;
    json_t *optimizer = json_object_get(patch, "optimizer");
    if (optimizer)
        return error_set(e, ERROR_BAD_VALUE, "give lr or optimizer, not both");
    json_t *now = description_effective(m->given, m->settings);
    optimizer = json_copy(json_object_get(now, "optimizer"));
    json_decref(now);
    if (!optimizer && json_in_starved())
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the settings");
    if (!optimizer)
        return error_set(e, ERROR_CONFLICT, "the model has no optimizer");
    if (json_is_null(lr))
        lr = json_object_get(json_object_get(m->given, "optimizer"), "lr");
    json_object_set(optimizer, "lr", lr);
    json_object_set_new(patch, "optimizer", optimizer);
    json_object_del(patch, "lr");
    return 0;
}

static int patch_once(struct request *q, json_t *patch, struct error *e)
{
    struct model *m = request_model(q);
    struct store_answer answer, *keep;
    struct step_result first;
    int known = api_once_change(q, &answer, &keep, &first, e);
    if (known)
        return known < 0 ? -1 : 0; /* its answer, the metadata, is that of now */
    if (patch_lr(m, patch, e) || model_patch(m, patch, caller_key(q->caller), keep, e))
        return -1;
    api_once_changed(q, keep);
    return 0;
}

int api_model_patch(struct request *q)
{
    struct error e;
    json_t *patch = json_copy(q->json.root);
    if (!patch)
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory");
    int failed = api_check_body(q, patch_fields, NULL, &e) || patch_once(q, patch, &e);
    json_decref(patch);
    return failed ? reply_error(q, &e) : reply_metadata(q, 200, request_model(q), false);
}

/* The model of the path; for a request with a key it may not be there: UNKNOWN_MODEL. */
static int check_found(struct request *q, struct error *e)
{
    struct model *m =
        request_model(q) ? NULL : models_find(request_models(q), request_param(q, "model"), e);
    model_release(&m);
    return request_model(q) ? 0 : -1;
}

static int delete_once(struct request *q, struct error *e)
{
    const struct store_deed *keep;
    struct store_deed d;
    int known = api_once_deed(q, 200, &d, &keep, e);
    if (known)
        return known < 0 ? -1 : 0;
    return check_found(q, e) || models_delete(request_models(q), request_model(q), keep, e) ? -1
                                                                                            : 0;
}

int api_model_delete(struct request *q)
{
    struct error e;
    struct json_out w = JSON_OUT_INIT;
    int failed = delete_once(q, &e);
    api_once_deed_end(q);
    if (failed)
        return reply_error(q, &e);
    reply_changed(q);
    out_open_object(&w);
    out_put_string(&w, "deleted", request_param(q, "model"));
    out_close(&w);
    return reply_json(q, 200, &w);
}

static const struct field clone_fields[] = {
    {"name", IS_STRING, "the new model's name", true},
    {"layers", IS_LIST, "a list of globs", false},
    {"version", IS_INT | IS_STRING, "a version's number or an alias", false},
    {0},
};

static struct model *clone(struct request *q, const char *name, const struct store_deed *deed,
                           struct error *e)
{
    int64_t version;
    if (check_found(q, e) || api_body_version(q, &version, e))
        return NULL;
    return models_clone(request_models(q), name, request_model(q), version,
                        json_object_get(q->json.root, "layers"), caller_key(q->caller), deed, e);
}

static int clone_once(struct request *q)
{
    const struct store_deed *keep;
    struct store_deed d;
    struct error e;
    if (api_check_body(q, clone_fields, NULL, &e))
        return reply_error(q, &e);
    const char *name = json_string_value(json_object_get(q->json.root, "name"));
    if (dispatch_check_new_name(q->server->routes, name, &e) || access_check_model(q, name, &e))
        return reply_error(q, &e);
    int known = api_once_deed(q, 201, &d, &keep, &e);
    if (known)
        return known > 0 ? reply_made_before(q, name, &d) : reply_error(q, &e);
    struct model *m = clone(q, name, keep, &e);
    return m ? reply_made(q, 201, m) : reply_error(q, &e);
}

int api_model_clone(struct request *q)
{
    int status = clone_once(q);
    api_once_deed_end(q);
    return status;
}
