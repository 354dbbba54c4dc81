/* image_fit.c: from an image of any size to the planes of a network's input. The image is resized
 * once, and of a crop only the part that is kept is computed. */
#include "image.h"

#include <math.h>
#include <stdlib.h>

/* Where the resized image lies in the input: its pixels [x.begin, + x.count) at (left, top). */
struct plan {
    struct image_axis x, y;
    int left, top;
};

/* a b / c, at least 1. */
static int scale_side(int64_t a, int64_t b, int64_t c)
{
    int64_t v = a * b / c;
    return v < 1 ? 1 : (int)v;
}

static void plan_stretch(const struct image *im, const struct image_fitting *f, struct plan *p)
{
    (void)im;
    p->x = (struct image_axis){f->width, 0, f->width};
    p->y = (struct image_axis){f->height, 0, f->height};
}

/* The side that decides becomes size / crop_pct, the other one follows; as in torchvision, where
 * the middle is rounded to even. */
static void plan_crop(const struct image *im, const struct image_fitting *f, struct plan *p)
{
    bool by_width = (int64_t)f->width * im->height >= (int64_t)f->height * im->width;
    int width = (int)(f->width / f->crop_pct), height = (int)(f->height / f->crop_pct);
    if (by_width)
        height = scale_side(width, im->height, im->width);
    else
        width = scale_side(height, im->width, im->height);
    p->x = (struct image_axis){width, (int)nearbyint((width - f->width) / 2.0), f->width};
    p->y = (struct image_axis){height, (int)nearbyint((height - f->height) / 2.0), f->height};
}

static void plan_letterbox(const struct image *im, const struct image_fitting *f, struct plan *p)
{
    double ratio = fmin((double)f->width / im->width, (double)f->height / im->height);
    int width = (int)fmax(1, nearbyint(im->width * ratio));
    int height = (int)fmax(1, nearbyint(im->height * ratio));
    p->x = (struct image_axis){width, 0, width};
    p->y = (struct image_axis){height, 0, height};
    p->left = (f->width - width) / 2;
    p->top = (f->height - height) / 2;
}

static void (*const planners[])(const struct image *, const struct image_fitting *,
                                struct plan *) = {
    [IMAGE_STRETCH] = plan_stretch,
    [IMAGE_CROP] = plan_crop,
    [IMAGE_LETTERBOX] = plan_letterbox,
};

/* One channel of the resized pixels into its plane. */
static void write_plane(const unsigned char *pixels, int channels, const struct plan *p,
                        const struct image_fitting *f, float *plane)
{
    for (int i = 0; i < f->width * f->height; i++)
        plane[i] = (float)f->fill / 255.0f;
    for (int y = 0; y < p->y.count; y++) {
        const unsigned char *from = pixels + (size_t)y * (size_t)p->x.count * (size_t)channels;
        float *to = plane + (size_t)(p->top + y) * (size_t)f->width + p->left;
        for (int x = 0; x < p->x.count; x++)
            to[x] = (float)from[x * channels] / 255.0f;
    }
}

int image_fit_planes(struct image *im, const struct image_fitting *f, float *planes,
                     struct image_fit *fit_r, struct error *e)
{
    struct plan p = {.left = 0};
    if (f->color == IMAGE_GRAY)
        image_to_grey(im);
    planners[f->mode](im, f, &p);
    unsigned char *pixels = malloc((size_t)p.x.count * (size_t)p.y.count * (size_t)im->channels);
    if (!pixels)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for resizing an image");
    int failed = image_resize(im, &p.x, &p.y, pixels, e);
    int n = f->color == IMAGE_GRAY ? 1 : 3;
    for (int c = 0; c < n && !failed; c++) {
        int from = im->channels == 1 ? 0 : f->color == IMAGE_BGR ? 2 - c : c;
        write_plane(pixels + from, im->channels, &p, f,
                    planes + (size_t)c * (size_t)f->width * (size_t)f->height);
    }
    free(pixels);
    *fit_r = (struct image_fit){.sx = (double)p.x.full / im->width,
                                .sy = (double)p.y.full / im->height,
                                .dx = p.left - p.x.begin,
                                .dy = p.top - p.y.begin,
                                .width = im->width,
                                .height = im->height};
    return failed;
}
