/* strided.c: broadcasting index spaces, and sums over some of their dimensions.
 *
 * A sum has items and parts. An item is one element of the result when the innermost dimension is
 * summed, and a block of up to STRIDED_STRIP neighbouring elements when it is kept: each strip of
 * terms is then added to a row of accumulators. Where one sample has few items with many terms,
 * the terms are cut into parts whose sums are kept, in double, and added in order afterwards. Items
 * and parts follow from the sizes of one sample, never from the number of threads. */
#include "strided.h"

enum { SUM_TASKS = 64 }; /* enough for any pool; no more parts than that */

bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out_r)
{
    int rank = a->rank > b->rank ? a->rank : b->rank;
    *out_r = (struct shape){.rank = rank};
    for (int i = 0; i < rank; i++) {
        int ia = i - (rank - a->rank), ib = i - (rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        int64_t d = da == 1 ? db : da;
        if ((da != 1 && db != 1 && da != db) || (d == BATCH && i > 0))
            return false;
        out_r->dim[i] = d;
    }
    return true;
}

/* Strides of an operand along the dimensions of `self`. */
static void fill_strides(const struct shape *self, const struct shape *operand, int64_t *stride)
{
    int64_t step = 1;
    for (int i = self->rank - 1; i >= 0; i--) {
        int j = operand ? i - (self->rank - operand->rank) : -1;
        int64_t dim = j < 0 ? 1 : operand->dim[j];
        stride[i] = dim == 1 ? 0 : step;
        step *= dim;
    }
}

/* Whether dimension `inner` continues dimension `outer` for every operand. */
static bool can_merge(const struct strided *s, int outer, const int64_t inner_stride[],
                      int64_t inner_size)
{
    for (int k = 0; k < STRIDED_OPERANDS; k++)
        if (s->stride[k][outer] != inner_stride[k] * inner_size)
            return false;
    return true;
}

struct strided strided_space(const struct shape *self, const struct shape *a, const struct shape *b)
{
    int64_t stride[STRIDED_OPERANDS][SHAPE_MAX_RANK];
    fill_strides(self, self, stride[STRIDED_SELF]);
    fill_strides(self, a, stride[STRIDED_A]);
    fill_strides(self, b, stride[STRIDED_B]);
    struct strided s = {0};
    for (int i = 0; i < self->rank; i++) {
        int64_t at[STRIDED_OPERANDS], size = self->dim[i];
        for (int k = 0; k < STRIDED_OPERANDS; k++)
            at[k] = stride[k][i];
        if (size == 1)
            continue;
        bool merge = s.rank > 0 && can_merge(&s, s.rank - 1, at, size);
        int d = merge ? s.rank - 1 : s.rank++;
        s.size[d] = merge ? s.size[d] * size : size;
        for (int k = 0; k < STRIDED_OPERANDS; k++)
            s.stride[k][d] = at[k];
    }
    if (s.rank == 0) { /* one element: any stride is right, and 1 keeps it out of sums */
        s.rank = 1;
        s.size[0] = s.stride[STRIDED_SELF][0] = s.stride[STRIDED_A][0] = s.stride[STRIDED_B][0] = 1;
    }
    return s;
}

/* ---- walking --------------------------------------------------------------------------------- */

/* Some of a space's dimensions, outermost first. */
struct dims {
    int n, d[SHAPE_MAX_RANK];
};

static int64_t dims_count(const struct strided *s, const struct dims *dims)
{
    int64_t count = 1;
    for (int k = 0; k < dims->n; k++)
        count *= s->size[dims->d[k]];
    return count;
}

/* Moves `at` to the place `index` within these dimensions. */
static void dims_seek(const struct strided *s, const struct dims *dims, int64_t index,
                      int64_t at[STRIDED_OPERANDS])
{
    for (int k = dims->n - 1; k >= 0 && index; k--) {
        int d = dims->d[k];
        int64_t i = k ? index % s->size[d] : index;
        if (k)
            index /= s->size[d];
        for (int o = 0; o < STRIDED_OPERANDS; o++)
            at[o] += i * s->stride[o][d];
    }
}

struct walk {
    const struct strided *s;
    strided_fn *f;
    const void *arg;
    struct dims dims; /* all */
};

static void walk_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct walk *w = arg;
    const struct strided *s = w->s;
    int64_t inner = s->size[s->rank - 1];
    (void)worker;
    while (begin < end) {
        int64_t at[STRIDED_OPERANDS] = {0};
        int64_t left = inner - (s->rank > 1 ? begin % inner : begin);
        int64_t n = left < end - begin ? left : end - begin;
        dims_seek(s, &w->dims, begin, at);
        w->f(w->arg, at, n);
        begin += n;
    }
}

void strided_for(struct run *r, const struct strided *s, strided_fn *f, const void *arg)
{
    struct walk w = {s, f, arg, {.n = s->rank}};
    for (int d = 0; d < s->rank; d++)
        w.dims.d[d] = d;
    run_for(r, dims_count(s, &w.dims), GRAIN_ELEMENTS, walk_range, &w);
}

/* ---- sums ------------------------------------------------------------------------------------ */

struct sum_plan {
    const struct strided_sum *sum;
    struct dims kept, summed; /* kept: without the innermost, which the blocks cut up */
    bool inner_kept;
    int64_t width, blocks; /* of the innermost dimension when it is kept; else 1, 1 */
    int64_t items, parts;
    int64_t terms, part_terms; /* of one element; of one part */
    double *partials;          /* items x parts x width */
};

static struct sum_plan sum_plan(const struct strided_sum *sum)
{
    const struct strided *s = &sum->space;
    struct sum_plan p = {.sum = sum, .width = 1, .blocks = 1, .partials = (double *)sum->partials};
    int inner = s->rank - 1;
    p.inner_kept = s->stride[sum->into][inner] != 0;
    for (int d = 0; d < s->rank; d++) {
        struct dims *list = s->stride[sum->into][d] ? &p.kept : &p.summed;
        if (d < inner || !p.inner_kept)
            list->d[list->n++] = d;
    }
    if (p.inner_kept) {
        p.width = s->size[inner] < STRIDED_STRIP ? s->size[inner] : STRIDED_STRIP;
        p.blocks = (s->size[inner] + STRIDED_STRIP - 1) / STRIDED_STRIP;
    }
    p.items = dims_count(s, &p.kept) * p.blocks;
    p.terms = dims_count(s, &p.summed);
    int64_t items = p.items / (sum->samples > 0 ? sum->samples : 1); /* of one sample */
    int64_t most = SUM_TASKS / (items > 0 ? items : 1), want = p.terms * p.width / GRAIN_ELEMENTS;
    p.parts = want < most ? want : most;
    p.parts = p.parts > 1 ? p.parts : 1;
    p.part_terms = (p.terms + p.parts - 1) / p.parts;
    return p;
}

/* Parts are at most terms * width / GRAIN_ELEMENTS, width at most STRIDED_STRIP and items * width
 * at most twice the elements of the result: twice STRIDED_STRIP / GRAIN_ELEMENTS of the space. */
struct extent strided_room(struct extent space)
{
    int64_t share = GRAIN_ELEMENTS / STRIDED_STRIP / 2, reals = sizeof(double) / sizeof(real);
    return (struct extent){(space.sample / share + 1) * reals, (space.fixed / share + 1) * reals};
}

/* Eight accumulators, added in a fixed tree. */
static double sum_strip(const real *x, int64_t n)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            lane[k] += (double)x[i + k];
    for (int k = 0; i + k < n; k++)
        lane[k] += (double)x[i + k];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* How many terms from `m` on lie in one strip. */
static int64_t strip_length(const struct sum_plan *p, int64_t m, int64_t end)
{
    if (p->inner_kept)
        return 1;
    int64_t inner = p->sum->space.size[p->sum->space.rank - 1];
    int64_t left = inner - m % inner, n = left < end - m ? left : end - m;
    return n < STRIDED_STRIP ? n : STRIDED_STRIP;
}

/* Adds terms [m, end) of the block of `width` elements at `from`. */
static void sum_terms(const struct sum_plan *p, const int64_t from[STRIDED_OPERANDS], int64_t width,
                      int64_t m, int64_t end, double *acc)
{
    const struct strided_sum *sum = p->sum;
    real room[STRIDED_STRIP];
    while (m < end) {
        int64_t at[STRIDED_OPERANDS] = {from[0], from[1], from[2]};
        int64_t n = strip_length(p, m, end);
        dims_seek(&sum->space, &p->summed, m, at);
        const real *x = sum->terms(sum->arg, at, p->inner_kept ? width : n, room);
        if (p->inner_kept)
            for (int64_t c = 0; c < width; c++)
                acc[c] += (double)x[c];
        else
            acc[0] += sum_strip(x, n);
        m += n;
    }
}

/* The offsets of an item's block, and its width. */
static int64_t item_seek(const struct sum_plan *p, int64_t item, int64_t at[STRIDED_OPERANDS])
{
    const struct strided *s = &p->sum->space;
    int inner = s->rank - 1;
    dims_seek(s, &p->kept, item / p->blocks, at);
    if (!p->inner_kept)
        return 1;
    int64_t first = item % p->blocks * STRIDED_STRIP, left = s->size[inner] - first;
    for (int o = 0; o < STRIDED_OPERANDS; o++)
        at[o] += first * s->stride[o][inner];
    return left < STRIDED_STRIP ? left : STRIDED_STRIP;
}

static void write_item(const struct strided_sum *sum, const int64_t at[STRIDED_OPERANDS],
                       const double *acc, int64_t width)
{
    for (int64_t c = 0; c < width; c++)
        sum->out[at[sum->into] + c] = (real)(acc[c] / sum->divisor);
}

static void sum_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct sum_plan *p = arg;
    (void)worker;
    for (int64_t task = begin; task < end; task++) {
        int64_t at[STRIDED_OPERANDS] = {0}, first = task % p->parts * p->part_terms;
        int64_t width = item_seek(p, task / p->parts, at), last = first + p->part_terms;
        double acc[STRIDED_STRIP];
        for (int64_t c = 0; c < width; c++)
            acc[c] = 0;
        sum_terms(p, at, width, first, last < p->terms ? last : p->terms, acc);
        if (p->parts == 1)
            write_item(p->sum, at, acc, width);
        else
            for (int64_t c = 0; c < width; c++)
                p->partials[task * p->width + c] = acc[c];
    }
}

/* Adds the parts of each item in order. */
static void join_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct sum_plan *p = arg;
    (void)worker;
    for (int64_t item = begin; item < end; item++) {
        double *acc = p->partials + item * p->parts * p->width;
        int64_t at[STRIDED_OPERANDS] = {0}, width = item_seek(p, item, at);
        for (int64_t part = 1; part < p->parts; part++)
            for (int64_t c = 0; c < width; c++)
                acc[c] += acc[part * p->width + c];
        write_item(p->sum, at, acc, width);
    }
}

void strided_sum(struct run *r, const struct strided_sum *sum)
{
    struct sum_plan p = sum_plan(sum);
    run_for(r, p.items * p.parts, grain_rows(p.part_terms * p.width), sum_range, &p);
    if (p.parts > 1)
        run_for(r, p.items, 1, join_range, &p);
}
