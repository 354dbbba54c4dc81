/* http_listen.h: opening the socket that the server listens on. */
#ifndef BACKPROPD_HTTP_LISTEN_H
#define BACKPROPD_HTTP_LISTEN_H

#include "config.h"
#include "error.h"

/* A listening socket on config.host and config.port; *port_r is its port when that was 0. -1 and
 * ERROR_NOT_READY with a sentence that says why. */
int http_listen(const struct config *c, int *port_r, struct error *e);

#endif
