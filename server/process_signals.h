/* process_signals.h: the signals that the daemon waits for, in its main thread: SIGTERM and SIGINT
 * (stop), SIGHUP (reload). While something long goes on, it goes on in a thread of its own, so that
 * the main thread hears them all the time. */
#ifndef BACKPROPD_PROCESS_SIGNALS_H
#define BACKPROPD_PROCESS_SIGNALS_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

/* Work that goes on while signals are waited for. */
struct process_task {
    int (*run)(void *arg);
    void *arg;
    int result; /* of run, once it is over */
    bool over;  /* atomic */
    pthread_t thread, waiter;
};

/* In the main thread, before there are threads of ours, which inherit the mask. */
void process_signals_block(void);

/* Seconds, for deadlines. */
double process_signals_clock(void);

/* Waits for a signal. `t`, which may be NULL: or until it is over; 0 then. Not longer than
 * `seconds` (negative: for ever); -1 then. */
int process_signals_wait(const struct process_task *t, double seconds);

/* Begins t->run(t->arg). -1: no thread could be started. */
int process_task_start(struct process_task *t);
bool process_task_over(const struct process_task *t);
/* Its result, which is waited for. */
int process_task_end(struct process_task *t);

#endif
