/* conv_gather.c: im2col, col2im and packed weights. Channels lie last, so a window is a few runs of
 * memory: one for each row of taps, when channels are not grouped and taps lie side by side. */
#include "conv_gather.h"

#include <string.h>

struct pixel {
    int64_t image, y, x;
};

static struct pixel pixel_at(const struct conv *v, int64_t q)
{
    int64_t line = q / v->ow;
    return (struct pixel){line / v->oh, line % v->oh, q % v->ow};
}

static void pixel_next(const struct conv *v, struct pixel *p)
{
    if (++p->x < v->ow)
        return;
    p->x = 0;
    if (++p->y < v->oh)
        return;
    p->y = 0;
    p->image++;
}

/* A row of taps from a line of the image, zeros outside. Taps that lie side by side are one copy.
 */
static void gather_taps(const struct conv *v, const real *line, int64_t ix, struct taps t,
                        real *col)
{
    const int64_t cg = v->cg, kw = v->window.kernel[WIDTH], d = v->window.dilation[WIDTH];
    memset(col, 0, (size_t)(t.begin * cg) * sizeof *col);
    if (d == 1 && cg == v->c)
        memcpy(col + t.begin * cg, line + (ix + t.begin) * cg,
               (size_t)((t.end - t.begin) * cg) * sizeof *col);
    else
        for (int64_t k = t.begin; k < t.end; k++)
            memcpy(col + k * cg, line + (ix + k * d) * v->c, (size_t)cg * sizeof *col);
    memset(col + t.end * cg, 0, (size_t)((kw - t.end) * cg) * sizeof *col);
}

static void scatter_taps(const struct conv *v, real *line, int64_t ix, struct taps t,
                         const real *col)
{
    for (int64_t k = t.begin; k < t.end; k++) {
        real *restrict to = line + (ix + k * v->window.dilation[WIDTH]) * v->c;
        const real *restrict from = col + k * v->cg;
        for (int64_t c = 0; c < v->cg; c++)
            to[c] += from[c];
    }
}

void conv_gather(const struct conv *v, const real *x, struct range p, int64_t group, real *col)
{
    const struct window *w = &v->window;
    const int64_t tap_row = w->kernel[WIDTH] * v->cg;
    struct pixel at = pixel_at(v, p.begin);
    for (int64_t q = p.begin; q < p.end; q++, pixel_next(v, &at)) {
        struct taps across = window_taps(w, WIDTH, at.x, v->w);
        int64_t ix = window_at(w, WIDTH, at.x, 0);
        for (int64_t k = 0; k < w->kernel[HEIGHT]; k++, col += tap_row) {
            int64_t iy = window_at(w, HEIGHT, at.y, k);
            if (iy < 0 || iy >= v->h)
                memset(col, 0, (size_t)tap_row * sizeof *col);
            else
                gather_taps(v, x + (at.image * v->h + iy) * v->w * v->c + group * v->cg, ix, across,
                            col);
        }
    }
}

void conv_scatter(const struct conv *v, real *dx, struct range p, int64_t group, const real *col)
{
    const struct window *w = &v->window;
    const int64_t tap_row = w->kernel[WIDTH] * v->cg;
    struct pixel at = pixel_at(v, p.begin);
    for (int64_t q = p.begin; q < p.end; q++, pixel_next(v, &at)) {
        struct taps across = window_taps(w, WIDTH, at.x, v->w);
        int64_t ix = window_at(w, WIDTH, at.x, 0);
        for (int64_t k = 0; k < w->kernel[HEIGHT]; k++, col += tap_row) {
            int64_t iy = window_at(w, HEIGHT, at.y, k);
            if (iy >= 0 && iy < v->h)
                scatter_taps(v, dx + (at.image * v->h + iy) * v->w * v->c + group * v->cg, ix,
                             across, col);
        }
    }
}

/* [o][cg][taps] to [o][taps][cg] */
static void pack_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct conv_job *j = arg;
    const int64_t cg = j->v.cg, taps = j->v.taps;
    for (int64_t o = begin; o < end; o++) {
        const real *from = j->weight + o * j->v.k;
        real *to = j->work + o * j->v.k;
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < cg; c++)
                to[t * cg + c] = from[c * taps + t];
    }
}

const real *conv_pack(const struct conv_job *j)
{
    if (j->v.taps == 1)
        return j->weight;
    run_for(j->r, j->v.o, grain_rows(j->v.k), pack_range, (void *)j);
    return j->work;
}

int64_t conv_packed_size(const struct conv *v)
{
    return v->taps == 1 ? 0 : (v->o * v->k + 15) / 16 * 16;
}
