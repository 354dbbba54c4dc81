/* plan_recompute.c: what backward computes again instead of keeping it (activation checkpointing,
 * torch.utils.checkpoint).
 *
 * Nodes may belong to a block (node_set_block). What is computed inside a block lives, in forward,
 * no longer than its last reader there. Before the first backward of the block its forward runs
 * again, from the values that enter it, and what backward reads is what this second run writes: the
 * same bits, since kernels depend on shapes alone and random numbers on (seed, draw, node). It
 * moves no statistics and nobody observes it. Besides the blocks that were asked for, a plan makes
 * its own of operators that cost one pass (OP_CHEAP_AGAIN) and the only one that keeps their value.
 *
 * Only what is needed runs again. Backward needs the values that its operators keep, and what
 * operators save; to compute those again needs their inputs, and so on to the block's edge. A value
 * that something outside the block needs in backward too (the next block begins with it) is held
 * from forward on, and not computed twice. What operators save besides is often small beside their
 * value (the statistics of a norm): then it does not make them run again, but is kept. */
#include "plan.h"

#include <string.h>

enum { SAVED_IS_SMALL = 4 }; /* values that take so many times as much */

struct recompute {
    struct plan *p;
    bool *needed; /* of each root: its value, by backward or a second forward in its own block */
    int *last;    /* of each block: its last node whose backward runs; -1 */
    int *first;   /* of each block: its first node that runs again; -1 */
    int n_blocks;
};

static bool in_block(const struct node *n)
{
    return n->block > 0 && !(n->op->flags & OP_LEAF);
}

/* Somebody reads the value of `in` when forward is over: `reader`, or whoever has the plan. */
static void need(struct recompute *x, const struct node *reader, const struct node *in)
{
    const int root = x->p->root[in->id];
    const struct node *owner = x->p->graph->nodes[root];
    if (reader && in_block(reader) && reader->block == owner->block)
        x->needed[root] = true;
    else
        x->p->held[root] = true;
}

static bool saves_much(const struct node *n)
{
    return SAVED_IS_SMALL * n->saved.sample > n->size.sample ||
           (n->size.sample == 0 && SAVED_IS_SMALL * n->saved.fixed > n->size.fixed);
}

/* Readers come after what they read: when it is a node's turn, all that need it have said so. */
static void decide(struct recompute *x, const struct node *n)
{
    struct plan *p = x->p;
    const int i = n->id;
    const bool is_root = p->root[i] == i, keeps_in = p->wanted[i] && (n->op->flags & OP_KEEPS_IN);
    if (p->wanted[i] && (n->op->flags & OP_KEEPS_OUT))
        need(x, n, n);
    p->again[i] = in_block(n) && is_root &&
                  ((x->needed[i] && !p->held[i]) || (p->wanted[i] && saves_much(n)));
    for (int j = 0; (keeps_in || p->again[i]) && j < n->n_in; j++)
        if (n->in[j])
            need(x, n, n->in[j]);
}

static void decide_all(struct recompute *x)
{
    struct plan *p = x->p;
    for (int i = 0; i < p->n_outputs; i++)
        need(x, NULL, p->outputs[i]);
    need(x, NULL, p->loss);
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *n = p->graph->nodes[i];
        decide(x, n);
        if (in_block(n) && p->wanted[i] && x->last[n->block] < 0)
            x->last[n->block] = i;
        if (p->again[i])
            x->first[n->block] = i;
    }
}

static void set_times(struct recompute *x)
{
    struct plan *p = x->p;
    int now = p->n_nodes;
    for (int i = p->n_nodes - 1; i >= 0; i--) {
        const struct node *n = p->graph->nodes[i];
        p->again_first[i] = -1;
        if (x->n_blocks && in_block(n) && x->last[n->block] == i)
            p->again_first[i] = x->first[n->block];
        for (int k = p->again_first[i]; k >= 0 && k <= i; k++)
            if (p->again[k] && p->graph->nodes[k]->block == n->block)
                p->time_again[k] = now++;
        p->time_back[i] = now++;
    }
}

static int count_blocks(const struct plan *p)
{
    int n = 0;
    for (int i = 0; p->backward && i < p->n_nodes; i++)
        if (p->graph->nodes[i]->block > n)
            n = p->graph->nodes[i]->block;
    return n;
}

/* Whether `reader` is all that n's value is for, and reads it in backward too. */
static bool is_for(const struct node *n, const struct node *reader, const int *readers)
{
    return (n->op->flags & OP_CHEAP_AGAIN) && (reader->op->flags & OP_KEEPS_IN) &&
           readers[n->id] == 1 && !n->block && !reader->block;
}

/* Blocks of two that nobody asked for: what is cheap to compute again, and the only one that reads
 * it. */
static int make_blocks(const struct plan *p, struct error *e)
{
    int n_blocks = count_blocks(p);
    int *readers = arena_array(p->graph->arena, (size_t)p->n_nodes + 1, sizeof *readers);
    if (!readers)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    plan_count_readers(p, readers);
    for (int i = 0; i < p->n_nodes; i++) {
        struct node *reader = p->graph->nodes[i];
        for (int j = 0; j < reader->n_data; j++)
            if (reader->in[j] && is_for(reader->in[j], reader, readers))
                reader->in[j]->block = reader->block = ++n_blocks;
    }
    return 0;
}

int plan_recompute(struct plan *p, struct error *e)
{
    if (p->backward && make_blocks(p, e))
        return -1;
    struct arena *a = p->graph->arena;
    const size_t n = (size_t)p->n_nodes;
    struct recompute x = {.p = p, .n_blocks = count_blocks(p)};
    const size_t blocks = (size_t)x.n_blocks + 1;
    p->again = arena_array(a, n, sizeof *p->again);
    p->held = arena_array(a, n, sizeof *p->held);
    p->again_first = arena_array(a, n, sizeof *p->again_first);
    p->time_again = arena_array(a, n, sizeof *p->time_again);
    p->time_back = arena_array(a, n, sizeof *p->time_back);
    x.needed = arena_array(a, n, sizeof *x.needed);
    x.last = arena_array(a, blocks, sizeof *x.last);
    x.first = arena_array(a, blocks, sizeof *x.first);
    if (!p->again || !p->held || !p->again_first || !p->time_again || !p->time_back || !x.needed ||
        !x.last || !x.first)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    memset(x.last, -1, blocks * sizeof *x.last);
    memset(x.first, -1, blocks * sizeof *x.first);
    if (x.n_blocks)
        decide_all(&x);
    set_times(&x);
    return 0;
}
