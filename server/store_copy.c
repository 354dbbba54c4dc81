/* store_copy.c: the store for commands that only read it: one connection, which cannot write, no
 * lock and no thread; what a check looks at beside the hashes of states, and a copy of the file. */
#include "store_private.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_ours(struct store *s, const char *path, struct error *e)
{
    enum store_kind kind;
    int version;
    if (store_schema_inspect(&s->reader, &kind, &version, e))
        return error_prefix(e, "'%s'", path);
    if (kind != STORE_OURS)
        return error_set(e, ERROR_STORAGE, "'%s' is no database of backpropd", path);
    if (version != store_n_migrations)
        return error_set(
            e, ERROR_STORAGE, "'%s' has schema version %d, this backpropd reads version %d%s", path,
            version, store_n_migrations,
            version < store_n_migrations ? "; start the daemon once to upgrade it" : "");
    return 0;
}

struct store *store_open_reader(const char *dir, struct error *e)
{
    char path[PATH_MAX];
    struct store *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the store");
        return NULL;
    }
    if (snprintf(path, sizeof path, "%s/backpropd.db", dir) >= (int)sizeof path)
        error_set(e, ERROR_STORAGE, "the name of the data folder is too long");
    else if (access(path, F_OK))
        error_set(e, ERROR_STORAGE, "'%s' is no data folder: it has no backpropd.db", dir);
    else if (!db_open(&s->reader, path, SQLITE_OPEN_READONLY, e)) {
        if (!check_ours(s, path, e))
            return s;
        db_close(&s->reader);
    }
    free(s);
    return NULL;
}

void store_close_reader(struct store **s)
{
    if (!*s)
        return;
    db_close(&(*s)->reader);
    free(*s);
    *s = NULL;
}

/* The first row that is not "ok". */
static int check_structure(struct db *db, struct error *e)
{
    sqlite3_stmt *row = db_query(db, e, "PRAGMA integrity_check(1)", "");
    int more = row ? db_next(db, row, e) : -1;
    if (more <= 0)
        return more;
    const char *text = (const char *)sqlite3_column_text(row, 0);
    int status = text && !strcmp(text, "ok")
                     ? 0
                     : error_set(e, ERROR_STORAGE, "the database is damaged: %.200s", text);
    sqlite3_reset(row);
    return status;
}

static int check_references(struct db *db, struct error *e)
{
    sqlite3_stmt *row = db_query(db, e, "PRAGMA foreign_key_check", "");
    int more = row ? db_next(db, row, e) : -1;
    if (more <= 0)
        return more;
    error_set(e, ERROR_STORAGE, "the database is damaged: a row of %.60s refers to nothing",
              (const char *)sqlite3_column_text(row, 0));
    sqlite3_reset(row);
    return -1;
}

int store_check(struct store *s, struct error *e)
{
    db_lock(&s->reader, "checking the database");
    int status = check_structure(&s->reader, e) || check_references(&s->reader, e) ? -1 : 0;
    db_unlock(&s->reader);
    return status;
}

/* In one step: SQLite copies what it was at that moment, and those who write do not wait. */
int store_copy(struct store *s, const char *path, struct error *e)
{
    struct db to;
    if (db_open(&to, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e))
        return error_prefix(e, "'%s'", path);
    to.doing = "copying the database";
    db_lock(&s->reader, "copying the database");
    sqlite3_backup *b = sqlite3_backup_init(to.handle, "main", s->reader.handle, "main");
    if (b)
        sqlite3_backup_step(b, -1);
    int status = b && sqlite3_backup_finish(b) == SQLITE_OK ? 0 : db_fail(&to, e);
    db_unlock(&s->reader);
    if (!status) /* one file, which can be read without making others beside it */
        status = db_exec(&to, "PRAGMA journal_mode = DELETE", e);
    db_close(&to);
    return status;
}
