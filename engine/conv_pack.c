/* conv_pack.c: weights [o][cg][kh*kw] as packed matrices of kernels.h, in the orders that forward
 * and the gradients of images want. */
#include "conv_direct.h"

enum { PANEL_MOST = 64 };

/* Element (row, col) of a group's matrix: a row is (outer, inner) and a column too, and each of the
 * four has a step in the weights. */
struct packing {
    int64_t row_inner, rows, cols_inner, cols; /* sizes; the outer ones follow */
    int64_t row_outer_step, row_inner_step, col_outer_step, col_inner_step;
    int64_t group_step, begin;
};

static struct packing packing_of(const struct conv *v, enum conv_packing packing)
{
    const int64_t of_o = v->k, of_c = v->taps;
    const struct packing all[] = {
        [PACK_FORWARD] = {v->cg, v->k, v->og, v->og, 1, of_c, 0, of_o, v->og * of_o, 0},
        [PACK_FLIPPED] = {v->og, v->taps * v->og, v->cg, v->cg, -1, of_o, 0, of_c, v->og * of_o,
                          v->taps - 1},
        [PACK_SCATTER] = {v->og, v->og, v->cg, v->k, 0, of_o, 1, of_c, v->og * of_o, 0},
    };
    return all[packing];
}

static int64_t matrix_size(const struct packing *p)
{
    return kernels_packed(kernels(), p->rows, p->cols);
}

int64_t conv_packed_size(const struct conv *v, enum conv_packing packing)
{
    const struct packing p = packing_of(v, packing);
    return v->groups * matrix_size(&p);
}

/* Rows of one panel of one group. */
static void pack_panel(const struct packing *p, const real *weight, int64_t group, int64_t panel,
                       real *to)
{
    const struct kernels *f = kernels();
    const int64_t width = kernels_panel_width(f, p->cols, panel), first = panel * f->panel;
    const real *from = weight + group * p->group_step + p->begin;
    int64_t step[PANEL_MOST], n = p->cols - first < width ? p->cols - first : width;
    for (int64_t j = 0; j < n; j++)
        step[j] = (first + j) / p->cols_inner * p->col_outer_step +
                  (first + j) % p->cols_inner * p->col_inner_step;
    for (int64_t outer = 0; outer < p->rows / p->row_inner; outer++)
        for (int64_t inner = 0; inner < p->row_inner; inner++, to += width) {
            const real *at = from + outer * p->row_outer_step + inner * p->row_inner_step;
            for (int64_t j = 0; j < n; j++)
                to[j] = at[step[j]];
            for (int64_t j = n; j < width; j++)
                to[j] = 0;
        }
}

void conv_pack_panel(const struct conv_job *j, enum conv_packing packing, int64_t panel, real *to)
{
    const struct packing p = packing_of(&j->v, packing);
    pack_panel(&p, j->weight, 0, panel, to);
}

struct task {
    struct packing p;
    const real *weight;
    real *packed;
    int64_t panels;
};

static void pack_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t group = i / t->panels, panel = i % t->panels;
        pack_panel(&t->p, t->weight, group, panel,
                   t->packed + group * matrix_size(&t->p) + panel * kernels()->panel * t->p.rows);
    }
}

void conv_pack(const struct conv_job *j, enum conv_packing packing, real *packed)
{
    struct task t = {packing_of(&j->v, packing), j->weight, packed, 0};
    t.panels = (t.p.cols + kernels()->panel - 1) / kernels()->panel;
    run_for(j->r, j->v.groups * t.panels, grain_rows(t.p.rows * kernels()->panel), pack_range, &t);
}
