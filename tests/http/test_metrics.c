/* test_metrics.c: the series of a model: each number that a step answered is there once, at its
 * revision; asked for by name, by range, sampled; and after a restart as before. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 25 };

/* Checks a column of a series and copies it; the number of points. */
static int column(struct answer *a, const char *series, const char *key, double *numbers, int max)
{
    char path[96];
    snprintf(path, sizeof path, "series.%s.%s", series, key);
    return answer_find(a, path) ? remote_numbers(a, path, numbers, max) : 0;
}

static void train(struct client *c, double losses[STEPS])
{
    remote_create(c, "m", remote_mlp);
    for (unsigned i = 0; i < STEPS; i++)
        losses[i] = answer_number(remote_step(c, "m", i % 5, 4), "loss");
}

/* ---- what is there --------------------------------------------------------------------------- */

static void each_number_once(struct daemon *d)
{
    struct client *c = d->client;
    double losses[STEPS], x[STEPS], before = 0;
    static const char *const names[] = {"loss", "accuracy", "grad_norm", "lr", "samples"};
    train(c, losses);
    struct answer *a = remote_get(c, "m", "/metrics");
    assert_string_equal(answer_string(a, "model_name"), "m");
    assert_true(answer_number(a, "last_revision") == STEPS);
    assert_int_equal(json_object_size(answer_find(a, "series")), 5);
    for (int k = 0; k < 5; k++) {
        assert_int_equal(column(a, names[k], "revision", x, STEPS), STEPS);
        for (int i = 0; i < STEPS; i++)
            assert_true(x[i] == i + 1);
        assert_int_equal(column(a, names[k], "step", x, STEPS), STEPS);
        for (int i = 0; i < STEPS; i++)
            assert_true(x[i] == i + 1);
    }
    column(a, "loss", "value", x, STEPS);
    for (int i = 0; i < STEPS; i++)
        assert_true((float)x[i] == (float)losses[i]);
    column(a, "samples", "value", x, STEPS);
    assert_true(x[0] == 8);
    assert_int_equal(column(a, "lr", "time_ms", x, STEPS), STEPS);
    for (int i = 0; i < STEPS; i++) {
        assert_true(x[i] >= before && x[i] > 1.7e12);
        before = x[i];
    }
}

/* What a verb does not have is not there: no loss of optim_step, no learning rate of
 * forward_backward, nothing of what was refused or only asked. */
static void verbs(struct daemon *d)
{
    struct client *c = d->client;
    double x[8];
    remote_create(c, "m", remote_mlp);
    const char *batch = remote_batch(c, 1, 4, 4, NULL);
    const double norm =
        answer_number(remote_post(c, "m", "forward_backward", batch), "metrics.grad_norm");
    remote_post(c, "m", "optim_step", NULL);
    answer_expect(remote_call(c, "POST", "m", "/train_step", "{}"), 400);
    remote_post(c, "m", "gradients", batch);
    remote_post(c, "m", "evaluate", batch);
    remote_step(c, "m", 3, 4);
    struct answer *a = remote_get(c, "m", "/metrics");
    static const struct {
        const char *name;
        int n;
        double revision[2];
    } rows[] = {{"loss", 2, {1, 3}},
                {"accuracy", 2, {1, 3}},
                {"samples", 2, {1, 3}},
                {"lr", 2, {2, 3}},
                {"grad_norm", 2, {2, 3}}};
    for (int i = 0; i < 5; i++) {
        int n = column(a, rows[i].name, "revision", x, 8);
        if (n != rows[i].n || x[0] != rows[i].revision[0] || x[1] != rows[i].revision[1])
            fail_msg("%s: %s", rows[i].name, a->body);
    }
    /* Of a batch that is added to others: not the same curve, in its answer the same name. */
    assert_int_equal(column(a, "batch_grad_norm", "revision", x, 8), 1);
    assert_true(x[0] == 1);
    column(a, "batch_grad_norm", "value", x, 8);
    assert_true(x[0] == norm);
}

/* The log gives back the same rows. */
static void verbs_again(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    for (unsigned i = 0; i < 2; i++)
        remote_post(c, "m", "forward_backward", remote_batch(c, i, 4, 4, NULL));
    const double norm = answer_number(remote_post(c, "m", "optim_step", NULL), "metrics.grad_norm");
    char *before = strdup(remote_get(c, "m", "/metrics")->body);
    assert_true(remote_sample(c, "backpropd_grad_norm{model=\"m\"}") == norm);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_string_equal(remote_get(d->client, "m", "/metrics")->body, before);
    assert_true(remote_sample(d->client, "backpropd_grad_norm{model=\"m\"}") == norm);
    free(before);
}

/* ---- asking for a part ----------------------------------------------------------------------- */

static void ranges(struct daemon *d)
{
    struct client *c = d->client;
    double losses[STEPS], x[STEPS];
    static const struct {
        const char *query;
        int first, last; /* revisions; 0: none */
    } rows[] = {
        {"since=20", 21, 25}, {"since=24", 25, 25},          {"since=25", 0, 0},
        {"until=3", 1, 3},    {"since=5&until=9", 6, 9},     {"since=9&until=5", 0, 0},
        {"since=1000", 0, 0}, {"since=0&until=1000", 1, 25}, {"until=0", 0, 0},
    };
    train(c, losses);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char rest[96];
        snprintf(rest, sizeof rest, "/metrics?names=loss&%s", rows[i].query);
        struct answer *a = remote_get(c, "m", rest);
        int n = column(a, "loss", "revision", x, STEPS);
        assert_int_equal(n, rows[i].first ? rows[i].last - rows[i].first + 1 : 0);
        if (n)
            assert_true(x[0] == rows[i].first && x[n - 1] == rows[i].last);
    }
    /* A dashboard that polls with the last revision that it was told sees each row once. */
    int seen = 0, since = 0;
    while (since < STEPS) {
        char rest[96];
        snprintf(rest, sizeof rest, "/metrics?since=%d&until=%d", since, since + 7);
        struct answer *a = remote_get(c, "m", rest);
        seen += column(a, "loss", "revision", x, STEPS);
        since = (int)answer_number(a, "last_revision");
    }
    assert_int_equal(seen, STEPS);
    static const struct {
        const char *query;
        int last;
    } ends[] = {{"since=25", 25},       {"since=1000", 25}, {"until=0", 0},
                {"since=9&until=5", 9}, {"until=7", 7},     {"since=3&until=1000", 25}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char rest[96];
        snprintf(rest, sizeof rest, "/metrics?%s", ends[i].query);
        if (answer_number(remote_get(c, "m", rest), "last_revision") != ends[i].last)
            fail_msg("%s: last_revision is not %d", ends[i].query, ends[i].last);
    }
    /* A change without rows moves it, too. */
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.2}"), 200);
    struct answer *a = remote_get(c, "m", "/metrics?names=loss&since=25");
    assert_true(answer_number(a, "last_revision") == remote_number(c, "m", "revision"));
}

static void names(struct daemon *d)
{
    struct client *c = d->client;
    double losses[STEPS];
    static const struct {
        const char *query;
        size_t series;
    } rows[] = {{"names=loss", 1},      {"names=loss,accuracy", 2}, {"names=", 5},
                {"names=nothing", 0},   {"names=loss,nothing", 1},  {"names=lo", 0},
                {"names=loss,loss", 1}, {"names=%6coss", 1}};
    train(c, losses);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char rest[96];
        snprintf(rest, sizeof rest, "/metrics?%s", rows[i].query);
        struct answer *a = remote_get(c, "m", rest);
        if (json_object_size(answer_find(a, "series")) != rows[i].series)
            fail_msg("%s: %s", rows[i].query, a->body);
        /* Whatever was asked for, it goes on from where the model is. */
        if (answer_number(a, "last_revision") != STEPS || strcmp(answer_string(a, "cursor"), "25"))
            fail_msg("%s: %s", rows[i].query, a->body);
    }
    static const char *const refused[] = {
        "name=loss",    "since=-1",  "since=x",           "max_points=0",
        "max_points=x", "until=1.5", "max_points=100001", "since=9223372036854775808"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char rest[96];
        snprintf(rest, sizeof rest, "/metrics?%s", refused[i]);
        answer_refused(remote_call(c, "GET", "m", rest, NULL), 400, "bad_query", NULL);
    }
}

/* The first and the last row are always there; in between rows of equal ranges. */
static void sampling(struct daemon *d)
{
    struct client *c = d->client;
    double losses[STEPS], x[STEPS], v[STEPS];
    train(c, losses);
    for (int points = 1; points <= STEPS + 3; points++) {
        char rest[96];
        snprintf(rest, sizeof rest, "/metrics?names=loss&max_points=%d", points);
        struct answer *a = remote_get(c, "m", rest);
        int n = column(a, "loss", "revision", x, STEPS);
        assert_int_equal(n, points < STEPS ? points : STEPS);
        assert_int_equal(column(a, "loss", "value", v, STEPS), n);
        assert_true(x[n - 1] == STEPS);
        assert_true(n == 1 || x[0] == 1);
        for (int i = 0; i < n; i++) {
            assert_true(!i || x[i] > x[i - 1]);
            assert_true((float)v[i] == (float)losses[(int)x[i] - 1]);
        }
    }
}

/* ---- over a restart -------------------------------------------------------------------------- */

static void restart(struct daemon *d)
{
    double losses[STEPS], x[2 * STEPS];
    train(d->client, losses);
    json_t *before = json_incref(answer_json(remote_get(d->client, "m", "/metrics")));
    daemon_stop(d);
    daemon_start(d, d->flags);
    struct client *c = d->client;
    assert_true(json_equal(before, answer_json(remote_get(c, "m", "/metrics"))));
    json_decref(before);
    remote_step(c, "m", 1, 4);
    struct answer *a = remote_get(c, "m", "/metrics");
    assert_int_equal(column(a, "loss", "revision", x, 2 * STEPS), STEPS + 1);
    assert_true(x[STEPS] == STEPS + 1);
    /* After a restore steps are taken again, at revisions of their own. */
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    remote_step(c, "m", 2, 4);
    remote_post(c, "m", "versions/1/restore", NULL);
    remote_step(c, "m", 2, 4);
    a = remote_get(c, "m", "/metrics?names=loss");
    int n = column(a, "loss", "step", x, 2 * STEPS);
    assert_int_equal(n, STEPS + 3);
    assert_true(x[n - 1] == STEPS + 2 && x[n - 2] == STEPS + 2);
    column(a, "loss", "revision", x, 2 * STEPS);
    assert_true(x[n - 1] == STEPS + 4 && x[n - 2] == STEPS + 2);
    column(a, "loss", "value", x, 2 * STEPS);
    assert_true(x[n - 1] == x[n - 2]);
}

/* What a dashboard was told holds after a kill as well, the times too. Enough steps that some lie
 * at the end of a millisecond. */
static void killed(struct daemon *d)
{
    enum { MANY = 400 };
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    const char *batch = remote_batch(c, 1, 4, 4, NULL);
    for (int i = 0; i < MANY; i++)
        remote_post(c, "m", "train_step", batch);
    json_t *before = json_incref(answer_json(remote_get(c, "m", "/metrics")));
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "replayed.records") == MANY);
    assert_true(json_equal(before, answer_json(remote_get(d->client, "m", "/metrics"))));
    json_decref(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(each_number_once), DAEMON_TEST(verbs),  DAEMON_TEST(verbs_again),
        DAEMON_TEST(ranges),           DAEMON_TEST(names),  DAEMON_TEST(sampling),
        DAEMON_TEST(restart),          DAEMON_TEST(killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
