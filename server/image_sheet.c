/* image_sheet.c: a batch of planes as one picture. */
#include "image_sheet.h"

#include <stdio.h>

enum { GAP = 2, SIDE_WANTED = 128, LABEL_MAX = 48 };

struct layout {
    int64_t shown, columns, rows, zoom;
    int64_t tile_w, tile_h; /* with the gap */
};

static struct layout layout_of(const struct image_sheet *s)
{
    struct layout l = {.shown = s->n < IMAGE_SHEET_MAX ? s->n : IMAGE_SHEET_MAX, .columns = 1};
    while (l.columns * l.columns < l.shown)
        l.columns++;
    const int64_t longer = s->width > s->height ? s->width : s->height;
    l.rows = (l.shown + l.columns - 1) / l.columns;
    l.zoom = longer < SIDE_WANTED ? (SIDE_WANTED + longer - 1) / longer : 1;
    l.tile_w = s->width * l.zoom + GAP;
    l.tile_h = s->height * l.zoom + GAP;
    return l;
}

/* Values v become v * gain + offset, 0 to 255. */
struct tone {
    float gain, offset;
};

static struct tone tone_of(const struct image_sheet *s, int64_t shown)
{
    const int64_t n = shown * s->channels * s->height * s->width;
    float low = 0, high = 1;
    for (int64_t i = 0; i < n; i++) {
        low = s->planes[i] < low ? s->planes[i] : low;
        high = s->planes[i] > high ? s->planes[i] : high;
    }
    const float gain = 255 / (high - low);
    return (struct tone){gain, -low * gain};
}

static unsigned char tone_map(const struct tone *t, float v)
{
    const float x = v * t->gain + t->offset + 0.5f;
    return x > 0 ? x < 255 ? (unsigned char)x : 255 : 0; /* NaN: black */
}

/* The part of the sheet that shows image i: what is drawn on it is of its size and stays inside. */
static struct image tile_view(const struct image_sheet *s, const struct layout *l, int64_t i,
                              const struct image *im)
{
    struct image view = *im;
    view.first = image_at(im, (int)(i % l->columns * l->tile_w + GAP / 2),
                          (int)(i / l->columns * l->tile_h + GAP / 2));
    view.width = (int)(s->width * l->zoom);
    view.height = (int)(s->height * l->zoom);
    return view;
}

static void draw_tile(const struct image_sheet *s, const struct layout *l, const struct tone *t,
                      int64_t i, const struct image *im)
{
    const struct image view = tile_view(s, l, i, im);
    const int64_t plane = s->height * s->width, next = s->channels == 3 ? plane : 0;
    const float *from = s->planes + i * s->channels * plane;
    for (int y = 0; y < view.height; y++)
        for (int x = 0; x < view.width; x++) {
            unsigned char *pixel = image_at(&view, x, y);
            const float *v = from + y / l->zoom * s->width + x / l->zoom;
            for (int c = 0; c < 3; c++)
                pixel[c] = tone_map(t, v[c * next]);
        }
}

static void draw_box(const struct image_sheet *s, const float *box, struct image *view)
{
    const double w = view->width, h = view->height;
    const int64_t class = (int64_t)box[0];
    const char *name = s->label ? s->label(s->arg, class) : NULL;
    char number[LABEL_MAX];
    snprintf(number, sizeof number, "%lld", (long long)class);
    const struct image_box b = {.x0 = (double)(box[1] - box[3] / 2) * w,
                                .y0 = (double)(box[2] - box[4] / 2) * h,
                                .x1 = (double)(box[1] + box[3] / 2) * w,
                                .y1 = (double)(box[2] + box[4] / 2) * h,
                                .text = name ? name : number,
                                .color = (int)(class & 0xFFFF)};
    image_draw_boxes(view, &b, 1);
}

static void draw_boxes(const struct image_sheet *s, const struct layout *l, int64_t i,
                       const struct image *im)
{
    struct image view = tile_view(s, l, i, im);
    const float *box = s->boxes + i * s->max_boxes * 5;
    for (int64_t k = 0; k < s->max_boxes; k++, box += 5)
        if (box[0] >= 0)
            draw_box(s, box, &view);
}

int image_sheet_draw(const struct image_sheet *s, const struct image_limits *l, struct image *im,
                     struct error *e)
{
    const struct layout at = layout_of(s);
    const struct tone tone = tone_of(s, at.shown);
    if (image_create(im, at.columns * at.tile_w, at.rows * at.tile_h, 3, l, e))
        return -1;
    for (int64_t i = 0; i < at.shown; i++)
        draw_tile(s, &at, &tone, i, im);
    for (int64_t i = 0; s->boxes && i < at.shown; i++)
        draw_boxes(s, &at, i, im);
    return 0;
}
