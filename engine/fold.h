/* fold.h: what reductions that are no plain sums share: how the terms of a cell are walked. A row
 * of ops_fold.c is a folder, the functions that gather a cell's terms and say its result and
 * slopes.
 *
 * A cell is what becomes one number of the output: the terms that share its place in the dimensions
 * that stay. Its terms lie in lines of equal steps, and are walked in their order, once or twice,
 * with sums in double. Cells are independent of each other, so bits depend on neither threads nor,
 * where the batch is not reduced, on the other samples. Backward walks the cell again: it keeps the
 * input and the output and nothing else. */
#ifndef ENGINE_FOLD_H
#define ENGINE_FOLD_H

#include "op.h"

struct fold {
    struct int_list dim; /* empty: all */
    bool keepdim;
    double correction, p;
};
/* A list of dimensions, outermost first, with steps in elements of the input. */
struct steps {
    int n;
    int64_t size[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK], count;
};

/* What a cell gathers, in the order of its terms. */
struct gathered {
    double first, second;
    int64_t at, seen; /* place of an extreme; terms so far */
};

struct folder;
struct cells {
    const struct folder *f;
    const struct fold *a;
    struct steps kept, terms; /* terms without their innermost dimension, which is a line */
    int64_t length, step;     /* of a line */
    const real *x, *y, *dy;
    real *out; /* y, or dx */
};

/* A line of terms: x[i * step] for i < length. */
typedef void line_fn(const struct cells *c, const real *x, struct gathered *g);
/* Writes the gradients of a line; `y` and `dy` are the cell's. */
typedef void slope_fn(const struct cells *c, const real *x, const struct gathered *g, double y,
                      double dy, real *dx);
struct folder {
    line_fn *first, *second; /* passes over the terms; second may be NULL */
    double (*middle)(const struct cells *c, struct gathered *g); /* after first; NULL: nothing */
    double (*result)(const struct cells *c, const struct gathered *g);
    line_fn *again; /* what backward walks before the slopes: first, or from the result; NULL */
    slope_fn *slope;
};

/* Which dimensions of the input are folded. -1: BAD_ATTRIBUTE. */
int fold_dims(const struct node *n, int rank, bool folded[SHAPE_MAX_RANK], struct error *e);

double cell_terms(const struct cells *c); /* of one cell */

void fold_forward(const struct node *n, struct run *r, const struct folder *f);
void fold_backward(const struct node *n, struct run *r, const struct folder *f);

#endif
