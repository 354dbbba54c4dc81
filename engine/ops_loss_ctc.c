/* ops_loss_ctc.c: connectionist temporal classification, torch's ctc_loss with the batch first.
 *
 * Inputs are log probabilities [N, T, C]; optionally lengths of the inputs [N], and then lengths of
 * the targets [N]; and the targets [N, S]. Without lengths an input has T steps, and a target ends
 * at its first number below 0 or blank. The labels of a target with blanks around each are a chain
 * of L = 2 length + 1 states. With its labels l:
 *
 *   alpha[t][s] = lp[t][l_s] + log(e^alpha[t-1][s] + e^alpha[t-1][s-1] + e^alpha[t-1][s-2]),
 *
 * the last term only where l_s is neither blank nor l_{s-2}; the likelihood ends in the last two
 * states. beta is the same from the end, and the slope of -log likelihood is
 * -e^(alpha + beta - lp - log likelihood), summed over the states of a label. Both are in double,
 * in the scratch of a thread; backward makes alpha again. */
#include "channels.h"
#include "ops_loss.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { CTC_MAX_SIZE = 1 << 20 };

struct ctc {
    int reduction;
    int64_t blank;
    bool zero_infinity;
};
static const struct attr_def ctc_attrs[] = {
    {"blank", ATTR_INT, offsetof(struct ctc, blank), "0", 0, CTC_MAX_SIZE, NULL,
     "the class that stands for no label"},
    {"reduction", ATTR_CHOICE, offsetof(struct ctc, reduction), "mean", 0, 0, "mean|sum",
     "mean: over the batch, each divided by its target's length; or the sum"},
    {"zero_infinity", ATTR_BOOL, offsetof(struct ctc, zero_infinity), "false", 0, 0, NULL,
     "targets that do not fit into their inputs cost nothing"},
    {0},
};

/* ---- shapes ---------------------------------------------------------------------------------- */

static int check_lengths(const struct node *n, const struct shape *want, struct error *e)
{
    struct shape_text a, b;
    for (int i = 1; i < n->n_data - 1; i++)
        if (n->in[i]->dtype != DTYPE_INT64 || !shape_equal(&n->in[i]->shape, want))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: its input %d must be lengths (INT64) of the shape %s, found %s",
                             n->what, i, shape_print(want, &a), shape_print(&n->in[i]->shape, &b));
    return 0;
}

static int ctc_shape(struct node *n, struct error *e)
{
    const struct ctc *o = n->attrs;
    const struct node *target = n->in[n->n_data - 1];
    struct shape_text a, b;
    if (node_check_rank(n, 0, 3, 3, e))
        return -1;
    const struct shape *x = &n->in[0]->shape, *t = &target->shape;
    if (target->dtype != DTYPE_INT64)
        return error_set(e, ERROR_BAD_DTYPE, "%s: its target must be labels (INT64), not numbers",
                         n->what);
    if (t->rank != 2 || t->dim[0] != x->dim[0] || t->dim[1] < 1 || x->dim[1] < 1 ||
        x->dim[1] > CTC_MAX_SIZE || t->dim[1] > CTC_MAX_SIZE || x->dim[2] < 1)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects log probabilities [N, T, classes] and labels [N, S] of at "
                         "least 1 and at most %d places, found %s and %s",
                         n->what, CTC_MAX_SIZE, shape_print(x, &a), shape_print(t, &b));
    if (o->blank >= x->dim[2])
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'blank' must be below the number of classes (%lld), not "
                         "%lld",
                         n->what, (long long)x->dim[2], (long long)o->blank);
    if (check_lengths(n, &SHAPE(x->dim[0]), e))
        return -1;
    return node_set_shape(n, &(struct shape){0}, e);
}

/* States of the longest chain. */
static int64_t most_states(const struct node *n)
{
    return 2 * n->in[n->n_data - 1]->shape.dim[1] + 1;
}

static void ctc_memory(struct node *n)
{
    n->scratch = doubles_as_reals((n->in[0]->shape.dim[1] + 2) * most_states(n));
}

/* ---- one sample ------------------------------------------------------------------------------ */

struct chain {
    const real *lp;        /* [steps][classes] */
    const int64_t *labels; /* [length] */
    int64_t steps, classes, length, states, blank;
    double *alpha; /* [steps][states] */
    double *beta;  /* [2][states] */
};

static int64_t label_of(const struct chain *c, int64_t state)
{
    return state % 2 ? c->labels[state / 2] : c->blank;
}

/* Whether a path may go from state - 2 to state. */
static bool may_skip(const struct chain *c, int64_t state)
{
    return state % 2 && state > 1 && c->labels[state / 2] != c->labels[state / 2 - 1];
}

static double add_logs(double a, double b)
{
    const double most = a > b ? a : b, least = a > b ? b : a;
    return most == -INFINITY ? most : most + log1p(exp(least - most));
}

static int64_t labels_before_padding(const int64_t *labels, int64_t n, int64_t blank)
{
    int64_t length = 0;
    while (length < n && labels[length] >= 0 && labels[length] != blank)
        length++;
    return length;
}

/* False and a refusal when a length or a label is out of range. */
static bool chain_check(const struct node *n, struct run *r, const struct chain *c, int64_t i)
{
    const int64_t steps = n->in[0]->shape.dim[1], most = most_states(n) / 2;
    if (c->steps < 1 || c->steps > steps || c->length < 0 || c->length > most) {
        run_fail(r, ERROR_BAD_VALUE,
                 "%s: the lengths %lld and %lld of sample %lld must be 1 to %lld steps and 0 to "
                 "%lld labels",
                 n->what, (long long)c->steps, (long long)c->length, (long long)i, (long long)steps,
                 (long long)most);
        return false;
    }
    for (int64_t k = 0; k < c->length; k++)
        if (c->labels[k] < 0 || c->labels[k] >= c->classes || c->labels[k] == c->blank) {
            run_fail(r, ERROR_BAD_VALUE,
                     "%s: label %lld of sample %lld is %lld, expected 0 to %lld and not the blank "
                     "%lld",
                     n->what, (long long)k, (long long)i, (long long)c->labels[k],
                     (long long)c->classes - 1, (long long)c->blank);
            return false;
        }
    return true;
}

static struct chain chain_of(const struct node *n, struct run *r, int64_t i, int worker)
{
    const struct shape *x = &n->in[0]->shape;
    const int64_t most = n->in[n->n_data - 1]->shape.dim[1];
    struct chain c = {.lp = run_in(r, n, 0) + i * x->dim[1] * x->dim[2],
                      .labels = run_in_int64(r, n, n->n_data - 1) + i * most,
                      .steps = n->n_data > 2 ? run_in_int64(r, n, 1)[i] : x->dim[1],
                      .classes = x->dim[2],
                      .blank = ((const struct ctc *)n->attrs)->blank};
    c.length =
        n->n_data > 3 ? run_in_int64(r, n, 2)[i] : labels_before_padding(c.labels, most, c.blank);
    c.states = 2 * c.length + 1;
    c.beta = (double *)(void *)run_scratch(r, worker);
    c.alpha = c.beta + 2 * most_states(n);
    return c;
}

/* Fills alpha; returns the logarithm of the likelihood, -infinity when no path fits. */
static double chain_alpha(const struct chain *c)
{
    for (int64_t t = 0; t < c->steps; t++) {
        const double *from = c->alpha + (t - 1) * c->states;
        double *to = c->alpha + t * c->states;
        for (int64_t s = 0; s < c->states; s++) {
            double sum = t ? from[s] : s < 2 ? 0 : -INFINITY;
            if (t && s > 0)
                sum = add_logs(sum, from[s - 1]);
            if (t && may_skip(c, s))
                sum = add_logs(sum, from[s - 2]);
            to[s] = sum + (double)c->lp[t * c->classes + label_of(c, s)];
        }
    }
    const double *last = c->alpha + (c->steps - 1) * c->states;
    return c->states > 1 ? add_logs(last[c->states - 1], last[c->states - 2]) : last[0];
}

/* beta of step t, without that step's own lp, from that of the step after it with it. */
static void beta_step(const struct chain *c, int64_t t, const double *from, double *to)
{
    const bool last = t + 1 == c->steps;
    for (int64_t s = 0; s < c->states; s++) {
        double sum = !last ? from[s] : s + 2 >= c->states ? 0 : -INFINITY;
        if (!last && s + 1 < c->states)
            sum = add_logs(sum, from[s + 1]);
        if (!last && s + 2 < c->states && may_skip(c, s + 2))
            sum = add_logs(sum, from[s + 2]);
        to[s] = sum;
    }
}

/* dx[t][k] = -scale * the share of paths that are at label k at step t. */
static void chain_slopes(const struct chain *c, double likelihood, double scale, real *dx)
{
    for (int64_t t = c->steps - 1; t >= 0; t--) {
        double *beta = c->beta + (t % 2) * c->states, *after = c->beta + (1 - t % 2) * c->states;
        beta_step(c, t, after, beta);
        for (int64_t s = 0; s < c->states; s++) {
            const int64_t at = t * c->classes + label_of(c, s);
            const double path = c->alpha[t * c->states + s] + beta[s];
            dx[at] -= path == -INFINITY ? 0 : (real)(scale * exp(path - likelihood));
            beta[s] += (double)c->lp[at];
        }
    }
}

/* ---- the loss -------------------------------------------------------------------------------- */

static double divisor_of(const struct node *n, const struct chain *c)
{
    const bool mean = ((const struct ctc *)n->attrs)->reduction == REDUCE_MEAN;
    return mean && c->length > 1 ? (double)c->length : 1;
}

static void ctc_terms(void *arg, int64_t begin, int64_t end, int worker)
{
    struct loss_sum *sum = arg;
    struct loss_part part = {0, 0};
    for (int64_t i = begin; i < end; i++) {
        const struct chain c = chain_of(sum->n, sum->r, i, worker);
        const double likelihood = chain_alpha(&c);
        if (likelihood != -INFINITY || !((const struct ctc *)sum->n->attrs)->zero_infinity)
            part.terms -= likelihood / divisor_of(sum->n, &c);
    }
    sum->part[begin / sum->grain] = part;
}

static double batch_divisor(const struct node *n, const struct run *r)
{
    const bool mean = ((const struct ctc *)n->attrs)->reduction == REDUCE_MEAN;
    return mean ? (double)run_dim(r, n->in[0], 0) : 1;
}

static void ctc_forward(const struct node *n, struct run *r)
{
    struct loss_sum sum = {.n = n, .r = r};
    for (int64_t i = 0; i < run_dim(r, n->in[0], 0); i++) {
        const struct chain c = chain_of(n, r, i, 0);
        if (!chain_check(n, r, &c, i))
            return;
    }
    const struct loss_part total = loss_sum_run(&sum, run_dim(r, n->in[0], 0), 1, ctc_terms);
    *run_value(r, n) = (real)(total.terms / batch_divisor(n, r));
}

static void ctc_slopes(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct node *n = ((struct node_run *)arg)->n;
    struct run *r = ((struct node_run *)arg)->r;
    const int64_t each = n->in[0]->shape.dim[1] * n->in[0]->shape.dim[2];
    const double scale = (double)*run_grad(r, n) / batch_divisor(n, r);
    real *dx = run_grad_in(r, n, 0);
    memset(dx + begin * each, 0, (size_t)((end - begin) * each) * sizeof *dx);
    for (int64_t i = begin; i < end; i++) {
        const struct chain c = chain_of(n, r, i, worker);
        const double likelihood = chain_alpha(&c);
        if (likelihood != -INFINITY)
            chain_slopes(&c, likelihood, scale / divisor_of(n, &c), dx + i * each);
    }
}

static void ctc_backward(const struct node *n, struct run *r)
{
    if (run_grad_in(r, n, 0))
        run_for(r, run_dim(r, n->in[0], 0), 1, ctc_slopes, &(struct node_run){n, r});
}

static double ctc_flops(const struct node *n)
{
    return 6 * (double)n->in[0]->shape.dim[1] * (double)most_states(n);
}

const struct op ops_loss_ctc[] = {
    {"ctc", "loss", 2, 4, ctc_attrs, sizeof(struct ctc), NULL, ctc_shape, ctc_memory, ctc_forward,
     ctc_backward, ctc_flops, OP_LOSS | OP_TARGET_LABELS | OP_KEEPS_IN,
     "Nx5x4 Nx2:classes=3 blank=3; Nx7x3 N:lengths=7 Nx3:classes=2 blank=2 reduction=sum; "
     "Nx6x4 N:lengths=6 N:lengths=2 Nx2:classes=3 blank=3; Nx1x2 Nx1:classes=1 blank=1; 2x4x3 "
     "2x1:classes=2 blank=2; Nx2x3 Nx2:classes=1 blank=2 zero_infinity=true",
     "-log of the likelihood of all paths that read as the target; inputs log probabilities "
     "[N, T, C], lengths of inputs and of targets (INT64; may be left out), labels [N, S]"},
    {0},
};
