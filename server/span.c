/* span.c: from the text of an array of numbers to numbers in memory. What is accepted is exactly
 * RFC 8259's arrays of the wanted type, flat or nested as the shape says. A span ends with the
 * bracket that closes it, so no step here needs to look for the end. */
#include "json_scan.h"
#include "number.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- sentences ------------------------------------------------------------------------------- */

/* "line 3, column 17: " and the rest. */
int span_error(const struct json_span *s, const char *at, struct error *e, enum error_code code,
               const char *format, ...)
{
    char text[200];
    long line, column;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_position(s->body, at, &line, &column);
    return error_set(e, code, "line %ld, column %ld: %s", line, column, text);
}

/* The word at p, for a sentence: up to a comma, bracket or space. */
struct word {
    char text[28];
};
static const char *word_at(const char *p, const char *end, struct word *w)
{
    size_t n = 0;
    while (p + n < end && n < sizeof w->text - 4 && p[n] > ' ' && p[n] < 127 &&
           !strchr(",[]", p[n]))
        n++;
    if (!n && p<end && * p> ' ' && *p < 127)
        n = 1;
    bool cut = n == sizeof w->text - 4;
    memcpy(w->text, p, n);
    strcpy(w->text + n, cut ? "..." : "");
    return w->text;
}

/* ---- elements -------------------------------------------------------------------------------- */

struct reader {
    const struct json_span *s;
    const char *p;
    struct error *error;
};

/* What stands at r->p is no number. */
static int not_a_number(struct reader *r, const char *where)
{
    struct word w;
    const char *word = word_at(r->p, r->s->end, &w);
    if (*r->p == '[')
        return span_error(r->s, r->p, r->error, ERROR_BAD_SHAPE,
                          "a list where a number was expected");
    if (!strcmp(word, "true") || !strcmp(word, "false") || !strcmp(word, "null"))
        return span_error(r->s, r->p, r->error, ERROR_BAD_TYPE, "found %s, expected a number",
                          word);
    return span_error(r->s, where, r->error, ERROR_BAD_JSON, "'%s' is not a JSON number", word);
}

static int too_large(struct reader *r, const char *type)
{
    struct word w;
    return span_error(r->s, r->p, r->error, ERROR_BAD_VALUE, "%s is too large for %s",
                      word_at(r->p, r->s->end, &w), type);
}

static int not_whole(struct reader *r)
{
    struct word w;
    return span_error(r->s, r->p, r->error, ERROR_BAD_TYPE,
                      "%s is not a whole number, as the datatype wants",
                      word_at(r->p, r->s->end, &w));
}

/* Parses one element at r->p into out[i] and moves on. */
typedef int element_fn(struct reader *r, void *out, int64_t i);

static inline int element_scan(struct reader *r, struct number *n, const char **after)
{
    const char *where;
    *after = number_scan(r->p, r->s->end, n, &where);
    return *after ? 0 : not_a_number(r, where);
}

static inline int element_float(struct reader *r, void *out, int64_t i)
{
    struct number n;
    const char *after;
    if (element_scan(r, &n, &after))
        return -1;
    if (!number_float(&n, (float *)out + i))
        return too_large(r, "32-bit floats");
    r->p = after;
    return 0;
}

static inline int element_double(struct reader *r, void *out, int64_t i)
{
    struct number n;
    const char *after;
    if (element_scan(r, &n, &after))
        return -1;
    if (!number_double(&n, (double *)out + i))
        return too_large(r, "64-bit floats");
    r->p = after;
    return 0;
}

static inline int element_int64(struct reader *r, void *out, int64_t i)
{
    struct number n;
    const char *after;
    if (element_scan(r, &n, &after))
        return -1;
    enum number_whole w = number_int64(&n, (int64_t *)out + i);
    if (w != NUMBER_WHOLE)
        return w == NUMBER_OVERFLOW ? too_large(r, "INT64") : not_whole(r);
    r->p = after;
    return 0;
}

static inline int element_uint64(struct reader *r, void *out, int64_t i)
{
    struct number n;
    const char *after;
    if (element_scan(r, &n, &after))
        return -1;
    enum number_whole w = number_uint64(&n, (uint64_t *)out + i);
    if (w == NUMBER_OVERFLOW && n.negative)
        return span_error(r->s, r->p, r->error, ERROR_BAD_VALUE,
                          "a negative number, the datatype is unsigned");
    if (w != NUMBER_WHOLE)
        return w == NUMBER_OVERFLOW ? too_large(r, "UINT64") : not_whole(r);
    r->p = after;
    return 0;
}

static inline int element_bool(struct reader *r, void *out, int64_t i)
{
    static const struct {
        const char *word;
        unsigned char value;
    } rows[] = {{"true", 1}, {"false", 0}, {"1", 1}, {"0", 0}};
    struct word w;
    const char *word = word_at(r->p, r->s->end, &w);
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
        if (!strcmp(word, rows[k].word)) {
            ((unsigned char *)out)[i] = rows[k].value;
            r->p += strlen(word);
            return 0;
        }
    return span_error(r->s, r->p, r->error, ERROR_BAD_TYPE, "found %s, expected true or false",
                      *word ? word : "nothing");
}

/* ---- lists ----------------------------------------------------------------------------------- */

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* After element i of n: a comma, or the bracket after the last. */
static inline int list_next(struct reader *r, int64_t i, int64_t n, const char *what)
{
    struct word w;
    if (json_is_space(*r->p))
        r->p = json_skip_space(r->p, r->s->end);
    bool last = i + 1 == n;
    if (*r->p == (last ? ']' : ',')) {
        r->p++;
        if (json_is_space(*r->p) && !last)
            r->p = json_skip_space(r->p, r->s->end);
        return 0;
    }
    if (*r->p == ']')
        return span_error(r->s, r->p, r->error, ERROR_BAD_SHAPE,
                          "the list ends after %lld %s%s, expected %lld", (long long)i + 1, what,
                          plural(i + 1), (long long)n);
    if (*r->p != ',')
        return span_error(r->s, r->p, r->error, ERROR_BAD_JSON, "expected ',' or ']', found '%s'",
                          word_at(r->p, r->s->end, &w));
    const char *after = json_skip_space(r->p + 1, r->s->end);
    if (*after == ']' || *after == ',')
        return span_error(r->s, after, r->error, ERROR_BAD_JSON, "nothing between ',' and '%c'",
                          *after);
    return span_error(r->s, after, r->error, ERROR_BAD_SHAPE,
                      "the list has more than the expected %lld %s%s", (long long)n, what,
                      plural(n));
}

/* The opening bracket; and the closing one if the list has to be empty. */
static int list_begin(struct reader *r, int64_t n)
{
    struct word w;
    if (*r->p != '[')
        return span_error(r->s, r->p, r->error, ERROR_BAD_SHAPE, "expected a list, found '%s'",
                          word_at(r->p, r->s->end, &w));
    r->p = json_skip_space(r->p + 1, r->s->end);
    if ((n == 0) == (*r->p == ']')) {
        r->p += n == 0;
        return 0;
    }
    return span_error(r->s, r->p, r->error, ERROR_BAD_SHAPE,
                      n ? "an empty list, expected %lld elements"
                        : "a list with elements, expected %lld",
                      (long long)n);
}

static inline __attribute__((always_inline)) int read_list(struct reader *r, void *out, int64_t n,
                                                           element_fn *element)
{
    if (list_begin(r, n))
        return -1;
    for (int64_t i = 0; i < n; i++)
        if (element(r, out, i) || list_next(r, i, n, "number"))
            return -1;
    return 0;
}

typedef int list_fn(struct reader *r, void *out, int64_t n);
static int list_float(struct reader *r, void *out, int64_t n)
{
    return read_list(r, out, n, element_float);
}
static int list_double(struct reader *r, void *out, int64_t n)
{
    return read_list(r, out, n, element_double);
}
static int list_int64(struct reader *r, void *out, int64_t n)
{
    return read_list(r, out, n, element_int64);
}
static int list_uint64(struct reader *r, void *out, int64_t n)
{
    return read_list(r, out, n, element_uint64);
}
static int list_bool(struct reader *r, void *out, int64_t n)
{
    return read_list(r, out, n, element_bool);
}

static const struct {
    size_t size;
    list_fn *list;
} types[] = {
    [SPAN_FLOAT] = {sizeof(float), list_float},
    [SPAN_DOUBLE] = {sizeof(double), list_double},
    [SPAN_INT64] = {sizeof(int64_t), list_int64},
    [SPAN_UINT64] = {sizeof(uint64_t), list_uint64},
    [SPAN_BOOL] = {1, list_bool},
};

size_t span_type_size(enum span_type t)
{
    return types[t].size;
}

/* A list of depth d (0: outermost) of a nested array; *out moves on. */
static int read_nested(struct reader *r, const struct shape *shape, int d, enum span_type t,
                       char **out)
{
    int64_t n = shape->dim[d];
    if (d + 1 == shape->rank) {
        if (types[t].list(r, *out, n))
            return -1;
        *out += (size_t)n * types[t].size;
        return 0;
    }
    if (list_begin(r, n))
        return -1;
    for (int64_t i = 0; i < n; i++)
        if (read_nested(r, shape, d + 1, t, out) || list_next(r, i, n, "list"))
            return -1;
    return 0;
}

int span_read_some(const struct json_span *s, const char *at, int64_t n, bool last, float *out,
                   struct error *e)
{
    struct reader r = {s, json_skip_space(at, s->end), e};
    int64_t size = last ? n : INT64_MAX;
    for (int64_t i = 0; i < n; i++)
        if (element_float(&r, out, i) || list_next(&r, i, size, "number"))
            return -1;
    return 0;
}

/* Whether the first element is a list itself. */
static bool nested(const struct json_span *s)
{
    return *json_skip_space(s->begin + 1, s->end) == '[';
}

int span_read(const struct json_span *s, enum span_type t, const struct shape *shape, void *out,
              int64_t count, struct error *e)
{
    struct reader r = {s, s->begin, e};
    char *to = out;
    if (!nested(s))
        return types[t].list(&r, out, count);
    if (shape->rank < 2)
        return span_error(s, s->begin, e, ERROR_BAD_SHAPE,
                          "nested lists, expected a flat one of %lld number%s", (long long)count,
                          plural(count));
    return read_nested(&r, shape, 0, t, &to);
}
