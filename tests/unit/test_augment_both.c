/* test_augment_both.c: augmentation: every row of the table keeps to its memory and gives the same
 * bits again and on any number of threads; what flips, crops, colours and mixes are, number by
 * number; boxes against masks that are warped with the images; distributions of what is drawn. */
#include "augment_fixture.h"

#include <math.h>
#include <stdio.h>

/* ---- the whole table ------------------------------------------------------------------------- */

/* Everything after everything, so that phases, settling and warping meet. */
static const struct row_spec all_rows[] = {
    {"mosaic", {{"p", 0.5}}},
    {"affine",
     {{"degrees", 20}, {"translate", 0.2}, {"scale", 0.4}, {"shear", 5}, {"perspective", 0.0005}}},
    {"mixup", {{"p", 0.5}}},
    {"cutmix", {{"p", 0.9}, {"alpha", 0.5}}},
    {"hsv", {{0}}},
    {"vflip", {{0}}},
    {"hflip", {{0}}},
    {"bgr", {{0}}},
    {"brightness", {{0}}},
    {"contrast", {{0}}},
    {"saturation", {{0}}},
    {"grayscale", {{"p", 0.5}}},
    {"random_crop", {{0}}},
    {"gaussian_blur", {{0}}},
    {"random_resized_crop", {{"p", 0.5}}},
    {"gaussian_noise", {{0}}},
    {"randaugment", {{0}}},
    {"cutout", {{0}}},
    {"erasing", {{0}}},
};
enum { ALL_ROWS = sizeof all_rows / sizeof all_rows[0] };

static void put_box(struct trial *t, int64_t sample, int k, double class, double cx, double cy,
                    double w, double h)
{
    real *box = t->boxes + (sample * MAX_BOXES + k) * 5;
    box[0] = (real) class;
    box[1] = (real)cx;
    box[2] = (real)cy;
    box[3] = (real)w;
    box[4] = (real)h;
}

static void open_with_boxes(struct trial *t, int64_t n, int64_t h, int64_t w)
{
    trial_open(t, n, 3, h, w);
    for (int64_t i = 0; i < n; i++) {
        put_box(t, i, 0, (double)(i % 3), 0.1 + 0.2 * (double)(i % 5), 0.4, 0.15, 0.2);
        put_box(t, i, 2, 1, 0.7, 0.3 + 0.2 * (double)(i % 3), 0.2, 0.15); /* a gap before it */
    }
}

static void same_bits(struct trial *a, struct trial *b)
{
    assert_memory_equal(a->images_out.data, b->images_out.data, a->images_out.bytes);
    assert_memory_equal(a->boxes_out.data, b->boxes_out.data, a->boxes_out.bytes);
    assert_memory_equal(a->soft_out.data, b->soft_out.data, a->soft_out.bytes);
}

static void test_table_is_complete_and_covered(void **state)
{
    struct augment_info info;
    int i = 0;
    (void)state;
    for (; augment_info_at(i, &info); i++) {
        bool covered = false;
        for (int k = 0; k < ALL_ROWS; k++)
            covered |= strcmp(all_rows[k].name, info.row.name) == 0;
        assert_true(covered);
        assert_true(info.row.doc && info.row.doc[0] && info.row.attrs);
        assert_string_equal(info.row.attrs[0].name, "p");
        assert_int_equal(info.row.attrs[0].offset, 0);
    }
    assert_int_equal(i, ALL_ROWS);
}

static void check_replay(const struct row_spec *rows, int n_rows, int64_t h, int64_t w)
{
    static const int threads[] = {1, 2, 3, 8, 1};
    struct trial first, again;
    open_with_boxes(&first, 13, h, w);
    open_with_boxes(&again, 13, h, w);
    for (int i = 0; i < n_rows; i++) {
        trial_add(&first, &rows[i]);
        trial_add(&again, &rows[i]);
    }
    trial_apply(&first, 1);
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        trial_apply(&again, threads[i]);
        same_bits(&first, &again);
    }
    again.b.draw += 7;
    trial_apply(&again, 2);
    assert_memory_not_equal(first.images_out.data, again.images_out.data, first.images_out.bytes);
    for (size_t i = 0; i < first.images_out.bytes / sizeof(real); i++)
        assert_true(isfinite(first.images_out.data[i]));
    trial_close(&first);
    trial_close(&again);
}

static void test_each_row_replays(void **state)
{
    (void)state;
    for (int i = 0; i < ALL_ROWS; i++)
        check_replay(&all_rows[i], 1, 32, 32);
}

static void test_all_rows_together_replay(void **state)
{
    (void)state;
    check_replay(all_rows, ALL_ROWS, 23, 70);
    check_replay(all_rows, ALL_ROWS, 5, 3);
    check_replay(all_rows, ALL_ROWS, 1, 1);
}

/* A sample's draws do not depend on the rows that others drew, nor on what comes after it. */
static void test_samples_do_not_depend_on_the_batch_size(void **state)
{
    struct trial large, small;
    (void)state;
    open_with_boxes(&large, 9, 16, 16);
    open_with_boxes(&small, 4, 16, 16);
    for (int i = 4; i < ALL_ROWS; i++) { /* the mixing rows look at others */
        trial_add(&large, &all_rows[i]);
        trial_add(&small, &all_rows[i]);
    }
    trial_apply(&large, 2);
    trial_apply(&small, 1);
    assert_memory_equal(large.images_out.data, small.images_out.data, small.images_out.bytes);
    assert_memory_equal(large.boxes_out.data, small.boxes_out.data, small.boxes_out.bytes);
    trial_close(&large);
    trial_close(&small);
}

static void test_keys_are_not_those_of_nodes(void **state)
{
    struct trial t;
    (void)state;
    trial_open(&t, 2, 1, 4, 4);
    trial_add(&t, &(struct row_spec){"gaussian_noise", {{"p", 1}}});
    trial_apply(&t, 1);
    const struct random_key node = {42, 3, 0};
    assert_true(fabs((double)(t.images_out.data[0] - t.images[0]) - 0.1 * random_normal(&node, 0)) >
                1e-6);
    trial_close(&t);
}

/* ---- pixels, number by number ---------------------------------------------------------------- */

static real pixel(const real *images, const struct trial *t, int64_t i, int64_t c, int64_t y,
                  int64_t x)
{
    return images[((i * t->b.c + c) * t->b.h + y) * t->b.w + x];
}

static void test_flips_mirror(void **state)
{
    struct trial t;
    (void)state;
    open_with_boxes(&t, 2, 6, 9);
    trial_add(&t, &(struct row_spec){"hflip", {{"p", 1}}});
    trial_add(&t, &(struct row_spec){"vflip", {{"p", 1}}});
    trial_apply(&t, 1);
    for (int64_t i = 0; i < 2; i++)
        for (int64_t c = 0; c < 3; c++)
            for (int64_t y = 0; y < 6; y++)
                for (int64_t x = 0; x < 9; x++)
                    assert_true(pixel(t.images_out.data, &t, i, c, y, x) ==
                                pixel(t.images, &t, i, c, 5 - y, 8 - x));
    assert_float_equal(t.boxes_out.data[1], 0.9, 1e-6);
    assert_float_equal(t.boxes_out.data[2], 0.6, 1e-6);
    assert_float_equal(t.boxes_out.data[3], 0.15, 1e-6);
    assert_float_equal(t.boxes_out.data[5 + 1], 0.3, 1e-6); /* the gap is closed */
    assert_true(t.boxes_out.data[10] == -1);
    trial_close(&t);
}

/* The shift that explains all pixels of a sample, and how often each comes. */
static void test_random_crop_shifts_by_all_amounts(void **state)
{
    enum { N = 600, P = 2, SIZE = 5, SHIFTS = (2 * P + 1) * (2 * P + 1) };
    int count[SHIFTS] = {0};
    struct trial t;
    (void)state;
    trial_open(&t, N, 1, SIZE, SIZE);
    trial_add(&t, &(struct row_spec){"random_crop", {{"padding", P}, {"fill", 0.25}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        int found = -1;
        for (int s = 0; s < SHIFTS; s++) {
            const int64_t dy = s / (2 * P + 1) - P, dx = s % (2 * P + 1) - P;
            bool same = true;
            for (int64_t k = 0; k < SIZE * SIZE && same; k++) {
                const int64_t y = k / SIZE - dy, x = k % SIZE - dx;
                const bool in = y >= 0 && y < SIZE && x >= 0 && x < SIZE;
                same = pixel(t.images_out.data, &t, i, 0, k / SIZE, k % SIZE) ==
                       (in ? pixel(t.images, &t, i, 0, y, x) : (real)0.25);
            }
            found = same ? s : found;
        }
        assert_true(found >= 0);
        count[found]++;
    }
    for (int s = 0; s < SHIFTS; s++) /* 24 expected, standard deviation 4.8 */
        assert_in_range(count[s], 5, 45);
    trial_close(&t);
}

/* A rotation by a right angle moves whole pixels; degrees are up to 180, so it is made of the
 * engine's matrix: here the image is compared with a slow warp of the same matrix. */
static double read_bilinear(const struct trial *t, int64_t i, double x, double y)
{
    const double w = (double)t->b.w, h = (double)t->b.h;
    if (x < 0 || x >= w || y < 0 || y >= h)
        return NAN;
    x = fmin(fmax(x - 0.5, 0), w - 1);
    y = fmin(fmax(y - 0.5, 0), h - 1);
    const int64_t x0 = (int64_t)x, y0 = (int64_t)y;
    const int64_t x1 = x0 + 1 < t->b.w ? x0 + 1 : x0, y1 = y0 + 1 < t->b.h ? y0 + 1 : y0;
    const double fx = x - (double)x0, fy = y - (double)y0;
    const double a = (double)pixel(t->images, t, i, 0, y0, x0);
    const double b = (double)pixel(t->images, t, i, 0, y0, x1);
    const double c = (double)pixel(t->images, t, i, 0, y1, x0);
    const double d = (double)pixel(t->images, t, i, 0, y1, x1);
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy;
}

/* Bilinear reads of a linear ramp are exact: so the warp of a ramp shows the inverse matrix, and
 * the matrix itself is checked against T S R P C from the same draws. */
static void test_affine_is_ultralytics_matrix(void **state)
{
    enum { SIZE = 64, N = 20 };
    struct trial t;
    (void)state;
    trial_open(&t, N, 2, SIZE, SIZE);
    for (int64_t i = 0; i < N; i++)
        for (int64_t y = 0; y < SIZE; y++)
            for (int64_t x = 0; x < SIZE; x++) {
                t.images[((2 * i) * SIZE + y) * SIZE + x] = (real)(((double)x + 0.5) / SIZE);
                t.images[((2 * i + 1) * SIZE + y) * SIZE + x] = (real)(((double)y + 0.5) / SIZE);
            }
    trial_add(&t, &(struct row_spec){"affine",
                                     {{"degrees", 40},
                                      {"translate", 0.1},
                                      {"scale", 0.3},
                                      {"shear", 10},
                                      {"perspective", 0.001},
                                      {"fill", -1}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        const struct random_key key = {42, 3, 1u << 31};
        double u[9]; /* p, then the draws in their order */
        for (int k = 0; k < 9; k++)
            u[k] = 2 * random_uniform(&key, ((uint64_t)i << 22) + (uint64_t)k) - 1;
        const double px = u[1] * 0.001, py = u[2] * 0.001, a = u[3] * 40 * M_PI / 180;
        const double s = 1 + u[4] * 0.3, kx = tan(u[5] * 10 * M_PI / 180),
                     ky = tan(u[6] * 10 * M_PI / 180);
        int seen = 0;
        for (int64_t k = 0; k < SIZE * SIZE; k++) {
            /* where a point of the source goes, and whether the output has it there */
            const double out_u = (double)pixel(t.images_out.data, &t, i, 0, k / SIZE, k % SIZE);
            const double out_v = (double)pixel(t.images_out.data, &t, i, 1, k / SIZE, k % SIZE);
            const double x = out_u * SIZE - 32, y = out_v * SIZE - 32;
            if (out_u < 0 || fabs(x) > 31 || fabs(y) > 31)
                continue;
            const double w = 1 + px * x + py * y;
            const double rx = (cos(a) * x + sin(a) * y) * s, ry = (-sin(a) * x + cos(a) * y) * s;
            const double fx = (rx + kx * ry) / w + 32 + u[7] * 0.1 * SIZE;
            const double fy = (ky * rx + ry) / w + 32 + u[8] * 0.1 * SIZE;
            assert_float_equal(fx, (double)(k % SIZE) + 0.5, 0.01);
            assert_float_equal(fy, (double)(k / SIZE) + 0.5, 0.01);
            seen++;
        }
        assert_true(seen > 500);
    }
    trial_close(&t);
}

static void test_resized_crop_reads_a_window(void **state)
{
    enum { N = 40, W = 12, H = 9 };
    struct trial t;
    (void)state;
    trial_open(&t, N, 1, H, W);
    trial_add(&t, &(struct row_spec){"random_resized_crop", {{"p", 1}}});
    trial_apply(&t, 1);
    for (int64_t i = 0; i < N; i++) {
        bool found = false;
        for (int64_t w = 1; w <= W && !found; w++)
            for (int64_t h = 1; h <= H && !found; h++)
                for (int64_t x0 = 0; x0 + w <= W && !found; x0++)
                    for (int64_t y0 = 0; y0 + h <= H && !found; y0++) {
                        found = true;
                        for (int64_t k = 0; k < W * H && found; k++) {
                            const double x = (double)x0 + ((double)(k % W) + 0.5) * (double)w / W;
                            const double y = (double)y0 + ((double)(k / W) + 0.5) * (double)h / H;
                            found = fabs((double)pixel(t.images_out.data, &t, i, 0, k / W, k % W) -
                                         read_bilinear(&t, i, x, y)) < 1e-4;
                        }
                    }
        assert_true(found);
    }
    trial_close(&t);
}

/* ---- colours --------------------------------------------------------------------------------- */

static void rgb_to_hsv(const double rgb[3], double hsv[3])
{
    const double max = fmax(rgb[0], fmax(rgb[1], rgb[2]));
    const double c = max - fmin(rgb[0], fmin(rgb[1], rgb[2]));
    double h = 0;
    if (c > 0 && max == rgb[0])
        h = fmod((rgb[1] - rgb[2]) / c + 6, 6);
    else if (c > 0 && max == rgb[1])
        h = (rgb[2] - rgb[0]) / c + 2;
    else if (c > 0)
        h = (rgb[0] - rgb[1]) / c + 4;
    hsv[0] = h / 6;
    hsv[1] = max > 0 ? c / max : 0;
    hsv[2] = max;
}

static void sample_rgb(const real *images, const struct trial *t, int64_t i, int64_t k,
                       double rgb[3])
{
    for (int c = 0; c < 3; c++)
        rgb[c] = (double)images[(i * 3 + c) * t->b.h * t->b.w + k];
}

static void test_hsv_turns_and_scales(void **state)
{
    enum { N = 8, SIZE = 7 };
    struct trial t;
    (void)state;
    trial_open(&t, N, 3, SIZE, SIZE);
    trial_add(&t, &(struct row_spec){"hsv", {{"hsv_h", 0.3}, {"hsv_s", 0.7}, {"hsv_v", 0.4}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        const struct random_key key = {42, 3, 1u << 31};
        double u[4];
        for (int k = 0; k < 4; k++)
            u[k] = 2 * random_uniform(&key, ((uint64_t)i << 22) + (uint64_t)k) - 1;
        for (int64_t k = 0; k < SIZE * SIZE; k++) {
            double rgb[3], before[3], after[3];
            sample_rgb(t.images, &t, i, k, rgb);
            rgb_to_hsv(rgb, before);
            sample_rgb(t.images_out.data, &t, i, k, rgb);
            rgb_to_hsv(rgb, after);
            const double turn = after[0] - before[0] - 0.3 * u[1];
            assert_true(after[1] < 0.01 || fabs(turn - nearbyint(turn)) < 2e-3);
            assert_float_equal(after[1], fmin(1, before[1] * (1 + 0.7 * u[2])), 2e-4);
            assert_float_equal(after[2], fmin(1, before[2] * (1 + 0.4 * u[3])), 1e-5);
        }
    }
    trial_close(&t);
}

static void test_grayscale_and_bgr(void **state)
{
    struct trial t;
    (void)state;
    trial_open(&t, 1, 3, 2, 2);
    trial_add(&t, &(struct row_spec){"bgr", {{"p", 1}}});
    trial_add(&t, &(struct row_spec){"grayscale", {{"p", 1}}});
    trial_apply(&t, 1);
    for (int64_t k = 0; k < 4; k++) {
        const double gray = 0.2989 * (double)t.images[8 + k] + 0.587 * (double)t.images[4 + k] +
                            0.114 * (double)t.images[k];
        for (int c = 0; c < 3; c++)
            assert_float_equal((double)t.images_out.data[4 * c + k], gray, 1e-6);
    }
    trial_close(&t);
}

static void moments(const real *x, const real *from, int64_t n, double *mean_r, double *std_r)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)from[i];
        sum += d;
        squares += d * d;
    }
    *mean_r = sum / (double)n;
    *std_r = sqrt(squares / (double)n - *mean_r * *mean_r);
}

static void test_noise_has_its_moments(void **state)
{
    enum { N = 8, COUNT = N * 3 * 32 * 32 };
    double mean, std;
    struct trial t;
    (void)state;
    trial_open(&t, N, 3, 32, 32);
    trial_add(&t, &(struct row_spec){"gaussian_noise", {{"mean", 0.5}, {"sigma", 2}}});
    trial_apply(&t, 2);
    moments(t.images_out.data, t.images, COUNT, &mean, &std);
    assert_float_equal(mean, 0.5, 5 * 2 / sqrt(COUNT));
    assert_float_equal(std, 2, 5 * 2 / sqrt(2.0 * COUNT));
    trial_close(&t);
}

/* The blur of one bright pixel is the window; a constant image stays, borders included. */
static void test_blur_window(void **state)
{
    enum { SIZE = 11 };
    struct trial t;
    double sum = 0;
    (void)state;
    trial_open(&t, 2, 1, SIZE, SIZE);
    for (int64_t k = 0; k < 2 * SIZE * SIZE; k++)
        t.images[k] = k < SIZE * SIZE ? 0 : (real)0.75;
    t.images[5 * SIZE + 5] = 1;
    trial_add(&t, &(struct row_spec){"gaussian_blur", {{"p", 1}, {"sigma", 1.5}}});
    trial_apply(&t, 1);
    for (int64_t k = 0; k < SIZE * SIZE; k++) {
        sum += (double)t.images_out.data[k];
        assert_float_equal((double)t.images_out.data[SIZE * SIZE + k], 0.75, 1e-6);
    }
    assert_float_equal(sum, 1, 1e-5);
    assert_float_equal((double)(t.images_out.data[5 * SIZE + 7] / t.images_out.data[5 * SIZE + 5]),
                       exp(-4 / (2 * 2.25)), 1e-4);
    trial_close(&t);
}

static void test_erasing_blanks_a_rectangle_of_the_range(void **state)
{
    enum { N = 200, SIZE = 40 };
    struct trial t;
    int erased = 0;
    (void)state;
    trial_open(&t, N, 1, SIZE, SIZE);
    trial_add(&t, &(struct row_spec){"erasing", {{"p", 0.5}, {"value", 9}}});
    trial_apply(&t, 2);
    for (int64_t i = 0; i < N; i++) {
        int64_t area = 0, left = SIZE, right = -1, top = SIZE, bottom = -1;
        for (int64_t k = 0; k < SIZE * SIZE; k++) {
            const int64_t x = k % SIZE, y = k / SIZE;
            if (pixel(t.images_out.data, &t, i, 0, y, x) != 9)
                continue;
            area++;
            left = x < left ? x : left;
            right = x > right ? x : right;
            top = y < top ? y : top;
            bottom = y > bottom ? y : bottom;
        }
        erased += area > 0;
        assert_int_equal(area, area ? (right - left + 1) * (bottom - top + 1) : 0);
        assert_true(!area || (area >= 25 && area <= 560)); /* 0.02 to 0.33 of 1600, rounded */
    }
    assert_in_range(erased, 65, 135);
    trial_close(&t);
}

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

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    struct error e;
    struct trial t;
    const struct attr bad = {.name = "p", .kind = ATTR_IS_REAL, .d = 1.5};
    const double backwards[] = {0.5, 0.1};
    const struct attr range = {
        .name = "scale", .kind = ATTR_IS_LIST, .list = backwards, .n_list = 2};
    (void)state;
    trial_open(&t, 2, 1, 4, 4);
    assert_int_equal(augment_add(t.augment, "hflop", NULL, 0, &e), -1);
    assert_int_equal(e.code, ERROR_UNKNOWN_OPERATOR);
    assert_non_null(strstr(e.text, "did you mean 'hflip'?"));
    assert_int_equal(augment_add(t.augment, "hflip", &bad, 1, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    assert_int_equal(augment_add(t.augment, "random_resized_crop", &range, 1, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    trial_add(&t, &(struct row_spec){"brightness", {{0}}});
    assert_int_equal(augment_check(t.augment, 1, 4, 4, false, &e), 0);
    t.images[21] = 7;
    assert_int_equal(trial_run(&t, 2, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_VALUE);
    assert_non_null(strstr(e.text, "image 1 has the value 7"));
    trial_add(&t, &(struct row_spec){"hsv", {{0}}});
    assert_int_equal(augment_check(t.augment, 1, 4, 4, false, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_SHAPE);
    trial_add(&t, &(struct row_spec){"mosaic", {{0}}});
    assert_int_equal(augment_check(t.augment, 3, 4, 4, false, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_GRAPH);
    while (!augment_add(t.augment, "hflip", NULL, 0, &e))
        ;
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    trial_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_complete_and_covered),
        cmocka_unit_test(test_each_row_replays),
        cmocka_unit_test(test_all_rows_together_replay),
        cmocka_unit_test(test_samples_do_not_depend_on_the_batch_size),
        cmocka_unit_test(test_keys_are_not_those_of_nodes),
        cmocka_unit_test(test_flips_mirror),
        cmocka_unit_test(test_random_crop_shifts_by_all_amounts),
        cmocka_unit_test(test_affine_is_ultralytics_matrix),
        cmocka_unit_test(test_resized_crop_reads_a_window),
        cmocka_unit_test(test_hsv_turns_and_scales),
        cmocka_unit_test(test_grayscale_and_bgr),
        cmocka_unit_test(test_noise_has_its_moments),
        cmocka_unit_test(test_blur_window),
        cmocka_unit_test(test_erasing_blanks_a_rectangle_of_the_range),
        cmocka_unit_test(test_mixup_mixes_images_and_targets),
        cmocka_unit_test(test_mixup_draws_from_beta),
        cmocka_unit_test(test_cutmix_target_is_the_area),
        cmocka_unit_test(test_cutmix_keeps_boxes_and_adds_those_in_the_window),
        cmocka_unit_test(test_mosaic_has_four_quarters),
        cmocka_unit_test(test_boxes_follow_masks),
        cmocka_unit_test(test_mosaic_boxes_follow),
        cmocka_unit_test(test_refusals),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
