/* kernels_finish.h: functions of one number that end a pass over memory, and the exponentials of
 * softmax. Part of kernels_simd.c, which is compiled once for each instruction set; nothing else
 * includes it.
 *
 * In float these are polynomials on vectors, within 2 units in the last place of the true value:
 * e^x by Cody and Waite's reduction to |r| <= ln 2 / 2, which gives the subnormal numbers, 0 and
 * infinity where these are due; erf and tanh each by an odd polynomial near 0 and by an exponential
 * beyond (after Juffa). In double each lane asks the C library: that build is for tests. A NaN
 * stays one. */

INLINE vec vec_select(const vec_int *mask, const vec *yes, const vec *no)
{
    return (vec)(((vec_int)*yes & *mask) | ((vec_int)*no & ~*mask));
}

INLINE vec vec_abs(const vec *x)
{
    const vec zero = {0}, minus = -zero;
    return (vec)((vec_int)*x & ~(vec_int)minus);
}

/* x within [low, high]. */
INLINE vec vec_held(const vec *x, real low, real high)
{
    const vec l = (vec){0} + low, h = (vec){0} + high;
    const vec_int below = (vec_int)(*x < l), above = (vec_int)(*x > h);
    const vec y = vec_select(&below, &l, x);
    return vec_select(&above, &h, &y);
}

/* The size of a with the sign of s. */
INLINE vec vec_signed(const vec *a, const vec *s)
{
    const vec zero = {0}, minus = -zero;
    return (vec)((vec_int)*a | ((vec_int)*s & (vec_int)minus));
}

#ifdef BACKPROP_DOUBLE

#define LANE_BY_LANE(name, f)                                                                      \
    INLINE vec name(const vec *x)                                                                  \
    {                                                                                              \
        vec y;                                                                                     \
        for (int i = 0; i < LANES; i++)                                                            \
            y[i] = f((*x)[i]);                                                                     \
        return y;                                                                                  \
    }
LANE_BY_LANE(vec_exp, exp)
LANE_BY_LANE(vec_erf, erf)
LANE_BY_LANE(vec_tanh, tanh)

#else

/* 2^n for whole numbers n of [-126, 127], which come as the low bits of a float. */
INLINE vec power_of_two(const vec_int *n)
{
    return (vec)((*n + 127) << 23);
}

INLINE vec vec_exp(const vec *x)
{
    const float round = 12582912, log2e = 1.44269504f; /* 1.5 * 2^23: its last bit counts ones */
    const float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    const vec held = vec_held(x, -104, 89), whole = held * log2e + round, n = whole - round;
    vec r = held - n * ln2_high;
    r = r - n * ln2_low;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1;
    const vec start = (vec){0} + round;
    const vec_int power = (vec_int)whole - (vec_int)start, half = power >> 1, rest = power - half;
    return p * power_of_two(&half) * power_of_two(&rest);
}

INLINE vec vec_erf(const vec *x)
{
    const vec size = vec_abs(x), t = vec_held(&size, 0, 4), s = t * t;
    vec far = (t * -1.72853470e-5f + 3.83197126e-4f) * s + (t * -3.88396438e-3f + 2.42546219e-2f);
    far = far * t - 1.06777877e-1f;
    far = far * t - 6.34846687e-1f;
    far = far * t - 1.28717512e-1f;
    far = far * t - t;
    far = 1 - vec_exp(&far);
    far = vec_signed(&far, x);
    vec near = s * -5.96761703e-4f + 4.99119423e-3f;
    near = near * s - 2.67681349e-2f;
    near = near * s + 1.12819925e-1f;
    near = near * s - 3.76125336e-1f;
    near = near * s + 1.28379166e-1f;
    near = near * *x + *x;
    const vec_int is_far = (vec_int)(t > 0.927734375f);
    return vec_select(&is_far, &far, &near);
}

INLINE vec vec_tanh(const vec *x)
{
    const vec size = vec_abs(x), t = vec_held(&size, 0, 10), two = 2 * t, s = t * t;
    vec far = 1 - 2 / (1 + vec_exp(&two));
    far = vec_signed(&far, x);
    vec near = s * 1.57394409e-2f - 5.23025580e-2f;
    near = near * s + 1.33152470e-1f;
    near = near * s - 3.33327681e-1f;
    near = near * s * *x + *x;
    const vec_int is_far = (vec_int)(t > 0.55f);
    return vec_select(&is_far, &far, &near);
}

#endif

/* ---- activations ----------------------------------------------------------------------------- */

INLINE vec none_of(const vec *x)
{
    return *x;
}

INLINE vec relu_of(const vec *x)
{
    return let_through(x, x);
}

INLINE vec relu6_of(const vec *x)
{
    return vec_held(x, 0, 6);
}

/* e^-|x| never overflows, so both tails are exact. */
INLINE vec sigmoid_of(const vec *x)
{
    const vec minus = -vec_abs(x), z = vec_exp(&minus), one = (vec){0} + 1;
    const vec_int positive = (vec_int)(*x >= 0);
    return vec_select(&positive, &one, &z) / (1 + z);
}

INLINE vec silu_of(const vec *x)
{
    return *x * sigmoid_of(x);
}

INLINE vec gelu_of(const vec *x)
{
    const vec scaled = *x * (real)M_SQRT1_2;
    return *x * ((real)0.5 * (1 + vec_erf(&scaled)));
}

INLINE vec gelu_tanh_of(const vec *x)
{
    const real scale = (real)(M_SQRT2 * M_2_SQRTPI * 0.5), cubic = (real)0.044715;
    const vec inner = scale * (*x + cubic * *x * *x * *x);
    return (real)0.5 * *x * (1 + vec_tanh(&inner));
}

typedef vec vec_function(const vec *x);

INLINE void finish_vector(const struct finish_rows *p, vec_function *f, int64_t at, int64_t left)
{
    vec x = part_load(p->x + at, left);
    if (p->residual && !p->residual_last)
        x += part_load(p->residual + at, left);
    vec y = f(&x);
    if (p->residual && p->residual_last)
        y += part_load(p->residual + at, left);
    part_store(p->y + at, &y, left);
}

INLINE void finish(const struct finish_rows *p, vec_function *f)
{
    for (int64_t row = 0; row < p->rows; row++) {
        const int64_t at = row * p->ld;
        int64_t c = 0;
        for (; c + LANES <= p->cols; c += LANES)
            finish_vector(p, f, at + c, LANES);
        if (c < p->cols)
            finish_vector(p, f, at + c, p->cols - c);
    }
}

/* Rows that touch are one. */
#define FINISH(name, f)                                                                            \
    static void name(const struct finish_rows *p)                                                  \
    {                                                                                              \
        struct finish_rows rows = *p;                                                              \
        if (rows.ld == rows.cols) {                                                                \
            rows.ld = rows.cols *= rows.rows;                                                      \
            rows.rows = 1;                                                                         \
        }                                                                                          \
        finish(&rows, f);                                                                          \
    }
FINISH(finish_none, none_of)
FINISH(finish_relu, relu_of)
FINISH(finish_relu6, relu6_of)
FINISH(finish_sigmoid, sigmoid_of)
FINISH(finish_tanh, vec_tanh)
FINISH(finish_silu, silu_of)
FINISH(finish_gelu, gelu_of)
FINISH(finish_gelu_tanh, gelu_tanh_of)

/* ---- softmax --------------------------------------------------------------------------------- */

typedef double vec_double __attribute__((vector_size(LANES * sizeof(double))));

/* Lanes past the end hold -infinity, whose exponential is 0. */
static double exponentials(int64_t n, real max, real *row)
{
    vec_double sum = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        real lane[LANES];
        vec x;
        if (left >= LANES) {
            x = vec_load(row + i);
        } else {
            for (int k = 0; k < LANES; k++)
                lane[k] = -(real)INFINITY;
            part_copy(lane, row + i, left);
            x = vec_load(lane);
        }
        x -= max;
        const vec y = vec_exp(&x);
        part_store(row + i, &y, left);
        sum += __builtin_convertvector(y, vec_double);
    }
    double all = 0;
    for (int k = 0; k < LANES; k++)
        all += sum[k];
    return all;
}
