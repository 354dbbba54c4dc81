/* models_unload.c: Triton's model_repository extension. A model that is unloaded is in the store
 * only, as after a stop: its checkpoint is written, its memory freed when the last request that
 * holds it has ended. Loading it is what happens to every model at start; a start loads all. */
#include "models.h"

#include "model_private.h"

#include <stdlib.h>
#include <string.h>

struct unloaded {
    struct unloaded *next;
    int64_t id;
    char name[MODEL_MAX_NAME + 1];
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
    bool found = is(*unloaded_find(ms, name), name);
    pthread_mutex_unlock(&ms->lock);
    if (found)
        error_set(e, ERROR_NOT_READY,
                  "model '%s' is unloaded; POST /v2/repository/models/%s/load brings it back", name,
                  name);
    return found;
}

void models_each_unloaded(struct models *ms, void (*f)(void *arg, const char *name), void *arg)
{
    pthread_mutex_lock(&ms->lock);
    for (const struct unloaded *u = ms->unloaded; u; u = u->next)
        f(arg, u->name);
    pthread_mutex_unlock(&ms->lock);
}

void models_forget_unloaded(struct models *ms)
{
    for (struct unloaded *u = ms->unloaded, *next; u; u = next) {
        next = u->next;
        free(u);
    }
    ms->unloaded = NULL;
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
    struct unloaded *u = calloc(1, sizeof *u);
    if (!u)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    u->id = m->id;
    strcpy(u->name, m->name);
    pthread_mutex_lock(&ms->creating);
    int status = retire(m, e);
    if (!status) {
        pthread_mutex_lock(&ms->lock); /* it is always in one of the two */
        struct unloaded **at = unloaded_find(ms, u->name);
        u->next = *at;
        *at = u;
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
        pthread_mutex_unlock(&ms->lock);
        free(u);
    }
    pthread_mutex_unlock(&ms->creating);
    return status;
}
