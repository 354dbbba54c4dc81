/* describe_template_unet.c: U-Net (Ronneberger et al., "U-Net: Convolutional Networks for
 * Biomedical Image Segmentation") with batch norm and padded convolutions, so that maps keep the
 * size of the image. Going down, each level halves the size and doubles the channels; going up, a
 * transposed convolution doubles the size, what went down at that level is joined, and two
 * convolutions follow. Names are those of the implementation that most people know
 * (inc.double_conv.0, down1.maxpool_conv.1.double_conv.0, up1.up, outc.conv). Answers are logits
 * [N, num_classes, H, W], targets class indices [N, H, W]. */
#include "describe_template.h"

#include "describe_writer.h"

struct unet_arguments {
    struct image_arguments image;
    int64_t base_channels, depth;
};

enum { DEPTH_MAX = 7 };

/* Twice convolution, batch norm and ReLU, as NAME.double_conv.0 to 5. */
static const char *double_conv(struct writer *w, const char *name, const char *x, int64_t channels)
{
    for (int i = 0; i < 6; i += 3) {
        json_t *conv = json_pack("{s:I,s:i,s:i,s:b}", "out_channels", channels, "kernel_size", 3,
                                 "padding", 1, "bias", 0);
        x = writer_layer1(w, writer_name(w, "%s.double_conv.%d", name, i), "conv2d", conv, x);
        x = writer_layer1(w, writer_name(w, "%s.double_conv.%d", name, i + 1), "batch_norm2d", NULL,
                          x);
        x = writer_layer1(w, writer_name(w, "%s.double_conv.%d", name, i + 2), "relu", NULL, x);
    }
    return x;
}

static const char *down(struct writer *w, int i, const char *x, int64_t channels)
{
    x = writer_layer1(w, writer_name(w, "down%d.maxpool_conv.0", i), "max_pool2d",
                      json_pack("{s:i}", "kernel_size", 2), x);
    return double_conv(w, writer_name(w, "down%d.maxpool_conv.1", i), x, channels);
}

static const char *up(struct writer *w, int i, const char *x, const char *side, int64_t channels)
{
    x = writer_layer1(
        w, writer_name(w, "up%d.up", i), "conv_transpose2d",
        json_pack("{s:I,s:i,s:i}", "out_channels", channels, "kernel_size", 2, "stride", 2), x);
    x = writer_layer(w, writer_name(w, "up%d.cat", i), "concat", json_pack("{s:i}", "dim", 1),
                     (const char *[]){side, x}, 2);
    return double_conv(w, writer_name(w, "up%d.conv", i), x, channels);
}

static int unet_check(const struct unet_arguments *a, struct error *e)
{
    const int64_t multiple = (int64_t)1 << a->depth;
    if (a->image.image_size % multiple == 0)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "template.image_size: expected a multiple of %lld (2 to the power of depth), "
                     "found %lld",
                     (long long)multiple, (long long)a->image.image_size);
}

static json_t *unet_write(const void *variant, const void *arguments, struct error *e)
{
    const struct unet_arguments *a = arguments;
    const char *sides[DEPTH_MAX + 1];
    const int depth = (int)a->depth;
    struct writer writer, *w = &writer;
    (void)variant;
    if (unet_check(a, e))
        return NULL;
    writer_begin(w);
    sides[0] = double_conv(w, "inc", "image", a->base_channels);
    for (int i = 1; i <= depth; i++)
        sides[i] = down(w, i, sides[i - 1], a->base_channels << i);
    const char *x = sides[depth];
    for (int i = 1; i <= depth; i++)
        x = up(w, i, x, sides[depth - i], a->base_channels << (depth - i));
    writer_layer1(w, "outc.conv", "conv2d",
                  json_pack("{s:I,s:i}", "out_channels", a->image.num_classes, "kernel_size", 1),
                  x);
    json_t *adam = json_pack("{s:s,s:f}", "op", "adam", "lr", 1e-3);
    json_t *whole = writer_finish(w, template_classifier(&a->image, adam), e);
    writer_end(w);
    return whole;
}

#define UNET(field) offsetof(struct unet_arguments, field)
static const struct attr_def unet_attrs[] = {
    IMAGE_ARGUMENTS(struct unet_arguments, "2", "256"),
    {"base_channels", ATTR_INT, UNET(base_channels), "64", 1, 1024, NULL,
     "channels at the size of the image"},
    {"depth", ATTR_INT, UNET(depth), "4", 1, DEPTH_MAX, NULL, "how often the size is halved"},
    {0},
};

const struct template templates_unet[] = {
    {"unet", "U-Net for segmentation: a class for each pixel, 31 million parameters", unet_attrs,
     sizeof(struct unet_arguments), unet_write, NULL},
    {0},
};
