/* request.c: the life of a request, and what it was sent: parameters, query, headers. */
#include "request.h"

#include "keyring.h"
#include "number.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { GONE_NS = 2000000 }; /* between looks at the connection */
enum { ARENA_BLOCK = 984 }; /* with its head it is of a size that malloc has at hand (tcache) */

struct request *request_create(struct server *s, const char *method, const char *path,
                               const char *query)
{
    struct arena *a = arena_create(ARENA_BLOCK);
    struct request *q = a ? arena_alloc(a, sizeof *q) : NULL;
    if (q) {
        q->server = s;
        q->arena = a;
        q->method = arena_strdup(a, method);
        q->path = arena_strdup(a, path);
        q->query = arena_strdup(a, query ? query : "");
        q->content_length = -1;
    }
    if (q && q->method && q->path && q->query)
        return q;
    if (a)
        arena_destroy(&a);
    return NULL;
}

void request_destroy(struct request **request)
{
    struct request *q = *request;
    if (!q)
        return;
    *request = NULL;
    if (q->model && q->server->release_model)
        q->server->release_model(q);
    caller_release(&q->caller);
    json_in_free(&q->json);
    free(q->body_block);
    response_drop(&q->response);
    struct arena *a = q->arena; /* the request lies in it */
    arena_destroy(&a);
}

bool request_gone(void *request)
{
    struct request *q = request;
    struct timespec t;
    if (!q->gone)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    if (now - q->gone_asked < GONE_NS)
        return false;
    q->gone_asked = now;
    return q->gone(q);
}

int request_add_header(struct request *q, const char *name, const char *value)
{
    struct header *h = arena_alloc(q->arena, sizeof *h), **last = &q->headers;
    if (!h)
        return -1;
    while (*last)
        last = &(*last)->next;
    *h = (struct header){name, value ? value : "", NULL};
    *last = h;
    return 0;
}

const char *request_header(const struct request *q, const char *name)
{
    for (const struct header *h = q->headers; h; h = h->next)
        if (!strcasecmp(h->name, name))
            return h->value;
    return NULL;
}

const char *request_param(const struct request *q, const char *name)
{
    for (int i = 0; i < q->n_params; i++)
        if (!strcmp(q->params[i].name, name))
            return q->params[i].value;
    return NULL;
}

/* ---- %-encoding and the query ---------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void refuse_encoding(struct request *q, const char *text, size_t size, bool query)
{
    static const char broken[] =
        "has a '%' that is not followed by two hexadecimal digits, or that makes a NUL";
    if (query)
        reply_errorf(q, ERROR_BAD_QUERY, "the query %s", broken);
    else
        reply_errorf(q, ERROR_BAD_NAME, "the path segment '%.*s' %s", (int)(size < 80 ? size : 80),
                     text, broken);
}

char *request_decode(struct request *q, const char *text, size_t size, bool query)
{
    char *out = arena_alloc(q->arena, size + 1), *to = out;
    if (!out)
        reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the request");
    for (size_t i = 0; out && i < size; i++) {
        if (text[i] != '%') {
            *to++ = query && text[i] == '+' ? ' ' : text[i];
            continue;
        }
        int high = size - i > 2 ? hex_value(text[i + 1]) : -1;
        int low = high >= 0 ? hex_value(text[i + 2]) : -1;
        if (low < 0 || !(high | low)) {
            refuse_encoding(q, text, size, query);
            return NULL;
        }
        *to++ = (char)(high * 16 + low);
        i += 2;
    }
    return out;
}

/* One name=value of a query, as sent. */
struct pair {
    const char *name, *value;
    size_t name_size, value_size;
};

/* The pair at *at, which moves on; false at the end. */
static bool next_pair(const char **at, struct pair *p)
{
    while (**at == '&')
        ++*at;
    if (!**at)
        return false;
    size_t size = strcspn(*at, "&");
    const char *equals = memchr(*at, '=', size);
    p->name = *at;
    p->name_size = equals ? (size_t)(equals - *at) : size;
    p->value = equals ? equals + 1 : *at + size;
    p->value_size = size - p->name_size - (equals ? 1 : 0);
    *at += size;
    return true;
}

const char *request_query(struct request *q, const char *name)
{
    struct pair p;
    for (const char *at = q->query; next_pair(&at, &p);) {
        const char *key = request_decode(q, p.name, p.name_size, true);
        if (!key)
            return NULL;
        if (!strcmp(key, name))
            return request_decode(q, p.value, p.value_size, true);
    }
    return NULL;
}

/* ---- read or reply --------------------------------------------------------------------------- */

/* 1: given, 0: not there, -1: replied. */
static int query_value(struct request *q, const char *name, const char **value_r)
{
    *value_r = request_query(q, name);
    return *value_r ? 1 : q->status ? -1 : 0;
}

static bool whole_number(const char *text, int64_t *value_r)
{
    struct number n;
    const char *where, *end = text + strlen(text);
    return number_scan(text, end, &n, &where) == end && number_int64(&n, value_r) == NUMBER_WHOLE;
}

int query_int(struct request *q, const char *name, int64_t fallback, int64_t min, int64_t max,
              int64_t *value_r)
{
    const char *text;
    int given = query_value(q, name, &text);
    *value_r = fallback;
    if (given < 1)
        return given;
    if (whole_number(text, value_r) && *value_r >= min && *value_r <= max)
        return 0;
    reply_errorf(q, ERROR_BAD_QUERY,
                 "query parameter '%s' is '%.40s', expected a whole number from %lld to %lld", name,
                 text, (long long)min, (long long)max);
    return -1;
}

int query_bool(struct request *q, const char *name, bool fallback, bool *value_r)
{
    int choice;
    if (query_choice(q, name, "false|true|0|1", fallback, &choice))
        return -1;
    *value_r = choice & 1;
    return 0;
}

/* The place of `text` in "a|b|c", -1 when it is not there. */
static int choice_find(const char *choices, const char *text)
{
    size_t size = strlen(text);
    for (int i = 0;; i++) {
        size_t n = strcspn(choices, "|");
        if (n == size && !memcmp(choices, text, n))
            return i;
        if (!choices[n])
            return -1;
        choices += n + 1;
    }
}

int query_choice(struct request *q, const char *name, const char *choices, int fallback,
                 int *choice_r)
{
    const char *text;
    int given = query_value(q, name, &text);
    *choice_r = fallback;
    if (given < 1)
        return given;
    int found = choice_find(choices, text);
    if (found < 0) {
        reply_errorf(q, ERROR_BAD_QUERY, "query parameter '%s' is '%.40s', expected one of %s",
                     name, text, choices);
        return -1;
    }
    *choice_r = found;
    return 0;
}

static bool is_known(const struct query_param *p, const char *name)
{
    while (p && p->name && strcmp(p->name, name))
        p++;
    return p && p->name;
}

static const char *known_names(struct request *q)
{
    const char *names = NULL;
    for (const struct query_param *p = q->route->query; p && p->name; p++)
        names = arena_printf(q->arena, "%s%s%s", names ? names : "", names ? ", " : "", p->name);
    return names ? names : "none";
}

int query_known(struct request *q)
{
    struct pair p;
    for (const char *at = q->query; next_pair(&at, &p);) {
        const char *key = request_decode(q, p.name, p.name_size, true);
        if (!key)
            return -1;
        if (is_known(q->route->query, key))
            continue;
        reply_errorf(q, ERROR_BAD_QUERY, "unknown query parameter '%.40s', known here: %s", key,
                     known_names(q));
        return -1;
    }
    return 0;
}

int param_int(struct request *q, const char *name, int64_t min, int64_t *value_r)
{
    const char *text = request_param(q, name);
    if (text && strspn(text, "0123456789") == strlen(text) && whole_number(text, value_r) &&
        *value_r >= min)
        return 0;
    reply_errorf(q, ERROR_BAD_NAME, "%s '%.40s' in the path, expected a whole number from %lld",
                 name, text ? text : "", (long long)min);
    return -1;
}
