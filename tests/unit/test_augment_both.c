/* test_augment_both.c: every row of the table of augmentations keeps to its memory and gives the
 * same bits again and on any number of threads; what is refused. */
#include "augment_fixture.h"

#include <math.h>

/* ---- the whole table ------------------------------------------------------------------------- */

/* Everything after everything, so that phases, settling and warping meet. */
static const struct row_spec all_rows[] = {
    {"mosaic", {{"p", 0.5}}},
    {"affine",
     {{"degrees", 20}, {"translate", 0.2}, {"scale", 0.4}, {"shear", 5}, {"perspective", 0.0005}}},
    {"mixup", {{"p", 0.5}}},
    {"cutmix", {{"p", 0.9}, {"alpha", 0.5}}},
    {"hsv", {{0}}},
    {"vflip", {{0}}},
    {"hflip", {{0}}},
    {"bgr", {{0}}},
    {"brightness", {{0}}},
    {"contrast", {{0}}},
    {"saturation", {{0}}},
    {"grayscale", {{"p", 0.5}}},
    {"random_crop", {{0}}},
    {"gaussian_blur", {{0}}},
    {"random_resized_crop", {{"p", 0.5}}},
    {"gaussian_noise", {{0}}},
    {"randaugment", {{0}}},
    {"cutout", {{0}}},
    {"erasing", {{0}}},
};
enum { ALL_ROWS = sizeof all_rows / sizeof all_rows[0] };

static void same_bits(struct trial *a, struct trial *b)
{
    assert_memory_equal(a->images_out.data, b->images_out.data, a->images_out.bytes);
    assert_memory_equal(a->boxes_out.data, b->boxes_out.data, a->boxes_out.bytes);
    assert_memory_equal(a->soft_out.data, b->soft_out.data, a->soft_out.bytes);
}

static void test_table_is_complete_and_covered(void **state)
{
    struct augment_info info;
    int i = 0;
    (void)state;
    for (; augment_info_at(i, &info); i++) {
        bool covered = false;
        for (int k = 0; k < ALL_ROWS; k++)
            covered |= strcmp(all_rows[k].name, info.row.name) == 0;
        assert_true(covered);
        assert_true(info.row.doc && info.row.doc[0] && info.row.attrs);
        assert_string_equal(info.row.attrs[0].name, "p");
        assert_int_equal(info.row.attrs[0].offset, 0);
    }
    assert_int_equal(i, ALL_ROWS);
}

static void check_replay(const struct row_spec *rows, int n_rows, int64_t h, int64_t w)
{
    static const int threads[] = {1, 2, 3, 8, 1};
    struct trial first, again;
    open_with_boxes(&first, 13, h, w);
    open_with_boxes(&again, 13, h, w);
    for (int i = 0; i < n_rows; i++) {
        trial_add(&first, &rows[i]);
        trial_add(&again, &rows[i]);
    }
    trial_apply(&first, 1);
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        trial_apply(&again, threads[i]);
        same_bits(&first, &again);
    }
    again.b.draw += 7;
    trial_apply(&again, 2);
    assert_memory_not_equal(first.images_out.data, again.images_out.data, first.images_out.bytes);
    for (size_t i = 0; i < first.images_out.bytes / sizeof(real); i++)
        assert_true(isfinite(first.images_out.data[i]));
    trial_close(&first);
    trial_close(&again);
}

static void test_each_row_replays(void **state)
{
    (void)state;
    for (int i = 0; i < ALL_ROWS; i++)
        check_replay(&all_rows[i], 1, 32, 32);
}

static void test_all_rows_together_replay(void **state)
{
    (void)state;
    check_replay(all_rows, ALL_ROWS, 23, 70);
    check_replay(all_rows, ALL_ROWS, 5, 3);
    check_replay(all_rows, ALL_ROWS, 1, 1);
}

/* A sample's draws do not depend on the rows that others drew, nor on what comes after it. */
static void test_samples_do_not_depend_on_the_batch_size(void **state)
{
    struct trial large, small;
    (void)state;
    open_with_boxes(&large, 9, 16, 16);
    open_with_boxes(&small, 4, 16, 16);
    for (int i = 4; i < ALL_ROWS; i++) { /* the mixing rows look at others */
        trial_add(&large, &all_rows[i]);
        trial_add(&small, &all_rows[i]);
    }
    trial_apply(&large, 2);
    trial_apply(&small, 1);
    assert_memory_equal(large.images_out.data, small.images_out.data, small.images_out.bytes);
    assert_memory_equal(large.boxes_out.data, small.boxes_out.data, small.boxes_out.bytes);
    trial_close(&large);
    trial_close(&small);
}

static void test_keys_are_not_those_of_nodes(void **state)
{
    struct trial t;
    (void)state;
    trial_open(&t, 2, 1, 4, 4);
    trial_add(&t, &(struct row_spec){"gaussian_noise", {{"p", 1}}});
    trial_apply(&t, 1);
    const struct random_key node = {42, 3, 0};
    assert_true(fabs((double)(t.images_out.data[0] - t.images[0]) - 0.1 * random_normal(&node, 0)) >
                1e-6);
    trial_close(&t);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    struct error e;
    struct trial t;
    const struct attr bad = {.name = "p", .kind = ATTR_IS_REAL, .d = 1.5};
    const double backwards[] = {0.5, 0.1};
    const struct attr range = {
        .name = "scale", .kind = ATTR_IS_LIST, .list = backwards, .n_list = 2};
    (void)state;
    trial_open(&t, 2, 1, 4, 4);
    assert_int_equal(augment_add(t.augment, "hflop", NULL, 0, &e), -1);
    assert_int_equal(e.code, ERROR_UNKNOWN_OPERATOR);
    assert_non_null(strstr(e.text, "did you mean 'hflip'?"));
    assert_int_equal(augment_add(t.augment, "hflip", &bad, 1, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    assert_int_equal(augment_add(t.augment, "random_resized_crop", &range, 1, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_ATTRIBUTE);
    trial_add(&t, &(struct row_spec){"brightness", {{0}}});
    assert_int_equal(augment_check(t.augment, 1, 4, 4, false, &e), 0);
    t.images[21] = 7;
    assert_int_equal(trial_run(&t, 2, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_VALUE);
    assert_non_null(strstr(e.text, "image 1 has the value 7"));
    trial_add(&t, &(struct row_spec){"hsv", {{0}}});
    assert_int_equal(augment_check(t.augment, 1, 4, 4, false, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_SHAPE);
    trial_add(&t, &(struct row_spec){"mosaic", {{0}}});
    assert_int_equal(augment_check(t.augment, 3, 4, 4, false, &e), -1);
    assert_int_equal(e.code, ERROR_BAD_GRAPH);
    while (!augment_add(t.augment, "hflip", NULL, 0, &e))
        ;
    assert_int_equal(e.code, ERROR_TOO_LARGE);
    trial_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_complete_and_covered),
        cmocka_unit_test(test_each_row_replays),
        cmocka_unit_test(test_all_rows_together_replay),
        cmocka_unit_test(test_samples_do_not_depend_on_the_batch_size),
        cmocka_unit_test(test_keys_are_not_those_of_nodes),
        cmocka_unit_test(test_refusals),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
