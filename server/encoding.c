/* encoding.c: a body is unpacked when a worker takes the request, and freed when its handler has
 * returned. So however well it was compressed, no more than one a worker is in memory, and each is
 * at most as large as one that was not compressed. */
#define _GNU_SOURCE
#include "encoding.h"

#include "backprop.h"
#include "body_blocks.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum {
    FIRST_ROOM = 16 << 10,
    PIECE = 1 << 30, /* zlib counts in unsigned int */
    PACK_MIN = 1024, /* bytes; smaller answers gain nothing */
    PACK_LEVEL = 1,  /* numbers as text: higher levels take several times as long for little */
    GZIP_BITS = 16 + MAX_WBITS,
};

/* The encodings that can be read: by the window bits that inflateInit2 knows them by. */
static const struct {
    const char *name;
    int bits;
} encodings[] = {
    {"gzip", GZIP_BITS}, {"x-gzip", GZIP_BITS}, {"deflate", MAX_WBITS}, {"identity", 0}};

static int encoding_bits(const char *name)
{
    for (size_t i = 0; name && i < sizeof encodings / sizeof *encodings; i++)
        if (!strcasecmp(encodings[i].name, name))
            return encodings[i].bits;
    return name ? -1 : 0;
}

bool encoding_known(const char *name)
{
    return encoding_bits(name) >= 0;
}

/* ---- unpacking ------------------------------------------------------------------------------- */

struct unpacked {
    char *data;
    size_t size, room, limit;
};

/* Small ones grow. A large one gets a block for as much as there may be, so that it need not be
 * moved; what is not written yet takes no memory. */
static char *grown(const struct unpacked *u, size_t room)
{
    if (room <= BODY_SMALL)
        return realloc(u->data, room + 1);
    if (u->room > BODY_SMALL)
        return u->data;
    char *data = large_alloc(u->limit + 1);
    if (data && u->data) {
        memcpy(data, u->data, u->size);
        free(u->data);
    }
    return data;
}

/* Room for more, and for a NUL. */
static int grow(struct unpacked *u, struct error *e)
{
    if (u->size == u->limit)
        return error_set(e, ERROR_BODY_TOO_LARGE,
                         "the body, when it is unpacked, is over the limit of %zu bytes "
                         "(--max-body)",
                         u->limit);
    size_t room = u->room ? 2 * u->room : FIRST_ROOM;
    room = room < u->limit ? room : u->limit;
    char *data = grown(u, room);
    if (!data)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a body of %zu bytes", room);
    u->data = data;
    u->room = room;
    return 0;
}

/* One call of inflate. 1: an end of a stream. */
static int inflate_some(z_stream *z, const unsigned char *end, struct unpacked *u, struct error *e)
{
    unsigned char spare; /* at the limit: to see whether there is more */
    bool full = u->size == u->limit;
    if (!full && u->size == u->room && grow(u, e))
        return -1;
    size_t in = (size_t)(end - z->next_in), out = full ? 1 : u->room - u->size;
    z->avail_in = (unsigned)(in < PIECE ? in : PIECE);
    z->avail_out = (unsigned)(out < PIECE ? out : PIECE);
    z->next_out = full ? &spare : (unsigned char *)u->data + u->size;
    unsigned before = z->avail_out;
    int code = inflate(z, Z_NO_FLUSH);
    unsigned made = before - z->avail_out;
    if (full && made)
        return grow(u, e); /* says so */
    u->size += made;
    if (code == Z_STREAM_END)
        return 1;
    if (code == Z_MEM_ERROR)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory to unpack the body");
    if (code == Z_OK && (made || z->next_in < end))
        return 0;
    return error_set(e, ERROR_BAD_ENCODING, "the body cannot be unpacked: %s",
                     z->next_in == end ? "it ends early"
                     : z->msg          ? z->msg
                                       : "it is damaged");
}

/* A gzip file may consist of several, one behind the other. */
static int inflate_all(z_stream *z, const unsigned char *end, bool several, struct unpacked *u,
                       struct error *e)
{
    for (;;) {
        int ended = inflate_some(z, end, u, e);
        if (ended < 0)
            return -1;
        if (!ended)
            continue;
        if (z->next_in == end)
            return 0;
        if (!several)
            return error_set(e, ERROR_BAD_ENCODING, "the body goes on after its compressed data");
        if (inflateReset(z) != Z_OK)
            return error_set(e, ERROR_BAD_ENCODING, "the body cannot be unpacked");
    }
}

/* Some clients send deflate without the zlib header that RFC 9110 asks for. */
static bool zlib_header(const unsigned char *p, size_t size)
{
    return size >= 2 && (p[0] & 15) == Z_DEFLATED && (p[0] << 8 | p[1]) % 31 == 0;
}

static int unpack(const unsigned char *data, size_t size, int bits, struct unpacked *u,
                  struct error *e)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data};
    if (bits == MAX_WBITS && !zlib_header(data, size))
        bits = -MAX_WBITS;
    if (grow(u, e))
        return -1;
    if (inflateInit2(&z, bits) != Z_OK)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory to unpack the body");
    int status = inflate_all(&z, data + size, bits == GZIP_BITS, u, e);
    inflateEnd(&z);
    return status;
}

int encoding_unpack(struct request *q, struct error *e)
{
    int bits = encoding_bits(request_header(q, "Content-Encoding"));
    struct unpacked u = {.limit = (size_t)q->server->config->max_body};
    if (bits <= 0 || !q->body_size)
        return 0;
    if (unpack((const unsigned char *)q->body, q->body_size, bits, &u, e)) {
        free(u.data);
        return -1;
    }
    u.data[u.size] = 0;
    free(q->body_block);
    q->body = q->body_block = u.data;
    q->body_size = u.size;
    q->unpacked = true;
    return 0;
}

void encoding_forget(struct request *q)
{
    if (!q->unpacked)
        return;
    free(q->body_block);
    q->body = q->body_block = NULL;
    q->unpacked = false;
}

/* ---- packing --------------------------------------------------------------------------------- */

/* Whether an element of a list, "gzip;q=0.5", has this name; its weight is then in *q_r. */
static bool element_is(const char *element, size_t size, const char *name, double *q_r)
{
    size_t n = strcspn(element, ";, \t");
    const char *weight = memmem(element, size, "q=", 2);
    if (n != strlen(name) || strncasecmp(element, name, n))
        return false;
    *q_r = weight ? strtod(weight + 2, NULL) : 1;
    return true;
}

/* The weight of an encoding in Accept-Encoding: by its name, or else by '*'. */
static double accepted(const char *accept, const char *name)
{
    double weight = -1, any = 0, q;
    while (accept && *accept) {
        accept += strspn(accept, ", \t");
        size_t size = strcspn(accept, ",");
        if (element_is(accept, size, name, &q))
            weight = q;
        else if (element_is(accept, size, "*", &q))
            any = q;
        accept += size;
    }
    return weight < 0 ? any : weight;
}

/* What to answer in; NULL: as it is. */
static const char *choose(const char *accept)
{
    double gzip = accepted(accept, "gzip"), deflate = accepted(accept, "deflate");
    return gzip > 0 && gzip >= deflate ? "gzip" : deflate > 0 ? "deflate" : NULL;
}

/* malloc'd; NULL when it did not become smaller. */
static void *pack(const void *data, size_t size, int bits, size_t *size_r)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)size};
    unsigned char *out = malloc(size);
    if (!out || deflateInit2(&z, PACK_LEVEL, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(out);
        return NULL;
    }
    z.next_out = out;
    z.avail_out = (unsigned)size;
    bool done = deflate(&z, Z_FINISH) == Z_STREAM_END;
    *size_r = z.total_out;
    deflateEnd(&z);
    void *fit = done ? realloc(out, *size_r) : NULL;
    if (!done)
        free(out);
    return fit ? fit : done ? out : NULL;
}

void encoding_pack(struct request *q)
{
    struct response *r = &q->response;
    size_t size;
    if (r->content_type || r->kind == BODY_PULL || r->size < PACK_MIN || r->size > PIECE)
        return;
    reply_header(q, "Vary", "Accept-Encoding");
    const char *encoding = choose(request_header(q, "Accept-Encoding"));
    if (!encoding)
        return;
    void *packed = pack(r->body, r->size, encoding_bits(encoding), &size);
    if (!packed)
        return;
    reply_bytes(q, q->status, NULL, packed, size, BODY_MALLOC);
    reply_header(q, "Content-Encoding", encoding);
}
