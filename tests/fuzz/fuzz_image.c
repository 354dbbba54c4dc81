/* fuzz_image.c: JPEG and PNG files, and the EXIF block in them. What must hold: limits are kept and
 * all memory is given back; an image written as PNG decodes to the same pixels. */
#include "fuzz.h"

#include "../../server/image_codec.h"

enum { MAX_PIXELS = 1 << 14, MAX_BYTES = 4 << 20 };

static bool same_pixels(const struct image *a, const struct image *b)
{
    for (int y = 0; y < a->height; y++)
        for (int x = 0; x < a->width; x++)
            if (memcmp(image_at(a, x, y), image_at(b, x, y), (size_t)a->channels))
                return false;
    return true;
}

static void check_written(const struct image *im, const struct image_limits *l)
{
    struct error e = {0};
    struct image again = {0};
    unsigned char *png;
    size_t size;
    if (image_write_png(im, &png, &size, &e))
        return;
    FUZZ_CHECK(!image_decode(png, size, l, &again, &e), "%s", e.text);
    FUZZ_CHECK(again.width == im->width && again.height == im->height &&
                   again.channels == im->channels && same_pixels(im, &again),
               "%d x %d x %d", im->width, im->height, im->channels);
    image_free(&again);
    free(png);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct budget budget = {.limit = MAX_BYTES};
    struct image_limits limits = {MAX_PIXELS, &budget};
    struct error e = {0};
    struct image im = {0};
    char *bytes = fuzz_copy(data, size, false);
    int orientation = image_exif_orientation((const unsigned char *)bytes, size);
    FUZZ_CHECK(orientation >= 1 && orientation <= 8, "orientation %d", orientation);
    if (!image_decode(bytes, size, &limits, &im, &e)) {
        FUZZ_CHECK((int64_t)im.width * im.height <= MAX_PIXELS, "%d x %d", im.width, im.height);
        check_written(&im, &limits);
        image_free(&im);
    } else {
        fuzz_check_error(&e);
    }
    FUZZ_CHECK(!budget_used(&budget), "%zu bytes are not given back", budget_used(&budget));
    free(bytes);
    return 0;
}
