/* ops_recurrent.c: rnn, gru and lstm, with torch's names, parameters and semantics (nn.RNN, GRU,
 * LSTM with batch_first). An operator has one output: `output` chooses between what torch returns
 * together. The batch is always the first dimension, also of states: h_0, c_0, h_n and c_n are
 * [N, layers * directions, hidden]. */
#include "recurrent.h"

#include <stddef.h>

#define RECURRENT(field) offsetof(struct recurrent, field)
#define COMMON_ROWS(outputs, outputs_doc)                                                          \
    {"hidden_size",      ATTR_INT, RECURRENT(hidden_size), NULL, 1,                                \
     RECURRENT_MAX_SIZE, NULL,     "numbers of a state"},                                          \
        {"num_layers",         ATTR_INT, RECURRENT(num_layers),        "1", 1,                     \
         RECURRENT_MAX_LAYERS, NULL,     "layers on top of each other"},                           \
        {"bias",                                                                                   \
         ATTR_BOOL,                                                                                \
         RECURRENT(bias),                                                                          \
         "true",                                                                                   \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "whether both products add a learnt bias"},                                               \
        {"batch_first",                                                                            \
         ATTR_BOOL,                                                                                \
         RECURRENT(batch_first),                                                                   \
         "true",                                                                                   \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "[N, L, features]; there is no other order here"},                                        \
        {"dropout",                                                                                \
         ATTR_REAL,                                                                                \
         RECURRENT(dropout),                                                                       \
         "0",                                                                                      \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         "probability that an element between two layers is dropped"},                             \
        {"bidirectional",                                                                          \
         ATTR_BOOL,                                                                                \
         RECURRENT(bidirectional),                                                                 \
         "false",                                                                                  \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "a second walk from the end to the beginning; results lie side by side"},                 \
        INPUT_FACT("input_size", 2, "features"),                                                   \
    {                                                                                              \
        "output", ATTR_CHOICE, RECURRENT(output), "sequence", 0, 0, outputs, outputs_doc           \
    }
#define OUTPUTS_DOC                                                                                \
    "sequence: [N, L, directions * hidden]; last: the last states of the last layer, "             \
    "[N, directions * hidden]; h_n: those of all layers, [N, layers * directions, hidden]"

static const struct attr_def rnn_attrs[] = {
    COMMON_ROWS("sequence|last|h_n", OUTPUTS_DOC),
    {"nonlinearity", ATTR_CHOICE, RECURRENT(nonlinearity), "tanh", 0, 0, "tanh|relu",
     "of the states"},
    {0},
};
static const struct attr_def gru_attrs[] = {COMMON_ROWS("sequence|last|h_n", OUTPUTS_DOC), {0}};
static const struct attr_def lstm_attrs[] = {
    COMMON_ROWS("sequence|last|h_n|c_n", OUTPUTS_DOC "; c_n: the cells, as h_n"),
    {0},
};

/* In the order of recurrent_param: [gates * hidden][features], [gates * hidden][hidden], and
 * [gates * hidden] for both biases. */
#define DIRECTION_PARAMS(suffix)                                                                   \
    {"weight_ih_" suffix, false, "fan_in_uniform"},                                                \
        {"weight_hh_" suffix, false, "fan_in_uniform"},                                            \
        {"bias_ih_" suffix, false, "fan_in_uniform"},                                              \
    {                                                                                              \
        "bias_hh_" suffix, false, "fan_in_uniform"                                                 \
    }
#define LAYER_PARAMS(layer) DIRECTION_PARAMS(layer), DIRECTION_PARAMS(layer "_reverse")
static const struct param_def recurrent_params[] = {
    LAYER_PARAMS("l0"), LAYER_PARAMS("l1"), LAYER_PARAMS("l2"),
    LAYER_PARAMS("l3"), LAYER_PARAMS("l4"), LAYER_PARAMS("l5"),
    LAYER_PARAMS("l6"), LAYER_PARAMS("l7"), {0},
};
_Static_assert(sizeof recurrent_params / sizeof recurrent_params[0] ==
                   RECURRENT_MAX_LAYERS * 2 * CELL_PARAMS + 1,
               "a block of parameters for each layer that num_layers allows");

/* ---- shapes ---------------------------------------------------------------------------------- */

static int check_inputs(const struct node *n, const struct cell *cell, const struct shape *states,
                        struct error *e)
{
    const struct shape *x = &n->in[0]->shape;
    struct shape_text found, want;
    if (node_check_rank(n, 0, 3, 3, e))
        return -1;
    if (x->dim[1] < 1 || x->dim[2] < 1 || x->dim[1] > RECURRENT_MAX_SIZE ||
        x->dim[2] > RECURRENT_MAX_SIZE)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects [N, L, features] with 1 to %d places and features, found %s",
                         n->what, RECURRENT_MAX_SIZE, shape_print(x, &found));
    if (n->n_data != 1 && n->n_data != 1 + cell->states)
        return error_set(e, ERROR_BAD_GRAPH, "%s: expects 1 input or %d (x, h_0 and c_0), found %d",
                         n->what, 1 + cell->states, n->n_data);
    for (int i = 1; i < n->n_data; i++) {
        if (node_check_rank(n, i, 3, 3, e))
            return -1;
        if (!shape_equal(&n->in[i]->shape, states))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: the first state %d must have the shape %s, not %s", n->what, i,
                             shape_print(states, &want), shape_print(&n->in[i]->shape, &found));
    }
    return 0;
}

/* What memory asks for must be countable: more than twice what a row can take. */
static int check_size(const struct node *n, const struct cell *cell, struct error *e)
{
    const struct recurrent *a = n->attrs;
    const struct shape *x = &n->in[0]->shape;
    const int64_t each = (cell->gates + 4) * a->hidden_size * 4 * a->num_layers + x->dim[2];
    int64_t count;
    struct shape_text text;
    if (shape_count(&SHAPE(x->dim[0], x->dim[1], each), 1, &count))
        return 0;
    return error_set(e, ERROR_TOO_LARGE, "%s: its steps over %s hold too many numbers", n->what,
                     shape_print(x, &text));
}

static int direction_params(struct node *n, int64_t layer, int64_t direction, int64_t features,
                            int64_t gates, struct error *e)
{
    const struct recurrent *a = n->attrs;
    const int64_t hidden = a->hidden_size;
    const struct shape shapes[CELL_PARAMS] = {SHAPE(gates, features), SHAPE(gates, hidden),
                                              SHAPE(gates), SHAPE(gates)};
    for (int k = 0; k < (a->bias ? CELL_PARAMS : BIAS_IH); k++)
        if (node_param(n, recurrent_param(layer, direction, k), &shapes[k], hidden, gates, e))
            return -1;
    return 0;
}

/* A parameter that was brought, but is not one with these attributes, would have no gradient. */
static int check_brought(const struct node *n, struct error *e)
{
    const struct recurrent *a = n->attrs;
    for (int i = 0; i < n->n_in - n->n_data; i++) {
        const int layer = i / (2 * CELL_PARAMS), direction = i / CELL_PARAMS % 2;
        const bool known = layer < a->num_layers && direction <= a->bidirectional &&
                           (a->bias || i % CELL_PARAMS < BIAS_IH);
        if (!known && node_param_in(n, i))
            return error_set(e, ERROR_BAD_GRAPH, "%s: %s was brought, but its attributes have none",
                             n->what, op_param_def(n->op, i)->name);
    }
    return 0;
}

static int recurrent_params_shape(struct node *n, const struct cell *cell, struct error *e)
{
    const struct recurrent *a = n->attrs;
    if (check_brought(n, e))
        return -1;
    for (int64_t layer = 0; layer < a->num_layers; layer++)
        for (int64_t direction = 0; direction < 1 + a->bidirectional; direction++) {
            const int64_t features =
                layer ? (1 + a->bidirectional) * a->hidden_size : n->in[0]->shape.dim[2];
            if (direction_params(n, layer, direction, features, cell->gates * a->hidden_size, e))
                return -1;
        }
    return 0;
}

static int recurrent_shape(struct node *n, const struct cell *cell, struct error *e)
{
    const struct recurrent *a = n->attrs;
    if (node_check_rank(n, 0, 3, 3, e))
        return -1;
    const int64_t samples = n->in[0]->shape.dim[0], length = n->in[0]->shape.dim[1];
    const int64_t directions = 1 + a->bidirectional, wide = directions * a->hidden_size;
    const struct shape states = SHAPE(samples, a->num_layers * directions, a->hidden_size);
    if (!a->batch_first)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'batch_first' must be true: the batch is the first "
                         "dimension here",
                         n->what);
    if (check_inputs(n, cell, &states, e) || check_size(n, cell, e) ||
        recurrent_params_shape(n, cell, e))
        return -1;
    if (a->output == OUTPUT_SEQUENCE)
        return node_set_shape(n, &SHAPE(samples, length, wide), e);
    return node_set_shape(n, a->output == OUTPUT_LAST ? &SHAPE(samples, wide) : &states, e);
}

static double recurrent_flops(const struct node *n, const struct cell *cell)
{
    const struct recurrent *a = n->attrs;
    const struct extent x = n->in[0]->size;
    const double hidden = (double)a->hidden_size, directions = 1 + a->bidirectional;
    const double features = (double)n->in[0]->shape.dim[2];
    const double rows = (double)(x.sample + x.fixed) / features;
    const double each = features + hidden + (double)(a->num_layers - 1) * (1 + directions) * hidden;
    return rows * directions * 2 * cell->gates * hidden * each;
}

/* ---- the table ------------------------------------------------------------------------------- */

/* `cell` is an expression of the node. */
#define CELL_FUNCTIONS(name, cell)                                                                 \
    static int name##_shape(struct node *n, struct error *e)                                       \
    {                                                                                              \
        return recurrent_shape(n, cell, e);                                                        \
    }                                                                                              \
    static void name##_memory(struct node *n)                                                      \
    {                                                                                              \
        recurrent_memory(n, cell);                                                                 \
    }                                                                                              \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        recurrent_forward(n, r, cell);                                                             \
    }                                                                                              \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        recurrent_backward(n, r, cell);                                                            \
    }                                                                                              \
    static double name##_flops(const struct node *n)                                               \
    {                                                                                              \
        return recurrent_flops(n, cell);                                                           \
    }

static const struct cell *rnn_cell(const struct node *n)
{
    static const struct cell *const cells[] = {&cell_rnn_tanh, &cell_rnn_relu};
    return cells[((const struct recurrent *)n->attrs)->nonlinearity];
}

CELL_FUNCTIONS(rnn, rnn_cell(n))
CELL_FUNCTIONS(gru, &cell_gru)
CELL_FUNCTIONS(lstm, &cell_lstm)

#define RECURRENT_ROW(name, most, samples, doc)                                                    \
    {                                                                                              \
#name, "recurrent", 1, most, name##_attrs, sizeof(struct recurrent), recurrent_params,     \
            name##_shape, name##_memory, name##_forward, name##_backward, name##_flops,            \
            OP_KEEPS_IN | OP_KEEPS_OUT | OP_RANDOM, samples, doc                                   \
    }

const struct op ops_recurrent[] = {
    RECURRENT_ROW(rnn, 2,
                  "Nx4x3 hidden_size=5; Nx3x2 hidden_size=3 nonlinearity=relu num_layers=2; "
                  "Nx1x2 hidden_size=2 bias=false; Nx3x2 Nx2x4 hidden_size=4 bidirectional=true "
                  "output=h_n; Nx5x1 hidden_size=1 output=last",
                  "h = tanh(W_ih x + b_ih + W_hh h + b_hh) at each step; inputs x and h_0"),
    RECURRENT_ROW(gru, 2,
                  "Nx4x3 hidden_size=5; Nx3x2 hidden_size=2 num_layers=2 bidirectional=true; "
                  "Nx1x2 Nx1x3 hidden_size=3 output=last; Nx3x3 hidden_size=2 num_layers=3 "
                  "dropout=0.4 output=h_n; 2x3x2 hidden_size=2 bias=false bidirectional=true "
                  "output=last",
                  "r, z = sigmoid(...); n = tanh(W x + b + r (W h + b)); h = (1 - z) n + z h; "
                  "inputs x and h_0"),
    RECURRENT_ROW(lstm, 3,
                  "Nx4x3 hidden_size=5; Nx3x2 hidden_size=2 num_layers=2 bidirectional=true; "
                  "Nx1x2 hidden_size=3 output=last; Nx3x2 Nx2x4 Nx2x4 hidden_size=4 "
                  "bidirectional=true output=h_n; Nx2x3 Nx2x2 Nx2x2 hidden_size=2 num_layers=2 "
                  "output=c_n bias=false; Nx3x3 hidden_size=2 num_layers=2 dropout=0.4; 2x3x2 "
                  "hidden_size=2 output=last bidirectional=true",
                  "i, f, o = sigmoid(...); g = tanh(...); c = f c + i g; h = o tanh(c); inputs x, "
                  "h_0 and c_0"),
    {0},
};
