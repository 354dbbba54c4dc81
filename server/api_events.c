/* api_events.c: GET .../events: the rows of .../metrics as server-sent events, from a cursor on. */
#include "api.h"
#include "events.h"

#include <string.h>

#define EXPECTED "expected the id of an event, such as 150 or 150.3"

/* Last-Event-ID, which is what a client that comes back has seen, goes before ?since=. */
static int read_cursor(struct request *q, struct events_cursor *since_r)
{
    *since_r = (struct events_cursor){0};
    const char *since = request_query(q, "since"), *id = request_header(q, "Last-Event-ID");
    if (q->status)
        return -1;
    if (since && !events_cursor_read(since_r, since))
        return reply_errorf(q, ERROR_BAD_QUERY, "since is '%.40s', " EXPECTED, since), -1;
    if (since_r->revision && !strchr(since, '.'))
        since_r->late = EVENTS_LATE_NOW; /* what came late before is not asked for */
    if (id && *id && !events_cursor_read(since_r, id))
        return reply_errorf(q, ERROR_BAD_HEADER, "Last-Event-ID is '%.40s', " EXPECTED, id), -1;
    return 0;
}

int api_events(struct request *q)
{
    static const char type[] = "text/event-stream";
    struct events_cursor since;
    struct error e;
    if (read_cursor(q, &since))
        return q->status;
    reply_header(q, "Cache-Control", "no-store");
    reply_header(q, "X-Accel-Buffering", "no"); /* for proxies that collect */
    /* Also for HEAD, where nothing of it is sent: what has no length must not be given one. */
    struct body_stream *b = events_open(q->server->events, request_model(q), since, &e);
    return b ? reply_stream(q, 200, type, b) : reply_error(q, &e);
}
