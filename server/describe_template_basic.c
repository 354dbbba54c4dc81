/* describe_template_basic.c: the networks that everybody begins with: a multilayer perceptron,
 * LeNet-5 and an autoencoder. */
#include "describe_template.h"

#include "describe_writer.h"

static const char *const activations[] = {"relu", "tanh", "sigmoid", "gelu", "silu", "elu"};
#define ACTIVATIONS "relu|tanh|sigmoid|gelu|silu|elu"

enum { WIDTHS_MAX = 1000, WIDTH_MAX = 1 << 20 };

/* Widths are read as numbers; those of layers are whole. */
static int widths_check(const struct real_list *widths, struct error *e)
{
    if (widths->n > WIDTHS_MAX)
        return error_set(e, ERROR_BAD_VALUE, "template.hidden: expected up to %d widths, found %d",
                         WIDTHS_MAX, widths->n);
    for (int i = 0; i < widths->n; i++)
        if (widths->v[i] != (double)(int64_t)widths->v[i])
            return error_set(e, ERROR_BAD_VALUE,
                             "template.hidden[%d]: expected an integer, found %.10g", i,
                             widths->v[i]);
    return 0;
}

static const char *linear(struct writer *w, const char *name, double width, const char *x)
{
    return writer_layer1(w, name, "linear", json_pack("{s:I}", "out_features", (json_int_t)width),
                         x);
}

/* ---- mlp ------------------------------------------------------------------------------------- */

struct mlp_arguments {
    int64_t in_features, out_features;
    struct real_list hidden;
    int activation, loss;
    bool batch_norm;
    double dropout;
};

static json_t *mlp_rest(const struct mlp_arguments *a)
{
    static const char *const losses[] = {"cross_entropy", "mse", "bce_with_logits"};
    return json_pack("{s:[{s:s,s:s,s:[i,I]}],s:{s:s},s:{s:s,s:f}}", "inputs", "name", "x",
                     "datatype", "FP32", "shape", -1, a->in_features, "loss", "op", losses[a->loss],
                     "optimizer", "op", "adam", "lr", 1e-3);
}

/* Parameters are called fc1, fc2 ... and bn1, bn2 ... */
static json_t *mlp_write(const void *variant, const void *arguments, struct error *e)
{
    const struct mlp_arguments *a = arguments;
    const char *act = activations[a->activation], *x = "x";
    struct writer writer, *w = &writer;
    (void)variant;
    if (widths_check(&a->hidden, e))
        return NULL;
    writer_begin(w);
    for (int i = 0; i < a->hidden.n; i++) {
        x = linear(w, writer_name(w, "fc%d", i + 1), a->hidden.v[i], x);
        if (a->batch_norm)
            x = writer_layer1(w, writer_name(w, "bn%d", i + 1), "batch_norm1d", NULL, x);
        x = writer_layer1(w, writer_name(w, "%s%d", act, i + 1), act, NULL, x);
        if (a->dropout > 0)
            x = writer_layer1(w, writer_name(w, "dropout%d", i + 1), "dropout",
                              json_pack("{s:f}", "p", a->dropout), x);
    }
    linear(w, writer_name(w, "fc%d", a->hidden.n + 1), (double)a->out_features, x);
    json_t *whole = writer_finish(w, mlp_rest(a), e);
    writer_end(w);
    return whole;
}

#define MLP(field) offsetof(struct mlp_arguments, field)
static const struct attr_def mlp_attrs[] = {
    {"in_features", ATTR_INT, MLP(in_features), NULL, 1, 1 << 24, NULL, "numbers of a sample"},
    {"hidden", ATTR_REALS, MLP(hidden), "128", 1, WIDTH_MAX, NULL, "widths of the hidden layers"},
    {"out_features", ATTR_INT, MLP(out_features), NULL, 1, WIDTH_MAX, NULL,
     "classes, or numbers of an answer"},
    {"activation", ATTR_CHOICE, MLP(activation), "relu", 0, 0, ACTIVATIONS,
     "behind each hidden layer"},
    {"batch_norm", ATTR_BOOL, MLP(batch_norm), "false", 0, 1, NULL, "before each activation"},
    {"dropout", ATTR_REAL, MLP(dropout), "0", 0, 0.99, NULL, "behind each activation"},
    {"loss", ATTR_CHOICE, MLP(loss), "cross_entropy", 0, 0, "cross_entropy|mse|bce_with_logits",
     "cross_entropy to classify, mse for regression"},
    {0},
};

/* ---- lenet5 ---------------------------------------------------------------------------------- */

struct lenet_arguments {
    struct image_arguments image;
    int activation, pool;
};

static const char *lenet_stage(struct writer *w, const struct lenet_arguments *a, int i,
                               int channels, int padding, const char *x)
{
    const char *act = activations[a->activation];
    json_t *conv =
        json_pack("{s:i,s:i,s:i}", "out_channels", channels, "kernel_size", 5, "padding", padding);
    x = writer_layer1(w, writer_name(w, "conv%d", i), "conv2d", conv, x);
    x = writer_layer1(w, writer_name(w, "%s%d", act, i), act, NULL, x);
    return writer_layer1(w, writer_name(w, "pool%d", i), a->pool ? "avg_pool2d" : "max_pool2d",
                         json_pack("{s:i}", "kernel_size", 2), x);
}

static json_t *lenet_write(const void *variant, const void *arguments, struct error *e)
{
    const struct lenet_arguments *a = arguments;
    const char *act = activations[a->activation];
    struct writer writer, *w = &writer;
    (void)variant;
    writer_begin(w);
    const char *x = lenet_stage(w, a, 1, 6, 2, "image");
    x = writer_layer1(w, "flatten", "flatten", NULL, lenet_stage(w, a, 2, 16, 0, x));
    x = writer_layer1(w, writer_name(w, "%s3", act), act, NULL, linear(w, "fc1", 120, x));
    x = writer_layer1(w, writer_name(w, "%s4", act), act, NULL, linear(w, "fc2", 84, x));
    linear(w, "fc3", (double)a->image.num_classes, x);
    json_t *adam = json_pack("{s:s,s:f}", "op", "adam", "lr", 1e-3);
    json_t *whole = writer_finish(w, template_classifier(&a->image, adam), e);
    writer_end(w);
    return whole;
}

#define LENET(field) offsetof(struct lenet_arguments, field)
static const struct attr_def lenet_attrs[] = {
    {"num_classes", ATTR_INT, LENET(image.num_classes), "10", 1, 100000, NULL, "classes of images"},
    {"image_size", ATTR_INT, LENET(image.image_size), "28", 12, 4096, NULL,
     "height and width of the images"},
    {"channels", ATTR_INT, LENET(image.channels), "1", 1, 1024, NULL, "channels of the images"},
    {"activation", ATTR_CHOICE, LENET(activation), "relu", 0, 0, ACTIVATIONS, "of all layers"},
    {"pool", ATTR_CHOICE, LENET(pool), "max", 0, 0, "max|avg", "how halves are made"},
    {0},
};

/* ---- autoencoder ----------------------------------------------------------------------------- */

struct autoencoder_arguments {
    int64_t in_features, latent;
    struct real_list hidden;
    int activation;
};

/* A linear layer at `place` of encoder or decoder, with its activation unless it is the last. */
static const char *coder_stage(struct writer *w, const char *side, int place, double width,
                               const char *act, const char *x)
{
    x = linear(w, writer_name(w, "%s.%d", side, place), width, x);
    return act ? writer_layer1(w, writer_name(w, "%s.%d", side, place + 1), act, NULL, x) : x;
}

/* The second output is the code; the target is the input itself. */
static json_t *autoencoder_rest(const struct autoencoder_arguments *a, const char *decoded,
                                const char *code)
{
    return json_pack("{s:[{s:s,s:s,s:[i,I]}],s:[{s:s,s:s},{s:s,s:s}],s:{s:s,s:s},s:{s:s,s:f}}",
                     "inputs", "name", "x", "datatype", "FP32", "shape", -1, a->in_features,
                     "outputs", "name", "output", "layer", decoded, "name", "latent", "layer", code,
                     "loss", "op", "mse", "target", "x", "optimizer", "op", "adam", "lr", 1e-3);
}

static json_t *autoencoder_write(const void *variant, const void *arguments, struct error *e)
{
    const struct autoencoder_arguments *a = arguments;
    const char *act = activations[a->activation], *x = "x";
    const int n = a->hidden.n;
    struct writer writer, *w = &writer;
    (void)variant;
    if (widths_check(&a->hidden, e))
        return NULL;
    writer_begin(w);
    for (int i = 0; i < n; i++)
        x = coder_stage(w, "encoder", 2 * i, a->hidden.v[i], act, x);
    const char *code = x = coder_stage(w, "encoder", 2 * n, (double)a->latent, NULL, x);
    for (int i = 0; i < n; i++)
        x = coder_stage(w, "decoder", 2 * i, a->hidden.v[n - 1 - i], act, x);
    x = coder_stage(w, "decoder", 2 * n, (double)a->in_features, NULL, x);
    json_t *whole = writer_finish(w, autoencoder_rest(a, x, code), e);
    writer_end(w);
    return whole;
}

#define AUTOENCODER(field) offsetof(struct autoencoder_arguments, field)
static const struct attr_def autoencoder_attrs[] = {
    {"in_features", ATTR_INT, AUTOENCODER(in_features), NULL, 1, WIDTH_MAX, NULL,
     "numbers of a sample"},
    {"hidden", ATTR_REALS, AUTOENCODER(hidden), "128", 1, WIDTH_MAX, NULL,
     "widths of the encoder's layers; the decoder has them in reverse"},
    {"latent", ATTR_INT, AUTOENCODER(latent), "16", 1, WIDTH_MAX, NULL, "numbers of the code"},
    {"activation", ATTR_CHOICE, AUTOENCODER(activation), "relu", 0, 0, ACTIVATIONS,
     "behind each hidden layer"},
    {0},
};

/* ---- the rows -------------------------------------------------------------------------------- */

const struct template templates_basic[] = {
    {"mlp", "linear layers with an activation between", mlp_attrs, sizeof(struct mlp_arguments),
     mlp_write, NULL},
    {"lenet5", "LeNet-5: two convolutions of 5x5, three linear layers", lenet_attrs,
     sizeof(struct lenet_arguments), lenet_write, NULL},
    {"autoencoder", "an encoder to a few numbers and a decoder back; learns without targets",
     autoencoder_attrs, sizeof(struct autoencoder_arguments), autoencoder_write, NULL},
    {0},
};
