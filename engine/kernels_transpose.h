/* kernels_transpose.h: matrices the other way round, for changes of layout. Part of kernels_simd.c,
 * which is compiled once for each instruction set; nothing else includes it.
 *
 * Four rows of four numbers are turned in registers. Blocks of these are small enough that the
 * lines they are read from and written to stay in the nearest cache until all of them is used.
 * Where there are three rows or three columns, the colours of an image, a fourth comes along: what
 * it writes is written over by the next numbers, so the last ones go one by one. */
enum { QUAD = 4, TRANSPOSE_BLOCK = 32 };

INLINE void quad_load(quad *q, const real *p)
{
    memcpy(q, p, sizeof *q);
}

INLINE void quad_store(real *p, const quad *q)
{
    memcpy(p, q, sizeof *q);
}

/* dst[j][i] = src[i][j] for i, j < QUAD; row i of src is at most row `last`. */
INLINE void transpose_quads(const real *src, int64_t src_step, int last, real *dst,
                            int64_t dst_step)
{
    quad row[QUAD];
    for (int i = 0; i < QUAD; i++)
        quad_load(&row[i], src + (i < last ? i : last) * src_step);
    const quad low = SHUFFLE(row[0], row[1], 0, 4, 1, 5),
               low2 = SHUFFLE(row[2], row[3], 0, 4, 1, 5);
    const quad high = SHUFFLE(row[0], row[1], 2, 6, 3, 7),
               high2 = SHUFFLE(row[2], row[3], 2, 6, 3, 7);
    const quad out[QUAD] = {SHUFFLE(low, low2, 0, 1, 4, 5), SHUFFLE(low, low2, 2, 3, 6, 7),
                            SHUFFLE(high, high2, 0, 1, 4, 5), SHUFFLE(high, high2, 2, 3, 6, 7)};
    for (int j = 0; j < QUAD; j++)
        quad_store(dst + j * dst_step, &out[j]);
}

INLINE void transpose_each(const struct transpose_rows *t, int64_t i0, int64_t i1, int64_t j0,
                           int64_t j1)
{
    for (int64_t j = j0; j < j1; j++)
        for (int64_t i = i0; i < i1; i++)
            t->dst[j * t->dst_step + i] = t->src[i * t->src_step + j];
}

/* Rows [i0, i1) and columns [j0, j1). */
INLINE void transpose_block(const struct transpose_rows *t, int64_t i0, int64_t i1, int64_t j0,
                            int64_t j1)
{
    const int64_t i2 = i0 + (i1 - i0) / QUAD * QUAD, j2 = j0 + (j1 - j0) / QUAD * QUAD;
    for (int64_t j = j0; j < j2; j += QUAD)
        for (int64_t i = i0; i < i2; i += QUAD)
            transpose_quads(t->src + i * t->src_step + j, t->src_step, QUAD,
                            t->dst + j * t->dst_step + i, t->dst_step);
    transpose_each(t, i2, i1, j0, j1);
    transpose_each(t, i0, i2, j2, j1);
}

/* Pixels of three planes. */
static void transpose_from_three(const struct transpose_rows *t)
{
    int64_t j = 0;
    for (; j + QUAD < t->cols; j += QUAD)
        transpose_quads(t->src + j, t->src_step, 2, t->dst + j * 3, 3);
    transpose_each(t, 0, 3, j, t->cols);
}

static void transpose_to_three(const struct transpose_rows *t)
{
    int64_t i = 0;
    for (; i + QUAD < t->rows; i += QUAD) {
        real out[QUAD * QUAD];
        transpose_quads(t->src + i * 3, 3, QUAD, out, QUAD);
        for (int j = 0; j < 3; j++)
            memcpy(t->dst + j * t->dst_step + i, out + j * QUAD, QUAD * sizeof *out);
    }
    transpose_each(t, i, t->rows, 0, 3);
}

static void transpose(const struct transpose_rows *t)
{
    const int64_t block = TRANSPOSE_BLOCK;
    if (t->rows == 3 && t->dst_step == 3) {
        transpose_from_three(t);
        return;
    }
    if (t->cols == 3 && t->src_step == 3) {
        transpose_to_three(t);
        return;
    }
    for (int64_t i = 0; i < t->rows; i += block)
        for (int64_t j = 0; j < t->cols; j += block)
            transpose_block(t, i, i + block < t->rows ? i + block : t->rows, j,
                            j + block < t->cols ? j + block : t->cols);
}
