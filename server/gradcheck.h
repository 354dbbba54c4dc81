/* gradcheck.h: a model's analytic gradients against central differences, in double precision. This
 * header is the boundary between the two builds of the engine: gradcheck_double.c includes the
 * engine in double, its callers in float, so nothing here is made of `real` or of the engine's
 * objects. */
#ifndef BACKPROPD_GRADCHECK_H
#define BACKPROPD_GRADCHECK_H

#include "error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gradcheck_question {
    const json_t *description;
    const float *params, *buffers; /* blocks of a generation */
    const void *const *data; /* of each input, then target: float or int64_t, as the network */
    int64_t n;               /* samples */
    uint64_t draw;           /* keys the random numbers, which are the same in every forward */
    bool training;           /* batch statistics and dropout; else as in evaluation */
    /* Whether a parameter is to be checked. */
    bool (*wanted)(void *arg, const char *name);
    /* Counts bytes before they are allocated; the caller gives them back afterwards. */
    int (*take)(void *arg, size_t bytes, struct error *e);
    void *arg;
    bool (*gone)(void *arg); /* nobody waits any more: ends the check; NULL: not asked */
    void *gone_arg;
    int64_t count;    /* elements of each parameter, spread over it; all when it has no more */
    uint64_t seed;    /* of which */
    double eps;       /* the step is eps * max(1, |element|) */
    double tolerance; /* of the difference, relative to the larger of the two */
};

/* An element's two derivatives. */
struct gradcheck_pair {
    int64_t index; /* in the flat parameter; -1: there is none */
    double analytic, numeric;
    double error; /* relative: what is compared with the tolerance */
};

struct gradcheck_row { /* of one parameter */
    const char *name;
    const int64_t *dim;
    int rank;
    int64_t checked, agreed, kinks, disagreed;
    int64_t padding;             /* elements of an embedding's padding row, which are not checked */
    struct gradcheck_pair worst; /* of those that disagree, else of those that agree */
};
typedef void gradcheck_fn(void *arg, const struct gradcheck_row *row);

struct gradcheck_result {
    double loss;
    int64_t checked, agreed, kinks, disagreed, padding;
    const char *detaches; /* an operator whose backward holds constant what forward computes, so
                             that its gradient is not that of the value, by design; NULL: none */
};

/* Once, before there are other threads: chooses the double engine's kernels. */
void gradcheck_start(void);

/* Calls f for each wanted parameter that is not frozen, in their order. Any thread, several at
 * once. The strings of the result are static. NOT_FINITE, TOO_LARGE, OUT_OF_MEMORY, CLIENT_GONE,
 * and what the batch is refused for. */
int gradcheck_run(const struct gradcheck_question *q, gradcheck_fn *f, void *arg,
                  struct gradcheck_result *r, struct error *e);

#endif
