/* histogram.h: how often numbers fall into equal ranges from the smallest to the largest, as
 * torch.histc and numpy.histogram count them. */
#ifndef BACKPROPD_HISTOGRAM_H
#define BACKPROPD_HISTOGRAM_H

#include "backprop.h"
#include "json_out.h"

enum { HISTOGRAM_MAX_BINS = 1024 };

struct histogram {
    double low, high; /* bin i is [low + i w, low + (i + 1) w), the last with its end */
    int bins;
    int64_t *counts; /* [bins] */
};

/* NULL: out of memory. */
struct histogram *histogram_create(struct arena *a, int bins);
/* Counts `n` numbers anew. Those that are not finite are left out. All equal: half a unit to either
 * side, as numpy has it. */
void histogram_fill(struct histogram *h, const real *x, int64_t n);
/* {"min":,"max":,"counts":[...]} */
void histogram_write(struct json_out *w, const struct histogram *h);
void histogram_put(struct json_out *w, const char *key, const struct histogram *h);

#endif
