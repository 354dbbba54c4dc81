/* test_augment_mixing_both.c: mixup, cutmix and mosaic; and boxes against masks that are warped
 * with the images. */
#include "augment_fixture.h"

#include <math.h>

/* ---- mixing ---------------------------------------------------------------------------------- */

/* The share of one image and of one other that explains a mixed sample; its target has the same. */
static void test_mixup_mixes_images_and_targets(void **state)
{
    enum { N = 6, COUNT = 3 * 4 * 4 };
    struct trial t;
    (void)state;
    open_with_boxes(&t, N, 4, 4);
    t.b.boxes = NULL;
    trial_add(&t, &(struct row_spec){"mixup", {{"alpha", 1}}});
    trial_apply(&t, 3);
    for (int64_t i = 0; i < N; i++) {
        const real *out = t.images_out.data + i * COUNT, *own = t.images + i * COUNT;
        bool found = false;
        for (int64_t j = 0; j < N && !found; j++) {
            const real *other = t.images + j * COUNT;
            const double l = (double)(out[0] - other[0]) / (double)(own[0] - other[0]);
            found = j != i && l > -1e-4 && l < 1.0001;
            for (int64_t k = 0; k < COUNT && found; k++)
                found =
                    fabs((double)out[k] - l * (double)own[k] - (1 - l) * (double)other[k]) < 1e-4;
            for (int64_t c = 0; c < CLASSES && found; c++)
                assert_float_equal((double)t.soft_out.data[i * CLASSES + c],
                                   l * (c == i % CLASSES) + (1 - l) * (c == j % CLASSES), 1e-3);
        }
        assert_true(found);
    }
    trial_close(&t);
}

/* Shares of Beta(alpha, alpha): mean 1/2, variance 1 / (4 (2 alpha + 1)). */
static void check_beta(double alpha)
{
    enum { N = 4000 };
    double sum = 0, squares = 0;
    struct trial t;
    trial_open(&t, N, 1, 1, 1);
    for (int64_t i = 0; i < N; i++) {
        memset(t.soft + i * CLASSES, 0, CLASSES * sizeof(real));
        t.soft[i * CLASSES] = (real)i;
    }
    t.b.boxes = NULL;
    /* the share is what of the image 1 is left when all others are 0: take targets [1, 0] */
    for (int64_t i = 0; i < N; i++)
        t.images[i] = (real)(i % 2);
    trial_add(&t, &(struct row_spec){"mixup", {{"alpha", alpha}}});
    trial_apply(&t, 2);
    int64_t n = 0;
    for (int64_t i = 0; i < N; i++) {
        const double x = (double)t.images_out.data[i];
        if (x == 0 || x == 1) /* two equal ones were mixed */
            continue;
        sum += x;
        squares += (x - 0.5) * (x - 0.5);
        n++;
    }
    const double variance = 1 / (4 * (2 * alpha + 1));
    assert_in_range(n, N / 3, N);
    assert_float_equal(sum / (double)n, 0.5, 5 * sqrt(variance / (double)n));
    assert_float_equal(squares / (double)n, variance, 0.12 * variance);
    trial_close(&t);
}

static void test_mixup_draws_from_beta(void **state)
{
    (void)state;
    check_beta(1);
    check_beta(32);
    check_beta(0.4);
}

static void test_cutmix_target_is_the_area(void **state)
{
    enum { N = 30, SIZE = 10 };
    struct trial t;
    (void)state;
    trial_open(&t, N, 1, SIZE, SIZE);
    t.b.boxes = NULL;
    for (int64_t i = 0; i < N; i++)
        for (int64_t k = 0; k < SIZE * SIZE; k++)
            t.images[i * SIZE * SIZE + k] = (real)i;
    trial_add(&t, &(struct row_spec){"cutmix", {{"p", 1}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        int64_t own = 0, other = i;
        for (int64_t k = 0; k < SIZE * SIZE; k++) {
            const real v = t.images_out.data[i * SIZE * SIZE + k];
            own += v == (real)i;
            other = v == (real)i ? other : (int64_t)v;
        }
        const double share = (double)own / (SIZE * SIZE);
        for (int64_t c = 0; c < CLASSES; c++)
            assert_float_equal(
                (double)t.soft_out.data[i * CLASSES + c],
                share * (c == i % CLASSES) +
                    (1 - share) * (own == SIZE * SIZE ? c == i % CLASSES : c == other % CLASSES),
                1e-6);
    }
    trial_close(&t);
}

/* Each image has the value of its boxes' class: the middle of a box shows its own. */
static void test_cutmix_keeps_boxes_and_adds_those_in_the_window(void **state)
{
    enum { N = 60, SIZE = 40 };
    struct trial t;
    int added = 0;
    (void)state;
    trial_open(&t, N, 1, SIZE, SIZE);
    for (int64_t i = 0; i < N; i++) {
        for (int64_t k = 0; k < SIZE * SIZE; k++)
            t.images[i * SIZE * SIZE + k] = (real)i;
        put_box(&t, i, 1, (double)i, 0.2 + 0.01 * (double)i, 0.2 + 0.3 * (double)(i % 3), 0.2, 0.2);
    }
    trial_add(&t, &(struct row_spec){"cutmix", {{"alpha", 1}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        bool own = false;
        for (int k = 0; k < MAX_BOXES; k++) {
            const real *box = t.boxes_out.data + (i * MAX_BOXES + k) * 5;
            if (box[0] < 0)
                continue;
            const int64_t x = (int64_t)((double)box[1] * SIZE),
                          y = (int64_t)((double)box[2] * SIZE);
            assert_true(pixel(t.images_out.data, &t, i, 0, y, x) == box[0]);
            own |= box[0] == (real)i;
            added += box[0] != (real)i;
        }
        assert_true(own);
    }
    assert_in_range(added, 5, N);
    trial_close(&t);
}

/* Each image has a value of its own: a mosaic has four rectangles that meet in a point, the upper
 * left one is the sample's. */
static void test_mosaic_has_four_quarters(void **state)
{
    enum { N = 40, W = 12, H = 8 };
    double mean_x = 0;
    struct trial t;
    (void)state;
    trial_open(&t, N, 1, H, W);
    for (int64_t i = 0; i < N * H * W; i++)
        t.images[i] = (real)(i / (H * W));
    trial_add(&t, &(struct row_spec){"mosaic", {{"p", 1}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        bool found = false;
        for (int64_t y = 0; y <= H && !found; y++)
            for (int64_t x = 0; x <= W && !found; x++) {
                double value[4] = {(double)i, -1, -1, -1};
                found = true;
                for (int64_t k = 0; k < H * W && found; k++) {
                    const int q = (k % W >= x) + 2 * (k / W >= y);
                    const double v = (double)pixel(t.images_out.data, &t, i, 0, k / W, k % W);
                    value[q] = value[q] < 0 ? v : value[q];
                    found = v == value[q];
                }
                mean_x += found ? (double)x : 0;
            }
        assert_true(found);
    }
    assert_in_range((int)(mean_x / N * 10), 20, 90);
    trial_close(&t);
}

/* ---- boxes against masks --------------------------------------------------------------------- */

struct hull {
    int64_t left, top, right, bottom, count;
};

static struct hull mask_hull(const struct trial *t, int64_t i, int64_t channel)
{
    struct hull h = {t->b.w, t->b.h, 0, 0, 0};
    for (int64_t y = 0; y < t->b.h; y++)
        for (int64_t x = 0; x < t->b.w; x++)
            if ((double)pixel(t->images_out.data, t, i, channel, y, x) >= 0.5) {
                h.left = x < h.left ? x : h.left;
                h.top = y < h.top ? y : h.top;
                h.right = x + 1 > h.right ? x + 1 : h.right;
                h.bottom = y + 1 > h.bottom ? y + 1 : h.bottom;
                h.count++;
            }
    return h;
}

static void draw_masks(struct trial *t)
{
    const int64_t w = t->b.w, h = t->b.h;
    for (int64_t i = 0; i < t->b.n; i++)
        for (int64_t c = 0; c < 3; c++) {
            const int64_t x0 = 6 + 5 * (i % 4) + 14 * c, y0 = 8 + 3 * (i % 5) + 12 * c;
            const int64_t x1 = x0 + 18 + i % 7, y1 = y0 + 12 + i % 6;
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++)
                    t->images[((i * 3 + c) * h + y) * w + x] =
                        x >= x0 && x < x1 && y >= y0 && y < y1;
            put_box(t, i, (int)c, (double)c, (double)(x0 + x1) / 2 / (double)w,
                    (double)(y0 + y1) / 2 / (double)h, (double)(x1 - x0) / (double)w,
                    (double)(y1 - y0) / (double)h);
        }
}

/* With rotation the corners of a clipped box's hull may lie outside of the image, where the mask
 * is not seen: the hull of the mask lies within the box then, and reaches it where nothing is
 * clipped. `tight`: no rotation, the two agree within a pixel everywhere. */
static int check_box(const struct trial *t, int64_t i, const real *box, bool tight)
{
    const double w = (double)t->b.w, h = (double)t->b.h;
    const double left = ((double)box[1] - (double)box[3] / 2) * w,
                 right = left + (double)box[3] * w;
    const double top = ((double)box[2] - (double)box[4] / 2) * h, bottom = top + (double)box[4] * h;
    const struct hull m = mask_hull(t, i, (int64_t)box[0]);
    const bool inside = left > 0.5 && top > 0.5 && right < w - 0.5 && bottom < h - 0.5;
    assert_true(m.count > 0);
    assert_true(left >= -1e-3 && top >= -1e-3 && right <= w + 1e-3 && bottom <= h + 1e-3);
    assert_true((double)m.left > left - 1 && (double)m.right < right + 1);
    assert_true((double)m.top > top - 1 && (double)m.bottom < bottom + 1);
    if (tight || inside) {
        assert_true(fabs((double)m.left - left) <= 1.01 + !tight);
        assert_true(fabs((double)m.right - right) <= 1.01 + !tight);
        assert_true(fabs((double)m.top - top) <= 1.01 + !tight);
        assert_true(fabs((double)m.bottom - bottom) <= 1.01 + !tight);
    }
    return 1;
}

static void check_boxes(const struct row_spec *rows, int n_rows, bool tight)
{
    enum { N = 60, W = 96, H = 72 };
    struct trial t;
    int kept = 0, gone = 0;
    trial_open(&t, N, 3, H, W);
    draw_masks(&t);
    for (int k = 0; k < n_rows; k++)
        trial_add(&t, &rows[k]);
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        bool there[3] = {0};
        for (int k = 0; k < MAX_BOXES; k++) {
            const real *box = t.boxes_out.data + (i * MAX_BOXES + k) * 5;
            if (box[0] < 0)
                continue;
            there[(int)box[0]] = true;
            kept += check_box(&t, i, box, tight);
        }
        for (int c = 0; c < 3; c++) { /* what vanished shows little */
            const struct hull m = mask_hull(&t, i, c);
            assert_true(there[c] || m.count < 120);
            gone += !there[c];
        }
    }
    assert_true(kept > N && kept + gone == 3 * N);
    trial_close(&t);
}

static void test_boxes_follow_masks(void **state)
{
    static const struct row_spec scale[] = {
        {"affine", {{"translate", 0.3}, {"scale", 0.5}, {"fill", 0}}}};
    static const struct row_spec rotate[] = {{"affine",
                                              {{"degrees", 45},
                                               {"shear", 10},
                                               {"scale", 0.2},
                                               {"translate", 0.2},
                                               {"perspective", 0.0008},
                                               {"fill", 0}}}};
    static const struct row_spec flips[] = {{"hflip", {{"p", 0.5}}}, {"vflip", {{"p", 0.5}}}};
    static const struct row_spec several[] = {
        {"hflip", {{"p", 0.5}}},
        {"random_crop", {{"padding", 12}}},
        {"random_resized_crop", {{"p", 0.7}}},
        {"gaussian_noise", {{"sigma", 0}}}, /* settles: the next warp works on what it left */
        {"affine", {{"translate", 0.1}, {"fill", 0}}}};
    (void)state;
    check_boxes(scale, 1, true);
    check_boxes(rotate, 1, false);
    check_boxes(flips, 2, true);
    check_boxes(several, 3, true);
    check_boxes(several, 5, false);
}

/* In a mosaic each box must cover pixels of its class and image: value 1 + class in the mask. */
static void test_mosaic_boxes_follow(void **state)
{
    enum { N = 30, SIZE = 64 };
    struct trial t;
    int kept = 0;
    (void)state;
    trial_open(&t, N, 1, SIZE, SIZE);
    for (int64_t i = 0; i < N; i++) {
        for (int64_t k = 0; k < SIZE * SIZE; k++) {
            const bool in = k % SIZE >= 20 && k % SIZE < 44 && k / SIZE >= 16 && k / SIZE < 52;
            t.images[i * SIZE * SIZE + k] = (real)(in ? i + 1 : 0);
        }
        put_box(&t, i, 0, (double)i, 0.5, 34.0 / SIZE, 24.0 / SIZE, 36.0 / SIZE);
    }
    trial_add(&t, &(struct row_spec){"mosaic", {{"p", 1}}});
    trial_add(&t, &(struct row_spec){"affine", {{"scale", 0.3}, {"translate", 0.1}, {"fill", 0}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++)
        for (int k = 0; k < MAX_BOXES; k++) {
            const real *box = t.boxes_out.data + (i * MAX_BOXES + k) * 5;
            if (box[0] < 0)
                continue;
            const int64_t x = (int64_t)((double)box[1] * SIZE),
                          y = (int64_t)((double)box[2] * SIZE);
            assert_float_equal((double)pixel(t.images_out.data, &t, i, 0, y, x), (double)box[0] + 1,
                               1e-3);
            kept++;
        }
    assert_true(kept > N);
    trial_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixup_mixes_images_and_targets),
        cmocka_unit_test(test_mixup_draws_from_beta),
        cmocka_unit_test(test_cutmix_target_is_the_area),
        cmocka_unit_test(test_cutmix_keeps_boxes_and_adds_those_in_the_window),
        cmocka_unit_test(test_mosaic_has_four_quarters),
        cmocka_unit_test(test_boxes_follow_masks),
        cmocka_unit_test(test_mosaic_boxes_follow),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
