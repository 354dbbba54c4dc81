/* fold_cells.c: walking the cells of a reduction, forward and backward. fold.h says how. */
#include "fold.h"
#include "unary.h"

#include <string.h>

int fold_dims(const struct node *n, int rank, bool folded[SHAPE_MAX_RANK], struct error *e)
{
    const struct int_list *list = &((const struct fold *)n->attrs)->dim;
    for (int i = 0; i < rank; i++)
        folded[i] = list->n == 0;
    for (int i = 0; i < list->n; i++) {
        int dim;
        if (node_wrap_dim(n, list->v[i], rank, &dim, e))
            return -1;
        if (folded[dim])
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: dimension %d is given twice in 'dim'",
                             n->what, dim);
        folded[dim] = true;
    }
    return 0;
}

static void steps_add(struct steps *s, int64_t size, int64_t step)
{
    s->size[s->n] = size;
    s->step[s->n++] = step;
    s->count *= size;
}

static int64_t steps_offset(const struct steps *s, int64_t index)
{
    int64_t at = 0;
    for (int d = s->n - 1; d >= 0; d--) {
        at += index % s->size[d] * s->step[d];
        index /= s->size[d];
    }
    return at;
}

static struct cells cells_of(const struct node *n, struct run *r, const struct folder *f)
{
    const struct shape s = run_shape(r, n->in[0]);
    struct cells c = {.f = f,
                      .a = n->attrs,
                      .kept.count = 1,
                      .terms.count = 1,
                      .length = 1,
                      .step = 1,
                      .x = run_in(r, n, 0),
                      .y = run_value(r, n)};
    bool folded[SHAPE_MAX_RANK] = {false};
    int64_t step[SHAPE_MAX_RANK], next = 1;
    fold_dims(n, s.rank, folded, NULL);
    for (int d = s.rank - 1; d >= 0; d--, next *= s.dim[d + 1])
        step[d] = next;
    int last = s.rank - 1;
    while (last >= 0 && !folded[last])
        last--;
    for (int d = 0; d < s.rank; d++)
        if (d == last) {
            c.length = s.dim[d];
            c.step = step[d];
        } else {
            steps_add(folded[d] ? &c.terms : &c.kept, s.dim[d], step[d]);
        }
    return c;
}

double cell_terms(const struct cells *c)
{
    return (double)(c->terms.count * c->length);
}

static void cell_walk(const struct cells *c, int64_t base, line_fn *f, struct gathered *g)
{
    for (int64_t t = 0; t < c->terms.count; t++)
        f(c, c->x + base + steps_offset(&c->terms, t), g);
}

static void forward_cells(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct cells *c = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t base = steps_offset(&c->kept, i);
        struct gathered g = {0};
        cell_walk(c, base, c->f->first, &g);
        if (c->f->middle)
            c->f->middle(c, &g);
        if (c->f->second)
            cell_walk(c, base, c->f->second, &g);
        c->out[i] = (real)c->f->result(c, &g);
    }
}

static void backward_cells(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct cells *c = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t base = steps_offset(&c->kept, i);
        const bool anew = c->f->again == c->f->first;
        struct gathered g = {.first = anew ? 0 : (double)c->y[i]};
        if (c->f->again)
            cell_walk(c, base, c->f->again, &g);
        if (anew && c->f->middle)
            c->f->middle(c, &g);
        for (int64_t t = 0; t < c->terms.count; t++) {
            const int64_t at = base + steps_offset(&c->terms, t);
            c->f->slope(c, c->x + at, &g, (double)c->y[i], (double)c->dy[i], c->out + at);
        }
    }
}

void fold_forward(const struct node *n, struct run *r, const struct folder *f)
{
    struct cells c = cells_of(n, r, f);
    c.out = run_value(r, n);
    run_for(r, c.kept.count, grain_rows(c.terms.count * c.length), forward_cells, &c);
}

void fold_backward(const struct node *n, struct run *r, const struct folder *f)
{
    struct cells c = cells_of(n, r, f);
    c.dy = run_grad(r, n);
    c.out = run_grad_in(r, n, 0);
    if (c.out)
        run_for(r, c.kept.count, grain_rows(c.terms.count * c.length), backward_cells, &c);
}
