/* ops_linear.c: linear, and the family's table. Training goes through BLAS; plans without backward
 * go through kernels whose rows do not depend on the batch. */
#include "ops_linear.h"

#include "blas.h"
#include "kernels.h"

/* ---- products of matrices, in tiles ---------------------------------------------------------- */

enum {
    TILE = 128,       /* rows and columns of a tile for BLAS */
    KERNEL_ROWS = 32, /* of a tile for the kernels */
    KERNEL_COLS = 64,
    GEMM_GRAIN = 1 << 18, /* multiplications that are worth a range of their own */
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A product and how its result is cut: tiles are counted row by row. */
struct tiling {
    const struct gemm *g;
    int64_t rows, cols; /* of a tile */
    int64_t across;     /* tiles next to each other */
};

struct tile {
    int64_t i, j, m, n; /* place and size in c */
};

static struct tile tile_at(const struct tiling *t, int64_t at)
{
    int64_t i = at / t->across * t->rows, j = at % t->across * t->cols;
    return (struct tile){i, j, min_int64(t->rows, t->g->m - i), min_int64(t->cols, t->g->n - j)};
}

static void tiling_run(struct run *r, const struct gemm *g, int64_t rows, int64_t cols, pool_fn *f)
{
    struct tiling t = {g, rows, cols, ceil_div(g->n, cols)};
    double work = (double)min_int64(rows, g->m) * (double)min_int64(cols, g->n) * (double)g->k;
    int64_t grain = work < GEMM_GRAIN ? (int64_t)(GEMM_GRAIN / (work + 1)) + 1 : 1;
    run_for(r, ceil_div(g->m, rows) * t.across, grain, f, &t);
}

static void blas_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct tiling *tiling = arg;
    const struct gemm *g = tiling->g;
    const int64_t lda = g->ta ? g->m : g->k, ldb = g->tb ? g->k : g->n;
    for (int64_t at = begin; at < end; at++) {
        struct tile t = tile_at(tiling, at);
        const real *a = g->a + t.i * (g->ta ? 1 : lda), *b = g->b + t.j * (g->tb ? ldb : 1);
        real *c = g->c + t.i * g->n + t.j;
        int64_t p = 0, k;
        do { /* once, unless k is beyond what BLAS can count */
            k = min_int64(g->k - p, GEMM_MAX_SIZE);
            blas_gemm(g->ta, g->tb, t.m, t.n, k, 1, a + p * (g->ta ? lda : 1), lda,
                      b + p * (g->tb ? 1 : ldb), ldb, p > 0, c, g->n);
            p += k;
        } while (p < g->k);
        for (int64_t i = 0; g->bias && i < t.m; i++)
            for (int64_t j = 0; j < t.n; j++)
                c[i * g->n + j] += g->bias[t.j + j];
    }
}

static void kernel_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct tiling *tiling = arg;
    const struct gemm *g = tiling->g;
    for (int64_t at = begin; at < end; at++) {
        struct tile t = tile_at(tiling, at);
        const real *a = g->a + t.i * g->k;
        real *c = g->c + t.i * g->n + t.j;
        if (g->tb)
            kernels()->linear(t.m, t.n, g->k, a, g->k, g->b + t.j * g->k, g->k,
                              g->bias ? g->bias + t.j : NULL, c, g->n);
        else
            kernels()->matmul(t.m, t.n, g->k, a, g->k, g->b + t.j, g->n, c, g->n);
    }
}

void gemm_run_invariant(struct run *r, const struct gemm *g)
{
    struct gemm own = *g;
    own.tb |= g->n == 1; /* one column lies in memory as one row */
    tiling_run(r, &own, KERNEL_ROWS, KERNEL_COLS, kernel_tiles);
}

/* BLAS packs both matrices first, which does not pay for a vector. */
void gemm_run(struct run *r, const struct gemm *g)
{
    if (!g->ta && (g->m == 1 || g->n == 1))
        gemm_run_invariant(r, g);
    else
        tiling_run(r, g, TILE, TILE, blas_tiles);
}

/* ---- linear ---------------------------------------------------------------------------------- */

enum { LINEAR_WEIGHT, LINEAR_BIAS };

struct linear {
    int64_t out_features;
    bool bias;
};

static const struct attr_def linear_attrs[] = {
    {"out_features", ATTR_INT, offsetof(struct linear, out_features), "0", 1, GEMM_MAX_SIZE, NULL,
     "size of each output row; may be left out when a weight is brought"},
    {"bias", ATTR_BOOL, offsetof(struct linear, bias), "true", 0, 0, NULL,
     "whether a learnt bias is added"},
    {0},
};

static const struct param_def linear_params[] = {
    {"weight", false, "kaiming_uniform"}, /* [out][in] */
    {"bias", false, "fan_in_uniform"},    /* [out] */
    {0},
};

/* The sizes of one call: y[rows][out] = x[rows][in] * weight[out][in]^T. */
struct linear_sizes {
    int64_t rows, in, out;
};

static struct linear_sizes linear_sizes(const struct node *n, const struct run *r)
{
    const struct node *weight = node_param_in(n, LINEAR_WEIGHT);
    int64_t in = weight->shape.dim[1], out = weight->shape.dim[0];
    return (struct linear_sizes){run_count(r, n) / out, in, out};
}

/* out_features as given, or as the weight that was brought says. */
static int linear_out_features(const struct node *n, int64_t *out_r, struct error *e)
{
    const struct linear *a = n->attrs;
    const struct node *weight = node_param_in(n, LINEAR_WEIGHT);
    *out_r = a->out_features;
    if (*out_r)
        return 0;
    if (!weight)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'out_features' is missing (size of each output row)",
                         n->what);
    struct shape_text text;
    *out_r = weight->shape.rank == 2 ? weight->shape.dim[0] : 0;
    if (*out_r >= 1 && *out_r <= GEMM_MAX_SIZE)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: its weight must have the shape [out_features, in_features], not %s",
                     n->what, shape_print(&weight->shape, &text));
}

static int linear_shape(struct node *n, struct error *e)
{
    const struct linear *a = n->attrs;
    struct shape shape = n->in[0]->shape;
    struct shape_text text;
    int64_t out;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) || linear_out_features(n, &out, e))
        return -1;
    int64_t in = shape.dim[shape.rank - 1];
    if (in < 1 || in > GEMM_MAX_SIZE)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: the last dimension of its input must be 1 to %d features, found %s",
                         n->what, GEMM_MAX_SIZE, shape_print(&shape, &text));
    if (!a->bias && node_param_in(n, LINEAR_BIAS))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    if (node_param(n, LINEAR_WEIGHT, &SHAPE(out, in), in, out, e) ||
        (a->bias && node_param(n, LINEAR_BIAS, &SHAPE(out), in, out, e)))
        return -1;
    shape.dim[shape.rank - 1] = out;
    return node_set_shape(n, &shape, e);
}

static void linear_forward(const struct node *n, struct run *r)
{
    const struct linear_sizes s = linear_sizes(n, r);
    const struct node *bias = node_param_in(n, LINEAR_BIAS);
    const struct gemm g = {.tb = true,
                           .m = s.rows,
                           .n = s.out,
                           .k = s.in,
                           .a = run_in(r, n, 0),
                           .b = run_in(r, n, n->n_data + LINEAR_WEIGHT),
                           .c = run_value(r, n),
                           .bias = bias ? r->value[bias->id] : NULL};
    (r->invariant ? gemm_run_invariant : gemm_run)(r, &g);
}

struct column_sums {
    int64_t rows, cols;
    const real *x; /* [rows][cols] */
    real *sums;    /* [cols] */
};

enum { SUM_COLS = 64 };

/* Columns [begin, end), at most SUM_COLS, over all rows in order. */
static void column_sums_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct column_sums *s = arg;
    double sum[SUM_COLS] = {0};
    const int64_t cols = end - begin;
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < cols; j++)
            sum[j] += s->x[i * s->cols + begin + j];
    for (int64_t j = 0; j < cols; j++)
        s->sums[begin + j] = (real)sum[j];
}

static void linear_backward(const struct node *n, struct run *r)
{
    const struct linear_sizes s = linear_sizes(n, r);
    const real *dy = run_grad(r, n);                         /* [rows][out] */
    real *dx = run_grad_in(r, n, 0);                         /* [rows][in] */
    real *dw = run_grad_in(r, n, n->n_data + LINEAR_WEIGHT); /* [out][in] */
    real *db = node_param_in(n, LINEAR_BIAS) ? run_grad_in(r, n, n->n_data + LINEAR_BIAS) : NULL;
    if (dx)
        gemm_run(r, &(struct gemm){.m = s.rows,
                                   .n = s.in,
                                   .k = s.out,
                                   .a = dy,
                                   .c = dx,
                                   .b = run_in(r, n, n->n_data + LINEAR_WEIGHT)});
    if (dw)
        gemm_run(r, &(struct gemm){.ta = true,
                                   .m = s.out,
                                   .n = s.in,
                                   .k = s.rows,
                                   .a = dy,
                                   .b = run_in(r, n, 0),
                                   .c = dw});
    if (db)
        run_for(r, s.out, SUM_COLS, column_sums_range,
                &(struct column_sums){s.rows, s.out, dy, db});
}

static double linear_flops(const struct node *n)
{
    double rows = (double)(n->size.sample + n->size.fixed);
    return rows * 2 * (double)node_param_in(n, LINEAR_WEIGHT)->shape.dim[1];
}

const struct op ops_linear[] = {
    {"linear", "linear", 1, 1, linear_attrs, sizeof(struct linear), linear_params, linear_shape,
     NULL, linear_forward, linear_backward, linear_flops, OP_KEEPS_IN,
     "Nx7 out_features=5; Nx3x4 out_features=2 bias=false; 5 out_features=3; Nx2x2x19 "
     "out_features=9",
     "y = x W^T + b over the last dimension"},
    {"matmul", "linear", 2, 2, NULL, 0, NULL, matmul_shape, NULL, matmul_forward, matmul_backward,
     matmul_flops, OP_KEEPS_IN,
     "4 4; 3x4 4x5; 4 4x5; 3x4 4; Nx4 4x20; Nx4 4; Nx3x4 4x2; Nx3x4 4; Nx3x4 Nx4x2; 3x4 Nx4x2; "
     "4 Nx4x2; Nx1x3x4 2x4x5; Nx2x3x4 1x1x4x2; 1x3x4 5x4x2; Nx2x1x1x3 Nx1x4x3x2",
     "y = a b, matrices in the last two dimensions, the others broadcast"},
    {0},
};
