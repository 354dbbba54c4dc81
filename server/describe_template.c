/* describe_template.c: the table of templates, and what a description with one stands for. */
#include "describe_template.h"

#include "describe_fields.h"

#include <string.h>

static const struct template *const families[] = {
    templates_basic, templates_vgg,  templates_resnet,      templates_mobilenet,
    templates_unet,  templates_text, templates_transformer, templates_yolo,
};
enum { FAMILIES = sizeof families / sizeof *families };

const struct template *template_at(int i)
{
    for (int f = 0; i >= 0 && f < FAMILIES; f++)
        for (const struct template *t = families[f]; t->name; t++)
            if (i-- == 0)
                return t;
    return NULL;
}

json_t *template_classifier(const struct image_arguments *image, json_t *optimizer)
{
    const int size = (int)image->image_size;
    return json_pack("{s:[{s:s,s:s,s:[i,i,i,i]}],s:{s:s},s:o}", "inputs", "name", "image",
                     "datatype", "FP32", "shape", -1, (int)image->channels, size, size, "loss",
                     "op", "cross_entropy", "optimizer", optimizer);
}

json_t *template_conv(int channels, int kernel, int stride, int groups)
{
    return json_pack("{s:i,s:i,s:i,s:i,s:i,s:b,s:{s:{s:s,s:s}}}", "out_channels", channels,
                     "kernel_size", kernel, "stride", stride, "padding", kernel / 2, "groups",
                     groups, "bias", 0, "init", "weight", "op", "kaiming_normal", "mode",
                     "fan_out");
}

json_t *template_text(const struct text_arguments *text, json_t *optimizer)
{
    return json_pack("{s:[{s:s,s:s,s:[i,I]}],s:{s:s},s:o}", "inputs", "name", "tokens", "datatype",
                     "INT64", "shape", -1, (json_int_t)text->sequence_length, "loss", "op",
                     "cross_entropy", "optimizer", optimizer);
}

static const struct template *template_find(const char *name, struct error *e)
{
    struct nearest near = {.given = name};
    int at = 0;
    for (const struct template *t; (t = template_at(at)); at++) {
        if (strcmp(t->name, name) == 0)
            return t;
        nearest_offer(&near, t->name);
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
    return t->write(t->variant, arguments, e);
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
        if (strcmp(key, "losses") == 0) /* they replace the one of the template */
            json_object_del(whole, "loss");
        if (describe_put(whole, key, json_incref(value), e)) {
            json_decref(whole);
            return NULL;
        }
    }
    return whole;
}
