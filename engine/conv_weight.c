/* conv_weight.c: gradients of a convolution's weights and bias. dweight[u][c][o] is the sum over
 * all output pixels q of window(q)[u][c] * dy[q][o]: for each band and run an outer product of
 * kernels.h, which reads windows and dy where they lie.
 *
 * Few output channels leave most lanes of a vector of dy empty. Then it holds those of `beside`
 * pixels that follow each other, and is multiplied by all that their windows see: in the sums
 * [seen][beside][o], what is of the p-th pixel's window is p strides further.
 *
 * Bands are shared out to a number of parts that depends on the shape only. A part adds up its
 * bands in order, and parts are added in order, in double: the same bits at any number of threads.
 */
#include "channels.h"
#include "conv_direct.h"

#include <string.h>

/* Many parts are work for many threads, but each is as large as the weights. And the more pixels a
 * band has, the less often the sums go through memory. */
enum { PARTS_FEWEST = 2, PARTS_MOST = 16, PARTS_ELEMENTS = 1 << 22 };
enum { BAND_PIXELS = 256, BAND_PIXELS_MOST = 1024, SUMS_ELEMENTS = 1 << 18, RUNS_MOST = 32 };

struct task {
    const struct conv_job *j;
    const struct conv *v;
    struct bands bands;
    int64_t n_parts, beside;
    struct runs runs;   /* that `beside` windows see together */
    real *weight_parts; /* [n_parts][groups][runs.count * runs.length][beside][og] */
    double *bias_parts; /* [n_parts][o] */
};

/* Pixels whose dy share a vector. */
static int64_t beside_of(const struct conv *v)
{
    const struct window *w = &v->window;
    const int64_t most = kernels()->lanes / v->og, kernel = w->kernel[WIDTH];
    int64_t beside = 1;
    if (v->groups == 1 && w->dilation[WIDTH] == 1 && w->stride[WIDTH] < kernel)
        for (int64_t n = 2; n <= most; n++)
            beside = v->ow % n == 0 ? n : beside;
    return beside;
}

static struct runs seen_runs(const struct conv *v, int64_t beside)
{
    struct runs runs = conv_runs(v);
    if (beside > 1)
        runs.length += (beside - 1) * v->window.stride[WIDTH] * v->c;
    return runs;
}

/* Numbers of a part. */
static int64_t part_size(const struct conv *v)
{
    const int64_t beside = beside_of(v);
    const struct runs runs = seen_runs(v, beside);
    return v->groups * runs.count * runs.length * beside * v->og;
}

/* No more than bands, where the number of images is known. */
static int64_t parts_of(const struct conv *v, const struct bands *bands)
{
    int64_t most = PARTS_ELEMENTS / part_size(v);
    most = most < PARTS_FEWEST ? PARTS_FEWEST : most > PARTS_MOST ? PARTS_MOST : most;
    return v->images > 0 && bands->count < most ? bands->count : most;
}

static struct bands weight_bands(const struct conv *v)
{
    return bands_cut(v, v->o * v->k > SUMS_ELEMENTS ? BAND_PIXELS_MOST : BAND_PIXELS);
}

/* Columns of a row of dy, as whole vectors. */
static int64_t dy_width(const struct conv *v)
{
    const int64_t lanes = kernels()->lanes;
    return (beside_of(v) * v->og + lanes - 1) / lanes * lanes;
}

/* Rows of the dy of group g in a band, each of `beside` pixels, which can be read as whole vectors:
 * where they lie, unless they are the last of all and would be read beyond, then copied. */
static const real *dy_rows(const struct task *t, struct band b, int64_t g, real *copy,
                           int64_t *step_r)
{
    const struct conv *v = t->v;
    const int64_t width = dy_width(v), rows = band_pixels(v, b) / t->beside;
    const int64_t first = band_first(v, b) * v->o + g * v->og, all = v->images * v->oh * v->ow;
    const int64_t step = t->beside * v->o, cols = t->beside * v->og;
    const real *dy = t->j->dy + first;
    *step_r = step;
    if (first + (rows - 1) * step + width <= all * v->o)
        return dy;
    *step_r = width;
    for (int64_t q = 0; q < rows; q++)
        for (int64_t o = 0; o < width; o++)
            copy[q * width + o] = o < cols ? dy[q * step + o] : 0;
    return copy;
}

static void band_sum(const struct task *t, struct band b, bool first, real *part, real *scratch)
{
    const struct conv *v = t->v;
    const struct runs runs = t->runs;
    const struct windows s = band_windows(v, t->j->x, b, scratch);
    const int64_t rows = band_pixels(v, b) / t->beside, cols = t->beside * v->og;
    real *copy = scratch + bands_scratch(v, &t->bands);
    int64_t offset[RUNS_MOST];
    for (int64_t q = 0; q < rows; q++)
        s.row[q] = s.row[q * t->beside];
    for (int64_t g = 0; g < v->groups; g++) {
        struct outer_product p = {.pixels = rows,
                                  .cols = cols,
                                  .row = s.row,
                                  .runs = offset,
                                  .length = runs.length,
                                  .add = !first,
                                  .ldc = cols};
        p.b = dy_rows(t, b, g, copy, &p.step);
        for (int64_t run = 0; run < runs.count; run += RUNS_MOST) {
            const int64_t left = runs.count - run, n = left < RUNS_MOST ? left : RUNS_MOST;
            for (int64_t i = 0; i < n; i++)
                offset[i] = conv_run_offset(v, s.line, g, run + i);
            p.rows = n * runs.length;
            p.c = part + (g * runs.count + run) * runs.length * cols;
            kernels()->outer_product(&p);
        }
    }
}

static void part_sum(const struct task *t, int64_t part, real *scratch)
{
    const struct conv *v = t->v;
    int64_t begin = conv_part(part, t->n_parts, t->bands.count);
    int64_t end = conv_part(part + 1, t->n_parts, t->bands.count);
    double *bias = t->bias_parts + part * v->o;
    memset(bias, 0, (size_t)v->o * sizeof *bias);
    for (int64_t i = begin; i < end; i++) {
        struct band b = band_at(v, &t->bands, i);
        struct channels rows = {band_pixels(v, b), v->o, 1};
        if (t->j->dweight)
            band_sum(t, b, i == begin, t->weight_parts + part * part_size(v), scratch);
        if (t->j->dbias)
            channels_sum(&rows, t->j->dy + band_first(v, b) * v->o, bias);
    }
}

static void part_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct task *t = arg;
    for (int64_t i = begin; i < end; i++)
        part_sum(t, i, run_scratch(t->j->r, worker));
}

/* Adds the parts of rows [begin, end) of all groups, in them the pixels that are beside each other,
 * and unpacks them: [taps][cg][og] to [og][cg][taps]. */
static void reduce_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct task *t = arg;
    const struct conv *v = t->v;
    const struct runs runs = conv_runs(v);
    const int64_t size = part_size(v), cols = t->beside * v->og;
    const int64_t next = v->window.stride[WIDTH] * v->c * cols + v->og; /* of the pixel beside */
    for (int64_t i = begin; i < end; i++) {
        const int64_t g = i / v->k, tap = i % v->k / v->cg, c = i % v->k % v->cg;
        const real *row =
            t->weight_parts + (i / runs.length * t->runs.length + i % runs.length) * cols;
        for (int64_t o = 0; o < v->og; o++) {
            double sum = 0;
            for (int64_t part = 0; part < t->n_parts; part++)
                for (int64_t p = 0; p < t->beside; p++)
                    sum += (double)row[part * size + p * next + o];
            t->j->dweight[(g * v->og + o) * v->k + c * v->taps + tap] = (real)sum;
        }
    }
}

static void zero_gradients(const struct conv_job *j)
{
    if (j->dweight)
        memset(j->dweight, 0, (size_t)(j->v.o * j->v.k) * sizeof *j->dweight);
    if (j->dbias)
        memset(j->dbias, 0, (size_t)j->v.o * sizeof *j->dbias);
}

void conv_weight_backward(const struct conv_job *j, real *work)
{
    const struct conv *v = &j->v;
    struct task t = {.j = j, .v = v, .bands = weight_bands(v), .bias_parts = (double *)work};
    t.n_parts = parts_of(v, &t.bands);
    t.beside = beside_of(v);
    t.runs = seen_runs(v, t.beside);
    t.weight_parts = work + doubles_as_reals(t.n_parts * v->o);
    if (t.bands.count == 0) {
        zero_gradients(j);
        return;
    }
    run_for(j->r, t.n_parts, 1, part_range, &t);
    if (j->dweight)
        run_for(j->r, v->groups * v->k, grain_rows(v->og * t.n_parts * t.beside), reduce_range, &t);
    if (j->dbias)
        conv_reduce_bias(t.bias_parts, t.n_parts, v->o, j->dbias);
}

struct conv_memory conv_weight_memory(const struct conv *v)
{
    const struct bands bands = weight_bands(v);
    const int64_t parts = parts_of(v, &bands), pixels = bands.images * bands.lines * v->ow;
    struct conv_memory m = {.forward = 0};
    m.backward = doubles_as_reals(parts * v->o) + parts * part_size(v);
    m.scratch = bands_scratch(v, &bands) + (dy_width(v) == v->og ? 0 : pixels * dy_width(v));
    return m;
}
