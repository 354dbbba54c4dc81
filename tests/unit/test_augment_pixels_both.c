/* test_augment_pixels_both.c: what augmentations make of pixels, number by number: flips, crops,
 * warps, colours, noise, blur, erasing; and the distributions of what is drawn. */
#include "augment_fixture.h"

#include <math.h>

/* ---- pixels, number by number ---------------------------------------------------------------- */

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

/* The image at a point, between the centres of its pixels; NaN outside. */
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

/* Channels are warped alike, however many there are: here channel c is the first plus c. */
static void test_any_number_of_channels(void **state)
{
    enum { SIZE = 20, PLANE = SIZE * SIZE };
    (void)state;
    for (int64_t channels = 1; channels <= 9; channels++) {
        struct trial t;
        trial_open(&t, 3, channels, SIZE, SIZE);
        for (int64_t k = 0; k < 3 * channels * PLANE; k++)
            t.images[k] = t.images[k / (channels * PLANE) * channels * PLANE + k % PLANE] +
                          (real)(k / PLANE % channels);
        trial_add(&t, &(struct row_spec){"affine", {{"degrees", 30}, {"fill", -1}}});
        trial_apply(&t, 2);
        for (int64_t k = 0; k < 3 * channels * PLANE; k++) {
            const real first =
                t.images_out.data[k / (channels * PLANE) * channels * PLANE + k % PLANE];
            const real want = first == -1 ? -1 : first + (real)(k / PLANE % channels);
            assert_float_equal((double)t.images_out.data[k], (double)want, 1e-5);
        }
        trial_close(&t);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flips_mirror),
        cmocka_unit_test(test_random_crop_shifts_by_all_amounts),
        cmocka_unit_test(test_affine_is_ultralytics_matrix),
        cmocka_unit_test(test_any_number_of_channels),
        cmocka_unit_test(test_resized_crop_reads_a_window),
        cmocka_unit_test(test_hsv_turns_and_scales),
        cmocka_unit_test(test_grayscale_and_bgr),
        cmocka_unit_test(test_noise_has_its_moments),
        cmocka_unit_test(test_blur_window),
        cmocka_unit_test(test_erasing_blanks_a_rectangle_of_the_range),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
