/* norm.h: normalisation. norm_batch.c, norm_layer.c (also rms_norm) and norm_group.c hold the
 * arithmetic; ops_norm.c the attributes, shapes and rows. */
#ifndef BACKPROP_NORM_H
#define BACKPROP_NORM_H

#include "op.h"

struct batch_norm_attrs {
    double eps;
    double momentum; /* below 0: the running statistics are the mean of all batches */
    bool affine, track_running_stats;
};

struct layer_norm_attrs {
    struct int_list normalized_shape;
    double eps;
    bool elementwise_affine, bias;
};

struct group_norm_attrs {
    int64_t num_groups; /* 0: as many as channels */
    double eps, momentum;
    bool affine, track_running_stats; /* of instance_norm */
};

/* Parameters, by their place in the rows. */
enum { NORM_WEIGHT, NORM_BIAS, NORM_MEAN, NORM_VAR, NORM_BATCHES };

/* Columns of the rows. */
void batch_norm_memory(struct node *n);
void batch_norm_forward(const struct node *n, struct run *r);
void batch_norm_backward(const struct node *n, struct run *r);
void batch_norm_relu_forward(const struct node *n, struct run *r);
void batch_norm_relu_backward(const struct node *n, struct run *r);
void batch_norm_silu_forward(const struct node *n, struct run *r);
void batch_norm_silu_backward(const struct node *n, struct run *r);
void layer_norm_memory(struct node *n);
void layer_norm_forward(const struct node *n, struct run *r);
void layer_norm_backward(const struct node *n, struct run *r);
void rms_norm_forward(const struct node *n, struct run *r);
void rms_norm_backward(const struct node *n, struct run *r);
void group_norm_memory(struct node *n);
void group_norm_forward(const struct node *n, struct run *r);
void group_norm_backward(const struct node *n, struct run *r);

/* Numbers of parameter k in this run; NULL when the node has none. */
static inline const real *norm_param(const struct node *n, const struct run *r, int k)
{
    return node_param_in(n, k) ? run_in(r, n, n->n_data + k) : NULL;
}
/* Where its gradient goes; NULL when the node has none or nobody wants it. */
static inline real *norm_param_grad(const struct node *n, const struct run *r, int k)
{
    return node_param_in(n, k) ? run_grad_in(r, n, n->n_data + k) : NULL;
}

#endif
