/* ops_select.c: where: torch.where of a condition that is a number, true where it is not 0. All
 * three inputs broadcast to one shape. The result is made in two passes, each over one of the
 * choices; a choice that was not taken has no influence, not even when it is NaN. */
#include "strided.h"
#include "unary.h"

enum { WHERE_CONDITION, WHERE_X, WHERE_Y };

static int where_shape(struct node *n, struct error *e)
{
    struct shape_text c, x, y;
    struct shape both, all;
    for (int i = 0; i < 3; i++)
        if (node_check_rank(n, i, 0, SHAPE_MAX_RANK, e))
            return -1;
    if (!shape_broadcast(&n->in[WHERE_X]->shape, &n->in[WHERE_Y]->shape, &both) ||
        !shape_broadcast(&both, &n->in[WHERE_CONDITION]->shape, &all))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: cannot broadcast the condition %s with %s and %s: sizes, matched "
                         "from the right, must be equal or 1",
                         n->what, shape_print(&n->in[WHERE_CONDITION]->shape, &c),
                         shape_print(&n->in[WHERE_X]->shape, &x),
                         shape_print(&n->in[WHERE_Y]->shape, &y));
    return node_set_shape(n, &all, e);
}

static void where_memory(struct node *n)
{
    n->work_backward = strided_room(n->size);
}

/* A pass over the result's space: operand A is one of the choices, B the condition. */
struct choosing {
    struct strided space;
    bool take; /* the choice counts where the condition is this */
    const real *from, *condition;
    real *to;
    int64_t step_a, step_b;
};

static struct choosing choosing(const struct node *n, const struct run *r, int choice)
{
    const struct shape self = run_shape(r, n), a = run_shape(r, n->in[choice]);
    const struct shape b = run_shape(r, n->in[WHERE_CONDITION]);
    struct choosing c = {.space = strided_space(&self, &a, &b), .take = choice == WHERE_X};
    c.condition = run_in(r, n, WHERE_CONDITION);
    c.step_a = c.space.stride[STRIDED_A][c.space.rank - 1];
    c.step_b = c.space.stride[STRIDED_B][c.space.rank - 1];
    return c;
}

static void choose_strip(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n)
{
    const struct choosing *c = arg;
    const real *from = c->from + at[STRIDED_A], *condition = c->condition + at[STRIDED_B];
    real *to = c->to + at[STRIDED_SELF];
    for (int64_t i = 0; i < n; i++)
        if ((condition[i * c->step_b] != 0) == c->take)
            to[i] = from[i * c->step_a];
}

static const real *gradient_terms(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n,
                                  real *room)
{
    const struct choosing *c = arg;
    const real *from = c->from + at[STRIDED_SELF], *condition = c->condition + at[STRIDED_B];
    for (int64_t i = 0; i < n; i++)
        room[i] = (condition[i * c->step_b] != 0) == c->take ? from[i] : 0;
    return room;
}

static void gradient_strip(const void *arg, const int64_t at[STRIDED_OPERANDS], int64_t n)
{
    gradient_terms(arg, at, n, ((const struct choosing *)arg)->to + at[STRIDED_SELF]);
}

static void where_forward(const struct node *n, struct run *r)
{
    for (int choice = WHERE_X; choice <= WHERE_Y; choice++) {
        struct choosing c = choosing(n, r, choice);
        c.from = run_in(r, n, choice);
        c.to = run_value(r, n);
        strided_for(r, &c.space, choose_strip, &c);
    }
}

static void choice_backward(const struct node *n, struct run *r, int choice)
{
    struct choosing c = choosing(n, r, choice);
    c.from = run_grad(r, n);
    c.to = run_grad_in(r, n, choice);
    if (!c.to)
        return;
    if (run_count(r, n->in[choice]) == run_count(r, n)) {
        strided_for(r, &c.space, gradient_strip, &c);
        return;
    }
    struct strided_sum sum = {.space = c.space,
                              .into = STRIDED_A,
                              .terms = gradient_terms,
                              .arg = &c,
                              .divisor = 1,
                              .out = c.to,
                              .partials = run_work(r, n),
                              .samples = shape_batched(&n->in[choice]->shape) ? r->args.n : 1};
    strided_sum(r, &sum);
}

static void zero_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    for (int64_t i = begin; i < end; i++)
        ((real *)arg)[i] = 0;
}

/* The condition has the gradient 0. */
static void where_backward(const struct node *n, struct run *r)
{
    real *dc = run_grad_in(r, n, WHERE_CONDITION);
    if (dc)
        run_for(r, run_count(r, n->in[WHERE_CONDITION]), GRAIN_ELEMENTS, zero_range, dc);
    choice_backward(n, r, WHERE_X);
    choice_backward(n, r, WHERE_Y);
}

const struct op ops_select[] = {
    {"where", "elementwise", 3, 3, NULL, 0, NULL, where_shape, where_memory, where_forward,
     where_backward, unary_flops, OP_LAYOUT_SAME | OP_KEEPS_IN,
     "Nx3:binary Nx3 Nx3; 4:binary Nx1x4 Nx3x1; Nx3:binary scalar Nx3; Nx2x3x3:binary Nx2x3x3 "
     "Nx2x3x3",
     "y = x where condition is not 0, else y, broadcast; inputs condition, x, y"},
    {0},
};
