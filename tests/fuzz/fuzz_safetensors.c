/* fuzz_safetensors.c: files of weights. What must hold: data lie within the file, without gaps and
 * overlaps; the tensors written again are read as the same. */
#include "fuzz.h"

#include "../../server/safetensors.h"

static int read_file(struct safetensors *s, struct arena *a, const char *bytes, size_t size)
{
    struct error e = {0};
    int status = safetensors_read(s, a, bytes, size, &e);
    if (status)
        FUZZ_CHECK(e.code == ERROR_BAD_SAFETENSORS && !strncmp(e.text, "safetensors: ", 13), "%s",
                   e.text);
    return status;
}

static size_t check_places(const struct safetensors *s, const char *bytes, size_t size)
{
    size_t all = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct safetensor *t = &s->tensors[i];
        size_t at = (size_t)((const char *)t->data - bytes);
        FUZZ_CHECK(at <= size && t->size <= size - at, "'%s' lies outside", t->name);
        FUZZ_CHECK(!i || (const char *)s->tensors[i - 1].data + s->tensors[i - 1].size == t->data,
                   "'%s' does not follow", t->name);
        all += t->size;
    }
    return all;
}

static const struct safetensor *find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->tensors[i].name, name))
            return &s->tensors[i];
    return NULL;
}

/* Tensors of more sizes than a model's can have are only skipped, not written. */
static bool writable(const struct safetensors *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->tensors[i].shape.rank > SHAPE_MAX_RANK)
            return false;
    return true;
}

static void check_written(struct safetensors *s, struct arena *a, size_t data)
{
    struct safetensors again;
    size_t size, at;
    char *header = safetensors_header(s, NULL, 0, &size);
    FUZZ_CHECK(header && size % 8 == 0, "a header of %zu bytes", size);
    char *file = malloc(size + data);
    memcpy(file, header, size);
    at = size;
    for (size_t i = 0; i < s->n; i++) {
        if (s->tensors[i].size)
            memcpy(file + at, s->tensors[i].data, s->tensors[i].size);
        at += s->tensors[i].size;
    }
    FUZZ_CHECK(!read_file(&again, a, file, at) && again.n == s->n, "not read again");
    for (size_t i = 0; i < s->n; i++) {
        const struct safetensor *t = &s->tensors[i], *u = find(&again, t->name);
        FUZZ_CHECK(u && u->type == t->type && u->size == t->size &&
                       shape_equal(&u->shape, &t->shape) &&
                       (!t->size || !memcmp(u->data, t->data, t->size)),
                   "'%s' has changed", t->name);
    }
    free(file);
    free(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct arena *a = arena_create(1024);
    char *bytes = fuzz_copy(data, size, false);
    if (!read_file(&s, a, bytes, size)) {
        size_t all = check_places(&s, bytes, size);
        if (writable(&s))
            check_written(&s, a, all);
    }
    free(bytes);
    arena_destroy(&a);
    return 0;
}
