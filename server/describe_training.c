/* describe_training.c: how a network is trained: optimiser, schedule, clipping, moving average,
 * seed; and the labels of its classes. */
#include "describe_parts.h"

#include <string.h>

static const struct field op_fields[] = {
    {"op", IS_STRING, "a string", true},
    {0},
};
static const struct field optimizer_fields[] = {
    {"op", IS_STRING, "a string", true},
    {"groups", IS_LIST, "a list of groups of parameters", false},
    {0},
};

/* {"op":..., attributes} or a string: the same as an object, a new reference. */
static json_t *op_object(const json_t *given, const char *field, struct error *e)
{
    json_t *object =
        json_is_string(given) ? json_pack("{s:O}", "op", given) : json_deep_copy(given);
    if (!object)
        error_set(e, ERROR_OUT_OF_MEMORY, "%s: out of memory", field);
    return object;
}

/* A constructor of the engine: optimizer_create or schedule_create behind one type. */
typedef void *create_fn(const char *name, const struct attr *attrs, int n, struct error *e);

static void *optimizer_make(const char *name, const struct attr *attrs, int n, struct error *e)
{
    return optimizer_create(name, attrs, n, e);
}

static void *schedule_make(const char *name, const struct attr *attrs, int n, struct error *e)
{
    return schedule_create(name, attrs, n, e);
}

static void *create(struct describe *d, const json_t *object, const char *field,
                    const struct field *fields, create_fn *make)
{
    struct attr *attrs;
    int n;
    if (describe_check_fields(object, field, fields, true, d->e) ||
        describe_attrs(object, field, fields, d->scratch, &attrs, &n, d->e))
        return NULL;
    void *made = make(describe_get_string(object, "op"), attrs, n, d->e);
    if (!made)
        error_prefix(d->e, "%s", field);
    return made;
}

static int optimizer_read(struct describe *d, json_t *object)
{
    struct network *net = d->net;
    net->optimizer = create(d, object, "optimizer", optimizer_fields, optimizer_make);
    if (!net->optimizer || describe_groups(d, object))
        return -1;
    if (!describe_get(object, "lr") &&
        describe_put(object, "lr", json_real(optimizer_lr(net->optimizer)), d->e))
        return -1;
    return describe_put(d->expanded, "optimizer", json_incref(object), d->e);
}

static int schedule_read(struct describe *d, json_t *object)
{
    d->net->schedule = create(d, object, "schedule", op_fields, schedule_make);
    return d->net->schedule ? describe_put(d->expanded, "schedule", json_incref(object), d->e) : -1;
}

static int op_read(struct describe *d, const json_t *given, const char *field,
                   int (*read)(struct describe *, json_t *))
{
    json_t *object = given ? op_object(given, field, d->e) : NULL;
    if (!given)
        return 0;
    int failed = object ? read(d, object) : -1;
    json_decref(object);
    return failed;
}

int describe_optimizer(struct describe *d)
{
    struct network *net = d->net;
    const json_t *given = describe_get(d->given, "optimizer");
    json_t *sgd = !given && net->loss ? json_pack("{s:s, s:f}", "op", "sgd", "lr", 0.01) : NULL;
    if (!given && net->loss && !sgd)
        return describe_no_memory(d);
    int failed = op_read(d, given ? given : sgd, "optimizer", optimizer_read) ||
                 op_read(d, describe_get(d->given, "schedule"), "schedule", schedule_read);
    json_decref(sgd);
    if (failed)
        return -1;
    if (!net->loss) { /* they were checked, but there is nothing to train */
        optimizer_destroy(&net->optimizer);
        while (net->n_groups > 0)
            optimizer_destroy(&net->groups[--net->n_groups]);
        schedule_destroy(&net->schedule);
    }
    return 0;
}

/* ---- clipping and seed ----------------------------------------------------------------------- */

static int clip_read(struct describe *d, const char *field, double *value_r)
{
    const json_t *given = describe_get(d->given, field);
    struct place found;
    if (!given)
        return 0;
    *value_r = json_number_value(given);
    if (!(*value_r > 0))
        return error_set(d->e, ERROR_BAD_VALUE, "%s: expected a number above 0, found %s", field,
                         describe_found(given, &found));
    return describe_put(d->expanded, field, json_deep_copy(given), d->e);
}

static int seed_read(struct describe *d)
{
    json_int_t seed = json_integer_value(describe_get(d->given, "seed"));
    if (seed < 0 || seed > (json_int_t)1 << 53)
        return error_set(d->e, ERROR_BAD_VALUE, "seed: expected 0 to 2^53, found %lld",
                         (long long)seed);
    d->net->seed = (uint64_t)seed;
    return describe_put(d->expanded, "seed", json_integer(seed), d->e);
}

/* ---- lists of strings ------------------------------------------------------------------------ */

static int strings_read(struct describe *d, const char *field)
{
    const json_t *list = describe_get(d->given, field);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct place p = describe_place("%s[%zu]", field, i);
        if (describe_check_type(json_array_get(list, i), p.text, IS_STRING, "a string", d->e))
            return -1;
    }
    return list ? describe_put(d->expanded, field, json_deep_copy(list), d->e) : 0;
}

static const struct field ema_fields[] = {
    {"decay", IS_NUMBER, "a number between 0 and 1", false},
    {0},
};

/* The moving average of the weights. A model that cannot train keeps none. */
static int ema_read(struct describe *d)
{
    const json_t *given = describe_get(d->given, "ema"), *decay = describe_get(given, "decay");
    struct place found;
    if (!given)
        return 0;
    if (describe_check_fields(given, "ema", ema_fields, false, d->e))
        return -1;
    const double value = decay ? json_number_value(decay) : 0.999;
    if (!(value > 0 && value < 1))
        return error_set(d->e, ERROR_BAD_VALUE,
                         "ema.decay: expected a number between 0 and 1, found %s",
                         describe_found(decay, &found));
    d->net->ema_decay = d->net->loss ? value : 0;
    return describe_put(d->expanded, "ema", json_pack("{s:f}", "decay", value), d->e);
}

static int durability_read(struct describe *d)
{
    static const char *const choices[] = {"process", "power", "none"};
    const char *given = describe_get_string(d->given, "durability");
    for (size_t i = 0; given && i < sizeof choices / sizeof choices[0]; i++)
        if (strcmp(given, choices[i]) == 0)
            return describe_put(d->expanded, "durability", json_string(given), d->e);
    if (!given)
        return 0;
    return error_set(d->e, ERROR_BAD_VALUE,
                     "durability: expected \"process\", \"power\" or \"none\", found \"%.40s\"",
                     given);
}

/* ---- signals --------------------------------------------------------------------------------- */

/* {"every": N}: at which steps training records the signals of its layers; 0: at none. */
static int signals_read(struct describe *d)
{
    static const struct field fields[] = {{"every", IS_INT, "a whole number", true}, {0}};
    const json_t *given = describe_get(d->given, "signals");
    if (!given)
        return 0;
    if (describe_check_fields(given, "signals", fields, false, d->e))
        return -1;
    json_int_t every = json_integer_value(describe_get(given, "every"));
    if (every < 0 || every > (json_int_t)1 << 53)
        return error_set(d->e, ERROR_BAD_VALUE, "signals.every: expected 0 to 2^53, found %lld",
                         (long long)every);
    return describe_put(d->expanded, "signals", json_deep_copy(given), d->e);
}

int describe_settings(struct describe *d)
{
    if (clip_read(d, "clip_grad_norm", &d->net->clip_grad_norm) ||
        clip_read(d, "clip_grad_value", &d->net->clip_grad_value) || seed_read(d) ||
        strings_read(d, "labels") || durability_read(d) || ema_read(d) || signals_read(d))
        return -1;
    return describe_frozen(d);
}
