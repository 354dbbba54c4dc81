/* store_db.h: one connection to SQLite, for the files of the store only.
 *
 * A connection is used between db_lock and db_unlock; the lock serves its waiters in the order in
 * which they came, so long work that gives it back after each small step lets the others in
 * between.
 *
 * Statements are prepared at their first use and kept. They are known by the address of their text:
 * pass a string constant. Values are bound by a type letter each: 'i' int64_t, 'u' uint64_t, 'd'
 * double (null when not finite), 't' text (NULL: null), 'b' const void * and size_t. Text and blobs
 * are not copied: they must live until the statement is done. */
#ifndef SERVER_STORE_DB_H
#define SERVER_STORE_DB_H

#include "error.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum { DB_WAL_FRAMES = 2048 /* the write-ahead log is moved into the file at this length */ };

struct db_statement {
    const char *sql;
    sqlite3_stmt *stmt;
};

struct db {
    sqlite3 *handle;
    const char *doing; /* begins the sentences of errors: "saving a version" */
    bool durable;      /* commits wait for the disk: PRAGMA synchronous is FULL, not NORMAL */
    bool unresolved;   /* atomic: a commit or an fsync has failed; see db_resolve */
    struct db_statement *statements;
    int n_statements;
    pthread_mutex_t mutex; /* of the lock's two counters */
    pthread_cond_t turn;
    uint64_t next, serving;
};

/* `flags` as for sqlite3_open_v2. After a failure the connection is closed. */
int db_open(struct db *db, const char *path, int flags, struct error *e);
void db_close(struct db *db);

/* For the connection that writes, with the lock: moves the write-ahead log into the file, as far as
 * readers let it; and after each commit that leaves it longer than DB_WAL_FRAMES, in place of
 * SQLite's own automatic checkpoint, which keeps to itself that an fsync has failed. */
void db_move_log(struct db *db);
void db_move_log_when_due(struct db *db);

/* `doing`, a constant, says in error sentences what failed. */
void db_lock(struct db *db, const char *doing);
void db_unlock(struct db *db);

/* ERROR_STORAGE with what was being done and what SQLite says now. Always -1. */
int db_fail(struct db *db, struct error *e);

/* A statement with its values bound, to be read with db_next. NULL: failed. */
sqlite3_stmt *db_query(struct db *db, struct error *e, const char *sql, const char *types, ...);
/* 1: a row, of whose columns none that holds a text gives NULL; 0: no more; -1: failed. After 0 and
 * -1 the statement is done; whoever stops before calls sqlite3_reset, or the read goes on holding
 * its snapshot. */
int db_next(struct db *db, sqlite3_stmt *stmt, struct error *e);
/* Runs to the end; rows are dropped. */
int db_run(struct db *db, struct error *e, const char *sql, const char *types, ...);
/* The first row's first column. 1; 0: no row or null, *value_r is as it was; -1: failed. */
int db_integer(struct db *db, struct error *e, int64_t *value_r, const char *sql, const char *types,
               ...);
/* Any number of statements, not kept: pragmas and migrations. */
int db_exec(struct db *db, const char *sql, struct error *e);

/* After a failed commit or fsync: its frames may lie whole in the write-ahead log, for a recovery
 * to find, and what was written there before may have been dropped by the kernel and called clean.
 * So the log is not trusted any more: its pages are moved into the file, the file is synced, and a
 * new log is begun. 0: there was nothing to do, or it is done. Called by db_begin; outside of
 * transactions, with the lock. */
int db_resolve(struct db *db, struct error *e);

/* A transaction that writes; durable: its commit waits until the disk has it. */
int db_begin(struct db *db, bool durable, struct error *e);
/* Commits when `result` is 0, else rolls back. 0 or -1. */
int db_end(struct db *db, int result, struct error *e);

#endif
