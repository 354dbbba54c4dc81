/* events.h: metrics as they come, to clients that stay connected (server-sent events).
 *
 * An event holds all rows of one revision, or of one evaluation, which may be of a revision that
 * was passed before. Its id is a cursor: the revision, and behind a dot how many late rows there
 * were, if any. A client that comes back with the last id that it saw gets every row once, in
 * order, also after a restart, because events are read from the store and nowhere else.
 *
 * One thread serves all streams. It reads a window of revisions for a stream that has sent what it
 * had, and wakes its connection. A stream whose client is slow is not hungry: nothing is read for
 * it. All functions may be called by any thread. */
#ifndef BACKPROPD_EVENTS_H
#define BACKPROPD_EVENTS_H

#include "model.h"
#include "request.h"

struct events;

struct events_cursor {
    uint64_t revision; /* rows up to it were seen, */
    int64_t late;      /* and late rows up to this number (store_metric.late) */
};
enum { EVENTS_LATE_NOW = -1 }; /* up to those that there are */

/* "150" or "150.3". Returns the number of bytes. */
size_t events_cursor_write(const struct events_cursor *c, char *text, size_t size);
bool events_cursor_read(struct events_cursor *c, const char *text); /* false: it is none */

/* At most `max_streams` at a time. */
struct events *events_create(struct store *s, int64_t max_streams, struct error *e);
/* No stream may be left: after http_destroy. */
void events_destroy(struct events **v);

/* A stream of the model's rows after the cursor `since`, for reply_stream; it holds the model.
 * It ends when the model is deleted. NULL: QUEUE_FULL, OUT_OF_MEMORY. */
struct body_stream *events_open(struct events *v, struct model *m, struct events_cursor since,
                                struct error *e);

#endif
