/* coco_cells.c: puts truths and detections in the order of their evaluation, and cuts what is too
 * much. Pointers into one list are sorted: of equals the lower pointer was given first, so every
 * order here is a stable one. */
#include "coco_private.h"

#include <stdlib.h>

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_truths(const void *a, const void *b)
{
    const struct coco_truth *s = *(const struct coco_truth *const *)a;
    const struct coco_truth *t = *(const struct coco_truth *const *)b;
    int order = compare(s->category, t->category);
    if (!order)
        order = compare(s->image, t->image);
    return order ? order : (s > t) - (s < t);
}

static int compare_scores(const struct coco_detection *s, const struct coco_detection *t)
{
    int order = (s->score < t->score) - (s->score > t->score);
    return order ? order : (s > t) - (s < t);
}

static int compare_in_image(const void *a, const void *b)
{
    const struct coco_detection *s = *(const struct coco_detection *const *)a;
    const struct coco_detection *t = *(const struct coco_detection *const *)b;
    int order = compare(s->image, t->image);
    return order ? order : compare_scores(s, t);
}

static int compare_in_category(const void *a, const void *b)
{
    const struct coco_detection *s = *(const struct coco_detection *const *)a;
    const struct coco_detection *t = *(const struct coco_detection *const *)b;
    int order = compare(s->category, t->category);
    return order ? order : compare_in_image(a, b);
}

/* Sorts, and keeps the first `max` of each image, or of each image and category. */
static void sort_and_cut(struct coco_sorted *s, int (*order)(const void *, const void *), int max)
{
    const struct coco_detection **list = s->detections;
    int64_t kept = 0, run = 0;
    bool by_category = order == compare_in_category;
    qsort(list, (size_t)s->n_detections, sizeof *list, order);
    for (int64_t i = 0; i < s->n_detections && max; i++) {
        const struct coco_detection *last = kept ? list[kept - 1] : NULL;
        bool same = last && last->image == list[i]->image &&
                    (!by_category || last->category == list[i]->category);
        run = same ? run + 1 : 0;
        if (run < max)
            list[kept++] = list[i];
    }
    if (max)
        s->n_detections = kept;
}

bool coco_next_cell(const struct coco_sorted *s, int64_t category, int64_t *truth,
                    int64_t *detection, struct coco_cell *c_r)
{
    const struct coco_truth **t = s->truths, *first = t[*truth];
    const struct coco_detection **d = s->detections, *found = d[*detection];
    bool truths = *truth < s->n_truths && first->category == category;
    bool detections = *detection < s->n_detections && found->category == category;
    if (!truths && !detections)
        return false;
    int32_t image =
        !detections || (truths && first->image < found->image) ? first->image : found->image;
    *c_r = (struct coco_cell){t + *truth, d + *detection, 0, 0};
    for (; *truth < s->n_truths && t[*truth]->category == category && t[*truth]->image == image;
         ++*truth)
        c_r->n_truths++;
    for (; *detection < s->n_detections && d[*detection]->category == category &&
           d[*detection]->image == image;
         ++*detection)
        c_r->n_detections++;
    return true;
}

/* The largest cell and category, and the work that they make. */
static int measure(const struct coco_set *set, struct coco_sorted *s, struct error *e)
{
    int64_t truth = 0, detection = 0, pairs = 0;
    for (int64_t k = 0; k < set->n_categories; k++) {
        struct coco_cell c;
        int64_t begin = detection;
        while (coco_next_cell(s, k, &truth, &detection, &c)) {
            s->most_truths = c.n_truths > s->most_truths ? c.n_truths : s->most_truths;
            if (c.n_truths && c.n_detections > (COCO_MAX_PAIRS - pairs) / c.n_truths)
                return error_set(e, ERROR_TOO_LARGE,
                                 "more than %d pairs of a ground truth and a detection in the same "
                                 "image and category",
                                 COCO_MAX_PAIRS);
            pairs += c.n_truths * c.n_detections;
        }
        if (detection - begin > s->most_detections)
            s->most_detections = detection - begin;
    }
    return 0;
}

int coco_sort(const struct coco_set *set, const struct coco_protocol *p, struct arena *a,
              struct coco_sorted *s, struct error *e)
{
    *s = (struct coco_sorted){.n_truths = set->n_truths, .n_detections = set->n_detections};
    s->truths = arena_array(a, (size_t)set->n_truths + 1, sizeof *s->truths);
    s->detections = arena_array(a, (size_t)set->n_detections + 1, sizeof *s->detections);
    if (!s->truths || !s->detections)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for sorting boxes");
    for (int64_t i = 0; i < set->n_truths; i++)
        s->truths[i] = &set->truths[i];
    for (int64_t i = 0; i < set->n_detections; i++)
        s->detections[i] = &set->detections[i];
    qsort(s->truths, (size_t)s->n_truths, sizeof *s->truths, compare_truths);
    if (p->image_max)
        sort_and_cut(s, compare_in_image, p->image_max);
    sort_and_cut(s, compare_in_category, p->cell_max);
    s->cut = set->n_detections - s->n_detections;
    return measure(set, s, e);
}
