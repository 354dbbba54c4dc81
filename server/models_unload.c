/* models_unload.c: Triton's model_repository extension. A model that is unloaded is in the store
 * only, as after a stop: its checkpoint is written, its memory freed when the last request that
 * holds it has ended. Loading it is what happens to every model at start; a start loads all. One
 * that there was no memory for at start is unloaded, too. Unloaded models keep their names and
 * count for limits and quotas, so that they can come back. */
#include "models.h"

#include "model_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unloaded {
    struct unloaded *next;
    int64_t id;
    char name[MODEL_MAX_NAME + 1], who[KEY_NAME_MAX + 1];
    int64_t bytes;    /* that it took; 0: not known */
    char reason[256]; /* why there was no memory for it; "": it was asked for */
};

/* Where it is linked; what this points to is NULL when there is none. Under the table's lock. */
static struct unloaded **unloaded_find(struct models *ms, const char *name)
{
    struct unloaded **at = &ms->unloaded;
    while (*at && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    return at;
}

static bool is(const struct unloaded *u, const char *name)
{
    return u && strcmp(u->name, name) == 0;
}

bool models_unloaded(struct models *ms, const char *name, struct error *e)
{
    pthread_mutex_lock(&ms->lock);
    const struct unloaded *u = *unloaded_find(ms, name);
    bool found = is(u, name);
    if (found)
        error_set(e, ERROR_NOT_READY,
                  "model '%s' is unloaded%s%s; POST /v2/repository/models/%s/load brings it back",
                  name, u->reason[0] ? ": " : "", u->reason, name);
    pthread_mutex_unlock(&ms->lock);
    return found;
}

static struct unloaded *unloaded_create(const char *name, const char *who, int64_t id)
{
    struct unloaded *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->id = id;
    snprintf(u->name, sizeof u->name, "%s", name);
    snprintf(u->who, sizeof u->who, "%s", who);
    return u;
}

/* Under the table's lock. */
static void unloaded_link(struct models *ms, struct unloaded *u)
{
    struct unloaded **at = unloaded_find(ms, u->name);
    u->next = *at;
    *at = u;
    ms->n_unloaded++;
}

int models_add_unloaded(struct models *ms, const char *name, const char *who, int64_t id,
                        const char *reason, struct error *e)
{
    struct unloaded *u = unloaded_create(name, who, id);
    if (!u)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    snprintf(u->reason, sizeof u->reason, "%s", reason);
    pthread_mutex_lock(&ms->lock);
    unloaded_link(ms, u);
    pthread_mutex_unlock(&ms->lock);
    return 0;
}

void models_each_unloaded(struct models *ms, models_unloaded_fn *f, void *arg)
{
    pthread_mutex_lock(&ms->lock);
    for (const struct unloaded *u = ms->unloaded; u; u = u->next)
        f(arg, &(struct unloaded_model){u->name, u->who, u->reason, u->id, u->bytes});
    pthread_mutex_unlock(&ms->lock);
}

void models_forget_unloaded(struct models *ms)
{
    for (struct unloaded *u = ms->unloaded, *next; u; u = next) {
        next = u->next;
        free(u);
    }
    ms->unloaded = NULL;
    ms->n_unloaded = 0;
}

/* From here on nothing of this struct writes to the store: a checkpoint that is under way in the
 * background has ended or will see that it was overtaken. */
static int retire(struct model *m, struct error *e)
{
    if (model_check_there(m, e) || model_checkpoint(m, e))
        return -1;
    pthread_mutex_lock(&m->checkpoint_lock);
    m->checkpoint_revision = UINT64_MAX;
    pthread_mutex_unlock(&m->checkpoint_lock);
    return 0;
}

/* In the model's queue, so that no step runs meanwhile. */
int models_unload(struct models *ms, struct model *m, struct error *e)
{
    struct unloaded *u = unloaded_create(m->name, m->who, m->id);
    if (!u)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    u->bytes = (int64_t)model_bytes(program_network(m->program));
    pthread_mutex_lock(&ms->creating);
    int status = retire(m, e);
    if (!status) {
        pthread_mutex_lock(&ms->lock); /* it is always in one of the two */
        unloaded_link(ms, u);
        models_remove(ms, m, MODEL_UNLOADED);
        pthread_mutex_unlock(&ms->lock);
    }
    pthread_mutex_unlock(&ms->creating);
    if (status)
        free(u);
    return status;
}

int models_load_again(struct models *ms, const char *name, struct error *e)
{
    pthread_mutex_lock(&ms->creating);
    pthread_mutex_lock(&ms->lock);
    struct unloaded *u = *unloaded_find(ms, name);
    bool found = is(u, name);
    pthread_mutex_unlock(&ms->lock);
    int status = 0;
    if (found) {
        status = models_load_id(ms, u->id, e);
    } else {
        struct model *m = models_find(ms, name, e);
        status = m ? 0 : -1;
        model_release(&m);
    }
    if (found && !status) {
        pthread_mutex_lock(&ms->lock);
        *unloaded_find(ms, name) = u->next;
        ms->n_unloaded--;
        pthread_mutex_unlock(&ms->lock);
        free(u);
    }
    pthread_mutex_unlock(&ms->creating);
    return status;
}
