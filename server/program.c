/* program.c: a small cache of plans, each with a few idle runs. One lock guards the list; plans are
 * compiled outside of it, and arenas are counted before they are made. */
#include "program.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLANS = 12, MAX_IDLE = 2, MAX_SLICE = 64 };
enum { PREPARED_SHARE = 4 }; /* of what is free: prepared weights leave room for what is needed */
static const size_t SLICE_BYTES = 32 << 20; /* arena of one slice of inference, about */

struct entry {
    struct entry *next; /* most recently used first */
    struct program_use use;
    struct plan *plan;
    struct run *idle[MAX_IDLE];
    int n_idle, leased;
    bool kept; /* in the list */
};

struct program {
    struct network *net;
    struct budget *budget;
    pthread_mutex_t lock;
    struct entry *entries;
    int n_entries, threads;
    int refs; /* atomic */
    int64_t slice;
    struct program_cost cost;
};

/* ---- plans ----------------------------------------------------------------------------------- */

/* 1, 2, 3, 4, 6, 8, 12, 16, ...: at most half more than asked for. */
static int64_t capacity_for(int64_t n)
{
    int64_t p = 1;
    while (p < n && p < (int64_t)1 << 60)
        p *= 2;
    return p > 2 && n <= p / 4 * 3 ? p / 4 * 3 : p;
}

static int collect_outputs(const struct network *net, unsigned bits, struct node **out)
{
    int n = 0;
    for (int i = 0; i < net->n_outputs; i++)
        if (bits >> i & 1)
            out[n++] = net->outputs[i];
    if (bits & OUTPUT_PROBABILITIES)
        out[n++] = net->probabilities;
    if (bits & OUTPUT_PREDICTIONS)
        out[n++] = node_input(net->losses[0], 0);
    return n;
}

int program_output_place(unsigned outputs, unsigned bit)
{
    return __builtin_popcount(outputs & (bit - 1));
}

int program_output_rows(const struct program *p, unsigned outputs, int64_t *row_r)
{
    struct node *out[NETWORK_MAX_IO + 2];
    int n = collect_outputs(p->net, outputs, out);
    for (int i = 0; i < n; i++) {
        row_r[i] = 0;
        if (shape_batched(node_shape(out[i])))
            shape_count(node_shape(out[i]), 1, &row_r[i]);
    }
    return n;
}

static struct plan *compile(const struct program *p, const struct program_use *use, struct error *e)
{
    const struct network *net = p->net;
    struct node *outputs[NETWORK_MAX_IO + 2], *wrt[NETWORK_MAX_IO + use->n_layers];
    struct plan_spec spec = {.training = use->training,
                             .outputs = outputs,
                             .n_outputs = collect_outputs(net, use->outputs, outputs),
                             .loss = use->loss ? net->loss : NULL,
                             .wrt = wrt,
                             .params_wrt = use->params_wrt,
                             .capacity = capacity_for(use->n),
                             .threads = p->threads,
                             .unfused = use->apart};
    for (int i = 0; use->inputs_wrt && i < net->n_inputs; i++)
        if (node_dtype(net->inputs[i]) == DTYPE_REAL)
            wrt[spec.n_wrt++] = net->inputs[i];
    for (int i = 0; i < use->n_layers; i++)
        wrt[spec.n_wrt++] = use->layers[i];
    return plan_create(net->graph, &spec, e);
}

static bool same_use(const struct program_use *a, const struct program_use *b)
{
    return a->training == b->training && a->loss == b->loss && a->params_wrt == b->params_wrt &&
           a->inputs_wrt == b->inputs_wrt && a->apart == b->apart && a->outputs == b->outputs &&
           !a->n_layers && !b->n_layers && capacity_for(a->n) == capacity_for(b->n);
}

/* ---- the cache, under the lock --------------------------------------------------------------- */

static struct entry *entry_find(struct program *p, const struct program_use *use)
{
    for (struct entry **at = &p->entries; *at; at = &(*at)->next) {
        struct entry *found = *at;
        if (!same_use(&found->use, use))
            continue;
        *at = found->next;
        found->next = p->entries;
        p->entries = found;
        return found;
    }
    return NULL;
}

static void entry_drop_idle(struct program *p, struct entry *en)
{
    while (en->n_idle) {
        budget_give(p->budget, plan_arena_bytes(en->plan));
        run_destroy(&en->idle[--en->n_idle]);
    }
}

static void entry_destroy(struct program *p, struct entry *en)
{
    entry_drop_idle(p, en);
    plan_destroy(&en->plan);
    p->n_entries -= en->kept;
    free(en);
}

/* Drops the least recently used entries that nobody uses, until few enough are left. */
static void entries_trim(struct program *p)
{
    while (p->n_entries > MAX_PLANS) {
        struct entry **last = NULL;
        for (struct entry **at = &p->entries; *at; at = &(*at)->next)
            if (!(*at)->leased)
                last = at;
        if (!last)
            return;
        struct entry *gone = *last;
        *last = gone->next;
        entry_destroy(p, gone);
    }
}

/* The entry for a use, leased: made if it is not there. */
static struct entry *entry_lease(struct program *p, const struct program_use *use, struct error *e)
{
    pthread_mutex_lock(&p->lock);
    struct entry *en = entry_find(p, use);
    if (en)
        en->leased++;
    pthread_mutex_unlock(&p->lock);
    if (en)
        return en;
    struct plan *plan = compile(p, use, e);
    struct entry *fresh = plan ? calloc(1, sizeof *fresh) : NULL;
    if (!fresh) {
        if (plan)
            error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
        plan_destroy(&plan);
        return NULL;
    }
    *fresh = (struct entry){.use = *use, .plan = plan, .leased = 1};
    if (use->n_layers)
        return fresh;
    fresh->kept = true;
    fresh->leased = 0;
    pthread_mutex_lock(&p->lock);
    en = entry_find(p, use); /* somebody else may have made it meanwhile */
    if (!en) {
        fresh->next = p->entries;
        en = p->entries = fresh;
        p->n_entries++;
        fresh = NULL;
    }
    en->leased++;
    entries_trim(p);
    pthread_mutex_unlock(&p->lock);
    if (fresh)
        plan_destroy(&fresh->plan);
    free(fresh);
    return en;
}

static void entry_unlease(struct program *p, struct entry *en)
{
    if (!en->kept) {
        entry_destroy(p, en);
        return;
    }
    pthread_mutex_lock(&p->lock);
    en->leased--;
    entries_trim(p);
    pthread_mutex_unlock(&p->lock);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static struct run *idle_take(struct program *p, struct entry *en)
{
    pthread_mutex_lock(&p->lock);
    struct run *r = en->n_idle ? en->idle[--en->n_idle] : NULL;
    pthread_mutex_unlock(&p->lock);
    return r;
}

static struct run *run_make(struct program *p, struct entry *en, struct error *e)
{
    size_t bytes = plan_arena_bytes(en->plan);
    char what[64];
    snprintf(what, sizeof what, "a batch of %lld", (long long)en->use.n);
    if (budget_take(p->budget, bytes, what, e))
        return NULL;
    struct run *r = run_create(en->plan, e);
    if (!r)
        budget_give(p->budget, bytes);
    return r;
}

int program_acquire(struct program *p, const struct program_use *use, struct program_lease *l_r,
                    struct error *e)
{
    struct entry *en = entry_lease(p, use, e);
    if (!en)
        return -1;
    struct run *r = idle_take(p, en);
    if (!r)
        r = run_make(p, en, e);
    if (!r) {
        entry_unlease(p, en);
        return -1;
    }
    *l_r = (struct program_lease){program_ref(p), r, en};
    return 0;
}

void program_release(struct program_lease *l)
{
    if (!l->run)
        return;
    struct program *p = l->program;
    struct entry *en = l->entry;
    pthread_mutex_lock(&p->lock);
    if (en->n_idle < MAX_IDLE) {
        en->idle[en->n_idle++] = l->run;
        l->run = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    if (l->run)
        budget_give(p->budget, plan_arena_bytes(en->plan));
    run_destroy(&l->run);
    entry_unlease(p, en);
    program_unref(&l->program);
}

static void give_back(void *budget, size_t bytes)
{
    budget_give(budget, bytes);
}

struct prepared *program_prepared(const struct program_lease *l, struct generation *g)
{
    struct budget *budget = l->program->budget;
    const struct plan *plan = ((const struct entry *)l->entry)->plan;
    const size_t bytes = plan_prepared_bytes(plan);
    struct prepared *b = generation_prepared(g);
    if (b || bytes == 0 || __atomic_fetch_add(&g->predictions, 1, __ATOMIC_RELAXED) == 0)
        return b;
    struct error full;
    const size_t used = budget_used(budget);
    if (used > budget->limit || bytes > (budget->limit - used) / PREPARED_SHARE ||
        budget_take(budget, bytes, "prepared weights", &full))
        return NULL;
    b = prepared_create(plan, give_back, budget);
    if (b)
        generation_prepare(g, &b);
    else
        budget_give(budget, bytes);
    return generation_prepared(g);
}

int program_bytes(struct program *p, const struct program_use *use, size_t *bytes_r,
                  struct error *e)
{
    struct plan *plan = compile(p, use, e);
    if (!plan)
        return -1;
    *bytes_r = plan_arena_bytes(plan);
    plan_destroy(&plan);
    return 0;
}

int program_steps(struct program *p, const struct program_use *use, program_step_fn *f, void *arg,
                  struct error *e)
{
    struct plan *plan = compile(p, use, e);
    struct plan_step step;
    if (!plan)
        return -1;
    for (int i = 0; plan_step_at(plan, i, &step); i++)
        f(arg, &step);
    plan_destroy(&plan);
    return 0;
}

void program_reclaim(struct program *p)
{
    pthread_mutex_lock(&p->lock);
    for (struct entry *en = p->entries; en; en = en->next)
        entry_drop_idle(p, en);
    pthread_mutex_unlock(&p->lock);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* A slice's arena should be of moderate size, so that large requests do not need large ones. Where
 * samples depend on each other a batch is computed whole or not at all. */
static int choose_slice(struct program *p, struct error *e)
{
    size_t bytes;
    struct program_use use = {.outputs = (1u << p->net->n_outputs) - 1, .n = 1};
    if (program_bytes(p, &use, &bytes, e))
        return -1;
    if (network_mixing_layer(p->net, false)) {
        p->slice = INT64_MAX;
        return 0;
    }
    size_t fit = SLICE_BYTES / (bytes ? bytes : 1);
    p->slice = 1;
    while (p->slice * 2 <= MAX_SLICE && (size_t)p->slice * 2 <= fit)
        p->slice *= 2;
    return 0;
}

static struct program_cost cost_of(const struct network *net)
{
    struct program_cost c = {0, 0};
    int64_t count;
    for (int i = 0; i < graph_node_count(net->graph); i++) {
        const struct node *n = graph_node(net->graph, i);
        c.flops += node_flops(n);
        if (shape_batched(node_shape(n)) && shape_count(node_shape(n), 1, &count))
            c.elements += (double)count;
    }
    return c;
}

struct program *program_create(struct network *net, struct budget *budget, int threads,
                               struct error *e)
{
    struct program *p = calloc(1, sizeof *p);
    if (!p) {
        network_destroy(&net);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a model");
        return NULL;
    }
    *p = (struct program){
        .net = net, .budget = budget, .threads = threads, .refs = 1, .cost = cost_of(net)};
    pthread_mutex_init(&p->lock, NULL);
    if (choose_slice(p, e))
        program_unref(&p);
    return p;
}

struct program *program_ref(struct program *p)
{
    __atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
    return p;
}

void program_unref(struct program **program)
{
    struct program *p = *program;
    *program = NULL;
    if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    while (p->entries) {
        struct entry *en = p->entries;
        p->entries = en->next;
        entry_destroy(p, en);
    }
    network_destroy(&p->net);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

const struct network *program_network(const struct program *p)
{
    return p->net;
}

int64_t program_slice(const struct program *p)
{
    return p->slice;
}

struct program_cost program_cost(const struct program *p)
{
    return p->cost;
}
