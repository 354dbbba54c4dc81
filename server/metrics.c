/* metrics.c: one table says which number of a result is called what; rows in the store and fields
 * of answers both follow from it. */
#include "metrics.h"

#include "models.h"

#include <math.h>
#include <stddef.h>
#include <time.h>

static const struct {
    const char *name;
    size_t offset;
    bool in_answer; /* under "metrics"; the loss has a place of its own */
} series[] = {
    {"loss", offsetof(struct step_result, loss), false},
    {"accuracy", offsetof(struct step_result, accuracy), true},
    {"grad_norm", offsetof(struct step_result, grad_norm), true},
    {"lr", offsetof(struct step_result, lr), true},
};
enum { SERIES = sizeof series / sizeof series[0] };

/* The gradients of a batch that are added to others are no point of the curve of those that are
 * applied. */
static const char *row_name(const struct step_result *r, int i)
{
    const bool added = series[i].offset == offsetof(struct step_result, grad_norm) && isnan(r->lr);
    return added ? "batch_grad_norm" : series[i].name;
}

static double number(const struct step_result *r, int i)
{
    return *(const double *)((const char *)r + series[i].offset);
}

int64_t metrics_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void metrics_record_at(struct model *m, const struct step_result *r, int64_t time_ms)
{
    struct store_metric rows[SERIES + RUN_MAX_PARTS + 1];
    struct error ignored;
    int n = 0;
    for (int i = 0; i < SERIES; i++)
        if (!isnan(number(r, i)))
            rows[n++] = (struct store_metric){
                m->id, row_name(r, i), r->at.revision, r->at.step, number(r, i), time_ms, 0};
    for (int i = 0; i < r->n_parts; i++)
        rows[n++] = (struct store_metric){
            m->id, r->parts[i].name, r->at.revision, r->at.step, r->parts[i].value, time_ms, 0};
    if (r->samples)
        rows[n++] = (struct store_metric){
            m->id, "samples", r->at.revision, r->at.step, (double)r->samples, time_ms, 0};
    store_metrics_append(m->models->store, rows, n, &ignored);
}

void metrics_open(struct json_out *w, const struct step_result *r)
{
    if (!isnan(r->loss)) {
        out_key(w, "loss");
        out_float(w, (float)r->loss); /* computed as one */
    }
    out_key(w, "metrics");
    out_open_object(w);
    for (int i = 0; i < SERIES; i++)
        if (series[i].in_answer && !isnan(number(r, i))) {
            out_key(w, series[i].name);
            out_double(w, number(r, i));
        }
    for (int i = 0; i < r->n_parts; i++) {
        out_key(w, r->parts[i].name);
        out_double(w, r->parts[i].value);
    }
    if (r->samples) {
        out_key(w, "samples");
        out_int(w, r->samples);
    }
}

void metrics_write(struct json_out *w, const struct step_result *r)
{
    metrics_open(w, r);
    out_close(w);
}
