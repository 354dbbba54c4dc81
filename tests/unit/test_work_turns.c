/* test_work_turns.c: queues get equal time, by a clock of our own; jobs that are run together. */
#include "work_fixture.h"

static uint64_t clock_now(void *arg)
{
    return atomic_load((_Atomic uint64_t *)arg);
}

/* A write that takes a time by that clock. */
struct timed {
    struct work_job job;
    _Atomic uint64_t *clock;
    uint64_t ns;
    int who, *order;
    atomic_int *n;
};

static void timed_run(struct work_job *w, bool cancelled)
{
    struct timed *t = (struct timed *)w;
    assert_false(cancelled);
    atomic_fetch_add(t->clock, t->ns);
    t->order[atomic_load(t->n)] = t->who;
    atomic_fetch_add(t->n, 1);
}

/* Two queues get equal time, whatever one job takes; one that comes late gets no more for it. */
static void test_equal_time(void **state)
{
    enum { HEAVY = 30, LIGHT = 300, ALL = HEAVY + 2 * LIGHT };
    static const uint64_t cost[3] = {10000000, 1000000, 1000000};
    (void)state;
    struct error e;
    static struct timed jobs[ALL];
    static int order[ALL];
    _Atomic uint64_t clock = 1;
    atomic_int n = 0;
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r);
    struct work *w = work_create(2, 10, &e);
    struct work_queue *q[3], *held = work_queue_create(w, WORK_WRITES, 10, &e);
    struct job hold = {{.run = job_run}, r, &gate, NULL, 0};
    work_set_clock(w, clock_now, &clock);
    assert_int_equal(work_submit(w, held, &hold.job, &e), 0);
    gate_wait(&gate, 1);
    for (int i = 0; i < 3; i++)
        q[i] = work_queue_create(w, WORK_WRITES, ALL, &e);
    for (int i = 0; i < ALL; i++) {
        int who = i < HEAVY ? 0 : i < HEAVY + LIGHT ? 1 : 2;
        jobs[i] = (struct timed){{.run = timed_run}, &clock, cost[who], who, order, &n};
        assert_int_equal(work_submit(w, q[who], &jobs[i].job, &e), 0);
    }
    gate_open(&gate);
    while (n < ALL)
        usleep(200);
    uint64_t used[3] = {0};
    int left[3] = {HEAVY, LIGHT, LIGHT};
    for (int i = 0; i < ALL && left[0] && left[1] && left[2]; i++) {
        used[order[i]] += cost[order[i]];
        left[order[i]]--;
        for (int k = 0; k < 3; k++)
            assert_true(used[0] + used[1] + used[2] < 3 * used[k] + 60000000);
    }
    for (int i = 0; i < 3; i++)
        work_queue_destroy(&q[i]);
    work_queue_destroy(&held);
    work_destroy(&w);
    free(r);
}

/* With all workers at what takes long there is a thread for what is known to be quick, and only for
 * that. */
static void test_quick_ones_pass(void **state)
{
    (void)state;
    struct error e;
    _Atomic uint64_t clock = 1;
    struct work *w = work_create(2, 10, &e);
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r), *fast = calloc(1, sizeof *r);
    struct work_queue *slow = work_queue_create(w, WORK_PREDICTIONS, 10, &e);
    struct work_queue *questions = work_queue_create(w, WORK_QUESTIONS, 10, &e);
    struct work_queue *quick = work_queue_create(w, WORK_PREDICTIONS, 10, &e);
    struct job a = {{.run = job_run}, fast, NULL, NULL, 0}, b = a, hold[3];
    work_set_clock(w, clock_now, &clock);
    assert_int_equal(work_submit(w, quick, &a.job, &e), 0); /* shows that they are quick */
    wait_done(fast, 1);
    for (int i = 0; i < 3; i++) {
        hold[i] = (struct job){{.run = job_run}, r, &gate, NULL, i};
        assert_int_equal(work_submit(w, i ? questions : slow, &hold[i].job, &e), 0);
        gate_wait(&gate, i < 2 ? i + 1 : 2);
    }
    assert_int_equal(work_submit(w, quick, &b.job, &e), 0);
    wait_done(fast, 2);
    assert_int_equal(work_queue_waiting(questions), 1);
    gate_open(&gate);
    wait_done(r, 3);
    work_queue_destroy(&slow);
    work_queue_destroy(&questions);
    work_queue_destroy(&quick);
    work_destroy(&w);
    free(r);
    free(fast);
}

/* Notes how long its chain was. */
static void chain_run(struct work_job *w, bool cancelled)
{
    struct record *r = ((struct job *)w)->record;
    int n = 0;
    for (struct work_job *next; w; w = next, n++)
        next = w->next;
    r->order[r->n++] = cancelled ? -n : n;
    atomic_fetch_add(&r->done, n);
}

/* Predictions are handed over together: when enough wait, or when the oldest has waited enough. */
static void test_together(void **state)
{
    (void)state;
    struct error e;
    _Atomic uint64_t clock = 1000;
    struct work *w = work_create(2, 10, &e);
    struct record *r = calloc(1, sizeof *r);
    struct work_queue *q = work_queue_create(w, WORK_PREDICTIONS, 10, &e);
    struct job jobs[7];
    work_set_clock(w, clock_now, &clock);
    work_queue_together(q, 3, 500);
    for (int i = 0; i < 7; i++) {
        jobs[i] = (struct job){{.run = chain_run}, r, NULL, NULL, i};
        assert_int_equal(work_submit(w, q, &jobs[i].job, &e), 0);
        if (i % 3 == 2)
            wait_done(r, i + 1); /* of three one chain */
    }
    assert_int_equal(r->n, 2);
    assert_int_equal(r->order[0], 3);
    assert_int_equal(r->order[1], 3);
    assert_int_equal(work_queue_waiting(q), 1);
    clock += 500;
    work_queue_together(q, 3, 500); /* wakes who would have been woken by time */
    wait_done(r, 7);
    assert_int_equal(r->order[2], 1);
    work_queue_destroy(&q);
    work_destroy(&w);
    free(r);
}

/* One that waits for its time has it while what came with it takes long: two threads are woken,
 * the second by the first, though there is nothing to take yet. */
static void test_time_passes_meanwhile(void **state)
{
    (void)state;
    struct error e;
    struct gate gate = GATE_INIT;
    struct work *w = work_create(2, 10, &e);
    struct record *r = calloc(1, sizeof *r);
    struct work_queue *waits = work_queue_create(w, WORK_PREDICTIONS, 10, &e);
    struct job lasts = {{.run = job_run}, r, &gate, NULL, 0};
    struct job later = {{.run = chain_run}, r, NULL, NULL, 1};
    work_queue_together(waits, 3, 20000000);
    usleep(20000); /* all sleep */
    assert_int_equal(work_submit(w, NULL, &lasts.job, &e), 0);
    assert_int_equal(work_submit(w, waits, &later.job, &e), 0);
    for (int i = 0; i < 5000 && !r->done; i++)
        usleep(1000);
    assert_int_equal(r->done, 1);
    gate_open(&gate);
    wait_done(r, 2);
    work_queue_destroy(&waits);
    work_destroy(&w);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_time),
        cmocka_unit_test(test_quick_ones_pass),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_time_passes_meanwhile),
    };
    return cmocka_run_group_tests_name("work turns", tests, NULL, NULL);
}
