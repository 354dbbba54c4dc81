/* image_exif.c: the orientation of photographs.
 *
 * EXIF is a TIFF file without pixels: "II" or "MM" for the order of bytes, 42, and the place of a
 * list of entries of 12 bytes (tag, type, count, value). Tag 0x112 says how the camera was held:
 *
 *     1 upright   2 mirrored left to right   3 upside down      4 mirrored top to bottom
 *     5 transposed   6 to be turned right    7 transversed      8 to be turned left
 *
 * What cannot be read counts as upright, as everywhere. */
#include "image_codec.h"

struct tiff {
    const unsigned char *bytes;
    size_t size;
    bool big_endian;
};

static bool tiff_number(const struct tiff *t, size_t at, int n, uint32_t *value_r)
{
    uint32_t v = 0;
    if (at > t->size || t->size - at < (size_t)n)
        return false;
    for (int i = 0; i < n; i++)
        v = v << 8 | t->bytes[at + (size_t)(t->big_endian ? i : n - 1 - i)];
    *value_r = v;
    return true;
}

int image_exif_orientation(const unsigned char *bytes, size_t size)
{
    enum { TAG = 0x112, SHORT = 3, ENTRY = 12 };
    struct tiff t = {bytes, size, size > 0 && bytes[0] == 'M'};
    uint32_t magic, list, count, tag, type, value;
    if (size < 8 || bytes[0] != bytes[1] || (bytes[0] != 'I' && bytes[0] != 'M') ||
        !tiff_number(&t, 2, 2, &magic) || magic != 42 || !tiff_number(&t, 4, 4, &list) ||
        !tiff_number(&t, list, 2, &count))
        return 1;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)list + 2 + (size_t)i * ENTRY;
        if (!tiff_number(&t, at, 2, &tag) || !tiff_number(&t, at + 2, 2, &type) ||
            !tiff_number(&t, at + 8, 2, &value))
            return 1;
        if (tag == TAG)
            return type == SHORT && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

void image_orient(struct image *im, int orientation)
{
    static const struct {
        bool flip_x, flip_y; /* of what is stored, before: */
        bool swap;           /* columns are rows */
    } turns[9] = {
        [2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
        [5] = {false, false, true}, [6] = {false, true, true}, [7] = {true, true, true},
        [8] = {true, false, true},
    };
    struct image was = *im;
    if (turns[orientation].flip_x) {
        im->first += (was.width - 1) * was.step_x;
        im->step_x = -was.step_x;
    }
    if (turns[orientation].flip_y) {
        im->first += (was.height - 1) * was.step_y;
        im->step_y = -was.step_y;
    }
    if (turns[orientation].swap) {
        ptrdiff_t step = im->step_x;
        im->step_x = im->step_y;
        im->step_y = step;
        im->width = was.height;
        im->height = was.width;
    }
}
