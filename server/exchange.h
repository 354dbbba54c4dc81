/* exchange.h: one request on its way through libmicrohttpd, from its first line to its last byte.
 *
 *   READING     headers have been dispatched, the body is collected
 *   REFUSED     the response is there before the body was: what still comes is thrown away
 *   WAITING     the connection is suspended, a worker has the request
 *   ANSWERED    the response is there
 *
 * Everything but WAITING belongs to the HTTP thread. For http.c. */
#ifndef BACKPROPD_EXCHANGE_H
#define BACKPROPD_EXCHANGE_H

#include "body_blocks.h"
#include "http.h"
#include "http_peer.h"
#include "request.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

struct http {
    struct server *server;
    struct MHD_Daemon *daemon;
    struct peers *peers;
    struct body_blocks blocks; /* of large bodies, for the next ones */
    atomic_size_t body_bytes;  /* of all bodies that are held */
    uint64_t next_id;          /* of requests without one; these and the next of the HTTP thread */
    const void *last;          /* connection of the last request; it may be gone */
    double last_begun;         /* when that request began, seconds, monotonic */
    double other;              /* when the last one of another connection did */
    size_t body_limit;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    atomic_bool stopping;
    atomic_int open;          /* complete requests whose answer is not out */
    int waiting;              /* exchanges that a worker has; these by the mutex */
    struct exchange *streams; /* whose answer is a BODY_STREAM */
};

enum {
    DISCARD_MAX = 1 << 20, /* a refused body up to here is read, to keep the connection */
    LINGER_MAX = 16 << 20, /* and after an answer that could not wait: until the client sees it */
};

enum exchange_state { EXCHANGE_READING, EXCHANGE_REFUSED, EXCHANGE_WAITING, EXCHANGE_ANSWERED };

struct exchange {
    struct work_job job;
    struct http *http;
    struct MHD_Connection *connection;
    struct peer *peer; /* of the connection; NULL: none */
    struct request *q;
    enum exchange_state state;
    size_t cap;                    /* bytes that the body may have now, counted in body_bytes */
    size_t block_size;             /* of q->body_block: `cap` or more */
    size_t lead;                   /* bytes of it before the body */
    size_t discarded;              /* bytes thrown away */
    bool cut;                      /* the answer went out below libmicrohttpd, before the body */
    bool counted;                  /* in http.open */
    double started;                /* seconds, monotonic */
    double submitted;              /* to the workers: seconds since it began */
    struct exchange *next, **link; /* in http.streams; these four by http.mutex */
    bool parked;                   /* its stream had nothing to send: the connection is suspended */
    bool awake;                    /* it was woken before it could be parked */
    char uri[];                    /* as sent */
};

struct exchange *exchange_create(struct http *h, struct MHD_Connection *c, const char *uri);
void exchange_destroy(struct exchange **x);
double exchange_seconds(const struct exchange *x); /* since it began */

/* When the headers are there: makes and dispatches the request. False: close the connection. */
bool exchange_begin(struct exchange *x, const char *method);
/* exchange_body.c: part of the body. False: close the connection. */
bool exchange_take(struct exchange *x, const char *data, size_t size);
/* Whether the client has closed its connection, or its half of it: nobody reads an answer.
 * libmicrohttpd does not look at connections that are suspended. Any thread that has the exchange.
 */
bool exchange_client_gone(const struct exchange *x);
/* Whether the response may go out before the body is read. */
bool exchange_early(const struct exchange *x);
/* When the exchange is destroyed. exchange_body.c */
void exchange_forget_body(struct exchange *x);

/* ---- http_stream.c: answers that are made while they go out ---------------------------------- */

/* A response for libmicrohttpd that reads x's body_stream; NULL: out of memory. */
struct MHD_Response *http_stream_response(struct exchange *x);
/* Before the exchange is destroyed, whatever its answer was. */
void http_stream_forget(struct exchange *x);

#endif
