/* op.c: the families of operators, and finding a row by its name. */
#include "op.h"

#include <string.h>

static const struct op *const families[] = {
    ops_linear,       ops_conv,
    ops_conv_line,    ops_conv_transpose,
    ops_pool,         ops_upsample,
    ops_interpolate,  ops_norm,
    ops_activation,   ops_smooth,
    ops_hard,         ops_gated,
    ops_elementwise,  ops_select,
    ops_reduce,       ops_fold,
    ops_shape,        ops_move,
    ops_concat,       ops_permute,
    ops_tile,         ops_pad,
    ops_index,        ops_attention,
    ops_multihead,    ops_dropout,
    ops_loss,         ops_loss_pairs,
    ops_loss_rows,    ops_loss_margin,
    ops_loss_vectors, ops_recurrent,
    ops_position,     ops_position_embedding,
    ops_loss_ctc,     ops_leaf,
};
enum { FAMILIES = sizeof families / sizeof families[0] };

/* The row after `op`, the first when it is NULL; NULL after the last. */
static const struct op *op_next(const struct op *op, int *family)
{
    if (!op)
        *family = 0;
    else
        op++;
    while (!op || !op->name) {
        if (*family == FAMILIES)
            return NULL;
        op = families[(*family)++];
    }
    return op;
}

const struct op *op_find(const char *name)
{
    int family;
    for (const struct op *op = NULL; (op = op_next(op, &family));)
        if (strcmp(op->name, name) == 0)
            return op;
    return NULL;
}

const struct op *op_find_public(const char *name, const char *what, struct error *e)
{
    const struct op *op = op_find(name);
    int family;
    if (op && !(op->flags & OP_INTERNAL))
        return op;
    struct nearest near = {.given = name};
    for (const struct op *known = NULL; (known = op_next(known, &family));)
        if (!(known->flags & OP_INTERNAL))
            nearest_offer(&near, known->name);
    error_set(e, ERROR_UNKNOWN_OPERATOR,
              "%s: no operator '%.60s'%s%s%s (GET /v2/operators lists them)", what, name,
              near.best ? "; did you mean '" : "", near.best ? near.best : "",
              near.best ? "'?" : "");
    return NULL;
}

bool op_attr_is_fact(const char *op, const char *attr)
{
    const struct op *row = op_find(op);
    for (const struct attr_def *d = row ? row->attrs : NULL; d && d->name; d++)
        if (strcmp(d->name, attr) == 0)
            return d->type == ATTR_FACT;
    return false;
}

const struct param_def *op_param_def(const struct op *op, int k)
{
    const struct param_def *d = op->params;
    for (; d && d->name && k > 0; k--)
        d++;
    return d && d->name ? d : NULL;
}

static struct op_info info_of(const struct op *op)
{
    return (struct op_info){
        .name = op->name,
        .family = op->family,
        .doc = op->doc,
        .min_inputs = op->min_in,
        .max_inputs = op->max_in,
        .attrs = op->attrs,
        .params = op->params,
        .is_loss = op->flags & OP_LOSS,
        .differentiable = op->backward != NULL,
        .random = op->flags & OP_RANDOM,
    };
}

bool op_info_at(int i, struct op_info *info_r)
{
    int family;
    for (const struct op *op = NULL; (op = op_next(op, &family));) {
        if ((op->flags & OP_INTERNAL) || i-- > 0)
            continue;
        *info_r = info_of(op);
        return true;
    }
    return false;
}

bool op_info_named(const char *name, struct op_info *info_r)
{
    const struct op *op = op_find(name);
    if (!op || (op->flags & OP_INTERNAL))
        return false;
    *info_r = info_of(op);
    return true;
}
