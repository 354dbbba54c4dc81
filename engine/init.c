/* init.c: initialisers of parameters: rows with PyTorch's names, arguments and distributions
 * (torch.nn.init). An operator names the initialiser of each of its parameters; those of linear and
 * conv2d are what nn.Linear and nn.Conv2d do by default: kaiming_uniform with a = sqrt(5), which is
 * U(-1/sqrt(fan_in), 1/sqrt(fan_in)), and the same bound for the bias. The numbers themselves are
 * not PyTorch's: its generator is another one. */
#include "init.h"
#include "graph.h"

#include <math.h>
#include <string.h>

/* Initialisers draw under a number that no training forward reaches (random.c counts to 2^48). */
static const uint64_t INIT_DRAW = ((uint64_t)1 << 48) - 1;

static void fill_value(const struct param *p, double value, real *out)
{
    for (size_t i = 0; i < p->count; i++)
        out[i] = (real)value;
}

static void fill_uniform(const struct param *p, const struct random_key *key, double from,
                         double to, real *out)
{
    for (size_t i = 0; i < p->count; i++)
        out[i] = (real)(from + (to - from) * random_uniform(key, i));
}

static void fill_normal(const struct param *p, const struct random_key *key, double mean,
                        double std, real *out)
{
    for (size_t i = 0; i < p->count; i++)
        out[i] = (real)(mean + std * random_normal(key, i));
}

/* ---- constants ------------------------------------------------------------------------------- */

struct constant {
    double value;
};
static const struct attr_def constant_attrs[] = {
    {"value", ATTR_REAL, offsetof(struct constant, value), NULL, -INFINITY, INFINITY, NULL,
     "of every element"},
    {0},
};

static void zeros_fill(const void *attrs, const struct param *p, const struct random_key *key,
                       real *out)
{
    (void)attrs, (void)key;
    fill_value(p, 0, out);
}

static void ones_fill(const void *attrs, const struct param *p, const struct random_key *key,
                      real *out)
{
    (void)attrs, (void)key;
    fill_value(p, 1, out);
}

static void constant_fill(const void *attrs, const struct param *p, const struct random_key *key,
                          real *out)
{
    (void)key;
    fill_value(p, ((const struct constant *)attrs)->value, out);
}

/* ---- given distributions --------------------------------------------------------------------- */

struct uniform {
    double a, b;
};
static const struct attr_def uniform_attrs[] = {
    {"a", ATTR_REAL, offsetof(struct uniform, a), "0", -INFINITY, INFINITY, NULL, "lower bound"},
    {"b", ATTR_REAL, offsetof(struct uniform, b), "1", -INFINITY, INFINITY, NULL, "upper bound"},
    {0},
};

static int uniform_check(const void *attrs, const char *what, struct error *e)
{
    const struct uniform *u = attrs;
    if (u->a <= u->b)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute 'b' must be at least a (%.10g), not %.10g", what, u->a, u->b);
}

static void uniform_fill(const void *attrs, const struct param *p, const struct random_key *key,
                         real *out)
{
    const struct uniform *u = attrs;
    fill_uniform(p, key, u->a, u->b, out);
}

struct normal {
    double mean, std;
    int64_t padding_idx; /* -1: none */
};
static const struct attr_def normal_attrs[] = {
    {"mean", ATTR_REAL, offsetof(struct normal, mean), "0", -INFINITY, INFINITY, NULL, "mean"},
    {"std", ATTR_REAL, offsetof(struct normal, std), "1", 0, INFINITY, NULL, "standard deviation"},
    {"padding_idx", ATTR_INT, offsetof(struct normal, padding_idx), "-1", 0, 0x1p48, NULL,
     "a row (index of dimension 0) that is zero, as nn.Embedding has it; none given: no such row"},
    {0},
};

static void normal_fill(const void *attrs, const struct param *p, const struct random_key *key,
                        real *out)
{
    const struct normal *v = attrs;
    fill_normal(p, key, v->mean, v->std, out);
    if (p->shape.rank == 0 || v->padding_idx < 0 || v->padding_idx >= p->shape.dim[0])
        return;
    const size_t row = p->count / (size_t)p->shape.dim[0];
    memset(out + (size_t)v->padding_idx * row, 0, row * sizeof *out);
}

/* ---- distributions from the fans ------------------------------------------------------------- */

struct kaiming {
    double a;
    int mode; /* 0 fan_in, 1 fan_out */
};
#define KAIMING(field) offsetof(struct kaiming, field)
static const struct attr_def kaiming_uniform_attrs[] = {
    {"a", ATTR_REAL, KAIMING(a), "2.2360679774997898", 0, INFINITY, NULL,
     "negative slope of the leaky_relu behind it"},
    {"mode", ATTR_CHOICE, KAIMING(mode), "fan_in", 0, 0, "fan_in|fan_out", "which fan counts"},
    {0},
};
static const struct attr_def kaiming_normal_attrs[] = {
    {"a", ATTR_REAL, KAIMING(a), "0", 0, INFINITY, NULL,
     "negative slope of the leaky_relu behind it"},
    {"mode", ATTR_CHOICE, KAIMING(mode), "fan_in", 0, 0, "fan_in|fan_out", "which fan counts"},
    {0},
};

/* A parameter without inputs (an empty one) counts as having one. */
static double fan_of(int64_t fan)
{
    return fan > 0 ? (double)fan : 1;
}

static double kaiming_std(const struct kaiming *k, const struct param *p)
{
    double gain = sqrt(2 / (1 + k->a * k->a));
    return gain / sqrt(fan_of(k->mode ? p->fan_out : p->fan_in));
}

static void kaiming_uniform_fill(const void *attrs, const struct param *p,
                                 const struct random_key *key, real *out)
{
    double bound = sqrt(3) * kaiming_std(attrs, p);
    fill_uniform(p, key, -bound, bound, out);
}

static void kaiming_normal_fill(const void *attrs, const struct param *p,
                                const struct random_key *key, real *out)
{
    fill_normal(p, key, 0, kaiming_std(attrs, p), out);
}

struct xavier {
    double gain;
};
static const struct attr_def xavier_attrs[] = {
    {"gain", ATTR_REAL, offsetof(struct xavier, gain), "1", 0, INFINITY, NULL, "scale"},
    {0},
};

static double xavier_std(const struct xavier *x, const struct param *p)
{
    return x->gain * sqrt(2 / (fan_of(p->fan_in) + fan_of(p->fan_out)));
}

static void xavier_uniform_fill(const void *attrs, const struct param *p,
                                const struct random_key *key, real *out)
{
    double bound = sqrt(3) * xavier_std(attrs, p);
    fill_uniform(p, key, -bound, bound, out);
}

static void xavier_normal_fill(const void *attrs, const struct param *p,
                               const struct random_key *key, real *out)
{
    fill_normal(p, key, 0, xavier_std(attrs, p), out);
}

/* ---- truncated and orthogonal ---------------------------------------------------------------- */

struct truncated {
    double mean, std, a, b;
};
#define TRUNCATED(field) offsetof(struct truncated, field)
static const struct attr_def truncated_attrs[] = {
    {"mean", ATTR_REAL, TRUNCATED(mean), "0", -INFINITY, INFINITY, NULL, "mean"},
    {"std", ATTR_REAL, TRUNCATED(std), "1", 1e-30, INFINITY, NULL, "standard deviation"},
    {"a", ATTR_REAL, TRUNCATED(a), "-2", -INFINITY, INFINITY, NULL, "lower bound"},
    {"b", ATTR_REAL, TRUNCATED(b), "2", -INFINITY, INFINITY, NULL, "upper bound"},
    {0},
};

/* The bounds must leave some of the distribution to draw from. */
static int truncated_check(const void *attrs, const char *what, struct error *e)
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

static void truncated_fill(const void *attrs, const struct param *p, const struct random_key *key,
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
static void orthogonal_fill(const void *attrs, const struct param *p, const struct random_key *key,
                            real *out)
{
    const double gain = ((const struct xavier *)attrs)->gain;
    const int64_t rows = p->shape.rank > 0 ? p->shape.dim[0] : 1;
    const int64_t cols = (int64_t)p->count / rows;
    const bool wide = rows <= cols;
    fill_normal(p, key, 0, 1, out);
    for (int64_t i = 0; i < (wide ? rows : cols); i++)
        orthogonalise(out, i, wide ? cols : rows, wide ? cols : 1, wide ? 1 : cols);
    for (size_t i = 0; i < p->count; i++)
        out[i] *= (real)gain;
}

static void fan_in_uniform_fill(const void *attrs, const struct param *p,
                                const struct random_key *key, real *out)
{
    (void)attrs;
    double bound = 1 / sqrt(fan_of(p->fan_in));
    fill_uniform(p, key, -bound, bound, out);
}

/* ---- the table ------------------------------------------------------------------------------- */

/* Room for the attributes of any row, when they are all fallbacks. */
union any_attrs {
    struct constant constant;
    struct uniform uniform;
    struct normal normal;
    struct kaiming kaiming;
    struct xavier xavier;
    struct truncated truncated;
};

#define ROW(name, doc, attrs, type, check, fill)                                                   \
    {                                                                                              \
        {{name, doc, attrs}, sizeof(type), check}, fill                                            \
    }
static const struct init_def inits[] = {
    ROW("zeros", "0", NULL, char, NULL, zeros_fill),
    ROW("ones", "1", NULL, char, NULL, ones_fill),
    ROW("constant", "value", constant_attrs, struct constant, NULL, constant_fill),
    ROW("uniform", "U(a, b)", uniform_attrs, struct uniform, uniform_check, uniform_fill),
    ROW("normal", "N(mean, std^2)", normal_attrs, struct normal, NULL, normal_fill),
    ROW("kaiming_uniform", "U(-b, b), b = sqrt(6 / ((1 + a^2) fan))", kaiming_uniform_attrs,
        struct kaiming, NULL, kaiming_uniform_fill),
    ROW("kaiming_normal", "N(0, 2 / ((1 + a^2) fan))", kaiming_normal_attrs, struct kaiming, NULL,
        kaiming_normal_fill),
    ROW("xavier_uniform", "U(-b, b), b = gain sqrt(6 / (fan_in + fan_out))", xavier_attrs,
        struct xavier, NULL, xavier_uniform_fill),
    ROW("xavier_normal", "N(0, gain^2 2 / (fan_in + fan_out))", xavier_attrs, struct xavier, NULL,
        xavier_normal_fill),
    ROW("trunc_normal", "N(mean, std^2) between a and b", truncated_attrs, struct truncated,
        truncated_check, truncated_fill),
    ROW("orthogonal", "gain times a matrix with orthogonal rows, or columns where those are fewer",
        xavier_attrs, struct xavier, NULL, orthogonal_fill),
    ROW("fan_in_uniform", "U(-b, b), b = 1 / sqrt(fan_in)", NULL, char, NULL, fan_in_uniform_fill),
    {.row.info.name = NULL},
};
static const struct rows table = {&inits[0].row, sizeof inits[0], "initialiser", NULL};

bool init_info_at(int i, struct optimizer_info *info_r)
{
    return rows_info_at(&table, i, info_r);
}

const struct init_def *init_find(const char *name)
{
    return (const struct init_def *)rows_find(&table, name, NULL);
}

int graph_set_init(struct graph *g, int i, const char *name, const struct attr *attrs, int n,
                   struct error *e)
{
    const struct row *row = rows_find(&table, name, e);
    void *values = row ? rows_parse(&table, row, attrs, n, g->arena, e) : NULL;
    if (!values)
        return -1;
    g->params[i].init = (const struct init_def *)row;
    g->params[i].init_attrs = values;
    return 0;
}

static void param_fill(const struct param *p, const struct random_key *key, real *out)
{
    union any_attrs fallbacks = {0};
    if (!p->init_attrs)
        attrs_parse(p->init->row.info.attrs, p->name, NULL, 0, NULL, &fallbacks, NULL);
    p->init->fill(p->init_attrs ? p->init_attrs : &fallbacks, p, key, out);
}

void graph_init(const struct graph *g, uint64_t seed, real *params, real *buffers)
{
    for (int i = 0; i < g->n_params; i++) {
        const struct param *p = &g->params[i];
        struct random_key key = {.seed = seed, .draw = INIT_DRAW, .key = (uint32_t)i};
        param_fill(p, &key, (p->buffer ? buffers : params) + p->offset);
    }
}
