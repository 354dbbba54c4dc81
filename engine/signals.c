/* signals.c: what one step's numbers say of each layer: the size of gradients, weights and updates,
 * the spread of activations, units that are dead or saturated.
 *
 * A layer is a named node of the graph that computes something: not a leaf, not a loss. Norms are
 * summed in double. Means and deviations are taken in chunks of a size that depends on the count
 * alone, each around its own mean, and joined in their order (Chan, Golub, LeVeque 1979): the same
 * bits at any number of threads, and no cancellation when the mean is far from zero. */
#include "graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct signals {
    const struct graph *graph;
    struct pool *pool;
    int *place; /* of the layer that each node of the graph is; -1: none */
    struct layer_signals *layers;
    int n;
    unsigned char *alive; /* a flag for each unit of the widest rectifier */
};

/* ---- what operators do to their inputs ------------------------------------------------------- */

/* Operators with a flat part. A rectifier's output is exactly 0 on it. The others saturate at and
 * beyond two values: 0.97 of the way from the middle to an end, where tanh has 1 - 0.97^2 = 6% of
 * its steepest slope; sigmoid(2x) = (1 + tanh(x)) / 2 puts its own at 0.015 and 0.985. */
static const struct flat {
    const char *op;
    bool rectifies;
    double low, high;
} flats[] = {
    {"relu", true, 0, 0},         {"relu6", true, 0, 0},
    {"hardswish", true, 0, 0},    {"sigmoid", false, 0.015, 0.985},
    {"tanh", false, -0.97, 0.97}, {"softsign", false, -0.97, 0.97},
    {"hardsigmoid", false, 0, 1},
};

static const struct flat *flat_find(const struct node *n)
{
    for (size_t i = 0; i < sizeof flats / sizeof *flats; i++)
        if (strcmp(flats[i].op, n->op->name) == 0)
            return &flats[i];
    return NULL;
}

/* ---- making one ------------------------------------------------------------------------------ */

static bool is_layer(const struct node *n)
{
    return n->name[0] && !(n->op->flags & (OP_LEAF | OP_LOSS | OP_INTERNAL)) &&
           n->dtype == DTYPE_REAL;
}

/* Channels of an image, else the numbers of one sample; 0 when there is no batch to look through.
 */
static int64_t unit_count(const struct node *n)
{
    if (!shape_batched(&n->shape))
        return 0;
    return n->shape.rank == 4 ? n->shape.dim[1] : n->size.sample;
}

static int64_t widest_rectifier(const struct graph *g)
{
    int64_t most = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct flat *f = flat_find(g->nodes[i]);
        if (f && f->rectifies && unit_count(g->nodes[i]) > most)
            most = unit_count(g->nodes[i]);
    }
    return most;
}

struct signals *signals_create(const struct graph *g, struct pool *pool, struct error *e)
{
    struct signals *s = calloc(1, sizeof *s);
    size_t nodes = (size_t)g->n_nodes + 1;
    if (s) {
        *s = (struct signals){.graph = g, .pool = pool};
        s->place = calloc(nodes, sizeof *s->place);
        s->layers = calloc(nodes, sizeof *s->layers);
        s->alive = malloc((size_t)widest_rectifier(g) + 1);
    }
    if (!s || !s->place || !s->layers || !s->alive) {
        signals_destroy(&s);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the signals of %d layers", g->n_nodes);
        return NULL;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        s->place[i] = is_layer(g->nodes[i]) ? s->n : -1;
        if (s->place[i] >= 0)
            s->layers[s->n++] =
                (struct layer_signals){g->nodes[i], NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0};
    }
    return s;
}

void signals_destroy(struct signals **s)
{
    if (!*s)
        return;
    free((*s)->place);
    free((*s)->layers);
    free((*s)->alive);
    free(*s);
    *s = NULL;
}

int signals_layers(const struct signals *s, const struct layer_signals **layers_r)
{
    *layers_r = s->layers;
    return s->n;
}

/* Nodes of a plan keep the place of what they are copied from as their key. */
int signals_place(const struct signals *s, const struct node *n)
{
    return n->op->flags & (OP_LEAF | OP_INTERNAL) ? -1 : s->place[n->key];
}

/* ---- activations ----------------------------------------------------------------------------- */

enum { CHUNKS = 256, GRAIN = 16384 };

struct moments {
    const real *x;
    int64_t grain;
    double low, high; /* saturated at and beyond these */
    struct moment {
        double mean, squares; /* squares: of the distances from the mean */
        int64_t n, saturated;
    } chunk[CHUNKS];
};

static void moments_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    struct moments *m = arg;
    struct moment c = {.n = end - begin};
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        double x = (double)m->x[i];
        c.mean += x;
        c.saturated += x <= m->low || x >= m->high;
    }
    c.mean /= (double)c.n;
    for (int64_t i = begin; i < end; i++)
        c.squares += ((double)m->x[i] - c.mean) * ((double)m->x[i] - c.mean);
    m->chunk[begin / m->grain] = c;
}

static void moment_join(struct moment *to, const struct moment *from)
{
    if (!from->n)
        return;
    double n = (double)(to->n + from->n), apart = from->mean - to->mean;
    to->squares += from->squares + apart * apart * (double)to->n * (double)from->n / n;
    to->mean += apart * (double)from->n / n;
    to->n += from->n;
    to->saturated += from->saturated;
}

static struct moment moments_of(struct pool *pool, const real *x, int64_t count, double low,
                                double high)
{
    int64_t grain = count / CHUNKS + 1;
    struct moments m = {.x = x, .grain = grain > GRAIN ? grain : GRAIN, .low = low, .high = high};
    struct moment all = {0};
    pool_for(pool, count, m.grain, moments_chunk, &m);
    for (int i = 0; i < CHUNKS; i++)
        moment_join(&all, &m.chunk[i]);
    return all;
}

/* Marks the units that have a number other than 0; `rows` of `units` neighbours, or, for images
 * that lie plain, of `units` runs of `inner` numbers each. */
static void mark_alive(unsigned char *alive, const real *x, int64_t rows, int64_t units,
                       int64_t inner)
{
    memset(alive, 0, (size_t)units);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t u = 0; u < units; u++)
            for (int64_t i = 0; i < inner; i++, x++)
                alive[u] |= *x != 0;
}

static void observe_dead(struct signals *s, struct layer_signals *l, const struct node *n,
                         const real *x, int64_t count)
{
    int64_t units = unit_count(n), alive = 0;
    if (!units || !count)
        return;
    int64_t inner =
        n->shape.rank == 4 && n->layout == LAYOUT_PLAIN ? n->shape.dim[2] * n->shape.dim[3] : 1;
    mark_alive(s->alive, x, count / (units * inner), units, inner);
    for (int64_t u = 0; u < units; u++)
        alive += s->alive[u];
    l->dead_share = (double)(units - alive) / (double)units;
    l->unit_numbers = count / units;
}

void signals_observe(void *arg, const struct node *n, const real *value, int64_t count)
{
    struct signals *s = arg;
    int at = signals_place(s, n);
    const struct flat *f = flat_find(n);
    if (at < 0 || !count)
        return;
    struct layer_signals *l = &s->layers[at];
    bool saturates = f && !f->rectifies;
    struct moment m = moments_of(s->pool, value, count, saturates ? f->low : -INFINITY,
                                 saturates ? f->high : INFINITY);
    l->activation_mean = m.mean;
    l->activation_std = sqrt(m.squares / (double)m.n);
    if (saturates)
        l->saturated_share = (double)m.saturated / (double)m.n;
    if (f && f->rectifies)
        observe_dead(s, l, n, value, count);
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* The norm over a layer's parameters of `x`, or of `x - y`; NaN when it has none that count. */
static double layer_norm_of(const struct node *n, bool trainable, const real *x, const real *y)
{
    double sum = 0;
    bool any = false;
    for (int k = n->n_data; k < n->n_in; k++) {
        const struct param *p = n->in[k] ? n->in[k]->param : NULL;
        if (!p || p->buffer || (trainable && p->frozen))
            continue;
        any = true;
        for (size_t i = p->offset; i < p->offset + p->count; i++) {
            double d = (double)x[i] - (y ? (double)y[i] : 0);
            sum += d * d;
        }
    }
    return any ? sqrt(sum) : NAN;
}

void signals_gradients(struct signals *s, const real *grads)
{
    for (int i = 0; i < s->n; i++)
        s->layers[i].gradient_norm = layer_norm_of(s->layers[i].layer, true, grads, NULL);
}

void signals_weights(struct signals *s, const real *params)
{
    for (int i = 0; i < s->n; i++)
        s->layers[i].weight_norm = layer_norm_of(s->layers[i].layer, false, params, NULL);
}

void signals_updates(struct signals *s, const real *params, const real *params_after)
{
    for (int i = 0; i < s->n; i++) {
        struct layer_signals *l = &s->layers[i];
        double change = layer_norm_of(l->layer, true, params_after, params);
        double norm = layer_norm_of(l->layer, false, params, NULL);
        l->update_ratio = norm > 0 ? change / norm : NAN;
    }
}
