/* image_draw.c: boxes and labels on an image. Lines and letters grow with the image. */
#include "image.h"
#include "image_font.h"

#include <math.h>
#include <string.h>

typedef struct {
    unsigned char r, g, b;
} rgb;

/* Colours that differ from each other and from most photographs. */
static const rgb palette[] = {
    {230, 25, 75},  {60, 180, 75},  {255, 225, 25}, {0, 130, 200},   {245, 130, 48}, {145, 30, 180},
    {70, 240, 240}, {240, 50, 230}, {210, 245, 60}, {250, 190, 212}, {0, 128, 128},  {170, 110, 40},
};
enum { COLORS = sizeof palette / sizeof *palette };

static rgb color_of(int color)
{
    return palette[(unsigned)color % COLORS];
}

static void fill(struct image *im, int x0, int y0, int x1, int y1, rgb color)
{
    x0 = x0 < 0 ? 0 : x0;
    y0 = y0 < 0 ? 0 : y0;
    x1 = x1 > im->width ? im->width : x1;
    y1 = y1 > im->height ? im->height : y1;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            memcpy(image_at(im, x, y), &color, 3);
}

/* Pixels of one dot of a letter, or of a line. */
static int dot_size(const struct image *im)
{
    int side = im->width < im->height ? im->width : im->height;
    int dot = (side + 100) / 200;
    return dot < 1 ? 1 : dot;
}

/* ---- text ------------------------------------------------------------------------------------ */

static int text_width(const char *text, int dot)
{
    int n = 0;
    while (font_next(&text))
        n++;
    return (n * (FONT_WIDTH + 1) + 1) * dot;
}

static void draw_glyph(struct image *im, int x, int y, const unsigned char *glyph, int dot,
                       rgb color)
{
    for (int row = 0; row < FONT_HEIGHT; row++)
        for (int column = 0; column < FONT_WIDTH; column++)
            if (glyph[row] >> (FONT_WIDTH - 1 - column) & 1)
                fill(im, x + column * dot, y + row * dot, x + (column + 1) * dot,
                     y + (row + 1) * dot, color);
}

static int clamp(int v, int low, int high)
{
    return v > high && high >= low ? high : v < low ? low : v;
}

int image_draw_text(struct image *im, int x, int y, const char *text, int color)
{
    int dot = dot_size(im), width = text_width(text, dot), height = (FONT_HEIGHT + 2) * dot;
    rgb paper = color_of(color);
    bool bright = 299 * paper.r + 587 * paper.g + 114 * paper.b > 140000;
    rgb ink = bright ? (rgb){0, 0, 0} : (rgb){255, 255, 255};
    const unsigned char *glyph;
    x = clamp(x, 0, im->width - width > 0 ? im->width - width : 0);
    y = clamp(y, 0, im->height - height > 0 ? im->height - height : 0);
    fill(im, x, y, x + width, y + height, paper);
    for (x += dot; (glyph = font_next(&text)) && x < im->width; x += (FONT_WIDTH + 1) * dot)
        draw_glyph(im, x, y + dot, glyph, dot, ink);
    return height;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* A coordinate as a pixel, whatever it is: NaN and what is far outside are brought near. */
static int pixel(double v, int size)
{
    return v > -1 ? v < size + 1 ? (int)floor(v + 0.5) : size + 1 : -1;
}

static void draw_box(struct image *im, const struct image_box *b)
{
    int line = 2 * dot_size(im);
    int x0 = pixel(b->x0, im->width), y0 = pixel(b->y0, im->height);
    int x1 = pixel(b->x1, im->width), y1 = pixel(b->y1, im->height);
    rgb color = color_of(b->color);
    fill(im, x0, y0, x1, y0 + line, color);
    fill(im, x0, y1 - line, x1, y1, color);
    fill(im, x0, y0, x0 + line, y1, color);
    fill(im, x1 - line, y0, x1, y1, color);
}

void image_draw_boxes(struct image *im, const struct image_box *boxes, int n)
{
    int height = (FONT_HEIGHT + 2) * dot_size(im);
    for (int i = n - 1; i >= 0; i--)
        draw_box(im, &boxes[i]);
    for (int i = n - 1; i >= 0; i--) {
        int x = pixel(boxes[i].x0, im->width), y = pixel(boxes[i].y0, im->height);
        if (boxes[i].text) /* above its box if there is room */
            image_draw_text(im, x, y >= height ? y - height : y, boxes[i].text, boxes[i].color);
    }
}
