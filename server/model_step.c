/* model_step.c: the verbs that train, in the order that DESIGN.md section 3 promises: forward,
 * backward, check, write the next generation and check it, commit, answer. A verb that is refused
 * has changed nothing, and used up no counter. */
#include "model_private.h"

#include "answers.h"
#include "metrics.h"
#include "score.h"

#include <math.h>
#include <string.h>
#include <time.h>

static int check_trainable(const struct model *m, const struct network *net, struct error *e)
{
    if (model_check_there(m, e))
        return -1;
    if (!net->loss || !net->optimizer)
        return error_set(e, ERROR_CONFLICT,
                         "model '%s' was created without a loss, so it cannot be trained", m->name);
    return 0;
}

static size_t buffers_bytes(const struct network *net)
{
    return graph_buffers_size(net->graph) * sizeof(real);
}

struct run_args model_run_args(const struct network *net, struct pool *pool, const struct batch *b,
                               const struct generation *g, uint64_t draw)
{
    return (struct run_args){.pool = pool,
                             .n = b->n,
                             .inputs = b->data,
                             .params = g->params,
                             .buffers = g->buffers,
                             .seed = net->seed,
                             .draw = draw};
}

void step_result_parts(struct step_result *r, const struct run *run)
{
    const struct run_part *parts;
    r->n_parts = run_parts(run, &parts);
    memcpy(r->parts, parts, (size_t)r->n_parts * sizeof *parts);
}

/* Forward, backward, and the checks of what came out. */
int gradients_run(const struct network *net, struct run *run, const struct run_args *args,
                  const struct batch *b, struct step_result *r, struct error *e)
{
    if (run_execute(run, args, e))
        return -1;
    r->loss = (double)run_loss(run);
    r->grad_norm = gradients_norm(net, args->pool, args->grads);
    r->samples = b->n;
    step_result_parts(r, run);
    r->accuracy = score_accuracy(net, b, run_output(run, 0));
    if (!isfinite(r->loss) || !isfinite(r->grad_norm))
        return run_explain_nonfinite(run, args, e);
    return 0;
}

/* Gradients of the batch into m->grads; moved statistics into `buffers_out`. */
static int model_gradients(struct model *m, const struct batch *b, real *buffers_out,
                           struct step_result *r, struct error *e)
{
    const struct network *net = program_network(m->program);
    struct program_use use = {.training = true,
                              .loss = true,
                              .params_wrt = true,
                              .apart = m->recording != NULL,
                              .outputs = OUTPUT_PREDICTIONS,
                              .n = b->n};
    struct program_lease lease = {0};
    if (program_acquire(m->program, &use, &lease, e))
        return -1;
    struct run_args args = model_run_args(net, m->models->pool, b, m->live, m->at.draw);
    args.buffers = model_training_buffers(m);
    memcpy(buffers_out, args.buffers, buffers_bytes(net));
    args.buffers_out = buffers_out;
    args.grads = m->grads;
    model_signals_observe(m, &args);
    int status = gradients_run(net, lease.run, &args, b, r, e);
    program_release(&lease);
    return status;
}

/* Writes the next generation by m->grads; `lr` of the base and of each group. */
static int model_apply(struct model *m, const struct step_result *r, const double *lr,
                       struct generation *next, struct error *e)
{
    const struct network *net = program_network(m->program);
    model_signals_gradients(m, m->grads);
    if (network_apply(net, m->models->pool, m->live, m->grads, r->grad_norm, lr, next, e))
        return -1;
    model_signals_updates(m, next);
    return 0;
}

static int train_step(struct model *m, const struct batch *b, const struct step_options *o,
                      struct step_result *r, struct error *e)
{
    const struct network *net = program_network(m->program);
    if (check_trainable(m, net, e))
        return -1;
    if (m->pending)
        return error_set(e, ERROR_CONFLICT,
                         "gradients of forward_backward are pending: call optim_step or zero_grad "
                         "before train_step");
    struct generation *next = model_next(m, e);
    if (!next)
        return -1;
    struct commit c = model_commit_begin(m);
    double lr[NETWORK_MAX_GROUPS + 1];
    network_rates(net, m->live, o->lr, m->at.step, lr);
    r->lr = lr[0];
    c.at = (struct counters){c.at.step + 1, c.at.revision + 1, c.at.draw + 1};
    c.moved = false;
    model_signals_begin(m, c.at.step);
    if (model_gradients(m, b, next->buffers, r, e) || model_apply(m, r, lr, next, e)) {
        model_keep_spare(m, &next);
        return -1;
    }
    schedule_observe(net->schedule, &next->schedule, r->loss, m->at.step);
    c.loss = r->loss;
    struct logged l = {VERB_TRAIN_STEP, b, o, r};
    if (model_commit(m, next, &c, &l, e)) {
        model_keep_spare(m, &next);
        return -1;
    }
    return 0;
}

static void swap_buffers(struct model *m)
{
    real *b = m->buffers[0];
    m->buffers[0] = m->buffers[1];
    m->buffers[1] = b;
}

static int forward_backward(struct model *m, const struct batch *b, const struct step_options *o,
                            struct step_result *r, struct error *e)
{
    const struct network *net = program_network(m->program);
    if (check_trainable(m, net, e) || model_gradients(m, b, m->buffers[1], r, e))
        return -1;
    struct commit c = model_commit_begin(m);
    bool first = !m->pending;
    c.at.revision++;
    c.at.draw++;
    c.pending = true;
    c.moved = graph_buffers_size(net->graph) > 0;
    if (first)
        c.losses = (struct pending_losses){0, 0};
    c.losses.sum += r->loss;
    c.losses.count++;
    c.loss = r->loss;
    struct logged l = {VERB_FORWARD_BACKWARD, b, o, r};
    if (model_commit(m, NULL, &c, &l, e))
        return -1;
    swap_buffers(m);
    if (first)
        memcpy(m->sum, m->grads, graph_params_size(net->graph) * sizeof(real));
    else
        gradients_add(net, m->models->pool, m->sum, m->grads);
    return 0;
}

static int optim_step(struct model *m, const struct step_options *o, struct step_result *r,
                      struct error *e)
{
    const struct network *net = program_network(m->program);
    if (check_trainable(m, net, e))
        return -1;
    if (!m->pending)
        return error_set(e, ERROR_CONFLICT,
                         "no gradients are pending: call forward_backward before optim_step");
    struct generation *next = model_next(m, e);
    if (!next)
        return -1;
    /* Clipping writes into the gradients: the pending ones may have to stay. */
    memcpy(m->grads, m->sum, graph_params_size(net->graph) * sizeof(real));
    memcpy(next->buffers, model_training_buffers(m), buffers_bytes(net));
    double lr[NETWORK_MAX_GROUPS + 1];
    network_rates(net, m->live, o->lr, m->at.step, lr);
    r->lr = lr[0];
    r->grad_norm = gradients_norm(net, m->models->pool, m->grads);
    struct commit c = model_commit_begin(m);
    c.at.step++;
    c.at.revision++;
    c.pending = o->keep_gradients;
    c.moved = false;
    const struct pending_losses losses = c.losses;
    if (!c.pending)
        c.losses = (struct pending_losses){0, 0};
    model_signals_begin(m, c.at.step);
    int status = isfinite(r->grad_norm) ? model_apply(m, r, lr, next, e)
                                        : error_set(e, ERROR_NOT_FINITE,
                                                    "the sum of the pending gradients is not "
                                                    "finite; zero_grad clears it");
    if (losses.count) /* 0: an older backpropd saved the gradients without */
        schedule_observe(net->schedule, &next->schedule, losses.sum / (double)losses.count,
                         m->at.step);
    struct logged l = {VERB_OPTIM_STEP, NULL, o, r};
    if (status || model_commit(m, next, &c, &l, e)) {
        model_keep_spare(m, &next);
        return -1;
    }
    return 0;
}

static int zero_grad(struct model *m, const struct step_options *o, struct step_result *r,
                     struct error *e)
{
    if (model_check_there(m, e))
        return -1;
    struct commit c = model_commit_begin(m);
    c.at.revision++;
    c.pending = false;
    c.losses = (struct pending_losses){0, 0};
    struct logged l = {VERB_ZERO_GRAD, NULL, o, r};
    return model_commit(m, NULL, &c, &l, e);
}

/* ---- what callers see: the same with the state locked, and the metrics recorded -------------- */

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct step_result no_result(void)
{
    return (struct step_result){.loss = NAN, .grad_norm = NAN, .lr = NAN, .accuracy = NAN};
}

/* Times the step too: what the steps since a checkpoint took is about what their replay takes. The
 * answer to a keyed request is known before a checkpoint can take the place of its record. */
static int model_end_step(struct model *m, int status, const struct step_options *o,
                          struct step_result *r, double begun, const struct error *e)
{
    r->at = m->at;
    int64_t now = m->commit_ms;
    if (!status && o->key)
        answers_add(m->answers, o->key, o->request, r);
    pthread_mutex_unlock(&m->writing);
    if (status) {
        model_count_refused(m, e);
        model_signals_drop(m);
    }
    if (status || m->replaying)
        return status;
    metrics_record_at(m, r, now);
    model_signals_save(m, r, now);
    model_checkpoint_when_due(m, seconds_now() - begun);
    return 0;
}

int model_train_step(struct model *m, const struct batch *b, const struct step_options *o,
                     struct step_result *r, struct error *e)
{
    *r = no_result();
    pthread_mutex_lock(&m->writing);
    double begun = seconds_now();
    return model_end_step(m, train_step(m, b, o, r, e), o, r, begun, e);
}

int model_forward_backward(struct model *m, const struct batch *b, const struct step_options *o,
                           struct step_result *r, struct error *e)
{
    *r = no_result();
    pthread_mutex_lock(&m->writing);
    double begun = seconds_now();
    return model_end_step(m, forward_backward(m, b, o, r, e), o, r, begun, e);
}

int model_optim_step(struct model *m, const struct step_options *o, struct step_result *r,
                     struct error *e)
{
    *r = no_result();
    pthread_mutex_lock(&m->writing);
    double begun = seconds_now();
    return model_end_step(m, optim_step(m, o, r, e), o, r, begun, e);
}

int model_zero_grad(struct model *m, const struct step_options *o, struct step_result *r,
                    struct error *e)
{
    *r = no_result();
    pthread_mutex_lock(&m->writing);
    double begun = seconds_now();
    return model_end_step(m, zero_grad(m, o, r, e), o, r, begun, e);
}
