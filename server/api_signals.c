/* api_signals.c: what training steps said of each layer, for dashboards that poll: since a
 * revision, sampled to as many steps as asked for. An array a signal and layer, because that is
 * what a heat map takes; and what the last of these steps says is wrong. */
#include "api.h"
#include "signals.h"

#include <math.h>
#include <string.h>

enum { MAX_POINTS = 2000 };

struct point {
    uint64_t revision, step;
    int64_t time_ms;
    struct layer_signals *layers; /* [n_layers] */
};

struct collected {
    struct arena *arena;
    const struct layer_signals *layers; /* of the network, with no numbers */
    int n_layers;
    struct point points[MAX_POINTS];
    int n;
    bool failed;     /* out of memory */
    bool histograms; /* are wanted */
    uint64_t every;  /* steps that are recorded; 0: none */
};

/* Rows come by revision, then by layer. */
static int collect(void *arg, const struct store_signal *row)
{
    struct collected *c = arg;
    struct point *p = c->n ? &c->points[c->n - 1] : NULL;
    if (!p || p->revision != row->revision) {
        size_t bytes = (size_t)c->n_layers * sizeof *p->layers;
        struct layer_signals *layers = arena_alloc(c->arena, bytes + 1);
        c->failed = !layers;
        if (!layers || c->n == MAX_POINTS)
            return -1;
        memcpy(layers, c->layers, bytes);
        p = &c->points[c->n++];
        *p = (struct point){row->revision, row->step, row->time_ms, layers};
    }
    if (row->place >= c->n_layers)
        return 0;
    const struct node *layer = p->layers[row->place].layer;
    p->layers[row->place] = row->layer;
    p->layers[row->place].layer = layer;
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void write_layers(struct json_out *w, const struct collected *c)
{
    out_key(w, "layers");
    out_open_array(w);
    for (int i = 0; i < c->n_layers; i++) {
        out_open_object(w);
        out_put_string(w, "name", node_name(c->layers[i].layer));
        out_put_string(w, "op", node_op(c->layers[i].layer));
        out_close(w);
    }
    out_close(w);
}

/* One layer's numbers over the steps; null when it has none. */
static void write_layer_series(struct json_out *w, const struct collected *c, int layer, int signal)
{
    bool any = false;
    for (int i = 0; i < c->n; i++)
        any |= !isnan(signal_value(&c->points[i].layers[layer], signal));
    if (!any) {
        out_null(w);
        return;
    }
    out_open_array(w);
    for (int i = 0; i < c->n; i++) {
        double x = signal_value(&c->points[i].layers[layer], signal);
        if (isnan(x))
            out_null(w); /* was not seen: no number that is not finite */
        else
            out_double(w, x);
    }
    out_close(w);
}

static void write_signals(struct json_out *w, const struct collected *c)
{
    out_key(w, "signals");
    out_open_object(w);
    for (int k = 0; k < SIGNALS; k++) {
        out_key(w, signal_defs[k].name);
        out_open_array(w);
        for (int i = 0; i < c->n_layers; i++)
            write_layer_series(w, c, i, k);
        out_close(w);
    }
    out_close(w);
}

static void write_points(struct json_out *w, const struct collected *c, uint64_t since)
{
    out_put_uint(w, "last_revision", c->n ? c->points[c->n - 1].revision : since);
#define COLUMN(put, field)                                                                         \
    out_key(w, #field);                                                                            \
    out_open_array(w);                                                                             \
    for (int i = 0; i < c->n; i++)                                                                 \
        put(w, c->points[i].field);                                                                \
    out_close(w)
    COLUMN(out_uint, revision);
    COLUMN(out_uint, step);
    COLUMN(out_int, time_ms);
#undef COLUMN
}

struct histograms {
    struct json_out *w;
    bool open; /* there was one */
};

static int write_histogram(void *arg, uint64_t revision, uint64_t step,
                           const struct store_histogram *row)
{
    struct histograms *h = arg;
    if (!h->open) {
        out_key(h->w, "histograms");
        out_open_object(h->w);
        out_put_uint(h->w, "revision", revision);
        out_put_uint(h->w, "step", step);
        out_key(h->w, "parameters");
        out_open_array(h->w);
        h->open = true;
    }
    out_open_object(h->w);
    out_put_string(h->w, "name", row->name);
    out_key(h->w, "weights");
    out_raw(h->w, row->weights, strlen(row->weights));
    if (row->gradients) {
        out_key(h->w, "gradients");
        out_raw(h->w, row->gradients, strlen(row->gradients));
    }
    out_close(h->w);
    return 0;
}

/* Those of the newest step; left out when there are none. */
static int write_histograms(struct request *q, struct json_out *w, struct error *e)
{
    struct histograms h = {.w = w};
    if (store_histograms_query(request_models(q)->store, request_model(q)->id, write_histogram, &h,
                               e))
        return -1;
    for (int i = 0; i < 2 && h.open; i++)
        out_close(w);
    return 0;
}

static int reply_signals(struct request *q, const struct network *net, const struct collected *c,
                         uint64_t since)
{
    struct error e;
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", request_model(q)->name);
    if (c->every)
        out_put_uint(&w, "every", c->every);
    write_points(&w, c, since);
    write_layers(&w, c);
    write_signals(&w, c);
    if (c->n)
        diagnosis_put(&w, net, c->points[c->n - 1].layers, c->n_layers);
    if (c->histograms && write_histograms(q, &w, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int signals(struct request *q, const struct snapshot *s, const struct store_signals_query *x,
                   bool histograms)
{
    const struct network *net = program_network(s->program);
    struct error e;
    struct collected *c = arena_alloc(q->arena, sizeof *c);
    struct signals *none = signals_create(net->graph, q->server->pool, &e);
    if (!none)
        return reply_error(q, &e);
    int status;
    if (c) {
        c->arena = q->arena;
        c->histograms = histograms;
        c->every = model_signals_every(s->description, NULL);
        c->n_layers = signals_layers(none, &c->layers);
    }
    if (c && store_signals_query(request_models(q)->store, x, collect, c, &e) && !c->failed)
        status = reply_error(q, &e);
    else if (!c || c->failed)
        status = reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for so many points");
    else
        status = reply_signals(q, net, c, x->since);
    signals_destroy(&none);
    return status;
}

int api_signals(struct request *q)
{
    struct snapshot s;
    struct error e;
    int64_t since, until, max_points;
    bool histograms;
    if (query_bool(q, "histograms", false, &histograms) ||
        query_int(q, "since", 0, 0, INT64_MAX, &since) ||
        query_int(q, "until", INT64_MAX, 0, INT64_MAX, &until) ||
        query_int(q, "max_points", 200, 1, MAX_POINTS, &max_points))
        return q->status;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    struct store_signals_query x = {request_model(q)->id, (uint64_t)since, (uint64_t)until,
                                    (int)max_points};
    int status = signals(q, &s, &x, histograms);
    snapshot_release(&s);
    return status;
}
