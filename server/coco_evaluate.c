/* coco_evaluate.c: the evaluation category by category: matches its cells, counts true and false
 * positives by falling score, and sums what the means are made of. The numbers that come out are
 * rows of one table. */
#include "coco_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int max_dets[COCO_MAX_DETS] = {1, 10, 100};

/* Sums over the categories that have truths. */
struct sums {
    double precision[COCO_AREAS][COCO_MAX_THRESHOLDS];
    double recall[COCO_AREAS][COCO_MAX_DETS][COCO_MAX_THRESHOLDS];
    int64_t categories[COCO_AREAS];
    struct f1_curves f1;
};

struct ranked {
    double score;
    int64_t place; /* among the category's detections, which stand by image */
    int rank;      /* in its cell */
};

struct work {
    const struct coco_set *set;
    const struct coco_options *o;
    const struct coco_protocol *p;
    struct coco_sorted sorted;
    struct coco_scratch scratch;
    /* of the present category: */
    int64_t n, truths[COCO_AREAS]; /* detections; truths that are not ignored */
    struct ranked *order;          /* [n] */
    uint8_t *outcome;              /* [areas][thresholds][stride] */
    int64_t stride;
    struct coco_points points;
    double *minus_score; /* [n] */
    struct sums *sums;
    int curve_at; /* place of the curves' threshold */
    double *category_ap, *category_ap50, *curves;
    struct coco_result *result;
};

/* ---- one category -------------------------------------------------------------------------------
 */

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *s = a, *t = b;
    int order = (s->score < t->score) - (s->score > t->score);
    return order ? order : (s->place > t->place) - (s->place < t->place);
}

/* Protocols that do not tell areas apart ignore crowds only. */
static bool ignored(const struct work *w, const struct coco_truth *t, int area)
{
    return w->p->n_areas > 1 ? coco_truth_ignored(t, area) : t->crowd;
}

static void match_cell(struct work *w, const struct coco_cell *c)
{
    w->p->match(w->o, c, &w->scratch, w->outcome + w->n, w->stride);
    for (int64_t i = 0; i < c->n_detections; i++, w->n++)
        w->order[w->n] = (struct ranked){c->detections[i]->score, w->n,
                                         (int)(i < max_dets[COCO_MAX_DETS - 1] ? i : INT32_MAX)};
    for (int64_t i = 0; i < c->n_truths; i++)
        for (int a = 0; a < w->p->n_areas; a++)
            w->truths[a] += !ignored(w, c->truths[i], a);
}

/* Recall and precision after each detection that counts. */
static void trace(struct work *w, const uint8_t *outcome, int64_t truths)
{
    double tp = 0, fp = 0;
    struct coco_points *p = &w->points;
    p->n = 0;
    for (int64_t i = 0; i < w->n; i++) {
        enum coco_outcome found = outcome[w->order[i].place];
        if (found == COCO_IGNORED)
            continue;
        tp += found == COCO_TRUE;
        fp += found == COCO_FALSE;
        p->recall[p->n] = tp / (double)truths;
        p->precision[p->n] = tp / (fp + tp + w->p->epsilon);
        w->minus_score[p->n++] = -w->order[i].score;
    }
}

static void add_recalls(struct work *w, const uint8_t *outcome, int area, int t)
{
    int64_t tp[COCO_MAX_DETS] = {0};
    for (int64_t i = 0; i < w->n; i++)
        for (int m = 0; m < COCO_MAX_DETS; m++)
            tp[m] += outcome[w->order[i].place] == COCO_TRUE && w->order[i].rank < max_dets[m];
    for (int m = 0; m < COCO_MAX_DETS; m++)
        w->sums->recall[area][m][t] += (double)tp[m] / (double)w->truths[area];
}

/* One area and threshold of category k. */
static void accumulate(struct work *w, int64_t k, int area, int t)
{
    const uint8_t *outcome = w->outcome + (area * w->o->n_thresholds + t) * w->stride;
    bool curve = area == 0 && t == w->curve_at;
    trace(w, outcome, w->truths[area]);
    if (curve && w->p->best_f1)
        f1_curves_add(&w->sums->f1, w->minus_score, &w->points);
    double average = w->p->average(&w->points, curve ? w->curves + k * COCO_CURVE : NULL);
    w->sums->precision[area][t] += average;
    add_recalls(w, outcome, area, t);
    if (area == 0)
        w->category_ap[k] += average / w->o->n_thresholds;
    if (curve)
        w->category_ap50[k] = average;
}

static void fill_nan(double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = NAN;
}

static void count_ignored(struct work *w)
{
    const uint8_t *outcome = w->outcome + w->curve_at * w->stride;
    for (int64_t i = 0; i < w->n; i++)
        w->result->counts.ignored += outcome[i] == COCO_IGNORED;
}

static void finish_category(struct work *w, int64_t k)
{
    qsort(w->order, (size_t)w->n, sizeof *w->order, compare_ranked);
    count_ignored(w);
    if (!w->truths[0]) {
        fill_nan(w->curves + k * COCO_CURVE, COCO_CURVE);
        w->category_ap[k] = w->category_ap50[k] = NAN;
    }
    for (int a = 0; a < w->p->n_areas; a++) {
        w->sums->categories[a] += w->truths[a] > 0;
        for (int t = 0; t < w->o->n_thresholds && w->truths[a]; t++)
            accumulate(w, k, a, t);
    }
}

static int check_gone(const struct coco_options *o, struct error *e)
{
    return o->gone && o->gone(o->gone_arg)
               ? error_set(e, ERROR_CLIENT_GONE,
                           "the client closed the connection while its answer was computed")
               : 0;
}

static int evaluate_categories(struct work *w, struct error *e)
{
    int64_t truth = 0, detection = 0;
    for (int64_t k = 0; k < w->set->n_categories; k++) {
        struct coco_cell c;
        w->n = 0;
        memset(w->truths, 0, sizeof w->truths);
        while (coco_next_cell(&w->sorted, k, &truth, &detection, &c)) {
            if (check_gone(w->o, e))
                return -1;
            match_cell(w, &c);
        }
        finish_category(w, k);
    }
    return 0;
}

/* ---- the numbers --------------------------------------------------------------------------------
 */

enum stat_kind { STAT_AP, STAT_AR, STAT_F1 };
static const struct {
    const char *name;
    enum stat_kind kind;
    double threshold; /* AP: 0: all */
    int area, place;  /* place: of max_dets, or of the three at the best F1 */
} stats[] = {
    {"AP", STAT_AP, 0, 0, 2},        {"AP50", STAT_AP, 0.5, 0, 2},
    {"AP75", STAT_AP, 0.75, 0, 2},   {"AP_small", STAT_AP, 0, 1, 2},
    {"AP_medium", STAT_AP, 0, 2, 2}, {"AP_large", STAT_AP, 0, 3, 2},
    {"AR1", STAT_AR, 0, 0, 0},       {"AR10", STAT_AR, 0, 0, 1},
    {"AR100", STAT_AR, 0, 0, 2},     {"AR_small", STAT_AR, 0, 1, 2},
    {"AR_medium", STAT_AR, 0, 2, 2}, {"AR_large", STAT_AR, 0, 3, 2},
    {"precision", STAT_F1, 0, 0, 0}, {"recall", STAT_F1, 0, 0, 1},
    {"f1", STAT_F1, 0, 0, 2},
};
enum { STATS = sizeof stats / sizeof stats[0] };

const char *coco_stat_name(int i)
{
    return i >= 0 && i < STATS ? stats[i].name : NULL;
}

bool coco_stat_offered(const struct coco_protocol *p, int i)
{
    return stats[i].kind != STAT_F1 || p->best_f1;
}

/* The mean over categories and over the thresholds that are `threshold`, or over all. */
static double mean_of(const struct work *w, const double *sum, double threshold, int64_t categories)
{
    double total = 0;
    int n = 0;
    for (int t = 0; t < w->o->n_thresholds; t++)
        if (threshold == 0 || w->o->thresholds[t] == threshold) {
            total += sum[t];
            n++;
        }
    return n && categories ? total / n / (double)categories : NAN;
}

static double stat_value(const struct work *w, int i, const double best[3])
{
    int area = stats[i].area;
    int64_t categories = w->sums->categories[area];
    if (stats[i].kind == STAT_F1)
        return w->p->best_f1 && categories ? best[stats[i].place] : NAN;
    if (stats[i].kind == STAT_AR)
        return w->p->recalls ? mean_of(w, w->sums->recall[area][stats[i].place], 0, categories)
                             : NAN;
    return mean_of(w, w->sums->precision[area], stats[i].threshold, categories);
}

static int write_result(struct work *w, struct arena *a, struct error *e)
{
    double best[3], *values = arena_array(a, STATS, sizeof *values);
    double *threshold_ap = arena_array(a, COCO_MAX_THRESHOLDS, sizeof *threshold_ap);
    if (!values || !threshold_ap)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the statistics");
    f1_curves_best(&w->sums->f1, (double)w->sums->categories[0], best);
    for (int i = 0; i < STATS; i++)
        values[i] = stat_value(w, i, best);
    for (int t = 0; t < w->o->n_thresholds; t++)
        threshold_ap[t] = w->sums->categories[0]
                              ? w->sums->precision[0][t] / (double)w->sums->categories[0]
                              : NAN;
    struct coco_result *r = w->result;
    r->stats = values;
    r->threshold_ap = threshold_ap;
    r->category_ap = w->category_ap;
    r->category_ap50 = w->category_ap50;
    r->curves = w->curves;
    r->curve_threshold = w->o->thresholds[w->curve_at];
    return 0;
}

static void count_truths(const struct work *w, struct coco_counts *c)
{
    c->truths = w->set->n_truths;
    c->detections = w->set->n_detections;
    c->cut = w->sorted.cut;
    for (int64_t i = 0; i < c->truths; i++) {
        c->crowds += w->set->truths[i].crowd;
        c->truths_ignored += ignored(w, &w->set->truths[i], 0);
    }
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

static int make_room(struct work *w, struct arena *a, struct error *e)
{
    size_t most = (size_t)w->sorted.most_truths + 1, n = (size_t)w->sorted.most_detections + 1;
    size_t categories = (size_t)w->set->n_categories + 1;
    size_t kinds = (size_t)(w->p->n_areas * w->o->n_thresholds);
    w->stride = (int64_t)n;
    w->scratch = (struct coco_scratch){.taken = arena_array(a, most, kinds),
                                       .near = arena_array(a, most, sizeof(int64_t)),
                                       .iou = arena_array(a, most, sizeof(double))};
    w->outcome = arena_array(a, n, kinds);
    w->order = arena_array(a, n, sizeof *w->order);
    w->points.recall = arena_array(a, n + 3, sizeof(double));
    w->points.precision = arena_array(a, n + 3, sizeof(double));
    w->minus_score = arena_array(a, n, sizeof(double));
    w->sums = arena_alloc(a, sizeof *w->sums);
    w->category_ap = arena_array(a, categories, sizeof(double));
    w->category_ap50 = arena_array(a, categories, sizeof(double));
    w->curves = arena_array(a, categories, COCO_CURVE * sizeof(double));
    if (!w->scratch.taken || !w->scratch.near || !w->scratch.iou || !w->outcome || !w->order ||
        !w->points.recall || !w->points.precision || !w->minus_score || !w->sums ||
        !w->category_ap || !w->category_ap50 || !w->curves)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for evaluating boxes");
    w->points.recall++; /* the point before */
    w->points.precision++;
    return 0;
}

static int curve_place(const struct coco_options *o)
{
    for (int t = 0; t < o->n_thresholds; t++)
        if (o->thresholds[t] == 0.5)
            return t;
    return 0;
}

int coco_evaluate(const struct coco_set *set, const struct coco_options *o, struct arena *a,
                  struct coco_result *r, struct error *e)
{
    struct work w = {.set = set, .o = o, .p = o->protocol, .result = r};
    *r = (struct coco_result){0};
    w.curve_at = curve_place(o);
    if (coco_sort(set, w.p, a, &w.sorted, e) || make_room(&w, a, e) || evaluate_categories(&w, e))
        return -1;
    count_truths(&w, &r->counts);
    return write_result(&w, a, e);
}
