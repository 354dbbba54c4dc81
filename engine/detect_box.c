/* detect_box.c: boxes of a detector: complete IoU and its gradient, distances from distributions,
 * the boxes that anchors say. */
#include "detection.h"

#include <math.h>

static const double EPS = 1e-7;

/* The overlap of two boxes, and the smallest box around both, along each axis. */
struct overlap {
    double iw, ih, cw, ch; /* intersection (0 when apart), enclosure */
    double w, h, bw, bh;   /* of a and of b; heights carry an epsilon */
    double dx, dy;         /* twice the distance of the centres */
};

static struct overlap overlap_of(const struct box *a, const struct box *b)
{
    double iw = fmin(a->x2, b->x2) - fmax(a->x1, b->x1);
    double ih = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    return (struct overlap){.iw = iw > 0 ? iw : 0,
                            .ih = ih > 0 ? ih : 0,
                            .cw = fmax(a->x2, b->x2) - fmin(a->x1, b->x1),
                            .ch = fmax(a->y2, b->y2) - fmin(a->y1, b->y1),
                            .w = a->x2 - a->x1,
                            .h = a->y2 - a->y1 + EPS,
                            .bw = b->x2 - b->x1,
                            .bh = b->y2 - b->y1 + EPS,
                            .dx = b->x1 + b->x2 - a->x1 - a->x2,
                            .dy = b->y1 + b->y2 - a->y1 - a->y2};
}

static double overlap_union(const struct overlap *o)
{
    return o->w * o->h + o->bw * o->bh - o->iw * o->ih + EPS;
}

struct ciou box_ciou(const struct box *a, const struct box *b)
{
    const struct overlap o = overlap_of(a, b);
    const double turn = atan(o.bw / o.bh) - atan(o.w / o.h);
    struct ciou c;
    c.iou = o.iw * o.ih / overlap_union(&o);
    c.distance = (o.dx * o.dx + o.dy * o.dy) / 4 / (o.cw * o.cw + o.ch * o.ch + EPS);
    c.v = 4 / (M_PI * M_PI) * turn * turn;
    c.alpha = c.v / (c.v - c.iou + (1 + EPS));
    return c;
}

/* Derivatives of the parts along one axis by the low and the high edge of a. */
struct edge {
    double inter, size, enclosure;
};

static struct edge low_edge(double a, double b, double overlap)
{
    return (struct edge){overlap > 0 && a > b ? -1 : 0, -1, a < b ? -1 : 0};
}

static struct edge high_edge(double a, double b, double overlap)
{
    return (struct edge){overlap > 0 && a < b ? 1 : 0, 1, a > b ? 1 : 0};
}

/* d iou / d edge, where the intersection changes by `inter` and a's area by `area`. */
static double iou_slope(const struct overlap *o, double inter, double area)
{
    const double i = o->iw * o->ih, u = overlap_union(o);
    return (inter * u - i * (area - inter)) / (u * u);
}

/* d distance / d edge, for centres `d` / 2 apart and an enclosure of size `c` along this axis. */
static double distance_slope(const struct overlap *o, double d, double c, const struct edge *e)
{
    const double square = o->cw * o->cw + o->ch * o->ch + EPS;
    const double rho = (o->dx * o->dx + o->dy * o->dy) / 4;
    return -d / 2 / square - rho * 2 * c * e->enclosure / (square * square);
}

struct box box_ciou_slope(const struct box *a, const struct box *b, double alpha)
{
    const struct overlap o = overlap_of(a, b);
    const double turn = atan(o.bw / o.bh) - atan(o.w / o.h);
    const double ratio = 8 / (M_PI * M_PI) * turn / (o.w * o.w + o.h * o.h);
    const double by_w = -alpha * -ratio * o.h, by_h = -alpha * ratio * o.w; /* of -alpha * v */
    const struct edge x[] = {low_edge(a->x1, b->x1, o.iw), high_edge(a->x2, b->x2, o.iw)};
    const struct edge y[] = {low_edge(a->y1, b->y1, o.ih), high_edge(a->y2, b->y2, o.ih)};
    double dx[2], dy[2];
    for (int i = 0; i < 2; i++) {
        dx[i] = iou_slope(&o, x[i].inter * o.ih, x[i].size * o.h) -
                distance_slope(&o, o.dx, o.cw, &x[i]) + by_w * x[i].size;
        dy[i] = iou_slope(&o, y[i].inter * o.iw, y[i].size * o.w) -
                distance_slope(&o, o.dy, o.ch, &y[i]) + by_h * y[i].size;
    }
    return (struct box){dx[0], dy[0], dx[1], dy[1]};
}

double bins_expectation(const real *logits, int64_t n, double *p)
{
    double largest = (double)logits[0], sum = 0, expectation = 0;
    for (int64_t k = 1; k < n; k++)
        largest = (double)logits[k] > largest ? (double)logits[k] : largest;
    for (int64_t k = 0; k < n; k++)
        sum += p[k] = exp((double)logits[k] - largest);
    for (int64_t k = 0; k < n; k++) {
        p[k] /= sum;
        expectation += p[k] * (double)k;
    }
    return expectation;
}

struct anchor detection_anchor(const struct detection_maps *m, int64_t i)
{
    const struct detection_grid *g = m->grid;
    int k = g->n_levels - 1;
    while (k > 0 && i < g->level[k].first)
        k--;
    const struct detection_level *l = &g->level[k];
    const int64_t cell = i - l->first;
    return (struct anchor){m->map[k] + cell * (4 * g->reg_max + g->classes),
                           (double)(cell % l->w) + 0.5, (double)(cell / l->w) + 0.5,
                           (double)l->stride};
}

struct box anchor_box(const struct anchor *a, int64_t reg_max)
{
    double p[DETECTION_MAX_BINS], side[4];
    for (int i = 0; i < 4; i++)
        side[i] = bins_expectation(a->logits + i * reg_max, reg_max, p);
    return (struct box){a->x - side[0], a->y - side[1], a->x + side[2], a->y + side[3]};
}

struct truth detection_truth(const struct detection_grid *g, const real row[5])
{
    if (!(row[0] >= 0))
        return (struct truth){.category = -1};
    const double w = (double)g->width, h = (double)g->height;
    const double cx = (double)row[1] * w, cy = (double)row[2] * h;
    const double half_w = (double)row[3] * w / 2, half_h = (double)row[4] * h / 2;
    return (struct truth){(int64_t)row[0], {cx - half_w, cy - half_h, cx + half_w, cy + half_h}};
}
