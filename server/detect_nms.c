/* detect_nms.c: non-maximum suppression: of boxes of one category that overlap, the best stays. */
#include "detect.h"

#include <string.h>

/* Merges two sorted runs of d into `to`; of equal scores that of the first run comes first. */
static void merge(const struct detection *d, int64_t begin, int64_t middle, int64_t end,
                  struct detection *to)
{
    int64_t a = begin, b = middle;
    for (int64_t i = begin; i < end; i++)
        to[i] = a < middle && (b == end || d[a].score >= d[b].score) ? d[a++] : d[b++];
}

/* By falling score, stably. */
static void sort(struct detection *d, int64_t n, struct detection *room)
{
    for (int64_t run = 1; run < n; run *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * run) {
            const int64_t middle = begin + run < n ? begin + run : n;
            const int64_t end = middle + run < n ? middle + run : n;
            merge(d, begin, middle, end, room);
        }
        memcpy(d, room, (size_t)n * sizeof *d);
    }
}

static double area(const struct detection *d)
{
    return (d->x2 - d->x1) * (d->y2 - d->y1);
}

static double overlap(double a1, double a2, double b1, double b2)
{
    const double low = a1 > b1 ? a1 : b1, high = a2 < b2 ? a2 : b2;
    return high > low ? high - low : 0;
}

/* Whether their IoU is above the limit. */
static bool overlap_more(const struct detection *a, const struct detection *b, double limit)
{
    const double shared = overlap(a->x1, a->x2, b->x1, b->x2) * overlap(a->y1, a->y2, b->y1, b->y2);
    return shared > limit * (area(a) + area(b) - shared);
}

int64_t detect_nms(struct detection *d, int64_t n, const struct detect_options *o,
                   struct detection *room)
{
    int64_t kept = 0;
    sort(d, n, room);
    for (int64_t i = 0; i < n && kept < o->max_det; i++) {
        bool dropped = false;
        for (int64_t k = 0; k < kept && !dropped; k++)
            dropped = d[k].category == d[i].category && overlap_more(&d[k], &d[i], o->iou);
        if (!dropped)
            d[kept++] = d[i];
    }
    return kept;
}
