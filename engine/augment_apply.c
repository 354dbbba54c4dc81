/* augment_apply.c: a batch through a list of augmentations, phase by phase (augment.h). Phases
 * write into the outputs and into the work memory by turns, so that the last one writes the outputs
 * and none writes what it reads.
 *
 *   work memory   images, boxes and soft targets of one layer, if there are several phases;
 *                 then an image, and one whose pixels are packed, for each thread */
#include "augment_list.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { ALIGN = 16, GRAIN_PIXELS = 4096 };
static const double UNIT_TOLERANCE = 1e-3;

struct pass {
    const struct augment *augment;
    const struct augment_batch *batch;
    struct image size;
    struct augment_layer from, to;
    int begin, end; /* rows */
    bool first;
    real *scratch;       /* [threads] of scratch_count */
    _Atomic int64_t bad; /* the first sample with values outside of 0..1; n: none */
};

static int64_t image_count(const struct image *size)
{
    return size->c * size->h * size->w;
}

/* Of each thread: an image, and one whose pixels are packed. */
static int64_t scratch_count(const struct image *size)
{
    return image_count(size) + size->h * size->w * AUGMENT_PACKED;
}

/* ---- work memory ----------------------------------------------------------------------------- */

/* Adds count elements, aligned. False when that overflows. */
static bool take(size_t *at, int64_t n, int64_t count)
{
    int64_t all;
    size_t bytes;
    if (__builtin_mul_overflow(n, count, &all) || all < 0 ||
        __builtin_mul_overflow((size_t)all, sizeof(real), &bytes) || bytes > SIZE_MAX / 4)
        return false;
    return !__builtin_add_overflow(*at, (bytes + ALIGN - 1) / ALIGN * ALIGN, at);
}

/* Places of a layer's parts, in bytes; *at moves behind them. */
struct places {
    size_t images, boxes, soft[NETWORK_MAX_IO];
};
static bool layer_places(const struct augment_batch *b, int64_t n, struct places *p, size_t *at)
{
    int64_t boxes;
    p->images = *at;
    bool fits = take(at, n, b->c * b->h * b->w) &&
                !__builtin_mul_overflow(b->max_boxes, (int64_t)BOX, &boxes);
    p->boxes = *at;
    fits = fits && (!b->boxes || take(at, n, boxes));
    for (int i = 0; i < b->n_soft; i++) {
        p->soft[i] = *at;
        fits = fits && take(at, n, b->soft[i].count);
    }
    return fits;
}

int augment_work_bytes(const struct augment *a, const struct augment_batch *b, int64_t n,
                       int threads, size_t *bytes_r, struct error *e)
{
    struct places places;
    int64_t plane, scratch;
    size_t at = 0;
    bool fits = n >= 0 && !__builtin_mul_overflow(b->h, b->w, &plane) &&
                !__builtin_mul_overflow(plane, b->c + AUGMENT_PACKED, &scratch);
    fits = fits && (a->n_phases == 1 || layer_places(b, n, &places, &at)) &&
           take(&at, threads, scratch);
    if (!fits)
        return error_set(e, ERROR_TOO_LARGE,
                         "%lld images of %lld x %lld x %lld are too many to be augmented",
                         (long long)n, (long long)b->c, (long long)b->h, (long long)b->w);
    *bytes_r = at;
    return 0;
}

static struct augment_layer layer_given(const struct augment_batch *b)
{
    struct augment_layer l = {(real *)(uintptr_t)b->images, (real *)(uintptr_t)b->boxes, {0}};
    for (int i = 0; i < b->n_soft; i++)
        l.soft[i] = (real *)(uintptr_t)b->soft[i].data;
    return l;
}

static struct augment_layer layer_out(const struct augment_batch *b)
{
    struct augment_layer l = {b->images_out, b->boxes ? b->boxes_out : NULL, {0}};
    for (int i = 0; i < b->n_soft; i++)
        l.soft[i] = b->soft[i].out;
    return l;
}

/* The layer in the work memory; *at moves behind it. */
static struct augment_layer layer_work(const struct augment_batch *b, char *work, size_t *at)
{
    struct places p;
    layer_places(b, b->n, &p, at);
    struct augment_layer l = {
        (real *)(void *)(work + p.images), b->boxes ? (real *)(void *)(work + p.boxes) : NULL, {0}};
    for (int i = 0; i < b->n_soft; i++)
        l.soft[i] = (real *)(void *)(work + p.soft[i]);
    return l;
}

/* ---- a sample -------------------------------------------------------------------------------- */

const real *augment_image_of(const struct augment_sample *s, int64_t i)
{
    return s->from->images + i * image_count(&s->size);
}

const real *augment_boxes_of(const struct augment_sample *s, int64_t i)
{
    return s->from->boxes ? s->from->boxes + i * s->batch->max_boxes * BOX : NULL;
}

int64_t augment_partner(struct augment_sample *s)
{
    const int64_t others = s->size.n - 1;
    return others > 0 ? (s->index + 1 + augment_below(&s->random, others)) % s->size.n : 0;
}

void augment_compose(struct augment_sample *s, const double a[9], bool moved, double fill)
{
    augment_matrix_mul(a, s->warp.m, s->warp.m);
    s->warp.pending = true;
    s->warp.moved |= moved;
    s->warp.fill = (real)fill;
}

static void warp_reset(struct augment_warp *w)
{
    *w = (struct augment_warp){.fill = (real)(114.0 / 255)};
    memcpy(w->m, augment_identity, sizeof w->m);
}

/* A warp without tiles is one of the sample's own image. */
static void warp_own(struct augment_sample *s, const real *image)
{
    s->warp.n_tiles = 1;
    s->warp.tile[0] = (struct augment_tile){
        .image = image, .boxes = s->boxes, .right = (double)s->size.w, .bottom = (double)s->size.h};
}

static void warp_run(struct augment_sample *s)
{
    const real *image = s->image;
    if (image == s->out) {
        memcpy(s->scratch, image, (size_t)image_count(&s->size) * sizeof *image);
        image = s->scratch;
    }
    if (!s->warp.n_tiles)
        warp_own(s, image);
    augment_warp_draw(&s->warp, &s->size, s->packed, s->out);
    if (s->boxes)
        augment_warp_boxes(&s->warp, &s->size, s->batch->max_boxes, s->boxes_out);
    warp_reset(&s->warp);
}

real *augment_settle(struct augment_sample *s)
{
    const size_t boxes = (size_t)(s->batch->max_boxes * BOX) * sizeof(real);
    if (s->warp.pending) {
        warp_run(s);
    } else {
        if (s->image != s->out)
            memcpy(s->out, s->image, (size_t)image_count(&s->size) * sizeof(real));
        if (s->boxes && s->boxes != s->boxes_out)
            memcpy(s->boxes_out, s->boxes, boxes);
    }
    s->image = s->out;
    s->boxes = s->boxes ? s->boxes_out : NULL;
    return s->out;
}

static void soft_copy(const struct augment_sample *s)
{
    const struct augment_batch *b = s->batch;
    for (int k = 0; k < b->n_soft && !s->mixed; k++)
        memcpy(s->to->soft[k] + s->index * b->soft[k].count,
               s->from->soft[k] + s->index * b->soft[k].count,
               (size_t)b->soft[k].count * sizeof(real));
}

static bool values_in_unit(const real *x, int64_t n)
{
    const real low = (real)-UNIT_TOLERANCE, high = (real)(1 + UNIT_TOLERANCE);
    int outside = 0; /* NaN is outside */
    for (int64_t i = 0; i < n; i++)
        outside |= !((x[i] >= low) & (x[i] <= high));
    return !outside;
}

static void mark_bad(struct pass *p, int64_t i)
{
    int64_t bad = atomic_load(&p->bad);
    while (i < bad && !atomic_compare_exchange_weak(&p->bad, &bad, i))
        ;
}

static void sample_begin(const struct pass *p, int64_t i, int worker, struct augment_sample *s)
{
    const int64_t image = image_count(&p->size), boxes = p->batch->max_boxes * BOX;
    *s = (struct augment_sample){.batch = p->batch,
                                 .from = &p->from,
                                 .to = &p->to,
                                 .size = p->size,
                                 .index = i,
                                 .image = p->from.images + i * image,
                                 .out = p->to.images + i * image,
                                 .scratch = p->scratch + worker * scratch_count(&p->size)};
    s->packed = s->scratch + image;
    s->boxes = augment_boxes_of(s, i);
    s->boxes_out = s->boxes ? p->to.boxes + i * boxes : NULL;
    warp_reset(&s->warp);
}

static void row_apply(const struct pass *p, int k, struct augment_sample *s)
{
    const struct augment_row *row = &p->augment->rows[k];
    const double probability = *(const double *)row->attrs;
    const struct augment_batch *b = p->batch;
    const struct random_key key = {b->seed, b->draw, AUGMENT_KEYS + (uint32_t)k};
    s->pixels = (struct random_key){b->seed, b->draw, AUGMENT_PIXELS + (uint32_t)k};
    augment_random_begin(&s->random, &key, s->index);
    if (augment_uniform(&s->random, 0, 1) < probability)
        row->def->apply(row->attrs, s);
}

static void run_samples(void *arg, int64_t begin, int64_t end, int worker)
{
    struct pass *p = arg;
    const bool check = p->first && augment_flagged(p->augment, AUGMENT_UNIT);
    struct augment_sample s;
    for (int64_t i = begin; i < end; i++) {
        sample_begin(p, i, worker, &s);
        if (check && !values_in_unit(s.image, image_count(&p->size))) {
            mark_bad(p, i);
            continue;
        }
        for (int k = p->begin; k < p->end; k++)
            row_apply(p, k, &s);
        augment_settle(&s);
        soft_copy(&s);
    }
}

/* ---- the batch ------------------------------------------------------------------------------- */

static int refuse_values(const struct pass *p, int64_t i, struct error *e)
{
    const real *x = p->batch->images + i * image_count(&p->size);
    const char *name = augment_flagged(p->augment, AUGMENT_UNIT)->row.info.name;
    while (values_in_unit(x, 1))
        x++;
    return error_set(e, ERROR_BAD_VALUE,
                     "augment: image %lld has the value %g, but '%s' expects values from 0 to 1",
                     (long long)i, (double)*x, name);
}

int augment_apply(const struct augment *a, struct pool *pool, const struct augment_batch *b,
                  void *work, struct error *e)
{
    const struct image size = {b->n, b->c, b->h, b->w};
    const int64_t image = image_count(&size);
    const struct augment_layer out = layer_out(b);
    struct augment_layer other = {0};
    size_t at = 0;
    struct pass p = {.augment = a, .batch = b, .size = size, .to = layer_given(b), .bad = b->n};
    if (a->n_phases > 1)
        other = layer_work(b, work, &at);
    p.scratch = (real *)(void *)((char *)work + at);
    for (int k = 0; k < a->n_phases; k++) {
        p.from = p.to;
        p.to = (a->n_phases - k) % 2 ? out : other;
        p.begin = a->phase_begin[k];
        p.end = a->phase_begin[k + 1];
        p.first = k == 0;
        pool_for(pool, b->n, 1 + GRAIN_PIXELS / image, run_samples, &p);
        if (p.first && p.bad < b->n)
            return refuse_values(&p, p.bad, e);
    }
    return 0;
}
