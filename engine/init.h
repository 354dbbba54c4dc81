/* init.h: what an initialiser of parameters is, inside the engine. The table is in init.c. */
#ifndef BACKPROP_INIT_H
#define BACKPROP_INIT_H

#include "op.h"
#include "rows.h"

struct init_def {
    struct row row;
    /* Writes p->count numbers; element i depends on the key, i, the attributes and the fans. */
    void (*fill)(const void *attrs, const struct param *p, const struct random_key *key, real *out);
};

#endif
