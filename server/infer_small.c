/* infer_small.c: which predictions are over sooner than a worker would wake up for them. Handing a
 * request to a worker and back costs two wake-ups of threads and two changes of the epoll set, some
 * ten microseconds on each side; a net of a few thousand multiplications needs less than one. Those
 * run in the HTTP thread, which is bounded: the size of the body bounds the samples, the network
 * the work for one. Whatever could cost more than it says (images, compressed bodies, the first
 * prediction of a model, which compiles its plan; versions, which may have to be read) is a
 * worker's, and so is what may wait for others (dynamic_batching). */
#include "api.h"

enum {
    SMALL_BODY = 4 << 10,
    SMALL_FLOPS = 64 << 10, /* of all samples: about ten microseconds */
    SMALL_NODES = 48,
};

/* The most samples that a body of this size can hold: a number and a comma for each element. */
static int64_t samples_at_most(const struct network *net, size_t body_size)
{
    int64_t count, elements = 0;
    for (int i = 0; i < net->n_inputs; i++)
        if (shape_count(node_shape(net->inputs[i]), 1, &count))
            elements += count;
    return elements ? (int64_t)body_size / elements + 1 : 1;
}

static bool network_small(const struct network *net, size_t body_size)
{
    int nodes = graph_node_count(net->graph);
    double flops = 0, limit = (double)SMALL_FLOPS / (double)samples_at_most(net, body_size);
    for (int i = 0; i < nodes && flops <= limit; i++)
        flops += node_flops(graph_node(net->graph, i));
    return nodes <= SMALL_NODES && flops <= limit;
}

bool api_infer_small(const struct request *q)
{
    struct model *m = q->model;
    if (q->route->handle != api_infer || request_param(q, "version") || q->body_size > SMALL_BODY ||
        request_header(q, "Content-Encoding") || json_object_get(m->given, "preprocess"))
        return false;
    pthread_mutex_lock(&m->lock);
    struct program *p = program_ref(m->program);
    bool ready = m->totals.predictions > 0 && !m->batching.max_queue_delay_microseconds;
    pthread_mutex_unlock(&m->lock);
    bool small = ready && network_small(program_network(p), q->body_size);
    program_unref(&p);
    return small;
}
