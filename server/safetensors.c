/* safetensors.c: the safetensors format.
 *
 *   8 bytes      N, the length of the header, little-endian
 *   N bytes      JSON: {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[begin,end]}, ...},
 *                may be padded with spaces; "__metadata__" is an object of strings
 *   the rest     the data, row-major and little-endian; offsets count from its start
 *
 * A file is valid when, in the order of offsets, the tensors cover the data exactly: the first
 * begins at 0, each begins where the one before ends, the last ends with the file, and each has the
 * bytes of its dtype and shape. So no byte is hidden and none is read twice. Names are unique.
 * Tensors without elements and tensors of rank 0 are allowed; values are not looked at. */
#include "safetensors.h"

#include "json_in.h"
#include "json_out.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, HEADER_MAX = 100000000, HEADER_ALIGN = 8 };

static const char METADATA[] = "__metadata__";

static const struct safetensors_type types[] = {
    {"BOOL", 8, "BOOL", false},     {"F4", 4, NULL, true},          {"F6_E2M3", 6, NULL, true},
    {"F6_E3M2", 6, NULL, true},     {"U8", 8, "UINT8", false},      {"I8", 8, "INT8", false},
    {"F8_E5M2", 8, NULL, true},     {"F8_E4M3", 8, NULL, true},     {"F8_E8M0", 8, NULL, true},
    {"F8_E4M3FNUZ", 8, NULL, true}, {"F8_E5M2FNUZ", 8, NULL, true}, {"I16", 16, "INT16", false},
    {"U16", 16, "UINT16", false},   {"F16", 16, "FP16", true},      {"BF16", 16, "BF16", true},
    {"I32", 32, "INT32", false},    {"U32", 32, "UINT32", false},   {"F32", 32, "FP32", true},
    {"C64", 64, NULL, false},       {"F64", 64, "FP64", true},      {"I64", 64, "INT64", false},
    {"U64", 64, "UINT64", false},
};

const struct safetensors_type *safetensors_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name))
            return &types[i];
    return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

#define refuse(e, ...) error_set(e, ERROR_BAD_SAFETENSORS, "safetensors: " __VA_ARGS__)

/* A tensor of the header, before it is known that the offsets fit together. */
struct entry {
    struct safetensor t;
    uint64_t begin, end;
};

static int read_length(const unsigned char *bytes, size_t size, size_t *length_r, struct error *e)
{
    static const char zip[] = "PK\3\4";
    uint64_t n = 0;
    if (size < LENGTH_BYTES)
        return refuse(e, "the file has %zu bytes, expected at least %d", size, LENGTH_BYTES);
    for (int i = 0; i < LENGTH_BYTES; i++)
        n |= (uint64_t)bytes[i] << 8 * i;
    if (n > HEADER_MAX && !memcmp(bytes, zip, sizeof zip - 1))
        return refuse(e, "this is a zip, as torch.save writes .pt and .pth files, and no "
                         "safetensors file; write one with safetensors.torch.save_file("
                         "model.state_dict(), ...)");
    if (n > HEADER_MAX)
        return refuse(e,
                      "the header's length is %llu, the limit is %d: this is no safetensors file",
                      (unsigned long long)n, HEADER_MAX);
    if (n > size - LENGTH_BYTES)
        return refuse(e,
                      "the header's length is %llu, but only %zu bytes follow: the file is cut "
                      "off, or no safetensors file",
                      (unsigned long long)n, size - LENGTH_BYTES);
    *length_r = (size_t)n;
    return 0;
}

/* A list of whole numbers that are not negative; at most `max` are kept, all are checked. */
static int read_sizes(const json_t *list, const char *name, const char *key, int64_t *v, size_t max,
                      struct error *e)
{
    size_t i;
    json_t *item;
    if (!json_is_array(list))
        return refuse(e, "the tensor '%.100s': '%s' must be a list of whole numbers", name, key);
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return refuse(e, "the tensor '%.100s': '%s'[%zu] must be a whole number of at least 0",
                          name, key, i);
        if (i < max)
            v[i] = json_integer_value(item);
    }
    return 0;
}

/* The bytes that dtype and shape need. */
static int check_size(const struct entry *x, const json_t *shape, struct error *e)
{
    uint64_t bits = (uint64_t)x->t.type->bits;
    bool overflow = false;
    for (size_t i = 0; i < json_array_size(shape); i++)
        overflow |= __builtin_mul_overflow(
            bits, (uint64_t)json_integer_value(json_array_get(shape, i)), &bits);
    if (overflow)
        return refuse(e, "the tensor '%.100s': the product of its shape is too large", x->t.name);
    if (bits % 8)
        return refuse(e, "the tensor '%.100s': %llu bits are no whole number of bytes", x->t.name,
                      (unsigned long long)bits);
    if (x->end - x->begin != bits / 8)
        return refuse(e,
                      "the tensor '%.100s': data_offsets are %llu bytes apart, its dtype and "
                      "shape need %llu",
                      x->t.name, (unsigned long long)(x->end - x->begin),
                      (unsigned long long)(bits / 8));
    return 0;
}

static int read_entry(struct entry *x, const char *name, const json_t *info, struct error *e)
{
    const json_t *dtype = json_object_get(info, "dtype"), *shape = json_object_get(info, "shape"),
                 *offsets = json_object_get(info, "data_offsets");
    int64_t at[2];
    if (!json_is_object(info) || !json_is_string(dtype))
        return refuse(e, "the tensor '%.100s' must be an object with a 'dtype'", name);
    x->t = (struct safetensor){.name = name, .type = safetensors_type(json_string_value(dtype))};
    if (!x->t.type)
        return refuse(e, "the tensor '%.100s': unknown dtype '%.40s'", name,
                      json_string_value(dtype));
    if (read_sizes(shape, name, "shape", x->t.shape.dim, SHAPE_MAX_RANK, e) ||
        read_sizes(offsets, name, "data_offsets", at, 2, e))
        return -1;
    size_t rank = json_array_size(shape);
    x->t.shape.rank = rank > SHAPE_MAX_RANK ? SHAPE_MAX_RANK + 1 : (int)rank;
    if (json_array_size(offsets) != 2 || at[1] < at[0])
        return refuse(e, "the tensor '%.100s': 'data_offsets' must be [begin, end]", name);
    x->begin = (uint64_t)at[0];
    x->end = (uint64_t)at[1];
    x->t.size = (size_t)(x->end - x->begin);
    return check_size(x, shape, e);
}

static int check_metadata(const json_t *metadata, struct error *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return refuse(e, "'%s' must be an object of strings", METADATA);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        if (!json_is_string(value))
            return refuse(e, "'%s': the value of '%.60s' must be a string", METADATA, key);
    }
    return 0;
}

/* Tensors without elements share their offset with the next one: they go first. */
static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end != y->end ? (x->end < y->end ? -1 : 1) : strcmp(x->t.name, y->t.name);
}

/* That the tensors cover the data, of `size` bytes; sets where each one's are. */
static int place(struct entry *x, size_t n, const unsigned char *data, size_t size,
                 struct safetensors *s, struct error *e)
{
    uint64_t at = 0;
    qsort(x, n, sizeof *x, by_offset);
    for (size_t i = 0; i < n; i++) {
        if (x[i].begin != at)
            return refuse(e,
                          "the data of the tensor '%.100s' begin at %llu, expected %llu: no gap "
                          "and no overlap is allowed",
                          x[i].t.name, (unsigned long long)x[i].begin, (unsigned long long)at);
        at = x[i].end;
    }
    if (at != size)
        return refuse(e,
                      "the tensors have %llu bytes of data, %zu bytes follow the header: the "
                      "file is %s",
                      (unsigned long long)at, size, at > size ? "cut off" : "longer than it says");
    for (size_t i = 0; i < n; i++) {
        s->tensors[i] = x[i].t;
        s->tensors[i].data = data + x[i].begin;
    }
    s->n = n;
    return 0;
}

static int read_entries(const json_t *root, struct arena *a, struct entry *x, size_t *n_r,
                        struct error *e)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        if (!strcmp(key, METADATA)) {
            if (check_metadata(value, e))
                return -1;
            continue;
        }
        char *name = arena_strdup(a, key);
        if (!name)
            return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the names of tensors");
        if (read_entry(&x[*n_r], name, value, e))
            return -1;
        ++*n_r;
    }
    return 0;
}

int safetensors_read(struct safetensors *s_r, struct arena *a, const void *bytes, size_t size,
                     struct error *e)
{
    struct json_in in;
    size_t length, n = 0;
    const unsigned char *at = bytes;
    *s_r = (struct safetensors){0};
    if (read_length(at, size, &length, e))
        return -1;
    at += LENGTH_BYTES;
    if (json_in_read(&in, a, (const char *)at, length, false, e)) {
        if (e && e->code != ERROR_OUT_OF_MEMORY)
            e->code = ERROR_BAD_SAFETENSORS;
        return error_prefix(e, "safetensors: the header");
    }
    size_t most = json_object_size(in.root);
    struct entry *x = arena_array(a, most + 1, sizeof *x);
    s_r->tensors = arena_array(a, most + 1, sizeof *s_r->tensors);
    int status = -1;
    if (!json_is_object(in.root))
        refuse(e, "the header must be a JSON object");
    else if (!x || !s_r->tensors)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %zu tensors", most);
    else if (!read_entries(in.root, a, x, &n, e))
        status = place(x, n, at + length, size - LENGTH_BYTES - length, s_r, e);
    json_in_free(&in);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int by_type(const void *a, const void *b)
{
    const struct safetensor *x = a, *y = b;
    return x->type->bits != y->type->bits ? y->type->bits - x->type->bits
                                          : strcmp(x->name, y->name);
}

static void write_notes(struct json_out *w, const struct safetensors_note *notes, int n)
{
    out_key(w, METADATA);
    out_open_object(w);
    for (int i = 0; i < n; i++)
        out_put_string(w, notes[i].key, notes[i].value);
    out_close(w);
}

static void write_entry(struct json_out *w, const struct safetensor *t, int64_t begin)
{
    out_key(w, t->name);
    out_open_object(w);
    out_put_string(w, "dtype", t->type->name);
    out_put_int64s(w, "shape", t->shape.dim, (size_t)t->shape.rank);
    out_put_int64s(w, "data_offsets", (int64_t[]){begin, begin + (int64_t)t->size}, 2);
    out_close(w);
}

char *safetensors_header(struct safetensors *s, const struct safetensors_note *notes, int n_notes,
                         size_t *size_r)
{
    struct json_out w = JSON_OUT_INIT;
    int64_t at = 0;
    qsort(s->tensors, s->n, sizeof *s->tensors, by_type);
    out_append_bytes(&w, (char[LENGTH_BYTES]){0}, LENGTH_BYTES);
    out_open_object(&w);
    if (n_notes)
        write_notes(&w, notes, n_notes);
    for (size_t i = 0; i < s->n; i++) {
        write_entry(&w, &s->tensors[i], at);
        at += (int64_t)s->tensors[i].size;
    }
    out_close(&w);
    while (w.size % HEADER_ALIGN && !w.failed)
        out_append_bytes(&w, " ", 1);
    if (w.failed) {
        out_free(&w);
        return NULL;
    }
    for (int i = 0; i < LENGTH_BYTES; i++)
        w.data[i] = (char)((uint64_t)(w.size - LENGTH_BYTES) >> 8 * i);
    *size_r = w.size;
    return w.data;
}
