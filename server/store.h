/* store.h: what the daemon keeps in its data folder, in one SQLite file.
 *
 *   model       a name, the description that it was created with, its counters. Has an id, never
 * used again. version     a whole state of a model, as named parts ("params", "buffers", "slots",
 * ...). Its number counts up from 1 for each model and is never used again. checkpoint  the one
 * hidden version of a model that the daemon starts from; a new one replaces the older one. Where a
 * function takes a version, STORE_CHECKPOINT means it. alias       a name for a version, and a
 * ledger of its moves. series      a named sequence of numbers of a model, one a revision at most:
 * its metrics.
 *
 * What is promised: a version is there whole or not at all, also after kill -9. A model, a version
 * and a checkpoint survive the loss of power once the call has returned. Metrics rows are written
 * in groups: those of the last quarter of a second may be lost with the process, never twice there.
 *
 * Threads: any thread may call any function but store_open and store_close, at any time. Callbacks
 * run with a lock held: they must not call the store and should be quick. Functions take the
 * strings that they are given for the length of the call.
 *
 * Errors: ERROR_STORAGE says what was being done and what SQLite said; the disk being full and a
 * damaged file have their own sentences. Others are named at the functions. */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include "backprop.h"
#include "digest.h"

struct store;

/* Makes the folder (one level) if it is not there. */
int store_make_folder(const char *dir, struct error *e);

/* Opens DIR/backpropd.db, creating DIR (one level) and the file when they are missing, and brings
 * an older file to the present schema. Refuses, and changes nothing, when another daemon has the
 * folder, when the file is from a newer backpropd, another program's, or no database. NULL: `e`. */
struct store *store_open(const char *dir, struct error *e);

/* Writes the metrics rows that wait, and closes. -1 when they could not be written; closed anyway.
 * `*s` may be NULL. No other call may be running. */
int store_close(struct store **s, struct error *e);

/* The last failure of the background work (metrics rows, removal of what was deleted): -1 until
 * that work, which is tried again every second, succeeds. */
int store_health(struct store *s, struct error *e);

/* After a commit that failed nobody knows whether it will be there after a kill: the file may hold
 * it whole. This brings the file to the state that callers were told of. Cheap when there is
 * nothing to do, else the disk is waited for; -1: it still cannot be done. Every call that writes
 * does the same first; who acknowledges a change that is kept elsewhere must call it. */
int store_resolve(struct store *s, struct error *e);

/* Returns when all metrics rows are written and the space of what was deleted has been given back.
 */
int store_settle(struct store *s, struct error *e);

/* Bytes of the database file's pages, and of those that are free. */
int store_size(struct store *s, int64_t *bytes_r, int64_t *free_r, struct error *e);

/* ---- reading only: store_copy.c -------------------------------------------------------------- */

/* The store of a folder that a daemon may have open: for the functions below, for store_model_list,
 * store_version_info, _list and _load. Nothing is written, an older schema is refused. */
struct store *store_open_reader(const char *dir, struct error *e);
void store_close_reader(struct store **s);
/* SQLite's own check of the file. STORAGE: the first damage. */
int store_check(struct store *s, struct error *e);
/* Writes the database as it is now to a new file. */
int store_copy(struct store *s, const char *path, struct error *e);

/* ---- models ---------------------------------------------------------------------------------- */

struct store_model {
    int64_t id;
    const char *name;        /* 1 to 128 bytes */
    const char *description; /* JSON, expanded */
    int64_t created_ms;      /* Unix time */
    uint64_t step, revision, draw;
    bool pending;    /* gradients are pending */
    const char *who; /* name of the key that created it; NULL when inserting: "" */
};

/* A request with a key that made or deleted a model, kept by the store itself: a retry may come
 * when the model is gone. The newest 1000 stay. */
struct store_deed {
    const char *key;
    uint64_t request; /* hash of the request */
    int status;       /* of its answer */
    int64_t model_id; /* set by those that keep it with what they do */
};
/* 1: *d_r is what was kept under this key, which it points to; 0: nothing was. */
int store_deed_find(struct store *s, const char *key, struct store_deed *d_r, struct error *e);
/* Keeps one that changed nothing. */
int store_deed_save(struct store *s, const struct store_deed *d, struct error *e);

/* Adds it; sets m->id and m->created_ms. MODEL_EXISTS. */
int store_model_insert(struct store *s, struct store_model *m, struct error *e);
/* The model, its versions and metrics are gone when this returns; their space follows. `deed`,
 * which may be NULL, is kept in the same transaction. */
int store_model_delete(struct store *s, int64_t model_id, const struct store_deed *deed,
                       struct error *e);

/* The same for the model of this name, if there is one. */
int store_model_forget(struct store *s, const char *name, struct error *e);

/* Calls f for each model in the order of their names; a result other than 0 ends it. */
/* Whether anything is kept of it but how it was created. Without a checkpoint it is then a damage,
 * else what is left of a creation that a kill cut short. */
int store_model_used(struct store *s, int64_t model_id, bool *used_r, struct error *e);

typedef int store_model_fn(void *arg, const struct store_model *m);
int store_model_list(struct store *s, store_model_fn *f, void *arg, struct error *e);

/* ---- answers that are kept: the functions are below -------------------------------------------
 */

#define STORE_CHANGE "{}"
enum { STORE_ANSWERS_KEPT = 1000 }; /* of a model */
/* What was answered to a request that carried a key. NaN: the answer has no such number. Of a
 * change that is no step (STORE_CHANGE) only the counters and `samples` are used, as its verb says.
 */
struct store_answer {
    const char *key;
    uint64_t request; /* hash of the request */
    uint64_t revision, step, draw;
    double loss, grad_norm, lr, accuracy;
    int64_t samples;
    const char *parts; /* JSON list of what losses reported; STORE_CHANGE */
};
/* ---- versions -------------------------------------------------------------------------------- */

enum { STORE_CHECKPOINT = 0, STORE_PART_NAME = 64 /* with the final NUL */ };

/* A part to save or to load. Belongs to the caller; must not change during the call. */
struct store_part {
    const char *name;
    void *data; /* read by save, written by load */
    size_t bytes;
};

struct store_part_info {
    const char *name;
    int64_t bytes;
    char sha256[DIGEST_HEX];
};

struct store_version {
    int64_t version; /* 1, 2, ...; STORE_CHECKPOINT */
    uint64_t step, revision, draw, optimizer_step;
    bool pending;            /* gradients are among the parts */
    const char *fingerprint; /* engine_fingerprint() of the engine that computed it */
    const char *description; /* JSON of the model at that time */
    const char *note;        /* a client's words; "" when none */
    const char *who;         /* name of the key that made it; NULL when saving: "" */
    /* Kept in the transaction that completes the version, which sets its counters to those above
     * and, but for a checkpoint, `samples` to the version's number. NULL: none. */
    struct store_answer *answer;
    const struct store_deed *deed; /* of a first checkpoint: kept with it; NULL: none */
    /* Set by the store: */
    char sha256[DIGEST_HEX]; /* store_state_sha256 of the parts */
    int64_t bytes;           /* of all parts */
    int64_t created_ms;
    const struct store_part_info *parts; /* store_version_info only; else NULL */
    int n_parts;
};

/* The hash of a whole state: SHA-256 over, for each part in the order given, its name with a final
 * NUL, its number of bytes (8 bytes, little-endian), and the 32 bytes of its own SHA-256. */
int store_state_sha256(const struct store_part *parts, int n, char sha256_r[DIGEST_HEX],
                       struct error *e);

/* Saves a state as the model's next version: sets v->version, sha256, bytes, created_ms.
 * The other calls go on meanwhile. UNKNOWN_MODEL; after a failure nothing is left to see. */
int store_version_save(struct store *s, int64_t model_id, struct store_version *v,
                       const struct store_part *parts, int n, struct error *e);

/* The same for the checkpoint; in one transaction it replaces the older one and writes the model's
 * counters. One call for a model at a time. */
int store_checkpoint_save(struct store *s, int64_t model_id, struct store_version *v,
                          const struct store_part *parts, int n, struct error *e);

/* Reads these parts, which may be some of the stored ones, into the caller's memory.
 * UNKNOWN_VERSION; STORAGE when a part is missing or has another size, or when its SHA-256 shows
 * that it is damaged: then what was read is not to be used. */
int store_version_load(struct store *s, int64_t model_id, int64_t version,
                       const struct store_part *parts, int n, struct error *e);

/* Fills v_r, whose strings and parts are made in `a`. UNKNOWN_VERSION. */
int store_version_info(struct store *s, int64_t model_id, int64_t version, struct arena *a,
                       struct store_version *v_r, struct error *e);

/* Calls f for each version (not the checkpoint) in the order of their numbers; a result other than
 * 0 ends it. */
typedef int store_version_fn(void *arg, const struct store_version *v);
int store_version_list(struct store *s, int64_t model_id, store_version_fn *f, void *arg,
                       struct error *e);

/* Gone when this returns; its space follows. UNKNOWN_VERSION; CONFLICT while an alias names it.
 * `answer`, which may be NULL, is kept in the same transaction. */
int store_version_delete(struct store *s, int64_t model_id, int64_t version,
                         const struct store_answer *answer, struct error *e);

/* ---- aliases --------------------------------------------------------------------------------- */

/* A row of the ledger, which is only ever added to. `action` is "set", "rollback" or "delete". */
struct store_alias_move {
    int64_t id;
    const char *alias, *action;
    int64_t from, to;      /* versions; 0: the alias was not there, or is not any more */
    const char *who, *why; /* a client's words; "" when none */
    int64_t moved_ms;
    /* Kept in the same transaction, which sets its step to `to`, draw to `from` and samples to
     * `id`. NULL: none. */
    struct store_answer *answer;
};

/* These move an alias and write the ledger in one transaction, which has reached the disk when they
 * return. The caller sets alias, who and why of `mv`, and for set `to`; the rest is set here (its
 * id is 0 when nothing had to be moved).
 *   set       points it to a version, which must exist, and makes it if it is new. UNKNOWN_VERSION.
 *   rollback  takes back its last set that was not taken back. UNKNOWN_ALIAS; CONFLICT when there
 *             is none, or the version from before is gone.
 *   delete    UNKNOWN_ALIAS. */
int store_alias_set(struct store *s, int64_t model_id, struct store_alias_move *mv,
                    struct error *e);
int store_alias_rollback(struct store *s, int64_t model_id, struct store_alias_move *mv,
                         struct error *e);
int store_alias_delete(struct store *s, int64_t model_id, struct store_alias_move *mv,
                       struct error *e);

struct store_alias {
    const char *name;
    int64_t version, moved_ms;
};
/* `name` of *a_r is the one that is given. UNKNOWN_ALIAS. */
int store_alias_find(struct store *s, int64_t model_id, const char *name, struct store_alias *a_r,
                     struct error *e);
/* Calls f for each alias of the model, by name; a result other than 0 ends it. */
typedef int store_alias_fn(void *arg, const struct store_alias *a);
int store_alias_list(struct store *s, int64_t model_id, store_alias_fn *f, void *arg,
                     struct error *e);
/* Calls f for the last `limit` rows of the ledger, the newest first, of one alias or (NULL) of all.
 */
typedef int store_alias_move_fn(void *arg, const struct store_alias_move *mv);
int store_alias_moves(struct store *s, int64_t model_id, const char *name, int limit,
                      store_alias_move_fn *f, void *arg, struct error *e);

/* ---- answers --------------------------------------------------------------------------------- */

/* Adds or replaces them, in their order; of the model's answers the newest STORE_ANSWERS_KEPT stay,
 * and the newest with a seq. They survive the process when this returns. */
int store_answers_save(struct store *s, int64_t model_id, const struct store_answer *rows, int n,
                       struct error *e);
/* Deletes answers to steps above this revision, which were lost. */
int store_answers_forget(struct store *s, int64_t model_id, uint64_t revision, struct error *e);
/* Calls f for each, the oldest first; a result other than 0 ends it with -1. */
typedef int store_answer_fn(void *arg, const struct store_answer *a);
int store_answers_load(struct store *s, int64_t model_id, store_answer_fn *f, void *arg,
                       struct error *e);

/* ---- metrics --------------------------------------------------------------------------------- */

enum {
    STORE_SERIES_NAME = 64,       /* bytes, with the final NUL */
    STORE_MAX_POINTS = 100000,    /* of a series in one query */
    STORE_METRICS_WAITING = 65536 /* rows in memory, at most */
};

struct store_metric {
    int64_t model_id;   /* not set in answers to queries */
    const char *series; /* 1 to 63 bytes, no control characters */
    uint64_t revision, step;
    double value;    /* stored as null when not finite, read back as NaN */
    int64_t time_ms; /* Unix time */
    int64_t late;    /* appended: not 0 when its revision may have been passed (an evaluation's);
                        read: its number among the late rows of the model, 0 when it is none */
};

/* Takes the rows into memory, all or none; they are written soon. A second row of the same series
 * and revision replaces the first; rows of models that are gone are dropped. Waits while
 * STORE_METRICS_WAITING rows wait. BAD_NAME; STORAGE when they wait because writing fails. */
int store_metrics_append(struct store *s, const struct store_metric *rows, int n, struct error *e);

/* How often rows were appended since the store was opened: a number that changes says that there
 * may be new ones to query. */
uint64_t store_metrics_appended(struct store *s);

/* Writes what waits, now. */
int store_metrics_flush(struct store *s, struct error *e);

struct store_metrics_query {
    int64_t model_id;
    const char *const *names; /* series; a name that does not exist gives no rows */
    int n_names;              /* 0: all series */
    uint64_t since;           /* revisions above this one; */
    uint64_t until;           /* up to and with this one; UINT64_MAX: to the end */
    int max_points;           /* of each series, 1 to STORE_MAX_POINTS; 0: STORE_MAX_POINTS */
};

/* Calls f for each row in the order of revisions, then of names. A series with more rows than
 * max_points is sampled: its first row, and the last one of each of max_points - 1 equal ranges of
 * revisions, so the last row is always there. max_points 1 gives the last. A result other than 0
 * ends it. */
typedef int store_metric_fn(void *arg, const struct store_metric *row);
int store_metrics_query(struct store *s, const struct store_metrics_query *q, store_metric_fn *f,
                        void *arg, struct error *e);

/* Calls f for the rows that came late (store_metric.late) after the number *late_io, up to and with
 * revision `until`, in the order in which they came, some thousands at most. *late_io becomes the
 * number of the last one that was looked at; of all that there are, for f NULL. */
int store_metrics_late(struct store *s, int64_t model_id, uint64_t until, int64_t *late_io,
                       store_metric_fn *f, void *arg, struct error *e);

struct store_series {
    const char *name;
    uint64_t first_revision, last_revision;
};
/* Calls f for each series of the model, by name. */
typedef int store_series_fn(void *arg, const struct store_series *series);
int store_metrics_names(struct store *s, int64_t model_id, store_series_fn *f, void *arg,
                        struct error *e);

/* The highest revision that a row of metrics or signals, an answer or a version has; 0: none. */
int store_last_revision(struct store *s, int64_t model_id, uint64_t *revision_r, struct error *e);

/* Removes the rows of metrics and signals above `revision`: at start, those of steps that were lost
 * with the process. */
int store_metrics_trim(struct store *s, int64_t model_id, uint64_t revision, struct error *e);

/* ---- signals --------------------------------------------------------------------------------- */

/* What one step said of each layer, in the order of the network. */
struct store_signals {
    int64_t model_id;
    uint64_t revision, step;
    int64_t time_ms; /* Unix time */
    const struct layer_signals *layers;
    int n;
    const struct store_histogram *histograms; /* of some parameters */
    int n_histograms;
};
struct store_histogram {
    const char *name;
    const char *weights, *gradients; /* JSON; gradients NULL: there are none */
};
enum { STORE_HISTOGRAM_STEPS = 8 }; /* the newest of a model keep theirs */
/* Writes them, replacing those of the same revision. They survive the process when this returns.
 * Of a model that is gone nothing is written. */
int store_signals_save(struct store *s, const struct store_signals *x, struct error *e);

struct store_signal {
    uint64_t revision, step;
    int64_t time_ms;
    int place;                  /* of the layer */
    struct layer_signals layer; /* its `layer` is NULL */
};
struct store_signals_query {
    int64_t model_id;
    uint64_t since, until; /* as in store_metrics_query */
    int max_points;        /* steps, at least 1 */
};
/* Calls f for each layer of each step, by revision, then by place. More steps than max_points are
 * sampled as metrics are. A result other than 0 ends it. */
typedef int store_signal_fn(void *arg, const struct store_signal *row);
int store_signals_query(struct store *s, const struct store_signals_query *q, store_signal_fn *f,
                        void *arg, struct error *e);
/* Calls f for each histogram of the newest step that has some, in the order of the network. */
typedef int store_histogram_fn(void *arg, uint64_t revision, uint64_t step,
                               const struct store_histogram *row);
int store_histograms_query(struct store *s, int64_t model_id, store_histogram_fn *f, void *arg,
                           struct error *e);

#endif
