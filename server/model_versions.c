/* model_versions.c: a model's state as the parts that the store keeps: versions, the checkpoint,
 * and coming back from either.
 *
 *   params   the published parameters          slots    the optimiser's state
 *   buffers  the published buffers             moved    statistics not published yet, if any
 *   pending  the sum of pending gradients, if any
 *   ema      the moving average of the parameters, if one is kept
 *   schedule what reduce_on_plateau has seen, if that is the schedule; and then with pending also
 *   pending_losses, what it will be told of them
 *   missed   how many steps each parameter was frozen for, if any was */
#include "model_private.h"

#include "answers.h"
#include "json_in.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 9 };

struct parts {
    struct store_part part[MAX_PARTS];
    int n;
};

static void parts_add(struct parts *p, const char *name, void *data, size_t count)
{
    p->part[p->n++] = (struct store_part){name, data, count * sizeof(real)};
}

/* Like all parts it is written to when a state is read, and only read when one is saved. */
static void parts_add_schedule(struct parts *p, const struct generation *g)
{
    void *data = (void *)(uintptr_t)&g->schedule;
    p->part[p->n++] = (struct store_part){"schedule", data, sizeof g->schedule};
}

static void parts_add_losses(struct parts *p, const struct pending_losses *losses)
{
    void *data = (void *)(uintptr_t)losses;
    p->part[p->n++] = (struct store_part){"pending_losses", data, sizeof *losses};
}

static void parts_add_missed(struct parts *p, const struct network *net, const struct generation *g)
{
    const size_t bytes = (size_t)graph_param_count(net->graph) * sizeof *g->missed;
    p->part[p->n++] = (struct store_part){"missed", g->missed, bytes};
}

/* Those of a generation of this network. */
static void parts_of(struct parts *p, const struct network *net, const struct generation *g)
{
    size_t params = graph_params_size(net->graph);
    size_t slots = net->optimizer ? (size_t)optimizer_slots(net->optimizer) : 0;
    parts_add(p, "params", g->params, params);
    parts_add(p, "buffers", g->buffers, graph_buffers_size(net->graph));
    parts_add(p, "slots", g->slots, slots * params);
}

static void parts_of_state(struct parts *p, const struct model_state *s)
{
    parts_of(p, s->net, s->generation);
    if (s->c.moved)
        parts_add(p, "moved", s->moved, graph_buffers_size(s->net->graph));
    if (s->c.pending)
        parts_add(p, "pending", s->sum, graph_params_size(s->net->graph));
    if (schedule_has_state(s->net->schedule))
        parts_add_schedule(p, s->generation);
    if (schedule_has_state(s->net->schedule) && s->c.pending)
        parts_add_losses(p, &s->c.losses);
    if (s->generation->averages)
        parts_add(p, "ema", s->generation->averages, graph_params_size(s->net->graph));
    if (generation_missed_any(s->net, s->generation))
        parts_add_missed(p, s->net, s->generation);
}

struct model_state model_state(struct model *m)
{
    return (struct model_state){.net = program_network(m->program),
                                .generation = m->live,
                                .c = model_commit_begin(m),
                                .moved = m->buffers[0],
                                .sum = m->sum,
                                .settings = m->settings};
}

typedef int save_fn(struct store *s, int64_t model_id, struct store_version *v,
                    const struct store_part *parts, int n, struct error *e);

/* In the model's queue nothing changes while the store reads the parts. `note`, `who` and `answer`
 * of `v` are given. */
static int save_state(struct model *m, const struct model_state *s, save_fn *save,
                      struct store_version *v, struct error *e)
{
    struct parts parts = {.n = 0};
    const char *note = v->note, *who = v->who;
    struct store_answer *answer = v->answer;
    json_t *d = description_effective(m->given, s->settings);
    char *description = d ? json_in_dump(d, JSON_COMPACT) : NULL;
    json_decref(d);
    if (!description) /* or settings may be missing in it */
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the model's description");
    parts_of_state(&parts, s);
    *v = (struct store_version){.step = s->c.at.step,
                                .revision = s->c.at.revision,
                                .draw = s->c.at.draw,
                                .optimizer_step = s->generation->optimizer_step,
                                .pending = s->c.pending,
                                .fingerprint = engine_fingerprint(),
                                .description = description,
                                .note = note,
                                .who = who,
                                .answer = answer,
                                .deed = s->deed};
    int status = save(m->models->store, m->id, v, parts.part, parts.n, e);
    v->description = NULL;
    free(description);
    return status;
}

int model_version_save(struct model *m, const char *who, const char *note,
                       struct store_answer *answer, struct store_version *v, struct error *e)
{
    struct model_state s = model_state(m);
    *v = (struct store_version){.note = note, .who = who, .answer = answer};
    return model_check_there(m, e) ? -1 : save_state(m, &s, store_version_save, v, e);
}

int model_state_checkpoint(struct model *m, const struct model_state *s,
                           struct store_answer *answer, struct error *e)
{
    struct store_version v = {.note = "", .who = "", .answer = answer};
    int status = 0;
    pthread_mutex_lock(&m->checkpoint_lock);
    /* One that was overtaken is not saved. Metrics and answers go first: the log, from which they
     * could be completed, is let go of. */
    if (s->c.at.revision >= m->checkpoint_revision)
        status = store_metrics_flush(m->models->store, e) ||
                 answers_save(m->answers, m->models->store, m->id, e) ||
                 save_state(m, s, store_checkpoint_save, &v, e);
    if (!status && s->c.at.revision >= m->checkpoint_revision) {
        m->checkpoint_revision = s->c.at.revision;
        model_count_checkpoint(m);
        if (m->redo)
            redo_forget(m->redo, s->c.at.revision);
    }
    pthread_mutex_unlock(&m->checkpoint_lock);
    return status ? -1 : 0;
}

int model_checkpoint(struct model *m, struct error *e)
{
    struct model_state s = model_state(m);
    if (!m->dirty || m->presence != MODEL_THERE)
        return 0;
    if (model_state_checkpoint(m, &s, NULL, e))
        return -1;
    m->dirty = false;
    return 0;
}

/* ---- coming back ----------------------------------------------------------------------------- */

static const struct store_part_info *part_find(const struct store_version *v, const char *name)
{
    for (int i = 0; i < v->n_parts; i++)
        if (strcmp(v->parts[i].name, name) == 0)
            return &v->parts[i];
    return NULL;
}

/* Reads a state that is stored for the model of this id: the generation `g` of `net`, and into `m`
 * what is not published. */
static int load_state(struct model *m, int64_t id, const struct network *net,
                      const struct store_version *v, struct generation *g, bool *moved_r,
                      struct pending_losses *losses_r, struct error *e)
{
    struct parts parts = {.n = 0};
    *losses_r = (struct pending_losses){0, 0};
    parts_of(&parts, net, g);
    *moved_r = part_find(v, "moved") != NULL;
    if (*moved_r)
        parts_add(&parts, "moved", m->buffers[1], graph_buffers_size(net->graph));
    if (v->pending)
        parts_add(&parts, "pending", m->grads, graph_params_size(net->graph));
    if (schedule_has_state(net->schedule) && part_find(v, "schedule"))
        parts_add_schedule(&parts, g);
    if (v->pending && part_find(v, "pending_losses"))
        parts_add_losses(&parts, losses_r);
    if (g->averages && part_find(v, "ema"))
        parts_add(&parts, "ema", g->averages, graph_params_size(net->graph));
    if (part_find(v, "missed"))
        parts_add_missed(&parts, net, g);
    g->optimizer_step = v->optimizer_step;
    if (store_version_load(m->models->store, id, v->version, parts.part, parts.n, e))
        return -1;
    if (!part_find(v, "ema")) /* none was kept then */
        generation_averages_reset(net, g);
    return 0;
}

/* load_state read into the places for scratch; they become the state when nothing can fail. */
static void adopt_unpublished(struct model *m, bool pending, bool moved)
{
    if (pending) {
        real *sum = m->sum;
        m->sum = m->grads;
        m->grads = sum;
    }
    if (moved) {
        real *b = m->buffers[0];
        m->buffers[0] = m->buffers[1];
        m->buffers[1] = b;
    }
}

/* The settings under which a version's state makes sense: the model's, but with the version's
 * optimiser where the state of another one would be loaded into it. */
static json_t *settings_for(const struct model *m, const struct store_version *v, bool *other_r)
{
    json_t *then = json_in_load(v->description, strlen(v->description), NULL);
    json_t *now = description_effective(m->given, m->settings);
    json_t *settings = then && now ? json_copy(m->settings) : NULL;
    const char *op_then =
        json_string_value(json_object_get(json_object_get(then, "optimizer"), "op"));
    const char *op_now =
        json_string_value(json_object_get(json_object_get(now, "optimizer"), "op"));
    const struct store_part_info *slots = part_find(v, "slots");
    const struct network *net = program_network(m->program);
    int64_t bytes = net->optimizer ? (int64_t)(optimizer_slots(net->optimizer) *
                                               graph_params_size(net->graph) * sizeof(real))
                                   : 0;
    *other_r =
        op_then && op_now && (strcmp(op_then, op_now) != 0 || (slots && slots->bytes != bytes));
    if (*other_r && settings &&
        json_object_set(settings, "optimizer", json_object_get(then, "optimizer"))) {
        json_decref(settings);
        settings = NULL;
    }
    json_decref(then);
    json_decref(now);
    return settings; /* NULL: out of memory */
}

struct restoring {
    struct store_version v;
    json_t *settings;
    bool other_optimizer, moved;
    struct pending_losses losses;
    struct program *program; /* NULL: the model's own */
    struct generation *next;
};

static int restore_prepare(struct model *m, struct restoring *r, struct error *e)
{
    r->settings = settings_for(m, &r->v, &r->other_optimizer);
    if (!r->settings || json_in_starved()) /* one of both descriptions may have been missing */
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    if (r->other_optimizer && !(r->program = model_compile(m->models, m->given, r->settings, e)))
        return -1;
    const struct network *net = program_network(r->program ? r->program : m->program);
    if (model_reserve(m, net, e))
        return -1;
    r->next = generation_create(net, e);
    return r->next ? load_state(m, m->id, net, &r->v, r->next, &r->moved, &r->losses, e) : -1;
}

/* The checkpoint first: what was restored is there after any restart. */
static int restore_commit(struct model *m, struct restoring *r, struct store_answer *answer,
                          struct error *e)
{
    struct commit c = {.at = {r->v.step, m->at.revision + 1, r->v.draw},
                       .pending = r->v.pending,
                       .moved = r->moved,
                       .losses = r->losses,
                       .loss = NAN,
                       .program = r->program ? &r->program : NULL,
                       .settings = &r->settings};
    struct model_state s = {.net = program_network(r->program ? r->program : m->program),
                            .generation = r->next,
                            .c = c,
                            .moved = m->buffers[1],
                            .sum = m->grads,
                            .settings = r->settings};
    if (model_state_checkpoint(m, &s, answer, e) || model_commit(m, r->next, &c, NULL, e))
        return -1;
    r->next = NULL;
    adopt_unpublished(m, r->v.pending, r->moved);
    m->dirty = false;
    return 0;
}

int model_version_restore(struct model *m, int64_t version, struct store_answer *answer,
                          struct error *e)
{
    struct arena *a = arena_create(4096);
    struct restoring r = {.settings = NULL};
    if (!a)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    pthread_mutex_lock(&m->writing);
    int status = model_check_there(m, e) ||
                 store_version_info(m->models->store, m->id, version, a, &r.v, e) ||
                 restore_prepare(m, &r, e) || restore_commit(m, &r, answer, e);
    model_reserve_settle(m);
    pthread_mutex_unlock(&m->writing);
    json_decref(r.settings);
    program_unref(&r.program);
    generation_unref(&r.next);
    arena_destroy(&a);
    return status ? -1 : 0;
}

/* The first state of a model, stored for the one of this id. */
static int load_first(struct model *m, int64_t id, const struct store_version *v, uint64_t revision,
                      struct error *e)
{
    if (load_state(m, id, program_network(m->program), v, m->live, &m->moved, &m->losses, e))
        return -1;
    m->at = (struct counters){v->step, revision, v->draw};
    m->pending = v->pending;
    adopt_unpublished(m, m->pending, m->moved);
    return 0;
}

int model_load_checkpoint(struct model *m, const struct store_model *row,
                          const struct store_version *v, struct error *e)
{
    m->id = row->id;
    m->created_ms = row->created_ms;
    snprintf(m->who, sizeof m->who, "%s", row->who);
    m->checkpoint_revision = v->revision;
    return load_first(m, m->id, v, v->revision, e);
}

/* ---- another model's state ------------------------------------------------------------------- */

/* With `writing` held: settings do not change meanwhile. */
static json_t *settings_of_version(struct model *m, int64_t version, struct error *e)
{
    struct arena *a = arena_create(4096);
    struct store_version v;
    json_t *settings = NULL;
    bool other;
    if (!a)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    else if (!store_version_info(m->models->store, m->id, version, a, &v, e) &&
             !(settings = settings_for(m, &v, &other)))
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the settings");
    arena_destroy(&a);
    return settings;
}

json_t *model_settings(struct model *m, int64_t version, struct error *e)
{
    json_t *settings;
    pthread_mutex_t *lock = version ? &m->writing : &m->lock;
    pthread_mutex_lock(lock);
    settings = version ? settings_of_version(m, version, e) : json_incref(m->settings);
    pthread_mutex_unlock(lock);
    if (settings && version && json_in_starved()) { /* a description may not have been read whole */
        json_decref(settings);
        settings = NULL;
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the settings");
    }
    return settings;
}

int model_take_version(struct model *m, struct model *from, int64_t version, struct error *e)
{
    struct arena *a = arena_create(4096);
    struct store_version v;
    if (!a)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    int status = store_version_info(m->models->store, from->id, version, a, &v, e) ||
                 load_first(m, from->id, &v, m->at.revision + 1, e);
    arena_destroy(&a);
    return status ? -1 : 0;
}

int model_take_state(struct model *m, struct model *from, struct error *e)
{
    pthread_mutex_lock(&from->writing);
    if (from->settings != m->settings) { /* which m was made with */
        pthread_mutex_unlock(&from->writing);
        return error_set(e, ERROR_CONFLICT,
                         "the settings of model '%s' changed while it was being cloned; try again",
                         from->name);
    }
    const struct network *net = program_network(m->program);
    size_t params = graph_params_size(net->graph) * sizeof(real);
    size_t buffers = graph_buffers_size(net->graph) * sizeof(real);
    struct generation *next = model_regenerate(from, net, e);
    struct commit c = model_commit_begin(from);
    c.at.revision = m->at.revision + 1;
    int status = next ? model_commit(m, next, &c, NULL, e) : -1;
    if (status)
        generation_unref(&next);
    if (!status && c.pending)
        memcpy(m->sum, from->sum, params);
    if (!status && c.moved)
        memcpy(m->buffers[0], from->buffers[0], buffers);
    pthread_mutex_unlock(&from->writing);
    return status;
}

/* "conv1" stands for all of its parameters. */
static bool glob_matches(const char *glob, const char *name)
{
    char all[256];
    snprintf(all, sizeof all, "%s.*", glob);
    return fnmatch(glob, name, 0) == 0 || fnmatch(all, name, 0) == 0;
}

/* Copies what one glob names; the number of parameters and buffers. */
static int take_glob(struct model *m, const struct snapshot *s, const char *glob)
{
    const struct graph *g = program_network(m->program)->graph;
    int taken = 0;
    for (int i = 0; i < graph_param_count(g); i++) {
        const struct param *p = graph_param(g, i);
        real *to = p->buffer ? m->live->buffers : m->live->params;
        const real *from = p->buffer ? s->generation->buffers : s->generation->params;
        if (!glob_matches(glob, p->name))
            continue;
        memcpy(to + p->offset, from + p->offset, p->count * sizeof(real));
        taken++;
    }
    return taken;
}

int model_take_layers(struct model *m, struct model *from, int64_t version, const json_t *layers,
                      struct error *e)
{
    struct snapshot s;
    size_t i;
    json_t *item;
    int status = 0;
    if (version ? model_version_snapshot(from, version, &s, e) : model_snapshot(from, &s, e))
        return -1;
    json_array_foreach((json_t *)layers, i, item)
    {
        if (!json_is_string(item))
            status = error_set(e, ERROR_BAD_TYPE, "layers[%zu] must be a string", i);
        else if (!status && !take_glob(m, &s, json_string_value(item)))
            status = error_set(e, ERROR_BAD_VALUE, "layers[%zu]: no parameter matches '%.60s'", i,
                               json_string_value(item));
    }
    snapshot_release(&s);
    generation_averages_reset(program_network(m->program), m->live);
    return status;
}
