/* run.c: executing a plan. A run is one allocation for the pointers and one for the arena; running
 * it sets the pointers to what lies outside (inputs, the generation, gradients), walks the nodes in
 * order, and for a plan with backward walks them again in reverse. */
#include "plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ARENA_ALIGN = 64, FENCE_BYTE = 0xA5 };

/* ---- what operators see ---------------------------------------------------------------------- */

struct shape run_shape(const struct run *r, const struct node *n)
{
    struct shape s = n->shape;
    if (shape_batched(&s))
        s.dim[0] = r->args.n;
    return s;
}

real *run_grad_in(const struct run *r, const struct node *n, int i)
{
    return r->grad_in[r->plan->first_in[n->id] + i];
}

real *run_buffer_out(const struct run *r, const struct node *leaf)
{
    return r->args.buffers_out ? r->args.buffers_out + leaf->param->offset : NULL;
}

void run_for(struct run *r, int64_t count, int64_t grain, pool_fn *f, void *arg)
{
    pool_for(r->alone ? NULL : r->args.pool, count, grain, f, arg);
}

void run_fail(struct run *r, enum error_code code, const char *format, ...)
{
    if (r->failed++ || !r->error)
        return;
    va_list args;
    va_start(args, format);
    r->error->code = code;
    vsnprintf(r->error->text, sizeof r->error->text, format, args);
    va_end(args);
}

void run_report(struct run *r, const char *name, double value)
{
    for (int i = 0; i < r->n_parts; i++)
        if (strcmp(r->parts[i].name, name) == 0)
            return;
    if (r->n_parts == RUN_MAX_PARTS)
        return;
    struct run_part *p = &r->parts[r->n_parts++];
    p->value = value;
    memset(p->name, 0, sizeof p->name);
    memcpy(p->name, name, strnlen(name, sizeof p->name - 1));
}

struct random_key run_random(const struct run *r, const struct node *n)
{
    return (struct random_key){r->args.seed, r->args.draw, (uint32_t)n->key};
}

/* ---- making one ------------------------------------------------------------------------------ */

static real *slot_memory(const struct run *r, int slot)
{
    return slot < 0 ? NULL : (real *)(void *)(r->arena + r->plan->slots[slot].offset);
}

/* Pointers that are the same throughout every execution. */
static void set_fixed_pointers(struct run *r)
{
    const struct plan *p = r->plan;
    for (int i = 0; i < p->n_nodes; i++) {
        r->grad[i] = slot_memory(r, p->grad[i]);
    }
    for (int i = 0; i < p->n_in; i++)
        r->grad_in[i] = slot_memory(r, p->grad_in[i]);
}

static void fences_write(struct run *r)
{
    const struct plan *p = r->plan;
    memset(r->arena, 0xFF, p->arena_bytes); /* NaN: what is read before it is written shows */
    for (int i = 0; i < p->n_slots; i++)
        memset(r->arena + p->slots[i].offset + p->slots[i].bytes - p->fence, FENCE_BYTE, p->fence);
    memset(r->scratch, 0xFF, (size_t)p->threads * r->scratch_bytes);
    for (int i = 0; i < p->threads; i++)
        memset(r->scratch + (size_t)i * r->scratch_bytes + p->scratch_bytes, FENCE_BYTE, p->fence);
}

static bool fence_intact(const char *fence, size_t size)
{
    for (size_t j = 0; j < size; j++)
        if ((unsigned char)fence[j] != FENCE_BYTE)
            return false;
    return true;
}

bool run_fences_intact(const struct run *r)
{
    const struct plan *p = r->plan;
    for (int i = 0; i < p->n_slots; i++)
        if (!fence_intact(r->arena + p->slots[i].offset + p->slots[i].bytes - p->fence, p->fence))
            return false;
    for (int i = 0; i < p->threads; i++)
        if (!fence_intact(r->scratch + (size_t)i * r->scratch_bytes + p->scratch_bytes, p->fence))
            return false;
    return true;
}

struct run *run_create(const struct plan *p, struct error *e)
{
    size_t pointers = (size_t)(4 * p->n_nodes + p->n_in);
    size_t scratch = (size_t)p->threads * (p->scratch_bytes + p->fence);
    struct run *r = calloc(1, sizeof *r + pointers * sizeof(real *));
    size_t bytes = (p->arena_bytes + scratch + ARENA_ALIGN) / ARENA_ALIGN * ARENA_ALIGN;
    char *arena = aligned_alloc(ARENA_ALIGN, bytes);
    if (!r || !arena) {
        free(r);
        free(arena);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the %zu MB that this batch needs",
                  bytes >> 20);
        return NULL;
    }
    large_advise(arena, bytes);
    real **at = (real **)(r + 1);
    r->plan = p;
    r->value = at;
    r->grad = r->value + p->n_nodes;
    r->saved = r->grad + p->n_nodes;
    r->work = r->saved + p->n_nodes;
    r->grad_in = r->work + p->n_nodes;
    r->arena = arena;
    r->scratch = arena + p->arena_bytes;
    r->scratch_bytes = p->scratch_bytes + p->fence;
    r->training = p->training;
    r->invariant = !p->training && !p->backward;
    set_fixed_pointers(r);
    if (p->fence)
        fences_write(r);
    return r;
}

void run_destroy(struct run **r)
{
    if (!*r)
        return;
    free((*r)->arena);
    free(*r);
    *r = NULL;
}

/* ---- executing ------------------------------------------------------------------------------- */

static void *leaf_value(const struct run *r, const struct node *n)
{
    if (n->data)
        return (void *)n->data;
    if (n->input >= 0)
        return (void *)r->args.inputs[n->input];
    const real *block = n->param->buffer ? r->args.buffers : r->args.params;
    return (void *)(block + n->param->offset);
}

/* Pointers into what this execution was given, and to what its forward writes. Leaves are only ever
 * read. */
static void set_pointers(struct run *r)
{
    const struct plan *p = r->plan;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *n = p->graph->nodes[i];
        r->value[i] = slot_memory(r, p->value[i]);
        r->saved[i] = slot_memory(r, p->saved[i]);
        if (p->value[i] == SLOT_OUTSIDE)
            r->value[i] = p->root[i] == i ? leaf_value(r, n) : r->value[p->root[i]];
        if (p->grad[i] == SLOT_OUTSIDE)
            r->grad[i] = r->args.grads + n->param->offset;
        for (int j = 0; j < n->n_in; j++)
            if (p->grad_in[p->first_in[i] + j] == SLOT_OUTSIDE)
                r->grad_in[p->first_in[i] + j] = r->args.grads + n->in[j]->param->offset;
    }
}

/* Parameters that are frozen, or on which the loss does not depend, have gradient zero. */
static void zero_unreached(struct run *r)
{
    const struct plan *p = r->plan;
    const struct graph *g = p->source;
    for (int i = 0; p->params_wrt && i < g->n_params; i++)
        if (!p->param_written[i] && !g->params[i].buffer)
            memset(r->args.grads + g->params[i].offset, 0, g->params[i].count * sizeof(real));
    for (int i = 0; i < p->n_wrt; i++)
        if (!p->wanted[p->wrt[i]->id])
            memset(r->grad[p->wrt[i]->id], 0, (size_t)run_count(r, p->wrt[i]) * sizeof(real));
}

static bool all_finite(const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static int explain(struct run *r, const struct node *n, const char *where)
{
    const char *name = n->name[0] ? n->name : n->op->name;
    return error_set(r->error, ERROR_NOT_FINITE, "not finite: first in the %s of '%s' (%s)", where,
                     name, n->op->name);
}

/* For a profile: the time now, 0 without one; and what has passed since goes to a node. */
static double lap_begin(const struct run *r)
{
    struct timespec t = {0};
    if (r->args.profile)
        clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void lap_end(const struct run *r, const struct node *n, enum run_pass pass, double begin)
{
    if (r->args.profile)
        profile_add(r->args.profile, n, pass, lap_begin(r) - begin);
}

static int check_gone(struct run *r)
{
    if (!r->args.gone || !r->args.gone(r->args.gone_arg))
        return 0;
    return error_set(r->error, ERROR_CLIENT_GONE,
                     "the client closed the connection while its answer was computed");
}

/* `check`: stop at the first node whose result is not finite. */
static int forward(struct run *r, bool check)
{
    const struct plan *p = r->plan;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct node *n = p->graph->nodes[i];
        if (n->op->flags & OP_LEAF)
            continue;
        if (check_gone(r))
            return -1;
        r->work[i] = slot_memory(r, p->work_forward[i]);
        const double begin = lap_begin(r);
        r->alone = !r->prepares && !plan_cost_shares(p, i, r->args.n);
        if (p->root[i] == i)
            n->op->forward(n, r);
        r->alone = false;
        lap_end(r, n, RUN_FORWARD, begin);
        if (r->failed)
            return -1;
        if (check && n->dtype == DTYPE_REAL && !all_finite(r->value[i], run_count(r, n)))
            return explain(r, n, "forward");
        if (r->args.observe && n->dtype == DTYPE_REAL)
            r->args.observe(r->args.observe_arg, n, r->value[i], run_count(r, n));
    }
    return 0;
}

struct add {
    real *to;
    const real *from;
};

static void add_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    struct add *a = arg;
    for (int64_t i = begin; i < end; i++)
        a->to[i] += a->from[i];
}

static int check_written(struct run *r, const struct node *n)
{
    for (int j = 0; j < n->n_in; j++) {
        const real *g = run_grad_in(r, n, j);
        if (g && !all_finite(g, run_count(r, n->in[j])))
            return explain(r, n, "backward");
    }
    return 0;
}

/* The forward of a block a second time, up to node `last`: what backward reads of it. It moves no
 * statistics; the time counts as that of backward. */
static int forward_again(struct run *r, int first, int last)
{
    const struct plan *p = r->plan;
    real *const buffers_out = r->args.buffers_out;
    r->args.buffers_out = NULL;
    r->again = true;
    for (int i = first; i <= last && !r->failed; i++) {
        const struct node *n = p->graph->nodes[i], *root = p->graph->nodes[p->root[i]];
        if (root->block != p->graph->nodes[last]->block || (root->op->flags & OP_LEAF))
            continue;
        r->value[i] = slot_memory(r, p->value_again[i]); /* a view's too */
        if (!p->again[i])
            continue;
        r->saved[i] = slot_memory(r, p->saved_again[i]);
        r->work[i] = slot_memory(r, p->work_again[i]);
        const double begin = lap_begin(r);
        n->op->forward(n, r);
        lap_end(r, n, RUN_BACKWARD, begin);
    }
    r->again = false;
    r->args.buffers_out = buffers_out;
    return r->failed ? -1 : 0;
}

static int backward(struct run *r, bool check)
{
    const struct plan *p = r->plan;
    int sum = 0;
    if (p->wanted[p->loss->id])
        *r->grad[p->loss->id] = 1;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *n = p->graph->nodes[i];
        if (!p->wanted[i] || (n->op->flags & OP_LEAF))
            continue;
        if (check_gone(r) || (p->again_first[i] >= 0 && forward_again(r, p->again_first[i], i)))
            return -1;
        r->work[i] = slot_memory(r, p->work_backward[i]);
        const double begin = lap_begin(r);
        if (!p->skip_backward[i])
            n->op->backward(n, r);
        if (r->failed || (check && check_written(r, n)))
            return -1;
        for (; sum < p->n_sums && p->sums[sum].after == i; sum++) {
            struct add a = {r->grad[p->sums[sum].to], slot_memory(r, p->sums[sum].slot)};
            const struct node *to = p->graph->nodes[p->sums[sum].to];
            run_for(r, run_count(r, to), GRAIN_ELEMENTS, add_range, &a);
        }
        lap_end(r, n, RUN_BACKWARD, begin);
    }
    return 0;
}

static int execute(struct run *r, const struct run_args *args, bool check, struct error *e)
{
    const struct plan *p = r->plan;
    if (args->n < 1 || args->n > p->capacity)
        return error_set(e, ERROR_EMPTY_BATCH, "a batch of %lld for a plan of 1 to %lld",
                         (long long)args->n, (long long)p->capacity);
    r->args = *args;
    r->error = e;
    r->failed = 0;
    r->n_parts = 0;
    set_pointers(r);
    run_prepared_begin(r);
    const int status = forward(r, check);
    run_prepared_end(r, !status);
    if (status)
        return -1;
    if (!p->backward)
        return 0;
    zero_unreached(r);
    return backward(r, check);
}

int run_execute(struct run *r, const struct run_args *args, struct error *e)
{
    return execute(r, args, false, e);
}

int run_explain_nonfinite(struct run *r, const struct run_args *args, struct error *e)
{
    struct run_args quiet = *args;
    quiet.buffers_out = NULL;
    quiet.observe = NULL;
    quiet.profile = NULL;
    if (execute(r, &quiet, true, e))
        return -1;
    return error_set(e, ERROR_NOT_FINITE, "not finite: the gradients' norm overflows");
}

const real *run_output(const struct run *r, int i)
{
    return r->value[r->plan->outputs[i]->id];
}

real run_loss(const struct run *r)
{
    return *r->value[r->plan->loss->id];
}

int run_parts(const struct run *r, const struct run_part **parts_r)
{
    *parts_r = r->parts;
    return r->n_parts;
}

const real *run_wrt_grad(const struct run *r, int i)
{
    return r->grad[r->plan->wrt[i]->id];
}
