/* sleepers.h: worker threads that wait for work. The last that went to sleep is woken first: what
 * it needs is still in its core's caches, and one client's requests stay on one thread.
 *
 * All functions are called with the mutex held that guards the work. */
#ifndef BACKPROPD_SLEEPERS_H
#define BACKPROPD_SLEEPERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct sleeper {
    pthread_cond_t wanted;
    struct sleeper *next; /* that went to sleep before it */
    bool asleep;
};

struct sleepers {
    struct sleeper *last; /* that went to sleep */
    bool waking;          /* one was woken and is on its way */
};

void sleeper_init(struct sleeper *s);
void sleeper_destroy(struct sleeper *s);

/* Until it is woken, or CLOCK_MONOTONIC is at `until` ns; UINT64_MAX: no such time. */
void sleepers_wait(struct sleepers *all, struct sleeper *s, pthread_mutex_t *mutex, uint64_t until);
/* Wakes one, if there is one and none is on its way: it wakes the next if there is more to do,
 * since each that is woken costs a call of the system. */
void sleepers_wake(struct sleepers *all);
void sleepers_wake_all(struct sleepers *all);

#endif
