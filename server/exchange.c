/* exchange.c: a request while its headers and its body arrive. Bodies are collected in one piece;
 * memory grows with what has come, not with what was announced, and all bodies together are bounded
 * too. */
#define _GNU_SOURCE /* POLLRDHUP */
#include "exchange.h"

#include "backprop.h"
#include "dispatch.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    REQUEST_ID_MAX = 128,
    FIRST_CAP = 64 << 10,
    SMALL_MAX = 1 << 20,   /* a body moves to a block for all of it when it has more than this */
    TENSOR_ALIGN = 8,      /* of what a tensor holds, INT64 for one */
    DISCARD_MAX = 1 << 20, /* a refused body up to here is read, which keeps the connection */
};

static const double ALONE_SECONDS = 0.001;

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct exchange *exchange_create(struct http *h, struct MHD_Connection *c, const char *uri)
{
    size_t size = strlen(uri) + 1;
    struct exchange *x = calloc(1, sizeof *x + size);
    if (!x)
        return NULL;
    x->http = h;
    x->connection = c;
    x->peer = peer_of(c);
    x->started = now_seconds();
    body_blocks_trim(&h->blocks, x->started);
    memcpy(x->uri, uri, size);
    return x;
}

static void body_keep(struct exchange *x)
{
    struct request *q = x->q;
    if (!q || !q->body_block || q->unpacked)
        return;
    body_blocks_keep(&x->http->blocks, (struct body_block){q->body_block, x->block_size},
                     now_seconds());
    q->body = q->body_block = NULL;
}

void exchange_destroy(struct exchange **x)
{
    if (!*x)
        return;
    body_keep(*x);
    atomic_fetch_sub(&(*x)->http->body_bytes, (*x)->cap);
    request_destroy(&(*x)->q);
    free(*x);
    *x = NULL;
}

double exchange_seconds(const struct exchange *x)
{
    return now_seconds() - x->started;
}

/* ---- headers --------------------------------------------------------------------------------- */

/* A proxy before us may see another end of the body than we do when there are two ways to find it,
 * and take for the body what is the next request to us (RFC 9112, 5.1, 6.3 and 11.2): what allows
 * that is refused, and nothing more is read from the connection. */
static void refuse_framing(struct request *q, const char *mistake)
{
    if (q->status)
        return;
    reply_header(q, "Connection", "close");
    reply_errorf(q, ERROR_BAD_HEADER, "%s", mistake);
}

static bool header_valid(const char *name, size_t name_size, const char *value, size_t value_size)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789!#$%&'*+-.^_`|~";
    return name_size && strspn(name, letters) == name_size && strlen(value) == value_size &&
           !strpbrk(value, "\r\n");
}

static enum MHD_Result add_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                  size_t name_size, const char *value, size_t value_size)
{
    struct request *q = arg;
    (void)kind; /* the strings live as long as the connection's request */
    if (!value)
        value = "";
    if (!header_valid(name, name_size, value, value_size))
        refuse_framing(q, "a header has characters that its name or value cannot have, such as a "
                          "space before the colon");
    return request_add_header(q, name, value) ? MHD_NO : MHD_YES;
}

static int count_header(const struct request *q, const char *name)
{
    int n = 0;
    for (const struct header *h = q->headers; h; h = h->next)
        n += !strcasecmp(h->name, name);
    return n;
}

static const char *framing_mistake(const struct request *q)
{
    const char *length = request_header(q, "Content-Length"),
               *coding = request_header(q, "Transfer-Encoding");
    size_t digits = length ? strspn(length, "0123456789") : 0;
    return count_header(q, "Content-Length") > 1      ? "Content-Length is given more than once"
           : count_header(q, "Transfer-Encoding") > 1 ? "Transfer-Encoding is given more than once"
           : length && coding ? "Content-Length and Transfer-Encoding are both given"
           : coding && strcasecmp(coding, "chunked")
               ? "Transfer-Encoding is not what is understood, expected chunked"
           : length && (!digits || length[digits] || digits > 18)
               ? "Content-Length is no number of bytes"
           : count_header(q, "Host") > 1 ? "Host is given more than once"
                                         : NULL;
}

static void read_lengths(struct request *q)
{
    const char *length = request_header(q, "Content-Length"), *mistake = framing_mistake(q);
    q->chunked = request_header(q, "Transfer-Encoding") != NULL;
    if (length && !q->chunked)
        q->content_length = strtoll(length, NULL, 10);
    if (mistake)
        refuse_framing(q, mistake);
}

/* Where the body begins in its block: so that the tensors behind its JSON are aligned, whatever the
 * length of that, and can be used where they lie. What is no number is refused later. */
static size_t body_lead(const struct request *q)
{
    const char *json = request_header(q, "Inference-Header-Content-Length");
    return json ? -strtoull(json, NULL, 10) % TENSOR_ALIGN : 0;
}

/* Letters that need no quoting anywhere. */
static bool id_valid(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= REQUEST_ID_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/+=@") ==
               n;
}

/* 16 hexadecimal digits. NULL: out of memory. */
static const char *id_text(struct arena *a, uint64_t number)
{
    char *text = arena_alloc(a, 17);
    for (int i = 16; text && i-- > 0; number >>= 4)
        text[i] = "0123456789abcdef"[number & 15];
    return text;
}

/* The client's, or one that this process gives to one request only. */
static void give_id(struct exchange *x)
{
    const char *given = request_header(x->q, "X-Request-Id");
    bool own = !given || !id_valid(given);
    x->q->id = own ? id_text(x->q->arena, x->http->next_id) : given;
    /* An odd step reaches every number before one comes again; this one spreads them. */
    x->http->next_id += own ? 0x9E3779B97F4A7C15u : 0;
}

/* Whether no other connection has begun a request for a while. */
static bool begins_alone(struct exchange *x)
{
    struct http *h = x->http;
    if (h->last != x->connection)
        h->other = h->last_begun;
    h->last = x->connection;
    h->last_begun = x->started;
    return x->started - h->other > ALONE_SECONDS;
}

bool exchange_begin(struct exchange *x, const char *method)
{
    char *query = strchr(x->uri, '?');
    if (query)
        *query++ = 0;
    struct request *q = x->q = request_create(x->http->server, method, x->uri, query);
    if (!q || MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, add_header, q) < 0)
        return false;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    q->client = info ? info->client_addr : NULL;
    q->alone = begins_alone(x);
    read_lengths(q);
    x->lead = body_lead(q);
    give_id(x);
    if (!q->status && atomic_load(&x->http->stopping))
        reply_errorf(q, ERROR_NOT_READY, "the server is stopping");
    if (!q->status)
        dispatch_begin(q);
    if (q->status)
        x->state = EXCHANGE_REFUSED;
    return true;
}

bool exchange_client_gone(const struct exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd p = {.fd = info ? info->connect_fd : -1, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* A client that waits for "100 Continue" has not sent its body, and of a large one nothing is worth
 * reading; small ones are read, so that the connection can be used again. */
bool exchange_early(const struct exchange *x)
{
    const struct request *q = x->q;
    const char *expect = request_header(q, "Expect");
    if (x->state != EXCHANGE_REFUSED || (q->content_length <= 0 && !q->chunked))
        return false;
    return q->error == ERROR_BODY_TOO_LARGE || q->error == ERROR_BAD_HEADER ||
           q->content_length > DISCARD_MAX || q->chunked ||
           (expect && !strcasecmp(expect, "100-continue"));
}

/* ---- body ------------------------------------------------------------------------------------ */

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
    const size_t all = whole_size(x), size = cap > all ? cap : all;
    const bool large = cap > SMALL_MAX;
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

bool exchange_take(struct exchange *x, const char *data, size_t size)
{
    struct request *q = x->q;
    if (x->state == EXCHANGE_REFUSED) {
        x->discarded += size; /* a response can go out only when all is read: there is an end */
        return x->discarded <= (size_t)x->http->server->config->max_body + DISCARD_MAX;
    }
    size_t whole = q->body_size + size, need = x->lead + whole + 1;
    if (!within_limit(x, whole) || (need > x->cap && !body_grow(x, need)))
        return refuse(x);
    memcpy(q->body + q->body_size, data, size);
    q->body_size += size;
    q->body[q->body_size] = 0;
    return true;
}
