/* image_jpeg.c: JPEG files through libjpeg-turbo.
 *
 * The library reports errors by calling error_exit, which must not return: it jumps back to
 * decode's setjmp, and everything that must be freed lies in one struct. Damage that the library
 * would only warn of, and paper over with grey, is an error here. A progressive file costs a pass
 * over the whole image for each of its scans, so their number is limited. */
#include "image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum { MAX_SCANS = 100, EXIF_MARKER = JPEG_APP0 + 1 };

struct jpeg {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    struct image *im;
    const struct image_limits *limits;
    size_t coefficients; /* bytes taken from the budget for the library's own image */
    JSAMPARRAY row;      /* one row of CMYK */
    struct error *e;
};

/* ---- errors ---------------------------------------------------------------------------------- */

static void fail_message(j_common_ptr c)
{
    struct jpeg *j = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    error_set(j->e, c->err->msg_code == JERR_OUT_OF_MEMORY ? ERROR_OUT_OF_MEMORY : ERROR_BAD_IMAGE,
              "the JPEG file cannot be decoded: %s", text);
    longjmp(j->failed, 1);
}

static void fail_ours(struct jpeg *j)
{
    longjmp(j->failed, 1);
}

/* Level -1 is a warning. Odd headers and bytes between segments do not change the image; all else
 * does. */
static void on_message(j_common_ptr c, int level)
{
    static const int harmless[] = {JWRN_EXTRANEOUS_DATA, JWRN_JFIF_MAJOR, JWRN_ADOBE_XFORM};
    struct jpeg *j = c->client_data;
    if (level >= 0)
        return;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (c->err->msg_code == harmless[i])
            return;
    if (c->err->msg_code == JWRN_JPEG_EOF) {
        error_set(j->e, ERROR_BAD_IMAGE, "the JPEG file ends before the image does");
        fail_ours(j);
    }
    fail_message(c);
}

static void on_progress(j_common_ptr c)
{
    struct jpeg *j = c->client_data;
    if (j->d.input_scan_number <= MAX_SCANS)
        return;
    error_set(j->e, ERROR_BAD_IMAGE, "the JPEG file has more than %d scans", MAX_SCANS);
    fail_ours(j);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static int orientation(struct jpeg *j)
{
    static const char name[6] = "Exif\0";
    for (jpeg_saved_marker_ptr m = j->d.marker_list; m; m = m->next)
        if (m->marker == EXIF_MARKER && m->data_length > sizeof name &&
            !memcmp(m->data, name, sizeof name))
            return image_exif_orientation(m->data + sizeof name, m->data_length - sizeof name);
    return 1;
}

/* CMYK is stored inverted, as Adobe does. c, m, y, k are what is left of the inks: R = c k. */
static void rgb_of_cmyk(const unsigned char *from, unsigned char *to, int n)
{
    for (; n > 0; n--, from += 4, to += 3)
        for (int c = 0; c < 3; c++) {
            int ink = (255 - from[c]) * from[3] + 128; /* times k / 255, rounded */
            to[c] = (unsigned char)(from[3] - ((ink + (ink >> 8)) >> 8));
        }
}

/* What a file of several scans makes the library hold: 2 bytes a coefficient. */
static void reserve_coefficients(struct jpeg *j)
{
    size_t bytes = 2 * (size_t)j->d.image_width * j->d.image_height * (size_t)j->d.num_components;
    if (!j->limits->budget || !jpeg_has_multiple_scans(&j->d))
        return;
    if (budget_take(j->limits->budget, bytes, "decoding a progressive JPEG", j->e))
        fail_ours(j);
    j->coefficients = bytes;
}

static void choose_colors(struct jpeg *j)
{
    J_COLOR_SPACE stored = j->d.jpeg_color_space;
    j->d.out_color_space = stored == JCS_GRAYSCALE                    ? JCS_GRAYSCALE
                           : stored == JCS_CMYK || stored == JCS_YCCK ? JCS_CMYK
                                                                      : JCS_RGB;
}

static void read_rows(struct jpeg *j)
{
    bool cmyk = j->d.out_color_space == JCS_CMYK;
    if (cmyk)
        j->row = j->d.mem->alloc_sarray((j_common_ptr)&j->d, JPOOL_IMAGE, 4 * j->d.output_width, 1);
    while (j->d.output_scanline < j->d.output_height) {
        JSAMPROW to = image_at(j->im, 0, (int)j->d.output_scanline);
        jpeg_read_scanlines(&j->d, cmyk ? j->row : &to, 1);
        if (cmyk)
            rgb_of_cmyk(j->row[0], to, j->im->width);
    }
}

static void decode(struct jpeg *j, const void *bytes, size_t size)
{
    jpeg_mem_src(&j->d, bytes, size);
    jpeg_save_markers(&j->d, EXIF_MARKER, 0xFFFF);
    jpeg_read_header(&j->d, TRUE);
    choose_colors(j);
    if (image_create(j->im, j->d.image_width, j->d.image_height,
                     j->d.out_color_space == JCS_GRAYSCALE ? 1 : 3, j->limits, j->e))
        fail_ours(j);
    int turned = orientation(j); /* finishing drops the markers */
    reserve_coefficients(j);
    jpeg_start_decompress(&j->d);
    read_rows(j);
    jpeg_finish_decompress(&j->d);
    image_orient(j->im, turned);
}

int image_jpeg_decode(const void *bytes, size_t size, const struct image_limits *l,
                      struct image *im, struct error *e)
{
    struct jpeg *j = calloc(1, sizeof *j);
    if (!j)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a JPEG decoder");
    j->im = im;
    j->limits = l;
    j->e = e;
    j->d.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = fail_message;
    j->errors.emit_message = on_message;
    j->d.client_data = j;
    int failed = setjmp(j->failed);
    if (!failed) {
        jpeg_create_decompress(&j->d);
        j->progress.progress_monitor = on_progress;
        j->d.progress = &j->progress;
        decode(j, bytes, size);
    }
    jpeg_destroy_decompress(&j->d);
    if (j->coefficients)
        budget_give(l->budget, j->coefficients);
    free(j);
    return failed ? -1 : 0;
}
