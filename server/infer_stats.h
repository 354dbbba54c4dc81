/* infer_stats.h: what predictions of a model took since the daemon began, as pairs of a count and
 * nanoseconds that only grow, which is what the statistics extension of the Open Inference Protocol
 * shows. Any thread; no locks: a reader may see one number of a request before another. */
#ifndef BACKPROPD_INFER_STATS_H
#define BACKPROPD_INFER_STATS_H

#include <stdint.h>

struct infer_pair {
    uint64_t count, ns;
};
struct infer_stats {
    struct infer_pair success, fail;        /* requests, from their arrival at the workers on */
    struct infer_pair queue;                /* waiting for a worker; these four of successes */
    struct infer_pair input, infer, output; /* reading tensors; computing; writing the answer */
    uint64_t samples;
    uint64_t last_ms; /* Unix time of the last request; 0: none yet */
};

/* One request: moments of infer_stats_now. */
struct infer_times {
    double queue_seconds;
    uint64_t begin, read, computed; /* 0: it did not get there */
    int64_t samples;
};

uint64_t infer_stats_now(void); /* nanoseconds, monotonic */
/* When its answer is written. */
void infer_stats_add(struct infer_stats *s, const struct infer_times *t, int status);

#endif
