/* evaluation.c: the evaluations that a model has under way, a short list under the model's lock. */
#include "evaluation.h"

#include "metrics.h"
#include "models.h"

#include <stdlib.h>
#include <string.h>

static const int64_t IDLE_MS = 10 * 60 * 1000;

void evaluation_release(struct evaluation **evaluation)
{
    struct evaluation *v = *evaluation;
    *evaluation = NULL;
    if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    snapshot_release(&v->state);
    budget_give(v->budget, v->reserved);
    pthread_mutex_destroy(&v->lock);
    free(v->truths);
    free(v->found);
    free(v);
}

static struct evaluation *hold(struct evaluation *v)
{
    __atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
    v->used_ms = metrics_now_ms();
    return v;
}

/* Takes one out of the list, under the model's lock. NULL: it is not there. */
static struct evaluation *unlink_evaluation(struct model *m, const struct evaluation *v)
{
    for (struct evaluation **at = &m->evaluations; *at; at = &(*at)->next)
        if (*at == v) {
            struct evaluation *found = *at;
            *at = found->next;
            return found;
        }
    return NULL;
}

/* Under the model's lock: room for one more. *dropped_r is to be released without the lock. */
static bool make_room(struct model *m, struct evaluation **dropped_r)
{
    struct evaluation *oldest = m->evaluations;
    int n = 0;
    *dropped_r = NULL;
    for (struct evaluation *v = m->evaluations; v; v = v->next, n++)
        if (v->used_ms < oldest->used_ms)
            oldest = v;
    if (n < EVALUATIONS_MAX)
        return true;
    if (metrics_now_ms() - oldest->used_ms < IDLE_MS)
        return false;
    *dropped_r = unlink_evaluation(m, oldest);
    return true;
}

struct evaluation *evaluation_start(struct model *m, struct snapshot *s,
                                    const struct detect_options *o, const struct key *by,
                                    struct error *e)
{
    /* The state that it holds stays in memory when training has left it behind. */
    const size_t bytes = generation_bytes(program_network(s->program));
    struct budget *budget = &m->models->budget;
    struct evaluation *dropped, *v = NULL;
    if (!budget_take(budget, bytes, "an evaluation", e) && !(v = calloc(1, sizeof *v))) {
        budget_give(budget, bytes);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for an evaluation");
    }
    if (!v) {
        snapshot_release(s);
        return NULL;
    }
    *v = (struct evaluation){
        .refs = 1, .state = *s, .options = *o, .budget = budget, .reserved = bytes};
    *s = (struct snapshot){0};
    if (by)
        memcpy(v->by, by->id, sizeof v->by);
    pthread_mutex_init(&v->lock, NULL);
    pthread_mutex_lock(&m->lock);
    const bool room = make_room(m, &dropped);
    if (room) {
        v->id = ++m->last_evaluation;
        v->next = m->evaluations;
        m->evaluations = hold(v);
    }
    pthread_mutex_unlock(&m->lock);
    evaluation_release(&dropped);
    if (room)
        return v;
    evaluation_release(&v);
    error_set(e, ERROR_CONFLICT,
              "model '%s' has %d evaluations under way: finish or delete one of them", m->name,
              EVALUATIONS_MAX);
    return NULL;
}

struct evaluation *evaluation_find(struct model *m, int64_t id, struct error *e)
{
    struct evaluation *v;
    pthread_mutex_lock(&m->lock);
    for (v = m->evaluations; v && v->id != id;)
        v = v->next;
    if (v)
        hold(v);
    pthread_mutex_unlock(&m->lock);
    if (!v)
        error_set(e, ERROR_UNKNOWN_EVALUATION,
                  "model '%s' has no evaluation %lld under way (they end when they are finished, "
                  "and with the process)",
                  m->name, (long long)id);
    return v;
}

void evaluation_remove(struct model *m, struct evaluation *v)
{
    pthread_mutex_lock(&m->lock);
    struct evaluation *found = unlink_evaluation(m, v);
    pthread_mutex_unlock(&m->lock);
    evaluation_release(&found);
}

void evaluations_reclaim(struct model *m)
{
    const int64_t now = metrics_now_ms();
    struct evaluation *idle = NULL;
    pthread_mutex_lock(&m->lock);
    for (struct evaluation **at = &m->evaluations; *at;) {
        struct evaluation *v = *at;
        if (now - v->used_ms < IDLE_MS) {
            at = &v->next;
            continue;
        }
        *at = v->next;
        v->next = idle;
        idle = v;
    }
    pthread_mutex_unlock(&m->lock);
    while (idle) {
        struct evaluation *v = idle;
        idle = v->next;
        evaluation_release(&v);
    }
}

void evaluations_destroy(struct model *m)
{
    while (m->evaluations) {
        struct evaluation *v = m->evaluations;
        m->evaluations = v->next;
        evaluation_release(&v);
    }
}

/* ---- collecting ------------------------------------------------------------------------------ */

/* Room for `more` elements of `size` behind the `n` that are there. */
static int grow(struct evaluation *v, void **array, size_t n, size_t *cap, size_t more, size_t size,
                struct error *e)
{
    if (more <= *cap - n)
        return 0;
    size_t want = *cap ? 2 * *cap : 1024;
    while (want - n < more && want < SIZE_MAX / 4 / size)
        want *= 2;
    const size_t bytes = (want - *cap) * size;
    if (budget_take(v->budget, bytes, "an evaluation", e))
        return -1;
    void *grown = realloc(*array, want * size);
    if (!grown) {
        budget_give(v->budget, bytes);
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for an evaluation");
    }
    v->reserved += bytes;
    *array = grown;
    *cap = want;
    return 0;
}

static int add(struct evaluation *v, const struct evaluation_batch *b, struct error *e)
{
    void *truths = v->truths, *found = v->found;
    int failed = grow(v, &truths, v->n_truths, &v->cap_truths, b->n_truths, sizeof *v->truths, e);
    v->truths = truths;
    failed = failed || grow(v, &found, v->n_found, &v->cap_found, b->n_found, sizeof *v->found, e);
    v->found = found;
    if (failed)
        return -1;
    if (v->images + b->images > INT32_MAX)
        return error_set(e, ERROR_TOO_LARGE, "an evaluation of more than 2^31 images");
    for (size_t i = 0; i < b->n_truths; i++) {
        v->truths[v->n_truths] = b->truths[i];
        v->truths[v->n_truths++].image += (int32_t)v->images;
    }
    for (size_t i = 0; i < b->n_found; i++) {
        v->found[v->n_found] = b->found[i];
        v->found[v->n_found++].image += (int32_t)v->images;
    }
    v->images += b->images;
    return 0;
}

int evaluation_add(struct evaluation *v, const struct evaluation_batch *b, struct error *e)
{
    pthread_mutex_lock(&v->lock);
    const int failed = add(v, b, e);
    pthread_mutex_unlock(&v->lock);
    return failed;
}

int evaluation_compute(struct evaluation *v, const char *protocol, int64_t categories,
                       struct request *q, struct coco_result *r, struct error *e)
{
    const struct coco_protocol *p = coco_protocol_find(protocol, e);
    int64_t *ids = arena_array(q->arena, (size_t)categories, sizeof *ids);
    struct coco_options o;
    if (!p)
        return -1;
    if (!ids)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for an evaluation");
    coco_options_init(&o, p);
    o.gone = request_gone;
    o.gone_arg = q;
    for (int64_t i = 0; i < categories; i++)
        ids[i] = i;
    pthread_mutex_lock(&v->lock);
    const struct coco_set set = {.category_ids = ids,
                                 .n_images = v->images,
                                 .n_categories = categories,
                                 .n_truths = (int64_t)v->n_truths,
                                 .n_detections = (int64_t)v->n_found,
                                 .truths = v->truths,
                                 .detections = v->found};
    const int failed = coco_evaluate(&set, &o, q->arena, r, e);
    pthread_mutex_unlock(&v->lock);
    return failed;
}
