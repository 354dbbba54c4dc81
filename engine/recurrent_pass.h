/* recurrent_pass.h: what the walks of recurrent_run.c and recurrent_back.c share: one layer in one
 * direction, and where its numbers lie. The functions are in recurrent_pass.c.
 *
 * Rows are [samples][length]; a layer's result y is [rows][wide], wide = directions * hidden. */
#ifndef BACKPROP_RECURRENT_PASS_H
#define BACKPROP_RECURRENT_PASS_H

#include "recurrent.h"

enum { RECURRENT_BLOCK = 32 }; /* samples of a task, at most */

struct sizes {
    int64_t samples, length, rows, features, hidden, wide, layers, directions, gates;
};

/* One layer in one direction, and where its numbers lie. */
struct pass {
    const struct node *n;
    struct run *r;
    const struct cell *cell;
    struct sizes s;
    int64_t layer, direction;
    real *gates, *kept;      /* [rows][gates], [rows][hidden] */
    real *y;                 /* [rows][wide], from this direction's first number on */
    const real *x;           /* [rows][features of this layer] */
    const real *dy;          /* as y; NULL: zeros */
    real *dgates, *h_before; /* [rows][gates], [rows][hidden]: backward */
};

/* States before a step: at `h`, `row` numbers from one sample to the next; c likewise. */
struct states {
    const real *h, *c;
    int64_t h_row, c_row;
};

/* The sizes of a run. */
struct sizes recurrent_sizes(const struct node *n, const struct run *r, const struct cell *cell);
struct pass recurrent_pass(const struct node *n, struct run *r, const struct cell *cell,
                           int64_t layer, int64_t direction);
/* Features of a layer's input. */
static inline int64_t layer_features(const struct sizes *s, int64_t layer)
{
    return layer ? s->wide : s->features;
}
/* The result of a layer, and the input of the next one: the same, unless dropout is between. */
real *recurrent_result(const struct node *n, const struct run *r, const struct cell *cell,
                       const struct sizes *s, int64_t layer, bool dropped);
/* Whether dropout lies between layers, in training. */
bool recurrent_drops(const struct recurrent *a);
/* Dropout behind `layer`: the same elements each time that it is called in a run. */
void recurrent_drop(const struct pass *p, int64_t layer, const real *from, real *to);

/* A parameter of the pass; NULL: there is none. */
const real *pass_param(const struct pass *p, int which);

/* The place in time of step i. */
static inline int64_t pass_time(const struct pass *p, int64_t i)
{
    return p->direction ? p->s.length - 1 - i : i;
}
/* Where a state of sample i lies in h_0, c_0, h_n and c_n: [samples][layers * directions][hidden].
 */
int64_t pass_state_at(const struct pass *p, int64_t i);
/* Where the last state of sample i lies in the node's value; -1: nowhere. */
int64_t pass_result_at(const struct pass *p, int64_t i);
/* Samples of a task; results do not depend on it. */
int64_t pass_block(const struct pass *p);
/* The first states of samples [begin, end), from input `which` (1: h, 2: c) or zeros. */
void pass_first_states(const struct pass *p, int which, int64_t begin, int64_t end, real *to);
struct states pass_states_before(const struct pass *p, int64_t step, int64_t begin,
                                 const real *h_first, const real *c_first);

#endif
