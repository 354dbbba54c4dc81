/* recurrent.h: recurrent layers, for ops_recurrent.c.
 *
 * A cell is what differs between rnn, lstm and gru: how many gates it has, and the arithmetic of
 * one step of one sample, forward and backward: recurrent_cells.c. What they share, the layers, the
 * directions and the walk through time, is in recurrent_run.c (forward) and recurrent_back.c. */
#ifndef BACKPROP_RECURRENT_H
#define BACKPROP_RECURRENT_H

#include "op.h"

enum { RECURRENT_MAX_LAYERS = 8, RECURRENT_MAX_SIZE = 1 << 20 /* features, hidden, places */ };

/* One step of one sample, forward. */
struct cell_step {
    int64_t hidden;
    real *gates;      /* [gates][hidden]: in: W_ih x + b_ih; out: what backward reads */
    const real *back; /* [gates][hidden]: W_hh h_before + b_hh */
    const real *h_before, *c_before; /* [hidden]; c_before: of a cell with a second state */
    real *h, *kept; /* [hidden], written; kept: the second state, or what the cell keeps */
};

/* The same, backward. */
struct cell_slope {
    int64_t hidden;
    const real *gates, *kept, *h, *h_before, *c_before; /* as forward left them */
    real *dh; /* [hidden]: in: gradient of h; out: of h_before, but for what goes through W_hh */
    real *dc; /* [hidden]: in: gradient of the second state; out: of the one before */
    real *dgates; /* [gates][hidden], written: gradient of W_ih x + b_ih */
};

struct cell {
    int gates;
    bool keeps; /* writes cell_step.kept */
    int states; /* 2: kept is a second state (c), which can be given and asked for */
    void (*forward)(const struct cell_step *s);
    void (*backward)(const struct cell_slope *s);
    /* From the gradient of W_ih x + b_ih to that of W_hh h + b_hh, in place; NULL: the same. */
    void (*to_back)(int64_t hidden, const real *gates, real *dgates);
};
extern const struct cell cell_rnn_tanh, cell_rnn_relu, cell_lstm, cell_gru;

enum { OUTPUT_SEQUENCE, OUTPUT_LAST, OUTPUT_H_N, OUTPUT_C_N };
struct recurrent {
    int64_t hidden_size, num_layers;
    bool bias, batch_first, bidirectional;
    double dropout;
    int nonlinearity, output;
};

/* Parameters of layer l, direction d (0, 1: reverse): weight_ih, weight_hh, bias_ih, bias_hh. */
enum { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, CELL_PARAMS };
static inline int recurrent_param(int64_t layer, int64_t direction, int which)
{
    return (int)((2 * layer + direction) * CELL_PARAMS) + which;
}

/* Data inputs are x [N, L, features], then h_0 and c_0, [N, layers * directions, hidden]. */
void recurrent_memory(struct node *n, const struct cell *cell);
void recurrent_forward(const struct node *n, struct run *r, const struct cell *cell);
void recurrent_backward(const struct node *n, struct run *r, const struct cell *cell);

#endif
