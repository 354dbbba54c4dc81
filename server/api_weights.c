/* api_weights.c: the weights of a model as a safetensors file, out and in. */
#include "api_once.h"
#include "weights.h"

/* ---- out ------------------------------------------------------------------------------------- */

static size_t pull(void *arg, size_t at, char *out, size_t room)
{
    return weights_file_read(arg, at, out, room);
}

static void done(void *arg)
{
    struct weights_file *f = arg;
    weights_file_destroy(&f);
}

/* The query: the live weights, or their moving averages. */
static int query_weights(struct request *q, bool *averages_r)
{
    int choice;
    if (query_choice(q, "weights", "live|ema", 0, &choice))
        return -1;
    *averages_r = choice;
    return 0;
}

/* Releases the snapshot, now or when the file is out. */
static int reply_weights(struct request *q, struct snapshot *s, bool averages)
{
    struct error e;
    const char *name = request_model(q)->name;
    struct weights_file *f = NULL;
    if (averages && api_take_averages(s, &e))
        error_prefix(&e, "weights");
    else
        f = weights_file_create(s, name, &e);
    if (!f) {
        snapshot_release(s);
        return reply_error(q, &e);
    }
    const char *disposition =
        arena_printf(q->arena, "attachment; filename=\"%s.safetensors\"", name);
    if (disposition)
        reply_header(q, "Content-Disposition", disposition);
    return reply_pull(q, 200, "application/octet-stream", weights_file_size(f),
                      (struct body_pull){pull, done, f});
}

int api_weights_get(struct request *q)
{
    struct snapshot s;
    struct error e;
    bool averages;
    if (query_weights(q, &averages))
        return q->status;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    return reply_weights(q, &s, averages);
}

int api_version_weights_get(struct request *q)
{
    struct snapshot s;
    struct error e;
    int64_t version;
    bool averages;
    if (query_weights(q, &averages) || api_param_version(q, &version))
        return q->status;
    if (model_version_snapshot(request_model(q), version, &s, &e))
        return reply_error(q, &e);
    return reply_weights(q, &s, averages);
}

/* ---- in -------------------------------------------------------------------------------------- */

static void put_names(struct json_out *w, const char *key, const char *const *names, int n)
{
    out_key(w, key);
    out_open_array(w);
    for (int i = 0; i < n; i++)
        out_string(w, names[i]);
    out_close(w);
}

static int reply_report(struct request *q, const struct weights_report *r,
                        const struct counters *at)
{
    struct model *m = request_model(q);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    api_write_counters(&w, at);
    out_put_int(&w, "loaded", r->loaded);
    put_names(&w, "missing_keys", r->missing, r->n_missing);
    put_names(&w, "unexpected_keys", r->unexpected, r->n_unexpected);
    out_put_string(&w, "stripped_prefix", r->prefix);
    out_close(&w);
    return reply_json(q, 200, &w);
}

/* In the model's queue: what the file is to this model, as its first sending was answered. */
static int read_report(struct request *q, const struct safetensors *file, bool strict,
                       struct weights_report *r_r, struct error *e)
{
    const struct graph *g = program_network(request_model(q)->program)->graph;
    const struct safetensor **from =
        arena_array(q->arena, (size_t)graph_param_count(g) + 1, sizeof *from);
    return from ? weights_match(g, file, strict, q->arena, from, r_r, e)
                : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
}

int api_weights_put(struct request *q)
{
    struct weights_options o;
    struct weights_report r;
    struct safetensors file;
    struct model *m = request_model(q);
    struct store_answer answer, *keep;
    struct step_result first;
    struct error e;
    if (query_bool(q, "strict", true, &o.strict) ||
        query_bool(q, "reset_optimizer", false, &o.reset_optimizer))
        return q->status;
    if (safetensors_read(&file, q->arena, q->body ? q->body : "", q->body_size, &e))
        return reply_error(q, &e);
    int known = api_once_change(q, &answer, &keep, &first, &e);
    if (known < 0 || (known ? read_report(q, &file, o.strict, &r, &e)
                            : model_weights_load(m, &file, &o, keep, q->arena, &r, &e)))
        return reply_error(q, &e);
    if (!known) {
        api_once_changed(q, keep);
        first.at = m->at; /* in the model's queue */
    }
    return reply_report(q, &r, &first.at);
}
