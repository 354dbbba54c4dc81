/* exchange_body.c: a request while its body arrives. Bodies are collected in one piece; memory
 * grows with what has come, not with what was announced, and all bodies together are bounded too.
 */
#include "exchange.h"

#include "backprop.h"
#include "http_raw.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { FIRST_CAP = 64 << 10, TURN = 256 << 10 };

static bool refuse(struct exchange *x)
{
    x->state = EXCHANGE_REFUSED;
    return true;
}

/* The most that a body can need. */
static size_t whole_size(const struct exchange *x)
{
    const int64_t length = x->q->content_length, max = x->http->server->config->max_body;
    return x->lead + (size_t)(length < 0 ? max : length) + 1;
}

static size_t next_cap(const struct exchange *x, size_t need)
{
    const size_t cap = x->cap ? 2 * x->cap : FIRST_CAP, all = whole_size(x);
    if (cap < need)
        return need;
    return all >= need && cap > all ? all : cap;
}

/* A block of at least `cap` bytes with what has come. Small ones grow. A large one is made for the
 * whole body, so that it need not be moved; what has not come yet takes no memory. */
static struct body_block body_block(struct exchange *x, size_t cap)
{
    struct request *q = x->q;
    const size_t all = whole_size(x), least = cap > all ? cap : all;
    const size_t size = (least + BLOCK_MIN - 1) / BLOCK_MIN * BLOCK_MIN; /* for the next, too */
    const bool large = cap > BODY_SMALL;
    struct body_block b = {NULL, 0};
    if (large || (!q->body_block && q->content_length > BLOCK_MIN))
        b = body_blocks_take(&x->http->blocks, size);
    if (!b.data && !large)
        return (struct body_block){realloc(q->body_block, cap), cap};
    if (!b.data)
        b = (struct body_block){large_alloc(size), size};
    if (b.data && q->body_block) {
        memcpy(b.data, q->body_block, x->lead + q->body_size);
        free(q->body_block);
    }
    return b;
}

/* Room for `need` bytes; false with a response. */
static bool body_grow(struct exchange *x, size_t need)
{
    struct http *h = x->http;
    struct request *q = x->q;
    const size_t cap = next_cap(x, need), more = cap - x->cap;
    if (atomic_fetch_add(&h->body_bytes, more) + more > h->body_limit) {
        atomic_fetch_sub(&h->body_bytes, more);
        reply_errorf(q, ERROR_QUEUE_FULL,
                     "the bodies of all requests together would be over the limit of %zu bytes",
                     h->body_limit);
        return false;
    }
    const struct body_block b = cap > x->block_size
                                    ? body_block(x, cap)
                                    : (struct body_block){q->body_block, x->block_size};
    if (!b.data) {
        atomic_fetch_sub(&h->body_bytes, more);
        reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for a body of %zu bytes", need);
        return false;
    }
    q->body_block = b.data;
    q->body = b.data + x->lead;
    x->block_size = b.size;
    x->cap = cap;
    return true;
}

/* Only bodies without a length get here with too much. */
static bool within_limit(struct exchange *x, size_t size)
{
    size_t limit = (size_t)x->http->server->config->max_body;
    if (size <= limit)
        return true;
    reply_errorf(x->q, ERROR_BODY_TOO_LARGE, "the body is over the limit of %zu bytes (--max-body)",
                 limit);
    return false;
}

/* A body of many megabytes keeps the thread that serves all connections busy. Where cores are
 * shared it would use up its time, and then wait for milliseconds while others have theirs: so it
 * gives way before that, after each turn. Turns are as long as they are because after each of them
 * others may run for milliseconds, where there are more of them than cores. */
static void let_others(size_t from, size_t to)
{
    if (to > BODY_SMALL && to / TURN != from / TURN)
        sched_yield();
}

/* What the request is told, written to the socket itself: libmicrohttpd would wait for the end of
 * the body. It writes nothing meanwhile, and this is its thread. Nothing follows, but what still
 * comes is read: closing a socket with unread bytes can take the answer away from the client. */
static void answer_now(struct exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const struct request *q = x->q;
    const struct response *r = &q->response;
    const char *headers = arena_printf(q->arena, "X-Request-Id: %s\r\n", q->id ? q->id : "");
    for (int i = 0; headers && i < r->n_headers; i++)
        headers = arena_printf(q->arena, "%s%s: %s\r\n", headers, r->headers[i].name,
                               r->headers[i].value);
    if (!info || r->kind == BODY_PULL || r->kind == BODY_STREAM)
        return;
    http_answer_raw_json(info->connect_fd, q->error, headers ? headers : "", r->body, (int)r->size);
    shutdown(info->connect_fd, SHUT_WR);
    x->cut = true;
}

/* Reads on after a refusal: a response goes out when all is read, but not every body has an end.
 * Over TLS nobody else can write, so there all that may be sent is read before. */
static bool discard(struct exchange *x, size_t size)
{
    const struct server *s = x->http->server;
    const size_t most = DISCARD_MAX + (s->tls ? (size_t)s->config->max_body : 0);
    x->discarded += size;
    if (x->discarded > most && !s->tls && !x->cut)
        answer_now(x);
    return x->discarded <= most + (x->cut ? LINGER_MAX : 0);
}

bool exchange_take(struct exchange *x, const char *data, size_t size)
{
    struct request *q = x->q;
    if (x->state == EXCHANGE_REFUSED)
        return discard(x, size);
    size_t whole = q->body_size + size, need = x->lead + whole + 1;
    if (!within_limit(x, whole) || (need > x->cap && !body_grow(x, need)))
        return refuse(x);
    memcpy(q->body + q->body_size, data, size);
    q->body_size += size;
    q->body[q->body_size] = 0;
    let_others(q->body_size - size, q->body_size);
    return true;
}

void exchange_forget_body(struct exchange *x)
{
    struct request *q = x->q;
    atomic_fetch_sub(&x->http->body_bytes, x->cap);
    if (!q || !q->body_block || q->unpacked)
        return;
    body_blocks_keep(&x->http->blocks, (struct body_block){q->body_block, x->block_size},
                     http_now());
    q->body = q->body_block = NULL;
}
