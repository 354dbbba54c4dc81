/* image.h: pictures: decoding JPEG and PNG, fitting them into a network's input, drawing on them,
 * writing PNG. Knows nothing of models and requests.
 *
 * What is promised of decoding: an image is what Pillow's Image.open(...).convert("RGB") gives,
 * turned as its EXIF orientation says; alpha is dropped; of 16 bits a channel the upper 8 are kept
 * (of 16-bit grey too, which Pillow would clip to white). Size and memory are checked from the
 * header before anything of the image's size is allocated. Files that are broken or end early are
 * refused, never completed with grey.
 *
 * Any thread may call any of this; an image is used by one thread at a time. */
#ifndef BACKPROPD_IMAGE_H
#define BACKPROPD_IMAGE_H

#include "budget.h"

enum { IMAGE_MAX_SIDE = 65535 };

struct image_limits {
    int64_t max_pixels;
    struct budget *budget; /* what decoding takes is counted here; NULL: it is not */
};

/* 8-bit pixels in one block of `size` bytes that the image owns. The pixel at column x of row y,
 * as it is to be seen, begins at first + x * step_x + y * step_y. */
struct image {
    int width, height;
    int channels; /* 1: grey, 3: RGB */
    unsigned char *first;
    ptrdiff_t step_x, step_y;
    unsigned char *block;
    size_t size;
    struct budget *budget;
};

/* A black image. TOO_LARGE, OUT_OF_MEMORY. */
int image_create(struct image *im_r, int64_t width, int64_t height, int channels,
                 const struct image_limits *l, struct error *e);
void image_free(struct image *im); /* also one that is all zero */

static inline unsigned char *image_at(const struct image *im, int x, int y)
{
    return im->first + x * im->step_x + y * im->step_y;
}

/* Whether the bytes begin like a format that can be decoded. */
bool image_recognised(const void *bytes, size_t size);
/* BAD_IMAGE, TOO_LARGE, OUT_OF_MEMORY. On failure there is nothing to free. */
int image_decode(const void *bytes, size_t size, const struct image_limits *l, struct image *im_r,
                 struct error *e);
/* To grey in place: Pillow's convert("L") (ITU-R 601-2 luma in 16-bit fixed point). */
void image_to_grey(struct image *im);
/* To RGB; a grey one gets another block. */
int image_to_rgb(struct image *im, struct error *e);

/* ---- fitting --------------------------------------------------------------------------------- */

/* How the pixels of a network's input lie in the original image: x in the input is original
 * x * sx + dx, y likewise. The original's size is that of the image as it is to be seen. */
struct image_fit {
    double sx, sy, dx, dy;
    int width, height;
};

enum image_fit_mode {
    IMAGE_STRETCH,   /* both sides to size, whatever the aspect */
    IMAGE_CROP,      /* scaled until it covers size / crop_pct, then the middle is cut out */
    IMAGE_LETTERBOX, /* scaled until it is within size, centred, bars of `fill` */
};
enum image_color { IMAGE_RGB, IMAGE_BGR, IMAGE_GRAY };

struct image_fitting {
    int width, height; /* of the network's input */
    enum image_fit_mode mode;
    enum image_color color;
    double crop_pct; /* of IMAGE_CROP: torchvision's Resize(256), CenterCrop(224) is 0.875 */
    int fill;        /* of IMAGE_LETTERBOX: 0 to 255 */
};

/* Writes planes [channels, height, width] with values 0 to 1. Makes the image grey if the fitting
 * is. OUT_OF_MEMORY. */
int image_fit_planes(struct image *im, const struct image_fitting *f, float *planes,
                     struct image_fit *fit_r, struct error *e);

/* Of `full` pixels into which an axis of an image is resized, those from `begin` on. */
struct image_axis {
    int full, begin, count;
};
/* Resizes to y->count rows of x->count pixels, as Pillow's resize(BILINEAR) does. OUT_OF_MEMORY. */
int image_resize(const struct image *im, const struct image_axis *x, const struct image_axis *y,
                 unsigned char *out, struct error *e);

/* ---- drawing --------------------------------------------------------------------------------- */

struct image_box {
    double x0, y0, x1, y1; /* pixels; parts outside of the image are cut */
    const char *text;      /* UTF-8, drawn at the upper left corner; NULL: none */
    int color;             /* any number: boxes of one number have one colour */
};
/* Draws boxes with their texts, the first on top. The image is RGB. */
void image_draw_boxes(struct image *im, const struct image_box *boxes, int n);
/* Draws a text on a background of the colour, its upper left corner at x, y or as near as it
 * fits. Returns its height in pixels. */
int image_draw_text(struct image *im, int x, int y, const char *text, int color);

/* A PNG of the image: malloc'd bytes, the caller's. OUT_OF_MEMORY. */
int image_write_png(const struct image *im, unsigned char **bytes_r, size_t *size_r,
                    struct error *e);

#endif
