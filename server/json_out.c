/* json_out.c: the JSON writer. A value first writes the comma that it needs; out_close knows from a
 * bit per depth what it closes. */
#include "json_out.h"
#include "number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 1024 };

void out_free(struct json_out *w)
{
    free(w->data);
    *w = JSON_OUT_INIT;
}

/* Room for `size` more bytes; NULL when there is none, now or before. */
static char *out_reserve(struct json_out *w, size_t size)
{
    if (w->failed)
        return NULL;
    if (w->cap - w->size >= size)
        return w->data + w->size;
    size_t need, cap = w->cap > SIZE_MAX / 2 ? SIZE_MAX : w->cap ? 2 * w->cap : FIRST_CAP;
    w->failed = __builtin_add_overflow(w->size, size, &need);
    char *data = w->failed ? NULL : realloc(w->data, cap > need ? cap : need);
    if (!data) {
        w->failed = true;
        return NULL;
    }
    w->data = data;
    w->cap = cap > need ? cap : need;
    return w->data + w->size;
}

void out_append_bytes(struct json_out *w, const void *bytes, size_t size)
{
    char *p = size ? out_reserve(w, size) : NULL;
    if (p) {
        memcpy(p, bytes, size);
        w->size += size;
    }
}

static void put_char(struct json_out *w, char c)
{
    char *p = out_reserve(w, 1);
    if (p) {
        *p = c;
        w->size++;
    }
}

/* The comma before a value or key, if it is not the first. */
static void begin_value(struct json_out *w)
{
    if (w->comma)
        put_char(w, ',');
    w->comma = true;
}

void out_raw(struct json_out *w, const char *json, size_t size)
{
    begin_value(w);
    out_append_bytes(w, json, size);
}

/* ---- containers ------------------------------------------------------------------------------ */

static void open_container(struct json_out *w, char bracket, uint64_t array)
{
    begin_value(w);
    put_char(w, bracket);
    w->comma = false;
    if (w->depth == JSON_OUT_MAX_DEPTH) {
        w->failed = true;
        return;
    }
    w->arrays = (w->arrays & ~((uint64_t)1 << w->depth)) | array << w->depth;
    w->depth++;
}

void out_open_object(struct json_out *w)
{
    open_container(w, '{', 0);
}

void out_open_array(struct json_out *w)
{
    open_container(w, '[', 1);
}

void out_close(struct json_out *w)
{
    if (!w->depth)
        return;
    w->depth--;
    put_char(w, w->arrays >> w->depth & 1 ? ']' : '}');
    w->comma = true;
}

void out_key(struct json_out *w, const char *key)
{
    out_string(w, key);
    put_char(w, ':');
    w->comma = false;
}

/* ---- strings --------------------------------------------------------------------------------- */

/* The length of the UTF-8 character at p, 0 when it is none: overlong forms, surrogates and what is
 * beyond U+10FFFF are none (table 3-7 of the Unicode standard). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char first, last, low, high; /* of the lead byte; of the byte after it */
        unsigned char length;
    } rows[] = {
        {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (*p < rows[i].first || *p > rows[i].last)
            continue;
        size_t n = rows[i].length;
        if (n > left || (n > 1 && (p[1] < rows[i].low || p[1] > rows[i].high)))
            return 0;
        for (size_t k = 2; k < n; k++)
            if (p[k] < 0x80 || p[k] > 0xBF)
                return 0;
        return n;
    }
    return 0;
}

static void put_escape(struct json_out *w, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt", hex[] = "0123456789abcdef";
    const char *found = c ? strchr(from, c) : NULL;
    char text[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    if (found)
        text[1] = to[found - from];
    out_append_bytes(w, text, found ? 2 : sizeof text);
}

static bool plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

void out_string_n(struct json_out *w, const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + size;
    begin_value(w);
    put_char(w, '"');
    while (p < end) {
        const unsigned char *from = p;
        while (p < end && plain(*p))
            p++;
        out_append_bytes(w, from, (size_t)(p - from));
        if (p == end)
            break;
        size_t n = utf8_length(p, (size_t)(end - p));
        if (n > 1)
            out_append_bytes(w, p, n);
        else if (n && *p != 0x7F)
            put_escape(w, *p);
        else
            out_append_bytes(w, n ? "\x7F" : "\xEF\xBF\xBD", n ? 1 : 3);
        p += n ? n : 1;
    }
    put_char(w, '"');
}

void out_string(struct json_out *w, const char *text)
{
    if (text)
        out_string_n(w, text, strlen(text));
    else
        out_null(w);
}

/* ---- single values --------------------------------------------------------------------------- */

void out_int(struct json_out *w, int64_t i)
{
    char text[NUMBER_INT_MAX];
    out_raw(w, text, number_write_int(text, i));
}

void out_uint(struct json_out *w, uint64_t u)
{
    char text[NUMBER_INT_MAX];
    out_raw(w, text, number_write_uint(text, u));
}

void out_double(struct json_out *w, double d)
{
    char text[NUMBER_DOUBLE_MAX];
    if (isfinite(d)) {
        out_raw(w, text, number_write_double(text, d));
        return;
    }
    w->non_finite++;
    out_null(w);
}

void out_float(struct json_out *w, float f)
{
    char text[NUMBER_FLOAT_MAX];
    if (isfinite(f)) {
        out_raw(w, text, number_write_float(text, f));
        return;
    }
    w->non_finite++;
    out_null(w);
}

void out_bool(struct json_out *w, bool b)
{
    out_raw(w, b ? "true" : "false", b ? 4 : 5);
}

void out_null(struct json_out *w)
{
    out_raw(w, "null", 4);
}

/* ---- arrays ---------------------------------------------------------------------------------- */

/* Writes element i at p, which has room for NUMBER_DOUBLE_MAX; returns its length. */
typedef size_t element_fn(struct json_out *w, char *p, const void *v, size_t i);

static size_t write_null(struct json_out *w, char *p)
{
    w->non_finite++;
    memcpy(p, "null", 4);
    return 4;
}

static size_t element_float(struct json_out *w, char *p, const void *v, size_t i)
{
    float f = ((const float *)v)[i];
    return isfinite(f) ? number_write_float(p, f) : write_null(w, p);
}

static size_t element_double(struct json_out *w, char *p, const void *v, size_t i)
{
    double d = ((const double *)v)[i];
    return isfinite(d) ? number_write_double(p, d) : write_null(w, p);
}

static size_t element_int64(struct json_out *w, char *p, const void *v, size_t i)
{
    (void)w;
    return number_write_int(p, ((const int64_t *)v)[i]);
}

static size_t element_bool(struct json_out *w, char *p, const void *v, size_t i)
{
    (void)w;
    bool b = ((const uint8_t *)v)[i];
    memcpy(p, b ? "true" : "false", b ? 4 : 5);
    return b ? 4 : 5;
}

/* Room is asked for once for many elements. */
static inline void put_array(struct json_out *w, const void *v, size_t n, element_fn *element)
{
    enum { CHUNK = 64, ROOM = CHUNK * (NUMBER_DOUBLE_MAX + 1) };
    begin_value(w);
    put_char(w, '[');
    for (size_t i = 0; i < n;) {
        char *p = out_reserve(w, ROOM);
        if (!p)
            return;
        size_t stop = n - i < CHUNK ? n : i + CHUNK;
        for (; i < stop; i++) {
            if (i)
                *p++ = ',';
            p += element(w, p, v, i);
        }
        w->size = (size_t)(p - w->data);
    }
    put_char(w, ']');
}

void out_floats(struct json_out *w, const float *v, size_t n)
{
    put_array(w, v, n, element_float);
}

void out_doubles(struct json_out *w, const double *v, size_t n)
{
    put_array(w, v, n, element_double);
}

void out_int64s(struct json_out *w, const int64_t *v, size_t n)
{
    put_array(w, v, n, element_int64);
}

void out_bools(struct json_out *w, const uint8_t *v, size_t n)
{
    put_array(w, v, n, element_bool);
}
