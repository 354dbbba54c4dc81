/* http_listen.h: opening the socket that the server listens on. */
#ifndef BACKPROPD_HTTP_LISTEN_H
#define BACKPROPD_HTTP_LISTEN_H

#include "config.h"
#include "error.h"

struct http_listener {
    int fd;            /* -1: none */
    int port;          /* that it has when 0 was asked for */
    char address[300]; /* "host:port", "[::1]:8080" */
};

/* A socket that listens on config.host and config.port. -1 and ERROR_NOT_READY with a sentence that
 * says why. */
int http_listen(struct http_listener *l_r, const struct config *c, struct error *e);

#endif
