/* op.h: what an operator is, inside the engine. Read this before any ops_*.c.
 *
 * An operator is one row of a static table at the foot of its family's file, and the functions that
 * the row names, side by side above it. Its identity is its name: nowhere is there an enum of
 * operators or a switch on one. To add an operator, add its functions and its row; validation,
 * error sentences, GET /v2/operators and the gradient test follow from the row. A new family is one
 * line in op.c.
 *
 * The life of a node: graph_add finds the row, parses the attributes into the row's own struct,
 * and calls row.shape, which checks the inputs, declares parameters (node_param) and sets
 * node.shape. plan_create copies the nodes it needs into a lowered graph, in which images are
 * channels-last where the rows want it, calls row.memory, and places every buffer. A run calls
 * row.forward in order and row.backward in reverse.
 *
 * Rules for forward and backward:
 *   - they read the node and write through the run only; many runs of one node go on at once;
 *   - backward WRITES each wanted gradient (run_grad_in(r, n, i), NULL when not wanted); it never
 *     adds: where a value has several consumers the plan adds;
 *   - work is split with run_for at a grain that depends on shapes only, sums over several chunks
 *     are reduced in a fixed order: the same bits at any number of threads;
 *   - in plans that are `invariant` a sample's bits must not depend on the batch size or on its
 *     place in the batch;
 *   - long sums accumulate in double;
 *   - nothing is allocated: saved values, work buffers and per-thread scratch are declared in
 *     row.memory. */
#ifndef BACKPROP_OP_H
#define BACKPROP_OP_H

#include "backprop.h"

struct run;

/* How the numbers of a rank-4 value lie in memory inside a plan. Shapes are always logical
 * (N,C,H,W). Values of other ranks are always plain. */
enum layout { LAYOUT_PLAIN, LAYOUT_LAST /* N,H,W,C */ };

enum op_flags {
    OP_LOSS = 1 << 0,           /* inputs prediction, target; output a scalar */
    OP_TARGET_CLASSES = 1 << 1, /* a loss whose usual target is class indices (INT64) */
    OP_RANDOM = 1 << 2,         /* draws random numbers in training */
    OP_INTERNAL = 1 << 3,       /* leaves and conversions: clients cannot name it */
    OP_NO_GRAD = 1 << 4,        /* not differentiable; backward is NULL */
    OP_LAYOUT_LAST = 1 << 5,    /* rank-4 in[0] and output must be channels-last */
    OP_LAYOUT_SAME = 1 << 6,    /* elementwise on flat arrays: any layout, if all inputs of equal
                                   shape share it; inputs of other shapes make it plain */
    OP_VIEW = 1 << 7,           /* output is in[0]'s memory under another shape (plain layout) */
    OP_KEEPS_IN = 1 << 8,       /* backward reads the values of its inputs */
    OP_KEEPS_OUT = 1 << 9,      /* backward reads its output's value */
    OP_LEAF = 1 << 10,
    OP_ZERO_FLOPS = 1 << 11,    /* moves numbers only */
    OP_LAYOUT_ALIKE = 1 << 12,  /* rank-4 inputs and output share one layout, channels-last if any
                                   input has it; the functions look at n->layout */
    OP_TARGET_BOXES = 1 << 13,  /* a loss of maps, last the target [N, boxes, 5] */
    OP_DETACHES = 1 << 14,      /* backward holds constant what forward computes (torch's detach):
                                   the gradient is not that of the value; it has a test of its own */
    OP_TARGET_ROWS = 1 << 15,   /* a loss whose usual target has the prediction's shape without its
                                   last dimension */
    OP_TARGET_LABELS = 1 << 16, /* a loss of sequences [N, T, classes]: its target is labels [N, S],
                                   by default as many as there are steps */
    OP_BATCH_STATISTICS = 1 << 17, /* in training, or without running statistics, a sample's numbers
                                      depend on the whole batch */
    OP_INDICES = 1 << 18,          /* its numbers are indices: clients get them as INT64 */
    OP_EPILOGUE =
        1 << 19, /* forward does what was fused into the node, in plans without backward */
    OP_STATISTICS_ONCE = 1 << 20, /* where forward runs again (run.again), it reads the statistics
                                     that it saved the first time */
    OP_CHEAP_AGAIN = 1 << 21,     /* reads its input and writes its output once, and so little else
                                     that backward computes it again for the one that keeps it */
};

struct op {
    const char *name;
    const char *family;
    int min_in, max_in; /* data inputs; parameters come after them and are not counted; -1: any */
    const struct attr_def *attrs;                  /* ends with {0}; NULL: none */
    size_t attrs_size;                             /* of the struct that attrs fill */
    const struct param_def *params;                /* ends with {0}; NULL: none */
    int (*shape)(struct node *n, struct error *e); /* checks; sets n->shape (and n->dtype) */
    void (*memory)(struct node *n);                /* sets n->saved, work, scratch; NULL: none */
    void (*forward)(const struct node *n, struct run *r);
    void (*backward)(const struct node *n, struct run *r);
    double (*flops)(const struct node *n); /* forward, one sample */
    unsigned flags;
    /* Sample inputs for the gradient test, separated by ';'. Each is shapes, then attributes:
     * "Nx3x8x8 out_channels=4 kernel_size=3; Nx4x5x5 out_channels=2 kernel_size=2". N is the batch;
     * a shape may end in ":positive" (values in [0.5, 1.5]), ":spread" (distinct values, at least
     * 0.01 apart and away from 0, for max and relu) or ":classes=5" (INT64 in [0, 5)),
     * ":lengths=4" (INT64: 4, 3, 4, ...), ":probabilities" (rows sum to 1 over dim 1), ":binary" (0
     * or 1), ":boxes=3" (rows class, cx, cy, w, h with a class in [-1, 3)); "scalar" is rank 0. */
    const char *samples;
    const char *doc; /* one line of maths */
};
/* Rows are positional and complete; -Wmissing-field-initializers reports a short one. */

extern const struct op ops_leaf[], ops_elementwise[], ops_activation[], ops_linear[], ops_conv[],
    ops_pool[], ops_upsample[], ops_norm[], ops_reduce[], ops_shape[], ops_move[], ops_concat[],
    ops_loss[], ops_dropout[], ops_smooth[], ops_hard[], ops_gated[], ops_fold[], ops_select[],
    ops_index[], ops_permute[], ops_tile[], ops_pad[], ops_interpolate[], ops_attention[],
    ops_conv_line[], ops_conv_transpose[], ops_multihead[], ops_loss_pairs[], ops_loss_rows[],
    ops_loss_margin[], ops_loss_vectors[], ops_loss_ctc[], ops_recurrent[], ops_position[],
    ops_position_embedding[];

const struct op *op_find(const char *name); /* NULL when there is none */
/* As op_find, not internal; UNKNOWN_OPERATOR with the nearest names. `what` begins the sentence. */
const struct op *op_find_public(const char *name, const char *what, struct error *e);

/* A row of attributes for what torch's constructors must be told and a graph knows. */
#define INPUT_FACT(name, dim, what)                                                                \
    {                                                                                              \
        name, ATTR_FACT, dim, "0", 1, 1 << 30, NULL, what " of the input; may be left out"         \
    }

/* Number of elements: per sample of the batch, and besides. */
struct extent {
    int64_t sample, fixed;
};

struct node {
    const struct op *op;
    const char *name; /* "" when it has none */
    const char *what; /* begins error sentences: "layer 'conv1' (conv2d)" or "conv2d" */
    int id;           /* place in its graph: inputs come before their users */
    int key;          /* its id in the graph that was described: names it to the random numbers */
    int block;        /* from 1 on: backward computes its value again (plan_recompute.c); 0: none */
    int n_data, n_in; /* in[0..n_data) data inputs, in[n_data + k] parameter k or NULL */
    struct node **in;
    const void *attrs; /* the row's struct */
    struct shape shape;
    enum dtype dtype;
    enum layout layout; /* PLAIN outside plans */
    struct extent size; /* elements of the value */
    /* Set by row.memory, in elements of real: kept from forward to backward; live in forward, and
     * again in backward (work_backward where that is set: it differs there); for each thread. */
    struct extent saved, work, work_backward;
    int64_t scratch;
    int64_t prepared; /* of plans that only predict: what is made of parameters alone, and kept */
    const struct fused *fused; /* operators that its forward does too; NULL: none. epilogue.h */
    const char *algorithm; /* set by row.memory where there is a choice: "winograd"; else NULL */
    struct param *param;   /* leaf of a parameter or buffer */
    const real *data;      /* leaf of a constant */
    int input;             /* leaf of an input: its place among the inputs; else -1 */
    struct graph *graph;
};

/* For row.shape: declares parameter k with its shape and fans. Makes the leaf, or checks the shape
 * of one that the caller brought. Those not declared stay NULL in n->in. */
int node_param(struct node *n, int k, const struct shape *shape, int64_t fan_in, int64_t fan_out,
               struct error *e);
/* Parameter k of n, NULL when not declared or not brought. */
struct node *node_param_in(const struct node *n, int k);
int node_set_shape(struct node *n, const struct shape *s, struct error *e); /* TOO_LARGE */
/* Checks that in[i] is real and has a rank within [min, max]; BAD_SHAPE or BAD_DTYPE. */
int node_check_rank(const struct node *n, int i, int min, int max, struct error *e);
/* Wraps a negative dim; -1 with BAD_ATTRIBUTE when out of range for `rank`. */
int node_wrap_dim(const struct node *n, int64_t dim, int rank, int *dim_r, struct error *e);
const struct param_def *op_param_def(const struct op *op, int k); /* NULL past the end */

/* ---- what forward and backward see ----------------------------------------------------------- */

/* Everything one execution writes. Pointers are indexed by the lowered node's id. */
struct run {
    const struct plan *plan;
    struct run_args args;
    real **value;   /* of each node; leaves point into args */
    real **grad;    /* of each node's value, NULL when not wanted */
    real **grad_in; /* what backward writes for (node, input): plan.first_in[id] + i */
    real **saved, **work;
    char *scratch; /* threads * scratch_bytes */
    size_t scratch_bytes;
    char *arena;
    bool training;  /* batch statistics, dropout */
    bool invariant; /* a sample's bits may not depend on its company */
    real *prepared; /* block of args.prepared; NULL: each run prepares for itself, in its work */
    bool again;     /* this forward is a second one, for backward (plan_recompute.c) */
    bool alone;     /* run_for keeps to this thread: there is little to do */
    bool prepares;  /* this run is the one that fills it */
    struct error *error;
    int failed;                           /* set by run_fail */
    struct run_part parts[RUN_MAX_PARTS]; /* set by run_report */
    int n_parts;
};

static inline int64_t extent_count(struct extent x, const struct run *r)
{
    return x.sample * r->args.n + x.fixed;
}
/* Elements of the node's value in this run. */
static inline int64_t run_count(const struct run *r, const struct node *n)
{
    return extent_count(n->size, r);
}
/* The node's shape in this run, BATCH replaced. */
struct shape run_shape(const struct run *r, const struct node *n);
static inline int64_t run_dim(const struct run *r, const struct node *n, int i)
{
    return n->shape.dim[i] == BATCH ? r->args.n : n->shape.dim[i];
}
static inline real *run_value(const struct run *r, const struct node *n)
{
    return r->value[n->id];
}
static inline const real *run_in(const struct run *r, const struct node *n, int i)
{
    return r->value[n->in[i]->id];
}
static inline const int64_t *run_in_int64(const struct run *r, const struct node *n, int i)
{
    return (const int64_t *)r->value[n->in[i]->id];
}
/* Gradient of the node's output, which backward reads. */
static inline const real *run_grad(const struct run *r, const struct node *n)
{
    return r->grad[n->id];
}
/* Where backward writes the gradient of in[i]; NULL when nobody wants it. */
real *run_grad_in(const struct run *r, const struct node *n, int i);
static inline real *run_saved(const struct run *r, const struct node *n)
{
    return r->saved[n->id];
}
static inline real *run_work(const struct run *r, const struct node *n)
{
    return r->work[n->id];
}
/* Elements of node.prepared that outlive the run: forward fills them where run.prepares, and reads
 * them else. NULL: there are none. prepared.c */
real *run_prepared(const struct run *r, const struct node *n);
static inline real *run_scratch(const struct run *r, int worker)
{
    return (real *)(r->scratch + (size_t)worker * r->scratch_bytes);
}
/* Where a training forward writes moved statistics; NULL: nowhere. `leaf` is a buffer's. */
real *run_buffer_out(const struct run *r, const struct node *leaf);
/* pool_for on the run's pool. `what` is (n, r) for most. */
void run_for(struct run *r, int64_t count, int64_t grain, pool_fn *f, void *arg);
/* Refuses the data: the first call's sentence reaches the client and the run ends. */
void run_fail(struct run *r, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For the forward of losses: a named part of the value, for people to see. The first of a name is
 * kept. */
void run_report(struct run *r, const char *name, double value);

/* The usual argument of run_for. */
struct node_run {
    const struct node *n;
    struct run *r;
};

/* A grain for elementwise work, in elements; and of rows that have `row` elements each. */
enum { GRAIN_ELEMENTS = 16384 };
static inline int64_t grain_rows(int64_t row)
{
    return row >= GRAIN_ELEMENTS ? 1 : GRAIN_ELEMENTS / (row > 0 ? row : 1);
}

/* Samples x positions of an image value in this run; LAYOUT_LAST: rows of C numbers. */
struct image {
    int64_t n, c, h, w;
};
static inline struct image run_image(const struct run *r, const struct node *n)
{
    return (struct image){run_dim(r, n, 0), n->shape.dim[1], n->shape.dim[2], n->shape.dim[3]};
}

/* dst[s][col][row] = src[s][row][col]: for operators that change the layout themselves. ops_leaf.c
 */
void transpose_samples(struct run *r, int64_t samples, int64_t rows, int64_t cols, const real *src,
                       real *dst);

/* Uniform in [0, 1) from (seed, draw, key, index): Philox4x32-10. random.c */
struct random_key {
    uint64_t seed, draw;
    uint32_t key;
};
/* Four 32-bit words for each block index. */
void random_block(const struct random_key *k, uint64_t block, uint32_t out[4]);
double random_uniform(const struct random_key *k, uint64_t i);
double random_normal(const struct random_key *k, uint64_t i);
struct random_key run_random(const struct run *r, const struct node *n);

#endif
