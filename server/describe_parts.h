/* describe_parts.h: what the parts of a description share while it is read: one struct that holds
 * the network as it grows and the expanded description beside it. Each part reads its own fields,
 * adds to the network and writes the expanded fields. */
#ifndef SERVER_DESCRIBE_PARTS_H
#define SERVER_DESCRIBE_PARTS_H

#include "describe_fields.h"

struct layer {
    const char *name, *op;
    const json_t *given;
    int *inputs; /* layers by their place; inputs of the network as ~place */
    int n_inputs;
    struct attr *attrs;
    int n_attrs;
    int block;           /* of layers that are computed again; 0: none */
    bool built, entered; /* entered: on the path of the search for an order */
    struct node *node;
};

struct describe {
    const json_t *given;
    json_t *written; /* by a template, NULL: none; then it is what is given */
    json_t *expanded;
    struct network *net;
    struct arena *scratch; /* for the time of reading */
    json_t *names;         /* of inputs and layers, to their place as in layer.inputs */
    json_t *blocks;        /* names of blocks that are computed again, to their numbers */
    struct layer *layers;
    int n_layers;
    struct error *e;
};

/* A tensor of a description: an item of `inputs` or `targets`. */
struct tensor_spec {
    const char *name;
    bool has_dtype, has_shape;
    enum dtype dtype;
    struct shape shape; /* with BATCH first */
};

/* Reads item i of the list `field`; `name` when it has none. describe_inputs.c */
int describe_tensor(struct describe *d, const json_t *item, const char *place, const char *name,
                    struct tensor_spec *spec_r);
/* Appends it to the list `field` of the expanded description. */
int describe_put_tensor(struct describe *d, const char *field, const struct tensor_spec *spec);

int describe_inputs(struct describe *d);     /* describe_inputs.c */
int describe_preprocess(struct describe *d); /* describe_preprocess.c: encoded images */
int describe_layers(struct describe *d);     /* describe_layers.c: reads and checks */
int describe_build(struct describe *d);      /* describe_build.c: orders and adds to the graph */
/* Gives parameters of a layer that was just built the initialisers of its field `init`.
 * describe_init.c */
int describe_init(struct describe *d, const struct layer *l, const char *place);
int describe_outputs(struct describe *d); /* describe_outputs.c */
int describe_losses(struct describe *d);  /* describe_losses.c: targets and losses */
/* The probabilities of outputs[0], which a loss of this name judges; adds none for a loss that is
 * not a classifier's. describe_outputs.c */
int describe_probabilities(struct describe *d, const char *loss);
int describe_augment(struct describe *d);       /* describe_augment.c: before the losses, */
int describe_augment_check(struct describe *d); /* and whether it fits, after them */
int describe_optimizer(struct describe *d);     /* describe_training.c: and schedule */
/* The groups of the optimiser, which is there, and frozen parameters. describe_globs.c */
int describe_groups(struct describe *d, const json_t *optimizer);
int describe_frozen(struct describe *d);
int describe_settings(struct describe *d); /* describe_training.c: clipping, seed, labels... */
int describe_batching(struct describe *d); /* describe_batching.c: of predictions */

/* The list of the expanded description that is called `field`, made when it is not there. NULL:
 * out of memory. */
json_t *describe_list(struct describe *d, const char *field);

/* Place of a layer that is called `name`; UNKNOWN names end in BAD_GRAPH with the nearest one.
 * Inputs are found too when `place_r` may become negative. describe_layers.c */
int describe_find(struct describe *d, const char *name, const char *place, bool or_input,
                  int *place_r);

int describe_no_memory(struct describe *d); /* sets OUT_OF_MEMORY; -1 */

#endif
