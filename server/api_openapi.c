/* api_openapi.c: GET /openapi.json. schema/openapi.yaml, which is written in the part of YAML that
 * is JSON, lies in the binary and holds the title and the schemas; the paths are printed from the
 * table of routes, so that no route is missing and none is made up. */
#include "api.h"
#include "json_in.h"

#include <string.h>

__asm__(".section .rodata\n"
        ".global backpropd_openapi\n.global backpropd_openapi_end\n"
        "backpropd_openapi:\n.incbin \"schema/openapi.yaml\"\n"
        "backpropd_openapi_end:\n.byte 0\n"
        ".previous\n");
extern const char backpropd_openapi[], backpropd_openapi_end[];

static json_t *schema_ref(const char *name)
{
    char ref[96];
    snprintf(ref, sizeof ref, "#/components/schemas/%s", name);
    return json_pack("{s:{s:s}}", "schema", "$ref", ref);
}

static json_t *request_body(const struct route *r)
{
    json_t *content = json_object();
    if (r->flags & ROUTE_RAW)
        json_object_set_new(content, "application/octet-stream", json_object());
    else
        json_object_set_new(content, "application/json",
                            r->request_schema ? schema_ref(r->request_schema) : json_object());
    if (r->flags & ROUTE_BINARY)
        json_object_set_new(content, "application/octet-stream", json_object());
    if (r->flags & ROUTE_FORM)
        json_object_set_new(content, "multipart/form-data", json_object());
    if (r->flags & ROUTE_IMAGE) {
        json_object_set_new(content, "image/jpeg", json_object());
        json_object_set_new(content, "image/png", json_object());
    }
    return json_pack("{s:b, s:o}", "required", !(r->flags & ROUTE_BODY_OPTIONAL), "content",
                     content);
}

/* {name} in the pattern. */
static void path_parameters(const struct route *r, json_t *list)
{
    for (const char *at = strchr(r->pattern, '{'); at; at = strchr(at + 1, '{')) {
        size_t n = strcspn(at + 1, "}");
        json_array_append_new(list, json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", at + 1, n, "in",
                                              "path", "required", 1, "schema", "type", "string"));
    }
}

static json_t *query_schema(const struct query_param *p)
{
    json_t *schema = json_pack("{s:s}", "type", p->type), *values = p->values ? json_array() : NULL;
    for (const char *at = p->values; at && *at;) {
        size_t n = strcspn(at, "|");
        json_array_append_new(values, json_stringn(at, n));
        at += n + (at[n] == '|');
    }
    if (values)
        json_object_set_new(schema, "enum", values);
    return schema;
}

static void header_parameters(const struct route *r, json_t *list)
{
    const struct {
        const char *name, *type, *doc;
        bool there;
    } rows[] = {
        {"Idempotency-Key", "string",
         "any text of the client's own, in quotes: the request is done once however often it is "
         "sent with it, and answered the same; an answer that shows the model shows it as it is "
         "by then",
         r->flags & (ROUTE_ONCE | ROUTE_LIFE)},
        {"Inference-Header-Content-Length", "integer",
         "bytes of the JSON, behind which those of binary tensors follow", r->flags & ROUTE_BINARY},
        {"Last-Event-ID", "string", "the id of the last event that was seen; goes before since",
         r->handle == api_events},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].there)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:{s:s}}", "name", rows[i].name,
                                                  "in", "header", "description", rows[i].doc,
                                                  "schema", "type", rows[i].type));
}

static json_t *parameters(const struct route *r)
{
    json_t *list = json_array();
    path_parameters(r, list);
    for (const struct query_param *p = r->query; p && p->name; p++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:o}", "name", p->name, "in", "query",
                                        "description", p->doc, "schema", query_schema(p)));
    header_parameters(r, list);
    return list;
}

/* "api_train_step" style ids are made from method and path: post_v2_models_model_train_step. */
static json_t *operation_id(const struct route *r)
{
    char id[160];
    size_t n = (size_t)snprintf(id, sizeof id, "%s", r->method);
    for (const char *p = r->pattern; *p && n < sizeof id - 1; p++)
        if (*p != '{' && *p != '}')
            id[n++] = *p == '/' || *p == '.' ? '_' : *p;
    id[n] = 0;
    for (size_t i = 0; id[i]; i++)
        id[i] = (char)(id[i] >= 'A' && id[i] <= 'Z' ? id[i] + 32 : id[i]);
    return json_string(id);
}

/* A key of the route's role; none is needed for health and the page. */
static json_t *security(const struct route *r)
{
    return r->role == ROLE_NONE ? json_array() : json_pack("[{s:[]}]", "key");
}

static json_t *operation(const struct route *r)
{
    json_t *ok = json_pack("{s:s}", "description", "done");
    json_t *content = r->response_schema
                          ? json_pack("{s:o}", "application/json", schema_ref(r->response_schema))
                          : NULL;
    if (r->flags & ROUTE_TENSORS) /* the JSON, and the bytes behind it */
        json_object_set_new(content, "application/octet-stream", json_object());
    if (content)
        json_object_set_new(ok, "content", content);
    json_t *failed =
        json_pack("{s:s, s:{s:o}}", "description", "refused, with a sentence and a code", "content",
                  "application/json", schema_ref("Error"));
    json_t *op = json_pack("{s:s, s:o, s:o, s:{s:o, s:o}}", "summary", r->doc, "operationId",
                           operation_id(r), "parameters", parameters(r), "responses", "2XX", ok,
                           "default", failed);
    json_object_set_new(op, "security", security(r));
    json_object_set_new(op, "x-role", json_string(key_role_name(r->role)));
    if (r->flags & (ROUTE_BODY | ROUTE_BODY_OPTIONAL | ROUTE_RAW))
        json_object_set_new(op, "requestBody", request_body(r));
    return op;
}

static json_t *paths(const struct route *routes)
{
    json_t *all = json_object();
    for (const struct route *r = routes; r->method; r++) {
        char method[8];
        size_t n = strlen(r->method);
        for (size_t i = 0; i <= n && i < sizeof method; i++)
            method[i] = (char)(i < n ? r->method[i] | 32 : 0);
        if (!json_object_get(all, r->pattern))
            json_object_set_new(all, r->pattern, json_object());
        json_object_set_new(json_object_get(all, r->pattern), method, operation(r));
    }
    return all;
}

int api_openapi(struct request *q)
{
    size_t size = (size_t)(backpropd_openapi_end - backpropd_openapi);
    json_t *root = json_in_load(backpropd_openapi, size, NULL);
    json_t *all = paths(q->server->routes);
    char *text = NULL;
    if (root && all) {
        json_object_set(root, "paths", all);
        text = json_in_dump(root, JSON_COMPACT);
    }
    json_decref(root);
    json_decref(all);
    if (!text)
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory");
    return reply_bytes(q, 200, NULL, text, strlen(text), BODY_MALLOC);
}
