/* api_gradients_reply.c: the answer to gradients. Statistics of each gradient always; its values,
 * histograms, the signals of the layers with a diagnosis, and the samples' norms on request. */
#include "api_gradients.h"
#include "signals.h"

#include <math.h>

static double norm_of(const real *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void write_statistics(struct json_out *w, const real *g, int64_t n)
{
    double sum = 0, squares = 0, most = 0;
    int64_t zeros = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)g[i];
        sum += x;
        squares += x * x;
        most = fabs(x) > most ? fabs(x) : most;
        zeros += x == 0;
    }
    double mean = sum / (double)n, variance = 0;
    for (int64_t i = 0; i < n; i++)
        variance += ((double)g[i] - mean) * ((double)g[i] - mean);
    out_put_double(w, "norm", sqrt(squares));
    out_put_double(w, "mean", mean);
    out_put_double(w, "std", sqrt(variance / (double)n));
    out_put_double(w, "abs_max", most);
    out_put_double(w, "zero_fraction", (double)zeros / (double)n);
}

static void write_histogram(struct tensor_reply *r, const struct question *x, const char *key,
                            const real *numbers, int64_t n)
{
    struct histogram *h = x->bins ? histogram_create(r->q->arena, x->bins) : NULL;
    r->json.failed |= x->bins && !h;
    if (!h)
        return;
    histogram_fill(h, numbers, n);
    histogram_put(&r->json, key, h);
}

/* One entry of "gradients"; `of` is the parameter itself, NULL for an input or a layer. */
static void write_gradient(struct tensor_reply *r, const struct question *x,
                           const struct tensor_out *t, const real *of)
{
    out_open_object(&r->json);
    if (x->values) {
        tensor_reply_fields(r, t, x->binary);
    } else {
        out_put_string(&r->json, "name", t->name);
        api_put_shape(&r->json, "shape", &t->shape);
    }
    write_statistics(&r->json, t->data, t->count);
    write_histogram(r, x, "histogram", t->data, t->count);
    if (of) {
        out_put_double(&r->json, "parameter_norm", norm_of(of, t->count));
        write_histogram(r, x, "parameter_histogram", of, t->count);
    }
    out_close(&r->json);
}

static void write_parameters(struct tensor_reply *r, const struct question *x,
                             const struct snapshot *s, const real *grads)
{
    const struct network *net = program_network(s->program);
    for (int i = 0; i < graph_param_count(net->graph); i++) {
        const struct param *p = graph_param(net->graph, i);
        struct tensor_out t = {p->name, DTYPE_REAL, p->shape, grads + p->offset, (int64_t)p->count};
        if (!p->buffer && !p->frozen && question_wants(x, "parameters", p->name))
            write_gradient(r, x, &t, s->generation->params + p->offset);
    }
}

/* The gradient of a node's value: the run's wrt number `place`. */
static void write_value(struct tensor_reply *r, const struct question *x,
                        const struct program_lease *l, const struct node *n, int place,
                        int64_t batch)
{
    struct tensor_out t = {node_name(n), DTYPE_REAL, *node_shape(n), run_wrt_grad(l->run, place),
                           0};
    if (shape_batched(&t.shape))
        t.shape.dim[0] = batch;
    shape_count(&t.shape, 1, &t.count);
    write_gradient(r, x, &t, NULL);
}

static void write_values(struct tensor_reply *r, const struct question *x, const struct snapshot *s,
                         const struct program_lease *l, int64_t batch)
{
    const struct network *net = program_network(s->program);
    int place = 0;
    for (int i = 0; x->inputs && i < net->n_inputs; i++) {
        if (node_dtype(net->inputs[i]) != DTYPE_REAL)
            continue;
        if (question_wants(x, "inputs", node_name(net->inputs[i])))
            write_value(r, x, l, net->inputs[i], place, batch);
        place++;
    }
    for (int i = 0; i < x->n_layers; i++)
        write_value(r, x, l, x->layers[i], place++, batch);
}

static void write_layers(struct json_out *w, const struct question *x, const struct network *net,
                         const struct gradients_found *found)
{
    const struct layer_signals *layers;
    int n = found->signals ? signals_layers(found->signals, &layers) : 0;
    if (!found->signals)
        return;
    out_key(w, "layers");
    out_open_array(w);
    for (int i = 0; i < n; i++) {
        out_open_object(w);
        out_put_string(w, "name", node_name(layers[i].layer));
        out_put_string(w, "op", node_op(layers[i].layer));
        if (x->signals)
            signals_put(w, &layers[i]);
        if (found->histograms && found->histograms[i])
            histogram_put(w, "activation_histogram", found->histograms[i]);
        out_close(w);
    }
    out_close(w);
    if (x->signals)
        diagnosis_put(w, net, layers, n);
}

int api_gradients_reply(struct request *q, const struct question *x, const struct snapshot *s,
                        const struct program_lease *l, const struct gradients_found *found)
{
    const struct step_result *result = &found->result;
    struct tensor_reply r;
    tensor_reply_begin(&r, q);
    api_write_name(&r.json, q, request_model(q)->name);
    api_write_counters(&r.json, &result->at);
    metrics_write(&r.json, result);
    out_put_double(&r.json, "grad_norm", result->grad_norm);
    if (found->sample_norms) {
        out_key(&r.json, "per_sample_norms");
        out_doubles(&r.json, found->sample_norms, (size_t)result->samples);
    }
    out_key(&r.json, "gradients");
    out_open_array(&r.json);
    write_parameters(&r, x, s, found->grads);
    write_values(&r, x, s, l, result->samples);
    out_close(&r.json);
    write_layers(&r.json, x, program_network(s->program), found);
    return tensor_reply_end(&r, 200);
}
