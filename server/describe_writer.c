/* describe_writer.c: the list of layers that a template writes. */
#include "describe_writer.h"

#include <stdarg.h>
#include <stdio.h>

void writer_begin(struct writer *w)
{
    *w = (struct writer){.arena = arena_create(16384), .layers = json_array()};
    w->failed = !w->arena || !w->layers;
}

void writer_end(struct writer *w)
{
    json_decref(w->layers);
    if (w->arena)
        arena_destroy(&w->arena);
}

const char *writer_name(struct writer *w, const char *format, ...)
{
    char text[80];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *name = w->arena ? arena_strdup(w->arena, text) : NULL;
    w->failed |= !name;
    return name ? name : "";
}

const char *writer_layer(struct writer *w, const char *name, const char *op, json_t *attrs,
                         const char *const *inputs, int n)
{
    json_t *whole = json_pack("{s:s,s:s}", "name", name, "op", op), *list = json_array();
    for (int i = 0; i < n; i++)
        w->failed |= json_array_append_new(list, json_string(inputs[i])) != 0;
    w->failed |= json_object_set_new(whole, "inputs", list) != 0;
    w->failed |= attrs && json_object_update(whole, attrs) != 0;
    w->failed |= w->block && json_object_set_new(whole, "recompute", json_string(w->block)) != 0;
    json_decref(attrs);
    w->failed |= json_array_append_new(w->layers, whole) != 0;
    return name;
}

const char *writer_layer1(struct writer *w, const char *name, const char *op, json_t *attrs,
                          const char *input)
{
    return writer_layer(w, name, op, attrs, &input, 1);
}

const char *writer_layer2(struct writer *w, const char *name, const char *op, json_t *attrs,
                          const char *first, const char *second)
{
    return writer_layer(w, name, op, attrs, (const char *[]){first, second}, 2);
}

json_t *writer_finish(struct writer *w, json_t *rest, struct error *e)
{
    if (!rest || w->failed || json_object_set(rest, "layers", w->layers)) {
        json_decref(rest);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a template");
        return NULL;
    }
    return rest;
}
