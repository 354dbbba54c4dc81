/* augment.h: what an augmentation is, inside the engine. Read this before any augment_*.c.
 *
 * An augmentation is one row of the table in augment.c, like an operator. An `augment` is a list of
 * chosen rows. Each sample goes through the list by itself, in the thread that took it:
 *
 *   geometric  rows change no pixel: they multiply the sample's pending warp, a 3x3 matrix. So any
 *              number of them in a row costs one interpolation, and what one of them moves out of
 *              the image another may bring back.
 *   colour     rows first have the pending warp done (augment_settle), then change the sample's
 *              image in place.
 *   mixing     rows read other samples of the batch, as the rows before left them. That is the only
 *              place where samples meet: a mixing row begins a new phase, and all samples have
 *              finished a phase before any begins the next.
 *
 * Random numbers: row k draws for sample i from the words of Philox under (seed, draw,
 * AUGMENT_KEYS + k), of which every sample has its own 2^22; rows that need numbers for each pixel
 * take them under AUGMENT_PIXELS + k. Keys of nodes and parameters are below both. The first word
 * decides whether the row is applied at all (p). So what a sample becomes depends on (seed, draw,
 * its place in the batch, the batch) alone, not on threads and not on the rows that others drew.
 *
 * Coordinates are in pixels and continuous: pixel (x, y) covers [x, x+1) x [y, y+1). A flip of an
 * image of width W maps x to W - x, and boxes move as their pixels do. */
#ifndef BACKPROP_AUGMENT_H
#define BACKPROP_AUGMENT_H

#include "op.h"
#include "rows.h"

enum { AUGMENT_MAX_ROWS = 32, AUGMENT_TILES = 4, BOX = 5 /* class, cx, cy, w, h */ };

static const uint32_t AUGMENT_KEYS = 1u << 31, AUGMENT_PIXELS = 3u << 30;

/* Gray of letterboxes, and what lies outside of an image: 114 of 255. */
#define AUGMENT_GRAY "0.44705882352941179"

/* ---- random numbers of one row and sample ---------------------------------------------------- */

struct augment_random {
    struct random_key key;
    uint64_t next;    /* element of the stream */
    uint32_t word[4]; /* of the block that it is in */
};
void augment_random_begin(struct augment_random *r, const struct random_key *key, int64_t sample);
double augment_uniform(struct augment_random *r, double from, double to);
int64_t augment_below(struct augment_random *r, int64_t n); /* 0 .. n-1 */
/* Beta(alpha, alpha), symmetric about 1/2. */
double augment_beta(struct augment_random *r, double alpha);

/* ---- the pending warp of a sample ------------------------------------------------------------ */

/* An image in the plane that is warped: its origin, and the part of the plane where it is seen. */
struct augment_tile {
    const real *image; /* [c,h,w] */
    const real *boxes; /* [max_boxes,5] or NULL */
    double x, y;
    double left, top, right, bottom;
};
struct augment_warp {
    bool pending;
    bool moved;  /* by more than flips: boxes may lose too much */
    double m[9]; /* from the plane to the output, homogeneous */
    int n_tiles;
    struct augment_tile tile[AUGMENT_TILES];
    real fill; /* where no tile is */
};
extern const double augment_identity[9];
/* r = a b; r may be b. */
void augment_matrix_mul(const double a[9], const double b[9], double r[9]);
bool augment_matrix_invert(const double m[9], double r[9]); /* false: singular */
/* Draws the warped tiles into `out` [c,h,w], which is none of theirs. `packed` is for the work:
 * [h,w,AUGMENT_PACKED]. */
enum { AUGMENT_PACKED = 4 };
void augment_warp_draw(const struct augment_warp *w, const struct image *size, real *packed,
                       real *out);
/* Draws one of them by interpolation, where it is seen. */
void augment_blend_tile(const struct augment_tile *t, const double inverse[9],
                        const struct image *size, real *packed, real *out);
/* Writes the boxes that remain, of all tiles in order, at most max_boxes, then padding. `out` may
 * be the boxes of the only tile. */
void augment_warp_boxes(const struct augment_warp *w, const struct image *size, int64_t max_boxes,
                        real *out);

/* ---- a sample on its way --------------------------------------------------------------------- */

/* The batch as a phase finds or leaves it. */
struct augment_layer {
    real *images; /* [n,c,h,w] */
    real *boxes;  /* [n,max_boxes,5] or NULL */
    real *soft[NETWORK_MAX_IO];
};

struct augment_sample {
    const struct augment_batch *batch;
    const struct augment_layer *from, *to; /* of this phase; `from` is only read */
    struct image size;                     /* n is the batch */
    int64_t index;
    struct augment_random random; /* of the row that is being applied */
    struct random_key pixels;     /* its key of numbers for pixels */
    struct augment_warp warp;
    const real *image; /* the pixels, before the pending warp: in from, or out */
    const real *boxes; /* the same; NULL: no boxes */
    real *out;         /* [c,h,w] in `to` */
    real *boxes_out;   /* [max_boxes,5] in `to` */
    real *scratch;     /* [c,h,w] of the worker */
    real *packed;      /* [h,w,AUGMENT_PACKED] of the worker */
    bool mixed;        /* the soft targets in `to` are written */
};

/* Multiplies the pending warp. `moved`: it is more than a flip. */
void augment_compose(struct augment_sample *s, const double a[9], bool moved, double fill);
/* Does the pending warp: afterwards the image is `out`, to be changed in place. */
real *augment_settle(struct augment_sample *s);
/* Another sample of the batch than this one, when there is one. */
int64_t augment_partner(struct augment_sample *s);
/* What the phase found of sample i. */
const real *augment_image_of(const struct augment_sample *s, int64_t i);
const real *augment_boxes_of(const struct augment_sample *s, int64_t i); /* NULL: no boxes */

/* ---- rows ------------------------------------------------------------------------------------ */

enum augment_flags {
    AUGMENT_UNIT = 1 << 0,  /* wants values in 0..1 */
    AUGMENT_RGB = 1 << 1,   /* wants three channels */
    AUGMENT_SOFT = 1 << 2,  /* mixes targets: classes become probabilities */
    AUGMENT_BATCH = 1 << 3, /* mixing: begins a phase */
    AUGMENT_BOXES = 1 << 4  /* makes sense with boxes only */
};

/* The struct that info.attrs fill begins with the probability of the row. */
struct augment_def {
    struct row row;
    const char *kind; /* "geometric", "color", "mixing" */
    unsigned flags;
    void (*apply)(const void *attrs, struct augment_sample *s);
};
#define AUGMENT_P(type, fallback)                                                                  \
    {                                                                                              \
        "p", ATTR_REAL, offsetof(type, p), fallback, 0, 1, NULL, "how often it is applied"         \
    }

/* augment_geometric.c, augment_color.c, augment_pixels.c, augment_mixing.c, augment_rand.c */
extern const struct augment_def augments_geometric[], augments_color[], augments_pixels[],
    augments_mixing[], augments_rand[];

/* An attribute that is a range [from, to]: what was given, or the fallback for an empty list. */
struct augment_range {
    double from, to;
};
struct augment_range augment_range_of(const struct real_list *list, double from, double to);
int augment_range_check(const struct real_list *list, const char *name, const char *what,
                        struct error *e);

/* Shared by rows of several files. */
void augment_rotate(struct augment_sample *s, double degrees, double scale, double shear_x,
                    double shear_y, double shift_x, double shift_y, double fill);
void augment_brightness(real *x, const struct image *size, real factor);
void augment_contrast(real *x, const struct image *size, real factor);
void augment_saturation(real *x, const struct image *size, real factor);

#endif
