/* ops_position.c: where in a sequence an element stands: sinusoidal_encoding, which is added
 * (Vaswani et al., 2017), and rotary_embedding, which turns pairs of features (Su et al., 2021).
 * Learned positions are an embedding. Both know no parameters; a power of base is computed in
 * double for each pair of features.
 *
 *   angle[t][k] = (t + offset) / base^(2 k / width)                         for k < width / 2
 *   sinusoidal  y[t][2k] = x + sin(angle), y[t][2k+1] = x + cos(angle)      width: all features
 *   rotary      (a, b) -> (a cos - b sin, a sin + b cos)                    width: `dim` features
 *
 * The pairs of rotary are (k, k + width / 2), as GPT-NeoX and LLaMA have them in transformers, or
 * (2k, 2k + 1) when interleaved, as in the paper. */
#include "op.h"

#include <math.h>
#include <stddef.h>

struct position {
    double base;
    int64_t dim, offset;
    bool interleaved;
};
#define POSITION(field) offsetof(struct position, field)
#define BASE_ROW                                                                                   \
    {                                                                                              \
        "base", ATTR_REAL, POSITION(base), "10000", 1, 1e12, NULL,                                 \
            "the longest wave is 2 pi times as many places"                                        \
    }
#define OFFSET_ROW                                                                                 \
    {                                                                                              \
        "offset", ATTR_INT, POSITION(offset), "0", 0, 1 << 30, NULL, "place of the first element"  \
    }
static const struct attr_def sinusoidal_attrs[] = {BASE_ROW, OFFSET_ROW, {0}};
static const struct attr_def rotary_attrs[] = {
    BASE_ROW,
    OFFSET_ROW,
    {"dim", ATTR_INT, POSITION(dim), "0", 0, 1 << 20, NULL,
     "features that are turned, an even number of the first; 0: all"},
    {"interleaved", ATTR_BOOL, POSITION(interleaved), "false", 0, 0, NULL,
     "pairs lie next to each other, not half the width apart"},
    {0},
};

enum { MOST_FEATURES = 1 << 20 };

/* [..., length, features]. */
static int position_shape(struct node *n, int64_t *features_r, struct error *e)
{
    struct shape_text text;
    if (node_check_rank(n, 0, 3, SHAPE_MAX_RANK, e))
        return -1;
    const struct shape *x = &n->in[0]->shape;
    *features_r = x->dim[x->rank - 1];
    if (x->dim[x->rank - 2] < 1 || *features_r < 2 || *features_r % 2 ||
        *features_r > MOST_FEATURES)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects [..., L, E] with an even number of features E (at most %d), "
                         "found %s",
                         n->what, MOST_FEATURES, shape_print(x, &text));
    return node_set_shape(n, x, e);
}

static int sinusoidal_shape(struct node *n, struct error *e)
{
    int64_t features;
    return position_shape(n, &features, e);
}

static int rotary_shape(struct node *n, struct error *e)
{
    const int64_t dim = ((const struct position *)n->attrs)->dim;
    int64_t features;
    if (position_shape(n, &features, e))
        return -1;
    if (dim % 2 == 0 && dim <= features)
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute 'dim' must be an even number of the %lld features, not %lld",
                     n->what, (long long)features, (long long)dim);
}

static int64_t features_of(const struct node *n)
{
    return n->shape.dim[n->shape.rank - 1];
}

static int64_t width_of(const struct node *n)
{
    const int64_t dim = ((const struct position *)n->attrs)->dim;
    return dim ? dim : features_of(n);
}

/* Sines and cosines of each pair at each place, [length][width / 2][2], before they are used. */
static void position_memory(struct node *n)
{
    n->work.fixed = n->shape.dim[n->shape.rank - 2] * width_of(n);
}

struct turning {
    const struct node *n;
    real *table; /* [length][width / 2][2]: sine, cosine */
    const real *from;
    real *to;
    int64_t length, features, width;
    real sign; /* of the angle: backward turns back */
};

static struct turning turning(const struct node *n, const struct run *r)
{
    return (struct turning){.n = n,
                            .table = run_work(r, n),
                            .length = n->shape.dim[n->shape.rank - 2],
                            .features = features_of(n),
                            .width = width_of(n),
                            .sign = 1};
}

static void table_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct turning *t = arg;
    const struct position *a = t->n->attrs;
    const int64_t half = t->width / 2;
    (void)worker;
    for (int64_t k = begin; k < end; k++) {
        const double step = pow(a->base, -2 * (double)k / (double)t->width);
        for (int64_t place = 0; place < t->length; place++) {
            const double angle = (double)(place + a->offset) * step;
            t->table[2 * (place * half + k)] = (real)sin(angle);
            t->table[2 * (place * half + k) + 1] = (real)cos(angle);
        }
    }
}

static void table_fill(struct run *r, struct turning *t)
{
    run_for(r, t->width / 2, grain_rows(t->length), table_range, t);
}

/* ---- sinusoidal ------------------------------------------------------------------------------ */

static void sinusoidal_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct turning *t = arg;
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const real *table = t->table + row % t->length * t->features;
        for (int64_t k = row * t->features; k < (row + 1) * t->features; k++)
            t->to[k] = t->from[k] + table[k - row * t->features];
    }
}

static void sinusoidal_forward(const struct node *n, struct run *r)
{
    struct turning t = turning(n, r);
    t.from = run_in(r, n, 0);
    t.to = run_value(r, n);
    table_fill(r, &t);
    run_for(r, run_count(r, n) / t.features, grain_rows(t.features), sinusoidal_range, &t);
}

static void copy_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct turning *t = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        t->to[i] = t->from[i];
}

static void sinusoidal_backward(const struct node *n, struct run *r)
{
    struct turning t = {.from = run_grad(r, n), .to = run_grad_in(r, n, 0)};
    if (t.to)
        run_for(r, run_count(r, n), GRAIN_ELEMENTS, copy_range, &t);
}

/* ---- rotary ---------------------------------------------------------------------------------- */

static void rotary_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct turning *t = arg;
    const bool next = ((const struct position *)t->n->attrs)->interleaved;
    const int64_t half = t->width / 2, step = next ? 2 : 1, apart = next ? 1 : half;
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const real *x = t->from + row * t->features, *table = t->table + row % t->length * t->width;
        real *y = t->to + row * t->features;
        for (int64_t k = 0; k < half; k++) {
            const real a = x[k * step], b = x[k * step + apart];
            const real sine = t->sign * table[2 * k], cosine = table[2 * k + 1];
            y[k * step] = a * cosine - b * sine;
            y[k * step + apart] = a * sine + b * cosine;
        }
        for (int64_t k = t->width; k < t->features; k++)
            y[k] = x[k];
    }
}

static void rotary_run(const struct node *n, struct run *r, const real *from, real *to, real sign)
{
    struct turning t = turning(n, r);
    t.from = from;
    t.to = to;
    t.sign = sign;
    table_fill(r, &t);
    run_for(r, run_count(r, n) / t.features, grain_rows(t.features), rotary_range, &t);
}

static void rotary_forward(const struct node *n, struct run *r)
{
    rotary_run(n, r, run_in(r, n, 0), run_value(r, n), 1);
}

static void rotary_backward(const struct node *n, struct run *r)
{
    if (run_grad_in(r, n, 0))
        rotary_run(n, r, run_grad(r, n), run_grad_in(r, n, 0), -1);
}

static double position_flops(const struct node *n)
{
    return 3 * (double)(n->size.sample + n->size.fixed);
}

const struct op ops_position[] = {
    {"sinusoidal_encoding", "position", 1, 1, sinusoidal_attrs, sizeof(struct position), NULL,
     sinusoidal_shape, position_memory, sinusoidal_forward, sinusoidal_backward, position_flops, 0,
     "Nx5x4; Nx2x3x6 offset=2 base=100; Nx1x2; 2x3x4",
     "x[t] + (sin, cos) of t / base^(2 k / E) for the features 2 k, 2 k + 1"},
    {"rotary_embedding", "position", 1, 1, rotary_attrs, sizeof(struct position), NULL,
     rotary_shape, position_memory, rotary_forward, rotary_backward, position_flops, 0,
     "Nx5x4; Nx2x3x6 dim=4 offset=7 base=100; Nx3x8 interleaved=true; Nx1x2; Nx2x4 dim=2 "
     "interleaved=true",
     "pairs of features turned by t / base^(2 k / dim); of queries and keys, before attention"},
    {0},
};
