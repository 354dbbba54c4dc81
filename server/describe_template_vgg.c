/* describe_template_vgg.c: VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks"), with
 * torchvision's layers, names and initialisers: a stack of 3x3 convolutions with pooling between,
 * 7x7 averages, three linear layers. Parameters are called features.N and classifier.N by their
 * places in torchvision's lists, in which ReLU, pooling and dropout count. */
#include "describe_template.h"

#include "describe_writer.h"

struct vgg_arguments {
    struct image_arguments image;
    bool batch_norm;
    int64_t hidden, pool_size;
    double dropout;
};

enum { POOL = 0 }; /* among the channels of a stack, which ends with -1 */

static const char *features(struct writer *w, const int *stack, bool batch_norm)
{
    const char *x = "image";
    int place = 0;
    for (; *stack >= 0; stack++) {
        if (*stack == POOL) {
            x = writer_layer1(w, writer_name(w, "features.%d", place++), "max_pool2d",
                              json_pack("{s:i}", "kernel_size", 2), x);
            continue;
        }
        json_t *conv = json_pack("{s:i,s:i,s:i,s:{s:{s:s,s:s},s:s}}", "out_channels", *stack,
                                 "kernel_size", 3, "padding", 1, "init", "weight", "op",
                                 "kaiming_normal", "mode", "fan_out", "bias", "zeros");
        x = writer_layer1(w, writer_name(w, "features.%d", place++), "conv2d", conv, x);
        if (batch_norm)
            x = writer_layer1(w, writer_name(w, "features.%d", place++), "batch_norm2d", NULL, x);
        x = writer_layer1(w, writer_name(w, "features.%d", place++), "relu", NULL, x);
    }
    return x;
}

static const char *linear(struct writer *w, const char *name, int64_t features_out, const char *x)
{
    return writer_layer1(w, name, "linear",
                         json_pack("{s:I,s:{s:{s:s,s:f},s:s}}", "out_features", features_out,
                                   "init", "weight", "op", "normal", "std", 0.01, "bias", "zeros"),
                         x);
}

static void classifier(struct writer *w, const struct vgg_arguments *a, const char *x)
{
    x = writer_layer1(w, "avgpool", "adaptive_avg_pool2d",
                      json_pack("{s:I}", "output_size", a->pool_size), x);
    x = writer_layer1(w, "flatten", "flatten", NULL, x);
    for (int i = 0; i < 2; i++) {
        x = linear(w, writer_name(w, "classifier.%d", 3 * i), a->hidden, x);
        x = writer_layer1(w, writer_name(w, "classifier.%d", 3 * i + 1), "relu", NULL, x);
        x = writer_layer1(w, writer_name(w, "classifier.%d", 3 * i + 2), "dropout",
                          json_pack("{s:f}", "p", a->dropout), x);
    }
    linear(w, "classifier.6", a->image.num_classes, x);
}

static json_t *vgg_write(const void *variant, const void *arguments, struct error *e)
{
    const struct vgg_arguments *a = arguments;
    struct writer w;
    writer_begin(&w);
    classifier(&w, a, features(&w, variant, a->batch_norm));
    json_t *sgd = json_pack("{s:s,s:f,s:f,s:f}", "op", "sgd", "lr", 0.01, "momentum", 0.9,
                            "weight_decay", 5e-4);
    json_t *whole = writer_finish(&w, template_classifier(&a->image, sgd), e);
    writer_end(&w);
    return whole;
}

/* ---- the rows -------------------------------------------------------------------------------- */

static const int vgg11[] = {64,  POOL, 128,  POOL, 256, 256,  POOL,
                            512, 512,  POOL, 512,  512, POOL, -1};
static const int vgg16[] = {64,  64,  POOL, 128,  128, POOL, 256, 256,  256, POOL,
                            512, 512, 512,  POOL, 512, 512,  512, POOL, -1};

#define VGG(field) offsetof(struct vgg_arguments, field)
static const struct attr_def vgg_attrs[] = {
    IMAGE_ARGUMENTS(struct vgg_arguments, "1000", "224"),
    {"batch_norm", ATTR_BOOL, VGG(batch_norm), "true", 0, 1, NULL,
     "whether batch norm stands behind each convolution"},
    {"hidden", ATTR_INT, VGG(hidden), "4096", 1, 65536, NULL, "width of the linear layers"},
    {"pool_size", ATTR_INT, VGG(pool_size), "7", 1, 64, NULL,
     "height and width of what the linear layers see; 1 for images of 32"},
    {"dropout", ATTR_REAL, VGG(dropout), "0.5", 0, 0.99, NULL, "behind the linear layers"},
    {0},
};

const struct template templates_vgg[] = {
    {"vgg11", "VGG-11 as torchvision has it (vgg11_bn): 132,868,840 parameters", vgg_attrs,
     sizeof(struct vgg_arguments), vgg_write, vgg11},
    {"vgg16", "VGG-16 (vgg16_bn): 138,365,992 parameters", vgg_attrs, sizeof(struct vgg_arguments),
     vgg_write, vgg16},
    {0},
};
