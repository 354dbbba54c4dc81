/* pooling_max.c: max_pool2d. Forward keeps the place of each maximum in its image (y * w + x, as
 * int32), where backward adds. The first of equals wins, and a NaN wins over all numbers, as in
 * PyTorch. */
#include "pooling.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

void max_pool_memory(struct node *n)
{
    n->saved = n->size; /* an int32 has room in a real */
}

static inline void take_larger(real *restrict y, int32_t *restrict place, const real *restrict x,
                               int32_t pixel, int64_t c)
{
    for (int64_t i = 0; i < c; i++) {
        bool larger = (x[i] > y[i]) | (x[i] != x[i]);
        y[i] = larger ? x[i] : y[i];
        place[i] = larger ? pixel : place[i];
    }
}

/* A window of nothing but padding (dilation can make one) gives -infinity and place -1. */
static void max_pixel(const struct pooling *p, const struct cell *cell, const real *x, real *y,
                      int32_t *place)
{
    const int64_t c = p->in.c;
    bool empty = cell->down.begin == cell->down.end || cell->across.begin == cell->across.end;
    int32_t first =
        empty ? -1 : (int32_t)pooling_pixel(p, cell, cell->down.begin, cell->across.begin);
    for (int64_t i = 0; i < c; i++) {
        y[i] = -(real)INFINITY;
        place[i] = first;
    }
    for (int64_t ky = cell->down.begin; ky < cell->down.end; ky++)
        for (int64_t kx = cell->across.begin; kx < cell->across.end; kx++) {
            int64_t pixel = pooling_pixel(p, cell, ky, kx);
            take_larger(y, place, x + pixel * c, (int32_t)pixel, c);
        }
}

static void max_pool_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct pooling *p = arg;
    const int64_t pixels = p->out.h * p->out.w, image = p->in.h * p->in.w * p->in.c;
    int32_t *places = (int32_t *)run_saved(p->r, p->n);
    for (int64_t q = begin; q < end; q++) {
        struct cell cell = p->cell(p, q % pixels / p->out.w, q % p->out.w);
        max_pixel(p, &cell, run_in(p->r, p->n, 0) + q / pixels * image,
                  run_value(p->r, p->n) + q * p->in.c, places + q * p->in.c);
    }
}

void max_pool_forward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, pooling_window_cell);
    pooling_each_pixel(&p, max_pool_range);
}

void adaptive_max_pool_forward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, adaptive_cell);
    pooling_each_pixel(&p, max_pool_range);
}

static void max_pool_backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct pooling *p = arg;
    const int64_t c = p->in.c, pixels = p->out.h * p->out.w, image = p->in.h * p->in.w * c;
    const int32_t *places = (const int32_t *)run_saved(p->r, p->n);
    const real *dy = run_grad(p->r, p->n);
    for (int64_t n = begin; n < end; n++) {
        real *dx = run_grad_in(p->r, p->n, 0) + n * image;
        memset(dx, 0, (size_t)image * sizeof *dx);
        for (int64_t q = n * pixels; q < (n + 1) * pixels; q++)
            for (int64_t i = 0; i < c; i++) {
                int32_t place = places[q * c + i];
                if (place >= 0)
                    dx[place * c + i] += dy[q * c + i];
            }
    }
}

void max_pool_backward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, pooling_window_cell);
    if (run_grad_in(r, n, 0))
        run_for(r, p.in.n, 1, max_pool_backward_range, &p);
}

/* The places say it all: the cells need not be known. */
void adaptive_max_pool_backward(const struct node *n, struct run *r)
{
    max_pool_backward(n, r);
}
