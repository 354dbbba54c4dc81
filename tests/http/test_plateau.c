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

static void accumulate(struct client *c, const char *name, int n)
{
    for (int i = 0; i < n; i++)
        remote_post(c, name, "forward_backward", "{\"inputs\":[[1]],\"targets\":[[5]]}");
}

static void apply(struct client *c, const char *name, double rate)
{
    struct answer *a = remote_post(c, name, "optim_step", NULL);
    if (answer_number(a, "metrics.lr") != rate)
        fail_msg("the rate is %g, expected %g", answer_number(a, "metrics.lr"), rate);
}

/* forward_backward and optim_step are train_step in two, for the schedule too; so they are when the
 * daemon is killed or stopped between them. */
static void apart(struct daemon *d)
{
    struct client *c = d->client;
    static const double rate[] = {0.08, 0.08, 0.04, 0.02, 0.01};
    remote_create(c, "whole", plateau);
    remote_create(c, "apart", plateau);
    for (int i = 0; i < 5; i++) {
        accumulate(c, "apart", 1);
        if (i == 2)
            daemon_kill(d); /* forward_backward is replayed */
        if (i == 3)
            daemon_stop(d); /* the checkpoint has what is pending */
        if (i == 2 || i == 3)
            daemon_start(d, d->flags);
        c = d->client;
        apply(c, "apart", rate[i]);
        expect_rate(c, "whole", rate[i]);
        assert_same_state(remote_hash(c, "apart"), remote_hash(c, "whole"));
    }
}

/* The metric is the mean of the losses that are pending, and zero_grad forgets them. The targets
 * are such that a sum, or the last loss, would be taken for worse. */
static void mean_of_losses(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const easy = "{\"inputs\":[[0]],\"targets\":[[0]]}",
                             *const hard = "{\"inputs\":[[0]],\"targets\":[[9]]}",
                             *const fair = "{\"inputs\":[[0]],\"targets\":[[8]]}";
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,1]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":1,\"bias\":false}],\"loss\":\"mse\","
                  "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.08},\"schedule\":"
                  "{\"op\":\"reduce_on_plateau\",\"patience\":0,\"factor\":0.5}}");
    remote_post(c, "m", "forward_backward", fair); /* 64 */
    apply(c, "m", 0.08);
    remote_post(c, "m", "forward_backward", easy);
    remote_post(c, "m", "forward_backward", hard); /* mean 40.5: better */
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    apply(c, "m", 0.08);
    remote_post(c, "m", "forward_backward", hard);
    remote_post(c, "m", "zero_grad", NULL);
    remote_post(c, "m", "forward_backward", easy); /* 0: better */
    apply(c, "m", 0.08);
    remote_post(c, "m", "forward_backward", easy);
    apply(c, "m", 0.08);
    remote_post(c, "m", "forward_backward", easy);
    apply(c, "m", 0.04); /* the one before was no better */
    remote_post(c, "m", "versions/1/restore", NULL);
    const struct remote_hash then = remote_hash(c, "m");
    answer_expect(remote_call(c, "POST", "m", "/clone", "{\"name\":\"copy\"}"), 201);
    assert_same_state(remote_hash(c, "copy"), then);
    apply(c, "m", 0.08);
    apply(c, "copy", 0.08);
    assert_same_state(remote_hash(c, "copy"), remote_hash(c, "m"));
    remote_post(c, "copy", "forward_backward", easy);
    apply(c, "copy", 0.08);
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
    const struct CMUnitTest tests[] = {DAEMON_TEST(rates), DAEMON_TEST(apart),
                                       DAEMON_TEST(mean_of_losses), DAEMON_TEST(settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
