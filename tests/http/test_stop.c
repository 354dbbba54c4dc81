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

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char step[] = "{\"inputs\":[[1]],\"targets\":[[2]]}";
/* A step on so many samples that it takes seconds. */
static const char wide[] =
    "{\"inputs\":[{\"shape\":[-1,1]}],\"layers\":[{\"op\":\"linear\",\"out_features\":2048},"
    "{\"op\":\"linear\",\"out_features\":2048},{\"op\":\"linear\",\"out_features\":1}],"
    "\"loss\":\"mse\",\"optimizer\":{\"op\":\"sgd\",\"lr\":1e-6}}";

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

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

static bool step_runs(struct client *c)
{
    return strstr(client_get(c, "/metrics")->body, "\nbackpropd_workers_busy_writing 1\n");
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
        for (int i = 0; i < samples; i++)
            text_add(&s->body, "%s[1]", i ? "," : "");
    }
    text_add(&s->body, "]}");
    assert_int_equal(pthread_create(&s->thread, NULL, send_step, s), 0);
    while (!step_runs(d->client))
        sleep_ms(1);
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

static bool log_has(struct daemon *d, const char *words)
{
    static char text[1 << 20];
    char path[300];
    snprintf(path, sizeof path, "%s/log", d->folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    return strstr(text, words) != NULL;
}

static void steps_end(struct daemon *d)
{
    struct long_step s;
    long_step_begin(&s, d, 2000);
    kill(d->pid, SIGTERM);
    assert_int_equal(reap(d), 0);
    assert_int_equal(long_step_end(&s), 200);
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
    assert_true(log_has(d, "longer than --shutdown-timeout"));
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
    while (!log_has(d, "event=stopping"))
        sleep_ms(1);
    kill(d->pid, SIGHUP);
    kill(d->pid, SIGINT);
    assert_int_equal(reap(d), 128 + SIGINT);
    assert_int_equal(long_step_end(&s), 0);
    assert_true(log_has(d, "a second signal to stop"));
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "step") == 1);
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
    while (!log_has(d, "event=not_reloaded what=log-level"))
        sleep_ms(1);
    write_file(conf, "log-level = info\n");
    kill(d->pid, SIGHUP);
    while (!log_has(d, "event=reloaded what=keys"))
        sleep_ms(1);
    client_get(d->client, "/v2/none/after");
    while (!log_has(d, "path=/v2/none/after"))
        sleep_ms(1);
    assert_false(log_has(d, "path=/v2/none/before"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(steps_end),
        DAEMON_TEST(not_for_ever, "--shutdown-timeout", "1"),
        DAEMON_TEST(at_once, "--shutdown-timeout", "600"),
        DAEMON_TEST(hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
