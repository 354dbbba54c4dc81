/* store_aliases.c: names for versions, and the ledger of their moves. See store.h. */
#include "store_private.h"

#include <string.h>

static int refuse_unknown(const char *name, struct error *e)
{
    return error_set(e, ERROR_UNKNOWN_ALIAS, "the model has no alias '%.128s'", name);
}

/* 1: found; 0: not there; -1. */
static int alias_read(struct db *db, int64_t model_id, const char *name, struct store_alias *a_r,
                      struct error *e)
{
    sqlite3_stmt *row =
        db_query(db, e, "SELECT version, moved_at FROM aliases WHERE model_id = ? AND name = ?",
                 "it", model_id, name);
    int found = row ? db_next(db, row, e) : -1;
    if (found > 0) {
        *a_r =
            (struct store_alias){name, sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1)};
        sqlite3_reset(row);
    }
    return found;
}

/* ---- moving ---------------------------------------------------------------------------------- */

/* Where the alias is now; 0 when it is not there. */
static int read_from(struct store *s, int64_t model_id, struct store_alias_move *mv,
                     struct error *e)
{
    struct store_alias now = {.version = 0};
    int found = alias_read(&s->db, model_id, mv->alias, &now, e);
    mv->from = now.version;
    mv->moved_ms = store_now_ms();
    mv->id = 0;
    return found;
}

/* 1, 0, -1. */
static int version_exists(struct store *s, int64_t model_id, int64_t version, struct error *e)
{
    int64_t id;
    return db_integer(&s->db, e, &id,
                      "SELECT id FROM versions WHERE model_id = ? AND version = ?"
                      " AND kind = 'version' AND state = 'complete'",
                      "ii", model_id, version);
}

static int ledger_add(struct store *s, int64_t model_id, struct store_alias_move *mv,
                      int64_t undoes, struct error *e)
{
    if (db_run(&s->db, e,
               "INSERT INTO alias_moves (model_id, name, action, from_version, to_version, undoes,"
               " who, why, moved_at) VALUES (?, ?, ?, nullif(?, 0), nullif(?, 0), nullif(?, 0),"
               " ?, ?, ?)",
               "ittiiitti", model_id, mv->alias, mv->action, mv->from, mv->to, undoes, mv->who,
               mv->why, mv->moved_ms))
        return -1;
    mv->id = sqlite3_last_insert_rowid(s->db.handle);
    return 0;
}

static int point(struct store *s, int64_t model_id, struct store_alias_move *mv, int64_t undoes,
                 struct error *e)
{
    if (db_run(&s->db, e,
               "INSERT OR REPLACE INTO aliases (model_id, name, version, moved_at)"
               " VALUES (?, ?, ?, ?)",
               "itii", model_id, mv->alias, mv->to, mv->moved_ms))
        return -1;
    return ledger_add(s, model_id, mv, undoes, e);
}

static int set(struct store *s, int64_t model_id, struct store_alias_move *mv, struct error *e)
{
    mv->action = "set";
    if (read_from(s, model_id, mv, e) < 0)
        return -1;
    int exists = version_exists(s, model_id, mv->to, e);
    if (!exists)
        return error_set(e, ERROR_UNKNOWN_VERSION, "the model has no version %lld",
                         (long long)mv->to);
    if (exists < 0 || mv->from == mv->to)
        return exists < 0 ? -1 : 0;
    return point(s, model_id, mv, 0, e);
}

/* The last set since the alias was made that no rollback took back. 1, 0, -1. */
static int last_set(struct store *s, int64_t model_id, const char *name, int64_t *id_r,
                    int64_t *from_r, struct error *e)
{
    sqlite3_stmt *row =
        db_query(&s->db, e,
                 "SELECT id, coalesce(from_version, 0) FROM alias_moves"
                 " WHERE model_id = ?1 AND name = ?2 AND action = 'set'"
                 " AND id > (SELECT coalesce(max(id), 0) FROM alias_moves"
                 "           WHERE model_id = ?1 AND name = ?2 AND action = 'delete')"
                 " AND id NOT IN (SELECT undoes FROM alias_moves WHERE model_id = ?1"
                 "                AND name = ?2 AND undoes IS NOT NULL)"
                 " ORDER BY id DESC LIMIT 1",
                 "it", model_id, name);
    int found = row ? db_next(&s->db, row, e) : -1;
    if (found > 0) {
        *id_r = sqlite3_column_int64(row, 0);
        *from_r = sqlite3_column_int64(row, 1);
        sqlite3_reset(row);
    }
    return found;
}

static int rollback(struct store *s, int64_t model_id, struct store_alias_move *mv, struct error *e)
{
    int64_t undoes = 0;
    mv->action = "rollback";
    mv->to = 0;
    int found = read_from(s, model_id, mv, e);
    if (found <= 0)
        return found ? -1 : refuse_unknown(mv->alias, e);
    if (last_set(s, model_id, mv->alias, &undoes, &mv->to, e) < 0)
        return -1;
    if (!mv->to)
        return error_set(e, ERROR_CONFLICT,
                         "the alias '%.128s' has no earlier version to go back to", mv->alias);
    int exists = version_exists(s, model_id, mv->to, e);
    if (!exists)
        return error_set(e, ERROR_CONFLICT,
                         "the alias '%.128s' was at version %lld before, which was deleted",
                         mv->alias, (long long)mv->to);
    return exists < 0 ? -1 : point(s, model_id, mv, undoes, e);
}

static int delete (struct store *s, int64_t model_id, struct store_alias_move *mv, struct error *e)
{
    mv->action = "delete";
    mv->to = 0;
    int found = read_from(s, model_id, mv, e);
    if (found <= 0)
        return found ? -1 : refuse_unknown(mv->alias, e);
    if (db_run(&s->db, e, "DELETE FROM aliases WHERE model_id = ? AND name = ?", "it", model_id,
               mv->alias))
        return -1;
    return ledger_add(s, model_id, mv, 0, e);
}

static int answer_keep(struct store *s, int64_t model_id, const struct store_alias_move *mv,
                       struct error *e)
{
    struct store_answer *a = mv->answer;
    if (!a)
        return 0;
    a->step = (uint64_t)mv->to;
    a->draw = (uint64_t)mv->from;
    a->samples = mv->id;
    return store_answer_put(s, model_id, a, e);
}

typedef int move_fn(struct store *s, int64_t model_id, struct store_alias_move *mv,
                    struct error *e);

static int move(struct store *s, int64_t model_id, struct store_alias_move *mv, move_fn *f,
                struct error *e)
{
    db_lock(&s->db, "moving an alias");
    int result = db_begin(&s->db, true, e);
    if (!result)
        result = db_end(&s->db, f(s, model_id, mv, e) || answer_keep(s, model_id, mv, e), e);
    db_unlock(&s->db);
    return result;
}

int store_alias_set(struct store *s, int64_t model_id, struct store_alias_move *mv, struct error *e)
{
    return move(s, model_id, mv, set, e);
}

int store_alias_rollback(struct store *s, int64_t model_id, struct store_alias_move *mv,
                         struct error *e)
{
    return move(s, model_id, mv, rollback, e);
}

int store_alias_delete(struct store *s, int64_t model_id, struct store_alias_move *mv,
                       struct error *e)
{
    return move(s, model_id, mv, delete, e);
}

/* ---- reading --------------------------------------------------------------------------------- */

int store_alias_find(struct store *s, int64_t model_id, const char *name, struct store_alias *a_r,
                     struct error *e)
{
    db_lock(&s->reader, "reading an alias");
    int found = alias_read(&s->reader, model_id, name, a_r, e);
    db_unlock(&s->reader);
    if (!found)
        return refuse_unknown(name, e);
    return found < 0 ? -1 : 0;
}

int store_alias_list(struct store *s, int64_t model_id, store_alias_fn *f, void *arg,
                     struct error *e)
{
    db_lock(&s->reader, "listing aliases");
    sqlite3_stmt *row =
        db_query(&s->reader, e,
                 "SELECT name, version, moved_at FROM aliases WHERE model_id = ? ORDER BY name",
                 "i", model_id);
    int more = row ? db_next(&s->reader, row, e) : -1;
    while (more > 0) {
        struct store_alias a = {(const char *)sqlite3_column_text(row, 0),
                                sqlite3_column_int64(row, 1), sqlite3_column_int64(row, 2)};
        if (f(arg, &a)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(&s->reader, row, e);
    }
    db_unlock(&s->reader);
    return more < 0 ? -1 : 0;
}

static struct store_alias_move row_move(sqlite3_stmt *row)
{
    return (struct store_alias_move){
        .id = sqlite3_column_int64(row, 0),
        .alias = (const char *)sqlite3_column_text(row, 1),
        .action = (const char *)sqlite3_column_text(row, 2),
        .from = sqlite3_column_int64(row, 3), /* null is read as 0 */
        .to = sqlite3_column_int64(row, 4),
        .who = (const char *)sqlite3_column_text(row, 5),
        .why = (const char *)sqlite3_column_text(row, 6),
        .moved_ms = sqlite3_column_int64(row, 7),
    };
}

int store_alias_moves(struct store *s, int64_t model_id, const char *name, int limit,
                      store_alias_move_fn *f, void *arg, struct error *e)
{
    db_lock(&s->reader, "reading the moves of aliases");
    sqlite3_stmt *row =
        db_query(&s->reader, e,
                 "SELECT id, name, action, from_version, to_version, who, why, moved_at"
                 " FROM alias_moves WHERE model_id = ?1 AND (?2 IS NULL OR name = ?2)"
                 " ORDER BY id DESC LIMIT ?3",
                 "iti", model_id, name, (int64_t)limit);
    int more = row ? db_next(&s->reader, row, e) : -1;
    while (more > 0) {
        struct store_alias_move mv = row_move(row);
        if (f(arg, &mv)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(&s->reader, row, e);
    }
    db_unlock(&s->reader);
    return more < 0 ? -1 : 0;
}
