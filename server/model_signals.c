/* model_signals.c: recording what training steps say of each layer, at the steps that the model's
 * description asks for. A step is never refused for it: what goes wrong is logged. A step that is
 * replayed records the same again under the same revision, so each is there once. */
#include "model_private.h"

#include "histogram.h"

#include <stdlib.h>
#include <string.h>

enum { BINS = 32 };

struct recording {
    struct signals *signals;
    struct store_histogram *histograms; /* of each parameter, without buffers */
    int n_histograms;
    struct arena *arena; /* of the histograms */
    bool failed;         /* out of memory */
};

uint64_t model_signals_every(const json_t *given, const json_t *settings)
{
    const json_t *set = json_object_get(settings, "signals");
    const json_t *signals = set ? set : json_object_get(given, "signals");
    return (uint64_t)json_integer_value(json_object_get(signals, "every"));
}

/* ---- beginning and ending -------------------------------------------------------------------- */

void model_signals_drop(struct model *m)
{
    struct recording *r = m->recording;
    m->recording = NULL;
    if (!r)
        return;
    signals_destroy(&r->signals);
    if (r->arena)
        arena_destroy(&r->arena);
    free(r);
}

void model_signals_begin(struct model *m, uint64_t step)
{
    const struct graph *g = program_network(m->program)->graph;
    struct error e;
    model_signals_drop(m);
    if (!m->signals_every || step % m->signals_every)
        return;
    struct recording *r = m->recording = calloc(1, sizeof *r);
    error_set(&e, ERROR_OUT_OF_MEMORY, "out of memory for the signals of step %llu",
              (unsigned long long)step);
    if (r && (r->signals = signals_create(g, m->models->pool, &e)) &&
        (r->arena = arena_create(16384)))
        r->histograms =
            arena_array(r->arena, (size_t)graph_param_count(g) + 1, sizeof *r->histograms);
    if (r && r->histograms)
        return;
    model_signals_drop(m);
    models_log_failure(m->models, m->name, "signals", &e);
}

void model_signals_save(struct model *m, const struct step_result *result, int64_t time_ms)
{
    const struct recording *r = m->recording;
    struct error e;
    if (!r)
        return;
    struct store_signals x = {.model_id = m->id,
                              .revision = result->at.revision,
                              .step = result->at.step,
                              .time_ms = time_ms,
                              .histograms = r->histograms,
                              .n_histograms = r->failed ? 0 : r->n_histograms};
    x.n = signals_layers(r->signals, &x.layers);
    if (store_signals_save(m->models->store, &x, &e))
        models_log_failure(m->models, m->name, "signals", &e);
    model_signals_drop(m);
}

/* ---- what it sees ---------------------------------------------------------------------------- */

void model_signals_observe(const struct model *m, struct run_args *args)
{
    if (!m->recording)
        return;
    args->observe = signals_observe;
    args->observe_arg = m->recording->signals;
}

/* The histogram of a parameter's numbers in this block, as JSON. */
static const char *histogram_text(struct recording *r, const struct param *p, const real *block)
{
    struct histogram *h = histogram_create(r->arena, BINS);
    struct json_out w = JSON_OUT_INIT;
    char *text = NULL;
    if (h) {
        histogram_fill(h, block + p->offset, (int64_t)p->count);
        histogram_write(&w, h);
    }
    if (h && !w.failed && (text = arena_alloc(r->arena, w.size + 1)))
        memcpy(text, w.data, w.size);
    out_free(&w);
    r->failed |= !text;
    return text;
}

void model_signals_gradients(struct model *m, const real *grads)
{
    const struct graph *g = program_network(m->program)->graph;
    struct recording *r = m->recording;
    if (!r)
        return;
    signals_gradients(r->signals, grads);
    for (int i = 0; i < graph_param_count(g); i++) {
        const struct param *p = graph_param(g, i);
        if (p->buffer)
            continue;
        struct store_histogram *h = &r->histograms[r->n_histograms++];
        h->name = p->name;
        h->weights = histogram_text(r, p, m->live->params);
        h->gradients = p->frozen ? NULL : histogram_text(r, p, grads);
    }
}

void model_signals_updates(struct model *m, const struct generation *next)
{
    if (!m->recording)
        return;
    signals_weights(m->recording->signals, m->live->params);
    signals_updates(m->recording->signals, m->live->params, next->params);
}
