/* test_dispatch.c: what is answered before a handler is called, with a table of routes of its own.
 */
#include "../../server/dispatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int say_ok(struct request *q)
{
    return reply_json_text(q, 200, "{\"ok\":true}");
}

/* The path parameters and what was read of the body. */
static int say_request(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    for (int i = 0; i < q->n_params; i++)
        out_put_string(&w, q->params[i].name, q->params[i].value);
    out_put_bool(&w, "json", q->json.root);
    out_put_int(&w, "spans", (int64_t)q->json.n_spans);
    out_put_int(&w, "binary", (int64_t)(q->body_size - q->json_size));
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int say_query(struct request *q)
{
    int64_t n;
    bool flag;
    int mode;
    if (query_int(q, "n", 7, 0, 100, &n) || query_bool(q, "flag", false, &flag) ||
        query_choice(q, "mode", "eval|train", 0, &mode))
        return q->status;
    const char *text = request_query(q, "text");
    if (q->status)
        return q->status;
    return reply_json_text(
        q, 200,
        arena_printf(q->arena, "%lld %d %d %s", (long long)n, flag, mode, text ? text : "-"));
}

static const struct query_param of_query[] = {
    {"n", "integer", NULL, ""},
    {"flag", "boolean", NULL, ""},
    {"mode", "string", "eval|train", ""},
    {"text", "string", NULL, ""},
    {0},
};

#define ROW(method, pattern, handle, flags)                                                        \
    {                                                                                              \
        method, pattern, handle, flags, ROLE_READ, NULL, NULL, "", NULL                            \
    }
static const struct route rows[] = {
    ROW("GET", "/v2", say_ok, 0),
    {"GET", "/v2/health/live", say_ok, 0, ROLE_NONE, NULL, NULL, "", NULL},
    {"GET", "/v2/models", say_query, 0, ROLE_READ, NULL, NULL, "", of_query},
    ROW("GET", "/v2/models/stats", say_ok, 0),
    ROW("GET", "/v2/models/{model}", say_request, ROUTE_MODEL),
    ROW("PUT", "/v2/models/{model}", say_request, ROUTE_MODEL | ROUTE_BODY | ROUTE_CREATES),
    ROW("POST", "/v2/models/{model}/infer", say_request, ROUTE_MODEL | ROUTE_BODY | ROUTE_BINARY),
    ROW("POST", "/v2/models/{model}/versions/{version}/infer", say_request,
        ROUTE_MODEL | ROUTE_BODY | ROUTE_BINARY),
    ROW("POST", "/v2/models/{model}/zero_grad", say_request, ROUTE_MODEL | ROUTE_BODY_OPTIONAL),
    ROW("PUT", "/v2/models/{model}/weights", say_request, ROUTE_MODEL | ROUTE_RAW),
    {0},
};

static int find_model(struct request *q, struct error *e)
{
    const char *name = request_param(q, "model");
    if (!strcmp(name, "m")) {
        q->model = q;
        return 0;
    }
    return error_set(e, ERROR_UNKNOWN_MODEL, "no model '%s'", name);
}

static void release_model(struct request *q)
{
    q->model = NULL;
}

static int authorize(struct request *q, struct error *e)
{
    const char *key = request_header(q, "authorization");
    return key && !strcmp(key, "bad") ? error_set(e, ERROR_UNAUTHORIZED, "no such key") : 0;
}

struct call {
    const char *method, *path, *query, *body;
    const char *header, *value; /* one more */
    int status;
    const char *answer; /* part of it */
};

static void run_call(const struct call *c)
{
    struct config config = {.max_body = 1000};
    struct server s = {.config = &config,
                       .routes = rows,
                       .find_model = find_model,
                       .release_model = release_model,
                       .authorize = authorize};
    struct request *q = request_create(&s, c->method, c->path, c->query);
    if (c->body) {
        q->body_size = strlen(c->body);
        q->body = q->body_block = strdup(c->body);
        q->content_length = (int64_t)q->body_size;
    }
    if (c->header)
        request_add_header(q, c->header, c->value);
    int status = dispatch(q);
    char *text =
        arena_printf(q->arena, "%.*s", (int)q->response.size, (const char *)q->response.body);
    if (status != c->status || status != q->status || !strstr(text, c->answer))
        fail_msg("%s %s %s: %d %s, expected %d %s", c->method, c->path, c->body ? c->body : "",
                 status, text, c->status, c->answer);
    if (status == 405)
        assert_string_equal(q->response.headers[0].name, "Allow");
    request_destroy(&q);
    assert_null(q);
}

static void test_calls(void **state)
{
    (void)state;
    static char large[1100];
    memset(large, ' ', sizeof large - 1);
    const char *model = "/v2/models/m", *infer = "/v2/models/m/infer";
    const struct call calls[] = {
        {"GET", "/v2", NULL, NULL, NULL, NULL, 200, "ok"},
        {"GET", "/v2/", NULL, NULL, NULL, NULL, 200, "ok"},
        {"HEAD", "/v2", NULL, NULL, NULL, NULL, 200, "ok"},
        {"GET", "/", NULL, NULL, NULL, NULL, 404, "no such path: /"},
        {"GET", "", NULL, NULL, NULL, NULL, 404, "unknown_path"},
        {"GET", "/v2//", NULL, NULL, NULL, NULL, 404, "unknown_path"},
        {"GET", "/v2/modles", NULL, NULL, NULL, NULL, 404, "did you mean /v2/models?"},
        {"POST", "/v2/models/m/infre", NULL, "{}", NULL, NULL, 404,
         "did you mean /v2/models/m/infer?"},
        {"GET", "/v2/models/", NULL, NULL, NULL, NULL, 200, "7 0 0 -"},
        {"GET", "/v2/models/stats", NULL, NULL, NULL, NULL, 200, "ok"},
        {"GET", model, NULL, NULL, NULL, NULL, 200, "\"model\":\"m\""},
        {"GET", "/v2/models/%6d", NULL, NULL, NULL, NULL, 200, "\"model\":\"m\""},
        {"GET", "/v2/models/x", NULL, NULL, NULL, NULL, 404, "unknown_model"},
        {"GET", "/v2/models/a%2fb", NULL, NULL, NULL, NULL, 400, "bad_name"},
        {"GET", "/v2/models/a%00", NULL, NULL, NULL, NULL, 400, "bad_name"},
        {"GET", "/v2/models/a%", NULL, NULL, NULL, NULL, 400, "bad_name"},
        {"GET", "/v2/models/a%4", NULL, NULL, NULL, NULL, 400, "bad_name"},
        {"GET", "/v2/models/..", NULL, NULL, NULL, NULL, 400, "bad_name"},
        {"GET", "/v2/models/\xc3\xa9", NULL, NULL, NULL, NULL, 400, "bad_name"},
        {"PUT", "/v2/models/new", NULL, "{\"data\":[1]}", NULL, NULL, 200, "\"spans\":0"},
        {"DELETE", model, NULL, NULL, NULL, NULL, 405, "allowed: GET, HEAD, PUT"},
        {"POST", "/v2/models/stats", NULL, NULL, NULL, NULL, 405, "allowed: GET, HEAD, PUT\""},
        {"get", "/v2", NULL, NULL, NULL, NULL, 405, "method_not_allowed"},
        {"POST", infer, NULL, "{\"data\":[1],\"inputs\":[[1]]}", NULL, NULL, 200, "\"spans\":2"},
        {"POST", infer, NULL, NULL, NULL, NULL, 411, "length_required"},
        {"POST", infer, NULL, "", NULL, NULL, 400, "bad_json"},
        {"POST", infer, NULL, "[1]", NULL, NULL, 400, "bad_type"},
        {"POST", infer, NULL, "{\"a\":}", NULL, NULL, 400, "line 1, column 6"},
        {"POST", infer, NULL, large, NULL, NULL, 413, "1099 bytes, the limit is 1000"},
        {"POST", infer, NULL, "{}", "content-type", "application/json; charset=utf-8", 200, "json"},
        {"POST", infer, NULL, "{}", "Content-Type", "application/x-www-form-urlencoded", 200,
         "json"},
        {"POST", infer, NULL, "{}", "Content-Type", "application/octet-stream", 200, "json"},
        {"POST", infer, NULL, "{}", "Content-Type", "text/plain", 415, "text/plain"},
        {"POST", infer, NULL, "{}", "Content-Encoding", "br", 415, "'br'"},
        {"POST", infer, NULL, "{}", "Content-Encoding", "gzip", 400, "bad_encoding"},
        {"POST", infer, NULL, "{}", "Content-Encoding", "identity", 200, "json"},
        {"POST", "/v2/models/m/zero_grad", NULL, "{}", "Content-Type", "application/octet-stream",
         415, "unsupported_media_type"},
        {"POST", infer, NULL, "{}1234", "Inference-Header-Content-Length", "2", 200,
         "\"binary\":4"},
        {"POST", infer, NULL, "1234", "Inference-Header-Content-Length", "0", 200,
         "\"json\":false"},
        {"POST", infer, NULL, "{}", "Inference-Header-Content-Length", "3", 400, "bad_binary"},
        {"POST", infer, NULL, "{}", "Inference-Header-Content-Length", "-1", 400, "bad_header"},
        {"POST", infer, NULL, "{}", "Inference-Header-Content-Length", "99999999999999999999", 400,
         "bad_header"},
        {"POST", "/v2/models/m/versions/7/infer", NULL, "{}", NULL, NULL, 200, "\"version\":\"7\""},
        {"POST", "/v2/models/m/zero_grad", NULL, NULL, NULL, NULL, 200, "\"json\":false"},
        {"POST", "/v2/models/m/zero_grad", NULL, "{}", NULL, NULL, 200, "\"json\":true"},
        {"PUT", "/v2/models/m/weights", NULL, "\x01", "Content-Type", "any/thing", 200, "false"},
        {"GET", "/v2", NULL, NULL, "Authorization", "bad", 401, "unauthorized"},
        {"GET", "/v2/models", "n=5&flag=1&mode=train&text=a+%c3%a9", NULL, NULL, NULL, 200,
         "5 1 1 a \xc3\xa9"},
        {"GET", "/v2/models", "&&text", NULL, NULL, NULL, 200, "7 0 0 "},
        {"GET", "/v2/models", "n=101", NULL, NULL, NULL, 400, "from 0 to 100"},
        {"GET", "/v2/models", "n=", NULL, NULL, NULL, 400, "bad_query"},
        {"GET", "/v2/models", "n=1.5", NULL, NULL, NULL, 400, "bad_query"},
        {"GET", "/v2/models", "flag=yes", NULL, NULL, NULL, 400, "false|true"},
        {"GET", "/v2/models", "mode=tr", NULL, NULL, NULL, 400, "eval|train"},
        {"GET", "/v2/models", "other=1", NULL, NULL, NULL, 400,
         "unknown query parameter 'other', known here: n, flag, mode, text"},
        {"GET", "/v2/models", "=1", NULL, NULL, NULL, 400, "unknown query parameter ''"},
        {"GET", "/v2", "n=1", NULL, NULL, NULL, 400, "known here: none"},
        {"GET", "/v2/models/other", "n=1", NULL, NULL, NULL, 400, "unknown query parameter 'n'"},
        {"GET", "/v2/health/live", "n=1", NULL, NULL, NULL, 200, ""},
        {"GET", "/v2/models", "text=%zz", NULL, NULL, NULL, 400, "bad_query"},
        {"GET", "/v2/models", "%=1", NULL, NULL, NULL, 400, "bad_query"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        run_call(&calls[i]);
}

/* Any bytes in the path and the query get some answer. */
static void test_odd_paths(void **state)
{
    (void)state;
    uint64_t x = 1;
    static const char alphabet[] = "/v2models{}%0aAzm.\x80 ?&=+";
    struct config config = {.max_body = 1000};
    struct server s = {.config = &config, .routes = rows};
    for (int i = 0; i < 20000; i++) {
        char path[64] = "/v2/models/", query[32] = "";
        size_t at = i % 3 ? strlen(path) : 0;
        for (int k = 0; k < 40; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            path[at + (size_t)k] = alphabet[(x >> 33) % (sizeof alphabet - 1)];
            query[k % 30] = alphabet[(x >> 43) % (sizeof alphabet - 1)];
        }
        path[at + (x >> 59)] = 0;
        struct request *q = request_create(&s, "GET", path, query);
        int status = dispatch(q);
        assert_true(status == 200 || status == 400 || status == 404 || status == 405);
        request_destroy(&q);
    }
}

static void test_errors_are_json(void **state)
{
    (void)state;
    struct server s = {.routes = rows};
    struct request *q = request_create(&s, "GET", "/", "");
    assert_int_equal(reply_errorf(q, ERROR_QUEUE_FULL, "a \"quoted\"\n\x80 text"), 429);
    assert_string_equal(q->response.headers[0].name, "Retry-After");
    json_t *j = json_loadb(q->response.body, q->response.size, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(j, "code")), "queue_full");
    assert_non_null(json_object_get(j, "error"));
    json_decref(j);
    struct json_out w = {.failed = true};
    assert_int_equal(reply_json(q, 200, &w), 507);
    request_destroy(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_odd_paths),
        cmocka_unit_test(test_errors_are_json),
    };
    return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
