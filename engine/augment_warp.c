/* augment_warp.c: drawing tiles through a 3x3 matrix. Each output pixel's centre is taken back into
 * the plane; the tile that is seen there is read at that point, between the centres of four of its
 * pixels, beyond its outermost centres as at them. Where no tile is seen, the fill.
 *
 * Matrices that only flip and shift by whole pixels (crops, flips, mosaics alone) copy rows, here.
 * All others are interpolated by augment_blend.c. */
#include "augment.h"

#include <math.h>
#include <string.h>

static const double EPSILON = 1e-9; /* of a pixel */

const double augment_identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};

void augment_matrix_mul(const double a[9], const double b[9], double r[9])
{
    double p[9];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            p[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    memcpy(r, p, sizeof p);
}

/* The adjugate over the determinant: w of a point of the output keeps its sign. */
bool augment_matrix_invert(const double m[9], double r[9])
{
    double cofactor = m[4] * m[8] - m[5] * m[7];
    double det =
        m[0] * cofactor - m[1] * (m[3] * m[8] - m[5] * m[6]) + m[2] * (m[3] * m[7] - m[4] * m[6]);
    if (!(fabs(det) > 1e-12))
        return false;
    const double adjugate[9] = {
        cofactor,
        m[2] * m[7] - m[1] * m[8],
        m[1] * m[5] - m[2] * m[4],
        m[5] * m[6] - m[3] * m[8],
        m[0] * m[8] - m[2] * m[6],
        m[2] * m[3] - m[0] * m[5],
        m[3] * m[7] - m[4] * m[6],
        m[1] * m[6] - m[0] * m[7],
        m[0] * m[4] - m[1] * m[3],
    };
    for (int i = 0; i < 9; i++)
        r[i] = adjugate[i] / det;
    return true;
}

static void fill_pixels(real *out, int64_t n, real value)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = value;
}

static int64_t clamp_index(double x, int64_t max)
{
    return x < 0 ? 0 : x > (double)max ? max : (int64_t)x;
}

/* ---- rows that are copied -------------------------------------------------------------------- */

/* One axis of such a matrix: output pixel i shows pixel sign * i + shift of the tile, for i in
 * [begin, end). */
struct axis {
    int sign;
    int64_t shift, begin, end;
};

/* `size` pixels of output and tile; the tile is seen in [from, to) of its own coordinates. False
 * when the axis does not hit centres of pixels. */
static bool axis_of(double scale, double offset, int64_t size, double from, double to,
                    struct axis *a)
{
    double shift = offset + (scale - 1) / 2, whole = nearbyint(shift);
    if (fabs(fabs(scale) - 1) > EPSILON || fabs(shift - whole) > EPSILON || fabs(whole) > 1e9)
        return false;
    int64_t first = clamp_index(ceil(from - 0.5), size), last = clamp_index(ceil(to - 0.5), size);
    a->sign = scale > 0 ? 1 : -1;
    a->shift = (int64_t)whole;
    a->begin = a->sign > 0 ? first - a->shift : a->shift - last + 1;
    a->end = a->sign > 0 ? last - a->shift : a->shift - first + 1;
    a->begin = a->begin < 0 ? 0 : a->begin;
    a->end = a->end > size ? size : a->end;
    if (a->end < a->begin)
        a->end = a->begin;
    return true;
}

static bool tile_axes(const double inverse[9], const struct augment_tile *t,
                      const struct image *size, struct axis *x, struct axis *y)
{
    const double *m = inverse;
    if (fabs(m[1]) > EPSILON / (double)size->h || fabs(m[3]) > EPSILON / (double)size->w ||
        m[6] != 0 || m[7] != 0)
        return false;
    return axis_of(m[0], m[2] - t->x, size->w, t->left - t->x, t->right - t->x, x) &&
           axis_of(m[4], m[5] - t->y, size->h, t->top - t->y, t->bottom - t->y, y);
}

static void copy_row(const real *from, const struct axis *x, real *out)
{
    int64_t n = x->end - x->begin;
    const real *first = from + (x->sign > 0 ? x->begin + x->shift : x->shift - x->begin);
    if (x->sign > 0)
        memcpy(out + x->begin, first, (size_t)n * sizeof *out);
    else
        for (int64_t i = 0; i < n; i++)
            out[x->begin + i] = first[-i];
}

/* `fill`: also what the tile leaves free. */
static void copy_tile(const struct augment_tile *t, const struct image *size, const struct axis *x,
                      const struct axis *y, const real *fill, real *out)
{
    for (int64_t c = 0; c < size->c; c++)
        for (int64_t i = 0; i < size->h; i++) {
            real *row = out + (c * size->h + i) * size->w;
            bool seen = i >= y->begin && i < y->end && x->end > x->begin;
            if (fill) {
                fill_pixels(row, seen ? x->begin : size->w, *fill);
                fill_pixels(row + x->end, seen ? size->w - x->end : 0, *fill);
            }
            int64_t from = y->sign * i + y->shift;
            if (seen)
                copy_row(t->image + (c * size->h + from) * size->w, x, row);
        }
}

static bool warp_copy(const struct augment_warp *w, const double inverse[9],
                      const struct image *size, real *out)
{
    struct axis x[AUGMENT_TILES], y[AUGMENT_TILES];
    for (int i = 0; i < w->n_tiles; i++)
        if (!tile_axes(inverse, &w->tile[i], size, &x[i], &y[i]))
            return false;
    if (w->n_tiles > 1)
        fill_pixels(out, size->c * size->h * size->w, w->fill);
    for (int i = 0; i < w->n_tiles; i++)
        copy_tile(&w->tile[i], size, &x[i], &y[i], w->n_tiles == 1 ? &w->fill : NULL, out);
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------- */

void augment_warp_draw(const struct augment_warp *w, const struct image *size, real *packed,
                       real *out)
{
    double inverse[9];
    const bool seen = augment_matrix_invert(w->m, inverse);
    if (seen && warp_copy(w, inverse, size, out))
        return;
    fill_pixels(out, size->c * size->h * size->w, w->fill);
    for (int i = 0; seen && i < w->n_tiles; i++)
        augment_blend_tile(&w->tile[i], inverse, size, packed, out);
}
