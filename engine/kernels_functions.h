/* kernels_functions.h: e^x and what is made of it, a vector at a time. Part of kernels_simd.c,
 * which is compiled once for each instruction set; nothing else includes it.
 *
 * In float, e^x = 2^k e^r with k the integer nearest to x / ln 2 and r what is left, at most ln 2 /
 * 2 in size, of which a polynomial of degree 7 gives e^r. 2^k is put together from its exponent, in
 * two factors, so that results below the smallest normal number are rounded once and those above
 * the largest become infinite; AVX-512 has an instruction that does the same. The error function is
 * a polynomial in x near 0 and 1 - e^p(|x|) elsewhere; tanh is a polynomial near 0 and (1 - z) / (1
 * + z) with z = e^(-2 |x|) elsewhere, since the differences would lose digits there.
 * tests/unit/test_kernels_functions_both.c holds the error of each below a few units in the last
 * place, over all exponents. NaN passes through all.
 *
 * In double the C library computes each lane: that build is for tests. */

/* `a` in the lanes where all bits of `mask` are set, else `b`. */
#define SELECT(mask, a, b) ((vec)(((vec_int)(a) & (mask)) | ((vec_int)(b) & ~(mask))))
#define SPLAT(x)           ((vec){0} + (real)(x))

/* All bits but that of the sign. */
#define SIZE_BITS ((vec_int){0} + (lane_int)(UINT64_MAX >> (65 - 8 * sizeof(real))))

INLINE vec vec_abs(const vec *x)
{
    return (vec)((vec_int)*x & SIZE_BITS);
}

#ifdef BACKPROP_DOUBLE

#define EACH_LANE(name, f)                                                                         \
    INLINE vec name(const vec *x)                                                                  \
    {                                                                                              \
        vec y = *x;                                                                                \
        for (int i = 0; i < LANES; i++)                                                            \
            y[i] = f;                                                                              \
        return y;                                                                                  \
    }
EACH_LANE(vec_exp, exp(y[i]))
EACH_LANE(vec_exp_small, exp(y[i]))
EACH_LANE(vec_tanh, tanh(y[i]))
EACH_LANE(vec_normal_cdf, 0.5 * erfc(-y[i] * M_SQRT1_2))

#else

/* x, but at least or at most `limit`. */
#if defined __AVX512F__
#define VEC_LEAST(x, limit) ((vec)_mm512_max_ps((__m512)SPLAT(limit), (__m512)(x)))
#define VEC_MOST(x, limit)  ((vec)_mm512_min_ps((__m512)SPLAT(limit), (__m512)(x)))
#elif defined __AVX2__
#define VEC_LEAST(x, limit) ((vec)_mm256_max_ps((__m256)SPLAT(limit), (__m256)(x)))
#define VEC_MOST(x, limit)  ((vec)_mm256_min_ps((__m256)SPLAT(limit), (__m256)(x)))
#else
#define VEC_LEAST(x, limit) SELECT((x) < (limit), SPLAT(limit), x)
#define VEC_MOST(x, limit)  SELECT((x) > (limit), SPLAT(limit), x)
#endif

#if !defined __AVX512F__
/* 2^k for k within the exponents of normal numbers. */
INLINE vec vec_power_of_two(const vec_int *k)
{
    enum { BIAS = 127, MANTISSA_BITS = 23 };
    return (vec)((*k + BIAS) << MANTISSA_BITS);
}
#endif

/* p * 2^n rounded once, where n is `shifted` less `to_integer`. */
INLINE vec vec_scale(const vec *p, const vec *shifted, real to_integer)
{
#if defined __AVX512F__
    return (vec)_mm512_scalef_ps((__m512)*p, (__m512)(*shifted - to_integer));
#else
    const vec_int k = (vec_int)*shifted - (vec_int)SPLAT(to_integer), half = k >> 1;
    const vec_int rest = k - half;
    return *p * vec_power_of_two(&half) * vec_power_of_two(&rest);
#endif
}

/* For x of at most 89. e^-104 is 0. */
INLINE vec vec_exp_small(const vec *x)
{
    const real to_integer = 0x1.8p23f; /* a sum with it is rounded to an integer, in its low bits */
    const real ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    const vec v = VEC_LEAST(*x, -104);
    const vec shifted = v * (real)M_LOG2E + to_integer;
    const vec n = shifted - to_integer;
    const vec r = v - n * ln2_high - n * ln2_low;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1;
    return vec_scale(&p, &shifted, to_integer);
}

INLINE vec vec_exp(const vec *x)
{
    const vec v = VEC_MOST(*x, 89); /* e^89 is infinite */
    return vec_exp_small(&v);
}

INLINE vec vec_tanh(const vec *x)
{
    const vec size = vec_abs(x), square = *x * *x, twice = -2 * size;
    vec p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    p = p * square * *x + *x;
    const vec z = vec_exp_small(&twice), far = (1 - z) / (1 + z);
    return SELECT(size < 0.625f, p, SELECT(*x < 0, -far, far));
}

/* e^p(t) = 1 - erf(t) for t > 0.9; it goes on falling where the difference would round to 0. */
INLINE vec vec_erf_rest(const vec *t)
{
    vec p = *t * -1.72853470e-5f + 3.83197126e-4f;
    p = p * *t - 3.88396438e-3f;
    p = p * *t + 2.42546219e-2f;
    p = p * *t - 1.06777877e-1f;
    p = p * *t - 6.34846687e-1f;
    p = p * *t - 1.28717512e-1f;
    p = p * *t - *t;
    return vec_exp(&p);
}

/* Distribution function of the standard normal distribution: (1 + erf(x / sqrt(2))) / 2. */
INLINE vec vec_normal_cdf(const vec *x)
{
    const vec t = *x * (real)M_SQRT1_2, size = vec_abs(&t), square = t * t;
    vec p = square * -5.96761703e-4f + 4.99119423e-3f;
    p = p * square - 2.67681349e-2f;
    p = p * square + 1.12819925e-1f;
    p = p * square - 3.76125336e-1f;
    p = p * square + 1.28379166e-1f;
    const vec near = (p * t + t) * 0.5f + 0.5f, rest = 0.5f * vec_erf_rest(&size);
    return SELECT(size < 0.927734375f, near, SELECT(t < 0, rest, 1 - rest));
}

#endif

/* e^-|x| never overflows, so both tails are exact. */
INLINE vec vec_sigmoid(const vec *x)
{
    const vec down = -vec_abs(x), z = vec_exp_small(&down);
    return SELECT(*x < 0, z, SPLAT(1)) / (1 + z);
}

/* g where y lets it through, else 0. (Vectors by address: how they are passed by value depends on
 * the instruction set, and everything is inlined anyway.) */
INLINE vec let_through(const vec *g, const vec *y)
{
    return (vec)((vec_int)*g & ~(vec_int)(*y <= 0));
}

INLINE vec vec_relu(const vec *x)
{
    return let_through(x, x);
}

INLINE vec vec_silu(const vec *x)
{
    return *x * vec_sigmoid(x);
}

INLINE vec vec_silu_slope(const vec *x)
{
    const vec s = vec_sigmoid(x);
    return s * (1 + *x * (1 - s));
}

INLINE vec vec_gelu(const vec *x)
{
    return *x * vec_normal_cdf(x);
}

INLINE vec vec_gelu_slope(const vec *x)
{
    const real scale = (real)(M_2_SQRTPI * M_SQRT1_2 * 0.5); /* 1 / sqrt(2 pi) */
    const vec power = (real)-0.5 * *x * *x;
    return vec_normal_cdf(x) + *x * (scale * vec_exp(&power));
}

/* The tanh of gelu's approximation. */
INLINE vec vec_gelu_inner(const vec *x)
{
    const real scale = (real)(M_SQRT2 * M_2_SQRTPI * 0.5), cubic = (real)0.044715;
    const vec inner = scale * (*x + cubic * *x * *x * *x);
    return vec_tanh(&inner);
}

INLINE vec vec_gelu_tanh(const vec *x)
{
    return (real)0.5 * *x * (1 + vec_gelu_inner(x));
}

INLINE vec vec_gelu_tanh_slope(const vec *x)
{
    const real scale = (real)(M_SQRT2 * M_2_SQRTPI * 0.5), cubic = (real)0.044715;
    const vec t = vec_gelu_inner(x), inner = scale * (1 + 3 * cubic * *x * *x);
    return (real)0.5 * (1 + t) + (real)0.5 * *x * (1 - t * t) * inner;
}

/* The loops of kernels.h. */
#define FUNCTION_VALUE(name)                                                                       \
    static void name##_value(int64_t n, const real *x, real *y)                                    \
    {                                                                                              \
        for (int64_t i = 0; i < n; i += LANES) {                                                   \
            const vec v = part_load(x + i, n - i), f = vec_##name(&v);                             \
            part_store(y + i, &f, n - i);                                                          \
        }                                                                                          \
    }
#define FUNCTION_GRADIENT(name)                                                                    \
    static void name##_gradient(int64_t n, const real *x, const real *dy, real *dx)                \
    {                                                                                              \
        for (int64_t i = 0; i < n; i += LANES) {                                                   \
            const vec v = part_load(x + i, n - i);                                                 \
            const vec d = part_load(dy + i, n - i) * vec_##name##_slope(&v);                       \
            part_store(dx + i, &d, n - i);                                                         \
        }                                                                                          \
    }
FUNCTION_VALUE(exp)
FUNCTION_VALUE(sigmoid)
FUNCTION_VALUE(tanh)
FUNCTION_VALUE(relu)
FUNCTION_VALUE(silu)
FUNCTION_VALUE(gelu)
FUNCTION_VALUE(gelu_tanh)
FUNCTION_GRADIENT(silu)
FUNCTION_GRADIENT(gelu)
FUNCTION_GRADIENT(gelu_tanh)

/* relu's is found from y. */
static void relu_gradient(int64_t n, const real *y, const real *dy, real *dx)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const vec v = part_load(y + i, n - i), g = part_load(dy + i, n - i);
        const vec d = let_through(&g, &v);
        part_store(dx + i, &d, n - i);
    }
}

/* ---- softmax --------------------------------------------------------------------------------- */

INLINE double lanes_sum(const vec *v)
{
    double sum[LANES];
    for (int i = 0; i < LANES; i++)
        sum[i] = (double)(*v)[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            sum[i] += sum[i + half];
    return sum[0];
}

/* A NaN is larger than all. */
INLINE real larger(real a, real b)
{
    return b > a || b != b ? b : a;
}

INLINE vec vec_larger(const vec *a, const real *b)
{
    const vec v = vec_load(b);
    return SELECT((v > *a) | (v != v), v, *a);
}

/* The last vector may have numbers that were looked at. */
static real largest(int64_t n, const real *x)
{
    real most[LANES] = {-(real)INFINITY};
    if (n < LANES) {
        for (int64_t i = 0; i < n; i++)
            most[0] = larger(most[0], x[i]);
        return most[0];
    }
    vec even = vec_load(x), odd = vec_load(x + n - LANES);
    int64_t i = LANES;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even = vec_larger(&even, x + i);
        odd = vec_larger(&odd, x + i + LANES);
    }
    if (i + LANES <= n)
        even = vec_larger(&even, x + i);
    memcpy(most, &odd, sizeof most);
    even = vec_larger(&even, most);
    memcpy(most, &even, sizeof most);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            most[j] = larger(most[j], most[j + half]);
    return most[0];
}

/* Vectors are summed a few at a time, those sums in double. */
static double exp_sum(int64_t n, const real *x, real less, real *y)
{
    enum { TOGETHER = 16 * LANES };
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += TOGETHER) {
        const int64_t end = n - begin < TOGETHER ? n : begin + TOGETHER;
        vec part = {0};
        for (int64_t i = begin; i < end; i += LANES) {
            const vec v = part_load(x + i, end - i) - less, power = vec_exp(&v);
            part_store(y + i, &power, end - i);
            part += end - i >= LANES ? power : part_load(y + i, end - i);
        }
        sum += lanes_sum(&part);
    }
    return sum;
}
