/* test_sleepers.c: threads that wait for work: the last that went to sleep is woken first, one at a
 * time; times that pass; and all at once. */
#include "../../server/sleepers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

enum { THREADS = 3 };

struct crew {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct sleepers all;
    struct member {
        struct crew *crew;
        pthread_t thread;
        struct sleeper sleeper;
        uint64_t until;
        int woken; /* the how manyth that woke; 0: not yet */
    } members[THREADS];
    int woken;
};

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct crew *c = m->crew;
    pthread_mutex_lock(&c->mutex);
    pthread_cond_broadcast(&c->changed);
    sleepers_wait(&c->all, &m->sleeper, &c->mutex, m->until);
    m->woken = ++c->woken;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

/* The mutex is held, but while the caller waits: a member that is in the list is asleep. */
static void crew_start(struct crew *c, uint64_t until)
{
    *c = (struct crew){.woken = 0};
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    pthread_mutex_lock(&c->mutex);
    for (int i = 0; i < THREADS; i++) {
        struct member *m = &c->members[i];
        m->crew = c;
        m->until = until;
        sleeper_init(&m->sleeper);
        assert_int_equal(pthread_create(&m->thread, NULL, member_main, m), 0);
        while (c->all.last != &m->sleeper && !m->woken)
            pthread_cond_wait(&c->changed, &c->mutex);
    }
}

static void wait_for(struct crew *c, int woken)
{
    while (c->woken < woken)
        pthread_cond_wait(&c->changed, &c->mutex);
}

static void crew_end(struct crew *c)
{
    assert_int_equal(c->woken, THREADS);
    assert_null(c->all.last);
    pthread_mutex_unlock(&c->mutex);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(c->members[i].thread, NULL);
        sleeper_destroy(&c->members[i].sleeper);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
}

/* Waking again before the one that was woken is there does nothing: it would wake the next itself.
 */
static void test_last_first(void **state)
{
    (void)state;
    struct crew c;
    crew_start(&c, UINT64_MAX);
    for (int woken = 1; woken <= THREADS; woken++) {
        sleepers_wake(&c.all);
        sleepers_wake(&c.all);
        wait_for(&c, woken);
        assert_int_equal(c.members[THREADS - woken].woken, woken);
        for (int i = 0; i < THREADS - woken; i++)
            assert_true(c.members[i].sleeper.asleep);
    }
    sleepers_wake(&c.all); /* nobody is there: the next that sleeps can be woken all the same */
    assert_false(c.all.waking);
    crew_end(&c);
}

static void test_all(void **state)
{
    (void)state;
    struct crew c;
    crew_start(&c, UINT64_MAX);
    sleepers_wake_all(&c.all);
    wait_for(&c, THREADS);
    crew_end(&c);
}

static void test_time_passes(void **state)
{
    (void)state;
    struct crew c;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    crew_start(&c, ns + 20000000);
    wait_for(&c, THREADS);
    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_true((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= ns + 20000000);
    assert_false(c.all.waking);
    crew_end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_first),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_time_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
