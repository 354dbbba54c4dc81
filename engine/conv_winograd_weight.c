/* conv_winograd_weight.c: gradients of weights by the transposed algorithm: with the notation of
 * conv_winograd.c,
 *     dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G,
 * where the sums over tiles are 36 products [c][tiles] by [tiles][o], of outer_product.
 *
 * Blocks of tiles are shared out to parts, and input channels to slices, both by the shape only. A
 * task sums the points of its slice over the blocks of its part, each block's sum taken in
 * registers from zero; parts are then added in order: the same bits at any number of threads. Where
 * many channels make one part, a task goes on from its sums, in scratch, to its gradients: the sums
 * of all slices would be the most memory that a step needs. */
#include "conv_winograd.h"

#include <string.h>

enum { TILES_MOST = 96, PARTS_MOST = 8, PARTS_ELEMENTS = 1 << 22, SLICE = 64, ROWS = 16 };

struct task {
    const struct conv_job *j;
    const struct conv *v;
    int64_t tiles, blocks, n_parts; /* of a block; blocks; parts */
    int64_t plane; /* of sums of points: [c, or SLICE for one part][o rounded up] and a pad */
    real *parts;   /* [n_parts][36][plane]; one: NULL */
};

static int64_t sums_plane(const struct conv *v, int64_t channels)
{
    return channels * winograd_width(v->o) + WINOGRAD_PAD;
}

/* More tiles in a block are fewer passes over the sums of points, and more points to keep near. */
static int64_t block_tiles(const struct conv *v)
{
    return winograd_tiles_within(v, v->c <= 128 && v->o <= 128 ? 48 : 96);
}

static int64_t blocks(const struct conv *v)
{
    return (winograd_tiles(v).count + block_tiles(v) - 1) / block_tiles(v);
}

/* No more than blocks, where the number of images is known. */
static int64_t parts(const struct conv *v)
{
    int64_t most = PARTS_ELEMENTS / (WINOGRAD_POINTS * sums_plane(v, v->c));
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

/* Where a task's scratch has the sums of its slice: behind the points of a block and zeros, and
 * behind the taps that take their place. */
static int64_t own_sums(const struct task *t)
{
    const struct conv *v = t->v;
    const int64_t points = WINOGRAD_POINTS * (input_plane(t) + gradient_plane(t)) +
                           winograd_width(v->c > v->o ? v->c : v->o);
    const int64_t taps = ROWS * WINOGRAD_TAPS * winograd_width(v->o);
    return points > taps ? points : taps;
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

/* sums: those of the slice, of the first point. */
static void block_sum(const struct task *t, int64_t block, int64_t first, int64_t cols, bool add,
                      real *sums, real *scratch)
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
        kernels()->outer_product(&(struct outer_product){.pixels = n,
                                                         .rows = cols,
                                                         .cols = width,
                                                         .row = row,
                                                         .offset = point * input_plane(t),
                                                         .b = dy + point * gradient_plane(t),
                                                         .step = width,
                                                         .add = add,
                                                         .c = sums + point * t->plane,
                                                         .ldc = width});
}

/* ---- the gradients of weights ---------------------------------------------------------------- */

/* Of `rows` input channels from `first`, whose sums of the first part's first point are `sums`.
 * taps: [rows][9][o rounded up]. */
static void weights_rows(const struct task *t, const real *sums, int64_t first, int64_t rows,
                         real *taps)
{
    const struct conv *v = t->v;
    const int64_t width = winograd_width(v->o);
    for (int64_t c = 0; c < rows; c++)
        kernels()->winograd_weights_gradient(sums + c * width, t->plane, t->n_parts,
                                             WINOGRAD_POINTS * t->plane, width,
                                             taps + c * WINOGRAD_TAPS * width, width);
    for (int64_t o = 0; o < v->o; o++) {
        real *to = t->j->dweight + (o * v->c + first) * WINOGRAD_TAPS;
        for (int64_t i = 0; i < rows * WINOGRAD_TAPS; i++)
            to[i] = taps[i * width + o];
    }
}

/* Input channels [ROWS * begin, ROWS * end). */
static void weights_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    const int64_t c = t->v->c;
    for (int64_t first = begin * ROWS; first < c && first < end * ROWS; first += ROWS)
        weights_rows(t, t->parts + first * winograd_width(t->v->o), first,
                     c - first < ROWS ? c - first : ROWS, run_scratch(t->j->r, worker));
}

static void slice_weights(const struct task *t, const real *sums, int64_t first, int64_t cols,
                          real *taps)
{
    for (int64_t c = 0; c < cols; c += ROWS)
        weights_rows(t, sums + c * winograd_width(t->v->o), first + c,
                     cols - c < ROWS ? cols - c : ROWS, taps);
}

static void parts_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    real *scratch = run_scratch(t->j->r, worker), *own = scratch + own_sums(t);
    for (int64_t i = begin; i < end; i++) {
        const int64_t part = i / slices(t->v), first = i % slices(t->v) * SLICE;
        const int64_t left = t->v->c - first, cols = left < SLICE ? left : SLICE;
        const int64_t from = conv_part(part, t->n_parts, t->blocks);
        const int64_t to = conv_part(part + 1, t->n_parts, t->blocks);
        real *sums = !t->parts ? own
                               : t->parts + part * WINOGRAD_POINTS * t->plane +
                                     first * winograd_width(t->v->o);
        for (int64_t block = from; block < to; block++)
            block_sum(t, block, first, cols, block > from, sums, scratch);
        if (!t->parts)
            slice_weights(t, sums, first, cols, scratch);
    }
}

static struct task task_of(const struct conv *v)
{
    struct task t = {.v = v, .tiles = block_tiles(v), .blocks = blocks(v), .n_parts = parts(v)};
    t.plane = sums_plane(v, t.n_parts > 1 ? v->c : SLICE);
    return t;
}

void winograd_weight_backward(const struct conv_job *j, real *work)
{
    const struct conv *v = &j->v;
    struct task t = task_of(v);
    t.j = j;
    t.parts = t.n_parts > 1 ? work : NULL;
    if (t.blocks == 0) {
        memset(j->dweight, 0, (size_t)(v->o * v->k) * sizeof *j->dweight);
        return;
    }
    run_for(j->r, t.n_parts * slices(v), 1, parts_range, &t);
    if (t.parts)
        run_for(j->r, (v->c + ROWS - 1) / ROWS, 1, weights_range, &t);
}

struct conv_memory winograd_weight_memory(const struct conv *v)
{
    const struct task t = task_of(v);
    struct conv_memory m = {0};
    if (t.n_parts > 1)
        m.backward = t.n_parts * WINOGRAD_POINTS * t.plane;
    /* Of fewer images there may be one part. */
    m.scratch = own_sums(&t) + WINOGRAD_POINTS * sums_plane(v, SLICE);
    return m;
}
