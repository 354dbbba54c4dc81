/* metrics.h: the series that steps and evaluations leave behind, keyed by revision. */
#ifndef BACKPROPD_METRICS_H
#define BACKPROPD_METRICS_H

#include "json_out.h"
#include "model.h"

/* Rows for what the result holds: loss, accuracy, grad_norm, lr, samples. What is NaN has none. A
 * failure is the store's to report (store_health): the step itself is done. */
void metrics_record_step(struct model *m, const struct step_result *r);

/* "loss" and "metrics":{...} of an answer: the same names; what does not apply is left out. */
void metrics_write(struct json_out *w, const struct step_result *r);

#endif
