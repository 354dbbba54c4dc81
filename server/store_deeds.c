/* store_deeds.c: requests with a key that made or deleted a model. See store.h. */
#include "store_private.h"

enum { DEEDS_KEPT = 1000 };

int store_deed_put(struct store *s, int64_t model_id, const struct store_deed *d, struct error *e)
{
    if (!d)
        return 0;
    if (db_run(&s->db, e, "INSERT INTO deeds (key, request, status, model_id) VALUES (?, ?, ?, ?)",
               "tiii", d->key, (int64_t)d->request, (int64_t)d->status, model_id))
        return -1;
    return db_run(&s->db, e,
                  "DELETE FROM deeds WHERE number <= (SELECT max(number) FROM deeds) - ?", "i",
                  (int64_t)DEEDS_KEPT);
}

int store_deed_save(struct store *s, const struct store_deed *d, struct error *e)
{
    db_lock(&s->db, "storing an answer");
    int result = db_begin(&s->db, false, e);
    if (!result)
        result = db_end(&s->db, store_deed_put(s, d->model_id, d, e), e);
    db_unlock(&s->db);
    return result;
}

int store_deed_find(struct store *s, const char *key, struct store_deed *d_r, struct error *e)
{
    db_lock(&s->reader, "looking for an answer");
    sqlite3_stmt *row = db_query(
        &s->reader, e, "SELECT request, status, model_id FROM deeds WHERE key = ?", "t", key);
    int found = row ? db_next(&s->reader, row, e) : -1;
    if (found > 0) {
        *d_r = (struct store_deed){.key = key,
                                   .request = (uint64_t)sqlite3_column_int64(row, 0),
                                   .status = sqlite3_column_int(row, 1),
                                   .model_id = sqlite3_column_int64(row, 2)};
        sqlite3_reset(row);
    }
    db_unlock(&s->reader);
    return found;
}
