/* daemon.h: a real daemon for a test, in a process and a temporary folder of its own, on a free
 * port. A test and its place in main are
 *
 *     static void it_lives(struct daemon *d)
 *     {
 *         answer_expect(client_get(d->client, "/v2/health/live"), 200);
 *     }
 *     const struct CMUnitTest tests[] = {
 *         DAEMON_TEST(it_lives),
 *         DAEMON_TEST(large_bodies, "--max-body", "1K"),
 *     };
 *
 * After the test the daemon is sent SIGTERM and must exit with 0: so each test also sees leaks and
 * races that a sanitizer reports at the end. What the daemon wrote is shown when the test fails. No
 * daemon outlives the test program, however that ends.
 *
 * The binary is $BUILD/backpropd (BUILD is "build" when it is not set), run from the root of the
 * repository. To be used by one thread; other threads make clients for d->address. */
#ifndef TEST_DAEMON_H
#define TEST_DAEMON_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client.h"

#include <sys/types.h>

struct daemon {
    char folder[256];  /* data/, and the files below */
    char data[288];    /* folder/data */
    char address[288]; /* "127.0.0.1:43210", of the port file */
    pid_t pid;         /* 0: not running */
    struct client *client;
    const char *const *flags; /* more than --listen, --data and --port-file; ends with NULL */
};

struct daemon_test {
    void (*run)(struct daemon *d);
    const char *const *flags;
    struct daemon *daemon;
    bool passed;
};

/* clang-format off */
#define DAEMON_TEST(function, ...)                                                                 \
    {#function, daemon_test_run, daemon_test_setup, daemon_test_teardown,                          \
     &(struct daemon_test){function, (const char *const[]){__VA_ARGS__ __VA_OPT__(,) NULL},        \
                           NULL, false}}
/* clang-format on */
int daemon_test_setup(void **state);
void daemon_test_run(void **state);
int daemon_test_teardown(void **state);

/* Starts it on its folder and waits until it answers. `d` has no process. The flags are kept. */
void daemon_start(struct daemon *d, const char *const *flags);
/* The same for one that may refuse: -1 when it answers, else its exit status. */
int daemon_try(struct daemon *d, const char *const *flags);
/* The same without waiting for anything. */
void daemon_spawn(struct daemon *d, const char *const *flags);
/* SIGTERM; its exit status must be 0. */
void daemon_stop(struct daemon *d);
/* kill -9. */
void daemon_kill(struct daemon *d);

void sleep_ms(int ms);

/* One run of the binary that ends by itself within 30 seconds. */
struct outcome {
    int status;                /* exit status, or 128 + signal */
    char out[8192], err[8192]; /* what it printed, NUL-terminated; more is cut off */
};
/* Arguments end with NULL; `d` gives the folder for its files. */
void daemon_command(struct daemon *d, struct outcome *o, const char *const *arguments);

#endif
