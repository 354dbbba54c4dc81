/* augment_rand.c: RandAugment (Cubuk et al., 2019) with torchvision's operations and magnitudes:
 * num_ops operations, each one of fourteen, at the strength `magnitude` of num_magnitude_bins, the
 * signed ones with a random sign. Rotations and shears are about the centre. */
#include "augment.h"

#include <math.h>
#include <string.h>

struct rand_augment {
    double p, fill;
    int64_t num_ops, magnitude, bins;
};
#define RAND(field) offsetof(struct rand_augment, field)
static const struct attr_def rand_attrs[] = {
    AUGMENT_P(struct rand_augment, "1"),
    {"num_ops", ATTR_INT, RAND(num_ops), "2", 0, 14, NULL,
     "operations that each image goes through"},
    {"magnitude", ATTR_INT, RAND(magnitude), "9", 0, 100, NULL, "their strength"},
    {"num_magnitude_bins", ATTR_INT, RAND(bins), "31", 2, 101, NULL,
     "number of strengths: magnitude goes from 0 to one less"},
    {"fill", ATTR_REAL, RAND(fill), "0", -1e6, 1e6, NULL, "value outside of the image"},
    {0},
};

static int rand_check(const void *attrs, const char *what, struct error *e)
{
    const struct rand_augment *a = attrs;
    if (a->magnitude < a->bins)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute 'magnitude' must be below num_magnitude_bins (%lld), not %lld",
                     what, (long long)a->bins, (long long)a->magnitude);
}

/* ---- geometric operations: `x` is the magnitude, with its sign ------------------------------- */

static void shear_x(struct augment_sample *s, double x, double fill)
{
    augment_rotate(s, 0, 1, atan(x) * 180 / M_PI, 0, 0, 0, fill);
}

static void shear_y(struct augment_sample *s, double x, double fill)
{
    augment_rotate(s, 0, 1, 0, atan(x) * 180 / M_PI, 0, 0, fill);
}

static void translate_x(struct augment_sample *s, double x, double fill)
{
    augment_rotate(s, 0, 1, 0, 0, trunc(x * (double)s->size.w), 0, fill);
}

static void translate_y(struct augment_sample *s, double x, double fill)
{
    augment_rotate(s, 0, 1, 0, 0, 0, trunc(x * (double)s->size.h), fill);
}

static void rotate(struct augment_sample *s, double x, double fill)
{
    augment_rotate(s, x, 1, 0, 0, 0, 0, fill);
}

/* ---- colours --------------------------------------------------------------------------------- */

static void identity(struct augment_sample *s, double x, double fill)
{
    (void)s, (void)x, (void)fill;
}

static void brightness(struct augment_sample *s, double x, double fill)
{
    (void)fill;
    augment_brightness(augment_settle(s), &s->size, (real)(1 + x));
}

static void color(struct augment_sample *s, double x, double fill)
{
    (void)fill;
    augment_saturation(augment_settle(s), &s->size, (real)(1 + x));
}

static void contrast(struct augment_sample *s, double x, double fill)
{
    (void)fill;
    augment_contrast(augment_settle(s), &s->size, (real)(1 + x));
}

static real clamp_unit(real x)
{
    return x > 0 ? x < 1 ? x : 1 : 0; /* NaN: 0 */
}

/* One row of a plane, but for its ends: f x + (1 - f) smooth, where smooth is the mean of 3x3
 * pixels with the middle one counted five times. */
static void sharpen_row(const real *from, real *to, int64_t w, real factor)
{
    for (int64_t x = 1; x + 1 < w; x++) {
        const real *p = from + x;
        const real around =
            p[-w - 1] + p[-w] + p[-w + 1] + p[-1] + p[1] + p[w - 1] + p[w] + p[w + 1];
        const real smooth = (around + 5 * p[0]) / 13;
        to[x] = clamp_unit(factor * p[0] + (1 - factor) * smooth);
    }
}

static void sharpness(struct augment_sample *s, double x, double fill)
{
    const int64_t w = s->size.w, h = s->size.h, n = s->size.c * h * w;
    real *to = augment_settle(s);
    (void)fill;
    memcpy(s->scratch, to, (size_t)n * sizeof *to);
    for (int64_t c = 0; c < s->size.c; c++)
        for (int64_t y = 1; y + 1 < h; y++)
            sharpen_row(s->scratch + (c * h + y) * w, to + (c * h + y) * w, w, (real)(1 + x));
}

/* `x`, rounded, is the number of bits of 8 that go. */
static void posterize(struct augment_sample *s, double x, double fill)
{
    const real levels = (real)(256 / exp2(nearbyint(x)));
    real *v = augment_settle(s);
    (void)fill;
    for (int64_t i = 0; i < s->size.c * s->size.h * s->size.w; i++) {
        const real level = (real)(int)(clamp_unit(v[i]) * 255 * levels / 256);
        v[i] = level * (256 / levels) / 255;
    }
}

/* What is at least 1 - x is inverted. */
static void solarize(struct augment_sample *s, double x, double fill)
{
    const real threshold = (real)(1 - x);
    real *v = augment_settle(s);
    (void)fill;
    for (int64_t i = 0; i < s->size.c * s->size.h * s->size.w; i++)
        v[i] = v[i] >= threshold ? 1 - v[i] : v[i];
}

static void autocontrast(struct augment_sample *s, double x, double fill)
{
    const int64_t n = s->size.h * s->size.w;
    real *v = augment_settle(s);
    (void)x, (void)fill;
    for (int64_t c = 0; c < s->size.c; c++, v += n) {
        real min = v[0], max = v[0];
        for (int64_t i = 1; i < n; i++) {
            min = v[i] < min ? v[i] : min;
            max = v[i] > max ? v[i] : max;
        }
        for (int64_t i = 0; max > min && i < n; i++)
            v[i] = (v[i] - min) / (max - min);
    }
}

/* The histogram of 256 levels is made flat, as PIL's equalize does. */
static void equalize(struct augment_sample *s, double x, double fill)
{
    const int64_t n = s->size.h * s->size.w;
    real *v = augment_settle(s);
    (void)x, (void)fill;
    for (int64_t c = 0; c < s->size.c; c++, v += n) {
        int64_t count[256] = {0}, last = 255, sum = 0;
        real to[256];
        for (int64_t i = 0; i < n; i++)
            count[(int)(clamp_unit(v[i]) * 255 + (real)0.5)]++;
        while (last > 0 && !count[last])
            last--;
        const int64_t step = (n - count[last]) / 255;
        for (int k = 0; k < 256 && step; k++) {
            const int64_t level = (sum + step / 2) / step;
            to[k] = (real)(level > 255 ? 255 : level) / 255;
            sum += count[k];
        }
        for (int64_t i = 0; step && i < n; i++)
            v[i] = to[(int)(clamp_unit(v[i]) * 255 + (real)0.5)];
    }
}

/* ---- the operations -------------------------------------------------------------------------- */

static const struct {
    double most; /* at the last magnitude; it is 0 at the first */
    bool is_signed;
    void (*apply)(struct augment_sample *s, double x, double fill);
} operations[] = {
    {0, false, identity},
    {0.3, true, shear_x},
    {0.3, true, shear_y},
    {150.0 / 331, true, translate_x},
    {150.0 / 331, true, translate_y},
    {30, true, rotate},
    {0.9, true, brightness},
    {0.9, true, color},
    {0.9, true, contrast},
    {0.9, true, sharpness},
    {4, false, posterize},
    {1, false, solarize},
    {0, false, autocontrast},
    {0, false, equalize},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

static void rand_augment(const void *attrs, struct augment_sample *s)
{
    const struct rand_augment *a = attrs;
    for (int64_t i = 0; i < a->num_ops; i++) {
        const int64_t k = augment_below(&s->random, OPERATIONS);
        const bool minus = augment_below(&s->random, 2);
        const double x = operations[k].most * (double)a->magnitude / (double)(a->bins - 1);
        operations[k].apply(s, operations[k].is_signed && minus ? -x : x, a->fill);
    }
}

const struct augment_def augments_rand[] = {
    {{{"randaugment", "num_ops operations of 14, chosen at random, at one strength", rand_attrs},
      sizeof(struct rand_augment),
      rand_check},
     "geometric",
     AUGMENT_UNIT,
     rand_augment},
    {.row.info.name = NULL},
};
