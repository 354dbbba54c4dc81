/* describe_template_yolo.c: the templates of detectors. A network is a table of modules; a module
 * takes earlier ones and is written as layers whose parameters have the names that Ultralytics
 * gives them: module i is model.i, its first convolution model.i.conv or model.i.cv1.conv, and so
 * on.
 *
 * A block is a convolution without bias, batch norm and SiLU. C2f (cross stage partial) splits its
 * channels in two halves, sends the second through bottlenecks and joins all that came out. SPPF
 * pools three times and joins. The head has two branches at each stride, one for the distances of
 * the edges and one for the classes, joined into the maps that the loss yolo_detection takes. */
#include "describe_template.h"

#include "describe_writer.h"

#include <math.h>
#include <stddef.h>

struct yolo_arguments {
    int size; /* place in "n|s"; not looked at by yolo_tiny */
    int64_t num_classes, image_size, channels;
};

enum { MODULES_MAX = 24, TAKES_MAX = 4, LEVELS_MAX = 3 };

struct builder;

/* What a module of a network is: `takes` are places of modules, -1 the one before it. */
struct module {
    void (*write)(struct builder *b, const struct module *m);
    int takes[TAKES_MAX], n_takes;
    int channels, repeats;
    bool shortcut; /* of C2f: bottlenecks add their input */
};

struct architecture {
    const struct module *modules;
    int n_modules;
    double depth, width;       /* what repeats and channels are multiplied by */
    int levels[LEVELS_MAX], n; /* modules that the head takes */
    int head_blocks;           /* 3x3 blocks in each branch */
    int reg_max, box_channels; /* box_channels: at least */
    double momentum;           /* of batch norm's running statistics */
    int prior_size; /* image size that initial class biases are made for; 0: the image's */
};

/* The result of a module: the layer that gives it, and its channels. */
struct result {
    const char *layer;
    int channels;
};

struct builder {
    const struct architecture *net;
    const struct yolo_arguments *arguments;
    struct writer writer;
    json_t *outputs;
    struct result done[MODULES_MAX];
    int at; /* the module that is written */
};

/* ---- layers ---------------------------------------------------------------------------------- */

/* Convolution, batch norm, SiLU. */
static const char *block(struct builder *b, const char *name, const char *input, int channels,
                         int kernel, int stride)
{
    json_t *conv = json_pack("{s:i,s:i,s:i,s:i,s:b}", "out_channels", channels, "kernel_size",
                             kernel, "stride", stride, "padding", kernel / 2, "bias", 0);
    json_t *norm = json_pack("{s:f,s:f}", "eps", 1e-3, "momentum", b->net->momentum);
    input =
        writer_layer1(&b->writer, writer_name(&b->writer, "%s.conv", name), "conv2d", conv, input);
    input = writer_layer1(&b->writer, writer_name(&b->writer, "%s.bn", name), "batch_norm2d", norm,
                          input);
    return writer_layer1(&b->writer, writer_name(&b->writer, "%s.act", name), "silu", NULL, input);
}

/* ---- modules --------------------------------------------------------------------------------- */

static int scaled_channels(const struct builder *b, int channels)
{
    return (int)(ceil(channels * b->net->width / 8) * 8);
}

static int scaled_repeats(const struct builder *b, int repeats)
{
    const int n = (int)nearbyint(repeats * b->net->depth);
    return n > 1 ? n : 1;
}

/* The i-th module that this one takes. */
static struct result taken(const struct builder *b, const struct module *m, int i)
{
    return m->takes[i] < 0 ? b->done[b->at - 1] : b->done[m->takes[i]];
}

static void finish(struct builder *b, const char *last, int channels)
{
    b->done[b->at] = (struct result){last, channels};
}

static void conv(struct builder *b, const struct module *m)
{
    const int channels = scaled_channels(b, m->channels);
    const char *input = b->at ? taken(b, m, 0).layer : "image";
    finish(b, block(b, writer_name(&b->writer, "model.%d", b->at), input, channels, 3, 2),
           channels);
}

static void upsample(struct builder *b, const struct module *m)
{
    const struct result in = taken(b, m, 0);
    finish(b,
           writer_layer1(&b->writer, writer_name(&b->writer, "model.%d", b->at), "upsample",
                         json_pack("{s:i}", "scale_factor", 2), in.layer),
           in.channels);
}

static void concat(struct builder *b, const struct module *m)
{
    const struct result first = taken(b, m, 0), second = taken(b, m, 1);
    finish(b,
           writer_layer(&b->writer, writer_name(&b->writer, "model.%d", b->at), "concat",
                        json_pack("{s:i}", "dim", 1), (const char *[]){first.layer, second.layer},
                        2),
           first.channels + second.channels);
}

static const char *bottleneck(struct builder *b, const char *name, const char *input, int channels,
                              bool shortcut)
{
    const char *x = block(b, writer_name(&b->writer, "%s.cv1", name), input, channels, 3, 1);
    x = block(b, writer_name(&b->writer, "%s.cv2", name), x, channels, 3, 1);
    if (!shortcut)
        return x;
    return writer_layer2(&b->writer, writer_name(&b->writer, "%s.add", name), "add", NULL, input,
                         x);
}

static void c2f(struct builder *b, const struct module *m)
{
    enum { PARTS_MAX = 16 };
    const int channels = scaled_channels(b, m->channels), half = channels / 2;
    const int repeats = scaled_repeats(b, m->repeats);
    const char *name = writer_name(&b->writer, "model.%d", b->at), *parts[PARTS_MAX];
    const char *both =
        block(b, writer_name(&b->writer, "%s.cv1", name), taken(b, m, 0).layer, 2 * half, 1, 1);
    json_t *range = json_pack("{s:i,s:i,s:i}", "dim", 1, "start", half, "length", half);
    const char *x =
        writer_layer1(&b->writer, writer_name(&b->writer, "%s.half", name), "narrow", range, both);
    parts[0] = both;
    for (int i = 0; i < repeats; i++)
        x = parts[i + 1] =
            bottleneck(b, writer_name(&b->writer, "%s.m.%d", name, i), x, half, m->shortcut);
    x = writer_layer(&b->writer, writer_name(&b->writer, "%s.cat", name), "concat",
                     json_pack("{s:i}", "dim", 1), parts, repeats + 1);
    finish(b, block(b, writer_name(&b->writer, "%s.cv2", name), x, channels, 1, 1), channels);
}

static void sppf(struct builder *b, const struct module *m)
{
    const int channels = scaled_channels(b, m->channels);
    const struct result in = taken(b, m, 0);
    const char *name = writer_name(&b->writer, "model.%d", b->at), *parts[4];
    parts[0] = block(b, writer_name(&b->writer, "%s.cv1", name), in.layer, in.channels / 2, 1, 1);
    for (int i = 0; i < 3; i++)
        parts[i + 1] = writer_layer1(
            &b->writer, writer_name(&b->writer, "%s.m.%d", name, i), "max_pool2d",
            json_pack("{s:i,s:i,s:i}", "kernel_size", 5, "stride", 1, "padding", 2), parts[i]);
    const char *x = writer_layer(&b->writer, writer_name(&b->writer, "%s.cat", name), "concat",
                                 json_pack("{s:i}", "dim", 1), parts, 4);
    finish(b, block(b, writer_name(&b->writer, "%s.cv2", name), x, channels, 1, 1), channels);
}

/* ---- the head -------------------------------------------------------------------------------- */

/* A branch: blocks, then a convolution whose biases begin at `bias`. */
static const char *branch(struct builder *b, const char *name, const char *input, int hidden,
                          int channels, double bias)
{
    for (int i = 0; i < b->net->head_blocks; i++)
        input = block(b, writer_name(&b->writer, "%s.%d", name, i), input, hidden, 3, 1);
    json_t *attrs = json_pack("{s:i,s:i,s:{s:{s:s,s:f}}}", "out_channels", channels, "kernel_size",
                              1, "init", "bias", "op", "constant", "value", bias);
    return writer_layer1(&b->writer, writer_name(&b->writer, "%s.%d", name, b->net->head_blocks),
                         "conv2d", attrs, input);
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* Class biases say that an image holds about five objects. */
static void head(struct builder *b)
{
    const struct architecture *net = b->net;
    const int classes = (int)b->arguments->num_classes, first = b->done[net->levels[0]].channels;
    const int box_hidden = larger(net->box_channels, larger(first / 4, 4 * net->reg_max));
    const int class_hidden = larger(first, classes < 100 ? classes : 100);
    const double size = net->prior_size ? net->prior_size : (double)b->arguments->image_size;
    for (int i = 0; i < net->n; i++) {
        const char *input = b->done[net->levels[i]].layer;
        const double cells = size / (8 << i);
        const char *parts[2];
        parts[0] = branch(b, writer_name(&b->writer, "model.%d.cv2.%d", net->n_modules, i), input,
                          box_hidden, 4 * net->reg_max, 1);
        parts[1] = branch(b, writer_name(&b->writer, "model.%d.cv3.%d", net->n_modules, i), input,
                          class_hidden, classes, log(5.0 / classes / (cells * cells)));
        const char *map = writer_layer(&b->writer, writer_name(&b->writer, "p%d", 3 + i), "concat",
                                       json_pack("{s:i}", "dim", 1), parts, 2);
        b->writer.failed |= json_array_append_new(b->outputs, json_string(map));
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* All but the layers. */
static json_t *description(const struct builder *b)
{
    const int size = (int)b->arguments->image_size;
    return json_pack(
        "{s:[{s:s,s:s,s:[i,i,i,i]}],s:O,s:{s:s,s:O,s:i},s:[{s:s,s:s}],s:{s:s,s:f,s:f},s:f}",
        "inputs", "name", "image", "datatype", "FP32", "shape", -1, (int)b->arguments->channels,
        size, size, "outputs", b->outputs, "loss", "op", "yolo_detection", "input", b->outputs,
        "reg_max", b->net->reg_max, "targets", "name", "boxes", "datatype", "FP32", "optimizer",
        "op", "adamw", "lr", 1e-3, "weight_decay", 5e-4, "clip_grad_norm", 10.0);
}

static json_t *write_network(const struct architecture *net, const struct yolo_arguments *arguments,
                             struct error *e)
{
    struct builder b = {.net = net, .arguments = arguments, .outputs = json_array()};
    writer_begin(&b.writer);
    for (b.at = 0; b.at < net->n_modules; b.at++)
        net->modules[b.at].write(&b, &net->modules[b.at]);
    head(&b);
    json_t *whole = writer_finish(&b.writer, description(&b), e);
    json_decref(b.outputs);
    writer_end(&b.writer);
    return whole;
}

/* ---- the networks ---------------------------------------------------------------------------- */

static const struct module yolo_modules[] = {
    {conv, {-1}, 1, 64, 1, false},    {conv, {-1}, 1, 128, 1, false},
    {c2f, {-1}, 1, 128, 3, true},     {conv, {-1}, 1, 256, 1, false},
    {c2f, {-1}, 1, 256, 6, true},                                   /* 4: stride 8 */
    {conv, {-1}, 1, 512, 1, false},   {c2f, {-1}, 1, 512, 6, true}, /* 6: stride 16 */
    {conv, {-1}, 1, 1024, 1, false},  {c2f, {-1}, 1, 1024, 3, true},
    {sppf, {-1}, 1, 1024, 1, false}, /* 9: stride 32 */
    {upsample, {-1}, 1, 0, 1, false}, {concat, {-1, 6}, 2, 0, 1, false},
    {c2f, {-1}, 1, 512, 3, false}, /* 12 */
    {upsample, {-1}, 1, 0, 1, false}, {concat, {-1, 4}, 2, 0, 1, false},
    {c2f, {-1}, 1, 256, 3, false}, /* 15: to the head at stride 8 */
    {conv, {-1}, 1, 256, 1, false},   {concat, {-1, 12}, 2, 0, 1, false},
    {c2f, {-1}, 1, 512, 3, false}, /* 18: at stride 16 */
    {conv, {-1}, 1, 512, 1, false},   {concat, {-1, 9}, 2, 0, 1, false},
    {c2f, {-1}, 1, 1024, 3, false}, /* 21: at stride 32 */
};

static json_t *yolo_write(const void *variant, const void *arguments, struct error *e)
{
    static const double widths[] = {0.25, 0.5}; /* n, s */
    const struct yolo_arguments *a = arguments;
    struct architecture net = *(const struct architecture *)variant;
    net.width = widths[a->size];
    return write_network(&net, a, e);
}

static const struct architecture yolo = {.modules = yolo_modules,
                                         .n_modules = sizeof yolo_modules / sizeof *yolo_modules,
                                         .depth = 0.33,
                                         .levels = {15, 18, 21},
                                         .n = 3,
                                         .head_blocks = 2,
                                         .reg_max = 16,
                                         .box_channels = 16,
                                         .momentum = 0.03,
                                         .prior_size = 640};

/* Trainings of it are short, so its running statistics follow faster. */
static const struct module tiny_modules[] = {
    {conv, {-1}, 1, 16, 1, false},    {conv, {-1}, 1, 24, 1, false},
    {c2f, {-1}, 1, 24, 1, true},      {conv, {-1}, 1, 48, 1, false},
    {c2f, {-1}, 1, 48, 1, true},                                   /* 4: stride 8 */
    {conv, {-1}, 1, 80, 1, false},    {c2f, {-1}, 1, 80, 1, true}, /* 6: stride 16 */
    {conv, {-1}, 1, 96, 1, false},    {c2f, {-1}, 1, 96, 1, true},
    {sppf, {-1}, 1, 96, 1, false}, /* 9: stride 32 */
    {upsample, {-1}, 1, 0, 1, false}, {concat, {-1, 6}, 2, 0, 1, false},
    {c2f, {-1}, 1, 80, 1, false}, /* 12 */
    {upsample, {-1}, 1, 0, 1, false}, {concat, {-1, 4}, 2, 0, 1, false},
    {c2f, {-1}, 1, 48, 1, false}, /* 15: to the head at stride 8 */
    {conv, {-1}, 1, 48, 1, false},    {concat, {-1, 12}, 2, 0, 1, false},
    {c2f, {-1}, 1, 80, 1, false}, /* 18: at stride 16 */
};

static json_t *yolo_tiny_write(const void *variant, const void *arguments, struct error *e)
{
    return write_network(variant, arguments, e);
}

static const struct architecture yolo_tiny = {.modules = tiny_modules,
                                              .n_modules =
                                                  sizeof tiny_modules / sizeof *tiny_modules,
                                              .depth = 1,
                                              .width = 1,
                                              .levels = {15, 18},
                                              .n = 2,
                                              .head_blocks = 1,
                                              .reg_max = 12,
                                              .box_channels = 32,
                                              .momentum = 0.1};

/* ---- the rows -------------------------------------------------------------------------------- */

#define YOLO(field) offsetof(struct yolo_arguments, field)
#define YOLO_ARGUMENTS(size)                                                                       \
    {"num_classes", ATTR_INT, YOLO(num_classes), "80", 1, 10000, NULL, "classes of objects"},      \
        {"image_size",                                                                             \
         ATTR_INT,                                                                                 \
         YOLO(image_size),                                                                         \
         size,                                                                                     \
         64,                                                                                       \
         4096,                                                                                     \
         NULL,                                                                                     \
         "height and width of the images, a multiple of the largest stride"},                      \
        {"channels", ATTR_INT, YOLO(channels), "3", 1, 64, NULL, "channels of the images"},        \
    {                                                                                              \
        0                                                                                          \
    }

static const struct attr_def yolo_attrs[] = {
    {"size", ATTR_CHOICE, YOLO(size), "n", 0, 0, "n|s", "n: 3 million parameters; s: 11 million"},
    YOLO_ARGUMENTS("640"),
};
static const struct attr_def yolo_tiny_attrs[] = {YOLO_ARGUMENTS("320")};

const struct template templates_yolo[] = {
    {"yolo", "YOLOv8: C2f backbone, anchor-free detection at strides 8, 16 and 32", yolo_attrs,
     sizeof(struct yolo_arguments), yolo_write, &yolo},
    {"yolo_tiny", "the same kind of detector for CPUs: half a million parameters, strides 8 and 16",
     yolo_tiny_attrs, sizeof(struct yolo_arguments), yolo_tiny_write, &yolo_tiny},
    {0},
};
