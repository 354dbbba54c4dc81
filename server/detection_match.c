/* detection_match.c: who detects whom, by the rules of VOC and of Ultralytics (coco.h). In both a
 * detection knows one truth only, the one that it overlaps most; the first to claim it is right. */
#include "coco_private.h"

#include <math.h>
#include <string.h>

/* ---- VOC ----------------------------------------------------------------------------------------
 */

/* `pixel` is 1 when x2 and y2 are the last pixels of the box, and 0 when they are its border. */
static double voc_iou(const double *a, const double *b, double pixel)
{
    double w = fmin(a[0] + a[2], b[0] + b[2]) - fmax(a[0], b[0]) + pixel;
    double h = fmin(a[1] + a[3], b[1] + b[3]) - fmax(a[1], b[1]) + pixel;
    if (w <= 0 || h <= 0)
        return 0;
    double both = w * h;
    double whole = (a[2] + pixel) * (a[3] + pixel) + (b[2] + pixel) * (b[3] + pixel) - both;
    return whole > 0 ? both / whole : 0;
}

/* The first of the truths with the largest IoU. */
static int64_t voc_best(const struct coco_options *o, const struct coco_cell *c,
                        const struct coco_detection *d, double *iou_r)
{
    int64_t best = -1;
    *iou_r = -1;
    for (int64_t g = 0; g < c->n_truths; g++) {
        double iou = voc_iou(d->box, c->truths[g]->box, o->inclusive_pixels ? 1 : 0);
        if (iou > *iou_r) {
            *iou_r = iou;
            best = g;
        }
    }
    return best;
}

void voc_match(const struct coco_options *o, const struct coco_cell *c,
               const struct coco_scratch *s, uint8_t *outcome, int64_t stride)
{
    memset(s->taken, 0, (size_t)(c->n_truths * o->n_thresholds));
    for (int64_t i = 0; i < c->n_detections; i++) {
        double iou;
        int64_t best = voc_best(o, c, c->detections[i], &iou);
        for (int t = 0; t < o->n_thresholds; t++) {
            uint8_t *taken = s->taken + t * c->n_truths;
            enum coco_outcome found = COCO_FALSE;
            if (best >= 0 && iou >= o->thresholds[t]) {
                found = c->truths[best]->crowd ? COCO_IGNORED
                        : taken[best]          ? COCO_FALSE
                                               : COCO_TRUE;
                taken[best] = 1;
            }
            outcome[t * stride + i] = (uint8_t)found;
        }
    }
}

/* ---- Ultralytics --------------------------------------------------------------------------------
 */

/* In float32, as its validator computes: 1e-7 is lost in a union of more than a few pixels. */
static float ultralytics_iou(const double *a, const double *b)
{
    float ax = (float)a[0], ay = (float)a[1], bx = (float)b[0], by = (float)b[1];
    float ax2 = (float)(a[0] + a[2]), ay2 = (float)(a[1] + a[3]);
    float bx2 = (float)(b[0] + b[2]), by2 = (float)(b[1] + b[3]);
    float w = fminf(ax2, bx2) - fmaxf(ax, bx), h = fminf(ay2, by2) - fmaxf(ay, by);
    if (w <= 0 || h <= 0)
        return 0;
    float both = w * h;
    return both / ((ax2 - ax) * (ay2 - ay) + (bx2 - bx) * (by2 - by) - both + 1e-7f);
}

/* The last of the truths with the largest IoU: its validator sorts by IoU and turns that around. */
static int64_t ultralytics_best(const struct coco_cell *c, const struct coco_detection *d,
                                float *iou_r)
{
    int64_t best = -1;
    *iou_r = 0;
    for (int64_t g = 0; g < c->n_truths; g++) {
        float iou = c->truths[g]->crowd ? -1 : ultralytics_iou(d->box, c->truths[g]->box);
        if (iou >= *iou_r) {
            *iou_r = iou;
            best = g;
        }
    }
    return best;
}

void ultralytics_match(const struct coco_options *o, const struct coco_cell *c,
                       const struct coco_scratch *s, uint8_t *outcome, int64_t stride)
{
    memset(s->taken, 0, (size_t)(c->n_truths * o->n_thresholds));
    for (int64_t i = 0; i < c->n_detections; i++) {
        float iou;
        int64_t best = ultralytics_best(c, c->detections[i], &iou);
        for (int t = 0; t < o->n_thresholds; t++) {
            uint8_t *taken = s->taken + t * c->n_truths;
            bool first = best >= 0 && iou >= (float)o->thresholds[t] && !taken[best];
            if (first)
                taken[best] = 1;
            outcome[t * stride + i] = first ? COCO_TRUE : COCO_FALSE;
        }
    }
}
