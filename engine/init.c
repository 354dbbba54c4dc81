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

static const struct attr_def xavier_attrs[] = {
    {"gain", ATTR_REAL, offsetof(struct gain, gain), "1", 0, INFINITY, NULL, "scale"},
    {0},
};

static double xavier_std(const struct gain *x, const struct param *p)
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
    struct gain gain;
    struct truncated truncated;
};

#define ROW(name, doc, attrs, type, check, fill)                                                   \
    {                                                                                              \
        {{name, doc, attrs}, sizeof(type), check}, fill, NULL                                      \
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
        struct gain, NULL, xavier_uniform_fill),
    ROW("xavier_normal", "N(0, gain^2 2 / (fan_in + fan_out))", xavier_attrs, struct gain, NULL,
        xavier_normal_fill),
    ROW("trunc_normal", "N(mean, std^2) between a and b", truncated_attrs, struct truncated,
        truncated_check, truncated_fill),
    {{{"orthogonal", "gain times a matrix with orthogonal rows, or columns where those are fewer",
       xavier_attrs},
      sizeof(struct gain),
      NULL},
     orthogonal_fill,
     orthogonal_fits},
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
    const struct init_def *def = (const struct init_def *)row;
    if (!values || (def->fits && def->fits(&g->params[i], name, e)))
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
