/* test_plateau.c: reduce_on_plateau over HTTP: the rate in each answer, and that what the schedule
 * has seen is part of the state: kill -9 and replay, versions, copies, settings. No metric but the
 * first is ever better here, so the rate halves at each step from the third on. */
#include "../support/remote.h"

#include <string.h>

static const char plateau[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,1]}],"
    "\"layers\":[{\"name\":\"w\",\"op\":\"linear\",\"out_features\":1}],"
    "\"loss\":\"mse\",\"optimizer\":{\"op\":\"sgd\",\"lr\":0.08},\"seed\":3,"
    "\"schedule\":{\"op\":\"reduce_on_plateau\",\"patience\":0,\"factor\":0.5,"
    "\"threshold_mode\":\"abs\",\"threshold\":1e9}}";

static void expect_rate(struct client *c, const char *name, double rate)
{
    struct answer *a = remote_post(c, name, "train_step", "{\"inputs\":[[1]],\"targets\":[[5]]}");
    if (answer_number(a, "metrics.lr") != rate)
        fail_msg("the rate is %g, expected %g", answer_number(a, "metrics.lr"), rate);
}

static void rates(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", plateau);
    expect_rate(c, "m", 0.08);
    expect_rate(c, "m", 0.08);
    expect_rate(c, "m", 0.04);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    expect_rate(c, "m", 0.02);
    answer_expect(remote_call(c, "POST", "m", "/clone", "{\"name\":\"copy\"}"), 201);
    struct remote_hash before = remote_hash(c, "m");
    assert_same_state(remote_hash(c, "copy"), before);
    daemon_kill(d); /* the steps are replayed */
    daemon_start(d, d->flags);
    c = d->client;
    assert_same_state(remote_hash(c, "m"), before);
    expect_rate(c, "m", 0.01);
    expect_rate(c, "copy", 0.01);
    remote_post(c, "m", "versions/1/restore", NULL);
    expect_rate(c, "m", 0.02);
    assert_same_state(remote_hash(c, "m"), before);
    daemon_stop(d); /* the checkpoint has it */
    daemon_start(d, d->flags);
    c = d->client;
    assert_same_state(remote_hash(c, "m"), before);
    expect_rate(c, "m", 0.01);
}

static void settings(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", plateau);
    for (int i = 0; i < 3; i++)
        remote_post(c, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[5]]}");
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"clip_grad_norm\":1}"), 200);
    expect_rate(c, "m", 0.02);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.5}"), 200); /* begins anew */
    expect_rate(c, "m", 0.5);
    answer_refused(remote_call(c, "PATCH", "m", "",
                               "{\"schedule\":{\"op\":\"reduce_on_plateau\",\"factor\":1}}"),
                   422, "bad_attribute", "factor");
    answer_refused(remote_call(c, "PATCH", "m", "",
                               "{\"schedule\":{\"op\":\"reduce_on_plateau\",\"interval\":0}}"),
                   422, "bad_attribute", "interval");
}

int main(void)
{
    const struct CMUnitTest tests[] = {DAEMON_TEST(rates), DAEMON_TEST(settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
