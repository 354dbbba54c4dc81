/* class_indices.c: class indices as probabilities of 0 and 1. */
#include "class_indices.h"

#include <string.h>

bool class_indices_given(const struct tensor *t)
{
    struct shape shape = t->shape;
    int64_t count;
    if (t->datatype && (!t->datatype->integer || !t->datatype->size))
        return false;
    if (t->has_shape)
        return shape.rank == 1;
    if (t->span)
        return !span_shape(t->span, &shape, &count, NULL) && shape.rank == 1;
    return t->datatype != NULL;
}

static int one_hot(const struct tensor *t, const int64_t *index, int64_t n, int64_t classes,
                   real *out, struct error *e)
{
    struct tensor_text text;
    memset(out, 0, (size_t)(n * classes) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        if (index[i] < 0 || index[i] >= classes)
            return error_set(
                e, ERROR_BAD_VALUE, "%s: class %lld at position %lld is outside 0..%lld",
                tensor_what(t, &text), (long long)index[i], (long long)i, (long long)(classes - 1));
        out[i * classes + index[i]] = 1;
    }
    return 0;
}

int class_indices_read(struct request *q, struct tensor *t, const struct shape *shape,
                       const void **data_r, int64_t *batch_r, struct error *e)
{
    struct tensor_text text;
    int64_t count, all;
    if (tensor_resolve(t, DTYPE_INT64, &SHAPE(BATCH), batch_r, &count, e))
        return -1;
    if (__builtin_mul_overflow(count, shape->dim[1], &all))
        return error_set(e, ERROR_TOO_LARGE, "%s: %lld samples are too many", tensor_what(t, &text),
                         (long long)count);
    int64_t *index = arena_array(q->arena, (size_t)count, sizeof *index);
    real *out = arena_array(q->arena, (size_t)all, sizeof *out);
    if (!index || !out)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", tensor_what(t, &text));
    *data_r = out;
    return tensor_to_int64(t, q->arena, index, count, e)
               ? -1
               : one_hot(t, index, count, shape->dim[1], out, e);
}
