/* detect_terms.c: the terms of a detector's loss for one image, given which anchor serves which
 * object, and their gradient. With score s of an anchor, its box b, its object's box t:
 *
 *   cls = sum over anchors and classes of BCE(logit, s where it is the object's class, else 0)
 *   box = sum over serving anchors of s * (1 - CIoU(b, t))
 *   dfl = sum over serving anchors of s * mean over sides of cross entropy with the two whole
 *         distances around that of t's edge, each weighted by how near it is */
#include "detection.h"
#include "real.h"

#include <math.h>
#include <string.h>

/* An anchor that serves an object. */
struct serving {
    struct anchor anchor;
    struct truth truth;
    struct box cells; /* the object's box */
    double score, alpha;
};

/* False when it serves none. */
static bool serving_at(const struct detection_maps *m, const real *rows, const struct assigned *a,
                       int64_t i, struct serving *s_r)
{
    s_r->anchor = detection_anchor(m, i);
    if (a->object[i] < 0)
        return false;
    const double stride = s_r->anchor.stride;
    s_r->truth = detection_truth(m->grid, rows + 5 * (int64_t)a->object[i]);
    s_r->cells = (struct box){s_r->truth.box.x1 / stride, s_r->truth.box.y1 / stride,
                              s_r->truth.box.x2 / stride, s_r->truth.box.y2 / stride};
    s_r->score = (double)a->score[i];
    s_r->alpha = (double)a->alpha[i];
    return true;
}

/* The distances from the anchor's point to the object's edges, as far as bins reach. */
static void wanted_sides(const struct serving *s, int64_t reg_max, double side[4])
{
    const double most = (double)(reg_max - 1) - 0.01;
    side[0] = s->anchor.x - s->cells.x1;
    side[1] = s->anchor.y - s->cells.y1;
    side[2] = s->cells.x2 - s->anchor.x;
    side[3] = s->cells.y2 - s->anchor.y;
    for (int i = 0; i < 4; i++)
        side[i] = side[i] < 0 ? 0 : side[i] > most ? most : side[i];
}

/* log of the sum of exponentials. */
static double log_sum(const real *x, int64_t n)
{
    double largest = (double)x[0], sum = 0;
    for (int64_t k = 1; k < n; k++)
        largest = (double)x[k] > largest ? (double)x[k] : largest;
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)x[k] - largest);
    return largest + log(sum);
}

static double dfl_term(const struct serving *s, int64_t reg_max)
{
    double side[4], sum = 0;
    wanted_sides(s, reg_max, side);
    for (int i = 0; i < 4; i++) {
        const real *x = s->anchor.logits + i * reg_max;
        const int64_t low = (int64_t)side[i];
        const double high_share = side[i] - (double)low;
        sum += log_sum(x, reg_max) - (1 - high_share) * (double)x[low] -
               high_share * (double)x[low + 1];
    }
    return sum / 4;
}

static double box_term(const struct serving *s, int64_t reg_max)
{
    const struct box said = anchor_box(&s->anchor, reg_max);
    struct ciou c = box_ciou(&said, &s->cells);
    c.alpha = s->alpha;
    return 1 - ciou_value(&c);
}

/* BCE against zeros; the target of the object's class is subtracted by the caller. */
static double background_terms(const real *logits, int64_t classes)
{
    double sum = 0;
    for (int64_t k = 0; k < classes; k++) {
        const real x = logits[k];
        sum += (double)RM(log1p)(RM(exp)(-RM(fabs)(x))) + (x < 0 ? 0 : (double)x);
    }
    return sum;
}

struct detection_terms detection_terms(const struct detection_maps *m, const real *rows,
                                       const struct assigned *a)
{
    const struct detection_grid *g = m->grid;
    struct detection_terms sum = {0};
    for (int64_t i = 0; i < g->anchors; i++) {
        struct serving s;
        const bool serves = serving_at(m, rows, a, i, &s);
        const real *classes = s.anchor.logits + 4 * g->reg_max;
        sum.cls += background_terms(classes, g->classes);
        if (!serves)
            continue;
        sum.cls -= (double)classes[s.truth.category] * s.score;
        sum.box += s.score * box_term(&s, g->reg_max);
        sum.dfl += s.score * dfl_term(&s, g->reg_max);
        sum.score += s.score;
    }
    return sum;
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* Through the expectation of each side to its logits; and that of the distributions' own loss. */
static void serving_slopes(const struct serving *s, int64_t reg_max,
                           const struct detection_gains *gains, real *out)
{
    double p[4][DETECTION_MAX_BINS], mean[4], side[4];
    for (int i = 0; i < 4; i++)
        mean[i] = bins_expectation(s->anchor.logits + i * reg_max, reg_max, p[i]);
    const struct box said = {s->anchor.x - mean[0], s->anchor.y - mean[1], s->anchor.x + mean[2],
                             s->anchor.y + mean[3]};
    const struct box d = box_ciou_slope(&said, &s->cells, s->alpha);
    const double by_side[] = {-d.x1, -d.y1, d.x2, d.y2};
    const double box = -gains->box * s->score, dfl = gains->dfl * s->score / 4;
    wanted_sides(s, reg_max, side);
    for (int i = 0; i < 4; i++) {
        const int64_t low = (int64_t)side[i];
        const double high_share = side[i] - (double)low;
        for (int64_t k = 0; k < reg_max; k++) {
            const double share = k == low ? 1 - high_share : k == low + 1 ? high_share : 0;
            out[i * reg_max + k] = (real)(box * by_side[i] * p[i][k] * ((double)k - mean[i]) +
                                          dfl * (p[i][k] - share));
        }
    }
}

void detection_slopes(const struct detection_maps *m, const real *rows, const struct assigned *a,
                      const struct detection_gains *gains, real *const *slope)
{
    const struct detection_grid *g = m->grid;
    const int64_t bins = 4 * g->reg_max, numbers = bins + g->classes;
    for (int k = 0; k < g->n_levels; k++) {
        const struct detection_level *l = &g->level[k];
        for (int64_t cell = 0; slope[k] && cell < l->h * l->w; cell++) {
            struct serving s;
            const bool serves = serving_at(m, rows, a, l->first + cell, &s);
            real *out = slope[k] + cell * numbers;
            for (int64_t c = 0; c < g->classes; c++)
                out[bins + c] =
                    (real)(gains->cls / (1 + (double)RM(exp)(-s.anchor.logits[bins + c])));
            if (serves)
                out[bins + s.truth.category] -= (real)(gains->cls * s.score);
            if (serves)
                serving_slopes(&s, g->reg_max, gains, out);
            else
                memset(out, 0, (size_t)bins * sizeof *out);
        }
    }
}
