/* trainer.h: a described network and all that its steps or predictions need, for tests and
 * benchmarks of the engine without a daemon. Data are random, with fixed bits. Not for threads. */
#ifndef BACKPROPD_TRAINER_H
#define BACKPROPD_TRAINER_H

#include "backprop.h"

struct trainer {
    struct network *net;
    struct pool *pool;
    struct plan *plan; /* training with gradients of all parameters; or inference */
    struct run *run;
    struct prepared *prepared;      /* inference: packed weights of `now`; NULL: there are none */
    struct generation *now, *next;  /* inference: no next */
    real *grads;                    /* block of parameters; inference: NULL */
    void *data[2 * NETWORK_MAX_IO]; /* of each input leaf, then of each target leaf */
    const void *pointers[2 * NETWORK_MAX_IO]; /* the same, as run_args wants them */
    int64_t batch;
    double lr[NETWORK_MAX_GROUPS + 1];
    uint64_t draw;
    struct profile *profile; /* the caller's, for the runs to come; NULL: nothing is timed */
};

/* `description` is the JSON of a network with a loss. -1 and the error of the engine; call
 * trainer_close also then. */
int trainer_open(struct trainer *t, const char *description, int64_t batch, int threads,
                 struct error *e);
/* The same for predictions; a loss is not needed. */
int trainer_open_inference(struct trainer *t, const char *description, int64_t batch, int threads,
                           struct error *e);
void trainer_close(struct trainer *t);

/* Forward and backward of the batch into `grads` and the buffers of `next`. */
int trainer_gradients(struct trainer *t, struct error *e);
/* The optimiser's step with those; `now` is then the new state. */
int trainer_apply(struct trainer *t, struct error *e);
/* Both. */
int trainer_step(struct trainer *t, struct error *e);

/* One prediction of the batch; the outputs are in the run. */
int trainer_infer(struct trainer *t, struct error *e);

#endif
