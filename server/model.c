/* model.c: a live model in memory, its snapshots and its settings. The steps are in model_step.c,
 * what goes to the store and comes back in model_versions.c, questions in snapshot.c. */
#include "model_private.h"

#include "answers.h"
#include "evaluation.h"
#include "metrics.h"

#include <math.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>

/* The published generation, the one that is being written, one that readers may still hold,
 * gradients twice and moved statistics twice. */
size_t model_bytes(const struct network *net)
{
    size_t generation = generation_bytes(net), sum;
    size_t rest = 2 * (graph_params_size(net->graph) + graph_buffers_size(net->graph));
    if (__builtin_mul_overflow(generation, 3, &sum) ||
        __builtin_mul_overflow(rest, sizeof(real), &rest) ||
        __builtin_add_overflow(sum, rest, &sum))
        return SIZE_MAX;
    return sum;
}

static real *block_create(size_t count)
{
    real *block = calloc(count ? count : 1, sizeof(real));
    if (block)
        large_advise(block, count * sizeof(real));
    return block;
}

int model_reserve(struct model *m, const struct network *net, struct error *e)
{
    size_t need = model_bytes(net), more = need > m->reserved ? need - m->reserved : 0;
    if (budget_take(&m->models->budget, more, "the model", e))
        return -1;
    m->reserved += more;
    return 0;
}

void model_reserve_settle(struct model *m)
{
    size_t need = model_bytes(program_network(m->program));
    if (need >= m->reserved)
        return;
    budget_give(&m->models->budget, m->reserved - need);
    m->reserved = need;
}

static int model_allocate(struct model *m, struct error *e)
{
    const struct network *net = program_network(m->program);
    if (model_reserve(m, net, e))
        return -1;
    m->live = generation_create(net, e);
    if (!m->live)
        return -1;
    m->grads = block_create(graph_params_size(net->graph));
    m->sum = block_create(graph_params_size(net->graph));
    for (int i = 0; i < 2; i++)
        m->buffers[i] = block_create(graph_buffers_size(net->graph));
    if (!m->grads || !m->sum || !m->buffers[0] || !m->buffers[1])
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the model's gradients");
    return 0;
}

/* The program of a description; NULL: it cannot be built. */
struct program *model_compile(struct models *ms, const json_t *given, const json_t *settings,
                              struct error *e)
{
    json_t *d = settings ? description_effective(given, settings) : NULL;
    if (!d) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the description");
        return NULL;
    }
    struct network *net = describe_network(d, e);
    json_decref(d);
    return net ? program_create(net, &ms->budget, pool_threads(ms->pool), e) : NULL;
}

static int model_queues(struct model *m, struct error *e)
{
    const struct models *ms = m->models;
    for (int i = 0; i < WORK_KINDS; i++) {
        m->queue[i] = work_queue_create(ms->work, (enum work_kind)i, (size_t)ms->max_queue, e);
        if (!m->queue[i])
            return -1;
    }
    return 0;
}

struct model *model_create(struct models *ms, const char *name, json_t *given, json_t *settings,
                           struct error *e)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a model");
        return NULL;
    }
    m->models = ms;
    m->refs = 1;
    m->last_loss = NAN;
    model_totals_init(&m->totals);
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->writing, NULL);
    pthread_mutex_init(&m->checkpoint_lock, NULL);
    strncpy(m->name, name, MODEL_MAX_NAME);
    m->given = json_incref(given);
    m->settings = json_incref(settings);
    m->answers = answers_create();
    m->program = model_compile(ms, given, settings, e);
    if (!m->answers)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a model");
    if (!m->program || !m->answers || model_queues(m, e) || model_allocate(m, e))
        model_release(&m);
    else {
        model_settings_read(m);
        model_queues_set(m);
    }
    return m;
}

void model_release(struct model **model)
{
    struct model *m = *model;
    *model = NULL;
    if (!m || __atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (int i = 0; i < WORK_KINDS; i++)
        work_queue_destroy(&m->queue[i]);
    evaluations_destroy(m);
    model_signals_drop(m);
    model_kept_drop(m, 0);
    generation_unref(&m->live);
    generation_unref(&m->spare);
    for (struct version_stats *v = m->versions_stats, *next; v; v = next) {
        next = v->next;
        free(v);
    }
    free(m->grads);
    free(m->sum);
    free(m->buffers[0]);
    free(m->buffers[1]);
    program_unref(&m->program);
    json_decref(m->given);
    json_decref(m->settings);
    budget_give(&m->models->budget, m->reserved);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->writing);
    pthread_mutex_destroy(&m->checkpoint_lock);
    redo_close(&m->redo);
    answers_destroy(&m->answers);
    free(m);
#ifdef __GLIBC__
    malloc_trim(0); /* what lay between others' blocks goes back to the system, too */
#endif
}

/* ---- snapshots ------------------------------------------------------------------------------- */

int model_snapshot(struct model *m, struct snapshot *s_r, struct error *e)
{
    pthread_mutex_lock(&m->lock);
    *s_r = (struct snapshot){.program = program_ref(m->program),
                             .generation = generation_ref(m->live),
                             .at = m->at,
                             .pending = m->pending,
                             .last_loss = m->last_loss,
                             .batching = m->batching};
    json_t *settings = json_incref(m->settings);
    pthread_mutex_unlock(&m->lock);
    s_r->description = description_effective(m->given, settings);
    json_decref(settings);
    if (s_r->description)
        return 0;
    snapshot_release(s_r);
    return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
}

void snapshot_release(struct snapshot *s)
{
    generation_unref(&s->generation);
    program_unref(&s->program);
    json_decref(s->description);
    s->description = NULL;
}

/* ---- state ----------------------------------------------------------------------------------- */

const real *model_training_buffers(const struct model *m)
{
    return m->moved ? m->buffers[0] : m->live->buffers;
}

/* A generation to write the next state into: the spare one when no reader holds it. */
struct generation *model_next(struct model *m, struct error *e)
{
    struct generation *next = m->spare;
    m->spare = NULL;
    return next ? next : generation_create(program_network(m->program), e);
}

void model_keep_spare(struct model *m, struct generation **g)
{
    /* Nobody can take a new reference to a generation that is not published. */
    if (*g && !m->spare && __atomic_load_n(&(*g)->refs, __ATOMIC_ACQUIRE) == 1) {
        generation_forget(*g);
        m->spare = *g;
        *g = NULL;
    }
    generation_unref(g);
}

int model_check_there(const struct model *m, struct error *e)
{
    if (m->presence == MODEL_DELETED)
        return error_set(e, ERROR_UNKNOWN_MODEL, "model '%s' was deleted", m->name);
    if (m->presence == MODEL_UNLOADED)
        return error_set(e, ERROR_NOT_READY, "model '%s' was unloaded", m->name);
    return 0;
}

/* Under the model's lock. */
static void exchange_program(struct model *m, const struct commit *c)
{
    struct program *program = m->program;
    json_t *settings = m->settings;
    m->program = *c->program;
    m->settings = *c->settings;
    *c->program = program;
    *c->settings = settings;
    model_settings_read(m);
}

int model_commit(struct model *m, struct generation *next, const struct commit *c,
                 const struct logged *l, struct error *e)
{
    bool log = l && !m->replaying && m->durability != DURABILITY_NONE;
    m->commit_ms = metrics_now_ms();
    pthread_mutex_lock(&m->lock);
    int status = model_check_there(m, e);
    pthread_mutex_unlock(&m->lock);
    if (status || (log && model_redo_append(m, l, c, e)))
        return -1;
    pthread_mutex_lock(&m->lock);
    model_totals_add(m, c, l);
    struct generation *old = next ? m->live : NULL;
    if (next)
        m->live = next;
    m->at = c->at;
    m->pending = c->pending;
    m->losses = c->losses;
    m->moved = c->moved;
    m->dirty = true;
    if (!isnan(c->loss))
        m->last_loss = c->loss;
    if (c->program)
        exchange_program(m, c);
    pthread_mutex_unlock(&m->lock);
    if (c->program) { /* both are of the old one's size */
        generation_unref(&m->spare);
        generation_unref(&old);
        model_queues_set(m);
    }
    model_keep_spare(m, &old);
    return 0;
}

static void digest_u64(struct digest *d, uint64_t x)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(x >> 8 * i);
    digest_update(d, bytes, sizeof bytes);
}

static size_t missed_bytes(const struct network *net)
{
    return (size_t)graph_param_count(net->graph) * sizeof(uint64_t);
}

int model_state_sha256(struct model *m, char sha256_r[DIGEST_HEX], struct error *e)
{
    struct digest d;
    uint8_t hash[DIGEST_BYTES];
    if (digest_init(&d, e))
        return -1;
    pthread_mutex_lock(&m->writing);
    const struct network *net = program_network(m->program);
    size_t params = graph_params_size(net->graph) * sizeof(real);
    size_t slots = net->optimizer ? (size_t)optimizer_slots(net->optimizer) : 0;
    digest_u64(&d, m->at.step);
    digest_u64(&d, m->at.draw);
    digest_u64(&d, m->live->optimizer_step);
    digest_u64(&d, m->pending);
    digest_update(&d, m->live->params, params);
    digest_update(&d, model_training_buffers(m), graph_buffers_size(net->graph) * sizeof(real));
    digest_update(&d, m->live->slots, slots * params);
    if (schedule_has_state(net->schedule))
        digest_update(&d, &m->live->schedule, sizeof m->live->schedule);
    if (m->live->averages)
        digest_update(&d, m->live->averages, params);
    if (generation_missed_any(net, m->live))
        digest_update(&d, m->live->missed, missed_bytes(net));
    if (m->pending)
        digest_update(&d, m->sum, params);
    if (m->pending && schedule_has_state(net->schedule))
        digest_update(&d, &m->losses, sizeof m->losses);
    pthread_mutex_unlock(&m->writing);
    if (digest_finish(&d, hash, e))
        return -1;
    digest_hex(hash, sha256_r);
    return 0;
}

struct commit model_commit_begin(const struct model *m)
{
    return (struct commit){
        .at = m->at, .pending = m->pending, .moved = m->moved, .losses = m->losses, .loss = NAN};
}
