/* test_detect.c: from maps to boxes: decoding against the engine's own reading of the same anchors,
 * non-maximum suppression against brute force; and the templates of detectors: their sizes, the
 * names of their parameters, their first biases, and that expanding is done once and for all. */
#include "../../server/describe.h"
#include "../../server/describe_template.h"
#include "../../server/detect.h"
#include "detection.h"
#include "op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BOXES = 60, ROUNDS = 200 };

static double chance(uint32_t key, int64_t i)
{
    return random_uniform(&(struct random_key){77, 0, key}, (uint64_t)i);
}

/* ---- decoding -------------------------------------------------------------------------------- */

enum { BINS = 4, CLASSES = 3, NUMBERS = 4 * BINS + CLASSES };

/* Two maps of a 32 x 24 image, random, as planes and with channels last. */
struct maps {
    real planes[2][NUMBERS * 12], last[2][NUMBERS * 12];
    struct detection_spec spec;
    struct detection_grid grid;
};

static void maps_make(struct maps *m)
{
    *m = (struct maps){.spec = {2, {8, 16}, BINS, CLASSES, 32, 16},
                       .grid = {.level = {{2, 4, 8, 0}, {1, 2, 16, 8}},
                                .n_levels = 2,
                                .reg_max = BINS,
                                .classes = CLASSES,
                                .anchors = 10,
                                .width = 32,
                                .height = 16}};
    for (int k = 0; k < 2; k++) {
        const int64_t cells = m->grid.level[k].h * m->grid.level[k].w;
        for (int64_t i = 0; i < NUMBERS * cells; i++) {
            const real x = (real)(6 * chance((uint32_t)k, i) - 3);
            m->planes[k][i] = x;
            m->last[k][i % cells * NUMBERS + i / cells] = x;
        }
    }
}

static double cut(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

static void test_decode(void **state)
{
    (void)state;
    struct maps m;
    struct detection found[10];
    maps_make(&m);
    const struct detection_maps engine = {&m.grid, {m.last[0], m.last[1]}};
    const struct detect_maps server = {&m.spec, {m.planes[0], m.planes[1]}};
    assert_int_equal(detect_anchors(&m.spec), 10);
    assert_int_equal(detect_decode(&server, 0, found), 10);
    for (int64_t i = 0; i < 10; i++) {
        const struct anchor a = detection_anchor(&engine, i);
        const struct box b = anchor_box(&a, BINS);
        const real *logits = a.logits + 4 * BINS;
        for (int64_t c = 0; c < CLASSES; c++)
            assert_true(logits[c] <= logits[found[i].category]);
        const double best = (double)logits[found[i].category];
        assert_true(fabs(found[i].score - 1 / (1 + exp(-best))) < 1e-12);
        assert_true(fabs(found[i].x1 - cut(b.x1 * a.stride, 32)) < 1e-9);
        assert_true(fabs(found[i].y1 - cut(b.y1 * a.stride, 16)) < 1e-9);
        assert_true(fabs(found[i].x2 - cut(b.x2 * a.stride, 32)) < 1e-9);
        assert_true(fabs(found[i].y2 - cut(b.y2 * a.stride, 16)) < 1e-9);
    }
}

static void test_decode_conf(void **state)
{
    (void)state;
    struct maps m;
    struct detection all[10], some[10];
    maps_make(&m);
    const struct detect_maps maps = {&m.spec, {m.planes[0], m.planes[1]}};
    const int64_t n = detect_decode(&maps, 0, all), kept = detect_decode(&maps, 0.8, some);
    int64_t expected = 0;
    for (int64_t i = 0; i < n; i++)
        expected += all[i].score >= 0.8;
    assert_int_equal(kept, expected);
    assert_in_range(kept, 1, n - 1);
    m.planes[0][0] = (real)NAN; /* a side of the first anchor */
    assert_int_equal(detect_decode(&maps, 0, some), n - 1);
    m.planes[1][2 * 4 * BINS] = m.planes[1][2 * (4 * BINS + 1)] = m.planes[1][2 * (4 * BINS + 2)] =
        (real)NAN; /* the classes of another */
    assert_int_equal(detect_decode(&maps, 0, some), n - 2);
}

/* ---- non-maximum suppression ----------------------------------------------------------------- */

static double iou(const struct detection *a, const struct detection *b)
{
    const double w = fmin(a->x2, b->x2) - fmax(a->x1, b->x1);
    const double h = fmin(a->y2, b->y2) - fmax(a->y1, b->y1);
    const double inter = w > 0 && h > 0 ? w * h : 0;
    return inter / ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - inter);
}

/* The best that is left stays and takes away what overlaps it, until nothing is left. */
static int64_t brute_force(const struct detection *d, int64_t n, const struct detect_options *o,
                           struct detection *out)
{
    bool gone[BOXES] = {false};
    int64_t kept = 0;
    for (;;) {
        int64_t best = -1;
        for (int64_t i = 0; i < n; i++)
            if (!gone[i] && (best < 0 || d[i].score > d[best].score))
                best = i;
        if (best < 0 || kept == o->max_det)
            return kept;
        out[kept++] = d[best];
        for (int64_t i = 0; i < n; i++)
            if (d[i].category == d[best].category && iou(&d[i], &d[best]) > o->iou)
                gone[i] = true;
        gone[best] = true;
    }
}

static void test_nms(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct detection d[BOXES], copy[BOXES], room[BOXES], expected[BOXES];
        const int64_t n = (int64_t)(chance(1, round) * (BOXES + 1));
        const struct detect_options o = {0, 0.1 + 0.8 * chance(2, round),
                                         round % 3 ? 300 : 1 + round % 7};
        for (int64_t i = 0; i < n; i++) {
            const int64_t k = (round * BOXES + i) * 6;
            const double x = chance(3, k) * 20, y = chance(3, k + 1) * 20;
            d[i] = (struct detection){.x1 = x,
                                      .y1 = y,
                                      .x2 = x + 4 + chance(3, k + 2) * 10,
                                      .y2 = y + 4 + chance(3, k + 3) * 10,
                                      .score = floor(chance(3, k + 4) * 20) / 20, /* with equals */
                                      .category = (int64_t)(chance(3, k + 5) * 2)};
        }
        memcpy(copy, d, sizeof d);
        const int64_t want = brute_force(copy, n, &o, expected);
        assert_int_equal(detect_nms(d, n, &o, room), want);
        for (int64_t i = 0; i < want; i++)
            assert_memory_equal(&d[i], &expected[i], sizeof d[i]);
    }
}

/* ---- templates ------------------------------------------------------------------------------- */

static json_t *expand(const char *text)
{
    struct error e = {0};
    json_t *given = json_loads(text, 0, NULL);
    assert_non_null(given);
    json_t *expanded = describe_expand(given, &e);
    if (!expanded)
        fail_msg("%s", e.text);
    json_decref(given);
    return expanded;
}

static struct network *network_of(const char *text)
{
    struct error e = {0};
    json_t *expanded = expand(text), *again = describe_expand(expanded, &e);
    assert_true(json_equal(expanded, again));
    assert_null(json_object_get(expanded, "template"));
    struct network *net = describe_network(expanded, &e);
    assert_non_null(net);
    json_decref(again);
    json_decref(expanded);
    return net;
}

static const struct param *param_find(const struct network *net, const char *name)
{
    for (int i = 0; i < graph_param_count(net->graph); i++)
        if (strcmp(graph_param(net->graph, i)->name, name) == 0)
            return graph_param(net->graph, i);
    fail_msg("no parameter '%s'", name);
    return NULL;
}

static void check_shape(const struct network *net, const char *name, const struct shape *want)
{
    assert_true(shape_equal(&param_find(net, name)->shape, want));
}

/* The counts that Ultralytics publishes, without the 16 constants of its DFL layer. */
static void test_yolo_sizes(void **state)
{
    (void)state;
    struct network *n = network_of("{\"template\":\"yolo\"}");
    struct network *s = network_of("{\"template\":{\"name\":\"yolo\",\"size\":\"s\"}}");
    assert_int_equal(graph_params_size(n->graph), 3157200 - 16);
    assert_int_equal(graph_params_size(s->graph), 11166560 - 16);
    check_shape(n, "model.0.conv.weight", &SHAPE(16, 3, 3, 3));
    check_shape(n, "model.2.cv1.conv.weight", &SHAPE(32, 32, 1, 1));
    check_shape(n, "model.4.m.1.cv2.bn.running_var", &SHAPE(32));
    check_shape(n, "model.9.cv2.conv.weight", &SHAPE(256, 512, 1, 1));
    check_shape(n, "model.12.cv1.conv.weight", &SHAPE(128, 384, 1, 1));
    check_shape(n, "model.22.cv2.0.0.conv.weight", &SHAPE(64, 64, 3, 3));
    check_shape(n, "model.22.cv3.2.2.bias", &SHAPE(80));
    network_destroy(&n);
    network_destroy(&s);
}

static void test_first_biases(void **state)
{
    (void)state;
    struct network *net = network_of("{\"template\":{\"name\":\"yolo\",\"num_classes\":3}}");
    real *params = calloc(graph_params_size(net->graph), sizeof *params);
    real *buffers = calloc(graph_buffers_size(net->graph), sizeof *buffers);
    graph_init(net->graph, 1, params, buffers);
    const struct param *box = param_find(net, "model.22.cv2.1.2.bias");
    const struct param *cls = param_find(net, "model.22.cv3.1.2.bias");
    assert_int_equal(cls->count, 3);
    assert_true(params[box->offset] == 1 && params[box->offset + box->count - 1] == 1);
    for (size_t i = 0; i < cls->count; i++)
        assert_true(fabs((double)params[cls->offset + i] - log(5.0 / 3 / (40 * 40))) < 1e-6);
    free(params);
    free(buffers);
    network_destroy(&net);
}

static void test_tiny(void **state)
{
    (void)state;
    struct detection_spec spec;
    struct network *net =
        network_of("{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":3,\"image_size\":96},"
                   "\"labels\":[\"a\",\"b\",\"c\"],\"seed\":5,"
                   "\"targets\":[{\"name\":\"boxes\",\"shape\":[-1,7,5]}]}");
    assert_in_range(graph_params_size(net->graph), 300000, 600000);
    assert_true(node_detection(net->losses[0], &spec));
    assert_int_equal(spec.n_maps, 2);
    assert_int_equal(spec.classes, 3);
    assert_int_equal(spec.width, 96);
    assert_int_equal(net->seed, 5);
    assert_int_equal(node_shape(net->targets[0])->dim[1], 7);
    network_destroy(&net);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum error_code code;
        const char *says;
    } cases[] = {
        {"{\"template\":\"yolo_tin\"}", ERROR_UNKNOWN_OPERATOR, "yolo_tiny"},
        {"{\"template\":{}}", ERROR_MISSING_FIELD, "name"},
        {"{\"template\":3}", ERROR_BAD_TYPE, "template"},
        {"{\"template\":{\"name\":\"yolo\",\"classes\":3}}", ERROR_BAD_ATTRIBUTE, "num_classes"},
        {"{\"template\":{\"name\":\"yolo\",\"num_classes\":0}}", ERROR_BAD_ATTRIBUTE,
         "num_classes"},
        {"{\"template\":{\"name\":\"yolo\",\"image_size\":100}}", ERROR_BAD_SHAPE, "model.11"},
        {"{\"template\":\"yolo\",\"labels\":[\"a\"]}", ERROR_BAD_VALUE, "80"},
        {"{\"template\":\"yolo\",\"nonsense\":1}", ERROR_UNKNOWN_FIELD, "nonsense"},
        {"{\"template\":\"yolo\",\"targets\":[{\"shape\":[-1,9,4]}]}", ERROR_BAD_SHAPE,
         "max_boxes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error e = {0};
        json_t *given = json_loads(cases[i].text, 0, NULL);
        json_t *expanded = describe_expand(given, &e);
        if (expanded || e.code != cases[i].code || !strstr(e.text, cases[i].says))
            fail_msg("%s: %s (%s)", cases[i].text, e.text, error_slug(e.code));
        json_decref(given);
    }
}

int main(void)
{
    engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),       cmocka_unit_test(test_decode_conf),
        cmocka_unit_test(test_nms),          cmocka_unit_test(test_yolo_sizes),
        cmocka_unit_test(test_first_biases), cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("detect", tests, NULL, NULL);
}
