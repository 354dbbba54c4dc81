/* test_sandbox.c: the real daemon closes itself in, all its threads, and still does its work: a
 * checkpoint, a version, weights in and out, a restart. What is refused is tested in
 * tests/unit/test_sandbox.c. */
#include "../support/remote.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A field of /proc/PID/task/TID/status, -1: not there. */
static int status_field(const char *path, const char *name)
{
    char line[256];
    int value = -1;
    FILE *f = fopen(path, "r");
    size_t n = strlen(name);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, n) && line[n] == ':')
            value = atoi(line + n + 1);
    if (f)
        fclose(f);
    return value;
}

/* Whether all threads of the daemon have these. */
static void expect_threads(struct daemon *d, int seccomp, int no_new_privileges)
{
    char path[600];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", d->pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *f; (f = readdir(dir));) {
        if (f->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", d->pid, f->d_name);
        if (status_field(path, "Seccomp") < 0)
            continue; /* it ended meanwhile, as those that only load do */
        assert_int_equal(status_field(path, "Seccomp"), seccomp);
        assert_int_equal(status_field(path, "NoNewPrivs"), no_new_privileges);
        n++;
    }
    closedir(dir);
    assert_true(n > 3);
}

static bool log_says(struct daemon *d, const char *part)
{
    static char text[1 << 16];
    char path[320];
    snprintf(path, sizeof path, "%s/log", d->folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return strstr(text, part);
}

static bool inherited_seccomp(void)
{
    return status_field("/proc/self/status", "Seccomp") != 0;
}

#ifdef __SANITIZE_THREAD__
#define OUTSIDE "threads_outside=1" /* the sanitizer's own, older than main */
#else
#define OUTSIDE "threads_outside=0"
#endif

static void closed_in(struct daemon *d)
{
    assert_true(log_says(d, "event=sandbox"));
    if (log_says(d, "seccomp_lacks"))
        skip(); /* the kernel has none */
    expect_threads(d, 2, 1);
    assert_true(log_says(d, OUTSIDE));
}

static void works(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    for (unsigned i = 0; i < 300; i++) { /* some checkpoints: --redo-bytes */
        remote_step(c, "m", i, 4);
        client_forget(c);
    }
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    struct answer *weights = client_get(c, "/v2/models/m/weights");
    answer_expect(weights, 200);
    answer_expect(client_send(c, &(struct call){.method = "PUT",
                                                .path = "/v2/models/m/weights",
                                                .body = weights->body,
                                                .size = weights->size,
                                                .content_type = "application/octet-stream"}),
                  200);
    struct answer *a = client_get(c, "/metrics");
    answer_expect(a, 200);
    assert_null(strstr(a->body, "process_open_fds NaN"));
    assert_null(strstr(a->body, "process_start_time_seconds NaN"));
    struct remote_hash before = remote_hash(c, "m");
    daemon_stop(d);
    daemon_start(d, d->flags);
    assert_same_state(before, remote_hash(d->client, "m"));
    answer_expect(client_json(d->client, "DELETE", "/v2/models/m", NULL), 200);
}

/* The data folder may be named by a relative path or lie behind a symbolic link. */
static void other_names(struct daemon *d)
{
    char link[320];
    snprintf(link, sizeof link, "%s/link", d->folder);
    remote_create(d->client, "m", remote_mlp);
    daemon_stop(d);
    assert_int_equal(symlink(d->data, link), 0);
    daemon_start(d, WORDS("--data", link));
    remote_step(d->client, "m", 1, 4);
}

static void switched_off(struct daemon *d)
{
    assert_true(log_says(d, "off=--no-sandbox"));
    if (!inherited_seccomp())
        expect_threads(d, 0, status_field("/proc/self/status", "NoNewPrivs"));
    daemon_stop(d);
    setenv("BACKPROPD_SANDBOX", "false", 1);
    daemon_start(d, NULL);
    unsetenv("BACKPROPD_SANDBOX");
    if (!inherited_seccomp())
        expect_threads(d, 0, status_field("/proc/self/status", "NoNewPrivs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(closed_in),
        DAEMON_TEST(works, "--redo-bytes", "64K"),
        DAEMON_TEST(other_names),
        DAEMON_TEST(switched_off, "--no-sandbox"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
