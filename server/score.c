/* score.c: the table of metrics, and which of them a request gets. */
#include "score_private.h"

#include "describe_fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Costly ones are given unasked only for so many predicted numbers. */
static const int64_t COSTLY_MAX = 1 << 20;

static const struct {
    const char *name;
    enum score_task task;
    score_fn *compute; /* NULL: the confusion matrix, which is given only when it is asked for */
    bool costly;
} rows[] = {
    {"accuracy", SCORE_CLASSES, score_accuracy_classes, false},
    {"top5", SCORE_CLASSES, score_top5, false},
    {"f1_macro", SCORE_CLASSES, score_f1_macro_classes, false},
    {"f1_micro", SCORE_CLASSES, score_f1_micro_classes, false},
    {"roc_auc", SCORE_CLASSES, score_roc_auc_classes, true},
    {"calibration_error", SCORE_CLASSES, score_calibration_classes, true},
    {"confusion_matrix", SCORE_CLASSES, NULL, false},
    {"accuracy", SCORE_LABELS, score_accuracy_labels, false},
    {"f1_macro", SCORE_LABELS, score_f1_macro_labels, false},
    {"f1_micro", SCORE_LABELS, score_f1_micro_labels, false},
    {"roc_auc", SCORE_LABELS, score_roc_auc_labels, true},
    {"mean_average_precision", SCORE_LABELS, score_mean_average_precision, true},
    {"calibration_error", SCORE_LABELS, score_calibration_labels, true},
    {"mae", SCORE_VALUES, score_mae, false},
    {"rmse", SCORE_VALUES, score_rmse, false},
    {"r2", SCORE_VALUES, score_r2, false},
};
enum { ROWS = sizeof rows / sizeof rows[0] };
_Static_assert((int)ROWS <= (int)SCORE_MAX, "SCORE_MAX is too small");

static const struct {
    const char *loss;
    enum score_task task;
} tasks[] = {
    {"cross_entropy", SCORE_CLASSES},
    {"bce_with_logits", SCORE_LABELS},
    {"mse", SCORE_VALUES},
    {"l1", SCORE_VALUES},
    {"huber", SCORE_VALUES},
};

/* ---- batches ------------------------------------------------------------------------------------
 */

static enum score_task task_of(const struct network *net)
{
    if (!net->n_losses || !shape_batched(node_shape(node_input(net->losses[0], 0))))
        return SCORE_NOTHING;
    for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
        if (strcmp(tasks[i].loss, node_op(net->losses[0])) == 0)
            return tasks[i].task;
    return SCORE_NOTHING;
}

static const void *target_data(const struct network *net, const struct batch *b,
                               const struct node *target)
{
    for (int i = 0; i < net->n_targets; i++)
        if (net->targets[i] == target)
            return b->data[net->n_inputs + i];
    for (int i = 0; i < net->n_inputs; i++)
        if (net->inputs[i] == target)
            return b->data[i];
    return NULL;
}

struct scored score_batch(const struct network *net, const struct batch *b, const real *prediction)
{
    struct scored s = {.task = task_of(net)};
    if (s.task == SCORE_NOTHING)
        return s;
    const struct node *loss = net->losses[0], *target = node_input(loss, 1);
    const struct shape *shape = node_shape(node_input(loss, 0));
    s.n = b->n;
    s.classes = shape->rank > 1 ? shape->dim[1] : 1;
    s.inner = 1;
    for (int i = 2; i < shape->rank; i++)
        s.inner *= shape->dim[i];
    s.prediction = prediction;
    s.target = target_data(net, b, target);
    s.dtype = node_dtype(target);
    s.ignores = node_attr_int(loss, "ignore_index", &s.ignored);
    if (!s.target)
        s.task = SCORE_NOTHING;
    return s;
}

double score_accuracy(const struct network *net, const struct batch *b, const real *prediction)
{
    struct scored s = score_batch(net, b, prediction);
    double value = NAN;
    for (int i = 0; i < ROWS; i++)
        if (rows[i].task == s.task && strcmp(rows[i].name, "accuracy") == 0)
            rows[i].compute(&s, NULL, &value, NULL); /* takes no memory */
    return value;
}

/* ---- wishes -------------------------------------------------------------------------------------
 */

static int find_row(const char *name, enum score_task task)
{
    for (int i = 0; i < ROWS; i++)
        if (rows[i].task == task && strcmp(rows[i].name, name) == 0)
            return i;
    return -1;
}

static int unknown_name(const struct network *net, enum score_task task, const char *name,
                        struct error *e)
{
    char known[300] = "none";
    size_t used = 0;
    for (int i = 0; i < ROWS; i++)
        if (rows[i].task == task && used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                     rows[i].name);
    return error_set(e, ERROR_BAD_VALUE, "parameters.metrics: found '%.60s', the loss %s has: %s",
                     name, net->n_losses ? node_op(net->losses[0]) : "none", known);
}

int score_wishes_read(const struct network *net, const json_t *names, struct score_wishes *w_r,
                      struct error *e)
{
    enum score_task task = task_of(net);
    size_t i;
    json_t *value;
    *w_r = (struct score_wishes){.all = !names};
    if (!names)
        return 0;
    if (describe_check_type(names, "parameters.metrics", IS_LIST, "a list of names", e))
        return -1;
    json_array_foreach((json_t *)names, i, value)
    {
        struct place p = describe_place("parameters.metrics[%zu]", i);
        if (describe_check_type(value, p.text, IS_STRING, "a name", e))
            return -1;
        int row = find_row(json_string_value(value), task);
        if (row < 0)
            return unknown_name(net, task, json_string_value(value), e);
        w_r->wanted[row] = true;
    }
    return 0;
}

/* ---- values -------------------------------------------------------------------------------------
 */

static bool wanted(const struct score_wishes *w, int row, int64_t predicted)
{
    if (!w->all)
        return w->wanted[row];
    return rows[row].compute && (!rows[row].costly || predicted <= COSTLY_MAX);
}

static bool all_finite(const real *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

static int compute_row(const struct scored *s, int row, bool finite, struct arena *a,
                       struct score_value *v, struct error *e)
{
    *v = (struct score_value){.name = rows[row].name, .value = NAN};
    if (!finite)
        return 0;
    return rows[row].compute ? rows[row].compute(s, a, &v->value, e) : score_confusion(s, a, v, e);
}

int score_compute(const struct scored *s, const struct score_wishes *w, struct arena *a,
                  struct scores *r, struct error *e)
{
    int64_t predicted = s->n * s->classes * s->inner;
    bool finite = all_finite(s->prediction, predicted);
    r->n = 0;
    for (int i = 0; i < ROWS; i++)
        if (rows[i].task == s->task && wanted(w, i, predicted) &&
            compute_row(s, i, finite, a, &r->v[r->n++], e))
            return -1;
    return 0;
}

void score_write(struct json_out *w, const struct scores *r)
{
    for (int i = 0; i < r->n; i++) {
        const struct score_value *v = &r->v[i];
        out_key(w, v->name);
        if (v->matrix) {
            out_open_array(w);
            for (int64_t k = 0; k < v->size; k++)
                out_int64s(w, v->matrix + k * v->size, (size_t)v->size);
            out_close(w);
        } else if (isnan(v->value)) {
            out_null(w);
        } else {
            out_double(w, v->value);
        }
    }
}
