/* ops_pad.c: pad, as torch.nn.functional.pad: numbers around any dimensions but the batch, a
 * constant, or those of the input mirrored (reflect), held at the edge (replicate) or from the
 * other side (circular). The list gives pairs (before, after), the last dimension's first. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

enum { PAD_CONSTANT, PAD_REFLECT, PAD_REPLICATE, PAD_CIRCULAR };

struct pad {
    struct int_list padding;
    int mode;
    double value;
};
static const struct attr_def pad_attrs[] = {
    {"padding", ATTR_INTS, offsetof(struct pad, padding), NULL, 0, 1 << 24, NULL,
     "numbers before and after, the last dimension's pair first; not the batch's"},
    {"mode", ATTR_CHOICE, offsetof(struct pad, mode), "constant", 0, 0,
     "constant|reflect|replicate|circular", "what the new places hold"},
    {"value", ATTR_REAL, offsetof(struct pad, value), "0", -1e38, 1e38, NULL,
     "the number of mode constant"},
    {0},
};

static int64_t pad_before(const struct pad *a, int rank, int dim)
{
    const int i = 2 * (rank - 1 - dim);
    return i < a->padding.n ? a->padding.v[i] : 0;
}

static int64_t pad_after(const struct pad *a, int rank, int dim)
{
    const int i = 2 * (rank - 1 - dim) + 1;
    return i < a->padding.n ? a->padding.v[i] : 0;
}

/* reflect and circular cannot make more than the dimension has. */
static int check_mode(const struct node *n, int dim, int64_t most, struct error *e)
{
    const struct pad *a = n->attrs;
    const int64_t size = n->in[0]->shape.dim[dim];
    const int64_t limit = a->mode == PAD_REFLECT ? size - 1 : size;
    if (most <= limit || a->mode == PAD_CONSTANT || a->mode == PAD_REPLICATE)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: attribute 'padding' of dimension %d must be at most %lld in this mode "
                     "(its size is %lld), not %lld",
                     n->what, dim, (long long)limit, (long long)size, (long long)most);
}

static int pad_shape(struct node *n, struct error *e)
{
    const struct pad *a = n->attrs;
    struct shape out = n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e))
        return -1;
    if (a->padding.n % 2 || a->padding.n > 2 * out.rank)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'padding' must be pairs, at most one for each dimension of "
                         "%s, not %d numbers",
                         n->what, shape_print(&out, &text), a->padding.n);
    for (int i = 0; i < out.rank; i++) {
        const int64_t before = pad_before(a, out.rank, i), after = pad_after(a, out.rank, i);
        if (out.dim[i] == BATCH && before + after > 0)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: dimension 0 of %s is the batch and cannot be padded", n->what,
                             shape_print(&n->in[0]->shape, &text));
        if (before + after == 0)
            continue;
        if (check_mode(n, i, before > after ? before : after, e))
            return -1;
        if (__builtin_add_overflow(out.dim[i], before + after, &out.dim[i]))
            return error_set(e, ERROR_TOO_LARGE, "%s: its result has too many elements", n->what);
    }
    return node_set_shape(n, &out, e);
}

/* One unit is what a task owns: all that one index of dimension 0 makes, when that is not padded.
 */
struct padding {
    const struct pad *a;
    int first, rank; /* dimensions of a unit */
    int64_t in[SHAPE_MAX_RANK], out[SHAPE_MAX_RANK], before[SHAPE_MAX_RANK];
    int64_t in_unit, out_unit, units;
    const real *from;
    real *to;
};

static struct padding padding_of(const struct node *n, const struct run *r)
{
    const struct shape in = run_shape(r, n->in[0]), out = run_shape(r, n);
    struct padding p = {.a = n->attrs, .rank = in.rank, .in_unit = 1, .out_unit = 1, .units = 1};
    p.first = in.rank > 1 && in.dim[0] == out.dim[0];
    p.units = p.first ? in.dim[0] : 1;
    for (int d = 0; d < in.rank; d++) {
        p.in[d] = in.dim[d];
        p.out[d] = out.dim[d];
        p.before[d] = pad_before(p.a, in.rank, d);
        p.in_unit *= d >= p.first ? in.dim[d] : 1;
        p.out_unit *= d >= p.first ? out.dim[d] : 1;
    }
    return p;
}

/* Which input index stands at an output index of a dimension; -1: none. */
static int64_t source_index(const struct padding *p, int d, int64_t o)
{
    const int64_t i = o - p->before[d], size = p->in[d];
    if (i >= 0 && i < size)
        return i;
    if (p->a->mode == PAD_REFLECT)
        return i < 0 ? -i : 2 * (size - 1) - i;
    if (p->a->mode == PAD_REPLICATE)
        return i < 0 ? 0 : size - 1;
    return p->a->mode == PAD_CIRCULAR ? (i < 0 ? i + size : i - size) : -1;
}

/* The offset of an output row's input row within a unit; -1: none. */
static int64_t source_row(const struct padding *p, int64_t row)
{
    int64_t at = 0, step = p->in[p->rank - 1];
    for (int d = p->rank - 2; d >= p->first; d--) {
        const int64_t i = source_index(p, d, row % p->out[d]);
        if (i < 0)
            return -1;
        at += i * step;
        step *= p->in[d];
        row /= p->out[d];
    }
    return at;
}

static void pad_unit(const struct padding *p, const real *from, real *to)
{
    const int last = p->rank - 1;
    const real value = (real)p->a->value;
    for (int64_t row = 0; row < p->out_unit / p->out[last]; row++) {
        const int64_t at = source_row(p, row);
        for (int64_t o = 0; o < p->out[last]; o++, to++) {
            const int64_t i = at < 0 ? -1 : source_index(p, last, o);
            *to = i < 0 ? value : from[at + i];
        }
    }
}

static void pad_unit_backward(const struct padding *p, const real *from, real *to)
{
    const int last = p->rank - 1;
    memset(to, 0, (size_t)p->in_unit * sizeof *to);
    for (int64_t row = 0; row < p->out_unit / p->out[last]; row++) {
        const int64_t at = source_row(p, row);
        for (int64_t o = 0; o < p->out[last]; o++, from++) {
            const int64_t i = at < 0 ? -1 : source_index(p, last, o);
            if (i >= 0)
                to[at + i] += *from;
        }
    }
}

static void pad_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct padding *p = arg;
    for (int64_t u = begin; u < end; u++)
        pad_unit(p, p->from + u * p->in_unit, p->to + u * p->out_unit);
}

static void pad_backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct padding *p = arg;
    for (int64_t u = begin; u < end; u++)
        pad_unit_backward(p, p->from + u * p->out_unit, p->to + u * p->in_unit);
}

static void pad_forward(const struct node *n, struct run *r)
{
    struct padding p = padding_of(n, r);
    p.from = run_in(r, n, 0);
    p.to = run_value(r, n);
    run_for(r, p.units, grain_rows(p.out_unit), pad_range, &p);
}

static void pad_backward(const struct node *n, struct run *r)
{
    struct padding p = padding_of(n, r);
    p.from = run_grad(r, n);
    p.to = run_grad_in(r, n, 0);
    if (p.to)
        run_for(r, p.units, grain_rows(p.out_unit), pad_backward_range, &p);
}

const struct op ops_pad[] = {
    {"pad", "shape", 1, 1, pad_attrs, sizeof(struct pad), NULL, pad_shape, NULL, pad_forward,
     pad_backward, NULL, OP_ZERO_FLOPS,
     "Nx2x3x4 padding=1,2,0,3; Nx2x3x4 padding=3,1,2,2 mode=reflect; Nx2x3 padding=4,1 "
     "mode=replicate; Nx2x3x4 padding=4,1,2,0 mode=circular; Nx3 padding=1,1 value=0.5; "
     "3x2 padding=0,0,1,2",
     "y is x with padding around it: value, or x mirrored, held or from the other side"},
    {0},
};
