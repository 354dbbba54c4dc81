/* conv_winograd_tiles.c: the tiles of Winograd's algorithm (conv_winograd.c), which pixels they
 * see, and for which sizes it is chosen: a pure function of the shape, so that a replay and every
 * batch take the same. */
#include "conv_winograd.h"

/* As many are worth reading weights of points that are kept. */
enum { TILES_MANY = 16 };

/* ---- tiles ----------------------------------------------------------------------------------- */

struct winograd_tiles winograd_tiles(const struct conv *v)
{
    struct winograd_tiles t = {(v->oh + WINOGRAD_TILE - 1) / WINOGRAD_TILE,
                               (v->ow + WINOGRAD_TILE - 1) / WINOGRAD_TILE, 0};
    t.count = v->images * t.down * t.across;
    return t;
}

void winograd_pixels(const struct winograd_square *s, const real *image, const real *outside,
                     const real **at)
{
    for (int64_t y = s->y; y < s->y + s->n; y++)
        for (int64_t x = s->x; x < s->x + s->n; x++)
            *at++ =
                y >= 0 && y < s->h && x >= 0 && x < s->w ? image + (y * s->w + x) * s->c : outside;
}

void winograd_input_pixels(const struct conv *v, const real *x, int64_t t, const real *outside,
                           const real **at)
{
    const struct winograd_tiles tiles = winograd_tiles(v);
    const int64_t each = tiles.down * tiles.across, in = t % each;
    winograd_pixels(
        &(struct winograd_square){WINOGRAD_SIDE, v->h, v->w, v->c,
                                  in / tiles.across * WINOGRAD_TILE - v->window.padding[HEIGHT],
                                  in % tiles.across * WINOGRAD_TILE - v->window.padding[WIDTH]},
        x + t / each * v->h * v->w * v->c, outside, at);
}

void winograd_output_pixels(const struct conv *v, const real *y, int64_t t, const real *outside,
                            const real **at)
{
    const struct winograd_tiles tiles = winograd_tiles(v);
    const int64_t each = tiles.down * tiles.across, in = t % each;
    winograd_pixels(&(struct winograd_square){WINOGRAD_TILE, v->oh, v->ow, v->o,
                                              in / tiles.across * WINOGRAD_TILE,
                                              in % tiles.across * WINOGRAD_TILE},
                    y + t / each * v->oh * v->ow * v->o, outside, at);
}

/* ---- the choice ------------------------------------------------------------------------------ */

bool winograd_may_be_fresh(const struct conv *v)
{
    const struct winograd_tiles t = winograd_tiles(v);
    return v->predicts && t.down * t.across < TILES_MANY;
}

int64_t winograd_tiles_within(const struct conv *v, int64_t most)
{
    const int64_t all = winograd_tiles(v).count;
    return all > 0 && all < most ? all : most;
}

/* V and M stay in the second cache, and weights are used often enough. */
int64_t winograd_block_tiles(const struct conv *v)
{
    const int64_t channels = v->c + v->o;
    return winograd_tiles_within(v, channels <= 256 ? 36 : channels <= 512 ? 48 : 96);
}

/* In training weights are used once, too, where all tiles are one block. */
bool winograd_is_fresh(const struct conv *v)
{
    const int64_t tiles = winograd_tiles(v).count;
    return v->predicts ? tiles < TILES_MANY : tiles <= winograd_block_tiles(v);
}

/* The tiles of one image must pay for the weights of points, which are 4 times as many numbers as
 * the weights: with 4 tiles of 512 channels to 512 an image alone takes as long as by the direct
 * sum, and 32 images less than half; one tile takes twice as long. */
static bool weights_pay(const struct conv *v, int64_t tiles)
{
    enum { TILES_FEWEST = 4, WEIGHTS_MOST = 512 * 512 };
    return !v->predicts || tiles >= TILES_MANY ||
           (tiles >= TILES_FEWEST && v->c * v->o <= WEIGHTS_MOST);
}

/* Few channels do not pay for the transforms of tiles, and tiles that hang over the edge for little
 * more than half of the products. */
static bool tiles_pay(const struct conv *v)
{
    enum { CHANNELS_FEWEST = 16 };
    const struct winograd_tiles t = winograd_tiles(v);
    return v->c >= CHANNELS_FEWEST && v->o >= CHANNELS_FEWEST &&
           weights_pay(v, t.down * t.across) &&
           2 * WINOGRAD_POINTS * t.down * t.across <= WINOGRAD_TAPS * v->oh * v->ow;
}

bool conv_winograd_pays(const struct conv *v)
{
    const struct window *w = &v->window;
    struct conv u;
    for (int axis = HEIGHT; axis <= WIDTH; axis++)
        if (w->kernel[axis] != WINOGRAD_KERNEL || w->stride[axis] != 1 || w->dilation[axis] != 1)
            return false;
    return v->groups == 1 && conv_transposed(v, &u) && tiles_pay(v) && tiles_pay(&u);
}
