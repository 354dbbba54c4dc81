/* form.c: multipart/form-data (RFC 7578) as clients send files: parts between lines of "--" and a
 * boundary that the Content-Type names; each has headers, an empty line and its bytes.
 *
 *     curl -F image=@cat.jpg -F image=@dog.png -F json='{"parameters":{"top_k":3}}' ...
 *
 * Parts are used where they lie in the body. A part with a file name or an image's Content-Type is
 * an image, in the order of the parts, whatever its name; "json" carries the rest of the request.
 */
#define _GNU_SOURCE
#include "form.h"

#include "describe_fields.h"

#include "preprocess.h"

#include <string.h>
#include <strings.h>

enum { MAX_PARTS = 65536, MAX_BOUNDARY = 70 };

struct part {
    const char *headers; /* lines up to `bytes` */
    const char *bytes;
    size_t headers_size, size;
    char name[64];
    bool file;
};

struct form {
    struct request *q;
    char boundary[MAX_BOUNDARY + 5]; /* "\r\n--" and the boundary */
    size_t boundary_size;
    struct image_source *images;
    int64_t n, cap;
    const char *json;
    size_t json_size;
    bool binary; /* arrays of numbers of its JSON are spans */
    struct error *e;
};

static bool type_is(const char *type, const char *wanted)
{
    size_t n = type ? strcspn(type, "; \t") : 0;
    return n == strlen(wanted) && !strncasecmp(type, wanted, n);
}

/* ---- parameters of headers ------------------------------------------------------------------- */

/* The value of name=value or name="value" among those after ';'. Its length, or -1. */
static int parameter_find(const char *text, const char *end, const char *name, const char **value_r)
{
    size_t n = strlen(name);
    for (const char *p = text; (p = memchr(p, ';', (size_t)(end - p)));) {
        for (p++; p < end && (*p == ' ' || *p == '\t'); p++)
            ;
        if ((size_t)(end - p) <= n || strncasecmp(p, name, n) != 0 || p[n] != '=')
            continue;
        p += n + 1;
        bool quoted = p < end && *p == '"';
        const char *stop = p += quoted;
        while (stop < end && (quoted ? *stop != '"' : *stop != ';' && *stop > ' '))
            stop++;
        *value_r = p;
        return (int)(stop - p);
    }
    return -1;
}

static int read_boundary(struct form *f, const char *type)
{
    const char *value;
    int n = parameter_find(type, type + strlen(type), "boundary", &value);
    if (n < 1 || n > MAX_BOUNDARY)
        return error_set(f->e, ERROR_BAD_FORM,
                         "Content-Type is '%.100s', expected a boundary of 1 to %d characters",
                         type, MAX_BOUNDARY);
    memcpy(f->boundary, "\r\n--", 4);
    memcpy(f->boundary + 4, value, (size_t)n);
    f->boundary_size = (size_t)n + 4;
    return 0;
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* The line of a header, without its name; NULL: not there. */
static const char *header_find(const struct part *p, const char *name, const char **end_r)
{
    size_t n = strlen(name);
    const char *end = p->headers + p->headers_size;
    for (const char *line = p->headers; line < end;) {
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        stop = stop ? stop : end;
        if ((size_t)(stop - line) > n && !strncasecmp(line, name, n) && line[n] == ':') {
            *end_r = stop;
            return line + n + 1;
        }
        line = stop + 2;
    }
    return NULL;
}

static int part_describe(struct form *f, struct part *p, int64_t i)
{
    const char *end, *value, *type_end;
    const char *disposition = header_find(p, "Content-Disposition", &end);
    int n = disposition ? parameter_find(disposition, end, "name", &value) : -1;
    if (n < 0 || (size_t)n >= sizeof p->name)
        return error_set(f->e, ERROR_BAD_FORM,
                         "part %lld of the form has no Content-Disposition with a name of up to "
                         "%zu characters",
                         (long long)i, sizeof p->name - 1);
    memcpy(p->name, value, (size_t)n);
    p->name[n] = 0;
    const char *type = header_find(p, "Content-Type", &type_end);
    while (type && type < type_end && *type == ' ')
        type++;
    p->file = parameter_find(disposition, end, "filename", &value) >= 0 ||
              (type && type_end - type > 6 && !strncasecmp(type, "image/", 6));
    return 0;
}

static int add_image(struct form *f, const struct part *p)
{
    if (f->n == f->cap) {
        int64_t cap = f->cap ? 2 * f->cap : 8;
        struct image_source *more = arena_array(f->q->arena, (size_t)cap, sizeof *more);
        if (!more)
            return error_set(f->e, ERROR_OUT_OF_MEMORY, "out of memory for the parts of a form");
        if (f->n)
            memcpy(more, f->images, (size_t)f->n * sizeof *more);
        f->images = more;
        f->cap = cap;
    }
    f->images[f->n++] = (struct image_source){p->bytes, p->size, false};
    return 0;
}

static int take_part(struct form *f, const struct part *p)
{
    bool json = !strcmp(p->name, "json") || !strcmp(p->name, "request");
    if (json && f->json)
        return error_set(f->e, ERROR_BAD_FORM, "the form has two parts with JSON");
    if (json) {
        f->json = p->bytes;
        f->json_size = p->size;
        return 0;
    }
    if (p->file || image_recognised(p->bytes, p->size))
        return add_image(f, p);
    return error_set(f->e, ERROR_UNKNOWN_FIELD,
                     "the form's part '%s' is no image; files are images, and the part 'json' "
                     "carries the rest of a request",
                     p->name);
}

static int broken(struct form *f, const char *what)
{
    return error_set(f->e, ERROR_BAD_FORM, "the form %s", what);
}

/* The part that begins behind a boundary; *at moves to the next boundary. 1: it was the last one's
 * end. */
static int next_part(struct form *f, const char **at, const char *end, int64_t i)
{
    struct part p = {0};
    const char *begin = *at;
    if (end - begin >= 2 && !memcmp(begin, "--", 2))
        return 1;
    if (end - begin < 2 || memcmp(begin, "\r\n", 2) != 0)
        return broken(f, "has a boundary that no line end follows");
    const char *blank = memmem(begin, (size_t)(end - begin), "\r\n\r\n", 4);
    const char *stop =
        blank ? memmem(blank + 2, (size_t)(end - blank - 2), f->boundary, f->boundary_size) : NULL;
    if (!stop)
        return broken(f, "ends before its last boundary");
    p.headers = begin + 2;
    p.headers_size = blank > begin + 2 ? (size_t)(blank - begin - 2) : 0;
    p.bytes = blank + 4;
    p.size = stop > p.bytes ? (size_t)(stop - p.bytes) : 0;
    *at = stop + f->boundary_size;
    return part_describe(f, &p, i) || take_part(f, &p) ? -1 : 0;
}

static int read_parts(struct form *f)
{
    struct request *q = f->q;
    const char *begin = q->body, *end = begin + q->body_size;
    size_t first = f->boundary_size - 2; /* no line end is before the first one */
    if (q->body_size < first || memcmp(begin, f->boundary + 2, first) != 0) {
        begin = memmem(begin, q->body_size, f->boundary, f->boundary_size);
        first = f->boundary_size;
    }
    if (!begin)
        return broken(f, "does not have the boundary that Content-Type names");
    begin += first;
    for (int64_t i = 0; i < MAX_PARTS; i++) {
        int status = next_part(f, &begin, end, i);
        if (status)
            return status < 0 ? -1 : 0;
    }
    return broken(f, "has more than 65536 parts");
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int finish(struct form *f)
{
    struct request *q = f->q;
    if (f->json && json_in_read(&q->json, q->arena, f->json, f->json_size, f->binary, f->e))
        return error_prefix(f->e, "the form's JSON");
    if (!f->json)
        q->json.root = json_object();
    if (!q->json.root)
        return error_set(f->e, ERROR_OUT_OF_MEMORY, "out of memory");
    if (describe_check_type(q->json.root, "the form's JSON", IS_OBJECT, "an object", f->e))
        return -1;
    if (!json_object_get(q->json.root, "inputs") &&
        json_object_set_new(q->json.root, "inputs", json_array()))
        return error_set(f->e, ERROR_OUT_OF_MEMORY, "out of memory");
    q->json_size = q->body_size; /* there are no binary tensors after it */
    q->images = f->images;
    q->n_images = f->n;
    return 0;
}

int form_read(struct request *q, struct error *e)
{
    unsigned flags = q->route->flags;
    const char *type = request_header(q, "Content-Type");
    struct form f = {.q = q, .binary = flags & ROUTE_BINARY, .e = e};
    int failed;
    if (flags & ROUTE_FORM && type_is(type, "multipart/form-data"))
        failed = read_boundary(&f, type) || read_parts(&f);
    else if (flags & ROUTE_IMAGE &&
             ((type && !strncasecmp(type, "image/", 6)) || image_recognised(q->body, q->body_size)))
        failed = add_image(&f, &(struct part){.bytes = q->body, .size = q->body_size});
    else
        return 0;
    return failed || finish(&f) ? -1 : 1;
}
