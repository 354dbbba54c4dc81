/* ops_matmul.c: torch.matmul. A vector on the left is a row, one on the right a column, whose
 * dimension is then left out of the result; the dimensions before the last two count matrices, and
 * broadcast.
 *
 * Where one matrix b serves all of a, the product is one of flat matrices. Otherwise the result's
 * matrices are walked as a strided space whose elements are matrices (strided.h). A gradient of a
 * broadcast operand is the sum over the dimensions where its stride is 0, taken in their order.
 * Which way is taken depends on the shapes as they were declared, not on the batch, so that a
 * sample's bits do not. */
#include "ops_linear.h"

#include "blas.h"
#include "kernels.h"
#include "strided.h"

#include <string.h>

enum { MATMUL_ROWS = 64 }; /* of a matrix, computed at one go */
enum { RESULT = STRIDED_SELF, LEFT = STRIDED_A, RIGHT = STRIDED_B, OPERANDS = STRIDED_OPERANDS };

/* The shape as a stack of matrices: at least rank 2. */
static struct shape as_matrices(const struct shape *s, int side)
{
    if (s->rank >= 2)
        return *s;
    return side == LEFT ? SHAPE(1, s->dim[0]) : SHAPE(s->dim[0], 1);
}

/* The dimensions that count matrices. */
static struct shape stack_of(const struct shape *matrices)
{
    struct shape stack = *matrices;
    stack.rank -= 2;
    return stack;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static int refuse(const struct node *n, const char *why, struct error *e)
{
    struct shape_text a, b;
    return error_set(e, ERROR_BAD_SHAPE, "%s: cannot multiply %s by %s: %s", n->what,
                     shape_print(&n->in[0]->shape, &a), shape_print(&n->in[1]->shape, &b), why);
}

int matmul_shape(struct node *n, struct error *e)
{
    if (node_check_rank(n, 0, 1, SHAPE_MAX_RANK, e) || node_check_rank(n, 1, 1, SHAPE_MAX_RANK, e))
        return -1;
    const struct shape a = as_matrices(&n->in[0]->shape, LEFT), stack_a = stack_of(&a);
    const struct shape b = as_matrices(&n->in[1]->shape, RIGHT), stack_b = stack_of(&b);
    struct shape out;
    int64_t rows = a.dim[a.rank - 2], inner = a.dim[a.rank - 1], cols = b.dim[b.rank - 1];
    if (inner != b.dim[b.rank - 2])
        return refuse(n,
                      "the last dimension of the first must equal the last but one of the "
                      "second (or its only one)",
                      e);
    if (rows > GEMM_MAX_SIZE || inner > GEMM_MAX_SIZE || cols > GEMM_MAX_SIZE)
        return refuse(n, "a matrix may have at most 2147483647 rows and columns", e);
    if (!shape_broadcast(&stack_a, &stack_b, &out))
        return refuse(n, "the dimensions before the last two do not broadcast with the batch first",
                      e);
    if (n->in[0]->shape.rank > 1)
        out.dim[out.rank++] = rows;
    if (n->in[1]->shape.rank > 1)
        out.dim[out.rank++] = cols;
    for (int d = 1; d < out.rank; d++)
        if (out.dim[d] == BATCH)
            return refuse(n, "the batch would not be the first dimension of the result", e);
    return node_set_shape(n, &out, e);
}

double matmul_flops(const struct node *n)
{
    const struct shape a = as_matrices(&n->in[0]->shape, LEFT);
    const int64_t inner = a.dim[a.rank - 1];
    return 2.0 * (double)(n->size.sample + n->size.fixed) * (double)(inner == BATCH ? 1 : inner);
}

/* ---- one product in one run ------------------------------------------------------------------ */

struct product {
    int64_t m, n, k; /* of each matrix: a [m][k], b [k][n], c [m][n] */
    bool flat;       /* one b for all matrices of a */
    struct strided stack;
    const real *a, *b, *dc;
    real *c, *da, *db;
};

/* There is one b, at any size of the batch. */
static bool is_flat(const struct node *n)
{
    const struct shape *b = &n->in[1]->shape;
    for (int d = 0; d < b->rank - 2; d++)
        if (b->dim[d] != 1)
            return false;
    return true;
}

static struct product product_of(const struct node *n, const struct run *r)
{
    struct shape a = run_shape(r, n->in[0]), b = run_shape(r, n->in[1]), c;
    a = as_matrices(&a, LEFT);
    b = as_matrices(&b, RIGHT);
    struct product p = {.m = a.dim[a.rank - 2],
                        .k = a.dim[a.rank - 1],
                        .n = b.dim[b.rank - 1],
                        .flat = is_flat(n),
                        .a = run_in(r, n, 0),
                        .b = run_in(r, n, 1)};
    a = stack_of(&a);
    b = stack_of(&b);
    if (shape_broadcast(&a, &b, &c)) /* as matmul_shape has seen */
        p.stack = strided_space(&c, &a, &b);
    return p;
}

/* The dimensions along which an operand's matrices differ, as bits. */
static unsigned own_dims(const struct strided *s, int operand)
{
    unsigned dims = 0;
    for (int d = 0; d < s->rank; d++)
        dims |= s->stride[operand][d] ? 1u << d : 0;
    return dims;
}

static unsigned all_dims(const struct strided *s)
{
    return (1u << s->rank) - 1;
}

static int64_t count_over(const struct strided *s, unsigned dims)
{
    int64_t count = 1;
    for (int d = 0; d < s->rank; d++)
        count *= dims >> d & 1 ? s->size[d] : 1;
    return count;
}

/* Adds the strides of index `at` over these dimensions to each operand's place. */
static void place_add(const struct strided *s, unsigned dims, int64_t at, int64_t place[OPERANDS])
{
    for (int d = s->rank - 1; d >= 0; d--) {
        if (!(dims >> d & 1))
            continue;
        for (int o = 0; o < OPERANDS; o++)
            place[o] += at % s->size[d] * s->stride[o][d];
        at /= s->size[d];
    }
}

/* Rows of one matrix, counted over all matrices of an operand in blocks of MATMUL_ROWS. */
struct block {
    int64_t matrix, row, rows;
};

static int64_t blocks_in(int64_t rows)
{
    return (rows + MATMUL_ROWS - 1) / MATMUL_ROWS;
}

static struct block block_at(int64_t rows, int64_t at)
{
    int64_t row = at % blocks_in(rows) * MATMUL_ROWS;
    int64_t left = rows - row;
    return (struct block){at / blocks_in(rows), row, left < MATMUL_ROWS ? left : MATMUL_ROWS};
}

/* Small matrices share a range. */
static int64_t block_grain(const struct product *p)
{
    double work = (double)p->m * (double)p->n * (double)p->k;
    return work < GRAIN_ELEMENTS ? (int64_t)(GRAIN_ELEMENTS / (work + 1)) + 1 : 1;
}

/* ---- forward --------------------------------------------------------------------------------- */

static void forward_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct product *p = arg;
    for (int64_t at = begin; at < end; at++) {
        struct block s = block_at(p->m, at);
        int64_t place[OPERANDS] = {0};
        place_add(&p->stack, all_dims(&p->stack), s.matrix, place);
        const real *a = p->a + (place[LEFT] * p->m + s.row) * p->k;
        const real *b = p->b + place[RIGHT] * p->k * p->n;
        real *c = p->c + (place[RESULT] * p->m + s.row) * p->n;
        if (p->n == 1)
            kernels()->linear(s.rows, 1, p->k, a, p->k, b, p->k, NULL, c, 1);
        else if (p->m == 1)
            kernels()->matmul(1, p->n, p->k, a, p->k, b, p->n, c, p->n);
        else
            blas_gemm(false, false, s.rows, p->n, p->k, 1, a, p->k, b, p->n, 0, c, p->n);
    }
}

void matmul_forward(const struct node *n, struct run *r)
{
    struct product p = product_of(n, r);
    const int64_t matrices = count_over(&p.stack, all_dims(&p.stack));
    p.c = run_value(r, n);
    const struct gemm flat = {
        .m = matrices * p.m, .n = p.n, .k = p.k, .a = p.a, .b = p.b, .c = p.c};
    if (p.flat)
        (r->invariant ? gemm_run_invariant : gemm_run)(r, &flat);
    else
        run_for(r, matrices * blocks_in(p.m), block_grain(&p), forward_blocks, &p);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* da = dc b^T, rows of m. */
static void left_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct product *p = arg;
    const unsigned own = own_dims(&p->stack, LEFT), summed = all_dims(&p->stack) & ~own;
    const int64_t terms = count_over(&p->stack, summed);
    for (int64_t at = begin; at < end; at++) {
        struct block s = block_at(p->m, at);
        real *da = p->da + (s.matrix * p->m + s.row) * p->k;
        if (!terms)
            memset(da, 0, (size_t)(s.rows * p->k) * sizeof *da);
        for (int64_t t = 0; t < terms; t++) {
            int64_t place[OPERANDS] = {0};
            place_add(&p->stack, own, s.matrix, place);
            place_add(&p->stack, summed, t, place);
            blas_gemm(false, true, s.rows, p->k, p->n, 1,
                      p->dc + (place[RESULT] * p->m + s.row) * p->n, p->n,
                      p->b + place[RIGHT] * p->k * p->n, p->n, t > 0, da, p->k);
        }
    }
}

/* db = a^T dc, rows of k. */
static void right_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct product *p = arg;
    const unsigned own = own_dims(&p->stack, RIGHT), summed = all_dims(&p->stack) & ~own;
    const int64_t terms = count_over(&p->stack, summed);
    for (int64_t at = begin; at < end; at++) {
        struct block s = block_at(p->k, at);
        real *db = p->db + (s.matrix * p->k + s.row) * p->n;
        if (!terms)
            memset(db, 0, (size_t)(s.rows * p->n) * sizeof *db);
        for (int64_t t = 0; t < terms; t++) {
            int64_t place[OPERANDS] = {0};
            place_add(&p->stack, own, s.matrix, place);
            place_add(&p->stack, summed, t, place);
            blas_gemm(true, false, s.rows, p->n, p->m, 1, p->a + place[LEFT] * p->m * p->k + s.row,
                      p->k, p->dc + place[RESULT] * p->m * p->n, p->n, t > 0, db, p->n);
        }
    }
}

static void flat_backward(struct run *r, const struct product *p)
{
    const int64_t rows = count_over(&p->stack, all_dims(&p->stack)) * p->m;
    if (p->da)
        gemm_run(
            r, &(struct gemm){
                   .tb = true, .m = rows, .n = p->k, .k = p->n, .a = p->dc, .b = p->b, .c = p->da});
    if (p->db)
        gemm_run(
            r, &(struct gemm){
                   .ta = true, .m = p->k, .n = p->n, .k = rows, .a = p->a, .b = p->dc, .c = p->db});
}

void matmul_backward(const struct node *n, struct run *r)
{
    struct product p = product_of(n, r);
    p.dc = run_grad(r, n);
    p.da = run_grad_in(r, n, 0);
    p.db = run_grad_in(r, n, 1);
    if (p.flat) {
        flat_backward(r, &p);
        return;
    }
    if (p.da)
        run_for(r, count_over(&p.stack, own_dims(&p.stack, LEFT)) * blocks_in(p.m), block_grain(&p),
                left_blocks, &p);
    if (p.db)
        run_for(r, count_over(&p.stack, own_dims(&p.stack, RIGHT)) * blocks_in(p.k),
                block_grain(&p), right_blocks, &p);
}
