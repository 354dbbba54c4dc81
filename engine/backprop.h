/* backprop.h: libbackprop, the backpropagation engine. The only header that its users include.
 *
 * What its objects mean:
 *
 *   shape      the sizes of a tensor. dim[0] may be BATCH: a size that is known only when a plan
 *              runs. Row-major, images N,C,H,W, kernels O,I,H,W, as in PyTorch.
 *   graph      nodes, each an operator applied to earlier nodes. Leaves are inputs, parameters,
 *              buffers (BN statistics) and constants. A model with its loss and an autograd
 *              expression are both graphs. Read-only once it is built.
 *   param      a named view into the model's one block of parameters, or of buffers.
 *   plan       a graph compiled for one purpose and one capacity: order, layouts, and the place
 *              of each buffer in one arena. Read-only, shared by any number of runs.
 *   run        everything that one execution of a plan writes. One thread at a time.
 *   pool       worker threads that runs share.
 *   network    a graph with the names of its inputs, targets, outputs and loss, its optimiser,
 *              schedule and clipping: what a model description stands for.
 *   generation one immutable state of a network's numbers: parameters, buffers, optimiser state.
 *              A step reads generation n and writes generation n+1.
 *
 * What a user need not know: how nodes are stored, layouts inside plans, kernels.
 *
 * Numbers are `real`: float, or double when compiled with BACKPROP_DOUBLE. Both builds can live in
 * one process: the double one is compiled with a generated header that renames every global symbol
 * of the library (build/double_names.h), so a source file sees one or the other.
 *
 * Same bits: results depend on the inputs and on engine_fingerprint(), never on the number of
 * threads; and in plans without backward a sample's results do not depend on the other samples.
 *
 * Threads: objects may be read from several threads and written from one at a time; what differs
 * is said at the function. No function keeps a pointer that it was given unless it says so. */
#ifndef BACKPROP_H
#define BACKPROP_H

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

/* Finds the known name that is nearest to one that was not found (edit distance, at most a third
 * of its length): offer every known name, then read `best`, NULL when none is near. */
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

enum attr_type { ATTR_INT, ATTR_REAL, ATTR_BOOL, ATTR_CHOICE, ATTR_PAIR, ATTR_INTS, ATTR_REALS };

/* A row of a table of attributes. Values are stored in a struct of the owner's at `offset`:
 * INT int64_t; REAL double; BOOL bool; CHOICE int (place in `choices`); PAIR int64_t[2], one number
 * stands for both; INTS struct int_list; REALS struct real_list. */
struct attr_def {
    const char *name;
    enum attr_type type;
    size_t offset;
    const char *fallback; /* as text ("1", "true", "none", "" = empty list); NULL: must be given */
    double min, max;      /* of a number or of each number in a list */
    const char
        *choices; /* CHOICE: "none|tanh"; REAL: what null stands for, or NULL: the fallback */
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
/* Walks all operators that a client may name: false when i is past the last. */
bool op_info_at(int i, struct op_info *info_r);

/* ---- graphs ---------------------------------------------------------------------------------- */

struct graph;
struct node;

struct graph *graph_create(struct error *e);
void graph_destroy(struct graph **g);

/* Leaves. `name` is copied. A constant's `data` (count by its shape) is copied. */
struct node *graph_input(struct graph *g, const char *name, enum dtype dtype,
                         const struct shape *shape, struct error *e);
struct node *graph_constant(struct graph *g, const struct shape *shape, const real *data,
                            struct error *e);

/* Adds an operator of this name. Inputs are the data inputs and, where a caller brings its own, the
 * operator's parameters after them; parameters that are not brought become leaves of the graph,
 * named `name`.weight and so on. `name` NULL: the node has no name and its leaves none to show.
 * NULL and UNKNOWN_OPERATOR, BAD_ATTRIBUTE, BAD_SHAPE, BAD_DTYPE, BAD_GRAPH, TOO_LARGE. */
struct node *graph_add(struct graph *g, const char *op, const char *name,
                       struct node *const *inputs, int n_inputs, const struct attr *attrs,
                       int n_attrs, struct error *e);

const char *node_name(const struct node *n); /* "" when it has none */
const char *node_op(const struct node *n);
const struct shape *node_shape(const struct node *n);
enum dtype node_dtype(const struct node *n);
double node_flops(const struct node *n); /* of one forward of one sample */
int64_t node_param_count(const struct node *n);
int node_input_count(const struct node *n); /* data inputs, without parameters */
struct node *node_input(const struct node *n, int i);
bool node_is_loss(const struct node *n);
/* Whether its numbers are indices, which are kept as reals but are whole: argmax, and what is the
 * same in another shape. */
bool node_is_indices(const struct node *n);
/* An attribute of the node's that is a whole number, by its name; false: it has none. */
bool node_attr_int(const struct node *n, const char *name, int64_t *value_r);
/* Whether a sample's numbers depend on the others of its batch: batch norm, in training or when it
 * has no running statistics. */
bool node_batch_statistics(const struct node *n, bool training);
/* Whether its backward holds constant what its forward computes (torch's detach): its gradient is
 * then, by design, not that of its value. */
bool node_detaches(const struct node *n);

/* The dtype and shape of the target that a loss wants for a prediction of this shape. */
int loss_target(const char *op, const struct shape *prediction, enum dtype *dtype_r,
                struct shape *shape_r, struct error *e);

/* What a detector's loss says of the maps that it takes as its first inputs (detection.h). */
enum { DETECTION_MAX_LEVELS = 8 };
struct detection_spec {
    int n_maps;
    int64_t stride[DETECTION_MAX_LEVELS]; /* pixels a cell */
    int64_t reg_max, classes;
    int64_t width, height; /* of the network's image, pixels */
};
/* False when `n` is not the loss of a detector. Its last input is the target: [N, max_boxes, 5],
 * rows (class, cx, cy, w, h) normalised by the image, padded with class -1. */
bool node_detection(const struct node *n, struct detection_spec *spec_r);

/* Puts it into a block, from 1 on, whose inner values training does not keep for backward, which
 * computes them again: less memory, more time, the same bits. 0: into none. plan_recompute.c */
void node_set_block(struct node *n, int block);

int graph_node_count(const struct graph *g);
struct node *graph_node(const struct graph *g, int i);

/* The parameters and buffers in the order of their declaration, which is PyTorch's. */
struct param {
    const char *name; /* "conv1.weight" */
    struct shape shape;
    size_t offset, count; /* in elements, in the block of parameters or of buffers */
    bool buffer, frozen;
    int group; /* of the network's groups, from 1 on; 0: the optimiser itself */
    const struct init_def *init;
    const void *init_attrs; /* of init's; NULL: the fallbacks */
    int64_t fan_in, fan_out;
    struct node *leaf;
};
int graph_param_count(const struct graph *g);
struct param *graph_param(const struct graph *g, int i);
size_t graph_params_size(const struct graph *g);  /* elements of the block of parameters */
size_t graph_buffers_size(const struct graph *g); /* elements of the block of buffers */

/* Fills both blocks with each parameter's initialiser, from counter-based random numbers keyed by
 * (seed, place of the parameter). */
void graph_init(const struct graph *g, uint64_t seed, real *params, real *buffers);

/* Gives parameter i another initialiser than its operator does, by name ("normal") and attributes
 * (torch.nn.init). UNKNOWN_OPERATOR, BAD_ATTRIBUTE. */
int graph_set_init(struct graph *g, int i, const char *name, const struct attr *attrs, int n,
                   struct error *e);

/* ---- the pool -------------------------------------------------------------------------------- */

struct pool;
struct pool *pool_create(int threads,
                         struct error *e); /* threads counts the caller; 1: no others */
void pool_destroy(struct pool **p);
int pool_threads(const struct pool *p);

/* Calls f(arg, begin, end, worker) for consecutive ranges of `grain` of [0, count) on all threads,
 * the caller's included (worker 0), and returns when all are done. Ranges depend on count and
 * grain alone. Any thread may call, several at once. Calls from within f are not allowed. */
typedef void pool_fn(void *arg, int64_t begin, int64_t end, int worker);
void pool_for(struct pool *p, int64_t count, int64_t grain, pool_fn *f, void *arg);

/* The same threads for calls that go before those of `p`, as pool_for's first argument. It is a
 * part of `p`, and not to be destroyed. */
struct pool *pool_first(struct pool *p);
/* Announces (1) and takes back (-1) work that goes first, from the moment on that it waits for a
 * thread: as long as threads would be short, calls of `p` leave one of its threads free for each,
 * between two ranges; but they go on, slowly, however much goes first. Any thread; p may be NULL.
 */
void pool_hurry(struct pool *p, int change);

/* What results depend on besides their inputs: our build, BLAS and its kernels, instruction set. */
const char *engine_fingerprint(void);
/* Call once, before any other thread: picks the kernels, makes BLAS single-threaded. */
void engine_start(void);

/* ---- plans and runs -------------------------------------------------------------------------- */

struct plan;
struct run;
struct profile;

struct plan_spec {
    bool training;               /* batch statistics, dropout; else running statistics */
    struct node *const *outputs; /* values that can be read after a run */
    int n_outputs;
    struct node *loss;       /* a scalar; with n_wrt or params_wrt the root of backward; or NULL */
    struct node *const *wrt; /* nodes whose gradients can be read after a run: inputs, layers */
    int n_wrt;
    bool params_wrt;  /* gradients of all parameters that are not frozen, into run_args.grads */
    int64_t capacity; /* largest batch */
    int threads;      /* of the largest pool it will run on: sizes the scratch */
    size_t fence;     /* for tests: bytes of guard pattern after each buffer and scratch */
    bool unfused;     /* each operator in a pass of its own: for those who observe, and tests */
};

/* Compiles. The graph must outlive the plan. NULL and BAD_GRAPH, TOO_LARGE, OUT_OF_MEMORY. */
struct plan *plan_create(const struct graph *g, const struct plan_spec *spec, struct error *e);
void plan_destroy(struct plan **p);
size_t plan_arena_bytes(const struct plan *p); /* what each run of it allocates, about */
int64_t plan_capacity(const struct plan *p);

/* What a plan does, in order: operators as they run, fused ones under names of their own
 * ("batch_norm_relu"), with the name of the first of their layers. Bytes are those of the value
 * that the step gives at the plan's capacity, and of what it keeps for backward, works on and
 * prepares; steps share memory, so that they do not add up to the arena. */
struct plan_step {
    const char *name, *op;
    const char *algorithm; /* NULL: there is one only */
    size_t value_bytes, saved_bytes, work_bytes, prepared_bytes;
    bool again; /* its forward runs a second time before its backward (node_set_block) */
};
/* False when i is past the last. Leaves are no steps. */
bool plan_step_at(const struct plan *p, int i, struct plan_step *step_r);

/* What predictions make of a generation's parameters once and not again: packed weights. One block
 * for a generation; it goes with it (generation_prepare). */
struct prepared;
size_t plan_prepared_bytes(const struct plan *p); /* 0: this plan prepares nothing */
/* An empty block: the first run that is given it fills it, runs that come meanwhile do without.
 * `release` is told its bytes when it is freed. NULL: out of memory. */
typedef void prepared_release_fn(void *arg, size_t bytes);
struct prepared *prepared_create(const struct plan *p, prepared_release_fn *release, void *arg);
void prepared_destroy(struct prepared **b);
bool prepared_ready(const struct prepared *b); /* filled; false for NULL */

struct run *run_create(const struct plan *p, struct error *e);
void run_destroy(struct run **r);

/* Sees the value of a node of the plan as soon as forward has computed it: `count` numbers, images
 * as they lie inside the plan. Between nodes, in the thread that runs. */
typedef void run_observe_fn(void *arg, const struct node *n, const real *value, int64_t count);

/* Whether nobody waits for the run's results any more: asked before each node, in the thread that
 * runs. Once it is true the run ends. */
typedef bool run_gone_fn(void *arg);

struct run_args {
    struct pool *pool;
    int64_t n;                    /* the batch, 1 to capacity */
    const void *const *inputs;    /* one pointer an input leaf, in the graph's order of inputs;
                                     NULL for one that the plan does not use */
    const real *params, *buffers; /* blocks of one generation; NULL where the graph has none */
    real *buffers_out;            /* where training forwards write moved statistics: a block that
                                     already holds a copy of `buffers`; NULL: they are dropped */
    real *grads;                  /* block of gradients, written (params_wrt); zero where frozen */
    uint64_t seed, draw;          /* with a node's place, the key of its random numbers */
    run_observe_fn *observe;      /* NULL: nobody looks */
    void *observe_arg;
    struct prepared *prepared; /* of the generation of `params`; NULL: nothing is kept */
    struct profile *profile;   /* gets the time of each node; NULL: nothing is timed */
    run_gone_fn *gone;         /* NULL: somebody waits until the end */
    void *gone_arg;
};

/* Forward, and backward if the plan has it. Allocates nothing, changes nothing but the run, grads
 * and buffers_out. -1 when the data are refused (a class index out of range): BAD_VALUE; when
 * `gone` said so: CLIENT_GONE, with grads and buffers_out written in part. */
int run_execute(struct run *r, const struct run_args *args, struct error *e);

/* After run_execute, until the next: an output's value (place in spec.outputs), contiguous in the
 * logical layout; the loss; the gradient of spec.wrt[i]. */
const real *run_output(const struct run *r, int i);
real run_loss(const struct run *r);
const real *run_wrt_grad(const struct run *r, int i);

/* What losses report besides their value ("box_loss"), of the last run_execute. */
enum { RUN_MAX_PARTS = 8, RUN_PART_NAME = 24 };
struct run_part {
    char name[RUN_PART_NAME]; /* with its NUL; not a pointer: the redo log keeps results as bytes */
    double value;
};
int run_parts(const struct run *r, const struct run_part **parts_r);

/* Executes again and says where the first number that is not finite appears. Always -1, with
 * ERROR_NOT_FINITE and a sentence that names the layer and whether forward or backward. */
int run_explain_nonfinite(struct run *r, const struct run_args *args, struct error *e);

bool run_fences_intact(const struct run *r);

/* ---- profiles: where the time of runs goes --------------------------------------------------- */

enum run_pass { RUN_FORWARD, RUN_BACKWARD, RUN_PASSES };

/* Of a node of the plan, in the order of its forward. Views and leaves have none. */
struct profile_row {
    const struct node *node;
    double seconds[RUN_PASSES]; /* of all runs that were given the profile */
    double flops[RUN_PASSES];   /* of one run; profile.c says how they are counted */
    double bytes[RUN_PASSES];   /* that a pass of one run has to read and to write */
};

/* For runs like `r` of `batch` samples, through run_args.profile; the run's plan must outlive it.
 * One thread at a time. NULL: OUT_OF_MEMORY. */
struct profile *profile_create(const struct run *r, int64_t batch, struct error *e);
void profile_destroy(struct profile **p);
int profile_rows(const struct profile *p, const struct profile_row **rows_r); /* how many */

/* Operations a second of BLAS on large square matrices, all threads of the pool at once: the best
 * of some tries, within a tenth of a second or so. It takes gemm_peak_bytes meanwhile.
 * OUT_OF_MEMORY. */
int gemm_peak(struct pool *pool, double *flops_per_second_r, struct error *e);
size_t gemm_peak_bytes(const struct pool *pool);

/* ---- optimisers, schedules, clipping --------------------------------------------------------- */

struct optimizer_info {
    const char *name, *doc;
    const struct attr_def *attrs;
};
bool optimizer_info_at(int i, struct optimizer_info *info_r);
bool schedule_info_at(int i, struct optimizer_info *info_r);
bool init_info_at(int i, struct optimizer_info *info_r);

struct optimizer; /* a row of the table and its attributes */
struct optimizer *optimizer_create(const char *name, const struct attr *attrs, int n,
                                   struct error *e);
void optimizer_destroy(struct optimizer **o);
const char *optimizer_name(const struct optimizer *o);
double optimizer_lr(const struct optimizer *o);
int optimizer_set_lr(struct optimizer *o, double lr, struct error *e);
int optimizer_slots(const struct optimizer *o); /* blocks of state, each of the parameters' size */

struct schedule;
struct schedule *schedule_create(const char *name, const struct attr *attrs, int n,
                                 struct error *e);
void schedule_destroy(struct schedule **s);
/* What reduce_on_plateau has seen. All zeros at the beginning; no padding: it is kept as bytes. */
struct schedule_state {
    double best, sum;                  /* metric; losses of the metric under way */
    int64_t summed, metrics;           /* losses in sum; metrics seen */
    int64_t bad, cooldown, reductions; /* metrics that were no better; to skip; done */
};
/* The learning rate of the step after `step` steps were taken. `s` NULL: base; `state` NULL: that
 * at the beginning. */
double schedule_lr(const struct schedule *s, double base, uint64_t step,
                   const struct schedule_state *state);
bool schedule_has_state(const struct schedule *s); /* `s` may be NULL */
/* Takes notice of the loss of a step; nothing for schedules without a state. */
void schedule_observe(const struct schedule *s, struct schedule_state *state, double loss,
                      uint64_t step);
/* Whether the state of one means the same for the other: the same row and attributes. */
bool schedule_same_state(const struct schedule *a, const struct schedule *b);

/* ---- augmentation: training images, and with them boxes and soft targets, changed at random -- */

enum { NETWORK_MAX_IO = 16 }; /* inputs, targets, outputs or losses of a network */
enum { NETWORK_MAX_GROUPS = 16 };

/* A table of augmentations, like that of operators, under the names of Ultralytics and torchvision.
 * What a batch becomes depends on the batch and on (seed, draw), not on threads. */
struct augment_info {
    struct optimizer_info row; /* name, doc, attributes */
    const char *kind;          /* "geometric", "color" or "mixing" */
};
bool augment_info_at(int i, struct augment_info *info_r);

struct augment; /* a list of rows and their attributes, applied in order. Read-only once made */
struct augment *augment_create(struct error *e);
void augment_destroy(struct augment **a);
/* Appends a row. UNKNOWN_OPERATOR, BAD_ATTRIBUTE, TOO_LARGE (more than 32 rows). */
int augment_add(struct augment *a, const char *name, const struct attr *attrs, int n,
                struct error *e);
/* Whether a row mixes samples so that class indices will not do as targets: mixup, cutmix. */
bool augment_mixes(const struct augment *a);
/* Whether a row moves pixels, and pixel-wise targets would have to move with them. */
bool augment_moves(const struct augment *a);
/* Whether images of [c, h, w] can be augmented: some rows want three channels, or `boxes` as
 * targets. BAD_SHAPE, BAD_GRAPH. */
int augment_check(const struct augment *a, int64_t c, int64_t h, int64_t w, bool boxes,
                  struct error *e);

/* A batch and where its augmented form goes; nothing is modified in place. */
struct augment_batch {
    int64_t n, c, h, w;
    const real *images; /* [n,c,h,w]; colour rows want values in 0..1 */
    real *images_out;
    int64_t max_boxes;
    const real *boxes; /* [n,max_boxes,5]: class, cx, cy, w, h in 0..1 of the image; class -1: none.
                          NULL: no boxes */
    real *boxes_out;
    struct { /* targets that are mixed with their images, such as probabilities */
        const real *data;
        real *out;     /* [n,count] */
        int64_t count; /* of one sample */
    } soft[NETWORK_MAX_IO];
    int n_soft;
    uint64_t seed, draw;
};

/* Bytes of work memory for batches of up to `n` samples like `b`, on `threads` threads. TOO_LARGE.
 */
int augment_work_bytes(const struct augment *a, const struct augment_batch *b, int64_t n,
                       int threads, size_t *bytes_r, struct error *e);
/* Allocates nothing; writes the outputs and `work`, which is aligned as malloc does. -1 and
 * BAD_VALUE when colour rows find values outside of 0..1. Threads: several calls at once, each with
 * its own outputs and work. */
int augment_apply(const struct augment *a, struct pool *pool, const struct augment_batch *b,
                  void *work, struct error *e);

/* ---- networks and their steps ---------------------------------------------------------------- */

struct network {
    struct graph *graph;
    int n_inputs, n_targets, n_outputs;
    struct node *inputs[NETWORK_MAX_IO], *targets[NETWORK_MAX_IO];
    struct node *outputs[NETWORK_MAX_IO];     /* then, without a place in n_outputs: */
    struct node *probabilities;               /* of outputs[0], or NULL */
    const char *output_names[NETWORK_MAX_IO]; /* the names that clients use */
    struct node *loss;                        /* the scalar that is minimised; NULL: cannot train */
    int n_losses;                             /* the weighted parts of it */
    struct node *losses[NETWORK_MAX_IO];
    struct optimizer *optimizer; /* NULL: cannot train */
    int n_groups;                /* parameters with an optimiser of their own: the same */
    struct optimizer *groups[NETWORK_MAX_GROUPS]; /* row and slots, other attributes */
    struct schedule *schedule;                    /* NULL: constant */
    double clip_grad_norm, clip_grad_value;       /* 0: off */
    double ema_decay;        /* of the moving average of the parameters; 0: none is kept */
    struct augment *augment; /* of training batches; NULL: none */
    unsigned index_targets;  /* bit i: targets[i] is probabilities [N, C] for cross_entropy: class
                                indices can stand for them */
    uint64_t seed;
    struct arena *arena; /* holds the names, and this struct */
};
void network_destroy(struct network **net);

/* One block: parameters, buffers, the optimiser's slots, then the moving average of the parameters.
 * Reference-counted; the counts may be changed from any thread. `optimizer_step` counts the steps
 * that the slots have seen; those of a parameter have seen missed[place in graph_param] fewer, for
 * which it was frozen (torch's optimisers count for each parameter, too). */
struct generation {
    real *params, *buffers, *slots;
    real *averages; /* NULL: none are kept */
    struct schedule_state schedule;
    struct generation *base; /* whose blocks these are; NULL: its own */
    uint64_t optimizer_step;
    uint64_t *missed; /* [graph_param_count] */
    size_t bytes;
    int refs;                  /* atomic */
    int predictions;           /* atomic; of those who care to count */
    struct prepared *prepared; /* atomic; NULL: none yet */
};
struct generation *generation_create(const struct network *net, struct error *e); /* refs 1 */
struct generation *generation_ref(struct generation *g);
void generation_unref(struct generation **g); /* frees the last */
/* Its block, NULL when it has none. Any thread that holds a reference. */
struct prepared *generation_prepared(struct generation *g);
/* Gives it `*b`; when it has one meanwhile, `*b` is destroyed. Any thread that holds a reference.
 */
void generation_prepare(struct generation *g, struct prepared **b);
/* Before its numbers are written anew: nobody else holds it. */
void generation_forget(struct generation *g);
size_t generation_bytes(const struct network *net);
/* How many steps its slots have seen becomes that of `from`; NULL: none. */
void generation_take_steps(const struct network *net, struct generation *to,
                           const struct generation *from);
/* Whether a parameter has missed steps. */
bool generation_missed_any(const struct network *net, const struct generation *g);
/* The same with the averages for parameters; it holds `g`, which must have averages. */
struct generation *generation_averaged(struct generation *g, struct error *e);
/* The averages begin anew: with the parameters. To call where parameters come from elsewhere than
 * from a step. */
void generation_averages_reset(const struct network *net, struct generation *g);

/* Euclidean norm of the block of gradients (clip_grad_norm_ of PyTorch, before clipping; those of
 * frozen parameters are zero). Not finite when one of them is not. */
double gradients_norm(const struct network *net, struct pool *pool, const real *grads);

/* The learning rates of the step after `step` steps, from this generation: lr_r[0] is the
 * optimiser's, lr_r[1 + i] that of group i, each by the schedule. `asked`, unless it is NaN, is
 * that of the optimiser in their place; the groups keep their proportion to it. */
void network_rates(const struct network *net, const struct generation *from, double asked,
                   uint64_t step, double *lr_r);

/* Clips `grads` in place as the network says, then writes the parameters, slots and averages of
 * `to` from those of `from`, with the rates lr[1 + groups]; buffers are the caller's. An average
 * goes from the initial values towards the parameters by 1 - ema_decay of the way at each step
 * (timm's ModelEmaV2); buffers are not averaged (torch's AveragedModel). -1 and NOT_FINITE, naming
 * the parameter, when a new value is not finite: `from` is as it was, `to` is rubbish. */
int network_apply(const struct network *net, struct pool *pool, const struct generation *from,
                  real *grads, double grad_norm, const double *lr, struct generation *to,
                  struct error *e);

/* dst += src over the block of parameters. */
void gradients_add(const struct network *net, struct pool *pool, real *dst, const real *src);

/* ---- signals: what a step's numbers say of each layer ---------------------------------------- */

/* Of one layer. NaN: does not apply to it, or was not seen. */
struct layer_signals {
    const struct node *layer;
    double gradient_norm;   /* Euclidean, of all its trainable parameters, before clipping */
    double weight_norm;     /* of all its parameters */
    double update_ratio;    /* norm of the change of its parameters over weight_norm */
    double activation_mean; /* of its output's numbers, and their population's standard deviation */
    double activation_std;
    double dead_share;      /* rectifiers: share of units that were 0 throughout the batch. A unit
                               is a channel of an image, else one number of a sample's output */
    double saturated_share; /* sigmoid, tanh and the like: share of outputs within 1.5% of the range
                               from either end, where the slope is below 6% of the steepest */
    int64_t unit_numbers;   /* how many numbers of each unit dead_share has seen */
};

/* The named layers of a graph in its order, all NaN at first. One thread at a time. The graph must
 * outlive it. NULL: OUT_OF_MEMORY. */
struct signals;
struct signals *signals_create(const struct graph *g, struct pool *pool, struct error *e);
void signals_destroy(struct signals **s);
int signals_layers(const struct signals *s, const struct layer_signals **layers_r); /* how many */
/* The place of the layer that a node of a plan stands for; -1: none. */
int signals_place(const struct signals *s, const struct node *n);
/* A run_observe_fn, with `signals` its arg: the activations. */
run_observe_fn signals_observe;
/* The gradients (a block as run_args.grads), the parameters, and what a step made of them. */
void signals_gradients(struct signals *s, const real *grads);
void signals_weights(struct signals *s, const real *params);
void signals_updates(struct signals *s, const real *params, const real *params_after);

#endif
