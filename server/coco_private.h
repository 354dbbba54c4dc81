/* coco_private.h: what the files of the evaluation share: a protocol's row, cells, and curves. */
#ifndef BACKPROPD_COCO_PRIVATE_H
#define BACKPROPD_COCO_PRIVATE_H

#include "coco.h"

enum { COCO_AREAS = 4, COCO_MAX_DETS = 3 };

/* All truths and detections of one category in one image; detections by falling score. */
struct coco_cell {
    const struct coco_truth *const *truths;
    const struct coco_detection *const *detections;
    int64_t n_truths, n_detections;
};

enum coco_outcome { COCO_IGNORED, COCO_TRUE, COCO_FALSE };

/* Room for matching one cell: G is the most truths of a cell. */
struct coco_scratch {
    uint8_t *taken; /* [areas][thresholds][G]; the matchers clear what they use */
    int64_t *near;  /* [G] truths that one detection could take */
    double *iou;    /* [G] of them */
};

/* Fills outcome[(area * thresholds + t) * stride + i] for each detection i of the cell. */
typedef void coco_match_fn(const struct coco_options *o, const struct coco_cell *c,
                           const struct coco_scratch *s, uint8_t *outcome, int64_t stride);

/* One category at one threshold: recall and precision after each detection that is not ignored, by
 * falling score. Room for a point before and two behind, for sentinels. */
struct coco_points {
    double *recall, *precision; /* [n] */
    int64_t n;
};

/* Average precision; fills `curve` [COCO_CURVE] with the precision it sees, if it is not NULL. May
 * change the points. */
typedef double coco_average_fn(const struct coco_points *p, double *curve);

struct coco_protocol {
    const char *name;
    coco_match_fn *match;
    coco_average_fn *average;
    double epsilon;        /* added to the divisor of precision */
    int n_areas;           /* area ranges that are told apart */
    int cell_max;          /* detections of an image and category that count; 0: all */
    int image_max;         /* detections of an image that count; 0: all */
    bool recalls, best_f1; /* which of the stats there are */
    bool inclusive_pixels; /* default of the option */
};
extern const struct coco_protocol coco_protocols[]; /* ends with name NULL */

struct coco_range {
    double min, max;
};
extern const struct coco_range coco_areas[COCO_AREAS];

static inline bool coco_outside(double area, const struct coco_range *r)
{
    return area < r->min || area > r->max;
}
static inline bool coco_truth_ignored(const struct coco_truth *t, int area)
{
    return t->crowd || coco_outside(t->area, &coco_areas[area]);
}

coco_match_fn coco_match, voc_match, ultralytics_match; /* coco_match.c, detection_match.c */

/* ---- cells: coco_cells.c -----------------------------------------------------------------------
 */

/* A set in the order of its evaluation: by category, image, and falling score. Detections that are
 * too many are left out. */
struct coco_sorted {
    const struct coco_truth **truths;
    const struct coco_detection **detections;
    int64_t n_truths, n_detections;
    int64_t most_truths;     /* of a cell */
    int64_t most_detections; /* of a category */
    int64_t cut;
};
int coco_sort(const struct coco_set *set, const struct coco_protocol *p, struct arena *a,
              struct coco_sorted *s, struct error *e);

/* The next cell of the category; *truth and *detection move on. False: it has no more. */
bool coco_next_cell(const struct coco_sorted *s, int64_t category, int64_t *truth,
                    int64_t *detection, struct coco_cell *c_r);

/* ---- averages: detection_average.c --------------------------------------------------------------
 */

coco_average_fn coco_average, voc_average, voc2007_average;
coco_average_fn ultralytics_average, ultralytics_legacy_average;

/* numpy.interp for xs that rise from call to call; x[n] rises too. */
struct interp {
    const double *x, *y;
    int64_t n, at;
    double left; /* of what lies before x[0] */
};
double interp_next(struct interp *t, double x);

/* Precision, recall and F1 over the score, summed over categories (ultralytics). */
enum { F1_POINTS = 1000 };
struct f1_curves {
    double precision[F1_POINTS], recall[F1_POINTS], f1[F1_POINTS];
};
/* `minus_score` rises: one for each point. No points: the category counts as zero. */
void f1_curves_add(struct f1_curves *f, const double *minus_score, const struct coco_points *p);
/* precision, recall and f1 where the smoothed sum of F1 is largest, divided by `categories`. */
void f1_curves_best(const struct f1_curves *f, double categories, double best_r[3]);

#endif
