/* describe_losses.c: targets and losses. First the losses are read and find what they compare;
 * then the targets, whose datatypes and shapes follow from the losses where they are left out,
 * become leaves of the graph; then the losses become nodes and are summed:
 *
 *   loss = sum over i of weight[i] * losses[i] */
#include "describe_losses.h"

#include <string.h>

#define MIXED "mixed_indices"

/* `weight` stands first: a list there is an attribute of the operator (class weights), a number
 * the place of this loss in the sum, and the table without its first row reads the former. */
static const struct field loss_fields[] = {
    {"weight", IS_NUMBER | IS_LIST, "a number or a list of numbers", false},
    {"op", IS_STRING, "a string", true},
    {"name", IS_STRING, "a string", false},
    {"input", IS_STRING | IS_LIST, "the name of an output, a layer or an input, or a list of them",
     false},
    {"target", IS_STRING, "the name of a target", false},
    {0},
};

/* ---- reading --------------------------------------------------------------------------------- */

static int loss_read_inputs(struct describe *d, struct loss *l)
{
    const json_t *given = describe_get(l->given, "input");
    struct place p = describe_place("%s.input", l->place.text);
    l->n_inputs = json_is_string(given);
    l->inputs[0] = json_string_value(given);
    if (!json_is_array(given))
        return 0;
    if (describe_check_count(given, p.text, NETWORK_MAX_IO - 1, d->e))
        return -1;
    for (; l->n_inputs < (int)json_array_size(given); l->n_inputs++) {
        const json_t *name = json_array_get(given, (size_t)l->n_inputs);
        p = describe_place("%s.input[%d]", l->place.text, l->n_inputs);
        if (describe_check_type(name, p.text, IS_STRING, "a name", d->e))
            return -1;
        l->inputs[l->n_inputs] = json_string_value(name);
    }
    return 0;
}

static int loss_read_object(struct describe *d, struct loss *l)
{
    const json_t *weight = describe_get(l->given, "weight");
    if (describe_check_fields(l->given, l->place.text, loss_fields, true, d->e))
        return -1;
    l->op = describe_get_string(l->given, "op");
    l->target = describe_get_string(l->given, "target");
    if (describe_get_string(l->given, "name"))
        l->name = describe_get_string(l->given, "name");
    if (json_is_number(weight))
        l->weight = json_number_value(weight);
    if (loss_read_inputs(d, l))
        return -1;
    return describe_attrs(l->given, l->place.text, loss_fields + json_is_array(weight), d->scratch,
                          &l->attrs, &l->n_attrs, d->e);
}

static int loss_check_names(struct describe *d, const struct losses *ls, const struct loss *l)
{
    struct place p = describe_place("%s.name", l->place.text);
    if (describe_check_name(l->name, p.text, d->e))
        return -1;
    for (const struct loss *other = ls->at; other < l; other++)
        if (strcmp(other->name, l->name) == 0)
            return error_set(d->e, ERROR_BAD_NAME, "%s: %s is called '%s' too", p.text,
                             other->place.text, l->name);
    p = describe_place("%s.target", l->place.text);
    return l->target ? describe_check_name(l->target, p.text, d->e) : 0;
}

static int loss_read(struct describe *d, struct losses *ls, const json_t *given)
{
    struct loss *l = &ls->at[ls->n];
    l->place = ls->list ? describe_place("losses[%d]", ls->n) : describe_place("loss");
    l->name = ls->list ? arena_printf(d->scratch, "losses.%d", ls->n) : "loss";
    l->op = json_string_value(given);
    l->weight = 1;
    if (!l->name)
        return describe_no_memory(d);
    if (describe_check_type(given, l->place.text, IS_STRING | IS_OBJECT, "a string or an object",
                            d->e))
        return -1;
    l->given = json_is_object(given) ? given : NULL;
    if (l->given && loss_read_object(d, l))
        return -1;
    ls->n++;
    return loss_check_names(d, ls, l);
}

static int losses_read(struct describe *d, struct losses *ls)
{
    const json_t *one = describe_get(d->given, "loss"), *list = describe_get(d->given, "losses");
    ls->list = list != NULL;
    if (one && list)
        return error_set(d->e, ERROR_BAD_GRAPH, "loss: expected 'loss' or 'losses', found both");
    if (!list)
        return one ? loss_read(d, ls, one) : 0;
    if (describe_check_count(list, "losses", NETWORK_MAX_IO, d->e))
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (loss_read(d, ls, json_array_get(list, i)))
            return -1;
    return 0;
}

/* ---- what a loss compares -------------------------------------------------------------------- */

/* The output, layer or input (lengths, for ctc) of this name; an output's name comes first. */
static int input_find(struct describe *d, const struct loss *l, const char *name,
                      struct node **node_r)
{
    struct network *net = d->net;
    struct place p = describe_place("%s.input", l->place.text);
    int layer;
    for (int i = 0; i < net->n_outputs; i++)
        if (strcmp(net->output_names[i], name) == 0) {
            *node_r = net->outputs[i];
            return 0;
        }
    if (describe_find(d, name, p.text, true, &layer))
        return -1;
    *node_r = layer < 0 ? net->inputs[~layer] : d->layers[layer].node;
    return 0;
}

static bool takes_several(const char *op)
{
    struct op_info info;
    return op_info_named(op, &info) && info.max_inputs > 2;
}

/* Without names: a loss of several inputs takes all outputs, one loss the first, several losses
 * take theirs in order. */
static int input_default(struct describe *d, const struct losses *ls, struct loss *l)
{
    struct network *net = d->net;
    bool in_order = ls->n > 1 && net->n_outputs > 1;
    if (takes_several(l->op) && net->n_outputs < NETWORK_MAX_IO) {
        l->n_inputs = net->n_outputs;
        memcpy(l->inputs, net->output_names, sizeof net->output_names);
        return 0;
    }
    if (in_order && ls->n != net->n_outputs)
        return error_set(d->e, ERROR_MISSING_FIELD,
                         "%s: the field 'input' is missing: say which of the %d outputs it takes",
                         l->place.text, net->n_outputs);
    l->inputs[0] = net->output_names[in_order ? l - ls->at : 0];
    l->n_inputs = 1;
    return 0;
}

static int input_resolve(struct describe *d, const struct losses *ls, struct loss *l)
{
    struct shape_text text;
    if (!l->n_inputs && input_default(d, ls, l))
        return -1;
    for (int i = 0; i < l->n_inputs; i++) {
        if (input_find(d, l, l->inputs[i], &l->of[i]))
            return -1;
        if (!shape_batched(node_shape(l->of[i])))
            return error_set(d->e, ERROR_BAD_GRAPH,
                             "%s.input: '%s' gives %s, expected one result for each sample "
                             "([N, ...])",
                             l->place.text, l->inputs[i], shape_print(node_shape(l->of[i]), &text));
    }
    return 0;
}

/* ---- the graph ------------------------------------------------------------------------------- */

/* The loss times its weight, added to the sum of those before it. */
static int sum_add(struct describe *d, const struct losses *ls, const struct loss *l,
                   struct node *loss)
{
    struct network *net = d->net;
    struct attr weight = {.name = "other", .kind = ATTR_IS_REAL, .d = l->weight};
    bool last = l == &ls->at[ls->n - 1];
    if (l->weight != 1)
        loss = graph_add(net->graph, "mul", NULL, &loss, 1, &weight, 1, d->e);
    if (loss && net->loss)
        loss = graph_add(net->graph, "add", last ? "loss" : NULL,
                         (struct node *[]){net->loss, loss}, 2, NULL, 0, d->e);
    net->loss = loss;
    return loss ? 0 : error_prefix(d->e, "%s", l->place.text);
}

/* A target of mixed class indices keeps the meaning of indices, also when the expanded description,
 * in which it is probabilities, is read again. */
static int mixed_add(struct describe *d, struct loss *l)
{
    if (!l->mixed || describe_get(l->given, MIXED))
        return 0;
    struct attr *all = arena_array(d->scratch, (size_t)l->n_attrs + 1, sizeof *all);
    if (!all)
        return describe_no_memory(d);
    if (l->n_attrs)
        memcpy(all + 1, l->attrs, (size_t)l->n_attrs * sizeof *all);
    all[0] = (struct attr){.name = MIXED, .kind = ATTR_IS_BOOL, .i = 1};
    l->attrs = all;
    l->n_attrs++;
    return 0;
}

static int loss_add(struct describe *d, const struct losses *ls, struct loss *l)
{
    if (mixed_add(d, l))
        return -1;
    struct network *net = d->net;
    struct node *in[NETWORK_MAX_IO + 1];
    memcpy(in, l->of, sizeof l->of);
    in[l->n_inputs] = l->to_node ? l->to_node : net->targets[l->to];
    struct node *n =
        graph_add(net->graph, l->op, l->name, in, l->n_inputs + 1, l->attrs, l->n_attrs, d->e);
    if (!n)
        return error_prefix(d->e, "%s", l->place.text);
    net->losses[net->n_losses++] = n;
    return sum_add(d, ls, l, n);
}

/* ---- the expanded description ---------------------------------------------------------------- */

/* One name as it is, several as a list. */
static json_t *inputs_json(const struct loss *l)
{
    json_t *list = l->n_inputs > 1 ? json_array() : NULL;
    for (int i = 0; list && i < l->n_inputs; i++)
        if (json_array_append_new(list, json_string(l->inputs[i]))) {
            json_decref(list);
            return NULL;
        }
    return l->n_inputs > 1 ? list : json_string(l->inputs[0]);
}

/* One `loss` stays as it was given, as an object; items of `losses` say all that they take. */
static int loss_put(struct describe *d, const struct losses *ls, const struct loss *l)
{
    const char *key;
    json_t *value, *item = json_object();
    int failed = describe_put(item, "op", json_string(l->op), d->e);
    if (ls->list)
        failed = failed || describe_put(item, "name", json_string(l->name), d->e) ||
                 describe_put(item, "input", inputs_json(l), d->e) ||
                 describe_put(item, "target", json_string(l->target), d->e);
    json_object_foreach((json_t *)l->given, key, value)
    {
        if (!failed && !json_object_get(item, key) && !json_is_null(value))
            failed = describe_put(item, key, json_deep_copy(value), d->e);
    }
    if (l->mixed && !json_object_get(item, MIXED))
        failed = failed || describe_put(item, MIXED, json_true(), d->e);
    if (ls->list && !json_object_get(item, "weight"))
        failed = failed || describe_put(item, "weight", json_integer(1), d->e);
    failed |= ls->list ? describe_append(describe_list(d, "losses"), item, d->e)
                       : describe_put(d->expanded, "loss", item, d->e);
    return failed ? -1 : 0;
}

/* A detector's labels are its classes. */
static int labels_check(struct describe *d, const struct node *loss)
{
    const json_t *labels = describe_get(d->given, "labels");
    struct detection_spec spec;
    if (!labels || !node_detection(loss, &spec) || (int64_t)json_array_size(labels) == spec.classes)
        return 0;
    return error_set(d->e, ERROR_BAD_VALUE,
                     "labels: expected %lld, as many as the detector has classes, found %zu",
                     (long long)spec.classes, json_array_size(labels));
}

int describe_losses(struct describe *d)
{
    struct losses *ls = arena_alloc(d->scratch, sizeof *ls);
    if (!ls)
        return describe_no_memory(d);
    if (losses_read(d, ls) || describe_targets_read(d, ls))
        return -1;
    for (int i = 0; i < ls->n; i++)
        if (input_resolve(d, ls, &ls->at[i]) || describe_target_resolve(d, ls, &ls->at[i]))
            return -1;
    if (describe_targets_add(d, ls))
        return -1;
    for (int i = 0; i < ls->n; i++)
        if (loss_add(d, ls, &ls->at[i]) || loss_put(d, ls, &ls->at[i]) ||
            labels_check(d, d->net->losses[i]))
            return -1;
    for (int i = 0; i < ls->n; i++)
        if (ls->at[i].of[0] == d->net->outputs[0] && describe_probabilities(d, ls->at[i].op))
            return -1;
    return 0;
}
