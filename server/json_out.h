/* json_out.h: writing JSON onto one growable buffer. Commas, quotes and escapes are made here and
 * nowhere else. Running out of memory is remembered: later calls do nothing, and reply_json answers
 * 507. A writer is used by one thread at a time. */
#ifndef BACKPROPD_JSON_OUT_H
#define BACKPROPD_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_OUT_MAX_DEPTH = 63 };

struct json_out {
    char *data; /* malloc'd; not NUL-terminated */
    size_t size, cap;
    uint64_t arrays; /* bit d: the container at depth d is an array */
    int depth;
    bool comma;          /* the next value or key needs one */
    bool failed;         /* out of memory */
    uint64_t non_finite; /* numbers that were written as null */
};

#define JSON_OUT_INIT ((struct json_out){0})
void out_free(struct json_out *w);

void out_open_object(struct json_out *w);
void out_open_array(struct json_out *w);
void out_close(struct json_out *w); /* the innermost that is open */
void out_key(struct json_out *w, const char *key);

/* Values. Bytes that are not UTF-8 become U+FFFD; NULL becomes null. */
void out_string(struct json_out *w, const char *text);
void out_string_n(struct json_out *w, const char *text, size_t size);
void out_int(struct json_out *w, int64_t i);
void out_uint(struct json_out *w, uint64_t u);
void out_double(struct json_out *w, double d); /* shortest; not finite: null, counted */
void out_float(struct json_out *w, float f);   /* shortest for a float32 */
void out_bool(struct json_out *w, bool b);
void out_null(struct json_out *w);
void out_raw(struct json_out *w, const char *json, size_t size); /* a value that is JSON already */

/* Whole arrays: [1,2.5,...]. */
void out_floats(struct json_out *w, const float *v, size_t n);
void out_doubles(struct json_out *w, const double *v, size_t n);
void out_int64s(struct json_out *w, const int64_t *v, size_t n);
void out_bools(struct json_out *w, const uint8_t *v, size_t n);

/* A key and its value. */
void out_put_string(struct json_out *w, const char *key, const char *text);
void out_put_int(struct json_out *w, const char *key, int64_t i);
void out_put_uint(struct json_out *w, const char *key, uint64_t u);
void out_put_double(struct json_out *w, const char *key, double d);
void out_put_bool(struct json_out *w, const char *key, bool b);
void out_put_int64s(struct json_out *w, const char *key, const int64_t *v, size_t n);
void out_put_non_finite(struct json_out *w); /* "non_finite": how many, if there were any */

/* Bytes after the JSON, for binary tensors. */
void out_append_bytes(struct json_out *w, const void *bytes, size_t size);

#endif
