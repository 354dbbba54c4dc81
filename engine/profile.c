/* profile.c: where the time of a plan's runs goes, node by node, beside what each node has to do.
 *
 * FLOPs are the row's of the forward. A backward has as many for each of two things that it may
 * have to find: the gradients of its inputs and those of its parameters; where there are no
 * parameters, one for each input, two at most (a product has two). A forward that runs again in
 * backward counts there. Bytes are those of the values that a pass cannot do without, each counted
 * once: inputs, parameters and output of the forward; the gradient that comes, the values that are
 * kept, the gradients that go. Caches may save some, work memory and second looks cost more, so
 * that bytes over time is what a perfect pass would have moved. */
#include "plan.h"

#include <stdlib.h>

struct profile {
    int n;
    int *place; /* of the row of each node of the plan; -1: none */
    struct profile_row *rows;
};

/* ---- what a pass has to do ------------------------------------------------------------------- */

static double value_bytes(const struct node *n, int64_t batch)
{
    return (double)(n->size.sample * batch + n->size.fixed) * (double)dtype_size(n->dtype);
}

static bool gradient_wanted(const struct plan *p, const struct node *n, int i)
{
    return p->grad_in[p->first_in[n->id] + i] != SLOT_NONE;
}

static double backward_flops(const struct plan *p, const struct node *n, double forward)
{
    int data = 0, params = 0;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && gradient_wanted(p, n, i))
            *(i < n->n_data ? &data : &params) += 1;
    if (n->n_in > n->n_data)
        return forward * ((data > 0) + (params > 0));
    return forward * (data < 2 ? data : 2);
}

static double forward_bytes(const struct node *n, int64_t batch)
{
    double sum = value_bytes(n, batch);
    for (int i = 0; i < n->n_in; i++)
        sum += n->in[i] ? value_bytes(n->in[i], batch) : 0;
    return sum;
}

static double backward_bytes(const struct plan *p, const struct node *n, int64_t batch)
{
    const bool keeps_in = n->op->flags & OP_KEEPS_IN, keeps_out = n->op->flags & OP_KEEPS_OUT;
    double sum = value_bytes(n, batch) * (keeps_out ? 2 : 1);
    sum += (double)(n->saved.sample * batch + n->saved.fixed) * (double)sizeof(real);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i])
            sum += value_bytes(n->in[i], batch) * (keeps_in + gradient_wanted(p, n, i));
    return sum;
}

/* ---- making one ------------------------------------------------------------------------------ */

static bool runs(const struct plan *p, const struct node *n)
{
    return !(n->op->flags & OP_LEAF) && p->root[n->id] == n->id;
}

static struct profile_row row_of(const struct plan *p, const struct node *n, int64_t batch)
{
    struct profile_row row = {.node = n};
    row.flops[RUN_FORWARD] = node_flops(n) * (double)batch;
    row.bytes[RUN_FORWARD] = forward_bytes(n, batch);
    if (p->backward && p->wanted[n->id] && !p->skip_backward[n->id]) {
        row.flops[RUN_BACKWARD] = backward_flops(p, n, row.flops[RUN_FORWARD]);
        row.bytes[RUN_BACKWARD] = backward_bytes(p, n, batch);
    }
    if (p->again[n->id]) {
        row.flops[RUN_BACKWARD] += row.flops[RUN_FORWARD];
        row.bytes[RUN_BACKWARD] += row.bytes[RUN_FORWARD];
    }
    return row;
}

struct profile *profile_create(const struct run *r, int64_t batch, struct error *e)
{
    const struct plan *plan = r->plan;
    const size_t nodes = (size_t)plan->n_nodes;
    struct profile *p = calloc(1, sizeof *p + nodes * (sizeof *p->rows + sizeof *p->place));
    if (!p) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a profile");
        return NULL;
    }
    p->rows = (struct profile_row *)(p + 1);
    p->place = (int *)(p->rows + nodes);
    for (int i = 0; i < plan->n_nodes; i++) {
        const struct node *n = plan->graph->nodes[i];
        p->place[i] = -1;
        if (!runs(plan, n))
            continue;
        p->place[i] = p->n;
        p->rows[p->n++] = row_of(plan, n, batch);
    }
    return p;
}

void profile_destroy(struct profile **p)
{
    free(*p);
    *p = NULL;
}

int profile_rows(const struct profile *p, const struct profile_row **rows_r)
{
    *rows_r = p->rows;
    return p->n;
}

void profile_add(struct profile *p, const struct node *n, enum run_pass pass, double seconds)
{
    if (p->place[n->id] >= 0)
        p->rows[p->place[n->id]].seconds[pass] += seconds;
}
