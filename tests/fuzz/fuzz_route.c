/* fuzz_route.c: what is done with a request before its body: path, query and headers, with the
 * daemon's own table of routes. What must hold: each refusal is JSON with a sentence; decoded
 * parameters hold no NUL and are not longer than what was sent; models have valid names; query
 * parameters are the route's.
 *
 * An input is "METHOD path?query", then headers, a line each. */
#include "fuzz.h"

#include "../../server/dispatch.h"
#include "../../server/gradcheck.h"
#include "../../server/routes.h"

#include <strings.h>

enum { MAX_HEADERS = 16 };

/* The table of routes names the handlers, none of which is called; so the engine in double, where
 * this is, need not be linked. */
int gradcheck_run(const struct gradcheck_question *q, gradcheck_fn *f, void *arg,
                  struct gradcheck_result *r, struct error *e)
{
    (void)q, (void)f, (void)arg, (void)r;
    return error_set(e, ERROR_INTERNAL, "not linked");
}

static const char *const numbers[] = {"since", "max_points", "limit", "state_sha256"};

static void check_params(const struct request *q)
{
    for (int i = 0; i < q->n_params; i++)
        FUZZ_CHECK(strlen(q->params[i].value) <= strlen(q->path), "a parameter that has grown");
    const char *model = request_param(q, "model");
    FUZZ_CHECK(!(q->route->flags & ROUTE_MODEL) || (model && dispatch_name_valid(model)),
               "model '%s'", model ? model : "");
}

static void read_query(struct request *q)
{
    int64_t n;
    bool flag;
    int choice;
    if (query_known(q)) {
        FUZZ_CHECK(q->route->role == ROLE_NONE, "an unknown query parameter");
        return;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (query_int(q, numbers[i], 7, -3, 1000, &n))
            return;
        FUZZ_CHECK(n >= -3 && n <= 1000, "%lld", (long long)n);
    }
    if (query_bool(q, "strict", true, &flag) || query_choice(q, "weights", "live|ema", 1, &choice))
        return;
    FUZZ_CHECK(choice == 0 || choice == 1, "%d", choice);
    const char *name = request_query(q, "names");
    FUZZ_CHECK(!name || strlen(name) <= strlen(q->query), "a value that has grown");
}

static int find_model(struct request *q, struct error *e)
{
    const char *name = request_param(q, "model");
    FUZZ_CHECK(name && dispatch_name_valid(name), "find_model of '%s'", name ? name : "");
    return strcmp(name, "m") ? error_set(e, ERROR_UNKNOWN_MODEL, "no model '%s'", name) : 0;
}

/* "Name: value" lines; the text is changed. */
static void add_headers(struct request *q, char *text)
{
    char *save = NULL;
    int n = 0;
    for (char *line = strtok_r(text, "\n", &save); line && n < MAX_HEADERS; n++) {
        char *value = strchr(line, ':');
        if (value) {
            *value++ = 0;
            value += strspn(value, " \t");
            request_add_header(q, line, value);
            if (!strcasecmp(line, "Content-Length"))
                q->content_length = atoi(value) & INT32_MAX;
            if (!strcasecmp(line, "Transfer-Encoding"))
                q->chunked = true;
        }
        line = strtok_r(NULL, "\n", &save);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config = {.max_body = 1000,
                            .host = "127.0.0.1",
                            .port = 8080,
                            .allowed_hosts = "example.org,*.example.com",
                            .cors_origins = "https://example.org,http://*.example.com:3000"};
    struct server s = {.config = &config, .routes = routes, .find_model = find_model};
    char *text = fuzz_copy(data, size, true), *headers = text + strcspn(text, "\n");
    if (*headers)
        *headers++ = 0;
    char *path = text + strcspn(text, " "), *query;
    if (*path)
        *path++ = 0;
    query = path + strcspn(path, "?");
    if (*query)
        *query++ = 0;
    struct request *q = request_create(&s, text, path, query);
    add_headers(q, headers);
    if (!dispatch_begin(q)) {
        check_params(q);
        read_query(q);
    } else {
        FUZZ_CHECK(q->status >= 200 && q->status < 600, "status %d", q->status);
    }
    fuzz_check_answer(q);
    request_destroy(&q);
    free(text);
    return 0;
}
