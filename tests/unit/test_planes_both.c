/* test_planes_both.c: convolutions to few channels, and of small images whose windows lie in the
 * padding for a good part, for every table of kernels: the output and the gradients against sums in
 * double, over kernels, strides, paddings, dilations and groups; the bits of a sample alone and in
 * company, on one thread and on two; which sizes are computed with pixels in the lanes, and which
 * tap by tap. */
#include "conv_direct.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct sizes {
    int64_t n, c, h, w, o;
    int64_t kernel[2], stride[2], pad[2], dilation[2];
    bool bias;
    int64_t groups;
};

/* Lines shorter and longer than a vector, bands of parts of images and of several images, each
 * number of columns, windows that lie in the padding alone. */
static const struct sizes planes_sizes[] = {
    {3, 1, 28, 28, 6, {5, 5}, {1, 1}, {2, 2}, {1, 1}, true, 1},
    {2, 1, 28, 28, 8, {5, 5}, {1, 1}, {0, 0}, {1, 1}, false, 1},
    {1, 3, 40, 64, 3, {9, 9}, {1, 1}, {4, 4}, {1, 1}, true, 1},
    {2, 2, 31, 32, 1, {4, 3}, {1, 1}, {1, 2}, {1, 1}, true, 1},
    {9, 1, 16, 16, 4, {7, 7}, {1, 1}, {3, 3}, {1, 1}, true, 1},
    {2, 3, 33, 65, 2, {5, 7}, {1, 3}, {2, 3}, {1, 1}, true, 1},
    {2, 3, 61, 95, 5, {7, 7}, {2, 2}, {3, 3}, {1, 1}, false, 1},
    {1, 1, 50, 97, 2, {5, 9}, {2, 2}, {0, 5}, {2, 3}, true, 1},
    {2, 1, 21, 48, 7, {5, 5}, {1, 1}, {6, 9}, {3, 4}, true, 1},
    {1, 1, 1, 300, 6, {1, 25}, {1, 1}, {0, 12}, {1, 1}, true, 1},
    {2, 64, 16, 16, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true, 1},
    {1, 1, 8, 11, 2, {5, 5}, {1, 1}, {9, 12}, {1, 1}, true, 1},
};
/* Short lines, many channels, little to add up, groups of channels do not come here. */
static const struct sizes direct_sizes[] = {
    {2, 1, 10, 4, 6, {5, 3}, {1, 1}, {0, 0}, {1, 1}, true, 1},
    {2, 1, 28, 28, 9, {5, 5}, {1, 1}, {2, 2}, {1, 1}, true, 1},
    {2, 3, 32, 32, 6, {1, 1}, {1, 1}, {0, 0}, {1, 1}, false, 1},
    {1, 1, 9, 70, 1, {3, 3}, {1, 64}, {1, 1}, {1, 1}, true, 1},
};
/* Lines of dy that are cut in two, three, four, five, and not at all; windows that do not overlap;
 * a last vector that lies behind the end. */
static const struct sizes gradient_sizes[] = {
    {3, 1, 8, 6, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true, 1},
    {2, 1, 7, 9, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true, 1},
    {2, 3, 9, 10, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, false, 1},
    {2, 2, 8, 14, 1, {3, 5}, {2, 2}, {1, 2}, {1, 1}, true, 1},
    {2, 2, 8, 15, 2, {3, 3}, {1, 3}, {0, 0}, {1, 1}, true, 1},
    {1, 2, 6, 8, 2, {1, 1}, {1, 1}, {0, 0}, {1, 1}, true, 1},
    {1, 1, 1, 16, 1, {1, 2}, {1, 1}, {0, 0}, {1, 1}, true, 1},
};
/* Taps that no pixel sees, all the image in the padding of some, bands of several images and of
 * parts of one, more channels than a slice has rows, groups. */
static const struct sizes trimmed_sizes[] = {
    {5, 64, 4, 4, 70, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true, 1},
    {3, 130, 2, 2, 33, {3, 3}, {1, 1}, {1, 1}, {1, 1}, false, 1},
    {2, 65, 1, 9, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true, 1},
    {2, 64, 5, 4, 40, {5, 5}, {1, 2}, {2, 3}, {1, 1}, true, 1},
    {2, 64, 3, 3, 20, {3, 3}, {1, 1}, {5, 4}, {2, 3}, true, 1},
    {1, 64, 18, 17, 20, {7, 7}, {1, 1}, {6, 6}, {2, 2}, false, 1},
    {2, 192, 3, 3, 66, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true, 3},
    {40, 64, 4, 4, 16, {2, 2}, {2, 2}, {1, 1}, {1, 1}, true, 1},
};
enum { TRIMMED = sizeof trimmed_sizes / sizeof trimmed_sizes[0] };
enum { GRADIENTS = sizeof gradient_sizes / sizeof gradient_sizes[0] };
enum { PLANES = sizeof planes_sizes / sizeof planes_sizes[0] };
enum { DIRECTS = sizeof direct_sizes / sizeof direct_sizes[0] };

static struct conv conv_of_sizes(const struct sizes *s)
{
    struct conv v = {.c = s->c,
                     .h = s->h,
                     .w = s->w,
                     .o = s->o,
                     .groups = s->groups,
                     .cg = s->c / s->groups,
                     .og = s->o / s->groups,
                     .taps = s->kernel[0] * s->kernel[1],
                     .winograd = true};
    for (int i = 0; i < 2; i++) {
        v.window.kernel[i] = s->kernel[i], v.window.stride[i] = s->stride[i];
        v.window.padding[i] = s->pad[i], v.window.dilation[i] = s->dilation[i];
    }
    v.oh = (s->h + 2 * s->pad[0] - (s->kernel[0] - 1) * s->dilation[0] - 1) / s->stride[0] + 1;
    v.ow = (s->w + 2 * s->pad[1] - (s->kernel[1] - 1) * s->dilation[1] - 1) / s->stride[1] + 1;
    v.k = v.taps * v.cg;
    return v;
}

static void fill(real *p, int64_t n, uint64_t seed)
{
    uint64_t state = seed;
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        p[i] = (real)((double)(state >> 40) / (1 << 24) - 0.5);
    }
}

/* ---- sums in double -------------------------------------------------------------------------- */

struct numbers {
    struct conv v;
    int64_t nx, ny, nw; /* of a sample, of a sample, weights */
    real *x, *params;   /* weight [o][c / groups][kh][kw], bias [o] */
    double *y;          /* [n][o][oh][ow] */
};

/* Of number i of a window of output channel o. */
static int64_t input_channel(const struct conv *v, int64_t o, int64_t i)
{
    return o / v->og * v->cg + i / v->taps;
}

static double expected(const struct numbers *t, int64_t n, int64_t o, int64_t oy, int64_t ox)
{
    const struct conv *v = &t->v;
    double sum = 0;
    for (int64_t i = 0; i < v->k; i++) {
        const int64_t c = input_channel(v, o, i), tap = i % v->taps;
        const int64_t y = window_at(&v->window, HEIGHT, oy, tap / v->window.kernel[WIDTH]);
        const int64_t x = window_at(&v->window, WIDTH, ox, tap % v->window.kernel[WIDTH]);
        if (y >= 0 && y < v->h && x >= 0 && x < v->w)
            sum += (double)t->params[o * v->k + i] *
                   (double)t->x[((n * v->c + c) * v->h + y) * v->w + x];
    }
    return sum;
}

static struct numbers numbers_make(const struct sizes *s)
{
    struct numbers t = {.v = conv_of_sizes(s)};
    const struct conv *v = &t.v;
    t.nx = v->c * v->h * v->w, t.ny = v->o * v->oh * v->ow, t.nw = v->o * v->k;
    t.x = test_malloc((size_t)(s->n * t.nx) * sizeof *t.x);
    t.params = test_malloc((size_t)(t.nw + v->o) * sizeof *t.params);
    t.y = test_malloc((size_t)(s->n * t.ny) * sizeof *t.y);
    fill(t.x, s->n * t.nx, 1);
    fill(t.params, t.nw + v->o, 2);
    for (int64_t i = 0; i < s->n * t.ny; i++) {
        const int64_t pixels = v->oh * v->ow, o = i / pixels % v->o;
        t.y[i] = (s->bias ? (double)t.params[t.nw + o] : 0) +
                 expected(&t, i / t.ny, o, i % pixels / v->ow, i % v->ow);
    }
    return t;
}

/* Of the mean of (y - 0)^2: dparams as params; dx as x. */
static void expected_gradients(const struct numbers *t, int64_t n, double *dparams, double *dx)
{
    const struct conv *v = &t->v;
    const double scale = 2.0 / (double)(n * t->ny);
    memset(dparams, 0, (size_t)(t->nw + v->o) * sizeof *dparams);
    memset(dx, 0, (size_t)(n * t->nx) * sizeof *dx);
    for (int64_t at = 0; at < n * t->ny; at++) {
        const int64_t pixel = at % (v->oh * v->ow), o = at / (v->oh * v->ow) % v->o;
        const double dy = scale * t->y[at];
        dparams[t->nw + o] += dy;
        for (int64_t i = 0; i < v->k; i++) {
            const int64_t c = input_channel(v, o, i), tap = i % v->taps;
            const int64_t y =
                window_at(&v->window, HEIGHT, pixel / v->ow, tap / v->window.kernel[WIDTH]);
            const int64_t x =
                window_at(&v->window, WIDTH, pixel % v->ow, tap % v->window.kernel[WIDTH]);
            if (y < 0 || y >= v->h || x < 0 || x >= v->w)
                continue;
            const int64_t from = ((at / t->ny * v->c + c) * v->h + y) * v->w + x;
            dparams[o * v->k + i] += dy * (double)t->x[from];
            dx[from] += dy * (double)t->params[o * v->k + i];
        }
    }
}

static void numbers_free(struct numbers *t)
{
    test_free(t->x);
    test_free(t->params);
    test_free(t->y);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static void near(const struct sizes *s, const real *found, const double *expected, int64_t n)
{
    const double most = sizeof(real) == sizeof(float) ? 5e-6 : 1e-13;
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)found[i] - expected[i]) * ((double)found[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    if (!(sqrt(error / size) <= most))
        fail_msg("%lld x [%lld,%lld,%lld] to %lld channels, kernels %s: error %.3g",
                 (long long)s->n, (long long)s->c, (long long)s->h, (long long)s->w,
                 (long long)s->o, kernels()->name, sqrt(error / size));
}

struct net {
    struct graph *g;
    struct node *x, *y;
};

static struct net net_make(const struct sizes *s, struct error *e)
{
    static const char *const names[] = {"kernel_size", "stride", "padding", "dilation"};
    const int64_t *of[] = {s->kernel, s->stride, s->pad, s->dilation};
    double list[4][2];
    struct attr attrs[7] = {
        {.name = "out_channels", .kind = ATTR_IS_INT, .i = s->o, .d = (double)s->o},
        {.name = "bias", .kind = ATTR_IS_BOOL, .i = s->bias},
        {.name = "groups", .kind = ATTR_IS_INT, .i = s->groups, .d = (double)s->groups},
    };
    for (int i = 0; i < 4; i++) {
        list[i][0] = (double)of[i][0], list[i][1] = (double)of[i][1];
        attrs[3 + i] =
            (struct attr){.name = names[i], .kind = ATTR_IS_LIST, .list = list[i], .n_list = 2};
    }
    struct net net = {.g = graph_create(e)};
    net.x = graph_input(net.g, "x", DTYPE_REAL, &SHAPE(BATCH, s->c, s->h, s->w), e);
    net.y = graph_add(net.g, "conv2d", "conv", &net.x, 1, attrs, 7, e);
    return net;
}

/* Samples [first, first + n) on `threads` threads; what comes out goes to y. */
static void convolve(const struct sizes *s, const struct numbers *t, int64_t first, int64_t n,
                     int threads, real *y)
{
    struct error e = {0};
    struct net net = net_make(s, &e);
    struct plan_spec spec = {
        .outputs = &net.y, .n_outputs = 1, .capacity = n, .threads = threads, .fence = 64};
    struct pool *pool = pool_create(threads, &e);
    struct plan *p = net.y && pool ? plan_create(net.g, &spec, &e) : NULL;
    struct run *r = p ? run_create(p, &e) : NULL;
    const void *inputs[] = {t->x + first * t->nx};
    const struct run_args args = {.pool = pool, .n = n, .inputs = inputs, .params = t->params};
    if (!r || run_execute(r, &args, &e))
        fail_msg("%s", e.text);
    assert_true(run_fences_intact(r));
    memcpy(y, run_output(r, 0), (size_t)(n * t->ny) * sizeof *y);
    run_destroy(&r);
    plan_destroy(&p);
    pool_destroy(&pool);
    graph_destroy(&net.g);
}

/* The gradients on one thread and on two. */
static void differentiate(const struct sizes *s, const struct numbers *t, int threads,
                          real *dparams, real *dx)
{
    struct error e = {0};
    struct net net = net_make(s, &e);
    struct node *target =
        graph_input(net.g, "t", DTYPE_REAL, &SHAPE(BATCH, s->o, t->v.oh, t->v.ow), &e);
    struct node *in[] = {net.y, target};
    struct plan_spec spec = {.training = true,
                             .loss = graph_add(net.g, "mse", "loss", in, 2, NULL, 0, &e),
                             .wrt = &net.x,
                             .n_wrt = 1,
                             .params_wrt = true,
                             .capacity = s->n,
                             .threads = threads,
                             .fence = 64};
    struct pool *pool = pool_create(threads, &e);
    struct plan *p = spec.loss && pool ? plan_create(net.g, &spec, &e) : NULL;
    struct run *r = p ? run_create(p, &e) : NULL;
    real *zeros = calloc((size_t)(s->n * t->ny), sizeof *zeros);
    const void *inputs[] = {t->x, zeros};
    const struct run_args args = {
        .pool = pool, .n = s->n, .inputs = inputs, .params = t->params, .grads = dparams};
    if (!r || run_execute(r, &args, &e))
        fail_msg("%s", e.text);
    assert_true(run_fences_intact(r));
    memcpy(dx, run_wrt_grad(r, 0), (size_t)(s->n * t->nx) * sizeof *dx);
    free(zeros);
    run_destroy(&r);
    plan_destroy(&p);
    pool_destroy(&pool);
    graph_destroy(&net.g);
}

static void check_gradients(const struct sizes *s, const struct numbers *t)
{
    const size_t np = (size_t)(t->nw + (s->bias ? s->o : 0)), nx = (size_t)(s->n * t->nx);
    real *dparams = test_malloc(2 * np * sizeof *dparams), *dx = test_malloc(2 * nx * sizeof *dx);
    double *wanted = test_malloc((size_t)(t->nw + s->o) * sizeof *wanted);
    double *wanted_x = test_malloc(nx * sizeof *wanted_x);
    expected_gradients(t, s->n, wanted, wanted_x);
    for (int threads = 1; threads <= 2; threads++)
        differentiate(s, t, threads, dparams + (threads == 2 ? np : 0),
                      dx + (threads == 2 ? nx : 0));
    near(s, dparams, wanted, t->nw);
    if (s->bias)
        near(s, dparams + t->nw, wanted + t->nw, s->o);
    near(s, dx, wanted_x, (int64_t)nx);
    assert_memory_equal(dparams, dparams + np, np * sizeof *dparams);
    assert_memory_equal(dx, dx + nx, nx * sizeof *dx);
    test_free(dparams);
    test_free(dx);
    test_free(wanted);
    test_free(wanted_x);
}

static void check(const struct sizes *s, const struct numbers *t)
{
    real *y = test_malloc((size_t)(s->n * t->ny) * sizeof *y);
    real *alone = test_malloc((size_t)t->ny * sizeof *alone);
    convolve(s, t, 0, s->n, 2, y);
    near(s, y, t->y, s->n * t->ny);
    for (int64_t i = 0; i < s->n; i++) {
        convolve(s, t, i, 1, 1, alone);
        assert_memory_equal(alone, y + i * t->ny, (size_t)t->ny * sizeof *alone);
    }
    test_free(y);
    test_free(alone);
}

/* ---- the tests ------------------------------------------------------------------------------- */

/* Makes engine_start choose table i; no thread is running. */
static bool use_kernels(int i)
{
    const struct kernels *k = kernels_at(i);
    if (!k)
        return false;
    setenv("BACKPROP_KERNELS", k->name, 1);
    engine_start();
    return true;
}

static void check_all(const struct sizes *all, int n,
                      void check_one(const struct sizes *s, const struct numbers *t))
{
    for (int i = 0; i < n; i++) {
        struct numbers t = numbers_make(&all[i]);
        for (int k = 0; use_kernels(k); k++)
            check_one(&all[i], &t);
        numbers_free(&t);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    check_all(planes_sizes, PLANES, check);
    check_all(direct_sizes, DIRECTS, check);
    check_all(gradient_sizes, GRADIENTS, check);
    check_all(trimmed_sizes, TRIMMED, check);
}

static void test_gradients(void **state)
{
    (void)state;
    check_all(planes_sizes, PLANES, check_gradients);
    check_all(direct_sizes, DIRECTS, check_gradients);
    check_all(gradient_sizes, GRADIENTS, check_gradients);
    check_all(trimmed_sizes, TRIMMED, check_gradients);
}

/* At most half a vector of channels, and the batch has no say. */
static void test_choice(void **state)
{
    (void)state;
    for (int k = 0; use_kernels(k); k++) {
        for (int i = 0; i < PLANES; i++)
            for (int64_t images = 0; images < 3; images++) {
                struct conv v = conv_of_sizes(&planes_sizes[i]);
                v.images = images;
                assert_string_equal(conv_method(&v)->name,
                                    2 * v.o <= kernels()->lanes ? "planes" : "direct");
                v.groups = 2;
                assert_string_equal(conv_method(&v)->name, "direct");
            }
        for (int i = 0; i < DIRECTS; i++) {
            struct conv v = conv_of_sizes(&direct_sizes[i]);
            assert_string_equal(conv_method(&v)->name, "direct");
        }
    }
}

/* Where a tenth of the products or more is with zeros of the padding, and channels are many. */
static void test_trimmed(void **state)
{
    (void)state;
    static const struct sizes whole[] = {
        {1, 64, 32, 32, 64, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true, 1},
        {1, 63, 4, 4, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1}, true, 1},
        {1, 512, 4, 4, 64, {3, 3}, {1, 1}, {0, 0}, {1, 1}, true, 1},
        {1, 512, 4, 4, 64, {1, 1}, {1, 1}, {0, 0}, {1, 1}, true, 1},
    };
    for (int i = 0; i < TRIMMED; i++) {
        const struct conv v = conv_of_sizes(&trimmed_sizes[i]);
        assert_string_equal(conv_method(&v)->name, "direct");
        assert_true(band_trims(&v));
    }
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        const struct conv v = conv_of_sizes(&whole[i]);
        assert_false(band_trims(&v));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_trimmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
