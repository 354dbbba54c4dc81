/* describe_template.h: templates: descriptions that are written from a few arguments.
 *
 * {"template":{"name":"yolo","size":"n","num_classes":3}, "seed":1} stands for the description that
 * the template writes, in which the fields beside `template` replace or add to its own. A template
 * is one row of the table in describe_template.c and the function that writes it. */
#ifndef SERVER_DESCRIBE_TEMPLATE_H
#define SERVER_DESCRIBE_TEMPLATE_H

#include "backprop.h"

#include <jansson.h>

struct template
{
    const char *name, *doc;
    const struct attr_def *attrs; /* its arguments; ends with name NULL */
    size_t attrs_size;            /* of the struct that they fill */
    /* The description. A new reference; NULL and OUT_OF_MEMORY. */
    json_t *(*write)(const void *arguments, struct error *e);
};
/* The i-th template; NULL past the last. */
const struct template *template_at(int i);

/* The whole description that one with the field `template` stands for. A new reference; NULL and
 * BAD_TYPE, MISSING_FIELD, UNKNOWN_OPERATOR, BAD_ATTRIBUTE, OUT_OF_MEMORY. */
json_t *template_expand(const json_t *description, struct error *e);

/* describe_template_yolo.c */
struct yolo_arguments {
    int size; /* place in "n|s"; not looked at by yolo_tiny */
    int64_t num_classes, image_size, channels;
};
json_t *template_yolo(const void *arguments, struct error *e);
json_t *template_yolo_tiny(const void *arguments, struct error *e);

#endif
