/* describe_template.c: the table of templates, and what a description with one stands for. */
#include "describe_template.h"

#include "describe_fields.h"

#include <stddef.h>
#include <string.h>

#define YOLO_ARGUMENTS(size)                                                                       \
    {"num_classes",                                                                                \
     ATTR_INT,                                                                                     \
     offsetof(struct yolo_arguments, num_classes),                                                 \
     "80",                                                                                         \
     1,                                                                                            \
     10000,                                                                                        \
     NULL,                                                                                         \
     "classes of objects"},                                                                        \
        {"image_size",                                                                             \
         ATTR_INT,                                                                                 \
         offsetof(struct yolo_arguments, image_size),                                              \
         size,                                                                                     \
         64,                                                                                       \
         4096,                                                                                     \
         NULL,                                                                                     \
         "height and width of the images, a multiple of the largest stride"},                      \
    {                                                                                              \
        "channels", ATTR_INT, offsetof(struct yolo_arguments, channels), "3", 1, 64, NULL,         \
            "channels of the images"                                                               \
    }

static const struct attr_def yolo_attrs[] = {
    {"size", ATTR_CHOICE, offsetof(struct yolo_arguments, size), "n", 0, 0, "n|s",
     "n: 3 million parameters; s: 11 million"},
    YOLO_ARGUMENTS("640"),
    {0},
};
static const struct attr_def yolo_tiny_attrs[] = {
    YOLO_ARGUMENTS("320"),
    {0},
};

static const struct template templates[] = {
    {"yolo", "YOLOv8: C2f backbone, anchor-free detection at strides 8, 16 and 32", yolo_attrs,
     sizeof(struct yolo_arguments), template_yolo},
    {"yolo_tiny", "the same kind of detector for CPUs: half a million parameters, strides 8 and 16",
     yolo_tiny_attrs, sizeof(struct yolo_arguments), template_yolo_tiny},
};
enum { TEMPLATES = sizeof templates / sizeof *templates };

const struct template *template_at(int i)
{
    return i >= 0 && i < TEMPLATES ? &templates[i] : NULL;
}

static const struct template *template_find(const char *name, struct error *e)
{
    struct nearest near = {.given = name};
    for (int i = 0; i < TEMPLATES; i++) {
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
        nearest_offer(&near, templates[i].name);
    }
    error_set(e, ERROR_UNKNOWN_OPERATOR,
              "template.name: no template '%.60s'%s%s%s (GET /v2/templates lists them)", name,
              near.best ? "; did you mean '" : "", near.best ? near.best : "",
              near.best ? "'?" : "");
    return NULL;
}

static const struct field template_fields[] = {
    {"name", IS_STRING, "a string", true},
    {0},
};

/* What the template writes for the given arguments. */
static json_t *template_write(const json_t *given, struct arena *a, struct error *e)
{
    struct attr *attrs;
    int n;
    if (describe_check_fields(given, "template", template_fields, true, e) ||
        describe_attrs(given, "template", template_fields, a, &attrs, &n, e))
        return NULL;
    const struct template *t = template_find(describe_get_string(given, "name"), e);
    void *arguments = t ? arena_alloc(a, t->attrs_size) : NULL;
    if (t && !arguments)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a template");
    if (!arguments || attrs_parse(t->attrs, "template", attrs, n, a, arguments, e))
        return NULL;
    return t->write(arguments, e);
}

json_t *template_expand(const json_t *description, struct error *e)
{
    struct arena *a = arena_create(1024);
    const json_t *given = describe_get(description, "template");
    json_t *named = json_is_string(given) ? json_pack("{s:O}", "name", given) : NULL;
    json_t *whole = NULL, *value;
    const char *key;
    if (a && (named || !json_is_string(given)))
        whole = template_write(named ? named : given, a, e);
    else
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a template");
    json_decref(named);
    if (a)
        arena_destroy(&a);
    json_object_foreach((json_t *)(uintptr_t)description, key, value)
    {
        if (!whole || strcmp(key, "template") == 0 || json_is_null(value))
            continue;
        if (describe_put(whole, key, json_incref(value), e)) {
            json_decref(whole);
            return NULL;
        }
    }
    return whole;
}
