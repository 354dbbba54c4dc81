/* model.h: a live model.
 *
 * Its numbers are generations (backprop.h): immutable blocks of parameters, buffers and optimiser
 * state. `live` is the published one. A step computes gradients from it, writes the next one, and
 * publishes that by swapping one pointer, so predictions run meanwhile, each on exactly one
 * generation.
 *
 * The order of a step (DESIGN.md section 3): forward, backward, check that loss and gradients are
 * finite, write the next generation and check it, append to the log, publish, answer. Whatever
 * fails before the append leaves everything as it was. After a kill the model is its last
 * checkpoint with the log replayed on it (redo.h); checkpoints are made in the background when the
 * log grows.
 *
 * Counters: `step` optimiser steps taken, goes back when a version is restored; `revision` counts
 * every change and never goes back; `draw` training forwards, keys the random numbers.
 *
 * Threads: functions of the first group are for the job that runs in the model's queue, one at a
 * time. All others may be called by any thread that holds the model. */
#ifndef BACKPROPD_MODEL_H
#define BACKPROPD_MODEL_H

#include "digest.h"
#include "infer_stats.h"
#include "key.h"
#include "program.h"
#include "redo.h"
#include "store.h"
#include "work.h"

#include <jansson.h>
#include <pthread.h>

enum { MODEL_MAX_NAME = 128, MODEL_KEPT_VERSIONS = 2 };

struct models;
struct evaluation;
struct answers;

/* What an answer means. `process`: the change survives the process (kill -9); `power`: also the
 * loss of power; `none`: it survives a clean stop. */
enum durability { DURABILITY_PROCESS, DURABILITY_POWER, DURABILITY_NONE };
#define DURABILITY_CHOICES "process|power|none"

/* How predictions that wait are put together, by Triton's names. */
struct batching {
    int64_t max_batch_size; /* samples; 0: as many as pay, and a request may bring more */
    int64_t max_queue_delay_microseconds;
    int64_t max_queue_size; /* of each of its queues; 0: the server's --max-queue */
};

struct counters {
    uint64_t step, revision, draw;
};

/* A version in memory for predictions. */
struct kept_version {
    int64_t version;
    struct generation *generation; /* NULL: the place is free */
    struct counters at;
    size_t bytes; /* of the budget */
};

/* Of the requests that named a version. A number is never used again, so these need no removal. */
struct version_stats {
    struct version_stats *next;
    int64_t version;
    struct infer_stats stats;
};

/* Of one that is not there, changes are refused. */
enum model_presence { MODEL_THERE, MODEL_DELETED, MODEL_UNLOADED };

/* What happened since the daemon began, for GET /metrics: model_totals.c. */
struct model_totals {
    uint64_t steps, samples; /* optimiser steps, and samples that were trained on */
    uint64_t predictions;    /* samples */
    uint64_t non_finite;     /* training requests refused because of NaN or infinity */
    uint64_t checkpoints;
    double accuracy, grad_norm, lr; /* of the last step; NaN: none yet */
    double map, map50;              /* of the last evaluation of a detector; NaN: none yet */
    double val_loss, val_accuracy;  /* of the last evaluation that was recorded; NaN: none yet */
};

/* Losses of the forward_backwards whose gradients are pending: optim_step tells the schedule their
 * mean. No padding: it is kept as bytes. */
struct pending_losses {
    double sum;
    int64_t count;
};

struct model {
    struct models *models;
    char name[MODEL_MAX_NAME + 1];
    char who[KEY_NAME_MAX + 1]; /* name of the key that created it; "": none was needed */
    int64_t id, created_ms;
    int refs; /* atomic */
    struct work_queue *queue[WORK_KINDS];

    pthread_mutex_t lock; /* guards the next group: held for moments only */
    struct program *program;
    struct generation *live;
    struct counters at;
    json_t *given;    /* as created, expanded; immutable */
    json_t *settings; /* what PATCH changed; replaced, never modified */
    bool pending;     /* gradients are pending */
    struct kept_version kept[MODEL_KEPT_VERSIONS];
    unsigned kept_next;
    uint64_t kept_drops; /* how often some of them were dropped */
    enum model_presence presence;
    bool dirty;       /* changed since the last checkpoint */
    double last_loss; /* of the last training forward; NaN: none yet */
    struct model_totals totals;
    struct evaluation *evaluations; /* under way: evaluation.h */
    int64_t last_evaluation;

    pthread_mutex_t writing;  /* held while a job changes the next group, and to hash it */
    struct generation *spare; /* the next one is written here */
    real *grads;              /* of the last backward */
    real *sum;                /* pending gradients */
    struct pending_losses losses;
    real *buffers[2];  /* moved statistics that are not published yet: [0] holds them when */
    bool moved;        /* this is set; [1] is where the next forward writes */
    int64_t commit_ms; /* when the last change was: the same in its log record and its metrics */
    size_t reserved;   /* bytes taken from the budget: model_bytes of its network */

    struct infer_stats infer_stats;       /* of all predictions */
    struct version_stats *versions_stats; /* by version; entries stay as long as the model */
    struct answers *answers;
    struct redo *redo;
    enum durability durability;
    uint64_t signals_every;      /* steps; 0: none are recorded */
    struct recording *recording; /* of the step under way, when it is one of them */
    struct batching batching;
    bool replaying;      /* at start: nothing is logged */
    double redo_seconds; /* that the steps since the last checkpoint took */
    uint64_t replayed, replayed_other_engine, torn_bytes; /* at start */
    bool saving;                     /* atomic: a checkpoint is being made in the background */
    pthread_mutex_t checkpoint_lock; /* one at a time, never an older over a newer */
    uint64_t checkpoint_revision;
};

/* One batch: a pointer for each input leaf of the graph, inputs then targets. */
struct batch {
    int64_t n;
    const void *data[2 * NETWORK_MAX_IO];
};

struct step_options {
    double lr;           /* of this call; NaN: the schedule's */
    bool keep_gradients; /* optim_step: do not clear */
    const char *key;     /* under which the answer is remembered (answers.h); NULL: none */
    uint64_t request;    /* hash of the request, with a key */
};

struct step_result {
    double loss, grad_norm, lr, accuracy; /* NaN: does not apply */
    int64_t samples;
    struct counters at;                   /* after it */
    struct run_part parts[RUN_MAX_PARTS]; /* that losses reported: "box_loss" */
    int n_parts;
};
/* Takes over what the losses of a run reported. */
void step_result_parts(struct step_result *r, const struct run *run);

/* ---- in the model's queue -------------------------------------------------------------------- */

int model_train_step(struct model *m, const struct batch *b, const struct step_options *o,
                     struct step_result *r, struct error *e);
int model_forward_backward(struct model *m, const struct batch *b, const struct step_options *o,
                           struct step_result *r, struct error *e);
int model_optim_step(struct model *m, const struct step_options *o, struct step_result *r,
                     struct error *e);
int model_zero_grad(struct model *m, const struct step_options *o, struct step_result *r,
                    struct error *e);

/* These changes are saved before they are published; `answer`, which may be NULL, is kept in the
 * same transaction. */

/* Changes settings; `patch` holds fields of the description (optimizer, schedule, clip_grad_norm,
 * clip_grad_value, frozen, ema, labels), null takes one back to what the model was created with.
 * The optimiser's state is kept when the optimiser stays the same, else it begins anew. QUOTA when
 * the model is of the key `by` (NULL: anybody) and would grow over what that may have. */
int model_patch(struct model *m, const json_t *patch, const struct key *by,
                struct store_answer *answer, struct error *e);

/* Saves the present state as a version that `who` asked for; sets v->version and the rest. */
int model_version_save(struct model *m, const char *who, const char *note,
                       struct store_answer *answer, struct store_version *v, struct error *e);
/* Returns to a version: parameters, buffers, optimiser state, pending gradients, step and draw. */
int model_version_restore(struct model *m, int64_t version, struct store_answer *answer,
                          struct error *e);
/* The settings that a model needs to go on from a version's state as after a restore of it; 0: the
 * model's own. A new reference; NULL: UNKNOWN_VERSION, OUT_OF_MEMORY. */
json_t *model_settings(struct model *m, int64_t version, struct error *e);
/* Takes over the state of `from`, a model with the same parameters; or that of a version of it; or,
 * of either (0: of the live state), only the parameters and buffers that the globs in `layers`
 * match. `m` was made with model_settings, and nobody else sees it yet. */
int model_take_state(struct model *m, struct model *from, struct error *e);
int model_take_version(struct model *m, struct model *from, int64_t version, struct error *e);
int model_take_layers(struct model *m, struct model *from, int64_t version, const json_t *layers,
                      struct error *e);
/* Writes the checkpoint if anything has changed since the last one. Also at the end, when no
 * queue runs any more. */
int model_checkpoint(struct model *m, struct error *e);

/* ---- anywhere -------------------------------------------------------------------------------- */

/* A published state that stays as it is until it is released. */
struct snapshot {
    struct program *program;
    struct generation *generation;
    struct counters at;
    bool pending;
    double last_loss;
    json_t *description; /* effective */
    struct batching batching;
    run_gone_fn *gone; /* asked while a question runs; NULL: not asked */
    void *gone_arg;
};
int model_snapshot(struct model *m, struct snapshot *s_r, struct error *e);
void snapshot_release(struct snapshot *s);

/* Counts samples that were predicted, and notes a number of an evaluation ("mAP50"). */
void model_count_predictions(struct model *m, int64_t samples);
void model_note_metric(struct model *m, const char *series, double value);

/* Bytes that a model of this network takes for as long as it lives; SIZE_MAX: too many to count. */
size_t model_bytes(const struct network *net);

/* SHA-256 of the whole training state. In this order: the bytes of step, draw, optimizer_step and
 * the number of pending sums (0 or 1) as little-endian uint64, then the parameters, buffers,
 * optimiser state and, if there are any, the schedule's state, averages (ema), the
 * steps that each parameter missed, pending gradients and, where the schedule has a state, the sum
 * and number of their losses. `revision` is not part of it: a restored state has the hash that it
 * had. Waits for a running step. */
int model_state_sha256(struct model *m, char sha256_r[DIGEST_HEX], struct error *e);

/* Loss and accuracy of a labelled batch by evaluation rules, on this snapshot. `f`, which may be
 * NULL, sees what the first loss compares with its target; -1 of it is that of the evaluation. */
typedef int predictions_fn(void *arg, const struct network *net, const struct batch *b,
                           const real *prediction, struct error *e);
int snapshot_evaluate(const struct snapshot *s, struct pool *pool, const struct batch *b,
                      predictions_fn *f, void *arg, struct step_result *r, struct error *e);

/* What is asked of gradients besides those of the parameters. */
struct gradients_wish {
    bool training; /* false: by evaluation rules */
    bool inputs;   /* gradients of the real inputs */
    struct node *const *layers;
    int n_layers;            /* and of these nodes' values */
    run_observe_fn *observe; /* sees each value of the forward; NULL: nobody */
    void *observe_arg;
};
/* What train_step would compute: the lease holds the gradients of the inputs, then of the layers,
 * until it is released; those of the parameters are written to `grads`. */
int snapshot_gradients(const struct snapshot *s, struct pool *pool, const struct batch *b,
                       const struct gradients_wish *wish, real *grads, struct program_lease *l,
                       struct step_result *r, struct error *e);

/* The norm of the gradients (into the block `grads`) that each sample of the batch would have as a
 * batch of its own, with the same draw. BAD_VALUE where statistics of the batch go into a sample's
 * numbers: they would be others for one alone. */
int snapshot_sample_norms(const struct snapshot *s, struct pool *pool, const struct batch *b,
                          bool training, real *grads, double *norms_r, struct error *e);

/* The parameters that train_step would make of these gradients, which clipping may change. */
int snapshot_apply(const struct snapshot *s, struct pool *pool, real *grads, double grad_norm,
                   struct generation *to, struct error *e);

/* Runs inference slice by slice; `f` gets the outputs of each: out[i] for the i-th bit of
 * `outputs`, for samples [begin, begin + n). */
typedef void infer_fn(void *arg, int64_t begin, int64_t n, const real *const *out);
int snapshot_infer(const struct snapshot *s, struct pool *pool, const struct batch *b,
                   unsigned outputs, infer_fn *f, void *arg, struct error *e);

/* Deletes a version. UNKNOWN_VERSION. */
int model_version_delete(struct model *m, int64_t version, const struct store_answer *answer,
                         struct error *e);
/* Lets go of a version that is kept in memory; 0: of all. */
void model_kept_drop(struct model *m, int64_t version);

/* What predictions with a version took. NULL: there were none, unless `make`, or out of memory. */
struct infer_stats *model_version_stats(struct model *m, int64_t version, bool make);
/* Bytes that a version takes in memory for predictions; 0: it is not there. */
size_t model_kept_bytes(struct model *m, int64_t version);

/* A version of the model as a snapshot, from memory or the store. UNKNOWN_VERSION. */
int model_version_snapshot(struct model *m, int64_t version, struct snapshot *s_r, struct error *e);

#endif
