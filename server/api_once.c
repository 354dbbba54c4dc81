/* api_once.c: keys of requests that may be sent again; see api_once.h. The key of the header is
 * kept as "key ...", a seq as "seq N", so that the two cannot meet. */
#include "api_once.h"

#include "answers.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <math.h>
#include <string.h>

enum { MAX_KEY = 255 };

/* A structured-field string (RFC 8941, 3.3.3): "..." with \" and \\ inside. Puts its text at `to`.
 */
static bool read_quoted(const char *value, char *to)
{
    size_t n = strlen(value);
    if (n < 3 || n > MAX_KEY || value[0] != '"' || value[n - 1] != '"')
        return false;
    for (size_t i = 1; i < n - 1; i++) {
        if (value[i] == '\\' && ++i == n - 1)
            return false;
        if (value[i] < 0x20 || value[i] > 0x7e || (value[i] == '"' && value[i - 1] != '\\'))
            return false;
        *to++ = value[i];
    }
    *to = 0;
    return true;
}

static const char *out_of_memory(struct error *e)
{
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the key of the request");
    return NULL;
}

/* In the arena; NULL: an error. */
static const char *header_key(struct request *q, struct error *e)
{
    static const char kind[] = "key ";
    const char *value = request_header(q, "Idempotency-Key");
    char *key = arena_alloc(q->arena, sizeof kind + strlen(value));
    if (!key)
        return out_of_memory(e);
    if (read_quoted(value, stpcpy(key, kind)))
        return key;
    error_set(e, ERROR_BAD_HEADER,
              "Idempotency-Key must be a string in quotes of 1 to %d printable characters, "
              "as in Idempotency-Key: \"a1b2\"",
              MAX_KEY - 2);
    return NULL;
}

static int begin(struct request *q, struct answers *a, const char *key, struct error *e)
{
    if (answers_begin(a, key, e))
        return -1;
    q->once_key = key;
    return 0;
}

int api_once_begin(struct request *q, struct error *e)
{
    if (!request_header(q, "Idempotency-Key") || !(q->route->flags & ROUTE_ONCE))
        return 0;
    const char *key = header_key(q, e);
    return key ? begin(q, request_model(q)->answers, key, e) : -1;
}

void api_once_end(struct request *q)
{
    if (q->once_key)
        answers_end(request_model(q)->answers, q->once_key);
    q->once_key = NULL;
}

static int read_seq(struct request *q, struct step_options *o, struct error *e)
{
    const json_t *seq = api_parameter(q, "seq");
    if (!seq)
        return 0;
    if (!json_is_integer(seq) || json_integer_value(seq) < 1)
        return error_set(e, ERROR_BAD_VALUE, "parameters.seq must be a whole number above 0");
    if (o->key)
        return error_set(e, ERROR_BAD_VALUE, "give parameters.seq or Idempotency-Key, not both");
    o->key = arena_printf(q->arena, "seq %lld", (long long)json_integer_value(seq));
    if (!o->key)
        out_of_memory(e);
    return o->key ? 0 : -1;
}

/* Above the last one by one; the first may be any. */
static int check_seq(struct request *q, struct error *e)
{
    const json_t *seq = api_parameter(q, "seq");
    uint64_t last = answers_last_seq(request_model(q)->answers);
    if (!seq || !last || (uint64_t)json_integer_value(seq) == last + 1)
        return 0;
    return error_set(e, ERROR_CONFLICT,
                     "parameters.seq is %lld; the next one is %llu, and the answer to this one is "
                     "not kept any more",
                     (long long)json_integer_value(seq), (unsigned long long)last + 1);
}

static int check_expected(struct request *q, struct error *e)
{
    const json_t *expected = api_parameter(q, "expect_step");
    if (!expected)
        return 0;
    uint64_t step = request_model(q)->at.step;
    if (json_is_integer(expected) && json_integer_value(expected) == (json_int_t)step)
        return 0;
    if (!json_is_integer(expected))
        return error_set(e, ERROR_BAD_TYPE, "parameters.expect_step must be a whole number");
    return error_set(e, ERROR_PRECONDITION, "the model is at step %llu, expected was %lld",
                     (unsigned long long)step, (long long)json_integer_value(expected));
}

/* Of what is asked for and all its bytes. */
static uint64_t request_hash(const struct request *q)
{
    uint64_t path = XXH3_64bits(q->path, strlen(q->path));
    if (q->query[0])
        path = XXH3_64bits_withSeed(q->query, strlen(q->query), path);
    return q->body_size ? XXH3_64bits_withSeed(q->body, q->body_size, path) : path;
}

static int refuse_reuse(const struct request *q, struct error *e)
{
    return error_set(e, ERROR_KEY_REUSED, "this %s was used for another request",
                     q->once_key ? "Idempotency-Key" : "seq");
}

int api_once_check(struct request *q, struct step_options *o, struct step_result *r,
                   struct error *e)
{
    uint64_t request;
    o->key = q->once_key;
    if (read_seq(q, o, e))
        return -1;
    if (o->key)
        o->request = request_hash(q);
    if (o->key && answers_find(request_model(q)->answers, o->key, &request, r)) {
        if (request == o->request)
            return 1;
        return refuse_reuse(q, e);
    }
    return check_seq(q, e) || check_expected(q, e) ? -1 : 0;
}

/* Keys are of a path's model, whether it is there or not. */
static const char *deed_key(struct request *q, struct error *e)
{
    const char *key = header_key(q, e);
    if (!key)
        return NULL;
    key = arena_printf(q->arena, "%s %s", request_param(q, "model"), key);
    return key ? key : out_of_memory(e);
}

int api_once_deed(struct request *q, int status, struct store_deed *d_r,
                  const struct store_deed **use_r, struct error *e)
{
    struct models *ms = request_models(q);
    struct store_deed first;
    *use_r = NULL;
    if (!request_header(q, "Idempotency-Key"))
        return 0;
    const char *key = deed_key(q, e);
    if (!key || begin(q, ms->running, key, e))
        return -1;
    uint64_t request = XXH3_64bits_withSeed(q->method, strlen(q->method), request_hash(q));
    *d_r = (struct store_deed){.key = key, .request = request, .status = status};
    *use_r = d_r;
    int known = store_deed_find(ms->store, key, &first, e);
    if (known <= 0)
        return known;
    if (first.request != d_r->request)
        return refuse_reuse(q, e);
    *d_r = first;
    return 1;
}

void api_once_deed_end(struct request *q)
{
    if (q->once_key)
        answers_end(request_models(q)->running, q->once_key);
    q->once_key = NULL;
}

int api_once_change(struct request *q, struct store_answer *a, struct store_answer **use_r,
                    struct step_result *r, struct error *e)
{
    struct step_options o = {.key = NULL};
    struct model *m = request_model(q);
    int known = api_once_check(q, &o, r, e);
    pthread_mutex_lock(&m->lock); /* aliases move outside of the model's queue */
    uint64_t revision = m->at.revision;
    pthread_mutex_unlock(&m->lock);
    *a = (struct store_answer){.key = o.key,
                               .request = o.request,
                               .revision = revision,
                               .loss = NAN,
                               .grad_norm = NAN,
                               .lr = NAN,
                               .accuracy = NAN,
                               .parts = STORE_CHANGE};
    *use_r = o.key ? a : NULL;
    return known;
}

void api_once_changed(struct request *q, const struct store_answer *use)
{
    reply_changed(q);
    if (use)
        answers_add_change(request_model(q)->answers, use);
}
