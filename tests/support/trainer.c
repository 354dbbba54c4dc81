/* trainer.c: a described network with random data, stepping. */
#include "trainer.h"

#include "../../server/describe.h"
#include "op.h"

#include <stdlib.h>
#include <string.h>

static const struct random_key data_key = {.seed = 20, .draw = 7};

/* Normal numbers, or classes of the loss's prediction. */
static void *random_values(const struct network *net, const struct node *leaf, uint32_t key,
                           int64_t count)
{
    struct random_key k = data_key;
    int64_t n;
    k.key = key;
    if (!shape_count(node_shape(leaf), count, &n))
        return NULL;
    void *values = malloc((size_t)n * dtype_size(node_dtype(leaf)));
    const int64_t classes = net->n_losses ? node_shape(node_input(net->losses[0], 0))->dim[1] : 1;
    for (int64_t i = 0; values && i < n; i++)
        if (node_dtype(leaf) == DTYPE_INT64)
            ((int64_t *)values)[i] = (int64_t)(random_uniform(&k, (uint64_t)i) * (double)classes);
        else
            ((real *)values)[i] = (real)random_normal(&k, (uint64_t)i);
    return values;
}

int trainer_data(const struct network *net, int64_t count, void **data_r)
{
    for (int i = 0; i < net->n_inputs + net->n_targets; i++) {
        const struct node *leaf =
            i < net->n_inputs ? net->inputs[i] : net->targets[i - net->n_inputs];
        data_r[i] = random_values(net, leaf, (uint32_t)i, count);
        if (!data_r[i])
            return -1;
    }
    return 0;
}

static int open_network(struct trainer *t, const char *description, struct error *e)
{
    json_error_t parsing;
    json_t *json = json_loads(description, 0, &parsing);
    if (!json)
        return error_set(e, ERROR_BAD_VALUE, "line %d: %s", parsing.line, parsing.text);
    t->net = describe_network(json, e);
    json_decref(json);
    return t->net ? 0 : -1;
}

static int open_state(struct trainer *t, struct error *e)
{
    const struct network *net = t->net;
    t->now = generation_create(net, e);
    t->next = generation_create(net, e);
    t->grads = calloc(graph_params_size(net->graph) + 1, sizeof *t->grads);
    if (!t->now || !t->next || !t->grads || trainer_data(net, t->batch, t->data))
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    memcpy(t->pointers, t->data, sizeof t->pointers);
    graph_init(net->graph, net->seed, t->now->params, t->now->buffers);
    t->lr = optimizer_lr(net->optimizer);
    return 0;
}

int trainer_open(struct trainer *t, const char *description, int64_t batch, int threads,
                 struct error *e)
{
    *t = (struct trainer){.batch = batch};
    if (open_network(t, description, e) || open_state(t, e))
        return -1;
    struct plan_spec spec = {.training = true,
                             .outputs = t->net->outputs,
                             .n_outputs = t->net->n_outputs,
                             .loss = t->net->loss,
                             .params_wrt = true,
                             .capacity = batch,
                             .threads = threads};
    t->pool = pool_create(threads, e);
    t->plan = t->pool ? plan_create(t->net->graph, &spec, e) : NULL;
    t->run = t->plan ? run_create(t->plan, e) : NULL;
    return t->run ? 0 : -1;
}

void trainer_close(struct trainer *t)
{
    run_destroy(&t->run);
    plan_destroy(&t->plan);
    pool_destroy(&t->pool);
    generation_unref(&t->now);
    generation_unref(&t->next);
    free(t->grads);
    for (size_t i = 0; i < sizeof t->data / sizeof t->data[0]; i++)
        free(t->data[i]);
    network_destroy(&t->net);
}

int trainer_gradients(struct trainer *t, struct error *e)
{
    const struct run_args args = {.pool = t->pool,
                                  .n = t->batch,
                                  .inputs = t->pointers,
                                  .params = t->now->params,
                                  .buffers = t->now->buffers,
                                  .buffers_out = t->next->buffers,
                                  .grads = t->grads,
                                  .seed = t->net->seed,
                                  .draw = t->draw++};
    memcpy(t->next->buffers, t->now->buffers, graph_buffers_size(t->net->graph) * sizeof(real));
    return run_execute(t->run, &args, e);
}

int trainer_step(struct trainer *t, struct error *e)
{
    if (trainer_gradients(t, e))
        return -1;
    double norm = gradients_norm(t->net, t->pool, t->grads);
    if (network_apply(t->net, t->pool, t->now, t->grads, norm, &t->lr, t->next, e))
        return -1;
    struct generation *old = t->now;
    t->now = t->next;
    t->next = old;
    return 0;
}
