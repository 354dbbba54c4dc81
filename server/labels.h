/* labels.h: the classes of a model by their names. */
#ifndef BACKPROPD_LABELS_H
#define BACKPROPD_LABELS_H

#include "model.h"
#include "tensor.h"

/* What PATCH said last, or the description. A new reference; NULL: no labels. Any thread. */
json_t *labels_of(struct model *m);

/* The place of a label. BAD_VALUE with the nearest one; `place` begins the sentence
 * ("targets[0]"). */
int labels_find(const json_t *labels, const char *label, const char *place, int64_t *class_r,
                struct error *e);

/* Whether the tensor holds names of classes for a target of class numbers. */
bool labels_given(const struct tensor *t, const struct node *target);
/* Reads them, one a sample, into class numbers in the request's arena. BAD_SHAPE, BAD_TYPE,
 * EMPTY_BATCH; BAD_VALUE also where the model has no labels. */
int labels_read(struct request *q, const struct tensor *t, const struct node *target,
                const void **data_r, int64_t *batch_r, struct error *e);

#endif
