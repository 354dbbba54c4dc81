/* ops_loss_vectors.c: losses that compare vectors along the last dimension: cosine_embedding and
 * triplet_margin. Semantics are torch's. */
#include "ops_loss_rows.h"

#include <math.h>

/* ---- vectors: cosine_embedding and triplet_margin -------------------------------------------- */

static const struct attr_def cosine_embedding_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"margin", ATTR_REAL, ROWS(margin), "0", -1, 1, NULL,
     "cosine below which vectors that should differ cost nothing"},
    {0},
};
static const struct attr_def triplet_margin_attrs[] = {
    LOSS_REDUCTION(struct rows_attrs),
    {"margin", ATTR_REAL, ROWS(margin), "1", 0, 1e30, NULL,
     "how much further the negative must be"},
    {"p", ATTR_REAL, ROWS(p), "2", 1, 100, NULL, "exponent of the distance"},
    {"eps", ATTR_REAL, ROWS(eps), "1e-6", 0, 1, NULL, "added to each difference"},
    {0},
};

/* All inputs are vectors of one shape, along the last dimension; cosine_embedding's target has one
 * number for each. */
static int vectors_shape(struct node *n, struct error *e)
{
    const struct shape *x = &n->in[0]->shape;
    struct shape_text a, b;
    for (int i = 0; i < 3; i++) {
        struct shape want = *x;
        if (node_check_rank(n, i, 0, SHAPE_MAX_RANK, e))
            return -1;
        want.rank -= i == 2 && n->op->attrs == cosine_embedding_attrs;
        if (x->rank == 0 || x->dim[x->rank - 1] < 1 || !shape_equal(&want, &n->in[i]->shape))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: its input %d must have the shape %s, to go with vectors along "
                             "the last dimension, not %s",
                             n->what, i, shape_print(&want, &a), shape_print(&n->in[i]->shape, &b));
    }
    return node_set_shape(n, &(struct shape){0}, e);
}

static int64_t vector_length(const struct node *n)
{
    const struct shape *x = &n->in[0]->shape;
    return x->dim[x->rank - 1];
}

static int64_t vector_rows(const struct node *n, const struct run *r)
{
    return run_count(r, n->in[0]) / vector_length(n);
}

/* cos = dot / (|a| |b|), with torch's guard of 1e-12 in each square. */
struct cosine {
    double aa, bb, cos;
};

static struct cosine cosine_of(const struct node *n, struct run *r, int64_t i)
{
    const int64_t d = vector_length(n);
    const real *a = run_in(r, n, 0) + i * d, *b = run_in(r, n, 1) + i * d;
    struct cosine c = {1e-12, 1e-12, 0};
    for (int64_t k = 0; k < d; k++) {
        c.aa += (double)a[k] * (double)a[k];
        c.bb += (double)b[k] * (double)b[k];
        c.cos += (double)a[k] * (double)b[k];
    }
    c.cos /= sqrt(c.aa * c.bb);
    return c;
}

static bool is_similar(const struct node *n, struct run *r, int64_t i)
{
    return run_in(r, n, 2)[i] > (real)0.5;
}

static double cosine_embedding_term(const struct node *n, struct run *r, int64_t i)
{
    const struct cosine c = cosine_of(n, r, i);
    const double over = c.cos - attrs_of(n)->margin;
    return is_similar(n, r, i) ? 1 - c.cos : over < 0 ? 0 : over;
}

static void cosine_embedding_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const int64_t d = vector_length(n);
    const real *a = run_in(r, n, 0) + i * d, *b = run_in(r, n, 1) + i * d;
    real *da = run_grad_in(r, n, 0), *db = run_grad_in(r, n, 1), *dt = run_grad_in(r, n, 2);
    const struct cosine c = cosine_of(n, r, i);
    const double apart = c.cos - attrs_of(n)->margin > 0 ? scale : 0;
    const double slope = is_similar(n, r, i) ? -scale : apart, root = sqrt(c.aa * c.bb);
    for (int64_t k = 0; k < d; k++) {
        if (da)
            da[i * d + k] = (real)(slope * ((double)b[k] / root - c.cos * (double)a[k] / c.aa));
        if (db)
            db[i * d + k] = (real)(slope * ((double)a[k] / root - c.cos * (double)b[k] / c.bb));
    }
    if (dt)
        dt[i] = 0;
}

/* |a - b + eps|_p of row i, for inputs j and k of the node. */
static double distance(const struct node *n, struct run *r, int64_t i, int j, int k)
{
    const struct rows_attrs *o = attrs_of(n);
    const int64_t d = vector_length(n);
    const real *a = run_in(r, n, j) + i * d, *b = run_in(r, n, k) + i * d;
    double sum = 0;
    for (int64_t c = 0; c < d; c++)
        sum += pow(fabs((double)a[c] - (double)b[c] + o->eps), o->p);
    return pow(sum, 1 / o->p);
}

/* The slope of the distance by element c of its first input. */
static double distance_slope(const struct node *n, struct run *r, int64_t at, int j, int k,
                             double dist)
{
    const struct rows_attrs *o = attrs_of(n);
    const double v = (double)run_in(r, n, j)[at] - (double)run_in(r, n, k)[at] + o->eps;
    const double size = dist == 0 || v == 0 ? 0 : pow(fabs(v) / dist, o->p - 1);
    return v < 0 ? -size : size;
}

static double triplet_margin_term(const struct node *n, struct run *r, int64_t i)
{
    const double over = attrs_of(n)->margin + distance(n, r, i, 0, 1) - distance(n, r, i, 0, 2);
    return over < 0 ? 0 : over;
}

static void triplet_margin_slope(const struct node *n, struct run *r, int64_t i, double scale)
{
    const int64_t d = vector_length(n);
    const double near = distance(n, r, i, 0, 1), far = distance(n, r, i, 0, 2);
    const double slope = attrs_of(n)->margin + near - far > 0 ? scale : 0;
    real *to[3] = {run_grad_in(r, n, 0), run_grad_in(r, n, 1), run_grad_in(r, n, 2)};
    for (int64_t at = i * d; at < (i + 1) * d; at++) {
        const double by_near = slope * distance_slope(n, r, at, 0, 1, near);
        const double by_far = slope * distance_slope(n, r, at, 0, 2, far);
        const double slopes[3] = {by_near - by_far, -by_near, by_far};
        for (int k = 0; k < 3; k++)
            if (to[k])
                to[k][at] = (real)slopes[k];
    }
}

static const struct row_loss cosine_embedding_loss = {vector_rows, cosine_embedding_term,
                                                      cosine_embedding_slope, NULL};
static const struct row_loss triplet_margin_loss = {vector_rows, triplet_margin_term,
                                                    triplet_margin_slope, NULL};

/* ---- the table ------------------------------------------------------------------------------- */

ROWS_FORWARD(cosine_embedding)
ROWS_BACKWARD(cosine_embedding)
ROWS_FORWARD(triplet_margin)
ROWS_BACKWARD(triplet_margin)

const struct op ops_loss_vectors[] = {
    ROWS_ROW(cosine_embedding, 3, vectors_shape, OP_TARGET_ROWS,
             "Nx5 Nx5 N:binary; Nx4:positive Nx4 N:binary margin=0.3 reduction=sum; Nx2x3 Nx2x3 "
             "Nx2:binary",
             "1 - cos(a, b) where the target is 1, else (-1) max(0, cos(a, b) - margin)"),
    ROWS_ROW(triplet_margin, 3, vectors_shape, 0,
             "Nx5 Nx5:spread Nx5:positive; Nx4:positive Nx4 Nx4 margin=2 p=3; Nx3 Nx3:spread Nx3 "
             "margin=5 reduction=sum",
             "max(0, margin + |anchor - positive|_p - |anchor - negative|_p)"),
    {0},
};
