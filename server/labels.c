/* labels.c: classes by their names, in targets and in boxes. */
#include "labels.h"

#include "describe_fields.h"

#include <string.h>

json_t *labels_of(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    json_t *labels = json_object_get(m->settings, "labels");
    labels = json_incref(labels ? labels : json_object_get(m->given, "labels"));
    pthread_mutex_unlock(&m->lock);
    return labels;
}

int labels_find(const json_t *labels, const char *label, const char *place, int64_t *class_r,
                struct error *e)
{
    struct nearest near = {.given = label};
    for (size_t i = 0; i < json_array_size(labels); i++) {
        const char *known = json_string_value(json_array_get(labels, i));
        if (known && strcmp(known, label) == 0) {
            *class_r = (int64_t)i;
            return 0;
        }
        if (known)
            nearest_offer(&near, known);
    }
    return error_set(e, ERROR_BAD_VALUE, "%s: the model has no label '%.60s'%s%s%s", place, label,
                     near.best ? "; did you mean '" : "", near.best ? near.best : "",
                     near.best ? "'?" : "");
}

bool labels_given(const struct tensor *t, const struct node *target)
{
    return t->strings && node_dtype(target) == DTYPE_INT64;
}

static int check_shape(const struct tensor *t, const struct node *target, const char *what,
                       int64_t n, struct error *e)
{
    const struct shape *want = node_shape(target);
    struct shape_text text;
    if (want->rank != 1 || !shape_batched(want))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: names of classes are for a target of the shape [N], not %s", what,
                         shape_print(want, &text));
    if (!n)
        return error_set(e, ERROR_EMPTY_BATCH, "%s is empty", what);
    if (!t->has_shape || (t->shape.rank == 1 && t->shape.dim[0] == n))
        return 0;
    return error_set(e, ERROR_BAD_SHAPE, "%s: the shape is %s, but there are %lld names", what,
                     shape_print(&t->shape, &text), (long long)n);
}

int labels_read(struct request *q, const struct tensor *t, const struct node *target,
                const void **data_r, int64_t *batch_r, struct error *e)
{
    struct tensor_text text;
    const char *what = tensor_what(t, &text);
    const int64_t n = (int64_t)json_array_size(t->strings);
    int64_t *classes = arena_array(q->arena, (size_t)n + 1, sizeof *classes);
    if (!classes)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", what);
    if (check_shape(t, target, what, n, e))
        return -1;
    json_t *labels = labels_of(q->model);
    int failed = labels ? 0
                        : error_set(e, ERROR_BAD_VALUE,
                                    "%s: classes by name need labels, and the model has none; "
                                    "send their numbers, or PATCH \"labels\"",
                                    what);
    for (int64_t i = 0; i < n && !failed; i++) {
        const json_t *item = json_array_get(t->strings, (size_t)i);
        struct place p = describe_place("%s[%lld]", what, (long long)i);
        failed = describe_check_type(item, p.text, IS_STRING, "the name of a class", e) ||
                 labels_find(labels, json_string_value(item), p.text, &classes[i], e);
    }
    json_decref(labels);
    *data_r = classes;
    *batch_r = n;
    return failed ? -1 : 0;
}
