/* access.c: who may do what.
 *
 * Where the data folder has no file of keys, everybody who reaches the daemon may do everything.
 * Where it has one, each request needs a key (Authorization: Bearer bpd_...), but those to routes
 * of ROLE_NONE: health, and the page, which asks for one. Then, in this order: 429  the source of
 * the request has failed too often (throttle.h) 401  no key, or none that is in force 403  the
 * key's role is below the route's, or the path's {model} is not one of its models; whether there is
 * such a model is not said 429  more requests a second than the key may make */
#include "access.h"

#include "keyring.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Whole seconds, rounded up. */
static void retry_after(struct request *q, int64_t wait_ms)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)((wait_ms + 999) / 1000));
    reply_header(q, "Retry-After", text);
}

/* The text after "Bearer "; NULL: there is none. */
static const char *bearer(const struct request *q)
{
    static const char scheme[] = "Bearer ";
    const char *value = request_header(q, "Authorization");
    if (!value || strncasecmp(value, scheme, sizeof scheme - 1))
        return NULL;
    value += sizeof scheme - 1;
    return value + strspn(value, " ");
}

static int refuse_missing(struct request *q, struct error *e)
{
    keyring_count(q->server->keys, REFUSED_MISSING);
    reply_header(q, "WWW-Authenticate", "Bearer realm=\"backpropd\"");
    return error_set(e, ERROR_UNAUTHORIZED,
                     "this server wants a key, in a header Authorization: Bearer bpd_...");
}

static int refuse_invalid(struct request *q, uint64_t source, struct error *e)
{
    struct keyring *r = q->server->keys;
    throttle_failed(keyring_throttle(r), source, now_ms());
    keyring_count(r, REFUSED_INVALID);
    reply_header(q, "WWW-Authenticate", "Bearer realm=\"backpropd\", error=\"invalid_token\"");
    return error_set(e, ERROR_UNAUTHORIZED, "the key is not one that is in force");
}

static int refuse_early(struct request *q, int64_t wait_ms, struct error *e)
{
    keyring_count(q->server->keys, REFUSED_THROTTLED);
    retry_after(q, wait_ms);
    return error_set(e, ERROR_RATE, "too many keys that are not in force came from this address");
}

/* The key that the request carries, in q->caller. */
static int identify(struct request *q, struct error *e)
{
    struct keyring *r = q->server->keys;
    const char *text = bearer(q);
    char id[KEY_ID_SIZE];
    if (!text || !*text)
        return refuse_missing(q, e);
    struct caller *c = key_text_id(text, id) ? keyring_find(r, id) : NULL;
    uint64_t source = throttle_source(q->client, c ? id : "");
    int64_t wait = throttle_wait(keyring_throttle(r), source, now_ms());
    int matches = !wait && c ? key_matches(&c->key, text, e) : 0;
    if (matches > 0) {
        throttle_passed(keyring_throttle(r), source);
        q->caller = c;
        return 0;
    }
    caller_release(&c);
    if (matches < 0)
        return -1;
    return wait ? refuse_early(q, wait, e) : refuse_invalid(q, source, e);
}

static void note_forbidden(struct request *q)
{
    keyring_count(q->server->keys, REFUSED_FORBIDDEN);
    reply_header(q, "WWW-Authenticate", "Bearer realm=\"backpropd\", error=\"insufficient_scope\"");
}

int access_check_model(const struct request *q, const char *model, struct error *e)
{
    if (caller_sees(q->caller, model))
        return 0;
    return error_set(e, ERROR_FORBIDDEN, "the key '%s' is not for a model named '%.140s'",
                     q->caller->key.name, model);
}

int access_check_role(struct request *q, enum role role, const char *what, struct error *e)
{
    const struct key *k = q->caller ? &q->caller->key : NULL;
    if (!k || k->role >= role)
        return 0;
    note_forbidden(q);
    return error_set(e, ERROR_FORBIDDEN, "%s needs the role %s, the key '%s' has %s", what,
                     key_role_name(role), k->name, key_role_name(k->role));
}

static int check_route(struct request *q, const char *model, struct error *e)
{
    char what[160];
    snprintf(what, sizeof what, "%s %s", q->route->method, q->route->pattern);
    if (access_check_role(q, q->route->role, what, e))
        return -1;
    if (!model || !access_check_model(q, model, e))
        return 0;
    note_forbidden(q);
    return -1;
}

int access_authorize(struct request *q, struct error *e)
{
    struct keyring *r = q->server->keys;
    const char *model = request_param(q, "model");
    if (q->route->role == ROLE_NONE || !keyring_required(r))
        return 0;
    if (identify(q, e))
        return -1;
    if (check_route(q, model, e))
        return -1;
    int64_t wait = keyring_take(r, q->caller, now_ms());
    if (!wait)
        return 0;
    keyring_count(r, REFUSED_RATE);
    retry_after(q, wait);
    return error_set(e, ERROR_RATE, "the key '%s' may make %lld requests a second",
                     q->caller->key.name, (long long)q->caller->key.requests_per_second);
}
