/* onnx_rows_loss.c: ONNX's losses as losses of ours; without a reduction, as compositions. */
#include "onnx_build.h"

#include <string.h>

enum { IN_SCORES, IN_LABELS, IN_WEIGHTS };

static bool ignores(const struct onnx_call *c, const struct onnx_tensor *labels)
{
    const struct onnx_attr *ignored = onnx_attr_find(c->node, "ignore_index");
    for (int64_t i = 0; ignored && i < labels->count; i++)
        if (labels->ints[i] == ignored->i)
            return true;
    return false;
}

/* The weight of each label, in their shape. */
static struct node *weights(struct onnx_call *c, const struct onnx_tensor *labels)
{
    struct node *all = onnx_real(c, IN_WEIGHTS);
    struct node *w = onnx_add1(c, "index_select", all, ONNX_INT("dim", 0),
                               onnx_attr_ints(c, "index", labels->ints, (int)labels->count));
    return onnx_reshape(c, w, labels->shape);
}

/* -weight[label] x[label], a number for each label. */
static struct node *each(struct onnx_call *c, struct node *x, const struct onnx_tensor *labels)
{
    struct shape s = labels->shape;
    if (!x || ignores(c, labels))
        return onnx_not_ours(c, "%s without a reduction that ignores labels", c->node->op);
    memmove(s.dim + 2, s.dim + 1, (size_t)(s.rank - 1) * sizeof *s.dim);
    s.dim[1] = 1;
    s.rank++;
    x = onnx_add2(c, "gather", x, onnx_indices(c, labels, s), ONNX_INT("dim", 1));
    x = onnx_add1(c, "neg", x ? onnx_reshape(c, x, labels->shape) : NULL);
    return onnx_has(c, IN_WEIGHTS) ? onnx_add2(c, "mul", x, weights(c, labels)) : x;
}

/* Of x: logits for cross_entropy, logarithms of probabilities for nll. */
static struct node *reduced(struct onnx_call *c, struct node *x, const struct onnx_tensor *labels)
{
    const struct onnx_attr *ignored = onnx_attr_find(c->node, "ignore_index");
    const struct onnx_tensor *w = onnx_has(c, IN_WEIGHTS) ? onnx_known(c, IN_WEIGHTS) : NULL;
    double *list = arena_array(c->b->arena, w ? (size_t)w->count : 1, sizeof *list);
    struct attr attrs[3] = {ONNX_TEXT("reduction", onnx_string(c, "reduction", "mean"))};
    int n = 1;
    if (onnx_has(c, IN_WEIGHTS) && (!w || !w->reals))
        return NULL;
    for (int64_t i = 0; w && list && i < w->count; i++)
        list[i] = (double)w->reals[i];
    if (w)
        attrs[n++] = (struct attr){
            .name = "weight", .kind = ATTR_IS_LIST, .list = list, .n_list = (int)w->count};
    if (ignored)
        attrs[n++] = (struct attr)ONNX_INT("ignore_index", ignored->i);
    struct node *inputs[] = {x, onnx_indices(c, labels, labels->shape)};
    return onnx_add_n(c, c->row->ours, inputs, 2, attrs, n);
}

static struct node *loss(struct onnx_call *c)
{
    const struct onnx_tensor *labels = onnx_known(c, IN_LABELS);
    const bool none = !strcmp(onnx_string(c, "reduction", "mean"), "none");
    const bool logits = !strcmp(c->row->ours, "cross_entropy");
    struct node *x = onnx_real(c, IN_SCORES);
    struct node *log = logits && (none || onnx_wants(c, 1))
                           ? onnx_add1(c, "log_softmax", x, ONNX_INT("dim", 1))
                           : x;
    if (!labels || !labels->ints || !x)
        return NULL;
    struct node *y = none ? each(c, log, labels) : reduced(c, x, labels);
    if (logits)
        onnx_give(c, 1, log);
    return y;
}

const struct onnx_row onnx_rows_loss[] = {
    {"SoftmaxCrossEntropyLoss", "cross_entropy", loss, 32},
    {"NegativeLogLikelihoodLoss", "nll", loss, 17},
    {0},
};
