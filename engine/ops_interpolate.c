/* ops_interpolate.c: interpolate, as torch.nn.functional.interpolate: images in another size, by
 * the nearest pixel or bilinearly. With `align_corners` the corner pixels of both images coincide,
 * else the edges do; a scale_factor that was given is the scale, as in torch, even where the output
 * size was rounded down. */
#include "unary.h"
#include "window.h"

#include <stddef.h>
#include <string.h>

enum { INTERPOLATE_NEAREST, INTERPOLATE_BILINEAR };

struct interpolate {
    int64_t size[2]; /* 0: from the factors */
    struct real_list scale_factor;
    int mode;
    bool align_corners;
};
static const struct attr_def interpolate_attrs[] = {
    {"size", ATTR_PAIR, offsetof(struct interpolate, size), "0", 1, 1 << 20, NULL,
     "height and width of the output; or scale_factor"},
    {"scale_factor", ATTR_REALS, offsetof(struct interpolate, scale_factor), "", 1e-6, 1024, NULL,
     "how many times as high and as wide the output is; or size"},
    {"mode", ATTR_CHOICE, offsetof(struct interpolate, mode), "nearest", 0, 0, "nearest|bilinear",
     "how pixels between the input's are found"},
    {"align_corners", ATTR_BOOL, offsetof(struct interpolate, align_corners), "false", 0, 0, NULL,
     "bilinear: the centres of the corner pixels stay where they are"},
    {0},
};

static double factor_of(const struct interpolate *a, int axis)
{
    const struct real_list *f = &a->scale_factor;
    return f->n ? f->v[f->n == 2 ? axis : 0] : 0;
}

static int interpolate_shape(struct node *n, struct error *e)
{
    const struct interpolate *a = n->attrs;
    struct shape out = n->in[0]->shape;
    const int factors = a->scale_factor.n;
    if (window_check_image(n, e))
        return -1;
    if ((a->size[0] > 0) == (factors > 0) || factors > 2)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: expects either the attribute 'size' or one or two numbers as "
                         "'scale_factor', found %s",
                         n->what,
                         factors > 2 ? "more"
                         : factors   ? "both"
                                     : "neither");
    if (a->align_corners && a->mode == INTERPOLATE_NEAREST)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute 'align_corners' belongs to mode bilinear, not to nearest",
                         n->what);
    for (int axis = HEIGHT; axis <= WIDTH; axis++) {
        const double size = floor((double)out.dim[2 + axis] * factor_of(a, axis));
        if (factors && !(size >= 1 && size <= 1 << 24))
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: scale_factor %.10g makes %.0f pixels of %lld; expects 1 to %d",
                             n->what, factor_of(a, axis), size, (long long)out.dim[2 + axis],
                             1 << 24);
        out.dim[2 + axis] = factors ? (int64_t)size : a->size[axis];
    }
    return node_set_shape(n, &out, e);
}

static double interpolate_flops(const struct node *n)
{
    return 7 * unary_flops(n);
}

/* Two neighbours of an output coordinate and the share of the second. */
struct between {
    int64_t low, high;
    real share;
};

struct scaling {
    const struct interpolate *a;
    struct image in, out;
    double step[2]; /* input pixels an output pixel */
    const real *from;
    real *to;
};

static double step_of(const struct interpolate *a, int axis, int64_t in, int64_t out)
{
    if (a->align_corners)
        return out > 1 ? (double)(in - 1) / (double)(out - 1) : 0;
    return a->scale_factor.n ? 1 / factor_of(a, axis) : (double)in / (double)out;
}

static struct scaling scaling_of(const struct node *n, const struct run *r)
{
    struct scaling s = {.a = n->attrs, .in = run_image(r, n->in[0]), .out = run_image(r, n)};
    s.step[HEIGHT] = step_of(s.a, HEIGHT, s.in.h, s.out.h);
    s.step[WIDTH] = step_of(s.a, WIDTH, s.in.w, s.out.w);
    return s;
}

static struct between between(const struct scaling *s, int axis, int64_t o)
{
    const int64_t last = (axis == HEIGHT ? s->in.h : s->in.w) - 1;
    double at = (double)o * s->step[axis];
    if (s->a->mode == INTERPOLATE_BILINEAR && !s->a->align_corners)
        at = fmax(((double)o + 0.5) * s->step[axis] - 0.5, 0);
    int64_t low = (int64_t)at;
    low = low < last ? low : last;
    if (s->a->mode == INTERPOLATE_NEAREST)
        return (struct between){low, low, 0};
    const double share = at - (double)low;
    return (struct between){low, low < last ? low + 1 : last, (real)(share < 1 ? share : 1)};
}

/* Rows of the output, counted through all images. */
static void scale_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct scaling *s = arg;
    const int64_t c = s->in.c, line = s->in.w * c;
    for (int64_t row = begin; row < end; row++) {
        const struct between y = between(s, HEIGHT, row % s->out.h);
        const real *image = s->from + row / s->out.h * s->in.h * line;
        const real *top = image + y.low * line, *bottom = image + y.high * line;
        for (int64_t ox = 0; ox < s->out.w; ox++) {
            const struct between x = between(s, WIDTH, ox);
            const int64_t l = x.low * c, h = x.high * c;
            real *to = s->to + (row * s->out.w + ox) * c;
            if (s->a->mode == INTERPOLATE_NEAREST)
                memcpy(to, top + l, (size_t)c * sizeof *to);
            else
                for (int64_t k = 0; k < c; k++)
                    to[k] = (1 - y.share) * ((1 - x.share) * top[l + k] + x.share * top[h + k]) +
                            y.share * ((1 - x.share) * bottom[l + k] + x.share * bottom[h + k]);
        }
    }
}

/* Adds an output pixel's gradient to those of its four neighbours. */
static void scatter_pixel(const struct scaling *s, const struct between *y, const struct between *x,
                          const real *dy, real *image)
{
    const int64_t c = s->in.c, line = s->in.w * c;
    real *top = image + y->low * line, *bottom = image + y->high * line;
    for (int64_t k = 0; k < c; k++) {
        const real up = (1 - y->share) * dy[k], down = y->share * dy[k];
        top[x->low * c + k] += (1 - x->share) * up;
        top[x->high * c + k] += x->share * up;
        bottom[x->low * c + k] += (1 - x->share) * down;
        bottom[x->high * c + k] += x->share * down;
    }
}

static void scale_backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)
{
    const struct scaling *s = arg;
    const int64_t size = s->in.h * s->in.w * s->in.c;
    for (int64_t n = begin; n < end; n++) {
        memset(s->to + n * size, 0, (size_t)size * sizeof(real));
        for (int64_t oy = 0; oy < s->out.h; oy++) {
            const struct between y = between(s, HEIGHT, oy);
            for (int64_t ox = 0; ox < s->out.w; ox++) {
                const struct between x = between(s, WIDTH, ox);
                const int64_t at = ((n * s->out.h + oy) * s->out.w + ox) * s->in.c;
                scatter_pixel(s, &y, &x, s->from + at, s->to + n * size);
            }
        }
    }
}

static void interpolate_forward(const struct node *n, struct run *r)
{
    struct scaling s = scaling_of(n, r);
    s.from = run_in(r, n, 0);
    s.to = run_value(r, n);
    run_for(r, s.out.n * s.out.h, grain_rows(s.out.w * s.out.c), scale_range, &s);
}

static void interpolate_backward(const struct node *n, struct run *r)
{
    struct scaling s = scaling_of(n, r);
    s.from = run_grad(r, n);
    s.to = run_grad_in(r, n, 0);
    if (s.to)
        run_for(r, s.in.n, 1, scale_backward_range, &s);
}

const struct op ops_interpolate[] = {
    {"interpolate", "pooling", 1, 1, interpolate_attrs, sizeof(struct interpolate), NULL,
     interpolate_shape, NULL, interpolate_forward, interpolate_backward, interpolate_flops,
     OP_LAYOUT_LAST,
     "Nx3x2x4 size=3,5; Nx2x3x3 scale_factor=2 mode=bilinear; Nx2x3x4 size=5,7 mode=bilinear "
     "align_corners=true; Nx1x5x6 size=2,3 mode=bilinear; Nx2x3x3 scale_factor=1.7,0.6 "
     "mode=bilinear; Nx1x1x1 size=2 mode=bilinear align_corners=true; Nx2x5x4 scale_factor=0.5",
     "y is x in another size; nearest: y[i] = x[floor(i in/out)]; bilinear: between four pixels"},
    {0},
};
