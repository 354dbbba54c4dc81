/* store_sweep.c: the store's one thread. It writes metrics rows when they are due, and removes what
 * was deleted, in steps that hold the lock of the database for milliseconds each:
 *   - versions that are 'dropped', or 'writing' while nothing is being saved: a few chunks a step;
 *   - models without a name: their versions are dropped, their metrics go some thousand rows a
 *     step, then the row, and by ON DELETE CASCADE what little still hangs on it;
 *   - then free pages are given back to the file system, some megabytes a step. Not after a
 *     checkpoint has replaced another: the next one will fill the same pages.
 * All of it starts over from what is in the file, so it may end anywhere, also by kill -9. */
#include "store_private.h"

#include <string.h>
#include <time.h>

int64_t store_monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- steps of removal: 1: something was done; 0: there is nothing of this kind; -1 ----------- */

static int step_run(struct store *s, struct error *e, const char *sql, const char *types,
                    int64_t id)
{
    if (db_begin(&s->db, false, e) || db_end(&s->db, db_run(&s->db, e, sql, types, id), e))
        return -1;
    return sqlite3_changes64(s->db.handle) > 0;
}

/* SQLite uses the partial index only where its condition stands literally. */
#define UNFINISHED "state <> 'complete'"

/* Versions whose save failed or was cut off. */
static int step_unfinished(struct store *s, struct error *e)
{
    if (s->saves)
        return 0;
    return step_run(s, e,
                    "UPDATE versions SET state = 'dropped'"
                    " WHERE state = 'writing' AND " UNFINISHED,
                    "", 0);
}

static int step_version(struct store *s, struct error *e)
{
    int64_t id;
    int found = db_integer(&s->db, e, &id,
                           "SELECT id FROM versions"
                           " WHERE state = 'dropped' AND " UNFINISHED " LIMIT 1",
                           "");
    if (found <= 0)
        return found;
    int some = step_run(s, e,
                        "DELETE FROM blobs WHERE id IN"
                        " (SELECT id FROM blobs WHERE version_id = ?1 LIMIT 8)",
                        "i", id);
    return some ? some : step_run(s, e, "DELETE FROM versions WHERE id = ?1", "i", id);
}

/* What a deleted model owns, in this order. A version that is being written drops out by itself:
 * its last step finds no model. */
static const char *const model_steps[] = {
    "UPDATE versions SET state = 'dropped' WHERE model_id = ?1 AND state = 'complete'",
    "DELETE FROM metrics WHERE (model_id, series_id, revision) IN"
    " (SELECT model_id, series_id, revision FROM metrics WHERE model_id = ?1 LIMIT 8192)",
    "DELETE FROM signal_steps WHERE (model_id, revision) IN"
    " (SELECT model_id, revision FROM signal_steps WHERE model_id = ?1 LIMIT 256)",
    "DELETE FROM models WHERE id = ?1 AND NOT EXISTS"
    " (SELECT 1 FROM versions WHERE model_id = ?1)",
};

static int step_model(struct store *s, struct error *e)
{
    int64_t id;
    int done = db_integer(&s->db, e, &id, "SELECT id FROM models WHERE name IS NULL LIMIT 1", "");
    if (done <= 0)
        return done;
    done = 0;
    for (size_t i = 0; i < sizeof model_steps / sizeof *model_steps && !done; i++)
        done = step_run(s, e, model_steps[i], "i", id);
    return done;
}

static int step_give_back(struct store *s, struct error *e)
{
    int64_t unused = 0;
    if (db_integer(&s->db, e, &unused, "PRAGMA freelist_count", "") < 0)
        return -1;
    if (unused)
        return db_exec(&s->db, "PRAGMA incremental_vacuum(512)", e) ? -1 : 1;
    /* The file itself shrinks when the log is moved into it. If a reader is in the way, a later
     * checkpoint of SQLite's does it. */
    db_move_log(&s->db);
    return 0;
}

static int sweep_step(struct store *s, bool give_back, struct error *e)
{
    int (*const steps[])(struct store *, struct error *) = {step_unfinished, step_version,
                                                            step_model, step_give_back};
    size_t n = sizeof steps / sizeof *steps - (give_back ? 0 : 1);
    int done = 0;
    db_lock(&s->db, "giving back the space of what was deleted");
    for (size_t i = 0; i < n && !done; i++)
        done = steps[i](s, e);
    db_unlock(&s->db);
    return done;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* The rest is with s->mutex held, which is given back during work. */

static bool metrics_due(const struct store *s, int64_t now)
{
    return s->filling.n >= STORE_METRICS_GROUP ||
           (s->filling.n && now >= s->filling_since_ms + STORE_METRICS_DELAY_MS);
}

/* Keeps or clears the failure and its time of retry. */
static void work_end(struct store *s, int result, const struct error *e)
{
    s->busy = false;
    s->failure = result < 0 ? *e : (struct error){0};
    s->retry_at_ms = result < 0 ? store_monotonic_ms() + STORE_RETRY_MS : 0;
    pthread_cond_broadcast(&s->changed);
}

static void work_metrics(struct store *s)
{
    struct error e = {0};
    s->busy = true;
    pthread_mutex_unlock(&s->mutex);
    int result = store_metrics_flush(s, &e);
    pthread_mutex_lock(&s->mutex);
    s->unwritten = result < 0;
    work_end(s, result, &e);
}

static void work_sweep(struct store *s)
{
    struct error e = {0};
    bool give_back = s->give_back;
    s->busy = true;
    s->sweep = false; /* whoever drops something meanwhile sets it again */
    pthread_mutex_unlock(&s->mutex);
    int result = sweep_step(s, give_back, &e);
    pthread_mutex_lock(&s->mutex);
    if (result == 0 && !s->sweep)
        s->give_back = false;
    s->sweep = s->sweep || result != 0;
    work_end(s, result, &e);
}

static void thread_wait(struct store *s, int64_t now)
{
    int64_t until = s->retry_at_ms;
    if (!until && s->filling.n)
        until = s->filling_since_ms + STORE_METRICS_DELAY_MS;
    if (!until) {
        pthread_cond_wait(&s->wake, &s->mutex);
    } else if (until > now) {
        struct timespec t = {until / 1000, until % 1000 * 1000000};
        pthread_cond_timedwait(&s->wake, &s->mutex, &t);
    }
}

static void *thread_main(void *arg)
{
    struct store *s = arg;
    pthread_mutex_lock(&s->mutex);
    while (!s->stop) {
        int64_t now = store_monotonic_ms();
        bool ready = now >= s->retry_at_ms;
        if (ready && (s->unwritten || metrics_due(s, now)))
            work_metrics(s);
        else if (ready && s->sweep)
            work_sweep(s);
        else
            thread_wait(s, now);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

int store_thread_start(struct store *s, struct error *e)
{
    s->sweep = true; /* what an earlier process has left */
    int status = pthread_create(&s->thread, NULL, thread_main, s);
    if (!status)
        return 0;
    return error_set(e, ERROR_OUT_OF_MEMORY, "the thread of the store cannot be started: %s",
                     strerror(status));
}

void store_thread_stop(struct store *s)
{
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
}

void store_sweep_wake(struct store *s, bool give_back)
{
    pthread_mutex_lock(&s->mutex);
    s->sweep = true;
    s->give_back = s->give_back || give_back;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

int store_settle(struct store *s, struct error *e)
{
    int result = store_metrics_flush(s, e);
    pthread_mutex_lock(&s->mutex);
    while (!result && (s->sweep || s->busy)) {
        if (s->failure.code != ERROR_NONE) {
            if (e)
                *e = s->failure;
            result = -1;
        } else {
            pthread_cond_wait(&s->changed, &s->mutex);
        }
    }
    pthread_mutex_unlock(&s->mutex);
    return result;
}
