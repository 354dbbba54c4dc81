/* store_query.c: reading metrics. Rows that still wait are written first, so a query sees all that
 * was appended before it.
 *
 * Sampling costs a few searches a point, however long the series is: a series with more rows than
 * points is cut into equal ranges of revisions, and the last row of each is found through the key.
 */
#include "store_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LATE_ROWS = 4096 }; /* in one query */

/* ?1 model, ?2 since, ?3 until, ?4 points, ?5 names, each between line feeds, or null. */
#define IN_RANGE(series)                                                                           \
    "model_id = ?1 AND series_id = " series " AND revision > ?2 AND revision <= ?3"

/* chosen: the series, the ends of each within the range, and whether it has too many rows.
 * cut:    1 ... points - 1.
 * picked: the revisions to show: all; or the first (the last, when there is one point only) and the
 *         last of each cut, the end of the last cut being the last row. */
/* clang-format off */
static const char sql_sampled[] =
    "WITH RECURSIVE"
    " chosen (id, name, first, last, many) AS MATERIALIZED ("
    "  SELECT id, name,"
    "   (SELECT min(revision) FROM metrics WHERE " IN_RANGE("series.id") "),"
    "   (SELECT max(revision) FROM metrics WHERE " IN_RANGE("series.id") "),"
    "   (SELECT count(*) > ?4 FROM (SELECT 1 FROM metrics WHERE " IN_RANGE("series.id")
    "     LIMIT ?4 + 1))"
    "  FROM series"
    "  WHERE model_id = ?1 AND (?5 IS NULL OR instr(?5, char(10) || name || char(10)))),"
    " cut (i) AS (SELECT 1 WHERE ?4 > 1 UNION ALL SELECT i + 1 FROM cut WHERE i < ?4 - 1),"
    " picked (id, name, revision) AS ("
    "  SELECT id, name, revision FROM chosen CROSS JOIN metrics"
    "   WHERE NOT many AND " IN_RANGE("chosen.id")
    "  UNION ALL"
    "  SELECT id, name, iif(?4 > 1, first, last) FROM chosen WHERE many"
    "  UNION ALL"
    "  SELECT id, name, (SELECT max(revision) FROM metrics"
    "    WHERE model_id = ?1 AND series_id = chosen.id"
    "    AND revision > first + (last - first) * (i - 1) / (?4 - 1)"
    "    AND revision <= first + (last - first) * i / (?4 - 1))"
    "   FROM chosen CROSS JOIN cut WHERE many)"
    " SELECT name, metrics.revision, step, value, time_ms,"
    "  (SELECT number FROM late_metrics WHERE model_id = ?1 AND series_id = picked.id"
    "    AND revision = picked.revision)"
    " FROM picked CROSS JOIN metrics ON metrics.model_id = ?1"
    "  AND metrics.series_id = picked.id AND metrics.revision = picked.revision"
    " ORDER BY metrics.revision, name";

static const char sql_late[] =
    "SELECT name, metrics.revision, step, value, time_ms, number"
    " FROM late_metrics CROSS JOIN metrics USING (model_id, series_id, revision)"
    " CROSS JOIN series ON series.id = series_id"
    " WHERE late_metrics.model_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
/* clang-format on */

/* "\nloss\naccuracy\n"; *text_r is NULL for all series. To be freed. */
static int names_join(const struct store_metrics_query *q, char **text_r, struct error *e)
{
    size_t bytes = 2;
    *text_r = NULL;
    if (!q->n_names)
        return 0;
    for (int i = 0; i < q->n_names; i++)
        bytes += strlen(q->names[i]) + 1;
    char *at = *text_r = malloc(bytes);
    if (!at)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the names of series");
    *at++ = '\n';
    for (int i = 0; i < q->n_names; i++)
        at += sprintf(at, "%s\n", q->names[i]);
    return 0;
}

static struct store_metric row_metric(sqlite3_stmt *row)
{
    return (struct store_metric){
        .series = (const char *)sqlite3_column_text(row, 0),
        .revision = (uint64_t)sqlite3_column_int64(row, 1),
        .step = (uint64_t)sqlite3_column_int64(row, 2),
        .value = sqlite3_column_type(row, 3) == SQLITE_NULL ? NAN : sqlite3_column_double(row, 3),
        .time_ms = sqlite3_column_int64(row, 4),
        .late = sqlite3_column_int64(row, 5),
    };
}

static int rows_query(struct store *s, const struct store_metrics_query *q, const char *names,
                      store_metric_fn *f, void *arg, struct error *e)
{
    struct db *db = &s->reader;
    int64_t since = q->since > INT64_MAX ? INT64_MAX : (int64_t)q->since;
    int64_t until = q->until > INT64_MAX ? INT64_MAX : (int64_t)q->until;
    int64_t points =
        q->max_points > 0 && q->max_points < STORE_MAX_POINTS ? q->max_points : STORE_MAX_POINTS;
    db_lock(db, "reading metrics");
    sqlite3_stmt *row =
        db_query(db, e, sql_sampled, "iiiit", q->model_id, since, until, points, names);
    int more = row ? db_next(db, row, e) : -1;
    while (more > 0) {
        struct store_metric m = row_metric(row);
        if (f(arg, &m)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(db, row, e);
    }
    db_unlock(db);
    return more < 0 ? -1 : 0;
}

int store_metrics_query(struct store *s, const struct store_metrics_query *q, store_metric_fn *f,
                        void *arg, struct error *e)
{
    char *names;
    if (store_metrics_flush(s, e) || names_join(q, &names, e))
        return -1;
    int result = rows_query(s, q, names, f, arg, e);
    free(names);
    return result;
}

static int late_query(struct store *s, int64_t model_id, uint64_t until, int64_t *late_io,
                      store_metric_fn *f, void *arg, struct error *e)
{
    struct db *db = &s->reader;
    sqlite3_stmt *row = db_query(db, e, sql_late, "iii", model_id, *late_io, (int64_t)LATE_ROWS);
    int more = row ? db_next(db, row, e) : -1;
    for (; more > 0; more = db_next(db, row, e)) {
        struct store_metric m = row_metric(row);
        *late_io = m.late;
        if (m.revision <= until)
            f(arg, &m);
    }
    return more;
}

int store_metrics_late(struct store *s, int64_t model_id, uint64_t until, int64_t *late_io,
                       store_metric_fn *f, void *arg, struct error *e)
{
    if (store_metrics_flush(s, e))
        return -1;
    db_lock(&s->reader, "reading late metrics");
    int result = f ? late_query(s, model_id, until, late_io, f, arg, e)
                   : db_integer(&s->reader, e, late_io,
                                "SELECT coalesce(max(number), 0) FROM late_metrics"
                                " WHERE model_id = ?1",
                                "i", model_id);
    db_unlock(&s->reader);
    return result < 0 ? -1 : 0;
}

int store_metrics_names(struct store *s, int64_t model_id, store_series_fn *f, void *arg,
                        struct error *e)
{
    struct db *db = &s->reader;
    if (store_metrics_flush(s, e))
        return -1;
    db_lock(db, "reading the names of metrics");
    sqlite3_stmt *row = db_query(
        db, e,
        "SELECT name,"
        " (SELECT min(revision) FROM metrics WHERE model_id = ?1 AND series_id = series.id) AS "
        "first,"
        " (SELECT max(revision) FROM metrics WHERE model_id = ?1 AND series_id = series.id)"
        " FROM series WHERE model_id = ?1 AND first IS NOT NULL ORDER BY name",
        "i", model_id);
    int more = row ? db_next(db, row, e) : -1;
    while (more > 0) {
        struct store_series series = {(const char *)sqlite3_column_text(row, 0),
                                      (uint64_t)sqlite3_column_int64(row, 1),
                                      (uint64_t)sqlite3_column_int64(row, 2)};
        if (f(arg, &series)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(db, row, e);
    }
    db_unlock(db);
    return more < 0 ? -1 : 0;
}

int store_last_revision(struct store *s, int64_t model_id, uint64_t *revision_r, struct error *e)
{
    int64_t revision = 0;
    if (store_metrics_flush(s, e))
        return -1;
    db_lock(&s->reader, "reading metrics");
    int found = db_integer(&s->reader, e, &revision,
                           "SELECT max(revision) FROM ("
                           " SELECT (SELECT max(revision) FROM metrics"
                           "  WHERE model_id = ?1 AND series_id = series.id) AS revision"
                           "  FROM series WHERE model_id = ?1"
                           " UNION ALL SELECT max(revision) FROM signal_steps WHERE model_id = ?1"
                           " UNION ALL SELECT max(revision) FROM answers WHERE model_id = ?1"
                           " UNION ALL SELECT max(revision) FROM versions"
                           "  WHERE model_id = ?1 AND state = 'complete')",
                           "i", model_id);
    db_unlock(&s->reader);
    *revision_r = (uint64_t)revision;
    return found < 0 ? -1 : 0;
}
