/* plan_fuse.c: rewriting the lowered graph so that several operators share one pass over memory.
 *
 * A pattern is a chain of operators that ends in `last`: each takes the value of the one before,
 * which nobody else reads and nobody asked for by name. The whole chain becomes one node in the
 * place of its last, with the parameters, attributes and name of its first; an operator with two
 * inputs in the middle brings its other input along. The operators that are no longer needed leave
 * the graph, and the rest is numbered anew. */
#include "plan_fuse.h"

#include <string.h>

struct pattern {
    const char *first, *middle, *last; /* middle: NULL or one with two inputs of equal shape */
    const char *fused;
};

static const struct pattern patterns[] = {
    {"batch_norm2d", NULL, "relu", "batch_norm_relu"},
    {"batch_norm2d", "add", "relu", "batch_norm_add_relu"},
    {"batch_norm2d", NULL, "silu", "batch_norm_silu"},
    {"batch_norm1d", NULL, "relu", "batch_norm_relu"},
    {"batch_norm1d", NULL, "silu", "batch_norm_silu"},
    {"batch_norm1d", "add", "relu", "batch_norm_add_relu"},
};

bool fusing_is(const struct node *n, const char *op)
{
    return strcmp(n->op->name, op) == 0;
}

void plan_count_readers(const struct plan *p, int *readers)
{
    memset(readers, 0, (size_t)p->graph->n_nodes * sizeof *readers);
    for (int i = 0; i < p->graph->n_nodes; i++)
        for (int j = 0; j < p->graph->nodes[i]->n_in; j++)
            if (p->graph->nodes[i]->in[j])
                readers[p->graph->nodes[i]->in[j]->id]++;
    for (int i = 0; i < p->n_outputs; i++)
        readers[p->outputs[i]->id]++;
    for (int i = 0; i < p->n_wrt; i++)
        readers[p->wrt[i]->id]++;
    if (p->loss)
        readers[p->loss->id]++;
}

/* Input i of n, when it is the pattern's first and only n reads it. Planes of channels (rank 3)
 * have no fused form. */
static struct node *first_at(const struct fusing *f, const struct pattern *pattern,
                             const struct node *n, int i)
{
    struct node *first = n->in[i];
    bool fits = fusing_is(first, pattern->first) && f->readers[first->id] == 1 &&
                first->shape.rank != 3 && first->layout == n->layout &&
                shape_equal(&first->shape, &n->shape);
    return fits ? first : NULL;
}

struct match {
    struct node *first, *other;
};

static bool match(const struct fusing *f, const struct pattern *pattern, const struct node *last,
                  struct match *m_r)
{
    *m_r = (struct match){NULL, NULL};
    if (!fusing_is(last, pattern->last))
        return false;
    if (!pattern->middle) {
        m_r->first = first_at(f, pattern, last, 0);
        return m_r->first;
    }
    const struct node *middle = last->in[0];
    if (!fusing_is(middle, pattern->middle) || f->readers[middle->id] != 1 || middle->n_data != 2 ||
        !shape_equal(&middle->in[0]->shape, &middle->in[1]->shape))
        return false;
    for (int i = 0; i < 2 && !m_r->first; i++) {
        m_r->first = first_at(f, pattern, middle, i);
        m_r->other = middle->in[1 - i];
    }
    return m_r->first;
}

/* `last` becomes all of the chain. */
static int fuse(const struct fusing *f, const struct pattern *pattern, const struct match *m,
                struct node *last)
{
    struct node *first = m->first;
    const int n_data = first->n_data + (m->other ? 1 : 0), n_params = first->n_in - first->n_data;
    struct node **in = arena_array(f->p->graph->arena, (size_t)(n_data + n_params), sizeof *in);
    if (!in)
        return -1;
    memcpy(in, first->in, (size_t)first->n_data * sizeof *in);
    if (m->other)
        in[first->n_data] = m->other;
    if (n_params)
        memcpy(in + n_data, first->in + first->n_data, (size_t)n_params * sizeof *in);
    last->op = op_find(pattern->fused);
    last->name = first->name;
    last->what = first->what;
    last->key = first->key;
    last->attrs = first->attrs;
    last->n_data = n_data;
    last->n_in = n_data + n_params;
    last->in = in;
    return 0;
}

/* Nodes that nobody reads any more leave; inputs come before their users, so last ones first. */
void fusing_remove_unread(const struct fusing *f)
{
    struct graph *g = f->p->graph;
    plan_count_readers(f->p, f->readers);
    for (int i = g->n_nodes - 1; i >= 0; i--)
        for (int j = 0; f->readers[i] == 0 && j < g->nodes[i]->n_in; j++)
            if (g->nodes[i]->in[j])
                f->readers[g->nodes[i]->in[j]->id]--;
    int kept = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (f->readers[i] > 0)
            g->nodes[kept++] = g->nodes[i];
    g->n_nodes = kept;
    for (int i = 0; i < kept; i++)
        g->nodes[i]->id = i;
    plan_count_readers(f->p, f->readers);
}

/* Every chain of the patterns. */
static int fuse_patterns(const struct fusing *f)
{
    const struct graph *g = f->p->graph;
    for (int i = 0; i < g->n_nodes; i++)
        for (size_t k = 0; k < sizeof patterns / sizeof patterns[0]; k++) {
            struct match m;
            if (!match(f, &patterns[k], g->nodes[i], &m))
                continue;
            if (fuse(f, &patterns[k], &m, g->nodes[i]))
                return -1;
            break;
        }
    return 0;
}

int plan_fuse(struct plan *p, struct error *e)
{
    struct graph *g = p->graph;
    struct fusing f = {p, arena_array(g->arena, (size_t)g->n_nodes + 1, sizeof *f.readers)};
    if (!f.readers)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    plan_count_readers(p, f.readers);
    if ((g->invariant && fusing_epilogues(&f)) || fuse_patterns(&f))
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a plan");
    fusing_remove_unread(&f);
    return 0;
}
