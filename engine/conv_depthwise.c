/* conv_depthwise.c: convolution with one input and one output channel a group. There is nothing to
 * multiply as a matrix: each tap of a window is a row of c numbers times a row of c weights, which
 * is vector code over channels. Weights are packed as [kh*kw][c].
 *
 * Forward writes output pixels and backward data writes input pixels, each of them once, so lines
 * of pixels are independent. Backward weights cuts the lines of dy into parts, sums each in order
 * in double, and adds the parts in order. */
#include "conv.h"

#include "channels.h"

#include <string.h>

enum { PARTS_MOST = 16 };

struct task {
    const struct conv_job *j;
    const struct conv *v;
    const real *packed; /* [taps][c] */
    int64_t n_parts;
    double *weight_parts; /* [n_parts][taps][c] */
    double *bias_parts;   /* [n_parts][c] */
};

static const real *pack(const struct conv_job *j)
{
    real *packed = j->prepared ? j->prepared : j->work;
    for (int64_t t = 0; !j->ready && t < j->v.taps; t++)
        for (int64_t c = 0; c < j->v.c; c++)
            packed[t * j->v.c + c] = j->weight[c * j->v.taps + t];
    return packed;
}

static inline void multiply_add(real *restrict y, const real *restrict x, const real *restrict w,
                                int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        y[i] += x[i] * w[i];
}

/* Lines for one task: a pure function of the shape. */
static int64_t grain_lines(const struct conv *v, int64_t pixels)
{
    return grain_rows(pixels * v->c * v->taps);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* One line of output pixels. */
static void forward_line(const struct task *t, int64_t image, int64_t oy)
{
    const struct conv *v = t->v;
    const struct window *w = &v->window;
    const real *x = t->j->x + image * v->h * v->w * v->c;
    real *y = t->j->y + (image * v->oh + oy) * v->ow * v->c;
    struct taps down = window_taps(w, HEIGHT, oy, v->h);
    for (int64_t ox = 0; ox < v->ow; ox++, y += v->c) {
        struct taps across = window_taps(w, WIDTH, ox, v->w);
        if (t->j->bias)
            memcpy(y, t->j->bias, (size_t)v->c * sizeof *y);
        else
            memset(y, 0, (size_t)v->c * sizeof *y);
        for (int64_t ky = down.begin; ky < down.end; ky++)
            for (int64_t kx = across.begin; kx < across.end; kx++) {
                int64_t iy = window_at(w, HEIGHT, oy, ky), ix = window_at(w, WIDTH, ox, kx);
                multiply_add(y, x + (iy * v->w + ix) * v->c,
                             t->packed + (ky * w->kernel[WIDTH] + kx) * v->c, v->c);
            }
    }
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    for (int64_t line = begin; line < end; line++) {
        forward_line(t, line / t->v->oh, line % t->v->oh);
        epilogue_apply(t->j->epilogue, t->j->y, line * t->v->ow * t->v->c, t->v->ow, t->v->c,
                       t->v->c);
    }
}

static void depthwise_forward(const struct conv_job *j)
{
    struct task t = {.j = j, .v = &j->v, .packed = pack(j)};
    run_for(j->r, j->v.images * j->v.oh, grain_lines(&j->v, j->v.ow), forward_range, &t);
}

/* ---- backward: the images -------------------------------------------------------------------- */

/* The output coordinate whose window has input coordinate `in` at `tap`; -1: none has. */
static int64_t output_of(const struct window *w, int axis, int64_t in, int64_t tap, int64_t size)
{
    int64_t at = in + w->padding[axis] - tap * w->dilation[axis];
    if (at < 0 || at % w->stride[axis] != 0 || at / w->stride[axis] >= size)
        return -1;
    return at / w->stride[axis];
}

/* One line of input pixels: each gathers from the windows that cover it. */
static void data_line(const struct task *t, int64_t image, int64_t iy)
{
    const struct conv *v = t->v;
    const struct window *w = &v->window;
    const real *dy = t->j->dy + image * v->oh * v->ow * v->c;
    real *dx = t->j->dx + (image * v->h + iy) * v->w * v->c;
    memset(dx, 0, (size_t)(v->w * v->c) * sizeof *dx);
    for (int64_t ky = 0; ky < w->kernel[HEIGHT]; ky++) {
        int64_t oy = output_of(w, HEIGHT, iy, ky, v->oh);
        for (int64_t kx = 0; oy >= 0 && kx < w->kernel[WIDTH]; kx++)
            for (int64_t ix = 0; ix < v->w; ix++) {
                int64_t ox = output_of(w, WIDTH, ix, kx, v->ow);
                if (ox >= 0)
                    multiply_add(dx + ix * v->c, dy + (oy * v->ow + ox) * v->c,
                                 t->packed + (ky * w->kernel[WIDTH] + kx) * v->c, v->c);
            }
    }
}

static void data_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    for (int64_t line = begin; line < end; line++)
        data_line(t, line / t->v->h, line % t->v->h);
}

/* ---- backward: weights and bias -------------------------------------------------------------- */

static inline void multiply_add_double(double *restrict sum, const real *restrict x,
                                       const real *restrict dy, int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        sum[i] += (double)(x[i] * dy[i]);
}

static void weight_line(const struct task *t, int64_t image, int64_t oy, double *sum)
{
    const struct conv *v = t->v;
    const struct window *w = &v->window;
    const real *x = t->j->x + image * v->h * v->w * v->c;
    const real *dy = t->j->dy + (image * v->oh + oy) * v->ow * v->c;
    struct taps down = window_taps(w, HEIGHT, oy, v->h);
    for (int64_t ox = 0; ox < v->ow; ox++, dy += v->c) {
        struct taps across = window_taps(w, WIDTH, ox, v->w);
        for (int64_t ky = down.begin; ky < down.end; ky++)
            for (int64_t kx = across.begin; kx < across.end; kx++) {
                int64_t iy = window_at(w, HEIGHT, oy, ky), ix = window_at(w, WIDTH, ox, kx);
                multiply_add_double(sum + (ky * w->kernel[WIDTH] + kx) * v->c,
                                    x + (iy * v->w + ix) * v->c, dy, v->c);
            }
    }
}

static void part_sum(const struct task *t, int64_t part)
{
    const struct conv *v = t->v;
    int64_t lines = v->images * v->oh;
    int64_t begin = conv_part(part, t->n_parts, lines);
    int64_t end = conv_part(part + 1, t->n_parts, lines);
    double *weight = t->weight_parts + part * v->taps * v->c, *bias = t->bias_parts + part * v->c;
    memset(weight, 0, (size_t)(v->taps * v->c) * sizeof *weight);
    memset(bias, 0, (size_t)v->c * sizeof *bias);
    for (int64_t line = begin; t->j->dweight && line < end; line++)
        weight_line(t, line / v->oh, line % v->oh, weight);
    struct channels rows = {(end - begin) * v->ow, v->c, 1};
    if (t->j->dbias)
        channels_sum(&rows, t->j->dy + begin * v->ow * v->c, bias);
}

static void part_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        part_sum(arg, i);
}

static void reduce_weights(const struct task *t)
{
    const struct conv *v = t->v;
    for (int64_t c = 0; c < v->c; c++)
        for (int64_t tap = 0; tap < v->taps; tap++) {
            double sum = 0;
            for (int64_t part = 0; part < t->n_parts; part++)
                sum += t->weight_parts[(part * v->taps + tap) * v->c + c];
            t->j->dweight[c * v->taps + tap] = (real)sum;
        }
}

static int64_t packed_size(const struct conv *v)
{
    return (v->taps * v->c + 15) / 16 * 16;
}

static void depthwise_backward(const struct conv_job *j)
{
    const struct conv *v = &j->v;
    int64_t lines = v->images * v->oh;
    struct task t = {.j = j, .v = v, .packed = pack(j)};
    t.n_parts = lines < PARTS_MOST ? lines : PARTS_MOST;
    t.bias_parts = (double *)(j->work + packed_size(v));
    t.weight_parts = t.bias_parts + PARTS_MOST * v->c;
    if (j->dx)
        run_for(j->r, v->images * v->h, grain_lines(v, v->w), data_range, &t);
    if (j->dweight || j->dbias)
        run_for(j->r, t.n_parts, 1, part_range, &t);
    if (j->dweight)
        reduce_weights(&t);
    if (j->dbias)
        conv_reduce_bias(t.bias_parts, t.n_parts, v->c, j->dbias);
}

static struct conv_memory depthwise_memory(const struct conv *v)
{
    int64_t sums = PARTS_MOST * (v->taps + 1) * v->c;
    return (struct conv_memory){packed_size(v), packed_size(v) + doubles_as_reals(sums), 0,
                                packed_size(v)};
}

const struct conv_method conv_depthwise = {"depthwise", depthwise_memory, depthwise_forward,
                                           depthwise_backward};
