/* test_coco_rules.c: COCO's average precision on random sets, against a literal and slow
 * transcription of its rules. */
#include "../../server/coco.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX = 256, CATEGORIES = 3, IMAGES = 4 };

struct random_set {
    struct coco_set set;
    int64_t ids[CATEGORIES];
    struct coco_truth truths[MAX];
    struct coco_detection detections[3 * MAX];
};

static uint32_t next_random(uint32_t *seed, uint32_t n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)*seed * n >> 32);
}

/* Few different sizes, places and scores, so that everything ties; areas at the borders. */
static void make_random(struct random_set *r, uint32_t seed)
{
    static const double sizes[] = {0, 16, 32, 48, 64, 96, 128};
    static const double areas[] = {0, 1023, 1024, 1024.5, 9216, 9217, 2e10};
    *r = (struct random_set){.ids = {1, 2, 9}};
    r->set = (struct coco_set){
        r->ids,    IMAGES,       CATEGORIES, next_random(&seed, 60), next_random(&seed, 500),
        r->truths, r->detections};
    for (int64_t i = 0; i < r->set.n_truths; i++) {
        struct coco_truth *t = &r->truths[i];
        *t = (struct coco_truth){.image = (int32_t)next_random(&seed, IMAGES),
                                 .category = (int32_t)next_random(&seed, CATEGORIES),
                                 .area = areas[next_random(&seed, 7)],
                                 .crowd = next_random(&seed, 6) == 0};
        for (int k = 0; k < 4; k++)
            t->box[k] = k < 2 ? 16 * next_random(&seed, 3) : sizes[next_random(&seed, 7)];
    }
    for (int64_t i = 0; i < r->set.n_detections; i++) {
        struct coco_detection *d = &r->detections[i];
        *d = (struct coco_detection){.image = (int32_t)next_random(&seed, IMAGES),
                                     .category = (int32_t)next_random(&seed, CATEGORIES - 1),
                                     .score = next_random(&seed, 8) / 8.0};
        for (int k = 0; k < 4; k++)
            d->box[k] = k < 2 ? 16 * next_random(&seed, 3) : sizes[next_random(&seed, 7)];
    }
}

static double slow_iou(const struct coco_detection *d, const struct coco_truth *g)
{
    double w = fmin(d->box[0] + d->box[2], g->box[0] + g->box[2]) - fmax(d->box[0], g->box[0]);
    double h = fmin(d->box[1] + d->box[3], g->box[1] + g->box[3]) - fmax(d->box[1], g->box[1]);
    double a = d->box[2] * d->box[3], b = g->box[2] * g->box[3];
    if (w <= 0 || h <= 0)
        return 0;
    return w * h / (g->crowd ? a : a + b - w * h);
}

struct slow_result {
    double score;
    int found; /* 1 matched, 0 not */
    bool ignored;
};

static bool slow_outside(double area, int range)
{
    static const double low[] = {0, 0, 1024, 9216}, high[] = {1e10, 1024, 9216, 1e10};
    return area < low[range] || area > high[range];
}

/* evaluateImg of cocoeval: one image, category, area range and threshold. Returns the detections.
 */
static int slow_image(const struct coco_set *s, int image, int category, int range,
                      double threshold, struct slow_result *out, int *npig)
{
    const struct coco_truth *g[MAX];
    const struct coco_detection *d[3 * MAX];
    bool ignore[MAX], taken[MAX] = {0};
    int n_g = 0, n_d = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < s->n_truths; i++) {
            const struct coco_truth *t = &s->truths[i];
            bool ig = t->crowd || slow_outside(t->area, range);
            if (t->image == image && t->category == category && ig == (pass == 1)) {
                ignore[n_g] = ig;
                g[n_g++] = t;
                *npig += !ig;
            }
        }
    for (int64_t i = 0; i < s->n_detections; i++)
        if (s->detections[i].image == image && s->detections[i].category == category) {
            int at = n_d++;
            for (; at > 0 && d[at - 1]->score < s->detections[i].score; at--)
                d[at] = d[at - 1];
            d[at] = &s->detections[i];
        }
    n_d = n_d > 100 ? 100 : n_d;
    for (int i = 0; i < n_d; i++) {
        double iou = fmin(threshold, 1 - 1e-10);
        int m = -1;
        for (int j = 0; j < n_g; j++) {
            if (taken[j] && !g[j]->crowd)
                continue;
            if (m > -1 && !ignore[m] && ignore[j])
                break;
            if (slow_iou(d[i], g[j]) < iou)
                continue;
            iou = slow_iou(d[i], g[j]);
            m = j;
        }
        if (m > -1)
            taken[m] = true;
        out[i] = (struct slow_result){d[i]->score, m > -1,
                                      m > -1 ? ignore[m]
                                             : slow_outside(d[i]->box[2] * d[i]->box[3], range)};
    }
    return n_d;
}

/* accumulate of cocoeval: average precision (over 101 recalls) and the last recall; -1: none. */
static void slow_category(const struct coco_set *s, int category, int range, int max_det,
                          double threshold, double *ap_r, double *recall_r)
{
    static struct slow_result all[4 * MAX], part[4 * MAX];
    double recall[4 * MAX], precision[4 * MAX];
    int n = 0, npig = 0;
    for (int image = 0; image < IMAGES; image++) {
        int found = slow_image(s, image, category, range, threshold, part, &npig);
        for (int i = 0; i < found && i < max_det; i++) {
            int at = n++;
            for (; at > 0 && all[at - 1].score < part[i].score; at--)
                all[at] = all[at - 1];
            all[at] = part[i];
        }
    }
    *ap_r = *recall_r = -1;
    if (!npig)
        return;
    double tp = 0, fp = 0;
    for (int i = 0; i < n; i++) {
        tp += all[i].found && !all[i].ignored;
        fp += !all[i].found && !all[i].ignored;
        recall[i] = tp / npig;
        precision[i] = tp / (fp + tp + 2.220446049250313e-16);
    }
    *recall_r = n ? recall[n - 1] : 0;
    *ap_r = 0;
    for (int i = 0; i < 101; i++) {
        double best = 0;
        int first = 0;
        while (first < n && recall[first] < i * 0.01)
            first++;
        for (int j = first; j < n; j++)
            best = fmax(best, precision[j]);
        *ap_r += best / 101;
    }
}

static double slow_stat(const struct coco_set *s, int stat)
{
    static const struct {
        bool ap;
        int range, max_det, from, to;
    } rows[] = {{1, 0, 100, 0, 10}, {1, 0, 100, 0, 1},  {1, 0, 100, 5, 6},  {1, 1, 100, 0, 10},
                {1, 2, 100, 0, 10}, {1, 3, 100, 0, 10}, {0, 0, 1, 0, 10},   {0, 0, 10, 0, 10},
                {0, 0, 100, 0, 10}, {0, 1, 100, 0, 10}, {0, 2, 100, 0, 10}, {0, 3, 100, 0, 10}};
    struct coco_options o;
    double sum = 0;
    int n = 0;
    coco_options_init(&o, coco_protocol_find("coco", NULL));
    for (int k = 0; k < CATEGORIES; k++)
        for (int t = rows[stat].from; t < rows[stat].to; t++) {
            double ap, recall;
            slow_category(s, k, rows[stat].range, rows[stat].max_det, o.thresholds[t], &ap,
                          &recall);
            double v = rows[stat].ap ? ap : recall;
            sum += v > -1 ? v : 0;
            n += v > -1;
        }
    return n ? sum / n : NAN;
}

static void test_random_sets(void **state)
{
    (void)state;
    struct random_set *r = malloc(sizeof *r);
    struct coco_options o;
    coco_options_init(&o, coco_protocol_find("coco", NULL));
    assert_true(o.thresholds[8] == 0.8999999999999999 && o.thresholds[9] == 0.95);
    for (uint32_t seed = 0; seed < 60; seed++) {
        struct arena *a = arena_create(0);
        struct coco_result found;
        struct error e;
        make_random(r, seed);
        assert_int_equal(coco_evaluate(&r->set, &o, a, &found, &e), 0);
        for (int i = 0; i < 12; i++) {
            double expected = slow_stat(&r->set, i);
            if (isnan(expected) != isnan(found.stats[i]) || fabs(expected - found.stats[i]) > 1e-12)
                fail_msg("seed %u: %s is %.17g, expected %.17g", seed, coco_stat_name(i),
                         found.stats[i], expected);
        }
        arena_destroy(&a);
    }
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
