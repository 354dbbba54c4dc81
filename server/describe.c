/* describe.c: from a model description to a network and to the expanded description. Both grow in
 * one pass over the parts, so that they cannot differ; the caller takes the one it wants. */
#include "describe.h"
#include "describe_parts.h"
#include "describe_template.h"

static const struct field description_fields[] = {
    {"inputs", IS_LIST, "a list of inputs", true},
    {"preprocess", IS_STRING | IS_OBJECT, "a preset or an object", false},
    {"layers", IS_LIST, "a list of layers", true},
    {"outputs", IS_LIST, "a list of outputs", false},
    {"targets", IS_LIST, "a list of targets", false},
    {"loss", IS_STRING | IS_OBJECT, "a string or an object", false},
    {"losses", IS_LIST, "a list of losses", false},
    {"optimizer", IS_STRING | IS_OBJECT, "a string or an object", false},
    {"schedule", IS_STRING | IS_OBJECT, "a string or an object", false},
    {"augment", IS_LIST | IS_OBJECT, "a list or an object", false},
    {"clip_grad_norm", IS_NUMBER, "a number above 0", false},
    {"clip_grad_value", IS_NUMBER, "a number above 0", false},
    {"seed", IS_INT, "an integer from 0 to 2^53", false},
    {"labels", IS_LIST, "a list of strings", false},
    {"frozen", IS_LIST, "a list of globs of parameter names", false},
    {"ema", IS_OBJECT, "an object", false},
    {"signals", IS_OBJECT, "an object, {\"every\":50}", false},
    {"durability", IS_STRING, "\"process\", \"power\" or \"none\"", false},
    {"max_batch_size", IS_INT, "a whole number", false},
    {"dynamic_batching", IS_OBJECT, "an object", false},
    {0},
};

/* In the order in which each needs the ones before. */
static int (*const parts[])(struct describe *) = {
    describe_inputs,    describe_preprocess, describe_layers,   describe_build,
    describe_outputs,   describe_augment,    describe_losses,   describe_augment_check,
    describe_optimizer, describe_settings,   describe_batching,
};
enum { PARTS = sizeof parts / sizeof parts[0] };

int describe_no_memory(struct describe *d)
{
    return error_set(d->e, ERROR_OUT_OF_MEMORY, "out of memory for a description");
}

json_t *describe_list(struct describe *d, const char *field)
{
    json_t *list = json_object_get(d->expanded, field);
    if (list)
        return list;
    list = json_array();
    return describe_put(d->expanded, field, list, d->e) ? NULL : list;
}

/* The network lies in its own arena: network_destroy frees both. */
static struct network *network_begin(struct error *e)
{
    struct arena *a = arena_create(1024);
    struct network *net = a ? arena_alloc(a, sizeof *net) : NULL;
    if (!net) {
        if (a)
            arena_destroy(&a);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a network");
        return NULL;
    }
    net->arena = a;
    net->graph = graph_create(e);
    if (!net->graph)
        network_destroy(&net);
    return net;
}

static int describe_begin(struct describe *d, const json_t *description, struct error *e)
{
    *d = (struct describe){.given = description, .e = e};
    if (describe_get(description, "template")) {
        d->given = d->written = template_expand(description, e);
        description = d->given;
        if (!d->written)
            return -1;
    }
    if (describe_check_fields(description, "", description_fields, false, e))
        return -1;
    d->expanded = json_object();
    d->names = json_object();
    d->blocks = json_object();
    d->scratch = arena_create(16384);
    if (!d->expanded || !d->names || !d->blocks || !d->scratch)
        return describe_no_memory(d);
    d->net = network_begin(e);
    return d->net ? 0 : -1;
}

/* Frees all but what the caller took out before. */
static void describe_end(struct describe *d)
{
    json_decref(d->written);
    json_decref(d->expanded);
    json_decref(d->names);
    json_decref(d->blocks);
    if (d->scratch)
        arena_destroy(&d->scratch);
    if (d->net)
        network_destroy(&d->net);
}

static int describe_run(struct describe *d, const json_t *description, struct error *e)
{
    int failed = describe_begin(d, description, e);
    for (int i = 0; i < PARTS && !failed; i++)
        failed = parts[i](d);
    return failed;
}

struct network *describe_network(const json_t *description, struct error *e)
{
    struct describe d;
    struct network *net = NULL;
    if (!describe_run(&d, description, e)) {
        net = d.net;
        d.net = NULL;
    }
    describe_end(&d);
    return net;
}

json_t *describe_expand(const json_t *description, struct error *e)
{
    struct describe d;
    json_t *expanded = NULL;
    if (!describe_run(&d, description, e)) {
        expanded = d.expanded;
        d.expanded = NULL;
    }
    describe_end(&d);
    return expanded;
}
