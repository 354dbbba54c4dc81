/* http.h: HTTP on libmicrohttpd. One thread reads and writes all connections; handlers that are not
 * ROUTE_QUICK, nor predictions that server.small knows to be, run on the workers while their
 * connection is suspended. */
#ifndef BACKPROPD_HTTP_H
#define BACKPROPD_HTTP_H

#include "server.h"

struct http;

/* Listens as s->config says and answers by s->routes; s->work must be there. NULL and
 * ERROR_NOT_READY when the address cannot be used. `s` must outlive it. */
struct http *http_create(struct server *s, struct error *e);

/* The port that it listens on, and "host:port" ("[::1]:8080"). */
int http_port(const struct http *h);
const char *http_address(const struct http *h);

/* Connections that are open. Any thread may call. */
unsigned http_connections(const struct http *h);

/* Takes no new connections and requests (503), lets running jobs finish and their answers go out,
 * then frees. Calls work_stop. Not from a worker or the HTTP thread. */
void http_destroy(struct http **h);

#endif
