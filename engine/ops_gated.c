/* ops_gated.c: activations that multiply by something else: prelu by a learnt slope, glu by the
 * sigmoid of the other half of its input. */
#include "channels.h"
#include "unary.h"

#include <stddef.h>
#include <string.h>

/* ---- prelu ----------------------------------------------------------------------------------- */

struct prelu {
    int64_t num_parameters;
    double init;
};
static const struct attr_def prelu_attrs[] = {
    {"num_parameters", ATTR_INT, offsetof(struct prelu, num_parameters), "1", 1, 1 << 30, NULL,
     "1: one slope for all; or the number of channels (dimension 1)"},
    {"init", ATTR_REAL, offsetof(struct prelu, init), "0.25", -1e6, 1e6, NULL,
     "the slope before training"},
    {0},
};
static const struct param_def prelu_params[] = {{"weight", false, "constant"}, {0}};

/* The slope's first value is an attribute of the layer, unless the caller brought the slope. */
static int prelu_declare(struct node *n, struct error *e)
{
    const struct prelu *a = n->attrs;
    const int before = graph_param_count(n->graph);
    const struct attr value = {.name = "value", .kind = ATTR_IS_REAL, .d = a->init};
    if (node_param(n, 0, &SHAPE(a->num_parameters), 0, 0, e))
        return -1;
    if (graph_param_count(n->graph) == before)
        return 0;
    return graph_set_init(n->graph, before, "constant", &value, 1, e);
}

static int prelu_shape(struct node *n, struct error *e)
{
    const struct prelu *a = n->attrs;
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 0, SHAPE_MAX_RANK, e))
        return -1;
    if (a->num_parameters > 1 && (in->rank < 2 || in->dim[1] != a->num_parameters))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: num_parameters must be 1 or the number of channels (dimension 1 of "
                         "%s), not %lld",
                         n->what, shape_print(in, &text), (long long)a->num_parameters);
    return prelu_declare(n, e) ? -1 : node_set_shape(n, in, e);
}

/* The value as rows of channels with a slope each. */
static struct channels prelu_channels(const struct node *n, const struct run *r)
{
    struct channels v = {run_count(r, n), ((const struct prelu *)n->attrs)->num_parameters, 1};
    for (int i = 2; v.c > 1 && n->layout == LAYOUT_PLAIN && i < n->shape.rank; i++)
        v.inner *= n->shape.dim[i];
    v.rows /= v.c * v.inner;
    return v;
}

static void prelu_memory(struct node *n)
{
    const int64_t c = ((const struct prelu *)n->attrs)->num_parameters;
    n->work_backward.fixed = doubles_as_reals(CHANNEL_CHUNKS * c);
}

struct prelu_job {
    struct channels v;
    const real *x, *weight, *dy; /* dy NULL: forward */
    real *y;                     /* or dx */
    double *sums;                /* [chunks][c] */
};

static void prelu_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct prelu_job *j = arg;
    for (int64_t lane = begin * j->v.c; lane < end * j->v.c; lane++) {
        const real slope = j->weight[lane % j->v.c];
        for (int64_t i = lane * j->v.inner; i < (lane + 1) * j->v.inner; i++) {
            const real from = j->dy ? j->dy[i] : j->x[i];
            j->y[i] = j->x[i] > 0 ? from : slope * from;
        }
    }
}

static void prelu_sums_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct prelu_job *j = arg;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t at;
        struct channels v = channel_chunk(&j->v, chunk, &at);
        double *sum = j->sums + chunk * v.c;
        memset(sum, 0, (size_t)v.c * sizeof *sum);
        for (int64_t lane = 0; lane < v.rows * v.c; lane++)
            for (int64_t i = 0; i < v.inner; i++, at++)
                sum[lane % v.c] += j->x[at] > 0 ? 0 : (double)j->dy[at] * (double)j->x[at];
    }
}

static void prelu_forward(const struct node *n, struct run *r)
{
    struct prelu_job j = {.v = prelu_channels(n, r),
                          .x = run_in(r, n, 0),
                          .weight = run_in(r, n, n->n_data),
                          .y = run_value(r, n)};
    run_for(r, j.v.rows, grain_rows(j.v.c * j.v.inner), prelu_range, &j);
}

static void prelu_backward(const struct node *n, struct run *r)
{
    struct prelu_job j = {.v = prelu_channels(n, r),
                          .x = run_in(r, n, 0),
                          .weight = run_in(r, n, n->n_data),
                          .dy = run_grad(r, n),
                          .y = run_grad_in(r, n, 0),
                          .sums = (double *)(void *)run_work(r, n)};
    real *dweight = run_grad_in(r, n, n->n_data);
    const int64_t chunks = channel_chunks(&j.v).count;
    if (j.y)
        run_for(r, j.v.rows, grain_rows(j.v.c * j.v.inner), prelu_range, &j);
    if (!dweight)
        return;
    run_for(r, chunks, 1, prelu_sums_range, &j);
    for (int64_t c = 0; c < j.v.c; c++) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            sum += j.sums[chunk * j.v.c + c];
        dweight[c] = (real)sum;
    }
}

/* ---- glu ------------------------------------------------------------------------------------- */

struct glu {
    int64_t dim;
};
static const struct attr_def glu_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct glu, dim), "-1", -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimension that is cut into two halves; not the batch"},
    {0},
};

static int glu_shape(struct node *n, struct error *e)
{
    struct shape out = n->in[0]->shape;
    struct shape_text text;
    int dim;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) ||
        node_wrap_dim(n, ((const struct glu *)n->attrs)->dim, out.rank, &dim, e))
        return -1;
    if (out.dim[dim] == BATCH || out.dim[dim] % 2)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: dimension %d of %s must be even and not the batch, to be halved",
                         n->what, dim, shape_print(&out, &text));
    out.dim[dim] /= 2;
    return node_set_shape(n, &out, e);
}

struct glu_job {
    int64_t half; /* numbers of half a row: a row is a, then b */
    const real *x, *dy;
    real *to;
};

static struct glu_job glu_job(const struct node *n, struct run *r, int64_t *rows_r)
{
    const int64_t given = ((const struct glu *)n->attrs)->dim;
    struct glu_job j = {.half = 1, .x = run_in(r, n, 0)};
    for (int i = (int)(given < 0 ? given + n->shape.rank : given); i < n->shape.rank; i++)
        j.half *= n->shape.dim[i] == BATCH ? 1 : n->shape.dim[i];
    *rows_r = run_count(r, n) / j.half;
    return j;
}

static inline real gate_of(real x)
{
    real z = RM(exp)(-RM(fabs)(x));
    return (x >= 0 ? 1 : z) / (1 + z);
}

static void glu_forward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct glu_job *j = arg;
    for (int64_t row = begin; row < end; row++) {
        const real *a = j->x + 2 * row * j->half, *b = a + j->half;
        for (int64_t i = 0; i < j->half; i++)
            j->to[row * j->half + i] = a[i] * gate_of(b[i]);
    }
}

static void glu_backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct glu_job *j = arg;
    for (int64_t row = begin; row < end; row++) {
        const real *a = j->x + 2 * row * j->half, *b = a + j->half, *dy = j->dy + row * j->half;
        real *da = j->to + 2 * row * j->half, *db = da + j->half;
        for (int64_t i = 0; i < j->half; i++) {
            const real s = gate_of(b[i]);
            da[i] = dy[i] * s;
            db[i] = dy[i] * a[i] * (s * (1 - s));
        }
    }
}

static void glu_forward(const struct node *n, struct run *r)
{
    int64_t rows;
    struct glu_job j = glu_job(n, r, &rows);
    j.to = run_value(r, n);
    run_for(r, rows, grain_rows(j.half), glu_forward_range, &j);
}

static void glu_backward(const struct node *n, struct run *r)
{
    int64_t rows;
    struct glu_job j = glu_job(n, r, &rows);
    j.dy = run_grad(r, n);
    j.to = run_grad_in(r, n, 0);
    if (j.to)
        run_for(r, rows, grain_rows(j.half), glu_backward_range, &j);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct op ops_gated[] = {
    {"prelu", "activation", 1, 1, prelu_attrs, sizeof(struct prelu), prelu_params, prelu_shape,
     prelu_memory, prelu_forward, prelu_backward, unary_flops, OP_LAYOUT_ALIKE | OP_KEEPS_IN,
     "Nx7:spread; Nx3x4:spread num_parameters=3; Nx3x2x2:spread num_parameters=3 init=0.1; "
     "5:spread",
     "y = x where x > 0, else weight x; weight of the channel"},
    {"glu", "activation", 1, 1, glu_attrs, sizeof(struct glu), NULL, glu_shape, NULL, glu_forward,
     glu_backward, unary_flops, OP_KEEPS_IN, "Nx6; Nx4x3 dim=1; Nx2x2x3 dim=1; 4x3 dim=0",
     "y = a sigmoid(b), for the halves a and b of x along dim"},
    {0},
};
