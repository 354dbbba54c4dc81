/* ops_attention.c: scaled_dot_product_attention, with torch's names and semantics; multi-head
 * attention on top of it is multihead_attention's (ops_multihead.c). Masks of INT64 are 0 where
 * a key does not count, as torch's boolean masks; those of floating point are added to the scores.
 */
#include "attention.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { SDPA_Q, SDPA_K, SDPA_V, SDPA_MASK };

struct sdpa {
    bool is_causal;
    double scale; /* NaN: 1 / sqrt(depth) */
    double dropout_p;
};
static const struct attr_def sdpa_attrs[] = {
    {"is_causal", ATTR_BOOL, offsetof(struct sdpa, is_causal), "false", 0, 0, NULL,
     "a query attends to keys up to its own place only"},
    {"scale", ATTR_REAL, offsetof(struct sdpa, scale), "nan", -1e6, 1e6, NULL,
     "factor of the products; 1 / sqrt(E) when left out"},
    {"dropout_p", ATTR_REAL, offsetof(struct sdpa, dropout_p), "0", 0, 1, NULL,
     "training: probability that a weight of the softmax is dropped"},
    {0},
};

/* [..., L, E] with the leading dimensions of `like`. */
static bool leads_alike(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank - 2; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

static int check_operands(const struct node *n, struct error *e)
{
    const struct shape *q = &n->in[SDPA_Q]->shape, *k = &n->in[SDPA_K]->shape;
    const struct shape *v = &n->in[SDPA_V]->shape;
    const int last = q->rank - 1;
    struct shape_text a, b, c;
    for (int i = 0; i < 3; i++)
        if (node_check_rank(n, i, 3, 4, e))
            return -1;
    for (int i = 0; i < 3; i++)
        for (int d = 1; d < n->in[i]->shape.rank; d++)
            if (n->in[i]->shape.dim[d] > INT_MAX / 64)
                return error_set(e, ERROR_TOO_LARGE, "%s: an input of %s is too large", n->what,
                                 shape_print(&n->in[i]->shape, &a));
    if (leads_alike(q, k) && leads_alike(q, v) && q->dim[last] == k->dim[last] &&
        k->dim[last - 1] == v->dim[last - 1])
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: expects query [N, (heads,) L, E], key [N, (heads,) S, E] and value "
                     "[N, (heads,) S, Ev], found %s, %s and %s",
                     n->what, shape_print(q, &a), shape_print(k, &b), shape_print(v, &c));
}

static int check_mask(const struct node *n, const struct shape *scores, struct error *e)
{
    if (n->n_data <= SDPA_MASK)
        return 0;
    return attention_mask_check(n, SDPA_MASK, scores, e);
}

static int sdpa_shape(struct node *n, struct error *e)
{
    if (check_operands(n, e))
        return -1;
    struct shape out = n->in[SDPA_Q]->shape, scores = out;
    out.dim[out.rank - 1] = n->in[SDPA_V]->shape.dim[out.rank - 1];
    scores.dim[out.rank - 1] = n->in[SDPA_K]->shape.dim[out.rank - 2];
    return check_mask(n, &scores, e) ? -1 : node_set_shape(n, &out, e);
}

/* Kept: a number a query. Scratch: all keys for a block of queries. */
static void sdpa_memory(struct node *n)
{
    const struct shape *q = &n->in[SDPA_Q]->shape;
    const struct extent *size = &n->in[SDPA_Q]->size;
    const int64_t depth = q->dim[q->rank - 1];
    n->saved = (struct extent){size->sample / depth, size->fixed / depth};
    const struct shape *v = &n->in[SDPA_V]->shape;
    n->scratch =
        attention_scratch(n->in[SDPA_K]->shape.dim[q->rank - 2], depth, v->dim[v->rank - 1]);
    /* A gradient that nobody wants is written all the same, into work. */
    n->work_backward = (struct extent){0, 0};
    for (int i = 0; i < 3; i++) {
        n->work_backward.sample += n->in[i]->size.sample;
        n->work_backward.fixed += n->in[i]->size.fixed;
    }
}

/* Contiguous [sample][head][row][width]. */
static struct attention_rows packed(int64_t heads, int64_t rows, int64_t width)
{
    return (struct attention_rows){heads * rows * width, rows * width, width};
}

static struct attention sdpa_of(const struct node *n, struct run *r)
{
    const struct sdpa *o = n->attrs;
    const struct shape q = run_shape(r, n->in[SDPA_Q]), v = run_shape(r, n->in[SDPA_V]);
    const int last = q.rank - 1;
    struct attention a = {.r = r, .samples = q.dim[0], .heads = q.rank == 4 ? q.dim[1] : 1};
    a.queries = q.dim[last - 1];
    a.keys = v.dim[last - 1];
    a.depth = q.dim[last];
    a.width = v.dim[last];
    a.scale = isnan(o->scale) ? 1 / sqrt((double)a.depth) : o->scale;
    a.causal = o->is_causal;
    a.q_rows = packed(a.heads, a.queries, a.depth);
    a.k_rows = packed(a.heads, a.keys, a.depth);
    a.v_rows = packed(a.heads, a.keys, a.width);
    a.y_rows = packed(a.heads, a.queries, a.width);
    a.q = run_in(r, n, SDPA_Q);
    a.k = run_in(r, n, SDPA_K);
    a.v = run_in(r, n, SDPA_V);
    a.log_sum = run_saved(r, n);
    a.dropout = r->training ? o->dropout_p : 0;
    a.random = run_random(r, n);
    if (n->n_data > SDPA_MASK)
        attention_mask_add(&a, n, SDPA_MASK);
    return a;
}

static void sdpa_forward(const struct node *n, struct run *r)
{
    struct attention a = sdpa_of(n, r);
    a.out = run_value(r, n);
    attention_forward(&a);
}

static void sdpa_backward(const struct node *n, struct run *r)
{
    struct attention a = sdpa_of(n, r);
    real *room = run_work(r, n), **const to[3] = {&a.dq, &a.dk, &a.dv};
    a.y = run_value(r, n);
    a.dy = run_grad(r, n);
    for (int i = 0; i < 3; i++) {
        *to[i] = run_grad_in(r, n, i) ? run_grad_in(r, n, i) : room;
        room += run_count(r, n->in[i]);
    }
    attention_backward(&a);
    if (a.n_masks && run_grad_in(r, n, SDPA_MASK))
        attention_backward_mask(&a, 0, run_grad_in(r, n, SDPA_MASK));
}

static double sdpa_flops(const struct node *n)
{
    const struct shape *k = &n->in[SDPA_K]->shape;
    const struct extent *q = &n->in[SDPA_Q]->size;
    const double keys = (double)k->dim[k->rank - 2];
    return 2 * keys * ((double)(q->sample + q->fixed) + (double)(n->size.sample + n->size.fixed));
}

const struct op ops_attention[] = {
    {"scaled_dot_product_attention", "attention", 3, 4, sdpa_attrs, sizeof(struct sdpa), NULL,
     sdpa_shape, sdpa_memory, sdpa_forward, sdpa_backward, sdpa_flops,
     OP_KEEPS_IN | OP_KEEPS_OUT | OP_RANDOM,
     "Nx2x5x3 Nx2x5x3 Nx2x5x4; Nx4x3 Nx6x3 Nx6x2 scale=0.7; Nx1x6x2 Nx1x6x2 Nx1x6x3 "
     "is_causal=true; "
     "Nx2x3x2 Nx2x4x2 Nx2x4x2 Nx1x1x4:classes=2; Nx70x2 Nx70x2 Nx70x2 is_causal=true; 2x3x2 2x3x2 "
     "2x3x2 1x3x3:classes=2; Nx1x1 Nx1x1 Nx1x1; Nx5x2 Nx3x2 Nx3x2 is_causal=true; "
     "Nx2x3x2 Nx2x4x2 Nx2x4x2 Nx2x3x4; Nx2x3x2 Nx2x4x2 Nx2x4x2 Nx1x1x4; "
     "2x2x3x2 2x2x4x2 2x2x4x2 1x2x3x1 is_causal=true; 2x70x2 2x3x2 2x3x2 1x70x3 dropout_p=0.4; "
     "Nx2x70x2 Nx2x5x2 Nx2x5x3 Nx1x1x1 dropout_p=0.2; Nx5x2 Nx6x2 Nx6x2 dropout_p=1",
     "dropout(softmax(scale q k^T + mask)) v over the keys that count; inputs query, key, value "
     "and "
     "a mask (INT64, 0: does not count; or floating point, to be added)"},
    {0},
};
