/* recurrent_pass.c: where the numbers of recurrent layers lie (recurrent_pass.h). */
#include "recurrent_pass.h"

#include <string.h>

enum { BLOCKS = 4 }; /* tasks that are worth having */

static int64_t max_int64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- sizes and memory ------------------------------------------------------------------------ */

static struct sizes sizes_of(const struct node *n, const struct cell *cell)
{
    const struct recurrent *a = n->attrs;
    const struct shape *x = &n->in[0]->shape;
    struct sizes s = {.length = x->dim[1],
                      .features = x->dim[2],
                      .hidden = a->hidden_size,
                      .layers = a->num_layers,
                      .directions = 1 + a->bidirectional,
                      .gates = cell->gates * a->hidden_size};
    s.wide = s.directions * s.hidden;
    return s;
}

struct sizes recurrent_sizes(const struct node *n, const struct run *r, const struct cell *cell)
{
    struct sizes s = sizes_of(n, cell);
    s.samples = run_dim(r, n->in[0], 0);
    s.rows = s.samples * s.length;
    return s;
}

/* Numbers of a row that are kept for each layer and direction, for each layer's result, and for
 * each input of a layer behind dropout. The last result is the node's value when it is asked for.
 */
static int64_t kept_gates(const struct sizes *s, const struct cell *cell)
{
    return s->gates + cell->keeps * s->hidden;
}

bool recurrent_drops(const struct recurrent *a)
{
    return a->dropout > 0 && a->num_layers > 1;
}

void recurrent_memory(struct node *n, const struct cell *cell)
{
    const struct recurrent *a = n->attrs;
    const struct sizes s = sizes_of(n, cell);
    const struct extent x = n->in[0]->size, rows = {x.sample / s.features, x.fixed / s.features};
    const int64_t results = s.layers - (a->output == OUTPUT_SEQUENCE);
    const int64_t keep = s.layers * s.directions * kept_gates(&s, cell) +
                         (results + (recurrent_drops(a) ? s.layers - 1 : 0)) * s.wide;
    const int64_t back = s.gates + s.hidden + (s.layers > 1 ? 2 * s.wide : 0) +
                         (s.directions > 1 ? max_int64(s.features, s.wide) : 0);
    n->saved = (struct extent){rows.sample * keep, rows.fixed * keep};
    n->work_backward = (struct extent){rows.sample * back, rows.fixed * back};
    n->scratch = RECURRENT_BLOCK * (s.gates + 4 * s.hidden);
}

/* The result of a layer, and the input of the next one: the same, unless dropout is between. */
real *recurrent_result(const struct node *n, const struct run *r, const struct cell *cell,
                       const struct sizes *s, int64_t layer, bool dropped)
{
    const struct recurrent *a = n->attrs;
    real *results = run_saved(r, n) + s->rows * s->layers * s->directions * kept_gates(s, cell);
    const int64_t n_results = s->layers - (a->output == OUTPUT_SEQUENCE);
    if (dropped && recurrent_drops(a) && r->training)
        return results + s->rows * s->wide * (n_results + layer);
    return layer == n_results ? run_value(r, n) : results + s->rows * s->wide * layer;
}

struct pass recurrent_pass(const struct node *n, struct run *r, const struct cell *cell,
                           int64_t layer, int64_t direction)
{
    struct pass p = {
        .n = n, .r = r, .cell = cell, .s = recurrent_sizes(n, r, cell), .layer = layer};
    p.direction = direction;
    p.gates =
        run_saved(r, n) + p.s.rows * (layer * p.s.directions + direction) * kept_gates(&p.s, cell);
    p.kept = cell->keeps ? p.gates + p.s.rows * p.s.gates : NULL;
    p.y = recurrent_result(n, r, cell, &p.s, layer, false) + direction * p.s.hidden;
    p.x = layer ? recurrent_result(n, r, cell, &p.s, layer - 1, true) : run_in(r, n, 0);
    return p;
}

static int param_place(const struct pass *p, int which)
{
    return p->n->n_data + recurrent_param(p->layer, p->direction, which);
}

const real *pass_param(const struct pass *p, int which)
{
    const struct node *leaf = p->n->in[param_place(p, which)];
    return leaf ? run_value(p->r, leaf) : NULL;
}

/* ---- time ------------------------------------------------------------------------------------ */

/* What is added to a place in time for the step before. */
static int64_t before(const struct pass *p)
{
    return p->direction ? 1 : -1;
}

/* Where a state of sample i lies in h_0, c_0, h_n and c_n: [samples][layers * directions][hidden].
 */
int64_t pass_state_at(const struct pass *p, int64_t i)
{
    const int64_t states = p->s.layers * p->s.directions;
    return (i * states + p->layer * p->s.directions + p->direction) * p->s.hidden;
}

/* The first states of samples [begin, end), from input `which` (1: h, 2: c) or zeros. */
void pass_first_states(const struct pass *p, int which, int64_t begin, int64_t end, real *to)
{
    const size_t bytes = (size_t)p->s.hidden * sizeof *to;
    for (int64_t i = begin; i < end; i++, to += p->s.hidden)
        if (which < p->n->n_data)
            memcpy(to, run_in(p->r, p->n, which) + pass_state_at(p, i), bytes);
        else
            memset(to, 0, bytes);
}

int64_t pass_block(const struct pass *p)
{
    const int64_t each = (p->s.samples + BLOCKS - 1) / BLOCKS;
    return each < RECURRENT_BLOCK ? each : RECURRENT_BLOCK;
}

struct states pass_states_before(const struct pass *p, int64_t step, int64_t begin,
                                 const real *h_first, const real *c_first)
{
    const struct sizes *s = &p->s;
    if (step == 0)
        return (struct states){h_first, c_first, s->hidden, s->hidden};
    const int64_t row = begin * s->length + pass_time(p, step) + before(p);
    return (struct states){p->y + row * s->wide, p->kept ? p->kept + row * s->hidden : NULL,
                           s->length * s->wide, s->length * s->hidden};
}

/* ---- results --------------------------------------------------------------------------------- */

/* Where the last state of sample i of this pass lies in the node's value; -1: nowhere. */
int64_t pass_result_at(const struct pass *p, int64_t i)
{
    const struct recurrent *a = p->n->attrs;
    if (a->output == OUTPUT_SEQUENCE || (a->output == OUTPUT_LAST && p->layer + 1 < p->s.layers))
        return -1;
    if (a->output == OUTPUT_LAST)
        return (i * p->s.directions + p->direction) * p->s.hidden;
    return pass_state_at(p, i);
}

/* ---- dropout between layers ------------------------------------------------------------------ */

struct drop {
    struct random_key key;
    uint64_t first; /* block of random words of element 0 */
    double p;
    const real *from;
    real *to;
};

/* GRAIN_ELEMENTS is a multiple of the four words of a block. */
static void drop_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct drop *d = arg;
    const uint64_t threshold = (uint64_t)(d->p * 0x1p32);
    const real scale = d->p < 1 ? (real)(1 / (1 - d->p)) : 0;
    (void)worker;
    for (int64_t i = begin; i < end; i += 4) {
        uint32_t word[4];
        random_block(&d->key, d->first + (uint64_t)i / 4, word);
        for (int64_t k = 0; k < 4 && i + k < end; k++)
            d->to[i + k] = d->from[i + k] * (word[k] >= threshold ? scale : 0);
    }
}

/* Behind `layer`: the same elements each time that it is called in a run. */
void recurrent_drop(const struct pass *p, int64_t layer, const real *from, real *to)
{
    const struct recurrent *a = p->n->attrs;
    const struct drop d = {.key = run_random(p->r, p->n),
                           .first = (uint64_t)layer << 46,
                           .p = a->dropout,
                           .from = from,
                           .to = to};
    run_for(p->r, p->s.rows * p->s.wide, GRAIN_ELEMENTS, drop_range, (void *)&d);
}
