/* ops_position_embedding.c: learned positions: position_embedding adds row t of a table to element
 * t of each sequence, y[n][t] = x[n][t] + weight[t], which is torch's x + nn.Embedding(P, E)(arange
 * (T)). The gradient of a row is the sum over the sequences, in their order and in double. */
#include "unary.h"

#include <stddef.h>
#include <string.h>

enum { PLACES_MAX = 1 << 24, BLOCK = 64 };

struct position_embedding {
    int64_t num_embeddings;
};
static const struct attr_def position_embedding_attrs[] = {
    {"num_embeddings", ATTR_INT, offsetof(struct position_embedding, num_embeddings), "0", 0,
     PLACES_MAX, NULL, "rows of the table, at least as many as places; 0: just as many"},
    {0},
};
static const struct param_def position_embedding_params[] = {{"weight", false, "normal"}, {0}};

static int position_embedding_shape(struct node *n, struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    const int64_t given = ((const struct position_embedding *)n->attrs)->num_embeddings;
    struct shape_text text;
    if (node_check_rank(n, 0, 3, SHAPE_MAX_RANK, e))
        return -1;
    const int64_t places = in->dim[in->rank - 2], features = in->dim[in->rank - 1];
    if (places < 1 || features < 1 || places > (given ? given : PLACES_MAX))
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s: expects [N, ..., T, E] with 1 to %lld places T, found %s", n->what,
                         (long long)(given ? given : PLACES_MAX), shape_print(in, &text));
    if (node_param(n, 0, &SHAPE(given ? given : places, features), 0, 0, e))
        return -1;
    return node_set_shape(n, in, e);
}

struct job {
    const real *x, *weight, *dy;
    real *y, *dweight;
    int64_t sequences, size, features; /* size: places * features */
};

static struct job job_of(const struct node *n, const struct run *r)
{
    const struct shape *s = &n->shape;
    struct job j = {.features = s->dim[s->rank - 1]};
    j.size = s->dim[s->rank - 2] * j.features;
    j.sequences = run_count(r, n) / j.size;
    return j;
}

static void forward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct job *j = arg;
    for (int64_t s = begin; s < end; s++)
        for (int64_t i = 0; i < j->size; i++)
            j->y[s * j->size + i] = j->x[s * j->size + i] + j->weight[i];
}

static void position_embedding_forward(const struct node *n, struct run *r)
{
    struct job j = job_of(n, r);
    j.x = run_in(r, n, 0);
    j.weight = run_in(r, n, n->n_data);
    j.y = run_value(r, n);
    run_for(r, j.sequences, grain_rows(j.size), forward_range, &j);
}

/* Blocks of the table. */
static void backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct job *j = arg;
    for (int64_t b = begin; b < end; b++) {
        const int64_t at = b * BLOCK, width = j->size - at < BLOCK ? j->size - at : BLOCK;
        double sum[BLOCK] = {0};
        for (int64_t s = 0; s < j->sequences; s++)
            for (int64_t i = 0; i < width; i++)
                sum[i] += (double)j->dy[s * j->size + at + i];
        for (int64_t i = 0; i < width; i++)
            j->dweight[at + i] = (real)sum[i];
    }
}

static void position_embedding_backward(const struct node *n, struct run *r)
{
    struct job j = job_of(n, r);
    real *dx = run_grad_in(r, n, 0);
    j.dy = run_grad(r, n);
    j.dweight = run_grad_in(r, n, n->n_data);
    if (dx)
        memcpy(dx, j.dy, (size_t)(j.sequences * j.size) * sizeof *dx);
    if (!j.dweight)
        return;
    const struct shape *table = &n->in[n->n_data]->shape;
    const int64_t rest = table->dim[0] * table->dim[1] - j.size;
    memset(j.dweight + j.size, 0, (size_t)rest * sizeof *j.dweight);
    run_for(r, (j.size + BLOCK - 1) / BLOCK, grain_rows(j.sequences * BLOCK), backward_range, &j);
}

static double position_embedding_flops(const struct node *n)
{
    return (double)(n->size.sample + n->size.fixed);
}

const struct op ops_position_embedding[] = {
    {"position_embedding", "position", 1, 1, position_embedding_attrs,
     sizeof(struct position_embedding), position_embedding_params, position_embedding_shape, NULL,
     position_embedding_forward, position_embedding_backward, position_embedding_flops, 0,
     "Nx5x4; Nx3x2 num_embeddings=7; Nx2x3x4; Nx1x1; Nx9x30", "x[t] + weight[t], learned"},
    {0},
};
