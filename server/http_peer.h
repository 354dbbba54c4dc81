/* http_peer.h: the connections as sockets, below the requests on them: how long each has been in
 * its phase, which are closed for it, and which make room when there are too many.
 *
 *   HEADERS   nothing, or not yet all headers of the next request
 *   BODY      the headers are there, the body is not
 *   BUSY      a worker has the request
 *   ANSWER    the answer goes out
 *   STREAM    an answer without an end goes out: only an idle one is closed, by libmicrohttpd
 *
 * libmicrohttpd closes a connection on which nothing moves; a client that sends or takes a byte now
 * and then would keep its connection for ever. A thread looks at all of them each second: headers
 * must be complete in --request-timeout, after that long a body must have come, and an answer have
 * been taken, at --min-rate. Bytes are counted by the kernel (TCP_INFO), and a busy connection's
 * are read by that thread, so that its requests do not pay for it. What a client does not
 * acknowledge for --request-timeout ends its connection, too. */
#ifndef BACKPROPD_HTTP_PEER_H
#define BACKPROPD_HTTP_PEER_H

#include "config.h"
#include "tls.h"

enum peer_phase { PEER_HEADERS, PEER_BODY, PEER_BUSY, PEER_ANSWER, PEER_STREAM };

struct peers;
struct peer;

double http_now(void); /* seconds, monotonic */

/* `tls` NULL: plain HTTP. All must outlive it; its thread calls `each_second`, without its lock.
 * NULL: no memory or no thread. */
struct peers *peers_create(const struct config *c, struct tls *tls, void (*each_second)(void *),
                           void *arg, struct error *e);
/* Ends the thread; when the HTTP server has been stopped. */
void peers_destroy(struct peers **p);

/* For MHD_OPTION_NOTIFY_CONNECTION, with the peers as its argument. */
void peers_notify(void *peers, struct MHD_Connection *c, void **context,
                  enum MHD_ConnectionNotificationCode code);

/* HTTP thread. NULL when there was no memory for it; the functions below take that. */
struct peer *peer_of(struct MHD_Connection *c);
void peer_enter(struct peer *p, enum peer_phase phase);
/* Whether the connection was cut because the client was too slow; the answer was 408. */
bool peer_was_slow(const struct peer *p);

#endif
