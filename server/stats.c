/* stats.c: counting requests. A route's counters lie at the place that its row has in the table. */
#include "stats.h"

#include "request.h"

#include <stdlib.h>

const double stats_bounds[STATS_BUCKETS] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                            0.01,   0.025,   0.05,   0.1,   0.25,   0.5,
                                            1,      2.5,     10,     60};

struct stats *stats_create(const struct route *routes, struct error *e)
{
    int n = 0;
    while (routes[n].method)
        n++;
    struct stats *s = calloc(1, sizeof *s + (size_t)(n + 1) * sizeof s->routes[0]);
    if (!s) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for counters");
        return NULL;
    }
    s->n = n + 1;
    for (int i = 0; i < n; i++)
        s->routes[i].route = &routes[i];
    return s;
}

void stats_destroy(struct stats **s)
{
    free(*s);
    *s = NULL;
}

static void count(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

static void histogram_add(struct histogram *h, double seconds)
{
    int i = 0;
    while (i < STATS_BUCKETS && seconds > stats_bounds[i])
        i++;
    count(&h->buckets[i], 1);
    count(&h->nanoseconds, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
}

void stats_observe(const struct request *q, int status, double seconds)
{
    struct stats *s = q->server->stats;
    int i = q->route ? (int)(q->route - q->server->routes) : s->n - 1;
    struct route_stats *r = &s->routes[i];
    unsigned place = (unsigned)(status - STATS_MIN_STATUS);
    if (place < STATS_STATUSES) /* 0: the connection ended before there was an answer */
        count(&r->statuses[place], 1);
    histogram_add(&r->duration, seconds);
    if (q->route && !(q->route->flags & ROUTE_QUICK))
        histogram_add(&r->queue, q->queue_seconds);
    count(&s->bytes_in, q->body_size);
    count(&s->bytes_out, q->response.size);
}
