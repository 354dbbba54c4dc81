/* job_list.h: a first-in first-out list of jobs, linked through the jobs themselves. For work.c,
 * which guards every list with its mutex. */
#ifndef BACKPROPD_JOB_LIST_H
#define BACKPROPD_JOB_LIST_H

#include "work.h"

struct job_list {
    struct work_job *first, **last;
    size_t count;
};

static inline void job_list_init(struct job_list *l)
{
    *l = (struct job_list){NULL, &l->first, 0};
}

static inline void job_list_push(struct job_list *l, struct work_job *job)
{
    job->next = NULL;
    *l->last = job;
    l->last = &job->next;
    l->count++;
}

/* Takes the first `n` of at least as many (1 or more), as a chain. */
static inline struct work_job *job_list_cut(struct job_list *l, size_t n)
{
    struct work_job *job = l->first, *last = job;
    for (size_t i = 1; i < n; i++)
        last = last->next;
    l->first = last->next;
    last->next = NULL;
    if (!l->first)
        l->last = &l->first;
    l->count -= n;
    return job;
}

/* Takes everything, as a chain. */
static inline struct work_job *job_list_take(struct job_list *l)
{
    struct work_job *job = l->first;
    job_list_init(l);
    return job;
}

static inline void job_chain_cancel(struct work_job *job)
{
    while (job) {
        struct work_job *next = job->next; /* running it may free it */
        job->next = NULL;
        job->run(job, true);
        job = next;
    }
}

#endif
