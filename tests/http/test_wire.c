/* test_wire.c: where HTTP itself is at stake: requests that are none, or whose end is in doubt, are
 * answered once and their connection closed, by us where we see them and by libmicrohttpd (in HTML,
 * which 0.9.75 lets nobody change) where it does not pass them on; and the short way of small
 * predictions gives the answers of the long one. */
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GET  "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
#define POST "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\n"

static void check_alive(struct daemon *d)
{
    answer_expect(client_get(d->client, "/v2/health/live"), 200);
}

/* One answer, which says that the connection is closed; the server then does close it, long before
 * client_raw would give up. `code` NULL: libmicrohttpd's answer. */
static void refused(struct daemon *d, const char *bytes, size_t size, int status, const char *code)
{
    struct answer *a = client_raw(d->client, bytes, size, false, 20000);
    int answers = 0;
    if (a->status != status || !strstr(a->body, "Connection: close"))
        fail_msg("%.80s: expected %d and the end: %s", bytes, status, a->body);
    for (const char *at = a->body; (at = strstr(at, "HTTP/1.1 ")); at++)
        answers++;
    /* libmicrohttpd itself sends the headers twice when it cannot read Content-Length. */
    if (answers != 1 && (code || answers != 2))
        fail_msg("%d answers: %s", answers, a->body);
    const char *json = strstr(a->body, "{\"error\":");
    assert_true(!json == !code);
    if (code && !strstr(json, code))
        fail_msg("%.80s: expected %s: %s", bytes, code, json);
    check_alive(d);
}

/* Content that follows must never be read as a request of its own. */
static void framing(struct daemon *d)
{
    static const struct {
        const char *text, *code;
        int status;
    } rows[] = {
        {POST "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" GET "\r\n", "bad_header", 400},
        {POST "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n" GET
              "\r\n",
         "bad_header", 400},
        {POST "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "bad_header", 400},
        {POST "Transfer-Encoding: gzip\r\n\r\n{}", "bad_header", 400},
        {POST "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "bad_header", 400},
        {POST "Content-Length: 999999999999\r\n\r\n{}", "body_too_large", 413},
        {POST "Content-Length: 99999999999999999999999\r\n\r\n{}", NULL, 413},
        {POST "Content-Length: abc\r\n\r\n{}", NULL, 400},
        {POST "Content-Length: -1\r\n\r\n{}", NULL, 400},
        {POST "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", NULL, 400},
        {POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n{}\r\n", NULL, 413},
        {GET "no colon\r\n\r\n", NULL, 400},
        {"GET /v2/health/live HTTP/9.9\r\nHost: localhost\r\n\r\n", NULL, 505},
        {"GET /v2/health/live FTP/1.1\r\nHost: localhost\r\n\r\n", NULL, 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(d, rows[i].text, strlen(rows[i].text), rows[i].status, rows[i].code);
}

/* A request line as proxies are sent (RFC 9112, 3.2.2): taken where it agrees with the header. */
static void absolute_form(struct daemon *d)
{
    static const struct {
        const char *target, *host;
        int status;
    } rows[] = {
        {"http://localhost/v2/health/live", "localhost", 200},
        {"HTTP://LocalHost:80/v2/health/live?a=/b", "localhost:80", 200},
        {"https://localhost/v2/health/live", "localhost", 200},
        {"http://localhost", "localhost", 200},
        {"http://localhost?a=b", "localhost", 200},
        {"http://localhost/v2/nothing", "localhost", 404},
        {"http://localhost:80/v2/health/live", "localhost", 400},
        {"http://user@localhost/v2/health/live", "localhost", 400},
        {"http:///v2/health/live", "localhost", 400},
        {"http://evil.example/v2/health/live", "localhost", 400},
        {"http://localhost/v2/health/live", "evil.example", 400},
        {"http://evil.example/v2/health/live", "evil.example", 421},
        {"ftp://localhost/v2/health/live", "localhost", 404},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {0};
        text_add(&t, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", rows[i].target,
                 rows[i].host);
        struct answer *a = client_raw(d->client, t.data, t.size, false, 20000);
        if (a->status != rows[i].status)
            fail_msg("%s at %s: %d: %.300s", rows[i].target, rows[i].host, a->status, a->body);
        text_free(&t);
    }
}

/* Lines of `size` bytes: what fits the memory of a connection is read, the rest refused. */
static void long_lines(struct daemon *d)
{
    static const struct {
        const char *before, *after;
        size_t size;
        int status;
    } rows[] = {
        {"GET /", " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 7000, 404},
        {"GET /", " HTTP/1.1\r\nHost: localhost\r\n\r\n", 100000, 414},
        {GET "A: ", "\r\nConnection: close\r\n\r\n", 7000, 200},
        {GET "A: ", "\r\n\r\n", 100000, 431},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {0};
        text_add(&t, "%s", rows[i].before);
        for (size_t k = 0; k < rows[i].size; k += 10)
            text_add(&t, "aaaaaaaaaa");
        text_add(&t, "%s", rows[i].after);
        struct answer *a = client_raw(d->client, t.data, t.size, false, 20000);
        /* 0: the end of what it did not read reached us before its answer */
        if (a->status != rows[i].status && (rows[i].status < 410 || a->status))
            fail_msg("row %zu: %d: %.200s", i, a->status, a->body);
        text_free(&t);
        check_alive(d);
    }
}

/* After the first prediction those of a small net run in the HTTP thread: same bytes, same
 * refusals, same counts. */
static void small_predictions(struct daemon *d)
{
    struct client *c = d->client;
    static const char question[] = "{\"id\":\"a\",\"inputs\":[[1,2,3,4],[0.5,-1,2,-3]]}";
    remote_create(c, "m", remote_mlp);
    char *first = strdup(remote_post(c, "m", "infer", question)->body);
    for (int i = 0; i < 5; i++)
        assert_string_equal(remote_post(c, "m", "infer", question)->body, first);
    free(first);
    answer_refused(remote_call(c, "POST", "m", "/infer", "{\"inputs\":[[1,2]]}"), 422, "bad_shape",
                   "[N, 4]");
    answer_refused(remote_call(c, "POST", "m", "/infer", "{\"inputs\":[[1,2,,]]}"), 400, "bad_json",
                   "column");
    struct answer *a = remote_get(c, "m", "/stats");
    assert_true(answer_number(a, "model_stats.0.inference_stats.success.count") == 6);
    assert_true(answer_number(a, "model_stats.0.inference_stats.fail.count") == 2);
    /* A step in between is seen. */
    remote_step(c, "m", 1, 4);
    a = remote_post(c, "m", "infer", question);
    assert_true(answer_number(a, "parameters.step") == 1);
    /* A large body of the same net goes the long way, to the same numbers. */
    const char *many = remote_inputs(c, 3, 600, 4, NULL), *few = remote_inputs(c, 3, 1, 4, NULL);
    double long_way[1800], short_way[3];
    remote_numbers(remote_post(c, "m", "infer", many), "outputs.0.data", long_way, 1800);
    remote_numbers(remote_post(c, "m", "infer", few), "outputs.0.data", short_way, 3);
    assert_memory_equal(long_way, short_way, sizeof short_way);
    remote_call(c, "DELETE", "m", "", NULL);
    answer_expect(remote_call(c, "POST", "m", "/infer", question), 404);
}

/* Bodies of several sizes, whose blocks are kept and used again, each read as it was sent. */
static void large_bodies(struct daemon *d)
{
    static const int counts[] = {50000, 200000, 50000, 120000, 200000, 10, 400000, 60000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct text t = {0};
        text_add(&t, "{\"expression\":\"sum(x)\",\"tensors\":{\"x\":{\"data\":[%zu", i);
        for (int k = 1; k < counts[i]; k++)
            text_add(&t, ",%d.5", k % 2 ? 1 : -1);
        text_add(&t, "]}}}");
        struct answer *a = client_post(d->client, "/v2/autograd", t.data);
        answer_expect(a, 200);
        double odd = counts[i] % 2 ? 0 : 1.5;
        assert_true(answer_number(a, "value.data.0") == (double)i + odd);
        text_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(framing),           DAEMON_TEST(absolute_form), DAEMON_TEST(long_lines),
        DAEMON_TEST(small_predictions), DAEMON_TEST(large_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
