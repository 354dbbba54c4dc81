/* arena.c: many allocations that are freed together. Blocks double in size, so that the number of
 * calls to malloc is logarithmic; a request or a graph frees one thing. */
#include "backprop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, MIN_BLOCK = 256 };

struct block {
    struct block *next; /* the older one */
    size_t used, size;  /* of data */
    _Alignas(ALIGN) char data[];
};

struct arena {
    struct block *newest;
    size_t bytes;
};

static struct block *block_create(size_t size)
{
    if (size > SIZE_MAX - sizeof(struct block))
        return NULL;
    struct block *b = large_alloc(sizeof *b + size);
    if (b)
        *b = (struct block){NULL, 0, size};
    return b;
}

struct arena *arena_create(size_t block)
{
    struct arena *a = malloc(sizeof *a);
    struct block *b = block_create(block < MIN_BLOCK ? MIN_BLOCK : block);
    if (!a || !b) {
        free(a);
        free(b);
        return NULL;
    }
    *a = (struct arena){b, sizeof *a + sizeof *b + b->size};
    return a;
}

/* Frees every block but the oldest, whose data begin anew. */
void arena_reset(struct arena *a)
{
    while (a->newest->next) {
        struct block *b = a->newest;
        a->newest = b->next;
        a->bytes -= sizeof *b + b->size;
        free(b);
    }
    a->newest->used = 0;
}

void arena_destroy(struct arena **a)
{
    if (!*a)
        return;
    arena_reset(*a);
    free((*a)->newest);
    free(*a);
    *a = NULL;
}

static struct block *arena_grow(struct arena *a, size_t size)
{
    size_t twice = a->newest->size < SIZE_MAX / 2 ? 2 * a->newest->size : a->newest->size;
    struct block *b = block_create(size > twice ? size : twice);
    if (!b)
        return NULL;
    b->next = a->newest;
    a->newest = b;
    a->bytes += sizeof *b + b->size;
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX - ALIGN)
        return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    struct block *b = a->newest;
    if (b->size - b->used < size && !(b = arena_grow(a, size)))
        return NULL;
    void *p = b->data + b->used;
    b->used += size;
    return memset(p, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : arena_alloc(a, bytes);
}

char *arena_strdup(struct arena *a, const char *text)
{
    size_t n = strlen(text) + 1;
    char *p = arena_alloc(a, n);
    return p ? memcpy(p, text, n) : NULL;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, format, again);
    va_end(again);
    return p;
}

size_t arena_bytes(const struct arena *a)
{
    return a->bytes;
}
