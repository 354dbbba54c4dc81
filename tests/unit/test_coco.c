/* test_coco.c: detection metrics: the numbers of pycocotools, the check values of the other
 * protocols, and every refusal. */
#include "../../server/api.h"
#include "../../server/coco.h"
#include "../../server/coco_read.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/data/coco_eval"

static json_t *load(const char *path)
{
    json_error_t e;
    json_t *j = json_load_file(path, 0, &e);
    if (!j)
        fail_msg("%s: %s", path, e.text);
    return j;
}

/* What the handler answers to a text; the caller frees it. */
static json_t *ask_text(const char *text, int status)
{
    struct request *q = request_create(NULL, "POST", "/v2/detection/evaluate", "");
    q->body_size = strlen(text);
    q->body = q->body_block = strdup(text);
    int found = api_detection_evaluate(q);
    json_error_t je;
    json_t *answer = json_loadb(q->response.body, q->response.size, 0, &je);
    if (!answer || found != status)
        fail_msg("status %d, expected %d: %.*s", found, status, (int)q->response.size,
                 (const char *)q->response.body);
    request_destroy(&q);
    return answer;
}

static json_t *ask(const json_t *set, const char *protocol)
{
    json_t *body = json_object();
    json_object_set(body, "ground_truth", json_object_get(set, "ground_truth"));
    json_object_set(body, "detections", json_object_get(set, "detections"));
    if (protocol)
        json_object_set_new(body, "protocol", json_string(protocol));
    char *text = json_dumps(body, JSON_REAL_PRECISION(17));
    json_t *answer = ask_text(text, 200);
    free(text);
    json_decref(body);
    return answer;
}

/* Every number of `expected` is in `found`, null where it is null. */
static void compare(const char *what, const json_t *expected, const json_t *found)
{
    const char *key;
    json_t *value;
    assert_true(json_object_size(expected) > 0);
    json_object_foreach((json_t *)expected, key, value)
    {
        const json_t *other = json_object_get(found, key);
        if (!other || json_is_null(value) != json_is_null(other) ||
            !(fabs(json_number_value(value) - json_number_value(other)) <= 1e-12))
            fail_msg("%s: %s is %.17g, expected %.17g", what, key, json_number_value(other),
                     json_number_value(value));
    }
}

static int for_each_file(const char *prefix, void (*f)(const char *path, const json_t *set))
{
    struct dirent **names;
    int n = scandir(FOLDER, &names, NULL, alphasort), used = 0;
    for (int i = 0; i < n; i++) {
        char path[400];
        snprintf(path, sizeof path, FOLDER "/%s", names[i]->d_name);
        if (strncmp(names[i]->d_name, prefix, strlen(prefix)) == 0) {
            json_t *set = load(path);
            f(path, set);
            json_decref(set);
            used++;
        }
        free(names[i]);
    }
    free(names);
    return used;
}

/* ---- numbers of others --------------------------------------------------------------------------
 */

static void check_coco(const char *path, const json_t *set)
{
    const json_t *expected = json_object_get(set, "expected");
    json_t *answer = ask(set, NULL);
    assert_string_equal(json_string_value(json_object_get(answer, "protocol")), "coco");
    assert_int_equal(json_object_size(json_object_get(answer, "stats")), 12);
    compare(path, json_object_get(expected, "stats"), json_object_get(answer, "stats"));
    compare(path, json_object_get(expected, "per_class_ap"),
            json_object_get(answer, "per_class_ap"));
    json_decref(answer);
}

static void test_pycocotools(void **state)
{
    (void)state;
    assert_int_equal(for_each_file("case", check_coco), 14);
    assert_int_equal(for_each_file("hand", check_coco), 7);
}

static void test_val2014(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"APsmall", "AP_small"},   {"APmedium", "AP_medium"},
                                           {"APlarge", "AP_large"},   {"ARsmall", "AR_small"},
                                           {"ARmedium", "AR_medium"}, {"ARlarge", "AR_large"}};
    FILE *there = fopen("../shared/data/coco-metric/expected.json", "r");
    if (!there)
        skip();
    fclose(there);
    json_t *all = load("../shared/data/coco-metric/expected.json");
    json_t *expected =
        json_object_get(json_object_get(all, "coco_val2014_100_bbox"), "pycocotools");
    json_t *classes =
        json_object_get(json_object_get(all, "coco_val2014_100_bbox"), "pycocotools_AP_per_class");
    json_t *truth = load("../shared/data/coco-metric/instances_val2014_100.json");
    json_t *boxes = load("../shared/data/coco-metric/instances_val2014_fakebbox100_results.json");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_object_set(expected, names[i][1], json_object_get(expected, names[i][0]));
        json_object_del(expected, names[i][0]);
    }
    json_t *set = json_pack("{s:o,s:o}", "ground_truth", truth, "detections", boxes);
    json_t *answer = ask(set, "coco"), *by_id = json_object_get(answer, "per_class_ap");
    compare("val2014", expected, json_object_get(answer, "stats"));
    size_t i;
    json_t *category, *by_name = json_object();
    json_array_foreach(json_object_get(truth, "categories"), i, category)
    {
        char id[24];
        snprintf(id, sizeof id, "%lld",
                 (long long)json_integer_value(json_object_get(category, "id")));
        json_object_set(by_name, json_string_value(json_object_get(category, "name")),
                        json_object_get(by_id, id));
    }
    compare("val2014", classes, by_name);
    json_t *counts = json_object_get(answer, "counts");
    assert_int_equal(json_integer_value(json_object_get(counts, "ground_truths_crowd")), 9);
    assert_int_equal(json_integer_value(json_object_get(counts, "detections")), 734);
    json_decref(by_name);
    json_decref(answer);
    json_decref(set);
    json_decref(all);
}

static void check_ultralytics(const char *path, const json_t *set)
{
    static const char *const protocols[] = {"ultralytics", "ultralytics-legacy"};
    for (int i = 0; i < 2; i++) {
        json_t *answer = ask(set, protocols[i]);
        const json_t *expected = json_object_get(json_object_get(set, "expected"), protocols[i]);
        compare(path, json_object_get(expected, "stats"), json_object_get(answer, "stats"));
        compare(path, json_object_get(expected, "per_class_ap"),
                json_object_get(answer, "per_class_ap"));
        json_decref(answer);
    }
}

static void test_ultralytics(void **state)
{
    (void)state;
    assert_int_equal(for_each_file("ultralytics", check_ultralytics), 4);
}

/* One class, one image: `hits` by falling score, 1: a box that is right, 0: one that is nowhere. */
static json_t *simple_set(const char *hits, int truths)
{
    json_t *annotations = json_array(), *detections = json_array();
    int next = 0;
    for (int i = 0; i < truths; i++)
        json_array_append_new(annotations,
                              json_pack("{s:i,s:i,s:i,s:[i,i,i,i],s:i,s:i}", "id", i + 1,
                                        "image_id", 5, "category_id", 3, "bbox", 120 * i, 0, 100,
                                        50, "area", 5000, "iscrowd", 0));
    for (int i = 0; hits[i]; i++)
        json_array_append_new(
            detections, json_pack("{s:i,s:i,s:[i,i,i,i],s:f}", "image_id", 5, "category_id", 3,
                                  "bbox", hits[i] == '1' ? 120 * next++ : 0,
                                  hits[i] == '1' ? 0 : 500, 100, 50, "score", 0.99 - 0.01 * i));
    return json_pack("{s:{s:[{s:i}],s:[{s:i}],s:o},s:o}", "ground_truth", "images", "id", 5,
                     "categories", "id", 3, "annotations", annotations, "detections", detections);
}

static double ap50(const json_t *set, const char *protocol)
{
    json_t *answer = ask(set, protocol);
    double ap = json_number_value(json_object_get(json_object_get(answer, "stats"), "AP50"));
    json_decref(answer);
    return ap;
}

static void test_check_values(void **state)
{
    (void)state;
    static const struct {
        const char *hits;
        int truths;
        double coco, legacy, ultralytics;
    } rows[] = {
        {"1", 2, 51.0 / 101, 0.750, 0.495},
        {"101", 3, 0.554455445544554, 0.6672, 0.5550},
        {"01", 1, 0.5, 0.4975, 0.4975},
        {"11010", 4, 0.690594059405941, 0.7605, 0.6825},
        {"10001", 2, 0.702970297029703, 0.695, 0.695},
        {"1111", 4, 1, 0.995, 0.995},
        {"1", 1, 1, 0.995, 0.995},
        {"1111111", 20, 35.0 / 101, 0.675, 0.345},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *set = simple_set(rows[i].hits, rows[i].truths);
        assert_true(fabs(ap50(set, "coco") - rows[i].coco) < 1e-12);
        assert_true(fabs(ap50(set, "ultralytics-legacy") - rows[i].legacy) < 5e-5);
        assert_true(fabs(ap50(set, "ultralytics") - rows[i].ultralytics) < 5e-5);
        json_decref(set);
    }
}

/* ---- VOC ----------------------------------------------------------------------------------------
 */

/* Lines "object [score] x y w h" of seven files, as entries of a list. */
static json_t *voc_list(const char *kind, bool scored)
{
    json_t *list = json_array();
    for (int image = 1; image <= 7; image++) {
        char path[100];
        double v[5] = {0};
        snprintf(path, sizeof path, "tests/data/voc_metric/%s/%05d.txt", kind, image);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        while (fscanf(f, scored ? "object %lf %lf %lf %lf %lf " : "object %lf %lf %lf %lf ", v,
                      v + 1, v + 2, v + 3, v + 4) >= 4) {
            const double *b = v + scored;
            json_t *entry = json_pack("{s:i,s:i,s:[f,f,f,f]}", "image_id", image, "category_id", 1,
                                      "bbox", b[0], b[1], b[2], b[3]);
            json_object_set_new(entry, scored ? "score" : "area",
                                json_real(scored ? v[0] : b[2] * b[3]));
            if (!scored)
                json_object_set_new(entry, "id", json_integer((json_int_t)json_array_size(list)));
            json_array_append_new(list, entry);
        }
        fclose(f);
    }
    return list;
}

static json_t *voc_body(void)
{
    json_t *images = json_array();
    for (int i = 1; i <= 7; i++)
        json_array_append_new(images, json_pack("{s:i}", "id", i));
    return json_pack("{s:{s:o,s:[{s:i}],s:o},s:o,s:[f,f,f,f]}", "ground_truth", "images", images,
                     "categories", "id", 1, "annotations", voc_list("gts", false), "detections",
                     voc_list("dets", true), "iou_thresholds", .1, .3, .5, .75);
}

static void test_voc(void **state)
{
    (void)state;
    static const struct {
        const char *protocol;
        bool inclusive;
        double ap[4]; /* at .1, .3, .5, .75 */
    } rows[] = {
        {"voc2007", true, {.3333333333, .2683982683, .0303030303, 0}},
        {"voc", true, {.3371980676, .2456866804, .0222222222, 0}},
        {"voc2007", false, {.3024538867, .2683982684, .0303030303, 0}},
        {"voc", false, {.2801328502, .2253968254, .0222222222, 0}},
    };
    json_t *body = voc_body();
    assert_int_equal(json_array_size(json_object_get(body, "detections")), 24);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_object_set_new(body, "protocol", json_string(rows[i].protocol));
        json_object_set_new(body, "inclusive_pixels", json_boolean(rows[i].inclusive));
        char *text = json_dumps(body, 0);
        json_t *answer = ask_text(text, 200), *list = json_object_get(answer, "per_threshold_ap");
        for (size_t t = 0; t < 4; t++)
            assert_true(fabs(json_number_value(json_array_get(list, t)) - rows[i].ap[t]) < 2e-10);
        assert_int_equal(json_is_true(json_object_get(answer, "inclusive_pixels")),
                         rows[i].inclusive);
        assert_true(json_is_null(json_object_get(json_object_get(answer, "stats"), "AP75")) ==
                    false);
        assert_true(json_is_null(json_object_get(json_object_get(answer, "stats"), "AR1")));
        json_decref(answer);
        free(text);
    }
    json_decref(body);
}

/* ---- small cases --------------------------------------------------------------------------------
 */

#define TRUTHS(annotations)                                                                        \
    "{\"ground_truth\":{\"images\":[{\"id\":7},{\"id\":8}],\"categories\":[{\"id\":3,\"name\":"    \
    "\"a\"}],\"annotations\":[" annotations "]},"
#define ONE                           "{\"id\":1,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,100,50],\"area\":5000}"
#define BODY(annotations, detections) TRUTHS(annotations) "\"detections\":[" detections "]}"
#define BOX(box)                      "{\"image_id\":7,\"category_id\":3,\"bbox\":" box ",\"score\":0.5}"

static void expect_stat(const char *text, const char *name, double expected)
{
    json_t *answer = ask_text(text, 200);
    const json_t *value = json_object_get(json_object_get(answer, "stats"), name);
    assert_non_null(value);
    if (json_is_null(value) != isnan(expected) ||
        (!isnan(expected) && fabs(json_number_value(value) - expected) > 1e-12))
        fail_msg("%s: %s is %.17g", text, name, json_number_value(value));
    json_decref(answer);
}

static void test_small_cases(void **state)
{
    (void)state;
    /* IoU 0.5 matches at 0.5. */
    expect_stat(BODY(ONE, BOX("[0,0,100,25]")), "AP50", 1);
    expect_stat(BODY(ONE, BOX("[0,0,100,24.9]")), "AP50", 0);
    expect_stat(BODY(ONE, BOX("[0,0,100,37.5]")), "AP75", 1);
    /* Nothing to find: null. An id of 0 is an id like any other. */
    expect_stat(BODY("", BOX("[0,0,1,1]")), "AP", NAN);
    expect_stat(BODY("", ""), "AR100", NAN);
    expect_stat("{\"ground_truth\":{\"images\":[],\"categories\":[],\"annotations\":[]},"
                "\"detections\":[]}",
                "AP", NAN);
    expect_stat(BODY("{\"id\":0,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,9,9],\"area\":81,"
                     "\"iscrowd\":0}",
                     BOX("[0,0,9,9]")),
                "AP", 1);
    /* Fields that do not matter, and a mask. */
    expect_stat(BODY("{\"id\":1,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,9,9],\"area\":81,"
                     "\"segmentation\":[[1,2,\n3,4],[5.5e1]],\"iscrowd\":false,\"x\":\"a\\\"NaN\"}",
                     BOX("[0,0,9,9]")),
                "AP", 1);
}

static void test_counts_and_curves(void **state)
{
    (void)state;
    json_t *set = simple_set("1011", 4), *answer = ask(set, NULL);
    json_t *curves = json_object_get(answer, "curves");
    json_t *curve = json_object_get(json_object_get(curves, "precision"), "3");
    assert_true(json_number_value(json_object_get(curves, "iou")) == 0.5);
    assert_int_equal(json_array_size(json_object_get(curves, "recall")), 101);
    assert_int_equal(json_array_size(curve), 101);
    assert_true(fabs(json_number_value(json_array_get(curve, 25)) - 1) < 1e-12);
    assert_true(fabs(json_number_value(json_array_get(curve, 26)) - 0.75) < 1e-12);
    assert_true(json_number_value(json_array_get(curve, 76)) == 0);
    json_decref(answer);
    json_decref(set);
    set = simple_set("1011", 4);
    for (int i = 0; i < 97; i++)
        json_array_append(json_object_get(set, "detections"),
                          json_array_get(json_object_get(set, "detections"), 1));
    answer = ask(set, "coco");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(answer, "counts"), "detections_cut")),
        1);
    json_decref(answer);
    json_decref(set);
    answer = ask_text(TRUTHS(ONE) "\"detections\":[],\"curves\":false}", 200);
    assert_null(json_object_get(answer, "curves"));
    json_decref(answer);
}

/* ---- refusals -----------------------------------------------------------------------------------
 */

static const struct {
    const char *text;
    int status;
    const char *part;
} refusals[] = {
    {"", 400, "the body is empty"},
    {"[]", 400, "expected an object"},
    {"{", 400, "line 1"},
    {"{}", 400, "'ground_truth' is missing"},
    {TRUTHS(ONE) "\"detections\":[],\"x\":1}", 400, "unknown field 'x'"},
    {TRUTHS(ONE) "\"detections\":{}}", 400, "detections: expected a list"},
    {TRUTHS(ONE) "\"detections\":[],\"protocol\":\"pascal\"}", 422, "coco, ultralytics,"},
    {TRUTHS(ONE) "\"detections\":[],\"inclusive_pixels\":true}", 422, "the protocol coco"},
    {TRUTHS(ONE) "\"detections\":[],\"iou_thresholds\":[]}", 422, "an empty list"},
    {TRUTHS(ONE) "\"detections\":[],\"iou_thresholds\":[0.5,0]}", 422, "iou_thresholds[1]"},
    {TRUTHS(ONE) "\"detections\":[],\"iou_thresholds\":[\"a\"]}", 422, "the string 'a'"},
    {"{\"ground_truth\":{},\"detections\":[]}", 422, "'images' is missing"},
    {"{\"ground_truth\":{\"images\":[],\"categories\":3},\"detections\":[]}", 422,
     "ground_truth.categories: expected a list"},
    {"{\"ground_truth\":{\"images\":[],\"categories\":[]},\"detections\":[]}", 422,
     "'annotations' is missing"},
    {"{\"ground_truth\":{\"images\":[{\"id\":1},{\"id\":2},{\"id\":1}],\"categories\":[],"
     "\"annotations\":[]},\"detections\":[]}",
     422, "ground_truth.images[2]: id: 1 is the id of ground_truth.images[0] already"},
    {"{\"ground_truth\":{\"images\":[{}],\"categories\":[],\"annotations\":[]},\"detections\":[]}",
     422, "ground_truth.images[0]: the field 'id' is missing"},
    {"{\"ground_truth\":{\"images\":[7],\"categories\":[],\"annotations\":[]},\"detections\":[]}",
     422, "ground_truth.images[0]: expected an object, found 7"},
    {"{\"ground_truth\":{\"images\":[],\"categories\":[{\"id\":4},{\"id\":4}],\"annotations\":[]},"
     "\"detections\":[]}",
     422, "ground_truth.categories[1]: id: 4"},
    {BODY(ONE "," ONE, ""), 422, "ground_truth.annotations[1]: id: 1"},
    {BODY("{\"id\":5,\"image_id\":9,\"category_id\":3,\"bbox\":[0,0,1,1],\"area\":1}", ""), 422,
     "ground_truth.annotations[0] (id 5): image_id: expected the id of an image"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":4,\"bbox\":[0,0,1,1],\"area\":1}", ""), 422,
     "ground_truth.annotations[0] (id 5): category_id: expected the id of a category"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,-1,1],\"area\":1}", ""), 422,
     "(id 5): bbox[2]: expected a width from 0 to 1e9, found -1"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1],\"area\":1}", ""), 422,
     "(id 5): bbox: expected a list of four numbers"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":3,\"area\":1}", ""), 422,
     "(id 5): the field 'bbox' is missing"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1,1]}", ""), 422,
     "(id 5): the field 'area' is missing"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1,1],\"area\":-1}", ""), 422,
     "(id 5): area: expected a number from 0 to 1e18, found -1"},
    {BODY("{\"id\":5,\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1,1],\"area\":1,\"iscrowd\":2}",
          ""),
     422, "(id 5): iscrowd: expected 0 or 1, found 2"},
    {BODY("{\"id\":5,\"image_id\":\"7\"}", ""), 422,
     "image_id: expected a whole number, found the"},
    {BODY(ONE, BOX("[0,0,1,1]") ",{\"image_id\":9,\"category_id\":3,\"bbox\":[0,0,1,1],"
                                "\"score\":1}"),
     422, "detections[1]: image_id: expected the id of an image in ground_truth.images, found 9"},
    {BODY(ONE, "{\"image_id\":7,\"category_id\":1,\"bbox\":[0,0,1,1],\"score\":1}"), 422,
     "detections[0]: category_id"},
    {BODY(ONE, "{\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1,1]}"), 422,
     "detections[0]: the field 'score' is missing"},
    {BODY(ONE, "{\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1,1],\"score\":NaN}"), 422,
     "detections[0]: score: expected a finite number, found the string 'NaN'"},
    {BODY(ONE, "{\"image_id\":7,\"category_id\":3,\"bbox\":[0,0,1,1],\"score\":null}"), 422,
     "detections[0]: score: expected a finite number, found null"},
    {BODY(ONE, BOX("[0,-Infinity,1,1]")), 422, "detections[0]: bbox[1]"},
    {BODY(ONE, BOX("[0,2e9,1,1]")), 422, "detections[0]: bbox[1]"},
    {BODY(ONE, BOX("[0,0,1,-0.5]")), 422, "bbox[3]: expected a height from 0 to 1e9, found -0.5"},
    {BODY(ONE, BOX("[0,0,1,null]")), 422, "bbox[3]: expected a height from 0 to 1e9, found null"},
    {BODY(ONE, "[]"), 422, "detections[0]: expected an object, found a list"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        json_t *answer = ask_text(refusals[i].text, refusals[i].status);
        const char *sentence = json_string_value(json_object_get(answer, "error"));
        if (!sentence || !strstr(sentence, refusals[i].part))
            fail_msg("%s: '%s' has no '%s'", refusals[i].text, sentence, refusals[i].part);
        json_decref(answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pycocotools),
        cmocka_unit_test(test_val2014),
        cmocka_unit_test(test_ultralytics),
        cmocka_unit_test(test_check_values),
        cmocka_unit_test(test_voc),
        cmocka_unit_test(test_small_cases),
        cmocka_unit_test(test_counts_and_curves),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("coco", tests, NULL, NULL);
}
