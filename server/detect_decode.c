/* detect_decode.c: boxes and scores of a detector's anchors. The distance of an edge is the
 * expectation of its distribution, counted in cells (engine/detection.h). */
#include "detect.h"

#include <math.h>

int64_t detect_anchors(const struct detection_spec *spec)
{
    int64_t n = 0;
    for (int k = 0; k < spec->n_maps; k++)
        n += (spec->height / spec->stride[k]) * (spec->width / spec->stride[k]);
    return n;
}

/* Numbers of one cell lie `step` apart: a map has one plane for each. */
struct cell {
    const real *at;
    int64_t step;
};

/* The distance of one side, in cells. */
static double expectation(const struct cell *c, int64_t first, int64_t bins)
{
    const real *x = c->at + first * c->step;
    double largest = -INFINITY, sum = 0, weighted = 0;
    for (int64_t k = 0; k < bins; k++)
        largest = fmax(largest, (double)x[k * c->step]);
    for (int64_t k = 0; k < bins; k++) {
        const double p = exp((double)x[k * c->step] - largest);
        sum += p;
        weighted += p * (double)k;
    }
    return weighted / sum;
}

/* The most probable class and its logit; the first of equals. */
static int64_t best_class(const struct cell *c, const struct detection_spec *spec, double *logit_r)
{
    const real *x = c->at + 4 * spec->reg_max * c->step;
    int64_t best = 0;
    for (int64_t k = 1; k < spec->classes; k++)
        if (x[k * c->step] > x[best * c->step])
            best = k;
    *logit_r = (double)x[best * c->step];
    return best;
}

static double clamp(double x, int64_t most)
{
    return x < 0 ? 0 : x > (double)most ? (double)most : x;
}

static struct detection decode_cell(const struct cell *c, const struct detection_spec *spec,
                                    double x, double y, double stride)
{
    double side[4];
    for (int i = 0; i < 4; i++)
        side[i] = expectation(c, i * spec->reg_max, spec->reg_max) * stride;
    return (struct detection){.x1 = clamp(x * stride - side[0], spec->width),
                              .y1 = clamp(y * stride - side[1], spec->height),
                              .x2 = clamp(x * stride + side[2], spec->width),
                              .y2 = clamp(y * stride + side[3], spec->height)};
}

static bool all_finite(const struct detection *d)
{
    return isfinite(d->x1) && isfinite(d->y1) && isfinite(d->x2) && isfinite(d->y2);
}

int64_t detect_decode(const struct detect_maps *m, double conf, struct detection *out)
{
    const struct detection_spec *spec = m->spec;
    int64_t n = 0;
    for (int k = 0; k < spec->n_maps; k++) {
        const int64_t stride = spec->stride[k];
        const int64_t w = spec->width / stride, cells = w * (spec->height / stride);
        for (int64_t i = 0; i < cells; i++) {
            const struct cell c = {m->map[k] + i, cells};
            double logit;
            const int64_t category = best_class(&c, spec, &logit);
            const double score = 1 / (1 + exp(-logit));
            if (!(score >= conf))
                continue;
            struct detection d =
                decode_cell(&c, spec, (double)(i % w) + 0.5, (double)(i / w) + 0.5, (double)stride);
            d.score = score;
            d.category = category;
            if (all_finite(&d))
                out[n++] = d;
        }
    }
    return n;
}
