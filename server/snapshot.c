/* snapshot.c: questions to one published state. They write nothing but their own run. */
#include "model_private.h"

#include "score.h"

#include <math.h>

int snapshot_evaluate(const struct snapshot *s, struct pool *pool, const struct batch *b,
                      predictions_fn *f, void *arg, struct step_result *r, struct error *e)
{
    const struct network *net = program_network(s->program);
    struct program_use use = {.loss = true, .outputs = OUTPUT_PREDICTIONS, .n = b->n};
    struct program_lease lease = {0};
    if (!net->loss)
        return error_set(e, ERROR_CONFLICT, "the model was created without a loss");
    if (program_acquire(s->program, &use, &lease, e))
        return -1;
    struct run_args args = model_run_args(net, pool, b, s->generation, s->at.draw);
    int status = run_execute(lease.run, &args, e);
    if (!status)
        *r = (struct step_result){.loss = (double)run_loss(lease.run),
                                  .grad_norm = NAN,
                                  .lr = NAN,
                                  .accuracy = score_accuracy(net, b, run_output(lease.run, 0)),
                                  .samples = b->n,
                                  .at = s->at};
    if (!status)
        step_result_parts(r, lease.run);
    if (!status && f)
        status = f(arg, net, b, run_output(lease.run, 0), e);
    program_release(&lease);
    return status;
}

int snapshot_gradients(const struct snapshot *s, struct pool *pool, const struct batch *b,
                       bool training, bool inputs, real *grads, struct program_lease *l,
                       struct step_result *r, struct error *e)
{
    const struct network *net = program_network(s->program);
    struct program_use use = {.training = training,
                              .loss = true,
                              .params_wrt = true,
                              .inputs_wrt = inputs,
                              .outputs = OUTPUT_PREDICTIONS,
                              .n = b->n};
    if (!net->loss)
        return error_set(e, ERROR_CONFLICT, "the model was created without a loss");
    if (program_acquire(s->program, &use, l, e))
        return -1;
    struct run_args args = model_run_args(net, pool, b, s->generation, s->at.draw);
    args.grads = grads;
    r->at = s->at;
    r->lr = NAN;
    if (gradients_run(net, l->run, &args, b, r, e)) {
        program_release(l);
        return -1;
    }
    return 0;
}

/* The batch from its sample `begin` on. */
static struct batch batch_from(const struct network *net, const struct batch *b, int64_t begin,
                               int64_t n)
{
    struct batch part = {.n = n};
    for (int i = 0; i < net->n_inputs; i++) {
        const struct shape *s = node_shape(net->inputs[i]);
        int64_t sample;
        shape_count(s, 1, &sample);
        size_t skip = (size_t)(begin * sample) * dtype_size(node_dtype(net->inputs[i]));
        part.data[i] = (const char *)b->data[i] + (shape_batched(s) ? skip : 0);
    }
    return part;
}

int snapshot_infer(const struct snapshot *s, struct pool *pool, const struct batch *b,
                   unsigned outputs, infer_fn *f, void *arg, struct error *e)
{
    const struct network *net = program_network(s->program);
    int64_t slice = program_slice(s->program);
    struct program_use use = {.outputs = outputs, .n = b->n < slice ? b->n : slice};
    struct program_lease lease = {0};
    if (program_acquire(s->program, &use, &lease, e))
        return -1;
    int status = 0;
    for (int64_t begin = 0; begin < b->n && !status; begin += slice) {
        int64_t n = b->n - begin < slice ? b->n - begin : slice;
        struct batch part = batch_from(net, b, begin, n);
        struct run_args args = model_run_args(net, pool, &part, s->generation, s->at.draw);
        args.prepared = program_prepared(&lease, s->generation);
        const real *out[NETWORK_MAX_IO + 2];
        status = run_execute(lease.run, &args, e);
        for (int i = 0; i < __builtin_popcount(outputs); i++)
            out[i] = run_output(lease.run, i);
        if (!status)
            f(arg, begin, n, out);
    }
    program_release(&lease);
    return status;
}
