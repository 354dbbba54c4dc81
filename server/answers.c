/* answers.c: a ring of the newest answers, searched from its newest end: a retry comes soon. */
#include "answers.h"

#include "json_in.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNNING = 512 };

struct answered {
    char key[ANSWER_KEY];
    uint64_t request;
    bool change; /* no step: STORE_CHANGE */
    struct step_result result;
};

struct answers {
    pthread_mutex_t lock;  /* guards the rest */
    struct answered *ring; /* made when first needed */
    uint64_t n, n_saved;   /* ever added; of those, in the store */
    uint64_t last_seq;     /* the highest; 0: none */
    struct answered seq;   /* that answer, which stays when the ring has gone over it */
    uint64_t seq_place;    /* `n` when it was added */
    char *running[MAX_RUNNING];
    int n_running;
};

struct answers *answers_create(void)
{
    struct answers *a = calloc(1, sizeof *a);
    if (a)
        pthread_mutex_init(&a->lock, NULL);
    return a;
}

void answers_destroy(struct answers **answers)
{
    struct answers *a = *answers;
    *answers = NULL;
    if (!a)
        return;
    for (int i = 0; i < a->n_running; i++)
        free(a->running[i]);
    pthread_mutex_destroy(&a->lock);
    free(a->ring);
    free(a);
}

/* ---- what was answered ----------------------------------------------------------------------- */

/* The number in the key of an answer that has one; 0: it has none. */
static uint64_t seq_of(const char *key)
{
    unsigned long long seq;
    return sscanf(key, "seq %llu", &seq) == 1 ? seq : 0;
}

static void seq_note(struct answers *a, const struct answered *at, uint64_t place)
{
    uint64_t seq = seq_of(at->key);
    if (seq <= a->last_seq)
        return;
    a->last_seq = seq;
    a->seq = *at;
    a->seq_place = place;
}

static void add(struct answers *a, const char *key, uint64_t request, bool change,
                const struct step_result *r)
{
    pthread_mutex_lock(&a->lock);
    if (!a->ring)
        a->ring = calloc(ANSWERS_KEPT, sizeof *a->ring);
    if (a->ring) { /* else a retry will be carried out again; nothing else can be done */
        struct answered *at = &a->ring[a->n % ANSWERS_KEPT];
        snprintf(at->key, sizeof at->key, "%s", key);
        at->request = request;
        at->change = change;
        at->result = *r;
        seq_note(a, at, a->n++);
    }
    pthread_mutex_unlock(&a->lock);
}

void answers_add(struct answers *a, const char *key, uint64_t request, const struct step_result *r)
{
    add(a, key, request, false, r);
}

static struct step_result stored_result(const struct store_answer *s)
{
    return (struct step_result){.loss = s->loss,
                                .grad_norm = s->grad_norm,
                                .lr = s->lr,
                                .accuracy = s->accuracy,
                                .samples = s->samples,
                                .at = {s->step, s->revision, s->draw}};
}

void answers_add_change(struct answers *a, const struct store_answer *s)
{
    struct step_result r = stored_result(s);
    add(a, s->key, s->request, true, &r);
}

int answers_trim(struct answers *a, struct store *s, int64_t model_id, uint64_t revision,
                 struct error *e)
{
    pthread_mutex_lock(&a->lock);
    uint64_t kept = 0, known = a->n < ANSWERS_KEPT ? a->n : ANSWERS_KEPT;
    const bool seq_lost = a->last_seq && a->seq.result.at.revision > revision;
    if (seq_lost)
        a->last_seq = 0;
    for (uint64_t i = 0; i < known; i++) {
        struct answered *at = &a->ring[(a->n - known + i) % ANSWERS_KEPT];
        if (!at->change && at->result.at.revision > revision)
            continue;
        seq_note(a, at, a->n - known + kept);
        a->ring[(a->n - known + kept++) % ANSWERS_KEPT] = *at;
    }
    const bool lost = seq_lost || kept < known;
    a->n -= known - kept;
    a->n_saved = a->n_saved < a->n ? a->n_saved : a->n;
    pthread_mutex_unlock(&a->lock);
    return lost ? store_answers_forget(s, model_id, revision, e) : 0;
}

bool answers_find(struct answers *a, const char *key, uint64_t *request_r,
                  struct step_result *result_r)
{
    const struct answered *found = NULL;
    pthread_mutex_lock(&a->lock);
    uint64_t known = a->n < ANSWERS_KEPT ? a->n : ANSWERS_KEPT;
    for (uint64_t i = 1; i <= known && !found; i++) {
        const struct answered *at = &a->ring[(a->n - i) % ANSWERS_KEPT];
        found = strcmp(at->key, key) == 0 ? at : NULL;
    }
    if (!found && a->last_seq && strcmp(a->seq.key, key) == 0)
        found = &a->seq;
    if (found) {
        *request_r = found->request;
        *result_r = found->result;
    }
    pthread_mutex_unlock(&a->lock);
    return found != NULL;
}

uint64_t answers_last_seq(struct answers *a)
{
    pthread_mutex_lock(&a->lock);
    uint64_t last = a->last_seq;
    pthread_mutex_unlock(&a->lock);
    return last;
}

/* ---- what is under way ----------------------------------------------------------------------- */

static int running_find(const struct answers *a, const char *key)
{
    for (int i = 0; i < a->n_running; i++)
        if (strcmp(a->running[i], key) == 0)
            return i;
    return -1;
}

static int running_add(struct answers *a, const char *key, struct error *e)
{
    if (running_find(a, key) >= 0)
        return error_set(e, ERROR_CONFLICT,
                         "a request with this Idempotency-Key is being carried out; try again when "
                         "it is answered");
    if (a->n_running == MAX_RUNNING)
        return error_set(e, ERROR_QUEUE_FULL,
                         "%d requests with an Idempotency-Key are being carried out already",
                         MAX_RUNNING);
    char *copy = strdup(key);
    if (!copy)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the Idempotency-Key");
    a->running[a->n_running++] = copy;
    return 0;
}

int answers_begin(struct answers *a, const char *key, struct error *e)
{
    pthread_mutex_lock(&a->lock);
    int status = running_add(a, key, e);
    pthread_mutex_unlock(&a->lock);
    return status;
}

void answers_end(struct answers *a, const char *key)
{
    pthread_mutex_lock(&a->lock);
    int i = running_find(a, key);
    if (i >= 0) {
        free(a->running[i]);
        a->running[i] = a->running[--a->n_running];
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- the store ------------------------------------------------------------------------------- */

/* What losses reported, as JSON: [["box_loss",1.5],...]. */
struct parts_text {
    char text[8 + RUN_MAX_PARTS * (RUN_PART_NAME + 32)];
};

static void parts_write(const struct step_result *r, struct parts_text *t)
{
    size_t n = 1, size = sizeof t->text;
    strcpy(t->text, "[");
    for (int i = 0; i < r->n_parts; i++)
        n += (size_t)snprintf(t->text + n, size - n, "%s[\"%s\",%.17g]", i ? "," : "",
                              r->parts[i].name, r->parts[i].value);
    strcpy(t->text + n, "]");
}

static int parts_read(struct step_result *r, const char *text, struct error *e)
{
    json_t *list = json_in_load(text, strlen(text), NULL);
    if (!list)
        return error_set(e, json_in_starved() ? ERROR_OUT_OF_MEMORY : ERROR_STORAGE,
                         "the parts of a loss in the store cannot be read");
    for (size_t i = 0; i < json_array_size(list) && i < RUN_MAX_PARTS; i++) {
        const json_t *pair = json_array_get(list, i);
        const char *name = json_string_value(json_array_get(pair, 0));
        struct run_part *p = &r->parts[r->n_parts++];
        snprintf(p->name, sizeof p->name, "%s", name ? name : "");
        p->value = json_number_value(json_array_get(pair, 1));
    }
    json_decref(list);
    return 0;
}

struct loading {
    struct answers *answers;
    struct error *error;
};

static int load_one(void *arg, const struct store_answer *s)
{
    struct loading *l = arg;
    struct step_result r = stored_result(s);
    bool change = strcmp(s->parts, STORE_CHANGE) == 0;
    if (!change && parts_read(&r, s->parts, l->error))
        return -1;
    add(l->answers, s->key, s->request, change, &r);
    return 0;
}

int answers_load(struct answers *a, struct store *s, int64_t model_id, struct error *e)
{
    struct loading l = {a, e};
    int status = store_answers_load(s, model_id, load_one, &l, e);
    a->n_saved = a->n;
    return status;
}

/* Copies of those that the store does not have, in their order; first that of the last seq, if the
 * ring has gone over it meanwhile. */
static struct answered *unsaved(struct answers *a, uint64_t *n_r, uint64_t *upto_r)
{
    pthread_mutex_lock(&a->lock);
    uint64_t n = a->n - a->n_saved;
    n = n < ANSWERS_KEPT ? n : ANSWERS_KEPT;
    const bool seq = a->last_seq && a->seq_place >= a->n_saved && a->seq_place < a->n - n;
    struct answered *copies = malloc((n + 1) * sizeof *copies);
    if (copies && seq)
        copies[0] = a->seq;
    for (uint64_t i = 0; copies && i < n; i++)
        copies[seq + i] = a->ring[(a->n - n + i) % ANSWERS_KEPT];
    *n_r = n + seq;
    *upto_r = a->n;
    pthread_mutex_unlock(&a->lock);
    return copies;
}

static struct store_answer store_row(const struct answered *at, struct parts_text *parts)
{
    const struct step_result *r = &at->result;
    if (at->change)
        strcpy(parts->text, STORE_CHANGE);
    else
        parts_write(r, parts);
    return (struct store_answer){at->key,     at->request, r->at.revision, r->at.step,
                                 r->at.draw,  r->loss,     r->grad_norm,   r->lr,
                                 r->accuracy, r->samples,  parts->text};
}

int answers_save(struct answers *a, struct store *s, int64_t model_id, struct error *e)
{
    uint64_t n, upto;
    struct answered *copies = unsaved(a, &n, &upto);
    struct store_answer *rows = malloc((n ? n : 1) * sizeof *rows);
    struct parts_text *parts = malloc((n ? n : 1) * sizeof *parts);
    int status = copies && rows && parts ? 0 : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    for (uint64_t i = 0; !status && i < n; i++)
        rows[i] = store_row(&copies[i], &parts[i]);
    if (!status)
        status = store_answers_save(s, model_id, rows, (int)n, e);
    free(parts);
    free(rows);
    free(copies);
    pthread_mutex_lock(&a->lock);
    if (!status && upto > a->n_saved)
        a->n_saved = upto;
    pthread_mutex_unlock(&a->lock);
    return status;
}
