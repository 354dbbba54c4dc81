/* ops_index.c: operators that pick by indices: embedding and gather, whose indices are an INT64
 * input, and index_select, whose indices are an attribute.
 *
 * The gradient of an embedding is a sum over the places where a row was picked. Tokens are first
 * sorted by their row (a counting sort, so equal ones stay in order); then rows are independent,
 * and each sums its tokens in order, in double. */
#include "channels.h"
#include "unary.h"

#include <stddef.h>
#include <string.h>

enum { ROWS_MAX = 1 << 28 };

/* ---- embedding ------------------------------------------------------------------------------- */

struct embedding {
    int64_t num_embeddings, embedding_dim, padding_idx; /* padding_idx -1: none */
};
static const struct attr_def embedding_attrs[] = {
    {"num_embeddings", ATTR_INT, offsetof(struct embedding, num_embeddings), NULL, 1, ROWS_MAX,
     NULL, "rows of the table; indices are below it"},
    {"embedding_dim", ATTR_INT, offsetof(struct embedding, embedding_dim), NULL, 1, ROWS_MAX, NULL,
     "size of a row"},
    {"padding_idx", ATTR_INT, offsetof(struct embedding, padding_idx), "-1", 0, ROWS_MAX, NULL,
     "a row that begins as zeros and is not trained; none given: no such row"},
    {0},
};
static const struct param_def embedding_params[] = {{"weight", false, "normal"}, {0}};

/* The table, with zeros in its row for padding unless the caller brought it. */
static int embedding_declare(struct node *n, struct error *e)
{
    const struct embedding *a = n->attrs;
    const int before = graph_param_count(n->graph);
    const struct attr row = {.name = "padding_idx",
                             .kind = ATTR_IS_INT,
                             .i = a->padding_idx,
                             .d = (double)a->padding_idx};
    if (node_param(n, 0, &SHAPE(a->num_embeddings, a->embedding_dim), a->num_embeddings,
                   a->embedding_dim, e))
        return -1;
    if (a->padding_idx < 0 || graph_param_count(n->graph) == before)
        return 0;
    return graph_set_init(n->graph, before, "normal", &row, 1, e);
}

static int embedding_shape(struct node *n, struct error *e)
{
    const struct embedding *a = n->attrs;
    struct shape out = n->in[0]->shape;
    struct shape_text text;
    if (n->in[0]->dtype != DTYPE_INT64)
        return error_set(e, ERROR_BAD_DTYPE, "%s: its input must be indices (INT64), not numbers",
                         n->what);
    if (out.rank == SHAPE_MAX_RANK)
        return error_set(e, ERROR_BAD_SHAPE, "%s: expects indices of rank 0 to 7, found %s",
                         n->what, shape_print(&out, &text));
    if (a->padding_idx >= a->num_embeddings)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'padding_idx' must be below num_embeddings (%lld), not "
                         "%lld",
                         n->what, (long long)a->num_embeddings, (long long)a->padding_idx);
    out.dim[out.rank++] = a->embedding_dim;
    return embedding_declare(n, e) ? -1 : node_set_shape(n, &out, e);
}

/* For backward: tokens in the order of their rows, and where each row begins among them. */
static void embedding_memory(struct node *n)
{
    const int64_t words = sizeof(int64_t) / sizeof(real);
    const struct extent *tokens = &n->in[0]->size;
    const int64_t rows = ((const struct embedding *)n->attrs)->num_embeddings + 1;
    n->work_backward = (struct extent){words * tokens->sample, words * (tokens->fixed + rows)};
}

/* False, and the run fails, when an index is outside of [0, size). */
static bool check_indices(const struct node *n, struct run *r, const int64_t *index, int64_t count,
                          int64_t size)
{
    for (int64_t i = 0; i < count; i++)
        if (index[i] < 0 || index[i] >= size) {
            run_fail(r, ERROR_BAD_VALUE, "%s: index %lld at position %lld is outside 0..%lld",
                     n->what, (long long)index[i], (long long)i, (long long)(size - 1));
            return false;
        }
    return true;
}

struct lookup {
    const struct embedding *a;
    const int64_t *index;
    const real *table, *dy;
    real *to;               /* y, or the table's gradient */
    int64_t *start, *order; /* row i has the tokens order[start[i]] to order[start[i + 1]] */
};

static void embedding_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct lookup *l = arg;
    const int64_t d = l->a->embedding_dim;
    for (int64_t i = begin; i < end; i++)
        memcpy(l->to + i * d, l->table + l->index[i] * d, (size_t)d * sizeof(real));
}

static void embedding_forward(const struct node *n, struct run *r)
{
    struct lookup l = {.a = n->attrs,
                       .index = run_in_int64(r, n, 0),
                       .table = run_in(r, n, n->n_data),
                       .to = run_value(r, n)};
    const int64_t tokens = run_count(r, n->in[0]);
    if (check_indices(n, r, l.index, tokens, l.a->num_embeddings))
        run_for(r, tokens, grain_rows(l.a->embedding_dim), embedding_range, &l);
}

static void sort_tokens(const struct lookup *l, int64_t tokens)
{
    const int64_t rows = l->a->num_embeddings;
    memset(l->start, 0, (size_t)(rows + 1) * sizeof *l->start);
    for (int64_t i = 0; i < tokens; i++)
        l->start[l->index[i]]++;
    for (int64_t row = 0, sum = 0; row <= rows; row++) {
        const int64_t count = l->start[row];
        l->start[row] = sum;
        sum += count;
    }
    for (int64_t i = 0; i < tokens; i++)
        l->order[l->start[l->index[i]]++] = i;
    for (int64_t row = rows; row > 0; row--) /* each start has moved to its end */
        l->start[row] = l->start[row - 1];
    l->start[0] = 0;
}

static void embedding_row(const struct lookup *l, int64_t row)
{
    enum { STRIP = 64 };
    const int64_t d = l->a->embedding_dim;
    const int64_t end = row == l->a->padding_idx ? l->start[row] : l->start[row + 1];
    for (int64_t first = 0; first < d; first += STRIP) {
        const int64_t width = d - first < STRIP ? d - first : STRIP;
        double sum[STRIP] = {0};
        for (int64_t k = l->start[row]; k < end; k++)
            for (int64_t c = 0; c < width; c++)
                sum[c] += (double)l->dy[l->order[k] * d + first + c];
        for (int64_t c = 0; c < width; c++)
            l->to[row * d + first + c] = (real)sum[c];
    }
}

static void embedding_rows(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    for (int64_t row = begin; row < end; row++)
        embedding_row(arg, row);
}

static void embedding_backward(const struct node *n, struct run *r)
{
    struct lookup l = {.a = n->attrs,
                       .index = run_in_int64(r, n, 0),
                       .dy = run_grad(r, n),
                       .to = run_grad_in(r, n, n->n_data)};
    if (!l.to)
        return;
    l.start = (int64_t *)(void *)run_work(r, n);
    l.order = l.start + l.a->num_embeddings + 1;
    sort_tokens(&l, run_count(r, n->in[0]));
    run_for(r, l.a->num_embeddings, grain_rows(l.a->embedding_dim), embedding_rows, &l);
}

/* ---- gather and index_select ----------------------------------------------------------------- */

struct gather {
    int64_t dim;
    struct real_list index; /* index_select's */
};
static const struct attr_def gather_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct gather, dim), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimension along which the indices pick; not the batch"},
    {0},
};
static const struct attr_def index_select_attrs[] = {
    {"dim", ATTR_INT, offsetof(struct gather, dim), NULL, -SHAPE_MAX_RANK, SHAPE_MAX_RANK - 1, NULL,
     "dimension along which the indices pick; not the batch"},
    {"index", ATTR_REALS, offsetof(struct gather, index), NULL, 0, 0x1p48, NULL,
     "which indices of the dimension, in the order of the result"},
    {0},
};

static int picked_dim(const struct node *n, int *dim_r, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    struct shape_text text;
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) ||
        node_wrap_dim(n, ((const struct gather *)n->attrs)->dim, in->rank, dim_r, e))
        return -1;
    if (in->dim[*dim_r] != BATCH)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: dimension 0 of %s is the batch; expects another dimension", n->what,
                     shape_print(in, &text));
}

/* The index has the input's shape but for its size along dim. */
static int gather_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape, *index = &n->in[1]->shape;
    struct shape_text a, b;
    struct shape want = *in;
    int dim;
    if (picked_dim(n, &dim, e))
        return -1;
    if (n->in[1]->dtype != DTYPE_INT64)
        return error_set(e, ERROR_BAD_DTYPE,
                         "%s: its second input must be indices (INT64), not "
                         "numbers",
                         n->what);
    want.dim[dim] = index->dim[dim];
    if (index->rank != in->rank || !shape_equal(&want, index))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: indices must have the input's shape %s but for dimension %d, found "
                         "%s",
                         n->what, shape_print(in, &a), dim, shape_print(index, &b));
    return node_set_shape(n, index, e);
}

static int index_select_shape(struct node *n, struct error *e)
{
    const struct real_list *index = &((const struct gather *)n->attrs)->index;
    struct shape out = n->in[0]->shape;
    int dim;
    if (picked_dim(n, &dim, e))
        return -1;
    for (int i = 0; i < index->n; i++)
        if (index->v[i] != floor(index->v[i]) || index->v[i] >= (double)out.dim[dim])
            return error_set(e, ERROR_BAD_ATTRIBUTE,
                             "%s: attribute 'index' must be whole numbers below %lld, not %.10g",
                             n->what, (long long)out.dim[dim], index->v[i]);
    out.dim[dim] = index->n;
    return node_set_shape(n, &out, e);
}

/* [outer][size][inner] around dim; the result has `picked` in place of size. */
struct picking {
    const struct real_list *list; /* or NULL: */
    const int64_t *index;         /* [outer][picked][inner] */
    int64_t outer, size, picked, inner;
    const real *from;
    real *to;
};

static struct picking picking(const struct node *n, const struct run *r)
{
    const struct shape in = run_shape(r, n->in[0]);
    const int64_t given = ((const struct gather *)n->attrs)->dim;
    const int dim = (int)(given < 0 ? given + in.rank : given);
    struct picking p = {.outer = 1, .size = in.dim[dim], .picked = run_dim(r, n, dim), .inner = 1};
    for (int i = 0; i < in.rank; i++)
        if (i != dim)
            *(i < dim ? &p.outer : &p.inner) *= in.dim[i];
    if (n->n_data > 1)
        p.index = run_in_int64(r, n, 1);
    else
        p.list = &((const struct gather *)n->attrs)->index;
    return p;
}

static int64_t picked_at(const struct picking *p, int64_t outer, int64_t k, int64_t c)
{
    const int64_t which =
        p->list ? (int64_t)p->list->v[k] : p->index[(outer * p->picked + k) * p->inner + c];
    return (outer * p->size + which) * p->inner + c;
}

static void pick_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct picking *p = arg;
    for (int64_t i = begin; i < end; i++)
        for (int64_t k = 0; k < p->picked; k++)
            for (int64_t c = 0; c < p->inner; c++)
                p->to[(i * p->picked + k) * p->inner + c] = p->from[picked_at(p, i, k, c)];
}

/* One task owns an outer index, so what was picked twice is added in order. */
static void pick_backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct picking *p = arg;
    const int64_t all = p->size * p->inner;
    memset(p->to + begin * all, 0, (size_t)((end - begin) * all) * sizeof(real));
    for (int64_t i = begin; i < end; i++)
        for (int64_t k = 0; k < p->picked; k++)
            for (int64_t c = 0; c < p->inner; c++)
                p->to[picked_at(p, i, k, c)] += p->from[(i * p->picked + k) * p->inner + c];
}

static void pick_forward(const struct node *n, struct run *r)
{
    struct picking p = picking(n, r);
    p.from = run_in(r, n, 0);
    p.to = run_value(r, n);
    if (p.index && !check_indices(n, r, p.index, run_count(r, n->in[1]), p.size))
        return;
    run_for(r, p.outer, grain_rows(p.picked * p.inner), pick_range, &p);
}

static void pick_backward(const struct node *n, struct run *r)
{
    struct picking p = picking(n, r);
    p.from = run_grad(r, n);
    p.to = run_grad_in(r, n, 0);
    if (p.to)
        run_for(r, p.outer, grain_rows(p.size * p.inner), pick_backward_range, &p);
}

/* ---- the table ------------------------------------------------------------------------------- */

const struct op ops_index[] = {
    {"embedding", "index", 1, 1, embedding_attrs, sizeof(struct embedding), embedding_params,
     embedding_shape, embedding_memory, embedding_forward, embedding_backward, NULL,
     OP_KEEPS_IN | OP_ZERO_FLOPS,
     "Nx4:classes=5 num_embeddings=5 embedding_dim=3; N:classes=5 num_embeddings=8 "
     "embedding_dim=70 padding_idx=7; Nx2x3:classes=4 num_embeddings=4 embedding_dim=1",
     "y = weight[x], a row for each index"},
    {"gather", "index", 2, 2, gather_attrs, sizeof(struct gather), NULL, gather_shape, NULL,
     pick_forward, pick_backward, NULL, OP_KEEPS_IN | OP_ZERO_FLOPS,
     "Nx5 Nx3:classes=5 dim=1; Nx4x3 Nx2x3:classes=4 dim=1; 3x4 3x6:classes=4 dim=-1",
     "y[i,j,k] = x[i,index[i,j,k],k] for dim 1; inputs x, index"},
    {"index_select", "index", 1, 1, index_select_attrs, sizeof(struct gather), NULL,
     index_select_shape, NULL, pick_forward, pick_backward, NULL, OP_ZERO_FLOPS,
     "Nx5 dim=1 index=4,0,0; Nx2x3x2 dim=2 index=[2]; 4x2 dim=0 index=3,1",
     "y is x's indices `index` along dim"},
    {0},
};
