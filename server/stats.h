/* stats.h: counters of requests, by route. They only grow, from the start of the daemon, and take
 * no lock: a reader may see one of a request's counters before another. */
#ifndef BACKPROPD_STATS_H
#define BACKPROPD_STATS_H

#include "error.h"

#include <stdint.h>

struct request;
struct route;
struct stats;

enum { STATS_BUCKETS = 16, STATS_MIN_STATUS = 100, STATS_STATUSES = 500 };

/* Upper bounds, in seconds, without the last one, which is infinity. */
extern const double stats_bounds[STATS_BUCKETS];

struct histogram {
    uint64_t buckets[STATS_BUCKETS + 1]; /* of each alone, not added up */
    uint64_t nanoseconds;                /* the sum of all */
};

struct route_stats {
    const struct route *route;         /* NULL: no such path */
    uint64_t statuses[STATS_STATUSES]; /* answers by status, from STATS_MIN_STATUS */
    struct histogram duration;         /* from the first line to the answer being out */
    struct histogram queue;            /* waiting for a worker */
};

struct stats {
    uint64_t bytes_in, bytes_out; /* bodies of requests and answers */
    int n;
    struct route_stats routes[]; /* one for each row of the table, and one for no such path */
};

struct stats *stats_create(const struct route *routes, struct error *e);
void stats_destroy(struct stats **s);

/* server.observe. Any thread. */
void stats_observe(const struct request *q, int status, double seconds);

/* A counter as it is now. */
static inline uint64_t stats_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

#endif
