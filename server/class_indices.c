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

/* The index of samples that do not count. False: there is none, or not all losses of this target,
 * which see the same rows of zeros, agree on it. */
static bool ignored_index(const struct network *net, const struct node *target, int64_t *index_r)
{
    bool found = false;
    for (int i = 0; i < net->n_losses; i++) {
        const struct node *loss = net->losses[i];
        int64_t mixed = 0, index;
        if (node_input(loss, node_input_count(loss) - 1) != target)
            continue;
        if (!node_attr_int(loss, "mixed_indices", &mixed) || !mixed ||
            !node_attr_int(loss, "ignore_index", &index) || (found && index != *index_r))
            return false;
        *index_r = index;
        found = true;
    }
    return found;
}

static int one_hot(const struct tensor *t, const int64_t *index, int64_t n, int64_t classes,
                   const int64_t *ignored, real *out, struct error *e)
{
    struct tensor_text text;
    memset(out, 0, (size_t)(n * classes) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        if (ignored && index[i] == *ignored)
            continue;
        if (index[i] < 0 || index[i] >= classes)
            return error_set(
                e, ERROR_BAD_VALUE, "%s: class %lld at position %lld is outside 0..%lld",
                tensor_what(t, &text), (long long)index[i], (long long)i, (long long)(classes - 1));
        out[i * classes + index[i]] = 1;
    }
    return 0;
}

int class_indices_read(struct request *q, struct tensor *t, const struct network *net,
                       const struct node *target, const void **data_r, int64_t *batch_r,
                       struct error *e)
{
    struct tensor_text text;
    const int64_t classes = node_shape(target)->dim[1];
    int64_t count, all, ignored = 0;
    const bool ignores = ignored_index(net, target, &ignored);
    if (tensor_resolve(t, DTYPE_INT64, &SHAPE(BATCH), batch_r, &count, e))
        return -1;
    if (__builtin_mul_overflow(count, classes, &all))
        return error_set(e, ERROR_TOO_LARGE, "%s: %lld samples are too many", tensor_what(t, &text),
                         (long long)count);
    int64_t *index = arena_array(q->arena, (size_t)count, sizeof *index);
    real *out = arena_array(q->arena, (size_t)all, sizeof *out);
    if (!index || !out)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", tensor_what(t, &text));
    *data_r = out;
    return tensor_to_int64(t, q->arena, index, count, e)
               ? -1
               : one_hot(t, index, count, classes, ignores ? &ignored : NULL, out, e);
}
