/* http.h: HTTP on libmicrohttpd. One thread reads and writes all connections; handlers that are not
 * ROUTE_QUICK, nor predictions that server.small knows to be, run on the workers while their
 * connection is suspended. */
#ifndef BACKPROPD_HTTP_H
#define BACKPROPD_HTTP_H

#include "http_listen.h"
#include "server.h"

struct http;

/* Answers on the socket by s->routes, over TLS when s->tls is there; s->work must be there. It
 * takes the socket and closes it, also when it fails: NULL. `s` must outlive it. */
struct http *http_create(struct server *s, struct http_listener *l, struct error *e);

/* Connections that are open. Any thread may call. */
unsigned http_connections(const struct http *h);

/* Asks all streams whether they have something to send, or should end. Any thread may call. */
void http_streams_wake(struct http *h);

/* Takes no new connections and requests (503), lets running jobs finish and their answers go out,
 * then frees. Calls work_stop. Not from a worker or the HTTP thread. */
void http_destroy(struct http **h);

#endif
