/* augment_pixels.c: augmentations of an image's texture: noise, blur, and parts that are erased.
 * They take values as they are; boxes and targets stay. */
#include "augment.h"

#include "real.h"

#include <math.h>
#include <string.h>

enum { BLUR_MAX = 31, ERASE_TRIES = 10 };

/* ---- gaussian_noise -------------------------------------------------------------------------- */

struct noise {
    double p, mean, sigma;
};
static const struct attr_def noise_attrs[] = {
    AUGMENT_P(struct noise, "1"),
    {"mean", ATTR_REAL, offsetof(struct noise, mean), "0", -1e6, 1e6, NULL, "of the noise"},
    {"sigma", ATTR_REAL, offsetof(struct noise, sigma), "0.1", 0, 1e6, NULL,
     "standard deviation of the noise"},
    {0},
};

/* Four normal numbers of one block: Box and Muller, twice. */
static void normal_block(const struct random_key *key, uint64_t block, real out[4])
{
    uint32_t word[4];
    random_block(key, block, word);
    for (int i = 0; i < 4; i += 2) {
        const real u = (real)((word[i] >> 8) + 1) * (real)0x1p-24; /* in (0, 1] */
        const real angle = (real)(word[i + 1] >> 8) * (real)(2 * M_PI * 0x1p-24);
        const real radius = RM(sqrt)(-2 * RM(log)(u));
        out[i] = radius * RM(cos)(angle);
        out[i + 1] = radius * RM(sin)(angle);
    }
}

static void gaussian_noise(const void *attrs, struct augment_sample *s)
{
    const struct noise *a = attrs;
    const int64_t n = s->size.c * s->size.h * s->size.w, blocks = (n + 3) / 4;
    const uint64_t first = (uint64_t)(s->index * blocks);
    const real mean = (real)a->mean, sigma = (real)a->sigma;
    real *x = augment_settle(s), normal[4];
    for (int64_t b = 0; b < blocks; b++) {
        normal_block(&s->pixels, first + (uint64_t)b, normal);
        for (int64_t i = 4 * b; i < n && i < 4 * b + 4; i++)
            x[i] += mean + sigma * normal[i % 4];
    }
}

/* ---- gaussian_blur --------------------------------------------------------------------------- */

struct blur {
    double p;
    int64_t kernel_size;
    struct real_list sigma;
};
static const struct attr_def blur_attrs[] = {
    AUGMENT_P(struct blur, "0.5"),
    {"kernel_size", ATTR_INT, offsetof(struct blur, kernel_size), "5", 1, BLUR_MAX, NULL,
     "width of the window, odd"},
    {"sigma", ATTR_REALS, offsetof(struct blur, sigma), "", 1e-3, 100, NULL,
     "range of the standard deviation in pixels; [0.1, 2] when not given"},
    {0},
};

static int blur_check(const void *attrs, const char *what, struct error *e)
{
    const struct blur *a = attrs;
    if (a->kernel_size % 2 == 0)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'kernel_size' must be odd, not %lld", what,
                         (long long)a->kernel_size);
    return augment_range_check(&a->sigma, "sigma", what, e);
}

static void blur_kernel(real *weight, int radius, double sigma)
{
    double w[BLUR_MAX], sum = 0;
    for (int i = -radius; i <= radius; i++)
        sum += w[i + radius] = exp(-i * i / (2 * sigma * sigma));
    for (int i = 0; i <= 2 * radius; i++)
        weight[i] = (real)(w[i] / sum);
}

/* Place i of a line of n, mirrored at its ends as often as it takes (reflect: the end itself is not
 * repeated). */
static int64_t reflect(int64_t i, int64_t n)
{
    const int64_t period = 2 * (n - 1);
    if (n == 1)
        return 0;
    i = i < 0 ? -i : i;
    i %= period;
    return i < n ? i : period - i;
}

static void blur_row(const real *from, real *to, int64_t n, const real *weight, int radius)
{
    for (int64_t x = 0; x < n; x++) {
        const bool inner = x >= radius && x + radius < n;
        real sum = 0;
        for (int k = -radius; k <= radius; k++)
            sum += weight[k + radius] * from[inner ? x + k : reflect(x + k, n)];
        to[x] = sum;
    }
}

/* Row y of the blur down the columns. */
static void blur_down(const real *plane, real *to, int64_t y, const struct image *size,
                      const real *weight, int radius)
{
    memset(to, 0, (size_t)size->w * sizeof *to);
    for (int k = -radius; k <= radius; k++) {
        const real *from = plane + reflect(y + k, size->h) * size->w;
        for (int64_t x = 0; x < size->w; x++)
            to[x] += weight[k + radius] * from[x];
    }
}

static void gaussian_blur(const void *attrs, struct augment_sample *s)
{
    const struct blur *a = attrs;
    const struct augment_range sigma = augment_range_of(&a->sigma, 0.1, 2);
    const int radius = (int)a->kernel_size / 2;
    const int64_t rows = s->size.c * s->size.h, w = s->size.w;
    real weight[BLUR_MAX], *x = augment_settle(s);
    blur_kernel(weight, radius, augment_uniform(&s->random, sigma.from, sigma.to));
    for (int64_t i = 0; i < rows; i++)
        blur_row(x + i * w, s->scratch + i * w, w, weight, radius);
    for (int64_t i = 0; i < rows; i++)
        blur_down(s->scratch + i / s->size.h * s->size.h * w, x + i * w, i % s->size.h, &s->size,
                  weight, radius);
}

/* ---- cutout and erasing ---------------------------------------------------------------------- */

static void fill_window(struct augment_sample *s, int64_t left, int64_t top, int64_t right,
                        int64_t bottom, real value)
{
    real *x = augment_settle(s);
    for (int64_t c = 0; c < s->size.c; c++)
        for (int64_t i = top; i < bottom; i++)
            for (int64_t j = left; j < right; j++)
                x[(c * s->size.h + i) * s->size.w + j] = value;
}

struct cutout {
    double p, length, fill;
    int64_t holes;
};
static const struct attr_def cutout_attrs[] = {
    AUGMENT_P(struct cutout, "1"),
    {"holes", ATTR_INT, offsetof(struct cutout, holes), "1", 1, 64, NULL, "number of squares"},
    {"length", ATTR_REAL, offsetof(struct cutout, length), "0.5", 0, 1, NULL,
     "side of a square as a part of the image's shorter side"},
    {"fill", ATTR_REAL, offsetof(struct cutout, fill), "0", -1e6, 1e6, NULL, "value inside"},
    {0},
};

static int64_t clamp_to(int64_t x, int64_t most)
{
    return x < 0 ? 0 : x > most ? most : x;
}

/* DeVries and Taylor: the centre is anywhere in the image, the square is cut at its borders. */
static void cutout(const void *attrs, struct augment_sample *s)
{
    const struct cutout *a = attrs;
    const int64_t w = s->size.w, h = s->size.h, shorter = w < h ? w : h;
    const int64_t side = (int64_t)nearbyint(a->length * (double)shorter);
    for (int64_t i = 0; i < a->holes; i++) {
        const int64_t top = augment_below(&s->random, h) - side / 2;
        const int64_t left = augment_below(&s->random, w) - side / 2;
        fill_window(s, clamp_to(left, w), clamp_to(top, h), clamp_to(left + side, w),
                    clamp_to(top + side, h), (real)a->fill);
    }
}

struct erasing {
    double p, value;
    struct real_list scale, ratio;
};
static const struct attr_def erasing_attrs[] = {
    AUGMENT_P(struct erasing, "0.5"),
    {"scale", ATTR_REALS, offsetof(struct erasing, scale), "", 1e-4, 1, NULL,
     "range of the share of the image's area; [0.02, 0.33] when not given"},
    {"ratio", ATTR_REALS, offsetof(struct erasing, ratio), "", 0.01, 100, NULL,
     "range of height over width; [0.3, 3.3] when not given"},
    {"value", ATTR_REAL, offsetof(struct erasing, value), "0", -1e6, 1e6, NULL, "value inside"},
    {0},
};

static int erasing_check(const void *attrs, const char *what, struct error *e)
{
    const struct erasing *a = attrs;
    return augment_range_check(&a->scale, "scale", what, e) ||
                   augment_range_check(&a->ratio, "ratio", what, e)
               ? -1
               : 0;
}

/* As torchvision's RandomErasing: a rectangle inside of the image, ten tries, else none. */
static void erasing(const void *attrs, struct augment_sample *s)
{
    const struct erasing *a = attrs;
    const struct augment_range scale = augment_range_of(&a->scale, 0.02, 0.33);
    const struct augment_range ratio = augment_range_of(&a->ratio, 0.3, 3.3);
    const int64_t all_w = s->size.w, all_h = s->size.h;
    for (int i = 0; i < ERASE_TRIES; i++) {
        const double area =
            (double)(all_w * all_h) * augment_uniform(&s->random, scale.from, scale.to);
        const double aspect = exp(augment_uniform(&s->random, log(ratio.from), log(ratio.to)));
        const double h = nearbyint(sqrt(area * aspect)), w = nearbyint(sqrt(area / aspect));
        if (h >= (double)all_h || w >= (double)all_w)
            continue;
        const int64_t top = augment_below(&s->random, all_h - (int64_t)h + 1);
        const int64_t left = augment_below(&s->random, all_w - (int64_t)w + 1);
        fill_window(s, left, top, left + (int64_t)w, top + (int64_t)h, (real)a->value);
        return;
    }
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct augment_def augments_pixels[] = {
    {{{"gaussian_noise", "y = x + N(mean, sigma^2) for each number", noise_attrs},
      sizeof(struct noise),
      NULL},
     "color",
     0,
     gaussian_noise},
    {{{"gaussian_blur", "each channel with a normal window, mirrored at the borders", blur_attrs},
      sizeof(struct blur),
      blur_check},
     "color",
     0,
     gaussian_blur},
    {{{"cutout", "squares are blanked, cut off at the borders", cutout_attrs},
      sizeof(struct cutout),
      NULL},
     "color",
     0,
     cutout},
    {{{"erasing", "a rectangle is blanked", erasing_attrs}, sizeof(struct erasing), erasing_check},
     "color",
     0,
     erasing},
    {.row.info.name = NULL},
};
