/* describe_targets.c: what losses compare with. Targets are listed in the description, or are made
 * as the losses name them; the operator of a loss says which datatype and shape it wants. A loss
 * may also name an input of the network: then clients send it once, as the input. */
#include "describe_losses.h"

#include <string.h>

int describe_targets_read(struct describe *d, struct losses *ls)
{
    const json_t *list = describe_get(d->given, "targets");
    size_t n = json_array_size(list);
    ls->targets_given = list != NULL;
    if (list && describe_check_count(list, "targets", NETWORK_MAX_IO, d->e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct place p = describe_place("targets[%zu]", i), name = {"target"};
        if (n > 1)
            name = describe_place("target%zu", i);
        if (describe_tensor(d, json_array_get(list, i), p.text, name.text, &ls->targets[i]))
            return -1;
        for (size_t j = 0; j < i; j++)
            if (strcmp(ls->targets[j].name, ls->targets[i].name) == 0)
                return error_set(d->e, ERROR_BAD_NAME, "%s.name: targets[%zu] is called '%s' too",
                                 p.text, j, ls->targets[i].name);
        ls->n_targets++;
    }
    return 0;
}

static int target_find(const struct losses *ls, const char *name)
{
    for (int i = 0; i < ls->n_targets; i++)
        if (strcmp(ls->targets[i].name, name) == 0)
            return i;
    return -1;
}

static int target_unknown(struct describe *d, const struct losses *ls, const struct loss *l)
{
    struct nearest near = {.given = l->target};
    for (int i = 0; i < ls->n_targets; i++)
        nearest_offer(&near, ls->targets[i].name);
    return error_set(d->e, ERROR_BAD_GRAPH, "%s.target: no target is called '%s'%s%s%s",
                     l->place.text, l->target, near.best ? "; did you mean '" : "",
                     near.best ? near.best : "", near.best ? "'?" : "");
}

/* The target's name where none is given: of the one target, or of those given in order. */
static int target_name(struct describe *d, const struct losses *ls, struct loss *l)
{
    int i = (int)(l - ls->at);
    if (l->target)
        return 0;
    if (!ls->targets_given) {
        l->target = ls->n == 1 ? "target" : arena_printf(d->scratch, "target%d", i);
        return l->target ? 0 : describe_no_memory(d);
    }
    if (ls->n_targets != 1 && ls->n_targets != ls->n)
        return error_set(d->e, ERROR_MISSING_FIELD,
                         "%s: the field 'target' is missing: say which of the %d targets it takes",
                         l->place.text, ls->n_targets);
    l->target = ls->targets[ls->n_targets == 1 ? 0 : i].name;
    return 0;
}

/* Whether the target is class indices that augmentation turns into probabilities. */
static bool target_is_mixed(const struct describe *d, const struct tensor_spec *t,
                            const struct loss *l, enum dtype dtype, const struct shape *shape)
{
    return d->net->augment && augment_mixes(d->net->augment) && dtype == DTYPE_INT64 &&
           node_shape(l->of[0])->rank == 2 && (!t->has_dtype || t->dtype == dtype) &&
           (!t->has_shape || shape_equal(&t->shape, shape));
}

/* Fills in what is left out of a target. A target of the prediction's own shape where the loss
 * usually takes classes stands for probabilities. */
static int target_complete(const struct describe *d, struct losses *ls, struct loss *l,
                           struct error *e)
{
    struct tensor_spec *t = &ls->targets[l->to];
    const struct shape *prediction = node_shape(l->of[0]);
    enum dtype dtype;
    struct shape shape;
    if (loss_target(l->op, prediction, &dtype, &shape, e))
        return error_prefix(e, "%s", l->place.text);
    if (target_is_mixed(d, t, l, dtype, &shape)) {
        t->dtype = DTYPE_REAL;
        t->shape = *prediction;
        t->has_dtype = t->has_shape = ls->mixed[l->to] = true;
    }
    l->mixed = ls->mixed[l->to] && strcmp(l->op, "cross_entropy") == 0;
    if (!t->has_dtype)
        t->dtype =
            t->has_shape && !shape_equal(&t->shape, &shape) && shape_equal(&t->shape, prediction)
                ? DTYPE_REAL
                : dtype;
    if (!t->has_shape)
        t->shape = t->dtype == dtype ? shape : *prediction;
    t->has_dtype = t->has_shape = true;
    return 0;
}

/* Whether the target is an input of the network, as of an autoencoder. */
static bool target_is_input(const struct describe *d, struct loss *l)
{
    const json_t *place = json_object_get(d->names, l->target);
    if (!place || json_integer_value(place) >= 0)
        return false;
    l->to_node = d->net->inputs[~json_integer_value(place)];
    return true;
}

int describe_target_resolve(struct describe *d, struct losses *ls, struct loss *l)
{
    if (target_name(d, ls, l))
        return -1;
    l->to = target_find(ls, l->target);
    if (l->to < 0 && target_is_input(d, l))
        return 0;
    if (l->to < 0 && ls->targets_given)
        return target_unknown(d, ls, l);
    if (l->to < 0) {
        l->to = ls->n_targets++; /* no more than there are losses */
        ls->targets[l->to] = (struct tensor_spec){.name = l->target};
    }
    ls->used[l->to] = true;
    return target_complete(d, ls, l, d->e);
}

int describe_targets_add(struct describe *d, const struct losses *ls)
{
    struct network *net = d->net;
    for (int i = 0; i < ls->n_targets; i++) {
        const struct tensor_spec *t = &ls->targets[i];
        if (!ls->used[i])
            return error_set(d->e, ERROR_BAD_GRAPH, "targets[%d]: no loss takes '%s'", i, t->name);
        net->targets[i] = graph_input(net->graph, t->name, t->dtype, &t->shape, d->e);
        if (!net->targets[i])
            return error_prefix(d->e, "targets[%d]", i);
        net->n_targets++;
        if (describe_put_tensor(d, "targets", t))
            return -1;
    }
    return 0;
}
