/* conv_planes.c: convolution to few output channels, which would leave most lanes of a product's
 * vectors empty: here the lanes are neighbouring pixels of a line.
 *
 * The lines that a band of output lines sees are copied apart, zeros around them: [line][channel]
 * [phase][w'], where a phase is each stride-th pixel. There the numbers that a tap of the kernel
 * multiplies follow each other in memory, for all pixels of an output line. So output pixel q of a
 * line is a sum over taps of weight[tap] * line[offset[tap] + q]: planes_product of kernels.h.
 *
 * Each output number is a sequential sum in one order, however bands are cut: the same bits at any
 * number of threads, and for a sample in any company. Gradients are those of conv_direct.c. */
#include "conv_direct.h"

#include <string.h>

enum { BAND_PIXELS = 1024 };

struct task {
    const struct conv_job *j;
    const struct conv *v;
    struct bands bands;
    const real *packed; /* [k][o] */
};

/* ---- the planes of a band -------------------------------------------------------------------- */

/* Elements of one phase of a line, and of a line. */
static int64_t phase_size(const struct conv *v)
{
    const int64_t stride = v->window.stride[WIDTH];
    return (v->w + 2 * v->window.padding[WIDTH] + stride - 1) / stride;
}

static int64_t line_size(const struct conv *v)
{
    return v->c * v->window.stride[WIDTH] * phase_size(v);
}

/* Where taps lie in a line and those below, in the order of weights. */
static void find_taps(const struct conv *v, int64_t *offset)
{
    const struct window *w = &v->window;
    const int64_t stride = w->stride[WIDTH], size = phase_size(v);
    for (int64_t c = 0; c < v->c; c++)
        for (int64_t ky = 0; ky < w->kernel[HEIGHT]; ky++)
            for (int64_t kx = 0; kx < w->kernel[WIDTH]; kx++) {
                const int64_t at = kx * w->dilation[WIDTH];
                *offset++ = ky * w->dilation[HEIGHT] * line_size(v) +
                            (c * stride + at % stride) * size + at / stride;
            }
}

/* Pixels phase, phase + stride, ... of one channel of a line, counted from its padding. */
static void copy_phase(const struct conv *v, const real *x, int64_t phase, real *to)
{
    const int64_t stride = v->window.stride[WIDTH], size = phase_size(v);
    const int64_t first = phase - v->window.padding[WIDTH];
    int64_t begin = first < 0 ? (-first + stride - 1) / stride : 0;
    int64_t end = first < v->w ? (v->w - first + stride - 1) / stride : 0;
    begin = begin < size ? begin : size;
    end = end < begin ? begin : end < size ? end : size;
    memset(to, 0, (size_t)begin * sizeof *to);
    if (v->c == 1 && stride == 1)
        memcpy(to + begin, x + first + begin, (size_t)(end - begin) * sizeof *to);
    else
        for (int64_t i = begin; i < end; i++)
            to[i] = x[(first + i * stride) * v->c];
    memset(to + end, 0, (size_t)(size - end) * sizeof *to);
}

/* What output lines [first, first + lines) of image x see, and zeros to read behind them. */
static void copy_lines(const struct conv *v, const real *x, int64_t first, int64_t lines, real *to)
{
    const int64_t stride = v->window.stride[WIDTH], size = phase_size(v);
    int64_t y = first * v->window.stride[HEIGHT] - v->window.padding[HEIGHT];
    for (int64_t end = y + band_seen_lines(v, lines); y < end; y++, to += line_size(v)) {
        if (y < 0 || y >= v->h) {
            memset(to, 0, (size_t)line_size(v) * sizeof *to);
            continue;
        }
        for (int64_t i = 0; i < v->c * stride; i++)
            copy_phase(v, x + y * v->w * v->c + i / stride, i % stride, to + i * size);
    }
    memset(to, 0, (size_t)kernels()->lanes * sizeof *to);
}

/* ---- forward --------------------------------------------------------------------------------- */

static int64_t offsets_size(const struct conv *v)
{
    return v->k * (int64_t)(sizeof(int64_t) / sizeof(real));
}

static void band_product(const struct task *t, struct band b, real *scratch)
{
    const struct conv *v = t->v;
    int64_t *offset = (int64_t *)(void *)scratch;
    real *planes = scratch + offsets_size(v), *y = t->j->y + band_first(v, b) * v->o;
    const int64_t pixels = b.lines * v->ow;
    struct planes_product p = {.lines = b.lines,
                               .pixels = v->ow,
                               .cols = v->o,
                               .k = v->k,
                               .step = v->window.stride[HEIGHT] * line_size(v),
                               .x = planes,
                               .offset = offset,
                               .weight = t->packed,
                               .bias = t->j->bias};
    find_taps(v, offset);
    for (int64_t i = 0; i < b.images; i++) {
        copy_lines(v, t->j->x + (b.image + i) * v->h * v->w * v->c, b.first, b.lines, planes);
        p.y = y + i * pixels * v->o;
        kernels()->planes_product(&p);
        epilogue_apply(t->j->epilogue, t->j->y, p.y - t->j->y, pixels, v->o, v->o);
    }
}

static void bands_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++)
        band_product(t, band_at(t->v, &t->bands, i), run_scratch(t->j->r, worker));
}

static void planes_forward(const struct conv_job *j)
{
    const struct conv *v = &j->v;
    real *packed = j->prepared ? j->prepared : j->work;
    struct task t = {j, v, bands_cut(v, BAND_PIXELS), packed};
    for (int64_t i = 0; !j->ready && i < v->k * v->o; i++)
        packed[i] = j->weight[i % v->o * v->k + i / v->o];
    run_for(j->r, t.bands.count, 1, bands_range, &t);
}

static void planes_backward(const struct conv_job *j)
{
    conv_direct.backward(j);
}

static struct conv_memory planes_memory(const struct conv *v)
{
    const struct bands bands = bands_cut(v, BAND_PIXELS);
    const int64_t scratch =
        offsets_size(v) + band_seen_lines(v, bands.lines) * line_size(v) + kernels()->lanes;
    struct conv_memory m = conv_direct.memory(v);
    m.forward = m.prepared = v->k * v->o;
    m.scratch = m.scratch > scratch ? m.scratch : scratch;
    return m;
}

/* Steps of products, a vector each. Beside them, here lanes change places and lines are copied,
 * number by number unless they are one plane already; there each pixel is begun and stored. */
bool conv_planes_pays(const struct conv *v)
{
    enum { PLACES = 4, COPY = 3, PIXEL = 8 };
    const int64_t lanes = kernels()->lanes, vectors = (v->ow + lanes - 1) / lanes;
    if (v->groups > 1 || v->o > PLANES_COLS_MOST || 2 * v->o > lanes)
        return false;
    const double copy = v->c == 1 && v->window.stride[WIDTH] == 1 ? 1 : COPY;
    const double copied = (double)band_seen_lines(v, v->oh) * (double)line_size(v);
    const double planes = (double)(v->oh * vectors * v->o) * (double)(v->k + PLACES);
    return planes + copy * copied < 0.9 * (double)(v->oh * v->ow) * (double)(v->k + PIXEL);
}

const struct conv_method conv_planes = {"planes", planes_memory, planes_forward, planes_backward};
