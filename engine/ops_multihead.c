/* ops_multihead.c: multihead_attention, torch.nn.MultiheadAttention with batch_first: projections
 * in, attention of each head, projection out. Parameters have torch's names and shapes: one weight
 * for the three projections in, or, where keys or values have another width than queries (kdim,
 * vdim), one for each. Inputs are query; or query and memory; or query, key and value; then, as
 * INT64, torch's key_padding_mask inverted: 0 where a key is padding; and last, with the attribute
 * attn_mask, torch's attn_mask: of floating point, which is added to the scores, or INT64, 0 where
 * a key does not count. */
#include "multihead.h"

#include "channels.h"
#include "graph.h"
#include "ops_linear.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Projections: of query, key, value, and the way out. */
enum { PROJECTION_OUT = 3 };

static const struct attr_def mha_attrs[] = {
    {"num_heads", ATTR_INT, offsetof(struct mha, num_heads), NULL, 1, MHA_EMBED_MAX, NULL,
     "heads; they divide the features"},
    {"bias", ATTR_BOOL, offsetof(struct mha, bias), "true", 0, 0, NULL,
     "whether the projections add a learnt bias"},
    {"is_causal", ATTR_BOOL, offsetof(struct mha, is_causal), "false", 0, 0, NULL,
     "a query attends to keys up to its own place only"},
    {"dropout", ATTR_REAL, offsetof(struct mha, dropout), "0", 0, 1, NULL,
     "training: probability that a weight of the attention is dropped"},
    {"kdim", ATTR_INT, offsetof(struct mha, kdim), "0", 1, MHA_EMBED_MAX, NULL,
     "features of the keys; those of the query when left out"},
    {"vdim", ATTR_INT, offsetof(struct mha, vdim), "0", 1, MHA_EMBED_MAX, NULL,
     "features of the values; those of the query when left out"},
    {"attn_mask", ATTR_BOOL, offsetof(struct mha, attn_mask), "false", 0, 0, NULL,
     "the last input is a mask [N, L, S] or [N, heads, L, S], 1 where it is the same for all"},
    {"batch_first", ATTR_BOOL, offsetof(struct mha, batch_first), "true", 0, 0, NULL,
     "must be true: the batch is the first dimension here"},
    INPUT_FACT("embed_dim", ATTR_FACT_LAST, "features"),
    {0},
};
static const struct param_def mha_params[] = {
    {"in_proj_weight", false, "xavier_uniform"},   /* [3 E][E]: of query, key and value */
    {"in_proj_bias", false, "zeros"},              /* [3 E] */
    {"out_proj.weight", false, "kaiming_uniform"}, /* [E][E] */
    {"out_proj.bias", false, "zeros"},             /* [E] */
    {"q_proj_weight", false, "xavier_uniform"},    /* [E][E], [E][kdim], [E][vdim]: in place of */
    {"k_proj_weight", false, "xavier_uniform"},    /* in_proj_weight */
    {"v_proj_weight", false, "xavier_uniform"},
    {0},
};

/* ---- memory ---------------------------------------------------------------------------------- */

static struct extent extent_add(struct extent a, struct extent b)
{
    return (struct extent){a.sample + b.sample, a.fixed + b.fixed};
}

/* Of the keys, or values, when they are projected. */
static struct extent keys_size(const struct node *n)
{
    const int64_t embed = n->in[0]->shape.dim[2], width = multihead_features(n, 1);
    const struct extent k = n->in[multihead_input(n, 1)]->size;
    return (struct extent){k.sample / width * embed, k.fixed / width * embed};
}

/* Of the projections in, and, as the last, of the way out. */
static int64_t projection_width(const struct node *n, int part)
{
    return part < PROJECTION_OUT ? multihead_features(n, part) : n->shape.dim[2];
}

/* Packed weights of plans without backward: where those of a projection begin. */
static int64_t packed_at(const struct node *n, int part)
{
    int64_t at = 0;
    for (int i = 0; i < part; i++)
        at += linear_packed_size(n->shape.dim[2], projection_width(n, i));
    return at;
}

/* Kept: query, key and value projected, the heads' results side by side, and log_sum. Backward: the
 * gradients of those four, a place for a sum, and the sums of biases. */
static void mha_memory(struct node *n)
{
    const struct mha *a = n->attrs;
    const int64_t embed = n->in[0]->shape.dim[2];
    const struct extent q = n->size, k = keys_size(n);
    const struct extent heads = {q.sample / embed * a->num_heads, q.fixed / embed * a->num_heads};
    const struct extent four = extent_add(extent_add(q, q), extent_add(k, k));
    n->saved = extent_add(four, heads);
    n->work_backward = extent_add(four, q);
    for (int part = 1; part < 3; part++) {
        const struct extent in = n->in[multihead_input(n, part)]->size, with = extent_add(four, in);
        if (with.sample + with.fixed > n->work_backward.sample + n->work_backward.fixed)
            n->work_backward = with;
    }
    n->scratch = attention_scratch(n->in[multihead_input(n, 1)]->shape.dim[1], embed / a->num_heads,
                                   embed / a->num_heads);
    if (n->graph->invariant)
        n->prepared = n->work.fixed = packed_at(n, PROJECTION_OUT + 1);
}

/* What forward keeps, or the gradients of it. */
struct parts {
    real *part[3]; /* [rows][embed]: query, key, value */
    real *mixed;   /* [queries][embed]: the heads' results */
    real *rest;    /* log_sum, or the place for a sum */
};

static struct parts parts_at(const struct node *n, const struct run *r, real *room)
{
    const int64_t q = run_count(r, n), k = extent_count(keys_size(n), r);
    return (struct parts){{room, room + q, room + q + k}, room + q + 2 * k, room + 2 * q + 2 * k};
}

static struct attention mha_attention(const struct node *n, struct run *r, const struct parts *kept)
{
    const struct mha *o = n->attrs;
    const int64_t embed = n->shape.dim[2], keys = n->in[multihead_input(n, 1)]->shape.dim[1];
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
                          .dropout = r->training ? o->dropout : 0,
                          .random = run_random(r, n),
                          .q_rows = q,
                          .k_rows = k,
                          .v_rows = k,
                          .y_rows = q,
                          .q = kept->part[0],
                          .k = kept->part[1],
                          .v = kept->part[2],
                          .log_sum = kept->rest};
    if (multihead_has_padding(n))
        a.masks[a.n_masks++] = (struct attention_mask){
            .counts = run_in_int64(r, n, multihead_real_inputs(n)), .rows.sample = keys, .step = 1};
    if (o->attn_mask)
        attention_mask_add(&a, n, n->n_data - 1);
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

/* The weight of a projection in: a parameter, and where in it. */
struct part_weight {
    int param;
    int64_t offset;
};

static struct part_weight part_weight(const struct node *n, int part)
{
    const int64_t embed = n->shape.dim[2];
    if (multihead_one_weight(n))
        return (struct part_weight){MHA_IN_WEIGHT, part * embed * embed};
    return (struct part_weight){MHA_PART_WEIGHT + part, 0};
}

/* Rows of a projection's width to rows of `embed`; weight is [embed][width]. */
static void project(const struct node *n, struct run *r, int part, int64_t rows, const real *x,
                    const real *weight, const real *bias, real *y)
{
    const int64_t embed = n->shape.dim[2], width = projection_width(n, part);
    struct gemm g = {
        .tb = true, .m = rows, .n = embed, .k = width, .a = x, .b = weight, .c = y, .bias = bias};
    if (!r->invariant) {
        gemm_run(r, &g);
        return;
    }
    real *kept = run_prepared(r, n);
    real *packed = (kept ? kept : run_work(r, n)) + packed_at(n, part);
    if (!kept || r->prepares)
        linear_pack(r, embed, width, weight, packed);
    g.b = packed;
    linear_run_packed(r, &g, &(struct epilogue){.activation = ACTIVATION_NONE});
}

static void mha_forward(const struct node *n, struct run *r)
{
    const int64_t embed = n->shape.dim[2];
    const struct parts kept = parts_at(n, r, run_saved(r, n));
    const real *bias = param_of(n, r, MHA_IN_BIAS);
    for (int i = 0; i < 3; i++) {
        const struct node *in = n->in[multihead_input(n, i)];
        const struct part_weight w = part_weight(n, i);
        project(n, r, i, run_count(r, in) / multihead_features(n, i), run_value(r, in),
                param_of(n, r, w.param) + w.offset, bias ? bias + i * embed : NULL, kept.part[i]);
    }
    struct attention a = mha_attention(n, r, &kept);
    a.out = kept.mixed;
    attention_forward(&a);
    project(n, r, PROJECTION_OUT, run_count(r, n) / embed, kept.mixed,
            param_of(n, r, MHA_OUT_WEIGHT), param_of(n, r, MHA_OUT_BIAS), run_value(r, n));
}

/* The gradients of a projection's weight, bias and input; those that are NULL are left out. */
static void project_backward(struct run *r, int64_t rows, int64_t width, int64_t embed,
                             const real *dy, const real *x, const real *weight, real *dweight,
                             real *dbias, real *dx)
{
    if (dweight)
        gemm_run(r,
                 &(struct gemm){
                     .ta = true, .m = embed, .n = width, .k = rows, .a = dy, .b = x, .c = dweight});
    if (dbias)
        column_sums_run(r, rows, embed, dy, dbias);
    if (dx)
        gemm_run(r,
                 &(struct gemm){.m = rows, .n = width, .k = embed, .a = dy, .b = weight, .c = dx});
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
    const int64_t embed = n->shape.dim[2], width = multihead_features(n, part);
    const int which = multihead_input(n, part);
    const struct node *in = n->in[which];
    const struct part_weight w = part_weight(n, part);
    real *dx = run_grad_in(r, n, which), *dweight = param_grad(n, r, w.param);
    real *dbias = param_grad(n, r, MHA_IN_BIAS);
    const bool again = part > 0 && multihead_input(n, part - 1) == which;
    project_backward(r, run_count(r, in) / width, width, embed, slopes->part[part],
                     run_value(r, in), param_of(n, r, w.param) + w.offset,
                     dweight ? dweight + w.offset : NULL, dbias ? dbias + part * embed : NULL,
                     dx && again ? slopes->rest : dx);
    if (dx && again)
        run_for(r, run_count(r, in), GRAIN_ELEMENTS, add_range, &(struct adding){dx, slopes->rest});
}

static void mha_backward(const struct node *n, struct run *r)
{
    const int64_t embed = n->shape.dim[2];
    const struct parts kept = parts_at(n, r, run_saved(r, n));
    const struct parts slopes = parts_at(n, r, run_work(r, n));
    project_backward(r, run_count(r, n) / embed, embed, embed, run_grad(r, n), kept.mixed,
                     param_of(n, r, MHA_OUT_WEIGHT), param_grad(n, r, MHA_OUT_WEIGHT),
                     param_grad(n, r, MHA_OUT_BIAS), slopes.mixed);
    struct attention a = mha_attention(n, r, &kept);
    a.y = kept.mixed;
    a.dy = slopes.mixed;
    a.dq = slopes.part[0];
    a.dk = slopes.part[1];
    a.dv = slopes.part[2];
    attention_backward(&a);
    if (multihead_attrs(n)->attn_mask && run_grad_in(r, n, n->n_data - 1))
        attention_backward_mask(&a, a.n_masks - 1, run_grad_in(r, n, n->n_data - 1));
    for (int part = 0; part < 3; part++)
        in_backward(n, r, &slopes, part);
}

static double mha_flops(const struct node *n)
{
    const struct extent k = keys_size(n);
    const double embed = (double)n->shape.dim[2], q = (double)(n->size.sample + n->size.fixed);
    const double keys = (double)n->in[multihead_input(n, 1)]->shape.dim[1];
    return 2 * embed * (2 * q + 2 * (double)(k.sample + k.fixed)) + 4 * keys * q;
}

const struct op ops_multihead[] = {
    {"multihead_attention", "attention", 1, 5, mha_attrs, sizeof(struct mha), mha_params,
     multihead_shape, mha_memory, mha_forward, mha_backward, mha_flops, OP_KEEPS_IN | OP_RANDOM,
     "Nx5x4 num_heads=2; Nx3x4 Nx5x4 num_heads=1 bias=false; Nx3x6 Nx4x6 Nx4x6 num_heads=3; Nx4x4 "
     "num_heads=2 is_causal=true; Nx4x4 Nx4:classes=2 num_heads=2; Nx1x2 num_heads=2; "
     "Nx3x4 Nx5x6 num_heads=2 kdim=6 vdim=6; Nx3x4 Nx5x2 Nx5x3 num_heads=2 kdim=2 vdim=3; Nx3x4 "
     "Nx5x4 Nx5x3 Nx5:classes=2 num_heads=2 vdim=3 bias=false; Nx5x4 num_heads=2 dropout=0.3; "
     "Nx3x4 "
     "Nx5x4 Nx3x5 num_heads=2 attn_mask=true; Nx5x4 Nx5:classes=2 Nx1x5x1 num_heads=2 "
     "attn_mask=true dropout=0.2; Nx3x4 Nx1x3x3:classes=2 num_heads=2 attn_mask=true",
     "heads of softmax(q k^T / sqrt(E / num_heads)) v, projected in and out; inputs query, key, "
     "value, a mask (INT64, 0: padding) and, with attn_mask, another, which floating "
     "point adds to the scores"},
    {0},
};
