/* optimizer_rows.h: what the files of the optimisers share: rows and attributes that all have.
 * optimizer.c has the table and sgd, adam and adamw; optimizer_adaptive.c the others. */
#ifndef BACKPROP_OPTIMIZER_ROWS_H
#define BACKPROP_OPTIMIZER_ROWS_H

#include "optimizer.h"

#include <float.h>
#include <math.h>

#ifdef BACKPROP_DOUBLE
#define REAL_MAX DBL_MAX
#define SQRT     sqrt
#else
#define REAL_MAX FLT_MAX
#define SQRT     sqrtf
#endif

/* The attributes that all have; the struct of each row begins with them. */
struct common {
    double lr, weight_decay;
    bool maximize;
};

struct optimizer_def {
    struct row row;
    int (*slots)(const void *attrs);
    update_fn *update;
    double (*trust)(double param_norm, double direction_norm); /* update.trust; NULL for most */
};

/* 0 when finite. Comparisons, not isfinite(): these loops must vectorise. */
static inline int not_finite(real x)
{
    return !(x <= REAL_MAX && x >= -REAL_MAX);
}

#define COMMON(field) offsetof(struct common, field)
#define LR_ROW(fallback)                                                                           \
    {                                                                                              \
        "lr", ATTR_REAL, COMMON(lr), fallback, 0, INFINITY, NULL, "learning rate"                  \
    }
#define WEIGHT_DECAY_ROW(fallback, doc)                                                            \
    {                                                                                              \
        "weight_decay", ATTR_REAL, COMMON(weight_decay), fallback, 0, INFINITY, NULL, doc          \
    }
#define MAXIMIZE_ROW                                                                               \
    {                                                                                              \
        "maximize", ATTR_BOOL, COMMON(maximize), "false", 0, 0, NULL, "ascend instead of descend"  \
    }

/* The rows of optimizer_adaptive.c, up to one without a name. */
extern const struct optimizer_def optimizers_adaptive[];

#endif
