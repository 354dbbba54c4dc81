/* prometheus.h: writing Prometheus' text format, version 0.0.4: families with their type and help,
 * samples with labels, histograms. Numbers that are NaN are left out: the thing is not known. */
#ifndef BACKPROPD_PROMETHEUS_H
#define BACKPROPD_PROMETHEUS_H

#include "stats.h"

#include <stdio.h>

#define PROMETHEUS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct prometheus_label {
    const char *name, *value; /* the value is escaped */
};

struct prometheus_family {
    const char *name; /* "backpropd_requests_total": base units, _total on counters */
    const char *type; /* "counter", "gauge", "histogram" */
    const char *help; /* one line without a backslash */
};

/* The two lines before a family's samples, which must follow it. */
void prometheus_family(FILE *out, const struct prometheus_family *f);
/* Labels end with a row whose name is NULL; `labels` may be NULL. */
void prometheus_sample(FILE *out, const struct prometheus_family *f,
                       const struct prometheus_label *labels, double value);
/* Buckets, sum and count. */
void prometheus_histogram(FILE *out, const struct prometheus_family *f,
                          const struct prometheus_label *labels, const struct histogram *h);

#endif
