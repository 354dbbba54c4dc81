/* json_in.h: reading JSON bodies that may hold millions of numbers.
 *
 * jansson reads the envelope only. json_in_read finds the arrays of numbers (or booleans) that are
 * values of the keys "data", "inputs" and "targets", however deeply nested, and feeds jansson the
 * body with each of them replaced by [k], its place in a list of spans. A client cannot forge one
 * under these keys, since every array there that begins with a number is itself replaced; elsewhere
 * [k] is what the client wrote, so json_in_span, which leads back to the span, wants to know the
 * key. span_read parses the text straight into memory of the type that is wanted. Positions in
 * errors are those of the body that the client sent. */
#ifndef BACKPROPD_JSON_IN_H
#define BACKPROPD_JSON_IN_H

#include "backprop.h"

#include <jansson.h>

enum {
    JSON_IN_MAX_DEPTH = 64,
    JSON_IN_MAX_VALUES = 8 << 20, /* outside spans: each costs jansson up to 100 bytes */
    JSON_IN_MAX_TOKEN = 4096,     /* characters of a number outside spans */
};

struct json_span {
    const char *body;        /* of the whole body: positions are counted from here */
    const char *begin, *end; /* from '[' to one past its ']' */
};

struct json_in {
    json_t *root; /* NULL: nothing was read */
    struct json_span *spans;
    size_t n_spans;
    const char *text; /* that was read; NULL: none was */
    size_t size;
};

/* Once, before jansson is used: from then on it is known when jansson had no memory, which it may
 * call a syntax error, or which leaves a field out of an object. */
void json_in_start(void);
/* Whether it has happened in this thread since json_in_forget: what was read or built since then is
 * not to be trusted. */
bool json_in_starved(void);
void json_in_forget(void);
/* As json_dumps, which leaves out of its text what it had no memory for. To be freed; NULL: out of
 * memory, now or since json_in_forget. */
char *json_in_dump(const json_t *value, size_t flags);

/* As json_loadb with JSON_REJECT_DUPLICATES, for texts of our own; where_r may be NULL. NULL: it is
 * no such JSON, or json_in_starved. */
json_t *json_in_load(const char *text, size_t size, json_error_t *where_r);

/* Reads any JSON value. `text` must stay in place while spans are used; the list of spans is in
 * `a`. `spans` false: everything goes to jansson. With line and column:
 *
 *   ERROR_BAD_JSON         what RFC 8259 forbids, nesting deeper than JSON_IN_MAX_DEPTH and numbers
 *                          longer than JSON_IN_MAX_TOKEN
 *   ERROR_DUPLICATE_FIELD, ERROR_BAD_NAME, ERROR_BAD_VALUE
 *                          JSON that we do not take: a key twice, NUL in a key or string (they
 *                          would end there for us), integers beyond 64 bits
 *   ERROR_BAD_TYPE         a string or object among the numbers of a span
 *
 * and ERROR_OUT_OF_MEMORY. */
int json_in_read(struct json_in *in, struct arena *a, const char *text, size_t size, bool spans,
                 struct error *e);
/* Whether all of the text is JSON: for bodies that are refused, whose spans may not have been read.
 * ERROR_BAD_JSON with the first mistake; 0 when there is none, or no text. */
int json_in_check(const struct json_in *in, struct error *e);
void json_in_free(struct json_in *in);

/* The span that stands for the value of `key` in `object`; NULL when it is not there or an ordinary
 * value (strings, objects), and under every key but the three. */
const struct json_span *json_in_span(const struct json_in *in, const json_t *object,
                                     const char *key);

/* The sizes that the nesting shows: [[1,2,3],[4,5,6]] is [2,3]. Lists of unequal lengths or depths
 * are ERROR_BAD_SHAPE with line and column. *count_r is the product. */
int span_shape(const struct json_span *s, struct shape *shape_r, int64_t *count_r, struct error *e);

enum span_type {
    SPAN_FLOAT,
    SPAN_DOUBLE,
    SPAN_INT64,
    SPAN_UINT64,
    SPAN_BOOL /* one byte, 0 or 1 */
};
size_t span_type_size(enum span_type t);

/* Parses `count` elements into `out`. The nesting must be that of `shape` (numeric sizes; its count
 * is `count`), or flat. Sentences name line and column of the body.
 *   ERROR_BAD_JSON   what RFC 8259 forbids: 01, NaN, trailing commas
 *   ERROR_BAD_TYPE   true in a tensor of numbers, 1.5 in one of integers, null
 *   ERROR_BAD_VALUE  numbers that are too large for the type
 *   ERROR_BAD_SHAPE  nesting or count is not the shape's */
int span_read(const struct json_span *s, enum span_type t, const struct shape *shape, void *out,
              int64_t count, struct error *e);

struct pool;
/* The same for many numbers in a flat list, by the threads of `pool`. False: not done, whether it
 * does not pay or the text is wrong; span_read does it then, or says what is wrong. */
bool span_read_pieces(const struct json_span *s, struct pool *pool, float *out, int64_t count);

#endif
