/* backprop_graph.h: graphs: nodes, their parameters and how those begin. Part of backprop.h,
 * which says what these objects mean. */
#ifndef BACKPROP_PUBLIC_GRAPH_H
#define BACKPROP_PUBLIC_GRAPH_H

#include "backprop_values.h"

/* ---- graphs ---------------------------------------------------------------------------------- */

struct graph;
struct node;

struct graph *graph_create(struct error *e);
void graph_destroy(struct graph **g);

/* Leaves. `name` is copied. A constant's `data` (count by its shape) is copied. */
struct node *graph_input(struct graph *g, const char *name, enum dtype dtype,
                         const struct shape *shape, struct error *e);
struct node *graph_constant(struct graph *g, const struct shape *shape, const real *data,
                            struct error *e);

/* Adds an operator of this name. Inputs are the data inputs and, where a caller brings its own, the
 * operator's parameters after them; parameters that are not brought become leaves of the graph,
 * named `name`.weight and so on. `name` NULL: the node has no name and its leaves none to show.
 * NULL and UNKNOWN_OPERATOR, BAD_ATTRIBUTE, BAD_SHAPE, BAD_DTYPE, BAD_GRAPH, TOO_LARGE. */
struct node *graph_add(struct graph *g, const char *op, const char *name,
                       struct node *const *inputs, int n_inputs, const struct attr *attrs,
                       int n_attrs, struct error *e);

const char *node_name(const struct node *n); /* "" when it has none */
const char *node_op(const struct node *n);
const struct shape *node_shape(const struct node *n);
enum dtype node_dtype(const struct node *n);
double node_flops(const struct node *n); /* of one forward of one sample */
int64_t node_param_count(const struct node *n);
int node_input_count(const struct node *n); /* data inputs, without parameters */
struct node *node_input(const struct node *n, int i);
bool node_is_loss(const struct node *n);
/* Whether its numbers are indices, which are kept as reals but are whole: argmax, and what is the
 * same in another shape. */
bool node_is_indices(const struct node *n);
/* An attribute of the node's that is a whole number, or true (1) or false (0), by its name; false:
 * it has none. */
bool node_attr_int(const struct node *n, const char *name, int64_t *value_r);
/* Whether what it makes of a sample depends on the others of the batch: batch norm, in training or
 * when it has no running statistics, and what has lost the batch on its way (a mean over dimension
 * 0). All other operators keep the batch as dimension 0, and its samples apart. */
bool node_mixes_samples(const struct node *n, bool training);
/* A parameter's row (along dimension 0) whose gradient is 0 by design, whatever the loss makes of
 * it: an embedding's padding_idx. -1: none. */
int64_t graph_param_untrained_row(const struct graph *g, int i);
/* Whether its backward holds constant what its forward computes (torch's detach): its gradient is
 * then, by design, not that of its value. */
bool node_detaches(const struct node *n);

/* The dtype and shape of the target that a loss wants for a prediction of this shape. */
int loss_target(const char *op, const struct shape *prediction, enum dtype *dtype_r,
                struct shape *shape_r, struct error *e);

/* What a detector's loss says of the maps that it takes as its first inputs (detection.h). */
enum { DETECTION_MAX_LEVELS = 8 };
struct detection_spec {
    int n_maps;
    int64_t stride[DETECTION_MAX_LEVELS]; /* pixels a cell */
    int64_t reg_max, classes;
    int64_t width, height; /* of the network's image, pixels */
};
/* False when `n` is not the loss of a detector. Its last input is the target: [N, max_boxes, 5],
 * rows (class, cx, cy, w, h) normalised by the image, padded with class -1. */
bool node_detection(const struct node *n, struct detection_spec *spec_r);

/* Puts it into a block, from 1 on, whose inner values training does not keep for backward, which
 * computes them again: less memory, more time, the same bits. 0: into none. plan_recompute.c */
void node_set_block(struct node *n, int block);

int graph_node_count(const struct graph *g);
struct node *graph_node(const struct graph *g, int i);

/* The parameters and buffers in the order of their declaration, which is PyTorch's. */
struct param {
    const char *name; /* "conv1.weight" */
    struct shape shape;
    size_t offset, count; /* in elements, in the block of parameters or of buffers */
    bool buffer, frozen;
    int group; /* of the network's groups, from 1 on; 0: the optimiser itself */
    const struct init_def *init;
    const void *init_attrs; /* of init's; NULL: the fallbacks */
    int64_t fan_in, fan_out;
    struct node *leaf;
};
int graph_param_count(const struct graph *g);
struct param *graph_param(const struct graph *g, int i);
size_t graph_params_size(const struct graph *g);  /* elements of the block of parameters */
size_t graph_buffers_size(const struct graph *g); /* elements of the block of buffers */

/* Fills both blocks with each parameter's initialiser, from counter-based random numbers keyed by
 * (seed, place of the parameter). */
void graph_init(const struct graph *g, uint64_t seed, real *params, real *buffers);

/* Gives parameter i another initialiser than its operator does, by name ("normal") and attributes
 * (torch.nn.init). UNKNOWN_OPERATOR, BAD_ATTRIBUTE. */
int graph_set_init(struct graph *g, int i, const char *name, const struct attr *attrs, int n,
                   struct error *e);

#endif
