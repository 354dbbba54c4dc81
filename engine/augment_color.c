/* augment_color.c: augmentations of colours: each pixel becomes a function of itself (and, for
 * contrast, of the image's mean). Images are planes in 0..1, and stay there: what would leave the
 * range is clamped, as torchvision does. */
#include "augment.h"
#include "kernels.h"

#include <math.h>
#include <string.h>

/* Shares of red, green and blue in a gray, as torchvision's rgb_to_grayscale. */
static const real RED = (real)0.2989, GREEN = (real)0.587, BLUE = (real)0.114;

static int64_t plane_of(const struct image *size)
{
    return size->h * size->w;
}

static inline real clamp_unit(real x)
{
    x = x > 0 ? x : 0;
    return x < 1 ? x : 1;
}

/* ---- hsv ------------------------------------------------------------------------------------- */

struct hsv {
    double p, h, s, v;
};
static const struct attr_def hsv_attrs[] = {
    AUGMENT_P(struct hsv, "1"),
    {"hsv_h", ATTR_REAL, offsetof(struct hsv, h), "0.015", 0, 1, NULL,
     "turns the hue by up to this part of the circle"},
    {"hsv_s", ATTR_REAL, offsetof(struct hsv, s), "0.7", 0, 1, NULL,
     "multiplies the saturation by 1 - hsv_s to 1 + hsv_s"},
    {"hsv_v", ATTR_REAL, offsetof(struct hsv, v), "0.4", 0, 1, NULL,
     "multiplies the value by 1 - hsv_v to 1 + hsv_v"},
    {0},
};

/* One of red, green and blue of a hue in [0, 6): `place` is 5, 3 or 1. */
static inline real hue_part(real hue, real place)
{
    real k = hue + place;
    k = k >= 6 ? k - 6 : k;
    k = k < 4 - k ? k : 4 - k;
    return clamp_unit(k);
}

/* RGB to HSV and back, without branches. `turn` in [0, 6) sixths of the circle. */
static inline __attribute__((always_inline)) void hsv_convert(real *restrict red,
                                                              real *restrict green,
                                                              real *restrict blue, int64_t n,
                                                              real turn, real saturate,
                                                              real brighten)
{
    for (int64_t i = 0; i < n; i++) {
        const real r = red[i], g = green[i], b = blue[i];
        const real rg_max = r > g ? r : g, rg_min = r < g ? r : g;
        const real max = rg_max > b ? rg_max : b, min = rg_min < b ? rg_min : b;
        const real chroma = max - min, inverse = 1 / (chroma > 0 ? chroma : 1);
        const real from_red = (g - b) * inverse, from_green = 2 + (b - r) * inverse;
        const real from_blue = 4 + (r - g) * inverse;
        real hue = max == r ? from_red : max == g ? from_green : from_blue;
        hue += turn;
        hue = hue < 0 ? hue + 6 : hue;
        hue = hue >= 6 ? hue - 6 : hue;
        const real saturation = clamp_unit(chroma / (max > 0 ? max : 1) * saturate);
        const real value = clamp_unit(max * brighten), depth = value * saturation;
        red[i] = value - depth * hue_part(hue, 5);
        green[i] = value - depth * hue_part(hue, 3);
        blue[i] = value - depth * hue_part(hue, 1);
    }
}

/* The same loop, compiled for vectors of two widths: the same bits, as nothing is contracted. */
static void hsv_narrow(real *red, real *green, real *blue, int64_t n, real turn, real saturate,
                       real brighten)
{
    hsv_convert(red, green, blue, n, turn, saturate, brighten);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void hsv_wide(real *red, real *green, real *blue, int64_t n,
                                                     real turn, real saturate, real brighten)
{
    hsv_convert(red, green, blue, n, turn, saturate, brighten);
}
#else
#define hsv_wide hsv_narrow
#endif

static void hsv(const void *attrs, struct augment_sample *s)
{
    const struct hsv *a = attrs;
    const double turn = augment_uniform(&s->random, -a->h, a->h) * 6;
    const double saturate = 1 + augment_uniform(&s->random, -a->s, a->s);
    const double brighten = 1 + augment_uniform(&s->random, -a->v, a->v);
    const real wrapped = (real)(turn < 0 ? turn + 6 : turn);
    const int64_t n = plane_of(&s->size);
    real *x = augment_settle(s);
    (kernels() != &kernels_plain ? hsv_wide : hsv_narrow)(
        x, x + n, x + 2 * n, n, wrapped < 6 ? wrapped : 0, (real)saturate, (real)brighten);
}

/* ---- brightness, contrast, saturation -------------------------------------------------------- */

struct jitter {
    double p, amount;
};
static const struct attr_def brightness_attrs[] = {
    AUGMENT_P(struct jitter, "1"),
    {"brightness", ATTR_REAL, offsetof(struct jitter, amount), "0.4", 0, 10, NULL,
     "the factor is drawn from max(0, 1 - brightness) to 1 + brightness"},
    {0},
};
static const struct attr_def contrast_attrs[] = {
    AUGMENT_P(struct jitter, "1"),
    {"contrast", ATTR_REAL, offsetof(struct jitter, amount), "0.4", 0, 10, NULL,
     "the factor is drawn from max(0, 1 - contrast) to 1 + contrast"},
    {0},
};
static const struct attr_def saturation_attrs[] = {
    AUGMENT_P(struct jitter, "1"),
    {"saturation", ATTR_REAL, offsetof(struct jitter, amount), "0.4", 0, 10, NULL,
     "the factor is drawn from max(0, 1 - saturation) to 1 + saturation"},
    {0},
};

/* Of ColorJitter. */
static real jitter_factor(const void *attrs, struct augment_sample *s)
{
    const struct jitter *a = attrs;
    return (real)augment_uniform(&s->random, fmax(0, 1 - a->amount), 1 + a->amount);
}

void augment_brightness(real *x, const struct image *size, real factor)
{
    for (int64_t i = 0; i < size->c * plane_of(size); i++)
        x[i] = clamp_unit(x[i] * factor);
}

static void brightness(const void *attrs, struct augment_sample *s)
{
    const real factor = jitter_factor(attrs, s);
    augment_brightness(augment_settle(s), &s->size, factor);
}

static real gray_of(const real *x, int64_t plane, int64_t i)
{
    return RED * x[i] + GREEN * x[plane + i] + BLUE * x[2 * plane + i];
}

/* The mean of the gray image; of all channels when they are not colours. */
static double gray_mean(const real *x, const struct image *size)
{
    const int64_t plane = plane_of(size), n = size->c == 3 ? plane : size->c * plane;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)(size->c == 3 ? gray_of(x, plane, i) : x[i]);
    return sum / (double)n;
}

void augment_contrast(real *x, const struct image *size, real factor)
{
    const real rest = (1 - factor) * (real)gray_mean(x, size);
    for (int64_t i = 0; i < size->c * plane_of(size); i++)
        x[i] = clamp_unit(factor * x[i] + rest);
}

static void contrast(const void *attrs, struct augment_sample *s)
{
    const real factor = jitter_factor(attrs, s);
    augment_contrast(augment_settle(s), &s->size, factor);
}

/* Gray images have no colour to change. */
void augment_saturation(real *x, const struct image *size, real factor)
{
    const int64_t plane = plane_of(size);
    for (int64_t i = 0; size->c == 3 && i < plane; i++) {
        const real rest = (1 - factor) * gray_of(x, plane, i);
        for (int c = 0; c < 3; c++)
            x[c * plane + i] = clamp_unit(factor * x[c * plane + i] + rest);
    }
}

static void saturation(const void *attrs, struct augment_sample *s)
{
    const real factor = jitter_factor(attrs, s);
    augment_saturation(augment_settle(s), &s->size, factor);
}

/* ---- grayscale, bgr -------------------------------------------------------------------------- */

struct bare {
    double p;
};
static const struct attr_def grayscale_attrs[] = {AUGMENT_P(struct bare, "0.1"), {0}};
static const struct attr_def bgr_attrs[] = {AUGMENT_P(struct bare, "0.5"), {0}};

static void grayscale(const void *attrs, struct augment_sample *s)
{
    const int64_t plane = plane_of(&s->size);
    real *x = augment_settle(s);
    (void)attrs;
    for (int64_t i = 0; i < plane; i++)
        x[i] = x[plane + i] = x[2 * plane + i] = gray_of(x, plane, i);
}

static void bgr(const void *attrs, struct augment_sample *s)
{
    const int64_t plane = plane_of(&s->size);
    real *x = augment_settle(s);
    (void)attrs;
    for (int64_t i = 0; i < plane; i++) {
        const real red = x[i];
        x[i] = x[2 * plane + i];
        x[2 * plane + i] = red;
    }
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct augment_def augments_color[] = {
    {{{"hsv", "turns the hue, scales saturation and value", hsv_attrs}, sizeof(struct hsv), NULL},
     "color",
     AUGMENT_UNIT | AUGMENT_RGB,
     hsv},
    {{{"brightness", "y = f x", brightness_attrs}, sizeof(struct jitter), NULL},
     "color",
     AUGMENT_UNIT,
     brightness},
    {{{"contrast", "y = f x + (1 - f) mean of the gray image", contrast_attrs},
      sizeof(struct jitter),
      NULL},
     "color",
     AUGMENT_UNIT,
     contrast},
    {{{"saturation", "y = f x + (1 - f) gray", saturation_attrs}, sizeof(struct jitter), NULL},
     "color",
     AUGMENT_UNIT | AUGMENT_RGB,
     saturation},
    {{{"grayscale", "y = 0.2989 r + 0.587 g + 0.114 b in each channel", grayscale_attrs},
      sizeof(struct bare),
      NULL},
     "color",
     AUGMENT_RGB,
     grayscale},
    {{{"bgr", "swaps red and blue", bgr_attrs}, sizeof(struct bare), NULL},
     "color",
     AUGMENT_RGB,
     bgr},
    {.row.info.name = NULL},
};
