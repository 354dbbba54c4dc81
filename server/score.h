/* score.h: metrics of a labelled batch that are not the loss: rows of one table, which says for the
 * predictions of which losses they have a meaning. Values equal scikit-learn's on the same data,
 * except that a class or output for which a mean has no term (AUC of a class that is not there, R2
 * of a target that is constant) is left out of it, and that a number which does not exist is NaN.
 * Pure functions of their arguments; any thread. */
#ifndef BACKPROPD_SCORE_H
#define BACKPROPD_SCORE_H

#include "json_out.h"
#include "model.h"

/* What a prediction means. */
enum score_task {
    SCORE_NOTHING,
    SCORE_CLASSES, /* cross_entropy: logits of classes that exclude each other */
    SCORE_LABELS,  /* bce_with_logits: logits of labels, each there or not */
    SCORE_VALUES,  /* mse, l1, huber: numbers */
};

/* A prediction [n, classes, inner] and its target: class numbers [n, inner] (those that are no
 * class, or that the loss ignores, do not count), or numbers in the prediction's shape: of CLASSES
 * the largest is the class, of LABELS those over 0.5 are there. Of LABELS and VALUES each of
 * classes * inner is a column. */
struct scored {
    enum score_task task;
    int64_t n, classes, inner;
    const real *prediction;
    const void *target;
    enum dtype dtype; /* of the target */
    bool ignores;     /* class numbers: `ignored` does not count (ignore_index) */
    int64_t ignored;
};
struct scored score_batch(const struct network *net, const struct batch *b, const real *prediction);

/* Share of targets that the prediction gets right, for networks whose first loss is a classifier's:
 * the largest logit for cross_entropy, the sign for bce_with_logits. `prediction` is what the loss
 * compares with its target. NaN where accuracy has no meaning. */
double score_accuracy(const struct network *net, const struct batch *b, const real *prediction);

/* Metrics that a request asks for. */
enum { SCORE_MAX = 16 };
struct score_wishes {
    bool all; /* the scalars that apply and are cheap enough */
    bool wanted[SCORE_MAX];
};

/* `names` is a list of names, or NULL: all. BAD_TYPE; BAD_VALUE, with the names that the network's
 * loss has, when one is not among them. */
int score_wishes_read(const struct network *net, const json_t *names, struct score_wishes *w_r,
                      struct error *e);

/* NaN: there is no such number, or the predictions hold some that are not finite. */
struct score_value {
    const char *name;
    double value;
    const int64_t *matrix; /* [size][size]: rows are targets, columns predictions; NULL: a scalar */
    int64_t size;
};
struct scores {
    int n;
    struct score_value v[SCORE_MAX];
};

/* Memory is taken from `a`. TOO_LARGE: a confusion matrix of too many classes; OUT_OF_MEMORY. */
int score_compute(const struct scored *s, const struct score_wishes *w, struct arena *a,
                  struct scores *r, struct error *e);
/* "top5":0.9, ... into an object that is open; NaN as null. */
void score_write(struct json_out *w, const struct scores *r);

#endif
