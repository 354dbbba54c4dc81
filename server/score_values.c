/* score_values.c: metrics of regression, over all numbers of the batch. */
#include "score_private.h"

#include <math.h>

static double difference(const struct scored *s, int64_t i)
{
    return (double)s->prediction[i] - (double)((const real *)s->target)[i];
}

int score_mae(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    int64_t n = s->n * score_columns(s);
    double sum = 0;
    (void)a, (void)e;
    for (int64_t i = 0; i < n; i++)
        sum += fabs(difference(s, i));
    *r = sum / (double)n;
    return 0;
}

int score_rmse(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    int64_t n = s->n * score_columns(s);
    double sum = 0;
    (void)a, (void)e;
    for (int64_t i = 0; i < n; i++)
        sum += difference(s, i) * difference(s, i);
    *r = sqrt(sum / (double)n);
    return 0;
}

/* 1 - squared errors / squared distances from the mean; NaN for a target that is constant. */
static double r2_of(const struct scored *s, int64_t column)
{
    int64_t columns = score_columns(s);
    const real *target = (const real *)s->target + column;
    double mean = 0, errors = 0, distances = 0;
    bool varies = false;
    for (int64_t i = 0; i < s->n; i++) {
        varies |= target[i * columns] != target[0];
        mean += (double)target[i * columns] / (double)s->n;
    }
    for (int64_t i = 0; i < s->n; i++) {
        double d = (double)target[i * columns] - mean, x = difference(s, i * columns + column);
        errors += x * x;
        distances += d * d;
    }
    return varies && distances > 0 ? 1 - errors / distances : NAN;
}

/* The mean over the columns. */
int score_r2(const struct scored *s, struct arena *a, double *r, struct error *e)
{
    double sum = 0;
    int64_t n = 0;
    (void)a, (void)e;
    for (int64_t k = 0; k < score_columns(s); k++) {
        double v = r2_of(s, k);
        sum += isnan(v) ? 0 : v;
        n += !isnan(v);
    }
    *r = n ? sum / (double)n : NAN;
    return 0;
}
