/* network_step.c: the step from one generation to the next.
 *
 * A step never writes in place: network_apply reads generation n and writes parameters and slots of
 * generation n+1, so predictions may go on reading n. Only the gradients, which are the step's own,
 * are clipped where they lie.
 *
 * The block of parameters is walked in segments: consecutive parameters that are alike, frozen or
 * of one group, which have seen as many steps, so that a segment has one optimiser, one learning
 * rate and one count of steps. An optimiser whose step
 * depends on a parameter's norm (lamb) has segments of one parameter, and goes over each twice: the
 * first pass leaves the direction in the new generation, the second makes the parameter of it. The
 * moving average of the weights follows in the last pass. */
#include "optimizer.h"

#include <math.h>
#include <string.h>

enum { GRAIN = 16384 }; /* elements */

/* ---- clipping -------------------------------------------------------------------------------- */

struct clip {
    real *grads;
    real scale; /* clip_grad_norm_ */
    real limit; /* clip_grad_value_; infinite when off */
};

/* NaN stays NaN in both. */
static void clip_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct clip *c = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        real x = c->grads[i] * c->scale;
        c->grads[i] = x > c->limit ? c->limit : x < -c->limit ? -c->limit : x;
    }
}

/* By the norm first, as torch.nn.utils.clip_grad_norm_ does, then by value. */
static void gradients_clip(const struct network *net, struct pool *pool, real *grads, double norm)
{
    double scale = net->clip_grad_norm > 0 ? net->clip_grad_norm / (norm + 1e-6) : 1;
    struct clip c = {grads, scale >= 1 ? 1 : (real)scale,
                     net->clip_grad_value > 0 ? (real)net->clip_grad_value : (real)INFINITY};
    if (c.scale != 1 || net->clip_grad_value > 0)
        pool_for(pool, (int64_t)graph_params_size(net->graph), GRAIN, clip_chunk, &c);
}

/* ---- learning rates -------------------------------------------------------------------------- */

void network_rates(const struct network *net, const struct generation *from, double asked,
                   uint64_t step, double *lr_r)
{
    const double base = optimizer_lr(net->optimizer);
    lr_r[0] = isnan(asked) ? schedule_lr(net->schedule, base, step, &from->schedule) : asked;
    for (int i = 0; i < net->n_groups; i++) {
        const double own = optimizer_lr(net->groups[i]);
        if (isnan(asked))
            lr_r[1 + i] = schedule_lr(net->schedule, own, step, &from->schedule);
        else
            lr_r[1 + i] = base > 0 ? asked / base * own : asked;
    }
}

/* ---- the step -------------------------------------------------------------------------------- */

struct apply {
    struct update update;
    update_fn *run;
    const real *averages; /* NULL: none are kept */
    real *averages_out;
    real add;     /* share of the parameter in its average */
    size_t begin; /* of the segment */
    size_t count;
    int slots, group;
    bool frozen;
    const uint64_t *missed; /* steps, of each parameter */
    uint64_t segment_missed;
    real rate;  /* of the second pass */
    int failed; /* atomic */
};

static void copy_chunk(const struct update *u, int slots, size_t begin, size_t count)
{
    memcpy(u->params_out + begin, u->params + begin, count * sizeof(real));
    for (int k = 0; k < slots; k++) {
        size_t at = (size_t)k * u->size + begin;
        memcpy(u->slots_out + at, u->slots + at, count * sizeof(real));
    }
}

/* average += (1 - decay)(p - average): an average of what does not change stays as it is. */
static void average_chunk(const struct apply *a, size_t begin, size_t end)
{
    const real *restrict p = a->update.params_out, *restrict old = a->averages;
    real *restrict to = a->averages_out;
    for (size_t i = begin; a->averages && i < end; i++)
        to[i] = old[i] + a->add * (p[i] - old[i]);
}

static void fail_unless(struct apply *a, bool ok)
{
    if (!ok)
        __atomic_store_n(&a->failed, 1, __ATOMIC_RELAXED);
}

static void apply_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    struct apply *a = arg;
    size_t first = a->begin + (size_t)begin, count = (size_t)(end - begin);
    (void)worker;
    if (a->frozen)
        copy_chunk(&a->update, a->slots, first, count);
    else
        fail_unless(a, a->run(&a->update, first, first + count));
    if (a->frozen || !a->update.trust)
        average_chunk(a, first, first + count);
}

/* The second pass: what the first wrote is a direction. */
static void trust_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    struct apply *a = arg;
    const size_t first = a->begin + (size_t)begin, last = a->begin + (size_t)end;
    const real *restrict p = a->update.params;
    real *restrict to = a->update.params_out;
    bool ok = true;
    (void)worker;
    for (size_t i = first; i < last; i++) {
        to[i] = p[i] - a->rate * to[i];
        ok &= isfinite(to[i]) != 0;
    }
    fail_unless(a, ok);
    average_chunk(a, first, last);
}

static void trust_apply(struct apply *a, struct pool *pool)
{
    const int64_t count = (int64_t)a->count;
    const double norm = block_norm(pool, a->update.params + a->begin, count);
    const double length = block_norm(pool, a->update.params_out + a->begin, count);
    a->rate = (real)(a->update.lr * a->update.trust(norm, length));
    pool_for(pool, count, GRAIN, trust_chunk, a);
}

/* A segment begins at parameter *i, which is moved past it; false when there are no more. */
static bool next_segment(const struct graph *g, bool alone, int *i, struct apply *a)
{
    bool found = false;
    for (; *i < graph_param_count(g); ++*i) {
        const struct param *p = graph_param(g, *i);
        if (p->buffer)
            continue;
        if (found && (p->frozen != a->frozen || p->group != a->group || alone ||
                      a->missed[*i] != a->segment_missed))
            break;
        if (!found) {
            a->begin = p->offset;
            a->frozen = p->frozen;
            a->group = p->group;
            a->segment_missed = a->missed[*i];
        }
        found = true;
        a->count = p->offset + p->count - a->begin;
    }
    return found;
}

static void count_missed(const struct graph *g, const uint64_t *from, uint64_t *to)
{
    for (int i = 0; i < graph_param_count(g); i++)
        to[i] = from[i] + graph_param(g, i)->frozen;
}

static bool all_finite(const real *x, size_t n, size_t *at_r)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) {
            *at_r = i;
            return false;
        }
    return true;
}

/* Names the first parameter, in their order, whose value or state is not finite. */
static int explain(const struct network *net, const struct generation *to, struct error *e)
{
    size_t size = graph_params_size(net->graph), at;
    for (int i = 0; i < graph_param_count(net->graph); i++) {
        const struct param *p = graph_param(net->graph, i);
        if (p->buffer)
            continue;
        if (!all_finite(to->params + p->offset, p->count, &at))
            return error_set(
                e, ERROR_NOT_FINITE,
                "parameter '%s' would become not finite (%g at element %zu); a smaller "
                "learning rate or clip_grad_norm may help",
                p->name, (double)to->params[p->offset + at], at);
        for (int k = 0; k < optimizer_slots(net->optimizer); k++)
            if (!all_finite(to->slots + (size_t)k * size + p->offset, p->count, &at))
                return error_set(e, ERROR_NOT_FINITE,
                                 "the optimizer's state of parameter '%s' would become not finite "
                                 "(%g at element %zu)",
                                 p->name, (double)to->slots[(size_t)k * size + p->offset + at], at);
    }
    return error_set(e, ERROR_INTERNAL, "a step was not finite, but all its numbers are");
}

int network_apply(const struct network *net, struct pool *pool, const struct generation *from,
                  real *grads, double grad_norm, const double *lr, struct generation *to,
                  struct error *e)
{
    if (!net->optimizer)
        return error_set(e, ERROR_BAD_GRAPH, "the model has no optimizer, so it cannot train");
    gradients_clip(net, pool, grads, grad_norm);
    struct apply a = {.slots = optimizer_slots(net->optimizer),
                      .averages = from->averages,
                      .averages_out = to->averages,
                      .missed = from->missed,
                      .add = (real)(1 - net->ema_decay)};
    a.update = (struct update){.size = graph_params_size(net->graph),
                               .params = from->params,
                               .grads = grads,
                               .slots = from->slots,
                               .params_out = to->params,
                               .slots_out = to->slots};
    optimizer_update(net->optimizer, &a.update);
    const bool alone = a.update.trust != NULL;
    for (int i = 0; next_segment(net->graph, alone, &i, &a);) {
        a.run = optimizer_update(a.group ? net->groups[a.group - 1] : net->optimizer, &a.update);
        a.update.lr = lr[a.group];
        a.update.t = from->optimizer_step - a.segment_missed;
        pool_for(pool, (int64_t)a.count, GRAIN, apply_chunk, &a);
        if (alone && !a.frozen)
            trust_apply(&a, pool);
    }
    to->schedule = from->schedule;
    to->optimizer_step = from->optimizer_step + 1;
    count_missed(net->graph, from->missed, to->missed);
    return a.failed ? explain(net, to, e) : 0;
}
