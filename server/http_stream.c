/* http_stream.c: bodies that are made while they go out (struct body_stream).
 *
 * libmicrohttpd asks for bytes in the HTTP thread. When there are none the connection is suspended
 * there and then, and resumed by `wake` from any thread; libmicrohttpd asks again after that. Both
 * happen under http.mutex, so a wake between the read and the suspension is not lost: it leaves
 * `awake` behind.
 *
 * A client that reads slowly fills its socket; it is then not asked for more bytes, and closed by
 * the connection's time limit. One that has gone is noticed by the next write, or by a stream that
 * asks (`gone`). */
#include "exchange.h"

#include "keyring.h"

#include <string.h>

enum { BLOCK = 4 << 10 }; /* bytes that libmicrohttpd keeps for a response */

static struct body_stream *stream_of(struct exchange *x)
{
    return (struct body_stream *)(uintptr_t)x->q->response.body;
}

static void park(struct exchange *x)
{
    MHD_suspend_connection(x->connection);
    x->parked = !x->awake;
    if (x->awake)
        MHD_resume_connection(x->connection);
    x->awake = false;
}

static void unpark(struct exchange *x)
{
    if (x->parked)
        MHD_resume_connection(x->connection);
    else
        x->awake = true;
    x->parked = false;
}

static void wake(void *arg)
{
    struct exchange *x = arg;
    pthread_mutex_lock(&x->http->mutex);
    unpark(x);
    pthread_mutex_unlock(&x->http->mutex);
}

static bool gone(void *arg)
{
    return exchange_client_gone(arg);
}

/* Its key was revoked, or it has none and meanwhile one is needed. */
static bool shut_out(const struct request *q)
{
    return q->caller ? caller_revoked(q->caller) : keyring_required(q->server->keys);
}

static ssize_t read_part(void *arg, uint64_t position, char *out, size_t size)
{
    struct exchange *x = arg;
    struct http *h = x->http;
    (void)position;
    ssize_t n = stream_of(x)->read(stream_of(x), out, size);
    pthread_mutex_lock(&h->mutex);
    if (h->stopping || shut_out(x->q))
        n = -1;
    else if (n == 0)
        park(x);
    pthread_mutex_unlock(&h->mutex);
    if (n > 0)
        x->q->response.size += (size_t)n; /* for the log */
    return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void link_stream(struct exchange *x)
{
    struct http *h = x->http;
    pthread_mutex_lock(&h->mutex);
    x->next = h->streams;
    x->link = &h->streams;
    if (x->next)
        x->next->link = &x->next;
    h->streams = x;
    pthread_mutex_unlock(&h->mutex);
}

struct MHD_Response *http_stream_response(struct exchange *x)
{
    struct MHD_Response *m =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_part, x, NULL);
    if (!m)
        return NULL;
    if (!strcmp(x->q->method, "HEAD")) /* chunked, libmicrohttpd would send the last chunk */
        MHD_set_response_options(m, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    stream_of(x)->wake = wake;
    stream_of(x)->gone = gone;
    stream_of(x)->wake_arg = x;
    link_stream(x);
    return m;
}

void http_stream_forget(struct exchange *x)
{
    if (!x->link) /* only the HTTP thread, where we are, sets it */
        return;
    pthread_mutex_lock(&x->http->mutex);
    if (x->link) {
        *x->link = x->next;
        if (x->next)
            x->next->link = x->link;
        x->link = NULL;
    }
    pthread_mutex_unlock(&x->http->mutex);
}

void http_streams_wake(struct http *h)
{
    pthread_mutex_lock(&h->mutex);
    for (struct exchange *x = h->streams; x; x = x->next)
        unpark(x);
    pthread_mutex_unlock(&h->mutex);
}
