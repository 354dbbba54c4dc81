/* store_signals.c: the signals of training steps: written at once, one transaction a step, and read
 * sampled as metrics are (store_query.c). See store.h. */
#include "store_private.h"

#include <math.h>

/* ---- writing --------------------------------------------------------------------------------- */

static int step_put(struct store *s, const struct store_signals *x, struct error *e)
{
    if (db_run(&s->db, e,
               "INSERT INTO signal_steps (model_id, revision, step, time_ms)"
               " SELECT id, ?2, ?3, ?4 FROM models WHERE id = ?1 AND name IS NOT NULL"
               " ON CONFLICT (model_id, revision) DO UPDATE"
               " SET step = excluded.step, time_ms = excluded.time_ms",
               "iuui", x->model_id, x->revision, x->step, x->time_ms))
        return -1;
    return sqlite3_changes64(s->db.handle) > 0;
}

static int layer_put(struct store *s, const struct store_signals *x, int place, struct error *e)
{
    const struct layer_signals *l = &x->layers[place];
    if (db_run(&s->db, e,
               "INSERT OR IGNORE INTO signal_layers (model_id, place, name) VALUES (?, ?, ?)",
               "iit", x->model_id, (int64_t)place, node_name(l->layer)))
        return -1;
    return db_run(&s->db, e,
                  "REPLACE INTO signals (model_id, revision, place, gradient_norm, weight_norm,"
                  " update_ratio, activation_mean, activation_std, dead_share, saturated_share,"
                  " unit_numbers) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  "iuidddddddi", x->model_id, x->revision, (int64_t)place, l->gradient_norm,
                  l->weight_norm, l->update_ratio, l->activation_mean, l->activation_std,
                  l->dead_share, l->saturated_share, l->unit_numbers);
}

static int histogram_put(struct store *s, const struct store_signals *x, int place, struct error *e)
{
    const struct store_histogram *h = &x->histograms[place];
    return db_run(&s->db, e,
                  "REPLACE INTO signal_histograms"
                  " (model_id, revision, place, name, weights, gradients)"
                  " VALUES (?, ?, ?, ?, ?, ?)",
                  "iuittt", x->model_id, x->revision, (int64_t)place, h->name, h->weights,
                  h->gradients);
}

static int histograms_trim(struct store *s, int64_t model_id, struct error *e)
{
    return db_run(&s->db, e,
                  "DELETE FROM signal_histograms WHERE model_id = ?1 AND revision <="
                  " (SELECT revision FROM signal_steps WHERE model_id = ?1"
                  "  ORDER BY revision DESC LIMIT 1 OFFSET ?2)",
                  "ii", model_id, (int64_t)STORE_HISTOGRAM_STEPS);
}

static int rows_put(struct store *s, const struct store_signals *x, struct error *e)
{
    int done = step_put(s, x, e);
    if (done <= 0)
        return done;
    for (int i = 0; i < x->n; i++)
        if (layer_put(s, x, i, e))
            return -1;
    for (int i = 0; i < x->n_histograms; i++)
        if (histogram_put(s, x, i, e))
            return -1;
    return histograms_trim(s, x->model_id, e);
}

int store_signals_save(struct store *s, const struct store_signals *x, struct error *e)
{
    db_lock(&s->db, "writing signals");
    int result = db_begin(&s->db, false, e);
    if (!result)
        result = db_end(&s->db, rows_put(s, x, e), e);
    db_unlock(&s->db);
    return result;
}

/* ---- reading --------------------------------------------------------------------------------- */

#define IN_RANGE "model_id = ?1 AND revision > ?2 AND revision <= ?3"

/* ?1 model, ?2 since, ?3 until, ?4 points. As in store_query.c: all steps; or the first (the last,
 * when there is one point only) and the last of each of points - 1 equal ranges of revisions. */
/* clang-format off */
static const char sql_sampled[] =
    "WITH RECURSIVE"
    " ends (first, last, many) AS MATERIALIZED (SELECT"
    "  (SELECT min(revision) FROM signal_steps WHERE " IN_RANGE "),"
    "  (SELECT max(revision) FROM signal_steps WHERE " IN_RANGE "),"
    "  (SELECT count(*) > ?4 FROM (SELECT 1 FROM signal_steps WHERE " IN_RANGE " LIMIT ?4 + 1))),"
    " cut (i) AS (SELECT 1 WHERE ?4 > 1 UNION ALL SELECT i + 1 FROM cut WHERE i < ?4 - 1),"
    " picked (revision) AS ("
    "  SELECT revision FROM ends CROSS JOIN signal_steps WHERE NOT many AND " IN_RANGE
    "  UNION ALL"
    "  SELECT iif(?4 > 1, first, last) FROM ends WHERE many"
    "  UNION ALL"
    "  SELECT (SELECT max(revision) FROM signal_steps WHERE model_id = ?1"
    "    AND revision > first + (last - first) * (i - 1) / (?4 - 1)"
    "    AND revision <= first + (last - first) * i / (?4 - 1))"
    "   FROM ends CROSS JOIN cut WHERE many)"
    " SELECT signal_steps.revision, step, time_ms, place, gradient_norm, weight_norm, update_ratio,"
    "  activation_mean, activation_std, dead_share, saturated_share, unit_numbers"
    " FROM picked CROSS JOIN signal_steps ON signal_steps.model_id = ?1"
    "  AND signal_steps.revision = picked.revision"
    " CROSS JOIN signals ON signals.model_id = ?1 AND signals.revision = picked.revision"
    " ORDER BY signal_steps.revision, place";
/* clang-format on */

static double real_or_nan(sqlite3_stmt *row, int column)
{
    return sqlite3_column_type(row, column) == SQLITE_NULL ? NAN
                                                           : sqlite3_column_double(row, column);
}

static struct store_signal row_signal(sqlite3_stmt *row)
{
    return (struct store_signal){
        .revision = (uint64_t)sqlite3_column_int64(row, 0),
        .step = (uint64_t)sqlite3_column_int64(row, 1),
        .time_ms = sqlite3_column_int64(row, 2),
        .place = sqlite3_column_int(row, 3),
        .layer = {.gradient_norm = real_or_nan(row, 4),
                  .weight_norm = real_or_nan(row, 5),
                  .update_ratio = real_or_nan(row, 6),
                  .activation_mean = real_or_nan(row, 7),
                  .activation_std = real_or_nan(row, 8),
                  .dead_share = real_or_nan(row, 9),
                  .saturated_share = real_or_nan(row, 10),
                  .unit_numbers = sqlite3_column_int64(row, 11)},
    };
}

int store_signals_query(struct store *s, const struct store_signals_query *q, store_signal_fn *f,
                        void *arg, struct error *e)
{
    struct db *db = &s->reader;
    int64_t since = q->since > INT64_MAX ? INT64_MAX : (int64_t)q->since;
    int64_t until = q->until > INT64_MAX ? INT64_MAX : (int64_t)q->until;
    db_lock(db, "reading signals");
    sqlite3_stmt *row = db_query(db, e, sql_sampled, "iiii", q->model_id, since, until,
                                 (int64_t)(q->max_points > 0 ? q->max_points : 1));
    int more = row ? db_next(db, row, e) : -1;
    while (more > 0) {
        struct store_signal x = row_signal(row);
        if (f(arg, &x)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(db, row, e);
    }
    db_unlock(db);
    return more < 0 ? -1 : 0;
}

int store_histograms_query(struct store *s, int64_t model_id, store_histogram_fn *f, void *arg,
                           struct error *e)
{
    struct db *db = &s->reader;
    db_lock(db, "reading histograms");
    sqlite3_stmt *row =
        db_query(db, e,
                 "SELECT name, weights, gradients, signal_steps.revision, step"
                 " FROM signal_steps CROSS JOIN signal_histograms USING (model_id, revision)"
                 " WHERE model_id = ?1 AND signal_steps.revision ="
                 "  (SELECT max(revision) FROM signal_histograms WHERE model_id = ?1)"
                 " ORDER BY place",
                 "i", model_id);
    int more = row ? db_next(db, row, e) : -1;
    while (more > 0) {
        struct store_histogram h = {(const char *)sqlite3_column_text(row, 0),
                                    (const char *)sqlite3_column_text(row, 1),
                                    (const char *)sqlite3_column_text(row, 2)};
        if (f(arg, (uint64_t)sqlite3_column_int64(row, 3), (uint64_t)sqlite3_column_int64(row, 4),
              &h)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(db, row, e);
    }
    db_unlock(db);
    return more < 0 ? -1 : 0;
}
