/* conv_direct.h: what the files of the direct convolution share; conv_direct.c opens with the
 * algorithm. conv_band.c cuts images into bands and finds windows in memory, conv_pack.c packs
 * weights, conv_weight.c and conv_scatter.c are gradients. */
#ifndef BACKPROP_CONV_DIRECT_H
#define BACKPROP_CONV_DIRECT_H

#include "conv.h"
#include "kernels.h"

/* ---- bands ----------------------------------------------------------------------------------- */

/* How the output lines of all images are cut: a band is `lines` lines of an image, the last of an
 * image perhaps fewer, or all lines of several images. A pure function of the shape. */
struct bands {
    int64_t images, lines; /* of a band */
    int64_t per_image, count;
};
/* `pixels`: about how many output pixels a band should have. */
struct bands bands_cut(const struct conv *v, int64_t pixels);

struct band {
    int64_t image, images, first, lines;
};
struct band band_at(const struct conv *v, const struct bands *b, int64_t i);
static inline int64_t band_pixels(const struct conv *v, struct band b)
{
    return b.images * b.lines * v->ow;
}
/* Input lines that `lines` output lines of one image see, padding and all. */
int64_t band_seen_lines(const struct conv *v, int64_t lines);
/* The number of its first output pixel, counted through all images. */
static inline int64_t band_first(const struct conv *v, struct band b)
{
    return (b.image * v->oh + b.first) * v->ow;
}

/* The windows of a band's pixels: window q, tap (ky, kx) is c numbers at
 * row[q] + ky * dilation * line + kx * dilation * c. */
struct windows {
    const real **row; /* [pixels], in scratch */
    int64_t line;     /* elements */
};
/* Where there is padding the lines that the band sees are copied into `scratch`, zeros around them.
 * bands_scratch: the elements that a band of these takes there. */
struct windows band_windows(const struct conv *v, const real *x, struct band b, real *scratch);
int64_t bands_scratch(const struct conv *v, const struct bands *b);

/* Whether so many taps lie in the padding that a product for each tap pays, of those pixels only
 * whose tap lies in the image. A pure function of the shape. */
bool band_trims(const struct conv *v);
/* The pixels of a band that see tap `tap`: the channels that row i sees, and which pixel it is. */
struct seen {
    int64_t n;
    const real **row; /* in scratch, of bands_scratch elements, as `to` */
    int64_t *to;
};
struct seen band_seen(const struct conv *v, const real *x, struct band b, int64_t tap,
                      real *scratch);

/* A window is `count` runs of `length` numbers that lie side by side, and so do the rows of the
 * packed weights. */
struct runs {
    int64_t count, length;
};
struct runs conv_runs(const struct conv *v);
int64_t conv_run_offset(const struct conv *v, int64_t line, int64_t group, int64_t run);

/* ---- weights --------------------------------------------------------------------------------- */

/* Packed matrices, one for each group, of kernels_packed elements. */
enum conv_packing {
    PACK_FORWARD, /* [taps][cg] rows, og columns */
    PACK_FLIPPED, /* [taps, last first][og] rows, cg columns: gradient of the image, stride 1 */
    PACK_SCATTER, /* og rows, [taps][cg] columns: the same, any stride */
};
int64_t conv_packed_size(const struct conv *v, enum conv_packing packing);
void conv_pack(const struct conv_job *j, enum conv_packing packing, real *packed);
/* One panel of the first group: rows of kernels_panel_width. */
void conv_pack_panel(const struct conv_job *j, enum conv_packing packing, int64_t panel, real *to);

/* ---- the other gradients --------------------------------------------------------------------- */

/* `work` and scratch as the memory functions say. */
struct conv_memory conv_weight_memory(const struct conv *v);
void conv_weight_backward(const struct conv_job *j, real *work);
/* Whether that is faster than the convolution with the flipped kernel, `u`. */
bool conv_scatter_pays(const struct conv *v, const struct conv *u);
struct conv_memory conv_scatter_memory(const struct conv *v);
void conv_scatter_backward(const struct conv_job *j, real *work);

#endif
