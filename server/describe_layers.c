/* describe_layers.c: reading the list of layers: their names, operators and what they take. They
 * become nodes in describe_build.c, when all names are known. */
#include "describe_parts.h"

#include <string.h>

enum { LAYERS_MAX = 10000 };

static const struct field layer_fields[] = {
    {"op", IS_STRING, "a string", true},
    {"name", IS_STRING, "a string", false},
    {"inputs", IS_STRING | IS_LIST, "a name or a list of names", false},
    {"init", IS_OBJECT, "an object of initialisers by the name of the parameter", false},
    {"recompute", IS_BOOL | IS_STRING, "true, false or the name of a block", false},
    {0},
};

/* Offers the names of inputs and layers to `near`. */
static void offer_names(const struct describe *d, struct nearest *near, bool or_input)
{
    const char *known;
    json_t *place;
    json_object_foreach(d->names, known, place)
    {
        if (or_input || json_integer_value(place) >= 0)
            nearest_offer(near, known);
    }
}

int describe_find(struct describe *d, const char *name, const char *place, bool or_input,
                  int *place_r)
{
    const json_t *found = json_object_get(d->names, name);
    struct nearest near = {.given = name};
    if (found && (or_input || json_integer_value(found) >= 0)) {
        *place_r = (int)json_integer_value(found);
        return 0;
    }
    offer_names(d, &near, or_input);
    return error_set(d->e, ERROR_BAD_GRAPH, "%s: no layer%s is called '%.64s'%s%s%s", place,
                     or_input ? " or input" : "", name, near.best ? "; did you mean '" : "",
                     near.best ? near.best : "", near.best ? "'?" : "");
}

static const char *layer_name(struct describe *d, const json_t *given, int i)
{
    const char *name = describe_get_string(given, "name");
    return name ? name : arena_printf(d->scratch, "layers.%d", i);
}

static int name_claim(struct describe *d, int i, const char *place)
{
    const char *name = d->layers[i].name;
    struct place p = describe_place("%s.name", place);
    const json_t *other = json_object_get(d->names, name);
    if (describe_check_name(name, p.text, d->e))
        return -1;
    if (!other)
        return describe_put(d->names, name, json_integer(i), d->e);
    if (json_integer_value(other) < 0)
        return error_set(d->e, ERROR_BAD_NAME, "%s: an input is called '%s'", p.text, name);
    return error_set(d->e, ERROR_BAD_NAME, "%s: layers[%d] is called '%s' too", p.text,
                     (int)json_integer_value(other), name);
}

/* Layers with the same name for `recompute` are one block, and so are layers with true that follow
 * one another. A block's number is the place of its first layer, from 1 on. */
static int block_read(struct describe *d, int i, const char *place)
{
    struct layer *l = &d->layers[i];
    const json_t *block = describe_get(l->given, "recompute");
    if (!block || json_is_false(block) || json_is_null(block))
        return 0;
    l->block = i + 1;
    if (json_is_true(block) && i > 0 &&
        json_is_true(describe_get(d->layers[i - 1].given, "recompute")))
        l->block = d->layers[i - 1].block;
    const char *name = json_string_value(block);
    struct place p = describe_place("%s.recompute", place);
    if (!name)
        return 0;
    if (describe_check_name(name, p.text, d->e))
        return -1;
    const json_t *first = json_object_get(d->blocks, name);
    if (!first)
        return describe_put(d->blocks, name, json_integer(l->block), d->e);
    l->block = (int)json_integer_value(first);
    return 0;
}

static int layer_read(struct describe *d, int i)
{
    struct layer *l = &d->layers[i];
    struct place p = describe_place("layers[%d]", i);
    l->given = json_array_get(describe_get(d->given, "layers"), (size_t)i);
    if (describe_check_fields(l->given, p.text, layer_fields, true, d->e))
        return -1;
    l->op = describe_get_string(l->given, "op");
    l->name = layer_name(d, l->given, i);
    if (!l->name)
        return describe_no_memory(d);
    if (name_claim(d, i, p.text) || block_read(d, i, p.text))
        return -1;
    return describe_attrs(l->given, p.text, layer_fields, d->scratch, &l->attrs, &l->n_attrs, d->e);
}

/* The layer before; the first takes the one input. */
static int input_default(struct describe *d, int i, const char *place)
{
    if (i == 0 && d->net->n_inputs > 1)
        return error_set(d->e, ERROR_MISSING_FIELD,
                         "%s: the field 'inputs' is missing: say which of the %d inputs it takes",
                         place, d->net->n_inputs);
    d->layers[i].inputs[0] = i > 0 ? i - 1 : ~0;
    return 0;
}

static int input_read(struct describe *d, struct layer *l, int k, const json_t *name,
                      const char *place)
{
    if (describe_check_type(name, place, IS_STRING, "a name", d->e))
        return -1;
    return describe_find(d, json_string_value(name), place, true, &l->inputs[k]);
}

static int inputs_read(struct describe *d, int i)
{
    struct layer *l = &d->layers[i];
    struct place p = describe_place("layers[%d]", i);
    const json_t *names = describe_get(l->given, "inputs");
    size_t n = json_is_array(names) ? json_array_size(names) : 1;
    l->n_inputs = (int)n;
    l->inputs = arena_array(d->scratch, n + 1, sizeof *l->inputs);
    if (!l->inputs || n > INT32_MAX)
        return describe_no_memory(d);
    if (!names)
        return input_default(d, i, p.text);
    p = describe_place("layers[%d].inputs", i);
    if (json_is_string(names))
        return input_read(d, l, 0, names, p.text);
    if (describe_check_count(names, p.text, LAYERS_MAX, d->e))
        return -1;
    for (size_t k = 0; k < n; k++) {
        p = describe_place("layers[%d].inputs[%zu]", i, k);
        if (input_read(d, l, (int)k, json_array_get(names, k), p.text))
            return -1;
    }
    return 0;
}

/* Whether null says more of this attribute than leaving it out: a batch norm's momentum. */
static bool null_counts(const char *op, const char *name)
{
    struct op_info info;
    if (!op_info_named(op, &info))
        return false;
    for (const struct attr_def *a = info.attrs; a && a->name; a++)
        if (strcmp(a->name, name) == 0)
            return a->type == ATTR_REAL && a->choices;
    return false;
}

/* The layer as it was given, its name and operator first, its inputs as a list. Without what its
 * input says anyway, so that it is the same description with it. */
static int layer_put(struct describe *d, const struct layer *l)
{
    const char *key;
    json_t *value, *item = json_object();
    int failed = describe_put(item, "name", json_string(l->name), d->e) ||
                 describe_put(item, "op", json_string(l->op), d->e);
    json_object_foreach((json_t *)l->given, key, value)
    {
        if (failed || json_object_get(item, key) || op_attr_is_fact(l->op, key) ||
            (json_is_null(value) && !null_counts(l->op, key)))
            continue;
        json_t *copy = json_deep_copy(value);
        if (json_is_string(copy) && strcmp(key, "inputs") == 0)
            copy = json_pack("[o]", copy);
        failed = describe_put(item, key, copy, d->e);
    }
    failed |= describe_append(describe_list(d, "layers"), item, d->e);
    return failed ? -1 : 0;
}

int describe_layers(struct describe *d)
{
    const json_t *list = describe_get(d->given, "layers");
    if (describe_check_count(list, "layers", LAYERS_MAX, d->e))
        return -1;
    d->n_layers = (int)json_array_size(list);
    d->layers = arena_array(d->scratch, (size_t)d->n_layers, sizeof *d->layers);
    if (!d->layers)
        return describe_no_memory(d);
    for (int i = 0; i < d->n_layers; i++)
        if (layer_read(d, i))
            return -1;
    for (int i = 0; i < d->n_layers; i++)
        if (inputs_read(d, i) || layer_put(d, &d->layers[i]))
            return -1;
    return 0;
}
