/* models_load.c: bringing back every model of the store at start: its checkpoint, then its redo
 * log, then what its metrics say of steps that are gone. */
#include "models.h"

#include "answers.h"
#include "json_in.h"
#include "model_private.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

struct loading {
    struct models *ms;
    struct store_model *rows; /* copies: the store must not be called from its callback */
    int n, cap;
    struct arena *arena;
    bool failed; /* out of memory: what follows must not take a part for the whole */
};

static int collect_row(void *arg, const struct store_model *row)
{
    struct loading *l = arg;
    l->failed = true;
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 64;
        struct store_model *more = realloc(l->rows, (size_t)cap * sizeof *more);
        if (!more)
            return -1;
        l->rows = more;
        l->cap = cap;
    }
    struct store_model *copy = &l->rows[l->n++];
    *copy = *row;
    if (!row->name || !row->description)
        return -1; /* SQLite had no memory for them */
    copy->name = arena_strdup(l->arena, row->name);
    copy->description = arena_strdup(l->arena, row->description);
    copy->who = arena_strdup(l->arena, row->who);
    l->failed = !copy->name || !copy->description || !copy->who;
    return l->failed ? -1 : 0;
}

/* What the store has above the state is of steps that were lost with the power, or with the process
 * of a model that asked for no durability. Metrics and answers of those go; their revisions are not
 * used again, nor those of versions and changes, which stay. */
static int settle_lost(struct models *ms, struct model *m, struct error *e)
{
    uint64_t last;
    if (store_last_revision(ms->store, m->id, &last, e))
        return -1;
    if (last <= m->at.revision)
        return 0;
    if (store_metrics_trim(ms->store, m->id, m->at.revision, e) ||
        answers_trim(m->answers, ms->store, m->id, m->at.revision, e))
        return -1;
    m->at.revision = last;
    m->dirty = true;
    return model_checkpoint(m, e); /* or the log that follows would not fit the checkpoint */
}

/* A row without a checkpoint is what is left of a creation that a kill cut short; nobody was told
 * of that model. */
static int drop_unfinished(struct models *ms, const struct store_model *row, struct error *e)
{
    bool used;
    if (e->code != ERROR_UNKNOWN_VERSION || store_model_used(ms->store, row->id, &used, e))
        return -1;
    if (used)
        return error_set(e, ERROR_STORAGE,
                         "the store has versions or metrics of it, but no checkpoint: the database "
                         "is damaged");
    return store_model_delete(ms->store, row->id, NULL, e);
}

/* Takes over `m`. While it is not in the table, its memory that nobody uses can be reclaimed all
 * the same: what the steps took when they were made must be enough to make them again. */
static int bring_up(struct models *ms, struct model *m, const struct store_model *row,
                    const struct store_version *v, struct error *e)
{
    pthread_mutex_lock(&ms->lock);
    ms->loading = m;
    pthread_mutex_unlock(&ms->lock);
    int status = model_load_checkpoint(m, row, v, e) || model_redo_open(m, true, e) ||
                 settle_lost(ms, m, e) || model_totals_recall(m, e);
    pthread_mutex_lock(&ms->lock);
    ms->loading = NULL;
    status = status || models_insert(ms, m, e);
    pthread_mutex_unlock(&ms->lock);
    if (status)
        model_release(&m);
    return status ? -1 : 0;
}

/* The model as its checkpoint describes it; the row holds how it was created. */
static int load_model(struct models *ms, const struct store_model *row, struct arena *a,
                      struct error *e)
{
    struct store_version v;
    if (store_version_info(ms->store, row->id, STORE_CHECKPOINT, a, &v, e))
        return drop_unfinished(ms, row, e);
    json_in_forget();
    json_t *given = json_in_load(row->description, strlen(row->description), NULL);
    json_t *then = json_in_load(v.description, strlen(v.description), NULL);
    json_t *settings = given && then ? description_settings(given, then) : NULL;
    bool starved = json_in_starved(); /* then parts of the settings may be missing */
    if (starved)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for its description");
    else if (!settings)
        error_set(e, ERROR_STORAGE, "its description in the store cannot be read");
    struct model *m = settings && !starved ? model_create(ms, row->name, given, settings, e) : NULL;
    json_decref(given);
    json_decref(then);
    json_decref(settings);
    return m ? bring_up(ms, m, row, &v, e) : -1;
}

struct sought {
    int64_t id;
    bool found;
};

static void seek_unloaded(void *arg, const struct unloaded_model *u)
{
    struct sought *s = arg;
    s->found |= u->id == s->id;
}

/* Else it is what is left of a delete which a kill cut short. */
static bool log_has_model(struct models *ms, int64_t id)
{
    struct sought s = {.id = id};
    for (int i = 0; i < ms->n && !s.found; i++)
        s.found = ms->table[i]->id == id;
    if (!s.found)
        models_each_unloaded(ms, seek_unloaded, &s);
    return s.found;
}

/* Only when every model of the store is known: logs without one are deleted. */
static void sweep_logs(struct models *ms)
{
    DIR *d = opendir(ms->redo_root);
    for (struct dirent *f; d && (f = readdir(d));) {
        char *end;
        long long id = strtoll(f->d_name, &end, 10);
        if (end != f->d_name && !*end && !log_has_model(ms, id))
            redo_remove(ms->redo_root, id, NULL);
    }
    if (d)
        closedir(d);
}

/* At start, a model that there is no memory for, or that this backpropd does not take any more,
 * must not keep it from serving the others. Damage does. */
static int leave_unloaded(struct models *ms, const struct store_model *row, struct error *e)
{
    if (e->code == ERROR_STORAGE)
        return -1;
    models_log_failure(ms, row->name, "load", e);
    return models_add_unloaded(ms, row->name, row->who, row->id, e->text, e);
}

/* Those of the store with this id; 0: all, and those that cannot be had now stay unloaded. */
static int load_some(struct models *ms, int64_t id, struct error *e)
{
    struct loading l = {.ms = ms, .arena = arena_create(4096)};
    if (!l.arena)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    int status = store_model_list(ms->store, collect_row, &l, e);
    if (!status && l.failed)
        status = error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the list of models");
    for (int i = 0; i < l.n && !status; i++)
        if ((!id || l.rows[i].id == id) && load_model(ms, &l.rows[i], l.arena, e) &&
            (id || leave_unloaded(ms, &l.rows[i], e)))
            status = error_prefix(e, "model '%s'", l.rows[i].name);
    free(l.rows);
    arena_destroy(&l.arena);
    return status;
}

int models_load_id(struct models *ms, int64_t id, struct error *e)
{
    return load_some(ms, id, e);
}

int models_load(struct models *ms, struct error *e)
{
    int status = load_some(ms, 0, e);
    if (!status)
        sweep_logs(ms);
    return status;
}
