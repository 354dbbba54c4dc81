/* image_resize.c: bilinear resizing with antialias, with the bits of Pillow's resize(BILINEAR).
 *
 * Each output pixel is a weighted mean of the input pixels under a triangle. When enlarging, the
 * triangle is 2 input pixels wide; when reducing, 2 output pixels, so that every input pixel
 * counts. The two axes are separable. Weights are integers of 22 fractional bits that sum to about
 * 1, and each axis is rounded to 8 bits: columns first, then rows, as Pillow does.
 *
 * Rows of the input are taken one at a time: a row is reduced to the output's columns and added to
 * the sums of the output rows that it belongs to. So the memory is that of the output, however tall
 * the input is. */
#include "image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRACTION = 22, HALF = 1 << (FRACTION - 1) };

/* The weights of one axis: output i takes n[i] inputs from first[i] on. */
struct taps {
    int *first, *n;
    int32_t *weight; /* [count][width] */
    int width;
};

static void taps_free(struct taps *t)
{
    free(t->first);
    free(t->weight);
}

/* One output: returns the sum of the weights, which it leaves in w. */
static double triangle(double center, double scale, int first, int n, double *w)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double far = fabs((first + i - center + 0.5) * (1 / scale));
        w[i] = far < 1 ? 1 - far : 0;
        sum += w[i];
    }
    return sum;
}

static void taps_fill(struct taps *t, int in, const struct image_axis *a, double *w)
{
    double step = (double)in / a->full, scale = step > 1 ? step : 1;
    for (int i = 0; i < a->count; i++) {
        double center = (a->begin + i + 0.5) * step;
        int first = (int)(center - scale + 0.5), end = (int)(center + scale + 0.5);
        first = first < 0 ? 0 : first;
        end = end > in ? in : end;
        double sum = triangle(center, scale, first, end - first, w);
        t->first[i] = first;
        t->n[i] = end - first;
        for (int k = 0; k < end - first; k++)
            t->weight[(size_t)i * (size_t)t->width + (size_t)k] =
                (int32_t)(0.5 + (sum > 0 ? w[k] / sum : 0) * (1 << FRACTION));
    }
}

static int taps_make(struct taps *t, int in, const struct image_axis *a, struct error *e)
{
    double step = (double)in / a->full;
    t->width = (int)ceil(step > 1 ? step : 1) * 2 + 1;
    size_t count = (size_t)a->count, weights;
    double *w = malloc((size_t)t->width * sizeof *w);
    t->first = calloc(count, 2 * sizeof *t->first);
    t->weight = __builtin_mul_overflow(count, (size_t)t->width, &weights)
                    ? NULL
                    : calloc(weights, sizeof *t->weight);
    if (w && t->first && t->weight) {
        t->n = t->first + count;
        taps_fill(t, in, a, w);
        free(w);
        return 0;
    }
    free(w);
    return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for resizing an image");
}

/* ---- passes ---------------------------------------------------------------------------------- */

static unsigned char round_pixel(int32_t sum)
{
    int32_t v = sum >> FRACTION;
    return (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* One row of the input, made as narrow or wide as the output. */
static void reduce_row_3(const unsigned char *row, ptrdiff_t step, const struct taps *t, int count,
                         unsigned char *out)
{
    for (int i = 0; i < count; i++, out += 3) {
        const unsigned char *p = row + t->first[i] * step;
        const int32_t *w = t->weight + (size_t)i * (size_t)t->width;
        int32_t r = HALF, g = HALF, b = HALF;
        for (int k = 0; k < t->n[i]; k++, p += step) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
        }
        out[0] = round_pixel(r);
        out[1] = round_pixel(g);
        out[2] = round_pixel(b);
    }
}

static void reduce_row_1(const unsigned char *row, ptrdiff_t step, const struct taps *t, int count,
                         unsigned char *out)
{
    for (int i = 0; i < count; i++) {
        const unsigned char *p = row + t->first[i] * step;
        const int32_t *w = t->weight + (size_t)i * (size_t)t->width;
        int32_t sum = HALF;
        for (int k = 0; k < t->n[i]; k++, p += step)
            sum += *p * w[k];
        out[i] = round_pixel(sum);
    }
}

static void add_row(const unsigned char *row, int32_t weight, size_t n, int32_t *restrict sums)
{
    for (size_t i = 0; i < n; i++)
        sums[i] += row[i] * weight;
}

/* `row` has room for one row of the output, `sums` for all. */
static void resize_rows(const struct image *im, const struct taps *tx, const struct taps *ty,
                        int columns, int rows, unsigned char *row, int32_t *sums)
{
    size_t n = (size_t)columns * (size_t)im->channels;
    int end = ty->first[rows - 1] + ty->n[rows - 1];
    for (int y = ty->first[0], low = 0; y < end; y++) {
        while (ty->first[low] + ty->n[low] <= y)
            low++; /* this one is complete */
        (im->channels == 3 ? reduce_row_3 : reduce_row_1)(image_at(im, 0, y), im->step_x, tx,
                                                          columns, row);
        for (int i = low; i < rows && ty->first[i] <= y; i++)
            add_row(row, ty->weight[(size_t)i * (size_t)ty->width + (size_t)(y - ty->first[i])], n,
                    sums + (size_t)i * n);
    }
}

int image_resize(const struct image *im, const struct image_axis *x, const struct image_axis *y,
                 unsigned char *out, struct error *e)
{
    struct taps tx = {0}, ty = {0};
    size_t row_size = (size_t)x->count * (size_t)im->channels, n = row_size * (size_t)y->count;
    unsigned char *row = malloc(row_size);
    int32_t *sums = malloc(n * sizeof *sums);
    int failed = !row || !sums
                     ? error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for resizing an image")
                     : taps_make(&tx, im->width, x, e) || taps_make(&ty, im->height, y, e);
    if (!failed) {
        for (size_t i = 0; i < n; i++)
            sums[i] = HALF;
        resize_rows(im, &tx, &ty, x->count, y->count, row, sums);
        for (size_t i = 0; i < n; i++)
            out[i] = round_pixel(sums[i]);
    }
    taps_free(&tx);
    taps_free(&ty);
    free(row);
    free(sums);
    return failed ? -1 : 0;
}
