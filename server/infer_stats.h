/* infer_stats.h: what predictions of a model took since the daemon began, as pairs of a count and
 * nanoseconds that only grow, which is what the statistics extension of the Open Inference Protocol
 * shows. Any thread; no locks: a reader may see one number of a request before another. */
#ifndef BACKPROPD_INFER_STATS_H
#define BACKPROPD_INFER_STATS_H

#include <stdint.h>

struct infer_pair {
    uint64_t count, ns;
};
enum { INFER_MAX_BATCH = 64 }; /* samples that are run at once, at most */

/* Of the runs of one number of samples; input and output are of the requests in them. */
struct infer_batch {
    struct infer_pair infer;
    uint64_t input_ns, output_ns;
};
struct infer_stats {
    struct infer_pair success, fail; /* requests, from their arrival at the workers on */
    struct infer_pair queue;         /* waiting, for a worker or for the others of the batch; */
    struct infer_pair input, infer, output; /* reading tensors; computing; writing the answer; */
    uint64_t samples;                       /* these five of successes */
    uint64_t last_ms;                       /* Unix time of the last request; 0: none yet */
    struct infer_batch batches[INFER_MAX_BATCH + 1]; /* by samples */
};

/* One request: moments of infer_stats_now. */
struct infer_times {
    double queue_seconds;
    uint64_t taken;           /* when a worker came */
    uint64_t begin, read;     /* of reading its tensors */
    uint64_t start, computed; /* of the run that it was part of; 0: it did not get there */
    uint64_t write;           /* when its answer was begun */
    int64_t samples, run;     /* its own; of the last run that it was in */
};

uint64_t infer_stats_now(void); /* nanoseconds, monotonic */
/* After a run of so many samples. */
void infer_stats_run(struct infer_stats *s, int64_t samples, uint64_t ns);
/* Runs so far. */
uint64_t infer_stats_runs(const struct infer_stats *s);
/* When its answer is written. */
void infer_stats_add(struct infer_stats *s, const struct infer_times *t, int status);

#endif
