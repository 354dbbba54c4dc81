/* conv_scatter.c: the gradient of a convolution's image where the stride is not 1, or where the
 * image has so few channels that they do not fill the vectors of a product: dy times the
 * packed weights is the gradient of the windows, which are added into the image (col2im). Windows
 * overlap, so one task owns whole images. */
#include "conv_direct.h"

#include <string.h>

enum { BAND_PIXELS = 256 };

struct task {
    const struct conv_job *j;
    const struct conv *v;
    struct bands bands;
    const real *packed;
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static struct bands scatter_bands(const struct conv *v)
{
    struct bands b = bands_cut(v, BAND_PIXELS);
    b.images = 1; /* a band is one image's */
    b.count = v->images * b.per_image;
    return b;
}

/* Adds n numbers. */
static inline void add_numbers(real *restrict to, const real *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* Taps of a line lie side by side, and are added in one run, unless they are dilated or belong to
 * groups of channels. */
static void scatter_taps(const struct conv *v, real *line, int64_t ix, struct taps t,
                         const real *col)
{
    const int64_t dilation = v->window.dilation[WIDTH];
    if (dilation == 1 && v->groups == 1) {
        add_numbers(line + (ix + t.begin) * v->c, col + t.begin * v->c, (t.end - t.begin) * v->c);
        return;
    }
    for (int64_t k = t.begin; k < t.end; k++)
        add_numbers(line + (ix + k * dilation) * v->c, col + k * v->cg, v->cg);
}

/* Adds the window of output pixel (y, x) into the image, channels of one group. */
static void scatter_window(const struct conv *v, int64_t y, int64_t x, const real *col, real *dx)
{
    const struct window *w = &v->window;
    struct taps across = window_taps(w, WIDTH, x, v->w), down = window_taps(w, HEIGHT, y, v->h);
    for (int64_t k = down.begin; k < down.end; k++)
        scatter_taps(v, dx + window_at(w, HEIGHT, y, k) * v->w * v->c, window_at(w, WIDTH, x, 0),
                     across, col + k * w->kernel[WIDTH] * v->cg);
}

/* scratch: pointers to rows of dy, then [pixels][k]. */
static void scatter_band(const struct task *t, struct band b, real *scratch)
{
    const struct conv *v = t->v;
    const int64_t pixels = band_pixels(v, b);
    const real **row = (const real **)(void *)scratch;
    real *col = scratch + 2 * pixels, *dx = t->j->dx + b.image * v->h * v->w * v->c;
    for (int64_t q = 0; q < pixels; q++)
        row[q] = t->j->dy + (band_first(v, b) + q) * v->o;
    for (int64_t g = 0; g < v->groups; g++) {
        const int64_t offset = g * v->og;
        kernels()->rows_product(
            &(struct rows_product){.rows = pixels,
                                   .cols = v->k,
                                   .row = row,
                                   .offset = &offset,
                                   .runs = 1,
                                   .length = v->og,
                                   .packed = t->packed + g * kernels_packed(kernels(), v->og, v->k),
                                   .k = v->og,
                                   .y = col,
                                   .ldy = v->k});
        for (int64_t q = 0; q < pixels; q++)
            scatter_window(v, b.first + q / v->ow, q % v->ow, col + q * v->k, dx + g * v->cg);
    }
}

static void images_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    const int64_t image = t->v->h * t->v->w * t->v->c;
    memset(t->j->dx + begin * image, 0, (size_t)((end - begin) * image) * sizeof(real));
    for (int64_t i = begin * t->bands.per_image; i < end * t->bands.per_image; i++)
        scatter_band(t, band_at(t->v, &t->bands, i), run_scratch(t->j->r, worker));
}

void conv_scatter_backward(const struct conv_job *j, real *work)
{
    struct task t = {j, &j->v, scatter_bands(&j->v), work};
    conv_pack(j, PACK_SCATTER, work);
    run_for(j->r, j->v.images, 1, images_range, &t);
}

/* Steps of products, a vector each: scattered they are k wide, flipped only as wide as the image
 * has channels, and a scattered number is added once more. */
bool conv_scatter_pays(const struct conv *v, const struct conv *u)
{
    const int64_t lanes = kernels()->lanes, adds = 4;
    const double scattered =
        (double)(v->oh * v->ow) * (double)divide_up(v->k, lanes) * (double)(v->og + adds);
    const double flipped = (double)(u->oh * u->ow) * (double)divide_up(u->og, lanes) * (double)u->k;
    return 2 * v->cg <= lanes && scattered < flipped;
}

struct conv_memory conv_scatter_memory(const struct conv *v)
{
    const struct bands b = scatter_bands(v);
    struct conv_memory m = {.backward = conv_packed_size(v, PACK_SCATTER)};
    m.scratch = b.lines * v->ow * (2 + v->k);
    return m;
}
