/* server.h: what there is once in the process. Handlers reach it through request.server; nothing in
 * the daemon is a global variable. */
#ifndef BACKPROPD_SERVER_H
#define BACKPROPD_SERVER_H

#include "backprop.h"
#include "config.h"
#include "log.h"

#include <time.h>

struct request;
struct route;
struct work;
struct http;
struct models;
struct store;
struct stats;
struct events;
struct keyring;
struct tls;

struct server {
    const struct config *config;
    struct log log;
    const struct route *routes; /* ends with method NULL */
    struct work *work;
    struct http *http;
    struct tls *tls;   /* NULL: plain HTTP */
    struct pool *pool; /* the engine's threads */
    struct store *store;
    struct models *models;
    struct events *events; /* streams of metrics */
    struct keyring *keys;  /* that clients need */
    time_t started;
    struct stats *stats; /* of requests; NULL: not counted */
    bool loading;        /* atomic: models are being loaded; meanwhile routes that have a role are
                            answered with ERROR_NOT_READY */

    /* Called in the HTTP thread for routes with a {model}, unless they are ROUTE_CREATES, before
     * the body is read. Sets request.model to something held until release_model, and
     * request.queues to the model's queues. -1: ERROR_UNKNOWN_MODEL or _VERSION. NULL:
     * every name will do. */
    int (*find_model)(struct request *q, struct error *e);
    void (*release_model)(struct request *q); /* request.model is not NULL */

    /* Called in the HTTP thread with the body there, for routes that are ROUTE_FIRST: whether the
     * handler takes microseconds and never waits, so that it may run there. NULL: none does. */
    bool (*small)(const struct request *q);

    /* Called in the HTTP thread once the route is known. -1: ERROR_UNAUTHORIZED, ERROR_FORBIDDEN.
     * NULL: everybody may do everything. */
    int (*authorize)(struct request *q, struct error *e);

    /* Called in the HTTP thread when the answer is out, for counters; may be NULL. */
    void (*observe)(const struct request *q, int status, double seconds);
};

#endif
