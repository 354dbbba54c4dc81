/* json_scan.c: one pass over a body that finds the arrays of numbers in it.
 *
 * It needs to understand little: where strings end, and that a string before a colon is a key. In a
 * body that is JSON this finds exactly the values of the three keys; one that is not JSON is
 * refused by jansson, whatever was found. Keys are compared as they decode: "d\u0061ta" is data. */
#include "json_scan.h"

#include <string.h>

struct scan {
    struct json_in *in;
    struct arena *arena;
    const char *text, *end;
    size_t cap; /* of in->spans */
    bool spans;
    int depth;
    int parameters; /* depth of the key that we are under the value of, 0: under none. What stands
                     * there may be read by nobody: its spans are checked here */
    int64_t values;
    int token; /* characters of the number or word so far */
    struct error *error;
};

static int scan_error(struct scan *s, const char *at, enum error_code code, const char *what)
{
    long line, column;
    json_position(s->text, at, &line, &column);
    return error_set(s->error, code, "line %ld, column %ld: %s", line, column, what);
}

/* ---- strings and keys ------------------------------------------------------------------------ */

/* The closing quote, `end` without one, or before it a control character. p is past the opening
 * one. */
static const char *string_stop(const char *p, const char *end)
{
    while (p < end && *p != '"' && (unsigned char)*p >= ' ')
        p += *p == '\\' ? 2 : 1;
    return p < end ? p : end;
}

/* The character of an escape after its backslash, 0 for those that no key of ours has. */
static char escape_value(const char **p, const char *end)
{
    if (**p != 'u' || end - *p < 5)
        return 0;
    int v = 0;
    for (int i = 1; i <= 4; i++) {
        int h = json_hex_value((*p)[i]);
        if (h < 0)
            return 0;
        v = v * 16 + h;
    }
    *p += 4;
    return (char)(v < 128 ? v : 0);
}

enum key { KEY_OTHER, KEY_SPAN, KEY_PARAMETERS };

static enum key key_named(const char *name, size_t size)
{
    static const struct {
        const char *name;
        enum key key;
    } rows[] = {{"data", KEY_SPAN},
                {"inputs", KEY_SPAN},
                {"targets", KEY_SPAN},
                {"parameters", KEY_PARAMETERS}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].name) == size && !memcmp(rows[i].name, name, size))
            return rows[i].key;
    return KEY_OTHER;
}

bool json_scan_key(const char *key)
{
    return key_named(key, strlen(key)) == KEY_SPAN;
}

/* What the key between its quotes means here. */
static enum key key_find(const char *p, const char *end)
{
    enum { LONGEST = 10 };
    char text[LONGEST];
    size_t n = 0;
    for (; p < end; p++) {
        if (n == LONGEST)
            return KEY_OTHER;
        char c = *p;
        if (c == '\\') {
            p++;
            c = escape_value(&p, end);
        }
        text[n++] = c;
    }
    return key_named(text, n);
}

/* ---- spans ----------------------------------------------------------------------------------- */

/* Whether the array at p begins with a number, true, false or null, however deep, or is empty. */
static bool begins_numbers(const char *p, const char *end)
{
    while (p < end && (*p == '[' || json_is_space(*p)))
        p++;
    return p < end && *p && strchr("-0123456789tfn]", *p);
}

typedef unsigned char bytes16 __attribute__((vector_size(16)));

/* Skips what lies between brackets: 16 bytes at a time that have no [ ] { } and no quote. */
static const char *skip_numbers(const char *p, const char *end)
{
    for (; end - p >= 16; p += 16) {
        bytes16 v;
        uint64_t found[2];
        memcpy(&v, p, 16);
        bytes16 low = v | 0x20; /* [ and { become one, ] and } too */
        bytes16 hit = (bytes16)(low == 0x7B) | (bytes16)(low == 0x7D) | (bytes16)(v == 0x22);
        memcpy(found, &hit, 16);
        if (found[0] | found[1])
            break;
    }
    while (p < end && *p != '[' && *p != ']' && *p != '"' && *p != '{' && *p != '}')
        p++;
    return p;
}

/* One past the bracket that closes the one at p; NULL with an error. */
static const char *span_end(struct scan *s, const char *begin)
{
    int depth = 1;
    for (const char *p = begin + 1;; p++) {
        p = skip_numbers(p, s->end);
        if (p == s->end) {
            scan_error(s, begin, ERROR_BAD_JSON, "the list that begins here does not end");
            return NULL;
        }
        if (*p == '}') {
            scan_error(s, p, ERROR_BAD_JSON, "'}' before the end of a list");
            return NULL;
        }
        if (*p != '[' && *p != ']') {
            scan_error(s, p, ERROR_BAD_TYPE,
                       *p == '"' ? "a string in a list of numbers"
                                 : "an object in a list of numbers");
            return NULL;
        }
        depth += *p == '[' ? 1 : -1;
        if (!depth)
            return p + 1;
        if (s->depth + depth > JSON_IN_MAX_DEPTH) {
            scan_error(s, p, ERROR_BAD_JSON, "lists are nested more than 64 deep");
            return NULL;
        }
    }
}

static int span_add(struct scan *s, const char *begin, const char *end)
{
    struct json_in *in = s->in;
    if (in->n_spans == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        struct json_span *more = arena_array(s->arena, cap, sizeof *more);
        if (!more)
            return error_set(s->error, ERROR_OUT_OF_MEMORY, "out of memory for reading the body");
        if (in->n_spans)
            memcpy(more, in->spans, in->n_spans * sizeof *more);
        in->spans = more;
        s->cap = cap;
    }
    in->spans[in->n_spans++] = (struct json_span){s->text, begin, end};
    s->values += 2;
    return 0;
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* A string, and the array after it if it is a key of ours. NULL with an error; the end of the body
 * when the string has none. */
static const char *scan_string(struct scan *s, const char *p)
{
    const char *stop = string_stop(p + 1, s->end), *after = stop + 1, *value;
    if (stop == s->end)
        return stop;
    if (*stop != '"') {
        scan_error(s, stop, ERROR_BAD_JSON, "a control character in a string");
        return NULL;
    }
    value = json_skip_space(after, s->end);
    if (!s->spans || value == s->end || *value != ':')
        return after;
    enum key key = key_find(p + 1, after - 1);
    if (s->depth <= s->parameters)
        s->parameters = 0;
    if (key == KEY_PARAMETERS && !s->parameters)
        s->parameters = s->depth;
    value = json_skip_space(value + 1, s->end);
    if (key != KEY_SPAN || value == s->end || *value != '[' || !begins_numbers(value, s->end))
        return value;
    const char *end = span_end(s, value);
    if (!end || (s->parameters && json_check(s->text, value, end, s->error)))
        return NULL;
    return span_add(s, value, end) ? NULL : end;
}

/* Everything else: counts. */
static int scan_char(struct scan *s, const char *p)
{
    bool opens = *p == '[' || *p == '{', closes = *p == ']' || *p == '}';
    s->depth += opens - closes;
    s->values += opens || *p == ',';
    s->token = opens || closes || json_is_space(*p) || strchr(",:", *p) ? 0 : s->token + 1;
    if (!*p) /* jansson may pass over one */
        return scan_error(s, p, ERROR_BAD_JSON, "a NUL byte");
    if (s->token > JSON_IN_MAX_TOKEN)
        return scan_error(s, p, ERROR_BAD_JSON, "a number or a word of more than 4096 characters");
    if (s->depth > JSON_IN_MAX_DEPTH)
        return scan_error(s, p, ERROR_BAD_JSON, "values are nested more than 64 deep");
    if (s->values > JSON_IN_MAX_VALUES)
        return scan_error(s, p, ERROR_BAD_JSON,
                          "the body has more than 8388608 values that are not a tensor's data");
    return 0;
}

int json_scan(struct json_in *in, struct arena *a, const char *text, size_t size, bool spans,
              struct error *e)
{
    struct scan s = {in, a, text, text + size, 0, spans, 0, 0, 0, 0, e};
    for (const char *p = text; p < s.end;) {
        if (*p == '"') {
            if (!(p = scan_string(&s, p)))
                return -1;
        } else if (scan_char(&s, p++)) {
            return -1;
        }
    }
    return 0;
}
