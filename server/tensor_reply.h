/* tensor_reply.h: answers with tensors, as JSON or with binary parts after it.
 *
 *     struct tensor_reply r;
 *     tensor_reply_begin(&r, q);              opens the object
 *     out_put_string(&r.json, "model_name", name);
 *     out_key(&r.json, "outputs"); out_open_array(&r.json);
 *     tensor_reply_add(&r, &(struct tensor_out){"output", DTYPE_REAL, shape, data, count}, binary);
 *     out_close(&r.json);
 *     return tensor_reply_end(&r, 200);       closes the object, adds the bytes, fills the response
 *
 * Data that are added must stay in place until tensor_reply_end, or be in the request's arena. */
#ifndef BACKPROPD_TENSOR_REPLY_H
#define BACKPROPD_TENSOR_REPLY_H

#include "tensor.h"

/* What a request says of the outputs that it wants. */
struct output_wish {
    const char *name;
    bool binary;
    int64_t classification; /* the best so many classes as strings; 0: the numbers */
};
struct output_wishes {
    bool all; /* no list was given, or an empty one */
    struct output_wish *list;
    int n;
    bool binary; /* parameters.binary_data_output: for those that do not say */
};
/* Reads "outputs" and parameters.binary_data_output of the body's root; a request of one raw tensor
 * is answered in binary. ERROR_BAD_TYPE, MISSING_FIELD, UNKNOWN_FIELD. */
int output_wishes_read(struct request *q, struct output_wishes *w_r, struct error *e);
/* The wish for this output; NULL: it is not wanted. `all` gives one that is kept in *store. */
const struct output_wish *output_wish_find(const struct output_wishes *w, const char *name,
                                           struct output_wish *store);

struct tensor_out {
    const char *name;
    enum dtype dtype;   /* FP32 or INT64 on the wire */
    struct shape shape; /* numeric */
    const void *data;
    int64_t count;
};

struct tensor_blob {
    const void *data;
    size_t size;
    struct tensor_blob *next;
};
struct tensor_reply {
    struct request *q;
    struct json_out json; /* inside the answer's object: put further fields here */
    struct tensor_blob *first, **last;
};
void tensor_reply_begin(struct tensor_reply *r, struct request *q);
/* Writes one object of name, datatype, shape and data or binary_data_size. */
void tensor_reply_add(struct tensor_reply *r, const struct tensor_out *t, bool binary);
/* The fields of that object only, inside one that the caller opened. */
void tensor_reply_fields(struct tensor_reply *r, const struct tensor_out *t, bool binary);
/* The same for BYTES: `count` strings, which stay in place as data do. */
void tensor_reply_add_strings(struct tensor_reply *r, const char *name, const struct shape *s,
                              const char *const *strings, size_t count, bool binary);
int tensor_reply_end(struct tensor_reply *r, int status);
/* Instead of tensor_reply_end, when something failed. */
int tensor_reply_fail(struct tensor_reply *r, const struct error *e);

#endif
