/* backprop_values.h: what the engine is told in: numbers, memory, names, shapes, attributes, and
 * the tables of operators. Part of backprop.h, which says what these objects mean. */
#ifndef BACKPROP_PUBLIC_VALUES_H
#define BACKPROP_PUBLIC_VALUES_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef BACKPROP_DOUBLE
typedef double real;
#else
typedef float real;
#endif

/* ---- memory ---------------------------------------------------------------------------------- */

/* Large blocks, on large pages where the system has them (large.c). Any thread.
 * large_alloc is malloc, not zeroed; NULL: out of memory. large_advise is for a block that another
 * function gave: those of its pages that nobody has touched yet will be large ones. */
void *large_alloc(size_t bytes);
void large_advise(void *block, size_t bytes);

struct arena; /* many allocations, freed together */
struct arena *arena_create(size_t block);
void arena_destroy(struct arena **a);
void arena_reset(struct arena *a);               /* frees all but the first block */
void *arena_alloc(struct arena *a, size_t size); /* zeroed, aligned to 16; NULL: out of memory */
void *arena_array(struct arena *a, size_t count, size_t size); /* the same; checks the product */
char *arena_strdup(struct arena *a, const char *text);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t arena_bytes(const struct arena *a);

/* ---- names ----------------------------------------------------------------------------------- */

/* Finds the known name that is nearest to one that was not found: offer every known name, then read
 * `best`, NULL when none is near. Near is what means the same elsewhere ("mae": l1), and else what
 * differs in a third of its length (edit distance), without regard to case, '_' and "Loss" at the
 * end. */
struct nearest {
    const char *given, *best;
    int distance;
};
void nearest_offer(struct nearest *n, const char *known);

/* ---- shapes ---------------------------------------------------------------------------------- */

enum { SHAPE_MAX_RANK = 8, BATCH = -1 };

enum dtype { DTYPE_REAL, DTYPE_INT64 };
size_t dtype_size(enum dtype t); /* bytes */

struct shape {
    int rank;
    int64_t dim[SHAPE_MAX_RANK];
};

/* SHAPE(BATCH, 10); a scalar is (struct shape){0}. */
#define SHAPE(...)                                                                                 \
    ((struct shape){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})

bool shape_equal(const struct shape *a, const struct shape *b);
bool shape_batched(const struct shape *s); /* dim[0] is BATCH */

/* Elements, with `batch` for BATCH. False when the product overflows or passes 2^48. */
bool shape_count(const struct shape *s, int64_t batch, int64_t *count_r);

/* "[N, 3, 32, 32]"; returns its argument `text`, so that it can stand in a call to error_set. */
struct shape_text {
    char text[96];
};
const char *shape_print(const struct shape *s, struct shape_text *text);

/* ---- attributes: what a client says about an operator, optimiser, schedule ------------------- */

enum attr_kind {
    ATTR_IS_NULL,
    ATTR_IS_INT,
    ATTR_IS_REAL,
    ATTR_IS_BOOL,
    ATTR_IS_STRING,
    ATTR_IS_LIST
};

struct attr { /* as given: not yet checked against a table */
    const char *name;
    enum attr_kind kind;
    int64_t i;          /* INT, BOOL */
    double d;           /* INT, REAL */
    const char *s;      /* STRING */
    const double *list; /* LIST of numbers */
    int n_list;
};

enum attr_type {
    ATTR_INT,
    ATTR_REAL,
    ATTR_BOOL,
    ATTR_CHOICE,
    ATTR_PAIR,
    ATTR_INTS,
    ATTR_REALS,
    ATTR_FACT
};

/* A row of a table of attributes. Values are stored in a struct of the owner's at `offset`:
 * INT int64_t; REAL double; BOOL bool; CHOICE int (place in `choices`); PAIR int64_t[2], one number
 * stands for both; INTS struct int_list; REALS struct real_list. A FACT is what the first input
 * says anyway (in_channels): it is not stored but compared, `offset` being a dimension of that
 * input, or ATTR_FACT_LAST. */
#define ATTR_FACT_LAST SIZE_MAX
struct attr_def {
    const char *name;
    enum attr_type type;
    size_t offset;
    const char *fallback; /* as text ("1", "true", "none", "" = empty list); NULL: must be given */
    double min, max;      /* of a number or of each number in a list */
    const char *choices;  /* CHOICE: "none|tanh"; REAL: what null stands for, or NULL: the fallback;
                             INT, PAIR: a word that may stand for -1, or NULL: none */
    const char *doc;
};

struct int_list {
    int n;
    int64_t v[SHAPE_MAX_RANK];
};
struct real_list {
    int n;
    const double *v;
};

/* Fills `values` from the given attributes and the fallbacks. `what` begins the sentences of its
 * errors ("layer 'conv1' (conv2d)"). Lists are kept in `a`. ERROR_BAD_ATTRIBUTE. */
int attrs_parse(const struct attr_def *defs, const char *what, const struct attr *given,
                int n_given, struct arena *a, void *values, struct error *e);

/* ---- operators, as the outside sees them ----------------------------------------------------- */

struct param_def {
    const char *name; /* "weight" */
    bool buffer;      /* written by training forwards, not by the optimiser */
    const char *init; /* default initialiser, a name in the table of initialisers */
};

struct op_info {
    const char *name, *family, *doc;
    int min_inputs, max_inputs;     /* max -1: any number */
    const struct attr_def *attrs;   /* ends with name NULL; may be NULL */
    const struct param_def *params; /* the same */
    bool is_loss, differentiable, random;
};
/* Whether an attribute of an operator is a FACT. */
bool op_attr_is_fact(const char *op, const char *attr);
/* Walks all operators that a client may name: false when i is past the last. */
bool op_info_at(int i, struct op_info *info_r);
bool op_info_named(const char *name, struct op_info *info_r); /* false: no such operator */

#endif
