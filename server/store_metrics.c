/* store_metrics.c: taking metrics rows and writing them in groups.
 *
 * Rows go from `filling`, which any thread may append to, to `writing`, which belongs to whoever
 * holds the lock of the database. They leave `writing` only when their transaction has been
 * committed: a failure keeps them for the next attempt, in their order, so each is written once.
 * Both together are bounded; append waits when `filling` is full. */
#include "store_private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void store_metrics_free(struct store *s)
{
    free(s->filling.v);
    free(s->writing.v);
    s->filling = s->writing = (struct metric_rows){0};
}

/* ---- taking ---------------------------------------------------------------------------------- */

static int rows_reserve(struct metric_rows *rows, int n, struct error *e)
{
    int cap = rows->cap ? rows->cap : STORE_METRICS_GROUP;
    while (cap < n)
        cap *= 2; /* n is at most STORE_METRICS_WAITING */
    if (cap == rows->cap)
        return 0;
    struct metric_entry *v = realloc(rows->v, (size_t)cap * sizeof *v);
    if (!v)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %d rows of metrics", n);
    rows->v = v;
    rows->cap = cap;
    return 0;
}

static int check_series(const char *name, struct error *e)
{
    size_t n = strlen(name);
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < ' ')
            n = 0;
    if (n >= 1 && n < STORE_SERIES_NAME)
        return 0;
    return error_set(e, ERROR_BAD_NAME,
                     "the series name '%.64s' must have 1 to %d bytes and no control characters",
                     name, STORE_SERIES_NAME - 1);
}

/* Waits until n rows fit. With the mutex held. */
static int room_wait(struct store *s, int n, struct error *e)
{
    if (n > STORE_METRICS_WAITING)
        return error_set(e, ERROR_TOO_LARGE, "%d rows of metrics at once; at most %d", n,
                         STORE_METRICS_WAITING);
    while (s->filling.n > STORE_METRICS_WAITING - n) {
        if (s->failure.code != ERROR_NONE) {
            return error_set(e, ERROR_STORAGE, "%d rows of metrics wait to be written; %.400s",
                             s->filling.n, s->failure.text);
        }
        pthread_cond_signal(&s->wake);
        pthread_cond_wait(&s->changed, &s->mutex);
    }
    return rows_reserve(&s->filling, s->filling.n + n, e);
}

static void row_take(struct store *s, const struct store_metric *m)
{
    struct metric_entry *x = &s->filling.v[s->filling.n++];
    *x = (struct metric_entry){
        m->model_id, (int64_t)m->revision, (int64_t)m->step, m->time_ms, m->late, m->value, ""};
    memcpy(x->series, m->series, strlen(m->series)); /* checked before */
}

int store_metrics_append(struct store *s, const struct store_metric *rows, int n, struct error *e)
{
    for (int i = 0; i < n; i++)
        if (check_series(rows[i].series, e))
            return -1;
    pthread_mutex_lock(&s->mutex);
    int result = room_wait(s, n, e);
    if (!result && n) {
        int before = s->filling.n;
        s->appended++;
        for (int i = 0; i < n; i++)
            row_take(s, &rows[i]);
        if (!before)
            s->filling_since_ms = store_monotonic_ms();
        /* The thread has to learn of the first row and of a full group, not of each row. */
        if (!before || (before < STORE_METRICS_GROUP && s->filling.n >= STORE_METRICS_GROUP))
            pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->mutex);
    return result;
}

uint64_t store_metrics_appended(struct store *s)
{
    pthread_mutex_lock(&s->mutex);
    uint64_t n = s->appended;
    pthread_mutex_unlock(&s->mutex);
    return n;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* 1: written; 0: the model has no such series; -1. */
static int row_put(struct store *s, const struct metric_entry *x, struct error *e)
{
    if (db_run(&s->db, e,
               "INSERT INTO metrics (model_id, series_id, revision, step, value, time_ms)"
               " SELECT series.model_id, series.id, ?3, ?4, ?5, ?6"
               " FROM series JOIN models ON models.id = series.model_id"
               " WHERE series.model_id = ?1 AND series.name = ?2 AND models.name IS NOT NULL"
               " ON CONFLICT (model_id, series_id, revision) DO UPDATE"
               " SET step = excluded.step, value = excluded.value, time_ms = excluded.time_ms",
               "itiidi", x->model_id, x->series, x->revision, x->step, x->value, x->time_ms))
        return -1;
    return sqlite3_changes64(s->db.handle) > 0;
}

/* Gives a late row the next number, a new one if it had one: it has another value now. */
static int row_number(struct store *s, const struct metric_entry *x, struct error *e)
{
    return db_run(
        &s->db, e,
        "REPLACE INTO late_metrics (model_id, number, series_id, revision)"
        " SELECT ?1, 1 + coalesce((SELECT max(number) FROM late_metrics"
        "  WHERE model_id = ?1), 0), id, ?3 FROM series WHERE model_id = ?1 AND name = ?2",
        "iti", x->model_id, x->series, x->revision);
}

/* Makes the series; 0 when its model is gone. */
static int series_make(struct store *s, const struct metric_entry *x, struct error *e)
{
    if (db_run(&s->db, e,
               "INSERT INTO series (model_id, name)"
               " SELECT id, ?2 FROM models WHERE id = ?1 AND name IS NOT NULL",
               "it", x->model_id, x->series))
        return -1;
    return sqlite3_changes64(s->db.handle) > 0;
}

static int rows_write(struct store *s, struct error *e)
{
    for (int i = 0; i < s->writing.n; i++) {
        const struct metric_entry *x = &s->writing.v[i];
        int done = row_put(s, x, e);
        if (done == 0 && (done = series_make(s, x, e)) > 0)
            done = row_put(s, x, e);
        if (done < 0 || (done && x->late && row_number(s, x, e)))
            return -1;
    }
    return 0;
}

/* Writes `writing`, which is empty afterwards unless it failed. */
static int group_write(struct store *s, struct error *e)
{
    if (!s->writing.n)
        return 0;
    if (db_begin(&s->db, false, e) || db_end(&s->db, rows_write(s, e), e))
        return -1;
    s->writing.n = 0;
    return 0;
}

static void group_take(struct store *s)
{
    pthread_mutex_lock(&s->mutex);
    struct metric_rows empty = s->writing;
    s->writing = s->filling;
    s->filling = empty;
    pthread_cond_broadcast(&s->changed); /* there is room */
    pthread_mutex_unlock(&s->mutex);
}

int store_metrics_flush(struct store *s, struct error *e)
{
    db_lock(&s->db, "writing metrics");
    int result = group_write(s, e); /* what an earlier attempt has left */
    if (!result) {
        group_take(s);
        result = group_write(s, e);
    }
    db_unlock(&s->db);
    return result;
}

/* ---- removing -------------------------------------------------------------------------------- */

int store_metrics_trim(struct store *s, int64_t model_id, uint64_t revision, struct error *e)
{
    if (store_metrics_flush(s, e))
        return -1;
    db_lock(&s->db, "removing metrics");
    int result = db_begin(&s->db, false, e);
    if (!result) {
        result = db_run(&s->db, e,
                        "DELETE FROM metrics WHERE model_id = ?1 AND revision > ?2"
                        " AND series_id IN (SELECT id FROM series WHERE model_id = ?1)",
                        "iu", model_id, revision);
        result = result ||
                 db_run(&s->db, e, "DELETE FROM signal_steps WHERE model_id = ?1 AND revision > ?2",
                        "iu", model_id, revision);
        result = db_end(&s->db, result, e);
    }
    db_unlock(&s->db);
    return result;
}
