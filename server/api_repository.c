/* api_repository.c: Triton's model_repository extension: which models there are, and whether they
 * are in memory. */
#include "api.h"

static void write_item(struct json_out *w, const char *name, const char *state, const char *reason)
{
    out_open_object(w);
    out_put_string(w, "name", name);
    out_put_string(w, "state", state);
    out_put_string(w, "reason", reason);
    out_close(w);
}

static void write_ready(void *arg, struct model *m)
{
    write_item(arg, m->name, "READY", "");
}

/* Who asks for the index, and where it goes. */
struct index {
    const struct request *q;
    struct json_out *w;
};

static void write_unloaded(void *arg, const struct unloaded_model *u)
{
    const struct index *x = arg;
    if (caller_sees(x->q->caller, u->name))
        write_item(x->w, u->name, "UNAVAILABLE", u->reason[0] ? u->reason : "unloaded");
}

int api_repository_index(struct request *q)
{
    static const struct field fields[] = {{"ready", IS_BOOL, "true or false", false}, {0}};
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    if (api_check_body(q, fields, NULL, &e))
        return reply_error(q, &e);
    out_open_array(&w);
    struct index x = {q, &w};
    api_models_each(q, write_ready, &w);
    if (!json_is_true(json_object_get(q->json.root, "ready")))
        models_each_unloaded(request_models(q), write_unloaded, &x);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int reply_state(struct request *q, const char *state)
{
    struct json_out w = JSON_OUT_INIT;
    write_item(&w, request_param(q, "model"), state, "");
    return reply_json(q, 200, &w);
}

/* {"parameters":{...}}, of which only these are known. */
static int check_parameters(const struct request *q, const struct field *known, struct error *e)
{
    static const struct field fields[] = {{"parameters", IS_OBJECT, "an object", false}, {0}};
    return api_check_body(q, fields, known, e);
}

/* Triton's "config" and "file:" would bring another model: that is what PUT is for. */
int api_repository_load(struct request *q)
{
    static const struct field none[] = {{0}};
    struct error e;
    if (check_parameters(q, none, &e) ||
        models_load_again(request_models(q), request_param(q, "model"), &e))
        return reply_error(q, &e);
    reply_changed(q);
    return reply_state(q, "READY");
}

int api_repository_unload(struct request *q)
{
    /* There are no models that others are made of. */
    static const struct field known[] = {{"unload_dependents", IS_BOOL, "true or false", false},
                                         {0}};
    struct error e;
    if (check_parameters(q, known, &e) || models_unload(request_models(q), request_model(q), &e))
        return reply_error(q, &e);
    reply_changed(q);
    return reply_state(q, "UNAVAILABLE");
}
