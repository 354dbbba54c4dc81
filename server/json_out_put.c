/* json_out_put.c: the JSON writer's shorthands for a key and its value. */
#include "json_out.h"

void out_put_string(struct json_out *w, const char *key, const char *text)
{
    out_key(w, key);
    out_string(w, text);
}

void out_put_int(struct json_out *w, const char *key, int64_t i)
{
    out_key(w, key);
    out_int(w, i);
}

void out_put_uint(struct json_out *w, const char *key, uint64_t u)
{
    out_key(w, key);
    out_uint(w, u);
}

void out_put_double(struct json_out *w, const char *key, double d)
{
    out_key(w, key);
    out_double(w, d);
}

void out_put_bool(struct json_out *w, const char *key, bool b)
{
    out_key(w, key);
    out_bool(w, b);
}

void out_put_int64s(struct json_out *w, const char *key, const int64_t *v, size_t n)
{
    out_key(w, key);
    out_int64s(w, v, n);
}

void out_put_non_finite(struct json_out *w)
{
    if (w->non_finite)
        out_put_uint(w, "non_finite", w->non_finite);
}
