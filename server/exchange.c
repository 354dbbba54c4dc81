/* exchange.c: a request while its headers arrive; exchange_body.c is about its body. */
#define _GNU_SOURCE /* POLLRDHUP */
#include "exchange.h"

#include "dispatch.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    REQUEST_ID_MAX = 128,
    TENSOR_ALIGN = 8, /* of what a tensor holds, INT64 for one */
};

static const double ALONE_SECONDS = 0.001;

struct exchange *exchange_create(struct http *h, struct MHD_Connection *c, const char *uri)
{
    size_t size = strlen(uri) + 1;
    struct exchange *x = calloc(1, sizeof *x + size);
    if (!x)
        return NULL;
    x->http = h;
    x->connection = c;
    x->peer = peer_of(c);
    x->started = http_now();
    memcpy(x->uri, uri, size);
    return x;
}

void exchange_destroy(struct exchange **x)
{
    if (!*x)
        return;
    exchange_forget_body(*x);
    request_destroy(&(*x)->q);
    free(*x);
    *x = NULL;
}

double exchange_seconds(const struct exchange *x)
{
    return http_now() - x->started;
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

/* What stands in the request line. `host` is set in absolute form, http://host/path, which proxies
 * are sent and servers must take (RFC 9112, 3.2.2). */
struct target {
    const char *path, *query;
    const char *host;
    size_t host_size;
};

static struct target target_of(char *uri)
{
    struct target t = {.path = uri};
    char *query = strchr(uri, '?');
    if (query)
        *query++ = 0;
    t.query = query;
    const size_t scheme = !strncasecmp(uri, "http://", 7)    ? 7
                          : !strncasecmp(uri, "https://", 8) ? 8
                                                             : 0;
    if (scheme) {
        t.host = uri + scheme;
        t.host_size = strcspn(t.host, "/");
        t.path = t.host[t.host_size] ? t.host + t.host_size : "/";
    }
    return t;
}

/* What is allowed to whom goes by the header: a request line may not say otherwise. */
static bool same_host(const struct target *t, const char *header)
{
    return !t->host || (header && strlen(header) == t->host_size &&
                        !strncasecmp(header, t->host, t->host_size));
}

bool exchange_begin(struct exchange *x, const char *method)
{
    const struct target t = target_of(x->uri);
    struct request *q = x->q = request_create(x->http->server, method, t.path, t.query);
    if (!q || MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, add_header, q) < 0)
        return false;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    q->client = info ? info->client_addr : NULL;
    q->alone = begins_alone(x);
    read_lengths(q);
    if (!same_host(&t, request_header(q, "Host")))
        refuse_framing(q, "the request line names another host than the header 'Host'");
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
