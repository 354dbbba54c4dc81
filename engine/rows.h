/* rows.h: tables of optimisers, schedules and initialisers. Their rows all begin with struct row;
 * here is what they share: finding a row by its name and reading its attributes. */
#ifndef BACKPROP_ROWS_H
#define BACKPROP_ROWS_H

#include "backprop.h"

struct row {
    struct optimizer_info info; /* name NULL ends the table */
    size_t attrs_size;          /* of the struct that info.attrs fill */
    /* What the ranges of single attributes cannot say. NULL: nothing. `what` begins sentences. */
    int (*check)(const void *attrs, const char *what, struct error *e);
};

/* A table, or the first of several that are one: its first row and the size of one row. `kind` is
 * what sentences call a row. */
struct rows {
    const struct row *first;
    size_t size;
    const char *kind;
    const struct rows *next; /* a table that follows it; NULL: none */
};

/* A row that was chosen by name, with its attributes. It lies in its own arena. */
struct choice {
    const struct row *row;
    void *attrs; /* the row's struct */
    struct arena *arena;
};
/* NULL and UNKNOWN_OPERATOR (with the names that there are), BAD_ATTRIBUTE, OUT_OF_MEMORY. */
struct choice *rows_choose(const struct rows *rows, const char *name, const struct attr *attrs,
                           int n, struct error *e);
void choice_destroy(struct choice **c);

/* The two halves of it: the row of this name; its struct of attributes, checked, in `a`. */
const struct row *rows_find(const struct rows *rows, const char *name, struct error *e);
void *rows_parse(const struct rows *rows, const struct row *row, const struct attr *attrs, int n,
                 struct arena *a, struct error *e);

bool rows_info_at(const struct rows *rows, int i, struct optimizer_info *info_r);

#endif
