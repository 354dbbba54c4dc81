/* bench_words.h: what the command line of `backpropd bench` asks for. */
#ifndef BACKPROPD_BENCH_WORDS_H
#define BACKPROPD_BENCH_WORDS_H

#include "error.h"

#include <stdbool.h>
#include <stdint.h>

struct bench_words {
    const char *nets; /* names with commas; NULL: all */
    const char *mode; /* "train", "infer"; NULL: both */
    int64_t batch;    /* 0: the net's own to train, 1 and 32 to predict */
    int64_t threads;  /* 0: as many as there are cores */
    double seconds;   /* of each measurement */
    bool profile, json;
    const char *describe; /* a net: print its description and be done; NULL */
};

/* BAD_VALUE. The strings are argv's. */
int bench_words_read(struct bench_words *w_r, char **argv, struct error *e);

/* Whether a list of names with commas has this one; all names for NULL. */
bool bench_words_have(const char *list, const char *name);

#endif
