/* linear_packed.c: products of rows with weights that were packed in panels (kernels.h), for
 * predictions: a panel's part that stays in the nearest cache is used for all rows of a tile, and
 * whole vectors of outputs are summed at a time.
 *
 * Each number is one sequential sum, whatever the rows of the call and however it is cut: a row's
 * bits are the same alone and in a batch. With one row the panels stream through, one after the
 * other, as in a product of a matrix and a vector. */
#include "ops_linear.h"

enum {
    TILE_ROWS = 48,          /* a multiple of the kernels' rows */
    SLICE_BYTES = 24 * 1024, /* of a panel, stays in the nearest cache */
    RANGE_WORK = 1 << 16,    /* multiplications that are worth a range of their own */
    PACK_ROWS = 16,          /* of k: a line of the cache, of each output */
};

static int64_t panels_of(int64_t outs)
{
    return (outs + kernels()->panel - 1) / kernels()->panel;
}

int64_t linear_packed_size(int64_t outs, int64_t k)
{
    return kernels_packed(kernels(), k, outs);
}

/* ---- packing --------------------------------------------------------------------------------- */

struct packing {
    int64_t outs, k;
    const real *weight;
    real *packed;
};

static void pack_panel(const struct packing *p, int64_t panel)
{
    const int64_t width = kernels_panel_width(kernels(), p->outs, panel);
    const int64_t first = panel * kernels()->panel, left = p->outs - first;
    const real *from = p->weight + first * p->k;
    real *to = p->packed + first * p->k;
    for (int64_t q = 0; q < p->k; q += PACK_ROWS) {
        const int64_t end = q + PACK_ROWS < p->k ? q + PACK_ROWS : p->k;
        for (int64_t j = 0; j < width; j++)
            for (int64_t i = q; i < end; i++)
                to[i * width + j] = j < left ? from[j * p->k + i] : 0;
    }
}

static void pack_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        pack_panel(arg, i);
}

void linear_pack(struct run *r, int64_t outs, int64_t k, const real *weight, real *packed)
{
    struct packing p = {outs, k, weight, packed};
    run_for(r, panels_of(outs), grain_rows(k * kernels()->panel), pack_range, &p);
}

/* ---- products -------------------------------------------------------------------------------- */

struct task {
    const struct gemm *g;
    const struct epilogue *e;
    int64_t panels;
};

/* Rows [i, i + rows) of one panel. */
static void multiply(const struct task *t, int64_t i, int64_t rows, int64_t panel)
{
    const struct gemm *g = t->g;
    const int64_t first = panel * kernels()->panel, left = g->n - first;
    const int64_t width = kernels_panel_width(kernels(), g->n, panel);
    const int64_t most = rows == 1 ? g->k : SLICE_BYTES / (width * (int64_t)sizeof(real));
    const real *row[TILE_ROWS];
    for (int64_t q = 0; q < rows; q++)
        row[q] = g->a + (i + q) * g->k;
    struct rows_product p = {.rows = rows,
                             .cols = left < width ? left : width,
                             .row = row,
                             .runs = 1,
                             .packed = g->b + first * g->k,
                             .k = g->k,
                             .bias = g->bias ? g->bias + first : NULL,
                             .y = g->c + i * g->n + first,
                             .ldy = g->n};
    for (int64_t from = 0; from < g->k; from += most) {
        p.offset = &from;
        p.length = g->k - from < most ? g->k - from : most;
        p.first = from;
        p.add = from > 0;
        kernels()->rows_product(&p);
    }
    epilogue_apply(t->e, g->c, i * g->n + first, rows, p.cols, g->n);
}

static void multiply_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    for (int64_t at = begin; at < end; at++) {
        const int64_t i = at / t->panels * TILE_ROWS, left = t->g->m - i;
        multiply(t, i, left < TILE_ROWS ? left : TILE_ROWS, at % t->panels);
    }
}

void linear_run_packed(struct run *r, const struct gemm *g, const struct epilogue *e)
{
    const struct task t = {g, e, panels_of(g->n)};
    const int64_t rows = g->m < TILE_ROWS ? g->m : TILE_ROWS;
    const int64_t cols = g->n < kernels()->panel ? g->n : kernels()->panel;
    const double work = (double)rows * (double)cols * (double)g->k;
    const int64_t grain = work < RANGE_WORK ? (int64_t)(RANGE_WORK / (work + 1)) + 1 : 1;
    run_for(r, (g->m + TILE_ROWS - 1) / TILE_ROWS * t.panels, grain, multiply_range, (void *)&t);
}
