/* sleepers.c: worker threads that wait for work: a stack of those that sleep, each with a condition
 * of its own. */
#include "sleepers.h"

#include <time.h>

void sleeper_init(struct sleeper *s)
{
    pthread_condattr_t monotonic;
    *s = (struct sleeper){.asleep = false};
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wanted, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void sleeper_destroy(struct sleeper *s)
{
    pthread_cond_destroy(&s->wanted);
}

static void leave(struct sleepers *all, struct sleeper *s)
{
    struct sleeper **at = &all->last;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->asleep = false;
}

void sleepers_wait(struct sleepers *all, struct sleeper *s, pthread_mutex_t *mutex, uint64_t until)
{
    const struct timespec t = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    s->next = all->last;
    s->asleep = true;
    all->last = s;
    if (until == UINT64_MAX)
        pthread_cond_wait(&s->wanted, mutex);
    else
        pthread_cond_timedwait(&s->wanted, mutex, &t);
    if (s->asleep)
        leave(all, s);
    else
        all->waking = false;
}

static void wake_last(struct sleepers *all)
{
    struct sleeper *s = all->last;
    leave(all, s);
    pthread_cond_signal(&s->wanted);
}

void sleepers_wake(struct sleepers *all)
{
    if (!all->last || all->waking)
        return;
    all->waking = true;
    wake_last(all);
}

void sleepers_wake_all(struct sleepers *all)
{
    while (all->last)
        wake_last(all);
}
