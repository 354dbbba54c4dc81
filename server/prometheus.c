/* prometheus.c: the text format of Prometheus, 0.0.4. */
#include "prometheus.h"

#include <math.h>

void prometheus_family(FILE *out, const struct prometheus_family *f)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
}

static void put_label(FILE *out, const struct prometheus_label *l)
{
    fprintf(out, "%s=\"", l->name);
    for (const char *c = l->value; *c; c++) {
        if (*c == '\n') {
            fputs("\\n", out);
            continue;
        }
        if (*c == '\\' || *c == '"')
            fputc('\\', out);
        fputc(*c, out);
    }
    fputc('"', out);
}

/* {a="x",le="0.1"}; nothing when there are none. `le` is NULL or the last one. */
static void put_labels(FILE *out, const struct prometheus_label *labels, const char *le)
{
    int n = 0;
    for (; labels && labels->name; labels++) {
        fputc(n++ ? ',' : '{', out);
        put_label(out, labels);
    }
    if (le)
        fprintf(out, "%cle=\"%s\"", n++ ? ',' : '{', le);
    if (n)
        fputc('}', out);
}

static void put_value(FILE *out, double value)
{
    if (isinf(value))
        fputs(value < 0 ? " -Inf\n" : " +Inf\n", out);
    else
        fprintf(out, " %.17g\n", value);
}

void prometheus_sample(FILE *out, const struct prometheus_family *f,
                       const struct prometheus_label *labels, double value)
{
    if (isnan(value))
        return;
    fputs(f->name, out);
    put_labels(out, labels, NULL);
    put_value(out, value);
}

static void put_part(FILE *out, const struct prometheus_family *f, const char *suffix,
                     const struct prometheus_label *labels, const char *le, double value)
{
    fprintf(out, "%s%s", f->name, suffix);
    put_labels(out, labels, le);
    put_value(out, value);
}

/* The count is the sum of the buckets that were read here: so it cannot contradict them. */
void prometheus_histogram(FILE *out, const struct prometheus_family *f,
                          const struct prometheus_label *labels, const struct histogram *h)
{
    uint64_t count = 0;
    for (int i = 0; i <= STATS_BUCKETS; i++) {
        char le[32] = "+Inf";
        if (i < STATS_BUCKETS)
            snprintf(le, sizeof le, "%g", stats_bounds[i]);
        count += stats_read(&h->buckets[i]);
        put_part(out, f, "_bucket", labels, le, (double)count);
    }
    put_part(out, f, "_sum", labels, NULL, (double)stats_read(&h->nanoseconds) * 1e-9);
    put_part(out, f, "_count", labels, NULL, (double)count);
}
