/* safetensors.h: the file format that weights are exchanged in, read from memory and written. Any
 * thread. */
#ifndef BACKPROPD_SAFETENSORS_H
#define BACKPROPD_SAFETENSORS_H

#include "backprop.h"

/* A datatype of the format. */
struct safetensors_type {
    const char *name;     /* "BF16" */
    int bits;             /* of an element */
    const char *datatype; /* its row in datatype.h; NULL: there is none */
    bool floating;
};
const struct safetensors_type *safetensors_type(const char *name); /* NULL: unknown */

struct safetensor {
    const char *name;
    const struct safetensors_type *type;
    struct shape shape; /* rank SHAPE_MAX_RANK + 1: it has more sizes than a model's tensors can */
    const void *data;   /* little-endian, row-major, at any alignment */
    size_t size;        /* bytes */
};

struct safetensors {
    struct safetensor *tensors; /* in the order of their data */
    size_t n;
};

/* Reads a whole file. The list and the names are made in `a`; data point into `bytes`.
 * ERROR_BAD_SAFETENSORS for whatever the format forbids: `bytes` hold that file and nothing else.
 */
int safetensors_read(struct safetensors *s_r, struct arena *a, const void *bytes, size_t size,
                     struct error *e);

/* A line of the header's __metadata__. */
struct safetensors_note {
    const char *key, *value;
};

/* Puts the tensors into the order of the format (large elements first, then by name) and makes what
 * stands before their data: the length and the header, whose size is a multiple of 8. malloc'd; the
 * data follow it in the order of the list, without gaps. NULL: out of memory. */
char *safetensors_header(struct safetensors *s, const struct safetensors_note *notes, int n_notes,
                         size_t *size_r);

#endif
