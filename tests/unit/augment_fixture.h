/* augment_fixture.h: a batch of random images to augment, with fences around all that is written.
 */
#ifndef AUGMENT_FIXTURE_H
#define AUGMENT_FIXTURE_H

#include "op.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FENCE = 64, FENCE_BYTE = 0x5C, MAX_BOXES = 6, CLASSES = 5 };

struct fenced {
    unsigned char *block;
    size_t bytes;
    real *data;
};

struct trial {
    struct augment *augment;
    struct augment_batch b;
    real *images, *boxes, *soft;
    struct fenced images_out, boxes_out, soft_out, work;
};

static inline struct fenced fenced_create(size_t bytes)
{
    struct fenced f = {malloc(bytes + 2 * FENCE), bytes, NULL};
    assert_non_null(f.block);
    memset(f.block, FENCE_BYTE, bytes + 2 * FENCE);
    f.data = (real *)(void *)(f.block + FENCE);
    return f;
}

static inline void fenced_check(const struct fenced *f)
{
    for (int i = 0; i < FENCE; i++) {
        assert_int_equal(f->block[i], FENCE_BYTE);
        assert_int_equal(f->block[FENCE + f->bytes + (size_t)i], FENCE_BYTE);
    }
}

/* A row: {"affine", {attr...}}; at most six attributes, all numbers. */
struct row_spec {
    const char *name;
    struct {
        const char *name;
        double value;
    } attr[6];
};

static inline void trial_add(struct trial *t, const struct row_spec *row)
{
    struct attr attrs[6];
    struct error e = {0};
    int n = 0;
    for (; n < 6 && row->attr[n].name; n++)
        attrs[n] =
            (struct attr){.name = row->attr[n].name, .kind = ATTR_IS_REAL, .d = row->attr[n].value};
    if (augment_add(t->augment, row->name, attrs, n, &e))
        fail_msg("%s", e.text);
}

/* Images in 0..1; boxes are the caller's to write (class -1 at first). */
static inline void trial_open(struct trial *t, int64_t n, int64_t c, int64_t h, int64_t w)
{
    const struct random_key key = {5, 6, 7};
    struct error e;
    *t = (struct trial){.augment = augment_create(&e)};
    assert_non_null(t->augment);
    t->images = malloc((size_t)(n * c * h * w) * sizeof(real));
    t->boxes = calloc((size_t)(n * MAX_BOXES * 5), sizeof(real));
    t->soft = calloc((size_t)(n * CLASSES), sizeof(real));
    for (int64_t i = 0; i < n * c * h * w; i++)
        t->images[i] = (real)random_uniform(&key, (uint64_t)i);
    for (int64_t i = 0; i < n * MAX_BOXES; i++)
        t->boxes[i * 5] = -1;
    for (int64_t i = 0; i < n; i++)
        t->soft[i * CLASSES + i % CLASSES] = 1;
    t->images_out = fenced_create((size_t)(n * c * h * w) * sizeof(real));
    t->boxes_out = fenced_create((size_t)(n * MAX_BOXES * 5) * sizeof(real));
    t->soft_out = fenced_create((size_t)(n * CLASSES) * sizeof(real));
    t->b = (struct augment_batch){.n = n,
                                  .c = c,
                                  .h = h,
                                  .w = w,
                                  .images = t->images,
                                  .images_out = t->images_out.data,
                                  .max_boxes = MAX_BOXES,
                                  .boxes = t->boxes,
                                  .boxes_out = t->boxes_out.data,
                                  .n_soft = 1,
                                  .seed = 42,
                                  .draw = 3};
    t->b.soft[0].data = t->soft;
    t->b.soft[0].out = t->soft_out.data;
    t->b.soft[0].count = CLASSES;
}

/* Applies on so many threads, in fresh memory; what was sent must stay as it is. */
static inline int trial_run(struct trial *t, int threads, struct error *e)
{
    const size_t bytes = t->images_out.bytes;
    struct pool *pool = pool_create(threads, e);
    real *before = malloc(bytes);
    size_t work;
    assert_non_null(pool);
    memcpy(before, t->images, bytes);
    assert_int_equal(augment_work_bytes(t->augment, &t->b, t->b.n, threads, &work, e), 0);
    t->work = fenced_create(work);
    int status = augment_apply(t->augment, pool, &t->b, t->work.data, e);
    assert_memory_equal(before, t->images, bytes);
    fenced_check(&t->work);
    fenced_check(&t->images_out);
    fenced_check(&t->boxes_out);
    fenced_check(&t->soft_out);
    free(before);
    free(t->work.block);
    pool_destroy(&pool);
    return status;
}

static inline void trial_apply(struct trial *t, int threads)
{
    struct error e = {0};
    if (trial_run(t, threads, &e))
        fail_msg("%s", e.text);
}

static inline void put_box(struct trial *t, int64_t sample, int k, double class, double cx,
                           double cy, double w, double h)
{
    real *box = t->boxes + (sample * MAX_BOXES + k) * 5;
    box[0] = (real) class;
    box[1] = (real)cx;
    box[2] = (real)cy;
    box[3] = (real)w;
    box[4] = (real)h;
}

static inline void open_with_boxes(struct trial *t, int64_t n, int64_t h, int64_t w)
{
    trial_open(t, n, 3, h, w);
    for (int64_t i = 0; i < n; i++) {
        put_box(t, i, 0, (double)(i % 3), 0.1 + 0.2 * (double)(i % 5), 0.4, 0.15, 0.2);
        put_box(t, i, 2, 1, 0.7, 0.3 + 0.2 * (double)(i % 3), 0.2, 0.15); /* a gap before it */
    }
}

static inline real pixel(const real *images, const struct trial *t, int64_t i, int64_t c, int64_t y,
                         int64_t x)
{
    return images[((i * t->b.c + c) * t->b.h + y) * t->b.w + x];
}

static inline void trial_close(struct trial *t)
{
    augment_destroy(&t->augment);
    free(t->images);
    free(t->boxes);
    free(t->soft);
    free(t->images_out.block);
    free(t->boxes_out.block);
    free(t->soft_out.block);
}

#endif
