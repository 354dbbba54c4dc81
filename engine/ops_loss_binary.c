/* ops_loss_binary.c: bce_with_logits, with PyTorch's semantics: each number of the prediction is
 * the logit of one yes or no. The logarithms are taken of softplus, which does not overflow. */
#include "ops_loss.h"

#include "real.h"

const struct attr_def bce_attrs[] = {
    LOSS_REDUCTION(struct bce),
    {"pos_weight", ATTR_REALS, offsetof(struct bce, pos_weight), "", 0, 1e30, NULL,
     "weight of positive answers: a number, or a list along the last dimension"},
    {"weight", ATTR_REALS, offsetof(struct bce, weight), "", 0, 1e30, NULL,
     "weight of each term: a number, or a list along the last dimension"},
    {0},
};

static int check_broadcast_list(const struct node *n, const char *name,
                                const struct real_list *list, struct error *e)
{
    const struct shape *s = &n->in[0]->shape;
    struct shape_text text;
    if (list->n <= 1 || (s->rank > 0 && s->dim[s->rank - 1] == list->n))
        return 0;
    return error_set(e, ERROR_BAD_ATTRIBUTE,
                     "%s: attribute '%s' must have one number, or one for each of the last "
                     "dimension of %s, not %d",
                     n->what, name, shape_print(s, &text), list->n);
}

int bce_shape(struct node *n, struct error *e)
{
    const struct bce *a = n->attrs;
    if (loss_same_shape(n, e) || check_broadcast_list(n, "pos_weight", &a->pos_weight, e))
        return -1;
    return check_broadcast_list(n, "weight", &a->weight, e);
}

/* The number of a list that belongs to element i; 1 where there is no list. */
LOSS_INLINE double list_at(const struct real_list *list, int64_t i)
{
    return list->n == 0 ? 1 : list->v[list->n == 1 ? 0 : i % list->n];
}

/* log(1 + exp(-x)), without overflow. */
LOSS_INLINE double softplus_minus(real x)
{
    return (double)RM(log1p)(RM(exp)(-RM(fabs)(x))) + (x < 0 ? -(double)x : 0);
}

static void bce_sum(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    struct loss_sum *sum = arg;
    const struct bce *a = sum->n->attrs;
    const real *x = run_in(sum->r, sum->n, 0), *t = run_in(sum->r, sum->n, 1);
    double total = 0;
    for (int64_t i = begin; i < end; i++) {
        const double logit = (double)x[i], target = (double)t[i];
        const double positive = 1 + (list_at(&a->pos_weight, i) - 1) * target;
        const double term = (1 - target) * logit + positive * softplus_minus(x[i]);
        total += list_at(&a->weight, i) * term;
    }
    sum->part[begin / sum->grain].terms = total;
}

void bce_forward(const struct node *n, struct run *r)
{
    loss_pointwise_forward(n, r, ((const struct bce *)n->attrs)->reduction, bce_sum);
}

static void bce_slopes(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct node_run *nr = arg;
    const struct bce *a = nr->n->attrs;
    const double scale = loss_pointwise_scale(nr->n, nr->r, a->reduction);
    const real *x = run_in(nr->r, nr->n, 0), *t = run_in(nr->r, nr->n, 1);
    real *dx = run_grad_in(nr->r, nr->n, 0), *dt = run_grad_in(nr->r, nr->n, 1);
    for (int64_t i = begin; i < end; i++) {
        const double pos_weight = list_at(&a->pos_weight, i), target = (double)t[i];
        const double weight = scale * list_at(&a->weight, i);
        const double positive = 1 + (pos_weight - 1) * target;
        if (dx)
            dx[i] = (real)(weight * (1 - target - positive / (1 + (double)RM(exp)(x[i]))));
        if (dt)
            dt[i] = (real)(weight * ((pos_weight - 1) * softplus_minus(x[i]) - (double)x[i]));
    }
}

void bce_backward(const struct node *n, struct run *r)
{
    loss_pointwise_backward(n, r, bce_slopes);
}

double bce_flops(const struct node *n)
{
    return 8 * loss_term_count(n);
}
