/* api_gradients.h: what is asked of gradients, between the file that reads it (api_gradients.c) and
 * the one that writes the answer (api_gradients_reply.c). */
#ifndef BACKPROPD_API_GRADIENTS_H
#define BACKPROPD_API_GRADIENTS_H

#include "api.h"
#include "histogram.h"

struct question {
    bool values, training, binary;
    const json_t *wrt; /* NULL: the parameters */
    bool inputs;       /* one of the inputs' gradients is wanted */
    struct node **layers;
    int n_layers;    /* whose values' gradients are wanted */
    bool signals;    /* and diagnosis */
    int bins;        /* of histograms; 0: none */
    bool per_sample; /* norms */
};

/* Whether `name` is among what wrt names: itself, a glob, or the group that it belongs to. */
bool question_wants(const struct question *x, const char *group, const char *name);

/* What was found out for it. */
struct gradients_found {
    struct step_result result;
    const real *grads;                   /* block */
    const struct signals *signals;       /* NULL: not asked for */
    struct histogram *const *histograms; /* of each layer's activations, NULL where none was seen;
                                            NULL: not asked for */
    const double *sample_norms;          /* [samples]; NULL: not asked for */
};
int api_gradients_reply(struct request *q, const struct question *x, const struct snapshot *s,
                        const struct program_lease *l, const struct gradients_found *found);

#endif
