/* image_codec.h: what the decoders, image.c and image_exif.c share. */
#ifndef BACKPROPD_IMAGE_CODEC_H
#define BACKPROPD_IMAGE_CODEC_H

#include "image.h"

/* Each decodes a file of its format; *im_r is all zero before, and the caller frees what is in it
 * when they fail. */
int image_jpeg_decode(const void *bytes, size_t size, const struct image_limits *l,
                      struct image *im_r, struct error *e);
int image_png_decode(const void *bytes, size_t size, const struct image_limits *l,
                     struct image *im_r, struct error *e);

/* Orientation 1 to 8 of a TIFF block, as it follows "Exif\0\0" in a JPEG or lies in a PNG's eXIf;
 * 1 when it says nothing that can be read. */
int image_exif_orientation(const unsigned char *tiff, size_t size);
/* Turns and mirrors an image that is stored with this orientation. No pixel moves. */
void image_orient(struct image *im, int orientation);

#endif
