/* describe_template_text.c: networks on sequences of tokens: input "tokens", INT64 [N, T]. */
#include "describe_template.h"

#include "describe_writer.h"

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
    json_t *whole = writer_finish(
        w, template_text(&a->text, json_pack("{s:s,s:f}", "op", "adam", "lr", 1e-3)), e);
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

/* ---- lstm_classifier ------------------------------------------------------------------------- */

enum pooling { POOL_MEAN, POOL_MAX, POOL_LAST };

struct lstm_arguments {
    struct text_arguments text;
    int64_t hidden_size, num_layers;
    bool bidirectional;
    double dropout;
    int pool;
};

/* From [N, T, E] to [N, E]. */
static const char *pooled(struct writer *w, enum pooling pool, const char *x)
{
    static const char *const ops[] = {"mean", "amax"};
    if (pool == POOL_LAST)
        return x;
    return writer_layer1(w, "pool", ops[pool], json_pack("{s:[i]}", "dim", 1), x);
}

static json_t *lstm_write(const void *variant, const void *arguments, struct error *e)
{
    const struct lstm_arguments *a = arguments;
    struct writer writer, *w = &writer;
    (void)variant;
    writer_begin(w);
    json_t *attrs = json_pack("{s:I,s:I,s:b,s:f,s:s}", "hidden_size", a->hidden_size, "num_layers",
                              a->num_layers, "bidirectional", a->bidirectional, "dropout",
                              a->num_layers > 1 ? a->dropout : 0.0, "output",
                              a->pool == POOL_LAST ? "last" : "sequence");
    const char *x = writer_layer1(w, "lstm", "lstm", attrs, embedding(w, &a->text));
    x = pooled(w, (enum pooling)a->pool, x);
    x = writer_layer1(w, "dropout", "dropout", json_pack("{s:f}", "p", a->dropout), x);
    writer_layer1(w, "fc", "linear", json_pack("{s:I}", "out_features", a->text.num_classes), x);
    json_t *rest = template_text(&a->text, json_pack("{s:s,s:f}", "op", "adam", "lr", 1e-3));
    w->failed |= json_object_set_new(rest, "clip_grad_norm", json_real(1)) != 0;
    json_t *whole = writer_finish(w, rest, e);
    writer_end(w);
    return whole;
}

#define LSTM(field) offsetof(struct lstm_arguments, field)
static const struct attr_def lstm_attrs[] = {
    TEXT_ARGUMENTS(struct lstm_arguments, "128"),
    {"hidden_size", ATTR_INT, LSTM(hidden_size), "128", 1, 65536, NULL, "numbers of a state"},
    {"num_layers", ATTR_INT, LSTM(num_layers), "1", 1, 8, NULL, "layers on top of each other"},
    {"bidirectional", ATTR_BOOL, LSTM(bidirectional), "true", 0, 1, NULL,
     "whether a second walk goes from the end"},
    {"dropout", ATTR_REAL, LSTM(dropout), "0.2", 0, 0.99, NULL,
     "between layers and before the classifier"},
    {"pool", ATTR_CHOICE, LSTM(pool), "mean", 0, 0, "mean|max|last",
     "what of the sequence is classified; last: the last states, for texts padded in front"},
    {0},
};

/* ---- the rows -------------------------------------------------------------------------------- */

const struct template templates_text[] = {
    {"text_cnn", "convolutions over tokens and the maximum of each filter", text_cnn_attrs,
     sizeof(struct text_cnn_arguments), text_cnn_write, NULL},
    {"lstm_classifier", "embedding, LSTM and a linear layer", lstm_attrs,
     sizeof(struct lstm_arguments), lstm_write, NULL},
    {0},
};
