/* model_private.h: what model.c, model_step.c and model_versions.c share. For the model's queue. */
#ifndef BACKPROPD_MODEL_PRIVATE_H
#define BACKPROPD_MODEL_PRIVATE_H

#include "describe.h"
#include "models.h"

/* How the state looks after a change. */
struct commit {
    struct counters at;
    bool pending, moved;
    struct pending_losses losses;
    double loss; /* NaN: no new one */
    /* Exchanged with the model's, so that the caller has the old ones then; NULL: those stay. */
    struct program **program;
    json_t **settings;
};
/* A verb that trains: its name in the log, and how it is carried out again. */
enum verb { VERB_TRAIN_STEP, VERB_FORWARD_BACKWARD, VERB_OPTIM_STEP, VERB_ZERO_GRAD };
struct model_verb {
    const char *name;
    int (*redo)(struct model *m, const struct batch *b, const struct step_options *o,
                struct step_result *r, struct error *e);
};
extern const struct model_verb model_verbs[]; /* by enum verb */

/* What the log is told of a change. */
struct logged {
    enum verb verb;
    const struct batch *batch; /* NULL: none */
    const struct step_options *options;
    const struct step_result *result;
};

struct commit model_commit_begin(const struct model *m); /* as it is now */

/* A whole state, present or about to be: what a checkpoint or a version is made of. */
struct model_state {
    const struct network *net;
    const struct generation *generation;
    struct commit c;
    real *moved, *sum; /* used if c says so */
    const json_t *settings;
    const struct store_deed *deed; /* kept with its checkpoint; NULL: none */
};
struct model_state model_state(struct model *m); /* the present one */
int model_state_checkpoint(struct model *m, const struct model_state *s,
                           struct store_answer *answer, struct error *e);

/* Makes a change visible: appends it to the log (`l` NULL: a checkpoint has it already), publishes
 * `next` (NULL: the generation stays), the counters, and program and settings if they change, all
 * at once. Takes over `next` when it works. -1: nothing has changed. */
int model_commit(struct model *m, struct generation *next, const struct commit *c,
                 const struct logged *l, struct error *e);

/* model_totals.c. With the model's lock held, after a change: what it adds. */
void model_totals_init(struct model_totals *t);
void model_totals_add(struct model *m, const struct commit *c, const struct logged *l);
/* At start, of a model that nobody else sees yet: the newest values in the store of what no
 * replayed step has said. */
int model_totals_recall(struct model *m, struct error *e);
/* A step that was refused. Takes the lock. */
void model_count_refused(struct model *m, const struct error *e);
void model_count_checkpoint(struct model *m);

/* model_signals.c: what a step that is recorded says of each layer. At every other step none of
 * them does anything. In this order: before the forward of the step that will be number `step`;
 * with the gradients, before they are clipped; with the generation that it makes; after it. */
void model_signals_begin(struct model *m, uint64_t step);
void model_signals_observe(const struct model *m, struct run_args *args); /* of its forward */
void model_signals_gradients(struct model *m, const real *grads);
void model_signals_updates(struct model *m, const struct generation *next);
void model_signals_save(struct model *m, const struct step_result *r, int64_t time_ms);
void model_signals_drop(struct model *m); /* instead: the step was refused */

/* Appends to the log; model_redo.c. */
int model_redo_append(struct model *m, const struct logged *l, const struct commit *c,
                      struct error *e);
/* Opens the log of a model that has its id; with `replay` carries out what its checkpoint lacks. */
int model_redo_open(struct model *m, bool replay, struct error *e);
/* After a step: begins a checkpoint in the background when the log is long enough. */
void model_checkpoint_when_due(struct model *m, double step_seconds);

/* Statistics that the next training forward starts from. */
const real *model_training_buffers(const struct model *m);
/* A generation nobody reads, to be written whole. */
struct generation *model_next(struct model *m, struct error *e);
/* Keeps a generation for model_next, or gives it up. Nulls it. */
void model_keep_spare(struct model *m, struct generation **g);
int model_check_there(const struct model *m, struct error *e);

struct program *model_compile(struct models *ms, const json_t *given, const json_t *settings,
                              struct error *e);
/* Takes from the budget what a model of this network needs more than this one has taken; and gives
 * back what the model's own network does not need. */
int model_reserve(struct model *m, const struct network *net, struct error *e);
void model_reserve_settle(struct model *m);
/* The live numbers laid out for another network of the same graph. */
struct generation *model_regenerate(const struct model *m, const struct network *net,
                                    struct error *e);

/* A run on one generation; buffers_out and grads are the caller's to set. */
struct run_args model_run_args(const struct network *net, struct pool *pool, const struct batch *b,
                               const struct generation *g, uint64_t draw);
/* Forward, backward into args->grads, and the checks: loss and gradients finite. Output 0 of the
 * run must be what the first loss compares with its target. */
int gradients_run(const struct network *net, struct run *run, const struct run_args *args,
                  const struct batch *b, struct step_result *r, struct error *e);

#endif
