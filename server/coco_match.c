/* coco_match.c: who detects whom, by the rules of COCO (coco.h, 5 and 6).
 *
 * A truth whose IoU is under every threshold can be taken by nobody, so each detection first lists
 * the truths that are near, once for all areas and thresholds; the lists are short. "Ignored truths
 * come last, and stop at them when another one was found" is the same as looking among those that
 * are not ignored first, and among the others when there was none. */
#include "coco_private.h"

#include <math.h>
#include <string.h>

const struct coco_range coco_areas[COCO_AREAS] = {
    {0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}}; /* all, small, medium, large */

static double box_area(const double *box)
{
    return box[2] * box[3];
}

static double iou(const struct coco_detection *d, const struct coco_truth *t)
{
    const double *a = d->box, *b = t->box;
    double w = fmin(a[0] + a[2], b[0] + b[2]) - fmax(a[0], b[0]);
    double h = fmin(a[1] + a[3], b[1] + b[3]) - fmax(a[1], b[1]);
    if (w <= 0 || h <= 0)
        return 0;
    double both = w * h, whole = box_area(a);
    if (!t->crowd)
        whole += box_area(b) - both;
    return whole > 0 ? both / whole : 0; /* boxes so small that their area is 0 */
}

/* What a match must reach at least. */
static double floor_of(double threshold)
{
    return fmin(threshold, 1 - 1e-10);
}

static double lowest_floor(const struct coco_options *o)
{
    double lowest = 1;
    for (int i = 0; i < o->n_thresholds; i++)
        lowest = fmin(lowest, floor_of(o->thresholds[i]));
    return lowest;
}

static int64_t find_near(const struct coco_cell *c, const struct coco_detection *d, double lowest,
                         const struct coco_scratch *s)
{
    int64_t n = 0;
    for (int64_t g = 0; g < c->n_truths; g++) {
        s->iou[n] = iou(d, c->truths[g]);
        s->near[n] = g;
        n += s->iou[n] >= lowest;
    }
    return n;
}

struct choice {
    const struct coco_cell *cell;
    const struct coco_scratch *scratch;
    int64_t n_near;
    int area;
};

/* The best truth at hand among those that are ignored, or those that are not; -1: none. */
static int64_t choose(const struct choice *v, double threshold, const uint8_t *taken, bool ignored)
{
    int64_t best = -1;
    double reach = floor_of(threshold);
    for (int64_t i = 0; i < v->n_near; i++) {
        int64_t g = v->scratch->near[i];
        const struct coco_truth *t = v->cell->truths[g];
        if (coco_truth_ignored(t, v->area) != ignored || (taken[g] && !t->crowd) ||
            v->scratch->iou[i] < reach)
            continue;
        reach = v->scratch->iou[i];
        best = g;
    }
    return best;
}

static enum coco_outcome decide(const struct choice *v, const struct coco_detection *d,
                                double threshold, uint8_t *taken)
{
    int64_t best = choose(v, threshold, taken, false);
    enum coco_outcome found = COCO_TRUE;
    if (best < 0) {
        best = choose(v, threshold, taken, true);
        found = COCO_IGNORED;
    }
    if (best < 0)
        return coco_outside(box_area(d->box), &coco_areas[v->area]) ? COCO_IGNORED : COCO_FALSE;
    taken[best] = 1;
    return found;
}

void coco_match(const struct coco_options *o, const struct coco_cell *c,
                const struct coco_scratch *s, uint8_t *outcome, int64_t stride)
{
    double lowest = lowest_floor(o);
    memset(s->taken, 0, (size_t)(c->n_truths * o->n_thresholds * COCO_AREAS));
    for (int64_t i = 0; i < c->n_detections; i++) {
        const struct coco_detection *d = c->detections[i];
        struct choice v = {c, s, find_near(c, d, lowest, s), 0};
        for (int k = 0; k < COCO_AREAS * o->n_thresholds; k++) {
            v.area = k / o->n_thresholds;
            outcome[k * stride + i] = (uint8_t)decide(&v, d, o->thresholds[k % o->n_thresholds],
                                                      s->taken + k * c->n_truths);
        }
    }
}
