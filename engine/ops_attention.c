/* ops_attention.c: scaled_dot_product_attention, with torch's names and semantics; multi-head
 * attention on top of it is multihead_attention's (ops_multihead.c). Masks are numbers: 0 where a
 * key does not count, as torch's boolean masks. */
#include "attention.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { SDPA_Q, SDPA_K, SDPA_V, SDPA_MASK };

struct sdpa {
    bool is_causal;
    double scale; /* NaN: 1 / sqrt(depth) */
};
static const struct attr_def sdpa_attrs[] = {
    {"is_causal", ATTR_BOOL, offsetof(struct sdpa, is_causal), "false", 0, 0, NULL,
     "a query attends to keys up to its own place only"},
    {"scale", ATTR_REAL, offsetof(struct sdpa, scale), "nan", -1e6, 1e6, NULL,
     "factor of the products; 1 / sqrt(E) when left out"},
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

/* The mask broadcasts to [..., L, S]. */
static int check_mask(const struct node *n, const struct shape *scores, struct error *e)
{
    struct shape_text a, b;
    const struct node *mask = n->n_data > SDPA_MASK ? n->in[SDPA_MASK] : NULL;
    if (!mask)
        return 0;
    if (mask->dtype != DTYPE_INT64)
        return error_set(e, ERROR_BAD_DTYPE,
                         "%s: the mask must be INT64 (0 where a key does not count), not floating "
                         "point",
                         n->what);
    bool fits = mask->shape.rank == scores->rank;
    for (int i = 0; fits && i < scores->rank; i++)
        fits = mask->shape.dim[i] == scores->dim[i] || mask->shape.dim[i] == 1;
    if (fits)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: the mask must have the shape %s, with 1 where it is the same for all, "
                     "not %s",
                     n->what, shape_print(scores, &a), shape_print(&mask->shape, &b));
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
    n->scratch = attention_scratch(n->in[SDPA_K]->shape.dim[q->rank - 2]);
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

static void sdpa_mask(const struct node *n, const struct run *r, struct attention *a)
{
    const struct shape s = run_shape(r, n->in[SDPA_MASK]);
    const int last = s.rank - 1, head = s.rank == 4 ? 1 : -1;
    const int64_t rows = s.dim[last - 1], keys = s.dim[last];
    const int64_t heads = head > 0 ? s.dim[head] : 1;
    a->mask = run_in_int64(r, n, SDPA_MASK);
    a->mask_step = keys > 1;
    a->mask_rows.row = rows > 1 ? keys : 0;
    a->mask_rows.head = heads > 1 ? rows * keys : 0;
    a->mask_rows.sample = s.dim[0] > 1 ? heads * rows * keys : 0;
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
    if (n->n_data > SDPA_MASK)
        sdpa_mask(n, r, &a);
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
     sdpa_shape, sdpa_memory, sdpa_forward, sdpa_backward, sdpa_flops, OP_KEEPS_IN | OP_KEEPS_OUT,
     "Nx2x5x3 Nx2x5x3 Nx2x5x4; Nx4x3 Nx6x3 Nx6x2 scale=0.7; Nx1x6x2 Nx1x6x2 Nx1x6x3 "
     "is_causal=true; "
     "Nx2x3x2 Nx2x4x2 Nx2x4x2 Nx1x1x4:classes=2; Nx70x2 Nx70x2 Nx70x2 is_causal=true; 2x3x2 2x3x2 "
     "2x3x2 1x3x3:classes=2; Nx1x1 Nx1x1 Nx1x1; Nx5x2 Nx3x2 Nx3x2 is_causal=true",
     "softmax(scale q k^T) v over the keys that count; inputs query, key, value and a mask (INT64, "
     "0: does not count)"},
    {0},
};
