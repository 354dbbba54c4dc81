/* test_dashboard.c: who asks for / gets what: browsers the page, others the list of paths; the
 * page's files are all there, say how long they may be kept, and let the page load nothing else. */
#include "../support/daemon.h"

#include <stdio.h>
#include <string.h>

static struct answer *get_with(struct client *c, const char *path, const char *header)
{
    const char *const headers[] = {header, NULL};
    return client_send(c, &(struct call){.method = "GET", .path = path, .headers = headers});
}

static void by_accept(struct daemon *d)
{
    static const struct {
        const char *accept;
        bool page;
    } rows[] = {
        {"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true},
        {"Accept: text/html", true},
        {"Accept: */*", false},
        {"Accept: text/plain", false},
        {"Accept:", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct answer *a = get_with(d->client, "/", rows[i].accept);
        answer_expect(a, 200);
        assert_string_equal(answer_header(a, "Vary"), "Accept");
        const char *type = answer_header(a, "Content-Type");
        assert_memory_equal(type, rows[i].page ? "text/html" : "text/plain", 9);
        assert_non_null(strstr(a->body, rows[i].page ? "<!doctype html>" : "/train_step"));
    }
    struct answer *a = get_with(d->client, "/v2/routes", rows[0].accept);
    answer_expect(a, 200);
    assert_non_null(strstr(a->body, "/train_step"));
}

/* Every file that the page and its scripts name is there. */
static void files_are_there(struct daemon *d)
{
    static const struct {
        const char *file, *type;
    } rows[] = {{"aliases.js", "text/javascript"},  {"app.js", "text/javascript"},
                {"api.js", "text/javascript"},      {"dom.js", "text/javascript"},
                {"curves.js", "text/javascript"},   {"plot.js", "text/javascript"},
                {"predict.js", "text/javascript"},  {"pad.js", "text/javascript"},
                {"versions.js", "text/javascript"}, {"layers.js", "text/javascript"},
                {"chart.js", "text/javascript"},    {"style.css", "text/css"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[64];
        snprintf(path, sizeof path, "/dashboard/%s", rows[i].file);
        struct answer *a = client_get(d->client, path);
        answer_expect(a, 200);
        assert_true(a->size > 500);
        assert_memory_equal(answer_header(a, "Content-Type"), rows[i].type, strlen(rows[i].type));
        for (const char *at = strstr(a->body, "from \"./");
             at && !strcmp(rows[i].type, "text/javascript"); at = strstr(at + 1, "from \"./")) {
            char other[64];
            snprintf(other, sizeof other, "/dashboard/%.*s", (int)strcspn(at + 8, "\""), at + 8);
            answer_expect(client_get(d->client, other), 200);
        }
    }
    answer_refused(client_get(d->client, "/dashboard/app.css"), 404, "unknown_path", "app.css");
    answer_refused(client_get(d->client, "/dashboard/..%2findex"), 404, "unknown_path", NULL);
}

static void kept_and_confined(struct daemon *d)
{
    static const char *const paths[] = {"/", "/dashboard/app.js", "/dashboard/chart.js"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *const html[] = {"Accept: text/html", NULL};
        struct call call = {.method = "GET", .path = paths[i], .headers = html};
        struct answer *a = client_send(d->client, &call);
        answer_expect(a, 200);
        assert_string_equal(answer_header(a, "X-Content-Type-Options"), "nosniff");
        assert_string_equal(answer_header(a, "Cache-Control"), "no-cache");
        const char *policy = answer_header(a, "Content-Security-Policy");
        assert_non_null(strstr(policy, "default-src 'none'"));
        assert_null(strstr(policy, "unsafe"));
        char known[128];
        snprintf(known, sizeof known, "If-None-Match: W/\"x\", %s", answer_header(a, "ETag"));
        const char *const again[] = {"Accept: text/html", known, NULL};
        call.headers = again;
        struct answer *same = client_send(d->client, &call);
        answer_expect(same, 304);
        assert_int_equal(same->size, 0);
        assert_string_equal(answer_header(same, "ETag"), answer_header(a, "ETag"));
        const char *const other[] = {"Accept: text/html", "If-None-Match: \"0\"", NULL};
        call.headers = other;
        answer_expect(client_send(d->client, &call), 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(by_accept),
        DAEMON_TEST(files_are_there),
        DAEMON_TEST(kept_and_confined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
