/* multihead_shape.c: which inputs multihead_attention has, whether they fit, and its parameters. */
#include "multihead.h"

int multihead_real_inputs(const struct node *n)
{
    const int most = n->n_data - multihead_attrs(n)->attn_mask;
    int count = 0;
    while (count < most && n->in[count]->dtype == DTYPE_REAL)
        count++;
    return count;
}

bool multihead_has_padding(const struct node *n)
{
    return n->n_data - multihead_attrs(n)->attn_mask > multihead_real_inputs(n);
}

int multihead_input(const struct node *n, int part)
{
    const int count = multihead_real_inputs(n);
    return part < count ? part : count - 1;
}

int64_t multihead_features(const struct node *n, int part)
{
    return n->in[multihead_input(n, part)]->shape.dim[2];
}

static int check_counts(const struct node *n, struct error *e)
{
    const int count = multihead_real_inputs(n), masks = n->n_data - count,
              most = 1 + multihead_attrs(n)->attn_mask;
    if (!multihead_attrs(n)->batch_first)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'batch_first' must be true: the batch is the first "
                         "dimension here",
                         n->what);
    if (count >= 1 && count <= 3 && masks >= most - 1 && masks <= most)
        return 0;
    if (multihead_attrs(n)->attn_mask)
        return error_set(e, ERROR_BAD_DTYPE,
                         "%s: expects one to three inputs (query, key, value), then one INT64 mask "
                         "at most, then the attn_mask, found %d and %d others",
                         n->what, count, masks);
    return error_set(e, ERROR_BAD_DTYPE,
                     "%s: expects one to three inputs (query, key, value), then one INT64 mask "
                     "at most, found %d and %d others",
                     n->what, count, masks);
}

/* Input `part`, which is projected with that many features. */
static int check_input(const struct node *n, int part, int64_t features, struct error *e)
{
    static const char *const names[] = {"query", "key", "value"}, *const dims[] = {"", "k", "v"};
    const struct shape *q = &n->in[0]->shape, *k = &n->in[multihead_input(n, 1)]->shape;
    const struct shape *s = &n->in[multihead_input(n, part)]->shape;
    struct shape_text a, b;
    if (node_check_rank(n, multihead_input(n, part), 3, 3, e))
        return -1;
    if (s->dim[0] != q->dim[0] || (part == 2 && s->dim[1] != k->dim[1]) ||
        s->dim[1] > MHA_EMBED_MAX || s->dim[2] > MHA_EMBED_MAX)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects query [N, L, E], key and value [N, S, E] of at most %d "
                         "places, found %s and %s",
                         n->what, MHA_EMBED_MAX, shape_print(q, &a), shape_print(s, &b));
    if (s->dim[2] == features)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: expects a %s of %lld features, found %s; attribute '%sdim' says how many "
                     "there are when not as many as the query has",
                     n->what, names[part], (long long)features, shape_print(s, &a), dims[part]);
}

static int check_masks(const struct node *n, struct error *e)
{
    const int count = multihead_real_inputs(n), last = n->n_data - 1;
    const int64_t places = n->in[multihead_input(n, 1)]->shape.dim[1];
    const struct shape *q = &n->in[0]->shape, keys = SHAPE(q->dim[0], places);
    struct shape_text a, b;
    if (multihead_has_padding(n) &&
        (n->in[count]->dtype != DTYPE_INT64 || !shape_equal(&n->in[count]->shape, &keys)))
        return error_set(e, ERROR_BAD_SHAPE, "%s: the mask must have the shape %s, not %s", n->what,
                         shape_print(&keys, &a), shape_print(&n->in[count]->shape, &b));
    if (!multihead_attrs(n)->attn_mask)
        return 0;
    const struct shape scores =
        n->in[last]->shape.rank == 4
            ? SHAPE(q->dim[0], multihead_attrs(n)->num_heads, q->dim[1], places)
            : SHAPE(q->dim[0], q->dim[1], places);
    return attention_mask_check(n, last, &scores, e);
}

static int check_inputs(const struct node *n, struct error *e)
{
    const struct mha *a = n->attrs;
    if (check_counts(n, e) || node_check_rank(n, 0, 3, 3, e))
        return -1;
    const int64_t embed = n->in[0]->shape.dim[2];
    if (check_input(n, 0, embed, e) || check_input(n, 1, a->kdim ? a->kdim : embed, e) ||
        check_input(n, 2, a->vdim ? a->vdim : embed, e))
        return -1;
    return check_masks(n, e);
}

bool multihead_one_weight(const struct node *n)
{
    return multihead_features(n, 1) == multihead_features(n, 0) &&
           multihead_features(n, 2) == multihead_features(n, 0);
}

static int in_weights(struct node *n, int64_t embed, struct error *e)
{
    if (multihead_one_weight(n))
        return node_param(n, MHA_IN_WEIGHT, &SHAPE(3 * embed, embed), embed, 3 * embed, e);
    for (int part = 0; part < 3; part++)
        if (node_param(n, MHA_PART_WEIGHT + part, &SHAPE(embed, multihead_features(n, part)),
                       multihead_features(n, part), embed, e))
            return -1;
    return 0;
}

int multihead_shape(struct node *n, struct error *e)
{
    const struct mha *a = n->attrs;
    if (check_inputs(n, e))
        return -1;
    const int64_t embed = n->in[0]->shape.dim[2];
    if (embed % a->num_heads)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: num_heads %lld must divide the %lld features (at most %d) without "
                         "remainder",
                         n->what, (long long)a->num_heads, (long long)embed, MHA_EMBED_MAX);
    if (!a->bias && (node_param_in(n, MHA_IN_BIAS) || node_param_in(n, MHA_OUT_BIAS)))
        return error_set(e, ERROR_BAD_GRAPH, "%s: a bias was brought, but 'bias' is false",
                         n->what);
    if (in_weights(n, embed, e) ||
        (a->bias && node_param(n, MHA_IN_BIAS, &SHAPE(3 * embed), embed, 3 * embed, e)) ||
        node_param(n, MHA_OUT_WEIGHT, &SHAPE(embed, embed), embed, embed, e) ||
        (a->bias && node_param(n, MHA_OUT_BIAS, &SHAPE(embed), embed, embed, e)))
        return -1;
    return node_set_shape(n, &n->in[0]->shape, e);
}
