/* kernels_rows.h: sums over a row of numbers in double, the rows of layer norm, and runs that are
 * added to others. Part of kernels_simd.c, which is compiled once for each instruction set; nothing
 * else includes it.
 *
 * Number i of a row is added to lane i mod ROW_LANES, and the upper half of the lanes to the lower
 * until one is left: the order depends on the row's length only. */
enum { ROW_LANES = 32 };

/* What is added for number i. */
typedef double row_term(const real *g, const real *x, double mean, int64_t i);

INLINE double term_itself(const real *g, const real *x, double mean, int64_t i)
{
    (void)g, (void)mean;
    return (double)x[i];
}

INLINE double term_square(const real *g, const real *x, double mean, int64_t i)
{
    (void)g;
    const double off = (double)x[i] - mean;
    return off * off;
}

INLINE double term_product(const real *g, const real *x, double mean, int64_t i)
{
    return (double)g[i] * ((double)x[i] - mean);
}

INLINE double row_add(int64_t n, const real *g, const real *x, double mean, row_term *term)
{
    double lane[ROW_LANES] = {0};
    int64_t i = 0;
    for (; i + ROW_LANES <= n; i += ROW_LANES)
        for (int k = 0; k < ROW_LANES; k++)
            lane[k] += term(g, x, mean, i + k);
    for (int k = 0; i + k < n; k++)
        lane[k] += term(g, x, mean, i + k);
    for (int half = ROW_LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            lane[k] += lane[k + half];
    return lane[0];
}

static double row_sum(int64_t n, const real *x)
{
    return row_add(n, NULL, x, 0, term_itself);
}

static double row_squares(int64_t n, const real *x, double mean)
{
    return row_add(n, NULL, x, mean, term_square);
}

static double row_dot(int64_t n, const real *g, const real *x, double mean)
{
    return row_add(n, g, x, mean, term_product);
}

static void row_normalize(const struct norm_row *p)
{
    const real *restrict x = p->x, *restrict weight = p->weight, *restrict bias = p->bias;
    real *restrict y = p->y;
    const real mean = p->mean, invstd = p->invstd;
    if (weight && bias)
        for (int64_t i = 0; i < p->n; i++)
            y[i] = (x[i] - mean) * invstd * weight[i] + bias[i];
    else if (weight)
        for (int64_t i = 0; i < p->n; i++)
            y[i] = (x[i] - mean) * invstd * weight[i];
    else
        for (int64_t i = 0; i < p->n; i++)
            y[i] = (x[i] - mean) * invstd + (bias ? bias[i] : 0);
}

static void row_normalize_gradient(const struct norm_row *p, real shift, real slope, const real *g,
                                   real *dx)
{
    const real *x = p->x;
    const real mean = p->mean, invstd = p->invstd;
    for (int64_t i = 0; i < p->n; i++)
        dx[i] = (g[i] - shift - (x[i] - mean) * slope) * invstd;
}

static void add_runs(int64_t runs, int64_t n, const real *from, int64_t from_step, real *to,
                     int64_t to_step)
{
    for (; runs > 0; runs--, from += from_step, to += to_step) {
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            const vec sum = vec_load(to + i) + vec_load(from + i);
            memcpy(to + i, &sum, sizeof sum);
        }
#if defined __AVX512F__
        if (i < n) {
            const vec sum = part_load(to + i, n - i) + part_load(from + i, n - i);
            part_store(to + i, &sum, n - i);
        }
#else
        for (; i < n; i++)
            to[i] += from[i];
#endif
    }
}
