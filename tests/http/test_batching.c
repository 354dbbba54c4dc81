/* test_batching.c: predictions that wait together are run together, and nobody can tell: the bits
 * of each answer are those of the request alone, and what is wrong with one is nothing to others.
 */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 8, WIDE = 784 };

static const char words[] =
    "{\"inputs\":[{\"name\":\"word\",\"datatype\":\"INT64\",\"shape\":[-1,3]}],\"layers\":["
    "{\"op\":\"embedding\",\"num_embeddings\":10,\"embedding_dim\":7},{\"op\":\"flatten\"},"
    "{\"op\":\"linear\",\"out_features\":5},{\"op\":\"layer_norm\",\"normalized_shape\":5},{\"op\":"
    "\"tanh\"},"
    "{\"op\":\"linear\",\"out_features\":4}]}";

/* One request from a thread of its own. */
struct sender {
    const char *address, *path;
    char *body;
    pthread_t thread;
    int status;
    char *answer;
};

static void *send_one(void *arg)
{
    struct sender *s = arg;
    struct client *c = client_create(s->address);
    struct answer *a = client_post(c, s->path, s->body);
    s->status = a->status;
    s->answer = strdup(a->body);
    client_destroy(&c);
    return NULL;
}

static void senders_begin(struct sender *s, int n, struct daemon *d, const char *path)
{
    for (int i = 0; i < n; i++) {
        s[i].address = d->address;
        s[i].path = path;
        assert_int_equal(pthread_create(&s[i].thread, NULL, send_one, &s[i]), 0);
    }
}

static void senders_end(struct sender *s, int n)
{
    for (int i = 0; i < n; i++)
        pthread_join(s[i].thread, NULL);
}

static void senders_free(struct sender *s, int n)
{
    for (int i = 0; i < n; i++) {
        free(s[i].answer);
        free(s[i].body);
    }
}

/* Nobody is handed over before so many wait. */
static void wait_for(struct daemon *d, int n)
{
    char patch[160];
    snprintf(patch, sizeof patch,
             "{\"max_batch_size\":%d,\"dynamic_batching\":{\"max_queue_delay_microseconds\":"
             "60000000}}",
             n);
    answer_expect(remote_call(d->client, "PATCH", "m", "", patch), 200);
}

static void wait_for_none(struct daemon *d)
{
    answer_expect(remote_call(d->client, "PATCH", "m", "",
                              "{\"max_batch_size\":null,\"dynamic_batching\":null}"),
                  200);
}

static double stat_number(struct daemon *d, const char *path)
{
    char full[80];
    snprintf(full, sizeof full, "model_stats.0.%s", path);
    return answer_number(remote_get(d->client, "m", "/stats"), full);
}

/* Until so many predictions are in the queue, as /metrics tells. */
static void until_waiting(struct daemon *d, int n)
{
    for (;;) {
        const char *text = client_get(d->client, "/metrics")->body;
        const char *at = strstr(text, "\nbackpropd_queue_reads ");
        assert_non_null(at);
        if (atoi(at + strlen("\nbackpropd_queue_reads ")) >= n)
            return;
        client_forget(d->client);
    }
}

/* Samples of a net that is wider than the images of remote.h. */
static char *wide_body(int width, int n, int seed)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"name\":\"x\",\"shape\":[%d,%d],\"data\":[", n, width);
    for (int i = 0; i < n * width; i++)
        text_add(&t, "%s0.%d", i ? "," : "", (i * 7919 + seed) % 1009);
    text_add(&t, "]}]}");
    return t.data;
}

/* Word indices, images or more, of 1 + i % `most` samples. */
static char *make_body(struct daemon *d, int pixels, int i, int most)
{
    int n = 1 + i % most;
    if (pixels == WIDE)
        return wide_body(WIDE, n, i);
    if (pixels)
        return strdup(remote_inputs(d->client, 100 + (unsigned)i, n, pixels, NULL));
    struct text t = {0};
    text_add(&t, "{\"id\":\"%d\",\"inputs\":[", i);
    for (int k = 0; k < n; k++)
        text_add(&t, "%s[%d,%d,%d]", k ? "," : "", i % 10, k, (3 * i + k) % 10);
    text_add(&t, "]}");
    return t.data;
}

/* What was predicted: behind the head, in which the revision may be another. */
static const char *outputs_of(const char *answer)
{
    const char *at = answer ? strstr(answer, "\"outputs\"") : NULL;
    if (!at)
        fail_msg("no outputs: %s", answer ? answer : "");
    return at;
}

/* Alone, then with the others: the same text, which stands for the same bits. */
static void check_same(struct daemon *d, int pixels, int most)
{
    struct sender s[CLIENTS] = {0};
    char *alone[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        s[i].body = make_body(d, pixels, i, most);
        alone[i] = strdup(remote_post(d->client, "m", "infer", s[i].body)->body);
    }
    double runs = stat_number(d, "execution_count");
    wait_for(d, CLIENTS);
    senders_begin(s, CLIENTS, d, "/v2/models/m/infer");
    senders_end(s, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(s[i].status, 200);
        assert_string_equal(outputs_of(s[i].answer), outputs_of(alone[i]));
        free(alone[i]);
    }
    senders_free(s, CLIENTS);
    runs = stat_number(d, "execution_count") - runs;
    if (most == 1)
        assert_true(runs == 1);
    else
        assert_true(runs >= 2 && runs < CLIENTS); /* max_batch_size is of samples */
    wait_for_none(d);
}

static void the_same_bits(struct daemon *d)
{
    static const struct {
        const char *description;
        int pixels;
    } nets[] = {{remote_mlp, 4}, {remote_cnn, 36}, {words, 0}};
    for (int i = 0; i < 3; i++) {
        remote_create(d->client, "m", nets[i].description);
        for (unsigned k = 0; nets[i].pixels && k < 5; k++)
            remote_step(d->client, "m", k, nets[i].pixels);
        check_same(d, nets[i].pixels, 1);
        check_same(d, nets[i].pixels, 3);
        answer_expect(remote_call(d->client, "DELETE", "m", "", NULL), 200);
    }
}

/* While the model trains, each answer is that of the step which it names. */
struct asker {
    struct daemon *d;
    const char *body;
    bool *stop;
    pthread_t thread;
    int n;
    double revision[2000];
    char *outputs[2000];
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    struct client *c = client_create(a->d->address);
    while (a->n < 2000 && !__atomic_load_n(a->stop, __ATOMIC_ACQUIRE)) {
        struct answer *got = client_post(c, "/v2/models/m/infer", a->body);
        answer_expect(got, 200);
        a->revision[a->n] = answer_number(got, "parameters.revision");
        a->outputs[a->n++] = strdup(outputs_of(got->body));
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

static void each_of_its_own_step(struct daemon *d)
{
    enum { STEPS = 60, ASKERS = 6 };
    static struct asker a[ASKERS];
    bool stop = false;
    char *of_step[STEPS + 1];
    char *body = strdup(remote_inputs(d->client, 7, 1, 36, NULL));
    remote_create(d->client, "m", remote_cnn);
    remote_create(d->client, "twin", remote_cnn);
    for (int i = 0; i < ASKERS; i++) {
        a[i] = (struct asker){.d = d, .body = body, .stop = &stop};
        assert_int_equal(pthread_create(&a[i].thread, NULL, ask, &a[i]), 0);
    }
    for (int i = 0; i <= STEPS; i++) {
        of_step[i] = strdup(outputs_of(remote_post(d->client, "twin", "infer", body)->body));
        if (i < STEPS)
            remote_step(d->client, "m", (unsigned)i, 36);
        if (i < STEPS)
            remote_step(d->client, "twin", (unsigned)i, 36);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < ASKERS; i++) {
        pthread_join(a[i].thread, NULL);
        assert_true(a[i].n > 0);
        for (int k = 0; k < a[i].n; k++) {
            assert_string_equal(a[i].outputs[k], of_step[(int)a[i].revision[k]]);
            free(a[i].outputs[k]);
        }
    }
    for (int i = 0; i <= STEPS; i++)
        free(of_step[i]);
    free(body);
}

static void one_fails_alone(struct daemon *d)
{
    struct sender s[CLIENTS] = {0};
    struct sender bad[3] = {
        {.body = strdup("{\"inputs\":[[1,2,99]]}")}, /* seen only when it runs */
        {.body = strdup("{\"inputs\":[[1,2]]}")},
        {.body = strdup("{\"inputs\":")},
    };
    char *alone[CLIENTS];
    remote_create(d->client, "m", words);
    for (int i = 0; i < CLIENTS; i++) {
        s[i].body = make_body(d, 0, i, 2);
        alone[i] = strdup(remote_post(d->client, "m", "infer", s[i].body)->body);
    }
    wait_for(d, CLIENTS + 3);
    senders_begin(bad, 3, d, "/v2/models/m/infer");
    senders_begin(s, CLIENTS, d, "/v2/models/m/infer");
    senders_end(s, CLIENTS);
    senders_end(bad, 3);
    assert_int_equal(bad[0].status, 422);
    assert_non_null(strstr(bad[0].answer, "99"));
    assert_int_equal(bad[1].status, 422);
    assert_int_equal(bad[2].status, 400);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(s[i].status, 200);
        assert_string_equal(outputs_of(s[i].answer), outputs_of(alone[i]));
        free(alone[i]);
    }
    senders_free(s, CLIENTS);
    senders_free(bad, 3);
}

/* What waits for others is answered when the settings change, the model goes, the daemon stops. */
static void nobody_waits_for_ever(struct daemon *d)
{
    static const char *const ends[] = {"PATCH", "DELETE", "STOP"};
    for (int i = 0; i < 3; i++) {
        struct sender s[3] = {0};
        remote_create(d->client, "m", remote_mlp);
        wait_for(d, CLIENTS);
        for (int k = 0; k < 3; k++)
            s[k].body = make_body(d, 4, k, 1);
        senders_begin(s, 3, d, "/v2/models/m/infer");
        until_waiting(d, 3);
        if (!strcmp(ends[i], "PATCH"))
            wait_for_none(d);
        if (strcmp(ends[i], "STOP"))
            answer_expect(remote_call(d->client, "DELETE", "m", "", NULL), 200);
        else
            daemon_stop(d);
        senders_end(s, 3);
        for (int k = 0; k < 3; k++)
            assert_int_equal(s[k].status, strcmp(ends[i], "STOP") ? 200 : 503);
        senders_free(s, 3);
    }
    daemon_start(d, d->flags);
}

/* Versions wait in the same queue, and are told apart. */
static void versions_and_live(struct daemon *d)
{
    struct sender live[2] = {0}, old[2] = {0};
    remote_create(d->client, "m", remote_mlp);
    answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
    for (unsigned k = 0; k < 5; k++)
        remote_step(d->client, "m", k, 4);
    for (int i = 0; i < 2; i++) {
        live[i].body = make_body(d, 4, 1, 1);
        old[i].body = make_body(d, 4, 1, 1);
    }
    char *of_live = strdup(remote_post(d->client, "m", "infer", live[0].body)->body);
    char *of_old = strdup(remote_post(d->client, "m", "versions/1/infer", old[0].body)->body);
    assert_string_not_equal(outputs_of(of_live), outputs_of(of_old));
    wait_for(d, 4);
    senders_begin(live, 2, d, "/v2/models/m/infer");
    senders_begin(old, 2, d, "/v2/models/m/versions/1/infer");
    senders_end(live, 2);
    senders_end(old, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(outputs_of(live[i].answer), outputs_of(of_live));
        assert_string_equal(outputs_of(old[i].answer), outputs_of(of_old));
        assert_non_null(strstr(old[i].answer, "\"model_version\":\"1\""));
    }
    struct answer *a = remote_get(d->client, "m", "/versions/1/stats");
    assert_string_equal(answer_string(a, "model_stats.0.version"), "1");
    assert_true(answer_number(a, "model_stats.0.inference_count") == 3);
    assert_true(stat_number(d, "inference_count") == 6);
    answer_refused(remote_call(d->client, "GET", "m", "/versions/2/stats", NULL), 404,
                   "unknown_version", NULL);
    senders_free(live, 2);
    senders_free(old, 2);
    free(of_live);
    free(of_old);
}

/* That predictions have waited for workers, in all. */
static double queue_seconds(struct daemon *d)
{
    const char *text = client_get(d->client, "/metrics")->body;
    while ((text = strstr(text, "\nbackpropd_queue_duration_seconds_sum{"))) {
        const char *line = ++text, *end = strchr(line, '\n'), *space = strchr(line, ' ');
        const char *route = strstr(line, "/v2/models/{model}/infer\"");
        if (route && route < end)
            return strtod(space, NULL);
    }
    fail_msg("no such line");
    return 0;
}

/* A prediction of some ten microseconds does not go through a queue while nobody else asks; its
 * bits are those that it has among others. */
static void short_ones_alone(struct daemon *d)
{
    static const char net[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,784]}],\"layers\":["
                              "{\"op\":\"linear\",\"out_features\":512},{\"op\":\"relu\"},"
                              "{\"op\":\"linear\",\"out_features\":256},{\"op\":\"relu\"},"
                              "{\"op\":\"linear\",\"out_features\":10}]}";
    remote_create(d->client, "m", net);
    char *one = wide_body(WIDE, 1, 0), *many = wide_body(WIDE, 60, 0);
    remote_post(d->client, "m", "infer", one); /* compiles */
    double queued = queue_seconds(d);
    assert_true(queued > 0);
    for (int i = 0; i < 5; i++)
        remote_post(d->client, "m", "infer", one);
    assert_true(queue_seconds(d) == queued);
    remote_post(d->client, "m", "infer", many);
    assert_true(queue_seconds(d) > queued);
    check_same(d, WIDE, 1);
    check_same(d, WIDE, 3);
    free(one);
    free(many);
}

#define QUEUE_SIZE(n) "{\"dynamic_batching\":{\"default_queue_policy\":{\"max_queue_size\":" n "}}}"

static void settings(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_get(c, "m", "/config");
    assert_true(answer_number(a, "max_batch_size") == 64);
    assert_true(answer_number(a, "dynamic_batching.max_queue_delay_microseconds") == 0);
    assert_true(answer_number(a, "dynamic_batching.default_queue_policy.max_queue_size") == 256);
    remote_post(c, "m", "infer", remote_inputs(c, 1, 150, 4, NULL)); /* without a limit it is cut */
    answer_expect(remote_call(c, "PATCH", "m", "",
                              "{\"max_batch_size\":4,\"dynamic_batching\":{"
                              "\"max_queue_delay_microseconds\":100}}"),
                  200);
    a = remote_get(c, "m", "/config");
    assert_true(answer_number(a, "max_batch_size") == 4);
    assert_true(answer_number(a, "dynamic_batching.max_queue_delay_microseconds") == 100);
    remote_post(c, "m", "infer", remote_inputs(c, 1, 4, 4, NULL));
    answer_refused(remote_call(c, "POST", "m", "/infer", remote_inputs(c, 1, 5, 4, NULL)), 400,
                   "batch_too_large", "has 5 samples, the model's max_batch_size is 4");
    daemon_stop(d);
    daemon_start(d, d->flags);
    a = remote_get(d->client, "m", "/config");
    assert_true(answer_number(a, "max_batch_size") == 4);
    answer_refused(remote_call(d->client, "PATCH", "m", "", "{\"max_batch_size\":-1}"), 422,
                   "bad_value", "max_batch_size");
    answer_refused(remote_call(d->client, "PATCH", "m", "",
                               "{\"dynamic_batching\":{\"preferred_batch_size\":[4]}}"),
                   400, "unknown_field", "preferred_batch_size");
    answer_refused(remote_call(d->client, "PATCH", "m", "",
                               "{\"dynamic_batching\":{\"max_queue_delay_microseconds\":1e9}}"),
                   400, "bad_type", NULL);
    answer_refused(remote_call(d->client, "PATCH", "m", "", QUEUE_SIZE("-1")), 422, "bad_value",
                   "default_queue_policy.max_queue_size: expected 0 to 1000000, found -1");
    answer_refused(remote_call(d->client, "PATCH", "m", "",
                               "{\"dynamic_batching\":{\"default_queue_policy\":{\"size\":1}}}"),
                   400, "unknown_field", "default_queue_policy");
}

static void statistics(struct daemon *d)
{
    static const int sizes[] = {1, 3, 3, 150}; /* the last one in runs of 64, 64 and 22 */
    static const struct {
        int size, count;
    } expected[] = {{1, 1}, {3, 2}, {22, 1}, {64, 2}};
    remote_create(d->client, "m", remote_mlp);
    for (int i = 0; i < 4; i++)
        remote_post(d->client, "m", "infer", remote_inputs(d->client, 1, sizes[i], 4, NULL));
    assert_true(stat_number(d, "inference_count") == 157);
    assert_true(stat_number(d, "execution_count") == 6);
    for (int i = 0; i < 4; i++) {
        char path[60];
        snprintf(path, sizeof path, "batch_stats.%d.batch_size", i);
        assert_true(stat_number(d, path) == expected[i].size);
        snprintf(path, sizeof path, "batch_stats.%d.compute_infer.count", i);
        assert_true(stat_number(d, path) == expected[i].count);
        snprintf(path, sizeof path, "batch_stats.%d.compute_infer.ns", i);
        assert_true(stat_number(d, path) > 0);
    }
    assert_non_null(strstr(client_get(d->client, "/metrics")->body,
                           "backpropd_prediction_runs_total{model=\"m\"} 6\n"));
}

/* A client that goes while it waits costs no run, and the others of its batch get their answers. */
static void gone_while_waiting(struct daemon *d)
{
    static const char request[] =
        "POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 24\r\n\r\n"
        "{\"inputs\":[[1,2,3,4.25]]}";
    struct sender s = {.body = strdup("{\"inputs\":[[4,3,2,1]]}")};
    remote_create(d->client, "m", remote_mlp);
    wait_for(d, 2);
    client_raw(d->client, request, sizeof request - 1, false, 50);
    senders_begin(&s, 1, d, "/v2/models/m/infer");
    senders_end(&s, 1);
    assert_int_equal(s.status, 200);
    assert_true(stat_number(d, "inference_count") == 1);
    assert_true(stat_number(d, "inference_stats.fail.count") == 0);
    senders_free(&s, 1);
}

/* A queue of predictions of one model has a limit, which is another's nothing. */
static void too_many_wait(struct daemon *d)
{
    struct sender s[3] = {0};
    remote_create(d->client, "m", remote_mlp);
    remote_create(d->client, "other", remote_mlp);
    wait_for(d, CLIENTS);
    for (int i = 0; i < 3; i++)
        s[i].body = make_body(d, 4, i, 1);
    senders_begin(s, 3, d, "/v2/models/m/infer");
    until_waiting(d, 3);
    struct answer *a = remote_call(d->client, "POST", "m", "/infer", s[0].body);
    answer_refused(a, 429, "queue_full", "3 requests are waiting for a prediction of this model");
    assert_non_null(answer_header(a, "Retry-After"));
    remote_post(d->client, "other", "infer", s[0].body);
    wait_for_none(d);
    senders_end(s, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(s[i].status, 200);
    senders_free(s, 3);
}

/* A model may have a limit of its own, below or above the server's; it is kept over a restart. */
static void own_limit(struct daemon *d)
{
    struct sender s[3] = {0};
    remote_create(d->client, "m", remote_mlp);
    remote_create(d->client, "other", remote_mlp);
    answer_expect(remote_call(d->client, "PATCH", "m", "",
                              "{\"dynamic_batching\":{\"max_queue_delay_microseconds\":60000000,"
                              "\"default_queue_policy\":{\"max_queue_size\":2}}}"),
                  200);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(answer_number(remote_get(d->client, "m", "/config"),
                              "dynamic_batching.default_queue_policy.max_queue_size") == 2);
    assert_true(answer_number(remote_get(d->client, "other", "/config"),
                              "dynamic_batching.default_queue_policy.max_queue_size") == 1);
    for (int i = 0; i < 3; i++)
        s[i].body = make_body(d, 4, i, 1);
    senders_begin(s, 2, d, "/v2/models/m/infer");
    until_waiting(d, 2);
    struct answer *a = remote_call(d->client, "POST", "m", "/infer", s[0].body);
    answer_refused(a, 429, "queue_full",
                   "2 requests are waiting for a prediction of this model, the limit is 2");
    assert_non_null(answer_header(a, "Retry-After"));
    remote_post(d->client, "other", "infer", s[0].body);
    answer_expect(remote_call(d->client, "PATCH", "m", "",
                              "{\"dynamic_batching\":{\"max_queue_delay_microseconds\":60000000,"
                              "\"default_queue_policy\":{\"max_queue_size\":3}}}"),
                  200);
    senders_begin(s + 2, 1, d, "/v2/models/m/infer");
    until_waiting(d, 3);
    wait_for_none(d);
    senders_end(s, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(s[i].status, 200);
    senders_free(s, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(the_same_bits),
        DAEMON_TEST(short_ones_alone),
        DAEMON_TEST(each_of_its_own_step),
        DAEMON_TEST(one_fails_alone),
        DAEMON_TEST(nobody_waits_for_ever),
        DAEMON_TEST(versions_and_live),
        DAEMON_TEST(settings),
        DAEMON_TEST(statistics),
        DAEMON_TEST(gone_while_waiting),
        DAEMON_TEST(too_many_wait, "--max-queue", "3"),
        DAEMON_TEST(own_limit, "--max-queue", "1"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
