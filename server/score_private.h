/* score_private.h: the metrics, for the table in score.c, and how they see a batch. */
#ifndef BACKPROPD_SCORE_PRIVATE_H
#define BACKPROPD_SCORE_PRIVATE_H

#include "score.h"

/* NaN in *r: there is no such number. */
typedef int score_fn(const struct scored *s, struct arena *a, double *r, struct error *e);

/* score_classes.c */
score_fn score_accuracy_classes, score_accuracy_labels, score_top5;
score_fn score_f1_macro_classes, score_f1_micro_classes;
score_fn score_f1_macro_labels, score_f1_micro_labels;
enum { SCORE_MAX_CONFUSION = 1024 }; /* classes */
int score_confusion(const struct scored *s, struct arena *a, struct score_value *r,
                    struct error *e);
/* score_probability.c */
score_fn score_roc_auc_classes, score_roc_auc_labels, score_mean_average_precision;
score_fn score_calibration_classes, score_calibration_labels;
/* score_values.c */
score_fn score_mae, score_rmse, score_r2;

/* Of CLASSES, row i of n * inner: its first logit; the next are `inner` apart. */
static inline const real *score_logits(const struct scored *s, int64_t i)
{
    return s->prediction + i / s->inner * s->classes * s->inner + i % s->inner;
}
int64_t score_argmax(const real *x, int64_t n, int64_t stride); /* the first of the largest */
/* Its class; -1: none, the row does not count. */
int64_t score_target_class(const struct scored *s, int64_t i);

/* Of LABELS, whether label i of n * classes * inner is there. */
static inline bool score_target_label(const struct scored *s, int64_t i)
{
    return ((const real *)s->target)[i] > (real)0.5;
}
static inline int64_t score_columns(const struct scored *s)
{
    return s->classes * s->inner;
}

#endif
