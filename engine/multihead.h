/* multihead.h: what ops_multihead.c and multihead_shape.c share of multihead_attention. */
#ifndef BACKPROP_MULTIHEAD_H
#define BACKPROP_MULTIHEAD_H

#include "attention.h"

/* Its parameters; MHA_PART_WEIGHT + 0, 1, 2: those of query, key and value. */
enum { MHA_IN_WEIGHT, MHA_IN_BIAS, MHA_OUT_WEIGHT, MHA_OUT_BIAS, MHA_PART_WEIGHT };
enum { MHA_EMBED_MAX = 1 << 20 };

struct mha {
    int64_t num_heads, kdim, vdim; /* kdim, vdim 0: as query */
    bool bias, is_causal, attn_mask, batch_first;
    double dropout;
};

static inline const struct mha *multihead_attrs(const struct node *n)
{
    return n->attrs;
}

/* Checks the inputs, declares the parameters, sets the shape: row.shape. */
int multihead_shape(struct node *n, struct error *e);
/* Query, key and value: how many of them are inputs of their own (1 to 3), the first ones. */
int multihead_real_inputs(const struct node *n);
/* Whether an INT64 mask of keys follows them. An attn_mask is the last input. */
bool multihead_has_padding(const struct node *n);
/* Which input is projected to query (0), key (1) or value (2), and the features that it has. */
int multihead_input(const struct node *n, int part);
int64_t multihead_features(const struct node *n, int part);
/* torch's: one weight for the three when keys and values are as wide as queries. */
bool multihead_one_weight(const struct node *n);

#endif
