/* api_versions.c: snapshots of a model: making, listing, deleting, going back. */
#include "api_once.h"

#include <string.h>

static void write_version(struct json_out *w, const struct store_version *v)
{
    out_put_int(w, "version", v->version);
    out_put_uint(w, "step", v->step);
    out_put_uint(w, "revision", v->revision);
    out_put_uint(w, "draw", v->draw);
    out_put_bool(w, "gradients_pending", v->pending);
    out_put_string(w, "note", v->note);
    out_put_string(w, "who", v->who);
    out_put_string(w, "sha256", v->sha256);
    out_put_int(w, "bytes", v->bytes);
    out_put_int(w, "created_ms", v->created_ms);
    out_put_string(w, "fingerprint", v->fingerprint);
}

enum { MAX_NOTE = 1000 };

/* A client's words; every list of versions has those of all. */
static int read_note(const struct request *q, const char **note_r, struct error *e)
{
    static const struct field fields[] = {{"note", IS_STRING, "a string", false}, {0}};
    if (api_check_body(q, fields, NULL, e))
        return -1;
    const char *note = describe_get_string(q->json.root, "note");
    *note_r = note ? note : "";
    if (strlen(*note_r) <= MAX_NOTE)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "'note' has %zu bytes, the limit is %d", strlen(*note_r),
                     MAX_NOTE);
}

int api_version_create(struct request *q)
{
    struct model *m = request_model(q);
    struct store_version v;
    struct store_answer answer, *keep;
    struct step_result first;
    struct error e;
    const char *note;
    if (read_note(q, &note, &e))
        return reply_error(q, &e);
    int known = api_once_change(q, &answer, &keep, &first, &e);
    if (known > 0) /* what it answered is the version's row, which may have been deleted since */
        known =
            store_version_info(m->models->store, m->id, first.samples, q->arena, &v, &e) ? -1 : 1;
    else if (!known && model_version_save(m, request_who(q), note, keep, &v, &e))
        known = -1;
    if (known < 0)
        return reply_error(q, &e);
    if (!known)
        api_once_changed(q, keep);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    write_version(&w, &v);
    out_close(&w);
    return reply_json(q, 201, &w);
}

static int write_item(void *arg, const struct store_version *v)
{
    struct json_out *w = arg;
    out_open_object(w);
    write_version(w, v);
    out_close(w);
    return 0;
}

int api_version_list(struct request *q)
{
    struct model *m = request_model(q);
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    out_key(&w, "versions");
    out_open_array(&w);
    if (store_version_list(request_models(q)->store, m->id, write_item, &w, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    out_close(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static void write_parts(struct json_out *w, const struct store_version *v)
{
    out_key(w, "parts");
    out_open_array(w);
    for (int i = 0; i < v->n_parts; i++) {
        out_open_object(w);
        out_put_string(w, "name", v->parts[i].name);
        out_put_int(w, "bytes", v->parts[i].bytes);
        out_put_string(w, "sha256", v->parts[i].sha256);
        out_close(w);
    }
    out_close(w);
}

int api_version_find(struct request *q, struct store_version *v_r)
{
    struct error e;
    int64_t version;
    if (api_param_version(q, &version))
        return -1;
    if (!store_version_info(request_models(q)->store, request_model(q)->id, version, q->arena, v_r,
                            &e))
        return 0;
    reply_error(q, &e);
    return -1;
}

/* The model's inputs and outputs, which are also those of each of its versions. */
static int write_protocol(struct json_out *w, struct model *m, struct error *e)
{
    struct snapshot s;
    if (model_snapshot(m, &s, e))
        return -1;
    int status = api_write_metadata(w, m, program_network(s.program), e);
    snapshot_release(&s);
    return status;
}

static bool same_field(const json_t *then, const json_t *now, const char *key)
{
    const json_t *a = describe_get(then, key), *b = describe_get(now, key);
    return a && b ? json_equal(a, b) : a == b;
}

/* Settings that are not what they were when the version was saved, and stay when it is restored. */
static int write_differing(struct json_out *w, struct model *m, const struct store_version *v,
                           struct error *e)
{
    static const char *const fields[] = {"augment",   "clip_grad_norm", "clip_grad_value",
                                         "ema",       "frozen",         "labels",
                                         "optimizer", "schedule"};
    struct snapshot s;
    if (model_snapshot(m, &s, e))
        return -1;
    json_t *then = json_in_load(v->description, strlen(v->description), NULL);
    out_key(w, "settings_differ");
    out_open_array(w);
    for (size_t i = 0; then && i < sizeof fields / sizeof *fields; i++)
        if (!same_field(then, s.description, fields[i]))
            out_string(w, fields[i]);
    out_close(w);
    const bool read = then;
    json_decref(then);
    snapshot_release(&s);
    return read ? 0 : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the description");
}

int api_version_get(struct request *q)
{
    struct model *m = request_model(q);
    struct store_version v;
    struct error e;
    if (api_version_find(q, &v))
        return q->status;
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    if (write_protocol(&w, m, &e) || write_differing(&w, m, &v, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    write_version(&w, &v);
    write_parts(&w, &v);
    out_key(&w, "description");
    out_raw(&w, v.description, strlen(v.description));
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_version_ready(struct request *q)
{
    struct store_version v;
    return api_version_find(q, &v) ? q->status : api_model_ready(q);
}

int api_version_delete(struct request *q)
{
    struct model *m = request_model(q);
    struct error e;
    struct store_answer answer, *keep;
    struct step_result first;
    int64_t version;
    int known = api_once_change(q, &answer, &keep, &first, &e);
    if (known < 0)
        return reply_error(q, &e);
    if (known)
        version = first.samples;
    else if (api_param_version(q, &version))
        return q->status;
    answer.samples = version;
    if (!known && model_version_delete(m, version, keep, &e))
        return reply_error(q, &e);
    if (!known)
        api_once_changed(q, keep);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    out_put_int(&w, "deleted", version);
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_version_restore(struct request *q)
{
    struct model *m = request_model(q);
    struct store_answer answer, *keep;
    struct step_result first;
    struct error e;
    int64_t version;
    int known = api_once_change(q, &answer, &keep, &first, &e);
    if (known < 0)
        return reply_error(q, &e);
    if (known)
        version = first.samples;
    else if (api_param_version(q, &version))
        return q->status;
    answer.samples = version;
    if (!known && model_version_restore(m, version, keep, &e))
        return reply_error(q, &e);
    if (!known) {
        api_once_changed(q, keep);
        first.at = m->at; /* in the model's queue */
    }
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    out_put_int(&w, "restored_version", version);
    api_write_counters(&w, &first.at);
    out_close(&w);
    return reply_json(q, 200, &w);
}
