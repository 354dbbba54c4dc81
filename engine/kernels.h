/* kernels.h: loops that are compiled once for each instruction set, and the table that holds them.
 *
 * engine_start picks one table for the process; kernels() gives it. All kernels here are
 * batch-invariant: each number is computed by the same operations in the same order whatever the
 * number of rows and columns of the call and whatever its place among them, so that callers may cut
 * their work as they like. Between two tables numbers differ by rounding only. They touch what they
 * are given and nothing else: any thread may call. */
#ifndef BACKPROP_KERNELS_H
#define BACKPROP_KERNELS_H

#include "backprop.h"

/* An integer of the size of a real. */
#ifdef BACKPROP_DOUBLE
typedef int64_t lane_int;
#else
typedef int32_t lane_int;
#endif

/* y[i][j] = sum over p of a[i][p] * b[p][j], + y[i][j] where `add`, else + bias[j], for i < rows
 * and j < cols. Row i of a is `runs` pieces of `length` numbers, at row[i] + offset[0], ...: so a
 * row may be a window of an image. Its numbers belong to the rows from `first` of the whole b
 * [k][cols], which comes packed in panels (kernels.h: kernels_packed). The sum is sequential. Row i
 * of y lies at to[i] * ldy; NULL: at i * ldy. `far` changes the speed only: the whole b is more
 * than caches keep until it is used again. */
struct rows_product {
    int64_t rows, cols;
    const real *const *row;
    const int64_t *offset;
    int64_t runs, length;
    const real *packed;
    int64_t k, first;
    bool far, add;
    const real *bias; /* [cols] or NULL */
    real *y;
    int64_t ldy;
    const int64_t *to; /* [rows] or NULL */
};

/* c[i][j] = sum over q < pixels of a(q, i) * b[q][j], + c[i][j] where `add`, for i < rows and j <
 * cols: sequential from zero, then added. a(q, i) is row[q][offset + i]; or with `runs`, of which
 * each is `length` rows, row[q][offset + runs[i / length] + i % length]. b has `step` elements from
 * one row to the next, and its rows can be read up to a multiple of kernels.lanes: what lies there
 * does not matter. */
struct outer_product {
    int64_t pixels, rows, cols;
    const real *const *row;
    int64_t offset;
    const int64_t *runs; /* or NULL */
    int64_t length;
    const real *b;
    int64_t step;
    bool add;
    real *c;
    int64_t ldc;
};

/* y[i][q][j] = bias[j] + sum over t < k of x[i * step + offset[t] + q] * weight[t][j], for i <
 * lines, q < pixels and j < cols: sequential. x may be read up to a multiple of kernels.lanes of q:
 * what lies there does not matter. */
enum { PLANES_COLS_MOST = 8 };
struct planes_product {
    int64_t lines, pixels, cols, k, step;
    const real *x;
    const int64_t *offset; /* [k] */
    const real *weight;    /* [k][cols] */
    const real *bias;      /* [cols] or NULL */
    real *y;
};

/* Functions of one number that can end another operator's pass. The operators of these names
 * compute them by the same kernels: the same bits in a pass of their own. */
enum activation {
    ACTIVATION_NONE,
    ACTIVATION_RELU,
    ACTIVATION_RELU6,
    ACTIVATION_SIGMOID,
    ACTIVATION_TANH,
    ACTIVATION_SILU,
    ACTIVATION_GELU,
    ACTIVATION_GELU_TANH,
    ACTIVATIONS
};

/* Batch norm of rows of c channels: sum = (x - mean) * scale + shift + residual, and y is its relu,
 * its silu (without a residual) or the sum itself. Backward: dx = (g - dy_mean) * scale -
 * (x - mean) * slope, where g is dy times the slope of the activation. Of relu that is dy where y
 * is not zero: `kept` says where, or with NULL it is found from x again. Sizes of coefficients are
 * [c], of the others [rows][c]. */
struct norm_rows {
    int64_t rows, c;
    enum activation activation; /* NONE, RELU or SILU */
    const real *mean, *scale, *shift, *dy_mean, *slope;
    const real *x, *residual; /* residual: NULL for none */
    real *y;
    const real *dy, *kept;
    real *masked; /* g: norm_dot writes it with `kept` and of SILU, for norm_gradient to read it as
                     dy without an activation; may be dy; NULL: nowhere */
    real *dx;     /* may be dy */
};

/* A row of n numbers of layer norm: y = (x - mean) * invstd * weight + bias; weight and bias are
 * [n] or NULL. */
struct norm_row {
    int64_t n;
    real mean, invstd;
    const real *x, *weight, *bias;
    real *y;
};

/* The largest of each channel over windows that lie inside an image whole, for `pixels` windows
 * side by side: window q, tap t is c numbers at x + q * step + offset[t], and stands at first + q *
 * pixel_step + pixel[t] in the image. y [pixels][c] is the largest, place [pixels][c] where it
 * stands. The first of equals wins, and a NaN over all. Of x numbers before `end` may be read. */
struct largest_windows {
    int64_t pixels, c, taps, step;
    const int64_t *offset; /* [taps], rising */
    const lane_int *pixel; /* [taps] */
    lane_int first, pixel_step;
    const real *x, *end;
    real *y;
    lane_int *place;
};

/* dst[j][i] = src[i][j] for i < rows and j < cols, with so many elements from one row to the next.
 * They do not overlap. Of dst nothing is read, and nothing else is written. */
struct transpose_rows {
    int64_t rows, cols;
    const real *src;
    int64_t src_step;
    real *dst;
    int64_t dst_step;
};

struct channels;

/* A function of one number: y[i] = f(x[i]) for i < n; dx[i] = dy[i] * f'(x[i]). What is written may
 * be what is read. */
struct kernel_function {
    void (*value)(int64_t n, const real *x, real *y);
    void (*gradient)(int64_t n, const real *x, const real *dy, real *dx);
};

/* y = f(x + residual), or f(x) + residual where `residual_last`. Each has rows of `cols` numbers,
 * ld elements from one row to the next; x may be y. */
struct finish_rows {
    int64_t rows, cols, ld;
    const real *x, *residual; /* residual: NULL for none */
    bool residual_last;
    real *y;
};

/* Winograd's F(4x4, 3x3): tiles of 4 x 4 outputs, of squares of 6 x 6. */
enum {
    WINOGRAD_TILE = 4,
    WINOGRAD_KERNEL = 3,
    WINOGRAD_TAPS = WINOGRAD_KERNEL * WINOGRAD_KERNEL,
    WINOGRAD_SIDE = WINOGRAD_TILE + WINOGRAD_KERNEL - 1,
    WINOGRAD_POINTS = WINOGRAD_SIDE * WINOGRAD_SIDE,
};

struct kernels {
    const char *name; /* "plain", "avx2", "avx512": BACKPROP_KERNELS and the fingerprint use it */

    /* y[i][o] = bias[o] + sum over p of x[i][p] * w[o][p], for x [rows][k], w [outs][k] and
     * y [rows][outs] with ldx, ldw and ldy elements from one row to the next; bias [outs] or NULL.
     * (torch.nn.functional.linear.) */
    void (*linear)(int64_t rows, int64_t outs, int64_t k, const real *x, int64_t ldx, const real *w,
                   int64_t ldw, const real *bias, real *y, int64_t ldy);

    /* c[i][j] = sum over p of a[i][p] * b[p][j], for a [rows][k], b [k][cols], c [rows][cols] with
     * lda, ldb and ldc. (torch.mm.) */
    void (*matmul)(int64_t rows, int64_t cols, int64_t k, const real *a, int64_t lda, const real *b,
                   int64_t ldb, real *c, int64_t ldc);

    int64_t lanes, panel; /* numbers of a vector; columns of a packed panel, a multiple of it */
    bool as_fast_as_blas; /* in large products of matrices */
    void (*rows_product)(const struct rows_product *p);
    void (*outer_product)(const struct outer_product *p);
    void (*planes_product)(const struct planes_product *p);

    /* channels.h says what these are. */
    void (*channels_sum)(const struct channels *v, const real *x, double *sum);
    void (*channels_squares)(const struct channels *v, const real *x, const real *centre,
                             double *sum, double *squares);
    void (*channels_dot)(const struct channels *v, const real *dy, const real *x,
                         const real *centre, double *sum, double *dot);

    /* y; the sums of dy and of dy * (x - mean), added to what is there as channels_dot does; dx,
     * where with relu the mask is found from x (`kept` does not count). */
    void (*norm_apply)(const struct norm_rows *p);
    void (*norm_dot)(const struct norm_rows *p, double *sum, double *dot);
    void (*norm_gradient)(const struct norm_rows *p);

    void (*transpose)(const struct transpose_rows *t);

    /* to[r * to_step + i] += from[r * from_step + i], for r < runs and i < n. */
    void (*add_runs)(int64_t runs, int64_t n, const real *from, int64_t from_step, real *to,
                     int64_t to_step);

    /* Of n numbers: the sums of x, of (x - mean)^2, and of g (x - mean). */
    double (*row_sum)(int64_t n, const real *x);
    double (*row_squares)(int64_t n, const real *x, double mean);
    double (*row_dot)(int64_t n, const real *g, const real *x, double mean);
    /* y; and dx = (g - shift - (x - mean) * slope) * invstd. */
    void (*row_normalize)(const struct norm_row *p);
    void (*row_normalize_gradient)(const struct norm_row *p, real shift, real slope, const real *g,
                                   real *dx);

    void (*largest_windows)(const struct largest_windows *p);

    /* Functions of one number; of those without a gradient y says it, and relu's reads y for x.
     * kernels_functions.h says how they are computed; their names are torch's. */
    struct kernel_function relu, silu, gelu, gelu_tanh;
    struct kernel_function exp, sigmoid, tanh;
    /* For softmax: the largest of n numbers, where NaN is larger than all and nothing is -infinity;
     * and y[i] = e^(x[i] - less), of which the sum is returned. y may be x. */
    real (*largest)(int64_t n, const real *x);
    double (*exp_sum)(int64_t n, const real *x, real less, real *y);
    void (*finish[ACTIVATIONS])(const struct finish_rows *p);

    /* Transforms of Winograd's convolution, of `count` channels that lie side by side: at[i] is
     * where those of pixel i of a square begin, row by row; point i of what is transformed is at
     * i * plane. Points are read and written up to a multiple of `lanes` channels.
     * An image's 6 x 6 pixels, or 4 x 4 pixels of the output's gradient, to points: */
    void (*winograd_input)(const real *const *at, int64_t count, real *to, int64_t plane);
    void (*winograd_gradient)(const real *const *at, int64_t count, real *to, int64_t plane);
    /* Points to 4 x 4 pixels of the output, those of them that are not NULL; bias [count] or NULL.
     */
    void (*winograd_output)(const real *from, int64_t plane, int64_t count, const real *bias,
                            real *const *at);
    /* `count` weights, a multiple of `lanes`, tap i of them at i * tap, to points; and the sum of
     * `parts` gradients of points, `part` elements apart, to the gradients of taps. */
    void (*winograd_weights)(const real *from, int64_t tap, int64_t count, real *to, int64_t plane);
    void (*winograd_weights_gradient)(const real *from, int64_t plane, int64_t parts, int64_t part,
                                      int64_t count, real *to, int64_t tap);
};

/* A packed matrix [k][cols] is panels of kernels.panel columns, one after the other; the last has
 * what is left, rounded up to whole vectors. A panel is [k][width], zeros behind the last column.
 * Its elements, and where a panel begins: */
static inline int64_t kernels_packed(const struct kernels *f, int64_t k, int64_t cols)
{
    return (cols + f->lanes - 1) / f->lanes * f->lanes * k;
}
static inline int64_t kernels_panel_width(const struct kernels *f, int64_t cols, int64_t panel)
{
    int64_t left = cols - panel * f->panel;
    return left >= f->panel ? f->panel : (left + f->lanes - 1) / f->lanes * f->lanes;
}

extern const struct kernels kernels_plain;
#ifdef __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512;
#endif

/* The choice of engine_start; before it, the best that this processor runs. */
const struct kernels *kernels(void);
/* Walks the tables that this processor runs, best first: NULL when i is past the last. */
const struct kernels *kernels_at(int i);

#endif
