/* gradcheck_double.c: see gradcheck.h. Compiled with the engine in double only.
 *
 * The network is built again from its description, its numbers are widened from float, and one
 * forward and backward give the analytic gradients a. For each element that is looked at, forwards
 * with it moved by h to either side give the central difference c(h) = (L(+h) - L(-h)) / 2h, whose
 * error is O(h^2) plus the rounding of L over h. If a and c(h) agree, that is all. If they do not,
 * the same at h' = h / 8 tells three cases apart:
 *
 *   - a agrees with c(h'): h was too long, over a kink or a bend. It agrees.
 *   - c(h) and c(h') differ, or the one-sided slopes differ by as much at h' as at h (by an eighth
 *     where the loss is smooth): there is a kink (relu at 0, a tie of max_pool2d) at the element or
 *     within h'. No difference can tell what the derivative is: "kink", not a failure.
 *   - else the differences agree with each other and not with a: a is wrong.
 *
 * Sums over a batch run in the same order in every forward, on one thread. */
#include "gradcheck.h"

#include "describe.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHORTER = 8, MAX_CHECKS = 100000 };

/* Everything one check needs; what is NULL was not made. */
struct check {
    const struct gradcheck_question *q;
    struct network *net;
    struct pool *pool;
    real *params, *buffers, *grads;
    const void *data[2 * NETWORK_MAX_IO];
    real *widened[2 * NETWORK_MAX_IO]; /* those of data that are the check's own */
    struct plan *backward, *forward;
    struct run *run_backward, *run_forward;
    struct run_args args;
    double loss;
};

void gradcheck_start(void)
{
    engine_start();
}

/* ---- making it ready ------------------------------------------------------------------------- */

/* A copy in double of `count` floats. NULL: too many, or no memory. */
static real *widen(const struct check *c, const float *from, size_t count, struct error *e)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, sizeof(real), &bytes)) {
        error_set(e, ERROR_TOO_LARGE, "the parameters have too many elements");
        return NULL;
    }
    if (c->q->take(c->q->arg, bytes, e))
        return NULL;
    real *to = malloc(bytes ? bytes : 1);
    if (!to)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a copy in double precision");
    for (size_t i = 0; to && i < count; i++)
        to[i] = from ? (real)from[i] : 0;
    return to;
}

static int widen_batch(struct check *c, struct error *e)
{
    const struct network *net = c->net;
    for (int i = 0; i < net->n_inputs + net->n_targets; i++) {
        const struct node *leaf =
            i < net->n_inputs ? net->inputs[i] : net->targets[i - net->n_inputs];
        int64_t count;
        c->data[i] = c->q->data[i];
        if (node_dtype(leaf) != DTYPE_REAL || !c->q->data[i])
            continue;
        if (!shape_count(node_shape(leaf), c->q->n, &count))
            return error_set(e, ERROR_TOO_LARGE, "the batch is too large");
        c->widened[i] = widen(c, c->q->data[i], (size_t)count, e);
        if (!c->widened[i])
            return -1;
        c->data[i] = c->widened[i];
    }
    return 0;
}

static struct run *run_for_plan(const struct check *c, const struct plan *plan, struct error *e)
{
    return c->q->take(c->q->arg, plan_arena_bytes(plan), e) ? NULL : run_create(plan, e);
}

static int make_runs(struct check *c, struct error *e)
{
    struct plan_spec spec = {.training = c->q->training,
                             .loss = c->net->loss,
                             .params_wrt = true,
                             .capacity = c->q->n,
                             .threads = 1};
    c->backward = plan_create(c->net->graph, &spec, e);
    spec.params_wrt = false;
    c->forward = c->backward ? plan_create(c->net->graph, &spec, e) : NULL;
    if (!c->forward)
        return -1;
    c->run_backward = run_for_plan(c, c->backward, e);
    c->run_forward = c->run_backward ? run_for_plan(c, c->forward, e) : NULL;
    return c->run_forward ? 0 : -1;
}

static int check_begin(struct check *c, const struct gradcheck_question *q, struct error *e)
{
    *c = (struct check){.q = q};
    c->net = describe_network(q->description, e);
    if (!c->net)
        return -1;
    const struct graph *g = c->net->graph;
    if (!c->net->loss)
        return error_set(e, ERROR_CONFLICT, "the model was created without a loss");
    c->pool = pool_create(1, e);
    if (!c->pool || !(c->params = widen(c, q->params, graph_params_size(g), e)) ||
        !(c->buffers = widen(c, q->buffers, graph_buffers_size(g), e)) ||
        !(c->grads = widen(c, NULL, graph_params_size(g), e)) || widen_batch(c, e) ||
        make_runs(c, e))
        return -1;
    c->args = (struct run_args){.pool = c->pool,
                                .n = q->n,
                                .inputs = c->data,
                                .params = c->params,
                                .buffers = c->buffers,
                                .grads = c->grads,
                                .seed = c->net->seed,
                                .draw = q->draw,
                                .gone = q->gone,
                                .gone_arg = q->gone_arg};
    return 0;
}

static void check_end(struct check *c)
{
    run_destroy(&c->run_backward);
    run_destroy(&c->run_forward);
    plan_destroy(&c->backward);
    plan_destroy(&c->forward);
    for (int i = 0; i < 2 * NETWORK_MAX_IO; i++)
        free(c->widened[i]);
    free(c->params);
    free(c->buffers);
    free(c->grads);
    if (c->pool)
        pool_destroy(&c->pool);
    network_destroy(&c->net);
}

/* ---- one element ----------------------------------------------------------------------------- */

static int loss_at(struct check *c, size_t at, double value, double *loss_r, struct error *e)
{
    double kept = c->params[at];
    c->params[at] = value;
    int status = run_execute(c->run_forward, &c->args, e);
    c->params[at] = kept;
    *loss_r = status ? NAN : run_loss(c->run_forward);
    return status;
}

/* Differences at one step: central, how far the one-sided ones are apart, and how much of each is
 * rounding. */
struct difference {
    double central, apart, noise;
};

static int difference_at(struct check *c, size_t at, double step, struct difference *d_r,
                         struct error *e)
{
    double x = c->params[at], up, down, above = x + step, below = x - step;
    if (loss_at(c, at, above, &up, e) || loss_at(c, at, below, &down, e))
        return -1;
    d_r->central = (up - down) / (above - below);
    d_r->apart = fabs((up - c->loss) / (above - x) - (c->loss - down) / (x - below));
    d_r->noise = 32 * DBL_EPSILON * fmax(1, fabs(c->loss)) / step;
    return 0;
}

/* How far two derivatives are apart beside their size; what rounding may do to them counts as size,
 * so that of two that are nearly 0 nobody asks for digits that are not there. */
static double relative_error(const struct check *c, double a, double b, double noise)
{
    return fabs(a - b) / (fmax(fabs(a), fabs(b)) + noise / c->q->tolerance);
}

static bool agree(const struct check *c, double a, double b, double noise)
{
    return relative_error(c, a, b, noise) <= c->q->tolerance;
}

enum verdict { AGREES, KINK, DISAGREES };

/* When the analytic derivative is not the difference at `far`: what the one at `near` tells. */
static enum verdict judge_again(const struct check *c, double analytic,
                                const struct difference *far, const struct difference *near)
{
    double size = fmax(fabs(near->central), fabs(analytic));
    bool bent = near->apart > far->apart / 2 && near->apart > c->q->tolerance * size + near->noise;
    if (agree(c, analytic, near->central, near->noise))
        return AGREES;
    return bent || !agree(c, far->central, near->central, near->noise) ? KINK : DISAGREES;
}

static int judge(struct check *c, size_t at, struct gradcheck_pair *p, enum verdict *verdict_r,
                 struct error *e)
{
    struct difference far, near;
    double step = c->q->eps * fmax(1, fabs(c->params[at]));
    if (difference_at(c, at, step, &far, e))
        return -1;
    near = far;
    p->analytic = c->grads[at];
    *verdict_r = AGREES;
    if (!agree(c, p->analytic, far.central, far.noise)) {
        if (difference_at(c, at, step / SHORTER, &near, e))
            return -1;
        *verdict_r = judge_again(c, p->analytic, &far, &near);
    }
    p->numeric = near.central;
    p->error = relative_error(c, p->analytic, p->numeric, near.noise);
    return 0;
}

/* ---- one parameter --------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014): a well mixed number for each (seed, i). */
static uint64_t mix(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* The k-th of `picks` elements of `count`: one from each of as many equal ranges. */
static int64_t pick(const struct check *c, const struct param *p, int64_t k, int64_t picks)
{
    int64_t count = (int64_t)p->count;
    int64_t begin = (int64_t)((double)count * (double)k / (double)picks);
    int64_t end = (int64_t)((double)count * (double)(k + 1) / (double)picks);
    uint64_t width = end > begin ? (uint64_t)(end - begin) : 1;
    return begin + (int64_t)(mix(c->q->seed + p->offset, (uint64_t)k) % width);
}

static int64_t picks_of(const struct check *c, const struct param *p)
{
    return (int64_t)p->count < c->q->count ? (int64_t)p->count : c->q->count;
}

static void row_count(struct gradcheck_row *row, const struct gradcheck_pair *p, enum verdict v)
{
    int64_t *const counts[] = {
        [AGREES] = &row->agreed, [KINK] = &row->kinks, [DISAGREES] = &row->disagreed};
    bool first = v == DISAGREES && row->disagreed == 0; /* outdoes all that agree */
    bool same = v == DISAGREES || (v == AGREES && !row->disagreed);
    ++*counts[v];
    row->checked++;
    if (first || (same && (row->worst.index < 0 || p->error > row->worst.error)))
        row->worst = *p;
}

/* Of a row whose gradient is 0 by design, though the loss depends on it. */
static bool is_padding(const struct check *c, int place, int64_t element)
{
    const struct param *p = graph_param(c->net->graph, place);
    const int64_t row = graph_param_untrained_row(c->net->graph, place);
    return row >= 0 && element / ((int64_t)p->count / p->shape.dim[0]) == row;
}

static int check_param(struct check *c, int place, struct gradcheck_row *row, struct error *e)
{
    const struct param *p = graph_param(c->net->graph, place);
    int64_t picks = picks_of(c, p);
    *row = (struct gradcheck_row){
        .name = p->name, .dim = p->shape.dim, .rank = p->shape.rank, .worst = {.index = -1}};
    for (int64_t k = 0; k < picks; k++) {
        struct gradcheck_pair pair = {.index = pick(c, p, k, picks)};
        enum verdict verdict;
        if (is_padding(c, place, pair.index)) {
            row->padding++;
            continue;
        }
        if (judge(c, p->offset + (size_t)pair.index, &pair, &verdict, e))
            return error_prefix(e, "parameter '%s', element %lld", p->name, (long long)pair.index);
        row_count(row, &pair, verdict);
    }
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static bool is_wanted(const struct check *c, const struct param *p)
{
    return !p->buffer && !p->frozen && c->q->wanted(c->q->arg, p->name);
}

static int check_amount(const struct check *c, struct error *e)
{
    const struct graph *g = c->net->graph;
    int64_t all = 0;
    for (int i = 0; i < graph_param_count(g); i++)
        if (is_wanted(c, graph_param(g, i)))
            all += picks_of(c, graph_param(g, i));
    if (all <= MAX_CHECKS)
        return 0;
    return error_set(e, ERROR_TOO_LARGE,
                     "%lld elements to check, at most %d: lower parameters.count or name fewer "
                     "parameters in parameters.wrt",
                     (long long)all, MAX_CHECKS);
}

static int analytic(struct check *c, struct error *e)
{
    if (run_execute(c->run_backward, &c->args, e) || run_execute(c->run_forward, &c->args, e))
        return -1;
    c->loss = run_loss(c->run_forward);
    if (!isfinite(c->loss) || !isfinite(gradients_norm(c->net, c->pool, c->grads)))
        return run_explain_nonfinite(c->run_backward, &c->args, e);
    return 0;
}

static const char *detaching(const struct network *net)
{
    for (int i = 0; i < graph_node_count(net->graph); i++)
        if (node_detaches(graph_node(net->graph, i)))
            return node_op(graph_node(net->graph, i));
    return NULL;
}

static int check_all(struct check *c, gradcheck_fn *f, void *arg, struct gradcheck_result *r,
                     struct error *e)
{
    const struct graph *g = c->net->graph;
    struct gradcheck_row row;
    for (int i = 0; i < graph_param_count(g); i++) {
        if (!is_wanted(c, graph_param(g, i)))
            continue;
        if (check_param(c, i, &row, e))
            return -1;
        r->checked += row.checked;
        r->agreed += row.agreed;
        r->kinks += row.kinks;
        r->disagreed += row.disagreed;
        r->padding += row.padding;
        f(arg, &row);
    }
    return 0;
}

int gradcheck_run(const struct gradcheck_question *q, gradcheck_fn *f, void *arg,
                  struct gradcheck_result *r, struct error *e)
{
    struct check c;
    *r = (struct gradcheck_result){0};
    int status = check_begin(&c, q, e) || check_amount(&c, e) || analytic(&c, e) ? -1 : 0;
    if (!status) {
        r->loss = c.loss;
        r->detaches = detaching(c.net);
        status = check_all(&c, f, arg, r, e);
    }
    check_end(&c);
    return status;
}
