/* snapshot.c: questions to one published state. They write nothing but their own run. */
#include "model_private.h"

#include "score.h"

#include <math.h>

static struct run_args question_args(const struct snapshot *s, struct pool *pool,
                                     const struct batch *b)
{
    struct run_args args =
        model_run_args(program_network(s->program), pool, b, s->generation, s->at.draw);
    args.gone = s->gone;
    args.gone_arg = s->gone_arg;
    return args;
}

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
    struct run_args args = question_args(s, pool, b);
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
                       const struct gradients_wish *wish, real *grads, struct program_lease *l,
                       struct step_result *r, struct error *e)
{
    const struct network *net = program_network(s->program);
    struct program_use use = {.training = wish->training,
                              .loss = true,
                              .params_wrt = true,
                              .inputs_wrt = wish->inputs,
                              .apart = wish->observe != NULL,
                              .outputs = OUTPUT_PREDICTIONS,
                              .n = b->n,
                              .layers = wish->layers,
                              .n_layers = wish->n_layers};
    if (!net->loss)
        return error_set(e, ERROR_CONFLICT, "the model was created without a loss");
    if (program_acquire(s->program, &use, l, e))
        return -1;
    struct run_args args = question_args(s, pool, b);
    args.grads = grads;
    args.observe = wish->observe;
    args.observe_arg = wish->observe_arg;
    r->at = s->at;
    r->lr = NAN;
    if (gradients_run(net, l->run, &args, b, r, e)) {
        program_release(l);
        return -1;
    }
    return 0;
}

/* The batch from its sample `begin` on; leaves that are NULL stay so. */
static struct batch batch_from(const struct network *net, const struct batch *b, int64_t begin,
                               int64_t n)
{
    struct batch part = {.n = n};
    for (int i = 0; i < net->n_inputs + net->n_targets; i++) {
        const struct node *leaf =
            i < net->n_inputs ? net->inputs[i] : net->targets[i - net->n_inputs];
        int64_t sample;
        shape_count(node_shape(leaf), 1, &sample);
        size_t skip = (size_t)(begin * sample) * dtype_size(node_dtype(leaf));
        if (b->data[i])
            part.data[i] = (const char *)b->data[i] + (shape_batched(node_shape(leaf)) ? skip : 0);
    }
    return part;
}

int snapshot_sample_norms(const struct snapshot *s, struct pool *pool, const struct batch *b,
                          bool training, real *grads, double *norms_r, struct error *e)
{
    const struct network *net = program_network(s->program);
    const struct node *mixes = network_mixing_layer(net, training);
    struct gradients_wish wish = {.training = training};
    struct step_result r = {0};
    if (mixes)
        return error_set(e, ERROR_BAD_VALUE,
                         "per_sample_norms: layer '%.60s' (%s) computes across the whole batch%s: "
                         "a sample has no gradient of its own",
                         node_name(mixes), node_op(mixes), training ? " in mode \"train\"" : "");
    for (int64_t i = 0; i < b->n; i++) {
        struct batch one = batch_from(net, b, i, 1);
        struct program_lease lease = {0};
        if (snapshot_gradients(s, pool, &one, &wish, grads, &lease, &r, e))
            return error_prefix(e, "sample %lld alone", (long long)i);
        norms_r[i] = r.grad_norm;
        program_release(&lease);
    }
    return 0;
}

int snapshot_apply(const struct snapshot *s, struct pool *pool, real *grads, double grad_norm,
                   struct generation *to, struct error *e)
{
    const struct network *net = program_network(s->program);
    double lr[NETWORK_MAX_GROUPS + 1];
    network_rates(net, s->generation, NAN, s->at.step, lr);
    return network_apply(net, pool, s->generation, grads, grad_norm, lr, to, e);
}

/* Says of a refused run why its samples are not computed a few at a time. */
static int explain_whole(const struct network *net, struct error *e)
{
    const struct node *mixes = network_mixing_layer(net, false);
    if (!mixes)
        return -1;
    return error_prefix(e,
                        "the samples cannot be computed apart, because layer '%.60s' (%s) computes "
                        "across the batch; send fewer of them",
                        node_name(mixes), node_op(mixes));
}

int snapshot_infer(const struct snapshot *s, struct pool *pool, const struct batch *b,
                   unsigned outputs, infer_fn *f, void *arg, struct error *e)
{
    const struct network *net = program_network(s->program);
    int64_t slice = program_slice(s->program);
    struct program_use use = {.outputs = outputs, .n = b->n < slice ? b->n : slice};
    struct program_lease lease = {0};
    if (program_acquire(s->program, &use, &lease, e))
        return use.n > 1 ? explain_whole(net, e) : -1;
    int status = 0;
    for (int64_t begin = 0, n; begin < b->n && !status; begin += n) {
        n = b->n - begin < slice ? b->n - begin : slice;
        struct batch part = batch_from(net, b, begin, n);
        struct run_args args = question_args(s, pool, &part);
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
