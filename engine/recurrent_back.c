/* recurrent_back.c: recurrent layers backward through time (recurrent.h). The walk goes from the
 * last step to the first and leaves the gradient of the gates for all steps, from which the
 * gradients of weights, biases and input are GEMMs. */
#include "recurrent_pass.h"

#include "kernels.h"
#include "ops_linear.h"

#include <string.h>

static int param_place(const struct pass *p, int which)
{
    return p->n->n_data + recurrent_param(p->layer, p->direction, which);
}

static real *param_grad(const struct pass *p, int which)
{
    const int at = param_place(p, which);
    return p->n->in[at] ? run_grad_in(p->r, p->n, at) : NULL;
}

/* ---- backward -------------------------------------------------------------------------------- */

/* Gradients of the last states of samples [begin, end), which the walk begins with. */
static void last_slopes(const struct pass *p, bool second, int64_t begin, int64_t end, real *to)
{
    const bool of_second = ((const struct recurrent *)p->n->attrs)->output == OUTPUT_C_N;
    const size_t bytes = (size_t)p->s.hidden * sizeof *to;
    for (int64_t i = begin; i < end; i++, to += p->s.hidden)
        if (second == of_second && pass_result_at(p, i) >= 0)
            memcpy(to, run_grad(p->r, p->n) + pass_result_at(p, i), bytes);
        else
            memset(to, 0, bytes);
}

static void first_slopes(const struct pass *p, int which, int64_t begin, int64_t end,
                         const real *from)
{
    real *to = which < p->n->n_data ? run_grad_in(p->r, p->n, which) : NULL;
    for (int64_t i = begin; to && i < end; i++, from += p->s.hidden)
        memcpy(to + pass_state_at(p, i), from, (size_t)p->s.hidden * sizeof *to);
}

/* The cell backward, for sample i of the block at one step. `back` gets the gradient of the
 * product with W_hh. */
static void sample_backward(const struct pass *p, int64_t row, const real *h_before,
                            const real *c_before, real *dh, real *dc, real *back)
{
    const struct sizes *s = &p->s;
    real *dgates = p->dgates + row * s->gates;
    for (int64_t j = 0; p->dy && j < s->hidden; j++)
        dh[j] += p->dy[row * s->wide + j];
    p->cell->backward(&(struct cell_slope){
        s->hidden, p->gates + row * s->gates, p->kept ? p->kept + row * s->hidden : NULL,
        p->y + row * s->wide, h_before, c_before, dh, dc, dgates});
    memcpy(back, dgates, (size_t)s->gates * sizeof *back);
    if (p->cell->to_back)
        p->cell->to_back(s->hidden, p->gates + row * s->gates, back);
    memcpy(p->h_before + row * s->hidden, h_before, (size_t)s->hidden * sizeof *back);
}

struct slopes {
    real *back, *dh, *dc, *through; /* [block][gates], [block][hidden] */
};

static void step_backward(const struct pass *p, int64_t step, int64_t begin, int64_t end,
                          const struct states *from, const struct slopes *d)
{
    const struct sizes *s = &p->s;
    for (int64_t i = 0; i < end - begin; i++)
        sample_backward(p, (begin + i) * s->length + pass_time(p, step), from->h + i * from->h_row,
                        from->c ? from->c + i * from->c_row : NULL, d->dh + i * s->hidden,
                        d->dc + i * s->hidden, d->back + i * s->gates);
    kernels()->matmul(end - begin, s->hidden, s->gates, d->back, s->gates, pass_param(p, WEIGHT_HH),
                      s->hidden, d->through, s->hidden);
    for (int64_t j = 0; j < (end - begin) * s->hidden; j++)
        d->dh[j] += d->through[j];
}

/* `through` holds the first h before it is written for the last time. */
static void backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct pass *p = arg;
    const int64_t states = RECURRENT_BLOCK * p->s.hidden;
    real *back = run_scratch(p->r, worker), *dh = back + RECURRENT_BLOCK * p->s.gates;
    const struct slopes d = {back, dh, dh + states, dh + 2 * states};
    last_slopes(p, false, begin, end, d.dh);
    last_slopes(p, true, begin, end, d.dc);
    for (int64_t step = p->s.length - 1; step > 0; step--) {
        const struct states from = pass_states_before(p, step, begin, NULL, NULL);
        step_backward(p, step, begin, end, &from, &d);
    }
    pass_first_states(p, 1, begin, end, d.through);
    pass_first_states(p, 2, begin, end, dh + 3 * states);
    const struct states from = pass_states_before(p, 0, begin, d.through, dh + 3 * states);
    step_backward(p, 0, begin, end, &from, &d);
    first_slopes(p, 1, begin, end, d.dh);
    first_slopes(p, 2, begin, end, d.dc);
}

/* Buffers of backward: rows of dgates, h_before, two layers' slopes, one direction's. */
struct room {
    real *dgates, *h_before, *slopes[2], *other;
};

static struct room room_at(const struct node *n, const struct run *r, const struct sizes *s)
{
    struct room m = {.dgates = run_work(r, n)};
    m.h_before = m.dgates + s->rows * s->gates;
    m.slopes[0] = m.h_before + s->rows * s->hidden;
    m.slopes[1] = m.slopes[0] + (s->layers > 1) * s->rows * s->wide;
    m.other = m.slopes[1] + (s->layers > 1) * s->rows * s->wide;
    return m;
}

/* Gradients of one side's weight and bias, from those of its products. */
static void weight_backward(const struct pass *p, int weight, int bias, const real *x, int64_t in)
{
    real *dweight = param_grad(p, weight), *dbias = param_grad(p, bias);
    if (dweight)
        gemm_run(p->r, &(struct gemm){.ta = true,
                                      .m = p->s.gates,
                                      .n = in,
                                      .k = p->s.rows,
                                      .a = p->dgates,
                                      .b = x,
                                      .c = dweight});
    if (dbias)
        column_sums_run(p->r, p->s.rows, p->s.gates, p->dgates, dbias);
}

static void to_back_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct pass *p = arg;
    (void)worker;
    for (int64_t row = begin; row < end; row++)
        p->cell->to_back(p->s.hidden, p->gates + row * p->s.gates, p->dgates + row * p->s.gates);
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

/* dx NULL: nobody wants it. The second direction adds to what the first wrote. */
static void pass_backward(struct pass *p, real *dx, real *other)
{
    const int64_t features = layer_features(&p->s, p->layer);
    run_for(p->r, p->s.samples, pass_block(p), backward_range, p);
    weight_backward(p, WEIGHT_IH, BIAS_IH, p->x, features);
    if (dx)
        gemm_run(p->r, &(struct gemm){.m = p->s.rows,
                                      .n = features,
                                      .k = p->s.gates,
                                      .a = p->dgates,
                                      .b = pass_param(p, WEIGHT_IH),
                                      .c = p->direction ? other : dx});
    if (dx && p->direction)
        run_for(p->r, p->s.rows * features, GRAIN_ELEMENTS, add_range, &(struct adding){dx, other});
    if (p->cell->to_back)
        run_for(p->r, p->s.rows, grain_rows(p->s.gates), to_back_range, p);
    weight_backward(p, WEIGHT_HH, BIAS_HH, p->h_before, p->s.hidden);
}

void recurrent_backward(const struct node *n, struct run *r, const struct cell *cell)
{
    const struct sizes s = recurrent_sizes(n, r, cell);
    const struct recurrent *a = n->attrs;
    const struct room room = room_at(n, r, &s);
    const real *dy = a->output == OUTPUT_SEQUENCE ? run_grad(r, n) : NULL;
    for (int64_t layer = s.layers - 1; layer >= 0; layer--) {
        real *dx = layer ? room.slopes[layer % 2] : run_grad_in(r, n, 0);
        for (int64_t direction = 0; direction < s.directions; direction++) {
            struct pass p = recurrent_pass(n, r, cell, layer, direction);
            p.dy = dy ? dy + direction * s.hidden : NULL;
            p.dgates = room.dgates;
            p.h_before = room.h_before;
            pass_backward(&p, dx, room.other);
            if (layer && direction + 1 == s.directions && recurrent_drops(a) && r->training)
                recurrent_drop(&p, layer - 1, dx, dx);
        }
        dy = dx;
    }
}
