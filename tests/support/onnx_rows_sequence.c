/* onnx_rows_sequence.c: ONNX's recurrent layers and its attention as operators of ours.
 *
 * Recurrent: ONNX's weights are W [directions, gates * hidden, features], R [directions, gates *
 * hidden, hidden] and B [directions, 2 * gates * hidden], its gates in an order of its own; the
 * sequence comes first unless layout is 1. */
#include "onnx_build.h"

#include <math.h>
#include <string.h>

/* ---- recurrent ------------------------------------------------------------------------------- */

enum { IN_X, IN_W, IN_R, IN_B, IN_LENGTHS, IN_H, IN_C, IN_P };

static const struct recurrent {
    const char *name, *ours;
    int gates;
    int order[4]; /* our gate k is ONNX's gate order[k] */
} recurrents[] = {
    {"RNN", "rnn", 1, {0}},
    {"GRU", "gru", 3, {1, 0, 2}},     /* ours r z n; ONNX's z r h */
    {"LSTM", "lstm", 4, {0, 2, 3, 1}} /* ours i f g o; ONNX's i o f c */
};

/* Rows of the gates from `first` on, [directions, rows, ...], in our order and without directions.
 */
static struct node *gates(struct onnx_call *c, const struct recurrent *r, struct node *x, int first,
                          int64_t hidden)
{
    struct node *parts[4];
    const struct attr dim = ONNX_INT("dim", 0);
    if (!x)
        return NULL;
    struct shape s = *node_shape(x);
    s.rank--;
    memmove(s.dim, s.dim + 1, (size_t)s.rank * sizeof *s.dim);
    x = onnx_reshape(c, x, s);
    for (int i = 0; i < r->gates; i++)
        parts[i] = x ? onnx_narrow(c, x, 0, (first + r->order[i]) * hidden, hidden) : NULL;
    return onnx_add_n(c, "concat", parts, r->gates, &dim, 1);
}

/* GRU's new state: torch multiplies by r behind the product with the state, ONNX by default before.
 * That is the same when the state is zero and that product has no bias. */
static bool gru_is_ours(struct onnx_call *c, int64_t length, int64_t hidden)
{
    if (onnx_int(c, "linear_before_reset", 0))
        return true;
    const struct onnx_tensor *bias = onnx_has(c, IN_B) ? onnx_known(c, IN_B) : NULL;
    for (int64_t i = 5 * hidden; bias && i < 6 * hidden; i++)
        if (bias->reals[i] != 0)
            return false;
    return length == 1 && !onnx_has(c, IN_H);
}

static bool recurrent_is_ours(struct onnx_call *c, const struct recurrent *r, int64_t length,
                              int64_t hidden)
{
    static const char *const options[] = {"activations", "clip", "input_forget"};
    int n = 0;
    const int64_t *lengths = onnx_has(c, IN_LENGTHS) ? onnx_ints(c, IN_LENGTHS, &n) : NULL;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (onnx_attr_find(c->node, options[i]))
            return onnx_not_ours(c, "%s with %s", r->name, options[i]), false;
    for (int i = 0; lengths && i < n; i++)
        if (lengths[i] != length)
            return onnx_not_ours(c, "%s of several lengths", r->name), false;
    if (onnx_has(c, IN_P))
        return onnx_not_ours(c, "%s with peepholes", r->name), false;
    if (strcmp(onnx_string(c, "direction", "forward"), "forward"))
        return onnx_not_ours(c, "%s that does not go forward", r->name), false;
    if (!strcmp(r->name, "GRU") && !gru_is_ours(c, length, hidden))
        return onnx_not_ours(c, "GRU that resets before its product"), false;
    return true;
}

/* [N, L, F] or states [N, 1, H], from ONNX's order. */
static struct node *batch_first(struct onnx_call *c, struct node *x)
{
    if (onnx_int(c, "layout", 0))
        return x;
    return onnx_add1(c, "transpose", x, ONNX_INT("dim0", 0), ONNX_INT("dim1", 1));
}

/* Y [L, 1, N, H] (layout 1: [N, L, 1, H]) from [N, L, H]. */
static struct node *sequence(struct onnx_call *c, struct node *y)
{
    return onnx_add1(c, "unsqueeze", batch_first(c, y),
                     ONNX_INT("dim", onnx_int(c, "layout", 0) ? 2 : 1));
}

static struct node *recurrent(struct onnx_call *c)
{
    const struct recurrent *r = recurrents;
    while (strcmp(r->name, c->node->op))
        r++;
    struct node *x = batch_first(c, onnx_real(c, IN_X));
    const int64_t hidden = onnx_int(c, "hidden_size", 0);
    const bool bias = onnx_has(c, IN_B), lstm = r->gates == 4;
    if (!x || !recurrent_is_ours(c, r, node_shape(x)->dim[1], hidden))
        return NULL;
    const int most = lstm ? 3 : 2; /* data inputs; parameters come behind them, or by themselves */
    struct node *zero = onnx_constant(c, &SHAPE(node_shape(x)->dim[0], 1, hidden), 0);
    struct node *inputs[7] = {x, onnx_has(c, IN_H) ? batch_first(c, onnx_real(c, IN_H)) : zero,
                              onnx_has(c, IN_C) ? batch_first(c, onnx_real(c, IN_C)) : zero};
    inputs[most] = gates(c, r, onnx_real(c, IN_W), 0, hidden);
    inputs[most + 1] = gates(c, r, onnx_real(c, IN_R), 0, hidden);
    for (int i = 0; bias && i < 2; i++)
        inputs[most + 2 + i] = gates(c, r, onnx_real(c, IN_B), i * r->gates, hidden);
    const char *const outputs[] = {"sequence", "h_n", "c_n"};
    struct node *y[3] = {NULL};
    for (int i = 0; i < (lstm ? 3 : 2); i++) {
        const struct attr attrs[] = {ONNX_INT("hidden_size", hidden), ONNX_BOOLEAN("bias", bias),
                                     ONNX_TEXT("output", outputs[i])};
        if (onnx_wants(c, i))
            y[i] = onnx_add_n(c, r->ours, inputs, most + (bias ? 4 : 2), attrs, 3);
    }
    for (int i = 1; i < 3; i++)
        if (y[i])
            onnx_give(c, i, batch_first(c, y[i]));
    return y[0] ? sequence(c, y[0]) : NULL;
}

/* ---- attention ------------------------------------------------------------------------------- */

enum { IN_Q, IN_K, IN_V, IN_MASK, IN_PAST_K, IN_PAST_V, IN_KV_LENGTHS };

/* [N, heads, L, E], of [N, L, heads * E] with the heads of an attribute. */
static struct node *heads(struct onnx_call *c, int i, const char *attr)
{
    static const int64_t order[] = {0, 2, 1, 3};
    struct node *x = onnx_real(c, i);
    if (!x || node_shape(x)->rank != 3)
        return x;
    const int64_t *d = node_shape(x)->dim, n = onnx_int(c, attr, 1);
    return onnx_permute(c, onnx_reshape(c, x, SHAPE(d[0], d[1], n, d[2] / n)), order, 4);
}

/* The keys so far and these; they are outputs, too. */
static struct node *with_past(struct onnx_call *c, struct node *x, int past, int output)
{
    if (onnx_has(c, past))
        x = onnx_add2(c, "concat", onnx_real(c, past), x, ONNX_INT("dim", 2));
    onnx_give(c, output, x);
    return x;
}

/* As many heads as the queries have: each stands for several next to each other. */
static struct node *repeated(struct onnx_call *c, struct node *x, const struct node *q)
{
    int64_t list[64];
    if (!x || !q || node_shape(x)->dim[1] == node_shape(q)->dim[1])
        return x;
    const int64_t n = node_shape(q)->dim[1], each = n / node_shape(x)->dim[1];
    if (n > 64)
        return onnx_not_ours(c, "Attention of %d heads", (int)n);
    for (int64_t i = 0; i < n; i++)
        list[i] = i / each;
    return onnx_add1(c, "index_select", x, ONNX_INT("dim", 1),
                     onnx_attr_ints(c, "index", list, (int)n));
}

/* A row of our own: no mask or one of BOOL, no softcap, no scores as an output. */
static struct node *attention_row(struct onnx_call *c, struct node *q, struct node *k,
                                  struct node *v, const struct attr *attrs, int n_attrs)
{
    struct node *inputs[4] = {q, k, v, NULL};
    const bool masked = onnx_has(c, IN_MASK);
    if (masked) {
        const struct onnx_tensor *t = onnx_known(c, IN_MASK);
        struct shape s = {.rank = 4, .dim = {1, 1, 1, 1}};
        for (int i = 0; t && i < t->shape.rank; i++)
            s.dim[4 - t->shape.rank + i] = t->shape.dim[i];
        inputs[3] = onnx_indices(c, t, s);
    }
    return onnx_add_n(c, "scaled_dot_product_attention", inputs, masked ? 4 : 3, attrs, n_attrs);
}

/* Which step the output qk_matmul_output shows. */
enum { SHOW_PRODUCT, SHOW_CAPPED, SHOW_MASKED, SHOW_SOFTMAX };

/* softmax(mask + cap(scale q k^T)) v, step by step. ONNX caps before the mask. */
static struct node *attention_steps(struct onnx_call *c, struct node *q, struct node *k,
                                    struct node *v, double scale)
{
    const double cap = onnx_float(c, "softcap", 0);
    struct node *step[4];
    k = onnx_add1(c, "transpose", k, ONNX_INT("dim0", 2), ONNX_INT("dim1", 3));
    step[SHOW_PRODUCT] = onnx_add2(c, "matmul", onnx_scale(c, q, scale), k);
    step[SHOW_CAPPED] = step[SHOW_PRODUCT];
    if (cap != 0)
        step[SHOW_CAPPED] =
            onnx_scale(c, onnx_add1(c, "tanh", onnx_scale(c, step[SHOW_PRODUCT], 1 / cap)), cap);
    step[SHOW_MASKED] = step[SHOW_CAPPED];
    if (onnx_has(c, IN_MASK))
        step[SHOW_MASKED] = onnx_add2(c, "add", step[SHOW_CAPPED], onnx_real(c, IN_MASK));
    step[SHOW_SOFTMAX] = onnx_add1(c, "softmax", step[SHOW_MASKED], ONNX_INT("dim", -1));
    const int64_t shown = onnx_int(c, "qk_matmul_output_mode", 0);
    if (onnx_wants(c, 3) && shown >= SHOW_PRODUCT && shown <= SHOW_SOFTMAX)
        onnx_give(c, 3, step[shown]);
    return onnx_add2(c, "matmul", step[SHOW_SOFTMAX], v);
}

static struct node *attention(struct onnx_call *c)
{
    static const int64_t order[] = {0, 2, 1, 3};
    struct node *q = heads(c, IN_Q, "q_num_heads");
    struct node *k = with_past(c, heads(c, IN_K, "kv_num_heads"), IN_PAST_K, 1);
    struct node *v = with_past(c, heads(c, IN_V, "kv_num_heads"), IN_PAST_V, 2);
    const bool causal = onnx_int(c, "is_causal", 0) != 0,
               steps = onnx_wants(c, 3) || onnx_float(c, "softcap", 0) != 0 ||
                       (onnx_has(c, IN_MASK) && onnx_type(c, IN_MASK) == ONNX_FLOAT);
    if (onnx_has(c, IN_KV_LENGTHS))
        return onnx_not_ours(c, "Attention with lengths of keys");
    if (causal && (steps || onnx_has(c, IN_PAST_K)))
        return onnx_not_ours(c, "Attention that is causal and more than that");
    k = repeated(c, k, q);
    v = repeated(c, v, q);
    if (!q || !k || !v)
        return NULL;
    const double scale = onnx_float(c, "scale", 1 / sqrt((double)node_shape(q)->dim[3]));
    const struct attr attrs[] = {ONNX_REAL("scale", scale), ONNX_BOOLEAN("is_causal", causal)};
    struct node *y =
        steps ? attention_steps(c, q, k, v, scale) : attention_row(c, q, k, v, attrs, 2);
    if (!y || onnx_attr_find(c->node, "q_num_heads") == NULL)
        return y;
    const int64_t *d = node_shape(y)->dim;
    return onnx_reshape(c, onnx_permute(c, y, order, 4), SHAPE(d[0], d[2], d[1] * d[3]));
}

const struct onnx_row onnx_rows_sequence[] = {
    {"RNN", "rnn", recurrent, 4},
    {"GRU", "gru", recurrent, 3},
    {"LSTM", "lstm", recurrent, 3},
    {"Attention", "scaled_dot_product_attention; matmul, tanh, add, softmax", attention, 57},
    {0},
};
