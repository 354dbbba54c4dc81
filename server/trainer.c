/* trainer.c: a described network with random data, stepping or predicting. */
#include "trainer.h"

#include "describe.h"
#include "random_batch.h"

#include <stdlib.h>
#include <string.h>

enum { DATA_SEED = 20 };

/* ---- opening --------------------------------------------------------------------------------- */

static int open_data(struct trainer *t, bool targets, struct error *e)
{
    const struct network *net = t->net;
    for (int i = 0; i < net->n_inputs + (targets ? net->n_targets : 0); i++) {
        size_t bytes;
        if (random_leaf_bytes(net, i, t->batch, &bytes, e))
            return -1;
        t->data[i] = malloc(bytes);
        if (!t->data[i])
            return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for data");
        random_leaf_fill(net, i, t->batch, DATA_SEED, t->data[i]);
    }
    memcpy(t->pointers, t->data, sizeof t->pointers);
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

static int open_state(struct trainer *t, bool training, struct error *e)
{
    const struct network *net = t->net;
    t->now = generation_create(net, e);
    t->next = training ? generation_create(net, e) : NULL;
    t->grads = training ? calloc(graph_params_size(net->graph) + 1, sizeof *t->grads) : NULL;
    if (!t->now || (training && (!t->next || !t->grads)))
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    graph_init(net->graph, net->seed, t->now->params, t->now->buffers);
    if (training)
        network_rates(net, t->now, optimizer_lr(net->optimizer), 0, t->lr);
    return 0;
}

static int open_run(struct trainer *t, bool training, int threads, struct error *e)
{
    struct plan_spec spec = {.training = training,
                             .outputs = t->net->outputs,
                             .n_outputs = t->net->n_outputs,
                             .loss = training ? t->net->loss : NULL,
                             .params_wrt = training,
                             .capacity = t->batch,
                             .threads = threads};
    t->pool = pool_create(threads, e);
    t->plan = t->pool ? plan_create(t->net->graph, &spec, e) : NULL;
    t->run = t->plan ? run_create(t->plan, e) : NULL;
    if (t->run && !training && plan_prepared_bytes(t->plan))
        t->prepared = prepared_create(t->plan, NULL, NULL);
    return t->run ? 0 : -1;
}

static int open_all(struct trainer *t, const char *description, bool training, int64_t batch,
                    int threads, struct error *e)
{
    *t = (struct trainer){.batch = batch};
    if (open_network(t, description, e))
        return -1;
    if (training && (!t->net->loss || !t->net->optimizer))
        return error_set(e, ERROR_BAD_VALUE, "a network without a loss cannot be trained");
    return open_state(t, training, e) || open_data(t, training, e) ||
                   open_run(t, training, threads, e)
               ? -1
               : 0;
}

int trainer_open(struct trainer *t, const char *description, int64_t batch, int threads,
                 struct error *e)
{
    return open_all(t, description, true, batch, threads, e);
}

int trainer_open_inference(struct trainer *t, const char *description, int64_t batch, int threads,
                           struct error *e)
{
    return open_all(t, description, false, batch, threads, e);
}

void trainer_close(struct trainer *t)
{
    run_destroy(&t->run);
    prepared_destroy(&t->prepared);
    plan_destroy(&t->plan);
    pool_destroy(&t->pool);
    generation_unref(&t->now);
    generation_unref(&t->next);
    free(t->grads);
    for (size_t i = 0; i < sizeof t->data / sizeof t->data[0]; i++)
        free(t->data[i]);
    network_destroy(&t->net);
}

/* ---- running --------------------------------------------------------------------------------- */

static struct run_args arguments(struct trainer *t)
{
    return (struct run_args){.pool = t->pool,
                             .n = t->batch,
                             .inputs = t->pointers,
                             .params = t->now->params,
                             .buffers = t->now->buffers,
                             .seed = t->net->seed,
                             .draw = t->draw++,
                             .profile = t->profile};
}

int trainer_gradients(struct trainer *t, struct error *e)
{
    struct run_args args = arguments(t);
    args.buffers_out = t->next->buffers;
    args.grads = t->grads;
    memcpy(t->next->buffers, t->now->buffers, graph_buffers_size(t->net->graph) * sizeof(real));
    return run_execute(t->run, &args, e);
}

int trainer_apply(struct trainer *t, struct error *e)
{
    double norm = gradients_norm(t->net, t->pool, t->grads);
    if (network_apply(t->net, t->pool, t->now, t->grads, norm, t->lr, t->next, e))
        return -1;
    struct generation *old = t->now;
    t->now = t->next;
    t->next = old;
    return 0;
}

int trainer_step(struct trainer *t, struct error *e)
{
    return trainer_gradients(t, e) || trainer_apply(t, e) ? -1 : 0;
}

int trainer_infer(struct trainer *t, struct error *e)
{
    struct run_args args = arguments(t);
    args.prepared = t->prepared;
    return run_execute(t->run, &args, e);
}
