/* bench.h: `backpropd bench`: training steps and predictions of some known networks on random data,
 * without a daemon: how fast this machine is. bench_nets.c has the networks. */
#ifndef BACKPROPD_BENCH_H
#define BACKPROPD_BENCH_H

#include "error.h"

#include <stdint.h>
#include <stdio.h>

struct bench_net {
    const char *name, *doc;
    int64_t batch; /* of its training */
    const char *description;
};
extern const struct bench_net bench_nets[]; /* ends with name NULL */

/* The words after "bench", which end with NULL; results go to `out`. BAD_VALUE when the words
 * cannot be used. */
int bench_command(char **argv, FILE *out, struct error *e);

/* The part of bash's completion (config_completion.c) that offers its flags. */
void bench_print_completion(FILE *out);
extern const char bench_forms[]; /* all that it takes, for errors and --help */

#endif
