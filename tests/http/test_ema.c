/* test_ema.c: the moving average of the weights: what it is after each step, that it is part of the
 * state (versions, restore, kill -9 and replay, copies), and when it begins anew. The model is one
 * weight, which a prediction for 1 reads. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WEIGHT_MODEL                                                                               \
    "\"inputs\":[{\"name\":\"x\",\"shape\":[-1,1]}],"                                              \
    "\"layers\":[{\"name\":\"w\",\"op\":\"linear\",\"out_features\":1,\"bias\":false}],"           \
    "\"loss\":\"mse\",\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1},\"seed\":3"
static const char with_ema[] = "{" WEIGHT_MODEL ",\"ema\":{\"decay\":0.75}}";
static const char without[] = "{" WEIGHT_MODEL "}";

static double weight_at(struct client *c, const char *name, const char *path, const char *weights)
{
    char body[96];
    snprintf(body, sizeof body, "{\"inputs\":[[1]],\"parameters\":{\"weights\":\"%s\"}}", weights);
    struct answer *a = remote_call(c, "POST", name, path, body);
    answer_expect(a, 200);
    return answer_number(a, "outputs.0.data.0");
}

static double weight(struct client *c, const char *weights)
{
    return weight_at(c, "m", "/infer", weights);
}

static void step(struct client *c)
{
    remote_post(c, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[5]]}");
}

static void near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-6))
        fail_msg("%.9g, expected %.9g", found, expected);
}

static void average(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", with_ema);
    double ema = weight(c, "live");
    near(weight(c, "ema"), ema);
    for (int i = 0; i < 5; i++) {
        step(c);
        ema = 0.75 * ema + 0.25 * weight(c, "live");
        near(weight(c, "ema"), ema);
    }
    struct answer *a = remote_post(c, "m", "evaluate",
                                   "{\"inputs\":[[1]],\"targets\":[[5]],"
                                   "\"parameters\":{\"weights\":\"ema\"}}");
    near(answer_number(a, "loss"), (5 - ema) * (5 - ema));
    assert_true(answer_number(remote_get(c, "m", "/config"), "description.ema.decay") == 0.75);
}

/* The one number of a safetensors file. */
static double given_away(struct client *c, const char *path)
{
    struct answer *a = remote_get(c, "m", path);
    float number;
    memcpy(&number, a->body + a->size - sizeof number, sizeof number);
    return (double)number;
}

/* Weights that were packed for predictions with the live ones are not those of the averages. */
static void both_again(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", with_ema);
    step(c);
    const double live = weight(c, "live"), ema = weight(c, "ema");
    assert_true(fabs(live - ema) > 0.01);
    for (int i = 0; i < 4; i++) {
        near(weight(c, "live"), live);
        near(weight(c, "ema"), ema);
    }
}

static void files(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", with_ema);
    step(c);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    const double then = weight(c, "ema");
    step(c);
    near(given_away(c, "/weights"), weight(c, "live"));
    near(given_away(c, "/weights?weights=live"), weight(c, "live"));
    near(given_away(c, "/weights?weights=ema"), weight(c, "ema"));
    near(given_away(c, "/versions/1/weights?weights=ema"), then);
    answer_refused(remote_call(c, "GET", "m", "/weights?weights=best", NULL), 400, "bad_query",
                   "weights");
    answer_refused(remote_call(c, "GET", "m", "/weights?weight=ema", NULL), 400, "bad_query",
                   "weight");
    remote_create(c, "n", without);
    answer_refused(remote_call(c, "GET", "n", "/weights?weights=ema", NULL), 409, "conflict",
                   "keeps no");
}

static void part_of_the_state(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", with_ema);
    step(c);
    step(c);
    const double ema = weight(c, "ema");
    struct remote_hash before = remote_hash(c, "m");
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    step(c);
    assert_other_state(remote_hash(c, "m"), before);
    const double last = weight(c, "ema");
    near(weight_at(c, "m", "/versions/1/infer", "ema"), ema);
    near(weight_at(c, "m", "/versions/1/infer", "live"), 5 - (5 - weight(c, "live")) / 0.8);
    answer_expect(remote_call(c, "POST", "m", "/clone", "{\"name\":\"copy\"}"), 201);
    near(weight_at(c, "copy", "/infer", "ema"), last);
    before = remote_hash(c, "m");
    daemon_kill(d); /* the steps are replayed */
    daemon_start(d, d->flags);
    c = d->client;
    assert_same_state(remote_hash(c, "m"), before);
    near(weight(c, "ema"), last);
    remote_post(c, "m", "versions/1/restore", NULL);
    near(weight(c, "ema"), ema);
}

/* Two states that agree in all but their averages have different hashes. */
static void begins_anew(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", with_ema);
    step(c);
    struct remote_hash kept = remote_hash(c, "m");
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"ema\":{\"decay\":0.5}}"), 200);
    assert_same_state(remote_hash(c, "m"), kept);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"optimizer\":{\"op\":\"adam\"}}"), 200);
    assert_true(fabs(weight(c, "ema") - weight(c, "live")) > 1e-3);
    remote_create(c, "later", without);
    remote_post(c, "later", "train_step", "{\"inputs\":[[1]],\"targets\":[[5]]}");
    answer_expect(remote_call(c, "POST", "later", "/versions", NULL), 201);
    remote_post(c, "later", "train_step", "{\"inputs\":[[1]],\"targets\":[[5]]}");
    answer_expect(remote_call(c, "PATCH", "later", "", "{\"ema\":{}}"), 200);
    near(weight_at(c, "later", "/infer", "ema"), weight_at(c, "later", "/infer", "live"));
    const double then = weight_at(c, "later", "/versions/1/infer", "live");
    near(weight_at(c, "later", "/versions/1/infer", "ema"), then);
    remote_post(c, "later", "versions/1/restore", NULL); /* saved without an average */
    near(weight_at(c, "later", "/infer", "ema"), then);
    answer_expect(remote_call(c, "POST", "m", "/clone", "{\"name\":\"part\",\"layers\":[\"w\"]}"),
                  201);
    near(weight_at(c, "part", "/infer", "ema"), weight(c, "live"));
}

static void refused(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *body;
        int status;
        const char *code, *part;
    } rows[] = {
        {"{\"inputs\":[[1]],\"parameters\":{\"weights\":\"ema\"}}", 409, "conflict", "keeps no"},
        {"{\"inputs\":[[1]],\"parameters\":{\"weights\":\"best\"}}", 422, "bad_value", "best"},
        {"{\"inputs\":[[1]],\"parameters\":{\"weights\":3}}", 422, "bad_value", "weights"},
    };
    static const struct {
        const char *ema, *code, *part;
        int status;
    } bad[] = {
        {"0.9", "bad_type", "ema", 400},
        {"{\"decay\":1}", "bad_value", "ema.decay", 422},
        {"{\"decay\":0}", "bad_value", "ema.decay", 422},
        {"{\"decay\":\"a\"}", "bad_type", "ema.decay", 400},
        {"{\"deccay\":0.9}", "unknown_field", "deccay", 400},
    };
    remote_create(c, "m", without);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(remote_call(c, "POST", "m", "/infer", rows[i].body), rows[i].status,
                       rows[i].code, rows[i].part);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[512];
        snprintf(body, sizeof body, "{" WEIGHT_MODEL ",\"ema\":%s}", bad[i].ema);
        answer_refused(remote_call(c, "PUT", "other", "", body), bad[i].status, bad[i].code,
                       bad[i].part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(average),           DAEMON_TEST(both_again),  DAEMON_TEST(files),
        DAEMON_TEST(part_of_the_state), DAEMON_TEST(begins_anew), DAEMON_TEST(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
