/* backprop_run.h: what computes: the pool of threads, plans, their runs, and where the time goes.
 * Part of backprop.h, which says what these objects mean. */
#ifndef BACKPROP_PUBLIC_RUN_H
#define BACKPROP_PUBLIC_RUN_H

#include "backprop_graph.h"

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

#endif
