/* model_totals.c: what a model has done since the daemon began. Counted where it happens, under the
 * model's lock, which is held there anyway or for moments only. */
#include "model_private.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

void model_totals_init(struct model_totals *t)
{
    *t = (struct model_totals){
        .accuracy = NAN, .grad_norm = NAN, .lr = NAN, .map = NAN, .map50 = NAN};
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

void model_note_metric(struct model *m, const char *series, double value)
{
    static const struct {
        const char *series;
        size_t offset;
    } rows[] = {
        {"mAP50-95", offsetof(struct model_totals, map)},
        {"mAP50", offsetof(struct model_totals, map50)},
    };
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].series, series))
            note((double *)((char *)&m->totals + rows[i].offset), value);
    pthread_mutex_unlock(&m->lock);
}
