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

/* Adds the window of output pixel (y, x) into the image, channels of one group. Taps of a line lie
 * side by side, unless they are dilated or belong to groups of channels: then each is a run. */
static void scatter_window(const struct conv *v, int64_t y, int64_t x, const real *col, real *dx)
{
    const struct window *w = &v->window;
    const struct taps across = window_taps(w, WIDTH, x, v->w),
                      down = window_taps(w, HEIGHT, y, v->h);
    const int64_t line = w->dilation[HEIGHT] * v->w * v->c, col_line = w->kernel[WIDTH] * v->cg;
    const int64_t tap = w->dilation[WIDTH] * v->c;
    const int64_t width = across.end - across.begin, height = down.end - down.begin;
    real *to = dx +
               (window_at(w, HEIGHT, y, down.begin) * v->w + window_at(w, WIDTH, x, 0)) * v->c +
               across.begin * tap;
    col += down.begin * col_line + across.begin * v->cg;
    if (tap == v->cg)
        kernels()->add_runs(height, width * v->cg, col, col_line, to, line);
    else
        for (int64_t k = 0; k < height; k++)
            kernels()->add_runs(width, v->cg, col + k * col_line, v->cg, to + k * line, tap);
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
