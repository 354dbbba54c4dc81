/* test_server.c: the daemon as a process and as an HTTP server, whatever it serves: command line,
 * start and stop, connections, and what the dispatcher answers for all routes. */
#include "../support/daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char expression[] =
    "{\"expression\":\"(w*x-10)**2\",\"tensors\":{"
    "\"w\":{\"data\":[2],\"requires_grad\":true},\"x\":{\"data\":[3]}}}";

static struct answer *raw(struct daemon *d, const char *text)
{
    return client_raw(d->client, text, strlen(text), false, 5000);
}

/* ---- what it says of itself ------------------------------------------------------------------ */

static void health(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/v2/health/live");
    answer_expect(a, 200);
    assert_string_equal(answer_header(a, "Content-Type"), "application/json");
    assert_true(json_is_true(answer_find(a, "live")));
    a = client_get(d->client, "/v2/health/ready");
    answer_expect(a, 200);
    assert_true(json_is_true(answer_find(a, "ready")));
}

static void metadata(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/v2");
    answer_expect(a, 200);
    assert_string_equal(answer_string(a, "name"), "backpropd");
    assert_true(strlen(answer_string(a, "version")) > 0);
    bool binary = false;
    size_t i;
    json_t *extension;
    json_array_foreach(answer_find(a, "extensions"), i, extension) binary |=
        !strcmp(json_string_value(extension), "binary_tensor_data");
    assert_true(binary);
    answer_expect(client_get(d->client, "/v2/"), 200);
}

/* ---- what is answered before any handler ----------------------------------------------------- */

static void unknown_path(struct daemon *d)
{
    answer_refused(client_get(d->client, "/nothing"), 404, "unknown_path", "/nothing");
    answer_refused(client_get(d->client, "/v2/model"), 404, "unknown_path", "/v2/models");
    answer_refused(client_post(d->client, "/v2/nothing", "{}"), 404, "unknown_path", NULL);
    answer_refused(client_get(d->client, "/v2/models/none"), 404, "unknown_model", "none");
    answer_refused(client_get(d->client, "/v2/models/a%20b"), 400, "bad_name", NULL);
    answer_refused(client_get(d->client, "/v2/models/a%2"), 400, "bad_name", NULL);
    answer_refused(client_get(d->client, "/v2/models/a%00b"), 400, "bad_name", NULL);
}

static void wrong_method(struct daemon *d)
{
    struct answer *a = client_json(d->client, "DELETE", "/v2/autograd", NULL);
    answer_refused(a, 405, "method_not_allowed", "POST");
    assert_string_equal(answer_header(a, "Allow"), "POST");
    a = client_post(d->client, "/v2/health/live", "{}");
    answer_refused(a, 405, "method_not_allowed", NULL);
    assert_string_equal(answer_header(a, "allow"), "GET, HEAD");
}

static void bodies(struct daemon *d)
{
    struct client *c = d->client;
    struct answer *a = client_post(c, "/v2/autograd", expression);
    answer_expect(a, 200);
    assert_true(answer_number(a, "value.data.0") == 16);
    assert_true(answer_number(a, "gradients.w.data.0") == -24);
    answer_refused(client_post(c, "/v2/autograd", ""), 400, "bad_json", "empty");
    answer_refused(client_post(c, "/v2/autograd", "{\"expression\":"), 400, "bad_json", "line 1");
    answer_refused(client_post(c, "/v2/autograd", "[1]"), 400, "bad_type", "object");
    a = client_send(c, &(struct call){.method = "POST",
                                      .path = "/v2/autograd",
                                      .body = expression,
                                      .size = strlen(expression),
                                      .content_type = "image/png"});
    answer_refused(a, 415, "unsupported_media_type", "image/png");
    /* what curl -d sends */
    a = client_send(c, &(struct call){.method = "POST",
                                      .path = "/v2/autograd",
                                      .body = expression,
                                      .size = strlen(expression),
                                      .content_type = "application/x-www-form-urlencoded"});
    answer_expect(a, 200);
    a = client_send(c, &(struct call){.method = "POST",
                                      .path = "/v2/autograd",
                                      .body = expression,
                                      .size = strlen(expression),
                                      .headers = WORDS("Transfer-Encoding: chunked")});
    answer_expect(a, 200);
}

static void length_required(struct daemon *d)
{
    struct answer *a =
        raw(d, "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    answer_expect(a, 411);
    assert_non_null(strstr(a->body, "\"length_required\""));
}

static void too_large(struct daemon *d)
{
    /* Refused by its header: the body is never sent. */
    struct answer *a = raw(d, "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\n"
                              "Content-Length: 2000\r\nConnection: close\r\n\r\n");
    answer_expect(a, 413);
    assert_non_null(strstr(a->body, "\"body_too_large\""));
    /* A chunked body has no length to refuse: it is cut off where it passes the limit. */
    char body[4000];
    memset(body, ' ', sizeof body);
    struct call call = {.method = "POST",
                        .path = "/v2/autograd",
                        .body = body,
                        .size = sizeof body,
                        .headers = WORDS("Transfer-Encoding: chunked")};
    answer_refused(client_send(d->client, &call), 413, "body_too_large", "1024");
    call.headers = NULL;
    answer_refused(client_send(d->client, &call), 413, "body_too_large", "4000");
    call.size = 1025;
    answer_refused(client_send(d->client, &call), 413, "body_too_large", NULL);
    call.size = 1024;
    answer_refused(client_send(d->client, &call), 400, "bad_json", NULL);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void head(struct daemon *d)
{
    struct answer *get = client_get(d->client, "/v2"), *a;
    a = client_json(d->client, "HEAD", "/v2", NULL);
    answer_expect(a, 200);
    assert_int_equal(a->size, 0);
    assert_string_equal(answer_header(a, "Content-Type"), "application/json");
    assert_int_equal(strtoul(answer_header(a, "Content-Length"), NULL, 10), get->size);
    answer_expect(client_json(d->client, "HEAD", "/v2/models", NULL), 200);
    answer_expect(client_json(d->client, "HEAD", "/nothing", NULL), 404);
    answer_expect(client_json(d->client, "HEAD", "/v2/autograd", NULL), 405);
}

static void keep_alive(struct daemon *d)
{
    client_get(d->client, "/v2/health/live");
    for (int i = 0; i < 50; i++) {
        struct answer *a = i % 3 == 0   ? client_get(d->client, "/v2/models")
                           : i % 3 == 1 ? client_post(d->client, "/v2/autograd", expression)
                                        : client_get(d->client, "/nothing");
        assert_int_equal(a->connects, 0);
    }
}

/* Several requests in one packet are answered one after the other. */
static void pipelined(struct daemon *d)
{
    struct answer *a =
        raw(d, "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
               "GET /v2/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
               "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    answer_expect(a, 200);
    int n = 0;
    for (const char *at = a->body; (at = strstr(at, "HTTP/1.1 ")); at++)
        n++;
    assert_int_equal(n, 3);
    assert_non_null(strstr(a->body, "\"unknown_path\""));
}

/* None of these may hurt it; a connection that is simply closed is an answer too. */
static void malformed(struct daemon *d)
{
    static const char *const rows[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /v2 HTTP/9.9\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /v2?%zz=%00&&= HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        ("POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
         "99999999999999999999\r\n\r\n"),
        "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{",
        "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\x16\x03\x01\x02\x01\x01\xfc\x03",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct answer *a = client_raw(d->client, rows[i], strlen(rows[i]), true, 300);
        assert_true(a->status == 0 || a->status == 200 || (a->status >= 400 && a->status <= 505));
        answer_expect(client_get(d->client, "/v2/health/live"), 200);
    }
    size_t n = 1 << 20;
    char *path = malloc(n + 1);
    assert_non_null(path);
    memset(path, 'a', n);
    memcpy(path, "GET /", 5);
    path[n] = 0;
    struct answer *a = client_raw(d->client, path, n, true, 1000);
    assert_true(a->status == 0 || (a->status >= 400 && a->status < 500));
    free(path);
    answer_expect(client_get(d->client, "/v2/health/live"), 200);
}

/* ---- the process ----------------------------------------------------------------------------- */

static void port_file(struct daemon *d)
{
    assert_memory_equal(d->address, "127.0.0.1:", 10);
    long port = strtol(d->address + 10, NULL, 10);
    assert_true(port > 0 && port < 65536);
}

static void stops_and_starts(struct daemon *d)
{
    answer_expect(client_get(d->client, "/v2/health/ready"), 200);
    daemon_stop(d);
    daemon_start(d, d->flags);
    answer_expect(client_get(d->client, "/v2/health/ready"), 200);
    daemon_kill(d);
    daemon_start(d, d->flags);
    answer_expect(client_get(d->client, "/v2/health/ready"), 200);
}

static void one_daemon_a_folder(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o, WORDS("--listen", "127.0.0.1:0", "--data", d->data));
    assert_int_not_equal(o.status, 0);
    assert_true(o.status < 128);
    if (!strstr(o.err, d->data))
        fail_msg("the folder is not named: %s", o.err);
    answer_expect(client_get(d->client, "/v2/health/ready"), 200);
}

static void one_daemon_an_address(struct daemon *d)
{
    struct outcome o;
    char other[320];
    snprintf(other, sizeof other, "%s/other", d->folder);
    daemon_command(d, &o, WORDS("--listen", d->address, "--data", other));
    assert_int_not_equal(o.status, 0);
    assert_true(o.status < 128);
    if (!strstr(o.err, d->address))
        fail_msg("the address is not named: %s", o.err);
}

static void data_folder_is_a_file(struct daemon *d)
{
    struct outcome o;
    char file[320];
    struct stat s;
    snprintf(file, sizeof file, "%s/port", d->folder);
    daemon_command(d, &o, WORDS("--listen", "127.0.0.1:0", "--data", file));
    assert_int_not_equal(o.status, 0);
    assert_true(o.status < 128);
    if (!strstr(o.err, file))
        fail_msg("the folder is not named: %s", o.err);
    assert_int_equal(stat(file, &s), 0);
}

static void help(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o, WORDS("--help"));
    assert_int_equal(o.status, 0);
    assert_string_equal(o.err, "");
    static const char *const flags[] = {"--listen",     "--data",    "--port-file",
                                        "--threads",    "--workers", "--max-body",
                                        "--max-memory", "--version", "--allow-anonymous"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!strstr(o.out, flags[i]))
            fail_msg("%s is not in: %s", flags[i], o.out);
    daemon_command(d, &o, WORDS("--version"));
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.out, "backpropd"));
}

/* A row: a command line that cannot be used, and what the message must name. */
static void command_line_refused(struct daemon *d)
{
    static const struct {
        const char *flag, *value, *named;
    } rows[] = {
        {"--lisen", "127.0.0.1:0", "--listen"},
        {"--threads", "none", "none"},
        {"--threads", "0", "--threads"},
        {"--max-body", "-5", "--max-body"},
        {"--max-body", "12Q", "12Q"},
        {"--listen", "127.0.0.1", "127.0.0.1"},
        {"--listen", "127.0.0.1:70000", "70000"},
        {"--listen", "0.0.0.0:0", "--allow-anonymous"},
        {"--data", NULL, "--data"},
        {"word", NULL, "word"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome o;
        daemon_command(d, &o, WORDS(rows[i].flag, rows[i].value));
        if (o.status != 2 || !strstr(o.err, rows[i].named))
            fail_msg("%s %s: status %d, no '%s' in: %s", rows[i].flag,
                     rows[i].value ? rows[i].value : "", o.status, rows[i].named, o.err);
        assert_string_equal(o.out, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(health),
        DAEMON_TEST(metadata),
        DAEMON_TEST(unknown_path),
        DAEMON_TEST(wrong_method),
        DAEMON_TEST(bodies),
        DAEMON_TEST(length_required),
        DAEMON_TEST(too_large, "--max-body", "1K"),
        DAEMON_TEST(head),
        DAEMON_TEST(keep_alive),
        DAEMON_TEST(pipelined),
        DAEMON_TEST(malformed),
        DAEMON_TEST(port_file),
        DAEMON_TEST(stops_and_starts),
        DAEMON_TEST(one_daemon_a_folder),
        DAEMON_TEST(one_daemon_an_address),
        DAEMON_TEST(data_folder_is_a_file),
        DAEMON_TEST(help),
        DAEMON_TEST(command_line_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
