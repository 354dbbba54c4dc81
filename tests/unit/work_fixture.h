/* work_fixture.h: jobs for tests of the queues of work, doors that they wait at, and what they
 * leave behind. */
#ifndef WORK_FIXTURE_H
#define WORK_FIXTURE_H

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

static inline void gate_pass(struct gate *g)
{
    pthread_mutex_lock(&g->mutex);
    g->inside++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static inline void gate_wait(struct gate *g, int inside)
{
    pthread_mutex_lock(&g->mutex);
    while (g->inside < inside)
        pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static inline void gate_open(struct gate *g)
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

static inline void job_run(struct work_job *w, bool cancelled)
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
static inline void write_run(struct work_job *w, bool cancelled)
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

static inline void wait_done(struct record *r, int n)
{
    while (r->done + r->cancelled < n)
        usleep(200);
}

#endif
