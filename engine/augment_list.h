/* augment_list.h: what an augment is made of. For augment.c and augment_apply.c. */
#ifndef BACKPROP_AUGMENT_LIST_H
#define BACKPROP_AUGMENT_LIST_H

#include "augment.h"

struct augment_row {
    const struct augment_def *def;
    const void *attrs; /* the row's struct; it begins with p */
};

struct augment {
    struct arena *arena; /* holds the attributes, and this struct */
    int n_rows, n_phases;
    struct augment_row rows[AUGMENT_MAX_ROWS];
    int phase_begin[AUGMENT_MAX_ROWS + 1]; /* phase k: rows [phase_begin[k], phase_begin[k + 1]) */
};

/* The first row with this flag; NULL: none. */
const struct augment_def *augment_flagged(const struct augment *a, unsigned flag);

#endif
