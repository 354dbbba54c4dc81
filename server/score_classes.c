/* score_classes.c: metrics that count decisions: the largest logit, the sign of a logit. */
#include "score_private.h"

#include <math.h>

int64_t score_argmax(const real *x, int64_t n, int64_t stride)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i * stride] > x[best * stride])
            best = i;
    return best;
}

int64_t score_target_class(const struct scored *s, int64_t i)
{
    int64_t at = i / s->inner * s->classes * s->inner + i % s->inner;
    int64_t class = s->dtype == DTYPE_INT64
                        ? ((const int64_t *)s->target)[i]
                        : score_argmax((const real *)s->target + at, s->classes, s->inner);
    if (s->dtype == DTYPE_INT64 && s->ignores && class == s->ignored)
        return -1;
    if (s->dtype != DTYPE_INT64 && ((const real *)s->target)[at + class * s->inner] == 0)
        return -1; /* a row of zeros has no class: that of an ignored index */
    return class >= 0 && class < s->classes ? class : -1;
}

static double share(int64_t part, int64_t whole)
{
    return whole ? (double)part / (double)whole : NAN;
}

int score_accuracy_classes(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    int64_t right = 0, counted = 0;
    (void)a, (void)e;
    for (int64_t i = 0; i < s->n * s->inner; i++) {
        int64_t want = score_target_class(s, i);
        counted += want >= 0;
        right += want >= 0 && score_argmax(score_logits(s, i), s->classes, s->inner) == want;
    }
    *r = share(right, counted);
    return 0;
}

int score_accuracy_labels(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    int64_t right = 0, count = s->n * score_columns(s);
    (void)a, (void)e;
    for (int64_t i = 0; i < count; i++)
        right += (s->prediction[i] > 0) == score_target_label(s, i);
    *r = share(right, count);
    return 0;
}

/* How many logits come before that of the class; of equal ones the first comes first. */
static int64_t rank_of(const struct scored *s, const real *x, int64_t class)
{
    int64_t before = 0;
    real own = x[class * s->inner];
    for (int64_t i = 0; i < s->classes; i++)
        before += x[i * s->inner] > own || (x[i * s->inner] == own && i < class);
    return before;
}

int score_top5(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    int64_t right = 0, counted = 0;
    (void)a, (void)e;
    for (int64_t i = 0; i < s->n * s->inner; i++) {
        int64_t want = score_target_class(s, i);
        counted += want >= 0;
        right += want >= 0 && rank_of(s, score_logits(s, i), want) < 5;
    }
    *r = share(right, counted);
    return 0;
}

int score_confusion(const struct scored *s, struct arena *a, struct score_value *r, struct error *e)
{
    int64_t n = s->classes;
    if (n > SCORE_MAX_CONFUSION)
        return error_set(e, ERROR_TOO_LARGE,
                         "confusion_matrix: expected at most %d classes, found %lld",
                         SCORE_MAX_CONFUSION, (long long)n);
    int64_t *matrix = arena_array(a, (size_t)(n * n), sizeof *matrix);
    if (!matrix)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a confusion matrix");
    for (int64_t i = 0; i < s->n * s->inner; i++) {
        int64_t want = score_target_class(s, i);
        if (want >= 0)
            matrix[want * n + score_argmax(score_logits(s, i), n, s->inner)]++;
    }
    r->matrix = matrix;
    r->size = n;
    return 0;
}

/* ---- F1 -----------------------------------------------------------------------------------------
 */

/* Of one class or label: right, predicted, and there. */
struct tally {
    int64_t right, predicted, there;
};

static double f1(const struct tally *t)
{
    int64_t sum = t->predicted + t->there;
    return sum ? 2 * (double)t->right / (double)sum : 0;
}

static struct tally *count_classes(const struct scored *s, struct arena *a, struct error *e)
{
    struct tally *t = arena_array(a, (size_t)s->classes, sizeof *t);
    if (!t) {
        error_write(e, ERROR_OUT_OF_MEMORY, "out of memory for counting classes");
        return NULL;
    }
    for (int64_t i = 0; i < s->n * s->inner; i++) {
        int64_t want = score_target_class(s, i);
        if (want < 0)
            continue;
        int64_t found = score_argmax(score_logits(s, i), s->classes, s->inner);
        t[found].right += found == want;
        t[found].predicted++;
        t[want].there++;
    }
    return t;
}

static struct tally *count_labels(const struct scored *s, struct arena *a, struct error *e)
{
    int64_t columns = score_columns(s);
    struct tally *t = arena_array(a, (size_t)columns, sizeof *t);
    if (!t) {
        error_write(e, ERROR_OUT_OF_MEMORY, "out of memory for counting labels");
        return NULL;
    }
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < columns; k++) {
            bool found = s->prediction[i * columns + k] > 0;
            bool want = score_target_label(s, i * columns + k);
            t[k].right += found && want;
            t[k].predicted += found;
            t[k].there += want;
        }
    return t;
}

/* The mean over the classes that are predicted or there. */
int score_f1_macro_classes(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    const struct tally *t = count_classes(s, a, e);
    double sum = 0;
    int64_t n = 0;
    for (int64_t k = 0; t && k < s->classes; k++) {
        sum += f1(&t[k]);
        n += t[k].predicted + t[k].there > 0;
    }
    *r = n ? sum / (double)n : NAN;
    return t ? 0 : -1;
}

/* The mean over all labels; those that are neither predicted nor there count as 0. */
int score_f1_macro_labels(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    const struct tally *t = count_labels(s, a, e);
    double sum = 0;
    for (int64_t k = 0; t && k < score_columns(s); k++)
        sum += f1(&t[k]);
    *r = sum / (double)score_columns(s);
    return t ? 0 : -1;
}

/* `none` where nothing was predicted nor there. */
static int f1_micro(const struct tally *t, int64_t n, double none, double *r)
{
    struct tally all = {0};
    for (int64_t k = 0; t && k < n; k++) {
        all.right += t[k].right;
        all.predicted += t[k].predicted;
        all.there += t[k].there;
    }
    *r = all.predicted + all.there ? f1(&all) : none;
    return t ? 0 : -1;
}

int score_f1_micro_classes(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    return f1_micro(count_classes(s, a, e), s->classes, NAN, r);
}

int score_f1_micro_labels(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    return f1_micro(count_labels(s, a, e), score_columns(s), 0, r);
}
