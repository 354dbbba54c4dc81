/* model_patch.c: the settings of a model: fields of its description that may change while it lives.
 * They are kept apart from the description that it was created with, so that the same PUT again
 * finds the same model. The store has them in the description of the checkpoint: settings and the
 * optimiser's state, which must fit together, are saved by one transaction. */
#include "model_private.h"

#include <string.h>

/* Gives up an object that lacks a field for want of memory. */
static json_t *whole_or_null(json_t *object, int failed)
{
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

json_t *description_effective(const json_t *given, const json_t *settings)
{
    if (!json_object_size(settings)) /* of each prediction: no copy */
        return json_incref((json_t *)given);
    json_t *d = json_copy((json_t *)given);
    const char *key;
    json_t *value;
    int failed = 0;
    json_object_foreach((json_t *)settings, key, value)
    {
        failed |= json_object_set(d, key, value);
    }
    return whole_or_null(d, failed);
}

json_t *description_settings(const json_t *given, const json_t *effective)
{
    json_t *settings = json_object();
    const char *key;
    json_t *value;
    int failed = 0;
    json_object_foreach((json_t *)effective, key, value)
    {
        if (!json_equal(json_object_get(given, key), value))
            failed |= json_object_set(settings, key, value);
    }
    return whole_or_null(settings, failed);
}

/* `patch` over the old settings, null takes one back. */
static json_t *settings_patched(const json_t *old, const json_t *patch)
{
    json_t *merged = json_copy((json_t *)old);
    const char *key;
    json_t *value;
    int failed = 0;
    json_object_foreach((json_t *)patch, key, value)
    {
        if (json_is_null(value))
            json_object_del(merged, key);
        else
            failed |= json_object_set(merged, key, value);
    }
    return whole_or_null(merged, failed);
}

/* The new settings with their defaults written out, as in the description that they are part of. */
static json_t *settings_merge(const struct model *m, const json_t *patch, struct error *e)
{
    json_t *merged = settings_patched(m->settings, patch);
    json_t *effective = merged ? description_effective(m->given, merged) : NULL;
    json_t *expanded = effective ? describe_expand(effective, e) : NULL;
    json_t *settings = expanded ? description_settings(m->given, expanded) : NULL;
    if (!effective || (expanded && !settings))
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the settings");
    json_decref(merged);
    json_decref(effective);
    json_decref(expanded);
    return settings;
}

static const char *const durability_names[] = {"process", "power", "none"};

const char *durability_name(enum durability d)
{
    return durability_names[d];
}

/* A field in force; NULL: not given. */
static const json_t *setting(const struct model *m, const char *field)
{
    const json_t *set = json_object_get(m->settings, field);
    return set ? set : json_object_get(m->given, field);
}

static enum durability durability_of(const struct model *m)
{
    const char *name = json_string_value(setting(m, "durability"));
    for (int i = 0; name && i < 3; i++)
        if (strcmp(name, durability_names[i]) == 0)
            return (enum durability)i;
    return DURABILITY_PROCESS;
}

void model_settings_read(struct model *m)
{
    const json_t *dynamic = setting(m, "dynamic_batching");
    m->batching = (struct batching){
        json_integer_value(setting(m, "max_batch_size")),
        json_integer_value(json_object_get(dynamic, "max_queue_delay_microseconds")),
        json_integer_value(
            json_object_get(json_object_get(dynamic, "default_queue_policy"), "max_queue_size"))};
    m->durability = durability_of(m);
    m->signals_every = model_signals_every(m->given, m->settings);
}

void model_queues_set(struct model *m)
{
    enum { MICROSECOND = 1000 };
    pthread_mutex_lock(&m->lock);
    const struct batching b = m->batching;
    const bool apart = program_slice(m->program) == INT64_MAX; /* no two may share a run */
    pthread_mutex_unlock(&m->lock);
    bool fewer = b.max_batch_size && b.max_batch_size < INFER_MAX_BATCH;
    work_queue_together(m->queue[WORK_PREDICTIONS],
                        fewer ? (size_t)b.max_batch_size : INFER_MAX_BATCH,
                        apart ? 0 : (uint64_t)b.max_queue_delay_microseconds * MICROSECOND);
    for (int i = 0; i < WORK_KINDS; i++)
        work_queue_limit(m->queue[i],
                         (size_t)(b.max_queue_size ? b.max_queue_size : m->models->max_queue));
}

static bool same_optimizer(const struct network *a, const struct network *b)
{
    if (!a->optimizer || !b->optimizer)
        return a->optimizer == b->optimizer;
    return strcmp(optimizer_name(a->optimizer), optimizer_name(b->optimizer)) == 0 &&
           optimizer_slots(a->optimizer) == optimizer_slots(b->optimizer);
}

struct generation *model_regenerate(const struct model *m, const struct network *net,
                                    struct error *e)
{
    const struct network *old = program_network(m->program);
    struct generation *g = generation_create(net, e);
    if (!g)
        return NULL;
    size_t params = graph_params_size(net->graph) * sizeof(real);
    memcpy(g->params, m->live->params, params);
    memcpy(g->buffers, m->live->buffers, graph_buffers_size(net->graph) * sizeof(real));
    if (same_optimizer(old, net) && net->optimizer) {
        memcpy(g->slots, m->live->slots, (size_t)optimizer_slots(net->optimizer) * params);
        generation_take_steps(net, g, m->live);
    }
    if (schedule_same_state(old->schedule, net->schedule) &&
        optimizer_lr(old->optimizer) == optimizer_lr(net->optimizer))
        g->schedule = m->live->schedule;
    if (g->averages && m->live->averages)
        memcpy(g->averages, m->live->averages, params);
    else
        generation_averages_reset(net, g);
    return g;
}

/* Saved before it is published: settings that were answered are there after any restart. Then
 * *program and *settings are the old ones. */
static int patch_commit(struct model *m, struct program **program, struct generation *next,
                        json_t **settings, struct store_answer *answer, struct error *e)
{
    struct model_state s = model_state(m);
    s.net = program_network(*program);
    s.generation = next;
    s.settings = *settings;
    s.c.at.revision++;
    s.c.program = program;
    s.c.settings = settings;
    if (model_check_there(m, e) || model_state_checkpoint(m, &s, answer, e))
        return -1;
    return model_commit(m, next, &s.c, NULL, e);
}

/* A larger optimiser counts as a larger model. */
static int check_quota(struct model *m, const struct network *net, const struct key *by,
                       struct error *e)
{
    if (!by || strcmp(by->name, m->who) ||
        model_bytes(net) <= model_bytes(program_network(m->program)))
        return 0;
    return models_check_bytes(m->models, by, m, net, e);
}

int model_patch(struct model *m, const json_t *patch, const struct key *by,
                struct store_answer *answer, struct error *e)
{
    json_t *settings = settings_merge(m, patch, e);
    struct program *program = settings ? model_compile(m->models, m->given, settings, e) : NULL;
    struct generation *next = NULL;
    if (program && !check_quota(m, program_network(program), by, e) &&
        !model_reserve(m, program_network(program), e))
        next = model_regenerate(m, program_network(program), e);
    pthread_mutex_lock(&m->writing);
    int status = next ? patch_commit(m, &program, next, &settings, answer, e) : -1;
    if (!status)
        m->dirty = false;
    model_reserve_settle(m);
    pthread_mutex_unlock(&m->writing);
    if (!status)
        model_kept_drop(m, 0); /* versions that were read for the old network */
    else
        generation_unref(&next);
    program_unref(&program);
    json_decref(settings);
    return status;
}
