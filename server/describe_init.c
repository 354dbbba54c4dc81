/* describe_init.c: a layer's field `init`: other initialisers for its parameters than those of its
 * operator, {"bias":{"op":"constant","value":1}} or {"weight":"zeros"}. */
#include "describe_parts.h"

#include <string.h>

static const struct field init_fields[] = {
    {"op", IS_STRING, "the name of an initialiser", true},
    {0},
};

/* Place of the parameter "layer.name" among the graph's; those of a layer come last when it has
 * just been added. -1: there is none. */
static int param_find(const struct graph *g, const char *layer, const char *name)
{
    const size_t n = strlen(layer);
    for (int i = graph_param_count(g) - 1; i >= 0; i--) {
        const char *known = graph_param(g, i)->name;
        if (strncmp(known, layer, n) == 0 && known[n] == '.' && strcmp(known + n + 1, name) == 0)
            return i;
    }
    return -1;
}

static int param_init(struct describe *d, int param, const json_t *given, const char *place)
{
    const char *op = json_string_value(given);
    struct attr *attrs = NULL;
    int n = 0;
    if (describe_check_type(given, place, IS_STRING | IS_OBJECT, "a string or an object", d->e))
        return -1;
    if (json_is_object(given)) {
        if (describe_check_fields(given, place, init_fields, true, d->e) ||
            describe_attrs(given, place, init_fields, d->scratch, &attrs, &n, d->e))
            return -1;
        op = describe_get_string(given, "op");
    }
    if (graph_set_init(d->net->graph, param, op, attrs, n, d->e))
        return error_prefix(d->e, "%s", place);
    return 0;
}

int describe_init(struct describe *d, const struct layer *l, const char *place)
{
    const json_t *given = describe_get(l->given, "init");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)given, key, value)
    {
        struct place p = describe_place("%s.init.%s", place, key);
        const int param = param_find(d->net->graph, l->name, key);
        if (param < 0)
            return error_set(d->e, ERROR_BAD_ATTRIBUTE, "%s: layer '%s' has no parameter '%.60s'",
                             p.text, l->name, key);
        if (param_init(d, param, value, p.text))
            return -1;
    }
    return 0;
}
