/* store_db.c: one connection to SQLite: its lock, its statements, its errors. See store_db.h. */
#include "store_db.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ---------------------------------------------------------------------------------- */

/* Primary result codes that have a sentence of their own. */
static const struct {
    int code;
    const char *sentence;
} sentences[] = {
    {SQLITE_FULL, "the disk is full"},
    {SQLITE_CORRUPT, "the database file is damaged"},
    {SQLITE_NOTADB, "the database file is not an SQLite database"},
    {SQLITE_BUSY, "another process keeps the database locked"},
    {SQLITE_READONLY, "the database cannot be written"},
    {SQLITE_CANTOPEN, "the database file cannot be opened"},
    {SQLITE_IOERR, "reading or writing the database file failed"},
    {SQLITE_NOMEM, "out of memory"},
};

static const char *sentence_for(int code)
{
    for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++)
        if (sentences[i].code == code)
            return sentences[i].sentence;
    return "the database refused";
}

int db_fail(struct db *db, struct error *e)
{
    int code = db->handle ? sqlite3_errcode(db->handle) & 0xff : SQLITE_NOMEM;
    int os = db->handle ? sqlite3_system_errno(db->handle) : 0;
    /* An error of reading is called that too. */
    if (code == SQLITE_CORRUPT && os == EIO)
        code = SQLITE_IOERR;
    if (code == SQLITE_IOERR)
        __atomic_store_n(&db->unresolved, true, __ATOMIC_RELEASE);
    /* Quotas and limits on a file's size come as errors of reading and writing. */
    if (code == SQLITE_IOERR && (os == ENOSPC || os == EDQUOT || os == EFBIG))
        code = SQLITE_FULL;
    enum error_code kind = code == SQLITE_NOMEM ? ERROR_OUT_OF_MEMORY : ERROR_STORAGE;
    return error_set(e, kind, "%s failed: %s (SQLite: %s)", db->doing, sentence_for(code),
                     db->handle ? sqlite3_errmsg(db->handle) : "out of memory");
}

/* ---- the connection -------------------------------------------------------------------------- */

int db_open(struct db *db, const char *path, int flags, struct error *e)
{
    *db = (struct db){.doing = "opening the database"};
    pthread_mutex_init(&db->mutex, NULL);
    pthread_cond_init(&db->turn, NULL);
    /* NOMUTEX: the lock of the connection is enough. */
    int status = sqlite3_open_v2(path, &db->handle,
                                 flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (status != SQLITE_OK) {
        db_fail(db, e);
        db_close(db);
        return -1;
    }
    sqlite3_busy_timeout(db->handle, 5000); /* a person with the sqlite3 shell */
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return 0;
}

void db_close(struct db *db)
{
    for (int i = 0; i < db->n_statements; i++)
        sqlite3_finalize(db->statements[i].stmt);
    free(db->statements);
    sqlite3_close(db->handle);
    pthread_cond_destroy(&db->turn);
    pthread_mutex_destroy(&db->mutex);
    db->handle = NULL;
    db->statements = NULL;
    db->n_statements = 0;
}

void db_lock(struct db *db, const char *doing)
{
    pthread_mutex_lock(&db->mutex);
    uint64_t ticket = db->next++;
    while (db->serving != ticket)
        pthread_cond_wait(&db->turn, &db->mutex);
    pthread_mutex_unlock(&db->mutex);
    db->doing = doing;
}

void db_unlock(struct db *db)
{
    pthread_mutex_lock(&db->mutex);
    db->serving++;
    pthread_cond_broadcast(&db->turn);
    pthread_mutex_unlock(&db->mutex);
}

/* ---- statements ------------------------------------------------------------------------------ */

static sqlite3_stmt *db_prepare(struct db *db, const char *sql, struct error *e)
{
    for (int i = 0; i < db->n_statements; i++)
        if (db->statements[i].sql == sql)
            return db->statements[i].stmt;
    struct db_statement *more =
        realloc(db->statements, ((size_t)db->n_statements + 1) * sizeof *more);
    if (!more) {
        error_set(e, ERROR_OUT_OF_MEMORY, "%s failed: out of memory", db->doing);
        return NULL;
    }
    db->statements = more;
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL)) {
        db_fail(db, e);
        return NULL;
    }
    db->statements[db->n_statements++] = (struct db_statement){sql, stmt};
    return stmt;
}

static int bind_double(sqlite3_stmt *stmt, int i, double x)
{
    return isfinite(x) ? sqlite3_bind_double(stmt, i, x) : sqlite3_bind_null(stmt, i);
}

/* Binds one value for each letter of `types`. */
static int bind_values(sqlite3_stmt *stmt, const char *types, va_list *args)
{
    int status = SQLITE_OK;
    for (int i = 1; *types && status == SQLITE_OK; types++, i++) {
        if (*types == 'i' || *types == 'u') {
            status = sqlite3_bind_int64(stmt, i, va_arg(*args, int64_t));
        } else if (*types == 'd') {
            status = bind_double(stmt, i, va_arg(*args, double));
        } else if (*types == 't') {
            status = sqlite3_bind_text(stmt, i, va_arg(*args, const char *), -1, SQLITE_STATIC);
        } else {
            const void *data = va_arg(*args, const void *);
            size_t bytes = va_arg(*args, size_t);
            status = sqlite3_bind_blob64(stmt, i, data ? data : "", bytes, SQLITE_STATIC);
        }
    }
    return status;
}

static sqlite3_stmt *db_vquery(struct db *db, struct error *e, const char *sql, const char *types,
                               va_list *args)
{
    sqlite3_stmt *stmt = db_prepare(db, sql, e);
    if (!stmt)
        return NULL;
    if (bind_values(stmt, types, args) == SQLITE_OK)
        return stmt;
    db_fail(db, e);
    sqlite3_clear_bindings(stmt);
    return NULL;
}

sqlite3_stmt *db_query(struct db *db, struct error *e, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = db_vquery(db, e, sql, types, &args);
    va_end(args);
    return stmt;
}

/* A text gets its final NUL when it is first asked for, which may need memory; after that it is
 * there. */
static bool texts_ready(sqlite3_stmt *stmt)
{
    for (int i = 0; i < sqlite3_column_count(stmt); i++)
        if (sqlite3_column_type(stmt, i) == SQLITE_TEXT && !sqlite3_column_text(stmt, i))
            return false;
    return true;
}

int db_next(struct db *db, sqlite3_stmt *stmt, struct error *e)
{
    int status = sqlite3_step(stmt);
    if (status == SQLITE_ROW && texts_ready(stmt))
        return 1;
    if (status != SQLITE_DONE)
        db_fail(db, e); /* before the reset, which forgets some details */
    sqlite3_reset(stmt);
    return status == SQLITE_DONE ? 0 : -1;
}

int db_run(struct db *db, struct error *e, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = db_vquery(db, e, sql, types, &args);
    va_end(args);
    int more = stmt ? 1 : -1;
    while (more > 0)
        more = db_next(db, stmt, e);
    return more;
}

int db_integer(struct db *db, struct error *e, int64_t *value_r, const char *sql, const char *types,
               ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = db_vquery(db, e, sql, types, &args);
    va_end(args);
    int found = stmt ? db_next(db, stmt, e) : -1;
    if (found <= 0)
        return found;
    found = sqlite3_column_type(stmt, 0) != SQLITE_NULL;
    if (found)
        *value_r = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    return found;
}

int db_exec(struct db *db, const char *sql, struct error *e)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_fail(db, e);
}

/* ---- transactions ---------------------------------------------------------------------------- */

void db_move_log(struct db *db)
{
    int status = sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if ((status & 0xff) == SQLITE_IOERR)
        __atomic_store_n(&db->unresolved, true, __ATOMIC_RELEASE);
}

static int move_log_when_due(void *arg, sqlite3 *handle, const char *name, int frames)
{
    (void)handle, (void)name;
    if (frames >= DB_WAL_FRAMES)
        db_move_log(arg);
    return SQLITE_OK;
}

void db_move_log_when_due(struct db *db)
{
    sqlite3_wal_hook(db->handle, move_log_when_due, db);
}

static int db_synchronous(struct db *db, bool durable, struct error *e)
{
    if (durable == db->durable)
        return 0;
    if (db_exec(db, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", e))
        return -1;
    db->durable = durable;
    return 0;
}

/* Writes a page as it is, as the first frame of a new log: an old one that comes back after a loss
 * of power is then known to be old. */
static int same_page(struct db *db, struct error *e)
{
    char sql[64];
    int64_t version = 0;
    if (db_integer(db, e, &version, "PRAGMA user_version", "") < 0)
        return -1;
    snprintf(sql, sizeof sql, "PRAGMA user_version = %lld", (long long)version);
    return db_exec(db, sql, e);
}

int db_resolve(struct db *db, struct error *e)
{
    if (!__atomic_load_n(&db->unresolved, __ATOMIC_ACQUIRE))
        return 0;
    if (sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL))
        return db_fail(db, e);
    if (db_synchronous(db, true, e) || same_page(db, e))
        return -1;
    __atomic_store_n(&db->unresolved, false, __ATOMIC_RELEASE);
    return 0;
}

int db_begin(struct db *db, bool durable, struct error *e)
{
    /* What db_end had no memory to roll back. */
    if (!sqlite3_get_autocommit(db->handle) && db_run(db, e, "ROLLBACK", ""))
        return -1;
    if (db_resolve(db, e) || db_synchronous(db, durable, e))
        return -1;
    return db_run(db, e, "BEGIN IMMEDIATE", "");
}

int db_end(struct db *db, int result, struct error *e)
{
    if (!result && !db_run(db, e, "COMMIT", ""))
        return 0;
    if (!result)
        __atomic_store_n(&db->unresolved, true, __ATOMIC_RELEASE);
    /* SQLite may have rolled back by itself already. */
    if (!sqlite3_get_autocommit(db->handle))
        db_run(db, NULL, "ROLLBACK", "");
    return -1;
}
