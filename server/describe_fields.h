/* describe_fields.h: reading the objects of a description by tables of fields. */
#ifndef SERVER_DESCRIBE_FIELDS_H
#define SERVER_DESCRIBE_FIELDS_H

#include "backprop.h"

#include <jansson.h>

/* Sets of JSON types. */
enum {
    IS_OBJECT = 1 << JSON_OBJECT,
    IS_LIST = 1 << JSON_ARRAY,
    IS_STRING = 1 << JSON_STRING,
    IS_INT = 1 << JSON_INTEGER,
    IS_NUMBER = IS_INT | 1 << JSON_REAL,
    IS_BOOL = 1 << JSON_TRUE | 1 << JSON_FALSE,
    IS_NULL = 1 << JSON_NULL,
};

/* A row of a table of fields, which ends with name NULL. */
struct field {
    const char *name;
    unsigned types;
    const char *expected; /* the types, in words */
    bool required;
};

/* The row of a name; NULL: none. */
const struct field *describe_field(const struct field *fields, const char *name);

/* Where a value stands: "layers[3].kernel_size". */
struct place {
    char text[128];
};
struct place describe_place(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "a list", "the integer 3" ...: what was found, for sentences. */
const char *describe_found(const json_t *value, struct place *text);

/* Checks that `value` has one of the types. BAD_TYPE. */
int describe_check_type(const json_t *value, const char *place, unsigned types,
                        const char *expected, struct error *e);

/* Checks an object against its table. `place` is "" for the whole body. With
 * `attributes` other keys are left to describe_attrs. BAD_TYPE, UNKNOWN_FIELD, MISSING_FIELD. */
int describe_check_fields(const json_t *object, const char *place, const struct field *fields,
                          bool attributes, struct error *e);

/* The value of a field; NULL when it is left out or null. */
const json_t *describe_get(const json_t *object, const char *name);
const char *describe_get_string(const json_t *object, const char *name); /* NULL when not there */

/* A name of the description: 1 to 64 of A-Z a-z 0-9 _ . -. BAD_NAME. */
int describe_check_name(const char *name, const char *place, struct error *e);
/* Checks the length of a list: BAD_VALUE when it is empty, TOO_LARGE above `max`. */
int describe_check_count(const json_t *list, const char *place, size_t max, struct error *e);

/* The keys of `object` that are not in `fields`, as attributes. They lie in `a` and point into the
 * object. BAD_TYPE when one is not a number, boolean, string, null or list of numbers. */
int describe_attrs(const json_t *object, const char *place, const struct field *fields,
                   struct arena *a, struct attr **attrs_r, int *n_r, struct error *e);

/* json_object_set_new and json_array_append_new, which take the reference to `value` in any case.
 * OUT_OF_MEMORY, also when `value` is NULL. */
int describe_put(json_t *object, const char *key, json_t *value, struct error *e);
int describe_append(json_t *list, json_t *value, struct error *e);

#endif
