/* conv_winograd_weight.c: gradients of weights by the transposed algorithm: with the notation of
 * conv_winograd.c,
 *     dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G,
 * where the sums over tiles are 36 products [c][tiles] by [tiles][o], of outer_product.
 *
 * Blocks of tiles are shared out to parts, and input channels to slices, both by the shape only. A
 * task sums the points of its slice over the blocks of its part, each block's sum taken in
 * registers from zero; parts are then added in order: the same bits at any number of threads. */
#include "conv_winograd.h"

#include <string.h>

enum { TILES_MOST = 96, PARTS_MOST = 8, PARTS_ELEMENTS = 1 << 22, SLICE = 64, ROWS = 16 };

struct task {
    const struct conv_job *j;
    const struct conv *v;
    int64_t tiles, blocks, n_parts; /* of a block; blocks; parts */
    int64_t plane;                  /* of a part's points: [c][o rounded up] and a pad */
    real *parts;                    /* [n_parts][36][plane] */
};

static int64_t part_plane(const struct conv *v)
{
    return v->c * winograd_width(v->o) + WINOGRAD_PAD;
}

/* More tiles in a block are fewer passes over the sums of points, and more points to keep near. */
static int64_t block_tiles(const struct conv *v)
{
    return v->c <= 128 && v->o <= 128 ? 48 : 96;
}

static int64_t blocks(const struct conv *v)
{
    return (winograd_tiles(v).count + block_tiles(v) - 1) / block_tiles(v);
}

/* No more than blocks, where the number of images is known. */
static int64_t parts(const struct conv *v)
{
    int64_t most = PARTS_ELEMENTS / (WINOGRAD_POINTS * part_plane(v));
    most = most < 1 ? 1 : most > PARTS_MOST ? PARTS_MOST : most;
    return v->images > 0 && blocks(v) < most ? blocks(v) : most;
}

static int64_t slices(const struct conv *v)
{
    return (v->c + SLICE - 1) / SLICE;
}

static int64_t input_plane(const struct task *t)
{
    return t->tiles * SLICE + WINOGRAD_PAD;
}

static int64_t gradient_plane(const struct task *t)
{
    return t->tiles * winograd_width(t->v->o) + WINOGRAD_PAD;
}

/* ---- sums of points -------------------------------------------------------------------------- */

/* Transforms tiles [begin, begin + n): channels from `first` of the input, and all of dy. */
static void block_transform(const struct task *t, int64_t begin, int64_t n, int64_t first,
                            int64_t cols, real *scratch, const real *zeros)
{
    const struct conv *v = t->v;
    real *dy = scratch + WINOGRAD_POINTS * input_plane(t);
    for (int64_t q = 0; q < n; q++) {
        const real *at[WINOGRAD_POINTS];
        winograd_input_pixels(v, t->j->x + first, begin + q, zeros, at);
        kernels()->winograd_input(at, cols, scratch + q * SLICE, input_plane(t));
        winograd_output_pixels(v, t->j->dy, begin + q, zeros, at);
        kernels()->winograd_gradient(at, v->o, dy + q * winograd_width(v->o), gradient_plane(t));
    }
}

static void block_sum(const struct task *t, int64_t block, int64_t first, int64_t cols, bool add,
                      real *part, real *scratch)
{
    const struct conv *v = t->v;
    const int64_t begin = block * t->tiles, left = winograd_tiles(v).count - begin;
    const int64_t n = left < t->tiles ? left : t->tiles, width = winograd_width(v->o);
    const real *dy = scratch + WINOGRAD_POINTS * input_plane(t);
    real *zeros = scratch + WINOGRAD_POINTS * (input_plane(t) + gradient_plane(t));
    const real *row[TILES_MOST];
    memset(zeros, 0, (size_t)(v->c > v->o ? v->c : v->o) * sizeof *zeros);
    block_transform(t, begin, n, first, cols, scratch, zeros);
    for (int64_t q = 0; q < n; q++)
        row[q] = scratch + q * SLICE;
    for (int64_t point = 0; point < WINOGRAD_POINTS; point++)
        kernels()->outer_product(
            &(struct outer_product){.pixels = n,
                                    .rows = cols,
                                    .cols = width,
                                    .row = row,
                                    .offset = point * input_plane(t),
                                    .b = dy + point * gradient_plane(t),
                                    .step = width,
                                    .add = add,
                                    .c = part + point * t->plane + first * width,
                                    .ldc = width});
}

static void parts_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t part = i / slices(t->v), first = i % slices(t->v) * SLICE;
        const int64_t left = t->v->c - first, cols = left < SLICE ? left : SLICE;
        const int64_t from = conv_part(part, t->n_parts, t->blocks);
        const int64_t to = conv_part(part + 1, t->n_parts, t->blocks);
        for (int64_t block = from; block < to; block++)
            block_sum(t, block, first, cols, block > from,
                      t->parts + part * WINOGRAD_POINTS * t->plane, run_scratch(t->j->r, worker));
    }
}

/* ---- the gradients of weights ---------------------------------------------------------------- */

/* Input channels [ROWS * begin, ROWS * end): scratch is [rows][9][o rounded up]. */
static void weights_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    const struct conv *v = t->v;
    const int64_t width = winograd_width(v->o);
    real *taps = run_scratch(t->j->r, worker);
    for (int64_t first = begin * ROWS; first < v->c && first < end * ROWS; first += ROWS) {
        const int64_t rows = v->c - first < ROWS ? v->c - first : ROWS;
        for (int64_t c = 0; c < rows; c++)
            kernels()->winograd_weights_gradient(t->parts + (first + c) * width, t->plane,
                                                 t->n_parts, WINOGRAD_POINTS * t->plane, width,
                                                 taps + c * WINOGRAD_TAPS * width, width);
        for (int64_t o = 0; o < v->o; o++) {
            real *to = t->j->dweight + (o * v->c + first) * WINOGRAD_TAPS;
            for (int64_t i = 0; i < rows * WINOGRAD_TAPS; i++)
                to[i] = taps[i * width + o];
        }
    }
}

void winograd_weight_backward(const struct conv_job *j, real *work)
{
    const struct conv *v = &j->v;
    struct task t = {.j = j,
                     .v = v,
                     .tiles = block_tiles(v),
                     .blocks = blocks(v),
                     .n_parts = parts(v),
                     .plane = part_plane(v),
                     .parts = work};
    if (t.blocks == 0) {
        memset(j->dweight, 0, (size_t)(v->o * v->k) * sizeof *j->dweight);
        return;
    }
    run_for(j->r, t.n_parts * slices(v), 1, parts_range, &t);
    run_for(j->r, (v->c + ROWS - 1) / ROWS, 1, weights_range, &t);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct conv_memory winograd_weight_memory(const struct conv *v)
{
    const struct task t = {.v = v, .tiles = block_tiles(v)};
    struct conv_memory m = {.backward = parts(v) * WINOGRAD_POINTS * part_plane(v)};
    m.scratch = larger(WINOGRAD_POINTS * (input_plane(&t) + gradient_plane(&t)) +
                           larger(winograd_width(v->c), winograd_width(v->o)),
                       ROWS * WINOGRAD_TAPS * winograd_width(v->o));
    return m;
}
