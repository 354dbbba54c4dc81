/* metrics.h: the series that steps and evaluations leave behind, keyed by revision. */
#ifndef BACKPROPD_METRICS_H
#define BACKPROPD_METRICS_H

#include "json_out.h"
#include "model.h"

/* Rows for what the result holds: loss, accuracy, grad_norm (batch_grad_norm of one that steps
 * nowhere, so has no lr), lr, samples. What is NaN has none. A
 * failure is the store's to report (store_health): the step itself is done. The rows of a step that
 * is replayed replace those that are there. */
void metrics_record_at(struct model *m, const struct step_result *r, int64_t time_ms);
int64_t metrics_now_ms(void); /* Unix time */

/* "loss" and "metrics":{...} of an answer: the same names; what does not apply is left out. */
void metrics_write(struct json_out *w, const struct step_result *r);
/* The same, with "metrics" left open for more of them. */
void metrics_open(struct json_out *w, const struct step_result *r);

#endif
