/* describe_template_mobilenet.c: MobileNetV2 (Sandler et al., "Inverted Residuals and Linear
 * Bottlenecks") with torchvision's layers, names and initialisers. A block widens its channels t
 * times by a 1x1 convolution, filters each by a 3x3 of its own, and narrows them without an
 * activation; where shape stays, the input is added. */
#include "describe_template.h"

#include "describe_writer.h"

struct mobilenet_arguments {
    struct image_arguments image;
    double width_mult, dropout;
    int stem; /* place in "imagenet|cifar" */
};

/* Convolution, batch norm, ReLU6, as NAME.0, NAME.1, NAME.2. */
static const char *conv_norm_relu(struct writer *w, const char *name, json_t *conv, const char *x)
{
    x = writer_layer1(w, writer_name(w, "%s.0", name), "conv2d", conv, x);
    x = writer_layer1(w, writer_name(w, "%s.1", name), "batch_norm2d", NULL, x);
    return writer_layer1(w, writer_name(w, "%s.2", name), "relu6", NULL, x);
}

/* To the nearest multiple of 8, but not below nine tenths (torchvision's _make_divisible). */
static int divisible(double channels)
{
    int rounded = (int)(channels + 4) / 8 * 8;
    rounded = rounded < 8 ? 8 : rounded;
    return rounded < 0.9 * channels ? rounded + 8 : rounded;
}

static const char *inverted_residual(struct writer *w, const char *name, const char *x, int in,
                                     int out, int stride, int expand)
{
    const char *y = x;
    int place = 0;
    if (expand != 1)
        y = conv_norm_relu(w, writer_name(w, "%s.conv.%d", name, place++),
                           template_conv(in * expand, 1, 1, 1), y);
    y = conv_norm_relu(w, writer_name(w, "%s.conv.%d", name, place++),
                       template_conv(in * expand, 3, stride, in * expand), y);
    y = writer_layer1(w, writer_name(w, "%s.conv.%d", name, place++), "conv2d",
                      template_conv(out, 1, 1, 1), y);
    y = writer_layer1(w, writer_name(w, "%s.conv.%d", name, place), "batch_norm2d", NULL, y);
    if (stride != 1 || in != out)
        return y;
    return writer_layer2(w, writer_name(w, "%s.add", name), "add", NULL, x, y);
}

/* All blocks; those for CIFAR keep the size in the stem and in the second group. */
static const char *features(struct writer *w, const struct mobilenet_arguments *a)
{
    static const struct {
        int expand, channels, blocks, stride;
    } groups[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                  {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    const bool cifar = a->stem == 1;
    int in = divisible(32 * a->width_mult), place = 1;
    const char *x =
        conv_norm_relu(w, "features.0", template_conv(in, 3, cifar ? 1 : 2, 1), "image");
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < groups[i].blocks; j++) {
            const int out = divisible(groups[i].channels * a->width_mult);
            const int stride = j > 0 || (cifar && i == 1) ? 1 : groups[i].stride;
            x = inverted_residual(w, writer_name(w, "features.%d", place++), x, in, out, stride,
                                  groups[i].expand);
            in = out;
        }
    const int last = divisible(1280 * (a->width_mult > 1 ? a->width_mult : 1));
    return conv_norm_relu(w, writer_name(w, "features.%d", place), template_conv(last, 1, 1, 1), x);
}

static json_t *mobilenet_write(const void *variant, const void *arguments, struct error *e)
{
    const struct mobilenet_arguments *a = arguments;
    struct writer writer, *w = &writer;
    (void)variant;
    writer_begin(w);
    const char *x = writer_layer1(w, "avgpool", "adaptive_avg_pool2d",
                                  json_pack("{s:i}", "output_size", 1), features(w, a));
    x = writer_layer1(w, "flatten", "flatten", NULL, x);
    x = writer_layer1(w, "classifier.0", "dropout", json_pack("{s:f}", "p", a->dropout), x);
    writer_layer1(w, "classifier.1", "linear",
                  json_pack("{s:I,s:{s:{s:s,s:f},s:s}}", "out_features", a->image.num_classes,
                            "init", "weight", "op", "normal", "std", 0.01, "bias", "zeros"),
                  x);
    json_t *sgd = json_pack("{s:s,s:f,s:f,s:f}", "op", "sgd", "lr", 0.045, "momentum", 0.9,
                            "weight_decay", 4e-5);
    json_t *whole = writer_finish(w, template_classifier(&a->image, sgd), e);
    writer_end(w);
    return whole;
}

#define MOBILENET(field) offsetof(struct mobilenet_arguments, field)
static const struct attr_def mobilenet_attrs[] = {
    IMAGE_ARGUMENTS(struct mobilenet_arguments, "1000", "224"),
    {"width_mult", ATTR_REAL, MOBILENET(width_mult), "1", 0.1, 4, NULL,
     "what channels are multiplied by"},
    {"dropout", ATTR_REAL, MOBILENET(dropout), "0.2", 0, 0.99, NULL, "before the classifier"},
    {"stem", ATTR_CHOICE, MOBILENET(stem), "imagenet", 0, 0, "imagenet|cifar",
     "cifar: the first two strides are 1"},
    {0},
};

const struct template templates_mobilenet[] = {
    {"mobilenet_v2", "MobileNetV2 as torchvision has it: 3,504,872 parameters", mobilenet_attrs,
     sizeof(struct mobilenet_arguments), mobilenet_write, NULL},
    {0},
};
