/* augment_mixing.c: augmentations that put samples of a batch together. A mixing row stands first
 * in its phase: it reads samples as the phase found them and writes its own. */
#include "augment.h"

#include <math.h>
#include <string.h>

enum { CUT_TRIES = 3 };

/* ---- mosaic ---------------------------------------------------------------------------------- */

struct mosaic {
    double p, fill;
};
static const struct attr_def mosaic_attrs[] = {
    AUGMENT_P(struct mosaic, "1"),
    {"fill", ATTR_REAL, offsetof(struct mosaic, fill), AUGMENT_GRAY, -1e6, 1e6, NULL,
     "value where no image is"},
    {0},
};

/* An image whose corner is at (x, y), seen within the canvas. */
static struct augment_tile tile_at(const struct augment_sample *s, int64_t of, double x, double y)
{
    const double w = (double)s->size.w, h = (double)s->size.h;
    return (struct augment_tile){.image = augment_image_of(s, of),
                                 .boxes = augment_boxes_of(s, of),
                                 .x = x,
                                 .y = y,
                                 .left = fmax(x, -w / 2),
                                 .top = fmax(y, -h / 2),
                                 .right = fmin(x + w, w * 3 / 2),
                                 .bottom = fmin(y + h, h * 3 / 2)};
}

/* Ultralytics' mosaic of four: on a canvas of twice the size, four images meet at a point that is
 * drawn from its middle half. The image of the sample is the upper left one, the others are any of
 * the batch. The output is the canvas' middle, and geometric rows after this one see all of the
 * canvas: coordinates are those of the middle, so the canvas goes from -W/2 to 3/2 W. */
static void mosaic(const void *attrs, struct augment_sample *s)
{
    const struct mosaic *a = attrs;
    const int64_t w = s->size.w, h = s->size.h;
    const double x = (double)augment_below(&s->random, w + 1);
    const double y = (double)augment_below(&s->random, h + 1);
    struct augment_warp *warp = &s->warp;
    warp->n_tiles = AUGMENT_TILES;
    for (int i = 0; i < AUGMENT_TILES; i++) {
        const int64_t of = i ? augment_below(&s->random, s->size.n) : s->index;
        warp->tile[i] = tile_at(s, of, i & 1 ? x : x - (double)w, i & 2 ? y : y - (double)h);
    }
    augment_compose(s, augment_identity, true, a->fill);
}

/* ---- what mixup and cutmix share ------------------------------------------------------------- */

/* Targets that are mixed with their images. */
static void mix_soft(struct augment_sample *s, int64_t other, double own)
{
    const struct augment_batch *b = s->batch;
    s->mixed = true;
    for (int k = 0; k < b->n_soft; k++) {
        const int64_t n = b->soft[k].count;
        const real *x = s->from->soft[k] + s->index * n, *y = s->from->soft[k] + other * n;
        real *out = s->to->soft[k] + s->index * n;
        for (int64_t i = 0; i < n; i++)
            out[i] = (real)(own * (double)x[i] + (1 - own) * (double)y[i]);
    }
}

/* Appends a box to the `n` of boxes_out if there is room; their number after it. */
static int64_t add_box(struct augment_sample *s, int64_t n, const real *box)
{
    if (box[0] < 0 || n == s->batch->max_boxes)
        return n;
    memmove(s->boxes_out + n * BOX, box, BOX * sizeof *box);
    return n + 1;
}

/* The sample's own boxes, which are in boxes_out from now on, without gaps. Their number. */
static int64_t take_boxes(struct augment_sample *s)
{
    int64_t n = 0;
    for (int64_t k = 0; k < s->batch->max_boxes; k++)
        n = add_box(s, n, s->boxes + k * BOX);
    s->boxes = s->boxes_out;
    return n;
}

static void pad_boxes(struct augment_sample *s, int64_t n)
{
    static const real none[BOX] = {-1};
    for (; n < s->batch->max_boxes; n++)
        memcpy(s->boxes_out + n * BOX, none, sizeof none);
}

/* ---- mixup ----------------------------------------------------------------------------------- */

struct mixup {
    double p, alpha;
};
static const struct attr_def mixup_attrs[] = {
    AUGMENT_P(struct mixup, "1"),
    {"alpha", ATTR_REAL, offsetof(struct mixup, alpha), "0", 0.01, 1000, NULL,
     "the share is drawn from Beta(alpha, alpha); 32 for boxes and 1 for classes when not given"},
    {0},
};

static void mixup_boxes(struct augment_sample *s, int64_t other)
{
    const real *theirs = augment_boxes_of(s, other);
    int64_t n = take_boxes(s);
    for (int64_t k = 0; k < s->batch->max_boxes; k++)
        n = add_box(s, n, theirs + k * BOX);
    pad_boxes(s, n);
}

/* Zhang et al.: x = l x_i + (1 - l) x_j, and the targets alike; boxes of both are kept. */
static void mixup(const void *attrs, struct augment_sample *s)
{
    const struct mixup *a = attrs;
    const double alpha = a->alpha > 0 ? a->alpha : s->boxes ? 32 : 1;
    const double own = augment_beta(&s->random, alpha);
    const int64_t other = augment_partner(s), n = s->size.c * s->size.h * s->size.w;
    const real *x = s->image, *y = augment_image_of(s, other), l = (real)own;
    for (int64_t i = 0; i < n; i++)
        s->out[i] = l * x[i] + (1 - l) * y[i];
    s->image = s->out;
    mix_soft(s, other, own);
    if (s->boxes)
        mixup_boxes(s, other);
}

/* ---- cutmix ---------------------------------------------------------------------------------- */

struct cutmix {
    double p, alpha;
};
static const struct attr_def cutmix_attrs[] = {
    AUGMENT_P(struct cutmix, "1"),
    {"alpha", ATTR_REAL, offsetof(struct cutmix, alpha), "0", 0.01, 1000, NULL,
     "the share is drawn from Beta(alpha, alpha); 32 for boxes and 1 for classes when not given"},
    {0},
};

struct cut {
    int64_t left, top, right, bottom;
};

static int64_t within(double x, int64_t most)
{
    return x < 0 ? 0 : x > (double)most ? most : (int64_t)x;
}

/* A window of 1 - own of the area around a point anywhere, cut at the borders. */
static struct cut cut_draw(struct augment_sample *s, double alpha)
{
    const double own = augment_beta(&s->random, alpha), side = sqrt(1 - own) / 2;
    const int64_t w = s->size.w, h = s->size.h;
    const double x = (double)augment_below(&s->random, w), y = (double)augment_below(&s->random, h);
    const double dx = floor(side * (double)w), dy = floor(side * (double)h);
    return (struct cut){within(x - dx, w), within(y - dy, h), within(x + dx, w), within(y + dy, h)};
}

/* Edges of a box in pixels, cut to the window, and the share of the box that is inside of it. */
static double box_inside(const real *box, const struct image *size, const struct cut *c,
                         double edge[4])
{
    const double w = (double)size->w, h = (double)size->h;
    const double left = ((double)box[1] - (double)box[3] / 2) * w,
                 right = left + (double)box[3] * w;
    const double top = ((double)box[2] - (double)box[4] / 2) * h, bottom = top + (double)box[4] * h;
    edge[0] = fmax(left, (double)c->left);
    edge[1] = fmax(top, (double)c->top);
    edge[2] = fmin(right, (double)c->right);
    edge[3] = fmin(bottom, (double)c->bottom);
    const double area = (right - left) * (bottom - top);
    if (edge[2] <= edge[0] || edge[3] <= edge[1] || !(area > 0))
        return 0;
    return (edge[2] - edge[0]) * (edge[3] - edge[1]) / area;
}

static bool cut_is_free(const struct augment_sample *s, const struct cut *c)
{
    double edge[4];
    for (int64_t k = 0; k < s->batch->max_boxes; k++)
        if (s->boxes[k * BOX] >= 0 && box_inside(s->boxes + k * BOX, &s->size, c, edge) > 0)
            return false;
    return true;
}

/* What is in the window of a box, if it is a tenth at least. */
static bool cut_box(const struct augment_sample *s, const real *box, const struct cut *c,
                    real cut_r[BOX])
{
    const double w = (double)s->size.w, h = (double)s->size.h;
    double edge[4];
    if (box[0] < 0 || box_inside(box, &s->size, c, edge) < 0.1)
        return false;
    cut_r[0] = box[0];
    cut_r[1] = (real)((edge[0] + edge[2]) / 2 / w);
    cut_r[2] = (real)((edge[1] + edge[3]) / 2 / h);
    cut_r[3] = (real)((edge[2] - edge[0]) / w);
    cut_r[4] = (real)((edge[3] - edge[1]) / h);
    return true;
}

static bool cut_shows(const struct augment_sample *s, int64_t other, const struct cut *c)
{
    const real *theirs = augment_boxes_of(s, other);
    real box[BOX];
    for (int64_t k = 0; k < s->batch->max_boxes; k++)
        if (cut_box(s, theirs + k * BOX, c, box))
            return true;
    return false;
}

static void cutmix_boxes(struct augment_sample *s, int64_t other, const struct cut *c)
{
    const real *theirs = augment_boxes_of(s, other);
    int64_t n = take_boxes(s);
    real box[BOX];
    for (int64_t k = 0; k < s->batch->max_boxes; k++)
        if (cut_box(s, theirs + k * BOX, c, box))
            n = add_box(s, n, box);
    pad_boxes(s, n);
}

static void cut_paste(struct augment_sample *s, int64_t other, const struct cut *c)
{
    const int64_t w = s->size.w, h = s->size.h;
    const real *from = augment_image_of(s, other);
    const size_t bytes = (size_t)(c->right - c->left) * sizeof *from;
    memcpy(s->out, s->image, (size_t)(s->size.c * h * w) * sizeof *from);
    for (int64_t k = 0; k < s->size.c; k++)
        for (int64_t y = c->top; y < c->bottom; y++)
            memcpy(s->out + (k * h + y) * w + c->left, from + (k * h + y) * w + c->left, bytes);
    s->image = s->out;
}

/* Yun et al.: a window of another image, and the targets mixed by areas. With boxes, as Ultralytics
 * does it: the window must not touch one of the sample's own, in three tries, and must show a tenth
 * of one of the other's; else the sample stays. */
static void cutmix(const void *attrs, struct augment_sample *s)
{
    const struct cutmix *a = attrs;
    const double alpha = a->alpha > 0 ? a->alpha : s->boxes ? 32 : 1;
    const int64_t other = augment_partner(s);
    struct cut c = cut_draw(s, alpha);
    for (int i = 1; s->boxes && i < CUT_TRIES && !cut_is_free(s, &c); i++)
        c = cut_draw(s, alpha);
    if (s->boxes && (!cut_is_free(s, &c) || !cut_shows(s, other, &c)))
        return;
    cut_paste(s, other, &c);
    const double area = (double)((c.right - c.left) * (c.bottom - c.top));
    mix_soft(s, other, 1 - area / (double)(s->size.w * s->size.h));
    if (s->boxes)
        cutmix_boxes(s, other, &c);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct augment_def augments_mixing[] = {
    {{{"mosaic", "four images of the batch around a point, for detection", mosaic_attrs},
      sizeof(struct mosaic),
      NULL},
     "mixing",
     AUGMENT_BATCH | AUGMENT_BOXES,
     mosaic},
    {{{"mixup", "x = l x_i + (1 - l) x_j, targets alike, boxes of both", mixup_attrs},
      sizeof(struct mixup),
      NULL},
     "mixing",
     AUGMENT_BATCH | AUGMENT_SOFT,
     mixup},
    {{{"cutmix", "a window of another image, targets mixed by area", cutmix_attrs},
      sizeof(struct cutmix),
      NULL},
     "mixing",
     AUGMENT_BATCH | AUGMENT_SOFT,
     cutmix},
    {.row.info.name = NULL},
};
