/* describe_fields.c: reading the objects of a description by tables of fields. The sentences about
 * types, unknown and missing fields, names and lengths are all written here. */
#include "describe_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 64 };

struct place describe_place(const char *format, ...)
{
    struct place p;
    va_list args;
    va_start(args, format);
    vsnprintf(p.text, sizeof p.text, format, args);
    va_end(args);
    return p;
}

static const char *const type_names[] = {
    [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_TRUE] = "true",
    [JSON_FALSE] = "false",      [JSON_NULL] = "null",
};

const char *describe_found(const json_t *value, struct place *text)
{
    if (json_is_string(value))
        *text = describe_place("the string '%.40s'", json_string_value(value));
    else if (json_is_integer(value))
        *text = describe_place("%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        *text = describe_place("%.10g", json_real_value(value));
    else
        *text = describe_place("%s", type_names[json_typeof(value)]);
    return text->text;
}

/* What comes between a place and its sentence: nothing when the object has no place. */
static const char *colon(const char *place)
{
    return place[0] ? ": " : "";
}

int describe_check_type(const json_t *value, const char *place, unsigned types,
                        const char *expected, struct error *e)
{
    struct place found;
    if (types & 1u << json_typeof(value))
        return 0;
    return error_set(e, ERROR_BAD_TYPE, "%s%sexpected %s, found %s", place, colon(place), expected,
                     describe_found(value, &found));
}

const json_t *describe_get(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

const char *describe_get_string(const json_t *object, const char *name)
{
    return json_string_value(describe_get(object, name));
}

const struct field *describe_field(const struct field *fields, const char *name)
{
    for (; fields->name; fields++)
        if (strcmp(fields->name, name) == 0)
            return fields;
    return NULL;
}

static int check_known(const json_t *object, const char *place, const struct field *fields,
                       struct error *e)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (describe_field(fields, key))
            continue;
        struct nearest near = {.given = key};
        for (const struct field *f = fields; f->name; f++)
            nearest_offer(&near, f->name);
        return error_set(e, ERROR_UNKNOWN_FIELD, "%s%sunknown field '%.60s'%s%s%s", place,
                         colon(place), key, near.best ? "; did you mean '" : "",
                         near.best ? near.best : "", near.best ? "'?" : "");
    }
    return 0;
}

int describe_check_fields(const json_t *object, const char *place, const struct field *fields,
                          bool attributes, struct error *e)
{
    if (describe_check_type(object, place, IS_OBJECT, "an object", e))
        return -1;
    if (!attributes && check_known(object, place, fields, e))
        return -1;
    for (const struct field *f = fields; f->name; f++) {
        const json_t *value = describe_get(object, f->name);
        struct place p = describe_place("%s%s%s", place, place[0] ? "." : "", f->name);
        if (!value && f->required)
            return error_set(e, ERROR_MISSING_FIELD, "%s%sthe field '%s' is missing (%s)", place,
                             colon(place), f->name, f->expected);
        if (value && describe_check_type(value, p.text, f->types, f->expected, e))
            return -1;
    }
    return 0;
}

int describe_check_name(const char *name, const char *place, struct error *e)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
    if (n >= 1 && n <= NAME_MAX_LENGTH && !name[n])
        return 0;
    return error_set(e, ERROR_BAD_NAME,
                     "%s: a name has 1 to %d of the characters A-Z a-z 0-9 _ . -, found '%.70s'",
                     place, NAME_MAX_LENGTH, name);
}

int describe_check_count(const json_t *list, const char *place, size_t max, struct error *e)
{
    size_t n = json_array_size(list);
    if (n == 0)
        return error_set(e, ERROR_BAD_VALUE, "%s: expected at least one, found an empty list",
                         place);
    if (n > max)
        return error_set(e, ERROR_TOO_LARGE, "%s: expected at most %zu, found %zu", place, max, n);
    return 0;
}

/* ---- attributes ------------------------------------------------------------------------------ */

static int attr_list(const json_t *list, const char *place, struct arena *a, struct attr *attr,
                     struct error *e)
{
    size_t n = json_array_size(list);
    double *numbers = arena_array(a, n + 1, sizeof *numbers);
    if (!numbers || n > INT32_MAX)
        return error_set(e, ERROR_OUT_OF_MEMORY, "%s: out of memory", place);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        struct place p = describe_place("%s[%zu]", place, i);
        if (describe_check_type(item, p.text, IS_NUMBER, "a number", e))
            return -1;
        numbers[i] = json_number_value(item);
    }
    attr->list = numbers;
    attr->n_list = (int)n;
    return 0;
}

static const enum attr_kind attr_kinds[] = {
    [JSON_NULL] = ATTR_IS_NULL,     [JSON_INTEGER] = ATTR_IS_INT, [JSON_REAL] = ATTR_IS_REAL,
    [JSON_TRUE] = ATTR_IS_BOOL,     [JSON_FALSE] = ATTR_IS_BOOL,  [JSON_ARRAY] = ATTR_IS_LIST,
    [JSON_STRING] = ATTR_IS_STRING,
};

static int attr_read(const json_t *value, const char *key, const char *place, struct arena *a,
                     struct attr *attr, struct error *e)
{
    if (describe_check_type(value, place, IS_NUMBER | IS_BOOL | IS_STRING | IS_LIST | IS_NULL,
                            "a number, a boolean, a string or a list of numbers", e))
        return -1;
    *attr = (struct attr){
        .name = key,
        .kind = attr_kinds[json_typeof(value)],
        .i = json_is_true(value) ? 1 : json_integer_value(value),
        .d = json_number_value(value),
        .s = json_string_value(value),
    };
    return json_is_array(value) ? attr_list(value, place, a, attr, e) : 0;
}

int describe_attrs(const json_t *object, const char *place, const struct field *fields,
                   struct arena *a, struct attr **attrs_r, int *n_r, struct error *e)
{
    const char *key;
    json_t *value;
    int n = 0;
    struct attr *attrs = arena_array(a, json_object_size(object) + 1, sizeof *attrs);
    if (!attrs)
        return error_set(e, ERROR_OUT_OF_MEMORY, "%s: out of memory", place);
    json_object_foreach((json_t *)object, key, value)
    {
        struct place p = describe_place("%s.%.60s", place, key);
        if (describe_field(fields, key))
            continue;
        if (attr_read(value, key, p.text, a, &attrs[n++], e))
            return -1;
    }
    *attrs_r = attrs;
    *n_r = n;
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

int describe_put(json_t *object, const char *key, json_t *value, struct error *e)
{
    return json_object_set_new(object, key, value)
               ? error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a description")
               : 0;
}

int describe_append(json_t *list, json_t *value, struct error *e)
{
    return json_array_append_new(list, value)
               ? error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a description")
               : 0;
}
