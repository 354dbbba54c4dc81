/* init.h: what an initialiser of parameters is, inside the engine. The table is in init.c. */
#ifndef BACKPROP_INIT_H
#define BACKPROP_INIT_H

#include "op.h"
#include "rows.h"

struct init_def {
    struct row row;
    /* Writes p->count numbers; element i depends on the key, i, the attributes and the fans. */
    void (*fill)(const void *attrs, const struct param *p, const struct random_key *key, real *out);
    /* Whether it can fill this parameter; NULL: any. TOO_LARGE. */
    int (*fits)(const struct param *p, const char *what, struct error *e);
};

struct gain { /* of xavier and orthogonal */
    double gain;
};

/* init_matrix.c */
struct truncated {
    double mean, std, a, b;
};
extern const struct attr_def truncated_attrs[];
int truncated_check(const void *attrs, const char *what, struct error *e);
void truncated_fill(const void *attrs, const struct param *p, const struct random_key *key,
                    real *out);
void orthogonal_fill(const void *attrs, const struct param *p, const struct random_key *key,
                     real *out);
int orthogonal_fits(const struct param *p, const char *what, struct error *e);

#endif
