/* describe_template_text.c: networks on sequences of tokens: input "tokens", INT64 [N, T]. */
#include "describe_template.h"

#include "describe_writer.h"

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

static json_t *text_rest(const struct text_arguments *text, json_t *optimizer)
{
    return json_pack("{s:[{s:s,s:s,s:[i,I]}],s:{s:s},s:o}", "inputs", "name", "tokens", "datatype",
                     "INT64", "shape", -1, text->sequence_length, "loss", "op", "cross_entropy",
                     "optimizer", optimizer);
}

static const char *embedding(struct writer *w, const struct text_arguments *text)
{
    json_t *attrs = json_pack("{s:I,s:I}", "num_embeddings", text->vocab_size, "embedding_dim",
                              text->embedding_dim);
    if (text->padding_idx >= 0)
        w->failed |= json_object_set_new(attrs, "padding_idx", json_integer(text->padding_idx));
    return writer_layer1(w, "embedding", "embedding", attrs, "tokens");
}

/* ---- text_cnn -------------------------------------------------------------------------------- */

struct text_cnn_arguments {
    struct text_arguments text;
    int64_t num_filters;
    struct int_list kernel_sizes;
    double dropout;
};

/* Filters of k tokens and the strongest answer of each. */
static const char *filters(struct writer *w, int i, int64_t n, int64_t kernel, const char *x)
{
    x = writer_layer1(w, writer_name(w, "convs.%d", i), "conv1d",
                      json_pack("{s:I,s:I}", "out_channels", n, "kernel_size", kernel), x);
    x = writer_layer1(w, writer_name(w, "relu%d", i), "relu", NULL, x);
    return writer_layer1(w, writer_name(w, "max%d", i), "amax", json_pack("{s:[i]}", "dim", 2), x);
}

/* Kim, "Convolutional Neural Networks for Sentence Classification". */
static json_t *text_cnn_write(const void *variant, const void *arguments, struct error *e)
{
    const struct text_cnn_arguments *a = arguments;
    const struct int_list usual = {3, {3, 4, 5}};
    const struct int_list *kernels = a->kernel_sizes.n ? &a->kernel_sizes : &usual;
    const char *parts[SHAPE_MAX_RANK];
    struct writer writer, *w = &writer;
    (void)variant;
    writer_begin(w);
    const char *x =
        writer_layer1(w, "transpose", "transpose", json_pack("{s:i,s:i}", "dim0", 1, "dim1", 2),
                      embedding(w, &a->text));
    for (int i = 0; i < kernels->n; i++)
        parts[i] = filters(w, i, a->num_filters, kernels->v[i], x);
    x = writer_layer(w, "concat", "concat", json_pack("{s:i}", "dim", 1), parts, kernels->n);
    x = writer_layer1(w, "dropout", "dropout", json_pack("{s:f}", "p", a->dropout), x);
    writer_layer1(w, "fc", "linear", json_pack("{s:I}", "out_features", a->text.num_classes), x);
    json_t *whole =
        writer_finish(w, text_rest(&a->text, json_pack("{s:s,s:f}", "op", "adam", "lr", 1e-3)), e);
    writer_end(w);
    return whole;
}

#define CNN(field) offsetof(struct text_cnn_arguments, field)
static const struct attr_def text_cnn_attrs[] = {
    TEXT_ARGUMENTS(struct text_cnn_arguments, "128"),
    {"num_filters", ATTR_INT, CNN(num_filters), "100", 1, 65536, NULL, "of each size"},
    {"kernel_sizes", ATTR_INTS, CNN(kernel_sizes), "", 1, 1024, NULL,
     "tokens that a filter sees; empty: 3, 4 and 5"},
    {"dropout", ATTR_REAL, CNN(dropout), "0.5", 0, 0.99, NULL, "before the classifier"},
    {0},
};

/* ---- the rows -------------------------------------------------------------------------------- */

const struct template templates_text[] = {
    {"text_cnn", "convolutions over tokens and the maximum of each filter", text_cnn_attrs,
     sizeof(struct text_cnn_arguments), text_cnn_write, NULL},
    {0},
};
