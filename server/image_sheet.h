/* image_sheet.h: a batch of planes as one picture, for people. */
#ifndef BACKPROPD_IMAGE_SHEET_H
#define BACKPROPD_IMAGE_SHEET_H

#include "image.h"

struct image_sheet {
    int64_t n, channels, height, width;
    const float *planes; /* [n,channels,height,width]; three channels are colours, of others the
                            first is shown. Values outside of 0..1 are stretched over all images */
    int64_t max_boxes;
    const float *boxes; /* [n,max_boxes,5] rows class, cx, cy, w, h; class -1: none. NULL: none */
    /* The name of a class; NULL: its number is written. */
    const char *(*label)(void *arg, int64_t class);
    void *arg;
};

/* At most this many are shown. */
enum { IMAGE_SHEET_MAX = 64 };

/* Draws them side by side, small ones enlarged. TOO_LARGE, OUT_OF_MEMORY; the caller frees it. */
int image_sheet_draw(const struct image_sheet *s, const struct image_limits *l, struct image *im_r,
                     struct error *e);

#endif
