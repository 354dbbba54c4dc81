/* process_signals.c: signals are blocked and waited for, not handled. A task that is over says so
 * by a signal, too: SIGUSR1 to the thread that waits. */
#include "process_signals.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int heard[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
enum { HEARD = sizeof heard / sizeof *heard };

/* To the main thread, where it waits until it is asked for. */
static void pass_on(int number)
{
    int saved = errno;
    syscall(SYS_tgkill, getpid(), getpid(), number);
    errno = saved;
}

static sigset_t heard_set(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < HEARD; i++)
        sigaddset(&set, heard[i]);
    return set;
}

/* A library's threads may be older than the mask (OpenBLAS starts its own before main), and one of
 * those would end the process where it stands: what they get is passed on. */
void process_signals_block(void)
{
    struct sigaction pass = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    sigset_t set = heard_set();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < HEARD; i++)
        sigaction(heard[i], &pass, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is a full disk: EFBIG */
}

double process_signals_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct timespec duration(double seconds)
{
    seconds = seconds < 0 ? 0 : seconds;
    time_t whole = (time_t)seconds;
    return (struct timespec){whole, (long)((seconds - (double)whole) * 1e9)};
}

int process_signals_wait(const struct process_task *t, double seconds)
{
    sigset_t set = heard_set();
    double until = process_signals_clock() + seconds;
    for (;;) {
        struct timespec left = duration(until - process_signals_clock());
        int number = seconds < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &left);
        if (number > 0 && number != SIGUSR1) /* also when the task is over: none is lost */
            return number;
        if (t && process_task_over(t))
            return 0;
        if (number < 0 && errno == EAGAIN)
            return -1;
    }
}

bool process_task_over(const struct process_task *t)
{
    return __atomic_load_n(&t->over, __ATOMIC_ACQUIRE);
}

static void *task_run(void *arg)
{
    struct process_task *t = arg;
    pthread_t waiter = t->waiter;
    t->result = t->run(t->arg);
    __atomic_store_n(&t->over, true, __ATOMIC_RELEASE);
    pthread_kill(waiter, SIGUSR1);
    return NULL;
}

int process_task_start(struct process_task *t)
{
    t->over = false;
    t->waiter = pthread_self();
    return pthread_create(&t->thread, NULL, task_run, t) ? -1 : 0;
}

int process_task_end(struct process_task *t)
{
    pthread_join(t->thread, NULL);
    return t->result;
}
