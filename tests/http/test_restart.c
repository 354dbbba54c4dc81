/* test_restart.c: what is there after the daemon has ended. After a clean stop: everything. After
 * kill -9: a state that was acknowledged, not older than the last one that was said to be saved,
 * with its metrics up to there and a revision that never goes back. A damaged database is refused
 * with a message. */
#define _GNU_SOURCE /* prlimit */
#include "../support/faults.h"
#include "../support/remote.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct client *restart(struct daemon *d)
{
    daemon_start(d, d->flags);
    return d->client;
}

/* What must be the same before and after. New references, one a question. */
static json_t *whole(struct client *c)
{
    static const char *const questions[] = {"?state_sha256=1", "/config", "/versions",
                                            "/versions/1", "/metrics"};
    static const char *const names[] = {"mlp", "cnn", "scalar"};
    json_t *all = json_array();
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < 5; i++) {
            if (i == 3 && m)
                continue;
            json_t *answer = json_deep_copy(answer_json(remote_get(c, names[m], questions[i])));
            json_array_append_new(all, answer);
        }
    return all;
}

static void clean_stop(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "mlp", remote_mlp);
    remote_create(c, "cnn", remote_cnn);
    remote_create(c, "scalar", remote_scalar);
    remote_create(c, "gone", remote_scalar);
    for (unsigned i = 0; i < 4; i++) {
        remote_step(c, "mlp", i, 4);
        remote_step(c, "cnn", i, 36);
    }
    answer_expect(remote_call(c, "POST", "mlp", "/versions", "{\"note\":\"four\"}"), 201);
    answer_expect(remote_call(c, "PATCH", "mlp", "",
                              "{\"lr\":0.02,\"clip_grad_norm\":1,\"frozen\":[\"out.bias\"],"
                              "\"schedule\":{\"op\":\"cosine\",\"total_steps\":100}}"),
                  200);
    remote_step(c, "mlp", 5, 4);
    remote_post(c, "cnn", "forward_backward", remote_batch(c, 6, 8, 36, NULL));
    answer_expect(remote_call(c, "DELETE", "gone", "", NULL), 200);
    for (int pass = 0; pass < 3; pass++) {
        json_t *before = whole(c);
        daemon_stop(d);
        c = restart(d);
        json_t *after = whole(c);
        if (!json_equal(before, after))
            fail_msg("before:\n%s\nafter:\n%s", json_dumps(before, 0), json_dumps(after, 0));
        json_decref(before);
        json_decref(after);
        answer_refused(remote_call(c, "GET", "gone", "", NULL), 404, "unknown_model", "gone");
        if (pass == 0) /* goes on as if nothing had happened */
            remote_post(c, "cnn", "optim_step", NULL);
        remote_step(c, "mlp", 7, 4);
    }
}

/* The last numbers are those of the metrics, whatever end there was: null without a step. */
static void last_numbers(struct daemon *d)
{
    static const char *const samples[] = {
        "backpropd_train_loss{model=\"m\"}", "backpropd_train_accuracy{model=\"m\"}",
        "backpropd_grad_norm{model=\"m\"}", "backpropd_learning_rate{model=\"m\"}"};
    struct client *c = d->client;
    double before[4];
    remote_create(c, "m", remote_mlp);
    remote_create(c, "fresh", remote_mlp);
    remote_step(c, "m", 1, 4);
    const double loss = answer_number(remote_step(c, "m", 2, 4), "loss");
    for (int i = 0; i < 4; i++)
        before[i] = remote_sample(c, samples[i]);
    for (int pass = 0; pass < 3; pass++) {
        if (pass == 2) {
            answer_expect(client_post(c, "/v2/repository/models/m/unload", NULL), 200);
            answer_expect(client_post(c, "/v2/repository/models/m/load", NULL), 200);
        } else {
            (pass ? daemon_kill : daemon_stop)(d);
            c = restart(d);
        }
        assert_true(remote_number(c, "m", "last_loss") == (double)(float)loss);
        for (int i = 0; i < 4; i++)
            assert_true(before[i] > 0 && remote_sample(c, samples[i]) == before[i]);
        assert_true(json_is_null(answer_find(remote_get(c, "fresh", ""), "last_loss")));
        assert_true(remote_sample(c, "backpropd_train_loss{model=\"fresh\"}") == -1);
    }
}

/* A daemon that stopped in between trains as one that did not. */
static void trains_on(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "a", remote_cnn);
    remote_create(c, "b", remote_cnn);
    for (unsigned i = 0; i < 6; i++)
        remote_step(c, "b", i, 36);
    for (unsigned i = 0; i < 6; i++) {
        remote_step(c, "a", i, 36);
        if (i % 2) {
            daemon_stop(d);
            c = restart(d);
        }
    }
    assert_same_state(remote_hash(c, "a"), remote_hash(c, "b"));
}

/* A stop is clean from the moment that it answers, also when it is asked for twice. */
static void stop_at_once(struct daemon *d)
{
    for (int i = 0; i < 8; i++) {
        if (i % 2) {
            int status;
            kill(d->pid, SIGINT);
            assert_true(waitpid(d->pid, &status, 0) == d->pid);
            assert_int_equal(status, 0);
            d->pid = 0;
        } else {
            daemon_stop(d);
        }
        restart(d);
    }
}

/* ---- kill -9 --------------------------------------------------------------------------------- */

enum { STEPS = 12 };

static double series_end(struct client *c, const char *name)
{
    struct answer *a = remote_get(c, name, "/metrics?names=loss&max_points=100000");
    json_t *revisions = answer_find(a, "series.loss.revision");
    size_t n = json_array_size(revisions);
    return n ? json_number_value(json_array_get(revisions, n - 1)) : 0;
}

static void kill_9(struct daemon *d)
{
    struct client *c = d->client;
    struct remote_hash at[STEPS + 1];
    remote_create(c, "m", remote_mlp);
    at[0] = remote_hash(c, "m");
    double highest = 0;
    for (unsigned i = 0; i < STEPS; i++) {
        if (i == 4) /* saved for sure */
            answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.05}"), 200);
        remote_step(c, "m", i, 4);
        at[i + 1] = remote_hash(c, "m");
    }
    remote_get(c, "m", "/metrics"); /* writes the rows that wait */
    highest = remote_number(c, "m", "revision");
    daemon_kill(d);
    c = restart(d);
    int step = (int)remote_number(c, "m", "step");
    assert_in_range(step, 4, STEPS);
    assert_same_state(remote_hash(c, "m"), at[step]);
    assert_true(remote_number(c, "m", "revision") >= highest);
    /* Rows of steps that are lost are gone; one is there for each that is not. */
    struct answer *a = remote_get(c, "m", "/metrics?names=loss");
    assert_int_equal(json_array_size(answer_find(a, "series.loss.step")), step);
    a = remote_step(c, "m", (unsigned)step, 4);
    assert_true(answer_number(a, "revision") > highest);
    assert_true(answer_number(a, "step") == step + 1);
    assert_true(series_end(c, "m") == answer_number(a, "revision"));
    if (step < STEPS)
        assert_same_state(remote_hash(c, "m"), at[step + 1]);
    a = remote_get(c, "m", "/config");
    assert_true(answer_number(a, "description.optimizer.lr") == 0.05);
}

/* What is saved before it is answered is there after any end. */
static void kill_after_answers(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    struct remote_hash fresh = remote_hash(c, "m");
    daemon_kill(d);
    c = restart(d);
    assert_same_state(remote_hash(c, "m"), fresh);
    remote_step(c, "m", 1, 36);
    struct remote_hash one = remote_hash(c, "m");
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    answer_expect(remote_call(c, "POST", "m", "/clone", "{\"name\":\"copy\"}"), 201);
    remote_step(c, "m", 2, 36);
    remote_post(c, "m", "versions/1/restore", NULL);
    double revision = remote_number(c, "m", "revision");
    daemon_kill(d);
    c = restart(d);
    assert_same_state(remote_hash(c, "m"), one);
    assert_same_state(remote_hash(c, "copy"), one);
    assert_true(remote_number(c, "m", "revision") >= revision);
    assert_int_equal(json_array_size(answer_find(remote_get(c, "m", "/versions"), "versions")), 1);
    answer_expect(remote_call(c, "DELETE", "copy", "", NULL), 200);
    daemon_kill(d);
    c = restart(d);
    answer_refused(remote_call(c, "GET", "copy", "", NULL), 404, "unknown_model", "copy");
    remote_post(c, "m", "versions/1/restore", NULL);
    assert_same_state(remote_hash(c, "m"), one);
}

/* ---- null ------------------------------------------------------------------------------------ */

static const char null_momentum[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1]},{\"name\":\"line\",\"shape\":[1,2]}],"
    "\"layers\":[{\"name\":\"bn\",\"op\":\"batch_norm1d\",\"affine\":false,\"momentum\":null,"
    "\"inputs\":[\"x\"]},{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":1},"
    "{\"name\":\"in\",\"op\":\"instance_norm\",\"momentum\":null,\"track_running_stats\":true,"
    "\"inputs\":[\"line\"]}],\"outputs\":[\"bn\",\"in\"],"
    "\"loss\":{\"op\":\"mse\",\"input\":\"fc\"}}";

static void step_of(struct client *c, int a, int b)
{
    char body[200];
    snprintf(body, sizeof body,
             "{\"inputs\":[{\"name\":\"x\",\"data\":[[%d],[%d]]},{\"name\":\"line\",\"data\":"
             "[[[1,3]],[[5,9]]]}],\"targets\":[[0],[0]]}",
             a, b);
    remote_post(c, "m", "train_step", body);
}

/* (x - mean) / sqrt(var + 1e-5) by the running statistics, whose mean and variance are these; those
 * of instance_norm have not moved. */
static void expect_statistics(struct client *c, double mean, double var)
{
    struct answer *a = remote_post(c, "m", "infer",
                                   "{\"inputs\":[{\"name\":\"x\",\"data\":[[0],[10]]},"
                                   "{\"name\":\"line\",\"data\":[[[1,3]],[[5,9]]]}]}");
    const double low = answer_number(a, "outputs.0.data.0");
    const double high = answer_number(a, "outputs.0.data.1");
    assert_true(fabs(low + mean / sqrt(var + 1e-5)) < 1e-6);
    assert_true(fabs(high - (10 - mean) / sqrt(var + 1e-5)) < 1e-6);
    assert_true(fabs(answer_number(a, "outputs.1.data.3") - 9 / sqrt(1 + 1e-5)) < 1e-5);
}

/* momentum null: the mean of all batches, for instance_norm none, as PyTorch has it; and it stays
 * null. */
static void momentum_null(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", null_momentum);
    answer_expect(remote_call(c, "PUT", "m", "", null_momentum), 200);
    step_of(c, 1, 3);
    step_of(c, 5, 9);
    expect_statistics(c, 4.5, 5);
    for (int i = 0; i < 2; i++) {
        struct answer *a = remote_get(c, "m", "/config");
        assert_true(json_is_null(answer_find(a, "description.layers.0.momentum")));
        assert_true(json_is_null(answer_find(a, "description.layers.2.momentum")));
        answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
        i ? daemon_kill(d) : daemon_stop(d);
        c = restart(d);
        expect_statistics(c, 4.5, 5);
    }
    step_of(c, 0, 1);
    expect_statistics(c, 9.5 / 3, 10.5 / 3);
}

/* ---- the folder ------------------------------------------------------------------------------ */

static int database_open(struct daemon *d, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/backpropd.db", d->data);
    int f = open(path, flags);
    assert_true(f >= 0);
    return f;
}

/* The start must fail with a message that says where and what. */
static void expect_refusal(struct daemon *d, const char *part)
{
    struct outcome o;
    daemon_command(d, &o,
                   (const char *const[]){"--listen", "127.0.0.1:0", "--data", d->data, NULL});
    if (o.status != 1 || !strstr(o.err, part))
        fail_msg("status %d, no '%s' in: %s", o.status, part, o.err);
}

/* Bytes in the middle of each page: in the tables' trees or in what they hold. */
static void damaged_pages(struct daemon *d)
{
    char junk[64];
    remote_create(d->client, "m", remote_mlp);
    daemon_stop(d);
    memset(junk, 'x', sizeof junk);
    int f = database_open(d, O_WRONLY);
    off_t size = lseek(f, 0, SEEK_END);
    for (off_t at = 4096 + 2000; at < size; at += 1024)
        assert_int_equal(pwrite(f, junk, sizeof junk, at), (ssize_t)sizeof junk);
    close(f);
    expect_refusal(d, "backpropd: ");
}

static void damaged_database(struct daemon *d)
{
    char path[512], junk[8192];
    remote_create(d->client, "m", remote_mlp);
    daemon_stop(d);
    memset(junk, 'x', sizeof junk);
    int f = database_open(d, O_WRONLY);
    assert_int_equal(pwrite(f, junk, 100, 0), 100);
    close(f);
    expect_refusal(d, "database");
    /* No database at all, but text. */
    f = database_open(d, O_WRONLY | O_TRUNC);
    assert_int_equal(write(f, junk, sizeof junk), (ssize_t)sizeof junk);
    close(f);
    expect_refusal(d, "database");
    snprintf(path, sizeof path, "%s/backpropd.db", d->data);
    unlink(path);
    restart(d); /* nothing there: begins anew */
    answer_refused(remote_call(d->client, "GET", "m", "", NULL), 404, "unknown_model", NULL);
}

static void two_daemons(struct daemon *d)
{
    remote_create(d->client, "m", remote_mlp);
    struct remote_hash before = remote_hash(d->client, "m");
    expect_refusal(d, d->data);
    remote_step(d->client, "m", 1, 4);
    assert_other_state(remote_hash(d->client, "m"), before);
}

/* No room: the step is refused and has not been, reading goes on; with room again so does training,
 * and what was answered is there after a restart. A limit for files stands for the full disk. */
static void full_folder(struct daemon *d)
{
    struct rlimit full = {3 << 20, RLIM_INFINITY}, room = {RLIM_INFINITY, RLIM_INFINITY}, old;
    struct answer *a = NULL;
    int steps = 0;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    room.rlim_cur = room.rlim_max = full.rlim_max = old.rlim_max;
    remote_create(d->client, "m", remote_mlp);
    assert_int_equal(prlimit(d->pid, RLIMIT_FSIZE, &full, NULL), 0);
    do {
        client_forget(d->client);
        a = remote_call(d->client, "POST", "m", "/train_step",
                        remote_batch(d->client, 1, 2000, 4, NULL));
    } while (a->status == 200 && ++steps < 1000);
    answer_refused(a, 507, "storage", NULL);
    assert_true(remote_number(d->client, "m", "step") == steps);
    struct remote_hash then = remote_hash(d->client, "m");
    answer_expect(
        remote_call(d->client, "POST", "m", "/infer", remote_inputs(d->client, 1, 1, 4, NULL)),
        200);
    assert_int_equal(prlimit(d->pid, RLIMIT_FSIZE, &room, NULL), 0);
    assert_same_state(remote_hash(d->client, "m"), then);
    remote_step(d->client, "m", 1, 4);
    then = remote_hash(d->client, "m");
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_same_state(remote_hash(d->client, "m"), then);
    assert_true(remote_number(d->client, "m", "step") == steps + 1);
}

/* ---- replaying ------------------------------------------------------------------------------- */

/* What the daemon has logged; at most the last `size` - 1 bytes. */
static void read_log(const struct daemon *d, char *text, size_t size)
{
    char path[320];
    snprintf(path, sizeof path, "%s/log", d->folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = 0;
    fclose(f);
}

/* Steps that another engine has computed are replayed, and it is said. */
static void another_engine(struct daemon *d)
{
    char log[65536];
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_call(c, "POST", "m", "/versions", NULL);
    bool plain = strstr(answer_string(a, "fingerprint"), "kernels plain") != NULL;
    for (unsigned i = 0; i < 3; i++)
        remote_step(c, "m", i, 4);
    double loss = remote_number(c, "m", "last_loss");
    daemon_kill(d);
    setenv("BACKPROP_KERNELS", "plain", 1);
    c = restart(d);
    unsetenv("BACKPROP_KERNELS");
    assert_true(remote_number(c, "m", "step") == 3);
    assert_true(remote_number(c, "m", "replayed.records") == 3);
    assert_true(remote_number(c, "m", "replayed.records_of_another_engine") == (plain ? 0 : 3));
    double again = remote_number(c, "m", "last_loss");
    assert_true(again > loss - 1e-5 && again < loss + 1e-5);
    do /* lines are written some milliseconds later */
        read_log(d, log, sizeof log);
    while (!strstr(log, "event=replayed") && usleep(1000) == 0);
    assert_int_equal(strstr(log, "another engine") != NULL, !plain);
}

/* While the log is replayed the daemon lives, but is not ready. */
static void not_ready_while_replaying(struct daemon *d)
{
    static const struct faults pause = {
        .kinds = FAULT_READ, .places = PLACE_REDO, .action = STRIKE_PAUSE, .strikes = 1};
    static const char live[] = "/v2/health/live", ready[] = "/v2/health/ready";
    char log[65536], address[64];
    if (!faults_possible())
        skip();
    remote_create(d->client, "m", remote_mlp);
    remote_step(d->client, "m", 1, 4);
    daemon_kill(d);
    read_log(d, log, sizeof log);
    const size_t before = strlen(log); /* not all of it may have been written */
    struct faults *f = faults_create(d);
    faults_arm_start(f, &pause);
    faults_spawn(d, d->flags);
    while (!__atomic_load_n(&f->struck, __ATOMIC_ACQUIRE))
        usleep(1000);
    const char *last = NULL; /* the log is written behind the daemon's back */
    while (!last) {
        read_log(d, log, sizeof log);
        last = strstr(log + before, "event=listening");
        usleep(1000);
    }
    last = strstr(last, "127.0.0.1:");
    assert_non_null(last);
    snprintf(address, sizeof address, "%.*s", (int)strspn(last, "0123456789.:"), last);
    struct client *c = client_create(address);
    answer_expect(client_get(c, live), 200);
    answer_expect(client_get(c, ready), 503);
    answer_refused(client_get(c, "/v2/models/m"), 503, "not_ready", NULL);
    faults_disarm(f);
    while (client_get(c, ready)->status != 200)
        usleep(1000);
    assert_true(remote_number(c, "m", "step") == 1);
    client_destroy(&c);
    faults_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(clean_stop),       DAEMON_TEST(last_numbers),
        DAEMON_TEST(trains_on),        DAEMON_TEST(stop_at_once),
        DAEMON_TEST(kill_9),           DAEMON_TEST(kill_after_answers),
        DAEMON_TEST(damaged_database), DAEMON_TEST(damaged_pages),
        DAEMON_TEST(two_daemons),      DAEMON_TEST(full_folder),
        DAEMON_TEST(another_engine),   DAEMON_TEST(not_ready_while_replaying),
        DAEMON_TEST(momentum_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
