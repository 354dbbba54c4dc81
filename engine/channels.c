/* channels.c: sums for each channel. With channels last, tiles of 16 rows by 16 channels are summed
 * in registers; the functions of a tile are inlined with a constant width, so that they become
 * vector code. Planes (inner > 1) are summed one by one. */
#include "channels.h"

enum { TILE = 16 };

#define INLINE static inline __attribute__((always_inline))

/* What a tile is made of. Those that a sum does not need are NULL. */
struct tile {
    const real *a, *b, *centre; /* [rows][stride], [rows][stride], [width] */
    double *sum, *second;       /* [width] */
    int64_t stride;
};

typedef void tile_fn(const struct tile *t, int64_t rows, int width);

INLINE void add_to(double *sum, const real *part, int width)
{
    for (int j = 0; j < width; j++)
        sum[j] += (double)part[j];
}

INLINE void tile_sum(const struct tile *t, int64_t rows, int width)
{
    real sum[TILE] = {0};
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < width; j++)
            sum[j] += t->a[i * t->stride + j];
    add_to(t->sum, sum, width);
}

INLINE void tile_squares(const struct tile *t, int64_t rows, int width)
{
    real sum[TILE] = {0}, squares[TILE] = {0}, centre[TILE];
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

INLINE void tile_dot(const struct tile *t, int64_t rows, int width)
{
    real sum[TILE] = {0}, dot[TILE] = {0}, centre[TILE];
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

/* All tiles of [rows][c], one band of 16 rows after the other. */
INLINE void each_tile(const struct tile *all, int64_t rows, int64_t c, tile_fn *f)
{
    for (int64_t i = 0; i < rows; i += TILE) {
        int64_t height = rows - i < TILE ? rows - i : TILE;
        for (int64_t j = 0; j < c; j += TILE) {
            struct tile t = {all->a + i * c + j,
                             moved(all->b, i * c + j),
                             moved(all->centre, j),
                             all->sum + j,
                             all->second ? all->second + j : NULL,
                             c};
            if (c - j >= TILE)
                f(&t, height, TILE);
            else
                f(&t, height, (int)(c - j));
        }
    }
}

/* Planes: a plane of `inner` numbers is a column of width 1, TILE numbers at a time. */
INLINE void each_plane(const struct tile *all, const struct channels *v, tile_fn *f)
{
    for (int64_t plane = 0; plane < v->rows * v->c; plane++) {
        int64_t c = plane % v->c;
        for (int64_t i = 0; i < v->inner; i += TILE) {
            struct tile t = {all->a + plane * v->inner + i,
                             moved(all->b, plane * v->inner + i),
                             moved(all->centre, c),
                             all->sum + c,
                             all->second ? all->second + c : NULL,
                             1};
            f(&t, v->inner - i < TILE ? v->inner - i : TILE, 1);
        }
    }
}

void channels_sum(const struct channels *v, const real *x, double *sum)
{
    const struct tile all = {x, NULL, NULL, sum, NULL, v->c};
    if (v->inner == 1)
        each_tile(&all, v->rows, v->c, tile_sum);
    else
        each_plane(&all, v, tile_sum);
}

void channels_squares(const struct channels *v, const real *x, const real *centre, double *sum,
                      double *squares)
{
    const struct tile all = {x, NULL, centre, sum, squares, v->c};
    if (v->inner == 1)
        each_tile(&all, v->rows, v->c, tile_squares);
    else
        each_plane(&all, v, tile_squares);
}

void channels_dot(const struct channels *v, const real *dy, const real *x, const real *centre,
                  double *sum, double *dot)
{
    const struct tile all = {dy, x, centre, sum, dot, v->c};
    if (v->inner == 1)
        each_tile(&all, v->rows, v->c, tile_dot);
    else
        each_plane(&all, v, tile_dot);
}
