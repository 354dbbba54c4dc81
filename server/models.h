/* models.h: all models by name: creating, finding, deleting, loading at start and saving at the
 * end. Any thread may call; models_load and models_destroy are for the start and the end. */
#ifndef BACKPROPD_MODELS_H
#define BACKPROPD_MODELS_H

#include "key.h"
#include "model.h"
#include "server.h"

struct store_deed;

struct models {
    struct store *store;
    struct work *work;
    struct pool *pool;
    struct budget budget;
    int64_t max_models, max_queue;
    char *redo_root;         /* folder of the redo logs */
    uint64_t redo_max_bytes; /* of one log: then a checkpoint is made */
    double redo_max_seconds; /* of the steps in it, which is about what a replay takes */
    const struct log *log;
    pthread_mutex_t creating;  /* held while a model is made or deleted; before all other locks */
    pthread_mutex_t lock;      /* guards the table; held for moments only */
    struct answers *running;   /* keys of requests that make or delete a model, under way */
    struct unloaded *unloaded; /* models that are in the store only, by name */
    int n_unloaded;
    struct model *loading; /* is not in the table yet; NULL: none */
    struct model **table;  /* sorted by name */
    int n, cap;
};

struct models *models_create(const struct server *s, struct error *e);
/* Saves what has changed (-1 when that failed) and frees. Nobody may hold a model any more. */
int models_destroy(struct models **ms, struct error *e);
/* Brings back every model of the store from its checkpoint. One that there is no memory for, or
 * whose description is refused by now, stays unloaded, and the log is told. STORAGE: damage. */
int models_load(struct models *ms, struct error *e);

/* Held until model_release. NULL: UNKNOWN_MODEL with the nearest name. */
struct model *models_find(struct models *ms, const char *name, struct error *e);
void model_release(struct model **m);
struct model *model_hold(struct model *m);

/* Creates a model. The same description under the same name gives that model and *created_r false;
 * another one MODEL_EXISTS. `by` is the key of whoever asks, NULL for anybody: the model is its
 * own, and QUOTA when it has too much then. `deed`, which may be NULL, is kept if it is made. Held.
 */
struct model *models_put(struct models *ms, const char *name, const json_t *description,
                         const struct key *by, const struct store_deed *deed, bool *created_r,
                         struct error *e);
/* Creates a model like `from`, with its whole state; or, with a list of globs, with only the
 * parameters and buffers whose names they match ("conv1" stands for "conv1.*") and all else as in a
 * new model. The state is that of a version of it, or for 0 the live one. Held. MODEL_EXISTS;
 * UNKNOWN_VERSION; BAD_VALUE when a glob matches nothing. */
struct model *models_clone(struct models *ms, const char *name, struct model *from, int64_t version,
                           const json_t *layers, const struct key *by,
                           const struct store_deed *deed, struct error *e);
/* Refuses further work on it, and removes it from table and store. Running reads end normally. */
int models_delete(struct models *ms, struct model *m, const struct store_deed *deed,
                  struct error *e);

/* Frees the memory of a model, which stays in the store. In its queue of writes. models_unload.c */
int models_unload(struct models *ms, struct model *m, struct error *e);
/* Brings it back; of one that is there, nothing. UNKNOWN_MODEL. */
int models_load_again(struct models *ms, const char *name, struct error *e);
/* Whether a model of this name is unloaded; then with ERROR_NOT_READY. */
bool models_unloaded(struct models *ms, const char *name, struct error *e);
/* A model of the store that could not be loaded, for this reason. OUT_OF_MEMORY. */
int models_add_unloaded(struct models *ms, const char *name, const char *who, int64_t id,
                        const char *reason, struct error *e);
/* Calls f for each by name; what it gets is for the call. */
struct unloaded_model {
    const char *name, *who, *reason; /* reason "": it was asked for */
    int64_t id, bytes;               /* bytes 0: not known */
};
typedef void models_unloaded_fn(void *arg, const struct unloaded_model *u);
void models_each_unloaded(struct models *ms, models_unloaded_fn *f, void *arg);
void models_forget_unloaded(struct models *ms);

/* Calls f for each model in the order of names, which it must not keep. */
typedef void models_fn(void *arg, struct model *m);
void models_each(struct models *ms, models_fn *f, void *arg);

/* All models by name, held, in the arena: for what may wait for a model. NULL: out of memory, or
 * none (*n_r is 0). model_release each. */
struct model **models_hold_all(struct models *ms, struct arena *a, int *n_r);

/* Whether the key may have `m`, which is or becomes its own, as this network besides its other
 * models. QUOTA. */
int models_check_bytes(struct models *ms, const struct key *k, const struct model *m,
                       const struct network *net, struct error *e);

/* The same of a new model, and that the key may have one more. Under models.creating, so that
 * nobody makes another meanwhile. */
int models_check_quotas(struct models *ms, const struct key *k, const struct model *m,
                        struct error *e);

/* Tells the log of something in the background that failed and will be tried again. */
void models_log_failure(const struct models *ms, const char *model, const char *what,
                        const struct error *e);

/* Of models.c, for models_load.c: into the table, which takes over the reference. With the table
 * locked, or at start, when nobody else looks at it. */
int models_insert(struct models *ms, struct model *m, struct error *e);
/* Takes `m` out, and gives up the table's reference to it: the caller has another. */
void models_remove(struct models *ms, struct model *m, enum model_presence why);
/* Brings back one model of the store, under `creating`. models_load.c */
int models_load_id(struct models *ms, int64_t id, struct error *e);

/* Of model.c, for models.c: a model in memory with zeroed state, not in the table. */
struct model *model_create(struct models *ms, const char *name, json_t *given, json_t *settings,
                           struct error *e);
/* Reads the checkpoint, which is `v`, into a fresh model. */
int model_load_checkpoint(struct model *m, const struct store_model *row,
                          const struct store_version *v, struct error *e);
/* The description with the settings in it, and back: what `effective` says differently from
 * `given`. New references. */
json_t *description_effective(const json_t *given, const json_t *settings);
const char *durability_name(enum durability d);
uint64_t model_signals_every(const json_t *given, const json_t *settings);
/* What the settings say besides the network: durability, batching, signals. Under the model's lock;
 * then without it what the queues are told. */
void model_settings_read(struct model *m);
void model_queues_set(struct model *m);
json_t *description_settings(const json_t *given, const json_t *effective);

#endif
