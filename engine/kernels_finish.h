/* kernels_finish.h: sums and activations that end a pass over memory. Part of kernels_simd.c, which
 * is compiled once for each instruction set; nothing else includes it. The functions are those of
 * kernels_functions.h, and so are their bits. */

INLINE vec vec_none(const vec *x)
{
    return *x;
}

INLINE vec vec_relu6(const vec *x)
{
    const vec y = SELECT(*x > 6, SPLAT(6), *x);
    return let_through(&y, &y);
}

typedef vec vec_function(const vec *x);

INLINE void finish_vector(const struct finish_rows *p, vec_function *f, int64_t at, int64_t left)
{
    vec x = part_load(p->x + at, left);
    if (p->residual && !p->residual_last)
        x += part_load(p->residual + at, left);
    const vec y = f(&x);
    if (p->residual && p->residual_last) {
        vec sum = y;
        __asm__(""
                : "+m"(sum)); /* rounded as if it were stored: no fused multiply-add with the sum */
        sum += part_load(p->residual + at, left);
        part_store(p->y + at, &sum, left);
        return;
    }
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
FINISH(finish_none, vec_none)
FINISH(finish_relu, vec_relu)
FINISH(finish_relu6, vec_relu6)
FINISH(finish_sigmoid, vec_sigmoid)
FINISH(finish_tanh, vec_tanh)
FINISH(finish_silu, vec_silu)
FINISH(finish_gelu, vec_gelu)
FINISH(finish_gelu_tanh, vec_gelu_tanh)
