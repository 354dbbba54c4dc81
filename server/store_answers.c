/* store_answers.c: the remembered answers of keyed requests. See store.h. */
#include "store_private.h"

#include <math.h>

/* Its number is above all that there are, also when it takes the place of one. */
static int row_put(struct store *s, int64_t model_id, const struct store_answer *a, struct error *e)
{
    return db_run(
        &s->db, e,
        "INSERT OR REPLACE INTO answers (model_id, key, request, revision, step, draw, loss,"
        " grad_norm, lr, accuracy, samples, parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "itiuuuddddit", model_id, a->key, (int64_t)a->request, a->revision, a->step, a->draw,
        a->loss, a->grad_norm, a->lr, a->accuracy, a->samples, a->parts);
}

/* Of each model the newest stay, and the newest with a seq: without it nobody could tell any more
 * which seq is the next one. */
static int rows_trim(struct store *s, int64_t model_id, struct error *e)
{
    return db_run(&s->db, e,
                  "DELETE FROM answers WHERE model_id = ?1 AND number <="
                  " (SELECT number FROM answers WHERE model_id = ?1"
                  "  ORDER BY number DESC LIMIT 1 OFFSET ?2)"
                  " AND number IS NOT"
                  " (SELECT max(number) FROM answers WHERE model_id = ?1 AND key GLOB 'seq *')",
                  "ii", model_id, (int64_t)STORE_ANSWERS_KEPT);
}

int store_answer_put(struct store *s, int64_t model_id, const struct store_answer *a,
                     struct error *e)
{
    return a ? row_put(s, model_id, a, e) || rows_trim(s, model_id, e) : 0;
}

static int save_rows(struct store *s, int64_t model_id, const struct store_answer *rows, int n,
                     struct error *e)
{
    for (int i = 0; i < n; i++)
        if (row_put(s, model_id, &rows[i], e))
            return -1;
    return rows_trim(s, model_id, e);
}

int store_answers_save(struct store *s, int64_t model_id, const struct store_answer *rows, int n,
                       struct error *e)
{
    if (!n)
        return 0;
    db_lock(&s->db, "storing answers");
    int result = db_begin(&s->db, false, e);
    if (!result)
        result = db_end(&s->db, save_rows(s, model_id, rows, n, e), e);
    db_unlock(&s->db);
    return result;
}

int store_answers_forget(struct store *s, int64_t model_id, uint64_t revision, struct error *e)
{
    db_lock(&s->db, "forgetting answers");
    int result =
        db_run(&s->db, e, "DELETE FROM answers WHERE model_id = ? AND revision > ? AND parts <> ?",
               "iut", model_id, revision, STORE_CHANGE);
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
                                 " ORDER BY number",
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
