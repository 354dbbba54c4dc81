/* strided.h: walking and reducing index spaces, for broadcasting operators and sums.
 *
 * A space is the shape of a result or of terms, in row-major order, and up to two operands that are
 * broadcast to it (NumPy's rule: aligned at the right, sizes equal or 1). An operand's stride is 0
 * along a dimension that it does not have. Neighbouring dimensions that all operands step through
 * alike are one, so equal shapes and scalars become a single dimension, and the loops over strips
 * of the innermost dimension are flat ones: there every stride is 0 or 1. */
#ifndef BACKPROP_STRIDED_H
#define BACKPROP_STRIDED_H

#include "op.h"

enum { STRIDED_SELF, STRIDED_A, STRIDED_B, STRIDED_OPERANDS };

struct strided {
    int rank;                                         /* at least 1 */
    int64_t size[SHAPE_MAX_RANK];                     /* of each dimension, outermost first */
    int64_t stride[STRIDED_OPERANDS][SHAPE_MAX_RANK]; /* in elements; SELF is contiguous */
};

/* The shape that both broadcast to. BATCH matches BATCH, 1 or nothing, and stays dim 0. False when
 * they do not fit. */
bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out_r);

/* The space of `self` with operands of shapes `a` and `b` that broadcast to it (NULL: none, it has
 * stride 0). Shapes are those of a run: without BATCH. */
struct strided strided_space(const struct shape *self, const struct shape *a,
                             const struct shape *b);

/* A strip: n elements from offsets at[k] on, with the innermost strides. */
typedef void strided_fn(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n);

/* Calls f for strips that cover the space, on all threads of the run's pool. */
void strided_for(struct run *r, const struct strided *s, strided_fn *f, const void *arg);

/* The n terms of a strip (at most STRIDED_STRIP): a pointer to them, or to `room`, filled. */
enum { STRIDED_STRIP = 256 };
typedef const real *strided_terms(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n,
                                  real *room);

/* Sums the terms over every dimension along which operand `into` has stride 0:
 * out[at[into]] = sum / divisor. Accumulates in double. The order depends on the sizes alone, and
 * with samples > 1 (the outermost `samples` parts of `out` are samples of the batch) on the sizes
 * of one sample. `partials` is strided_room's. */
struct strided_sum {
    struct strided space;
    int into;
    strided_terms *terms;
    const void *arg;
    int64_t samples;
    double divisor;
    real *out, *partials;
};
void strided_sum(struct run *r, const struct strided_sum *sum);

/* Work that strided_sum needs for a space of so many elements. */
struct extent strided_room(struct extent space);

#endif
