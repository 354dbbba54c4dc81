/* image_png.c: PNG files through libpng, in and out. The library reports errors by longjmp to the
 * setjmp of the function that called it; everything that must be freed lies in one struct. */
#include "image_codec.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

struct png {
    png_structp png;
    png_infop info;
    jmp_buf failed;
    const unsigned char *bytes; /* of a file that is read; NULL: one is written */
    size_t size, used;
    unsigned char *out;
    size_t out_size, out_cap;
    struct image *im;
    const struct image_limits *limits;
    bool starved; /* an allocation has failed: what the library then says of the file is not true */
    struct error *e;
};

static png_voidp on_malloc(png_structp png, png_alloc_size_t n)
{
    struct png *p = png_get_mem_ptr(png);
    void *memory = malloc(n);
    p->starved |= !memory;
    return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

static void on_error(png_structp png, png_const_charp message)
{
    struct png *p = png_get_error_ptr(png);
    error_set(p->e, p->bytes && !p->starved ? ERROR_BAD_IMAGE : ERROR_OUT_OF_MEMORY,
              "the PNG file cannot be %s: %s", p->bytes ? "decoded" : "written", message);
    longjmp(p->failed, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void on_read(png_structp png, png_bytep to, size_t n)
{
    struct png *p = png_get_io_ptr(png);
    if (n > p->size - p->used) {
        error_set(p->e, ERROR_BAD_IMAGE, "the PNG file ends before the image does");
        longjmp(p->failed, 1);
    }
    memcpy(to, p->bytes + p->used, n);
    p->used += n;
}

/* Every kind of PNG becomes 8-bit grey or RGB: palettes are looked up, small depths are widened, of
 * 16 bits the upper 8 are kept, alpha is dropped. */
static void set_transforms(struct png *p)
{
    png_set_expand_gray_1_2_4_to_8(p->png);
    png_set_palette_to_rgb(p->png);
    png_set_strip_16(p->png);
    png_set_strip_alpha(p->png);
}

static int orientation(struct png *p)
{
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 n = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(p->png, p->info, &n, &exif) && exif)
        return image_exif_orientation(exif, n);
#endif
    return 1;
}

/* libpng makes room for what a chunk says it has before it reads it: a few bytes could ask for 2
 * GB. So no chunk may say that it has more than there is. */
static void check_chunks(struct png *p)
{
    enum { SIGNATURE = 8, HEAD = 8, CRC = 4 };
    for (size_t at = SIGNATURE, n; p->size > at && p->size - at >= HEAD; at += HEAD + n + CRC) {
        const unsigned char *head = p->bytes + at;
        size_t left = p->size - at - HEAD;
        n = png_get_uint_32(head);
        if (n > left || left - n < CRC) {
            error_set(
                p->e, ERROR_BAD_IMAGE,
                "the PNG file ends before the image does: a chunk at byte %zu says it has %zu "
                "bytes, %zu are left",
                at, n, left);
            longjmp(p->failed, 1);
        }
        if (!memcmp(head + 4, "IEND", 4))
            return;
    }
}

static void read_file(struct png *p)
{
    check_chunks(p);
    png_set_read_fn(p->png, p, on_read);
    png_set_user_limits(p->png, 0x7fffffff, 0x7fffffff); /* image_create says what is too large */
    png_read_info(p->png, p->info);
    int channels = png_get_color_type(p->png, p->info) & PNG_COLOR_MASK_COLOR ? 3 : 1;
    if (image_create(p->im, png_get_image_width(p->png, p->info),
                     png_get_image_height(p->png, p->info), channels, p->limits, p->e))
        longjmp(p->failed, 1);
    set_transforms(p);
    int passes = png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
    if (png_get_rowbytes(p->png, p->info) != (size_t)p->im->step_y)
        png_error(p->png, "rows of an unexpected size");
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < p->im->height; y++)
            png_read_row(p->png, image_at(p->im, 0, y), NULL);
    png_read_end(p->png, p->info);
    image_orient(p->im, orientation(p));
}

int image_png_decode(const void *bytes, size_t size, const struct image_limits *l, struct image *im,
                     struct error *e)
{
    struct png p = {.bytes = bytes, .size = size, .im = im, .limits = l, .e = e};
    if (setjmp(p.failed)) {
        png_destroy_read_struct(&p.png, &p.info, NULL);
        return -1;
    }
    p.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &p, on_error, on_warning, &p, on_malloc,
                                     on_free);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    if (!p.info) {
        png_destroy_read_struct(&p.png, NULL, NULL);
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a PNG decoder");
    }
    read_file(&p);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void on_write(png_structp png, png_bytep from, size_t n)
{
    struct png *p = png_get_io_ptr(png);
    if (n > p->out_cap - p->out_size) {
        size_t cap = 2 * p->out_cap + n + 4096;
        unsigned char *more = realloc(p->out, cap);
        if (!more)
            png_error(png, "out of memory");
        p->out = more;
        p->out_cap = cap;
    }
    memcpy(p->out + p->out_size, from, n);
    p->out_size += n;
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* `row` has room for a row, as the image's own pixels may lie anyhow. */
static void write_file(struct png *p, unsigned char *row)
{
    const struct image *im = p->im;
    png_set_write_fn(p->png, p, on_write, on_flush);
    png_set_IHDR(p->png, p->info, (png_uint_32)im->width, (png_uint_32)im->height, 8,
                 im->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(p->png, p->info);
    for (int y = 0; y < im->height; y++) {
        for (int x = 0; x < im->width; x++)
            memcpy(row + x * im->channels, image_at(im, x, y), (size_t)im->channels);
        png_write_row(p->png, row);
    }
    png_write_end(p->png, p->info);
}

static int write_with(struct png *p, unsigned char *row)
{
    if (setjmp(p->failed))
        return -1;
    p->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, p, on_error, on_warning);
    p->info = p->png ? png_create_info_struct(p->png) : NULL;
    if (!p->info || !row)
        return error_set(p->e, ERROR_OUT_OF_MEMORY, "out of memory for a PNG file");
    write_file(p, row);
    return 0;
}

int image_write_png(const struct image *im, unsigned char **bytes_r, size_t *size_r,
                    struct error *e)
{
    struct image seen = *im;
    struct png p = {.im = &seen, .e = e};
    unsigned char *row = malloc((size_t)im->width * (size_t)im->channels);
    int failed = write_with(&p, row);
    png_destroy_write_struct(&p.png, &p.info);
    free(row);
    if (failed) {
        free(p.out);
        return -1;
    }
    *bytes_r = p.out;
    *size_r = p.out_size;
    return 0;
}
