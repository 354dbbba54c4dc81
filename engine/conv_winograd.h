/* conv_winograd.h: what the files of Winograd's convolution share; conv_winograd.c opens with the
 * algorithm, conv_winograd_tiles.c has its tiles and the sizes that it is for,
 * conv_winograd_weight.c the gradients of weights. */
#ifndef BACKPROP_CONV_WINOGRAD_H
#define BACKPROP_CONV_WINOGRAD_H

#include "conv_direct.h"

/* Planes of points lie this much further apart than they are long: at equal distances of a power of
 * two their numbers would share a few lines of the nearest cache. Elements. */
enum { WINOGRAD_PAD = 16 };

/* Output pixels in tiles of 4 x 4, counted through all images; those at the lower and right edge
 * may hang over. */
struct winograd_tiles {
    int64_t down, across, count;
};
struct winograd_tiles winograd_tiles(const struct conv *v);

/* A square of n x n pixels of an image [h][w][c], the first at line y, column x, which may lie
 * outside: pointers to their channels, `outside` for pixels that the image does not have. */
struct winograd_square {
    int64_t n, h, w, c, y, x;
};
void winograd_pixels(const struct winograd_square *s, const real *image, const real *outside,
                     const real **at);
/* Those of tile t of the input, and of the output's gradient. */
void winograd_input_pixels(const struct conv *v, const real *x, int64_t t, const real *outside,
                           const real **at);
void winograd_output_pixels(const struct conv *v, const real *y, int64_t t, const real *outside,
                            const real **at);

/* No more than there are, where the number of images is known; and tiles of a block of products. */
int64_t winograd_tiles_within(const struct conv *v, int64_t most);
int64_t winograd_block_tiles(const struct conv *v);
/* Whether weights of points are made where they are used, for these images; and in predictions, for
 * few of them. The bits are the same. */
bool winograd_is_fresh(const struct conv *v);
bool winograd_may_be_fresh(const struct conv *v);

/* Channels rounded up to whole vectors. */
static inline int64_t winograd_width(int64_t channels)
{
    const int64_t lanes = kernels()->lanes;
    return (channels + lanes - 1) / lanes * lanes;
}

/* `work` and scratch as the memory function says. */
struct conv_memory winograd_weight_memory(const struct conv *v);
void winograd_weight_backward(const struct conv_job *j, real *work);

#endif
