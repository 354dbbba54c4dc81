/* kernels_channels.h: sums for each channel (channels.h), and the rows of batch norm. Part of
 * kernels_simd.c, which is compiled once for each instruction set; nothing else includes it.
 *
 * With channels last, tiles of 16 rows by 16 channels are summed in registers; the functions of a
 * tile are inlined with a constant width, so that they become vector code. Planes (inner > 1) are
 * summed one by one, as columns of width 1. */
enum { SUM_TILE = 16 };

/* What a tile is made of. Those that a sum does not need are NULL. */
struct sum_tile {
    const real *a, *b, *centre; /* [rows][stride], [rows][stride], [width] */
    double *sum, *second;       /* [width] */
    int64_t stride;
};

typedef void sum_tile_fn(const struct sum_tile *t, int64_t rows, int width);

INLINE void add_to(double *sum, const real *part, int width)
{
    for (int j = 0; j < width; j++)
        sum[j] += (double)part[j];
}

INLINE void tile_sum(const struct sum_tile *t, int64_t rows, int width)
{
    real sum[SUM_TILE] = {0};
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < width; j++)
            sum[j] += t->a[i * t->stride + j];
    add_to(t->sum, sum, width);
}

INLINE void tile_squares(const struct sum_tile *t, int64_t rows, int width)
{
    real sum[SUM_TILE] = {0}, squares[SUM_TILE] = {0}, centre[SUM_TILE];
    for (int j = 0; j < width; j++)
        centre[j] = t->centre[j];
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < width; j++) {
            real d = t->a[i * t->stride + j] - centre[j];
            sum[j] += d;
            squares[j] += d * d;
        }
    add_to(t->sum, sum, width);
    add_to(t->second, squares, width);
}

INLINE void tile_dot(const struct sum_tile *t, int64_t rows, int width)
{
    real sum[SUM_TILE] = {0}, dot[SUM_TILE] = {0}, centre[SUM_TILE];
    for (int j = 0; j < width; j++)
        centre[j] = t->centre[j];
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < width; j++) {
            real dy = t->a[i * t->stride + j];
            sum[j] += dy;
            dot[j] += dy * (t->b[i * t->stride + j] - centre[j]);
        }
    add_to(t->sum, sum, width);
    add_to(t->second, dot, width);
}

INLINE const real *moved(const real *p, int64_t by)
{
    return p ? p + by : NULL;
}

INLINE double *moved_double(double *p, int64_t by)
{
    return p ? p + by : NULL;
}

/* The part of `all` that begins at an element of [rows][stride], which is one of channel c. */
INLINE struct sum_tile tile_at(const struct sum_tile *all, int64_t at, int64_t c, int64_t stride)
{
    return (struct sum_tile){.a = all->a + at,
                             .b = moved(all->b, at),
                             .centre = moved(all->centre, c),
                             .sum = all->sum + c,
                             .second = moved_double(all->second, c),
                             .stride = stride};
}

/* All tiles of [rows][c], one band of 16 rows after the other. */
INLINE void each_tile(const struct sum_tile *all, const struct channels *v, sum_tile_fn *f)
{
    for (int64_t i = 0; i < v->rows; i += SUM_TILE) {
        const int64_t height = v->rows - i < SUM_TILE ? v->rows - i : SUM_TILE;
        for (int64_t j = 0; j < v->c; j += SUM_TILE) {
            const struct sum_tile t = tile_at(all, i * v->c + j, j, v->c);
            if (height == SUM_TILE && v->c - j >= SUM_TILE)
                f(&t, SUM_TILE, SUM_TILE);
            else
                f(&t, height, v->c - j < SUM_TILE ? (int)(v->c - j) : SUM_TILE);
        }
    }
}

/* Planes: a plane of `inner` numbers is a column of width 1, SUM_TILE numbers at a time. */
INLINE void each_plane(const struct sum_tile *all, const struct channels *v, sum_tile_fn *f)
{
    for (int64_t plane = 0; plane < v->rows * v->c; plane++)
        for (int64_t i = 0; i < v->inner; i += SUM_TILE) {
            const struct sum_tile t = tile_at(all, plane * v->inner + i, plane % v->c, 1);
            f(&t, v->inner - i < SUM_TILE ? v->inner - i : SUM_TILE, 1);
        }
}

INLINE void each_sum(const struct sum_tile *all, const struct channels *v, sum_tile_fn *f)
{
    if (v->inner == 1)
        each_tile(all, v, f);
    else
        each_plane(all, v, f);
}

/* Of fewer channels than a vector has lanes: whole vectors are loaded while there is something
 * behind, and the lanes behind the last channel do not count. */
static void narrow_sum(const struct channels *v, const real *x, double *sum)
{
    const int64_t all = v->rows * v->c;
    for (int64_t i = 0; i < v->rows; i += SUM_TILE) {
        const int64_t end = v->rows - i < SUM_TILE ? v->rows : i + SUM_TILE;
        vec part = {0};
        for (int64_t at = i * v->c; at < end * v->c; at += v->c)
            part += part_load(x + at, all - at >= LANES ? LANES : v->c);
        real lane[LANES];
        memcpy(lane, &part, sizeof lane);
        add_to(sum, lane, (int)v->c);
    }
}

static void channels_sum_rows(const struct channels *v, const real *x, double *sum)
{
    if (v->inner == 1 && v->c < LANES)
        narrow_sum(v, x, sum);
    else
        each_sum(&(struct sum_tile){.a = x, .sum = sum}, v, tile_sum);
}

static void channels_squares_rows(const struct channels *v, const real *x, const real *centre,
                                  double *sum, double *squares)
{
    each_sum(&(struct sum_tile){.a = x, .centre = centre, .sum = sum, .second = squares}, v,
             tile_squares);
}

static void channels_dot_rows(const struct channels *v, const real *dy, const real *x,
                              const real *centre, double *sum, double *dot)
{
    each_sum(&(struct sum_tile){.a = dy, .b = x, .centre = centre, .sum = sum, .second = dot}, v,
             tile_dot);
}

/* ---- batch norm, channels last --------------------------------------------------------------- */

/* (x - mean) * scale + shift of the vector at c, of which there are `left` numbers. All is loaded
 * first: compilers make a product and a sum one operation, with other bits, only where no branch
 * lies between them, and it has to be so here wherever it is so in dot_tile. */
INLINE vec normalised(const struct norm_rows *p, const vec *x, int64_t c, int64_t left)
{
    const vec mean = part_load(p->mean + c, left), scale = part_load(p->scale + c, left);
    const vec shift = part_load(p->shift + c, left);
    return (*x - mean) * scale + shift;
}

/* What is left of a gradient: all, what goes through a relu by the y that is kept or by the y that
 * follows from x, its product with silu's slope there. As relu's own: of y <= 0 nothing, and a NaN
 * lets through. */
enum mask { MASK_NONE, MASK_KEPT, MASK_AGAIN, MASK_SILU };

/* Rows [row, row + rows), at most SUM_TILE, of the vector at c. */
INLINE void dot_tile(const struct norm_rows *p, int64_t row, int64_t rows, int64_t c, int64_t left,
                     enum mask mask, double *sum, double *dot)
{
    const vec mean = part_load(p->mean + c, left);
    const vec scale = part_load(p->scale + c, left), shift = part_load(p->shift + c, left);
    vec s = {0}, d = {0};
    for (int64_t at = row * p->c + c; rows > 0; rows--, at += p->c) {
        const vec off = part_load(p->x + at, left) - mean;
        vec dy = part_load(p->dy + at, left);
        if (mask != MASK_NONE) {
            const vec y = mask == MASK_KEPT ? part_load(p->kept + at, left) : off * scale + shift;
            dy = mask == MASK_SILU ? dy * vec_silu_slope(&y) : let_through(&dy, &y);
        }
        if ((mask == MASK_KEPT || mask == MASK_SILU) && p->masked)
            part_store(p->masked + at, &dy, left);
        s += dy;
        d += dy * off;
    }
    real lane[LANES];
    memcpy(lane, &s, sizeof lane);
    add_to(sum + c, lane, (int)left);
    memcpy(lane, &d, sizeof lane);
    add_to(dot + c, lane, (int)left);
}

INLINE void dot_rows(const struct norm_rows *p, enum mask mask, double *sum, double *dot)
{
    for (int64_t row = 0; row < p->rows; row += SUM_TILE) {
        const int64_t rows = p->rows - row < SUM_TILE ? p->rows - row : SUM_TILE;
        int64_t c = 0;
        for (; c + LANES <= p->c; c += LANES)
            dot_tile(p, row, rows, c, LANES, mask, sum, dot);
        if (c < p->c)
            dot_tile(p, row, rows, c, p->c - c, mask, sum, dot);
    }
}

static void norm_dot(const struct norm_rows *p, double *sum, double *dot)
{
    if (p->activation == ACTIVATION_NONE)
        dot_rows(p, MASK_NONE, sum, dot);
    else if (p->activation == ACTIVATION_SILU)
        dot_rows(p, MASK_SILU, sum, dot);
    else if (p->kept)
        dot_rows(p, MASK_KEPT, sum, dot);
    else
        dot_rows(p, MASK_AGAIN, sum, dot);
}

INLINE void apply_vector(const struct norm_rows *p, int64_t at, int64_t c, int64_t left,
                         enum activation activation, bool residual)
{
    const vec x = part_load(p->x + at, left);
    vec y = normalised(p, &x, c, left);
    if (residual)
        y += part_load(p->residual + at, left);
    if (activation == ACTIVATION_RELU)
        y = let_through(&y, &y);
    else if (activation == ACTIVATION_SILU)
        y = vec_silu(&y);
    part_store(p->y + at, &y, left);
}

INLINE void apply_rows(const struct norm_rows *p, enum activation activation, bool residual)
{
    for (int64_t row = 0; row < p->rows; row++) {
        const int64_t at = row * p->c;
        int64_t c = 0;
        for (; c + LANES <= p->c; c += LANES)
            apply_vector(p, at + c, c, LANES, activation, residual);
        if (c < p->c)
            apply_vector(p, at + c, c, p->c - c, activation, residual);
    }
}

static void norm_apply(const struct norm_rows *p)
{
    const bool relu = p->activation == ACTIVATION_RELU;
    if (p->activation == ACTIVATION_SILU)
        apply_rows(p, ACTIVATION_SILU, false);
    else if (p->residual && relu)
        apply_rows(p, ACTIVATION_RELU, true);
    else if (relu)
        apply_rows(p, ACTIVATION_RELU, false);
    else if (p->residual)
        apply_rows(p, ACTIVATION_NONE, true);
    else
        apply_rows(p, ACTIVATION_NONE, false);
}

INLINE void gradient_vector(const struct norm_rows *p, int64_t at, int64_t c, int64_t left,
                            bool again)
{
    const vec x = part_load(p->x + at, left);
    vec dy = part_load(p->dy + at, left);
    if (again) {
        const vec y = normalised(p, &x, c, left);
        dy = let_through(&dy, &y);
    }
    const vec dx = (dy - part_load(p->dy_mean + c, left)) * part_load(p->scale + c, left) -
                   (x - part_load(p->mean + c, left)) * part_load(p->slope + c, left);
    part_store(p->dx + at, &dx, left);
}

INLINE void gradient_rows(const struct norm_rows *p, bool again)
{
    for (int64_t row = 0; row < p->rows; row++) {
        const int64_t at = row * p->c;
        int64_t c = 0;
        for (; c + LANES <= p->c; c += LANES)
            gradient_vector(p, at + c, c, LANES, again);
        if (c < p->c)
            gradient_vector(p, at + c, c, p->c - c, again);
    }
}

static void norm_gradient(const struct norm_rows *p)
{
    if (p->activation == ACTIVATION_RELU)
        gradient_rows(p, true);
    else
        gradient_rows(p, false);
}
