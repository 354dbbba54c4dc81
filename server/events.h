/* events.h: metrics as they come, to clients that stay connected (server-sent events).
 *
 * An event holds all rows of one revision; its id is the revision, which is the cursor too: a
 * client that comes back with the last id that it saw gets every row once, in order, also after a
 * restart, because events are read from the store and nowhere else.
 *
 * One thread serves all streams. It reads a window of revisions for a stream that has sent what it
 * had, and wakes its connection. A stream whose client is slow is not hungry: nothing is read for
 * it. All functions may be called by any thread. */
#ifndef BACKPROPD_EVENTS_H
#define BACKPROPD_EVENTS_H

#include "model.h"
#include "request.h"

struct events;

/* At most `max_streams` at a time. */
struct events *events_create(struct store *s, int64_t max_streams, struct error *e);
/* No stream may be left: after http_destroy. */
void events_destroy(struct events **v);

/* A stream of the model's rows above the revision `since`, for reply_stream; it holds the model.
 * It ends when the model is deleted. NULL: QUEUE_FULL, OUT_OF_MEMORY. */
struct body_stream *events_open(struct events *v, struct model *m, uint64_t since, struct error *e);

#endif
