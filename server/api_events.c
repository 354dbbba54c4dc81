/* api_events.c: GET .../events: the rows of .../metrics as server-sent events, from a cursor on. */
#include "api.h"
#include "events.h"

#include <stdlib.h>
#include <string.h>

/* Last-Event-ID, which is what a client that comes back has seen, goes before ?since=. */
static int read_cursor(struct request *q, uint64_t *since_r)
{
    int64_t since;
    if (query_known(q, "since") || query_int(q, "since", 0, 0, INT64_MAX, &since))
        return -1;
    *since_r = (uint64_t)since;
    const char *id = request_header(q, "Last-Event-ID");
    if (!id || !*id)
        return 0;
    size_t digits = strspn(id, "0123456789");
    if (id[digits] || digits > 18) {
        reply_errorf(q, ERROR_BAD_HEADER,
                     "Last-Event-ID is '%.40s', expected the id of an event, a whole number", id);
        return -1;
    }
    *since_r = strtoull(id, NULL, 10);
    return 0;
}

int api_events(struct request *q)
{
    static const char type[] = "text/event-stream";
    uint64_t since;
    struct error e;
    if (read_cursor(q, &since))
        return q->status;
    reply_header(q, "Cache-Control", "no-store");
    reply_header(q, "X-Accel-Buffering", "no"); /* for proxies that collect */
    if (!strcmp(q->method, "HEAD"))
        return reply_text(q, 200, type, "");
    struct body_stream *b = events_open(q->server->events, request_model(q), since, &e);
    return b ? reply_stream(q, 200, type, b) : reply_error(q, &e);
}
