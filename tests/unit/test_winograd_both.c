/* test_winograd_both.c: convolutions of 3 x 3 by Winograd's algorithm, and the direct ones, for
 * every table of kernels: output, gradient of the image, of weights and of biases against sums in
 * double; which sizes take which algorithm; that a model can ask for the direct one. */
#include "conv.h"
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct sizes {
    int64_t n, c, h, w, o;
    int64_t pad[2];
    bool bias;
};

/* Whole and partial vectors of channels, one tile and many, tiles that hang over each edge, all
 * paddings, blocks that end inside an image, several slices of channels, several parts, fewer tiles
 * than a block has. */
static const struct sizes winograd_sizes[] = {
    {1, 16, 4, 4, 16, {1, 1}, true},     {3, 16, 8, 8, 32, {1, 1}, false},
    {2, 64, 16, 16, 64, {1, 1}, true},   {3, 17, 11, 12, 35, {1, 1}, true},
    {2, 33, 14, 14, 20, {0, 0}, false},  {2, 20, 10, 14, 130, {2, 2}, true},
    {1, 130, 7, 7, 20, {1, 1}, true},    {4, 24, 12, 14, 31, {1, 0}, false},
    {2, 19, 14, 8, 16, {0, 2}, true},    {70, 16, 8, 8, 16, {1, 1}, true},
    {1, 70, 40, 44, 40, {1, 1}, true},   {5, 200, 4, 4, 150, {1, 1}, false},
    {1, 320, 12, 12, 300, {1, 1}, true}, {1, 16, 8, 8, 20, {1, 1}, true},
    {1, 64, 12, 12, 64, {1, 1}, true},
};
/* Few channels, or most of the tiles outside. */
static const struct sizes direct_sizes[] = {
    {2, 3, 16, 16, 64, {1, 1}, true},
    {2, 64, 16, 16, 10, {1, 1}, true},
    {2, 32, 5, 5, 32, {1, 1}, true},
    {2, 32, 1, 9, 32, {1, 1}, true},
};
enum { WINOGRADS = sizeof winograd_sizes / sizeof winograd_sizes[0] };
enum { DIRECTS = sizeof direct_sizes / sizeof direct_sizes[0] };

static struct conv conv_of_sizes(const struct sizes *s, bool winograd)
{
    struct conv v = {.window = {{3, 3}, {1, 1}, {s->pad[0], s->pad[1]}, {1, 1}},
                     .c = s->c,
                     .h = s->h,
                     .w = s->w,
                     .o = s->o,
                     .oh = s->h + 2 * s->pad[0] - 2,
                     .ow = s->w + 2 * s->pad[1] - 2,
                     .groups = 1,
                     .cg = s->c,
                     .og = s->o,
                     .taps = 9,
                     .k = 9 * s->c,
                     .winograd = winograd};
    return v;
}

/* ---- sums in double -------------------------------------------------------------------------- */

/* What goes in and what comes out. Plain layouts; y and dy [n][o][oh][ow]. */
struct numbers {
    struct conv v;
    int64_t n, nx, ny, nw;
    real *x, *dy, *params; /* weight [o][c][3][3], bias [o] */
    double *y, *dx, *dparams;
};

static void fill(real *p, int64_t n, uint64_t *state)
{
    for (int64_t i = 0; i < n; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        p[i] = (real)((double)(*state >> 40) / (1 << 24) - 0.5);
    }
}

/* Adds one tap of one pair of channels: y += w x, dx += w dy, and the sum of dy x. */
static double expected_tap(struct numbers *t, int64_t n, int64_t o, int64_t c, int64_t tap)
{
    const struct conv *v = &t->v;
    const int64_t ky = tap / 3 - v->window.padding[0], kx = tap % 3 - v->window.padding[1];
    const double weight = (double)t->params[(o * v->c + c) * 9 + tap];
    double sum = 0;
    for (int64_t i = 0; i < v->oh; i++)
        for (int64_t j = 0; j < v->ow; j++) {
            const int64_t out = ((n * v->o + o) * v->oh + i) * v->ow + j;
            const int64_t in = ((n * v->c + c) * v->h + i + ky) * v->w + j + kx;
            if (i + ky < 0 || i + ky >= v->h || j + kx < 0 || j + kx >= v->w)
                continue;
            t->y[out] += weight * (double)t->x[in];
            t->dx[in] += weight * (double)t->dy[out];
            sum += (double)t->x[in] * (double)t->dy[out];
        }
    return sum;
}

static void expect(struct numbers *t, bool bias)
{
    const struct conv *v = &t->v;
    for (int64_t n = 0; n < t->n; n++)
        for (int64_t o = 0; o < v->o; o++) {
            for (int64_t c = 0; c < v->c; c++)
                for (int64_t tap = 0; tap < 9; tap++)
                    t->dparams[(o * v->c + c) * 9 + tap] += expected_tap(t, n, o, c, tap);
            const int64_t image = (n * v->o + o) * v->oh * v->ow;
            for (int64_t i = 0; bias && i < v->oh * v->ow; i++) {
                t->y[image + i] += (double)t->params[t->nw + o];
                t->dparams[t->nw + o] += (double)t->dy[image + i];
            }
        }
}

static void *zeroed(int64_t count, size_t size)
{
    return memset(test_malloc((size_t)count * size), 0, (size_t)count * size);
}

static struct numbers numbers_make(const struct sizes *s)
{
    struct numbers t = {.v = conv_of_sizes(s, true), .n = s->n};
    uint64_t state = 88172645463325252u;
    t.nx = s->n * s->c * s->h * s->w;
    t.ny = s->n * s->o * t.v.oh * t.v.ow;
    t.nw = s->o * t.v.k;
    t.x = zeroed(t.nx, sizeof(real));
    t.dy = zeroed(t.ny, sizeof(real));
    t.params = zeroed(t.nw + s->o, sizeof(real));
    t.y = zeroed(t.ny, sizeof(double));
    t.dx = zeroed(t.nx, sizeof(double));
    t.dparams = zeroed(t.nw + s->o, sizeof(double));
    fill(t.x, t.nx, &state);
    fill(t.dy, t.ny, &state);
    fill(t.params, t.nw + s->o, &state);
    expect(&t, s->bias);
    return t;
}

static void numbers_free(struct numbers *t)
{
    void *all[] = {t->x, t->dy, t->params, t->y, t->dx, t->dparams};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        test_free(all[i]);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static void near(const char *what, const struct sizes *s, const real *found, const double *expected,
                 int64_t n)
{
    const double most = sizeof(real) == sizeof(float) ? 5e-6 : 1e-13;
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)found[i] - expected[i]) * ((double)found[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    if (!(sqrt(error / size) <= most))
        fail_msg("%s of %lld x [%lld,%lld,%lld] to %lld channels, kernels %s: error %.3g", what,
                 (long long)s->n, (long long)s->c, (long long)s->h, (long long)s->w,
                 (long long)s->o, kernels()->name, sqrt(error / size));
}

/* sum(conv2d(x) * dy): its gradient at the convolution's output is dy. */
struct net {
    struct graph *g;
    struct node *x, *y, *loss;
};

static struct net net_make(const struct sizes *s, const struct conv *v, bool winograd,
                           struct error *e)
{
    const double pad[] = {(double)s->pad[0], (double)s->pad[1]};
    const struct attr attrs[] = {
        {.name = "out_channels", .kind = ATTR_IS_INT, .i = s->o, .d = (double)s->o},
        {.name = "kernel_size", .kind = ATTR_IS_INT, .i = 3, .d = 3},
        {.name = "padding", .kind = ATTR_IS_LIST, .list = pad, .n_list = 2},
        {.name = "bias", .kind = ATTR_IS_BOOL, .i = s->bias},
        {.name = "winograd", .kind = ATTR_IS_BOOL, .i = winograd},
    };
    struct net net = {.g = graph_create(e)};
    net.x = graph_input(net.g, "x", DTYPE_REAL, &SHAPE(BATCH, s->c, s->h, s->w), e);
    struct node *dy = graph_input(net.g, "dy", DTYPE_REAL, &SHAPE(BATCH, s->o, v->oh, v->ow), e);
    net.y = graph_add(net.g, "conv2d", "conv", &net.x, 1, attrs, sizeof attrs / sizeof attrs[0], e);
    struct node *both[] = {net.y, dy};
    struct node *product = net.y && dy ? graph_add(net.g, "mul", NULL, both, 2, NULL, 0, e) : NULL;
    net.loss = product ? graph_add(net.g, "sum", NULL, &product, 1, NULL, 0, e) : NULL;
    return net;
}

/* `capacity` is the plan's batch. */
static void check_run(const struct sizes *s, const struct numbers *t, bool winograd,
                      int64_t capacity)
{
    struct error e = {0};
    struct net net = net_make(s, &t->v, winograd, &e);
    struct plan_spec spec = {.training = true,
                             .outputs = &net.y,
                             .n_outputs = 1,
                             .loss = net.loss,
                             .wrt = &net.x,
                             .n_wrt = 1,
                             .params_wrt = true,
                             .capacity = capacity,
                             .threads = 2,
                             .fence = 64};
    struct pool *pool = pool_create(2, &e);
    struct plan *p = net.loss && pool ? plan_create(net.g, &spec, &e) : NULL;
    struct run *r = p ? run_create(p, &e) : NULL;
    const int64_t n_params = t->nw + (s->bias ? s->o : 0);
    real *grads = zeroed(n_params, sizeof *grads);
    const void *inputs[] = {t->x, t->dy};
    const struct run_args args = {
        .pool = pool, .n = s->n, .inputs = inputs, .params = t->params, .grads = grads};
    if (!r || run_execute(r, &args, &e))
        fail_msg("%s", e.text);
    assert_true(run_fences_intact(r));
    near("output", s, run_output(r, 0), t->y, t->ny);
    near("gradient of the image", s, run_wrt_grad(r, 0), t->dx, t->nx);
    near("gradient of weights", s, grads, t->dparams, t->nw);
    if (s->bias)
        near("gradient of biases", s, grads + t->nw, t->dparams + t->nw, s->o);
    test_free(grads);
    run_destroy(&r);
    plan_destroy(&p);
    pool_destroy(&pool);
    graph_destroy(&net.g);
}

/* A plan that only predicts: weights of few tiles are transformed where they are used, with the
 * same bits as of many. */
static void check_prediction(const struct sizes *s, const struct numbers *t, bool winograd)
{
    struct error e = {0};
    struct net net = net_make(s, &t->v, winograd, &e);
    struct plan_spec spec = {
        .outputs = &net.y, .n_outputs = 1, .capacity = s->n, .threads = 2, .fence = 64};
    struct pool *pool = pool_create(2, &e);
    struct plan *p = net.loss && pool ? plan_create(net.g, &spec, &e) : NULL;
    struct run *r = p ? run_create(p, &e) : NULL;
    const void *inputs[] = {t->x, t->dy};
    const struct run_args args = {.pool = pool, .n = s->n, .inputs = inputs, .params = t->params};
    if (!r || run_execute(r, &args, &e))
        fail_msg("%s", e.text);
    assert_true(run_fences_intact(r));
    near("prediction", s, run_output(r, 0), t->y, t->ny);
    const int64_t each = t->ny / s->n;
    const struct run_args alone = {.pool = pool, .n = 1, .inputs = inputs, .params = t->params};
    real *together =
        memcpy(zeroed(each, sizeof(real)), run_output(r, 0), (size_t)each * sizeof(real));
    if (run_execute(r, &alone, &e))
        fail_msg("%s", e.text);
    assert_memory_equal(run_output(r, 0), together, (size_t)each * sizeof(real));
    test_free(together);
    run_destroy(&r);
    plan_destroy(&p);
    pool_destroy(&pool);
    graph_destroy(&net.g);
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

static void check_all(const struct sizes *all, int n)
{
    for (int i = 0; i < n; i++) {
        struct numbers t = numbers_make(&all[i]);
        for (int k = 0; use_kernels(k); k++)
            for (int winograd = 0; winograd < 2; winograd++) {
                check_run(&all[i], &t, winograd, all[i].n);
                check_run(&all[i], &t, winograd, 20 * all[i].n);
                check_prediction(&all[i], &t, winograd);
            }
        numbers_free(&t);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    check_all(winograd_sizes, WINOGRADS);
    check_all(direct_sizes, DIRECTS);
}

/* The batch has no say. */
static void test_choice(void **state)
{
    (void)state;
    for (int i = 0; i < WINOGRADS; i++)
        for (int64_t images = 0; images < 3; images++) {
            struct conv v = conv_of_sizes(&winograd_sizes[i], true);
            v.images = images;
            assert_string_equal(conv_method(&v)->name, "winograd");
            v.winograd = false;
            assert_string_equal(conv_method(&v)->name, "direct");
        }
    for (int i = 0; i < DIRECTS; i++) {
        struct conv v = conv_of_sizes(&direct_sizes[i], true);
        assert_string_equal(conv_method(&v)->name, "direct");
    }
}

static struct conv_memory memory_of(struct conv v, int64_t images)
{
    v.images = images;
    return conv_method(&v)->memory(&v);
}

/* Few images need less, and more images never less: a plan for many runs few. */
static void test_memory(void **state)
{
    (void)state;
    for (int winograd = 0; winograd < 2; winograd++) {
        struct conv v = conv_of_sizes(&(struct sizes){1, 64, 12, 12, 64, {1, 1}, true}, winograd);
        const struct conv_memory any = memory_of(v, 0);
        struct conv_memory before = {0};
        for (int64_t images = 1; images <= 200; images++) {
            const struct conv_memory m = memory_of(v, images);
            assert_true(m.backward >= before.backward && m.backward <= any.backward);
            assert_true(m.forward >= before.forward && m.forward <= any.forward);
            assert_true(m.scratch >= before.scratch && m.scratch <= any.scratch);
            assert_int_equal(m.prepared, any.prepared);
            assert_true(images > 1 || 2 * m.backward <= any.backward);
            before = m;
        }
        assert_int_equal(before.backward, any.backward);
        assert_int_equal(before.forward, any.forward);
        assert_int_equal(before.scratch, any.scratch);
    }
}

/* Where many channels meet in few tiles neither the weights of points nor the sums of their
 * gradients are held whole. */
static void test_memory_of_many_channels(void **state)
{
    (void)state;
    enum { CHANNELS = 512, WHOLE = 36 * CHANNELS * CHANNELS };
    const struct conv v =
        conv_of_sizes(&(struct sizes){1, CHANNELS, 4, 4, CHANNELS, {1, 1}, true}, true);
    const struct conv_memory m = memory_of(v, 64), many = memory_of(v, 1000);
    assert_true(3 * m.forward < WHOLE && 3 * m.backward < WHOLE && 3 * m.scratch < WHOLE);
    assert_true(many.forward >= WHOLE && many.backward >= WHOLE && 2 * many.scratch < WHOLE);
}

/* Where one image may come alone, it has to pay for the weights of points: by many tiles, or by few
 * where there are not too many weights. */
static void test_predictions(void **state)
{
    (void)state;
    struct conv v = conv_of_sizes(&(struct sizes){1, 64, 16, 16, 64, {1, 1}, true}, true);
    v.predicts = true;
    assert_string_equal(conv_method(&v)->name, "winograd");
    static const struct {
        struct sizes sizes;
        const char *alone;
    } few[] = {
        {{1, 256, 8, 8, 256, {1, 1}, true}, "winograd"},
        {{1, 512, 7, 7, 512, {1, 1}, true}, "winograd"},
        {{1, 513, 7, 7, 512, {1, 1}, true}, "direct"},
        {{1, 512, 4, 4, 512, {1, 1}, true}, "direct"},
        {{1, 64, 4, 12, 64, {1, 1}, true}, "direct"},
    };
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++) {
        v = conv_of_sizes(&few[i].sizes, true);
        assert_string_equal(conv_method(&v)->name, "winograd");
        v.predicts = true;
        assert_string_equal(conv_method(&v)->name, few[i].alone);
    }
}

/* Other kernels, strides, dilations, groups. */
static void test_others_are_direct(void **state)
{
    (void)state;
    const struct sizes s = {1, 64, 16, 16, 64, {1, 1}, true};
    struct conv v = conv_of_sizes(&s, true);
    v.window.stride[WIDTH] = 2;
    assert_string_equal(conv_method(&v)->name, "direct");
    v = conv_of_sizes(&s, true);
    v.window.dilation[HEIGHT] = 2;
    assert_string_equal(conv_method(&v)->name, "direct");
    v = conv_of_sizes(&s, true);
    v.window.kernel[HEIGHT] = 5;
    assert_string_equal(conv_method(&v)->name, "direct");
    v = conv_of_sizes(&s, true);
    v.groups = 2;
    assert_string_equal(conv_method(&v)->name, "direct");
    v = conv_of_sizes(&s, true);
    v.window.padding[HEIGHT] = 3; /* the gradient of the image would have a negative one */
    assert_string_equal(conv_method(&v)->name, "direct");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_of_many_channels),
        cmocka_unit_test(test_predictions),
        cmocka_unit_test(test_others_are_direct),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
