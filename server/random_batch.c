/* random_batch.c: data that a network takes, though they mean nothing. */
#include "random_batch.h"

#include <stdio.h>
#include <string.h>

enum { BOX_NUMBERS = 5 }; /* class, cx, cy, w, h */

static struct node *leaf_at(const struct network *net, int place)
{
    return place < net->n_inputs ? net->inputs[place] : net->targets[place - net->n_inputs];
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The finaliser of SplitMix64 over a counter. */
static uint64_t random_word(uint64_t seed, uint64_t i)
{
    uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15u + i * 0xD1B54A32D192ED03u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* In [0, 1). */
static double random_share(uint64_t seed, uint64_t i)
{
    return (double)(random_word(seed, i) >> 11) * 0x1p-53;
}

/* About normal: mean 0, deviation 1. */
static double random_bell(uint64_t seed, uint64_t i)
{
    double sum = 0;
    for (uint64_t k = 0; k < 3; k++)
        sum += random_share(seed, 3 * i + k);
    return 2 * sum - 3;
}

/* ---- what a leaf takes ----------------------------------------------------------------------- */

/* Rows of the table that an input of tokens is looked up in; 1 when there is none. */
static int64_t token_count(const struct graph *g, const struct node *leaf)
{
    char weight[256];
    for (int i = 0; i < graph_node_count(g); i++) {
        const struct node *n = graph_node(g, i);
        if (node_input_count(n) < 1 || node_input(n, 0) != leaf || node_param_count(n) == 0)
            continue;
        snprintf(weight, sizeof weight, "%s.weight", node_name(n));
        for (int k = 0; k < graph_param_count(g); k++)
            if (strcmp(graph_param(g, k)->name, weight) == 0)
                return graph_param(g, k)->shape.dim[0];
    }
    return 1;
}

/* The loss that compares with this target; NULL: none. */
static const struct node *loss_of(const struct network *net, const struct node *target)
{
    for (int i = 0; i < net->n_losses; i++)
        for (int k = 0; k < node_input_count(net->losses[i]); k++)
            if (node_input(net->losses[i], k) == target)
                return net->losses[i];
    return NULL;
}

/* Classes are dimension 1 of what is predicted, when the target is its shape without that. */
static int64_t class_count(const struct node *loss, const struct node *target)
{
    if (!loss)
        return 1;
    const struct shape *p = node_shape(node_input(loss, 0));
    return p->rank == node_shape(target)->rank + 1 ? p->dim[1] : 1;
}

static void fill_whole(int64_t *out, int64_t count, int64_t below, int64_t least, uint64_t seed)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = least + (int64_t)(random_share(seed, (uint64_t)i) * (double)(below - least));
}

/* Boxes that lie within the image. */
static void fill_boxes(real *out, int64_t rows, int64_t classes, uint64_t seed)
{
    for (int64_t i = 0; i < rows * BOX_NUMBERS; i++) {
        const double share = random_share(seed, (uint64_t)i);
        const int64_t column = i % BOX_NUMBERS;
        out[i] = (real)(column == 0  ? (double)(int64_t)(share * (double)classes)
                        : column < 3 ? 0.3 + 0.4 * share
                                     : 0.1 + 0.4 * share);
    }
}

static void fill_target(const struct network *net, const struct node *leaf, int64_t count,
                        uint64_t seed, void *out)
{
    struct detection_spec spec;
    const struct node *loss = loss_of(net, leaf);
    real *numbers = out;
    if (node_dtype(leaf) == DTYPE_INT64) {
        const int64_t classes = class_count(loss, leaf);
        fill_whole(out, count, classes > 1 ? classes : 2, classes > 1 ? 0 : 1, seed);
    } else if (loss && node_detection(loss, &spec)) {
        fill_boxes(out, count / BOX_NUMBERS, spec.classes, seed);
    } else {
        for (int64_t i = 0; i < count; i++)
            numbers[i] = (real)random_share(seed, (uint64_t)i);
    }
}

/* ---- the two calls --------------------------------------------------------------------------- */

int random_leaf_bytes(const struct network *net, int place, int64_t n, size_t *bytes_r,
                      struct error *e)
{
    const struct node *leaf = leaf_at(net, place);
    int64_t count;
    if (!shape_count(node_shape(leaf), n, &count))
        return error_set(e, ERROR_TOO_LARGE, "'%.60s': a batch of %lld is too large",
                         node_name(leaf), (long long)n);
    *bytes_r = (size_t)count * dtype_size(node_dtype(leaf));
    return 0;
}

void random_leaf_fill(const struct network *net, int place, int64_t n, uint64_t seed, void *out)
{
    const struct node *leaf = leaf_at(net, place);
    int64_t count = 0;
    seed = seed * (2 * NETWORK_MAX_IO) + (uint64_t)place;
    shape_count(node_shape(leaf), n, &count);
    if (place >= net->n_inputs)
        fill_target(net, leaf, count, seed, out);
    else if (node_dtype(leaf) == DTYPE_INT64)
        fill_whole(out, count, token_count(net->graph, leaf), 0, seed);
    else
        for (int64_t i = 0; i < count; i++)
            ((real *)out)[i] = (real)random_bell(seed, (uint64_t)i);
}
