/* kernels_products.h: rows_product and outer_product of kernels.h. Part of kernels_simd.c, which
 * is compiled once for each instruction set; nothing else includes it.
 *
 * Both keep a tile of the result in registers, a few rows by up to PANEL_VECTORS vectors, while the
 * sum runs: a step loads the vectors of one row of b and multiplies each by a number of each row of
 * a. Each number of a result has its own lane and a sequential sum of fused multiply-adds, so it
 * does not depend on how rows and columns are cut. Vectors at the right edge are loaded and stored
 * in part. */
enum { NATIVE = (int)VECTOR_BYTES == (int)ISA_BYTES }; /* a vector is one register */
enum { PANEL_VECTORS = (int)ISA_BYTES == 64 ? 4 : NATIVE ? 2 : 1 };
enum { TILE_ROWS = 6, TILE_ROWS_MOST = 10 };

/* Rows of a tile of rows_product: enough sums to keep the multipliers busy, as far as registers go.
 */
INLINE int tile_rows(int vectors)
{
    return !NATIVE || vectors == PANEL_VECTORS ? TILE_ROWS : vectors == 1 ? TILE_ROWS_MOST : 8;
}

/* Copies n numbers, fewer than LANES. */
INLINE void part_copy(real *to, const real *from, int64_t n)
{
    int64_t at = 0;
    for (int64_t piece = LANES / 2; piece > 0; piece /= 2)
        if (n & piece) {
            memcpy(to + at, from + at, (size_t)piece * sizeof *to);
            at += piece;
        }
}

#if defined __AVX512F__
/* The first n lanes, 0 <= n < LANES. */
INLINE unsigned lanes_mask(int64_t n)
{
    return (1u << n) - 1;
}

INLINE vec mask_load(const real *p, int64_t n)
{
#ifdef BACKPROP_DOUBLE
    return (vec)_mm512_maskz_loadu_pd((__mmask8)lanes_mask(n), p);
#else
    return (vec)_mm512_maskz_loadu_ps((__mmask16)lanes_mask(n), p);
#endif
}

INLINE void mask_store(real *p, const vec *v, int64_t n)
{
#ifdef BACKPROP_DOUBLE
    _mm512_mask_storeu_pd(p, (__mmask8)lanes_mask(n), (__m512d)*v);
#else
    _mm512_mask_storeu_ps(p, (__mmask16)lanes_mask(n), (__m512)*v);
#endif
}
#endif

/* Numbers [0, n) of a vector, where n may be more than its lanes; zeros behind. */
INLINE vec part_load(const real *p, int64_t n)
{
    if (n >= LANES)
        return vec_load(p);
#if defined __AVX512F__
    return mask_load(p, n);
#endif
    real lane[LANES] = {0};
    part_copy(lane, p, n);
    return vec_load(lane);
}

INLINE void part_store(real *p, const vec *v, int64_t n)
{
    if (n >= LANES) {
        memcpy(p, v, sizeof *v);
        return;
    }
#if defined __AVX512F__
    mask_store(p, v, n);
    return;
#endif
    real lane[LANES];
    memcpy(lane, v, sizeof lane);
    part_copy(p, lane, n);
}

/* ---- rows_product ---------------------------------------------------------------------------- */

INLINE real *product_row(const struct rows_product *p, int64_t i)
{
    return p->y + (p->to ? p->to[i] : i) * p->ldy;
}

/* What the sums begin with: y, the bias or zero. */
INLINE void product_begin(const struct rows_product *p, int rows, int vectors, int64_t i, int64_t j,
                          vec acc[][PANEL_VECTORS])
{
    for (int v = 0; v < vectors; v++) {
        const int64_t at = j + v * LANES, left = p->cols - at;
        const vec bias = p->bias ? part_load(p->bias + at, left) : (vec){0};
        for (int r = 0; r < rows; r++) {
            const int64_t row = i + r < p->rows ? i + r : p->rows - 1;
            acc[r][v] = p->add ? part_load(product_row(p, row) + at, left) : bias;
        }
    }
}

/* The part of b that is used after that of column j: of the next panel, or behind in this one. */
INLINE const real *product_next(const struct rows_product *p, int vectors, int64_t j)
{
    const int64_t next = j + PANEL_VECTORS * LANES, length = p->runs * p->length;
    if (next < p->cols)
        return p->packed + next * p->k + p->first * vectors * LANES;
    return p->packed + j * p->k + (p->first + length) * vectors * LANES;
}

/* `rows` rows from i, those of them that there are, and `vectors` vectors from column j. Meanwhile
 * it asks for `ahead` vectors of each row of what is used next, to be in the second cache in time:
 * all, or another one than the tile before. */
INLINE void product_tile(const struct rows_product *p, int rows, int vectors, int ahead, int64_t i,
                         int64_t j)
{
    const real *next = product_next(p, vectors, j);
    if (ahead < vectors)
        next += i / TILE_ROWS % vectors * LANES;
    vec acc[TILE_ROWS_MOST][PANEL_VECTORS], bv[PANEL_VECTORS];
    const real *b = p->packed + j * p->k + p->first * vectors * LANES, *a[TILE_ROWS_MOST];
    for (int r = 0; r < rows; r++)
        a[r] = p->row[i + r < p->rows ? i + r : p->rows - 1];
    product_begin(p, rows, vectors, i, j, acc);
    for (int64_t run = 0; run < p->runs; run++) {
        const int64_t end = p->offset[run] + p->length;
        for (int64_t q = p->offset[run]; q < end; q++, b += vectors * LANES) {
            for (int v = 0; v < ahead; v++)
                __builtin_prefetch(next + v * LANES, 0, 2);
            next += vectors * LANES;
            for (int v = 0; v < vectors; v++)
                bv[v] = vec_load(b + v * LANES);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++)
                    acc[r][v] += a[r][q] * bv[v];
        }
    }
    for (int r = 0; r < rows && i + r < p->rows; r++)
        for (int v = 0; v < vectors; v++)
            part_store(product_row(p, i + r) + j + v * LANES, &acc[r][v], p->cols - j - v * LANES);
}

/* The last rows go in the smallest tile that holds them. What is far is asked for by the first
 * tile, all of it: with few rows, later would be too late. So do the last, which may be the first.
 */
INLINE void product_panel(const struct rows_product *p, int vectors, bool far, int64_t j)
{
    const int rows = tile_rows(vectors), ahead = far ? vectors : 1;
    int64_t i = 0;
    if (far && p->rows >= rows) {
        product_tile(p, rows, vectors, ahead, 0, j);
        i = rows;
    }
    for (; i + rows <= p->rows; i += rows)
        product_tile(p, rows, vectors, 1, i, j);
    const int64_t left = p->rows - i;
    if (left > TILE_ROWS)
        product_tile(p, rows, vectors, ahead, i, j);
    else if (left > 4)
        product_tile(p, TILE_ROWS, vectors, ahead, i, j);
    else if (left > 2)
        product_tile(p, 4, vectors, ahead, i, j);
    else if (left == 2)
        product_tile(p, 2, vectors, ahead, i, j);
    else if (left == 1)
        product_tile(p, 1, vectors, ahead, i, j);
}

/* A part of b is used for all rows while it lies in the nearest cache. */
static void rows_product(const struct rows_product *p)
{
    for (int64_t j = 0; j < p->cols; j += PANEL_VECTORS * LANES) {
        const int64_t vectors = (p->cols - j + LANES - 1) / LANES;
        if (vectors >= PANEL_VECTORS && p->far)
            product_panel(p, PANEL_VECTORS, true, j);
        else if (vectors >= PANEL_VECTORS)
            product_panel(p, PANEL_VECTORS, false, j);
        else if (PANEL_VECTORS > 3 && vectors == 3)
            product_panel(p, 3 < PANEL_VECTORS ? 3 : 1, false, j);
        else if (PANEL_VECTORS > 2 && vectors == 2)
            product_panel(p, 2 < PANEL_VECTORS ? 2 : 1, false, j);
        else
            product_panel(p, 1, false, j);
    }
}

/* ---- outer_product --------------------------------------------------------------------------- */

enum { SHORT_ROWS_MOST = 30 };

/* So many sums are kept in registers only when their loops are unrolled, which compilers think too
 * much. */
#ifdef __clang__
#define UNROLL_ROWS _Pragma("unroll")
#else
#define UNROLL_ROWS _Pragma("GCC unroll 30")
#endif

/* `runs` * `length` rows from i, and `vectors` vectors from column j. The numbers of run k follow
 * each other from at[k]. */
INLINE void outer_tile(const struct outer_product *p, int runs, int length, int vectors, int64_t i,
                       int64_t j, const int64_t *at)
{
    const int rows = runs * length;
    vec acc[SHORT_ROWS_MOST][PANEL_VECTORS], bv[PANEL_VECTORS];
    UNROLL_ROWS
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            acc[r][v] = (vec){0};
    const real *b = p->b + j;
    for (int64_t q = 0; q < p->pixels; q++, b += p->step) {
        const real *a[SHORT_ROWS_MOST];
        UNROLL_ROWS
        for (int k = 0; k < runs; k++)
            a[k] = p->row[q] + at[k];
        for (int v = 0; v < vectors; v++)
            bv[v] = vec_load(b + v * LANES);
        UNROLL_ROWS
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                acc[r][v] += a[r / length][r % length] * bv[v];
    }
    UNROLL_ROWS
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            const int64_t n = p->cols - j - v * LANES;
            real *c = p->c + (i + r) * p->ldc + j + v * LANES;
            if (p->add)
                acc[r][v] += part_load(c, n);
            part_store(c, &acc[r][v], n);
        }
}

/* Rows [i, end), whose row r lies at offset + r: tiles of `rows` rows while they fit. */
INLINE int64_t outer_tiles(const struct outer_product *p, int rows, int vectors, int64_t i,
                           int64_t end, int64_t offset, int64_t j)
{
    for (; i + rows <= end; i += rows) {
        const int64_t at = offset + i;
        outer_tile(p, 1, rows, vectors, i, j, &at);
    }
    return i;
}

/* Run by run. With 16 registers compilers do not keep a tile of 6 rows in them here. */
INLINE void outer_panel(const struct outer_product *p, int vectors, int64_t j)
{
    const int most = ISA_BYTES < 64 && vectors == PANEL_VECTORS ? 5 : tile_rows(vectors);
    const int64_t length = p->runs ? p->length : p->rows;
    for (int64_t begin = 0; begin < p->rows; begin += length) {
        const int64_t offset = p->offset + (p->runs ? p->runs[begin / length] : 0) - begin;
        const int64_t end = begin + length;
        int64_t i = outer_tiles(p, most, vectors, begin, end, offset, j);
        i = outer_tiles(p, 5, vectors, i, end, offset, j);
        i = outer_tiles(p, 3, vectors, i, end, offset, j);
        i = outer_tiles(p, 2, vectors, i, end, offset, j);
        outer_tiles(p, 1, vectors, i, end, offset, j);
    }
}

/* Tiles of `runs` whole runs of `length` rows, from row i. */
INLINE int64_t outer_runs(const struct outer_product *p, int runs, int length, int64_t i, int64_t j)
{
    int64_t at[SHORT_ROWS_MOST];
    for (; p->length == length && i + runs * length <= p->rows; i += runs * length) {
        for (int k = 0; k < runs; k++)
            at[k] = p->offset + p->runs[i / length + k];
        outer_tile(p, runs, length, 1, i, j, at);
    }
    return i;
}

/* `rows` rows of any runs. */
INLINE int64_t outer_rows(const struct outer_product *p, int rows, int64_t i, int64_t j)
{
    int64_t at[SHORT_ROWS_MOST];
    for (; i + rows <= p->rows; i += rows) {
        for (int r = 0; r < rows; r++)
            at[r] = p->offset + p->runs[(i + r) / p->length] + (i + r) % p->length;
        outer_tile(p, rows, 1, 1, i, j, at);
    }
    return i;
}

/* Runs too short for tiles of their own: those of kernels of 5 x 5 and 3 x 3, of one pixel or two
 * beside each other (conv_weight.c), as far as there are registers; and what is left. */
static __attribute__((noinline)) void outer_short(const struct outer_product *p, int64_t j)
{
    int64_t i = 0;
    if ((int)ISA_BYTES == 64 && NATIVE) {
        i = outer_runs(p, 5, 6, i, j);
        i = outer_runs(p, 5, 5, i, j);
        i = outer_runs(p, 3, 9, i, j);
        i = outer_runs(p, 3, 4, i, j);
    }
    i = outer_runs(p, 3, 3, i, j);
    i = outer_rows(p, 9, i, j);
    i = outer_rows(p, 5, i, j);
    i = outer_rows(p, 2, i, j);
    outer_rows(p, 1, i, j);
}

static void outer_product(const struct outer_product *p)
{
    for (int64_t j = 0; j < p->cols; j += PANEL_VECTORS * LANES) {
        const int64_t vectors = (p->cols - j + LANES - 1) / LANES;
        if (vectors >= PANEL_VECTORS && PANEL_VECTORS > 1)
            outer_panel(p, PANEL_VECTORS, j);
        else if (PANEL_VECTORS > 3 && vectors == 3)
            outer_panel(p, 3 < PANEL_VECTORS ? 3 : 1, j);
        else if (PANEL_VECTORS > 2 && vectors == 2)
            outer_panel(p, 2 < PANEL_VECTORS ? 2 : 1, j);
        else if (p->runs && p->length < TILE_ROWS_MOST)
            outer_short(p, j);
        else
            outer_panel(p, 1, j);
    }
}
