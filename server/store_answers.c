/* store_answers.c: the remembered answers of keyed requests. See store.h. */
#include "store_private.h"

#include <math.h>

int store_answer_put(struct store *s, int64_t model_id, const struct store_answer *a,
                     struct error *e)
{
    if (!a)
        return 0;
    return db_run(
        &s->db, e,
        "INSERT OR REPLACE INTO answers (model_id, key, request, revision, step, draw, loss,"
        " grad_norm, lr, accuracy, samples, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "itiuuuddddit", model_id, a->key, (int64_t)a->request, a->revision, a->step, a->draw,
        a->loss, a->grad_norm, a->lr, a->accuracy, a->samples, a->parts);
}

/* Of each model the newest `keep` stay. */
static int save_rows(struct store *s, int64_t model_id, const struct store_answer *rows, int n,
                     int keep, struct error *e)
{
    for (int i = 0; i < n; i++)
        if (store_answer_put(s, model_id, &rows[i], e))
            return -1;
    return db_run(&s->db, e,
                  "DELETE FROM answers WHERE model_id = ?1 AND revision <="
                  " (SELECT revision FROM answers WHERE model_id = ?1"
                  "  ORDER BY revision DESC LIMIT 1 OFFSET ?2)",
                  "ii", model_id, (int64_t)keep);
}

int store_answers_save(struct store *s, int64_t model_id, const struct store_answer *rows, int n,
                       int keep, struct error *e)
{
    if (!n)
        return 0;
    db_lock(&s->db, "storing answers");
    int result = db_begin(&s->db, false, e);
    if (!result)
        result = db_end(&s->db, save_rows(s, model_id, rows, n, keep, e), e);
    db_unlock(&s->db);
    return result;
}

static double real_or_nan(sqlite3_stmt *row, int column)
{
    return sqlite3_column_type(row, column) == SQLITE_NULL ? NAN
                                                           : sqlite3_column_double(row, column);
}

static struct store_answer row_answer(sqlite3_stmt *row)
{
    return (struct store_answer){
        .key = (const char *)sqlite3_column_text(row, 0),
        .request = (uint64_t)sqlite3_column_int64(row, 1),
        .revision = (uint64_t)sqlite3_column_int64(row, 2),
        .step = (uint64_t)sqlite3_column_int64(row, 3),
        .draw = (uint64_t)sqlite3_column_int64(row, 4),
        .loss = real_or_nan(row, 5),
        .grad_norm = real_or_nan(row, 6),
        .lr = real_or_nan(row, 7),
        .accuracy = real_or_nan(row, 8),
        .samples = sqlite3_column_int64(row, 9),
        .parts = (const char *)sqlite3_column_text(row, 10),
    };
}

int store_answers_load(struct store *s, int64_t model_id, store_answer_fn *f, void *arg,
                       struct error *e)
{
    db_lock(&s->reader, "loading answers");
    sqlite3_stmt *row = db_query(&s->reader, e,
                                 "SELECT key, request, revision, step, draw, loss, grad_norm, lr,"
                                 " accuracy, samples, parts FROM answers WHERE model_id = ?"
                                 " ORDER BY revision",
                                 "i", model_id);
    int more = row ? db_next(&s->reader, row, e) : -1;
    while (more > 0) {
        struct store_answer a = row_answer(row);
        if (f(arg, &a)) {
            sqlite3_reset(row);
            more = -1;
            break;
        }
        more = db_next(&s->reader, row, e);
    }
    db_unlock(&s->reader);
    return more < 0 ? -1 : 0;
}
