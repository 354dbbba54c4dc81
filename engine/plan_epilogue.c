/* plan_epilogue.c: in plans without backward, what follows a convolution or a linear layer becomes
 * part of it (epilogue.h): a batch norm with running statistics, a sum with a value of the same
 * shape, an activation; the sum before the activation or after it.
 *
 * A chain starts at an operator flagged OP_EPILOGUE and goes on while the value of each has one
 * reader, and nobody asked for it. All of it becomes one node in the place of its last, with the
 * name, attributes and parameters of its first; then come the parameters of the batch norm. */
#include "epilogue.h"
#include "norm.h"
#include "plan_fuse.h"

#include <string.h>

enum { NORM_PARAMS = NORM_BATCHES, LONGEST = 4 };

struct chain {
    struct node *node[LONGEST];
    int n;
    struct node *first, *last, *norm, *other;
    struct fused fused;
    char text[160];
};

/* The one reader of n's value in the plan; NULL when there are others or someone outside. Nodes
 * that are part of a chain have no readers left, and count as none. */
static struct node *only_reader(const struct fusing *f, const struct node *n)
{
    const struct graph *g = f->p->graph;
    for (int i = n->id + 1; f->readers[n->id] == 1 && i < g->n_nodes; i++)
        for (int j = 0; f->readers[i] && j < g->nodes[i]->n_in; j++)
            if (g->nodes[i]->in[j] == n)
                return j < g->nodes[i]->n_data ? g->nodes[i] : NULL;
    return NULL;
}

static bool same_place(const struct node *a, const struct node *b)
{
    return a->layout == b->layout && shape_equal(&a->shape, &b->shape) && a->dtype == b->dtype;
}

/* Channels lie last in the values of first: those of the weights' first dimension. */
static bool takes_norm(const struct chain *c, const struct node *n)
{
    if (!fusing_is(n, "batch_norm2d") && !(fusing_is(n, "batch_norm1d") && n->shape.rank == 2))
        return false;
    return c->last == c->first && node_param_in(n, NORM_MEAN) && node_param_in(n, NORM_VAR);
}

static bool takes_sum(const struct chain *c, const struct node *n)
{
    return !c->fused.residual && fusing_is(n, "add") && n->n_data == 2 && n->n_in == 2 &&
           same_place(n->in[0], n->in[1]);
}

static bool takes_activation(const struct chain *c, const struct node *n)
{
    return c->fused.activation == ACTIVATION_NONE && activation_of(n) != ACTIVATION_NONE;
}

/* Whether the chain goes on with n, which reads its last. */
static bool extend(struct chain *c, struct node *n)
{
    if (!same_place(c->last, n))
        return false;
    if (takes_norm(c, n)) {
        c->norm = n;
        c->fused.eps = ((const struct batch_norm_attrs *)n->attrs)->eps;
    } else if (takes_sum(c, n)) {
        c->other = n->in[0] == c->last ? n->in[1] : n->in[0];
        c->fused.residual = true;
        c->fused.residual_last = c->fused.activation != ACTIVATION_NONE;
    } else if (takes_activation(c, n)) {
        c->fused.activation = activation_of(n);
    } else {
        return false;
    }
    strcat(strcat(c->text, "+"), n->op->name);
    c->last = c->node[c->n++] = n;
    return true;
}

static void follow(const struct fusing *f, struct chain *c)
{
    struct node *n = only_reader(f, c->last);
    while (n && extend(c, n))
        n = only_reader(f, c->last);
}

/* The chain's last node becomes all of it. */
static int replace(const struct fusing *f, struct chain *c)
{
    struct node *first = c->first, *last = c->last;
    const int n_data = first->n_data + c->fused.residual, n_params = first->n_in - first->n_data;
    const int n_in = n_data + n_params + (c->norm ? NORM_PARAMS : 0);
    struct arena *arena = f->p->graph->arena;
    struct node **in = arena_array(arena, (size_t)n_in, sizeof *in);
    struct fused *fused = arena_alloc(arena, sizeof *fused);
    char *text = arena_alloc(arena, strlen(c->text) + 1);
    if (!in || !fused || !text)
        return -1;
    in[0] = first->in[0];
    if (c->other)
        in[1] = c->other;
    memcpy(in + n_data, first->in + first->n_data, (size_t)n_params * sizeof *in);
    for (int k = 0; c->norm && k < NORM_PARAMS; k++)
        in[n_data + n_params + k] = node_param_in(c->norm, k);
    *fused = c->fused;
    fused->norm = c->norm ? n_data + n_params : 0;
    fused->text = strcpy(text, c->text);
    last->op = first->op;
    last->name = first->name;
    last->what = first->what;
    last->key = first->key;
    last->attrs = first->attrs;
    last->n_data = n_data;
    last->n_in = n_in;
    last->in = in;
    last->fused = fused;
    return 0;
}

int fusing_epilogues(const struct fusing *f)
{
    const struct graph *g = f->p->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        struct chain c = {.first = g->nodes[i], .last = g->nodes[i], .node = {g->nodes[i]}, .n = 1};
        if (!(c.first->op->flags & OP_EPILOGUE) || c.first->fused || f->readers[i] == 0)
            continue;
        strcpy(c.text, c.first->op->name);
        follow(f, &c);
        if (c.last == c.first)
            continue;
        if (replace(f, &c))
            return -1;
        for (int k = 0; k < c.n - 1; k++)
            f->readers[c.node[k]->id] = 0;
    }
    fusing_remove_unread(f);
    return 0;
}
