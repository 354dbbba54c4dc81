/* score.c: accuracy, by a table of the losses that make a classifier. */
#include "score.h"

#include <math.h>
#include <string.h>

/* A prediction [n, classes, inner] and its target. */
struct scored {
    int64_t n, classes, inner;
    const real *prediction;
    const void *target;
    enum dtype dtype;
};

static int64_t argmax(const real *x, int64_t n, int64_t stride)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i * stride] > x[best * stride])
            best = i;
    return best;
}

/* Targets that are no class (ignore_index) do not count. */
static double accuracy_classes(const struct scored *s)
{
    int64_t right = 0, counted = 0;
    for (int64_t i = 0; i < s->n * s->inner; i++) {
        int64_t at = i / s->inner * s->classes * s->inner + i % s->inner;
        int64_t want = s->dtype == DTYPE_INT64
                           ? ((const int64_t *)s->target)[i]
                           : argmax((const real *)s->target + at, s->classes, s->inner);
        if (want < 0 || want >= s->classes)
            continue;
        counted++;
        right += argmax(s->prediction + at, s->classes, s->inner) == want;
    }
    return counted ? (double)right / (double)counted : NAN;
}

static double accuracy_binary(const struct scored *s)
{
    int64_t right = 0, count = s->n * s->classes * s->inner;
    for (int64_t i = 0; i < count; i++)
        right += (s->prediction[i] > 0) == (((const real *)s->target)[i] > (real)0.5);
    return count ? (double)right / (double)count : NAN;
}

static const struct {
    const char *loss;
    double (*accuracy)(const struct scored *s);
} rows[] = {
    {"cross_entropy", accuracy_classes},
    {"bce_with_logits", accuracy_binary},
};

static const void *target_data(const struct network *net, const struct batch *b,
                               const struct node *target)
{
    for (int i = 0; i < net->n_targets; i++)
        if (net->targets[i] == target)
            return b->data[net->n_inputs + i];
    return NULL;
}

double score_accuracy(const struct network *net, const struct batch *b, const real *prediction)
{
    if (!net->n_losses)
        return NAN;
    const struct node *loss = net->losses[0], *target = node_input(loss, 1);
    const struct shape *s = node_shape(node_input(loss, 0));
    struct scored scored = {.n = b->n,
                            .classes = s->rank > 1 ? s->dim[1] : 1,
                            .inner = 1,
                            .prediction = prediction,
                            .target = target_data(net, b, target),
                            .dtype = node_dtype(target)};
    for (int i = 2; i < s->rank; i++)
        scored.inner *= s->dim[i];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].loss, node_op(loss)) == 0 && scored.target && shape_batched(s))
            return rows[i].accuracy(&scored);
    return NAN;
}
