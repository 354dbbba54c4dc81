/* backprop_train.h: networks, their steps, and what those say of each layer. Part of backprop.h,
 * which says what these objects mean. */
#ifndef BACKPROP_PUBLIC_TRAIN_H
#define BACKPROP_PUBLIC_TRAIN_H

#include "backprop_augment.h"

/* ---- networks and their steps ---------------------------------------------------------------- */

struct network {
    struct graph *graph;
    int n_inputs, n_targets, n_outputs;
    struct node *inputs[NETWORK_MAX_IO], *targets[NETWORK_MAX_IO];
    struct node *outputs[NETWORK_MAX_IO];     /* then, without a place in n_outputs: */
    struct node *probabilities;               /* of outputs[0], or NULL */
    const char *output_names[NETWORK_MAX_IO]; /* the names that clients use */
    struct node *loss;                        /* the scalar that is minimised; NULL: cannot train */
    int n_losses;                             /* the weighted parts of it */
    struct node *losses[NETWORK_MAX_IO];
    struct optimizer *optimizer; /* NULL: cannot train */
    int n_groups;                /* parameters with an optimiser of their own: the same */
    struct optimizer *groups[NETWORK_MAX_GROUPS]; /* row and slots, other attributes */
    struct schedule *schedule;                    /* NULL: constant */
    double clip_grad_norm, clip_grad_value;       /* 0: off */
    double ema_decay;        /* of the moving average of the parameters; 0: none is kept */
    struct augment *augment; /* of training batches; NULL: none */
    unsigned index_targets;  /* bit i: targets[i] is probabilities [N, C] for cross_entropy: class
                                indices can stand for them */
    uint64_t seed;
    struct arena *arena; /* holds the names, and this struct */
};
void network_destroy(struct network **net);
/* The first layer whose numbers for a sample depend on the others of the batch
 * (node_mixes_samples); the losses are not asked. NULL: none, samples are independent. */
const struct node *network_mixing_layer(const struct network *net, bool training);

/* One block: parameters, buffers, the optimiser's slots, then the moving average of the parameters.
 * Reference-counted; the counts may be changed from any thread. `optimizer_step` counts the steps
 * that the slots have seen; those of a parameter have seen missed[place in graph_param] fewer, for
 * which it was frozen (torch's optimisers count for each parameter, too). */
struct generation {
    real *params, *buffers, *slots;
    real *averages; /* NULL: none are kept */
    struct schedule_state schedule;
    struct generation *base; /* whose blocks these are; NULL: its own */
    uint64_t optimizer_step;
    uint64_t *missed; /* [graph_param_count] */
    size_t bytes;
    int refs;                  /* atomic */
    int predictions;           /* atomic; of those who care to count */
    struct prepared *prepared; /* atomic; NULL: none yet */
};
struct generation *generation_create(const struct network *net, struct error *e); /* refs 1 */
struct generation *generation_ref(struct generation *g);
void generation_unref(struct generation **g); /* frees the last */
/* Its block, NULL when it has none. Any thread that holds a reference. */
struct prepared *generation_prepared(struct generation *g);
/* Gives it `*b`; when it has one meanwhile, `*b` is destroyed. Any thread that holds a reference.
 */
void generation_prepare(struct generation *g, struct prepared **b);
/* Before its numbers are written anew: nobody else holds it. */
void generation_forget(struct generation *g);
size_t generation_bytes(const struct network *net);
/* How many steps its slots have seen becomes that of `from`; NULL: none. */
void generation_take_steps(const struct network *net, struct generation *to,
                           const struct generation *from);
/* Whether a parameter has missed steps. */
bool generation_missed_any(const struct network *net, const struct generation *g);
/* The same with the averages for parameters; it holds `g`, which must have averages. */
struct generation *generation_averaged(struct generation *g, struct error *e);
/* The averages begin anew: with the parameters. To call where parameters come from elsewhere than
 * from a step. */
void generation_averages_reset(const struct network *net, struct generation *g);

/* Euclidean norm of the block of gradients (clip_grad_norm_ of PyTorch, before clipping; those of
 * frozen parameters are zero). Not finite when one of them is not. */
double gradients_norm(const struct network *net, struct pool *pool, const real *grads);

/* The learning rates of the step after `step` steps, from this generation: lr_r[0] is the
 * optimiser's, lr_r[1 + i] that of group i, each by the schedule. `asked`, unless it is NaN, is
 * that of the optimiser in their place; the groups keep their proportion to it. */
void network_rates(const struct network *net, const struct generation *from, double asked,
                   uint64_t step, double *lr_r);

/* Clips `grads` in place as the network says, then writes the parameters, slots and averages of
 * `to` from those of `from`, with the rates lr[1 + groups]; buffers are the caller's. An average
 * goes from the initial values towards the parameters by 1 - ema_decay of the way at each step
 * (timm's ModelEmaV2); buffers are not averaged (torch's AveragedModel). -1 and NOT_FINITE, naming
 * the parameter, when a new value is not finite: `from` is as it was, `to` is rubbish. */
int network_apply(const struct network *net, struct pool *pool, const struct generation *from,
                  real *grads, double grad_norm, const double *lr, struct generation *to,
                  struct error *e);

/* dst += src over the block of parameters. */
void gradients_add(const struct network *net, struct pool *pool, real *dst, const real *src);

/* ---- signals: what a step's numbers say of each layer ---------------------------------------- */

/* Of one layer. NaN: does not apply to it, or was not seen. */
struct layer_signals {
    const struct node *layer;
    double gradient_norm;   /* Euclidean, of all its trainable parameters, before clipping */
    double weight_norm;     /* of all its parameters */
    double update_ratio;    /* norm of the change of its parameters over weight_norm */
    double activation_mean; /* of its output's numbers, and their population's standard deviation */
    double activation_std;
    double dead_share;      /* rectifiers: share of units that were 0 throughout the batch. A unit
                               is a channel of an image, else one number of a sample's output */
    double saturated_share; /* sigmoid, tanh and the like: share of outputs within 1.5% of the range
                               from either end, where the slope is below 6% of the steepest */
    int64_t unit_numbers;   /* how many numbers of each unit dead_share has seen */
};

/* The named layers of a graph in its order, all NaN at first. One thread at a time. The graph must
 * outlive it. NULL: OUT_OF_MEMORY. */
struct signals;
struct signals *signals_create(const struct graph *g, struct pool *pool, struct error *e);
void signals_destroy(struct signals **s);
int signals_layers(const struct signals *s, const struct layer_signals **layers_r); /* how many */
/* The place of the layer that a node of a plan stands for; -1: none. */
int signals_place(const struct signals *s, const struct node *n);
/* A run_observe_fn, with `signals` its arg: the activations. */
run_observe_fn signals_observe;
/* The gradients (a block as run_args.grads), the parameters, and what a step made of them. */
void signals_gradients(struct signals *s, const real *grads);
void signals_weights(struct signals *s, const real *params);
void signals_updates(struct signals *s, const real *params, const real *params_after);

#endif
