/* api_keys.c: the keys of clients, for administrators: listing, making, revoking. The first key is
 * made where the data folder is (backpropd keys add): a daemon that nobody needs a key for does not
 * let whoever comes first shut the others out. */
#include "api.h"
#include "http.h"
#include "keyring.h"

#include <string.h>

/* Whoever has less than everything could give himself more. */
static int check_unlimited(const struct request *q, struct error *e)
{
    if (!q->caller)
        return error_set(e, ERROR_FORBIDDEN,
                         "there are no keys yet; make the first with: backpropd keys add --role "
                         "admin --name NAME DATA");
    if (!key_limited(&q->caller->key))
        return 0;
    return error_set(e, ERROR_FORBIDDEN,
                     "the key '%s' has a scope or quotas; keys are managed with one that has none",
                     q->caller->key.name);
}

static void write_key(struct json_out *w, const struct key *k)
{
    static const char *const rows[] = {
        "name", "role", "models", "max_models", "max_bytes", "requests_per_second", "created_ms"};
    json_t *o = key_description(k);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        api_put_json(w, rows[i], json_object_get(o, rows[i]));
    json_decref(o);
}

static void write_item(void *arg, const struct key *k)
{
    struct json_out *w = arg;
    out_open_object(w);
    write_key(w, k);
    out_close(w);
}

int api_key_list(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    if (q->caller && check_unlimited(q, &e))
        return reply_error(q, &e);
    out_open_object(&w);
    out_put_bool(&w, "required", keyring_required(q->server->keys));
    out_key(&w, "keys");
    out_open_array(&w);
    keyring_each(q->server->keys, write_item, &w);
    out_close(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_key_create(struct request *q)
{
    char text[KEY_TEXT_SIZE];
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    struct key k;
    if (check_unlimited(q, &e))
        return reply_error(q, &e);
    if (key_describe(&k, q->json.root, &e) || keyring_add(q->server->keys, &k, text, &e)) {
        key_clear(&k);
        return reply_error(q, &e);
    }
    reply_changed(q);
    out_open_object(&w);
    out_put_string(&w, "key", text);
    write_key(&w, &k);
    out_close(&w);
    key_clear(&k);
    explicit_bzero(text, sizeof text);
    reply_header(q, "Cache-Control", "no-store");
    return reply_json(q, 201, &w);
}

int api_key_delete(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    const char *name = request_param(q, "key");
    if (check_unlimited(q, &e) || keyring_revoke(q->server->keys, name, &e))
        return reply_error(q, &e);
    reply_changed(q);
    http_streams_wake(q->server->http); /* its streams end */
    out_open_object(&w);
    out_put_string(&w, "revoked", name);
    out_close(&w);
    return reply_json(q, 200, &w);
}
