/* daemon.c: starting, waiting for, ending and observing a daemon process for a test. */
#define _GNU_SOURCE /* nftw */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A sanitizer makes everything many times slower. */
enum { START_SECONDS = 60, STOP_SECONDS = 60, COMMAND_SECONDS = 30, MAX_ARGUMENTS = 64 };

struct path {
    char text[320];
};

static struct path path_in(const struct daemon *d, const char *name)
{
    struct path p;
    snprintf(p.text, sizeof p.text, "%s/%s", d->folder, name);
    return p;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* At most `size` - 1 bytes of a file, or of its end. NUL-terminated; "" when there is none. */
static size_t file_read(const char *path, char *text, size_t size, bool end)
{
    FILE *f = fopen(path, "r");
    size_t n = 0;
    if (f) {
        if (end && !fseek(f, 0, SEEK_END) && ftell(f) >= (long)size)
            fseek(f, -(long)(size - 1), SEEK_END);
        else
            rewind(f);
        n = fread(text, 1, size - 1, f);
        fclose(f);
    }
    text[n] = 0;
    return n;
}

static void show_log(const struct daemon *d)
{
    char text[16384];
    file_read(path_in(d, "log").text, text, sizeof text, true);
    print_error("---- the daemon in %s wrote:\n%s----\n", d->folder, text);
}

/* ---- processes ------------------------------------------------------------------------------- */

/* In the child, before exec: output to files, the signals as they are by default (a shell's
 * background jobs ignore SIGINT), and death with its parent. */
static void child_prepare(pid_t parent, const char *out, const char *err)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    int to_out = open(out, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int to_err = open(err, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    dup2(to_out, 1);
    dup2(to_err, 2);
}

static int exit_code(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static pid_t spawn(const char *const *arguments, const char *out, const char *err)
{
    const char *build = getenv("BUILD");
    struct path binary;
    snprintf(binary.text, sizeof binary.text, "%s/backpropd", build ? build : "build");
    const char *argv[MAX_ARGUMENTS + 2] = {binary.text};
    for (int i = 0; arguments[i]; i++) {
        assert_true(i < MAX_ARGUMENTS);
        argv[i + 1] = arguments[i];
    }
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        child_prepare(parent, out, err);
        execv(binary.text, (char *const *)argv);
        fprintf(stderr, "cannot run %s: %s\n", binary.text, strerror(errno));
        _exit(127);
    }
    return pid;
}

/* Its exit status, 128 + signal, or -1 when it still runs after that time. */
static int wait_for(pid_t pid, int seconds)
{
    int64_t deadline = now_ms() + (int64_t)seconds * 1000;
    int status;
    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (now_ms() > deadline)
            return -1;
        sleep_ms(2);
    }
    return exit_code(status);
}

static void kill_and_reap(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* ---- one daemon ------------------------------------------------------------------------------ */

/* -1 when it does; the exit status of a daemon that has ended instead. */
static int wait_until_it_answers(struct daemon *d, const char *port_file)
{
    int64_t deadline = now_ms() + START_SECONDS * 1000;
    int status;
    while (!file_read(port_file, d->address, sizeof d->address, false)) {
        if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
            d->pid = 0;
            return exit_code(status);
        }
        if (now_ms() > deadline)
            fail_msg("no port file after %d seconds", START_SECONDS);
        sleep_ms(2);
    }
    d->address[strcspn(d->address, "\r\n")] = 0;
    return -1;
}

void daemon_spawn(struct daemon *d, const char *const *flags)
{
    assert_int_equal(d->pid, 0);
    struct path port_file = path_in(d, "port"), log = path_in(d, "log");
    unlink(port_file.text);
    d->flags = flags;
    const char *arguments[MAX_ARGUMENTS + 1] = {"--listen", "127.0.0.1:0", "--data",
                                                d->data,    "--port-file", port_file.text};
    for (int i = 0; flags && flags[i]; i++) {
        assert_true(i + 6 < MAX_ARGUMENTS);
        arguments[i + 6] = flags[i];
    }
    d->pid = spawn(arguments, log.text, log.text);
}

int daemon_try(struct daemon *d, const char *const *flags)
{
    daemon_spawn(d, flags);
    int status = wait_until_it_answers(d, path_in(d, "port").text);
    if (status < 0) {
        client_destroy(&d->client);
        d->client = client_create(d->address);
    }
    return status;
}

void daemon_start(struct daemon *d, const char *const *flags)
{
    int status = daemon_try(d, flags);
    if (status >= 0)
        fail_msg("the daemon ended at its start with status %d", status);
}

/* The exit status; 0 when it does not run. */
static int daemon_end(struct daemon *d)
{
    if (!d->pid)
        return 0;
    kill(d->pid, SIGTERM);
    int status = wait_for(d->pid, STOP_SECONDS);
    if (status < 0) {
        print_error("SIGTERM has not ended the daemon after %d seconds\n", STOP_SECONDS);
        kill_and_reap(d->pid);
    }
    d->pid = 0;
    return status;
}

void daemon_stop(struct daemon *d)
{
    assert_int_not_equal(d->pid, 0);
    assert_int_equal(daemon_end(d), 0);
}

void daemon_kill(struct daemon *d)
{
    assert_int_not_equal(d->pid, 0);
    kill_and_reap(d->pid);
    d->pid = 0;
}

void daemon_command(struct daemon *d, struct outcome *o, const char *const *arguments)
{
    struct path out = path_in(d, "out"), err = path_in(d, "err");
    unlink(out.text);
    unlink(err.text);
    pid_t pid = spawn(arguments, out.text, err.text);
    o->status = wait_for(pid, COMMAND_SECONDS);
    if (o->status < 0)
        kill_and_reap(pid);
    file_read(out.text, o->out, sizeof o->out, false);
    file_read(err.text, o->err, sizeof o->err, false);
    if (o->status < 0)
        fail_msg("still running after %d seconds; it wrote: %s", COMMAND_SECONDS, o->err);
}

/* ---- around a test --------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s, (void)type, (void)at;
    return remove(path);
}

int daemon_test_setup(void **state)
{
    struct daemon_test *t = *state;
    struct daemon *d = t->daemon = calloc(1, sizeof *d);
    const char *tmp = getenv("TMPDIR");
    if (!d)
        return -1;
    t->passed = false;
    snprintf(d->folder, sizeof d->folder, "%s/backpropd-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(d->folder)) {
        print_error("cannot make %s: %s\n", d->folder, strerror(errno));
        return -1;
    }
    snprintf(d->data, sizeof d->data, "%s/data", d->folder);
    d->flags = t->flags;
    return 0;
}

void daemon_test_run(void **state)
{
    struct daemon_test *t = *state;
    daemon_start(t->daemon, t->flags);
    t->run(t->daemon);
    /* A failed check never comes here. */
    int status = daemon_end(t->daemon);
    if (status)
        fail_msg("after SIGTERM the daemon's exit status is %d", status);
    t->passed = true;
}

/* After a test that failed. */
static void end_and_explain(struct daemon *d)
{
    int status;
    if (d->pid && waitpid(d->pid, &status, WNOHANG) == d->pid)
        print_error("the daemon had ended by itself with status %d\n", exit_code(status));
    else if (d->pid)
        kill_and_reap(d->pid);
    d->pid = 0;
    show_log(d);
}

int daemon_test_teardown(void **state)
{
    struct daemon_test *t = *state;
    struct daemon *d = t->daemon;
    if (!t->passed)
        end_and_explain(d);
    client_destroy(&d->client);
    nftw(d->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(d);
    t->daemon = NULL;
    return 0;
}
