/* test_work.c: reads, writes, their order, limits, and taking it all down. */
#include "../../server/work.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A door that jobs wait at. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool open;
    int inside; /* jobs that are at it */
};
#define GATE_INIT                                                                                  \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0                              \
    }

static void gate_pass(struct gate *g)
{
    pthread_mutex_lock(&g->mutex);
    g->inside++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static void gate_wait(struct gate *g, int inside)
{
    pthread_mutex_lock(&g->mutex);
    while (g->inside < inside)
        pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static void gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->mutex);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mutex);
}

/* What jobs leave behind. */
struct record {
    atomic_int done, cancelled, inside;
    atomic_bool overlap;
    int order[20000];
    int n; /* of order: by the queue's own turn */
};

struct job {
    struct work_job job;
    struct record *record;
    struct gate *gate; /* NULL: does not wait */
    struct work_queue **destroys;
    int number;
};

static void job_run(struct work_job *w, bool cancelled)
{
    struct job *j = (struct job *)w;
    if (cancelled) {
        atomic_fetch_add(&j->record->cancelled, 1);
        return;
    }
    if (j->gate)
        gate_pass(j->gate);
    if (j->destroys)
        work_queue_destroy(j->destroys);
    atomic_fetch_add(&j->record->done, 1);
}

/* For one queue: nobody else may be here. */
static void write_run(struct work_job *w, bool cancelled)
{
    struct job *j = (struct job *)w;
    if (cancelled) {
        atomic_fetch_add(&j->record->cancelled, 1);
        return;
    }
    if (atomic_fetch_add(&j->record->inside, 1))
        j->record->overlap = true;
    j->record->order[j->record->n++] = j->number;
    atomic_fetch_sub(&j->record->inside, 1);
    atomic_fetch_add(&j->record->done, 1);
}

static void wait_done(struct record *r, int n)
{
    while (r->done + r->cancelled < n)
        usleep(200);
}

static void test_writes_keep_order(void **state)
{
    enum { N = 5000, QUEUES = 3 };
    (void)state;
    struct error e;
    struct work *w = work_create(4, 100, &e);
    struct work_queue *q[QUEUES];
    struct record *r = calloc(QUEUES, sizeof *r);
    struct job *jobs = calloc(N * QUEUES, sizeof *jobs);
    assert_non_null(w);
    for (int k = 0; k < QUEUES; k++)
        q[k] = work_queue_create(w, WORK_WRITES, N, &e);
    for (int i = 0; i < N * QUEUES; i++) {
        jobs[i] = (struct job){{.run = write_run}, &r[i % QUEUES], NULL, NULL, i};
        assert_int_equal(work_submit(w, q[i % QUEUES], &jobs[i].job, &e), 0);
    }
    for (int k = 0; k < QUEUES; k++) {
        wait_done(&r[k], N);
        work_queue_destroy(&q[k]);
        assert_null(q[k]);
        assert_false(r[k].overlap);
        assert_int_equal(r[k].done, N);
        for (int i = 0; i < N; i++)
            assert_int_equal(r[k].order[i], i * QUEUES + k);
    }
    work_destroy(&w);
    assert_null(w);
    free(jobs);
    free(r);
}

/* With every writer stuck, reads still run. */
static void test_reads_pass_writes(void **state)
{
    (void)state;
    struct error e;
    struct work *w = work_create(3, 100, &e);
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r), *reads = calloc(1, sizeof *r);
    struct work_queue *q[4];
    struct job writes[4], jobs[50];
    for (int i = 0; i < 4; i++) {
        q[i] = work_queue_create(w, WORK_WRITES, 10, &e);
        writes[i] = (struct job){{.run = job_run}, r, &gate, NULL, i};
        assert_int_equal(work_submit(w, q[i], &writes[i].job, &e), 0);
    }
    gate_wait(&gate, 2);
    for (int i = 0; i < 50; i++) {
        jobs[i] = (struct job){{.run = job_run}, reads, NULL, NULL, i};
        assert_int_equal(work_submit(w, NULL, &jobs[i].job, &e), 0);
    }
    wait_done(reads, 50);
    struct work_stats stats;
    work_stats_get(w, &stats);
    assert_int_equal(stats.running_writes, 2);
    assert_int_equal(stats.waiting_writes, 2);
    assert_int_equal(r->done, 0);
    gate_open(&gate);
    wait_done(r, 4);
    for (int i = 0; i < 4; i++)
        work_queue_destroy(&q[i]);
    work_destroy(&w);
    free(r);
    free(reads);
}

static void test_limits(void **state)
{
    (void)state;
    struct error e;
    struct work *w = work_create(2, 3, &e);
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r);
    struct work_queue *q = work_queue_create(w, WORK_WRITES, 2, &e);
    struct job jobs[20];
    for (int i = 0; i < 20; i++)
        jobs[i] = (struct job){{.run = job_run}, r, &gate, NULL, i};
    assert_int_equal(work_submit(w, q, &jobs[0].job, &e), 0);
    assert_int_equal(work_submit(w, NULL, &jobs[1].job, &e), 0);
    gate_wait(&gate, 2); /* both workers are taken */
    for (int i = 2; i < 4; i++)
        assert_int_equal(work_submit(w, q, &jobs[i].job, &e), 0);
    assert_int_equal(work_queue_waiting(q), 2);
    assert_int_equal(work_submit(w, q, &jobs[4].job, &e), -1);
    assert_int_equal(e.code, ERROR_QUEUE_FULL);
    for (int i = 5; i < 8; i++)
        assert_int_equal(work_submit(w, NULL, &jobs[i].job, &e), 0);
    assert_int_equal(work_submit(w, NULL, &jobs[8].job, &e), -1);
    assert_int_equal(e.code, ERROR_QUEUE_FULL);
    gate_open(&gate);
    wait_done(r, 7);
    work_queue_destroy(&q);
    work_destroy(&w);
    free(r);
}

/* Waiting jobs are told, the running one is waited for. */
static void *open_later(void *gate)
{
    usleep(20000);
    gate_open(gate);
    return NULL;
}

static void test_queue_destroy(void **state)
{
    (void)state;
    struct error e;
    struct work *w = work_create(2, 100, &e);
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r);
    struct work_queue *q = work_queue_create(w, WORK_WRITES, 100, &e);
    struct job jobs[10];
    for (int i = 0; i < 10; i++) {
        jobs[i] = (struct job){{.run = job_run}, r, &gate, NULL, i};
        assert_int_equal(work_submit(w, q, &jobs[i].job, &e), 0);
    }
    gate_wait(&gate, 1);
    pthread_t thread;
    pthread_create(&thread, NULL, open_later, &gate);
    work_queue_destroy(&q);
    assert_int_equal(r->done, 1);
    assert_int_equal(r->cancelled, 9);
    pthread_join(thread, NULL);
    work_destroy(&w);
    free(r);
}

/* As a request that deletes its own model does. */
static void test_queue_destroys_itself(void **state)
{
    (void)state;
    struct error e;
    struct work *w = work_create(2, 100, &e);
    struct gate gate = GATE_INIT;
    for (int round = 0; round < 50; round++) {
        struct record *r = calloc(1, sizeof *r);
        struct work_queue *q = work_queue_create(w, WORK_WRITES, 100, &e);
        struct job jobs[5];
        gate.open = false;
        gate.inside = 0;
        for (int i = 0; i < 5; i++) {
            jobs[i] = (struct job){{.run = job_run}, r, &gate, i ? NULL : &q, i};
            assert_int_equal(work_submit(w, q, &jobs[i].job, &e), 0);
        }
        gate_wait(&gate, 1);
        gate_open(&gate);
        wait_done(r, 5);
        assert_int_equal(r->done, 1);
        assert_int_equal(r->cancelled, 4);
        struct work_stats stats;
        do
            work_stats_get(w, &stats);
        while (stats.running); /* the job's memory is ours again */
        free(r);
    }
    work_destroy(&w);
}

static void test_stop(void **state)
{
    (void)state;
    struct error e;
    struct work *w = work_create(3, 100, &e);
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r);
    struct work_queue *q = work_queue_create(w, WORK_WRITES, 100, &e);
    struct job jobs[41];
    for (int i = 0; i < 40; i++) {
        jobs[i] = (struct job){{.run = job_run}, r, &gate, NULL, i};
        assert_int_equal(work_submit(w, i % 2 ? q : NULL, &jobs[i].job, &e), 0);
    }
    gate_wait(&gate, 3);
    pthread_t thread;
    pthread_create(&thread, NULL, open_later, &gate);
    work_stop(w);
    assert_int_equal(r->done, 3);
    assert_int_equal(r->cancelled, 37);
    assert_int_equal(work_submit(w, NULL, &jobs[40].job, &e), -1);
    assert_int_equal(e.code, ERROR_NOT_READY);
    pthread_join(thread, NULL);
    work_queue_destroy(&q);
    work_destroy(&w);
    free(r);
}

/* A stream of reads cannot starve writes. */
static void test_writes_get_a_turn(void **state)
{
    enum { READS = 4000 };
    (void)state;
    struct error e;
    struct work *w = work_create(2, READS, &e);
    struct gate gate = GATE_INIT;
    struct record *r = calloc(1, sizeof *r), *reads = calloc(1, sizeof *r);
    struct work_queue *q = work_queue_create(w, WORK_WRITES, 100, &e);
    struct job *jobs = calloc(READS, sizeof *jobs), hold[2];
    struct job write = {{.run = job_run}, r, NULL, NULL, 0};
    for (int i = 0; i < 2; i++) {
        hold[i] = (struct job){{.run = job_run}, r, &gate, NULL, i};
        work_submit(w, NULL, &hold[i].job, &e);
    }
    gate_wait(&gate, 2);
    for (int i = 0; i < READS; i++) {
        jobs[i] = (struct job){{.run = job_run}, reads, NULL, NULL, i};
        assert_int_equal(work_submit(w, NULL, &jobs[i].job, &e), 0);
    }
    assert_int_equal(work_submit(w, q, &write.job, &e), 0);
    gate_open(&gate);
    while (r->done < 3)
        usleep(10);
    wait_done(reads, READS);
    work_queue_destroy(&q);
    work_destroy(&w);
    free(jobs);
    free(r);
    free(reads);
}

/* ---- by a clock of our own ------------------------------------------------------------------- */

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
        cmocka_unit_test(test_writes_keep_order),
        cmocka_unit_test(test_reads_pass_writes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_queue_destroy),
        cmocka_unit_test(test_queue_destroys_itself),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_writes_get_a_turn),
        cmocka_unit_test(test_equal_time),
        cmocka_unit_test(test_quick_ones_pass),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_time_passes_meanwhile),
    };
    return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
