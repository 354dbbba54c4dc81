/* pooling_max.c: max_pool2d. Forward keeps the place of each maximum in its image (y * w + x, as
 * an integer), where backward adds. The first of equals wins, and a NaN wins over all numbers, as
 * in PyTorch. */
#include "kernels.h"
#include "pooling.h"

#include <math.h>
#include <string.h>

enum { TAPS_MOST = 64 };

void max_pool_memory(struct node *n)
{
    n->saved = n->size; /* a lane_int is as large as a real */
}

static inline void take_larger(real *restrict y, lane_int *restrict place, const real *restrict x,
                               lane_int pixel, int64_t c)
{
    for (int64_t i = 0; i < c; i++) {
        bool larger = (x[i] > y[i]) | (x[i] != x[i]);
        y[i] = larger ? x[i] : y[i];
        place[i] = larger ? pixel : place[i];
    }
}

/* A window of nothing but padding (dilation can make one) gives -infinity and place -1. */
static void max_pixel(const struct pooling *p, const struct cell *cell, const real *x, real *y,
                      lane_int *place)
{
    const int64_t c = p->in.c;
    bool empty = cell->down.begin == cell->down.end || cell->across.begin == cell->across.end;
    lane_int first =
        empty ? -1 : (lane_int)pooling_pixel(p, cell, cell->down.begin, cell->across.begin);
    for (int64_t i = 0; i < c; i++) {
        y[i] = -(real)INFINITY;
        place[i] = first;
    }
    for (int64_t ky = cell->down.begin; ky < cell->down.end; ky++)
        for (int64_t kx = cell->across.begin; kx < cell->across.end; kx++) {
            int64_t pixel = pooling_pixel(p, cell, ky, kx);
            take_larger(y, place, x + pixel * c, (lane_int)pixel, c);
        }
}

/* A row of output pixels: [first, last) are those whose windows lie inside the image from side to
 * side. */
struct row {
    struct largest_windows windows; /* as far as all rows share it */
    int64_t first, last;
    int64_t offset[TAPS_MOST];
    lane_int pixel[TAPS_MOST];
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* first == last where there is nothing for the kernel. */
static void row_begin(const struct pooling *p, struct row *row)
{
    const struct window *w = &p->window;
    const int64_t *d = w->dilation, taps = w->kernel[HEIGHT] * w->kernel[WIDTH];
    const int64_t room = p->in.w + w->padding[WIDTH] - (w->kernel[WIDTH] - 1) * d[WIDTH] - 1;
    row->first = row->last = 0;
    if (p->cell != pooling_window_cell || taps > TAPS_MOST || room < 0)
        return;
    row->first = divide_up(w->padding[WIDTH], w->stride[WIDTH]);
    row->last = room / w->stride[WIDTH] + 1;
    row->last = row->last < p->out.w ? row->last : p->out.w;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t ky = t / w->kernel[WIDTH], kx = t % w->kernel[WIDTH];
        row->pixel[t] = (lane_int)(ky * d[HEIGHT] * p->in.w + kx * d[WIDTH]);
        row->offset[t] = row->pixel[t] * p->in.c;
    }
    row->windows = (struct largest_windows){.c = p->in.c,
                                            .taps = taps,
                                            .step = w->stride[WIDTH] * p->in.c,
                                            .offset = row->offset,
                                            .pixel = row->pixel,
                                            .pixel_step = (lane_int)w->stride[WIDTH]};
}

/* Where output pixel q lies, counted through all images, and what it works on. */
struct place {
    int64_t y, x;
    const real *image;
    real *out;
    lane_int *place;
};

static struct place place_of(const struct pooling *p, int64_t q)
{
    const int64_t pixels = p->out.h * p->out.w, image = p->in.h * p->in.w * p->in.c;
    return (struct place){
        q % pixels / p->out.w, q % p->out.w, run_in(p->r, p->n, 0) + q / pixels * image,
        run_value(p->r, p->n) + q * p->in.c, (lane_int *)run_saved(p->r, p->n) + q * p->in.c};
}

/* As many windows from q as the kernel may have, at most `most`; returns how many. */
static int64_t row_windows(const struct pooling *p, struct row *row, const struct place *at,
                           int64_t most)
{
    const struct window *w = &p->window;
    const struct taps down = window_taps(w, HEIGHT, at->y, p->in.h);
    if (at->x < row->first || at->x >= row->last || down.end - down.begin < w->kernel[HEIGHT])
        return 0;
    struct largest_windows windows = row->windows;
    const int64_t first = window_at(w, HEIGHT, at->y, 0) * p->in.w + window_at(w, WIDTH, at->x, 0);
    windows.pixels = row->last - at->x < most ? row->last - at->x : most;
    windows.x = at->image + first * p->in.c;
    windows.end = at->image + p->in.h * p->in.w * p->in.c;
    windows.first = (lane_int)first;
    windows.y = at->out;
    windows.place = at->place;
    kernels()->largest_windows(&windows);
    return windows.pixels;
}

static void max_pool_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct pooling *p = arg;
    struct row row;
    row_begin(p, &row);
    for (int64_t q = begin; q < end;) {
        const struct place at = place_of(p, q);
        const int64_t done = row_windows(p, &row, &at, end - q);
        if (done == 0) {
            const struct cell cell = p->cell(p, at.y, at.x);
            max_pixel(p, &cell, at.image, at.out, at.place);
        }
        q += done > 0 ? done : 1;
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
    const lane_int *places = (const lane_int *)run_saved(p->r, p->n);
    const real *dy = run_grad(p->r, p->n);
    for (int64_t n = begin; n < end; n++) {
        real *dx = run_grad_in(p->r, p->n, 0) + n * image;
        memset(dx, 0, (size_t)image * sizeof *dx);
        for (int64_t q = n * pixels; q < (n + 1) * pixels; q++)
            for (int64_t i = 0; i < c; i++) {
                lane_int place = places[q * c + i];
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
