/* model_kept.c: predictions with versions. The last few versions that were asked for stay in
 * memory, counted in the budget, so that serving one does not read the store each time. */
#include "model_private.h"

#include <stdlib.h>
#include <string.h>

/* Under m->lock. */
static struct kept_version *kept_find(struct model *m, int64_t version)
{
    for (int i = 0; i < MODEL_KEPT_VERSIONS; i++)
        if (m->kept[i].generation && m->kept[i].version == version)
            return &m->kept[i];
    return NULL;
}

static void kept_drop(struct model *m, struct kept_version *k)
{
    if (!k->generation)
        return;
    generation_unref(&k->generation);
    budget_give(&m->models->budget, k->bytes);
}

void model_kept_drop(struct model *m, int64_t version)
{
    pthread_mutex_lock(&m->lock);
    m->kept_drops++;
    for (int i = 0; i < MODEL_KEPT_VERSIONS; i++)
        if (!version || m->kept[i].version == version)
            kept_drop(m, &m->kept[i]);
    pthread_mutex_unlock(&m->lock);
}

size_t model_kept_bytes(struct model *m, int64_t version)
{
    pthread_mutex_lock(&m->lock);
    const struct kept_version *k = kept_find(m, version);
    size_t bytes = k ? k->bytes : 0;
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

struct infer_stats *model_version_stats(struct model *m, int64_t version, bool make)
{
    pthread_mutex_lock(&m->lock);
    struct version_stats *v = m->versions_stats;
    while (v && v->version != version)
        v = v->next;
    if (!v && make && (v = calloc(1, sizeof *v))) {
        v->version = version;
        v->next = m->versions_stats;
        m->versions_stats = v;
    }
    pthread_mutex_unlock(&m->lock);
    return v ? &v->stats : NULL;
}

/* Its place is that of the one that was put in longest ago. `drops`: of before it was read; if any
 * were dropped since, it may have been deleted, or belong to another network. */
static void kept_put(struct model *m, int64_t version, struct generation *g,
                     const struct counters *at, size_t bytes, uint64_t drops)
{
    pthread_mutex_lock(&m->lock);
    /* Or somebody else has read it meanwhile. */
    if (m->kept_drops != drops || kept_find(m, version)) {
        budget_give(&m->models->budget, bytes);
    } else {
        struct kept_version *k = &m->kept[m->kept_next++ % MODEL_KEPT_VERSIONS];
        kept_drop(m, k);
        *k = (struct kept_version){version, generation_ref(g), *at, bytes};
    }
    pthread_mutex_unlock(&m->lock);
}

static uint64_t kept_drops(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    uint64_t drops = m->kept_drops;
    pthread_mutex_unlock(&m->lock);
    return drops;
}

static bool kept_get(struct model *m, int64_t version, struct snapshot *s)
{
    pthread_mutex_lock(&m->lock);
    struct kept_version *k = kept_find(m, version);
    if (k) {
        generation_unref(&s->generation);
        s->generation = generation_ref(k->generation);
        s->at = k->at;
    }
    pthread_mutex_unlock(&m->lock);
    return k != NULL;
}

/* Reads parameters, buffers and averages of a version; what training needs besides is not read. */
static int version_read(struct model *m, int64_t version, struct snapshot *s, struct error *e)
{
    struct arena *a = arena_create(4096);
    struct store_version v;
    const struct network *net = program_network(s->program);
    if (!a)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    int status = store_version_info(m->models->store, m->id, version, a, &v, e);
    bool averaged = false;
    if (!status)
        s->at = (struct counters){v.step, v.revision, v.draw};
    for (int i = 0; !status && net->ema_decay > 0 && i < v.n_parts; i++)
        averaged |= strcmp(v.parts[i].name, "ema") == 0;
    arena_destroy(&a);
    struct generation *g = status ? NULL : generation_create(net, e);
    if (!g)
        return -1;
    size_t params = graph_params_size(net->graph), buffers = graph_buffers_size(net->graph);
    struct store_part parts[] = {{"params", g->params, params * sizeof(real)},
                                 {"buffers", g->buffers, buffers * sizeof(real)},
                                 {"ema", g->averages, params * sizeof(real)}};
    status = store_version_load(m->models->store, m->id, version, parts, 2 + averaged, e);
    if (!averaged)
        generation_averages_reset(net, g);
    if (!status) {
        generation_unref(&s->generation);
        s->generation = generation_ref(g);
    }
    generation_unref(&g);
    return status;
}

int model_version_snapshot(struct model *m, int64_t version, struct snapshot *s_r, struct error *e)
{
    uint64_t drops = kept_drops(m);
    if (model_snapshot(m, s_r, e))
        return -1;
    if (kept_get(m, version, s_r))
        return 0;
    size_t bytes = generation_bytes(program_network(s_r->program));
    if (budget_take(&m->models->budget, bytes, "the version", e)) {
        snapshot_release(s_r);
        return -1;
    }
    if (version_read(m, version, s_r, e)) {
        budget_give(&m->models->budget, bytes);
        snapshot_release(s_r);
        return -1;
    }
    kept_put(m, version, s_r->generation, &s_r->at, bytes, drops);
    return 0;
}

int model_version_delete(struct model *m, int64_t version, const struct store_answer *answer,
                         struct error *e)
{
    if (store_version_delete(m->models->store, m->id, version, answer, e))
        return -1;
    model_kept_drop(m, version);
    return 0;
}
