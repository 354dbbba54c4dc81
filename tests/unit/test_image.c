/* test_image.c: images of every kind against what Pillow made of them
 * (tests/golden/make_images.py), resizing and fitting, bombs, files cut anywhere, drawing, base64.
 */
#include "../../server/base64.h"
#include "../../server/image_codec.h"
#include "../../server/preprocess.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct image_limits plenty = {64 << 20, NULL};

static unsigned char *file_read(const char *name, size_t *size_r)
{
    char path[200];
    snprintf(path, sizeof path, "tests/data/images/%s", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    unsigned char *bytes = malloc(1 << 20);
    *size_r = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

/* A PPM or PGM file. */
struct golden {
    unsigned char *bytes;
    const unsigned char *pixels;
    int width, height, channels;
};

static struct golden golden_read(const char *name)
{
    struct golden g;
    size_t size;
    char kind;
    int used = 0;
    g.bytes = file_read(name, &size);
    assert_int_equal(sscanf((char *)g.bytes, "P%c %d %d 255%n", &kind, &g.width, &g.height, &used),
                     3);
    g.channels = kind == '6' ? 3 : 1;
    g.pixels = g.bytes + used + 1;
    assert_int_equal(size, used + 1 + g.width * g.height * g.channels);
    return g;
}

static struct image decode_file(const char *name)
{
    size_t size;
    struct error e;
    struct image im;
    unsigned char *bytes = file_read(name, &size);
    if (image_decode(bytes, size, &plenty, &im, &e))
        fail_msg("%s: %s", name, e.text);
    free(bytes);
    return im;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static const char *const files[] = {
    "rgb.jpg",          "rgb444.jpg",       "progressive.jpg",  "gray.jpg",
    "cmyk.jpg",         "ycck.jpg",         "orientation1.jpg", "orientation2.jpg",
    "orientation3.jpg", "orientation4.jpg", "orientation5.jpg", "orientation6.jpg",
    "orientation7.jpg", "orientation8.jpg", "rgb.png",          "gray.png",
    "rgba.png",         "gray_alpha.png",   "palette.png",      "palette_alpha.png",
    "bits1.png",        "bits2.png",        "bits4.png",        "interlaced.png",
    "rgb16.png",        "gray16.png",       "keyed.png",        "orientation6.png",
    "photo.png",
};
enum { FILES = sizeof files / sizeof *files };

/* Of PNG every bit; of JPEG too, but for the last bit where libraries round in other ways. */
static void test_formats(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++) {
        char name[64];
        struct error e;
        struct image im = decode_file(files[i]);
        snprintf(name, sizeof name, "%s.ppm", files[i]);
        struct golden g = golden_read(name);
        int allowed = strstr(files[i], ".jpg") ? 1 : 0, worst = 0;
        assert_int_equal(image_to_rgb(&im, &e), 0);
        assert_int_equal(im.width, g.width);
        assert_int_equal(im.height, g.height);
        for (int y = 0; y < g.height; y++)
            for (int x = 0; x < g.width; x++)
                for (int c = 0; c < 3; c++) {
                    int d = abs(image_at(&im, x, y)[c] - g.pixels[(y * g.width + x) * 3 + c]);
                    worst = d > worst ? d : worst;
                }
        if (worst > allowed)
            fail_msg("%s differs by %d", files[i], worst);
        image_free(&im);
        free(g.bytes);
    }
}

/* Cut after any byte, a file is refused and nothing leaks. */
static void test_truncated(void **state)
{
    static const char *const cut[] = {"rgb.jpg",   "progressive.jpg", "gray.jpg",
                                      "cmyk.jpg",  "rgb.png",         "interlaced.png",
                                      "bits1.png", "palette.png",     "orientation6.jpg"};
    (void)state;
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        size_t size;
        unsigned char *bytes = file_read(cut[i], &size);
        for (size_t n = 0; n < size; n++) {
            struct error e = {0};
            struct image im;
            unsigned char *part = malloc(n ? n : 1); /* so that reading past it is seen */
            memcpy(part, bytes, n);
            if (!image_decode(part, n, &plenty, &im, &e))
                fail_msg("%s was decoded from %zu of its %zu bytes", cut[i], n, size);
            assert_int_equal(e.code, ERROR_BAD_IMAGE);
            assert_true(strlen(e.text) > 10);
            free(part);
        }
        free(bytes);
    }
}

/* A changed byte may give another image or an error, never worse. */
static void test_damaged(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++) {
        size_t size;
        unsigned char *bytes = file_read(files[i], &size);
        unsigned random = 12345;
        for (int k = 0; k < 300; k++) {
            struct error e = {0};
            struct image im;
            random = random * 1664525u + 1013904223u;
            size_t at = (random >> 8) % size;
            unsigned char was = bytes[at];
            bytes[at] ^= (unsigned char)(1 + random % 255);
            if (!image_decode(bytes, size, &plenty, &im, &e))
                image_free(&im);
            else
                assert_true(e.code == ERROR_BAD_IMAGE || e.code == ERROR_TOO_LARGE);
            bytes[at] = was;
        }
        free(bytes);
    }
}

static void expect_refused(const void *bytes, size_t size, const struct image_limits *l,
                           enum error_code code, const char *part)
{
    struct error e = {0};
    struct image im;
    assert_int_equal(image_decode(bytes, size, l, &im, &e), -1);
    if (e.code != code || !strstr(e.text, part))
        fail_msg("expected '%s', got code %d: %s", part, e.code, e.text);
    assert_null(im.block);
}

static void test_bombs(void **state)
{
    struct budget none = {.limit = 1000};
    struct image_limits counted = {64 << 20, &none}, small = {100, NULL};
    size_t size;
    (void)state;
    unsigned char *bytes = file_read("bomb.png", &size);
    expect_refused(bytes, size, &plenty, ERROR_TOO_LARGE, "100000 x 100000");
    free(bytes);
    bytes = file_read("bomb.jpg", &size);
    expect_refused(bytes, size, &plenty, ERROR_TOO_LARGE, "65500 x 65500");
    free(bytes);
    bytes = file_read("rgb.jpg", &size);
    expect_refused(bytes, size, &small, ERROR_TOO_LARGE, "--max-image-pixels");
    expect_refused(bytes, size, &counted, ERROR_OUT_OF_MEMORY, "--max-memory");
    free(bytes);
    bytes = file_read("progressive.jpg", &size);
    none.limit = 23 * 17 * 3; /* enough for the pixels, not for the library's own */
    expect_refused(bytes, size, &counted, ERROR_OUT_OF_MEMORY, "progressive");
    free(bytes);
    assert_int_equal(none.used, 0);
    /* A chunk that says it has 2 GB is refused before there is room for it. */
    bytes = file_read("gray.png", &size);
    memcpy(bytes + 33, "\x79\0\0\0eXIf", 8);
    expect_refused(bytes, 45, &plenty, ERROR_BAD_IMAGE,
                   "a chunk at byte 33 says it has 2030043136 bytes, 4 are left");
    free(bytes);
    expect_refused("GIF89a", 6, &plenty, ERROR_BAD_IMAGE, "JPEG or PNG");
    expect_refused("", 0, &plenty, ERROR_BAD_IMAGE, "empty");
}

/* Orientations that cannot be read are 1; every block is cut everywhere. */
static void test_exif(void **state)
{
    static const unsigned char block[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 2, 1,    0, 0,
                                          3,   0,   0, 0,  1, 0, 9, 0, 0, 1, 0x12, 0, 3,
                                          0,   0,   0, 1,  0, 6, 0, 0, 0, 0, 0,    0};
    (void)state;
    assert_int_equal(image_exif_orientation(block, sizeof block), 6);
    for (size_t n = 0; n < 32; n++) {
        unsigned char *part = malloc(n ? n : 1);
        memcpy(part, block, n);
        assert_int_equal(image_exif_orientation(part, n), 1);
        free(part);
    }
    unsigned char other[sizeof block];
    memcpy(other, block, sizeof block);
    other[31] = 9;
    assert_int_equal(image_exif_orientation(other, sizeof other), 1);
    other[4] = 0xFF; /* the list is far away */
    assert_int_equal(image_exif_orientation(other, sizeof other), 1);
}

/* ---- fitting --------------------------------------------------------------------------------- */

/* Planes of photo.png against the pixels of a golden file. */
static struct image_fit expect_fit(const char *name, struct image_fitting f, int allowed)
{
    struct error e;
    struct image_fit fit;
    struct image im = decode_file("photo.png");
    struct golden g = golden_read(name);
    f.width = g.width;
    f.height = g.height;
    size_t plane = (size_t)g.width * (size_t)g.height;
    float *planes = calloc(plane * (size_t)g.channels, sizeof *planes);
    if (image_fit_planes(&im, &f, planes, &fit, &e))
        fail_msg("%s: %s", name, e.text);
    for (size_t i = 0; i < plane; i++)
        for (int c = 0; c < g.channels; c++) {
            int at = f.color == IMAGE_BGR ? 2 - c : c;
            int have = (int)lrintf(planes[(size_t)at * plane + i] * 255);
            int want = g.pixels[i * (size_t)g.channels + (size_t)c];
            if (abs(have - want) > allowed)
                fail_msg("%s: pixel %zu is %d, Pillow has %d", name, i, have, want);
        }
    free(planes);
    free(g.bytes);
    image_free(&im);
    return fit;
}

static void test_resize(void **state)
{
    static const char *const names[] = {"20x15", "7x9", "100x80", "61x20", "24x3", "1x1", "13x47"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "fit_stretch_%s.ppm", names[i]);
        expect_fit(name, (struct image_fitting){.mode = IMAGE_STRETCH}, 0);
    }
    expect_fit("fit_stretch_20x15.ppm", (struct image_fitting){.color = IMAGE_BGR}, 0);
    expect_fit("fit_gray_20x15.pgm", (struct image_fitting){.color = IMAGE_GRAY}, 0);
}

static void test_fit(void **state)
{
    (void)state;
    struct image_fit f =
        expect_fit("fit_stretch_20x15.ppm", (struct image_fitting){.crop_pct = 1}, 0);
    assert_int_equal(f.width, 61);
    assert_int_equal(f.height, 47);
    assert_true(f.sx == 20.0 / 61 && f.sy == 15.0 / 47 && f.dx == 0 && f.dy == 0);
    f = expect_fit("fit_crop_28x28.ppm",
                   (struct image_fitting){.mode = IMAGE_CROP, .crop_pct = 0.875}, 0);
    assert_true(f.sx == 41.0 / 61 && f.sy == 32.0 / 47 && f.dx == -6 && f.dy == -2);
    f = expect_fit("fit_letterbox_32x32.ppm",
                   (struct image_fitting){.mode = IMAGE_LETTERBOX, .crop_pct = 1, .fill = 114}, 0);
    assert_true(f.sx == 32.0 / 61 && f.sy == 25.0 / 47 && f.dx == 0 && f.dy == 3);
}

/* Every shape of image into every shape of input, without a byte out of place. */
static void test_fit_extremes(void **state)
{
    static const int sides[] = {1, 2, 3, 31, 4000};
    (void)state;
    for (int i = 0; i < 5 * 5 * 3; i++) {
        struct error e;
        struct image im;
        struct image_fit fit;
        struct image_fitting f = {.width = 9,
                                  .height = 5,
                                  .mode = (enum image_fit_mode)(i % 3),
                                  .crop_pct = 0.25,
                                  .fill = 7};
        float planes[3 * 9 * 5];
        assert_int_equal(image_create(&im, sides[i / 3 % 5], sides[i / 15], 3, &plenty, &e), 0);
        memset(im.block, 255, im.size);
        assert_int_equal(image_fit_planes(&im, &f, planes, &fit, &e), 0);
        bool bars = false;
        for (int k = 0; k < 3 * 9 * 5; k++) {
            assert_true(planes[k] == 1 || (planes[k] == 7 / 255.0f && f.mode == IMAGE_LETTERBOX));
            bars |= planes[k] != 1;
        }
        assert_true(isfinite(fit.sx) && fit.sx > 0 && isfinite(fit.dy));
        assert_true(bars || f.mode != IMAGE_LETTERBOX || sides[i / 15] > 1);
        image_free(&im);
    }
}

/* ---- batches --------------------------------------------------------------------------------- */

static bool gone_after(void *asked)
{
    return ++*(int *)asked > 1;
}

static void test_batch(void **state)
{
    struct error e;
    struct pool *pool = pool_create(2, &e);
    struct image_work w = {.pool = pool, .limits = plenty};
    int asked = 0;
    size_t size[3];
    unsigned char *bytes[3] = {file_read("rgb.png", &size[0]), file_read("gray.jpg", &size[1]),
                               file_read("orientation6.jpg", &size[2])};
    struct image_source s[3] = {
        {bytes[0], size[0], false}, {bytes[1], size[1], false}, {bytes[2], size[2], false}};
    struct preprocess p = {.channels = 3,
                           .fitting = {.width = 8, .height = 6, .crop_pct = 1},
                           .gain = 255 * (1 / 255.0),
                           .mean = {0.5, 0.25, 0},
                           .std = {1, 2, 4}};
    real out[3 * 3 * 48], one[3 * 48];
    struct image_fit fits[3], fit;
    (void)state;
    assert_int_equal(preprocess_decode(&p, &w, s, 3, out, fits, &e), 0);
    assert_int_equal(preprocess_decode(&p, &w, s + 1, 1, one, &fit, &e), 0);
    assert_memory_equal(one, out + 3 * 48, sizeof one);
    assert_int_equal(fits[2].width, 17);
    assert_int_equal(fits[2].height, 23);
    preprocess_normalise(&p, pool, out, 3);
    for (int c = 0; c < 3; c++)
        assert_true(out[(3 + c) * 48 + 5] == (one[c * 48 + 5] - (real)p.mean[c]) / (real)p.std[c]);
    s[1].size /= 2;
    s[2].size = 5;
    assert_int_equal(preprocess_decode(&p, &w, s, 3, out, fits, &e), -1);
    if (!strstr(e.text, "image 1"))
        fail_msg("%s", e.text);
    w.gone = gone_after; /* before the one that cannot be used is met, or after */
    w.gone_arg = &asked;
    assert_int_equal(preprocess_decode(&p, &w, s, 3, out, fits, &e), -1);
    assert_int_equal(e.code, ERROR_CLIENT_GONE);
    for (int i = 0; i < 3; i++)
        free(bytes[i]);
    pool_destroy(&pool);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void test_draw(void **state)
{
    struct error e;
    struct image im, back;
    unsigned char *png;
    size_t size;
    const struct image_box boxes[] = {
        {10, 20, 60, 50, "cat 93%", 0},
        {-50, -50, 1e30, 500, "\xC3\xA4\xE2\x82\xAC outside", 1},
        {NAN, 5, INFINITY, -INFINITY, NULL, -3},
    };
    (void)state;
    assert_int_equal(image_create(&im, 90, 70, 3, &plenty, &e), 0);
    image_draw_boxes(&im, boxes, 3);
    static const unsigned char red[] = {230, 25, 75};
    assert_memory_equal(image_at(&im, 10, 35), red, 3);
    assert_memory_equal(image_at(&im, 59, 35), red, 3);
    assert_memory_equal(image_at(&im, 30, 49), red, 3);
    static const unsigned char black[] = {0, 0, 0};
    assert_memory_equal(image_at(&im, 30, 35), black, 3);
    assert_int_equal(image_write_png(&im, &png, &size, &e), 0);
    assert_int_equal(image_decode(png, size, &plenty, &back, &e), 0);
    assert_int_equal(back.size, im.size);
    assert_memory_equal(back.block, im.block, im.size);
    free(png);
    image_free(&back);
    image_free(&im);
}

/* An image that lies turned in memory is written as it is seen; and the smallest can be drawn on.
 */
static void test_draw_turned(void **state)
{
    struct error e;
    struct image im = decode_file("orientation6.jpg"), back, dot;
    unsigned char *png;
    size_t size;
    (void)state;
    assert_int_equal(image_write_png(&im, &png, &size, &e), 0);
    assert_int_equal(image_decode(png, size, &plenty, &back, &e), 0);
    for (int y = 0; y < im.height; y++)
        for (int x = 0; x < im.width; x++)
            assert_memory_equal(image_at(&back, x, y), image_at(&im, x, y), 3);
    free(png);
    image_free(&back);
    image_free(&im);
    assert_int_equal(image_create(&dot, 1, 1, 3, &plenty, &e), 0);
    image_draw_text(&dot, 5, 5, "a long text", 2);
    image_free(&dot);
}

/* ---- base64 ---------------------------------------------------------------------------------- */

static void test_base64(void **state)
{
    static const struct {
        const char *text, *bytes;
        int size; /* -1: refused at `bad` */
        size_t bad;
    } rows[] = {
        {"", "", 0, 0},
        {"Zg==", "f", 1, 0},
        {"Zg", "f", 1, 0},
        {"Zm8=", "fo", 2, 0},
        {"Zm9v", "foo", 3, 0},
        {"Zm9v\r\nYmFy", "foobar", 6, 0},
        {"-_+/", "\xFB\xFF\xBF", 3, 0},
        {"Zg== ", "f", 1, 0},
        {"Z", NULL, -1, 1},
        {"Zm9vY", NULL, -1, 5},
        {"Zm*v", NULL, -1, 2},
        {"Zg=a", NULL, -1, 3},
        {"Zg===", NULL, -1, 4},
        {"Zm9v=", NULL, -1, 5},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = strlen(rows[i].text), size, bad;
        unsigned char *out = malloc(base64_room(n));
        bool good = base64_decode(rows[i].text, n, out, &size, &bad);
        if (good != (rows[i].size >= 0))
            fail_msg("'%s' was %s", rows[i].text, good ? "decoded" : "refused");
        if (good) {
            assert_int_equal(size, rows[i].size);
            assert_memory_equal(out, rows[i].bytes, size);
        } else {
            assert_int_equal(bad, rows[i].bad);
        }
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),     cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),     cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_exif),        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_fit),         cmocka_unit_test(test_fit_extremes),
        cmocka_unit_test(test_batch),       cmocka_unit_test(test_draw),
        cmocka_unit_test(test_draw_turned), cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
