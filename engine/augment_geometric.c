/* augment_geometric.c: augmentations that move pixels. Each is a matrix from where the pixels are
 * to where they go; the sample's pending warp is multiplied with it. */
#include "augment.h"

#include <math.h>

enum { CROP_TRIES = 10 };

/* ---- flips ----------------------------------------------------------------------------------- */

struct flip {
    double p;
};
static const struct attr_def flip_attrs[] = {AUGMENT_P(struct flip, "0.5"), {0}};

static void hflip(const void *attrs, struct augment_sample *s)
{
    const double m[9] = {-1, 0, (double)s->size.w, 0, 1, 0, 0, 0, 1};
    (void)attrs;
    augment_compose(s, m, false, (double)s->warp.fill);
}

static void vflip(const void *attrs, struct augment_sample *s)
{
    const double m[9] = {1, 0, 0, 0, -1, (double)s->size.h, 0, 0, 1};
    (void)attrs;
    augment_compose(s, m, false, (double)s->warp.fill);
}

/* ---- random_crop ----------------------------------------------------------------------------- */

struct random_crop {
    double p, fill;
    int64_t padding[2];
};
static const struct attr_def random_crop_attrs[] = {
    AUGMENT_P(struct random_crop, "1"),
    {"padding", ATTR_PAIR, offsetof(struct random_crop, padding), "4", 0, 4096, NULL,
     "pixels that are added on each side (rows, columns) before a window of the old size is cut"},
    {"fill", ATTR_REAL, offsetof(struct random_crop, fill), "0", -1e6, 1e6, NULL,
     "value of the padding"},
    {0},
};

static void random_crop(const void *attrs, struct augment_sample *s)
{
    const struct random_crop *a = attrs;
    const int64_t dy = augment_below(&s->random, 2 * a->padding[0] + 1) - a->padding[0];
    const int64_t dx = augment_below(&s->random, 2 * a->padding[1] + 1) - a->padding[1];
    const double m[9] = {1, 0, (double)dx, 0, 1, (double)dy, 0, 0, 1};
    augment_compose(s, m, true, a->fill);
}

/* ---- random_resized_crop --------------------------------------------------------------------- */

struct resized_crop {
    double p;
    struct real_list scale, ratio;
};
static const struct attr_def resized_crop_attrs[] = {
    AUGMENT_P(struct resized_crop, "1"),
    {"scale", ATTR_REALS, offsetof(struct resized_crop, scale), "", 1e-4, 1, NULL,
     "range of the window's share of the image's area; [0.08, 1] when not given"},
    {"ratio", ATTR_REALS, offsetof(struct resized_crop, ratio), "", 0.01, 100, NULL,
     "range of its width over its height; [3/4, 4/3] when not given"},
    {0},
};

static int resized_crop_check(const void *attrs, const char *what, struct error *e)
{
    const struct resized_crop *a = attrs;
    return augment_range_check(&a->scale, "scale", what, e) ||
                   augment_range_check(&a->ratio, "ratio", what, e)
               ? -1
               : 0;
}

/* A window as torchvision's RandomResizedCrop.get_params draws it: whole pixels, ten tries, then
 * the largest one in the middle that has an allowed ratio. */
struct window {
    double x, y, w, h;
};
static struct window window_draw(struct augment_random *r, const struct image *size,
                                 struct augment_range scale, struct augment_range ratio)
{
    const double all_w = (double)size->w, all_h = (double)size->h;
    for (int i = 0; i < CROP_TRIES; i++) {
        const double area = all_w * all_h * augment_uniform(r, scale.from, scale.to);
        const double aspect = exp(augment_uniform(r, log(ratio.from), log(ratio.to)));
        const double w = nearbyint(sqrt(area * aspect)), h = nearbyint(sqrt(area / aspect));
        if (w >= 1 && w <= all_w && h >= 1 && h <= all_h) {
            const double y = (double)augment_below(r, (int64_t)(all_h - h) + 1);
            const double x = (double)augment_below(r, (int64_t)(all_w - w) + 1);
            return (struct window){x, y, w, h};
        }
    }
    const double aspect = fmin(fmax(all_w / all_h, ratio.from), ratio.to);
    const double w = fmin(all_w, fmax(1, nearbyint(all_h * aspect)));
    const double h = fmin(all_h, fmax(1, nearbyint(all_w / aspect)));
    return (struct window){floor((all_w - w) / 2), floor((all_h - h) / 2), w, h};
}

static void random_resized_crop(const void *attrs, struct augment_sample *s)
{
    const struct resized_crop *a = attrs;
    const struct window w = window_draw(&s->random, &s->size, augment_range_of(&a->scale, 0.08, 1),
                                        augment_range_of(&a->ratio, 3.0 / 4, 4.0 / 3));
    const double sx = (double)s->size.w / w.w, sy = (double)s->size.h / w.h;
    const double m[9] = {sx, 0, -w.x * sx, 0, sy, -w.y * sy, 0, 0, 1};
    augment_compose(s, m, true, (double)s->warp.fill);
}

/* ---- affine ---------------------------------------------------------------------------------- */

struct affine {
    double p, degrees, translate, scale, shear, perspective, fill;
};
#define AFFINE(field) offsetof(struct affine, field)
static const struct attr_def affine_attrs[] = {
    AUGMENT_P(struct affine, "1"),
    {"degrees", ATTR_REAL, AFFINE(degrees), "0", 0, 180, NULL, "rotates by up to so much"},
    {"translate", ATTR_REAL, AFFINE(translate), "0", 0, 1, NULL,
     "shifts by up to this share of the image's size"},
    {"scale", ATTR_REAL, AFFINE(scale), "0", 0, 0.99, NULL,
     "enlarges by a factor within 1 - scale and 1 + scale"},
    {"shear", ATTR_REAL, AFFINE(shear), "0", 0, 80, NULL, "shears by up to so many degrees"},
    {"perspective", ATTR_REAL, AFFINE(perspective), "0", 0, 0.001, NULL,
     "distorts: w = 1 + px x + py y, with px and py up to this, from the centre"},
    {"fill", ATTR_REAL, AFFINE(fill), AUGMENT_GRAY, -1e6, 1e6, NULL, "value outside of the image"},
    {0},
};

static double degrees_tan(double degrees)
{
    return tan(degrees * M_PI / 180);
}

/* As Ultralytics' RandomPerspective: T S R P C, from right to left: the centre to the origin,
 * perspective, rotation and scale, shear, and back with a shift (in pixels). */
static void affine_compose(struct augment_sample *s, const double perspective[2], double degrees,
                           double scale, const double shear[2], const double shift[2], double fill)
{
    const double cx = (double)s->size.w / 2, cy = (double)s->size.h / 2;
    const double turn = degrees * M_PI / 180, c = cos(turn) * scale, d = sin(turn) * scale;
    const double centre[9] = {1, 0, -cx, 0, 1, -cy, 0, 0, 1};
    const double distort[9] = {1, 0, 0, 0, 1, 0, perspective[0], perspective[1], 1};
    const double rotate[9] = {c, d, 0, -d, c, 0, 0, 0, 1};
    const double skew[9] = {1, degrees_tan(shear[0]), 0, degrees_tan(shear[1]), 1, 0, 0, 0, 1};
    const double back[9] = {1, 0, cx + shift[0], 0, 1, cy + shift[1], 0, 0, 1};
    double m[9];
    augment_matrix_mul(distort, centre, m);
    augment_matrix_mul(rotate, m, m);
    augment_matrix_mul(skew, m, m);
    augment_matrix_mul(back, m, m);
    augment_compose(s, m, true, fill);
}

void augment_rotate(struct augment_sample *s, double degrees, double scale, double shear_x,
                    double shear_y, double shift_x, double shift_y, double fill)
{
    const double perspective[2] = {0, 0}, shear[2] = {shear_x, shear_y};
    const double shift[2] = {shift_x, shift_y};
    affine_compose(s, perspective, degrees, scale, shear, shift, fill);
}

static double up_to(struct augment_sample *s, double most)
{
    return augment_uniform(&s->random, -most, most);
}

static void affine(const void *attrs, struct augment_sample *s)
{
    const struct affine *a = attrs;
    double perspective[2], shear[2], shift[2];
    perspective[0] = up_to(s, a->perspective);
    perspective[1] = up_to(s, a->perspective);
    const double degrees = up_to(s, a->degrees), scale = 1 + up_to(s, a->scale);
    shear[0] = up_to(s, a->shear);
    shear[1] = up_to(s, a->shear);
    shift[0] = up_to(s, a->translate) * (double)s->size.w;
    shift[1] = up_to(s, a->translate) * (double)s->size.h;
    affine_compose(s, perspective, degrees, scale, shear, shift, a->fill);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct augment_def augments_geometric[] = {
    {{{"hflip", "mirrors left and right", flip_attrs}, sizeof(struct flip), NULL},
     "geometric",
     0,
     hflip},
    {{{"vflip", "mirrors top and bottom", flip_attrs}, sizeof(struct flip), NULL},
     "geometric",
     0,
     vflip},
    {{{"random_crop", "pads and cuts a window of the image's size anywhere", random_crop_attrs},
      sizeof(struct random_crop),
      NULL},
     "geometric",
     0,
     random_crop},
    {{{"random_resized_crop", "cuts a window and stretches it to the image's size",
       resized_crop_attrs},
      sizeof(struct resized_crop),
      resized_crop_check},
     "geometric",
     0,
     random_resized_crop},
    {{{"affine", "x' = T S R P C x: perspective, rotation, scale, shear and shift about the centre",
       affine_attrs},
      sizeof(struct affine),
      NULL},
     "geometric",
     0,
     affine},
    {.row.info.name = NULL},
};
