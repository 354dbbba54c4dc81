/* dispatch.c: routes are found by walking the table: a few dozen rows, compared by segments. */
#define _GNU_SOURCE
#include "dispatch.h"

#include "describe_fields.h"
#include "encoding.h"
#include "form.h"
#include "origin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MODEL_NAME_MAX = 128 };

static const unsigned ANY_BODY = ROUTE_BODY | ROUTE_BODY_OPTIONAL | ROUTE_RAW;

/* ---- paths ----------------------------------------------------------------------------------- */

/* Walks both by segments; notes the values of {names}, not decoded yet. A slash at the end of the
 * path does not count, and a segment that is empty matches no {name}. */
struct segment {
    const char *name, *text;
    size_t name_size, size;
};
static bool path_match(const char *pattern, const char *path, struct segment *params, int *n_r)
{
    int n = 0;
    while (*pattern == '/' && *path == '/') {
        if (*++pattern != '{') { /* most rows differ in the first few characters */
            for (path++; *pattern && *pattern != '/' && *pattern == *path; path++)
                pattern++;
            if ((*pattern && *pattern != '/') || (*path && *path != '/'))
                return false;
            continue;
        }
        size_t want = strcspn(pattern, "/"), size = strcspn(++path, "/");
        if (!size || n == REQUEST_MAX_PARAMS)
            return false;
        params[n++] = (struct segment){pattern + 1, path, want - 2, size};
        pattern += want;
        path += size;
    }
    *n_r = n;
    return !*pattern && (!*path || !strcmp(path, "/"));
}

static bool method_match(const struct route *r, const char *method)
{
    return !strcmp(r->method, method) || (!strcmp(method, "HEAD") && !strcmp(r->method, "GET"));
}

/* The methods of all routes of the path, for Allow; none is part of another's name. */
static int method_not_allowed(struct request *q)
{
    struct segment params[REQUEST_MAX_PARAMS];
    char allow[160] = "";
    int n;
    for (const struct route *r = q->server->routes; r->method; r++) {
        size_t used = strlen(allow);
        if (path_match(r->pattern, q->path, params, &n) && !strstr(allow, r->method))
            snprintf(allow + used, sizeof allow - used, "%s%s%s", used ? ", " : "", r->method,
                     strcmp(r->method, "GET") ? "" : ", HEAD");
    }
    reply_header(q, "Allow", allow);
    return reply_errorf(q, ERROR_METHOD, "%.40s is not allowed for %.200s, allowed: %s", q->method,
                        q->path, allow);
}

/* The pattern with the path's own segments for its {names}: /v2/models/m/train_step. */
static const char *pattern_fill(struct request *q, const char *pattern)
{
    size_t size = strlen(pattern) + strlen(q->path) + 1;
    char *out = arena_alloc(q->arena, size), *to = out;
    const char *path = q->path;
    while (out && *pattern == '/') {
        size_t want = strcspn(++pattern, "/"), have = strcspn(path += *path == '/', "/");
        bool own = *pattern == '{' && have;
        *to++ = '/';
        to = mempcpy(to, own ? path : pattern, own ? have : want);
        pattern += want;
        path += have;
    }
    return out ? out : pattern;
}

/* How far two segments are from each other; -1: too far. */
static int segment_distance(const char *given, size_t have, const char *known, size_t want)
{
    char a[64], b[64];
    if (have == want && memcmp(given, known, want) == 0)
        return 0;
    if (!have || !want || have >= sizeof a || want >= sizeof b)
        return -1;
    *(char *)mempcpy(a, given, have) = 0;
    *(char *)mempcpy(b, known, want) = 0;
    struct nearest near = {.given = a};
    nearest_offer(&near, b);
    return near.best ? 1 + near.distance : -1;
}

/* The same of a whole path. Each segment must be near on its own: the long beginning that paths
 * have in common does not make "predict" a way to write "profile". */
static int path_distance(const char *path, const char *pattern)
{
    int sum = 0;
    while (*pattern == '/') {
        const size_t want = strcspn(++pattern, "/"), have = strcspn(path += *path == '/', "/");
        const int distance =
            *pattern == '{' && have ? 0 : segment_distance(path, have, pattern, want);
        if (distance < 0)
            return -1;
        sum += distance;
        pattern += want;
        path += have;
    }
    return path[strspn(path, "/")] ? -1 : sum;
}

/* The pattern that is nearest to the path, which may lack the /v2 that most begin with; NULL. */
static const char *nearest_pattern(const struct request *q, const char **rest_r)
{
    const char *best = NULL;
    int least = 0;
    for (const struct route *r = q->server->routes; r->method; r++)
        for (int cut = 0; cut <= 3; cut += 3) {
            if (cut && strncmp(r->pattern, "/v2/", 4) != 0)
                continue;
            const int distance = path_distance(q->path, r->pattern + cut);
            if (distance < 0 || (best && distance + cut >= least))
                continue;
            least = distance + cut;
            best = r->pattern;
            *rest_r = r->pattern + cut;
        }
    return best;
}

static int unknown_path(struct request *q)
{
    const char *rest, *pattern = nearest_pattern(q, &rest);
    if (!pattern)
        return reply_errorf(q, ERROR_UNKNOWN_PATH, "no such path: %.200s", q->path);
    return reply_errorf(q, ERROR_UNKNOWN_PATH, "no such path: %.200s; did you mean %.*s%s?",
                        q->path, (int)(rest - pattern), pattern, pattern_fill(q, rest));
}

static int decode_params(struct request *q, const struct segment *params, int n)
{
    for (int i = 0; i < n; i++) {
        char *value = request_decode(q, params[i].text, params[i].size, false);
        if (!value)
            return q->status;
        char *name = arena_alloc(q->arena, params[i].name_size + 1);
        if (!name)
            return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the request");
        memcpy(name, params[i].name, params[i].name_size);
        q->params[q->n_params++] = (struct name_value){name, value};
    }
    return 0;
}

/* A later row with fixed segments must not be hidden by a {name} before it: rows are tried in their
 * order, so such rows stand first in the table. */
static int find_route(struct request *q)
{
    struct segment params[REQUEST_MAX_PARAMS];
    bool known = false;
    int n;
    for (const struct route *r = q->server->routes; r->method; r++) {
        if (!path_match(r->pattern, q->path, params, &n))
            continue;
        known = true;
        if (!method_match(r, q->method))
            continue;
        q->route = r;
        return decode_params(q, params, n);
    }
    return known ? method_not_allowed(q) : unknown_path(q);
}

/* ---- before the body ------------------------------------------------------------------------- */

bool dispatch_name_valid(const char *name)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t n = strlen(name);
    return n >= 1 && n <= MODEL_NAME_MAX && strspn(name, letters) == n && strcmp(name, ".") &&
           strcmp(name, "..");
}

/* Where {model} stands in the pattern; NULL: it has none. */
static const char *model_place(const char *pattern)
{
    return strstr(pattern, "{model}");
}

/* The route with `name` where `r` has its {model}; NULL: there is none. */
static const struct route *route_at(const struct route *routes, const struct route *r,
                                    const char *name)
{
    const char *place = model_place(r->pattern);
    const size_t before = place ? (size_t)(place - r->pattern) : 0, n = strlen(name);
    for (; place && routes->method; routes++) {
        const char *p = routes->pattern;
        if (!strncmp(p, r->pattern, before) && !strncmp(p + before, name, n) &&
            (!p[before + n] || p[before + n] == '/'))
            return routes;
    }
    return NULL;
}

int dispatch_check_new_name(const struct route *routes, const char *name, struct error *e)
{
    if (!dispatch_name_valid(name))
        return error_set(e, ERROR_BAD_NAME,
                         "model name '%.140s', expected 1 to %d of the characters A-Z a-z 0-9 _ . "
                         "and -",
                         name, MODEL_NAME_MAX);
    for (const struct route *r = routes; r->method; r++) {
        const struct route *other = route_at(routes, r, name);
        if (other)
            return error_set(e, ERROR_BAD_NAME,
                             "a model cannot be called '%s': %s %s is a path of the server's own",
                             name, other->method, other->pattern);
    }
    return 0;
}

static int check_model(struct request *q)
{
    struct error e;
    const char *name = request_param(q, "model");
    if (!(q->route->flags & ROUTE_MODEL))
        return 0;
    if (!name || !dispatch_name_valid(name))
        return reply_errorf(q, ERROR_BAD_NAME,
                            "model name '%.140s', expected 1 to %d of the characters A-Z a-z 0-9 _ "
                            ". and -",
                            name ? name : "", MODEL_NAME_MAX);
    if (q->route->flags & ROUTE_CREATES || !q->server->find_model)
        return 0;
    return q->server->find_model(q, &e) ? reply_error(q, &e) : 0;
}

bool dispatch_media_accepted(const char *type, unsigned flags)
{
    static const struct {
        const char *type;
        unsigned flags; /* all that the route must have */
    } rows[] = {
        {"application/json", 0},
        {"application/x-www-form-urlencoded", 0}, /* what curl -d says unless told otherwise */
        {"application/octet-stream", ROUTE_BINARY},
        {"multipart/form-data", ROUTE_FORM},
        {"image/jpeg", ROUTE_IMAGE},
        {"image/jpg", ROUTE_IMAGE},
        {"image/png", ROUTE_IMAGE},
    };
    if (!type || flags & ROUTE_RAW)
        return true;
    size_t n = strcspn(type, "; \t");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if ((flags & rows[i].flags) == rows[i].flags && strlen(rows[i].type) == n &&
            !strncasecmp(rows[i].type, type, n))
            return true;
    return n == 0;
}

static int check_body_headers(struct request *q)
{
    unsigned flags = q->route->flags;
    const char *type = request_header(q, "Content-Type"),
               *encoding = request_header(q, "Content-Encoding");
    int64_t limit = q->server->config->max_body;
    if (q->content_length > limit)
        return reply_errorf(q, ERROR_BODY_TOO_LARGE,
                            "the body has %lld bytes, the limit is %lld (--max-body)",
                            (long long)q->content_length, (long long)limit);
    if (!(flags & ANY_BODY))
        return 0;
    if (!(flags & ROUTE_BODY_OPTIONAL) && q->content_length < 0 && !q->chunked) {
        reply_header(q, "Connection", "close"); /* what follows may have been meant as the body */
        return reply_errorf(q, ERROR_LENGTH_REQUIRED,
                            "%s needs a body with Content-Length or Transfer-Encoding: chunked",
                            q->route->pattern);
    }
    if (!dispatch_media_accepted(type, flags))
        return reply_errorf(q, ERROR_MEDIA_TYPE,
                            "Content-Type is '%.80s', expected application/json%s%s%s", type,
                            flags & ROUTE_BINARY ? " or application/octet-stream" : "",
                            flags & ROUTE_FORM ? " or multipart/form-data" : "",
                            flags & ROUTE_IMAGE ? " or image/jpeg or image/png" : "");
    if (encoding_known(encoding))
        return 0;
    reply_header(q, "Accept-Encoding", "gzip, deflate");
    return reply_errorf(q, ERROR_MEDIA_TYPE,
                        "Content-Encoding is '%.80s', expected gzip, deflate or identity",
                        encoding);
}

/* While models are loaded only the routes for everybody answer: those of health. */
static int check_ready(struct request *q)
{
    if (q->route->role == ROLE_NONE || !__atomic_load_n(&q->server->loading, __ATOMIC_ACQUIRE))
        return 0;
    reply_header(q, "Retry-After", "1");
    return reply_errorf(q, ERROR_NOT_READY, "the models are still being loaded");
}

static int check_query(struct request *q)
{
    return q->route->role != ROLE_NONE && query_known(q) ? q->status : 0;
}

/* What cannot be kept must not be promised; routes that change nothing need no promise. */
static int check_once(struct request *q)
{
    if (!(q->route->flags & ROUTE_REPEATS) || !request_header(q, "Idempotency-Key"))
        return 0;
    return reply_errorf(q, ERROR_BAD_HEADER,
                        "Idempotency-Key is not taken by %s %s: sent again, it would be done again",
                        q->route->method, q->route->pattern);
}

int dispatch_begin(struct request *q)
{
    struct error e;
    int status = origin_check(q);
    if (status || (status = find_route(q)))
        return status;
    if ((status = check_ready(q)))
        return status;
    if (q->server->authorize && q->server->authorize(q, &e))
        return reply_error(q, &e);
    if ((status = check_query(q)) || (status = check_once(q)) || (status = check_body_headers(q)))
        return status;
    return check_model(q);
}

/* ---- with the body --------------------------------------------------------------------------- */

/* Inference-Header-Content-Length: where the JSON ends. */
static int split_body(struct request *q)
{
    const char *text = request_header(q, "Inference-Header-Content-Length");
    q->json_size = q->body_size;
    if (!text || !(q->route->flags & ROUTE_BINARY))
        return 0;
    size_t digits = strspn(text, "0123456789");
    unsigned long long size = digits && digits < 19 ? strtoull(text, NULL, 10) : 0;
    if (!digits || text[digits] || digits >= 19)
        return reply_errorf(q, ERROR_BAD_HEADER,
                            "Inference-Header-Content-Length is '%.40s', expected a whole number",
                            text);
    if (size > q->body_size)
        return reply_errorf(q, ERROR_BAD_BINARY,
                            "Inference-Header-Content-Length is %llu, the body has %zu bytes", size,
                            q->body_size);
    q->json_size = (size_t)size;
    q->raw_tensor = size == 0;
    return 0;
}

static int read_body(struct request *q)
{
    struct error e;
    unsigned flags = q->route->flags;
    if (flags & ANY_BODY && encoding_unpack(q, &e))
        return reply_error(q, &e);
    if (!(flags & (ROUTE_BODY | ROUTE_BODY_OPTIONAL)) || flags & (ROUTE_RAW | ROUTE_UNREAD))
        return 0;
    if (!q->body_size)
        return flags & ROUTE_BODY_OPTIONAL
                   ? 0
                   : reply_errorf(q, ERROR_BAD_JSON, "the body is empty, expected a JSON object");
    int images = form_read(q, &e);
    if (images)
        return images < 0 ? reply_error(q, &e) : 0;
    int status = split_body(q);
    if (status || q->raw_tensor)
        return status;
    if (json_in_read(&q->json, q->arena, q->body, q->json_size, flags & ROUTE_BINARY, &e))
        return reply_error(q, &e);
    if (describe_check_type(q->json.root, "the body", IS_OBJECT, "a JSON object", &e))
        return reply_error(q, &e);
    return 0;
}

/* A body that is not JSON is told so, whatever its reader stumbled over first: that may have been a
 * shape, before it came to the numbers. */
static void check_refused(struct request *q)
{
    struct error e;
    if (q->status >= 400 && q->status < 500 && q->error && q->error != ERROR_BAD_JSON &&
        json_in_check(&q->json, &e))
        reply_error(q, &e);
}

static void finish(struct request *q)
{
    check_refused(q);
    reply_finish(q);
    encoding_forget(q);
    encoding_pack(q);
}

int dispatch_run(struct request *q)
{
    json_in_forget();
    struct request *ready = NULL, **last = &ready;
    for (struct request *r = q, *next; r; r = next) {
        next = r->together;
        r->together = NULL;
        if (read_body(r)) {
            finish(r);
            continue;
        }
        *last = r;
        last = &r->together;
    }
    if (ready)
        ready->status = ready->route->handle(ready);
    for (struct request *r = ready; r; r = r->together)
        finish(r);
    return q->status;
}

int dispatch(struct request *q)
{
    int status = dispatch_begin(q);
    return status ? status : dispatch_run(q);
}
