/* kernels_winograd.h: the transforms of Winograd's convolution (conv_winograd.c has the algorithm).
 * Part of kernels_simd.c, which is compiled once for each instruction set; nothing else includes
 * it.
 *
 * A transform of a square is the same transform of a line for its columns, then for its rows. The
 * lines below are the products with B^T, A^T, G and their transposes for the points 0, +-a, +-b and
 * infinity, a = sqrt(1/2), b = sqrt(2): since a b = 1, few constants are left. A lane is a channel,
 * so no number depends on its company. */

#define POINT_A ((real)0.70710678118654752440)
#define POINT_B ((real)1.41421356237309504880)

typedef void winograd_line(const vec *x, vec *y);

/* B^T: 6 numbers of the image to 6 points. */
INLINE void line_input(const vec *x, vec *y)
{
    const vec even_a = x[4] - 2 * x[2], odd_a = POINT_A * x[3] - POINT_B * x[1];
    const vec even_b = x[4] - (real)0.5 * x[2], odd_b = POINT_B * x[3] - POINT_A * x[1];
    y[0] = x[0] - (real)2.5 * x[2] + x[4];
    y[1] = even_a + odd_a;
    y[2] = even_a - odd_a;
    y[3] = even_b + odd_b;
    y[4] = even_b - odd_b;
    y[5] = x[1] - (real)2.5 * x[3] + x[5];
}

/* A^T: 6 points to 4 numbers of the output. */
INLINE void line_output(const vec *x, vec *y)
{
    const vec even_a = x[1] + x[2], odd_a = x[1] - x[2];
    const vec even_b = x[3] + x[4], odd_b = x[3] - x[4];
    y[0] = x[0] + even_a + even_b;
    y[1] = POINT_A * odd_a + POINT_B * odd_b;
    y[2] = (real)0.5 * even_a + 2 * even_b;
    y[3] = (POINT_A / 2) * odd_a + (2 * POINT_B) * odd_b + x[5];
}

/* A: 4 numbers of the output's gradient to 6 points. */
INLINE void line_gradient(const vec *x, vec *y)
{
    const vec even_a = x[0] + (real)0.5 * x[2], odd_a = POINT_A * x[1] + (POINT_A / 2) * x[3];
    const vec even_b = x[0] + 2 * x[2], odd_b = POINT_B * x[1] + (2 * POINT_B) * x[3];
    y[0] = x[0];
    y[1] = even_a + odd_a;
    y[2] = even_a - odd_a;
    y[3] = even_b + odd_b;
    y[4] = even_b - odd_b;
    y[5] = x[3];
}

/* G: 3 weights to 6 points. */
INLINE void line_weights(const vec *x, vec *y)
{
    const real third = (real)(-2.0 / 3), sixth = (real)(1.0 / 6);
    const vec even_a = third * x[0] + (third / 2) * x[2], odd_a = (third * POINT_A) * x[1];
    const vec even_b = sixth * x[0] + (2 * sixth) * x[2], odd_b = (sixth * POINT_B) * x[1];
    y[0] = x[0];
    y[1] = even_a + odd_a;
    y[2] = even_a - odd_a;
    y[3] = even_b + odd_b;
    y[4] = even_b - odd_b;
    y[5] = x[2];
}

/* G^T: 6 points to the gradients of 3 weights. */
INLINE void line_weights_gradient(const vec *x, vec *y)
{
    const real third = (real)(-2.0 / 3), sixth = (real)(1.0 / 6);
    const vec even_a = x[1] + x[2], odd_a = x[1] - x[2];
    const vec even_b = x[3] + x[4], odd_b = x[3] - x[4];
    y[0] = x[0] + third * even_a + sixth * even_b;
    y[1] = (third * POINT_A) * odd_a + (sixth * POINT_B) * odd_b;
    y[2] = (third / 2) * even_a + (2 * sixth) * even_b + x[5];
}

/* Where the vectors of an n x n square are: vector i at at[i] + c, `left` numbers of it; or, where
 * `at` is NULL, the sum of `parts` numbers, `part` apart, from + i * plane + c. */
struct square {
    const real *const *at;
    int64_t c, left;
    const real *from;
    int64_t plane, parts, part;
};

INLINE vec square_load(const struct square *s, int i)
{
    if (s->at)
        return part_load(s->at[i] + s->c, s->left);
    const real *from = s->from + i * s->plane + s->c;
    vec sum = vec_load(from);
    for (int64_t p = 1; p < s->parts; p++)
        sum += vec_load(from + p * s->part);
    return sum;
}

/* half [m][n]: the columns of an n x n square, transformed to m numbers each. */
INLINE void square_columns(const struct square *s, int n, int m, winograd_line *line, vec *half)
{
#pragma GCC unroll 6
    for (int j = 0; j < n; j++) {
        vec in[WINOGRAD_SIDE], out[WINOGRAD_SIDE];
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
            in[i] = square_load(s, i * n + j);
        line(in, out);
#pragma GCC unroll 6
        for (int i = 0; i < m; i++)
            half[i * n + j] = out[i];
    }
}

/* Both transforms, to m x m planes of `to`. */
INLINE void square_to_planes(const struct square *s, int n, int m, winograd_line *line, real *to,
                             int64_t plane)
{
    vec half[WINOGRAD_POINTS];
    square_columns(s, n, m, line, half);
#pragma GCC unroll 6
    for (int i = 0; i < m; i++) {
        vec out[WINOGRAD_SIDE];
        line(half + i * n, out);
#pragma GCC unroll 6
        for (int j = 0; j < m; j++)
            memcpy(to + (i * m + j) * plane + s->c, &out[j], sizeof out[j]);
    }
}

INLINE void gather(int n, winograd_line *line, const real *const *at, int64_t count, real *to,
                   int64_t plane)
{
    int64_t c = 0;
    for (; c + LANES <= count; c += LANES)
        square_to_planes(&(struct square){.at = at, .c = c, .left = LANES}, n, WINOGRAD_SIDE, line,
                         to, plane);
    if (c < count)
        square_to_planes(&(struct square){.at = at, .c = c, .left = count - c}, n, WINOGRAD_SIDE,
                         line, to, plane);
}

static void winograd_input(const real *const *at, int64_t count, real *to, int64_t plane)
{
    gather(WINOGRAD_SIDE, line_input, at, count, to, plane);
}

static void winograd_gradient(const real *const *at, int64_t count, real *to, int64_t plane)
{
    gather(WINOGRAD_TILE, line_gradient, at, count, to, plane);
}

static void winograd_output(const real *from, int64_t plane, int64_t count, const real *bias,
                            real *const *at)
{
    for (int64_t c = 0; c < count; c += LANES) {
        const struct square s = {.c = c, .from = from, .plane = plane, .parts = 1};
        const vec b = bias ? part_load(bias + c, count - c) : (vec){0};
        vec half[WINOGRAD_POINTS];
        square_columns(&s, WINOGRAD_SIDE, WINOGRAD_TILE, line_output, half);
#pragma GCC unroll 4
        for (int i = 0; i < WINOGRAD_TILE; i++) {
            vec out[WINOGRAD_TILE];
            line_output(half + i * WINOGRAD_SIDE, out);
#pragma GCC unroll 4
            for (int j = 0; j < WINOGRAD_TILE; j++) {
                out[j] += b;
                if (at[i * WINOGRAD_TILE + j])
                    part_store(at[i * WINOGRAD_TILE + j] + c, &out[j], count - c);
            }
        }
    }
}

static void winograd_weights(const real *from, int64_t tap, int64_t count, real *to, int64_t plane)
{
    for (int64_t c = 0; c < count; c += LANES)
        square_to_planes(&(struct square){.c = c, .from = from, .plane = tap, .parts = 1},
                         WINOGRAD_KERNEL, WINOGRAD_SIDE, line_weights, to, plane);
}

static void winograd_weights_gradient(const real *from, int64_t plane, int64_t parts, int64_t part,
                                      int64_t count, real *to, int64_t tap)
{
    for (int64_t c = 0; c < count; c += LANES)
        square_to_planes(
            &(struct square){.c = c, .from = from, .plane = plane, .parts = parts, .part = part},
            WINOGRAD_SIDE, WINOGRAD_KERNEL, line_weights_gradient, to, tap);
}
