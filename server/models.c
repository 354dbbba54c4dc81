/* models.c: the table of models, sorted by name. Creating holds `creating` from the check of the
 * name to the insertion, so that of two clients who create at once one gets the other's model. The
 * table's own lock is held for moments only: the HTTP thread finds models while others are made. */
#define _GNU_SOURCE
#include "models.h"

#include "answers.h"
#include "describe.h"
#include "evaluation.h"
#include "json_in.h"
#include "model_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reclaim_one(void *arg, struct model *m)
{
    (void)arg;
    pthread_mutex_lock(&m->lock);
    struct program *p = program_ref(m->program);
    pthread_mutex_unlock(&m->lock);
    program_reclaim(p);
    model_kept_drop(m, 0);
    evaluations_reclaim(m);
    program_unref(&p);
}

/* Whoever has locked the table may wait for a lock of the asker's: so it is only tried. */
static void reclaim(void *arg)
{
    struct models *ms = arg;
    if (pthread_mutex_trylock(&ms->lock))
        return;
    models_each(ms, reclaim_one, NULL);
    if (ms->loading)
        reclaim_one(NULL, ms->loading);
    pthread_mutex_unlock(&ms->lock);
}

struct models *models_create(const struct server *s, struct error *e)
{
    const struct config *c = s->config;
    struct models *ms = calloc(1, sizeof *ms);
    if (!ms) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    *ms = (struct models){.store = s->store,
                          .work = s->work,
                          .pool = s->pool,
                          .log = &s->log,
                          .max_models = c->max_models,
                          .max_queue = c->max_queue,
                          .redo_max_bytes = (uint64_t)c->redo_bytes,
                          .redo_max_seconds = (double)c->redo_seconds};
    ms->budget =
        (struct budget){.limit = (size_t)c->max_memory, .reclaim = reclaim, .reclaim_arg = ms};
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&ms->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    pthread_mutex_init(&ms->creating, NULL);
    ms->running = answers_create();
    if (ms->running && asprintf(&ms->redo_root, "%s/redo", c->data) >= 0)
        return ms;
    ms->redo_root = NULL;
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    models_destroy(&ms, NULL);
    return NULL;
}

void models_log_failure(const struct models *ms, const char *model, const char *what,
                        const struct error *e)
{
    log_line((struct log *)ms->log, LOG_ERROR, what, LOG_STR("model", model),
             LOG_STR("error", e->text));
}

int models_destroy(struct models **models, struct error *e)
{
    struct models *ms = *models;
    int status = 0;
    *models = NULL;
    if (!ms)
        return 0;
    for (int i = 0; i < ms->n; i++) {
        status |= model_checkpoint(ms->table[i], e);
        model_release(&ms->table[i]);
    }
    models_forget_unloaded(ms);
    free(ms->table);
    if (ms->running)
        answers_destroy(&ms->running);
    free(ms->redo_root);
    pthread_mutex_destroy(&ms->lock);
    pthread_mutex_destroy(&ms->creating);
    free(ms);
    return status;
}

/* ---- the table, under its lock --------------------------------------------------------------- */

/* Where `name` is, or would be. */
static int table_place(const struct models *ms, const char *name, bool *found_r)
{
    int low = 0, high = ms->n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (strcmp(ms->table[mid]->name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found_r = low < ms->n && strcmp(ms->table[low]->name, name) == 0;
    return low;
}

static int table_reserve(struct models *ms, struct error *e)
{
    if (ms->n < ms->cap)
        return 0;
    int cap = ms->cap ? 2 * ms->cap : 16;
    struct model **more = realloc(ms->table, (size_t)cap * sizeof *more);
    if (!more)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the table of models");
    ms->table = more;
    ms->cap = cap;
    return 0;
}

int models_insert(struct models *ms, struct model *m, struct error *e)
{
    bool found;
    if (table_reserve(ms, e))
        return -1;
    int at = table_place(ms, m->name, &found);
    memmove(ms->table + at + 1, ms->table + at, (size_t)(ms->n - at) * sizeof *ms->table);
    ms->table[at] = m;
    ms->n++;
    return 0;
}

struct model *model_hold(struct model *m)
{
    __atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED);
    return m;
}

/* The model of this name, held; NULL: there is none. */
static struct model *table_find(struct models *ms, const char *name)
{
    bool found;
    pthread_mutex_lock(&ms->lock);
    int at = table_place(ms, name, &found);
    struct model *m = found ? model_hold(ms->table[at]) : NULL;
    pthread_mutex_unlock(&ms->lock);
    return m;
}

static void unknown_model(struct models *ms, const char *name, struct error *e)
{
    struct nearest near = {.given = name};
    pthread_mutex_lock(&ms->lock);
    for (int i = 0; i < ms->n; i++)
        nearest_offer(&near, ms->table[i]->name);
    error_set(e, ERROR_UNKNOWN_MODEL, "no model '%s'%s%s%s", name,
              near.best ? "; did you mean '" : "", near.best ? near.best : "",
              near.best ? "'?" : "");
    pthread_mutex_unlock(&ms->lock);
}

struct model *models_find(struct models *ms, const char *name, struct error *e)
{
    pthread_mutex_lock(&ms->lock); /* it is in one of the two, but a moment later in the other */
    struct model *m = table_find(ms, name);
    if (!m && !models_unloaded(ms, name, e))
        unknown_model(ms, name, e);
    pthread_mutex_unlock(&ms->lock);
    return m;
}

void models_each(struct models *ms, models_fn *f, void *arg)
{
    pthread_mutex_lock(&ms->lock);
    for (int i = 0; i < ms->n; i++)
        f(arg, ms->table[i]);
    pthread_mutex_unlock(&ms->lock);
}

struct model **models_hold_all(struct models *ms, struct arena *a, int *n_r)
{
    pthread_mutex_lock(&ms->lock);
    struct model **all = arena_array(a, (size_t)ms->n, sizeof(struct model *));
    *n_r = all ? ms->n : 0;
    for (int i = 0; i < *n_r; i++)
        all[i] = model_hold(ms->table[i]);
    pthread_mutex_unlock(&ms->lock);
    return all;
}

/* ---- creating -------------------------------------------------------------------------------- */

static int store_new(struct models *ms, struct model *m, struct error *e)
{
    char *text = json_in_dump(m->given, JSON_COMPACT);
    struct store_model row = {.name = m->name, .description = text, .who = m->who};
    struct error why = {0};
    int status = text ? store_model_insert(ms->store, &row, &why)
                      : error_set(&why, ERROR_OUT_OF_MEMORY, "out of memory");
    /* The table has no model of this name: its row could not be deleted when a creation failed. */
    if (status && why.code == ERROR_MODEL_EXISTS)
        status = store_model_forget(ms->store, m->name, &why) ||
                 store_model_insert(ms->store, &row, &why);
    if (status && e)
        *e = why;
    free(text);
    m->id = row.id;
    m->created_ms = row.created_ms;
    return status;
}

/* What a new model begins with. */
struct origin {
    json_t *given, *settings;
    struct model *from;            /* NULL: the initialisers */
    int64_t version;               /* of `from`; 0: its live state */
    const json_t *layers;          /* of `from`; NULL: the whole state */
    const struct key *by;          /* NULL: anybody */
    const struct store_deed *deed; /* kept with the first checkpoint; NULL: none */
};

static void initialise(struct model *m)
{
    const struct network *net = program_network(m->program);
    graph_init(net->graph, net->seed, m->live->params, m->live->buffers);
    generation_averages_reset(net, m->live);
}

/* The first state, and last its checkpoint: from then on the model is there after any restart. */
static int give_state(struct model *m, const struct origin *o, struct error *e)
{
    int status = 0;
    if (!o->from || o->layers)
        initialise(m);
    if (o->layers)
        status = model_take_layers(m, o->from, o->version, o->layers, e);
    else if (o->from)
        status = o->version ? model_take_version(m, o->from, o->version, e)
                            : model_take_state(m, o->from, e);
    if (status)
        return -1;
    struct model_state s = model_state(m);
    s.deed = o->deed;
    m->dirty = false;
    return model_redo_open(m, false, e) || model_state_checkpoint(m, &s, NULL, e) ? -1 : 0;
}

/* Under `creating`; the name is free. */
static struct model *create(struct models *ms, const char *name, const struct origin *o,
                            struct error *e)
{
    if (models_unloaded(ms, name, e))
        return NULL;
    if (ms->n + ms->n_unloaded >= ms->max_models) {
        error_set(e, ERROR_OUT_OF_MEMORY, "there are %d models already (--max-models)",
                  ms->n + ms->n_unloaded);
        return NULL;
    }
    struct model *m = model_create(ms, name, o->given, o->settings, e);
    if (!m)
        return NULL;
    if (o->by)
        snprintf(m->who, sizeof m->who, "%s", o->by->name);
    pthread_mutex_lock(&ms->lock);
    int failed = table_reserve(ms, e);
    pthread_mutex_unlock(&ms->lock);
    if (failed || (o->by && models_check_quotas(ms, o->by, m, e)) || store_new(ms, m, e)) {
        model_release(&m);
        return NULL;
    }
    if (give_state(m, o, e)) {
        store_model_delete(ms->store, m->id, NULL,
                           NULL); /* else at the next start, or the next PUT */
        redo_remove(ms->redo_root, m->id, NULL);
        model_release(&m);
        return NULL;
    }
    pthread_mutex_lock(&ms->lock);
    models_insert(ms, m, e); /* cannot fail: its place is reserved */
    model_hold(m);           /* the caller's, before others can see it */
    pthread_mutex_unlock(&ms->lock);
    return m;
}

static struct model *refuse_name(const char *name, struct error *e)
{
    error_set(e, ERROR_MODEL_EXISTS,
              "a model '%s' with another description exists; DELETE it first", name);
    return NULL;
}

struct model *models_put(struct models *ms, const char *name, const json_t *description,
                         const struct key *by, const struct store_deed *deed, bool *created_r,
                         struct error *e)
{
    struct origin o = {.given = describe_expand(description, e),
                       .settings = json_object(),
                       .by = by,
                       .deed = deed};
    struct model *m = NULL;
    if (o.given) {
        pthread_mutex_lock(&ms->creating);
        struct model *old = table_find(ms, name);
        *created_r = !old;
        if (!old) {
            m = create(ms, name, &o, e);
        } else if (json_equal(o.given, old->given)) {
            m = old;
            old = NULL;
        } else {
            m = refuse_name(name, e);
        }
        pthread_mutex_unlock(&ms->creating);
        model_release(&old);
    }
    json_decref(o.given);
    json_decref(o.settings);
    return m;
}

struct model *models_clone(struct models *ms, const char *name, struct model *from, int64_t version,
                           const json_t *layers, const struct key *by,
                           const struct store_deed *deed, struct error *e)
{
    json_t *settings = model_settings(from, layers ? 0 : version, e);
    struct origin o = {json_incref(from->given), settings, from, version, layers, by, deed};
    if (!settings) {
        json_decref(o.given);
        return NULL;
    }
    pthread_mutex_lock(&ms->creating);
    struct model *old = table_find(ms, name);
    struct model *m = old ? refuse_name(name, e) : create(ms, name, &o, e);
    pthread_mutex_unlock(&ms->creating);
    model_release(&old);
    json_decref(o.given);
    json_decref(o.settings);
    return m;
}

void models_remove(struct models *ms, struct model *m, enum model_presence why)
{
    work_queue_together(m->queue[WORK_PREDICTIONS], INFER_MAX_BATCH, 0); /* nobody waits longer */
    bool found;
    pthread_mutex_lock(&ms->lock);
    int at = table_place(ms, m->name, &found);
    memmove(ms->table + at, ms->table + at + 1, (size_t)(--ms->n - at) * sizeof *ms->table);
    pthread_mutex_unlock(&ms->lock);
    pthread_mutex_lock(&m->lock);
    m->presence = why;
    pthread_mutex_unlock(&m->lock);
    model_release(&m);
}

/* In the model's queue, so that no step runs meanwhile. */
int models_delete(struct models *ms, struct model *m, const struct store_deed *deed,
                  struct error *e)
{
    pthread_mutex_lock(&ms->creating);
    struct model *found = table_find(ms, m->name);
    int status = found == m ? store_model_delete(ms->store, m->id, deed, e)
                            : error_set(e, ERROR_UNKNOWN_MODEL, "no model '%s'", m->name);
    if (!status) {
        redo_remove(ms->redo_root, m->id, NULL); /* what is left is swept at the next start */
        models_remove(ms, m, MODEL_DELETED);
    }
    pthread_mutex_unlock(&ms->creating);
    model_release(&found);
    return status;
}
