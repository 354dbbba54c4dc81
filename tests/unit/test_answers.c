/* test_answers.c: answers to keyed requests, in memory and in the store: which are kept, in which
 * order, and what is forgotten with steps that were lost. */
#include "store_fixture.h"

#include "../../server/answers.h"

enum { FEW = 5 };

/* Adds an answer under a key that says when: later ones come earlier in the alphabet. */
static void add(struct answers *a, int i, uint64_t revision)
{
    struct step_result r = {.at = {1, revision, 1}, .accuracy = NAN, .loss = 0.5 + i};
    char key[24];
    snprintf(key, sizeof key, "key %04d", 9999 - i);
    answers_add(a, key, UINT64_MAX - (uint64_t)i, &r);
}

static void add_seq(struct answers *a, unsigned long long seq, uint64_t revision)
{
    struct step_result r = {.at = {1, revision, 1}};
    char key[24];
    snprintf(key, sizeof key, "seq %llu", seq);
    answers_add(a, key, 1, &r);
}

static bool known(struct answers *a, int i)
{
    uint64_t request;
    struct step_result r;
    char key[24];
    snprintf(key, sizeof key, "key %04d", 9999 - i);
    if (!answers_find(a, key, &request, &r))
        return false;
    assert_true(request == UINT64_MAX - (uint64_t)i && r.loss == 0.5 + i && isnan(r.accuracy));
    return true;
}

static struct answers *load(struct fixture *f, int64_t id)
{
    struct answers *a = answers_create();
    assert_non_null(a);
    check(f, answers_load(a, f->s, id, &f->e));
    return a;
}

/* More than are kept, all of one revision: the newest stay, and the last seq is known. */
static void the_newest_are_kept(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m");
    struct answers *a = answers_create();
    add_seq(a, 41, 7);
    add_seq(a, 42, 7);
    for (int i = 0; i < ANSWERS_KEPT + FEW; i++) {
        add(a, i, 7);
        if (i % 400 == 0)
            check(f, answers_save(a, f->s, m.id, &f->e));
    }
    check(f, answers_save(a, f->s, m.id, &f->e));
    answers_destroy(&a);
    store_again(f);
    assert_int_equal(number(f, "SELECT count(*) FROM answers"), ANSWERS_KEPT + 1);
    a = load(f, m.id);
    assert_false(known(a, FEW - 1));
    assert_true(known(a, FEW) && known(a, ANSWERS_KEPT + FEW - 1));
    assert_true(answers_last_seq(a) == 42);
    answers_destroy(&a);
}

/* Changes go to the store one by one, without a checkpoint. */
static void changes_are_bounded(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (int i = 0; i < ANSWERS_KEPT + FEW; i++) {
        char key[24];
        snprintf(key, sizeof key, "key %04d", 9999 - i);
        struct store_answer x = {.key = key, .revision = 7, .parts = STORE_CHANGE};
        db_lock(&f->s->db, "testing");
        check(f, db_begin(&f->s->db, true, &f->e) ||
                     db_end(&f->s->db, store_answer_put(f->s, m.id, &x, &f->e), &f->e));
        db_unlock(&f->s->db);
    }
    assert_int_equal(number(f, "SELECT count(*) FROM answers"), ANSWERS_KEPT);
    assert_int_equal(number(f, "SELECT count(*) FROM answers WHERE key = 'key 9999'"), 0);
    assert_int_equal(number(f, "SELECT count(*) FROM answers WHERE key = 'key 8995'"), 1);
}

/* What was answered to steps that were lost is forgotten for good, and so is their seq. */
static void lost_steps_are_forgotten(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m");
    struct answers *a = answers_create();
    add_seq(a, 1, 1);
    add(a, 0, 2);
    add_seq(a, 2, 3);
    add(a, 1, 4);
    answers_add_change(a, &(struct store_answer){.key = "key change", .revision = 4});
    check(f, answers_save(a, f->s, m.id, &f->e));
    for (int round = 0; round < 2; round++) {
        check(f, answers_trim(a, f->s, m.id, 2, &f->e));
        uint64_t request;
        struct step_result r;
        assert_true(known(a, 0) && !known(a, 1));
        assert_true(answers_find(a, "key change", &request, &r));
        assert_true(answers_last_seq(a) == 1);
        answers_destroy(&a);
        a = load(f, m.id); /* nor do they come back */
    }
    answers_destroy(&a);
}

/* Also the last seq, where the ring holds nothing but changes any more, which are not lost. */
static void a_lost_seq_is_forgotten(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m");
    struct answers *a = answers_create();
    add_seq(a, 9, 5);
    for (int i = 0; i < ANSWERS_KEPT; i++) {
        char key[24];
        snprintf(key, sizeof key, "key %04d", i);
        answers_add_change(a, &(struct store_answer){.key = key, .revision = 5});
    }
    check(f, answers_save(a, f->s, m.id, &f->e));
    check(f, answers_trim(a, f->s, m.id, 0, &f->e));
    assert_true(answers_last_seq(a) == 0);
    answers_destroy(&a);
    a = load(f, m.id);
    assert_true(answers_last_seq(a) == 0);
    answers_destroy(&a);
}

/* Revisions of versions and answers are not used again, nor are those of metrics. */
static void the_last_revision(void **state)
{
    struct fixture *f = *state;
    uint64_t last;
    store_up(f);
    struct store_model m = model_add(f, "m");
    check(f, store_last_revision(f->s, m.id, &last, &f->e));
    assert_true(last == 0);
    struct store_answer x = {.key = "key", .revision = 12, .parts = STORE_CHANGE};
    check(f, store_answers_save(f->s, m.id, &x, 1, &f->e));
    check(f, store_last_revision(f->s, m.id, &last, &f->e));
    assert_true(last == 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_newest_are_kept),     TEST(changes_are_bounded), TEST(lost_steps_are_forgotten),
        TEST(a_lost_seq_is_forgotten), TEST(the_last_revision),
    };
    return cmocka_run_group_tests_name("answers", tests, NULL, NULL);
}
