/* describe_template.h: templates: descriptions that are written from a few arguments.
 *
 * {"template":{"name":"yolo","size":"n","num_classes":3}, "seed":1} stands for the description that
 * the template writes, in which the fields beside `template` replace or add to its own. A template
 * is one row of a family's table and the function that writes it, with the layers and the names of
 * parameters that the field's own implementation has. */
#ifndef SERVER_DESCRIBE_TEMPLATE_H
#define SERVER_DESCRIBE_TEMPLATE_H

#include "backprop.h"

#include <jansson.h>
#include <stddef.h>

struct template
{
    const char *name, *doc;
    const struct attr_def *attrs; /* its arguments; ends with name NULL */
    size_t attrs_size;            /* of the struct that they fill */
    /* The description. A new reference; NULL, BAD_VALUE and OUT_OF_MEMORY. */
    json_t *(*write)(const void *variant, const void *arguments, struct error *e);
    const void *variant; /* what tells templates of one function apart; its own */
};
/* The i-th template; NULL past the last. */
const struct template *template_at(int i);

/* The whole description that one with the field `template` stands for. A new reference; NULL and
 * BAD_TYPE, MISSING_FIELD, UNKNOWN_OPERATOR, BAD_ATTRIBUTE, OUT_OF_MEMORY. */
json_t *template_expand(const json_t *description, struct error *e);

/* The families: tables that end with name NULL, each in describe_template_NAME.c. */
extern const struct template templates_basic[], templates_vgg[], templates_resnet[],
    templates_mobilenet[], templates_unet[], templates_text[], templates_transformer[],
    templates_yolo[];

/* Of networks that have blocks: whether backward computes them again. */
#define RECOMPUTE_ARGUMENT(type)                                                                   \
    {                                                                                              \
        "recompute", ATTR_BOOL, offsetof(type, recompute), "false", 0, 1, NULL,                    \
            "whether backward computes the inside of each block again: less memory, more time"     \
    }

/* Arguments that classifiers of images share, and the rows for them. */
struct image_arguments {
    int64_t num_classes, image_size, channels;
};
#define IMAGE_ARGUMENTS(type, classes, size)                                                       \
    {"num_classes", ATTR_INT,           offsetof(type, image.num_classes), classes, 1, 100000,     \
     NULL,          "classes of images"},                                                          \
        {"image_size", ATTR_INT, offsetof(type, image.image_size), size, 1,                        \
         4096,         NULL,     "height and width of the images"},                                \
    {                                                                                              \
        "channels", ATTR_INT, offsetof(type, image.channels), "3", 1, 1024, NULL,                  \
            "channels of the images"                                                               \
    }

/* Arguments that classifiers of texts share, and the rows for them. */
struct text_arguments {
    int64_t vocab_size, sequence_length, embedding_dim, num_classes, padding_idx;
};
#define TEXT_ARGUMENTS(type, width)                                                                \
    {"vocab_size", ATTR_INT,          offsetof(type, text.vocab_size), NULL, 1, 1 << 24,           \
     NULL,         "different tokens"},                                                            \
        {"sequence_length",                                                                        \
         ATTR_INT,                                                                                 \
         offsetof(type, text.sequence_length),                                                     \
         NULL,                                                                                     \
         1,                                                                                        \
         1 << 20,                                                                                  \
         NULL,                                                                                     \
         "tokens of a sample; shorter ones are padded by the client"},                             \
        {"embedding_dim", ATTR_INT, offsetof(type, text.embedding_dim), width, 1,                  \
         65536,           NULL,     "numbers that stand for a token"},                             \
        {"num_classes", ATTR_INT,          offsetof(type, text.num_classes), "2", 1, 100000,       \
         NULL,          "classes of texts"},                                                       \
    {                                                                                              \
        "padding_idx", ATTR_INT, offsetof(type, text.padding_idx), "-1", 0, 1 << 24, NULL,         \
            "the token that pads, whose vector stays zero; none given: no such token"              \
    }

/* What a classifier of texts has beside its layers: the input "tokens", INT64 [N, T], cross entropy
 * and the optimiser, whose reference is taken. A new reference; NULL: out of memory. */
json_t *template_text(const struct text_arguments *text, json_t *optimizer);

/* What a classifier of images has beside its layers: the input "image", cross entropy, and the
 * optimiser, whose reference is taken. A new reference; NULL: out of memory. */
json_t *template_classifier(const struct image_arguments *image, json_t *optimizer);

/* Attributes of a conv2d as torchvision's residual networks have it: padded to keep the size, no
 * bias, kaiming_normal by fan_out. A new reference; NULL: out of memory. */
json_t *template_conv(int channels, int kernel, int stride, int groups);

#endif
