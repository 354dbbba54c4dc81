/* image.c: the block of an image, its limits, the table of formats, and grey and colour. */
#include "image_codec.h"

#include <stdlib.h>
#include <string.h>

/* ---- the block ------------------------------------------------------------------------------- */

static int check_size(int64_t width, int64_t height, const struct image_limits *l, struct error *e)
{
    int64_t pixels;
    if (width < 1 || height < 1)
        return error_set(e, ERROR_BAD_IMAGE, "the image has %lld x %lld pixels", (long long)width,
                         (long long)height);
    if (__builtin_mul_overflow(width, height, &pixels) || pixels > l->max_pixels)
        return error_set(e, ERROR_TOO_LARGE,
                         "the image has %lld x %lld pixels, the limit is %lld pixels "
                         "(--max-image-pixels)",
                         (long long)width, (long long)height, (long long)l->max_pixels);
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return error_set(e, ERROR_TOO_LARGE,
                         "the image has %lld x %lld pixels, sides have at most %d",
                         (long long)width, (long long)height, IMAGE_MAX_SIDE);
    return 0;
}

int image_create(struct image *im, int64_t width, int64_t height, int channels,
                 const struct image_limits *l, struct error *e)
{
    *im = (struct image){0};
    if (check_size(width, height, l, e))
        return -1;
    size_t size = (size_t)width * (size_t)height * (size_t)channels;
    if (l->budget && budget_take(l->budget, size, "an image", e))
        return -1;
    unsigned char *block = calloc(size, 1);
    *im = (struct image){.width = (int)width,
                         .height = (int)height,
                         .channels = channels,
                         .first = block,
                         .step_x = channels,
                         .step_y = (ptrdiff_t)width * channels,
                         .block = block,
                         .size = size,
                         .budget = l->budget};
    if (block)
        return 0;
    image_free(im);
    return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for an image of %lld x %lld pixels",
                     (long long)width, (long long)height);
}

void image_free(struct image *im)
{
    free(im->block);
    if (im->budget)
        budget_give(im->budget, im->size);
    *im = (struct image){0};
}

/* ---- formats --------------------------------------------------------------------------------- */

static const struct {
    const char *magic;
    size_t size;
    int (*decode)(const void *bytes, size_t size, const struct image_limits *l, struct image *im_r,
                  struct error *e);
} formats[] = {
    {"\xFF\xD8\xFF", 3, image_jpeg_decode},
    {"\x89PNG\r\n\x1A\n", 8, image_png_decode},
};
enum { FORMATS = sizeof formats / sizeof *formats };

static int format_find(const void *bytes, size_t size)
{
    for (int i = 0; i < FORMATS; i++)
        if (size >= formats[i].size && !memcmp(bytes, formats[i].magic, formats[i].size))
            return i;
    return -1;
}

bool image_recognised(const void *bytes, size_t size)
{
    return format_find(bytes, size) >= 0;
}

int image_decode(const void *bytes, size_t size, const struct image_limits *l, struct image *im,
                 struct error *e)
{
    int format = format_find(bytes, size);
    *im = (struct image){0};
    if (!size)
        return error_set(e, ERROR_BAD_IMAGE, "the image is empty, expected a JPEG or PNG file");
    if (format < 0)
        return error_set(e, ERROR_BAD_IMAGE, "the %zu bytes do not begin like a JPEG or PNG file",
                         size);
    if (!formats[format].decode(bytes, size, l, im, e))
        return 0;
    image_free(im);
    return -1;
}

/* ---- grey and colour ------------------------------------------------------------------------- */

void image_to_grey(struct image *im)
{
    if (im->channels == 1)
        return;
    unsigned char *to = im->block, *from = im->block;
    for (size_t n = im->size / 3; n > 0; n--, from += 3)
        *to++ =
            (unsigned char)((from[0] * 19595 + from[1] * 38470 + from[2] * 7471 + 0x8000) >> 16);
    im->first = im->block + (im->first - im->block) / 3;
    im->step_x /= 3;
    im->step_y /= 3;
    im->channels = 1;
}

int image_to_rgb(struct image *im, struct error *e)
{
    struct image_limits l = {(int64_t)im->width * im->height, im->budget};
    struct image rgb;
    if (im->channels == 3)
        return 0;
    if (image_create(&rgb, im->width, im->height, 3, &l, e))
        return -1;
    for (int y = 0; y < im->height; y++)
        for (int x = 0; x < im->width; x++)
            memset(image_at(&rgb, x, y), *image_at(im, x, y), 3);
    image_free(im);
    *im = rgb;
    return 0;
}
