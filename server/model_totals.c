/* model_totals.c: what a model has done since the daemon began. Counted where it happens, under the
 * model's lock, which is held there anyway or for moments only. */
#include "model_private.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

void model_totals_init(struct model_totals *t)
{
    *t = (struct model_totals){.accuracy = NAN,
                               .grad_norm = NAN,
                               .lr = NAN,
                               .map = NAN,
                               .map50 = NAN,
                               .val_loss = NAN,
                               .val_accuracy = NAN};
}

static void note(double *to, double value)
{
    if (!isnan(value))
        *to = value;
}

/* Replayed steps were counted when they were answered; their numbers are the last ones still. */
void model_totals_add(struct model *m, const struct commit *c, const struct logged *l)
{
    struct model_totals *t = &m->totals;
    if (!l)
        return;
    if (!m->replaying) {
        t->steps += c->at.step > m->at.step;
        t->samples += (uint64_t)l->result->samples;
    }
    note(&t->accuracy, l->result->accuracy);
    if (!isnan(l->result->lr)) /* they were applied: metrics.c */
        note(&t->grad_norm, l->result->grad_norm);
    note(&t->lr, l->result->lr);
}

void model_count_refused(struct model *m, const struct error *e)
{
    if (!e || e->code != ERROR_NOT_FINITE)
        return;
    pthread_mutex_lock(&m->lock);
    m->totals.non_finite++;
    pthread_mutex_unlock(&m->lock);
}

void model_count_checkpoint(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    m->totals.checkpoints++;
    pthread_mutex_unlock(&m->lock);
}

void model_count_predictions(struct model *m, int64_t samples)
{
    pthread_mutex_lock(&m->lock);
    m->totals.predictions += (uint64_t)samples;
    pthread_mutex_unlock(&m->lock);
}

/* Which number of a model is the newest value of which series. */
static const struct {
    const char *series;
    size_t offset;
} numbers[] = {
    {"loss", offsetof(struct model, last_loss)},
    {"accuracy", offsetof(struct model, totals.accuracy)},
    {"grad_norm", offsetof(struct model, totals.grad_norm)},
    {"lr", offsetof(struct model, totals.lr)},
    {"mAP50-95", offsetof(struct model, totals.map)},
    {"mAP50", offsetof(struct model, totals.map50)},
    {"val_loss", offsetof(struct model, totals.val_loss)},
    {"val_accuracy", offsetof(struct model, totals.val_accuracy)},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static double *number_find(struct model *m, const char *series)
{
    for (int i = 0; i < NUMBERS; i++)
        if (!strcmp(numbers[i].series, series))
            return (double *)(void *)((char *)m + numbers[i].offset);
    return NULL;
}

void model_note_metric(struct model *m, const char *series, double value)
{
    double *to = number_find(m, series);
    if (!to)
        return;
    pthread_mutex_lock(&m->lock);
    note(to, value);
    pthread_mutex_unlock(&m->lock);
}

/* What a replayed step has said stays. */
static int recall(void *arg, const struct store_metric *row)
{
    double *to = number_find(arg, row->series);
    if (to && isnan(*to))
        *to = row->value;
    return 0;
}

int model_totals_recall(struct model *m, struct error *e)
{
    const char *names[NUMBERS];
    for (int i = 0; i < NUMBERS; i++)
        names[i] = numbers[i].series;
    const struct store_metrics_query newest = {.model_id = m->id,
                                               .names = names,
                                               .n_names = NUMBERS,
                                               .until = UINT64_MAX,
                                               .max_points = 1};
    return store_metrics_query(m->models->store, &newest, recall, m, e);
}
