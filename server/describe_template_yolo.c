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

#include "describe_fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

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
    struct arena *arena;
    json_t *layers, *outputs;
    struct result done[MODULES_MAX];
    int at; /* the module that is written */
    int failed;
    struct error *e;
};

/* ---- layers ---------------------------------------------------------------------------------- */

static const char *name_of(struct builder *b, const char *format, ...)
{
    char text[80];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *name = arena_strdup(b->arena, text);
    b->failed |= !name;
    return name ? name : "";
}

/* Appends a layer with these attributes, of which it takes the reference. */
static const char *layer(struct builder *b, const char *name, const char *op, json_t *attrs,
                         const char *const *inputs, int n)
{
    json_t *whole = json_pack("{s:s,s:s}", "name", name, "op", op), *list = json_array();
    for (int i = 0; i < n; i++)
        b->failed |= json_array_append_new(list, json_string(inputs[i]));
    b->failed |= json_object_set_new(whole, "inputs", list);
    b->failed |= attrs && json_object_update(whole, attrs);
    json_decref(attrs);
    b->failed |= json_array_append_new(b->layers, whole);
    return name;
}

static const char *layer1(struct builder *b, const char *name, const char *op, json_t *attrs,
                          const char *input)
{
    return layer(b, name, op, attrs, &input, 1);
}

/* Convolution, batch norm, SiLU. */
static const char *block(struct builder *b, const char *name, const char *input, int channels,
                         int kernel, int stride)
{
    json_t *conv = json_pack("{s:i,s:i,s:i,s:i,s:b}", "out_channels", channels, "kernel_size",
                             kernel, "stride", stride, "padding", kernel / 2, "bias", 0);
    json_t *norm = json_pack("{s:f,s:f}", "eps", 1e-3, "momentum", b->net->momentum);
    input = layer1(b, name_of(b, "%s.conv", name), "conv2d", conv, input);
    input = layer1(b, name_of(b, "%s.bn", name), "batch_norm2d", norm, input);
    return layer1(b, name_of(b, "%s.act", name), "silu", NULL, input);
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
    finish(b, block(b, name_of(b, "model.%d", b->at), input, channels, 3, 2), channels);
}

static void upsample(struct builder *b, const struct module *m)
{
    const struct result in = taken(b, m, 0);
    finish(b,
           layer1(b, name_of(b, "model.%d", b->at), "upsample",
                  json_pack("{s:i}", "scale_factor", 2), in.layer),
           in.channels);
}

static void concat(struct builder *b, const struct module *m)
{
    const struct result first = taken(b, m, 0), second = taken(b, m, 1);
    finish(b,
           layer(b, name_of(b, "model.%d", b->at), "concat", json_pack("{s:i}", "dim", 1),
                 (const char *[]){first.layer, second.layer}, 2),
           first.channels + second.channels);
}

static const char *bottleneck(struct builder *b, const char *name, const char *input, int channels,
                              bool shortcut)
{
    const char *x = block(b, name_of(b, "%s.cv1", name), input, channels, 3, 1);
    x = block(b, name_of(b, "%s.cv2", name), x, channels, 3, 1);
    if (!shortcut)
        return x;
    return layer(b, name_of(b, "%s.add", name), "add", NULL, (const char *[]){input, x}, 2);
}

static void c2f(struct builder *b, const struct module *m)
{
    enum { PARTS_MAX = 16 };
    const int channels = scaled_channels(b, m->channels), half = channels / 2;
    const int repeats = scaled_repeats(b, m->repeats);
    const char *name = name_of(b, "model.%d", b->at), *parts[PARTS_MAX];
    const char *both = block(b, name_of(b, "%s.cv1", name), taken(b, m, 0).layer, 2 * half, 1, 1);
    json_t *range = json_pack("{s:i,s:i,s:i}", "dim", 1, "start", half, "length", half);
    const char *x = layer1(b, name_of(b, "%s.half", name), "narrow", range, both);
    parts[0] = both;
    for (int i = 0; i < repeats; i++)
        x = parts[i + 1] = bottleneck(b, name_of(b, "%s.m.%d", name, i), x, half, m->shortcut);
    x = layer(b, name_of(b, "%s.cat", name), "concat", json_pack("{s:i}", "dim", 1), parts,
              repeats + 1);
    finish(b, block(b, name_of(b, "%s.cv2", name), x, channels, 1, 1), channels);
}

static void sppf(struct builder *b, const struct module *m)
{
    const int channels = scaled_channels(b, m->channels);
    const struct result in = taken(b, m, 0);
    const char *name = name_of(b, "model.%d", b->at), *parts[4];
    parts[0] = block(b, name_of(b, "%s.cv1", name), in.layer, in.channels / 2, 1, 1);
    for (int i = 0; i < 3; i++)
        parts[i + 1] = layer1(
            b, name_of(b, "%s.m.%d", name, i), "max_pool2d",
            json_pack("{s:i,s:i,s:i}", "kernel_size", 5, "stride", 1, "padding", 2), parts[i]);
    const char *x =
        layer(b, name_of(b, "%s.cat", name), "concat", json_pack("{s:i}", "dim", 1), parts, 4);
    finish(b, block(b, name_of(b, "%s.cv2", name), x, channels, 1, 1), channels);
}

/* ---- the head -------------------------------------------------------------------------------- */

/* A branch: blocks, then a convolution whose biases begin at `bias`. */
static const char *branch(struct builder *b, const char *name, const char *input, int hidden,
                          int channels, double bias)
{
    for (int i = 0; i < b->net->head_blocks; i++)
        input = block(b, name_of(b, "%s.%d", name, i), input, hidden, 3, 1);
    json_t *attrs = json_pack("{s:i,s:i,s:{s:{s:s,s:f}}}", "out_channels", channels, "kernel_size",
                              1, "init", "bias", "op", "constant", "value", bias);
    return layer1(b, name_of(b, "%s.%d", name, b->net->head_blocks), "conv2d", attrs, input);
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
        parts[0] = branch(b, name_of(b, "model.%d.cv2.%d", net->n_modules, i), input, box_hidden,
                          4 * net->reg_max, 1);
        parts[1] = branch(b, name_of(b, "model.%d.cv3.%d", net->n_modules, i), input, class_hidden,
                          classes, log(5.0 / classes / (cells * cells)));
        const char *map =
            layer(b, name_of(b, "p%d", 3 + i), "concat", json_pack("{s:i}", "dim", 1), parts, 2);
        b->failed |= json_array_append_new(b->outputs, json_string(map));
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Takes the references in the builder. */
static json_t *description(struct builder *b)
{
    const int size = (int)b->arguments->image_size;
    json_t *maps = json_deep_copy(b->outputs);
    return json_pack(
        "{s:[{s:s,s:s,s:[i,i,i,i]}],s:o,s:o,s:{s:s,s:o,s:i},s:[{s:s,s:s}],s:{s:s,s:f,s:"
        "f},s:f}",
        "inputs", "name", "image", "datatype", "FP32", "shape", -1, (int)b->arguments->channels,
        size, size, "layers", b->layers, "outputs", b->outputs, "loss", "op", "yolo_detection",
        "input", maps, "reg_max", b->net->reg_max, "targets", "name", "boxes", "datatype", "FP32",
        "optimizer", "op", "adamw", "lr", 1e-3, "weight_decay", 5e-4, "clip_grad_norm", 10.0);
}

static json_t *write_network(const struct architecture *net, const struct yolo_arguments *arguments,
                             struct error *e)
{
    struct builder b = {.net = net,
                        .arguments = arguments,
                        .arena = arena_create(16384),
                        .layers = json_array(),
                        .outputs = json_array(),
                        .e = e};
    json_t *whole = NULL;
    if (b.arena && b.layers && b.outputs) {
        for (b.at = 0; b.at < net->n_modules; b.at++)
            net->modules[b.at].write(&b, &net->modules[b.at]);
        head(&b);
        if (!b.failed)
            whole = description(&b);
    }
    if (b.arena)
        arena_destroy(&b.arena);
    if (!whole)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a template");
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

json_t *template_yolo(const void *arguments, struct error *e)
{
    static const double widths[] = {0.25, 0.5}; /* n, s */
    const struct yolo_arguments *a = arguments;
    const struct architecture net = {.modules = yolo_modules,
                                     .n_modules = sizeof yolo_modules / sizeof *yolo_modules,
                                     .depth = 0.33,
                                     .width = widths[a->size],
                                     .levels = {15, 18, 21},
                                     .n = 3,
                                     .head_blocks = 2,
                                     .reg_max = 16,
                                     .box_channels = 16,
                                     .momentum = 0.03,
                                     .prior_size = 640};
    return write_network(&net, a, e);
}

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

json_t *template_yolo_tiny(const void *arguments, struct error *e)
{
    static const struct architecture net = {.modules = tiny_modules,
                                            .n_modules = sizeof tiny_modules / sizeof *tiny_modules,
                                            .depth = 1,
                                            .width = 1,
                                            .levels = {15, 18},
                                            .n = 2,
                                            .head_blocks = 1,
                                            .reg_max = 12,
                                            .box_channels = 32,
                                            .momentum = 0.1};
    return write_network(&net, arguments, e);
}
