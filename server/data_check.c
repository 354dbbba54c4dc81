/* data_check.c: `backpropd check DIR`. */
#include "data_folder.h"
#include "redo.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct checking {
    struct store *store;
    const char *dir;
    FILE *out;
    struct arena *arena;
    struct store_model *models;
    int n, cap, versions;
};

/* ---- states ---------------------------------------------------------------------------------- */

/* Reads the state into memory, whereby the store compares its hash. */
static int check_state(struct checking *k, const struct store_model *m, int64_t version,
                       struct store_version *v_r, struct error *e)
{
    if (store_version_info(k->store, m->id, version, k->arena, v_r, e))
        return -1;
    for (int i = 0; i < v_r->n_parts; i++) {
        const struct store_part_info *info = &v_r->parts[i];
        struct store_part part = {info->name, malloc(info->bytes > 0 ? (size_t)info->bytes : 1),
                                  (size_t)info->bytes};
        int status = part.data
                         ? store_version_load(k->store, m->id, version, &part, 1, e)
                         : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for '%s'", info->name);
        free(part.data);
        if (status)
            return -1;
    }
    return 0;
}

struct numbers {
    int64_t *v;
    int n, cap;
};

static int note_version(void *arg, const struct store_version *v)
{
    struct numbers *l = arg;
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 16;
        int64_t *more = realloc(l->v, (size_t)cap * sizeof *more);
        if (!more)
            return -1;
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n++] = v->version;
    return 0;
}

static int check_versions(struct checking *k, const struct store_model *m, int *n_r,
                          struct error *e)
{
    struct numbers l = {0};
    struct store_version v;
    int status = store_version_list(k->store, m->id, note_version, &l, e);
    for (int i = 0; i < l.n && !status; i++)
        if (check_state(k, m, l.v[i], &v, e))
            status = error_prefix(e, "version %lld", (long long)l.v[i]);
    *n_r = l.n;
    free(l.v);
    return status;
}

/* ---- logs ------------------------------------------------------------------------------------ */

struct log_reading {
    uint64_t last; /* revision */
    int64_t records;
};

static int follow(void *arg, const struct redo_record *record, struct error *e)
{
    struct log_reading *l = arg;
    if (record->revision != l->last + 1)
        return error_set(e, ERROR_STORAGE,
                         "the redo log goes from revision %llu to %llu: records are missing",
                         (unsigned long long)l->last, (unsigned long long)record->revision);
    l->last = record->revision;
    l->records++;
    return 0;
}

/* A model without a folder has no log. */
static int check_log(const struct checking *k, const struct store_model *m, uint64_t revision,
                     struct log_reading *l, uint64_t *torn_r, struct error *e)
{
    char root[PATH_MAX], dir[PATH_MAX + 24];
    *l = (struct log_reading){.last = revision};
    *torn_r = 0;
    snprintf(root, sizeof root, "%s/redo", k->dir);
    snprintf(dir, sizeof dir, "%s/%lld", root, (long long)m->id);
    if (access(dir, F_OK))
        return 0;
    struct redo *r = redo_open(root, m->id, engine_fingerprint(), e);
    int status = r ? redo_read(r, revision, follow, l, torn_r, e) : -1;
    redo_close(&r);
    return status;
}

/* ---- models ---------------------------------------------------------------------------------- */

static int note_model(void *arg, const struct store_model *m)
{
    struct checking *k = arg;
    if (k->n == k->cap) {
        int cap = k->cap ? 2 * k->cap : 16;
        struct store_model *more = realloc(k->models, (size_t)cap * sizeof *more);
        if (!more)
            return -1;
        k->models = more;
        k->cap = cap;
    }
    k->models[k->n] = *m;
    k->models[k->n].name = arena_strdup(k->arena, m->name);
    return k->models[k->n++].name ? 0 : -1;
}

/* A creation that a kill cut short has left a row and nothing else. */
static int check_unfinished(const struct checking *k, const struct store_model *m, struct error *e)
{
    bool used;
    if (store_model_used(k->store, m->id, &used, e))
        return -1;
    return used ? error_set(e, ERROR_STORAGE, "it has versions or metrics, but no checkpoint") : 0;
}

static int check_model(struct checking *k, const struct store_model *m, struct error *e)
{
    struct store_version checkpoint;
    struct log_reading log;
    uint64_t torn;
    int versions;
    if (check_state(k, m, STORE_CHECKPOINT, &checkpoint, e))
        return e->code == ERROR_UNKNOWN_VERSION ? check_unfinished(k, m, e) : -1;
    if (check_log(k, m, checkpoint.revision, &log, &torn, e) || check_versions(k, m, &versions, e))
        return -1;
    fprintf(k->out, "model '%s': checkpoint at step %llu, %lld records since, %d versions%s\n",
            m->name, (unsigned long long)checkpoint.step, (long long)log.records, versions,
            torn ? "; the last record was cut short and never answered" : "");
    k->versions += versions;
    return 0;
}

static int check_models(struct checking *k, struct error *e)
{
    int status = store_model_list(k->store, note_model, k, e);
    for (int i = 0; i < k->n && !status; i++)
        if (check_model(k, &k->models[i], e))
            status = error_prefix(e, "model '%s'", k->models[i].name);
    free(k->models);
    return status;
}

/* A daemon holds the lock of its folder; so do we, while we look. A copy has no lock file. */
static int lock_folder(const char *dir, int *fd_r, struct error *e)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", dir);
    *fd_r = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd_r < 0 && errno != ENOENT && errno != ENOTDIR)
        return error_set(e, ERROR_STORAGE, "'%s': %s", path, strerror(errno));
    if (*fd_r < 0 || !flock(*fd_r, LOCK_EX | LOCK_NB))
        return 0;
    close(*fd_r);
    return error_set(e, ERROR_STORAGE,
                     "a daemon uses the data folder '%s': stop it, or make a backup, which is "
                     "checked too",
                     dir);
}

int data_folder_check(char **words, FILE *out, struct error *e)
{
    struct checking k = {.dir = words[0], .out = out, .arena = arena_create(4096)};
    int lock;
    if (!k.arena)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    int status = lock_folder(k.dir, &lock, e);
    if (!status) {
        k.store = store_open_reader(k.dir, e);
        status = !k.store || store_check(k.store, e) || check_models(&k, e) ? -1 : 0;
        store_close_reader(&k.store);
        if (lock >= 0)
            close(lock);
    }
    arena_destroy(&k.arena);
    if (!status)
        fprintf(out, "%s: no damage: %d models, %d versions\n", k.dir, k.n, k.versions);
    return status;
}
