/* describe_template_resnet.c: residual networks.
 *
 * resnet18, 34, 50 and 101 have the layers and names of torchvision's (He et al., "Deep Residual
 * Learning for Image Recognition", with the stride of a bottleneck in its 3x3 convolution), also
 * with the arguments that make ResNeXt and Wide ResNet-50-2 of them. The stem for CIFAR is one 3x3
 * convolution without pooling. wide_resnet is Zagoruyko and Komodakis' network for small images:
 * the activation stands before the convolutions, three groups of (depth - 4) / 6 blocks. */
#include "describe_template.h"

#include "describe_writer.h"

struct resnet_arguments {
    struct image_arguments image;
    int stem; /* place in "imagenet|cifar" */
    int64_t width, groups, width_per_group;
    bool zero_init_residual, recompute;
};

struct resnet {
    int blocks[4];
    bool bottleneck;
};

struct resnet_builder {
    struct writer writer;
    const struct resnet *net;
    const struct resnet_arguments *arguments;
    int channels; /* of what was written last */
};

/* Initial weights of the last batch norm of a block may be zero, so that blocks begin as nothing
 * but their shortcuts. */
static json_t *last_norm_attrs(const struct resnet_builder *b)
{
    return b->arguments->zero_init_residual ? json_pack("{s:{s:s}}", "init", "weight", "zeros")
                                            : NULL;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static const char *shortcut(struct resnet_builder *b, const char *name, const char *x, int channels,
                            int stride)
{
    struct writer *w = &b->writer;
    if (stride == 1 && b->channels == channels)
        return x;
    x = writer_layer1(w, writer_name(w, "%s.downsample.0", name), "conv2d",
                      template_conv(channels, 1, stride, 1), x);
    return writer_layer1(w, writer_name(w, "%s.downsample.1", name), "batch_norm2d", NULL, x);
}

/* conv<i>, bn<i> and, but for the last of a block, ReLU. */
static const char *conv_norm(struct resnet_builder *b, const char *name, int i, bool last,
                             json_t *conv, const char *x)
{
    struct writer *w = &b->writer;
    x = writer_layer1(w, writer_name(w, "%s.conv%d", name, i), "conv2d", conv, x);
    x = writer_layer1(w, writer_name(w, "%s.bn%d", name, i), "batch_norm2d",
                      last ? last_norm_attrs(b) : NULL, x);
    return last ? x : writer_layer1(w, writer_name(w, "%s.relu%d", name, i), "relu", NULL, x);
}

static const char *block(struct resnet_builder *b, const char *name, const char *x, int planes,
                         int stride)
{
    struct writer *w = &b->writer;
    const struct resnet_arguments *a = b->arguments;
    const int channels = b->net->bottleneck ? 4 * planes : planes;
    w->block = a->recompute ? name : NULL;
    const char *side = shortcut(b, name, x, channels, stride);
    if (b->net->bottleneck) {
        const int inner = (int)(planes * a->width_per_group / 64 * a->groups);
        x = conv_norm(b, name, 1, false, template_conv(inner, 1, 1, 1), x);
        x = conv_norm(b, name, 2, false, template_conv(inner, 3, stride, (int)a->groups), x);
        x = conv_norm(b, name, 3, true, template_conv(channels, 1, 1, 1), x);
    } else {
        x = conv_norm(b, name, 1, false, template_conv(planes, 3, stride, 1), x);
        x = conv_norm(b, name, 2, true, template_conv(planes, 3, 1, 1), x);
    }
    b->channels = channels;
    x = writer_layer2(w, writer_name(w, "%s.add", name), "add", NULL, x, side);
    x = writer_layer1(w, writer_name(w, "%s.relu", name), "relu", NULL, x);
    w->block = NULL;
    return x;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static const char *stem(struct resnet_builder *b)
{
    struct writer *w = &b->writer;
    const bool cifar = b->arguments->stem == 1;
    b->channels = (int)b->arguments->width;
    const char *x = writer_layer1(
        w, "conv1", "conv2d", template_conv(b->channels, cifar ? 3 : 7, cifar ? 1 : 2, 1), "image");
    x = writer_layer1(w, "bn1", "batch_norm2d", NULL, x);
    x = writer_layer1(w, "relu", "relu", NULL, x);
    if (cifar)
        return x;
    return writer_layer1(w, "maxpool", "max_pool2d",
                         json_pack("{s:i,s:i,s:i}", "kernel_size", 3, "stride", 2, "padding", 1),
                         x);
}

static const char *classifier(struct writer *w, const char *x, int64_t classes)
{
    x = writer_layer1(w, "avgpool", "adaptive_avg_pool2d", json_pack("{s:i}", "output_size", 1), x);
    x = writer_layer1(w, "flatten", "flatten", NULL, x);
    return writer_layer1(w, "fc", "linear", json_pack("{s:I}", "out_features", classes), x);
}

static json_t *momentum_sgd(double weight_decay, bool nesterov)
{
    return json_pack("{s:s,s:f,s:f,s:f,s:b}", "op", "sgd", "lr", 0.1, "momentum", 0.9,
                     "weight_decay", weight_decay, "nesterov", nesterov);
}

static int resnet_check(const struct resnet *net, const struct resnet_arguments *a, struct error *e)
{
    if (!net->bottleneck && (a->groups != 1 || a->width_per_group != 64))
        return error_set(e, ERROR_BAD_VALUE,
                         "template: groups and width_per_group are for networks of bottlenecks "
                         "(resnet50 and larger); expected 1 and 64");
    if (a->width * a->width_per_group < 64 || a->width * a->width_per_group > 1 << 20)
        return error_set(e, ERROR_BAD_VALUE,
                         "template.width_per_group: expected width * width_per_group in 64..%d, "
                         "found %lld",
                         1 << 20, (long long)(a->width * a->width_per_group));
    return 0;
}

static json_t *resnet_write(const void *variant, const void *arguments, struct error *e)
{
    const struct resnet_arguments *a = arguments;
    struct resnet_builder b = {.net = variant, .arguments = a};
    struct writer *w = &b.writer;
    if (resnet_check(b.net, a, e))
        return NULL;
    writer_begin(w);
    const char *x = stem(&b);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < b.net->blocks[i]; j++)
            x = block(&b, writer_name(w, "layer%d.%d", i + 1, j), x, (int)a->width << i,
                      i > 0 && j == 0 ? 2 : 1);
    classifier(w, x, a->image.num_classes);
    json_t *whole = writer_finish(w, template_classifier(&a->image, momentum_sgd(1e-4, false)), e);
    writer_end(w);
    return whole;
}

/* ---- wide_resnet ----------------------------------------------------------------------------- */

struct wide_arguments {
    struct image_arguments image;
    int64_t depth, widen_factor;
    double dropout;
    bool recompute;
};

static const char *norm_relu(struct writer *w, const char *name, const char *suffix, const char *x)
{
    x = writer_layer1(w, writer_name(w, "%sbn%s", name, suffix), "batch_norm2d", NULL, x);
    return writer_layer1(w, writer_name(w, "%srelu%s", name, suffix), "relu", NULL, x);
}

/* Where channels change, the shortcut takes what the first activation gives. */
static const char *wide_block(struct writer *w, const struct wide_arguments *a, const char *name,
                              const char *x, int in, int out, int stride)
{
    const char *y = norm_relu(w, name, "1", x);
    if (in != out)
        x = writer_layer1(w, writer_name(w, "%sconvShortcut", name), "conv2d",
                          template_conv(out, 1, stride, 1), y);
    y = writer_layer1(w, writer_name(w, "%sconv1", name), "conv2d",
                      template_conv(out, 3, stride, 1), y);
    y = norm_relu(w, name, "2", y);
    if (a->dropout > 0)
        y = writer_layer1(w, writer_name(w, "%sdropout", name), "dropout",
                          json_pack("{s:f}", "p", a->dropout), y);
    y = writer_layer1(w, writer_name(w, "%sconv2", name), "conv2d", template_conv(out, 3, 1, 1), y);
    return writer_layer2(w, writer_name(w, "%sadd", name), "add", NULL, y, x);
}

static json_t *wide_write(const void *variant, const void *arguments, struct error *e)
{
    const struct wide_arguments *a = arguments;
    const int blocks = (int)(a->depth - 4) / 6;
    struct writer writer, *w = &writer;
    int channels = 16;
    (void)variant;
    if (a->depth != 6 * blocks + 4) {
        error_set(e, ERROR_BAD_VALUE,
                  "template.depth: expected 6 n + 4 (10, 16, 22, 28, 40 ...), found %lld",
                  (long long)a->depth);
        return NULL;
    }
    writer_begin(w);
    const char *x = writer_layer1(w, "conv1", "conv2d", template_conv(channels, 3, 1, 1), "image");
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < blocks; j++) {
            const int out = (16 << i) * (int)a->widen_factor;
            const char *name = writer_name(w, "block%d.layer.%d.", i + 1, j);
            w->block = a->recompute ? name : NULL;
            x = wide_block(w, a, name, x, channels, out, i > 0 && j == 0 ? 2 : 1);
            w->block = NULL;
            channels = out;
        }
    classifier(w, norm_relu(w, "", "1", x), a->image.num_classes);
    json_t *whole = writer_finish(w, template_classifier(&a->image, momentum_sgd(5e-4, true)), e);
    writer_end(w);
    return whole;
}

/* ---- the rows -------------------------------------------------------------------------------- */

static const struct resnet resnet18 = {{2, 2, 2, 2}, false}, resnet34 = {{3, 4, 6, 3}, false},
                           resnet50 = {{3, 4, 6, 3}, true}, resnet101 = {{3, 4, 23, 3}, true};

#define RESNET(field) offsetof(struct resnet_arguments, field)
static const struct attr_def resnet_attrs[] = {
    IMAGE_ARGUMENTS(struct resnet_arguments, "1000", "224"),
    {"stem", ATTR_CHOICE, RESNET(stem), "imagenet", 0, 0, "imagenet|cifar",
     "imagenet: 7x7 with stride 2, then pooling; cifar: 3x3"},
    {"width", ATTR_INT, RESNET(width), "64", 1, 1024, NULL, "channels of the first group"},
    {"groups", ATTR_INT, RESNET(groups), "1", 1, 1024, NULL, "of the 3x3 convolutions (ResNeXt)"},
    {"width_per_group", ATTR_INT, RESNET(width_per_group), "64", 1, 1024, NULL,
     "of bottlenecks; 128 makes Wide ResNet-50-2 of resnet50"},
    {"zero_init_residual", ATTR_BOOL, RESNET(zero_init_residual), "false", 0, 1, NULL,
     "whether the last batch norm of each block begins with weights of zero"},
    RECOMPUTE_ARGUMENT(struct resnet_arguments),
    {0},
};

#define WIDE(field) offsetof(struct wide_arguments, field)
static const struct attr_def wide_attrs[] = {
    IMAGE_ARGUMENTS(struct wide_arguments, "10", "32"),
    {"depth", ATTR_INT, WIDE(depth), "28", 10, 1000, NULL, "layers: 6 n + 4"},
    {"widen_factor", ATTR_INT, WIDE(widen_factor), "10", 1, 64, NULL,
     "what 16, 32 and 64 channels are multiplied by"},
    {"dropout", ATTR_REAL, WIDE(dropout), "0", 0, 0.99, NULL,
     "between the convolutions of a block"},
    RECOMPUTE_ARGUMENT(struct wide_arguments),
    {0},
};

const struct template templates_resnet[] = {
    {"resnet18", "ResNet-18 as torchvision has it: 11,689,512 parameters with 1000 classes",
     resnet_attrs, sizeof(struct resnet_arguments), resnet_write, &resnet18},
    {"resnet34", "ResNet-34: 21,797,672 parameters", resnet_attrs, sizeof(struct resnet_arguments),
     resnet_write, &resnet34},
    {"resnet50", "ResNet-50, of bottlenecks: 25,557,032 parameters", resnet_attrs,
     sizeof(struct resnet_arguments), resnet_write, &resnet50},
    {"resnet101", "ResNet-101: 44,549,160 parameters", resnet_attrs,
     sizeof(struct resnet_arguments), resnet_write, &resnet101},
    {"wide_resnet", "Wide ResNet for small images, WRN-depth-widen_factor", wide_attrs,
     sizeof(struct wide_arguments), wide_write, NULL},
    {0},
};
