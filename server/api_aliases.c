/* api_aliases.c: names for versions: moving them, looking them up, and who moved them when. A name
 * stands in the place of a version's number in every path. */
#include "api_once.h"

#include <string.h>

enum { MAX_WORDS = 1000 };

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";

static bool all_digits(const char *text)
{
    return !text[strspn(text, "0123456789")];
}

/* The {alias} of the path; NULL: replied. */
static const char *param_alias(struct request *q)
{
    const char *name = request_param(q, "alias");
    size_t n = strlen(name);
    if (n && n <= MODEL_MAX_NAME && strspn(name, letters) == n && !all_digits(name))
        return name;
    reply_errorf(
        q, ERROR_BAD_NAME,
        "alias '%.140s', expected 1 to %d of the characters A-Z a-z 0-9 _ . and -, not all "
        "of them digits",
        name, MODEL_MAX_NAME);
    return NULL;
}

static int alias_version(struct request *q, const char *name, int64_t *version_r, struct error *e)
{
    struct store_alias a;
    if (store_alias_find(request_models(q)->store, request_model(q)->id, name, &a, e))
        return -1;
    *version_r = a.version;
    return 0;
}

int api_param_version(struct request *q, int64_t *version_r)
{
    const char *text = request_param(q, "version");
    struct error e;
    if (all_digits(text))
        return param_int(q, "version", 1, version_r);
    return alias_version(q, text, version_r, &e) ? reply_error(q, &e), -1 : 0;
}

int api_body_version(struct request *q, int64_t *version_r, struct error *e)
{
    const json_t *given = json_object_get(q->json.root, "version");
    *version_r = json_integer_value(given);
    if (json_is_string(given))
        return alias_version(q, json_string_value(given), version_r, e);
    if (!given || *version_r >= 1)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "version: expected a number from 1 or an alias, found %lld",
                     (long long)*version_r);
}

/* ---- moving ---------------------------------------------------------------------------------- */

static const struct field put_fields[] = {
    {"version", IS_INT, "a version's number", true},
    {"who", IS_STRING, "a string", false},
    {"why", IS_STRING, "a string", false},
    {0},
};
static const struct field words_fields[] = {
    {"who", IS_STRING, "a string", false},
    {"why", IS_STRING, "a string", false},
    {0},
};

/* A client's words of the body; "" when it has none. */
static int read_words(const struct request *q, const char *key, const char **words_r,
                      struct error *e)
{
    const char *words = describe_get_string(q->json.root, key);
    *words_r = words ? words : "";
    if (strlen(*words_r) <= MAX_WORDS)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "'%s' has %zu bytes, the limit is %d", key,
                     strlen(*words_r), MAX_WORDS);
}

static int read_move(struct request *q, const struct field *fields, struct store_alias_move *mv,
                     struct error *e)
{
    *mv = (struct store_alias_move){.alias = param_alias(q)};
    if (!mv->alias)
        return -1;
    if (api_check_body(q, fields, NULL, e) || read_words(q, "who", &mv->who, e) ||
        read_words(q, "why", &mv->why, e)) {
        reply_error(q, e);
        return -1;
    }
    if (q->caller)
        mv->who = request_who(q);
    mv->to = json_integer_value(json_object_get(q->json.root, "version"));
    return 0;
}

static void put_version(struct json_out *w, const char *key, int64_t version)
{
    out_key(w, key);
    if (version)
        out_int(w, version);
    else
        out_null(w);
}

static int reply_move(struct request *q, const struct store_alias_move *mv, int status)
{
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", request_model(q)->name);
    out_put_string(&w, "alias", mv->alias);
    put_version(&w, "version", mv->to);
    put_version(&w, "previous_version", mv->from);
    out_put_bool(&w, "moved", mv->id != 0);
    out_close(&w);
    return reply_json(q, status, &w);
}

typedef int move_fn(struct store *s, int64_t model_id, struct store_alias_move *mv,
                    struct error *e);

static int move(struct request *q, const struct field *fields, move_fn *f)
{
    struct store_alias_move mv;
    struct store_answer answer;
    struct step_result first;
    struct error e;
    if (read_move(q, fields, &mv, &e))
        return q->status;
    int known = api_once_change(q, &answer, &mv.answer, &first, &e);
    if (known < 0 || (!known && f(request_models(q)->store, request_model(q)->id, &mv, &e)))
        return reply_error(q, &e);
    if (known) {
        mv.to = (int64_t)first.at.step; /* as store_alias_move.answer says */
        mv.from = (int64_t)first.at.draw;
        mv.id = first.samples;
    } else {
        api_once_changed(q, mv.answer);
    }
    return reply_move(q, &mv, mv.to && !mv.from ? 201 : 200);
}

int api_alias_put(struct request *q)
{
    return move(q, put_fields, store_alias_set);
}

int api_alias_rollback(struct request *q)
{
    return move(q, words_fields, store_alias_rollback);
}

int api_alias_delete(struct request *q)
{
    return move(q, words_fields, store_alias_delete);
}

/* ---- looking --------------------------------------------------------------------------------- */

static void write_alias(struct json_out *w, const struct store_alias *a)
{
    out_put_string(w, "alias", a->name);
    out_put_int(w, "version", a->version);
    out_put_int(w, "moved_ms", a->moved_ms);
}

static int write_item(void *arg, const struct store_alias *a)
{
    struct json_out *w = arg;
    out_open_object(w);
    write_alias(w, a);
    out_close(w);
    return 0;
}

static int write_move(void *arg, const struct store_alias_move *mv)
{
    struct json_out *w = arg;
    out_open_object(w);
    out_put_string(w, "alias", mv->alias);
    out_put_string(w, "action", mv->action);
    put_version(w, "from", mv->from);
    put_version(w, "to", mv->to);
    out_put_string(w, "who", mv->who);
    out_put_string(w, "why", mv->why);
    out_put_int(w, "time_ms", mv->moved_ms);
    out_close(w);
    return 0;
}

/* The ledger, newest first, into an object that is open; `name` NULL: of all aliases. */
static int write_moves(struct request *q, struct json_out *w, const char *name, int64_t limit,
                       struct error *e)
{
    out_key(w, "moves");
    out_open_array(w);
    if (store_alias_moves(request_models(q)->store, request_model(q)->id, name, (int)limit,
                          write_move, w, e))
        return -1;
    out_close(w);
    return 0;
}

static int read_limit(struct request *q, int64_t *limit_r)
{
    return query_int(q, "limit", 100, 0, 1000, limit_r);
}

int api_alias_list(struct request *q)
{
    struct model *m = request_model(q);
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    int64_t limit;
    if (read_limit(q, &limit))
        return q->status;
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    out_key(&w, "aliases");
    out_open_array(&w);
    int status = store_alias_list(request_models(q)->store, m->id, write_item, &w, &e);
    out_close(&w);
    if (status || write_moves(q, &w, NULL, limit, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_alias_get(struct request *q)
{
    struct model *m = request_model(q);
    struct json_out w = JSON_OUT_INIT;
    struct store_alias a;
    struct error e;
    int64_t limit;
    const char *name = param_alias(q);
    if (!name || read_limit(q, &limit))
        return q->status;
    if (store_alias_find(request_models(q)->store, m->id, name, &a, &e))
        return reply_error(q, &e);
    out_open_object(&w);
    out_put_string(&w, "model_name", m->name);
    write_alias(&w, &a);
    if (write_moves(q, &w, name, limit, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    out_close(&w);
    return reply_json(q, 200, &w);
}
