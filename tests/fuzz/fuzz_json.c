/* fuzz_json.c: bodies with spans. What must hold: nothing is read beyond the end; numbers are those
 * of strtof and strtod; a float that is written reads back with the same bits; what is read nested
 * is what is read flat; an error names line and column. */
#include "fuzz.h"

#include "../../server/number.h"

enum { MAX_COUNT = 4096 };

/* The numbers of a span one after the other; NULL at its end. */
static const char *next_number(const char *p, const char *end, struct number *n)
{
    const char *where;
    while (p < end && !strchr("-0123456789", *p))
        p++;
    return p < end ? number_scan(p, end, n, &where) : NULL;
}

/* Compares with the C library, which wants a NUL after the text. */
static void check_numbers(const struct json_span *s, const float *floats, const double *doubles,
                          int64_t count)
{
    struct number n;
    const char *p = s->begin;
    for (int64_t i = 0; i < count; i++) {
        p = next_number(p, s->end, &n);
        FUZZ_CHECK(p, "number %lld is missing", (long long)i);
        char *text = fuzz_copy((const uint8_t *)n.text, n.size, true);
        float f = strtof(text, NULL);
        double d = strtod(text, NULL);
        FUZZ_CHECK(!floats || !memcmp(&f, &floats[i], sizeof f), "%s: %a, expected %a", text,
                   (double)floats[i], (double)f);
        FUZZ_CHECK(!doubles || !memcmp(&d, &doubles[i], sizeof d), "%s: %a, expected %a", text,
                   doubles[i], d);
        free(text);
    }
}

static void check_written(const float *floats, int64_t count)
{
    char text[NUMBER_FLOAT_MAX + 1];
    for (int64_t i = 0; i < count; i++) {
        size_t size = number_write_float(text, floats[i]);
        FUZZ_CHECK(size <= NUMBER_FLOAT_MAX, "%zu characters", size);
        text[size] = 0;
        float back = strtof(text, NULL);
        FUZZ_CHECK(!memcmp(&back, &floats[i], sizeof back), "%a is written as %s",
                   (double)floats[i], text);
    }
}

static int read_as(const struct json_span *s, enum span_type t, const struct shape *shape,
                   int64_t count, void **out_r)
{
    struct error e = {0};
    *out_r = malloc((size_t)count * span_type_size(t) + !count);
    int status = span_read(s, t, shape, *out_r, count, &e);
    if (status)
        fuzz_check_error(&e);
    return status;
}

static void check_span(const struct json_span *s)
{
    struct shape shape;
    struct error e = {0};
    int64_t count;
    void *out[SPAN_BOOL + 1] = {0};
    bool read[SPAN_BOOL + 1];
    if (span_shape(s, &shape, &count, &e)) {
        fuzz_check_error(&e);
        FUZZ_CHECK(!strncmp(e.text, "line ", 5), "%s", e.text);
        return;
    }
    if (count > MAX_COUNT)
        return;
    for (int t = SPAN_FLOAT; t <= SPAN_BOOL; t++)
        read[t] = !read_as(s, (enum span_type)t, &shape, count, &out[t]);
    check_numbers(s, read[SPAN_FLOAT] ? out[SPAN_FLOAT] : NULL,
                  read[SPAN_DOUBLE] ? out[SPAN_DOUBLE] : NULL,
                  read[SPAN_FLOAT] || read[SPAN_DOUBLE] ? count : 0);
    if (read[SPAN_FLOAT])
        check_written(out[SPAN_FLOAT], count);
    FUZZ_CHECK(!read[SPAN_FLOAT] || read[SPAN_DOUBLE], "a float that is no double");
    for (int64_t i = 0; read[SPAN_INT64] && read[SPAN_UINT64] && i < count; i++)
        FUZZ_CHECK(((int64_t *)out[SPAN_INT64])[i] == (int64_t)((uint64_t *)out[SPAN_UINT64])[i],
                   "element %lld", (long long)i);
    for (int t = SPAN_FLOAT; t <= SPAN_BOOL; t++)
        free(out[t]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_in in;
    struct error e = {0};
    struct arena *a = arena_create(1024);
    char *text = fuzz_copy(data, size, false);
    if (!json_in_read(&in, a, text, size, true, &e)) {
        for (size_t i = 0; i < in.n_spans; i++)
            check_span(&in.spans[i]);
        json_in_free(&in);
    } else {
        fuzz_check_error(&e);
        FUZZ_CHECK(!strncmp(e.text, "line ", 5), "%s", e.text);
    }
    if (!json_in_read(&in, a, text, size, false, &e))
        json_in_free(&in);
    free(text);
    arena_destroy(&a);
    return 0;
}
