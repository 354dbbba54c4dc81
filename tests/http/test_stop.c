/* test_stop.c: what signals do: SIGTERM lets running steps end, within a time; a second one does
 * not; SIGHUP reads again what may change. Whatever the end was, what was answered is there. */
#include "../support/remote.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char step[] = "{\"inputs\":[[1]],\"targets\":[[2]]}";
/* The thread sanitizer makes steps slower by more than this: there they are on fewer samples. */
#ifdef __SANITIZE_THREAD__
enum { SLOWER = 20 };
#else
enum { SLOWER = 1 };
#endif

/* A step on so many samples that it takes seconds. */
static const char wide[] =
    "{\"inputs\":[{\"shape\":[-1,1]}],\"layers\":[{\"op\":\"linear\",\"out_features\":2048},"
    "{\"op\":\"linear\",\"out_features\":2048},{\"op\":\"linear\",\"out_features\":1}],"
    "\"loss\":\"mse\",\"optimizer\":{\"op\":\"sgd\",\"lr\":1e-6}}";

struct long_step {
    struct daemon *d;
    struct text body;
    pthread_t thread;
    int status; /* 0: no answer */
};

static void *send_step(void *arg)
{
    struct long_step *s = arg;
    struct client *c = client_create(s->d->address);
    struct answer *a = client_try(c, &(struct call){.method = "POST",
                                                    .path = "/v2/models/wide/train_step",
                                                    .body = s->body.data,
                                                    .size = s->body.size});
    s->status = a ? a->status : 0;
    client_destroy(&c);
    return NULL;
}

static void wait_for_sample(struct client *c, const char *line)
{
    while (!strstr(client_get(c, "/metrics")->body, line))
        sleep_ms(1);
}

/* Returns when the step is being computed. */
static void long_step_begin(struct long_step *s, struct daemon *d, int samples)
{
    *s = (struct long_step){.d = d};
    remote_create(d->client, "m", remote_scalar);
    remote_post(d->client, "m", "train_step", step);
    remote_create(d->client, "wide", wide);
    const char *const parts[] = {"{\"inputs\":[", "],\"targets\":["};
    for (int p = 0; p < 2; p++) {
        text_add(&s->body, "%s", parts[p]);
        for (int i = 0; i < samples / SLOWER; i++)
            text_add(&s->body, "%s[1]", i ? "," : "");
    }
    text_add(&s->body, "]}");
    assert_int_equal(pthread_create(&s->thread, NULL, send_step, s), 0);
    wait_for_sample(d->client, "\nbackpropd_workers_busy_writing 1\n");
}

/* A step that waits for that one. */
static void short_step_begin(struct long_step *s, struct daemon *d)
{
    *s = (struct long_step){.d = d};
    text_add(&s->body, "%s", step);
    assert_int_equal(pthread_create(&s->thread, NULL, send_step, s), 0);
    wait_for_sample(d->client, "\nbackpropd_queue_writes 1\n");
}

/* The answer's status. */
static int long_step_end(struct long_step *s)
{
    pthread_join(s->thread, NULL);
    text_free(&s->body);
    return s->status;
}

/* How the daemon ended. */
static int reap(struct daemon *d)
{
    int status;
    assert_true(waitpid(d->pid, &status, 0) == d->pid);
    d->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool log_has(struct daemon *d, const char *name, const char *words)
{
    static char text[1 << 20];
    char path[300];
    snprintf(path, sizeof path, "%s/%s", d->folder, name);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return strstr(text, words) != NULL;
}

/* What runs ends, what waits is not begun. */
static void steps_end(struct daemon *d)
{
    struct long_step s, waiting;
    long_step_begin(&s, d, 2000);
    short_step_begin(&waiting, d);
    kill(d->pid, SIGTERM);
    assert_int_equal(reap(d), 0);
    assert_int_equal(long_step_end(&s), 200);
    assert_int_equal(long_step_end(&waiting), 503);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "wide", "step") == 1);
    assert_true(remote_number(d->client, "m", "step") == 1);
    /* The checkpoint has it: nothing had to be done again. */
    assert_true(remote_number(d->client, "wide", "replayed.records") == 0);
}

static void not_for_ever(struct daemon *d)
{
    struct long_step s;
    long_step_begin(&s, d, 30000);
    kill(d->pid, SIGTERM);
    assert_int_equal(reap(d), 1);
    assert_int_equal(long_step_end(&s), 0);
    assert_true(log_has(d, "log", "longer than --shutdown-timeout"));
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "wide", "step") == 0);
    assert_true(remote_number(d->client, "m", "step") == 1);
}

/* SIGHUP on the way to the end is nothing. */
static void at_once(struct daemon *d)
{
    struct long_step s;
    long_step_begin(&s, d, 30000);
    kill(d->pid, SIGTERM);
    while (!log_has(d, "log", "event=stopping"))
        sleep_ms(1);
    kill(d->pid, SIGHUP);
    kill(d->pid, SIGINT);
    assert_int_equal(reap(d), 128 + SIGINT);
    assert_int_equal(long_step_end(&s), 0);
    assert_true(log_has(d, "log", "a second signal to stop"));
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "step") == 1);
}

/* A daemon on d's folder, not waited for; its log is d's folder/second. */
static void start_second(struct daemon *d)
{
    char binary[256], log[300];
    const char *build = getenv("BUILD");
    snprintf(binary, sizeof binary, "%s/backpropd", build ? build : "build");
    snprintf(log, sizeof log, "%s/second", d->folder);
    d->pid = fork();
    assert_true(d->pid >= 0);
    if (d->pid)
        return;
    if (freopen(log, "w", stderr))
        execl(binary, binary, "--listen", "127.0.0.1:0", "--data", d->data, (char *)NULL);
    _exit(127);
}

/* A stop while the log is replayed does not wait for that, and takes nothing from it. */
static void while_loading(struct daemon *d)
{
    struct long_step s;
    long_step_begin(&s, d, 1000);
    assert_int_equal(long_step_end(&s), 200);
    daemon_kill(d);
    start_second(d);
    while (!log_has(d, "second", "event=listening"))
        sleep_ms(1);
    kill(d->pid, SIGHUP);
    kill(d->pid, SIGTERM);
    assert_int_equal(reap(d), 0);
    assert_true(log_has(d, "second", "stopped while models were being loaded"));
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "wide", "step") == 1);
    assert_true(remote_number(d->client, "wide", "replayed.records") == 1);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* The log's level is that of the file; a file that cannot be used changes nothing. */
static void hang_up(struct daemon *d)
{
    char conf[300];
    snprintf(conf, sizeof conf, "%s/conf", d->folder);
    daemon_stop(d);
    write_file(conf, "log-level = error\n");
    daemon_start(d, WORDS("--config", conf));
    client_get(d->client, "/v2/none/before");
    write_file(conf, "log-level = loud\n");
    kill(d->pid, SIGHUP);
    while (!log_has(d, "log", "event=not_reloaded what=log-level"))
        sleep_ms(1);
    write_file(conf, "log-level = info\n");
    kill(d->pid, SIGHUP);
    while (!log_has(d, "log", "event=reloaded what=keys"))
        sleep_ms(1);
    client_get(d->client, "/v2/none/after");
    while (!log_has(d, "log", "path=/v2/none/after"))
        sleep_ms(1);
    assert_false(log_has(d, "log", "path=/v2/none/before"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(steps_end, "--shutdown-timeout", "600"),
        DAEMON_TEST(not_for_ever, "--shutdown-timeout", "1"),
        DAEMON_TEST(at_once, "--shutdown-timeout", "600"),
        DAEMON_TEST(while_loading, "--redo-seconds", "1000"),
        DAEMON_TEST(hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
