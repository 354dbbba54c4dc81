/* store.c: opening and closing the store: the lock on the folder, the checks of the file, the
 * settings of the connections.
 *
 * The settings, and why:
 *   journal_mode WAL     readers and the writer do not wait for each other.
 *   synchronous NORMAL   a commit survives the process; the file survives the loss of power in a
 *                        state that it once had. Commits that must survive that too (models,
 *                        versions) raise it to FULL for their transaction: one fsync of the log,
 *                        which covers all that was written before them.
 *   page_size 8192       of 4 to 32 KB, the best for rows of metrics, and as good as any for blobs.
 *   auto_vacuum          INCREMENTAL: what is deleted can be given back in steps (store_sweep.c);
 *                        FULL would do it within the commit, VACUUM would copy the file.
 *   foreign_keys ON      SQLite's default is off.
 *   secure_delete OFF    some builds have it on, and write zeros over all that is deleted.
 *   wal_autocheckpoint   by db_move_log_when_due, at 16 MB: some chunks of a version between two
 * fsyncs. journal_size_limit   the log shrinks to this after something large. temp_store MEMORY
 * sorting needs no writable temporary folder; queries are bounded. cache_size           8 MB a
 * connection. */
#include "store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* page_size and auto_vacuum have an effect on a new file only, and must come before WAL. */
static const char writer_settings[] = "PRAGMA page_size = 8192;"
                                      "PRAGMA auto_vacuum = INCREMENTAL;"
                                      "PRAGMA journal_mode = WAL;"
                                      "PRAGMA synchronous = NORMAL;"
                                      "PRAGMA foreign_keys = ON;"
                                      "PRAGMA secure_delete = OFF;"
                                      "PRAGMA journal_size_limit = 67108864;"
                                      "PRAGMA temp_store = MEMORY;"
                                      "PRAGMA cache_size = -8192;";

static const char reader_settings[] = "PRAGMA query_only = ON;"
                                      "PRAGMA temp_store = MEMORY;"
                                      "PRAGMA cache_size = -8192;";

int64_t store_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the lock on the folder ------------------------------------------------------------------ */

static int refuse_second(int fd, const char *dir, struct error *e)
{
    char pid[24] = "";
    ssize_t n = read(fd, pid, sizeof pid - 1);
    pid[n > 0 ? n : 0] = 0;
    pid[strspn(pid, "0123456789")] = 0;
    return error_set(e, ERROR_STORAGE,
                     "the data folder '%s' is in use by another backpropd%s%s%s: one folder serves "
                     "one daemon",
                     dir, pid[0] ? " (process " : "", pid, pid[0] ? ")" : "");
}

/* Takes DIR/lock, or says who has it. The lock ends with the process, however it ends. */
static int lock_take(int fd, const char *dir, struct error *e)
{
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK)
            return refuse_second(fd, dir, e);
        return error_set(e, ERROR_STORAGE, "the data folder '%s' cannot be locked: %s", dir,
                         strerror(errno));
    }
    char pid[24];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n)
        return error_set(e, ERROR_STORAGE, "the data folder '%s' cannot be written: %s", dir,
                         strerror(errno));
    return 0;
}

int store_make_folder(const char *dir, struct error *e)
{
    if (!mkdir(dir, 0700) || errno == EEXIST)
        return 0;
    return error_set(e, ERROR_STORAGE, "the data folder '%s' cannot be made: %s", dir,
                     strerror(errno));
}

static int folder_open(struct store *s, const char *dir, struct error *e)
{
    char path[PATH_MAX];
    if (store_make_folder(dir, e))
        return -1;
    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int)sizeof path)
        return error_set(e, ERROR_STORAGE, "the name of the data folder is too long");
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return error_set(e, ERROR_STORAGE, "the data folder '%s' cannot be written: %s", dir,
                         strerror(errno));
    return lock_take(s->lock_fd, dir, e);
}

/* ---- the file -------------------------------------------------------------------------------- */

static int check_kind(const char *path, enum store_kind kind, int version, struct error *e)
{
    if (kind == STORE_FOREIGN)
        return error_set(e, ERROR_STORAGE,
                         "'%s' is the SQLite file of another program; backpropd leaves it alone",
                         path);
    if (version > store_n_migrations)
        return error_set(e, ERROR_STORAGE,
                         "'%s' has schema version %d, from a newer backpropd; this one knows "
                         "versions up to %d",
                         path, version, store_n_migrations);
    return 0;
}

/* Looks at the file without writing to it. A file that is missing or empty is a new one. */
static int file_inspect(const char *path, int *version_r, struct error *e)
{
    struct stat st;
    *version_r = 0;
    if (stat(path, &st))
        return errno == ENOENT ? 0 : error_set(e, ERROR_STORAGE, "'%s': %s", path, strerror(errno));
    if (st.st_size == 0)
        return 0;
    struct db db;
    if (db_open(&db, path, SQLITE_OPEN_READONLY, e))
        return error_prefix(e, "'%s'", path);
    enum store_kind kind;
    int result = store_schema_inspect(&db, &kind, version_r, e);
    db_close(&db);
    return result ? error_prefix(e, "'%s'", path) : check_kind(path, kind, *version_r, e);
}

static int connections_open(struct store *s, const char *path, int version, struct error *e)
{
    if (db_open(&s->db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e))
        return -1;
    db_move_log_when_due(&s->db);
    if (!db_exec(&s->db, writer_settings, e) &&
        !store_schema_migrate(&s->db, version, store_migrations, store_n_migrations, e) &&
        !db_open(&s->reader, path, SQLITE_OPEN_READWRITE, e)) {
        if (!db_exec(&s->reader, reader_settings, e))
            return 0;
        db_close(&s->reader);
    }
    db_close(&s->db);
    return -1;
}

static int file_open(struct store *s, const char *dir, struct error *e)
{
    char path[PATH_MAX];
    int version;
    if (snprintf(path, sizeof path, "%s/backpropd.db", dir) >= (int)sizeof path)
        return error_set(e, ERROR_STORAGE, "the name of the data folder is too long");
    if (file_inspect(path, &version, e))
        return -1;
    return connections_open(s, path, version, e);
}

/* ---- the store ------------------------------------------------------------------------------- */

static void sync_init(struct store *s)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_cond_init(&s->changed, NULL);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->mutex, NULL);
}

static void store_free(struct store *s)
{
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* last: the next daemon may start from here on */
    store_metrics_free(s);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

struct store *store_open(const char *dir, struct error *e)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the store");
        return NULL;
    }
    s->lock_fd = -1;
    sync_init(s);
    if (!folder_open(s, dir, e) && !file_open(s, dir, e)) {
        if (!store_thread_start(s, e))
            return s;
        db_close(&s->reader);
        db_close(&s->db);
    }
    store_free(s);
    return NULL;
}

int store_close(struct store **s, struct error *e)
{
    if (!*s)
        return 0;
    store_thread_stop(*s);
    int result = store_metrics_flush(*s, e);
    db_close(&(*s)->reader);
    db_close(&(*s)->db); /* the last one moves the log into the file */
    store_free(*s);
    *s = NULL;
    return result;
}

int store_health(struct store *s, struct error *e)
{
    pthread_mutex_lock(&s->mutex);
    int result = s->failure.code == ERROR_NONE ? 0 : -1;
    if (result && e)
        *e = s->failure;
    pthread_mutex_unlock(&s->mutex);
    return result;
}

int store_resolve(struct store *s, struct error *e)
{
    if (!__atomic_load_n(&s->db.unresolved, __ATOMIC_ACQUIRE))
        return 0;
    db_lock(&s->db, "settling a commit that failed");
    int result = db_resolve(&s->db, e);
    db_unlock(&s->db);
    return result;
}

int store_size(struct store *s, int64_t *bytes_r, int64_t *free_r, struct error *e)
{
    int64_t page = 0, pages = 0, unused = 0;
    db_lock(&s->reader, "reading the size of the database");
    int found = db_integer(&s->reader, e, &page, "PRAGMA page_size", "");
    if (found > 0)
        found = db_integer(&s->reader, e, &pages, "PRAGMA page_count", "");
    if (found > 0)
        found = db_integer(&s->reader, e, &unused, "PRAGMA freelist_count", "");
    db_unlock(&s->reader);
    *bytes_r = page * pages;
    *free_r = page * unused;
    return found > 0 ? 0 : -1;
}
