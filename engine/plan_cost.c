/* plan_cost.c: about how long the forward of a node takes, so that what is short stays on the core
 * that it is on: telling other cores of it would take longer than they could save. It decides who
 * computes, never what: bits depend on no estimate.
 *
 * Products of matrices get 100 GFLOP/s, and their numbers come from caches; all others are taken
 * for loops that do one thing at a time, with numbers that come from memory. */
#include "plan.h"

/* Half of it is more than a helper that is awake takes to come, so that predictions alone gain;
 * with less, many at a time would lose by helpers that look out for work. */
static const double SHARE_NS = 20000;

static double bytes(const struct node *n, bool sample)
{
    const struct extent x = n->size;
    return (double)(sample ? x.sample : x.fixed) * (double)dtype_size(n->dtype);
}

static double moved(const struct node *n, bool sample)
{
    double sum = bytes(n, sample);
    for (int i = 0; i < n->n_in; i++)
        sum += n->in[i] ? bytes(n->in[i], sample) : 0;
    return sum;
}

/* node_flops counts what is there for one sample. */
static struct cost cost_of(const struct node *n)
{
    const bool products = n->n_in > n->n_data;
    const double per_flop = products ? 0.01 : 0.1, per_byte = products ? 0.01 : 0.05;
    const double flops = node_flops(n) * per_flop;
    const bool batched = n->size.sample > 0;
    return (struct cost){(batched ? flops : 0) + moved(n, true) * per_byte,
                         (batched ? 0 : flops) + moved(n, false) * per_byte};
}

int plan_cost(struct plan *p, struct error *e)
{
    p->cost = arena_array(p->graph->arena, (size_t)p->n_nodes + 1, sizeof *p->cost);
    if (!p->cost)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    for (int i = 0; i < p->n_nodes; i++)
        p->cost[i] = cost_of(p->graph->nodes[i]);
    return 0;
}

bool plan_cost_shares(const struct plan *p, int id, int64_t n)
{
    return p->cost[id].fixed + p->cost[id].sample * (double)n >= SHARE_NS;
}
