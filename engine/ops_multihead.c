/* ops_multihead.c: multihead_attention, torch.nn.MultiheadAttention with batch_first: projections
 * in, attention of each head, projection out. Parameters have torch's names and shapes. Inputs are
 * query; or query and memory; or query, key and value; and then, as INT64, torch's
 * key_padding_mask inverted: 0 where a key is padding. */
#include "attention.h"
#include "channels.h"
#include "graph.h"
#include "ops_linear.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { MHA_IN_WEIGHT, MHA_IN_BIAS, MHA_OUT_WEIGHT, MHA_OUT_BIAS };
enum { MHA_EMBED_MAX = 1 << 20 };

struct mha {
    int64_t num_heads;
    bool bias, is_causal;
};
static const struct attr_def mha_attrs[] = {
    {"num_heads", ATTR_INT, offsetof(struct mha, num_heads), NULL, 1, MHA_EMBED_MAX, NULL,
     "heads; they divide the features"},
    {"bias", ATTR_BOOL, offsetof(struct mha, bias), "true", 0, 0, NULL,
     "whether the projections add a learnt bias"},
    {"is_causal", ATTR_BOOL, offsetof(struct mha, is_causal), "false", 0, 0, NULL,
     "a query attends to keys up to its own place only"},
    {0},
};
static const struct param_def mha_params[] = {
    {"in_proj_weight", false, "xavier_uniform"},   /* [3 E][E]: of query, key and value */
    {"in_proj_bias", false, "zeros"},              /* [3 E] */
    {"out_proj.weight", false, "kaiming_uniform"}, /* [E][E] */
    {"out_proj.bias", false, "zeros"},             /* [E] */
    {0},
};

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Real inputs; what follows them is the mask. */
static int real_inputs(const struct node *n)
{
    int count = 0;
    while (count < n->n_data && n->in[count]->dtype == DTYPE_REAL)
        count++;
    return count;
}

/* Which input is projected to query (0), key (1) or value (2). */
static int input_of(const struct node *n, int part)
{
    const int count = real_inputs(n);
    return part < count ? part : count - 1;
}

static int check_inputs(const struct node *n, struct error *e)
{
    struct shape_text a, b;
    const int count = real_inputs(n);
    if (count < 1 || count > 3 || n->n_data > count + 1)
        return error_set(e, ERROR_BAD_DTYPE,
                         "%s: expects one to three inputs (query, key, value), then one INT64 mask "
                         "at most, found %d and %d others",
                         n->what, count, n->n_data - count);
    const struct shape *q = &n->in[0]->shape;
    for (int i = 0; i < count; i++) {
        const struct shape *s = &n->in[i]->shape;
        if (node_check_rank(n, i, 3, 3, e))
            return -1;
        if (s->dim[0] != q->dim[0] || s->dim[2] != q->dim[2] ||
            s->dim[1] != n->in[input_of(n, i ? 2 : i)]->shape.dim[1] || s->dim[1] > MHA_EMBED_MAX)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: expects query [N, L, E], key and value [N, S, E] of at most %d "
                             "places, found %s and %s",
                             n->what, MHA_EMBED_MAX, shape_print(q, &a), shape_print(s, &b));
    }
    const struct shape keys = SHAPE(q->dim[0], n->in[input_of(n, 1)]->shape.dim[1]);
    if (n->n_data > count && !shape_equal(&n->in[count]->shape, &keys))
        return error_set(e, ERROR_BAD_SHAPE, "%s: the mask must have the shape %s, not %s", n->what,
                         shape_print(&keys, &a), shape_print(&n->in[count]->shape, &b));
    return 0;
}

static int mha_shape(struct node *n, struct error *e)
{
    const struct mha *a = n->attrs;
    if (check_inputs(n, e))
        return -1;
    const int64_t embed = n->in[0]->shape.dim[2];
    if (embed > MHA_EMBED_MAX || embed % a->num_heads)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: num_heads %lld must divide the %lld features (at most %d) without "
                         "remainder",
                         n->what, (long long)a->num_heads, (long long)embed, MHA_EMBED_MAX);
    if (!a->bias && (node_param_in(n, MHA_IN_BIAS) || node_param_in(n, MHA_OUT_BIAS)))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    if (node_param(n, MHA_IN_WEIGHT, &SHAPE(3 * embed, embed), embed, 3 * embed, e) ||
        (a->bias && node_param(n, MHA_IN_BIAS, &SHAPE(3 * embed), embed, 3 * embed, e)) ||
        node_param(n, MHA_OUT_WEIGHT, &SHAPE(embed, embed), embed, embed, e) ||
        (a->bias && node_param(n, MHA_OUT_BIAS, &SHAPE(embed), embed, embed, e)))
        return -1;
    return node_set_shape(n, &n->in[0]->shape, e);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static struct extent extent_add(struct extent a, struct extent b)
{
    return (struct extent){a.sample + b.sample, a.fixed + b.fixed};
}

/* Kept: query, key and value projected, the heads' results side by side, and log_sum. Backward: the
 * gradients of those four, a place for a sum, and the sums of biases. */
static void mha_memory(struct node *n)
{
    const struct mha *a = n->attrs;
    const int64_t embed = n->in[0]->shape.dim[2];
    const struct extent q = n->size, k = n->in[input_of(n, 1)]->size;
    const struct extent heads = {q.sample / embed * a->num_heads, q.fixed / embed * a->num_heads};
    const struct extent four = extent_add(extent_add(q, q), extent_add(k, k));
    n->saved = extent_add(four, heads);
    n->work_backward = extent_add(four, q.sample + q.fixed > k.sample + k.fixed ? q : k);
    n->scratch = attention_scratch(n->in[input_of(n, 1)]->shape.dim[1]);
    if (n->graph->invariant)
        n->prepared = n->work.fixed = 4 * linear_packed_size(n->shape.dim[2], n->shape.dim[2]);
}

/* What forward keeps, or the gradients of it. */
struct parts {
    real *part[3]; /* [rows][embed]: query, key, value */
    real *mixed;   /* [queries][embed]: the heads' results */
    real *rest;    /* log_sum, or the place for a sum */
};

static struct parts parts_at(const struct node *n, const struct run *r, real *room)
{
    const int64_t q = run_count(r, n), k = run_count(r, n->in[input_of(n, 1)]);
    return (struct parts){{room, room + q, room + q + k}, room + q + 2 * k, room + 2 * q + 2 * k};
}

static struct attention mha_attention(const struct node *n, struct run *r, const struct parts *kept)
{
    const struct mha *o = n->attrs;
    const int64_t embed = n->shape.dim[2], keys = n->in[input_of(n, 1)]->shape.dim[1];
    const int64_t queries = n->shape.dim[1], depth = embed / o->num_heads;
    const struct attention_rows q = {queries * embed, depth, embed},
                                k = {keys * embed, depth, embed};
    struct attention a = {.r = r,
                          .samples = run_dim(r, n, 0),
                          .heads = o->num_heads,
                          .queries = queries,
                          .keys = keys,
                          .depth = depth,
                          .width = depth,
                          .scale = 1 / sqrt((double)depth),
                          .causal = o->is_causal,
                          .q_rows = q,
                          .k_rows = k,
                          .v_rows = k,
                          .y_rows = q,
                          .q = kept->part[0],
                          .k = kept->part[1],
                          .v = kept->part[2],
                          .log_sum = kept->rest};
    if (n->n_data > real_inputs(n)) {
        a.mask = run_in_int64(r, n, n->n_data - 1);
        a.mask_rows.sample = keys;
        a.mask_step = 1;
    }
    return a;
}

/* ---- running --------------------------------------------------------------------------------- */

static const real *param_of(const struct node *n, const struct run *r, int k)
{
    return node_param_in(n, k) ? run_in(r, n, n->n_data + k) : NULL;
}

static real *param_grad(const struct node *n, const struct run *r, int k)
{
    return node_param_in(n, k) ? run_grad_in(r, n, n->n_data + k) : NULL;
}

/* Packed weights of plans without backward: of query, key, value and the way out. */
static int64_t packed_size(int64_t embed)
{
    return linear_packed_size(embed, embed);
}

/* Projection `part` of these; weight is [embed][embed]. */
static void project(const struct node *n, struct run *r, int part, int64_t rows, const real *x,
                    const real *weight, const real *bias, real *y)
{
    const int64_t embed = n->shape.dim[2];
    struct gemm g = {
        .tb = true, .m = rows, .n = embed, .k = embed, .a = x, .b = weight, .c = y, .bias = bias};
    if (!r->invariant) {
        gemm_run(r, &g);
        return;
    }
    real *kept = run_prepared(r, n);
    real *packed = (kept ? kept : run_work(r, n)) + part * packed_size(embed);
    if (!kept || r->prepares)
        linear_pack(r, embed, embed, weight, packed);
    g.b = packed;
    linear_run_packed(r, &g, &(struct epilogue){.activation = ACTIVATION_NONE});
}

static void mha_forward(const struct node *n, struct run *r)
{
    const int64_t embed = n->shape.dim[2];
    const struct parts kept = parts_at(n, r, run_saved(r, n));
    const real *weight = param_of(n, r, MHA_IN_WEIGHT), *bias = param_of(n, r, MHA_IN_BIAS);
    for (int i = 0; i < 3; i++) {
        const struct node *in = n->in[input_of(n, i)];
        project(n, r, i, run_count(r, in) / embed, run_value(r, in), weight + i * embed * embed,
                bias ? bias + i * embed : NULL, kept.part[i]);
    }
    struct attention a = mha_attention(n, r, &kept);
    a.out = kept.mixed;
    attention_forward(&a);
    project(n, r, 3, run_count(r, n) / embed, kept.mixed, param_of(n, r, MHA_OUT_WEIGHT),
            param_of(n, r, MHA_OUT_BIAS), run_value(r, n));
}

/* The gradients of a projection's weight, bias and input; those that are NULL are left out. */
static void project_backward(struct run *r, int64_t rows, int64_t embed, const real *dy,
                             const real *x, const real *weight, real *dweight, real *dbias,
                             real *dx)
{
    if (dweight)
        gemm_run(r,
                 &(struct gemm){
                     .ta = true, .m = embed, .n = embed, .k = rows, .a = dy, .b = x, .c = dweight});
    if (dbias)
        column_sums_run(r, rows, embed, dy, dbias);
    if (dx)
        gemm_run(r,
                 &(struct gemm){.m = rows, .n = embed, .k = embed, .a = dy, .b = weight, .c = dx});
}

struct adding {
    real *to;
    const real *from;
};

static void add_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct adding *a = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        a->to[i] += a->from[i];
}

/* An input that is projected more than once has the sum of the gradients. */
static void in_backward(const struct node *n, struct run *r, const struct parts *slopes, int part)
{
    const int64_t embed = n->shape.dim[2], which = input_of(n, part);
    const struct node *in = n->in[which];
    real *dx = run_grad_in(r, n, (int)which), *dweight = param_grad(n, r, MHA_IN_WEIGHT);
    real *dbias = param_grad(n, r, MHA_IN_BIAS);
    const bool again = part > 0 && input_of(n, part - 1) == which;
    project_backward(r, run_count(r, in) / embed, embed, slopes->part[part], run_value(r, in),
                     param_of(n, r, MHA_IN_WEIGHT) + part * embed * embed,
                     dweight ? dweight + part * embed * embed : NULL,
                     dbias ? dbias + part * embed : NULL, dx && again ? slopes->rest : dx);
    if (dx && again)
        run_for(r, run_count(r, in), GRAIN_ELEMENTS, add_range, &(struct adding){dx, slopes->rest});
}

static void mha_backward(const struct node *n, struct run *r)
{
    const int64_t embed = n->shape.dim[2];
    const struct parts kept = parts_at(n, r, run_saved(r, n));
    const struct parts slopes = parts_at(n, r, run_work(r, n));
    project_backward(r, run_count(r, n) / embed, embed, run_grad(r, n), kept.mixed,
                     param_of(n, r, MHA_OUT_WEIGHT), param_grad(n, r, MHA_OUT_WEIGHT),
                     param_grad(n, r, MHA_OUT_BIAS), slopes.mixed);
    struct attention a = mha_attention(n, r, &kept);
    a.y = kept.mixed;
    a.dy = slopes.mixed;
    a.dq = slopes.part[0];
    a.dk = slopes.part[1];
    a.dv = slopes.part[2];
    attention_backward(&a);
    for (int part = 0; part < 3; part++)
        in_backward(n, r, &slopes, part);
}

static double mha_flops(const struct node *n)
{
    const struct extent k = n->in[input_of(n, 1)]->size;
    const double embed = (double)n->shape.dim[2], q = (double)(n->size.sample + n->size.fixed);
    const double keys = (double)n->in[input_of(n, 1)]->shape.dim[1];
    return 2 * embed * (2 * q + 2 * (double)(k.sample + k.fixed)) + 4 * keys * q;
}

const struct op ops_multihead[] = {
    {"multihead_attention", "attention", 1, 4, mha_attrs, sizeof(struct mha), mha_params, mha_shape,
     mha_memory, mha_forward, mha_backward, mha_flops, OP_KEEPS_IN,
     "Nx5x4 num_heads=2; Nx3x4 Nx5x4 num_heads=1 bias=false; Nx3x6 Nx4x6 Nx4x6 num_heads=3; Nx4x4 "
     "num_heads=2 is_causal=true; Nx4x4 Nx4:classes=2 num_heads=2; Nx1x2 num_heads=2",
     "heads of softmax(q k^T / sqrt(E / num_heads)) v, projected in and out; inputs query, key, "
     "value and a mask (INT64, 0: padding)"},
    {0},
};
