/* program.h: a network with the plans that were compiled for it. Plans and idle runs are kept for
 * the next request of the same kind, the least recently used plan is dropped when there are too
 * many, and every arena is counted in the budget. A program is immutable for its users: when the
 * settings of a model change, the model gets another one. Reference-counted. Any thread. */
#ifndef BACKPROPD_PROGRAM_H
#define BACKPROPD_PROGRAM_H

#include "budget.h"

/* What a plan is for. Two requests with equal uses share a plan. */
struct program_use {
    bool training;    /* batch statistics, dropout */
    bool loss;        /* computes the loss: needs targets */
    bool params_wrt;  /* gradients of the parameters */
    bool inputs_wrt;  /* gradients of the real inputs */
    bool apart;       /* each operator in a pass of its own, for run_args.observe: the same bits */
    unsigned outputs; /* bit i: network.outputs[i]; OUTPUT_ of the others */
    int64_t n;        /* batch: rounded up to a capacity */
    /* Gradients of these nodes too, behind those of the inputs. A plan with some is made for one
     * lease and not kept. */
    struct node *const *layers;
    int n_layers;
};
enum {
    OUTPUT_PROBABILITIES = 1 << (NETWORK_MAX_IO),
    OUTPUT_PREDICTIONS = 1 << (NETWORK_MAX_IO + 1), /* what the first loss compares with a target */
};

struct program;

/* Owns the network from now on, also when it fails. `budget` must outlive it. */
struct program *program_create(struct network *net, struct budget *budget, int threads,
                               struct error *e);
struct program *program_ref(struct program *p);
void program_unref(struct program **p);
const struct network *program_network(const struct program *p);

/* A run that nobody else uses until it is released. */
struct program_lease {
    struct program *program; /* held */
    struct run *run;
    void *entry;
};
int program_acquire(struct program *p, const struct program_use *use, struct program_lease *l_r,
                    struct error *e);
void program_release(struct program_lease *l);

/* The block for what runs make of this generation's parameters, counted in the budget; NULL: none.
 * A generation gets one with its second prediction: one that is soon followed by the next is not
 * worth it. The caller holds both. */
struct prepared *program_prepared(const struct program_lease *l, struct generation *g);

/* Place of an output among run_output(): the bits of `outputs` below it. */
int program_output_place(unsigned outputs, unsigned bit);

/* Elements of one sample of each of those outputs, 0 of one that is not batched; their number. Room
 * for NETWORK_MAX_IO + 2. */
int program_output_rows(const struct program *p, unsigned outputs, int64_t *row_r);

/* Bytes that one run for this use takes. */
int program_bytes(struct program *p, const struct program_use *use, size_t *bytes_r,
                  struct error *e);

/* Calls f for each step of a plan for this use. */
typedef void program_step_fn(void *arg, const struct plan_step *step);
int program_steps(struct program *p, const struct program_use *use, program_step_fn *f, void *arg,
                  struct error *e);

/* The largest batch that inference runs at once; larger ones are cut. INT64_MAX: a sample's numbers
 * depend on the others of its request, which is never cut nor joined with another. */
int64_t program_slice(const struct program *p);

/* What a forward of one sample costs, whatever its use: floating-point operations, and elements of
 * everything that is computed of the sample. */
struct program_cost {
    double flops, elements;
};
struct program_cost program_cost(const struct program *p);

/* Frees the runs that nobody uses. */
void program_reclaim(struct program *p);

#endif
