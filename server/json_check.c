/* json_check.c: whether a text is JSON to the letter of RFC 8259, and nothing more: no values are
 * made, no memory is taken. Bodies that are accepted do not come here, their readers have seen all
 * of them. One that is refused for what it says may still have mistakes behind the place where its
 * reader stopped; this finds the first.
 *
 * It is a loop over tokens with a bit for each level of nesting: object or list. */
#include "json_scan.h"
#include "number.h"

#include <string.h>

struct check {
    const char *p, *end;
    uint64_t objects; /* bit d: what is open at depth d is an object */
    int depth;
    const char *what; /* is wrong at p */
};
_Static_assert(JSON_IN_MAX_DEPTH <= 64, "a bit for each level");

static bool wrong(struct check *c, const char *what)
{
    c->what = what;
    return false;
}

static bool is_next(const struct check *c, char wanted)
{
    return c->p < c->end && *c->p == wanted;
}

/* ---- strings --------------------------------------------------------------------------------- */

/* The length of the UTF-8 sequence at p, 0: it is none (RFC 3629: no surrogates, shortest form). */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    static const struct {
        unsigned char first, last, low, high; /* of the first byte, and of the second */
        size_t length;
    } rows[] = {
        {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (*p < rows[i].first || *p > rows[i].last)
            continue;
        size_t n = rows[i].length;
        if ((size_t)(end - p) < n || (n > 1 && (p[1] < rows[i].low || p[1] > rows[i].high)))
            return 0;
        for (size_t k = 2; k < n; k++)
            if ((p[k] & 0xC0) != 0x80)
                return 0;
        return n;
    }
    return 0;
}

static bool check_escape(struct check *c)
{
    size_t digits = 0;
    if (++c->p == c->end || !*c->p || !strchr("\"\\/bfnrtu", *c->p))
        return wrong(c, "an escape that JSON does not have");
    if (*c->p++ != 'u')
        return true;
    while (digits < 4 && c->p < c->end && json_hex_value(*c->p) >= 0)
        c->p++, digits++;
    return digits == 4 || wrong(c, "\\u without four hexadecimal digits");
}

static bool check_string(struct check *c)
{
    if (!is_next(c, '"'))
        return wrong(c, "expected a string");
    for (c->p++; !is_next(c, '"');) {
        if (c->p == c->end)
            return wrong(c, "a string that does not end");
        if ((unsigned char)*c->p < ' ')
            return wrong(c, "a control character in a string");
        if (*c->p == '\\') {
            if (!check_escape(c))
                return false;
            continue;
        }
        size_t n = utf8_length((const unsigned char *)c->p, (const unsigned char *)c->end);
        if (!n)
            return wrong(c, "bytes that are not UTF-8");
        c->p += n;
    }
    c->p++;
    return true;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool check_number(struct check *c)
{
    struct number n;
    const char *where, *after = number_scan(c->p, c->end, &n, &where);
    c->p = after ? after : where;
    return after || wrong(c, "not a JSON number");
}

static bool check_scalar(struct check *c)
{
    static const char *const words[] = {"true", "false", "null"};
    if (is_next(c, '"'))
        return check_string(c);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(c->end - c->p) >= n && !memcmp(c->p, words[i], n)) {
            c->p += n;
            return true;
        }
    }
    if (c->p < c->end && *c->p && strchr("-0123456789", *c->p))
        return check_number(c);
    return wrong(c, "expected a value");
}

static bool in_object(const struct check *c)
{
    return c->objects >> (c->depth - 1) & 1;
}

static bool check_key(struct check *c)
{
    c->p = json_skip_space(c->p, c->end);
    if (!check_string(c))
        return false;
    c->p = json_skip_space(c->p, c->end);
    if (!is_next(c, ':'))
        return wrong(c, "expected ':'");
    c->p++;
    return true;
}

/* The brackets of values that begin here, down to a scalar or an empty list. */
static bool check_value(struct check *c)
{
    for (;;) {
        c->p = json_skip_space(c->p, c->end);
        bool object = is_next(c, '{');
        if (!object && !is_next(c, '['))
            return check_scalar(c);
        if (c->depth == JSON_IN_MAX_DEPTH)
            return wrong(c, "values are nested more than 64 deep");
        c->objects &= ~((uint64_t)1 << c->depth);
        c->objects |= (uint64_t)object << c->depth++;
        c->p = json_skip_space(c->p + 1, c->end);
        if (is_next(c, object ? '}' : ']')) /* check_after takes it */
            return true;
        if (object && !check_key(c))
            return false;
    }
}

/* Behind a value: closing brackets, then a comma, or the end of it all (*done_r). */
static bool check_after(struct check *c, bool *done_r)
{
    for (;;) {
        c->p = json_skip_space(c->p, c->end);
        *done_r = !c->depth;
        if (!c->depth)
            return c->p == c->end || wrong(c, "expected the end");
        if (is_next(c, in_object(c) ? '}' : ']')) {
            c->p++;
            c->depth--;
            continue;
        }
        if (!is_next(c, ','))
            return wrong(c, in_object(c) ? "expected ',' or '}'" : "expected ',' or ']'");
        c->p++;
        return !in_object(c) || check_key(c);
    }
}

int json_check(const char *body, const char *begin, const char *end, struct error *e)
{
    struct check c = {.p = begin, .end = end};
    long line, column;
    bool done = false;
    while (!done)
        if (!check_value(&c) || !check_after(&c, &done)) {
            json_position(body, c.p, &line, &column);
            return error_set(e, ERROR_BAD_JSON, "line %ld, column %ld: %s", line, column, c.what);
        }
    return 0;
}
