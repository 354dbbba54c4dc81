/* describe_outputs.c: the named results of a network, and the probabilities that a classifier
 * offers beside its logits. */
#include "describe_parts.h"

#include <string.h>

static const struct field output_fields[] = {
    {"name", IS_STRING, "a string", false},
    {"layer", IS_STRING, "the name of a layer", true},
    {0},
};

struct output {
    const char *name, *layer;
    struct place place; /* of the layer's name */
};

static int output_read(struct describe *d, const json_t *item, size_t i, size_t n, struct output *o)
{
    struct place p = describe_place("outputs[%zu]", i);
    o->place = p;
    o->layer = json_string_value(item);
    if (describe_check_type(item, p.text, IS_STRING | IS_OBJECT,
                            "the name of a layer or {name, layer}", d->e))
        return -1;
    if (json_is_object(item)) {
        if (describe_check_fields(item, p.text, output_fields, false, d->e))
            return -1;
        o->layer = describe_get_string(item, "layer");
        o->place = describe_place("outputs[%zu].layer", i);
    }
    o->name = describe_get_string(item, "name");
    if (!o->name) /* one output is called "output", several after their layers */
        o->name = n == 1 ? "output" : o->layer;
    p = describe_place("outputs[%zu].name", i);
    return describe_check_name(o->name, p.text, d->e);
}

static int check_unique(struct describe *d, const struct output *o)
{
    for (int i = 0; i < d->net->n_outputs; i++)
        if (strcmp(d->net->output_names[i], o->name) == 0)
            return error_set(d->e, ERROR_BAD_NAME,
                             "outputs[%d].name: outputs[%d] is called '%s' too", d->net->n_outputs,
                             i, o->name);
    return 0;
}

static int output_put(struct describe *d, const struct output *o)
{
    json_t *item = json_object();
    int failed = describe_put(item, "name", json_string(o->name), d->e) ||
                 describe_put(item, "layer", json_string(o->layer), d->e);
    failed |= describe_append(describe_list(d, "outputs"), item, d->e);
    return failed ? -1 : 0;
}

static int output_add(struct describe *d, const struct output *o)
{
    struct network *net = d->net;
    struct shape_text text;
    int layer;
    if (check_unique(d, o) || describe_find(d, o->layer, o->place.text, false, &layer))
        return -1;
    struct node *n = d->layers[layer].node;
    if (!shape_batched(node_shape(n)))
        return error_set(d->e, ERROR_BAD_GRAPH,
                         "%s: layer '%s' gives %s, expected one result for each sample ([N, ...])",
                         o->place.text, o->layer, shape_print(node_shape(n), &text));
    char *name = arena_strdup(net->arena, o->name);
    if (!name)
        return describe_no_memory(d);
    net->output_names[net->n_outputs] = name;
    net->outputs[net->n_outputs++] = n;
    return output_put(d, o);
}

int describe_outputs(struct describe *d)
{
    const json_t *list = describe_get(d->given, "outputs");
    struct output o = {"output", d->layers[d->n_layers - 1].name, {"outputs"}};
    if (!list)
        return output_add(d, &o);
    size_t n = json_array_size(list);
    if (describe_check_count(list, "outputs", NETWORK_MAX_IO, d->e))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (output_read(d, json_array_get(list, i), i, n, &o) || output_add(d, &o))
            return -1;
    return 0;
}

/* ---- probabilities --------------------------------------------------------------------------- */

/* What turns the logits of a loss into probabilities. */
static const struct {
    const char *loss, *op;
    struct attr attrs[1];
    int n_attrs;
} activations[] = {
    {"cross_entropy", "softmax", {{.name = "dim", .kind = ATTR_IS_INT, .i = 1, .d = 1}}, 1},
    {"bce_with_logits", "sigmoid", {{0}}, 0},
};
enum { ACTIVATIONS = sizeof activations / sizeof activations[0] };

static int labels_check(struct describe *d)
{
    const struct shape *s = node_shape(d->net->outputs[0]);
    size_t labels = json_array_size(describe_get(d->given, "labels"));
    int64_t classes = s->rank > 1 ? s->dim[1] : 1;
    if (!describe_get(d->given, "labels") || (int64_t)labels == classes)
        return 0;
    return error_set(d->e, ERROR_BAD_VALUE,
                     "labels: expected %lld, as many as '%s' has classes, found %zu",
                     (long long)classes, d->net->output_names[0], labels);
}

static int names_check(struct describe *d)
{
    for (int i = 0; i < d->net->n_outputs; i++)
        if (strcmp(d->net->output_names[i], "probabilities") == 0)
            return error_set(
                d->e, ERROR_BAD_NAME,
                "outputs[%d].name: 'probabilities' is what a classifier offers besides", i);
    return 0;
}

int describe_probabilities(struct describe *d, const char *loss)
{
    struct network *net = d->net;
    for (int k = 0; k < ACTIVATIONS && !net->probabilities; k++) {
        if (strcmp(activations[k].loss, loss) != 0)
            continue;
        if (names_check(d) || labels_check(d))
            return -1;
        net->probabilities = graph_add(net->graph, activations[k].op, "probabilities", net->outputs,
                                       1, activations[k].attrs, activations[k].n_attrs, d->e);
        return net->probabilities ? 0 : error_prefix(d->e, "outputs[0]");
    }
    return 0;
}
