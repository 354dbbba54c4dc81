/* infer_small.c: which predictions are over sooner than a worker would wake up for them. Handing a
 * request to a worker and back costs two wake-ups of threads and two changes of the epoll set, some
 * ten microseconds on each side; a net of a few thousand multiplications needs less than one. Those
 * run in the HTTP thread. So do larger ones that need some ten microseconds, while no other
 * connection has a request that would have to wait (request.alone): a client that asks one thing
 * after the other gets its answers without a change of threads, and predictions that come together
 * are left to workers, which run them together. All of it is bounded: the numbers in the body bound
 * the samples, the network the work for one. Whatever could cost more than it says (images,
 * compressed bodies, the first prediction of a model, which compiles its plan; versions, which may
 * have to be read) is a worker's, and so is what may wait for others (dynamic_batching). */
#include "api.h"

#include <string.h>

/* What all samples of a request may have. */
struct limit {
    size_t body;
    double flops, elements; /* as of struct program_cost */
};
static const struct limit small = {4 << 10, 64 << 10, 16 << 10}, /* about ten microseconds */
    small_alone = {64 << 10, 3 << 20, 64 << 10};                 /* about a hundred */

enum { SMALL_NODES = 48 };

static int64_t sample_elements(const struct network *net)
{
    int64_t count, elements = 0;
    for (int i = 0; i < net->n_inputs; i++)
        if (shape_count(node_shape(net->inputs[i]), 1, &count))
            elements += count;
    return elements ? elements : 1;
}

/* No body holds more numbers: JSON has a comma between two, binary at least a byte for each. */
static size_t numbers_at_most(const struct request *q)
{
    size_t commas = 0;
    if (request_header(q, "Inference-Header-Content-Length"))
        return q->body_size;
    for (size_t i = 0; i < q->body_size; i++)
        commas += q->body[i] == ',';
    return commas + 1;
}

static bool program_small(const struct program *p, const struct request *q, const struct limit *l)
{
    const struct network *net = program_network(p);
    struct program_cost cost = program_cost(p);
    if (graph_node_count(net->graph) > SMALL_NODES || cost.flops > l->flops ||
        cost.elements > l->elements)
        return false;
    double samples = (double)(numbers_at_most(q) / (size_t)sample_elements(net));
    return cost.flops * samples <= l->flops && cost.elements * samples <= l->elements;
}

bool api_infer_small(const struct request *q)
{
    struct model *m = q->model;
    const struct limit *l = q->alone ? &small_alone : &small;
    if (q->route->handle != api_infer || request_param(q, "version") || q->body_size > l->body ||
        request_header(q, "Content-Encoding") || json_object_get(m->given, "preprocess"))
        return false;
    pthread_mutex_lock(&m->lock);
    struct program *p = program_ref(m->program);
    bool ready = m->totals.predictions > 0 && !m->batching.max_queue_delay_microseconds;
    pthread_mutex_unlock(&m->lock);
    bool fits = ready && program_small(p, q, l);
    program_unref(&p);
    return fits;
}
