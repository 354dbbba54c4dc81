/* describe_globs.c: what a description says of parameters by globs of their names: `frozen`, and
 * the groups of the optimiser, {"params":["*.bias","bn*"],"weight_decay":0}: a group has the
 * optimiser's attributes with its own in their place, and a parameter is in the first group that
 * names it. A glob that matches nothing is a mistake. */
#include "describe_parts.h"

#include <fnmatch.h>
#include <string.h>

enum { GLOBS_MAX = 256, GLOB_MAX_LENGTH = 256 };

typedef void mark_fn(struct param *p, int group);

static int glob_apply(struct describe *d, const char *glob, const char *place, mark_fn *mark,
                      int group)
{
    struct nearest near = {.given = glob};
    bool matched = false;
    if (strlen(glob) > GLOB_MAX_LENGTH)
        return error_set(d->e, ERROR_BAD_VALUE, "%s: expected at most %d characters", place,
                         GLOB_MAX_LENGTH);
    for (int k = 0; k < graph_param_count(d->net->graph); k++) {
        struct param *p = graph_param(d->net->graph, k);
        if (p->buffer)
            continue;
        nearest_offer(&near, p->name);
        if (fnmatch(glob, p->name, 0) != 0)
            continue;
        mark(p, group);
        matched = true;
    }
    if (matched)
        return 0;
    return error_set(d->e, ERROR_BAD_VALUE, "%s: no parameter matches '%.60s'%s%s%s", place, glob,
                     near.best ? "; did you mean '" : "", near.best ? near.best : "",
                     near.best ? "'?" : "");
}

static int globs_apply(struct describe *d, const json_t *list, const char *field, mark_fn *mark,
                       int group)
{
    if (json_array_size(list) > GLOBS_MAX)
        return error_set(d->e, ERROR_TOO_LARGE, "%s: expected at most %d, found %zu", field,
                         GLOBS_MAX, json_array_size(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct place p = describe_place("%s[%zu]", field, i);
        const json_t *glob = json_array_get(list, i);
        if (describe_check_type(glob, p.text, IS_STRING, "a string", d->e) ||
            glob_apply(d, json_string_value(glob), p.text, mark, group))
            return -1;
    }
    return 0;
}

static void mark_frozen(struct param *p, int group)
{
    (void)group;
    p->frozen = true;
}

int describe_frozen(struct describe *d)
{
    const json_t *list = describe_get(d->given, "frozen");
    if (list && describe_put(d->expanded, "frozen", json_deep_copy(list), d->e))
        return -1;
    return globs_apply(d, list, "frozen", mark_frozen, 0);
}

/* ---- groups of the optimiser ----------------------------------------------------------------- */

static const struct field group_fields[] = {
    {"params", IS_LIST, "a list of globs of parameter names", true},
    {0},
};
static const struct field merged_fields[] = {
    {"op", IS_STRING, "a string", true},
    {"params", IS_LIST, "a list", false},
    {"groups", IS_LIST, "a list", false},
    {0},
};

static void mark_group(struct param *p, int group)
{
    if (!p->group)
        p->group = group;
}

/* `betas` stands for beta1 and beta2: of what the optimiser says in one form, a group may give a
 * part or all in the other. -1: out of memory. */
static int betas_merge(json_t *merged, const json_t *group)
{
    static const char *const single[] = {"beta1", "beta2"};
    json_t *betas = json_incref((json_t *)(uintptr_t)describe_get(merged, "betas"));
    const bool apart = describe_get(group, single[0]) || describe_get(group, single[1]);
    int failed = 0;
    if (apart && betas)
        json_object_del(merged, "betas");
    for (size_t i = 0; i < 2; i++)
        if (describe_get(group, "betas"))
            json_object_del(merged, single[i]);
        else if (apart && json_array_get(betas, i))
            failed |= json_object_set(merged, single[i], json_array_get(betas, i));
    json_decref(betas);
    return failed;
}

/* The optimiser's attributes with the group's in their place. A new reference. */
static json_t *group_merge(const json_t *optimizer, const json_t *group)
{
    json_t *merged = json_copy((json_t *)(uintptr_t)optimizer);
    if (merged &&
        (betas_merge(merged, group) || json_object_update(merged, (json_t *)(uintptr_t)group))) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}

static int group_create(struct describe *d, const json_t *merged, const char *place)
{
    struct network *net = d->net;
    struct attr *attrs;
    int n;
    if (describe_attrs(merged, place, merged_fields, d->scratch, &attrs, &n, d->e))
        return -1;
    struct optimizer *own = optimizer_create(optimizer_name(net->optimizer), attrs, n, d->e);
    if (!own)
        return error_prefix(d->e, "%s", place);
    net->groups[net->n_groups++] = own;
    if (optimizer_slots(own) == optimizer_slots(net->optimizer))
        return 0;
    return error_set(d->e, ERROR_BAD_VALUE,
                     "%s: its attributes keep %d blocks of state, those of the optimizer %d: "
                     "groups must agree on that (momentum, amsgrad)",
                     place, optimizer_slots(own), optimizer_slots(net->optimizer));
}

static int group_read(struct describe *d, const json_t *optimizer, const json_t *given, size_t i)
{
    struct place p = describe_place("optimizer.groups[%zu]", i);
    struct place globs = describe_place("optimizer.groups[%zu].params", i);
    if (describe_check_type(given, p.text, IS_OBJECT, "an object", d->e) ||
        describe_check_fields(given, p.text, group_fields, true, d->e))
        return -1;
    if (describe_get(given, "op"))
        return error_set(d->e, ERROR_BAD_VALUE,
                         "%s.op: expected attributes of the optimizer '%s' only: groups share it",
                         p.text, optimizer_name(d->net->optimizer));
    json_t *merged = group_merge(optimizer, given);
    int status = merged ? group_create(d, merged, p.text) : describe_no_memory(d);
    json_decref(merged);
    return status ||
           globs_apply(d, describe_get(given, "params"), globs.text, mark_group, d->net->n_groups);
}

int describe_groups(struct describe *d, const json_t *optimizer)
{
    const json_t *list = describe_get(optimizer, "groups");
    if (list && describe_check_count(list, "optimizer.groups", NETWORK_MAX_GROUPS, d->e))
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (group_read(d, optimizer, json_array_get(list, i), i))
            return -1;
    return 0;
}
