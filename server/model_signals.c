/* model_signals.c: recording what training steps say of each layer, at the steps that the model's
 * description asks for. A step is never refused for it: what goes wrong is logged. A step that is
 * replayed records the same again under the same revision, so each is there once. */
#include "model_private.h"

uint64_t model_signals_every(const json_t *given, const json_t *settings)
{
    const json_t *set = json_object_get(settings, "signals");
    const json_t *signals = set ? set : json_object_get(given, "signals");
    return (uint64_t)json_integer_value(json_object_get(signals, "every"));
}

void model_signals_begin(struct model *m, uint64_t step)
{
    struct error e;
    model_signals_drop(m);
    if (!m->signals_every || step % m->signals_every)
        return;
    m->signals = signals_create(program_network(m->program)->graph, m->models->pool, &e);
    if (!m->signals)
        models_log_failure(m->models, m->name, "signals", &e);
}

void model_signals_gradients(struct model *m, const real *grads)
{
    if (m->signals)
        signals_gradients(m->signals, grads);
}

void model_signals_updates(struct model *m, const struct generation *next)
{
    if (!m->signals)
        return;
    signals_weights(m->signals, m->live->params);
    signals_updates(m->signals, m->live->params, next->params);
}

void model_signals_save(struct model *m, const struct step_result *r, int64_t time_ms)
{
    struct error e;
    if (!m->signals)
        return;
    struct store_signals x = {m->id, r->at.revision, r->at.step, time_ms, NULL, 0};
    x.n = signals_layers(m->signals, &x.layers);
    if (store_signals_save(m->models->store, &x, &e))
        models_log_failure(m->models, m->name, "signals", &e);
    model_signals_drop(m);
}

void model_signals_drop(struct model *m)
{
    signals_destroy(&m->signals);
}
