/* span_shape.c: the sizes that the nesting of an array of numbers shows. Counts elements, does not
 * look at them: span_read checks everything. */
#include "json_scan.h"

#include <string.h>

struct measure {
    int depth, leaf;                   /* where we are; the depth of numbers, 0: not known yet */
    int64_t count[SHAPE_MAX_RANK + 1]; /* elements so far of the open list of each depth */
    int64_t dim[SHAPE_MAX_RANK + 1];   /* -1: not known yet */
};

static int measure_open(struct measure *m, const struct json_span *s, const char *p,
                        struct error *e)
{
    if (m->depth == SHAPE_MAX_RANK)
        return span_error(s, p, e, ERROR_BAD_SHAPE, "data are nested more than %d deep",
                          SHAPE_MAX_RANK);
    if (m->leaf && m->depth >= m->leaf)
        return span_error(s, p, e, ERROR_BAD_SHAPE, "a list where a number was expected");
    m->count[m->depth]++;
    m->count[++m->depth] = 0;
    return 0;
}

static int measure_number(struct measure *m, const struct json_span *s, const char *p,
                          struct error *e)
{
    if (m->leaf && m->depth != m->leaf)
        return span_error(s, p, e, ERROR_BAD_SHAPE, "a number where a list was expected");
    m->leaf = m->depth;
    m->count[m->depth]++;
    return 0;
}

static int measure_close(struct measure *m, const struct json_span *s, const char *p,
                         struct error *e)
{
    int64_t n = m->count[m->depth], *dim = &m->dim[m->depth];
    if (!n && !m->leaf)
        m->leaf = m->depth;
    if (*dim >= 0 && *dim != n)
        return span_error(s, p, e, ERROR_BAD_SHAPE,
                          "a list of length %lld after one of length %lld", (long long)n,
                          (long long)*dim);
    *dim = n;
    m->depth--;
    return 0;
}

static const char *skip_word(const char *p, const char *end)
{
    while (p < end && *p != ',' && *p != ']' && *p != '[' && !json_is_space(*p))
        p++;
    return p;
}

int span_shape(const struct json_span *s, struct shape *shape_r, int64_t *count_r, struct error *e)
{
    struct measure m = {0};
    memset(m.dim, -1, sizeof m.dim);
    for (const char *p = s->begin; p < s->end;) {
        int failed = 0;
        if (*p == '[')
            failed = measure_open(&m, s, p++, e);
        else if (*p == ']')
            failed = measure_close(&m, s, p++, e);
        else if (*p == ',' || json_is_space(*p))
            p++;
        else {
            failed = measure_number(&m, s, p, e);
            p = skip_word(p, s->end);
        }
        if (failed)
            return -1;
    }
    *shape_r = (struct shape){.rank = m.leaf};
    memcpy(shape_r->dim, m.dim + 1, (size_t)m.leaf * sizeof *m.dim);
    if (!shape_count(shape_r, 1, count_r))
        return span_error(s, s->begin, e, ERROR_BAD_SHAPE, "too many numbers");
    return 0;
}
