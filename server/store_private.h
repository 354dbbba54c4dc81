/* store_private.h: the store from the inside, for server/store*.c and its unit test. The public
 * face is store.h. */
#ifndef SERVER_STORE_PRIVATE_H
#define SERVER_STORE_PRIVATE_H

#include "store.h"
#include "store_db.h"

#include <pthread.h>

/* ---- the schema: store_schema.c -------------------------------------------------------------- */

enum { STORE_APPLICATION_ID = 0x62707064 /* "bppd" */ };

/* A file of schema/, which lies in the binary. Numbers are 1, 2, 3, ... without a gap. */
struct store_migration {
    int version;
    const char *name; /* "001_init.sql" */
    const char *sql;
};
extern const struct store_migration store_migrations[];
extern const int store_n_migrations;

/* What is in a database file: */
enum store_kind { STORE_NEW /* nothing */, STORE_OURS, STORE_FOREIGN };
/* *version_r is the number of the last migration that was applied. */
int store_schema_inspect(struct db *db, enum store_kind *kind_r, int *version_r, struct error *e);
/* Applies the migrations after `version`, each in one transaction. */
int store_schema_migrate(struct db *db, int version, const struct store_migration *table, int n,
                         struct error *e);

/* ---- the store ------------------------------------------------------------------------------- */

enum {
    STORE_CHUNK = 2 << 20,     /* bytes of a part in one row of blobs */
    STORE_METRICS_GROUP = 512, /* rows that are written without waiting for more */
    STORE_METRICS_DELAY_MS = 250,
    STORE_RETRY_MS = 1000, /* after background work failed */
};

struct metric_entry {
    int64_t model_id, revision, step, time_ms, late;
    double value;
    char series[STORE_SERIES_NAME];
};

struct metric_rows {
    struct metric_entry *v;
    int n, cap;
};

/* Locks are taken in the order db, reader, mutex; the thread holds none while it waits. */
struct store {
    struct db db;     /* the only connection that writes */
    struct db reader; /* loads and queries go on while a version is being written */
    int lock_fd;      /* DIR/lock, held with flock */

    /* Under db's lock. */
    struct metric_rows writing; /* taken from `filling`; not empty after a failure */
    int saves;                  /* versions being written */

    /* Under `mutex`. */
    pthread_mutex_t mutex;
    pthread_cond_t wake;        /* for the thread */
    pthread_cond_t changed;     /* for those who wait for the thread */
    struct metric_rows filling; /* rows not yet written */
    uint64_t appended;          /* calls that put rows there */
    int64_t filling_since_ms;   /* monotonic time of its first row */
    bool stop;
    bool sweep;           /* there may be something to remove */
    bool give_back;       /* and the file should shrink by it */
    bool busy;            /* the thread is at work */
    bool unwritten;       /* its last attempt to write metrics failed */
    int64_t retry_at_ms;  /* after a failure; 0: none */
    struct error failure; /* of the background work; code ERROR_NONE when it goes well */
    pthread_t thread;
};

int64_t store_now_ms(void);       /* Unix time */
int64_t store_monotonic_ms(void); /* for waiting */

/* store_metrics.c */
void store_metrics_free(struct store *s);

/* store_deeds.c: in a transaction that writes. `d` NULL: nothing to keep. */
int store_deed_put(struct store *s, int64_t model_id, const struct store_deed *d, struct error *e);

/* store_answers.c: in a transaction that writes. `a` NULL: nothing to keep. */
int store_answer_put(struct store *s, int64_t model_id, const struct store_answer *a,
                     struct error *e);

/* store_sweep.c: the store's one thread writes metrics rows when they are due and removes what was
 * deleted. */
int store_thread_start(struct store *s, struct error *e);
void store_thread_stop(struct store *s);
/* Something was dropped. give_back: the file should shrink by it, rather than keep the space for
 * what is written next. */
void store_sweep_wake(struct store *s, bool give_back);

#endif
