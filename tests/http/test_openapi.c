/* test_openapi.c: what the daemon says of itself is what it does: every route is in /openapi.json
 * and every path there answers; references resolve; /v2/operators has every row of the engine's
 * tables. */
#include "../support/remote.h"

#include "../../server/routes.h"
#include "backprop.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char http_methods[] = "get put post delete patch head options trace";

/* The operation of a route in the document; NULL: not there. */
static json_t *operation(json_t *root, const struct route *r)
{
    char method[16];
    size_t n = strlen(r->method);
    assert_true(n < sizeof method);
    for (size_t i = 0; i <= n; i++)
        method[i] = (char)(r->method[i] | (i < n ? 32 : 0));
    return json_object_get(json_object_get(json_object_get(root, "paths"), r->pattern), method);
}

/* Parameters of an operation: "query", "path" or "header". */
static int count_in(json_t *op, const char *place)
{
    size_t i;
    json_t *p;
    int n = 0;
    json_array_foreach(json_object_get(op, "parameters"), i, p) n +=
        !strcmp(json_string_value(json_object_get(p, "in")), place);
    return n;
}

static bool has_parameter(json_t *op, const char *name)
{
    size_t i;
    json_t *p;
    bool found = false;
    json_array_foreach(json_object_get(op, "parameters"), i, p) found |=
        !strcmp(json_string_value(json_object_get(p, "name")), name);
    return found;
}

static int count_query(const struct route *r)
{
    int n = 0;
    while (r->query && r->query[n].name)
        n++;
    return n;
}

static void routes_are_in_it(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/openapi.json");
    answer_expect(a, 200);
    json_t *root = answer_json(a);
    size_t documented = 0, count = 0;
    for (const struct route *r = routes; r->method; r++, count++) {
        json_t *op = operation(root, r);
        if (!op)
            fail_msg("%s %s is not in /openapi.json", r->method, r->pattern);
        assert_string_equal(json_string_value(json_object_get(op, "summary")), r->doc);
        bool body = r->flags & (ROUTE_BODY | ROUTE_BODY_OPTIONAL | ROUTE_RAW);
        assert_true(body == (json_object_get(op, "requestBody") != NULL));
        assert_int_equal(count_in(op, "query"), count_query(r));
        bool once = r->flags & (ROUTE_ONCE | ROUTE_LIFE), binary = r->flags & ROUTE_BINARY,
             events = strstr(r->pattern, "/events") != NULL;
        assert_int_equal(count_in(op, "header"), once + binary + events);
        assert_true(has_parameter(op, "Idempotency-Key") == once);
        assert_true(has_parameter(op, "Inference-Header-Content-Length") == binary);
        assert_true(has_parameter(op, "Last-Event-ID") == events);
        json_t *responses = json_object_get(op, "responses");
        assert_non_null(json_object_get(responses, "default"));
        assert_true(json_object_size(responses) >= 2);
        json_t *content = json_object_get(json_object_get(responses, "2XX"), "content");
        assert_true((json_object_get(content, "application/octet-stream") != NULL) ==
                    ((r->flags & ROUTE_TENSORS) != 0));
    }
    const char *path, *method;
    json_t *item, *op;
    json_object_foreach(json_object_get(root, "paths"), path, item)
        json_object_foreach(item, method, op) documented += strstr(http_methods, method) != NULL;
    assert_int_equal(documented, count);
}

/* The path with something for each {name}. */
static void fill_path(const char *pattern, char *out, size_t size)
{
    size_t n = 0;
    for (const char *p = pattern; *p && n + 8 < size; p++) {
        if (*p != '{') {
            out[n++] = *p;
            continue;
        }
        const char *fill = strncmp(p, "{version}", 9) ? "m" : "1";
        n += (size_t)sprintf(out + n, "%s", strncmp(p, "{file}", 6) ? fill : "app.js");
        p += strcspn(p, "}");
    }
    out[n] = 0;
}

/* What is documented is taken, and what is not is refused; not on pages and by probes, which take
 * anything. */
static void queries_are_checked(struct daemon *d)
{
    struct client *c = d->client;
    remote_call(c, "PUT", "1", "", remote_scalar); /* the model that fill_path names */
    for (const struct route *r = routes; r->method; r++) {
        char path[256], url[320];
        fill_path(r->pattern, path, sizeof path);
        snprintf(url, sizeof url, "%s?nonesuch=1", path);
        struct answer *a = client_json(c, r->method, url, NULL);
        if (r->role != ROLE_NONE)
            answer_refused(a, 400, "bad_query", "unknown query parameter 'nonesuch'");
        else
            answer_expect(a, 200);
        for (int i = 0; i < count_query(r) && !strstr(path, "/events"); i++) {
            const struct query_param *p = &r->query[i];
            const char *value = !strcmp(p->type, "boolean") ? "true" : p->values ? "live" : "1";
            snprintf(url, sizeof url, "%s?%s=%s", path, p->name, value);
            if (strstr(client_json(c, r->method, url, NULL)->body, "bad_query"))
                fail_msg("%s %s is refused", r->method, url);
        }
    }
}

/* Whatever it says, it does not say that there is no such path or method. */
static void paths_answer(struct daemon *d)
{
    struct client *c = d->client;
    json_t *root = json_incref(answer_json(client_get(c, "/openapi.json")));
    const char *pattern, *method;
    json_t *item, *op;
    json_object_foreach(json_object_get(root, "paths"), pattern, item)
    {
        json_object_foreach(item, method, op)
        {
            char path[256], name[16];
            if (strstr(pattern, "/events"))
                continue; /* its answer does not end: test_events.c */
            fill_path(pattern, path, sizeof path);
            snprintf(name, sizeof name, "%s", method);
            for (char *p = name; *p; p++)
                *p = (char)(*p & ~32);
            remote_call(c, "PUT", "m", "", remote_scalar); /* some delete it */
            remote_call(c, "POST", "m", "/versions", NULL);
            bool body = json_object_get(op, "requestBody") != NULL;
            struct answer *a = client_json(c, name, path, body ? "{}" : NULL);
            if (a->status == 405 || strstr(a->body, "\"unknown_path\"") || a->status >= 500)
                fail_msg("%s %s: %d %s", name, path, a->status, a->body);
        }
    }
    json_decref(root);
}

static void check_references(json_t *root, json_t *at, int *n)
{
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach(at, key, value)
    {
        if (!strcmp(key, "$ref")) {
            const char *ref = json_string_value(value);
            static const char prefix[] = "#/components/schemas/";
            assert_non_null(ref);
            if (strncmp(ref, prefix, strlen(prefix)) ||
                !json_object_get(json_object_get(json_object_get(root, "components"), "schemas"),
                                 ref + strlen(prefix)))
                fail_msg("%s leads nowhere", ref);
            ++*n;
        }
        check_references(root, value, n);
    }
    json_array_foreach(at, i, value) check_references(root, value, n);
}

static void document_is_sound(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/openapi.json");
    json_t *root = answer_json(a), *ids = json_object();
    int references = 0;
    assert_memory_equal(answer_string(a, "openapi"), "3.", 2);
    assert_true(strlen(answer_string(a, "info.title")) > 0);
    check_references(root, root, &references);
    assert_true(references > 20);
    for (const struct route *r = routes; r->method; r++) {
        const char *id = json_string_value(json_object_get(operation(root, r), "operationId"));
        assert_non_null(id);
        if (json_object_get(ids, id))
            fail_msg("two operations are called %s", id);
        json_object_set_new(ids, id, json_true());
        int names = 0; /* each {name} of the path is declared */
        for (const char *p = r->pattern; *p; p++)
            names += *p == '{';
        assert_int_equal(count_in(operation(root, r), "path"), names);
    }
    json_decref(ids);
}

/* ---- an answer has the fields that its schema names as required ------------------------------ */

static void required_fields(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *method, *path, *body, *schema;
    } rows[] = {
        {"GET", "/v2", NULL, "ServerMetadata"},
        {"GET", "/v2/models", NULL, "ModelList"},
        {"GET", "/v2/models/m", NULL, "Model"},
        {"GET", "/v2/models/m/config", NULL, "ModelConfig"},
        {"GET", "/v2/models/m/ready", NULL, "ModelReady"},
        {"GET", "/v2/models/m/metrics", NULL, "Metrics"},
        {"GET", "/v2/models/m/versions", NULL, "VersionList"},
        {"GET", "/v2/models/m/versions/1", NULL, "Version"},
        {"GET", "/v2/models/m/stats", NULL, "Stats"},
        {"PUT", "/v2/models/m/aliases/a", "{\"version\":1}", "AliasMoved"},
        {"GET", "/v2/models/m/aliases/a", NULL, "Alias"},
        {"GET", "/v2/models/m/aliases", NULL, "AliasList"},
        {"GET", "/v2/operators", NULL, "Operators"},
        {"POST", "/v2/models/m/infer", "{\"inputs\":[[1]]}", "InferAnswer"},
        {"POST", "/v2/models/m/train_step", "{\"inputs\":[[1]],\"targets\":[[1]]}", "StepAnswer"},
        {"POST", "/v2/models/m/gradients", "{\"inputs\":[[1]],\"targets\":[[1]]}",
         "GradientsAnswer"},
        {"POST", "/v2/models/m/gradients",
         "{\"inputs\":[[1]],\"targets\":[[1]],\"parameters\":{\"signals\":true,"
         "\"histograms\":{},\"per_sample_norms\":true}}",
         "GradientsAnswer"},
        {"POST", "/v2/models/m/gradcheck", "{\"inputs\":[[1]],\"targets\":[[1]]}",
         "GradcheckAnswer"},
        {"GET", "/v2/models/m/signals?histograms=1", NULL, "Signals"},
        {"POST", "/v2/autograd", "{\"expression\":\"1+1\"}", "AutogradAnswer"},
        {"POST", "/v2/models/m/versions/1/restore", NULL, "Restored"},
        {"GET", "/v2/keys", NULL, "KeyList"},
        {"GET", "/v2/models/none", NULL, "Error"},
    };
    json_t *root = json_incref(answer_json(client_get(c, "/openapi.json")));
    json_t *schemas = json_object_get(json_object_get(root, "components"), "schemas");
    remote_create(c, "m", remote_scalar);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1}}"), 200);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct answer *a = client_json(c, rows[i].method, rows[i].path, rows[i].body);
        json_t *schema = json_object_get(schemas, rows[i].schema), *name;
        size_t k;
        if (!schema)
            fail_msg("no schema %s", rows[i].schema);
        json_array_foreach(json_object_get(schema, "required"), k,
                           name) if (!json_object_get(answer_json(a), json_string_value(name)))
            fail_msg("%s %s: no '%s' in %s", rows[i].method, rows[i].path, json_string_value(name),
                     a->body);
        /* And nothing that the schema does not know. */
        const char *key;
        json_t *value, *known = json_object_get(schema, "properties");
        json_object_foreach(answer_json(a), key, value) if (known && !json_object_get(known, key))
            fail_msg("%s %s: '%s' is not in the schema %s", rows[i].method, rows[i].path, key,
                     rows[i].schema);
    }
    json_decref(root);
}

/* ---- the engine's tables --------------------------------------------------------------------- */

static void check_docs(json_t *list, size_t count)
{
    size_t i, k;
    json_t *row, *attribute;
    assert_int_equal(json_array_size(list), count);
    json_array_foreach(list, i, row)
    {
        assert_true(json_string_length(json_object_get(row, "name")) > 0);
        assert_true(json_string_length(json_object_get(row, "doc")) > 0);
        json_array_foreach(json_object_get(row, "attributes"), k, attribute)
        {
            assert_true(json_string_length(json_object_get(attribute, "name")) > 0);
            assert_true(json_string_length(json_object_get(attribute, "doc")) > 0);
            assert_true(json_string_length(json_object_get(attribute, "type")) > 0);
        }
    }
}

static size_t count_rows(bool (*at)(int i, struct optimizer_info *info_r))
{
    struct optimizer_info info;
    int n = 0;
    while (at(n, &info))
        n++;
    return (size_t)n;
}

static void operators(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/v2/operators");
    struct op_info op;
    int n = 0, losses = 0;
    answer_expect(a, 200);
    for (; op_info_at(n, &op); n++) {
        char path[64];
        if (op.is_loss) {
            snprintf(path, sizeof path, "losses.%d.name", losses++);
            assert_string_equal(answer_string(a, path), op.name);
        }
        snprintf(path, sizeof path, "operators.%d.name", n);
        assert_string_equal(answer_string(a, path), op.name);
    }
    assert_true(n > 30);
    check_docs(answer_find(a, "operators"), (size_t)n);
    check_docs(answer_find(a, "losses"), (size_t)losses);
    check_docs(answer_find(a, "optimizers"), count_rows(optimizer_info_at));
    check_docs(answer_find(a, "schedules"), count_rows(schedule_info_at));
    check_docs(answer_find(a, "initializers"), count_rows(init_info_at));
}

/* GET / names each route. */
static void index_lists_routes(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/");
    answer_expect(a, 200);
    for (const struct route *r = routes; r->method; r++)
        assert_non_null(strstr(a->body, r->pattern));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(routes_are_in_it),    DAEMON_TEST(paths_answer),
        DAEMON_TEST(document_is_sound),   DAEMON_TEST(required_fields),
        DAEMON_TEST(operators),           DAEMON_TEST(index_lists_routes),
        DAEMON_TEST(queries_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
