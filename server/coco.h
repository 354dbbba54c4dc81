/* coco.h: how well a detector's boxes fit the ground truth: average precision and recall.
 *
 * The rules of protocol `coco`, which are those of pycocotools' cocoeval for boxes, number by
 * number:
 *
 *  1. Parameters. IoU thresholds are numpy.linspace(0.5, 0.95, 10): the ninth is
 * 0.8999999999999999. Recall thresholds are i * 0.01, which is not i / 100. Areas: all [0, 1e10],
 * small [0, 1024], medium [1024, 9216], large [9216, 1e10], both ends inclusive.
 *  2. Boxes are x, y, width, height. IoU is the intersection over the union; when the truth is a
 *     crowd, over the detection's area alone. No pixel is added.
 *  3. A truth is ignored for an area range when it is a crowd or when its `area`, which is not
 *     width * height, lies outside of the range. For detections width * height counts.
 *  4. In each image and category the detections stand by falling score, equal scores in the order
 *     in which they were given, and the list is cut after 100. Truths stand as given, those that
 *     are ignored after the others.
 *  5. For each threshold the detections choose in that order: the truth with the largest IoU that
 *     is at least the threshold and that nobody has; of equal ones the last. Ignored truths are
 *     looked at only when no other will do. Crowds can be had many times. Who takes an ignored
 * truth is ignored.
 *  6. A detection without a truth is ignored when its own area is outside of the range, else it is
 *     a false positive.
 *  7. A category's detections, image after image by rising id, are sorted by score, stably. With
 *     true and false positives counted up: recall = tp / truths not ignored, precision =
 *     tp / (fp + tp + 2.22e-16), made falling from the right. Average precision is the mean over
 * the 101 recall thresholds of the precision at the first recall that reaches them, or 0.
 *  8. The 12 numbers are means over thresholds and over the categories that have truths.
 *
 * Where pycocotools has -1 (no category has truths) there is a NaN here. Truths with id 0, which
 * pycocotools takes for "not matched", are treated like all others.
 *
 * Protocol `voc` is that of the VOC development kit: each detection looks for the truth with the
 * largest overlap, had or not; when it has been had, the detection is false. Crowds are VOC's
 * "difficult" ones: ignored, as are those who find them. Widths count both border pixels
 * (x2 - x1 + 1), unless the options say otherwise. The area under the whole falling curve;
 * `voc2007`: the mean of the largest precision from each of the recalls 0, 0.1 .. 1 (i * 0.1) on.
 *
 * Protocol `ultralytics` is that of its ap_per_class: crowds are left out; IoU in float32 with 1e-7
 * added to the union; each detection knows only its best truth, and the first detection of a truth
 * gets it; at most 300 detections an image. The falling curve is interpolated linearly at 101
 * points and integrated by trapezoids, and drops to 0 behind the last recall; in
 * `ultralytics-legacy`, as it was before April 2026, it slopes down to 0 at recall 1 instead.
 * Equal scores keep their order, where numpy's sort leaves it open.
 *
 * Nothing here knows JSON. All functions may be called by any thread; sets are not changed. */
#ifndef BACKPROPD_COCO_H
#define BACKPROPD_COCO_H

#include "backprop.h"

enum {
    COCO_THRESHOLDS = 10,     /* when none are given */
    COCO_MAX_THRESHOLDS = 20, /* that can be given */
    COCO_MAX_CATEGORIES = 1 << 16,
    COCO_MAX_PAIRS = 1 << 28,
    COCO_CURVE = 101, /* points of a precision-recall curve: recall i * 0.01 */
};

/* Images and categories are named by their places among the sorted ids. */
struct coco_truth {
    int32_t image, category;
    double box[4]; /* x, y, width, height in pixels */
    double area;   /* of the object's mask, pixels */
    bool crowd;
};
struct coco_detection {
    int32_t image, category;
    double box[4];
    double score;
};
struct coco_set {
    const int64_t *category_ids; /* [n_categories], rising */
    int64_t n_images, n_categories, n_truths, n_detections;
    const struct coco_truth *truths;         /* [n_truths], as given */
    const struct coco_detection *detections; /* [n_detections], as given */
};

struct coco_options {
    const struct coco_protocol *protocol;
    double thresholds[COCO_MAX_THRESHOLDS]; /* rising or not, in (0, 1] */
    int n_thresholds;
    bool inclusive_pixels;   /* voc: widths are x2 - x1 + 1 */
    bool (*gone)(void *arg); /* asked between images: nobody waits any more; NULL: not asked */
    void *gone_arg;
};

/* The row of a protocol; NULL, and BAD_VALUE with the names that there are. */
const struct coco_protocol *coco_protocol_find(const char *name, struct error *e);
const char *coco_protocol_name(const struct coco_protocol *p);
/* What the protocol does when nothing else is said. */
void coco_options_init(struct coco_options *o, const struct coco_protocol *p);

struct coco_counts {
    int64_t truths, crowds, truths_ignored; /* ignored whatever the area range; crowds are too */
    int64_t detections, ignored, cut;       /* ignored at the threshold of the curves */
};

/* NaN: there is no such number. */
struct coco_result {
    const double *stats;         /* [coco_stat_name's] */
    const double *threshold_ap;  /* [n_thresholds]: mean over the categories */
    const double *category_ap;   /* [n_categories]: mean over the thresholds */
    const double *category_ap50; /* [n_categories]: at curve_threshold */
    const double *curves;        /* [n_categories][COCO_CURVE]: precision; NaN: none */
    double curve_threshold;      /* 0.5, or the first when it is not among them */
    struct coco_counts counts;
};

/* Names of stats by place: the 12 of COCO as "AP", "AP50" .. "AR_large", and for the protocols of
 * Ultralytics "precision", "recall" and "f1" at the score where the smoothed mean F1 is largest.
 * NULL past the last. */
const char *coco_stat_name(int i);
/* Whether an answer of the protocol lists it: the 12 always, NaN where it has no such number. */
bool coco_stat_offered(const struct coco_protocol *p, int i);

/* Results lie in `a`. TOO_LARGE when more than COCO_MAX_PAIRS pairs of boxes would have to be
 * compared; OUT_OF_MEMORY; CLIENT_GONE. */
int coco_evaluate(const struct coco_set *set, const struct coco_options *o, struct arena *a,
                  struct coco_result *r, struct error *e);

#endif
