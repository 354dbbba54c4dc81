/* test_across_batch.c: networks whose answer for a sample depends on the others of its request:
 * statistics of the batch, sums over it. A request is computed whole, however large it is, and
 * never together with another's. */
#include "../support/remote.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT "\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,1]}]"
#define CENTRED                                                                                    \
    "{" INPUT ",\"layers\":[{\"name\":\"m\",\"op\":\"mean\",\"dim\":[0],\"keepdim\":true},"        \
    "{\"op\":\"sub\",\"inputs\":[\"x\",\"m\"]}]"
#define NORMALISED "{\"op\":\"batch_norm1d\",\"track_running_stats\":false}"

/* {"inputs":[[first],[first + 1],...]}, to be freed. */
static char *counted(int first, int n)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[");
    for (int i = 0; i < n; i++)
        text_add(&t, "%s[%d]", i ? "," : "", first + i);
    text_add(&t, "]}");
    return t.data;
}

static void expect_outputs(struct answer *a, const double *want, int n)
{
    double *got = malloc((size_t)n * sizeof *got);
    assert_int_equal(remote_numbers(a, "outputs.0.data", got, n), n);
    for (int i = 0; i < n; i++)
        if (fabs(got[i] - want[i]) > 1e-5 * (1 + fabs(want[i])))
            fail_msg("number %d of the output is %.9g, not %.9g", i, got[i], want[i]);
    free(got);
}

/* ---- one request ----------------------------------------------------------------------------- */

enum { MANY = 300 };

/* 0, 1, 2, ... less their mean, times `factor`. */
static void expect_centred(struct answer *a, double factor)
{
    double want[MANY];
    for (int i = 0; i < MANY; i++)
        want[i] = (i - (MANY - 1) / 2.0) * factor;
    expect_outputs(a, want, MANY);
}

static void is_not_cut(struct daemon *d)
{
    struct client *c = d->client;
    char *body = counted(0, MANY);
    remote_create(c, "mean", CENTRED "}");
    remote_create(c, "norm", "{" INPUT ",\"layers\":[" NORMALISED "]}");
    remote_create(c, "apart", "{" INPUT ",\"layers\":[{\"op\":\"batch_norm1d\"}]}");
    expect_centred(remote_post(c, "mean", "infer", body), 1);
    expect_centred(remote_post(c, "norm", "infer", body), 1 / sqrt((MANY * MANY - 1) / 12.0));
    answer_expect(remote_call(c, "POST", "mean", "/versions", "{}"), 201);
    expect_centred(remote_post(c, "mean", "versions/1/infer", body), 1);
    assert_true(answer_number(remote_get(c, "mean", "/config"), "max_batch_size") == 0);
    assert_true(answer_number(remote_get(c, "norm", "/config"), "max_batch_size") == 0);
    assert_true(answer_number(remote_get(c, "apart", "/config"), "max_batch_size") > 0);
    free(body);
}

/* Every operator that may lose the batch on its way: of x = 1, 2, ..., 100. Its result is
 * multiplied by x, which is 1 in the first answer. */
static void every_reduction(struct daemon *d)
{
    static const struct {
        const char *op;
        double want;
    } rows[] = {
        {"\"sum\",\"dim\":[0]", 5050},
        {"\"sum\"", 5050},
        {"\"mean\",\"dim\":[0]", 50.5},
        {"\"amax\",\"dim\":[0]", 100},
        {"\"amin\",\"dim\":[0]", 1},
        {"\"argmax\",\"dim\":[0]", 99},
        {"\"argmin\",\"dim\":[0],\"inputs\":[\"less\"]", 99},
        {"\"var\",\"dim\":[0]", 841.6666667},
        {"\"std\",\"dim\":[0]", 29.01149198},
        {"\"norm\",\"dim\":[0]", 581.6786055},
        {"\"logsumexp\",\"dim\":[0]", 100.4586751},
        {"\"prod\",\"dim\":[0],\"inputs\":[\"small\"]", 1.18306e-12},
        {"\"matmul\",\"inputs\":[\"v\",\"v\"]", 338350},
        {"\"matmul\",\"inputs\":[\"v\",\"x\"]", 338350},
    };
    char *body = counted(1, 100);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[16], description[600];
        snprintf(name, sizeof name, "r%zu", i);
        snprintf(description, sizeof description,
                 "{" INPUT ",\"layers\":[{\"name\":\"less\",\"op\":\"neg\"},"
                 "{\"name\":\"small\",\"op\":\"mul\",\"other\":0.02,\"inputs\":[\"x\"]},"
                 "{\"name\":\"v\",\"op\":\"reshape\",\"shape\":[-1],\"inputs\":[\"x\"]},"
                 "{\"name\":\"again\",\"op\":\"mul\",\"other\":1,\"inputs\":[\"x\"]},"
                 "{\"name\":\"r\",\"op\":%s},{\"op\":\"mul\",\"inputs\":[\"x\",\"r\"]}]}",
                 rows[i].op);
        remote_create(d->client, name, description);
        struct answer *a = remote_post(d->client, name, "infer", body);
        const double got = answer_number(a, "outputs.0.data.0");
        if (fabs(got - rows[i].want) > 2e-5 * fabs(rows[i].want))
            fail_msg("%s gave %.9g, not %.9g", rows[i].op, got, rows[i].want);
    }
    free(body);
}

/* A sample alone takes more memory than is usual for a run: 36 MB. */
static void large_samples(struct daemon *d)
{
    static const double want[] = {-1.341638, -0.447213, 0.447213, 1.341638};
    remote_create(d->client, "m",
                  "{" INPUT ",\"layers\":[{\"op\":\"repeat\",\"repeats\":[1,9000000]},"
                  "{\"op\":\"mean\",\"dim\":[1],\"keepdim\":true}," NORMALISED "]}");
    expect_outputs(remote_post(d->client, "m", "infer", "{\"inputs\":[[1],[3],[5],[7]]}"), want, 4);
}

/* What does not fit is refused, not cut. */
static void too_large(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{" INPUT ",\"layers\":["
                  "{\"name\":\"wide\",\"op\":\"repeat\",\"repeats\":[1,200000]},"
                  "{\"name\":\"over\",\"op\":\"mean\",\"dim\":[0],\"keepdim\":true},"
                  "{\"op\":\"sub\",\"inputs\":[\"wide\",\"over\"]},"
                  "{\"op\":\"mean\",\"dim\":[1]}]}");
    char *few = counted(0, 4), *many = counted(0, 64);
    assert_true(answer_number(remote_post(c, "m", "infer", few), "outputs.0.data.0") == -1.5);
    answer_refused(remote_call(c, "POST", "m", "/infer", many), 507, "out_of_memory",
                   "layer 'over' (mean) computes across the batch");
    free(few);
    free(many);
}

/* Numbers that have lost the batch, picked by indices that have it. */
static void picked_again(struct daemon *d)
{
    static const double want[] = {8, 6, 4, 6};
    remote_create(d->client, "m",
                  "{\"inputs\":[{\"name\":\"t\",\"datatype\":\"FP32\",\"shape\":[-1,2,2]},"
                  "{\"name\":\"i\",\"datatype\":\"INT64\",\"shape\":[-1,2]}],\"layers\":["
                  "{\"op\":\"sum\",\"dim\":[0],\"inputs\":[\"t\"],\"name\":\"s\"},"
                  "{\"op\":\"gather\",\"dim\":0,\"inputs\":[\"s\",\"i\"]}]}");
    struct answer *a = remote_post(
        d->client, "m", "infer",
        "{\"inputs\":[{\"name\":\"t\",\"shape\":[2,2,2],\"datatype\":\"FP32\",\"data\":[1,2,3,"
        "1,3,4,5,5]},{\"name\":\"i\",\"shape\":[2,2],\"datatype\":\"INT64\",\"data\":[1,0,0,1]}]}");
    expect_outputs(a, want, 4);
}

/* ---- several requests ------------------------------------------------------------------------ */

enum { CLIENTS = 4 };

struct sender {
    const char *address;
    char *body, *answer;
    pthread_t thread;
};

static void *send_one(void *arg)
{
    struct sender *s = arg;
    struct client *c = client_create(s->address);
    struct answer *a = client_post(c, "/v2/models/m/infer", s->body);
    s->answer = strdup(a->body);
    client_destroy(&c);
    return NULL;
}

/* They wait for each other, but none sees another's samples. */
static void are_not_joined(struct daemon *d)
{
    struct sender s[CLIENTS];
    char alone[CLIENTS][200];
    remote_create(d->client, "m",
                  CENTRED ",\"max_batch_size\":4,\"dynamic_batching\":"
                          "{\"max_queue_delay_microseconds\":60000000}}");
    for (int i = 0; i < CLIENTS; i++) {
        s[i] = (struct sender){.address = d->address, .body = counted(100 * i * i, 2)};
        assert_int_equal(pthread_create(&s[i].thread, NULL, send_one, &s[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(s[i].thread, NULL);
    /* One alone does not wait for others, which it could not be joined with. */
    remote_post(d->client, "m", "infer", "{\"inputs\":[[1],[2]]}");
    struct answer *a = remote_get(d->client, "m", "/stats");
    assert_true(answer_number(a, "model_stats.0.inference_stats.queue.ns") < 30e9);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(alone[i], sizeof alone[i], "%s", strstr(s[i].answer, "\"outputs\""));
        if (!strstr(alone[i], "\"data\":[-0.5,0.5]"))
            fail_msg("request %d was answered with %s", i, alone[i]);
        free(s[i].answer);
        free(s[i].body);
    }
}

/* ---- gradients ------------------------------------------------------------------------------- */

/* There is no gradient of a sample alone; that of the batch is of all of it. */
static void no_sample_norms(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{" INPUT ",\"layers\":[{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":1,"
                  "\"bias\":false},{\"name\":\"m\",\"op\":\"mean\",\"dim\":[0],\"keepdim\":true},"
                  "{\"op\":\"sub\",\"inputs\":[\"fc\",\"m\"]}],\"loss\":{\"op\":\"mse\"}}");
    for (int i = 0; i < 2; i++) {
        char body[200];
        snprintf(body, sizeof body,
                 "{\"inputs\":[[1],[2]],\"targets\":[[1],[2]],\"parameters\":"
                 "{\"per_sample_norms\":true,\"mode\":\"%s\"}}",
                 i ? "eval" : "train");
        answer_refused(remote_call(c, "POST", "m", "/gradients", body), 422, "bad_value",
                       "layer 'm' (mean) computes across the whole batch");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(is_not_cut),      DAEMON_TEST(every_reduction),
        DAEMON_TEST(large_samples),   DAEMON_TEST(too_large, "--max-memory", "32M"),
        DAEMON_TEST(picked_again),    DAEMON_TEST(are_not_joined),
        DAEMON_TEST(no_sample_norms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
