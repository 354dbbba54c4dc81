/* trainer.h: a described network and all that steps of it need, for tests and benchmarks of the
 * engine without a daemon. Data are random, with fixed bits for a seed. Not for threads. */
#ifndef TESTS_TRAINER_H
#define TESTS_TRAINER_H

#include "backprop.h"

struct trainer {
    struct network *net;
    struct pool *pool;
    struct plan *plan; /* training, with gradients of all parameters */
    struct run *run;
    struct generation *now, *next;
    real *grads;                              /* block of parameters */
    void *data[2 * NETWORK_MAX_IO];           /* of each input leaf, then of each target leaf */
    const void *pointers[2 * NETWORK_MAX_IO]; /* the same, as run_args wants them */
    int64_t batch;
    double lr;
    uint64_t draw;
};

/* `description` is the JSON of a network with a loss. -1 and the error of the engine; call
 * trainer_close also then. */
int trainer_open(struct trainer *t, const char *description, int64_t batch, int threads,
                 struct error *e);
void trainer_close(struct trainer *t);

/* Forward and backward of the batch into `grads` and the buffers of `next`. */
int trainer_gradients(struct trainer *t, struct error *e);
/* The same, then the optimiser's step; `now` is then the new state. */
int trainer_step(struct trainer *t, struct error *e);

/* Random numbers for the inputs and targets of `net`, for `count` samples: `data_r` is filled with
 * blocks to free, inputs first. -1: out of memory. */
int trainer_data(const struct network *net, int64_t count, void **data_r);

#endif
