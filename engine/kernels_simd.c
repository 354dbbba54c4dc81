/* kernels_simd.c: the kernels of kernels.h, compiled once for each instruction set.
 *
 * The Makefile gives KERNELS_ISA, the last part of the table's name, and the machine flags; the
 * vector's width follows from those. Everything is written with the compiler's vector extension but
 * for parts of vectors where there are masks, so one source serves all of them, float and double.
 *
 * Order of additions, the same for each number of a result:
 *   linear: both rows are contiguous in k. One vector accumulator runs over whole vectors of k;
 * what is left of k is one more vector, with zeros in the lanes that were counted before; then the
 *     upper half of the lanes is added to the lower until one is left; the bias is last.
 *   matmul: the sum over k is sequential, one lane of a vector for each column.
 * Blocks of several rows and columns only share loads. A block that hangs over the edge repeats the
 * last row or starts earlier, and computes a number twice with the same bits.
 *
 * kernels_products.h, kernels_planes.h, kernels_winograd.h and kernels_channels.h are parts of this
 * file: the products of convolutions, the transforms of Winograd's, sums of channels and batch
 * norm; kernels_functions.h has e^x and activations, kernels_finish.h passes that end with one,
 * kernels_pooling.h the largest of windows, kernels_rows.h rows of layer norm and runs that are
 * added, kernels_transpose.h changes of layout. */
#include "channels.h"
#include "kernels.h"

#if defined __AVX2__
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

#define PASTE2(a, b) a##b
#define PASTE(a, b)  PASTE2(a, b)
#define QUOTE2(a)    #a
#define QUOTE(a)     QUOTE2(a)
#define INLINE       static inline __attribute__((always_inline))

/* Warns that wide vectors are passed in other ways where the processor lacks them. Here none are
 * passed: all is inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

#if defined __AVX512F__
enum { ISA_BYTES = 64, BLOCK_ROWS = 4 };
#elif defined __AVX2__
enum { ISA_BYTES = 32, BLOCK_ROWS = 3 };
#else
enum { ISA_BYTES = 16, BLOCK_ROWS = 3 };
#endif
enum { QUAD_BYTES = 4 * sizeof(real) };
enum { VECTOR_BYTES = (int)ISA_BYTES > (int)QUAD_BYTES ? (int)ISA_BYTES : (int)QUAD_BYTES };
enum { LANES = VECTOR_BYTES / sizeof(real), BLOCK_OUTS = 4, MAX_ROWS = 4 };

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef lane_int vec_int __attribute__((vector_size(VECTOR_BYTES)));
typedef real quad __attribute__((vector_size(QUAD_BYTES)));

#if defined __clang__ || __GNUC__ >= 12
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef lane_int quad_int __attribute__((vector_size(QUAD_BYTES)));
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (quad_int){i, j, k, l})
#endif

INLINE vec vec_load(const real *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Adds the upper half of the lanes to the lower until four are left. */
INLINE quad vec_fold(const vec *v)
{
    quad q[LANES / 4];
    memcpy(q, v, sizeof *v);
    for (int w = LANES / 8; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            q[i] += q[i + w];
    return q[0];
}

/* The sum of each of four vectors: (lane 0 + lane 2) + (lane 1 + lane 3) of what is left of it. */
INLINE quad vec_sums(const vec v[4])
{
    quad a = vec_fold(v), b = vec_fold(v + 1), c = vec_fold(v + 2), d = vec_fold(v + 3);
    quad ab = SHUFFLE(a, b, 0, 4, 1, 5) + SHUFFLE(a, b, 2, 6, 3, 7);
    quad cd = SHUFFLE(c, d, 0, 4, 1, 5) + SHUFFLE(c, d, 2, 6, 3, 7);
    return SHUFFLE(ab, cd, 0, 1, 4, 5) + SHUFFLE(ab, cd, 2, 3, 6, 7);
}

/* ---- linear ---------------------------------------------------------------------------------- */

/* All bits in the last `left` lanes. */
INLINE vec_int tail_mask(int64_t left)
{
    vec_int mask = {0};
    for (int i = 0; i < LANES; i++)
        mask[i] = i >= LANES - left ? -1 : 0;
    return mask;
}

/* Fewer numbers than lanes, at the end of a vector of zeros. */
static __attribute__((noinline)) void short_load(const real *p, int64_t k, vec *v_r)
{
    real lane[LANES] = {0};
    for (int64_t i = 0; i < k; i++)
        lane[LANES - k + i] = p[i];
    *v_r = vec_load(lane);
}

/* The last numbers of the k at p, where the mask is set, and zeros; reads nothing else. */
INLINE vec tail_load(const real *p, int64_t k, const vec_int *mask)
{
    if (k >= LANES)
        return (vec)((vec_int)vec_load(p + k - LANES) & *mask);
    vec v;
    short_load(p, k, &v);
    return v;
}

/* One step of all accumulators of a block. */
INLINE void dot_step(int rows, const vec *x, const vec *w, vec acc[][BLOCK_OUTS])
{
    for (int o = 0; o < BLOCK_OUTS; o++)
        for (int i = 0; i < rows; i++)
            acc[i][o] += x[i] * w[o];
}

/* out[i][o] = dot(x[i], w[o]); `rows` is a constant where it is inlined. */
INLINE void dot_block(int rows, int64_t k, const real *const *x, const real *const *w, quad *out)
{
    vec acc[MAX_ROWS][BLOCK_OUTS], xv[MAX_ROWS], wv[BLOCK_OUTS];
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < BLOCK_OUTS; o++)
            acc[i][o] = (vec){0};
    int64_t p = 0;
    for (; p + LANES <= k; p += LANES) {
        for (int i = 0; i < rows; i++)
            xv[i] = vec_load(x[i] + p);
        for (int o = 0; o < BLOCK_OUTS; o++)
            wv[o] = vec_load(w[o] + p);
        dot_step(rows, xv, wv, acc);
    }
    if (p < k) {
        vec_int mask = tail_mask(k - p);
        for (int i = 0; i < rows; i++)
            xv[i] = tail_load(x[i], k, &mask);
        for (int o = 0; o < BLOCK_OUTS; o++)
            wv[o] = tail_load(w[o], k, &mask);
        dot_step(rows, xv, wv, acc);
    }
    for (int i = 0; i < rows; i++)
        out[i] = vec_sums(acc[i]);
}

struct linear {
    int64_t rows, outs, k, ldx, ldw, ldy;
    const real *x, *w, *bias;
    real *y;
};

/* Rows [i, i + rows) and outputs [o, o + BLOCK_OUTS) of y, those of them that there are. */
INLINE void linear_block(const struct linear *l, int rows, int64_t i, int64_t o)
{
    const real *x[MAX_ROWS], *w[BLOCK_OUTS];
    const int64_t outs = l->outs - o < BLOCK_OUTS ? l->outs - o : BLOCK_OUTS;
    quad out[MAX_ROWS], bias = {0};
    for (int a = 0; a < rows; a++)
        x[a] = l->x + (i + a < l->rows ? i + a : l->rows - 1) * l->ldx;
    for (int b = 0; b < BLOCK_OUTS; b++)
        w[b] = l->w + (b < outs ? o + b : l->outs - 1) * l->ldw;
    if (l->bias)
        memcpy(&bias, l->bias + o, (size_t)outs * sizeof(real));
    dot_block(rows, l->k, x, w, out);
    for (int a = 0; a < rows && i + a < l->rows; a++) {
        out[a] += bias;
        memcpy(l->y + (i + a) * l->ldy + o, &out[a], (size_t)outs * sizeof(real));
    }
}

/* Few outputs stay in the nearest cache while all rows pass by. */
static void linear(int64_t rows, int64_t outs, int64_t k, const real *x, int64_t ldx, const real *w,
                   int64_t ldw, const real *bias, real *y, int64_t ldy)
{
    const struct linear l = {rows, outs, k, ldx, ldw, ldy, x, w, bias, y};
    for (int64_t o = 0; o < outs; o += BLOCK_OUTS) {
        int64_t i = 0;
        for (; i + 2 < rows; i += BLOCK_ROWS)
            linear_block(&l, BLOCK_ROWS, i, o);
        if (i + 1 < rows)
            linear_block(&l, 2, i, o);
        else if (i < rows)
            linear_block(&l, 1, i, o);
    }
}

/* ---- matmul ---------------------------------------------------------------------------------- */

enum { BLOCK_VECTORS = 2, ROW_VECTORS = 8 }; /* of columns; a lone row takes more */

struct matmul {
    int64_t rows, cols, k, lda, ldb, ldc;
    const real *a, *b;
    real *c;
};

/* Rows [i, i + rows) of the columns from j, `vectors` of them; rows past the end repeat the last.
 */
INLINE void matmul_block(const struct matmul *m, int rows, int vectors, int64_t i, int64_t j)
{
    vec acc[MAX_ROWS][ROW_VECTORS], bv[ROW_VECTORS];
    const real *a[MAX_ROWS];
    for (int r = 0; r < rows; r++) {
        a[r] = m->a + (i + r < m->rows ? i + r : m->rows - 1) * m->lda;
        for (int v = 0; v < vectors; v++)
            acc[r][v] = (vec){0};
    }
    const real *b = m->b + j;
    for (int64_t p = 0; p < m->k; p++, b += m->ldb) {
        for (int v = 0; v < vectors; v++)
            bv[v] = vec_load(b + v * LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                acc[r][v] += a[r][p] * bv[v];
    }
    for (int r = 0; r < rows && i + r < m->rows; r++)
        for (int v = 0; v < vectors; v++)
            memcpy(m->c + (i + r) * m->ldc + j + v * LANES, &acc[r][v], sizeof(vec));
}

/* All rows of the columns from j. */
INLINE void matmul_columns(const struct matmul *m, int vectors, int64_t j)
{
    int64_t i = 0;
    for (; i + 1 < m->rows; i += MAX_ROWS)
        matmul_block(m, MAX_ROWS, vectors, i, j);
    if (i < m->rows)
        matmul_block(m, 1, vectors, i, j);
}

/* Fewer columns than a vector has lanes. */
static void matmul_narrow(const struct matmul *m)
{
    for (int64_t i = 0; i < m->rows; i++) {
        real sum[LANES] = {0};
        for (int64_t p = 0; p < m->k; p++)
            for (int64_t j = 0; j < m->cols; j++)
                sum[j] += m->a[i * m->lda + p] * m->b[p * m->ldb + j];
        memcpy(m->c + i * m->ldc, sum, (size_t)m->cols * sizeof *sum);
    }
}

static void matmul(int64_t rows, int64_t cols, int64_t k, const real *a, int64_t lda, const real *b,
                   int64_t ldb, real *c, int64_t ldc)
{
    const struct matmul m = {rows, cols, k, lda, ldb, ldc, a, b, c};
    if (cols < LANES) {
        matmul_narrow(&m);
        return;
    }
    int64_t j = 0;
    for (; rows == 1 && j + ROW_VECTORS * LANES <= cols; j += ROW_VECTORS * LANES)
        matmul_block(&m, 1, ROW_VECTORS, 0, j);
    for (; j + BLOCK_VECTORS * LANES <= cols; j += BLOCK_VECTORS * LANES)
        matmul_columns(&m, BLOCK_VECTORS, j);
    for (; j + LANES <= cols; j += LANES)
        matmul_columns(&m, 1, j);
    if (j < cols)
        matmul_columns(&m, 1, cols - LANES);
}

/* First what loads and stores vectors in part, then functions of them. */
#include "kernels_products.h"

#include "kernels_functions.h"

#include "kernels_channels.h"
#include "kernels_finish.h"
#include "kernels_planes.h"
#include "kernels_pooling.h"
#include "kernels_rows.h"
#include "kernels_transpose.h"
#include "kernels_winograd.h"

const struct kernels PASTE(kernels_, KERNELS_ISA) = {
    .name = QUOTE(KERNELS_ISA),
    .linear = linear,
    .matmul = matmul,
    .lanes = LANES,
    .panel = PANEL_VECTORS * LANES,
    .as_fast_as_blas = (int)ISA_BYTES == 64,
    .rows_product = rows_product,
    .outer_product = outer_product,
    .planes_product = planes_product,
    .channels_sum = channels_sum_rows,
    .channels_squares = channels_squares_rows,
    .channels_dot = channels_dot_rows,
    .norm_apply = norm_apply,
    .norm_dot = norm_dot,
    .norm_gradient = norm_gradient,
    .largest_windows = largest_windows,
    .relu = {relu_value, relu_gradient},
    .silu = {silu_value, silu_gradient},
    .gelu = {gelu_value, gelu_gradient},
    .gelu_tanh = {gelu_tanh_value, gelu_tanh_gradient},
    .exp = {exp_value, NULL},
    .sigmoid = {sigmoid_value, NULL},
    .tanh = {tanh_value, NULL},
    .transpose = transpose,
    .add_runs = add_runs,
    .row_sum = row_sum,
    .row_squares = row_squares,
    .row_dot = row_dot,
    .row_normalize = row_normalize,
    .row_normalize_gradient = row_normalize_gradient,
    .largest = largest,
    .exp_sum = exp_sum,
    .finish = {[ACTIVATION_NONE] = finish_none,
               [ACTIVATION_RELU] = finish_relu,
               [ACTIVATION_RELU6] = finish_relu6,
               [ACTIVATION_SIGMOID] = finish_sigmoid,
               [ACTIVATION_TANH] = finish_tanh,
               [ACTIVATION_SILU] = finish_silu,
               [ACTIVATION_GELU] = finish_gelu,
               [ACTIVATION_GELU_TANH] = finish_gelu_tanh},
    .winograd_input = winograd_input,
    .winograd_output = winograd_output,
    .winograd_gradient = winograd_gradient,
    .winograd_weights = winograd_weights,
    .winograd_weights_gradient = winograd_weights_gradient,
};
