/* conv_band.c: cutting images into bands of lines, and where the windows of their pixels lie. */
#include "conv_direct.h"

#include <string.h>

enum { COPY_ELEMENTS = 1 << 20 }; /* of several images together */

static int64_t min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

struct band band_at(const struct conv *v, const struct bands *b, int64_t i)
{
    struct band at = {.image = i / b->per_image * b->images, .first = i % b->per_image * b->lines};
    at.images = min_int64(b->images, v->images - at.image);
    at.lines = min_int64(b->lines, v->oh - at.first);
    return at;
}

int64_t band_seen_lines(const struct conv *v, int64_t lines)
{
    const struct window *w = &v->window;
    return (lines - 1) * w->stride[HEIGHT] + (w->kernel[HEIGHT] - 1) * w->dilation[HEIGHT] + 1;
}

static bool padded(const struct conv *v)
{
    return v->window.padding[HEIGHT] > 0 || v->window.padding[WIDTH] > 0;
}

static int64_t padded_line(const struct conv *v)
{
    return (v->w + 2 * v->window.padding[WIDTH]) * v->c;
}

struct bands bands_cut(const struct conv *v, int64_t pixels)
{
    const int64_t image = v->oh * v->ow, copy = band_seen_lines(v, v->oh) * padded_line(v);
    struct bands b = {.images = 1, .lines = v->oh, .per_image = 1};
    if (2 * image <= pixels) {
        b.images = min_int64(pixels / image, COPY_ELEMENTS / copy);
        b.images = b.images < 1 ? 1 : b.images;
    } else {
        int64_t lines = pixels / v->ow < 1 ? 1 : pixels / v->ow;
        b.lines = divide_up(v->oh, divide_up(v->oh, lines));
        b.per_image = divide_up(v->oh, b.lines);
    }
    b.count = divide_up(v->images, b.images) * b.per_image;
    return b;
}

/* Copies what output lines [first, first + lines) of image x see. */
static void copy_padded(const struct conv *v, const real *x, int64_t first, int64_t lines, real *to)
{
    const int64_t side = v->window.padding[WIDTH] * v->c, line = v->w * v->c;
    int64_t y = first * v->window.stride[HEIGHT] - v->window.padding[HEIGHT];
    for (int64_t end = y + band_seen_lines(v, lines); y < end; y++, to += padded_line(v)) {
        if (y < 0 || y >= v->h) {
            memset(to, 0, (size_t)padded_line(v) * sizeof *to);
            continue;
        }
        memset(to, 0, (size_t)side * sizeof *to);
        memcpy(to + side, x + y * line, (size_t)line * sizeof *to);
        memset(to + side + line, 0, (size_t)side * sizeof *to);
    }
}

/* Elements of real that the pointers of a band take. */
static int64_t pointers_size(int64_t pixels)
{
    return pixels * (int64_t)((sizeof(void *) + sizeof(real) - 1) / sizeof(real));
}

struct windows band_windows(const struct conv *v, const real *x, struct band b, real *scratch)
{
    const struct window *w = &v->window;
    const int64_t image = v->h * v->w * v->c;
    struct windows s = {.row = (const real **)(void *)scratch, .line = v->w * v->c};
    real *copy = scratch + pointers_size(band_pixels(v, b));
    if (padded(v))
        s.line = padded_line(v);
    int64_t q = 0;
    for (int64_t i = 0; i < b.images; i++) {
        const real *at = x + (b.image + i) * image + b.first * w->stride[HEIGHT] * s.line;
        if (padded(v)) {
            copy_padded(v, x + (b.image + i) * image, b.first, b.lines, copy);
            at = copy;
            copy += band_seen_lines(v, b.lines) * s.line;
        }
        for (int64_t y = 0; y < b.lines; y++)
            for (int64_t ox = 0; ox < v->ow; ox++)
                s.row[q++] = at + y * w->stride[HEIGHT] * s.line + ox * w->stride[WIDTH] * v->c;
    }
    return s;
}

int64_t bands_scratch(const struct conv *v, const struct bands *b)
{
    const int64_t pixels = b->images * b->lines * v->ow;
    int64_t copy = padded(v) ? b->images * band_seen_lines(v, b->lines) * padded_line(v) : 0;
    if (band_trims(v))
        copy = larger(copy, pixels * (int64_t)(sizeof(int64_t) / sizeof(real)));
    return pointers_size(pixels) + copy;
}

/* ---- pixels that see a tap ------------------------------------------------------------------- */

/* Pairs of an output and a tap that lie in the image, along an axis of `size` and `outputs`. */
static int64_t seen_along(const struct window *w, int axis, int64_t size, int64_t outputs)
{
    int64_t n = 0;
    for (int64_t k = 0; k < w->kernel[axis]; k++)
        for (int64_t o = 0; o < outputs; o++)
            n += window_at(w, axis, o, k) >= 0 && window_at(w, axis, o, k) < size;
    return n;
}

/* Runs of one tap must be long, and a tenth of the products saved. Sides of that many lines have
 * too little padding, unless it is wider than any network's. */
bool band_trims(const struct conv *v)
{
    enum { CHANNELS_FEWEST = 64, SIDE_MOST = 64 };
    if (!padded(v) || v->cg < CHANNELS_FEWEST || v->oh > SIDE_MOST || v->ow > SIDE_MOST)
        return false;
    const int64_t all = v->taps * v->oh * v->ow;
    const int64_t seen =
        seen_along(&v->window, HEIGHT, v->h, v->oh) * seen_along(&v->window, WIDTH, v->w, v->ow);
    return 10 * seen <= 9 * all;
}

struct seen band_seen(const struct conv *v, const real *x, struct band b, int64_t tap,
                      real *scratch)
{
    const struct window *w = &v->window;
    const int64_t pixels = band_pixels(v, b);
    struct seen s = {.row = (const real **)(void *)scratch,
                     .to = (int64_t *)(void *)(scratch + pointers_size(pixels))};
    for (int64_t line = 0; line < b.images * b.lines; line++) {
        const int64_t y = window_at(w, HEIGHT, b.first + line % b.lines, tap / w->kernel[WIDTH]);
        if (y < 0 || y >= v->h)
            continue;
        const real *at = x + ((b.image + line / b.lines) * v->h + y) * v->w * v->c;
        for (int64_t ox = 0; ox < v->ow; ox++) {
            const int64_t column = window_at(w, WIDTH, ox, tap % w->kernel[WIDTH]);
            if (column < 0 || column >= v->w)
                continue;
            s.row[s.n] = at + column * v->c;
            s.to[s.n++] = line * v->ow + ox;
        }
    }
    return s;
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Taps of a line lie side by side unless they are dilated or belong to groups of channels. */
static bool taps_touch(const struct conv *v)
{
    return v->groups == 1 && (v->window.dilation[WIDTH] == 1 || v->window.kernel[WIDTH] == 1);
}

struct runs conv_runs(const struct conv *v)
{
    if (taps_touch(v))
        return (struct runs){v->window.kernel[HEIGHT], v->window.kernel[WIDTH] * v->cg};
    return (struct runs){v->taps, v->cg};
}

int64_t conv_run_offset(const struct conv *v, int64_t line, int64_t group, int64_t run)
{
    const struct window *w = &v->window;
    const int64_t across = taps_touch(v) ? 1 : w->kernel[WIDTH];
    return run / across * w->dilation[HEIGHT] * line + run % across * w->dilation[WIDTH] * v->c +
           group * v->cg;
}
