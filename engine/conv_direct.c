/* conv_direct.c: convolution as products of windows with packed weights, without gathering windows.
 *
 * Channels lie last, so a window is a few runs of memory: one for each line of taps. A product of
 * kernels.h reads them where they are; only lines with padding are copied first, zeros around
 * them, which is far less than the windows would be. The weights are packed once a call. Of small
 * images much of the windows is such zeros: there a product is one of a tap, with those pixels that
 * see it (band_seen).
 *
 * Output lines are cut into bands. A band's product goes run by run: a slice of the packed weights
 * that stays in the nearest cache is used for all pixels of the band, and the sums wait in y. Each
 * output number is a sequential sum in one order, however bands are cut: the same bits at any
 * number of threads, and for a sample in any company.
 *
 * The gradient of the image, where the stride is 1, is the same convolution of dy with the kernel
 * flipped and inputs and outputs exchanged; else, and for images of few channels, conv_scatter.c.
 */
#include "conv_direct.h"

#include <string.h>

enum { BAND_PIXELS = 256, SLICE_BYTES = 24 * 1024, RUNS_MOST = 64, TASKS_ENOUGH = 8 };
enum { FAR_BYTES = 4 << 20 }; /* a core's part of the last cache */

struct task {
    const struct conv *v;
    struct run *r;
    const real *x, *packed, *bias;
    real *y;
    const struct epilogue *epilogue; /* NULL: none */
    struct bands bands;
    bool trims;
    int64_t slices, width; /* of a group's output channels, for several threads on one band */
};

/* ---- the products of a band ------------------------------------------------------------------ */

static int64_t slice_rows(void)
{
    int64_t rows = SLICE_BYTES / (kernels()->panel * (int64_t)sizeof(real));
    return rows < 1 ? 1 : rows;
}

/* Runs [run, run + n) of all windows, numbers [from, from + length) of each. */
static void multiply_runs(const struct task *t, struct rows_product *p, const struct windows *s,
                          int64_t group, int64_t run, int64_t n, int64_t from, int64_t length)
{
    int64_t offset[RUNS_MOST];
    for (int64_t i = 0; i < n; i++)
        offset[i] = conv_run_offset(t->v, s->line, group, run + i) + from;
    p->offset = offset;
    p->runs = n;
    p->length = length;
    kernels()->rows_product(p);
    p->first += n * length;
    p->add = true;
}

/* Long runs are cut into pieces, short ones taken several at a time. */
static void multiply_band(const struct task *t, struct rows_product *p, const struct windows *s,
                          int64_t group)
{
    const struct runs runs = conv_runs(t->v);
    const int64_t most = slice_rows();
    if (runs.length > most) {
        const int64_t pieces = (runs.length + most - 1) / most;
        const int64_t piece = (runs.length + pieces - 1) / pieces;
        for (int64_t run = 0; run < runs.count; run++)
            for (int64_t from = 0; from < runs.length; from += piece) {
                int64_t left = runs.length - from;
                multiply_runs(t, p, s, group, run, 1, from, left < piece ? left : piece);
            }
        return;
    }
    int64_t together = most / runs.length < RUNS_MOST ? most / runs.length : RUNS_MOST;
    for (int64_t run = 0; run < runs.count; run += together) {
        int64_t left = runs.count - run;
        multiply_runs(t, p, s, group, run, left < together ? left : together, 0, runs.length);
    }
}

/* What the sums begin with, where not every pixel sees the first tap. */
static void band_begin(const struct rows_product *p)
{
    for (int64_t i = 0; i < p->rows; i++)
        if (p->bias)
            memcpy(p->y + i * p->ldy, p->bias, (size_t)p->cols * sizeof *p->y);
        else
            memset(p->y + i * p->ldy, 0, (size_t)p->cols * sizeof *p->y);
}

/* Tap by tap; the sums are those of multiply_band without their zeros. */
static void multiply_seen(const struct task *t, const struct rows_product *whole, struct band b,
                          int64_t group, real *scratch)
{
    const int64_t c = t->v->cg, pieces = (c + slice_rows() - 1) / slice_rows();
    const int64_t piece = (c + pieces - 1) / pieces;
    band_begin(whole);
    for (int64_t tap = 0; tap < t->v->taps; tap++) {
        const struct seen s = band_seen(t->v, t->x, b, tap, scratch);
        struct rows_product p = *whole;
        p.add = true, p.runs = 1;
        p.rows = s.n, p.row = s.row, p.to = s.to;
        for (int64_t from = 0; from < c && s.n > 0; from += piece) {
            const int64_t offset = group * c + from;
            p.offset = &offset;
            p.first = tap * c + from;
            p.length = c - from < piece ? c - from : piece;
            kernels()->rows_product(&p);
        }
    }
}

/* Output channels [slice] of each group, which are all of them but where there are few bands. */
static void band_product(const struct task *t, struct band b, int64_t slice, real *scratch)
{
    const struct conv *v = t->v;
    const int64_t first = slice * t->width, left = v->og - first;
    struct windows s = {0};
    if (!t->trims)
        s = band_windows(v, t->x, b, scratch);
    for (int64_t g = 0; g < v->groups && left > 0; g++) {
        struct rows_product p = {.rows = band_pixels(v, b),
                                 .cols = left < t->width ? left : t->width,
                                 .row = s.row,
                                 .k = v->k,
                                 .far = v->k * v->o * (int64_t)sizeof(real) > FAR_BYTES,
                                 .bias = t->bias ? t->bias + g * v->og + first : NULL,
                                 .ldy = v->o};
        p.packed = t->packed + g * kernels_packed(kernels(), v->k, v->og) + first * v->k;
        p.y = t->y + band_first(v, b) * v->o + g * v->og + first;
        if (t->trims)
            multiply_seen(t, &p, b, g, scratch);
        else
            multiply_band(t, &p, &s, g);
        epilogue_apply(t->epilogue, t->y, p.y - t->y, p.rows, p.cols, p.ldy);
    }
}

static void bands_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++)
        band_product(t, band_at(t->v, &t->bands, i / t->slices), i % t->slices,
                     run_scratch(t->r, worker));
}

static void convolve(struct task *t)
{
    const int64_t panel = kernels()->panel, panels = (t->v->og + panel - 1) / panel;
    t->bands = bands_cut(t->v, BAND_PIXELS);
    t->trims = band_trims(t->v);
    t->slices = t->bands.count > 0 ? (TASKS_ENOUGH + t->bands.count - 1) / t->bands.count : 1;
    t->slices = t->slices < panels ? t->slices : panels;
    t->width = (panels + t->slices - 1) / t->slices * panel;
    run_for(t->r, t->bands.count * t->slices, 1, bands_range, t);
}

/* ---- forward and backward -------------------------------------------------------------------- */

static void direct_forward(const struct conv_job *j)
{
    real *packed = j->prepared ? j->prepared : j->work;
    struct task t = {.v = &j->v,
                     .r = j->r,
                     .x = j->x,
                     .packed = packed,
                     .bias = j->bias,
                     .y = j->y,
                     .epilogue = j->epilogue};
    if (!j->ready)
        conv_pack(j, PACK_FORWARD, packed);
    convolve(&t);
}

bool conv_transposed(const struct conv *v, struct conv *u_r)
{
    struct conv u = *v;
    for (int axis = HEIGHT; axis <= WIDTH; axis++) {
        const struct window *w = &v->window;
        u.window.padding[axis] = (w->kernel[axis] - 1) * w->dilation[axis] - w->padding[axis];
        if (w->stride[axis] != 1 || u.window.padding[axis] < 0)
            return false;
    }
    u.c = v->o, u.h = v->oh, u.w = v->ow, u.cg = v->og;
    u.o = v->c, u.oh = v->h, u.ow = v->w, u.og = v->cg;
    u.k = u.taps * u.cg;
    *u_r = u;
    return true;
}

/* The gradient of the image is a convolution, u; else it is scattered. */
static bool flips(const struct conv *v, struct conv *u_r)
{
    return conv_transposed(v, u_r) && !conv_scatter_pays(v, u_r);
}

static void direct_backward(const struct conv_job *j)
{
    struct conv u;
    if (j->dx && flips(&j->v, &u)) {
        struct task t = {.v = &u, .r = j->r, .x = j->dy, .packed = j->work, .y = j->dx};
        conv_pack(j, PACK_FLIPPED, j->work);
        convolve(&t);
    } else if (j->dx) {
        conv_scatter_backward(j, j->work);
    }
    if (j->dweight || j->dbias)
        conv_weight_backward(j, j->work);
}

static struct conv_memory direct_memory(const struct conv *v)
{
    struct conv u;
    const struct bands bands = bands_cut(v, BAND_PIXELS);
    const int64_t packed = conv_packed_size(v, PACK_FORWARD);
    struct conv_memory m = {packed, 0, bands_scratch(v, &bands), packed};
    const struct conv_memory weight = conv_weight_memory(v), scatter = conv_scatter_memory(v);
    m.backward = weight.backward;
    m.scratch = larger(m.scratch, weight.scratch);
    if (flips(v, &u)) {
        const struct bands back = bands_cut(&u, BAND_PIXELS);
        m.backward = larger(m.backward, conv_packed_size(v, PACK_FLIPPED));
        m.scratch = larger(m.scratch, bands_scratch(&u, &back));
    } else {
        m.backward = larger(m.backward, scatter.backward);
        m.scratch = larger(m.scratch, scatter.scratch);
    }
    return m;
}

const struct conv_method conv_direct = {"direct", direct_memory, direct_forward, direct_backward};
