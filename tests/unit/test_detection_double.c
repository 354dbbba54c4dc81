/* test_detection_double.c: a detector's loss against PyTorch's numbers (tests/data/detection,
 * written by tests/golden/make_detection.py): complete IoU with its gradient, which anchor serves
 * which object with which score, the three parts of the loss, the gradients of the maps. And its
 * gradient against central differences, with the assignment held. Run from the root of the
 * repository. */
#include "detection.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const FILE_NAME = "tests/data/detection/loss.json";
static const double TOLERANCE = 1e-8;

static json_t *file;

static real *numbers(const json_t *list, size_t *n_r)
{
    size_t n = json_array_size(list);
    real *x = calloc(n + 1, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = json_number_value(json_array_get(list, i));
    if (n_r)
        *n_r = n;
    return x;
}

static void check_near(const char *what, const real *found, const json_t *expected)
{
    size_t n;
    real *want = numbers(expected, &n);
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += (found[i] - want[i]) * (found[i] - want[i]);
        norm += want[i] * want[i];
    }
    free(want);
    if (!(sqrt(error) <= TOLERANCE * sqrt(norm)))
        fail_msg("%s: relative error %.3g (norm %.3g)", what, sqrt(error / norm), sqrt(norm));
}

static struct box box_read(const json_t *o, const char *key)
{
    const json_t *l = json_object_get(o, key);
    return (struct box){
        json_number_value(json_array_get(l, 0)), json_number_value(json_array_get(l, 1)),
        json_number_value(json_array_get(l, 2)), json_number_value(json_array_get(l, 3))};
}

static void test_ciou(void **state)
{
    size_t i;
    json_t *item;
    (void)state;
    json_array_foreach(json_object_get(file, "ciou"), i, item)
    {
        const struct box a = box_read(item, "a"), b = box_read(item, "b");
        const struct ciou c = box_ciou(&a, &b);
        const struct box slope = box_ciou_slope(&a, &b, c.alpha);
        real value = ciou_value(&c);
        assert_true(fabs(value - json_number_value(json_object_get(item, "value"))) < 1e-12);
        assert_true(fabs(c.alpha - json_number_value(json_object_get(item, "alpha"))) < 1e-12);
        check_near("gradient of CIoU", (const real *)&slope, json_object_get(item, "grad"));
    }
    assert_true(i > 5);
}

/* ---- one case -------------------------------------------------------------------------------- */

struct subject {
    json_t *given;
    struct graph *graph;
    struct node *in[DETECTION_MAX_LEVELS + 1], *loss;
    void *data[DETECTION_MAX_LEVELS + 1];
    int n_maps;
    int64_t n;
};

static struct shape shape_read(const json_t *list)
{
    struct shape s = {.rank = (int)json_array_size(list)};
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = json_integer_value(json_array_get(list, (size_t)i));
    return s;
}

static struct node *input_read(struct subject *t, int i, const json_t *shape, const json_t *data)
{
    struct shape s = shape_read(shape);
    struct error e;
    t->n = s.dim[0];
    s.dim[0] = BATCH;
    t->data[i] = numbers(data, NULL);
    return t->in[i] = graph_input(t->graph, "x", DTYPE_REAL, &s, &e);
}

static void subject_build(struct subject *t, json_t *given)
{
    struct error e = {0};
    *t = (struct subject){.given = given, .graph = graph_create(&e)};
    size_t i;
    json_t *map, *maps = json_object_get(given, "maps"), *value;
    json_array_foreach(maps, i, map)
    {
        assert_non_null(
            input_read(t, (int)i, json_object_get(map, "shape"), json_object_get(map, "data")));
    }
    t->n_maps = (int)i;
    assert_non_null(input_read(t, t->n_maps, json_object_get(given, "target_shape"),
                               json_object_get(given, "target")));
    double strides[DETECTION_MAX_LEVELS];
    for (int k = 0; k < t->n_maps; k++)
        strides[k] =
            json_number_value(json_array_get(json_object_get(given, "strides"), (size_t)k));
    struct attr attrs[8] = {
        {.name = "strides", .kind = ATTR_IS_LIST, .list = strides, .n_list = t->n_maps},
        {.name = "reg_max",
         .kind = ATTR_IS_INT,
         .i = json_integer_value(json_object_get(given, "reg_max")),
         .d = json_number_value(json_object_get(given, "reg_max"))}};
    int n_attrs = 2;
    const char *key;
    json_object_foreach(json_object_get(given, "settings"), key, value)
    {
        attrs[n_attrs++] =
            (struct attr){.name = key, .kind = ATTR_IS_REAL, .d = json_number_value(value)};
    }
    t->loss =
        graph_add(t->graph, "yolo_detection", "loss", t->in, t->n_maps + 1, attrs, n_attrs, &e);
    if (!t->loss)
        fail_msg("%s", e.text);
}

static void subject_free(struct subject *t)
{
    for (int i = 0; i <= t->n_maps; i++)
        free(t->data[i]);
    graph_destroy(&t->graph);
}

static void check_run(struct subject *t, struct run *r)
{
    const struct run_part *parts;
    const char *names[] = {"box_loss", "cls_loss", "dfl_loss"};
    struct error e = {0};
    struct run_args args = {.n = t->n, .inputs = (const void *const *)t->data};
    if (run_execute(r, &args, &e))
        fail_msg("%s", e.text);
    assert_int_equal(run_parts(r, &parts), 3);
    real found[3], total = 0;
    for (int i = 0; i < 3; i++) {
        assert_string_equal(parts[i].name, names[i]);
        total += found[i] = parts[i].value;
    }
    check_near("parts", found, json_object_get(t->given, "parts"));
    assert_true(fabs(total - (double)run_loss(r)) < 1e-12 * total);
    for (int k = 0; k < t->n_maps; k++) {
        json_t *map = json_array_get(json_object_get(t->given, "maps"), (size_t)k);
        check_near("gradient of a map", run_wrt_grad(r, k), json_object_get(map, "grad"));
    }
}

static void test_loss(void **state)
{
    struct subject t;
    struct error e = {0};
    subject_build(&t, *state);
    struct plan_spec spec = {.training = true,
                             .loss = t.loss,
                             .wrt = t.in,
                             .n_wrt = t.n_maps,
                             .capacity = t.n,
                             .threads = 1};
    struct plan *p = plan_create(t.graph, &spec, &e);
    assert_non_null(p);
    struct run *r = run_create(p, &e);
    assert_non_null(r);
    check_run(&t, r);
    run_destroy(&r);
    plan_destroy(&p);
    subject_free(&t);
}

/* ---- the assignment, and its gradient, image by image ---------------------------------------- */

/* The maps of image i as the functions of detection.h take them: channels last. */
struct image_maps {
    struct detection_grid grid;
    struct detection_maps maps;
    real *map[DETECTION_MAX_LEVELS], *slope[DETECTION_MAX_LEVELS];
    int64_t count[DETECTION_MAX_LEVELS];
};

static void maps_build(struct image_maps *m, const struct subject *t, int64_t image)
{
    struct detection_spec spec;
    assert_true(node_detection(t->loss, &spec));
    *m = (struct image_maps){.grid = {.n_levels = spec.n_maps,
                                      .reg_max = spec.reg_max,
                                      .classes = spec.classes,
                                      .width = spec.width,
                                      .height = spec.height}};
    for (int k = 0; k < spec.n_maps; k++) {
        const int64_t *d = node_shape(t->in[k])->dim, cells = d[2] * d[3];
        m->grid.level[k] = (struct detection_level){d[2], d[3], spec.stride[k], m->grid.anchors};
        m->grid.anchors += cells;
        m->count[k] = d[1] * cells;
        m->map[k] = calloc((size_t)m->count[k], sizeof(real));
        m->slope[k] = calloc((size_t)m->count[k], sizeof(real));
        const real *from = (const real *)t->data[k] + image * m->count[k];
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t i = 0; i < cells; i++)
                m->map[k][i * d[1] + c] = from[c * cells + i];
        m->maps.map[k] = m->map[k];
    }
    m->maps.grid = &m->grid;
}

static void maps_free(struct image_maps *m)
{
    for (int k = 0; k < m->grid.n_levels; k++) {
        free(m->map[k]);
        free(m->slope[k]);
    }
}

static struct assigner assigner_of(const struct subject *t)
{
    const json_t *s = json_object_get(t->given, "settings");
    struct assigner a = {10, 0.5, 6};
    if (json_object_get(s, "topk"))
        a = (struct assigner){json_integer_value(json_object_get(s, "topk")),
                              json_number_value(json_object_get(s, "alpha")),
                              json_number_value(json_object_get(s, "beta"))};
    return a;
}

static double terms_sum(const struct image_maps *m, const real *rows, const struct assigned *a,
                        const struct detection_gains *gains)
{
    const struct detection_terms t = detection_terms(&m->maps, rows, a);
    return gains->box * t.box + gains->cls * t.cls + gains->dfl * t.dfl;
}

static void check_slopes(struct image_maps *m, const real *rows, const struct assigned *a)
{
    const struct detection_gains gains = {7.5, 0.5, 1.5};
    double diff = 0, norm = 0;
    detection_slopes(&m->maps, rows, a, &gains, m->slope);
    for (int k = 0; k < m->grid.n_levels; k++)
        for (int64_t i = 0; i < m->count[k]; i++) {
            const double h = 1e-5, old = m->map[k][i];
            m->map[k][i] = old + h;
            double numeric = terms_sum(m, rows, a, &gains);
            m->map[k][i] = old - h;
            numeric = (numeric - terms_sum(m, rows, a, &gains)) / (2 * h);
            m->map[k][i] = old;
            diff += (numeric - m->slope[k][i]) * (numeric - m->slope[k][i]);
            norm += numeric * numeric;
        }
    if (!(sqrt(diff / norm) < 1e-6))
        fail_msg("central differences: relative error %g", sqrt(diff / norm));
}

static void test_assignment(void **state)
{
    struct subject t;
    subject_build(&t, *state);
    const struct assigner how = assigner_of(&t);
    const int64_t max_boxes = node_shape(t.in[t.n_maps])->dim[1];
    real *objects = numbers(json_object_get(t.given, "objects"), NULL);
    real *scores = numbers(json_object_get(t.given, "scores"), NULL);
    for (int64_t image = 0; image < t.n; image++) {
        struct image_maps m;
        maps_build(&m, &t, image);
        const int64_t anchors = m.grid.anchors;
        const real *rows = (const real *)t.data[t.n_maps] + image * max_boxes * 5;
        double *room = calloc((size_t)detection_assign_room(&m.grid, max_boxes), sizeof *room);
        real *out = calloc((size_t)(3 * anchors), sizeof *out);
        const struct assigned a = {out, out + anchors, out + 2 * anchors};
        detection_assign(&how, &m.maps, rows, max_boxes, room, &a);
        for (int64_t i = 0; i < anchors; i++) {
            if (a.object[i] != objects[image * anchors + i])
                fail_msg("image %d anchor %d: object %g, expected %g", (int)image, (int)i,
                         a.object[i], objects[image * anchors + i]);
            assert_true(fabs(a.score[i] - scores[image * anchors + i]) < 1e-9);
        }
        check_slopes(&m, rows, &a);
        free(room);
        free(out);
        maps_free(&m);
    }
    free(objects);
    free(scores);
    subject_free(&t);
}

int main(void)
{
    json_error_t reason;
    struct CMUnitTest tests[32] = {{"complete IoU", test_ciou, NULL, NULL, NULL}};
    size_t n = 1, i;
    json_t *item;
    engine_start();
    file = json_load_file(FILE_NAME, 0, &reason);
    json_array_foreach(json_object_get(file, "cases"), i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        tests[n++] = (struct CMUnitTest){name, test_loss, NULL, NULL, item};
        char *held = malloc(strlen(name) + 32);
        sprintf(held, "%s: assignment and slopes", name);
        tests[n++] = (struct CMUnitTest){held, test_assignment, NULL, NULL, item};
    }
    int failed = _cmocka_run_group_tests("detection", tests, n, NULL, NULL);
    for (i = 2; i < n; i += 2)
        free((void *)(uintptr_t)tests[i].name);
    json_decref(file);
    return failed;
}
