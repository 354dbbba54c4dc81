/* test_store_metrics.c: rows of metrics are written once, in time, also after a full disk, and are
 * sampled with their ends. */
#include "store_fixture.h"

/* ---- metrics --------------------------------------------------------------------------------- */

static void append(struct fixture *f, int64_t model, const char *series, uint64_t revision,
                   double value)
{
    struct store_metric m = {model, series, revision, revision, value, 1000, 0};
    check(f, store_metrics_append(f->s, &m, 1, &f->e));
}

static struct rows *query(struct fixture *f, const struct store_metrics_query *q)
{
    static struct rows rows;
    rows.n = 0;
    check(f, store_metrics_query(f->s, q, row_seen, &rows, &f->e));
    return &rows;
}

static void metrics_are_kept_once(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (uint64_t i = 1; i <= 1300; i++) {
        append(f, m.id, "loss", i, (double)i);
        append(f, m.id, "acc", i, i == 3 ? INFINITY : 0.5);
    }
    append(f, m.id, "loss", 1300, -1); /* again, as after a replay */
    struct rows *rows =
        query(f, &(struct store_metrics_query){.model_id = m.id, .until = UINT64_MAX});
    assert_int_equal(rows->n, 2600);
    assert_string_equal(rows->series[0], "acc");
    assert_string_equal(rows->series[1], "loss");
    for (int i = 0; i < 2600; i++)
        assert_int_equal(rows->revision[i], i / 2 + 1);
    assert_true(isnan(rows->value[4]));
    assert_true(rows->value[2599] == -1);
    store_again(f);
    rows = query(f, &(struct store_metrics_query){.model_id = m.id,
                                                  .names = (const char *[]){"loss", "x"},
                                                  .n_names = 2,
                                                  .since = 1290,
                                                  .until = 1295});
    assert_int_equal(rows->n, 5);
    assert_int_equal(rows->revision[0], 1291);
    assert_int_equal(rows->revision[4], 1295);
    assert_int_equal(number(f, "SELECT count(*) FROM metrics"), 2600);
}

static void metrics_are_written_in_time(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m");
    append(f, m.id, "loss", 1, 1);
    for (int i = 0; i < 100 && !number(f, "SELECT count(*) FROM metrics"); i++)
        usleep(50000);
    assert_int_equal(number(f, "SELECT count(*) FROM metrics"), 1);
}

static void sampling_keeps_the_ends(void **state)
{
    struct fixture *f = *state;
    static const int points[] = {1, 2, 3, 7, 100, 999, 1000, 1001};
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (uint64_t i = 1; i <= 1000; i++)
        append(f, m.id, "loss", 10 * i, (double)i);
    for (uint64_t i = 1; i <= 5; i++) /* few rows, close together: all are shown */
        append(f, m.id, "few", 5000 + i, 1);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct rows *rows =
            query(f, &(struct store_metrics_query){.model_id = m.id,
                                                   .names = (const char *[]){"loss"},
                                                   .n_names = 1,
                                                   .max_points = points[i],
                                                   .until = UINT64_MAX});
        assert_int_equal(rows->n, points[i] > 1000 ? 1000 : points[i]);
        assert_int_equal(rows->revision[rows->n - 1], 10000);
        assert_int_equal(rows->revision[0], points[i] > 1 ? 10 : 10000);
        for (int k = 1; k < rows->n; k++)
            assert_true(rows->revision[k] > rows->revision[k - 1]);
    }
    struct rows *rows = query(f, &(struct store_metrics_query){.model_id = m.id,
                                                               .names = (const char *[]){"few"},
                                                               .n_names = 1,
                                                               .max_points = 5,
                                                               .until = UINT64_MAX});
    assert_int_equal(rows->n, 5);
    rows = query(f, &(struct store_metrics_query){
                        .model_id = m.id, .since = 9000, .max_points = 10, .until = UINT64_MAX});
    assert_int_equal(rows->n, 10);
    assert_int_equal(rows->revision[0], 9010);
}

/* Rows that came late are numbered as they came; one that is replaced comes again. */
static void late_rows_are_numbered(void **state)
{
    struct fixture *f = *state;
    static struct rows rows;
    int64_t late = 0;
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (uint64_t i = 1; i <= 10; i++)
        append(f, m.id, "loss", i, 1);
    struct store_metric x[] = {{m.id, "mAP", 7, 7, 0.5, 1, 1}, {m.id, "mAP", 3, 3, 0.3, 1, 1}};
    check(f, store_metrics_append(f->s, x, 2, &f->e));
    check(f, store_metrics_late(f->s, m.id, 0, &late, NULL, NULL, &f->e));
    assert_int_equal(late, 2);
    store_again(f);
    late = 0;
    rows.n = 0;
    check(f, store_metrics_late(f->s, m.id, 10, &late, row_seen, &rows, &f->e));
    assert_int_equal(rows.n, 2);
    assert_int_equal(rows.revision[0], 7);
    assert_int_equal(rows.revision[1], 3);
    check(f, store_metrics_append(f->s, x, 1, &f->e));
    check(f, store_metrics_late(f->s, m.id, 5, &late, row_seen, &rows, &f->e));
    assert_int_equal(rows.n, 2); /* 7 is above 5 */
    assert_int_equal(late, 3);
    check(f, store_metrics_trim(f->s, m.id, 5, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM late_metrics"), 1);
    assert_int_equal(
        query(f, &(struct store_metrics_query){.model_id = m.id, .until = UINT64_MAX})->n, 6);
}

static int series_seen(void *arg, const struct store_series *series)
{
    char *text = arg;
    sprintf(text + strlen(text), "%s:%d-%d ", series->name, (int)series->first_revision,
            (int)series->last_revision);
    return 0;
}

static void metrics_trim(void **state)
{
    struct fixture *f = *state;
    uint64_t revision = 9;
    char names[200] = "";
    store_up(f);
    struct store_model m = model_add(f, "m"), other = model_add(f, "other");
    check(f, store_last_revision(f->s, m.id, &revision, &f->e));
    assert_int_equal(revision, 0);
    for (uint64_t i = 1; i <= 50; i++) {
        append(f, m.id, "loss", i, 1);
        append(f, other.id, "loss", i, 1);
    }
    append(f, m.id, "late", 50, 1);
    check(f, store_last_revision(f->s, m.id, &revision, &f->e));
    assert_int_equal(revision, 50);
    check(f, store_metrics_trim(f->s, m.id, 30, &f->e));
    check(f, store_last_revision(f->s, m.id, &revision, &f->e));
    assert_int_equal(revision, 30);
    check(f, store_metrics_names(f->s, m.id, series_seen, names, &f->e));
    assert_string_equal(names, "loss:1-30 ");
    check(f, store_last_revision(f->s, other.id, &revision, &f->e));
    assert_int_equal(revision, 50);
}

static void bad_series_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {
        "", "a\nb", "0123456789012345678901234567890123456789012345678901234567890123"};
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (int i = 0; i < 3; i++) {
        struct store_metric x = {m.id, names[i], 1, 1, 1, 1, 0};
        assert_int_equal(store_metrics_append(f->s, &x, 1, &f->e), -1);
        assert_int_equal(f->e.code, ERROR_BAD_NAME);
    }
}

/* Rows that cannot be written wait, are bounded, and are written once when they can be. */
static void metrics_survive_a_full_disk(void **state)
{
    struct fixture *f = *state;
    int64_t pages, taken = 0;
    char set[64];
    store_up(f);
    struct store_model m = model_add(f, "m");
    append(f, m.id, "loss", 0, 1);
    check(f, store_settle(f->s, &f->e));
    pages = number(f, "PRAGMA page_count");
    snprintf(set, sizeof set, "PRAGMA max_page_count = %lld", (long long)pages + 1);
    db_lock(&f->s->db, "testing");
    check(f, db_exec(&f->s->db, set, &f->e));
    db_unlock(&f->s->db);
    struct store_metric x = {m.id, "loss", 1, 1, 1, 1, 0};
    while (!store_metrics_append(f->s, &x, 1, &f->e) && taken < 3 * STORE_METRICS_WAITING) {
        x.revision++;
        taken++;
    }
    assert_int_equal(f->e.code, ERROR_STORAGE);
    assert_non_null(strstr(f->e.text, "disk is full"));
    assert_true(taken >= STORE_METRICS_WAITING && taken < 3 * STORE_METRICS_WAITING);
    assert_int_equal(store_health(f->s, &f->e), -1);
    db_lock(&f->s->db, "testing");
    check(f, db_exec(&f->s->db, "PRAGMA max_page_count = 1000000", &f->e));
    db_unlock(&f->s->db);
    check(f, store_metrics_flush(f->s, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM metrics"), taken + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(metrics_are_kept_once),       TEST(metrics_are_written_in_time),
        TEST(sampling_keeps_the_ends),     TEST(metrics_trim),
        TEST(late_rows_are_numbered),      TEST(bad_series_are_refused),
        TEST(metrics_survive_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
