/* tensor_reply.c: which outputs a request wants and how, and writing them. The bytes of binary
 * outputs go to the end of the buffer that holds the JSON. */
#include "tensor_reply.h"

#include "describe_fields.h"

#include <stdio.h>
#include <string.h>

/* ---- what is wanted -------------------------------------------------------------------------- */

static const struct field wish_fields[] = {
    {"name", IS_STRING, "a string", true},
    {"parameters", IS_OBJECT, "an object", false},
    {0},
};
static const struct field wish_parameters[] = {
    {"binary_data", IS_BOOL, "true or false", false},
    {"classification", IS_INT, "a whole number", false},
    {0},
};

static int read_wish(const json_t *object, size_t i, struct output_wish *w, struct error *e)
{
    const struct place what = describe_place("outputs[%zu]", i);
    const struct place inner = describe_place("outputs[%zu].parameters", i);
    const json_t *given = describe_get(object, "parameters");
    if (describe_check_fields(object, what.text, wish_fields, false, e) ||
        (given && describe_check_fields(given, inner.text, wish_parameters, false, e)))
        return -1;
    const json_t *binary = describe_get(given, "binary_data");
    w->name = describe_get_string(object, "name");
    w->binary = binary ? json_is_true(binary) : w->binary;
    w->classification = json_integer_value(describe_get(given, "classification"));
    if (w->classification >= 0)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "%s.classification must be at least 0, not %lld",
                     inner.text, (long long)w->classification);
}

int output_wishes_read(struct request *q, struct output_wishes *w, struct error *e)
{
    const json_t *list = describe_get(q->json.root, "outputs");
    *w = (struct output_wishes){.all = !json_array_size(list), .binary = q->raw_tensor};
    const json_t *binary =
        describe_get(json_object_get(q->json.root, "parameters"), "binary_data_output");
    if ((list && describe_check_type(list, "outputs", IS_LIST, "a list of outputs", e)) ||
        (binary &&
         describe_check_type(binary, "parameters.binary_data_output", IS_BOOL, "true or false", e)))
        return -1;
    if (binary)
        w->binary = json_is_true(binary);
    w->list = arena_array(q->arena, json_array_size(list) + 1, sizeof *w->list);
    if (!w->list)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the list of outputs");
    for (size_t i = 0; i < json_array_size(list); i++) {
        w->list[i].binary = w->binary;
        if (read_wish(json_array_get(list, i), i, &w->list[i], e))
            return -1;
        w->n++;
    }
    return 0;
}

const struct output_wish *output_wish_find(const struct output_wishes *w, const char *name,
                                           struct output_wish *store)
{
    for (int i = 0; i < w->n; i++)
        if (!strcmp(w->list[i].name, name))
            return &w->list[i];
    *store = (struct output_wish){name, w->binary, 0};
    return w->all ? store : NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

void tensor_reply_begin(struct tensor_reply *r, struct request *q)
{
    *r = (struct tensor_reply){.q = q, .json = JSON_OUT_INIT};
    r->last = &r->first;
    out_open_object(&r->json);
}

static void add_blob(struct tensor_reply *r, const void *data, size_t size)
{
    struct tensor_blob *b = arena_alloc(r->q->arena, sizeof *b);
    if (!b) {
        r->json.failed = true;
        return;
    }
    *b = (struct tensor_blob){data, size, NULL};
    *r->last = b;
    r->last = &b->next;
}

static void add_data(struct tensor_reply *r, const struct tensor_out *t)
{
    out_key(&r->json, "data");
    if (t->dtype == DTYPE_INT64)
        out_int64s(&r->json, t->data, (size_t)t->count);
    else if (sizeof(real) == sizeof(float))
        out_floats(&r->json, t->data, (size_t)t->count);
    else
        out_doubles(&r->json, t->data, (size_t)t->count);
}

/* Each string behind its length in 4 bytes. */
static size_t add_strings(struct tensor_reply *r, const char *const *strings, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += 4 + strlen(strings[i]);
    char *bytes = arena_alloc(r->q->arena, size + 1), *to = bytes;
    for (size_t i = 0; bytes && i < count; i++) {
        uint32_t length = (uint32_t)strlen(strings[i]);
        memcpy(to, &length, 4); /* little-endian, see datatype.c */
        memcpy(to + 4, strings[i], length);
        to += 4 + length;
    }
    r->json.failed |= !bytes;
    add_blob(r, bytes, size);
    return size;
}

void tensor_reply_add_strings(struct tensor_reply *r, const char *name, const struct shape *s,
                              const char *const *strings, size_t count, bool binary)
{
    struct json_out *w = &r->json;
    out_open_object(w);
    out_put_string(w, "name", name);
    out_put_string(w, "datatype", "BYTES");
    out_put_int64s(w, "shape", s->dim, (size_t)s->rank);
    out_key(w, binary ? "parameters" : "data");
    if (binary) {
        out_open_object(w);
        out_put_uint(w, "binary_data_size", add_strings(r, strings, count));
    } else {
        out_open_array(w);
        for (size_t i = 0; i < count; i++)
            out_string(w, strings[i]);
    }
    out_close(w);
    out_close(w);
}

void tensor_reply_fields(struct tensor_reply *r, const struct tensor_out *t, bool binary)
{
    struct json_out *w = &r->json;
    size_t size = (size_t)t->count * dtype_size(t->dtype);
    out_put_string(w, "name", t->name);
    out_put_string(w, "datatype", datatype_of(t->dtype)->name);
    out_put_int64s(w, "shape", t->shape.dim, (size_t)t->shape.rank);
    if (!binary) {
        add_data(r, t);
        return;
    }
    out_key(w, "parameters");
    out_open_object(w);
    out_put_uint(w, "binary_data_size", size);
    out_close(w);
    add_blob(r, t->data, size);
}

void tensor_reply_add(struct tensor_reply *r, const struct tensor_out *t, bool binary)
{
    out_open_object(&r->json);
    tensor_reply_fields(r, t, binary);
    out_close(&r->json);
}

int tensor_reply_end(struct tensor_reply *r, int status)
{
    char size[24];
    out_put_non_finite(&r->json);
    out_close(&r->json);
    snprintf(size, sizeof size, "%zu", r->json.size);
    for (const struct tensor_blob *b = r->first; b; b = b->next)
        out_append_bytes(&r->json, b->data, b->size);
    bool failed = r->json.failed;
    status = reply_json(r->q, status, &r->json);
    if (r->first && !failed) {
        r->q->response.content_type = "application/octet-stream";
        reply_header(r->q, "Inference-Header-Content-Length", size);
    }
    return status;
}

int tensor_reply_fail(struct tensor_reply *r, const struct error *e)
{
    out_free(&r->json);
    return reply_error(r->q, e);
}
