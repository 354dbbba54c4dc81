/* tensor.c: reading the tensors of a request: their fields, and which bytes are theirs. */
#include "tensor.h"

#include "describe_fields.h"

#include <stdio.h>
#include <string.h>

const char *tensor_what(const struct tensor *t, struct tensor_text *text)
{
    if (t->name)
        snprintf(text->text, sizeof text->text, "%s '%.100s'", t->field, t->name);
    else if (t->index >= 0)
        snprintf(text->text, sizeof text->text, "%s[%d]", t->field, t->index);
    else
        snprintf(text->text, sizeof text->text, "%s", t->field);
    return text->text;
}

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return v ? names[json_typeof(v)] : "missing";
}

/* What its reader knows of a tensor. */
struct source {
    struct request *q;
    struct tensor *t;
    const char *extra; /* further fields that are allowed */
    struct error *e;
};

static int wrong_type(struct source *s, const char *field, const json_t *v, const char *expected)
{
    struct tensor_text text;
    return error_set(s->e, ERROR_BAD_TYPE, "%s: '%s' is %s, expected %s", tensor_what(s->t, &text),
                     field, type_name(v), expected);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static int read_name(struct source *s, const json_t *v)
{
    if (!json_is_string(v))
        return wrong_type(s, "name", v, "a string");
    s->t->name = json_string_value(v);
    return 0;
}

static int read_datatype(struct source *s, const json_t *v)
{
    struct tensor_text text;
    if (!json_is_string(v))
        return wrong_type(s, "datatype", v, "a string");
    const char *name = json_string_value(v);
    struct nearest near = {.given = name};
    if ((s->t->datatype = datatype_find(name)))
        return 0;
    for (int i = 0; datatype_at(i); i++)
        nearest_offer(&near, datatype_at(i)->name);
    return error_set(s->e, ERROR_BAD_DTYPE, "%s: unknown datatype '%.40s'%s%s",
                     tensor_what(s->t, &text), name, near.best ? ", did you mean " : "",
                     near.best ? near.best : "");
}

static int read_shape(struct source *s, const json_t *v)
{
    struct tensor_text text;
    struct shape *shape = &s->t->shape;
    if (!json_is_array(v))
        return wrong_type(s, "shape", v, "an array of whole numbers");
    if (json_array_size(v) > SHAPE_MAX_RANK)
        return error_set(s->e, ERROR_BAD_SHAPE, "%s: shape has %zu sizes, at most %d are possible",
                         tensor_what(s->t, &text), json_array_size(v), SHAPE_MAX_RANK);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *dim = json_array_get(v, i);
        if (!json_is_integer(dim))
            return wrong_type(s, "shape", dim, "whole numbers");
        if (json_integer_value(dim) < 0)
            return error_set(s->e, ERROR_BAD_SHAPE,
                             "%s: shape has the size %lld, expected 0 or more",
                             tensor_what(s->t, &text), (long long)json_integer_value(dim));
        shape->dim[i] = json_integer_value(dim);
    }
    shape->rank = (int)json_array_size(v);
    s->t->has_shape = true;
    return 0;
}

static int read_data(struct source *s, const json_t *v)
{
    if (!json_is_array(v))
        return wrong_type(s, "data", v, "an array");
    s->t->span = json_in_span(&s->q->json, s->t->object, "data");
    bool bytes = s->t->datatype ? !s->t->datatype->size : json_is_string(json_array_get(v, 0));
    if (bytes && !s->t->span)
        s->t->strings = v;
    if (s->t->span || bytes)
        return 0;
    return wrong_type(s, "data", json_array_get(v, 0), "numbers");
}

/* binary_data_size takes the next bytes after the JSON. Other parameters are the client's own. */
static int read_parameters(struct source *s, const json_t *v)
{
    struct tensor_text text;
    struct request *q = s->q;
    if (!json_is_object(v))
        return wrong_type(s, "parameters", v, "an object");
    s->t->parameters = v;
    const json_t *size = describe_get(v, "binary_data_size");
    if (!size)
        return 0;
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return wrong_type(s, "binary_data_size", size, "a whole number");
    size_t left = q->body_size - q->json_size - q->binary_used;
    if ((uint64_t)json_integer_value(size) > left)
        return error_set(s->e, ERROR_BAD_BINARY,
                         "%s: binary_data_size is %lld, but %zu bytes are left after the JSON%s",
                         tensor_what(s->t, &text), (long long)json_integer_value(size), left,
                         left ? "" : " (Inference-Header-Content-Length says where it ends)");
    s->t->bytes = (const unsigned char *)q->body + q->json_size + q->binary_used;
    s->t->size = (size_t)json_integer_value(size);
    q->binary_used += s->t->size;
    return 0;
}

static int read_boxes(struct source *s, const json_t *v)
{
    if (!json_is_array(v))
        return wrong_type(s, "boxes", v, "a list of the boxes of each image");
    s->t->boxes = v;
    return 0;
}

static int read_format(struct source *s, const json_t *v)
{
    return json_is_string(v) ? 0 : wrong_type(s, "format", v, "a string");
}

static const struct {
    const char *name;
    int (*read)(struct source *s, const json_t *v);
} fields[] = {
    /* in the order in which they are read: data looks at the datatype */
    {"name", read_name},         {"shape", read_shape},
    {"datatype", read_datatype}, {"parameters", read_parameters},
    {"data", read_data},         {"boxes", read_boxes},
    {"format", read_format},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static int unknown_field(struct source *s, const char *key)
{
    struct tensor_text text;
    struct nearest near = {.given = key};
    for (int i = 0; i < FIELDS; i++)
        nearest_offer(&near, fields[i].name);
    return error_set(s->e, ERROR_UNKNOWN_FIELD, "%s: unknown field '%.40s'%s%s",
                     tensor_what(s->t, &text), key, near.best ? ", did you mean " : "",
                     near.best ? near.best : "");
}

static bool field_known(const struct source *s, const char *key)
{
    for (int i = 0; i < FIELDS; i++)
        if (!strcmp(key, fields[i].name))
            return true;
    return s->extra && !strcmp(key, s->extra);
}

static int read_fields(struct source *s, const json_t *object)
{
    for (int i = 0; i < FIELDS; i++) {
        const json_t *v = describe_get(object, fields[i].name);
        if (v && fields[i].read(s, v))
            return -1;
    }
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, key, v)
    {
        if (!field_known(s, key))
            return unknown_field(s, key);
    }
    return 0;
}

/* The threads that read its numbers when they are many. */
static struct pool *readers(const struct request *q)
{
    bool first = q->route && q->route->flags & ROUTE_PREDICTS;
    return first ? pool_first(q->server->pool) : q->server->pool;
}

/* ---- one tensor ------------------------------------------------------------------------------ */

/* A list in the place of a tensor: of numbers without a name, if it did not begin with something
 * else, which is named. */
static int read_numbers(struct source *s, const json_t *list)
{
    struct tensor_text text;
    struct place at = describe_place("%s", tensor_what(s->t, &text)), found;
    const json_t *v = list;
    for (; json_is_array(v) && json_array_size(v); v = json_array_get(v, 0))
        at = describe_place("%.100s[0]", at.text);
    if (json_is_number(v) || json_is_array(v))
        return error_set(s->e, ERROR_BAD_TYPE,
                         "%s is a list of numbers among tensors that are objects",
                         tensor_what(s->t, &text));
    return error_set(s->e, ERROR_BAD_TYPE, "%s: expected a number, found %s", at.text,
                     describe_found(v, &found));
}

static int read_one(struct source *s, const json_t *object)
{
    struct tensor *t = s->t;
    struct tensor_text text;
    if (json_is_array(object) && t->index >= 0)
        return read_numbers(s, object);
    if (!json_is_object(object))
        return error_set(s->e, ERROR_BAD_TYPE,
                         "%s is %s, expected an object with name, shape, "
                         "datatype and data",
                         tensor_what(t, &text), type_name(object));
    t->object = object;
    if (read_fields(s, object))
        return -1;
    bool data = describe_get(object, "data");
    if (data && t->bytes)
        return error_set(s->e, ERROR_BAD_BINARY, "%s has both data and binary_data_size",
                         tensor_what(t, &text));
    if (t->boxes && (data || t->bytes))
        return error_set(s->e, ERROR_BAD_TYPE, "%s has both boxes and data", tensor_what(t, &text));
    if (!data && !t->bytes && !t->boxes)
        return error_set(s->e, ERROR_MISSING_FIELD, "%s has no data", tensor_what(t, &text));
    if (t->span && t->datatype && t->datatype->size && !t->datatype->in_json)
        return error_set(s->e, ERROR_BAD_DTYPE, "%s: %s has no JSON form, send it as binary",
                         tensor_what(t, &text), t->datatype->name);
    return 0;
}

int tensor_read(struct request *q, const char *field, const char *name, const json_t *object,
                const char *extra, struct tensor *t, struct error *e)
{
    *t = (struct tensor){.field = field, .name = name, .index = -1, .pool = readers(q)};
    struct source s = {q, t, extra, e};
    if (read_one(&s, object))
        return -1;
    return t->boxes ? unknown_field(&s, "boxes") : 0;
}

void tensor_read_raw(struct request *q, struct tensor *t)
{
    *t = (struct tensor){.field = "inputs", .index = -1};
    t->bytes = (const unsigned char *)q->body;
    t->size = q->body_size;
    q->binary_used = q->body_size;
}

/* ---- a field's tensors ----------------------------------------------------------------------- */

/* `list` NULL: one tensor that is not in a list. */
static int read_list(struct request *q, const char *field, const json_t *list,
                     struct tensor *tensors, struct error *e)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        tensors[i] = (struct tensor){.field = field, .index = (int)i, .pool = readers(q)};
        if (read_one(&(struct source){q, &tensors[i], NULL, e}, json_array_get(list, i)))
            return -1;
    }
    return 0;
}

int tensors_read(struct request *q, const char *field, struct tensor **tensors_r, int *n_r,
                 struct error *e)
{
    const json_t *list = describe_get(q->json.root, field); /* NULL root: NULL */
    const struct json_span *span = json_in_span(&q->json, q->json.root, field);
    if (!list && !q->raw_tensor)
        return error_set(e, ERROR_MISSING_FIELD, "field '%s' is missing", field);
    if (list && !json_is_array(list))
        return error_set(e, ERROR_BAD_TYPE, "'%s' is %s, expected an array", field,
                         type_name(list));
    bool strings = list && !span && json_is_string(json_array_get(list, 0));
    bool files = q->n_images && !strcmp(field, "inputs");
    size_t n = (span || strings || !list ? 1 : json_array_size(list)) + files;
    struct tensor *tensors = n < INT32_MAX ? arena_array(q->arena, n + 1, sizeof *tensors) : NULL;
    if (!tensors)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %zu tensors", n);
    *tensors_r = tensors;
    *n_r = (int)n;
    if (files)
        tensors[--n] = (struct tensor){
            .field = field, .index = -1, .images = q->images, .size = (size_t)q->n_images};
    if (!list)
        tensor_read_raw(q, tensors);
    else if (span)
        tensors[0] = (struct tensor){.field = field, .index = -1, .span = span, .pool = readers(q)};
    else if (strings)
        tensors[0] = (struct tensor){.field = field, .index = -1, .strings = list};
    else
        return read_list(q, field, list, tensors, e);
    return 0;
}

int tensors_end(struct request *q, struct error *e)
{
    size_t all = q->raw_tensor ? q->body_size : q->body_size - q->json_size;
    if (q->binary_used == all)
        return 0;
    return error_set(e, ERROR_BAD_BINARY,
                     "%zu bytes follow the JSON, the tensors' binary_data_size add up to %zu", all,
                     q->binary_used);
}
