/* tensor.h: tensors on the wire, those of the Open Inference Protocol with Triton's binary
 * extension: {"name","shape","datatype","parameters","data"}, numbers as JSON or as little-endian
 * bytes after the JSON. Nothing is copied until a model says what it wants them as. */
#ifndef BACKPROPD_TENSOR_H
#define BACKPROPD_TENSOR_H

#include "datatype.h"
#include "request.h"

struct tensor {
    const char *field;               /* "inputs": begins its error sentences, with its name */
    int index;                       /* its place in the field's list; -1: it is the field itself */
    const char *name;                /* NULL: not given */
    const struct datatype *datatype; /* NULL: not given */
    bool has_shape;
    struct shape shape;           /* numeric; as given */
    const struct json_span *span; /* JSON numbers */
    const unsigned char *bytes;   /* or bytes in the body */
    size_t size;
    const json_t *strings;             /* or JSON strings of BYTES */
    const struct image_source *images; /* or files of the body, `size` of them */
    const json_t *boxes;               /* or lists of boxes (boxes.h) */
    const json_t *object;              /* as sent, NULL for a bare array */
    const json_t *parameters;          /* of it; NULL: none */
    struct pool *pool;                 /* that reads long ones; NULL: the caller alone */
};

/* Reads the tensors of a field ("inputs" or "targets" of the body's root): a list of tensor
 * objects, or a bare array of numbers, which is one tensor without a name. Binary parts are given
 * away in the order of the calls: read all fields of a request in the order inputs, targets, then
 * call tensors_end. ERROR_MISSING_FIELD, BAD_TYPE, UNKNOWN_FIELD, BAD_BINARY, BAD_DTYPE (422). */
int tensors_read(struct request *q, const char *field, struct tensor **tensors_r, int *n_r,
                 struct error *e);
/* The same for one object, as in {"tensors":{"w":{"data":[2],"requires_grad":true}}}. `extra` names
 * further fields that it may have ("requires_grad"), or NULL. */
int tensor_read(struct request *q, const char *field, const char *name, const json_t *object,
                const char *extra, struct tensor *t_r, struct error *e);
/* The one tensor of a request without JSON (request.raw_tensor). */
void tensor_read_raw(struct request *q, struct tensor *t_r);
/* Checks that every binary byte was used. ERROR_BAD_BINARY. */
int tensors_end(struct request *q, struct error *e);

/* Compares the tensor with the shape that is wanted, whose first size may be BATCH, and gives the
 * batch (1 if `want` has none) and the number of elements. The shape may be left out when the
 * nesting shows it, or when the count is a whole number of examples; t->shape is then set. A binary
 * tensor without a datatype gets that of `dtype`. `count_r` numbers are there for sure: no more
 * memory than that needs to be asked for. ERROR_BAD_SHAPE, EMPTY_BATCH, TOO_LARGE, BAD_BINARY. */
int tensor_resolve(struct tensor *t, enum dtype dtype, const struct shape *want, int64_t *batch_r,
                   int64_t *count_r, struct error *e);
/* The same for a tensor that may have any shape: t->shape is the given one or that of the nesting.
 */
int tensor_resolve_any(struct tensor *t, enum dtype dtype, int64_t *count_r, struct error *e);

/* All `count` elements of a resolved tensor as the engine's numbers. Integers become the nearest
 * real; reals must be whole to become integers. Bytes of the wire that are what is wanted, at an
 * address that will do, are not copied: *data_r lies in the request's body then, otherwise in `a`.
 * ERROR_NOT_FINITE names tensor and place; ERROR_BAD_VALUE, ERROR_BAD_DTYPE and those of
 * span_read. */
int tensor_take(const struct tensor *t, enum dtype to, struct arena *a, int64_t count,
                const void **data_r, struct error *e);
/* The same, as integers into `out`; `a` is for what is needed on the way. */
int tensor_to_int64(const struct tensor *t, struct arena *a, int64_t *out, int64_t count,
                    struct error *e);

/* Whether its elements are strings of bytes: encoded images. tensor_bytes.c */
bool tensor_is_bytes(const struct tensor *t);
/* The elements of such a tensor, whose shape must be [n] or [n,1] or left out: text of JSON is
 * base64. The list is in the request's arena, what it names in the request. ERROR_BAD_SHAPE,
 * BAD_BINARY, BAD_TYPE, EMPTY_BATCH. */
int tensor_sources(struct request *q, const struct tensor *t, const struct image_source **sources_r,
                   int64_t *n_r, struct error *e);

/* "inputs 'image'" or "inputs[0]": how sentences call it. */
struct tensor_text {
    char text[160];
};
const char *tensor_what(const struct tensor *t, struct tensor_text *text);

#endif
