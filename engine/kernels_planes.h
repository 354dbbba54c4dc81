/* kernels_planes.h: planes_product of kernels.h. Part of kernels_simd.c, which is compiled once for
 * each instruction set; nothing else includes it.
 *
 * A tile is all columns of a few vectors of neighbouring pixels: a step loads the pixels' numbers
 * and multiplies them by one weight of each column. Each number of the result has its own lane and
 * a sequential sum, so it does not depend on how pixels are cut. At the end the lanes change
 * places: sums lie by column, results by pixel. A vector that hangs over the end of a line computes
 * numbers that nobody stores. */
enum { PLANES_VECTORS_MOST = 8 };

/* Vectors of a tile: as many sums as there are registers for. */
INLINE int planes_vectors(int cols)
{
    if ((int)ISA_BYTES == 64 && NATIVE)
        return cols > 6 ? 3 : cols > 3 ? 4 : PLANES_VECTORS_MOST;
    return !NATIVE || cols > 2 ? 2 : 4;
}

#if defined __AVX512F__
/* Which pixel lane l of vector e of the results belongs to, and which of its lanes column j has. */
struct planes_places {
    vec_int pixel[PLANES_COLS_MOST];
    unsigned mask[PLANES_COLS_MOST][PLANES_COLS_MOST];
};

INLINE void planes_places(struct planes_places *s, int cols)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < cols * LANES; i++) {
        s->pixel[i / LANES][i % LANES] = i / cols;
        s->mask[i / LANES][i % cols] |= 1u << i % LANES;
    }
}

INLINE vec planes_merge(const vec *to, unsigned mask, const vec_int *pixel, const vec *from)
{
#ifdef BACKPROP_DOUBLE
    return (vec)_mm512_mask_permutexvar_pd((__m512d)*to, (__mmask8)mask, (__m512i)*pixel,
                                           (__m512d)*from);
#else
    return (vec)_mm512_mask_permutexvar_ps((__m512)*to, (__mmask16)mask, (__m512i)*pixel,
                                           (__m512)*from);
#endif
}

/* `pixels` pixels, at most a vector of them. */
INLINE void planes_store(const struct planes_places *s, int cols,
                         const vec sum[][PLANES_VECTORS_MOST], int v, int64_t pixels, real *y)
{
    for (int e = 0; e < cols && e * LANES < pixels * cols; e++) {
        vec to = {0};
        for (int j = 0; j < cols; j++)
            to = planes_merge(&to, s->mask[e][j], &s->pixel[e], &sum[j][v]);
        part_store(y + e * LANES, &to, pixels * cols - e * LANES);
    }
}
#else
struct planes_places {
    char none;
};

INLINE void planes_places(struct planes_places *s, int cols)
{
    (void)s, (void)cols;
}

INLINE void planes_store(const struct planes_places *s, int cols,
                         const vec sum[][PLANES_VECTORS_MOST], int v, int64_t pixels, real *y)
{
    (void)s;
    real lane[PLANES_COLS_MOST][LANES];
    for (int j = 0; j < cols; j++)
        memcpy(lane[j], &sum[j][v], sizeof lane[j]);
    for (int64_t q = 0; q < pixels; q++)
        for (int j = 0; j < cols; j++)
            y[q * cols + j] = lane[j][q];
}
#endif

/* Vectors [i, i + vectors) of all lines' vectors, those of them that there are. */
INLINE void planes_tile(const struct planes_product *p, const struct planes_places *s, int cols,
                        int vectors, int64_t i)
{
    const int64_t each = (p->pixels + LANES - 1) / LANES, all = p->lines * each;
    vec sum[PLANES_COLS_MOST][PLANES_VECTORS_MOST], xv[PLANES_VECTORS_MOST];
    const real *x[PLANES_VECTORS_MOST], *w = p->weight;
    for (int v = 0; v < vectors; v++) {
        const int64_t at = i + v < all ? i + v : all - 1;
        x[v] = p->x + at / each * p->step + at % each * LANES;
    }
    for (int j = 0; j < cols; j++)
        for (int v = 0; v < vectors; v++)
            sum[j][v] = (vec){0} + (p->bias ? p->bias[j] : 0);
    for (int64_t t = 0; t < p->k; t++, w += cols) {
        for (int v = 0; v < vectors; v++)
            xv[v] = vec_load(x[v] + p->offset[t]);
        UNROLL_ROWS
        for (int j = 0; j < cols; j++)
            for (int v = 0; v < vectors; v++)
                sum[j][v] += w[j] * xv[v];
    }
    for (int v = 0; v < vectors && i + v < all; v++) {
        const int64_t from = (i + v) % each * LANES, left = p->pixels - from;
        planes_store(s, cols, sum, v, left < LANES ? left : LANES,
                     p->y + ((i + v) / each * p->pixels + from) * cols);
    }
}

INLINE void planes_columns(const struct planes_product *p, int cols)
{
    const int vectors = planes_vectors(cols);
    const int64_t all = p->lines * ((p->pixels + LANES - 1) / LANES);
    struct planes_places s;
    planes_places(&s, cols);
    for (int64_t i = 0; i < all; i += vectors)
        planes_tile(p, &s, cols, vectors, i);
}

#define PLANES(cols)                                                                               \
    static __attribute__((noinline)) void planes_##cols(const struct planes_product *p)            \
    {                                                                                              \
        planes_columns(p, cols);                                                                   \
    }
PLANES(1)
PLANES(2)
PLANES(3)
PLANES(4)
PLANES(5)
PLANES(6)
PLANES(7)
PLANES(8)

static void planes_product(const struct planes_product *p)
{
    static void (*const columns[])(const struct planes_product *p) = {
        planes_1, planes_2, planes_3, planes_4, planes_5, planes_6, planes_7, planes_8,
    };
    columns[p->cols - 1](p);
}
