/* onnx_proto.h: the messages of ONNX files that tests need, read from protobuf's wire format.
 *
 * A message is a sequence of fields: a varint (number << 3 | wire type), then a varint (type 0), 8
 * bytes (1), a length and as many bytes (2), or 4 bytes (5). Repeated numbers come one by one or
 * packed into one field of type 2. Fields that are not named here are skipped, as protobuf asks.
 * Numbers of fields and types are those of onnx.proto (release 1.22).
 *
 * Everything that is read lives in the arena that the caller brings; names and strings are copies
 * that end in NUL. */
#ifndef ONNX_PROTO_H
#define ONNX_PROTO_H

#include "../../engine/backprop.h"

/* TensorProto.DataType, as far as we look at it. */
enum onnx_type {
    ONNX_NO_TENSOR = 0,
    ONNX_FLOAT = 1,
    ONNX_INT32 = 6,
    ONNX_INT64 = 7,
    ONNX_BOOL = 9,
    ONNX_DOUBLE = 11
};

struct onnx_tensor {
    const char *name;
    int type;
    struct shape shape;
    int64_t count;
    real *reals;   /* [count] of FLOAT, DOUBLE, and of BOOL as 0 or 1; else NULL */
    int64_t *ints; /* [count] of INT32, INT64, BOOL; else NULL */
};

struct onnx_attr {
    const char *name;
    double f;
    int64_t i;
    const char *s; /* "" when it is no string */
    struct onnx_tensor *t;
    int n_ints, n_floats;
    int64_t *ints;
    double *floats;
};

struct onnx_node {
    const char *op, *domain;
    int n_inputs, n_outputs, n_attrs;
    const char **inputs, **outputs; /* "": left out */
    struct onnx_attr *attrs;
};

struct onnx_port { /* of the graph */
    const char *name;
    int type; /* ONNX_NO_TENSOR: a sequence, a map */
};

struct onnx_model {
    int64_t opset; /* of the operators without a domain */
    int n_nodes, n_initializers, n_inputs, n_outputs;
    struct onnx_node *nodes;
    struct onnx_tensor *initializers;
    struct onnx_port *inputs, *outputs;
};

/* NULL: the bytes are not such a message, or memory is out. */
struct onnx_model *onnx_model_read(struct arena *a, const void *bytes, size_t size);
struct onnx_tensor *onnx_tensor_read(struct arena *a, const void *bytes, size_t size);

/* The attribute of that name, NULL when there is none. */
const struct onnx_attr *onnx_attr_find(const struct onnx_node *n, const char *name);

#endif
