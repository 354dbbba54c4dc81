/* detection_average.c: one number from a curve of precision over recall, a function a protocol.
 * Points come by falling score, so recall rises. */
#include "coco_private.h"

#include <math.h>
#include <string.h>

/* Makes precision fall: each becomes the largest from there on. */
static void make_falling(const struct coco_points *p)
{
    for (int64_t i = p->n - 1; i > 0; i--)
        p->precision[i - 1] = fmax(p->precision[i - 1], p->precision[i]);
}

/* Sums the precision at the first point whose recall reaches i * step, for i from 0 to n - 1; 0
 * where none does. `curve`: those values, or NULL. */
static double sum_reached(const struct coco_points *p, int n, double step, double *curve)
{
    double sum = 0;
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        while (at < p->n && p->recall[at] < i * step)
            at++;
        double precision = at < p->n ? p->precision[at] : 0;
        sum += precision;
        if (curve)
            curve[i] = precision;
    }
    return sum;
}

double coco_average(const struct coco_points *p, double *curve)
{
    make_falling(p);
    return sum_reached(p, COCO_CURVE, 0.01, curve) / COCO_CURVE;
}

double voc_average(const struct coco_points *p, double *curve)
{
    double area = 0, before = 0;
    make_falling(p);
    for (int64_t i = 0; i < p->n; i++) {
        area += (p->recall[i] - before) * p->precision[i];
        before = p->recall[i];
    }
    if (curve)
        sum_reached(p, COCO_CURVE, 0.01, curve);
    return area;
}

double voc2007_average(const struct coco_points *p, double *curve)
{
    make_falling(p);
    if (curve)
        sum_reached(p, COCO_CURVE, 0.01, curve);
    return sum_reached(p, 11, 0.1, NULL) / 11;
}

/* ---- Ultralytics --------------------------------------------------------------------------------
 */

double interp_next(struct interp *t, double x)
{
    if (!t->n || x < t->x[0])
        return t->left;
    while (t->at + 1 < t->n && t->x[t->at + 1] <= x)
        t->at++;
    const double *px = t->x + t->at, *py = t->y + t->at;
    if (t->at == t->n - 1 || px[0] == x)
        return py[0];
    return (py[1] - py[0]) / (px[1] - px[0]) * (x - px[0]) + py[0];
}

/* The area under the points with their sentinels, by trapezoids between 101 places. */
static double integrate(const struct coco_points *p, double *curve)
{
    struct interp line = {p->recall, p->precision, p->n, 0, 0};
    double area = 0, before = 0;
    for (int i = 0; i < COCO_CURVE; i++) {
        double y = interp_next(&line, i * 0.01);
        if (curve)
            curve[i] = y;
        if (i)
            area += (i * 0.01 - (i - 1) * 0.01) * (before + y) / 2;
        before = y;
    }
    return area;
}

/* Without detections Ultralytics leaves a zero. */
static double nothing(double *curve)
{
    if (curve)
        memset(curve, 0, COCO_CURVE * sizeof *curve);
    return 0;
}

static struct coco_points with_sentinels(const struct coco_points *p, int behind)
{
    struct coco_points all = {p->recall - 1, p->precision - 1, p->n + 1 + behind};
    all.recall[0] = 0;
    all.precision[0] = 1;
    for (int64_t i = p->n + 1; i < all.n; i++) {
        all.recall[i] = i == all.n - 1 ? 1 : p->recall[p->n - 1];
        all.precision[i] = 0;
    }
    return all;
}

static double ultralytics_area(const struct coco_points *p, int behind, double *curve)
{
    if (!p->n)
        return nothing(curve);
    struct coco_points all = with_sentinels(p, behind);
    make_falling(&all);
    return integrate(&all, curve);
}

double ultralytics_average(const struct coco_points *p, double *curve)
{
    return ultralytics_area(p, 2, curve);
}

double ultralytics_legacy_average(const struct coco_points *p, double *curve)
{
    return ultralytics_area(p, 1, curve);
}

/* ---- precision and recall over the score --------------------------------------------------------
 */

void f1_curves_add(struct f1_curves *f, const double *minus_score, const struct coco_points *p)
{
    struct interp precision = {minus_score, p->precision, p->n, 0, 1};
    struct interp recall = {minus_score, p->recall, p->n, 0, 0};
    if (!p->n)
        return;
    for (int i = F1_POINTS - 1; i >= 0; i--) {
        double score = i * (1.0 / (F1_POINTS - 1));
        double a = interp_next(&precision, -score), b = interp_next(&recall, -score);
        f->precision[i] += a;
        f->recall[i] += b;
        f->f1[i] += 2 * a * b / (a + b + 1e-16);
    }
}

/* The mean of 101 neighbours; beyond the ends the curve goes on level. */
static double smoothed(const double *y, int at)
{
    enum { HALF = 50 };
    double sum = 0;
    for (int i = at - HALF; i <= at + HALF; i++)
        sum += y[i < 0 ? 0 : i >= F1_POINTS ? F1_POINTS - 1 : i];
    return sum / (2 * HALF + 1);
}

void f1_curves_best(const struct f1_curves *f, double categories, double best_r[3])
{
    int best = 0;
    for (int i = 1; i < F1_POINTS; i++)
        if (smoothed(f->f1, i) > smoothed(f->f1, best))
            best = i;
    best_r[0] = f->precision[best] / categories;
    best_r[1] = f->recall[best] / categories;
    best_r[2] = f->f1[best] / categories;
}
