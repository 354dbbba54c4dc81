/* detect_assign.c: task-aligned assignment of objects to anchors, for one image (detection.h says
 * what it is). In five walks: each object chooses its best anchors; anchors chosen by several
 * objects take one; alignments of what remains are measured, with the best of each object; and
 * from these follow the scores. Only anchors inside an object are ever decoded. */
#include "detection.h"

#include <math.h>

static const double EPS = 1e-9;
enum { CONFLICT = -2, NO_OBJECT = -1, TOPK_MAX = 128 };

struct assignment {
    const struct assigner *t;
    const struct detection_maps *m;
    const real *rows; /* [n][5] */
    int64_t n;
    struct box *boxes;        /* [anchors], pixels; x1 infinite: not decoded yet */
    double *best_fit, *best;  /* [n]: highest alignment and highest CIoU of an object's anchors */
    const struct assigned *a; /* what it becomes */
};

/* How well an anchor serves an object. */
struct fit {
    double overlap, align;
};

int64_t detection_assign_room(const struct detection_grid *g, int64_t max_boxes)
{
    return 4 * g->anchors + 2 * max_boxes;
}

static struct truth truth_at(const struct assignment *s, int64_t object)
{
    return detection_truth(s->m->grid, s->rows + 5 * object);
}

/* The anchor's box in pixels, decoded once. */
static const struct box *box_at(const struct assignment *s, int64_t i, const struct anchor *a)
{
    struct box *b = &s->boxes[i];
    if (isinf(b->x1)) {
        *b = anchor_box(a, s->m->grid->reg_max);
        *b = (struct box){b->x1 * a->stride, b->y1 * a->stride, b->x2 * a->stride,
                          b->y2 * a->stride};
    }
    return b;
}

static bool holds_point(const struct box *b, const struct anchor *a)
{
    const double x = a->x * a->stride, y = a->y * a->stride;
    return x - b->x1 > EPS && y - b->y1 > EPS && b->x2 - x > EPS && b->y2 - y > EPS;
}

static struct fit fit_of(const struct assignment *s, int64_t i, const struct anchor *a,
                         const struct truth *t)
{
    const struct ciou c = box_ciou(&t->box, box_at(s, i, a));
    const double value = ciou_value(&c), overlap = value < 0 ? 0 : value;
    const double logit = (double)a->logits[4 * s->m->grid->reg_max + t->category];
    const double p = 1 / (1 + exp(-logit));
    return (struct fit){overlap, pow(p, s->t->alpha) * pow(overlap, s->t->beta)};
}

/* A NaN is above all numbers, so that it is seen. */
static bool is_above(double x, double y)
{
    return x > y || isnan(x);
}

/* The best anchors so far, the best first. */
struct choice {
    int64_t anchor[TOPK_MAX];
    double align[TOPK_MAX];
    int64_t n, max;
};

static void choice_offer(struct choice *c, int64_t anchor, double align)
{
    if (align <= 0 || (c->n == c->max && !is_above(align, c->align[c->n - 1])))
        return;
    int64_t at = c->n < c->max ? c->n++ : c->n - 1;
    for (; at > 0 && is_above(align, c->align[at - 1]); at--) {
        c->align[at] = c->align[at - 1];
        c->anchor[at] = c->anchor[at - 1];
    }
    c->align[at] = align;
    c->anchor[at] = anchor;
}

/* The first cell whose middle may lie right of `edge`, and no cell outside the map. */
static int64_t cell_after(double edge, int64_t stride, int64_t cells)
{
    const double at = floor(edge / (double)stride - 0.5);
    return at < 0 ? 0 : at > (double)cells ? cells : (int64_t)at;
}

static void offer_level(const struct assignment *s, int k, const struct truth *t, struct choice *c)
{
    const struct detection_level *l = &s->m->grid->level[k];
    for (int64_t y = cell_after(t->box.y1, l->stride, l->h); y < l->h; y++) {
        if (((double)y + 0.5) * (double)l->stride >= t->box.y2)
            break;
        for (int64_t x = cell_after(t->box.x1, l->stride, l->w); x < l->w; x++) {
            const int64_t i = l->first + y * l->w + x;
            const struct anchor a = detection_anchor(s->m, i);
            if (a.x * a.stride >= t->box.x2)
                break;
            if (holds_point(&t->box, &a))
                choice_offer(c, i, fit_of(s, i, &a, t).align);
        }
    }
}

static void choose_anchors(const struct assignment *s, int64_t object)
{
    const struct truth t = truth_at(s, object);
    struct choice c = {.max = s->t->topk < TOPK_MAX ? s->t->topk : TOPK_MAX};
    if (t.category < 0)
        return;
    for (int k = 0; k < s->m->grid->n_levels; k++)
        offer_level(s, k, &t, &c);
    for (int64_t i = 0; i < c.n; i++) {
        real *taken = &s->a->object[c.anchor[i]];
        *taken = *taken == NO_OBJECT ? (real)object : CONFLICT;
    }
}

/* Of all objects around the anchor, also those that did not choose it. */
static int64_t closest_object(const struct assignment *s, int64_t i, const struct anchor *a)
{
    int64_t closest = 0;
    double highest = -1;
    for (int64_t object = 0; object < s->n; object++) {
        const struct truth t = truth_at(s, object);
        if (t.category < 0 || !holds_point(&t.box, a))
            continue;
        const double overlap = fit_of(s, i, a, &t).overlap;
        if (overlap > highest) {
            highest = overlap;
            closest = object;
        }
    }
    return closest;
}

/* Settles whom the anchor serves, and measures how well. */
static void settle_anchor(const struct assignment *s, int64_t i)
{
    const struct anchor a = detection_anchor(s->m, i);
    if (s->a->object[i] == CONFLICT)
        s->a->object[i] = (real)closest_object(s, i, &a);
    const int64_t object = (int64_t)s->a->object[i];
    const struct truth t = truth_at(s, object);
    const struct fit f = fit_of(s, i, &a, &t);
    const struct box cells = {t.box.x1 / a.stride, t.box.y1 / a.stride, t.box.x2 / a.stride,
                              t.box.y2 / a.stride};
    const struct box said = anchor_box(&a, s->m->grid->reg_max);
    s->a->score[i] = (real)f.align;
    s->a->alpha[i] = (real)box_ciou(&said, &cells).alpha;
    if (is_above(f.align, s->best_fit[object]))
        s->best_fit[object] = f.align;
    if (is_above(f.overlap, s->best[object]))
        s->best[object] = f.overlap;
}

void detection_assign(const struct assigner *t, const struct detection_maps *m, const real *rows,
                      int64_t max_boxes, double *room, const struct assigned *out)
{
    const int64_t anchors = m->grid->anchors;
    struct assignment s = {t,    m,  rows, max_boxes, (struct box *)room, room + 4 * anchors,
                           NULL, out};
    s.best = s.best_fit + max_boxes;
    for (int64_t i = 0; i < anchors; i++) {
        out->object[i] = NO_OBJECT;
        out->score[i] = out->alpha[i] = 0;
        s.boxes[i].x1 = INFINITY;
    }
    for (int64_t object = 0; object < max_boxes; object++) {
        s.best_fit[object] = s.best[object] = 0;
        choose_anchors(&s, object);
    }
    for (int64_t i = 0; i < anchors; i++)
        if (out->object[i] != NO_OBJECT)
            settle_anchor(&s, i);
    for (int64_t i = 0; i < anchors; i++) {
        const int64_t object = (int64_t)out->object[i];
        if (object >= 0)
            out->score[i] =
                (real)((double)out->score[i] * s.best[object] / (s.best_fit[object] + EPS));
    }
}
