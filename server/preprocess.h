/* preprocess.h: from encoded images to an input of a network, as the description's `preprocess`
 * says. It has two halves with room for augmentation between them: decoding gives values 0 to 1,
 * normalising makes them what the network was made for. */
#ifndef BACKPROPD_PREPROCESS_H
#define BACKPROPD_PREPROCESS_H

#include "image.h"

#include <jansson.h>

/* One encoded image: a JPEG or PNG file, or the base64 text of one. Kept by whoever made it. */
struct image_source {
    const void *bytes;
    size_t size;
    bool base64;
};

struct preprocess {
    int input; /* place among the network's inputs */
    int channels;
    struct image_fitting fitting;
    double gain; /* of a value 0 to 1: 255 * scale */
    double mean[3], std[3];
};

/* Of an expanded description. False: it does not say. */
bool preprocess_read(const json_t *description, const struct network *net, struct preprocess *p_r);

/* What decodes, for whom. */
struct image_work {
    struct pool *pool;
    struct image_limits limits;
    run_gone_fn *gone; /* asked between images; NULL: somebody waits until the end */
    void *gone_arg;
};

/* Decodes all, several at a time, into planes [n, channels, height, width] with values 0 to 1.
 * fits_r has room for n. The error is that of the first image that cannot be used, and says which:
 * BAD_IMAGE, TOO_LARGE, OUT_OF_MEMORY; or CLIENT_GONE. Not from within a pool's function. */
int preprocess_decode(const struct preprocess *p, const struct image_work *w,
                      const struct image_source *sources, int64_t n, real *out,
                      struct image_fit *fits_r, struct error *e);
/* (v * 255 scale - mean) / std, in place, channel by channel. */
void preprocess_normalise(const struct preprocess *p, struct pool *pool, real *data, int64_t n);

/* Decodes one image as it is to be seen. Errors as above; the caller frees it. */
int image_source_decode(const struct image_source *s, const struct image_limits *l,
                        struct image *im_r, struct error *e);

#endif
