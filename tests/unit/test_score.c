/* test_score.c: metrics of classifiers, labels and regression: scikit-learn's values on the same
 * data, the other layouts that predictions have, and what there is no number for. */
#include "../../server/score.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct arena *arena;
    struct scores scores;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->arena = arena_create(0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_destroy(&f->arena);
    free(f);
    return 0;
}

/* Everything that the task has. */
static void compute(struct fixture *f, const struct scored *s)
{
    struct score_wishes all = {.all = false};
    struct error e = {0};
    for (int i = 0; i < SCORE_MAX; i++)
        all.wanted[i] = true;
    if (score_compute(s, &all, f->arena, &f->scores, &e))
        fail_msg("%s", e.text);
}

static const struct score_value *find(const struct fixture *f, const char *name)
{
    for (int i = 0; i < f->scores.n; i++)
        if (strcmp(f->scores.v[i].name, name) == 0)
            return &f->scores.v[i];
    fail_msg("%s is not there", name);
    return NULL;
}

static void expect(const struct fixture *f, const char *name, double expected)
{
    double v = find(f, name)->value;
    if (isnan(v) != isnan(expected) || fabs(v - expected) > 1e-12 * (1 + fabs(expected)))
        fail_msg("%s is %.17g, expected %.17g", name, v, expected);
}

/* ---- scikit-learn -------------------------------------------------------------------------------
 */

static real *read_reals(struct arena *a, const json_t *list)
{
    size_t n = json_array_size(list);
    real *v = arena_array(a, n, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = (real)json_number_value(json_array_get(list, i));
    return v;
}

static int64_t *read_classes(struct arena *a, const json_t *list)
{
    size_t n = json_array_size(list);
    int64_t *v = arena_array(a, n, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = json_integer_value(json_array_get(list, i));
    return v;
}

static struct scored read_case(struct arena *a, const json_t *j)
{
    static const char *const tasks[] = {"", "classes", "labels", "values"};
    struct scored s = {.inner = 1, .prediction = read_reals(a, json_object_get(j, "prediction"))};
    const json_t *shape = json_object_get(j, "shape"), *target = json_object_get(j, "target");
    s.n = json_integer_value(json_array_get(shape, 0));
    s.classes = json_integer_value(json_array_get(shape, 1));
    for (int i = SCORE_CLASSES; i <= SCORE_VALUES; i++)
        if (strcmp(tasks[i], json_string_value(json_object_get(j, "task"))) == 0)
            s.task = (enum score_task)i;
    s.dtype = s.task == SCORE_CLASSES ? DTYPE_INT64 : DTYPE_REAL;
    s.target = s.task == SCORE_CLASSES ? (const void *)read_classes(a, target)
                                       : (const void *)read_reals(a, target);
    return s;
}

static void expect_matrix(const struct fixture *f, const json_t *rows)
{
    const struct score_value *v = find(f, "confusion_matrix");
    assert_int_equal(v->size, json_array_size(rows));
    for (int64_t i = 0; i < v->size * v->size; i++)
        assert_int_equal(v->matrix[i],
                         json_integer_value(json_array_get(
                             json_array_get(rows, (size_t)(i / v->size)), (size_t)(i % v->size))));
}

/* Unsaid in the table of cases: every metric of the task is in the file. */
static void check_case(struct fixture *f, const char *name)
{
    char path[100];
    const char *key;
    json_t *value;
    snprintf(path, sizeof path, "tests/data/scores/%s.json", name);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    struct scored s = read_case(f->arena, j);
    compute(f, &s);
    assert_int_equal(f->scores.n, json_object_size(json_object_get(j, "expected")));
    json_object_foreach(json_object_get(j, "expected"), key, value)
    {
        if (json_is_array(value))
            expect_matrix(f, value);
        else
            expect(f, key, json_number_value(value));
    }
    json_decref(j);
}

static void test_scikit_learn(void **state)
{
    static const char *const names[] = {"classes2", "classes4", "classes10", "classes7_absent",
                                        "labels1",  "labels6",  "values1",   "values3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_case(*state, names[i]);
}

/* ---- layouts ------------------------------------------------------------------------------------
 */

/* [2, 3, 2]: the classes of four places, two apart. Row by row: 0, 2; 1, 1. */
static const real places[] = {9, 0, 1, 1, 0, 5, 0, 2, 4, 3, 1, 1};

static void test_inner_dimensions(void **state)
{
    struct fixture *f = *state;
    int64_t target[] = {0, 2, 0, -100}; /* the last does not count */
    struct scored s = {SCORE_CLASSES, 2, 3, 2, places, target, DTYPE_INT64, false, 0};
    compute(f, &s);
    expect(f, "accuracy", 2.0 / 3);
    expect(f, "top5", 1);
    const struct score_value *m = find(f, "confusion_matrix");
    static const int64_t expected[] = {1, 1, 0, 0, 0, 0, 0, 0, 1};
    assert_memory_equal(m->matrix, expected, sizeof expected);
    /* The same as probabilities. */
    real dense[] = {1, 0, 0, 0, 0, 1, 0.9f, 0, 0.1f, 1, 0, 0};
    struct scored t = {SCORE_CLASSES, 2, 3, 2, places, dense, DTYPE_REAL, false, 0};
    compute(f, &t);
    expect(f, "accuracy", 0.75);
}

/* A class that the loss ignores does not count, though it is one. */
static void test_ignored_class(void **state)
{
    struct fixture *f = *state;
    int64_t target[] = {0, 2, 0, 1};
    struct scored s = {SCORE_CLASSES, 2, 3, 2, places, target, DTYPE_INT64, true, 0};
    compute(f, &s);
    expect(f, "accuracy", 1);
    static const int64_t expected[] = {0, 0, 0, 0, 1, 0, 0, 0, 1};
    assert_memory_equal(find(f, "confusion_matrix")->matrix, expected, sizeof expected);
}

static void test_equal_logits(void **state)
{
    struct fixture *f = *state;
    static const real zero[2 * 7];
    int64_t target[] = {0, 6};
    struct scored s = {SCORE_CLASSES, 2, 7, 1, zero, target, DTYPE_INT64, false, 0};
    compute(f, &s);
    expect(f, "accuracy", 0.5);
    expect(f, "top5", 0.5); /* the seventh of seven equal ones is not among five */
    expect(f, "roc_auc", 0.5);
}

/* ---- no number ----------------------------------------------------------------------------------
 */

static void test_no_number(void **state)
{
    struct fixture *f = *state;
    static const real x[] = {1, 2, 3, 4}, same[] = {0.1f, 0.1f, 0.1f, 0.1f}, none[4];
    struct scored s = {SCORE_VALUES, 4, 1, 1, x, same, DTYPE_REAL, false, 0};
    compute(f, &s);
    expect(f, "r2", NAN);
    expect(f, "mae", 2.5 - (double)0.1f);
    struct scored l = {SCORE_LABELS, 2, 2, 1, x, none, DTYPE_REAL, false, 0};
    compute(f, &l);
    expect(f, "roc_auc", NAN);
    expect(f, "mean_average_precision", NAN);
    expect(f, "f1_macro", 0);
    int64_t ignored[] = {-1, -100};
    struct scored c = {SCORE_CLASSES, 2, 2, 1, x, ignored, DTYPE_INT64, false, 0};
    compute(f, &c);
    expect(f, "accuracy", NAN);
    expect(f, "calibration_error", NAN);
    expect(f, "roc_auc", NAN);
    /* Predictions that are not finite have no metrics. */
    real broken[] = {1, NAN, 3, 4};
    int64_t classes[] = {0, 1};
    struct scored b = {SCORE_CLASSES, 2, 2, 1, broken, classes, DTYPE_INT64, false, 0};
    compute(f, &b);
    expect(f, "accuracy", NAN);
    assert_null(find(f, "confusion_matrix")->matrix);
}

static void test_written(void **state)
{
    struct fixture *f = *state;
    static const real x[] = {1, 0, 0, 1};
    int64_t target[] = {0, 0};
    struct scored s = {SCORE_CLASSES, 2, 2, 1, x, target, DTYPE_INT64, false, 0};
    struct json_out w = JSON_OUT_INIT;
    static const char expected[] = "\"roc_auc\":null",
                      matrix[] = "\"confusion_matrix\":[[1,1],[0,0]]";
    compute(f, &s);
    out_open_object(&w);
    score_write(&w, &f->scores);
    out_close(&w);
    out_append_bytes(&w, "", 1);
    assert_non_null(strstr(w.data, "{\"accuracy\":0.5,\"top5\":1,"));
    assert_non_null(strstr(w.data, expected));
    assert_non_null(strstr(w.data, matrix));
    assert_int_equal(w.non_finite, 0);
    out_free(&w);
}

static void test_too_many_classes(void **state)
{
    struct fixture *f = *state;
    enum { CLASSES = 1025 };
    static const real x[CLASSES];
    int64_t target[] = {0};
    struct scored s = {SCORE_CLASSES, 1, CLASSES, 1, x, target, DTYPE_INT64, false, 0};
    struct score_wishes w = {.all = true};
    struct error e = {0};
    assert_int_equal(score_compute(&s, &w, f->arena, &f->scores, &e), 0);
    memset(w.wanted, 1, sizeof w.wanted);
    w.all = false;
    assert_int_equal(score_compute(&s, &w, f->arena, &f->scores, &e), -1);
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(e.text, "confusion_matrix: expected at most 1024 classes, found 1025"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scikit_learn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inner_dimensions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ignored_class, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equal_logits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_number, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_classes, setup, teardown),
    };
    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
