/* span_pieces.c: a long flat list of numbers, read by several threads. The text is cut behind
 * commas into pieces of about the same size; the commas before a piece are the numbers before it,
 * so each knows where its own belong. Commas are counted first, which takes a fraction of the time
 * of reading. The pieces together are the whole text, each number and comma once: what is read is
 * what one thread would have read, and what is wrong anywhere is left to one thread to find and
 * tell. */
#include "json_scan.h"

#include "backprop.h"

#include <stdatomic.h>
#include <string.h>

enum { PIECE_BYTES = 16 << 10, PIECES_MAX = 64 };

struct piece {
    const char *begin, *end;
    int64_t first, n; /* its numbers */
};

struct pieces {
    const struct json_span *s;
    float *out;
    int n;
    atomic_bool failed;
    struct piece piece[PIECES_MAX];
};

/* False: there are not enough commas for all pieces. */
static bool cut(struct pieces *ps)
{
    const char *begin = ps->s->begin + 1, *end = ps->s->end;
    size_t size = (size_t)(end - begin);
    for (int k = 0; k < ps->n; k++) {
        const char *from = ps->s->begin + 1 + size * (size_t)(k + 1) / (size_t)ps->n;
        const char *comma = k + 1 == ps->n ? end - 1
                            : from > begin ? memchr(from, ',', (size_t)(end - from))
                                           : NULL;
        if (!comma)
            return false;
        ps->piece[k] = (struct piece){.begin = begin, .end = comma + 1};
        begin = comma + 1;
    }
    return true;
}

static void count_some(void *arg, int64_t from, int64_t to, int worker)
{
    struct pieces *ps = arg;
    (void)worker;
    for (int64_t k = from; k < to; k++) {
        struct piece *p = &ps->piece[k];
        size_t commas = 0, size = (size_t)(p->end - p->begin);
        for (size_t i = 0; i < size; i++)
            commas += p->begin[i] == ',';
        p->n = (int64_t)commas + (k + 1 == ps->n);
    }
}

static void read_some(void *arg, int64_t from, int64_t to, int worker)
{
    struct pieces *ps = arg;
    struct error e;
    (void)worker;
    for (int64_t k = from; k < to && !atomic_load(&ps->failed); k++) {
        const struct piece *p = &ps->piece[k];
        if (span_read_some(ps->s, p->begin, p->n, k + 1 == ps->n, ps->out + p->first, &e))
            atomic_store(&ps->failed, true);
    }
}

bool span_read_pieces(const struct json_span *s, struct pool *pool, float *out, int64_t count)
{
    size_t n = (size_t)(s->end - s->begin) / PIECE_BYTES;
    struct pieces ps = {.s = s, .out = out, .n = n < PIECES_MAX ? (int)n : PIECES_MAX};
    int64_t all = 0;
    if (n < 2 || pool_threads(pool) < 2 || !cut(&ps))
        return false;
    pool_for(pool, ps.n, 1, count_some, &ps);
    for (int k = 0; k < ps.n; k++) {
        ps.piece[k].first = all;
        all += ps.piece[k].n;
    }
    if (all != count)
        return false;
    pool_for(pool, ps.n, 1, read_some, &ps);
    return !atomic_load(&ps.failed);
}
