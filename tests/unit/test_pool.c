/* test_pool.c: the pool of threads. Every range is run once, whatever the counts, the threads and
 * the number of callers; all threads take part, each in ranges
 * that lie together; ranges depend on count and grain alone. */
#include "backprop.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_THREADS = 8, CALLERS = 6, CALLS = 400 };

static struct pool *new_pool(int threads)
{
    struct error e = {0};
    struct pool *p = pool_create(threads, &e);
    if (!p)
        fail_msg("%s", e.text);
    assert_int_equal(pool_threads(p), threads);
    return p;
}

/* What one call of pool_for did. Plain elements: ranges of one call must not overlap. */
struct tally {
    int64_t count, grain;
    unsigned char *seen; /* [count], NULL when count is too large for it */
    _Atomic int64_t elements, ranges, bad;
};

static void tally_range(void *arg, int64_t begin, int64_t end, int worker)
{
    struct tally *t = arg;
    bool last = end == t->count;
    if (begin % t->grain || begin >= end || end > t->count || (!last && end - begin != t->grain) ||
        worker < 0 || worker >= MAX_THREADS)
        atomic_fetch_add(&t->bad, 1);
    for (int64_t i = begin; t->seen && i < end; i++)
        t->seen[i]++;
    atomic_fetch_add(&t->elements, end - begin);
    atomic_fetch_add(&t->ranges, 1);
}

/* Whether a call of this size does everything once. */
static bool tally_call(struct pool *p, int64_t count, int64_t grain, bool elements)
{
    struct tally t = {.count = count, .grain = grain, .seen = NULL};
    if (elements && !(t.seen = calloc((size_t)count + 1, 1)))
        return false;
    pool_for(p, count, grain, tally_range, &t);
    bool good =
        t.elements == count && t.ranges == count / grain + (count % grain > 0) && t.bad == 0;
    for (int64_t i = 0; t.seen && i < count; i++)
        good &= t.seen[i] == 1;
    free(t.seen);
    return good;
}

static void test_counts(void **state)
{
    static const int64_t counts[] = {0, 1, 2, 3, 7, 8, 9, 63, 64, 1000, 65537};
    static const int64_t grains[] = {1, 2, 3, 8, 64, 1000, 1 << 20};
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct pool *p = new_pool(threads);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
                if (!tally_call(p, counts[c], grains[g], true))
                    fail_msg("%d threads, count %lld, grain %lld", threads, (long long)counts[c],
                             (long long)grains[g]);
        pool_destroy(&p);
        assert_null(p);
    }
}

static void test_huge_counts(void **state)
{
    (void)state;
    struct pool *p = new_pool(3);
    assert_true(tally_call(p, (int64_t)1 << 40, (int64_t)1 << 30, false));
    assert_true(tally_call(p, ((int64_t)1 << 62) + 12345, (int64_t)1 << 53, false));
    assert_true(tally_call(p, 5, INT64_MAX, true));
    assert_true(tally_call(p, INT64_MAX, (int64_t)1 << 61, false));
    assert_true(tally_call(p, 300000, 1, true));
    pool_destroy(&p);
}

static void test_grain_below_one_is_one(void **state)
{
    (void)state;
    struct tally t = {.count = 5, .grain = 1};
    pool_for(NULL, 5, 0, tally_range, &t);
    assert_int_equal(t.ranges, 5);
    pool_for(NULL, 0, -3, tally_range, &t);
    assert_int_equal(t.ranges, 5);
    assert_int_equal(t.bad, 0);
}

/* Each thread's n-th range ends only once all threads are inside their n-th. */
enum { MEETINGS = 5 };
struct meeting {
    int threads;
    _Atomic int here, of_others; /* of_others: ranges that were not of the worker's share */
    _Atomic int workers[MAX_THREADS];
};

static void meet(void *arg, int64_t begin, int64_t end, int worker)
{
    struct meeting *m = arg;
    const int nth = atomic_fetch_add(&m->workers[worker], 1) + 1;
    atomic_fetch_add(&m->of_others, begin / MEETINGS != worker || end != begin + 1);
    atomic_fetch_add(&m->here, 1);
    while (atomic_load(&m->here) < nth * m->threads)
        sched_yield();
}

static void test_all_threads_take_part(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct pool *p = new_pool(threads);
        for (int round = 0; round < 20; round++) {
            struct meeting m = {.threads = threads};
            pool_for(p, threads * MEETINGS, 1, meet, &m);
            for (int w = 0; w < threads; w++)
                assert_int_equal(m.workers[w], MEETINGS);
            assert_int_equal(m.of_others, 0);
        }
        pool_destroy(&p);
    }
}

/* ---- many callers ---------------------------------------------------------------------------- */

struct caller {
    pthread_t thread;
    struct pool *pool;
    int id, bad;
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < CALLS; i++) {
        int64_t count = (int64_t)(i * 7919 + c->id * 104729) % 5000, grain = 1 + i % 37;
        c->bad += !tally_call(c->pool, count, grain, true);
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads += threads == 1 ? 1 : 3) {
        struct pool *p = new_pool(threads);
        struct caller callers[CALLERS];
        for (int i = 0; i < CALLERS; i++) {
            callers[i] = (struct caller){.pool = p, .id = i};
            assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
        }
        for (int i = 0; i < CALLERS; i++) {
            pthread_join(callers[i].thread, NULL);
            assert_int_equal(callers[i].bad, 0);
        }
        pool_destroy(&p);
    }
}

/* What a call wrote is there when it returns, without a lock of the caller's. */
static void write_range(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        ((int64_t *)arg)[i] += i;
}

static void test_writes_are_seen(void **state)
{
    enum { COUNT = 512, ROUNDS = 2000 };
    int64_t x[COUNT] = {0};
    (void)state;
    struct pool *p = new_pool(4);
    for (int round = 1; round <= ROUNDS; round++) {
        pool_for(p, COUNT, 1 + round % 64, write_range, x);
        for (int64_t i = 0; i < COUNT; i++)
            assert_int_equal(x[i], i * round);
    }
    pool_destroy(&p);
}

/* Counts the threads that are inside at once. */
struct crowd {
    atomic_int inside, most, ranges;
};

static void crowd_range(void *arg, int64_t begin, int64_t end, int worker)
{
    struct crowd *c = arg;
    (void)begin, (void)end, (void)worker;
    int now = atomic_fetch_add(&c->inside, 1) + 1;
    if (now > c->most)
        c->most = now;
    for (volatile int i = 0; i < 20000; i++) {
    }
    atomic_fetch_sub(&c->inside, 1);
    atomic_fetch_add(&c->ranges, 1);
}

/* Work that was announced has its thread; the rest goes on, on the others. */
static void test_rest_makes_room(void **state)
{
    (void)state;
    for (int hurry = 0; hurry < 4; hurry++) {
        struct crowd rest = {0}, first = {0};
        struct pool *p = new_pool(4);
        pool_hurry(p, hurry);
        pool_for(p, 300, 1, crowd_range, &rest);
        assert_int_equal(rest.ranges, 300);
        assert_true(rest.most <= 4 - hurry);
        pool_for(pool_first(p), 300, 1, crowd_range, &first);
        assert_int_equal(first.ranges, 300);
        pool_hurry(p, -hurry);
        pool_destroy(&p);
    }
}

/* However much goes first, the rest goes on: a range after each pause. */
static void test_rest_goes_on(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        struct crowd rest = {0};
        struct pool *p = new_pool(threads);
        pool_hurry(pool_first(p), 100);
        pool_for(p, 10, 1, crowd_range, &rest);
        assert_int_equal(rest.ranges, 10);
        assert_int_equal(rest.most, 1);
        pool_hurry(p, -100);
        pool_for(p, 1000, 1, crowd_range, &rest); /* at full speed again, helpers too */
        assert_int_equal(rest.ranges, 1010);
        pool_destroy(&p);
    }
    pool_hurry(NULL, 1);
    assert_null(pool_first(NULL));
}

/* Both kinds at once, while work comes and goes: each range is run once. */
struct both {
    struct pool *pool;
    struct crowd crowd;
    int rounds, step;
};

static void *both_main(void *arg)
{
    struct both *b = arg;
    for (int i = 0; i < b->rounds; i++) {
        if (b->step)
            pool_hurry(b->pool, b->step);
        pool_for(b->step ? pool_first(b->pool) : b->pool, 16, 1, crowd_range, &b->crowd);
        if (b->step)
            pool_hurry(b->pool, -b->step);
    }
    return NULL;
}

static void test_both_at_once(void **state)
{
    enum { N = 4, ROUNDS = 100 };
    (void)state;
    struct both b[N];
    pthread_t thread[N];
    struct pool *p = new_pool(3);
    for (int i = 0; i < N; i++) {
        b[i] = (struct both){.pool = p, .rounds = ROUNDS, .step = i % 2};
        assert_int_equal(pthread_create(&thread[i], NULL, both_main, &b[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(b[i].crowd.ranges, 16 * ROUNDS);
    }
    pool_destroy(&p);
}

static void test_refused(void **state)
{
    (void)state;
    static const int refused[] = {-1, 0, 257, 100000};
    for (int i = 0; i < 4; i++) {
        struct error e = {0};
        assert_null(pool_create(refused[i], &e));
        assert_int_equal(e.code, ERROR_BAD_VALUE);
        assert_non_null(strstr(e.text, "threads"));
    }
    assert_int_equal(pool_threads(NULL), 1);
    struct pool *none = NULL;
    pool_destroy(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_huge_counts),
        cmocka_unit_test(test_grain_below_one_is_one),
        cmocka_unit_test(test_all_threads_take_part),
        cmocka_unit_test(test_many_callers),
        cmocka_unit_test(test_writes_are_seen),
        cmocka_unit_test(test_rest_makes_room),
        cmocka_unit_test(test_rest_goes_on),
        cmocka_unit_test(test_both_at_once),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
