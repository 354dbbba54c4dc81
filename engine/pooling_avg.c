/* pooling_avg.c: avg_pool2d and adaptive_avg_pool2d, which differ in where the windows of an output
 * pixel begin and end. Means are summed in double. */
#include "pooling.h"

#include <string.h>

/* Output i of `out` covers the input from floor(i in / out) to ceil((i + 1) in / out). */
struct cell adaptive_cell(const struct pooling *p, int64_t oy, int64_t ox)
{
    const struct image *in = &p->in, *out = &p->out;
    struct cell c = {.y = oy * in->h / out->h, .x = ox * in->w / out->w};
    c.down.end = ((oy + 1) * in->h + out->h - 1) / out->h - c.y;
    c.across.end = ((ox + 1) * in->w + out->w - 1) / out->w - c.x;
    c.count = (double)(c.down.end * c.across.end);
    return c;
}

void avg_pool_memory(struct node *n)
{
    n->scratch = n->shape.dim[1] * (int64_t)(sizeof(double) / sizeof(real)); /* double [c] */
}

static inline void add_row(double *restrict sum, const real *restrict x, int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        sum[i] += (double)x[i];
}

static void avg_pixel(const struct pooling *p, const struct cell *cell, const real *x, double *sum,
                      real *y)
{
    const int64_t c = p->in.c;
    memset(sum, 0, (size_t)c * sizeof *sum);
    for (int64_t ky = cell->down.begin; ky < cell->down.end; ky++)
        for (int64_t kx = cell->across.begin; kx < cell->across.end; kx++)
            add_row(sum, x + pooling_pixel(p, cell, ky, kx) * c, c);
    double scale = cell->count > 0 ? 1 / cell->count : 0;
    for (int64_t i = 0; i < c; i++)
        y[i] = (real)(sum[i] * scale);
}

static void avg_pool_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct pooling *p = arg;
    const int64_t pixels = p->out.h * p->out.w, image = p->in.h * p->in.w * p->in.c;
    double *sum = (double *)run_scratch(p->r, worker);
    for (int64_t q = begin; q < end; q++) {
        struct cell cell = p->cell(p, q % pixels / p->out.w, q % p->out.w);
        avg_pixel(p, &cell, run_in(p->r, p->n, 0) + q / pixels * image, sum,
                  run_value(p->r, p->n) + q * p->in.c);
    }
}

static inline void add_scaled(real *restrict dx, const real *restrict dy, real scale, int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        dx[i] += dy[i] * scale;
}

static void avg_pixel_backward(const struct pooling *p, const struct cell *cell, const real *dy,
                               real *dx)
{
    const int64_t c = p->in.c;
    const real scale = (real)(cell->count > 0 ? 1 / cell->count : 0);
    for (int64_t ky = cell->down.begin; ky < cell->down.end; ky++)
        for (int64_t kx = cell->across.begin; kx < cell->across.end; kx++)
            add_scaled(dx + pooling_pixel(p, cell, ky, kx) * c, dy, scale, c);
}

static void avg_pool_backward_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct pooling *p = arg;
    const int64_t c = p->in.c, pixels = p->out.h * p->out.w, image = p->in.h * p->in.w * c;
    for (int64_t n = begin; n < end; n++) {
        const real *dy = run_grad(p->r, p->n) + n * pixels * c;
        real *dx = run_grad_in(p->r, p->n, 0) + n * image;
        memset(dx, 0, (size_t)image * sizeof *dx);
        for (int64_t q = 0; q < pixels; q++) {
            struct cell cell = p->cell(p, q / p->out.w, q % p->out.w);
            avg_pixel_backward(p, &cell, dy + q * c, dx);
        }
    }
}

void avg_pool_forward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, pooling_window_cell);
    pooling_each_pixel(&p, avg_pool_range);
}

void avg_pool_backward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, pooling_window_cell);
    if (run_grad_in(r, n, 0))
        run_for(r, p.in.n, 1, avg_pool_backward_range, &p);
}

void adaptive_avg_pool_forward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, adaptive_cell);
    pooling_each_pixel(&p, avg_pool_range);
}

void adaptive_avg_pool_backward(const struct node *n, struct run *r)
{
    struct pooling p = pooling_of(n, r, adaptive_cell);
    if (run_grad_in(r, n, 0))
        run_for(r, p.in.n, 1, avg_pool_backward_range, &p);
}
