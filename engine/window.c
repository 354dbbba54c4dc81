/* window.c: the size of what a sliding window gives, with sentences where it gives nothing. */
#include "window.h"

int window_check_image(const struct node *n, struct error *e)
{
    struct shape_text text;
    if (node_check_rank(n, 0, 4, 4, e))
        return -1;
    const struct shape *s = &n->in[0]->shape;
    for (int i = 1; i < 4; i++)
        if (s->dim[i] < 1)
            return error_set(e, ERROR_BAD_SHAPE,
                             "%s: expects images [N, C, H, W] with sizes of at least 1, found %s",
                             n->what, shape_print(s, &text));
    return 0;
}

int window_same(const struct node *n, struct window *w, int axes, struct error *e)
{
    for (int axis = 2 - axes; axis < 2; axis++) {
        const int64_t more = w->dilation[axis] * (w->kernel[axis] - 1);
        if (w->padding[axis] >= 0)
            continue;
        if (w->stride[axis] != 1)
            return error_set(e, ERROR_BAD_ATTRIBUTE,
                             "%s: attribute 'padding' may be \"same\" for a stride of 1 only, not "
                             "%lld",
                             n->what, (long long)w->stride[axis]);
        if (more % 2)
            return error_set(e, ERROR_BAD_ATTRIBUTE,
                             "%s: attribute 'padding' may be \"same\" for kernels that reach over "
                             "an odd number of pixels, not %lld",
                             n->what, (long long)more + 1);
        w->padding[axis] = more / 2;
    }
    return 0;
}

/* 0 when not even one window fits. */
static int64_t output_size(const struct window *w, int axis, int64_t in, bool ceil_mode)
{
    int64_t pad = w->padding[axis], stride = w->stride[axis];
    int64_t reach = w->dilation[axis] * (w->kernel[axis] - 1) + 1;
    int64_t room = in + 2 * pad - reach + (ceil_mode ? stride - 1 : 0);
    if (room < 0)
        return 0;
    int64_t out = room / stride + 1;
    if (ceil_mode && (out - 1) * stride >= in + pad)
        out--;
    return out;
}

/* Output along one axis, or the sentence that says why there is none. */
static int output_axis(const struct node *n, const struct window *w, int axis, const char *name,
                       int64_t in, bool ceil_mode, int64_t *out_r, struct error *e)
{
    *out_r = output_size(w, axis, in, ceil_mode);
    if (*out_r >= 1)
        return 0;
    return error_set(e, ERROR_BAD_SHAPE,
                     "%s: a kernel that reaches over %lld pixels (kernel_size %lld, "
                     "dilation %lld) does not fit into an input of %s %lld with padding "
                     "%lld on each side",
                     n->what, (long long)(w->dilation[axis] * (w->kernel[axis] - 1) + 1),
                     (long long)w->kernel[axis], (long long)w->dilation[axis], name, (long long)in,
                     (long long)w->padding[axis]);
}

int window_output(const struct node *n, const struct window *w, bool ceil_mode, int64_t out_r[2],
                  struct error *e)
{
    const int64_t *in = n->in[0]->shape.dim;
    if (output_axis(n, w, HEIGHT, "height", in[2], ceil_mode, &out_r[HEIGHT], e))
        return -1;
    return output_axis(n, w, WIDTH, "width", in[3], ceil_mode, &out_r[WIDTH], e);
}

int window_output_line(const struct node *n, const struct window *w, bool ceil_mode, int64_t *out_r,
                       struct error *e)
{
    const struct shape *in = &n->in[0]->shape;
    return output_axis(n, w, WIDTH, "length", in->dim[in->rank - 1], ceil_mode, out_r, e);
}
