/* augment_boxes.c: boxes go where their pixels go. Of each box what is seen of it in its tile is
 * mapped corner by corner; the hull of the corners, parallel to the axes, is clipped to the image.
 * A box vanishes when that leaves too little of it, by Ultralytics' rules (box_candidates): less
 * than 2 pixels wide or high, a tenth of its area (as enlarged or reduced by the warp), or more
 * than 100 times as long as wide. Warps that only flip drop nothing. */
#include "augment.h"

#include <math.h>
#include <string.h>

static const double SIDE_MIN = 2, AREA_MIN = 0.1, ASPECT_MAX = 100, EPSILON = 1e-16;

struct rect {
    double left, top, right, bottom; /* pixels */
};

static double rect_width(const struct rect *r)
{
    return r->right - r->left;
}

static double rect_height(const struct rect *r)
{
    return r->bottom - r->top;
}

static struct rect rect_clip(struct rect r, double left, double top, double right, double bottom)
{
    r.left = fmax(r.left, left);
    r.top = fmax(r.top, top);
    r.right = fmin(r.right, right);
    r.bottom = fmin(r.bottom, bottom);
    return r;
}

static bool rect_empty(const struct rect *r)
{
    return !(rect_width(r) > 0 && rect_height(r) > 0);
}

/* A box in the plane, cut to what is seen of its tile. */
static struct rect box_read(const real *box, const struct augment_tile *t, const struct image *size)
{
    const double w = (double)size->w, h = (double)size->h;
    const double cx = t->x + (double)box[1] * w, cy = t->y + (double)box[2] * h;
    const double half_w = (double)box[3] * w / 2, half_h = (double)box[4] * h / 2;
    const struct rect r = {cx - half_w, cy - half_h, cx + half_w, cy + half_h};
    return rect_clip(r, t->left, t->top, t->right, t->bottom);
}

static void box_write(const struct rect *r, real class, const struct image *size, real *box)
{
    const double w = (double)size->w, h = (double)size->h;
    box[0] = class;
    box[1] = (real)((r->left + r->right) / 2 / w);
    box[2] = (real)((r->top + r->bottom) / 2 / h);
    box[3] = (real)(rect_width(r) / w);
    box[4] = (real)(rect_height(r) / h);
}

/* False when a corner is mapped behind the viewer. */
static bool rect_hull(const struct rect *r, const double m[9], struct rect *hull_r)
{
    struct rect hull = {INFINITY, INFINITY, -INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        const double x = i & 1 ? r->right : r->left, y = i & 2 ? r->bottom : r->top;
        const double w = m[6] * x + m[7] * y + m[8];
        if (!(w > 1e-6))
            return false;
        const double u = (m[0] * x + m[1] * y + m[2]) / w, v = (m[3] * x + m[4] * y + m[5]) / w;
        hull.left = fmin(hull.left, u);
        hull.top = fmin(hull.top, v);
        hull.right = fmax(hull.right, u);
        hull.bottom = fmax(hull.bottom, v);
    }
    *hull_r = hull;
    return true;
}

/* How much the warp enlarges areas at the centre of a box: |det m| / w^3. */
static double enlargement(const struct rect *r, const double m[9])
{
    const double x = (r->left + r->right) / 2, y = (r->top + r->bottom) / 2;
    const double w = m[6] * x + m[7] * y + m[8];
    const double det = m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
                       m[2] * (m[3] * m[7] - m[4] * m[6]);
    return fabs(det) / (w * w * w);
}

static bool enough_left(double area_before, const struct rect *r)
{
    const double w = rect_width(r), h = rect_height(r);
    const double aspect = fmax(w / (h + EPSILON), h / (w + EPSILON));
    return w > SIDE_MIN && h > SIDE_MIN && w * h / (area_before + EPSILON) > AREA_MIN &&
           aspect < ASPECT_MAX;
}

static bool box_map(const struct augment_warp *w, const struct augment_tile *t,
                    const struct image *size, const real *box, struct rect *r_r)
{
    const struct rect seen = box_read(box, t, size);
    struct rect r;
    if (rect_empty(&seen) || !rect_hull(&seen, w->m, &r))
        return false;
    *r_r = rect_clip(r, 0, 0, (double)size->w, (double)size->h);
    if (rect_empty(r_r))
        return false;
    const double before = rect_width(&seen) * rect_height(&seen) * enlargement(&seen, w->m);
    return !w->moved || enough_left(before, r_r);
}

/* A box may be written over itself, or over one before it: it is read whole before. */
void augment_warp_boxes(const struct augment_warp *w, const struct image *size, int64_t max_boxes,
                        real *out)
{
    int64_t n = 0;
    struct rect r;
    for (int i = 0; i < w->n_tiles; i++)
        for (int64_t k = 0; k < max_boxes && n < max_boxes; k++) {
            const real *box = w->tile[i].boxes + k * BOX;
            if (box[0] >= 0 && box_map(w, &w->tile[i], size, box, &r))
                box_write(&r, box[0], size, out + n++ * BOX);
        }
    memset(out + n * BOX, 0, (size_t)((max_boxes - n) * BOX) * sizeof *out);
    for (int64_t k = n; k < max_boxes; k++)
        out[k * BOX] = -1;
}
