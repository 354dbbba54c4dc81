/* recurrent_run.c: recurrent layers forward (recurrent.h).
 *
 * The products with the input, for all steps at once, are one GEMM a layer and direction; it fills
 * `gates`, which the walk turns into what backward needs. A task then walks a block of samples
 * through time: at each step the product of the states with W_hh, by kernels whose bits do not
 * depend on the block, and the cell. */
#include "recurrent_pass.h"

#include "kernels.h"
#include "ops_linear.h"

#include <string.h>

/* ---- forward --------------------------------------------------------------------------------- */

static void step_forward(const struct pass *p, int64_t step, int64_t begin, int64_t end,
                         const struct states *from, real *back)
{
    const struct sizes *s = &p->s;
    kernels()->linear(end - begin, s->gates, s->hidden, from->h, from->h_row,
                      pass_param(p, WEIGHT_HH), s->hidden, pass_param(p, BIAS_HH), back, s->gates);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i * s->length + pass_time(p, step);
        const struct cell_step one = {s->hidden,
                                      p->gates + row * s->gates,
                                      back + (i - begin) * s->gates,
                                      from->h + (i - begin) * from->h_row,
                                      from->c ? from->c + (i - begin) * from->c_row : NULL,
                                      p->y + row * s->wide,
                                      p->kept ? p->kept + row * s->hidden : NULL};
        p->cell->forward(&one);
    }
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct pass *p = arg;
    real *back = run_scratch(p->r, worker), *h = back + RECURRENT_BLOCK * p->s.gates;
    real *c = h + RECURRENT_BLOCK * p->s.hidden;
    pass_first_states(p, 1, begin, end, h);
    pass_first_states(p, 2, begin, end, c);
    for (int64_t step = 0; step < p->s.length; step++) {
        const struct states from = pass_states_before(p, step, begin, h, c);
        step_forward(p, step, begin, end, &from, back);
    }
}

static void pass_forward(struct pass *p)
{
    const struct gemm g = {.tb = true,
                           .m = p->s.rows,
                           .n = p->s.gates,
                           .k = layer_features(&p->s, p->layer),
                           .a = p->x,
                           .b = pass_param(p, WEIGHT_IH),
                           .c = p->gates,
                           .bias = pass_param(p, BIAS_IH)};
    (p->r->invariant ? gemm_run_invariant : gemm_run)(p->r, &g);
    run_for(p->r, p->s.samples, pass_block(p), forward_range, p);
}

static void write_results(const struct pass *p)
{
    const struct sizes *s = &p->s;
    const bool second = ((const struct recurrent *)p->n->attrs)->output == OUTPUT_C_N;
    for (int64_t i = 0; i < s->samples && pass_result_at(p, i) >= 0; i++) {
        const int64_t row = i * s->length + pass_time(p, s->length - 1);
        memcpy(run_value(p->r, p->n) + pass_result_at(p, i),
               second ? p->kept + row * s->hidden : p->y + row * s->wide,
               (size_t)s->hidden * sizeof(real));
    }
}

void recurrent_forward(const struct node *n, struct run *r, const struct cell *cell)
{
    const struct sizes s = recurrent_sizes(n, r, cell);
    for (int64_t layer = 0; layer < s.layers; layer++) {
        struct pass p;
        for (int64_t direction = 0; direction < s.directions; direction++) {
            p = recurrent_pass(n, r, cell, layer, direction);
            pass_forward(&p);
            write_results(&p);
        }
        real *next = recurrent_result(n, r, cell, &s, layer, true);
        real *y = recurrent_result(n, r, cell, &s, layer, false);
        if (layer + 1 < s.layers && next != y)
            recurrent_drop(&p, layer, y, next);
    }
}
