/* test_work.c: reads, writes, their order, limits, and taking it all down. Whose turn it is by the
 * time that jobs take: test_work_turns.c. */
#include "work_fixture.h"

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
    };
    return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
