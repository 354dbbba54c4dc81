/* kernels_products.h: rows_product and outer_product of kernels.h. Part of kernels_simd.c, which
 * includes it once for each instruction set; nothing else does.
 *
 * Both keep a tile of the result in registers, TILE_ROWS rows by up to PANEL_VECTORS vectors, while
 * the sum runs: a step loads the vectors of one row of b and multiplies each by TILE_ROWS numbers
 * of a. Each number of a result has its own lane and a sequential sum of fused multiply-adds, so it
 * does not depend on how rows and columns are cut. Vectors at the right edge are loaded and stored
 * in part. */
#if defined __AVX512F__
enum { PANEL_VECTORS = 4 };
#else
enum { PANEL_VECTORS = 2 };
#endif
enum { TILE_ROWS = 6 };

/* Numbers [0, n) of a vector, where n may be more than its lanes; zeros behind. */
INLINE vec part_load(const real *p, int64_t n)
{
    if (n >= LANES)
        return vec_load(p);
    vec v = {0};
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}

INLINE void part_store(real *p, const vec *v, int64_t n)
{
    if (n >= LANES) {
        memcpy(p, v, sizeof *v);
        return;
    }
    real lane[LANES];
    memcpy(lane, v, sizeof lane);
    for (int64_t i = 0; i < n; i++)
        p[i] = lane[i];
}

/* ---- rows_product ---------------------------------------------------------------------------- */

/* What the sums begin with: y, or the bias. */
INLINE void product_begin(const struct rows_product *p, int vectors, int64_t i, int64_t j,
                          vec acc[][PANEL_VECTORS])
{
    for (int r = 0; r < TILE_ROWS; r++)
        for (int v = 0; v < vectors; v++) {
            const int64_t at = j + v * LANES, row = i + r < p->rows ? i + r : p->rows - 1;
            acc[r][v] = p->add    ? part_load(p->y + row * p->ldy + at, p->cols - at)
                        : p->bias ? part_load(p->bias + at, p->cols - at)
                                  : (vec){0};
        }
}

/* Rows [i, i + TILE_ROWS), those of them that there are, and `vectors` vectors from column j. */
INLINE void product_tile(const struct rows_product *p, int vectors, int64_t i, int64_t j)
{
    vec acc[TILE_ROWS][PANEL_VECTORS], bv[PANEL_VECTORS];
    const real *b = p->packed + j * p->k + p->first * vectors * LANES;
    product_begin(p, vectors, i, j, acc);
    for (int64_t run = 0; run < p->runs; run++) {
        const real *a[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++)
            a[r] = p->row[i + r < p->rows ? i + r : p->rows - 1] + p->offset[run];
        for (int64_t q = 0; q < p->length; q++, b += vectors * LANES) {
            for (int v = 0; v < vectors; v++)
                bv[v] = vec_load(b + v * LANES);
            for (int r = 0; r < TILE_ROWS; r++)
                for (int v = 0; v < vectors; v++)
                    acc[r][v] += a[r][q] * bv[v];
        }
    }
    for (int r = 0; r < TILE_ROWS && i + r < p->rows; r++)
        for (int v = 0; v < vectors; v++)
            part_store(p->y + (i + r) * p->ldy + j + v * LANES, &acc[r][v],
                       p->cols - j - v * LANES);
}

INLINE void product_panel(const struct rows_product *p, int vectors, int64_t j)
{
    for (int64_t i = 0; i < p->rows; i += TILE_ROWS)
        product_tile(p, vectors, i, j);
}

/* A part of b is used for all rows while it lies in the nearest cache. */
static void rows_product(const struct rows_product *p)
{
    for (int64_t j = 0; j < p->cols; j += PANEL_VECTORS * LANES) {
        const int64_t vectors = (p->cols - j + LANES - 1) / LANES;
        if (vectors >= PANEL_VECTORS)
            product_panel(p, PANEL_VECTORS, j);
        else if (PANEL_VECTORS > 3 && vectors == 3)
            product_panel(p, 3 < PANEL_VECTORS ? 3 : 1, j);
        else if (PANEL_VECTORS > 2 && vectors == 2)
            product_panel(p, 2 < PANEL_VECTORS ? 2 : 1, j);
        else
            product_panel(p, 1, j);
    }
}

/* ---- outer_product --------------------------------------------------------------------------- */

/* `rows` rows from i, and `vectors` vectors from column j. */
INLINE void outer_tile(const struct outer_product *p, int rows, int vectors, int64_t i, int64_t j)
{
    vec acc[TILE_ROWS][PANEL_VECTORS], bv[PANEL_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            acc[r][v] = (vec){0};
    for (int64_t l = 0; l < p->lines; l++) {
        const real *a = p->a + l * p->a_line + i, *b = p->b + l * p->b_line + j;
        for (int64_t x = 0; x < p->pixels; x++, a += p->a_step, b += p->b_step) {
            for (int v = 0; v < vectors; v++)
                bv[v] = vec_load(b + v * LANES);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++)
                    acc[r][v] += a[r] * bv[v];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            const int64_t n = p->cols - j - v * LANES;
            real *c = p->c + (i + r) * p->ldc + j + v * LANES;
            if (p->add)
                acc[r][v] += part_load(c, n);
            part_store(c, &acc[r][v], n);
        }
}

INLINE void outer_panel(const struct outer_product *p, int vectors, int64_t j)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= p->rows; i += TILE_ROWS)
        outer_tile(p, TILE_ROWS, vectors, i, j);
    for (; i + 2 <= p->rows; i += 2)
        outer_tile(p, 2, vectors, i, j);
    if (i < p->rows)
        outer_tile(p, 1, vectors, i, j);
}

static void outer_product(const struct outer_product *p)
{
    for (int64_t j = 0; j < p->cols; j += PANEL_VECTORS * LANES) {
        const int64_t vectors = (p->cols - j + LANES - 1) / LANES;
        if (vectors >= PANEL_VECTORS)
            outer_panel(p, PANEL_VECTORS, j);
        else if (PANEL_VECTORS > 3 && vectors == 3)
            outer_panel(p, 3 < PANEL_VECTORS ? 3 : 1, j);
        else if (PANEL_VECTORS > 2 && vectors == 2)
            outer_panel(p, 2 < PANEL_VECTORS ? 2 : 1, j);
        else
            outer_panel(p, 1, j);
    }
}
