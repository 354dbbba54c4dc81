/* json_scan.h: what json_in.c, json_scan.c and span.c share. */
#ifndef BACKPROPD_JSON_SCAN_H
#define BACKPROPD_JSON_SCAN_H

#include "json_in.h"

/* Finds the spans of a body, and refuses bodies that are nested too deeply, hold too many values
 * outside of spans, a NUL, a number or word that is too long or a control character in a string
 * (json_memory.c says why), or have spans that do not end or hold strings or objects. Everything
 * else that is wrong is left for jansson to find. */
int json_scan(struct json_in *in, struct arena *a, const char *text, size_t size, bool spans,
              struct error *e);

/* Whether arrays of numbers under this key, which is decoded, are spans. */
bool json_scan_key(const char *key);

/* 0: the text from `begin` to `end` is one JSON value to the letter of RFC 8259. Else
 * ERROR_BAD_JSON with the place of the first mistake in `body`, which the text is (a part of). */
int json_check(const char *body, const char *begin, const char *end, struct error *e);

/* Line and column of a place in the body, from 1; columns count characters. */
void json_position(const char *body, const char *at, long *line_r, long *column_r);

/* error_set with "line 3, column 17: " before the sentence; `at` lies in the span. */
int span_error(const struct json_span *s, const char *at, struct error *e, enum error_code code,
               const char *format, ...) __attribute__((format(printf, 5, 6)));

/* `n` floats from `at` on, which is behind the bracket or a comma of a flat list, each with the
 * comma behind it; `last`: the bracket that ends the list is behind the last. */
int span_read_some(const struct json_span *s, const char *at, int64_t n, bool last, float *out,
                   struct error *e);

static inline int json_hex_value(char c) /* -1: no digit */
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}
static inline bool json_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}
static inline const char *json_skip_space(const char *p, const char *end)
{
    while (p < end && json_is_space(*p))
        p++;
    return p;
}

#endif
