/* describe_writer.h: what templates write descriptions with: a list of layers that grows, in which
 * each layer names those that it takes.
 *
 * Failures are collected: a writer that ran out of memory goes on and yields nothing at the end, so
 * that the functions that write a network need no checks between its layers. Names that are
 * returned live as long as the writer, and every function returns the name of the last layer that
 * it wrote. For one thread. */
#ifndef SERVER_DESCRIBE_WRITER_H
#define SERVER_DESCRIBE_WRITER_H

#include "backprop.h"

#include <jansson.h>

struct writer {
    struct arena *arena;
    json_t *layers;
    const char *block; /* for `recompute` of the layers that follow; NULL: none */
    int failed;
};

/* Also on failure it may be written to and must be ended. */
void writer_begin(struct writer *w);
void writer_end(struct writer *w);

/* The name that the format gives, at most 64 characters. */
const char *writer_name(struct writer *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends a layer with these attributes (an object, whose reference is taken; NULL: none) that
 * takes the n inputs. */
const char *writer_layer(struct writer *w, const char *name, const char *op, json_t *attrs,
                         const char *const *inputs, int n);
const char *writer_layer1(struct writer *w, const char *name, const char *op, json_t *attrs,
                          const char *input);
const char *writer_layer2(struct writer *w, const char *name, const char *op, json_t *attrs,
                          const char *first, const char *second);

/* The layers, which the writer gives away, with `rest` (an object, whose reference is taken) beside
 * them: a description. NULL and OUT_OF_MEMORY. */
json_t *writer_finish(struct writer *w, json_t *rest, struct error *e);

#endif
