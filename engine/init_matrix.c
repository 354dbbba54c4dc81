/* init_matrix.c: initialisers that take more than a formula: trunc_normal, which draws through the
 * inverse of the distribution, so that each number is one draw; and orthogonal, by Gram and Schmidt
 * on normal numbers. Their rows are in init.c. */
#include "init.h"

#include <math.h>
#include <stddef.h>

static const double ORTHOGONAL_LIMIT = 0x1p31; /* multiplications: some seconds */

#define TRUNCATED(field) offsetof(struct truncated, field)
const struct attr_def truncated_attrs[] = {
    {"mean", ATTR_REAL, TRUNCATED(mean), "0", -INFINITY, INFINITY, NULL, "mean"},
    {"std", ATTR_REAL, TRUNCATED(std), "1", 1e-30, INFINITY, NULL, "standard deviation"},
    {"a", ATTR_REAL, TRUNCATED(a), "-2", -INFINITY, INFINITY, NULL, "lower bound"},
    {"b", ATTR_REAL, TRUNCATED(b), "2", -INFINITY, INFINITY, NULL, "upper bound"},
    {0},
};

/* The bounds must leave some of the distribution to draw from. */
int truncated_check(const void *attrs, const char *what, struct error *e)
{
    const struct truncated *t = attrs;
    const double least = (t->a - t->mean) / t->std, most = (t->b - t->mean) / t->std;
    if (t->a < t->b && least < 5 && most > -5)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: expects bounds a < b that reach within 5 standard deviations of the "
                     "mean, found %.10g and %.10g",
                     what, t->a, t->b);
}

static double below(double x)
{
    return erfc(-x / sqrt(2)) / 2;
}

/* Where the standard normal distribution has `share` of its mass below, by halving. */
static double quantile(double share, double from, double to)
{
    for (int i = 0; i < 60; i++) {
        const double middle = (from + to) / 2;
        *(below(middle) < share ? &from : &to) = middle;
    }
    return (from + to) / 2;
}

void truncated_fill(const void *attrs, const struct param *p, const struct random_key *key,
                    real *out)
{
    const struct truncated *t = attrs;
    const double from = (t->a - t->mean) / t->std, to = (t->b - t->mean) / t->std;
    const double least = from > -40 ? from : -40, most = to < 40 ? to : 40;
    for (size_t i = 0; i < p->count; i++) {
        const double u = random_uniform(key, i);
        const double share = below(least) + u * (below(most) - below(least));
        out[i] = (real)(t->mean + t->std * quantile(share, least, most));
    }
}

/* Makes vector i, of n numbers `step` apart, orthogonal to those before it and of length 1. Twice,
 * because of rounding. */
static void orthogonalise(real *x, int64_t i, int64_t n, int64_t vector, int64_t step)
{
    double norm = 0;
    for (int64_t pass = 0; pass < 2 * i; pass++) {
        const real *other = x + pass % i * vector;
        double dot = 0;
        for (int64_t k = 0; k < n; k++)
            dot += (double)x[i * vector + k * step] * (double)other[k * step];
        for (int64_t k = 0; k < n; k++)
            x[i * vector + k * step] -= (real)(dot * (double)other[k * step]);
    }
    for (int64_t k = 0; k < n; k++)
        norm += (double)x[i * vector + k * step] * (double)x[i * vector + k * step];
    const real scale = (real)(1 / sqrt(norm > 0 ? norm : 1));
    for (int64_t k = 0; k < n; k++)
        x[i * vector + k * step] *= scale;
}

/* The rows of [dim 0][all others], or its columns where those are fewer, are orthogonal. */
void orthogonal_fill(const void *attrs, const struct param *p, const struct random_key *key,
                     real *out)
{
    const double gain = ((const struct gain *)attrs)->gain;
    const int64_t rows = p->shape.rank > 0 ? p->shape.dim[0] : 1;
    const int64_t cols = (int64_t)p->count / rows;
    const bool wide = rows <= cols;
    for (size_t i = 0; i < p->count; i++)
        out[i] = (real)random_normal(key, i);
    for (int64_t i = 0; i < (wide ? rows : cols); i++)
        orthogonalise(out, i, wide ? cols : rows, wide ? cols : 1, wide ? 1 : cols);
    for (size_t i = 0; i < p->count; i++)
        out[i] *= (real)gain;
}

int orthogonal_fits(const struct param *p, const char *what, struct error *e)
{
    const double rows = p->shape.rank > 0 ? (double)p->shape.dim[0] : 1;
    const double cols = (double)p->count / rows, least = rows < cols ? rows : cols;
    struct shape_text text;
    if (least * (double)p->count <= ORTHOGONAL_LIMIT)
        return 0;
    return error_set(e, ERROR_TOO_LARGE,
                     "%s: %s has the shape %s, which would take too long to make orthogonal", what,
                     p->name, shape_print(&p->shape, &text));
}
