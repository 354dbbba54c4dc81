/* model_redo.c: what a model writes to its redo log and how it is replayed.
 *
 * A payload is a struct entry_head, then the sizes of its tensors (uint64 each), then their bytes,
 * each padded to a multiple of 8: the batch as the network took it, in the order of its leaves, so
 * that replay parses nothing. The head also holds what the step answered: the metrics that are
 * completed from the log are those that were answered.
 *
 * Only the verbs that train are logged. Everything else that changes a model (creating, PATCH,
 * restore, clone) writes a checkpoint before it is answered, which holds all the log up to then. */
#include "model_private.h"

#include "answers.h"
#include "json_in.h"
#include "metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 2 * NETWORK_MAX_IO };

struct entry_head {
    char verb[24];
    uint64_t n, tensors; /* samples in the batch; tensors that follow */
    uint64_t keep_gradients;
    uint64_t request;         /* hash, with a key */
    char key[ANSWER_KEY + 4]; /* "" without one */
    double lr_asked;          /* NaN: the schedule's */
    struct step_result answered;
    int64_t time_ms;
};

/* ---- verbs ----------------------------------------------------------------------------------- */

static int redo_optim_step(struct model *m, const struct batch *b, const struct step_options *o,
                           struct step_result *r, struct error *e)
{
    (void)b;
    return model_optim_step(m, o, r, e);
}

static int redo_zero_grad(struct model *m, const struct batch *b, const struct step_options *o,
                          struct step_result *r, struct error *e)
{
    (void)b;
    return model_zero_grad(m, o, r, e);
}

const struct model_verb model_verbs[] = {
    [VERB_TRAIN_STEP] = {"train_step", model_train_step},
    [VERB_FORWARD_BACKWARD] = {"forward_backward", model_forward_backward},
    [VERB_OPTIM_STEP] = {"optim_step", redo_optim_step},
    [VERB_ZERO_GRAD] = {"zero_grad", redo_zero_grad},
};
enum { VERBS = sizeof model_verbs / sizeof model_verbs[0] };

static const struct model_verb *verb_find(const char *name)
{
    for (int i = 0; i < VERBS; i++)
        if (strncmp(model_verbs[i].name, name, sizeof((struct entry_head *)0)->verb) == 0)
            return &model_verbs[i];
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Bytes of leaf i of a batch; inputs then targets. */
static size_t leaf_bytes(const struct network *net, int i, int64_t n)
{
    const struct node *leaf = i < net->n_inputs ? net->inputs[i] : net->targets[i - net->n_inputs];
    int64_t count = 0;
    shape_count(node_shape(leaf), n, &count);
    return (size_t)count * dtype_size(node_dtype(leaf));
}

/* What must hold before a record is answered: the log can be trusted, or a checkpoint of the
 * present state takes its place; and no commit of the store is of unknown outcome, which after a
 * kill could turn out to be a newer checkpoint than the one that the record follows. */
static int redo_trusted(struct model *m, struct error *e)
{
    if (store_resolve(m->models->store, e))
        return -1;
    if (!redo_suspect(m->redo))
        return 0;
    struct model_state s = model_state(m);
    return model_state_checkpoint(m, &s, NULL, e);
}

int model_redo_append(struct model *m, const struct logged *l, const struct commit *c,
                      struct error *e)
{
    const struct network *net = program_network(m->program);
    static const char zeros[8];
    struct entry_head head = {.lr_asked = l->options->lr,
                              .keep_gradients = l->options->keep_gradients,
                              .request = l->options->request,
                              .answered = *l->result,
                              .time_ms = m->commit_ms};
    struct iovec v[2 + 2 * MAX_TENSORS] = {{&head, sizeof head}};
    uint64_t sizes[MAX_TENSORS];
    int parts = 2;
    if (redo_trusted(m, e))
        return -1;
    strcpy(head.verb, model_verbs[l->verb].name);
    if (l->options->key)
        snprintf(head.key, sizeof head.key, "%s", l->options->key);
    head.answered.at = c->at;
    if (l->batch) {
        head.n = (uint64_t)l->batch->n;
        head.tensors = (uint64_t)(net->n_inputs + net->n_targets);
    }
    v[1] = (struct iovec){sizes, head.tensors * sizeof sizes[0]};
    for (uint64_t i = 0; i < head.tensors; i++) {
        sizes[i] = leaf_bytes(net, (int)i, l->batch->n);
        v[parts++] = (struct iovec){(void *)l->batch->data[i], sizes[i]};
        v[parts++] = (struct iovec){(void *)zeros, (8 - sizes[i] % 8) % 8};
    }
    return redo_append(m->redo, c->at.revision, v, parts, m->durability == DURABILITY_POWER, e);
}

/* ---- replaying ------------------------------------------------------------------------------- */

struct replaying {
    struct model *m;
    uint64_t count, other_engine;
    int64_t told_ms; /* when the log was told how far it is */
};

enum { TELL_MS = 1000 };

static void tell(const struct replaying *p, enum log_level level, const char *what)
{
    log_line((struct log *)p->m->models->log, level, what, LOG_STR("model", p->m->name),
             LOG_INT("records", (int64_t)p->count),
             LOG_INT("revision", (int64_t)p->m->at.revision));
}

static void tell_end(const struct replaying *p)
{
    if (p->count)
        tell(p, LOG_INFO, "replayed");
    if (p->other_engine)
        tell(p, LOG_WARN,
             "replayed on another engine than the one that computed the steps: equal but for "
             "rounding");
    if (p->m->torn_bytes)
        tell(p, LOG_WARN, "the end of the redo log was not whole and has been cut off");
}

static int bad_entry(const struct model *m, const struct redo_record *record, const char *what,
                     struct error *e)
{
    return error_set(e, ERROR_STORAGE, "model '%s': record %llu of its redo log %s", m->name,
                     (unsigned long long)record->revision, what);
}

/* Points the batch into the record. */
static int read_batch(const struct model *m, const struct redo_record *record,
                      const struct entry_head *head, struct batch *b, struct error *e)
{
    const struct network *net = program_network(m->program);
    const char *at = (const char *)record->payload + sizeof *head;
    size_t left = record->bytes - sizeof *head;
    const uint64_t *sizes = (const uint64_t *)(const void *)at;
    *b = (struct batch){.n = (int64_t)head->n};
    if (head->tensors > MAX_TENSORS || left < head->tensors * sizeof *sizes)
        return bad_entry(m, record, "is too short", e);
    if (head->tensors && head->tensors != (uint64_t)(net->n_inputs + net->n_targets))
        return bad_entry(m, record, "is of another network", e);
    at += head->tensors * sizeof *sizes;
    left -= head->tensors * sizeof *sizes;
    for (uint64_t i = 0; i < head->tensors; i++) {
        size_t step = sizes[i] + (8 - sizes[i] % 8) % 8;
        if (sizes[i] > left || sizes[i] != leaf_bytes(net, (int)i, b->n))
            return bad_entry(m, record, "holds a tensor of another size", e);
        b->data[i] = at;
        at += step;
        left -= step < left ? step : left;
    }
    return 0;
}

/* One record, carried out again. Its metrics are those that were answered. */
static int replay_one(void *arg, const struct redo_record *record, struct error *e)
{
    struct replaying *p = arg;
    struct model *m = p->m;
    const struct entry_head *head = record->payload;
    struct step_result r;
    struct batch b;
    if (record->bytes < sizeof *head)
        return bad_entry(m, record, "is too short", e);
    if (record->revision != m->at.revision + 1)
        return bad_entry(m, record, "does not follow the one before", e);
    const struct model_verb *verb = verb_find(head->verb);
    if (!verb)
        return bad_entry(m, record, "names a verb that this backpropd does not know", e);
    struct step_options o = {.lr = head->lr_asked, .keep_gradients = head->keep_gradients};
    if (read_batch(m, record, head, &b, e) || verb->redo(m, &b, &o, &r, e))
        return error_prefix(e, "model '%s': replaying revision %llu", m->name,
                            (unsigned long long)record->revision);
    metrics_record_at(m, &head->answered, head->time_ms);
    model_signals_save(m, &head->answered, head->time_ms);
    if (head->key[0])
        answers_add(m->answers, head->key, head->request, &head->answered);
    p->count++;
    p->other_engine += !record->same_engine;
    if (metrics_now_ms() >= p->told_ms + TELL_MS) {
        p->told_ms = metrics_now_ms();
        tell(p, LOG_INFO, "replaying");
    }
    return 0;
}

int model_redo_open(struct model *m, bool replay, struct error *e)
{
    struct replaying p = {.m = m, .told_ms = metrics_now_ms()};
    m->redo = redo_open(m->models->redo_root, m->id, engine_fingerprint(), e);
    if (!m->redo || !replay)
        return m->redo ? 0 : -1;
    if (answers_load(m->answers, m->models->store, m->id, e))
        return -1;
    m->replaying = true;
    int status = redo_replay(m->redo, m->at.revision, replay_one, &p, &m->torn_bytes, e);
    m->replaying = false;
    m->replayed = p.count;
    m->replayed_other_engine = p.other_engine;
    if (!status)
        tell_end(&p);
    return status;
}

/* ---- checkpoints in the background ----------------------------------------------------------- */

/* A state that stays as it is while it is saved: the generation is held, the rest copied. */
struct saving {
    struct work_job job;
    struct model *m;
    struct model_state s;
    struct generation *held;
    struct program *program;
    json_t *settings;
};

static void saving_free(struct saving *sv)
{
    generation_unref(&sv->held);
    program_unref(&sv->program);
    json_decref(sv->settings);
    free(sv->s.moved);
    free(sv->s.sum);
    __atomic_store_n(&sv->m->saving, false, __ATOMIC_RELEASE);
    model_release(&sv->m);
    free(sv);
}

static void saving_run(struct work_job *job, bool cancelled)
{
    struct saving *sv = (struct saving *)job;
    struct error e;
    json_in_forget();
    if (!cancelled && model_state_checkpoint(sv->m, &sv->s, NULL, &e))
        models_log_failure(sv->m->models, sv->m->name, "checkpoint", &e);
    saving_free(sv);
}

static real *copy_block(const real *from, size_t count)
{
    real *to = large_alloc(count * sizeof *to);
    if (to)
        memcpy(to, from, count * sizeof *to);
    return to;
}

static struct saving *saving_create(struct model *m)
{
    const struct graph *g = program_network(m->program)->graph;
    struct saving *sv = calloc(1, sizeof *sv);
    if (!sv)
        return NULL;
    sv->job.run = saving_run;
    sv->m = model_hold(m);
    sv->s = model_state(m);
    sv->s.moved = sv->s.c.moved ? copy_block(m->buffers[0], graph_buffers_size(g)) : NULL;
    sv->s.sum = sv->s.c.pending ? copy_block(m->sum, graph_params_size(g)) : NULL;
    sv->held = generation_ref(m->live);
    sv->program = program_ref(m->program);
    sv->settings = json_incref(m->settings);
    if ((sv->s.c.moved && !sv->s.moved) || (sv->s.c.pending && !sv->s.sum)) {
        saving_free(sv);
        return NULL;
    }
    return sv;
}

void model_checkpoint_when_due(struct model *m, double step_seconds)
{
    struct models *ms = m->models;
    m->redo_seconds += step_seconds;
    bool due = m->redo_seconds > ms->redo_max_seconds || redo_bytes(m->redo) > ms->redo_max_bytes;
    if (!due || m->replaying || __atomic_exchange_n(&m->saving, true, __ATOMIC_ACQ_REL))
        return;
    struct saving *sv = saving_create(m);
    if (!sv) {
        __atomic_store_n(&m->saving, false, __ATOMIC_RELEASE);
        return; /* tried again at the next step */
    }
    m->redo_seconds = 0;
    if (work_submit(ms->work, NULL, &sv->job, NULL))
        saving_free(sv);
}
