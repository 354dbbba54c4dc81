/* augment_blend.c: one tile through a matrix, bilinear. Output rows are cut into strips: first the
 * addresses and weights of a strip's pixels, which all channels share, then the numbers. For images
 * of several channels the tile is rewritten pixel by pixel, four channels side by side, so that one
 * vector holds a pixel: otherwise each of its numbers would be gathered on its own. */
#include "augment.h"
#include "kernels.h"

enum { STRIP = 64 };

/* ---- strips ---------------------------------------------------------------------------------- */

/* Each pixel is read from a square of four whose upper left one is at `at` in its plane; `right`
 * and `down` say how far from there, 0 to 1. */
struct strip {
    int32_t at[STRIP];
    real right[STRIP], down[STRIP];
    int32_t inside[STRIP];
};

/* The square's other pixels are next to it, but in images that are one pixel wide or high. */
static int64_t step_right(const struct image *size)
{
    return size->w > 1;
}

static int64_t step_down(const struct image *size)
{
    return size->h > 1 ? size->w : 0;
}

/* Where the centres of `n` output pixels from (x, y) on lie in the tile. True if any is seen. */
static inline __attribute__((always_inline)) bool locate(const double m[9],
                                                         const struct augment_tile *t,
                                                         const struct image *size, int64_t x,
                                                         int64_t y, int n, struct strip *s)
{
    const double cx = (double)x + 0.5, cy = (double)y + 0.5;
    const real u0 = (real)(m[0] * cx + m[1] * cy + m[2]), du = (real)m[0];
    const real v0 = (real)(m[3] * cx + m[4] * cy + m[5]), dv = (real)m[3];
    const real w0 = (real)(m[6] * cx + m[7] * cy + m[8]), dw = (real)m[6];
    const real left = (real)t->left, right = (real)t->right, tx = (real)t->x + (real)0.5;
    const real top = (real)t->top, bottom = (real)t->bottom, ty = (real)t->y + (real)0.5;
    const real most_x = (real)(size->w - 1), most_y = (real)(size->h - 1);
    const real last_i = (real)(size->w - 1 - step_right(size));
    const real last_j = (real)(size->h - 1 - (size->h > 1));
    const int32_t width = (int32_t)size->w;
    int32_t any = 0;
    for (int k = 0; k < n; k++) {
        const real w = w0 + (real)k * dw, scale = w > (real)1e-6 ? 1 / w : 0;
        const real u = (u0 + (real)k * du) * scale, v = (v0 + (real)k * dv) * scale;
        const int32_t in = (scale > 0) & (u >= left) & (u < right) & (v >= top) & (v < bottom);
        real a = u - tx, b = v - ty;
        a = a > 0 ? a : 0;
        b = b > 0 ? b : 0;
        a = a < most_x ? a : most_x;
        b = b < most_y ? b : most_y;
        const int32_t i = (int32_t)(a < last_i ? a : last_i),
                      j = (int32_t)(b < last_j ? b : last_j);
        s->at[k] = j * width + i;
        s->right[k] = a - (real)i;
        s->down[k] = b - (real)j;
        s->inside[k] = in;
        any |= in;
    }
    return any;
}

/* The same loop, compiled for vectors of two widths: the same bits, as nothing is contracted. */
static bool locate_narrow(const double m[9], const struct augment_tile *t, const struct image *size,
                          int64_t x, int64_t y, int n, struct strip *s)
{
    return locate(m, t, size, x, y, n, s);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static bool locate_wide(const double m[9],
                                                        const struct augment_tile *t,
                                                        const struct image *size, int64_t x,
                                                        int64_t y, int n, struct strip *s)
{
    return locate(m, t, size, x, y, n, s);
}
#else
#define locate_wide locate_narrow
#endif

/* Four channels of one pixel. Arrays of them need no more alignment than reals. */
enum { LANES = AUGMENT_PACKED };
typedef real lanes
    __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Channels [first, first + LANES) of an image, pixel by pixel; channels beyond the last are those
 * of the first. packed [h,w,LANES] */
static void pack(const real *image, const struct image *size, int64_t first, real *packed)
{
    const int64_t plane = size->h * size->w, left = size->c - first;
    const real *from[LANES];
    for (int c = 0; c < LANES; c++)
        from[c] = image + (first + (c < left ? c : 0)) * plane;
    for (int64_t i = 0; i < plane; i++)
        for (int c = 0; c < LANES; c++)
            packed[LANES * i + c] = from[c][i];
}

/* `channels` of them into their planes; where it is a constant, the loop over them is unrolled. */
static inline __attribute__((always_inline)) void blend_packed(const struct strip *s,
                                                               const real *packed,
                                                               const struct image *size,
                                                               int channels, int n, real *out)
{
    const int64_t dx = LANES * step_right(size), dy = LANES * step_down(size);
    const int64_t plane = size->h * size->w;
    for (int k = 0; k < n; k++) {
        const real *p = packed + LANES * (int64_t)s->at[k], right = s->right[k], down = s->down[k];
        if (!s->inside[k])
            continue;
        const lanes a = *(const lanes *)p, b = *(const lanes *)(p + dx);
        const lanes c = *(const lanes *)(p + dy), d = *(const lanes *)(p + dy + dx);
        const lanes upper = a + right * (b - a), lower = c + right * (d - c);
        const lanes value = upper + down * (lower - upper);
        for (int i = 0; i < channels; i++)
            out[i * plane + k] = value[i];
    }
}

static void strip_blend_packed(const struct strip *s, const real *packed, const struct image *size,
                               int64_t channels, int n, real *out)
{
    if (channels == 3) /* colours */
        blend_packed(s, packed, size, 3, n, out);
    else
        blend_packed(s, packed, size, channels < LANES ? (int)channels : LANES, n, out);
}

/* An image of one channel needs no packing. */
static void strip_blend_plane(const struct strip *s, const real *plane, const struct image *size,
                              int n, real *out)
{
    const int64_t dx = step_right(size), dy = step_down(size);
    for (int k = 0; k < n; k++) {
        const real *p = plane + s->at[k], right = s->right[k], down = s->down[k];
        const real upper = p[0] + right * (p[dx] - p[0]);
        const real lower = p[dy] + right * (p[dy + dx] - p[dy]);
        const real value = upper + down * (lower - upper);
        out[k] = s->inside[k] ? value : out[k];
    }
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Channels from `first` on of one tile. */
struct drawing {
    const struct augment_tile *tile;
    const struct image *size;
    const double *inverse; /* from the output to the plane */
    int64_t first;
    real *packed; /* [h,w,LANES] */
    bool is_packed;
};

static void draw_strip(struct drawing *d, int64_t x, int64_t y, real *out)
{
    const struct image *size = d->size;
    const int64_t left = size->w - x, plane = size->h * size->w;
    const int n = left < STRIP ? (int)left : STRIP;
    struct strip s;
    if (!(kernels() != &kernels_plain ? locate_wide : locate_narrow)(d->inverse, d->tile, size, x,
                                                                     y, n, &s))
        return;
    out += d->first * plane + y * size->w + x;
    if (size->c == 1) {
        strip_blend_plane(&s, d->tile->image, size, n, out);
        return;
    }
    if (!d->is_packed) /* only tiles that are seen */
        pack(d->tile->image, size, d->first, d->packed);
    d->is_packed = true;
    strip_blend_packed(&s, d->packed, size, size->c - d->first, n, out);
}

void augment_blend_tile(const struct augment_tile *t, const double inverse[9],
                        const struct image *size, real *packed, real *out)
{
    for (int64_t first = 0; first < size->c; first += LANES) {
        struct drawing d = {t, size, inverse, first, packed, false};
        for (int64_t y = 0; y < size->h; y++)
            for (int64_t x = 0; x < size->w; x += STRIP)
                draw_strip(&d, x, y, out);
    }
}
