/* test_gone.c: clients that leave while what they asked for waits or runs, and clients that come
 * while models are loaded: requests that take seconds. */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- steps that take a second ---------------------------------------------------------------- */

static const char large[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,1024]}],"
    "\"layers\":[{\"op\":\"linear\",\"out_features\":3072},{\"op\":\"linear\",\"out_features\":"
    "3072},"
    "{\"op\":\"linear\",\"out_features\":2}],\"loss\":{\"op\":\"cross_entropy\"},"
    "\"durability\":\"process\"}";

static char *large_batch(void)
{
#ifdef __SANITIZE_THREAD__
    int n = 16; /* a step takes seconds with it */
#else
    int n = 256;
#endif
    return remote_rows(n, 1024);
}

struct stepper {
    char address[288], *batch;
    pthread_t thread;
};

static void *run_step(void *arg)
{
    struct stepper *s = arg;
    struct client *c = client_create(s->address);
    struct call call = {.method = "POST",
                        .path = "/v2/models/large/train_step",
                        .body = s->batch,
                        .size = strlen(s->batch)};
    client_try(c, &call);
    client_destroy(&c);
    return NULL;
}

/* One step runs; a request that waits behind it is left by its client. */
static void client_gone(struct daemon *d)
{
    static const char victim[] =
        "POST /v2/models/large/zero_grad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    struct stepper s = {.batch = large_batch()};
    snprintf(s.address, sizeof s.address, "%s", d->address);
    remote_create(d->client, "large", large);
    assert_int_equal(pthread_create(&s.thread, NULL, run_step, &s), 0);
    remote_expect_sample(d->client, "backpropd_workers_busy_writing", 1);
    client_raw(d->client, victim, strlen(victim), false, 20);
    pthread_join(s.thread, NULL);
    remote_expect_sample(d->client,
                         "backpropd_requests_total{method=\"POST\",route=\"/v2/models/{model}/"
                         "zero_grad\",code=\"499\"}",
                         1);
    assert_true(remote_number(d->client, "large", "revision") == 1);
    free(s.batch);
}

/* ---- questions that take long ---------------------------------------------------------------- */

enum { DEEP_LAYERS = 20, DEEP_SAMPLES = 64 };

/* Convolutions of 64 channels over 32 x 32: about a tenth of a second for each of a batch. */
static void create_deep(struct client *c)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"shape\":[-1,1,32,32]}],\"layers\":[");
    for (int i = 0; i < DEEP_LAYERS; i++)
        text_add(&t, "{\"op\":\"conv2d\",\"out_channels\":64,\"kernel_size\":3,\"padding\":1},");
    text_add(&t, "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":2}],"
                 "\"loss\":{\"op\":\"cross_entropy\"}}");
    remote_create(c, "deep", t.data);
    text_free(&t);
}

static void add_deep_batch(struct text *t, bool targets)
{
    text_add(t, "{\"inputs\":[{\"shape\":[%d,1,32,32],\"datatype\":\"FP32\",\"data\":[",
             DEEP_SAMPLES);
    for (int i = 0; i < DEEP_SAMPLES * 1024; i++)
        text_add(t, "%s%d", i ? "," : "", i * 7 % 10);
    text_add(t, "]}]");
    for (int i = 0; i < DEEP_SAMPLES && targets; i++)
        text_add(t, "%s%d", i ? "," : ",\"targets\":[", i & 1);
    text_add(t, targets ? "]" : "");
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct long_question {
    const char *verb, *parameters;
    bool batch, targets;
    int left;        /* how many clients have left this verb, with it */
    double forwards; /* that it takes at least */
};

/* Asks, and is gone when it is being answered. */
static void ask_and_leave(struct daemon *d, const struct long_question *q, double forward)
{
    struct text body = {0}, all = {0};
    char counted[128];
    int fd = raw_connect(d->client);
    if (q->batch)
        add_deep_batch(&body, q->targets);
    text_add(&body, "%s%s}", q->batch ? "," : "{", q->parameters);
    text_add(&all,
             "POST /v2/models/deep/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
             q->verb, body.size);
    assert_true(raw_send(fd, all.data, all.size) && raw_send(fd, body.data, body.size));
    remote_expect_sample(d->client, "backpropd_workers_busy",
                         2); /* with the one that counts them */
    double left = seconds_now();
    close(fd);
    snprintf(counted, sizeof counted,
             "backpropd_requests_total{method=\"POST\",route=\"/v2/models/{model}/%s\","
             "code=\"499\"}",
             q->verb);
    while (remote_sample(d->client, counted) != q->left &&
           seconds_now() - left < q->forwards * forward)
        sleep_ms(5);
    double took = seconds_now() - left;
    if (took > q->forwards * forward / 2)
        fail_msg("%s went on for %g s after its client had gone; a forward takes %g s", q->verb,
                 took, forward);
    text_free(&all);
    text_free(&body);
}

/* What is asked for is not found out for a client that has gone while it runs. */
static void gone_while_it_runs(struct daemon *d)
{
    static const struct long_question questions[] = {
        {"evaluate", "\"id\":\"e\"", true, true, 1, 1},
        {"gradients", "\"id\":\"g\"", true, true, 1, 2},
        {"gradients", "\"parameters\":{\"per_sample_norms\":true}", true, true, 2, 3},
        {"gradcheck", "\"parameters\":{\"count\":2}", true, true, 1, 40},
        {"profile", "\"parameters\":{\"steps\":10,\"batch\":64}", false, false, 1, 10},
        {"infer", "\"id\":\"i\"", true, false, 1, 1},
    };
    struct text batch = {0};
    create_deep(d->client);
    add_deep_batch(&batch, true);
    text_add(&batch, "}");
    double begun = seconds_now();
    remote_post(d->client, "deep", "evaluate", batch.data);
    double forward = seconds_now() - begun;
    text_free(&batch);
    struct remote_hash before = remote_hash(d->client, "deep");
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        ask_and_leave(d, &questions[i], forward);
    assert_same_state(remote_hash(d->client, "deep"), before);
}

/* ---- loading --------------------------------------------------------------------------------- */

struct watcher {
    char address[288];
    pthread_t thread;
    int live, not_ready, refused, ready;
};

/* Asks until it is ready, for a minute at most. */
static struct answer *try_get(struct client *c, const char *path)
{
    return client_try(c, &(struct call){.method = "GET", .path = path});
}

static void *watch(void *arg)
{
    struct watcher *w = arg;
    struct client *c = client_create(w->address);
    for (int i = 0; i < 12000 && !w->ready; i++, sleep_ms(5)) {
        struct answer *live = try_get(c, "/v2/health/live");
        struct answer *model = try_get(c, "/v2/models/large");
        struct answer *ready = try_get(c, "/v2/health/ready");
        w->live += live && live->status == 200;
        w->refused += model && model->status == 503 && strstr(model->body, "\"not_ready\"");
        w->not_ready += ready && ready->status == 503 && strstr(ready->body, "\"ready\":false");
        w->ready += ready && ready->status == 200;
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

static void ready_when_loaded(struct daemon *d)
{
    struct watcher w = {.ready = 0};
    char *batch = large_batch();
    remote_create(d->client, "large", large);
    remote_post(d->client, "large", "train_step", batch);
    remote_post(d->client, "large", "train_step", batch);
    free(batch);
    snprintf(w.address, sizeof w.address, "%s", d->address);
    daemon_kill(d);
    assert_int_equal(pthread_create(&w.thread, NULL, watch, &w), 0);
    daemon_start(d, WORDS("--listen", w.address, "--redo-seconds", "1000"));
    pthread_join(w.thread, NULL);
    assert_int_equal(w.ready, 1);
    assert_true(w.live > 1);
    assert_true(w.not_ready > 0);
    assert_true(w.refused > 0);
    assert_true(remote_number(d->client, "large", "step") == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(client_gone),
        DAEMON_TEST(gone_while_it_runs),
        DAEMON_TEST(ready_when_loaded, "--redo-seconds", "1000"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
