/* describe_losses.c: targets and losses. First the losses are read and find what they compare;
 * then the targets, whose datatypes and shapes follow from the losses where they are left out,
 * become leaves of the graph; then the losses become nodes and are summed:
 *
 *   loss = sum over i of weight[i] * losses[i] */
#include "describe_losses.h"

#include <string.h>

/* `weight` stands first: a list there is an attribute of the operator (class weights), a number
 * the place of this loss in the sum, and the table without its first row reads the former. */
static const struct field loss_fields[] = {
    {"weight", IS_NUMBER | IS_LIST, "a number or a list of numbers", false},
    {"op", IS_STRING, "a string", true},
    {"name", IS_STRING, "a string", false},
    {"input", IS_STRING, "the name of an output or of a layer", false},
    {"target", IS_STRING, "the name of a target", false},
    {0},
};

/* ---- reading --------------------------------------------------------------------------------- */

static int loss_read_object(struct describe *d, struct loss *l)
{
    const json_t *weight = describe_get(l->given, "weight");
    if (describe_check_fields(l->given, l->place.text, loss_fields, true, d->e))
        return -1;
    l->op = describe_get_string(l->given, "op");
    l->input = describe_get_string(l->given, "input");
    l->target = describe_get_string(l->given, "target");
    if (describe_get_string(l->given, "name"))
        l->name = describe_get_string(l->given, "name");
    if (json_is_number(weight))
        l->weight = json_number_value(weight);
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

/* The output or layer of this name; an output's name comes first. */
static int input_find(struct describe *d, const struct loss *l, struct node **node_r)
{
    struct network *net = d->net;
    struct place p = describe_place("%s.input", l->place.text);
    int layer;
    for (int i = 0; i < net->n_outputs; i++)
        if (strcmp(net->output_names[i], l->input) == 0) {
            *node_r = net->outputs[i];
            return 0;
        }
    if (describe_find(d, l->input, p.text, false, &layer))
        return -1;
    *node_r = d->layers[layer].node;
    return 0;
}

/* Without a name: one loss takes the first output, several take theirs in order. */
static int input_resolve(struct describe *d, const struct losses *ls, struct loss *l)
{
    struct network *net = d->net;
    struct shape_text text;
    bool in_order = ls->n > 1 && net->n_outputs > 1;
    int i = in_order ? (int)(l - ls->at) : 0;
    if (!l->input && in_order && ls->n != net->n_outputs)
        return error_set(d->e, ERROR_MISSING_FIELD,
                         "%s: the field 'input' is missing: say which of the %d outputs it takes",
                         l->place.text, net->n_outputs);
    if (!l->input)
        l->input = net->output_names[i];
    if (input_find(d, l, &l->of))
        return -1;
    if (shape_batched(node_shape(l->of)))
        return 0;
    return error_set(d->e, ERROR_BAD_GRAPH,
                     "%s.input: '%s' gives %s, expected one result for each sample ([N, ...])",
                     l->place.text, l->input, shape_print(node_shape(l->of), &text));
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

static int loss_add(struct describe *d, const struct losses *ls, const struct loss *l)
{
    struct network *net = d->net;
    struct node *in[] = {l->of, net->targets[l->to]};
    struct node *n = graph_add(net->graph, l->op, l->name, in, 2, l->attrs, l->n_attrs, d->e);
    if (!n)
        return error_prefix(d->e, "%s", l->place.text);
    net->losses[net->n_losses++] = n;
    return sum_add(d, ls, l, n);
}

/* ---- the expanded description ---------------------------------------------------------------- */

/* One `loss` stays as it was given, as an object; items of `losses` say all that they take. */
static int loss_put(struct describe *d, const struct losses *ls, const struct loss *l)
{
    const char *key;
    json_t *value, *item = json_object();
    int failed = describe_put(item, "op", json_string(l->op), d->e);
    if (ls->list)
        failed = failed || describe_put(item, "name", json_string(l->name), d->e) ||
                 describe_put(item, "input", json_string(l->input), d->e) ||
                 describe_put(item, "target", json_string(l->target), d->e);
    json_object_foreach((json_t *)l->given, key, value)
    {
        if (!failed && !json_object_get(item, key) && !json_is_null(value))
            failed = describe_put(item, key, json_deep_copy(value), d->e);
    }
    if (ls->list && !json_object_get(item, "weight"))
        failed = failed || describe_put(item, "weight", json_integer(1), d->e);
    failed |= ls->list ? describe_append(describe_list(d, "losses"), item, d->e)
                       : describe_put(d->expanded, "loss", item, d->e);
    return failed ? -1 : 0;
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
        if (loss_add(d, ls, &ls->at[i]) || loss_put(d, ls, &ls->at[i]))
            return -1;
    for (int i = 0; i < ls->n; i++)
        if (ls->at[i].of == d->net->outputs[0] && describe_probabilities(d, ls->at[i].op))
            return -1;
    return 0;
}
