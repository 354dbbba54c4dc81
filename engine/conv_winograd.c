/* conv_winograd.c: convolution with kernels of 3 x 3 and stride 1 by Winograd's algorithm
 * F(4x4, 3x3) (Lavin and Gray 2016), and the gradient of the image, which is the same convolution
 * of dy with the kernel flipped.
 *
 * A tile of 4 x 4 outputs sees a square d of 6 x 6 pixels. With g the kernel,
 *     y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,
 * where * is number by number: 36 multiplications for each pair of channels instead of 144. The
 * sums over channels are 36 products of matrices, one for each point: [tiles][c] by [c][o].
 *
 * The points are 0, +-sqrt(1/2), +-sqrt(2) and infinity: with them the rounding error is half of
 * that with the usual 0, +-1, +-2 (about 1e-6 relative to the result instead of 3e-7 of a direct
 * sum). The matrices are in kernels_winograd.h.
 *
 * Weights are packed as for the direct convolution, a panel after the other, and transformed, once
 * a call. Predictions of few tiles would do little but read them, and 36 numbers for each 9 take
 * longer to read than to make: there a block makes those that it needs, some rows at a time
 * (`fresh`); more images that are predicted together use those that are kept, with the same bits.
 * In training they are fresh where there is but one block, which saves memory.
 *
 * Tiles of all images are cut into blocks; a block's squares are transformed to V [36][tiles][c],
 * the products M [36][tiles][o] are taken by rows_product, and M is transformed into y. V and M are
 * a worker's scratch, of a size that stays in its cache. A number of y is a fixed sequence of
 * operations whatever block its tile is in: the same bits at any number of threads and in any
 * company. */
#include "conv_winograd.h"

#include <string.h>

enum { TILES_MOST = 96, TILES_FEW = 12, TASKS_ENOUGH = 4, SLICE_BYTES = 32 * 1024 };
/* Rows of fresh weights, whose points stay in the second cache. */
enum { FRESH_ROWS = 64 };

/* ---- weights --------------------------------------------------------------------------------- */

/* Elements of a point's plane of the packed weights. */
static int64_t weights_plane(const struct conv *v)
{
    return kernels_packed(kernels(), v->c, v->o) + WINOGRAD_PAD;
}

static int64_t fresh_plane(void)
{
    return FRESH_ROWS * kernels()->panel + WINOGRAD_PAD;
}

struct transform {
    const struct conv *v;
    const struct conv_job *j;
    enum conv_packing packing;
    const real *packed; /* NULL: panels are packed in a worker's scratch */
    real *points;
};

/* A panel is [9][c][width] as it is packed, and [c][width] of each point's plane. */
static void transform_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct transform *t = arg;
    const struct conv *v = t->v;
    const struct kernels *f = kernels();
    for (int64_t i = begin; i < end; i++) {
        const int64_t count = kernels_panel_width(f, v->o, i) * v->c, at = i * f->panel * v->c;
        real *scratch = run_scratch(t->j->r, worker);
        if (!t->packed)
            conv_pack_panel(t->j, t->packing, i, scratch);
        f->winograd_weights(t->packed ? t->packed + WINOGRAD_TAPS * at : scratch, count, count,
                            t->points + at, weights_plane(v));
    }
}

/* ---- the products of a block ----------------------------------------------------------------- */

struct task {
    const struct conv *v;
    struct run *r;
    const real *x, *points, *bias;
    const real *packed; /* in place of points: fresh */
    real *y;
    const struct epilogue *epilogue; /* NULL: none */
    int64_t tiles, blocks;           /* of a block; blocks */
    int64_t slices, width;           /* of the output channels, for several threads on one block */
};

/* Smaller ones where there would be too few for several threads, and few weights to read for each.
 */
static int64_t enough_blocks(const struct conv *v, int64_t tiles)
{
    enum { CHANNELS_FEW = 64 };
    const int64_t each = (winograd_tiles(v).count + TASKS_ENOUGH - 1) / TASKS_ENOUGH;
    const int64_t enough = each < TILES_FEW ? TILES_FEW : each;
    return enough < tiles && v->c <= CHANNELS_FEW ? enough : tiles;
}

static int64_t input_plane(const struct task *t)
{
    return t->tiles * winograd_width(t->v->c) + WINOGRAD_PAD;
}

static int64_t product_plane(const struct task *t)
{
    return t->tiles * t->width + WINOGRAD_PAD;
}

/* Rows of weights that stay in the nearest cache. */
static int64_t slice_rows(void)
{
    return SLICE_BYTES / (kernels()->panel * (int64_t)sizeof(real));
}

/* Output channels [first, first + cols) of one point. */
static void multiply_point(const struct task *t, int64_t point, int64_t rows,
                           const real *const *row, int64_t first, int64_t cols, real *m)
{
    const int64_t most = slice_rows(), plane = input_plane(t);
    struct rows_product p = {.rows = rows,
                             .cols = cols,
                             .row = row,
                             .runs = 1,
                             .packed = t->points + point * weights_plane(t->v) + first * t->v->c,
                             .k = t->v->c,
                             .y = m + point * product_plane(t),
                             .ldy = t->width};
    for (int64_t from = 0; from < t->v->c; from += most) {
        const int64_t offset = point * plane + from, left = t->v->c - from;
        p.offset = &offset;
        p.length = left < most ? left : most;
        p.first = from;
        p.add = from > 0;
        kernels()->rows_product(&p);
    }
}

/* One panel of output channels, of all points. */
static void multiply_fresh(const struct task *t, int64_t panel, int64_t rows,
                           const real *const *row, int64_t first, real *m, real *points)
{
    const struct kernels *f = kernels();
    const int64_t k = t->v->c, width = kernels_panel_width(f, t->v->o, panel);
    const int64_t begin = panel * f->panel, left = t->v->o - begin;
    struct rows_product p = {.rows = rows,
                             .cols = left < f->panel ? left : f->panel,
                             .row = row,
                             .runs = 1,
                             .ldy = t->width};
    for (int64_t from = 0; from < k; from += FRESH_ROWS) {
        p.k = p.length = k - from < FRESH_ROWS ? k - from : FRESH_ROWS;
        p.add = from > 0;
        f->winograd_weights(t->packed + WINOGRAD_TAPS * begin * k + from * width, k * width,
                            p.length * width, points, fresh_plane());
        for (int64_t point = 0; point < WINOGRAD_POINTS; point++) {
            const int64_t offset = point * input_plane(t) + from;
            p.offset = &offset;
            p.packed = points + point * fresh_plane();
            p.y = m + point * product_plane(t) + (begin - first);
            f->rows_product(&p);
        }
    }
}

/* Of each line of a tile those pixels that the image has. */
static void tile_epilogue(const struct task *t, real *const *to, int64_t cols)
{
    for (int line = 0; line < WINOGRAD_TILE; line++, to += WINOGRAD_TILE) {
        int n = 0;
        while (n < WINOGRAD_TILE && to[n])
            n++;
        if (n)
            epilogue_apply(t->epilogue, t->y, to[0] - t->y, n, cols, t->v->o);
    }
}

static void block_outputs(const struct task *t, int64_t first_tile, int64_t n, int64_t first,
                          int64_t cols, const real *m)
{
    for (int64_t q = 0; q < n; q++) {
        const real *at[WINOGRAD_TILE * WINOGRAD_TILE];
        real *to[WINOGRAD_TILE * WINOGRAD_TILE];
        winograd_output_pixels(t->v, t->y, first_tile + q, NULL, at);
        for (int i = 0; i < WINOGRAD_TILE * WINOGRAD_TILE; i++)
            to[i] = at[i] ? t->y + (at[i] - t->y) + first : NULL;
        kernels()->winograd_output(m + q * t->width, product_plane(t), cols,
                                   t->bias ? t->bias + first : NULL, to);
        if (t->epilogue)
            tile_epilogue(t, to, cols);
    }
}

static void block_product(const struct task *t, int64_t block, int64_t slice, real *scratch)
{
    const struct conv *v = t->v;
    const int64_t first = slice * t->width, left = v->o - first, width = winograd_width(v->c);
    const int64_t begin = block * t->tiles, rest = winograd_tiles(v).count - begin;
    const int64_t n = rest < t->tiles ? rest : t->tiles, cols = left < t->width ? left : t->width;
    real *m = scratch + WINOGRAD_POINTS * input_plane(t);
    real *zeros = m + WINOGRAD_POINTS * product_plane(t);
    const real *row[TILES_MOST];
    if (left <= 0)
        return;
    memset(zeros, 0, (size_t)v->c * sizeof *zeros);
    for (int64_t q = 0; q < n; q++) {
        const real *at[WINOGRAD_POINTS];
        row[q] = scratch + q * width;
        winograd_input_pixels(v, t->x, begin + q, zeros, at);
        kernels()->winograd_input(at, v->c, scratch + q * width, input_plane(t));
    }
    for (int64_t point = 0; t->points && point < WINOGRAD_POINTS; point++)
        multiply_point(t, point, n, row, first, cols, m);
    for (int64_t at = first; t->packed && at < first + cols; at += kernels()->panel)
        multiply_fresh(t, at / kernels()->panel, n, row, first, m, zeros + winograd_width(v->c));
    block_outputs(t, begin, n, first, cols, m);
}

static void blocks_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++)
        block_product(t, i / t->slices, i % t->slices, run_scratch(t->r, worker));
}

static void transform(struct transform *t)
{
    const struct kernels *f = kernels();
    const int64_t panels = (t->v->o + f->panel - 1) / f->panel;
    run_for(t->j->r, panels, grain_rows(t->v->c * f->panel * WINOGRAD_POINTS), transform_range, t);
}

/* Weights of points, or those that are packed where points are fresh. Of predictions that may be
 * fresh both are kept, the points behind. */
static void weights_ready(struct task *t, const struct conv_job *j, enum conv_packing packing)
{
    const struct conv *v = t->v;
    const bool fresh = winograd_is_fresh(v), both = j->prepared && winograd_may_be_fresh(v);
    real *memory = j->prepared ? j->prepared : j->work;
    struct transform made = {v, j, packing, NULL, memory};
    if (both || fresh) {
        made.packed = memory;
        made.points = memory + conv_packed_size(&j->v, packing);
        if (!j->ready)
            conv_pack(j, packing, memory);
    }
    if (!j->ready && (both || !fresh))
        transform(&made);
    t->packed = fresh ? made.packed : NULL;
    t->points = fresh ? NULL : made.points;
}

static void convolve(const struct conv *v, const struct conv_job *j, enum conv_packing packing,
                     const real *x, const real *bias, const struct epilogue *epilogue, real *y)
{
    const struct kernels *f = kernels();
    const int64_t panels = (v->o + f->panel - 1) / f->panel;
    struct task t = {.v = v, .r = j->r, .x = x, .bias = bias, .y = y, .epilogue = epilogue};
    weights_ready(&t, j, packing);
    t.tiles = enough_blocks(v, winograd_block_tiles(v));
    t.blocks = (winograd_tiles(v).count + t.tiles - 1) / t.tiles;
    t.slices = t.blocks > 0 ? (TASKS_ENOUGH + t.blocks - 1) / t.blocks : 1;
    t.slices = t.slices < panels ? t.slices : panels;
    t.width = (panels + t.slices - 1) / t.slices * f->panel;
    t.width = t.width < winograd_width(v->o) ? t.width : winograd_width(v->o);
    run_for(j->r, t.blocks * t.slices, 1, blocks_range, &t);
}

/* ---- the method ------------------------------------------------------------------------------ */

static void winograd_forward(const struct conv_job *j)
{
    convolve(&j->v, j, PACK_FORWARD, j->x, j->bias, j->epilogue, j->y);
}

static void winograd_backward(const struct conv_job *j)
{
    struct conv u;
    if (j->dx && conv_transposed(&j->v, &u))
        convolve(&u, j, PACK_FLIPPED, j->dy, NULL, NULL, j->dx);
    if (j->dweight)
        winograd_weight_backward(j, j->work);
    if (j->dbias)
        conv_bias_backward(j, j->work);
}

static int64_t convolve_scratch(const struct conv *v)
{
    const struct task t = {.v = v, .tiles = winograd_block_tiles(v), .width = winograd_width(v->o)};
    const bool may_be_fresh = winograd_may_be_fresh(v) || !v->predicts;
    const int64_t fresh = may_be_fresh ? WINOGRAD_POINTS * fresh_plane() : 0;
    return larger(WINOGRAD_POINTS * (input_plane(&t) + product_plane(&t)) + winograd_width(v->c) +
                      fresh,
                  WINOGRAD_TAPS * v->c * kernels()->panel);
}

/* Weights of points, or only those that they are made of where no batch of the plan's needs more.
 */
static int64_t weights_memory(const struct conv *v, const struct conv *as,
                              enum conv_packing packing)
{
    if (!v->predicts && v->images > 0 && winograd_is_fresh(as))
        return conv_packed_size(v, packing);
    return WINOGRAD_POINTS * weights_plane(as);
}

static struct conv_memory winograd_memory(const struct conv *v)
{
    struct conv u;
    struct conv_memory m = winograd_weight_memory(v);
    m.prepared = WINOGRAD_POINTS * weights_plane(v);
    m.prepared += winograd_may_be_fresh(v) ? conv_packed_size(v, PACK_FORWARD) : 0;
    m.forward = v->predicts ? m.prepared : weights_memory(v, v, PACK_FORWARD);
    m.scratch = larger(m.scratch, convolve_scratch(v));
    m.backward = larger(m.backward, conv_bias_memory(v));
    if (conv_transposed(v, &u)) {
        m.backward = larger(m.backward, weights_memory(v, &u, PACK_FLIPPED));
        m.scratch = larger(m.scratch, convolve_scratch(&u));
    }
    return m;
}

const struct conv_method conv_winograd = {"winograd", winograd_memory, winograd_forward,
                                          winograd_backward};
