/* tensor_bytes.c: tensors of BYTES, whose elements are encoded images: base64 strings in JSON,
 * each behind its length in binary, or the files of a form. */
#include "tensor.h"

#include "preprocess.h"

#include <string.h>
#include <strings.h>

bool tensor_is_bytes(const struct tensor *t)
{
    return t->images || t->strings || (t->datatype && !t->datatype->size);
}

static struct image_source *sources_alloc(struct request *q, size_t n, struct error *e)
{
    struct image_source *s = arena_array(q->arena, n + 1, sizeof *s);
    if (!s)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a list of %zu images", n);
    return s;
}

/* The base64 of the text, which may be a data URL, as browsers make them of files (RFC 2397). */
static struct image_source base64_source(const char *text, size_t size)
{
    static const char scheme[] = "data:", coding[] = ";base64";
    const size_t before = sizeof scheme - 1, n = sizeof coding - 1;
    const char *comma =
        size > before && !strncasecmp(text, scheme, before) ? memchr(text, ',', size) : NULL;
    const size_t head = comma ? (size_t)(comma - text) : 0;
    if (head < before + n || strncasecmp(comma - n, coding, n))
        return (struct image_source){text, size, true};
    return (struct image_source){comma + 1, size - head - 1, true};
}

static int read_strings(struct request *q, const struct tensor *t,
                        const struct image_source **sources_r, int64_t *n_r, struct error *e)
{
    struct tensor_text text;
    size_t n = json_array_size(t->strings);
    struct image_source *s = sources_alloc(q, n, e);
    *sources_r = s;
    *n_r = (int64_t)n;
    for (size_t i = 0; i < n && s; i++) {
        const json_t *v = json_array_get(t->strings, i);
        if (json_is_array(v) && json_array_size(v) == 1)
            v = json_array_get(v, 0); /* shape [n,1] */
        if (!json_is_string(v))
            return error_set(e, ERROR_BAD_TYPE,
                             "%s: element %zu is no string; BYTES in JSON are base64 text",
                             tensor_what(t, &text), i);
        s[i] = base64_source(json_string_value(v), json_string_length(v));
    }
    return s ? 0 : -1;
}

/* Length of the element that begins at `at`; -1 when it is not whole. */
static int64_t element_size(const struct tensor *t, size_t at)
{
    const unsigned char *p = t->bytes + at;
    if (t->size - at < 4)
        return -1;
    uint32_t n = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return n <= t->size - at - 4 ? (int64_t)n : -1;
}

static int read_binary(struct request *q, const struct tensor *t,
                       const struct image_source **sources_r, int64_t *n_r, struct error *e)
{
    struct tensor_text text;
    size_t n = 0, at;
    int64_t size = 0;
    for (at = 0; at < t->size && (size = element_size(t, at)) >= 0; n++)
        at += 4 + (size_t)size;
    if (size < 0)
        return error_set(e, ERROR_BAD_BINARY,
                         "%s: element %zu of BYTES goes past the end; each is 4 bytes of length "
                         "and then as many bytes",
                         tensor_what(t, &text), n);
    struct image_source *s = sources_alloc(q, n, e);
    *sources_r = s;
    *n_r = (int64_t)n;
    at = 0;
    for (size_t i = 0; i < n && s; i++) {
        size = element_size(t, at);
        s[i] = (struct image_source){t->bytes + at + 4, (size_t)size, false};
        at += 4 + (size_t)size;
    }
    return s ? 0 : -1;
}

static int check_shape(const struct tensor *t, int64_t n, struct error *e)
{
    const struct shape *s = &t->shape;
    struct tensor_text text;
    struct shape_text have;
    if (!n)
        return error_set(e, ERROR_EMPTY_BATCH, "%s has no images", tensor_what(t, &text));
    if (!t->has_shape || (s->dim[0] == n && (s->rank == 1 || (s->rank == 2 && s->dim[1] == 1))))
        return 0;
    return error_set(e, ERROR_BAD_SHAPE, "%s has shape %s, its %lld elements of BYTES are [%lld]",
                     tensor_what(t, &text), shape_print(s, &have), (long long)n, (long long)n);
}

int tensor_sources(struct request *q, const struct tensor *t, const struct image_source **sources_r,
                   int64_t *n_r, struct error *e)
{
    struct tensor_text text;
    int failed = 0;
    if (t->images) {
        *sources_r = t->images;
        *n_r = (int64_t)t->size;
    } else if (t->strings) {
        failed = read_strings(q, t, sources_r, n_r, e);
    } else if (t->bytes) {
        failed = read_binary(q, t, sources_r, n_r, e);
    } else {
        failed = error_set(e, ERROR_BAD_TYPE, "%s: BYTES in JSON are strings of base64 text",
                           tensor_what(t, &text));
    }
    return failed ? -1 : check_shape(t, *n_r, e);
}
