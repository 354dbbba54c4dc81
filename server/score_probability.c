/* score_probability.c: metrics of probabilities: how well they rank (area under the ROC curve,
 * average precision), and whether they mean what they say (expected calibration error).
 *
 * Probabilities of classes are the softmax of the logits in double; each row's divisor is computed
 * once. Labels are ranked by their logits, which is the same as by their probabilities. */
#include "score_private.h"

#include <math.h>
#include <stdlib.h>

/* ---- ranking ------------------------------------------------------------------------------------
 */

struct ranked {
    double score;
    bool positive;
};

static int compare_ranked(const void *a, const void *b)
{
    double s = ((const struct ranked *)a)->score, t = ((const struct ranked *)b)->score;
    return (s < t) - (s > t);
}

/* Calls for each group of equal scores, from the largest on: positives and negatives until after
 * it, and in it. */
struct groups {
    double positives, negatives; /* until after the group */
    double in_positives, in_negatives;
};
static bool next_group(const struct ranked *v, int64_t n, int64_t *at, struct groups *g)
{
    if (*at == n)
        return false;
    double score = v[*at].score;
    g->in_positives = g->in_negatives = 0;
    for (; *at < n && v[*at].score == score; ++*at) {
        g->in_positives += v[*at].positive;
        g->in_negatives += !v[*at].positive;
    }
    g->positives += g->in_positives;
    g->negatives += g->in_negatives;
    return true;
}

typedef double rank_fn(struct ranked *v, int64_t n);

/* The share of pairs of a positive and a negative that are in order; equal ones count half. */
static double roc_auc(struct ranked *v, int64_t n)
{
    struct groups g = {0};
    double area = 0;
    int64_t at = 0;
    qsort(v, (size_t)n, sizeof *v, compare_ranked);
    while (next_group(v, n, &at, &g))
        area += g.in_negatives * (g.positives - g.in_positives / 2);
    return g.positives > 0 && g.negatives > 0 ? area / (g.positives * g.negatives) : NAN;
}

/* The sum of precision times the step in recall. */
static double average_precision(struct ranked *v, int64_t n)
{
    struct groups g = {0};
    double sum = 0;
    int64_t at = 0;
    qsort(v, (size_t)n, sizeof *v, compare_ranked);
    while (next_group(v, n, &at, &g))
        sum += g.in_positives * g.positives / (g.positives + g.negatives);
    return g.positives > 0 ? sum / g.positives : NAN;
}

struct mean {
    double sum;
    int64_t n;
};
static void mean_add(struct mean *m, double v)
{
    if (isnan(v))
        return;
    m->sum += v;
    m->n++;
}
static double mean_value(const struct mean *m)
{
    return m->n ? m->sum / (double)m->n : NAN;
}

static int rank_labels(const struct scored *s, rank_fn *f, struct arena *a, double *r,
                       struct error *e)
{
    int64_t columns = score_columns(s);
    struct mean mean = {0};
    struct ranked *v = arena_array(a, (size_t)s->n, sizeof *v);
    if (!v)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for ranking");
    for (int64_t k = 0; k < columns; k++) {
        for (int64_t i = 0; i < s->n; i++)
            v[i] = (struct ranked){s->prediction[i * columns + k],
                                   score_target_label(s, i * columns + k)};
        mean_add(&mean, f(v, s->n));
    }
    *r = mean_value(&mean);
    return 0;
}

int score_roc_auc_labels(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    return rank_labels(s, roc_auc, a, r, e);
}

int score_mean_average_precision(const struct scored *s, struct arena *a, double *r,
                                 struct error *e)
{
    return rank_labels(s, average_precision, a, r, e);
}

/* The softmax of a row: exp(x - max) / divisor. */
struct softmax {
    double max, divisor;
};
static struct softmax softmax_of(const struct scored *s, const real *x)
{
    struct softmax m = {x[score_argmax(x, s->classes, s->inner) * s->inner], 0};
    for (int64_t k = 0; k < s->classes; k++)
        m.divisor += exp((double)x[k * s->inner] - m.max);
    return m;
}

/* Each class against all others. */
int score_roc_auc_classes(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    int64_t rows = s->n * s->inner;
    struct mean mean = {0};
    struct ranked *v = arena_array(a, (size_t)rows, sizeof *v);
    struct softmax *m = arena_array(a, (size_t)rows, sizeof *m);
    int64_t *want = arena_array(a, (size_t)rows, sizeof *want);
    if (!v || !m || !want)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for ranking");
    for (int64_t i = 0; i < rows; i++) {
        m[i] = softmax_of(s, score_logits(s, i));
        want[i] = score_target_class(s, i);
    }
    for (int64_t k = 0; k < s->classes; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < rows; i++) {
            double x = score_logits(s, i)[k * s->inner];
            if (want[i] >= 0)
                v[n++] = (struct ranked){exp(x - m[i].max) / m[i].divisor, want[i] == k};
        }
        mean_add(&mean, roc_auc(v, n));
    }
    *r = mean_value(&mean);
    return 0;
}

/* ---- calibration --------------------------------------------------------------------------------
 */

/* Bins of equal width; one that ends at a border holds it (Guo et al. 2017, with 15 bins). */
enum { BINS = 15 };
struct bins {
    double probability[BINS]; /* sums */
    int64_t right[BINS], n;
};

static void bins_add(struct bins *b, double probability, bool right)
{
    int at = 0;
    while (at < BINS - 1 && (at + 1) * (1.0 / BINS) < probability)
        at++;
    b->probability[at] += probability;
    b->right[at] += right;
    b->n++;
}

/* The mean over all of how far the share of right ones in their bin is from its probability. */
static double bins_error(const struct bins *b)
{
    double sum = 0;
    for (int i = 0; i < BINS; i++)
        sum += fabs((double)b->right[i] - b->probability[i]);
    return b->n ? sum / (double)b->n : NAN;
}

/* Of the class that is predicted. */
int score_calibration_classes(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    struct bins b = {0};
    (void)a, (void)e;
    for (int64_t i = 0; i < s->n * s->inner; i++) {
        int64_t want = score_target_class(s, i);
        const real *x = score_logits(s, i);
        if (want >= 0)
            bins_add(&b, 1 / softmax_of(s, x).divisor,
                     score_argmax(x, s->classes, s->inner) == want);
    }
    *r = bins_error(&b);
    return 0;
}

/* Of every label that it is there. */
int score_calibration_labels(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    struct bins b = {0};
    (void)a, (void)e;
    for (int64_t i = 0; i < s->n * score_columns(s); i++)
        bins_add(&b, 1 / (1 + exp(-(double)s->prediction[i])), score_target_label(s, i));
    *r = bins_error(&b);
    return 0;
}
