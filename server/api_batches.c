/* api_batches.c: a request's batch as training sees it: read, augmented as the description says,
 * then normalised. The redo log gets it in this form, so that replaying needs neither decoders nor
 * augmentation. */
#include "api.h"
#include "describe.h"

#include <string.h>

/* Memory of the request, counted in the budget. NULL: there is none. */
static void *take(struct request *q, size_t bytes, struct error *e)
{
    if (budget_take(&request_models(q)->budget, bytes, "the augmented batch", e))
        return NULL;
    q->reserved += bytes;
    void *p = arena_alloc(q->arena, bytes);
    if (!p)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the augmented batch");
    return p;
}

/* A place beside the batch's tensor `at` for its augmented form. */
static real *place_for(struct request *q, const struct node *leaf, int64_t n, int64_t *sample_r,
                       struct error *e)
{
    int64_t count;
    if (!shape_count(node_shape(leaf), 1, sample_r) || !shape_count(node_shape(leaf), n, &count)) {
        error_set(e, ERROR_TOO_LARGE, "a batch of %lld is too large", (long long)n);
        return NULL;
    }
    return take(q, (size_t)count * sizeof(real), e);
}

static int add_boxes(struct request *q, const struct network *net, const struct batch *b,
                     struct augment_batch *x, struct error *e)
{
    const int at = network_boxes_target(net);
    int64_t sample;
    if (at < 0 || !b->data[net->n_inputs + at])
        return 0;
    x->boxes = b->data[net->n_inputs + at];
    x->max_boxes = node_shape(net->targets[at])->dim[1];
    x->boxes_out = place_for(q, net->targets[at], b->n, &sample, e);
    return x->boxes_out ? 0 : -1;
}

/* All other targets of numbers are mixed where images are. */
static int add_soft(struct request *q, const struct network *net, const struct batch *b,
                    struct augment_batch *x, int places[], struct error *e)
{
    const int boxes = network_boxes_target(net);
    for (int i = 0; i < net->n_targets && augment_mixes(net->augment); i++) {
        const real *data = b->data[net->n_inputs + i];
        if (i == boxes || !data || node_dtype(net->targets[i]) != DTYPE_REAL)
            continue;
        int64_t sample;
        real *out = place_for(q, net->targets[i], b->n, &sample, e);
        if (!out)
            return -1;
        places[x->n_soft] = net->n_inputs + i;
        x->soft[x->n_soft].data = data;
        x->soft[x->n_soft].out = out;
        x->soft[x->n_soft++].count = sample;
    }
    return 0;
}

int api_batch_augment(struct request *q, const struct network *net, uint64_t draw, struct batch *b,
                      struct error *e)
{
    const int at = network_image_input(net);
    const int64_t *dim = node_shape(net->inputs[at])->dim;
    struct pool *pool = q->server->pool;
    struct augment_batch x = {.n = b->n,
                              .c = dim[1],
                              .h = dim[2],
                              .w = dim[3],
                              .images = b->data[at],
                              .seed = net->seed,
                              .draw = draw};
    int places[NETWORK_MAX_IO];
    int64_t sample;
    size_t bytes;
    x.images_out = place_for(q, net->inputs[at], b->n, &sample, e);
    if (!x.images_out || add_boxes(q, net, b, &x, e) || add_soft(q, net, b, &x, places, e) ||
        augment_work_bytes(net->augment, &x, b->n, pool_threads(pool), &bytes, e))
        return -1;
    void *work = take(q, bytes, e);
    if (!work || augment_apply(net->augment, pool, &x, work, e))
        return -1;
    b->data[at] = x.images_out;
    if (x.boxes)
        b->data[net->n_inputs + network_boxes_target(net)] = x.boxes_out;
    for (int i = 0; i < x.n_soft; i++)
        b->data[places[i]] = x.soft[i].out;
    return 0;
}

int api_read_training_batch(struct request *q, const struct network *net, uint64_t draw,
                            struct batch *b_r, struct error *e)
{
    if (api_read_batch_raw(q, net, true, b_r, e) ||
        (net->augment && api_batch_augment(q, net, draw, b_r, e)))
        return -1;
    api_batch_normalise(q, net, b_r);
    return 0;
}
