/* onnx_build.h: an ONNX model as a graph of ours.
 *
 * Each node of the model is given to its row of onnx_rows, whose function adds one operator of ours
 * or several (a composition). It may also find that the node is not ours: an option that we do not
 * have, a dtype that we do not compute in. Numbers are FLOAT (in the double build DOUBLE, too);
 * BOOL are the numbers 0 and 1; INT64 and INT32 are indices, targets, or known numbers that become
 * attributes of ours.
 *
 * A function of a row returns its first output, or NULL when it called onnx_not_ours, or when the
 * engine refused what it added (a failure). Helpers take NULL for "went wrong before" and return
 * it, so that compositions are written without a check after each call. */
#ifndef ONNX_BUILD_H
#define ONNX_BUILD_H

#include "onnx_proto.h"

enum { ONNX_MAX_FEEDS = 16, ONNX_MAX_VALUES = 256 };

enum onnx_verdict { ONNX_APPLIES, ONNX_NOT_OURS, ONNX_FAILS };

struct onnx_value {
    const char *name;
    const struct onnx_tensor *tensor; /* known numbers; NULL: computed */
    bool fixed;                       /* known for good: an initialiser, a constant */
    struct node *node;                /* NULL: not used yet, or attributes only */
    int type;                         /* of its numbers */
};

struct onnx_build {
    struct arena *arena;
    struct graph *graph;
    int64_t opset;
    int n_values, n_feeds;
    struct onnx_value values[ONNX_MAX_VALUES];
    const void *feeds[ONNX_MAX_FEEDS]; /* of the graph's inputs, in their order */
    bool training;                     /* the plan is one for training */
    enum onnx_verdict verdict;
    char why[200]; /* of the other verdicts */
};

struct onnx_call { /* one node of the model, while it is translated */
    struct onnx_build *b;
    const struct onnx_node *node;
    const struct onnx_row *row;
};

struct onnx_row {
    const char *name; /* ONNX's operator */
    const char *ours; /* what it becomes; for simple rows the operator's name */
    struct node *(*translate)(struct onnx_call *c);
    int at_least; /* so many cases apply: the rule cannot leave out everything unseen */
};
extern const struct onnx_row onnx_rows_elementwise[], onnx_rows_reduce[], onnx_rows_shape[],
    onnx_rows_window[], onnx_rows_resize[], onnx_rows_norm[], onnx_rows_sequence[],
    onnx_rows_loss[], onnx_rows_optimizer[];
const struct onnx_row *onnx_row_at(int i); /* over all tables; NULL past the end */

/* Adds all nodes of the model. Its inputs are the tensors `inputs`, in its order. The verdict is
 * b->verdict; onnx_output finds what a name became. */
void onnx_build(struct onnx_build *b, const struct onnx_model *m,
                const struct onnx_tensor *const *inputs);
const struct onnx_value *onnx_output(const struct onnx_build *b, const char *name);

/* ---- for the rows: inputs and attributes ----------------------------------------------------- */

void *onnx_not_ours(struct onnx_call *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));          /* NULL */
bool onnx_has(const struct onnx_call *c, int i);    /* whether input i is given */
bool onnx_wants(const struct onnx_call *c, int i);  /* whether output i is asked for */
struct node *onnx_real(struct onnx_call *c, int i); /* numbers */
int onnx_type(const struct onnx_call *c, int i);
/* Known numbers. */
const struct onnx_tensor *onnx_known(struct onnx_call *c, int i);
const int64_t *onnx_ints(struct onnx_call *c, int i, int *n_r);
bool onnx_number(struct onnx_call *c, int i, double *x_r);
/* Those of t with another shape; with negative indices counted from the end of `size`. */
const struct onnx_tensor *onnx_reshaped(struct onnx_call *c, const struct onnx_tensor *t,
                                        struct shape shape);
const struct onnx_tensor *onnx_wrapped(struct onnx_call *c, const struct onnx_tensor *t,
                                       int64_t size);
/* Whether this is a dtype of numbers: BOOL, FLOAT, in the double build DOUBLE. */
bool onnx_computes(int type);
/* Indices or a target, as an input of this shape. */
struct node *onnx_indices(struct onnx_call *c, const struct onnx_tensor *t, struct shape shape);

int64_t onnx_int(const struct onnx_call *c, const char *name, int64_t fallback);
double onnx_float(const struct onnx_call *c, const char *name, double fallback);
const char *onnx_string(const struct onnx_call *c, const char *name, const char *fallback);
const int64_t *onnx_list(const struct onnx_call *c, const char *name, int *n_r); /* NULL: none */
/* A list of ints that newer opsets have as input i; NULL and 0 when it is in neither place. */
const int64_t *onnx_list_or_input(struct onnx_call *c, const char *name, int i, int *n_r);
/* An axis, counted from the end when negative; -1 and not ours when it is none. */
int onnx_axis(struct onnx_call *c, int64_t axis, int rank);

/* ---- for the rows: adding -------------------------------------------------------------------- */

#define ONNX_INT(attr_name, value)                                                                 \
    {                                                                                              \
        .name = attr_name, .kind = ATTR_IS_INT, .i = value, .d = (double)(value)                   \
    }
#define ONNX_REAL(attr_name, value)                                                                \
    {                                                                                              \
        .name = attr_name, .kind = ATTR_IS_REAL, .d = value                                        \
    }
#define ONNX_BOOLEAN(attr_name, value)                                                             \
    {                                                                                              \
        .name = attr_name, .kind = ATTR_IS_BOOL, .i = value                                        \
    }
#define ONNX_TEXT(attr_name, value)                                                                \
    {                                                                                              \
        .name = attr_name, .kind = ATTR_IS_STRING, .s = value                                      \
    }
struct attr onnx_attr_ints(struct onnx_call *c, const char *name, const int64_t *v, int n);
struct attr onnx_attr_shape(struct onnx_call *c, const char *name, const struct shape *s);

struct node *onnx_add_n(struct onnx_call *c, const char *op, struct node *const *inputs, int n,
                        const struct attr *attrs, int n_attrs);
#define ONNX_COUNT(...) ((int)(sizeof((struct attr[]){{0}, __VA_ARGS__}) / sizeof(struct attr)) - 1)
/* onnx_add1(c, "softmax", x, ONNX_INT("dim", 1)) */
#define onnx_add1(c, op, x, ...)                                                                   \
    onnx_add_n(c, op, (struct node *const[]){x}, 1, (struct attr[]){{0}, __VA_ARGS__} + 1,         \
               ONNX_COUNT(__VA_ARGS__))
#define onnx_add2(c, op, x, y, ...)                                                                \
    onnx_add_n(c, op, (struct node *const[]){x, y}, 2, (struct attr[]){{0}, __VA_ARGS__} + 1,      \
               ONNX_COUNT(__VA_ARGS__))
#define onnx_add3(c, op, x, y, z, ...)                                                             \
    onnx_add_n(c, op, (struct node *const[]){x, y, z}, 3, (struct attr[]){{0}, __VA_ARGS__} + 1,   \
               ONNX_COUNT(__VA_ARGS__))

struct node *onnx_reshape(struct onnx_call *c, struct node *x, struct shape to);
struct node *onnx_narrow(struct onnx_call *c, struct node *x, int dim, int64_t start,
                         int64_t length);
struct node *onnx_permute(struct onnx_call *c, struct node *x, const int64_t *dims, int n);
struct node *onnx_scale(struct onnx_call *c, struct node *x, double factor); /* x itself for 1 */
/* A tensor of known numbers as a constant. */
struct node *onnx_constant(struct onnx_call *c, const struct shape *shape, real value);
/* Output i of the node, 1 and more; `x` NULL: went wrong. */
void onnx_give(struct onnx_call *c, int i, struct node *x);
/* The same for known numbers. */
struct node *onnx_give_known(struct onnx_call *c, const struct onnx_tensor *t);

#endif
