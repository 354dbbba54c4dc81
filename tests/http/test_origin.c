/* test_origin.c: names of the server that are answered, pages of other sites, CORS, and the headers
 * that every answer has. */
#include "../support/remote.h"

#include <stdio.h>
#include <string.h>

static struct answer *ask(struct daemon *d, const char *method, const char *path,
                          const char *header, const char *more)
{
    const char *headers[] = {header, more, NULL};
    return client_send(d->client,
                       &(struct call){.method = method, .path = path, .headers = headers});
}

struct row {
    const char *host;
    int status;
};

static void hosts(struct daemon *d, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char header[300];
        snprintf(header, sizeof header, "Host: %s", rows[i].host);
        struct answer *a = ask(d, "GET", "/v2/health/live", header, NULL);
        if (a->status != rows[i].status)
            fail_msg("%s: %d, expected %d", header, a->status, rows[i].status);
        if (a->status == 421)
            answer_refused(a, 421, "unknown_host", "--allowed-hosts");
    }
}

static void names(struct daemon *d)
{
    static const struct row rows[] = {
        {"localhost", 200},
        {"LOCALHOST:80", 200},
        {"localhost.:80", 200},
        {"127.0.0.1:1", 200},
        {"10.1.2.3", 200},
        {"[::1]:8080", 200},
        {"[2001:db8::1]", 200},
        {"evil.example", 421},
        {"evil.example:8080", 421},
        {"localhost.evil.example", 421},
        {"127.0.0.1.evil.example", 421},
        {"1.2.3", 421},
        {"[evil]", 421},
        {"[::1", 421},
        {"localhost:80:80", 421},
        {"localhost:x", 421},
        {":80", 421},
        {"localhost@evil.example", 421},
        {"a,localhost", 421},
        {"*", 421},
    };
    hosts(d, rows, sizeof rows / sizeof *rows);
    /* Of no browser, and so of no page. */
    static const char old[] = "GET /v2/health/live HTTP/1.0\r\n\r\n";
    assert_int_equal(client_raw(d->client, old, sizeof old - 1, false, 5000)->status, 200);
}

static void more_names(struct daemon *d)
{
    static const struct row rows[] = {
        {"models.example", 200}, {"Models.Example:8080", 200}, {"a.lab.example", 200},
        {"lab.example", 421},    {"localhost", 200},           {"other.example", 421},
    };
    hosts(d, rows, sizeof rows / sizeof *rows);
}

/* A page of another site may send some requests without asking; those that change are refused. */
static void pages(struct daemon *d)
{
    static const char evil[] = "Origin: http://evil.example";
    char own[320];
    remote_create(d->client, "m", remote_scalar);
    snprintf(own, sizeof own, "Origin: http://%s", d->address);
    answer_refused(ask(d, "POST", "/v2/models/m/versions", evil, NULL), 403, "foreign_origin",
                   "evil.example");
    answer_refused(ask(d, "POST", "/v2/models/m/versions", "Origin: null", NULL), 403,
                   "foreign_origin", NULL);
    answer_refused(ask(d, "DELETE", "/v2/models/m", evil, NULL), 403, "foreign_origin", NULL);
    struct answer *a = remote_get(d->client, "m", "/versions");
    assert_int_equal(json_array_size(answer_find(a, "versions")), 0);
    answer_expect(ask(d, "POST", "/v2/models/m/versions", own, NULL), 201);
    /* It may ask, but its browser does not show it the answer. */
    a = ask(d, "GET", "/v2/models/m", evil, NULL);
    answer_expect(a, 200);
    assert_null(answer_header(a, "Access-Control-Allow-Origin"));
    a = ask(d, "OPTIONS", "/v2/models/m", evil, "Access-Control-Request-Method: DELETE");
    assert_int_equal(a->status, 403);
    assert_null(answer_header(a, "Access-Control-Allow-Origin"));
}

static void listed_pages(struct daemon *d)
{
    static const char app[] = "Origin: https://app.example",
                      dev[] = "Origin: http://localhost:3000";
    remote_create(d->client, "m", remote_scalar);
    struct answer *a =
        ask(d, "OPTIONS", "/v2/models/m/train_step", app, "Access-Control-Request-Method: POST");
    answer_expect(a, 204);
    assert_string_equal(answer_header(a, "Access-Control-Allow-Origin"), "https://app.example");
    assert_non_null(strstr(answer_header(a, "Access-Control-Allow-Methods"), "POST"));
    assert_non_null(strstr(answer_header(a, "Access-Control-Allow-Headers"), "Authorization"));
    a = ask(d, "POST", "/v2/models/m/versions", dev, NULL);
    answer_expect(a, 201);
    assert_string_equal(answer_header(a, "Access-Control-Allow-Origin"), "http://localhost:3000");
    assert_string_equal(answer_header(a, "Vary"), "Origin");
    a = ask(d, "GET", "/v2/nothing", app, NULL); /* pages see errors, too */
    assert_string_equal(answer_header(a, "Access-Control-Allow-Origin"), "https://app.example");
    a = ask(d, "OPTIONS", "/v2/models/m", "Origin: https://app.example.evil",
            "Access-Control-Request-Method: POST");
    assert_int_equal(a->status, 403);
    answer_expect(ask(d, "OPTIONS", "/v2/models/m", app, NULL), 405); /* no preflight */
}

static void headers(struct daemon *d)
{
    static const char *const paths[] = {"/", "/v2", "/metrics", "/nothing", "/dashboard/app.js"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct answer *a = ask(d, "GET", paths[i], "Accept: text/html", NULL);
        assert_string_equal(answer_header(a, "X-Content-Type-Options"), "nosniff");
        assert_string_equal(answer_header(a, "Cross-Origin-Resource-Policy"), "same-origin");
    }
    struct answer *a = ask(d, "GET", "/", "Accept: text/html", NULL);
    const char *policy = answer_header(a, "Content-Security-Policy");
    assert_non_null(strstr(policy, "default-src 'none'"));
    assert_non_null(strstr(policy, "frame-ancestors 'none'"));
    assert_null(strstr(policy, "unsafe"));
    assert_string_equal(answer_header(a, "X-Frame-Options"), "DENY");
    assert_string_equal(answer_header(a, "Referrer-Policy"), "no-referrer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(names),
        DAEMON_TEST(more_names, "--allowed-hosts", "models.example, *.lab.example"),
        DAEMON_TEST(pages),
        DAEMON_TEST(listed_pages, "--cors-origin", "https://app.example,http://localhost:*"),
        DAEMON_TEST(headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
