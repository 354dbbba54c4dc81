/* ops_loss_rows.h: losses with one term a row, a vector or a sample. A loss is two functions, of a
 * term and of its slopes; the loops over them are ops_loss_rows.c's. The tables are in
 * ops_loss_margin.c (classes), ops_loss_vectors.c and ops_loss_rows.c (dice, gaussian_nll). */
#ifndef BACKPROP_OPS_LOSS_ROWS_H
#define BACKPROP_OPS_LOSS_ROWS_H

#include "ops_loss.h"

#include <stddef.h>

struct rows_attrs {
    int reduction;
    double margin, p, eps, smooth;
    struct real_list weight;
    int64_t ignore_index;
    bool full, from_logits;
};
#define ROWS(field) offsetof(struct rows_attrs, field)

struct row_loss {
    int64_t (*rows)(const struct node *n, const struct run *r);
    double (*term)(const struct node *n, struct run *r, int64_t i);
    void (*slope)(const struct node *n, struct run *r, int64_t i, double scale);
    double (*weight)(const struct node *n, struct run *r, int64_t i); /* in the mean; NULL: 1 */
};

static inline const struct rows_attrs *attrs_of(const struct node *n)
{
    return n->attrs;
}

/* Columns of the rows, and what they are made of. */
void loss_rows_memory(struct node *n);
double loss_rows_flops(const struct node *n);
void loss_rows_forward(const struct node *n, struct run *r, const struct row_loss *loss);
void loss_rows_backward(const struct node *n, struct run *r, const struct row_loss *loss);

#define ROWS_FORWARD(name)                                                                         \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        loss_rows_forward(n, r, &name##_loss);                                                     \
    }
#define ROWS_BACKWARD(name)                                                                        \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        loss_rows_backward(n, r, &name##_loss);                                                    \
    }
#define ROWS_ROW(name, inputs, shape, flags, samples, doc)                                         \
    {                                                                                              \
#name, "loss", inputs, inputs, name##_attrs, sizeof(struct rows_attrs), NULL, shape,       \
            loss_rows_memory, name##_forward, name##_backward, loss_rows_flops,                    \
            OP_LOSS | OP_KEEPS_IN | (flags), samples, doc                                          \
    }

#endif
