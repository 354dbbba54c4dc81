/* conv_gemm.c: convolution as matrix products over gathered windows (im2col).
 *
 * Output pixels of all images are numbered q = (image * oh + y) * ow + x; row q of the output is
 * its o channels. A block of consecutive pixels is gathered into scratch as [rows][kh*kw*cg], which
 * one GEMM with the packed weights [o][kh*kw*cg] turns into output rows. For 1x1 kernels of stride
 * 1 the rows of the image are the windows already.
 *
 * Blocks are cut out of spans. In invariant runs a span is an image, so that a sample's bits do not
 * depend on its company; in training it is the whole batch, which keeps GEMMs tall where images are
 * small. Backward data cuts at images too: overlapping windows add into the same pixels, so one
 * task owns whole images. Backward weights cuts the blocks into parts; a part sums its blocks in
 * order, and the parts are added in order. Everything depends on shapes only: the same bits at any
 * number of threads. */
#include "blas.h"
#include "channels.h"
#include "conv_gather.h"

#include <string.h>

/* ---- blocks ---------------------------------------------------------------------------------- */

struct blocks {
    int64_t total, span; /* output pixels: of all images, of a span */
    int64_t rows;        /* pixels of a block */
    int64_t per_span, count;
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Blocks of about equal size, rounded up to whole tiles of BLAS, never larger than `rows` + 7. */
static struct blocks blocks_cut(int64_t total, int64_t span, int64_t rows)
{
    struct blocks b = {.total = total, .span = span};
    b.rows = (divide_up(span, divide_up(span, rows)) + 7) / 8 * 8;
    b.per_span = divide_up(span, b.rows);
    b.count = divide_up(total, span) * b.per_span;
    return b;
}

/* Pixels of block i; empty behind the end of a last span that is shorter. */
static struct range block_range(const struct blocks *b, int64_t i)
{
    int64_t span_begin = i / b->per_span * b->span, span_end = span_begin + b->span;
    struct range p = {span_begin + i % b->per_span * b->rows, 0};
    p.end = p.begin + b->rows;
    p.end = p.end < span_end ? p.end : span_end;
    p.end = p.end < b->total ? p.end : b->total;
    return p;
}

struct task {
    const struct conv_job *j;
    const struct conv *v;
    struct blocks blocks;
    const real *packed;    /* [o][taps][cg] */
    int64_t slices, width; /* of the output channels of a block */
    int64_t n_parts;       /* of the sums for the weight's gradient */
    real *weight_parts;    /* [n_parts][o][k] */
    double *bias_parts;    /* [n_parts][o] */
};

/* The matrix of windows of pixels p: gathered into col, or where they lie in x. */
struct matrix {
    const real *at;
    int64_t stride;
};
static struct matrix windows(const struct task *t, struct range p, int64_t group, real *col)
{
    const struct conv *v = t->v;
    if (v->pointwise)
        return (struct matrix){t->j->x + p.begin * v->c + group * v->cg, v->c};
    conv_gather(v, t->j->x, p, group, col);
    return (struct matrix){col, v->k};
}

/* ---- forward --------------------------------------------------------------------------------- */

static void bias_rows(const real *bias, real *y, int64_t rows, int64_t width, int64_t stride)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(y + i * stride, bias, (size_t)width * sizeof *y);
}

/* y = windows * weights^T + y for output channels [o, o + width) of a group. */
static void multiply(const struct task *t, struct matrix a, int64_t rows, int64_t o, int64_t width,
                     real *y)
{
    const struct conv *v = t->v;
    const real *weights = t->packed + o * v->k, keep = t->j->bias ? 1 : 0;
    if (rows == 1)
        blas_gemv(false, width, v->k, 1, weights, v->k, a.at, keep, y);
    else
        blas_gemm(false, true, rows, width, v->k, 1, a.at, a.stride, weights, v->k, keep, y, v->o);
}

/* Output channels [slice] of a block, which are all of them but where an image has few blocks. */
static void forward_block(const struct task *t, int64_t block, int64_t slice, real *col)
{
    const struct conv *v = t->v;
    struct range p = block_range(&t->blocks, block);
    int64_t rows = p.end - p.begin, first = slice * t->width, left = v->og - first;
    int64_t width = left < t->width ? left : t->width;
    if (rows <= 0 || width <= 0)
        return;
    for (int64_t g = 0; g < v->groups; g++) {
        int64_t o = g * v->og + first;
        real *y = t->j->y + p.begin * v->o + o;
        if (t->j->bias)
            bias_rows(t->j->bias + o, y, rows, width, v->o);
        multiply(t, windows(t, p, g, col), rows, o, width, y);
    }
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++)
        forward_block(t, i / t->slices, i % t->slices, run_scratch(t->j->r, worker));
}

/* One image alone should still be work for several threads: where it is few blocks, the output
 * channels are sliced. Each slice gathers the windows again, so slices are not narrow. */
enum { TASKS_ENOUGH = 4, SLICE_NARROWEST = 128 };

static void cut_slices(struct task *t)
{
    const struct conv *v = t->v;
    int64_t want = TASKS_ENOUGH / t->blocks.per_span, most = v->og / SLICE_NARROWEST;
    t->slices = want < most ? want : most;
    if (t->slices < 1 || v->groups > 1)
        t->slices = 1;
    t->width = (divide_up(v->og, t->slices) + 15) / 16 * 16;
}

static void gemm_forward(const struct conv_job *j)
{
    struct task t = {.j = j, .v = &j->v, .packed = conv_pack(j)};
    int64_t image = j->v.oh * j->v.ow, total = j->v.images * image;
    if (total == 0)
        return;
    t.blocks = blocks_cut(total, j->r->invariant ? image : total, j->v.rows);
    cut_slices(&t);
    run_for(j->r, t.blocks.count * t.slices, 1, forward_range, &t);
}

/* ---- backward: the images -------------------------------------------------------------------- */

static void data_block(const struct task *t, struct range p, real *col)
{
    const struct conv *v = t->v;
    for (int64_t g = 0; g < v->groups; g++) {
        const real *dy = t->j->dy + p.begin * v->o + g * v->og;
        const real *weights = t->packed + g * v->og * v->k;
        real *to = v->pointwise ? t->j->dx + p.begin * v->c + g * v->cg : col;
        blas_gemm(false, false, p.end - p.begin, v->k, v->og, 1, dy, v->o, weights, v->k, 0, to,
                  v->pointwise ? v->c : v->k);
        if (!v->pointwise)
            conv_scatter(v, t->j->dx, p, g, col);
    }
}

static void data_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    const struct conv *v = t->v;
    const int64_t images = t->blocks.span / (v->oh * v->ow), image = v->h * v->w * v->c;
    for (int64_t span = begin; span < end; span++) {
        int64_t first = span * images, left = v->images - first;
        if (!v->pointwise)
            memset(t->j->dx + first * image, 0,
                   (size_t)((left < images ? left : images) * image) * sizeof(real));
        for (int64_t i = 0; i < t->blocks.per_span; i++) {
            struct range p = block_range(&t->blocks, span * t->blocks.per_span + i);
            if (p.begin < p.end)
                data_block(t, p, run_scratch(t->j->r, worker));
        }
    }
}

static void backward_data(struct task *t)
{
    const struct conv *v = t->v;
    int64_t image = v->oh * v->ow, images = v->rows / image;
    images = images < 1 ? 1 : images;
    t->blocks = blocks_cut(v->images * image, images * image, v->rows);
    run_for(t->j->r, divide_up(v->images, images), 1, data_range, t);
}

/* ---- backward: weights and bias -------------------------------------------------------------- */

static void weight_block(const struct task *t, struct range p, bool first, real *part, real *col)
{
    const struct conv *v = t->v;
    for (int64_t g = 0; g < v->groups; g++) {
        const real *dy = t->j->dy + p.begin * v->o + g * v->og;
        struct matrix x = windows(t, p, g, col);
        blas_gemm(true, false, v->og, v->k, p.end - p.begin, 1, dy, v->o, x.at, x.stride,
                  first ? 0 : 1, part + g * v->og * v->k, v->k);
    }
}

static void part_sum(const struct task *t, int64_t part, real *col)
{
    const struct conv *v = t->v;
    int64_t begin = conv_part(part, t->n_parts, t->blocks.count);
    int64_t end = conv_part(part + 1, t->n_parts, t->blocks.count);
    double *bias = t->bias_parts + part * v->o;
    memset(bias, 0, (size_t)v->o * sizeof *bias);
    for (int64_t i = begin; i < end; i++) {
        struct range p = block_range(&t->blocks, i);
        struct channels rows = {p.end - p.begin, v->o, 1};
        if (t->j->dweight)
            weight_block(t, p, i == begin, t->weight_parts + part * v->o * v->k, col);
        if (t->j->dbias)
            channels_sum(&rows, t->j->dy + p.begin * v->o, bias);
    }
}

static void part_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++)
        part_sum(t, i, run_scratch(t->j->r, worker));
}

/* Adds the parts and unpacks: [o][taps][cg] to [o][cg][taps]. */
static void reduce_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    const struct conv *v = t->v;
    for (int64_t o = begin; o < end; o++)
        for (int64_t tap = 0; tap < v->taps; tap++)
            for (int64_t c = 0; c < v->cg; c++) {
                const real *from = t->weight_parts + o * v->k + tap * v->cg + c;
                double sum = 0;
                for (int64_t part = 0; part < t->n_parts; part++)
                    sum += (double)from[part * v->o * v->k];
                t->j->dweight[o * v->k + c * v->taps + tap] = (real)sum;
            }
}

/* Many parts are work for many threads, but each is as large as the weights. */
enum { PARTS_FEWEST = 2, PARTS_MOST = 16, PARTS_ELEMENTS = 1 << 22 };

static int64_t parts_most(const struct conv *v)
{
    int64_t parts = PARTS_ELEMENTS / (v->o * v->k);
    return parts < PARTS_FEWEST ? PARTS_FEWEST : parts > PARTS_MOST ? PARTS_MOST : parts;
}

static void backward_weights(struct task *t)
{
    const struct conv *v = t->v;
    int64_t total = v->images * v->oh * v->ow, most = parts_most(v);
    t->blocks = blocks_cut(total, total, v->rows);
    t->n_parts = t->blocks.count < most ? t->blocks.count : most;
    run_for(t->j->r, t->n_parts, 1, part_range, t);
    if (t->j->dweight)
        run_for(t->j->r, v->o, grain_rows(v->k * t->n_parts), reduce_range, t);
    if (t->j->dbias)
        conv_reduce_bias(t->bias_parts, t->n_parts, v->o, t->j->dbias);
}

static void zero_gradients(const struct conv_job *j)
{
    if (j->dweight)
        memset(j->dweight, 0, (size_t)(j->v.o * j->v.k) * sizeof *j->dweight);
    if (j->dbias)
        memset(j->dbias, 0, (size_t)j->v.o * sizeof *j->dbias);
}

static void gemm_backward(const struct conv_job *j)
{
    const struct conv *v = &j->v;
    struct task t = {.j = j, .v = v};
    real *behind = j->work + conv_packed_size(v);
    t.bias_parts = (double *)behind;
    t.weight_parts = behind + doubles_as_reals(parts_most(v) * v->o);
    if (v->images == 0) {
        zero_gradients(j);
        return;
    }
    if (j->dx) {
        t.packed = conv_pack(j);
        backward_data(&t);
    }
    if (j->dweight || j->dbias)
        backward_weights(&t);
}

static struct conv_memory gemm_memory(const struct conv *v)
{
    int64_t parts = parts_most(v);
    struct conv_memory m = {.forward = conv_packed_size(v)};
    m.backward = conv_packed_size(v) + doubles_as_reals(parts * v->o) + parts * v->o * v->k;
    m.scratch = v->pointwise ? 0 : (v->rows + 7) * v->k;
    return m;
}

const struct conv_method conv_gemm = {gemm_memory, gemm_forward, gemm_backward};
