/* store_models.c: the rows of models. A model that is deleted loses its name, so that nothing finds
 * it, and is removed in small steps by store_sweep.c. */
#include "store_private.h"

#include <string.h>

static int check_name_free(struct store *s, const char *name, struct error *e)
{
    int64_t id;
    int found = db_integer(&s->db, e, &id, "SELECT id FROM models WHERE name = ?", "t", name);
    if (found > 0)
        return error_set(e, ERROR_MODEL_EXISTS, "a model named '%s' exists", name);
    return found;
}

static int insert_row(struct store *s, struct store_model *m, struct error *e)
{
    if (check_name_free(s, m->name, e))
        return -1;
    m->created_ms = store_now_ms();
    if (db_run(&s->db, e,
               "INSERT INTO models (name, description, created_at, step, revision, draw, pending,"
               " who) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
               "ttiuuuit", m->name, m->description, m->created_ms, m->step, m->revision, m->draw,
               (int64_t)m->pending, m->who ? m->who : ""))
        return -1;
    m->id = sqlite3_last_insert_rowid(s->db.handle);
    return 0;
}

int store_model_insert(struct store *s, struct store_model *m, struct error *e)
{
    db_lock(&s->db, "storing a model");
    int result = db_begin(&s->db, true, e);
    if (!result)
        result = db_end(&s->db, insert_row(s, m, e), e);
    db_unlock(&s->db);
    return result;
}

/* After an update by id: whether it found the model. */
static int check_found(struct store *s, int64_t model_id, struct error *e)
{
    if (sqlite3_changes64(s->db.handle) > 0)
        return 0;
    return error_set(e, ERROR_UNKNOWN_MODEL, "the model with id %lld is gone", (long long)model_id);
}

/* In a transaction of its own that survives the loss of power. */
static int mark_deleted(struct store *s, int64_t model_id, const struct store_deed *deed,
                        struct error *e)
{
    if (db_begin(&s->db, true, e))
        return -1;
    int result =
        db_run(&s->db, e, "UPDATE models SET name = NULL WHERE id = ?1 AND name IS NOT NULL", "i",
               model_id);
    if (!result)
        result = check_found(s, model_id, e) || store_deed_put(s, model_id, deed, e) ? -1 : 0;
    return db_end(&s->db, result, e);
}

int store_model_delete(struct store *s, int64_t model_id, const struct store_deed *deed,
                       struct error *e)
{
    db_lock(&s->db, "deleting a model");
    int result = mark_deleted(s, model_id, deed, e);
    db_unlock(&s->db);
    if (!result)
        store_sweep_wake(s, true);
    return result;
}

int store_model_forget(struct store *s, const char *name, struct error *e)
{
    db_lock(&s->db, "deleting a model");
    int result = db_begin(&s->db, true, e);
    if (!result)
        result = db_end(
            &s->db, db_run(&s->db, e, "UPDATE models SET name = NULL WHERE name = ?1", "t", name),
            e);
    db_unlock(&s->db);
    if (!result)
        store_sweep_wake(s, true);
    return result;
}

static struct store_model row_model(sqlite3_stmt *row)
{
    return (struct store_model){
        .id = sqlite3_column_int64(row, 0),
        .name = (const char *)sqlite3_column_text(row, 1),
        .description = (const char *)sqlite3_column_text(row, 2),
        .created_ms = sqlite3_column_int64(row, 3),
        .step = (uint64_t)sqlite3_column_int64(row, 4),
        .revision = (uint64_t)sqlite3_column_int64(row, 5),
        .draw = (uint64_t)sqlite3_column_int64(row, 6),
        .pending = sqlite3_column_int(row, 7),
        .who = (const char *)sqlite3_column_text(row, 8),
    };
}

int store_model_used(struct store *s, int64_t model_id, bool *used_r, struct error *e)
{
    int64_t used = 0;
    db_lock(&s->reader, "looking for what a model has");
    int found = db_integer(&s->reader, e, &used,
                           "SELECT EXISTS (SELECT 1 FROM series WHERE model_id = ?1)"
                           " OR EXISTS (SELECT 1 FROM answers WHERE model_id = ?1)"
                           " OR EXISTS (SELECT 1 FROM versions"
                           "            WHERE model_id = ?1 AND state = 'complete')",
                           "i", model_id);
    db_unlock(&s->reader);
    *used_r = used;
    return found < 0 ? -1 : 0;
}

int store_model_list(struct store *s, store_model_fn *f, void *arg, struct error *e)
{
    db_lock(&s->reader, "listing models");
    sqlite3_stmt *row =
        db_query(&s->reader, e,
                 "SELECT id, name, description, created_at, step, revision, draw, pending, who"
                 " FROM models WHERE name IS NOT NULL ORDER BY name",
                 "");
    int more = row ? db_next(&s->reader, row, e) : -1;
    while (more > 0) {
        struct store_model m = row_model(row);
        if (f(arg, &m)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(&s->reader, row, e);
    }
    db_unlock(&s->reader);
    return more < 0 ? -1 : 0;
}
