/* test_signals_recorded.c: training records the signals of its layers at its interval, once each,
 * through restarts, and is not changed by it. */
#include "signals_fixture.h"

/* The number of layer `layer`, by name, at point `point`. */
static double recorded(struct answer *a, const char *signal, const char *layer, size_t point)
{
    char path[64];
    size_t i;
    json_t *item;
    snprintf(path, sizeof path, "signals.%s", signal);
    json_array_foreach(answer_find(a, "layers"), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "name")), layer) == 0)
            return at(json_array_get(answer_find(a, path), i), point);
    }
    fail_msg("no layer '%s'", layer);
    return NAN;
}

static void train(struct client *c, const char *name, int steps, int pixels)
{
    for (int i = 0; i < steps; i++)
        remote_step(c, name, (unsigned)i, pixels);
}

static void recorded_at_its_interval(struct daemon *d)
{
    struct client *c = d->client;
    double steps[16];
    remote_create(c, "m", remote_mlp);
    train(c, "m", 4, 4);
    struct answer *a = remote_get(c, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 0);
    assert_null(answer_find(a, "every"));
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":3}}"), 200);
    train(c, "m", 9, 4); /* steps 5 to 13 */
    a = remote_get(c, "m", "/signals");
    assert_int_equal(remote_numbers(a, "step", steps, 16), 3);
    assert_true(steps[0] == 6 && steps[1] == 9 && steps[2] == 12);
    assert_true(answer_number(a, "every") == 3);
    assert_true(answer_number(a, "last_revision") == answer_number(a, "revision.2"));
    assert_non_null(answer_find(a, "diagnosis"));
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":0}}"), 200);
    train(c, "m", 3, 4);
    assert_int_equal(remote_numbers(remote_get(c, "m", "/signals"), "step", steps, 16), 3);
    answer_refused(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":-1}}"), 422,
                   "bad_value", "signals.every");
    answer_refused(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"each\":1}}"), 400,
                   "unknown_field", "each");
    answer_refused(remote_call(c, "GET", "m", "/signals?max_points=0", NULL), 400, "bad_query",
                   "max_points");
}

/* What training records is what gradients answers for the same batch before. */
static void recorded_is_what_gradients_says(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const fields[] = {"gradient_norm", "weight_norm", "update_ratio",
                                         "activation_mean", "activation_std"};
    remote_create(c, "m", remote_cnn);
    answer_expect(
        remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1},\"clip_grad_norm\":0.01}"),
        200);
    struct answer *asked =
        remote_post(c, "m", "gradients", remote_batch(c, 5, 8, 36, WITH("\"signals\":true")));
    remote_post(c, "m", "train_step", remote_batch(c, 5, 8, 36, NULL));
    struct answer *a = remote_get(c, "m", "/signals");
    for (size_t i = 0; i < 5; i++)
        assert_true(recorded(a, fields[i], "conv", 0) ==
                    named_number(asked, "layers", "conv", fields[i]));
    assert_true(recorded(a, "dead_share", "layers.2", 0) ==
                named_number(asked, "layers", "layers.2", "dead_share"));
    assert_true(json_equal(answer_find(a, "diagnosis"), answer_find(asked, "diagnosis")));
}

/* Histograms of the newest step: as many numbers as the parameters have, those of its gradients. */
static void recorded_histograms(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    answer_expect(
        remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1},\"frozen\":[\"out.bias\"]}"),
        200);
    assert_null(answer_find(remote_get(c, "m", "/signals?histograms=1"), "histograms"));
    train(c, "m", 12, 4);
    struct answer *asked = remote_post(
        c, "m", "gradients", remote_batch(c, 5, 8, 4, WITH("\"histograms\":{\"bins\":32}")));
    remote_post(c, "m", "train_step", remote_batch(c, 5, 8, 4, NULL));
    struct answer *a = remote_get(c, "m", "/signals?histograms=1");
    assert_true(answer_number(a, "histograms.step") == 13);
    assert_int_equal(json_array_size(answer_find(a, "histograms.parameters")), 4);
    assert_true(json_equal(answer_find(a, "histograms.parameters.0.gradients"),
                           answer_find(asked, "gradients.0.histogram")));
    assert_true(json_equal(answer_find(a, "histograms.parameters.0.weights"),
                           answer_find(asked, "gradients.0.parameter_histogram")));
    assert_non_null(answer_find(a, "histograms.parameters.3.weights"));
    assert_null(answer_find(a, "histograms.parameters.3.gradients")); /* frozen */
    assert_null(answer_find(remote_get(c, "m", "/signals"), "histograms"));
}

/* Recording changes nothing else; accumulated steps have no forward of their own to look at. */
static void recording_changes_nothing(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "plain", remote_cnn);
    remote_create(c, "watched", remote_cnn);
    answer_expect(remote_call(c, "PATCH", "watched", "", "{\"signals\":{\"every\":1}}"), 200);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "watched" : "plain";
        train(c, name, 3, 36);
        remote_post(c, name, "forward_backward", remote_batch(c, 8, 8, 36, NULL));
        remote_post(c, name, "optim_step", NULL);
    }
    assert_same_state(remote_hash(c, "plain"), remote_hash(c, "watched"));
    struct answer *a = remote_get(c, "watched", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 4);
    assert_true(recorded(a, "gradient_norm", "fc", 3) > 0);
    assert_true(recorded(a, "update_ratio", "fc", 3) > 0);
    assert_true(json_is_null(
        json_array_get(json_array_get(answer_find(a, "signals.activation_mean"), 0), 3)));
}

/* The same answer after a kill, which replays the log, and after a clean stop; then no more. */
static void recorded_once(struct daemon *d)
{
    remote_create(d->client, "m", remote_cnn);
    answer_expect(remote_call(d->client, "PATCH", "m", "", "{\"signals\":{\"every\":2}}"), 200);
    train(d->client, "m", 7, 36);
    json_t *before = json_incref(answer_json(remote_get(d->client, "m", "/signals")));
    assert_int_equal(json_array_size(json_object_get(before, "step")), 3);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "replayed.records") == 7);
    assert_true(json_equal(before, answer_json(remote_get(d->client, "m", "/signals"))));
    daemon_stop(d);
    daemon_start(d, d->flags);
    assert_true(json_equal(before, answer_json(remote_get(d->client, "m", "/signals"))));
    json_decref(before);
    answer_expect(remote_call(d->client, "DELETE", "m", "", NULL), 200);
    remote_create(d->client, "m", remote_cnn);
    struct answer *a = remote_get(d->client, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 0);
}

/* Steps that were lost with the process take their signals with them. */
static void lost_steps_leave_none(struct daemon *d)
{
    remote_create(d->client, "m", remote_mlp);
    answer_expect(remote_call(d->client, "PATCH", "m", "",
                              "{\"signals\":{\"every\":1},\"durability\":\"none\"}"),
                  200);
    train(d->client, "m", 5, 4);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "step") == 0);
    struct answer *a = remote_get(d->client, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 0);
    train(d->client, "m", 2, 4);
    a = remote_get(d->client, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 2);
    assert_true(answer_number(a, "step.0") == 1);
}

static void sampled(struct daemon *d)
{
    struct client *c = d->client;
    double all[64], some[64];
    remote_create(c, "m", remote_mlp);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1}}"), 200);
    train(c, "m", 40, 4);
    assert_int_equal(remote_numbers(remote_get(c, "m", "/signals"), "revision", all, 64), 40);
    struct answer *a = remote_get(c, "m", "/signals?max_points=5");
    assert_int_equal(remote_numbers(a, "revision", some, 64), 5);
    assert_true(some[0] == all[0] && some[4] == all[39]);
    assert_int_equal(json_array_size(answer_find(a, "signals.gradient_norm.0")), 5);
    a = remote_get(c, "m", "/signals?max_points=1");
    assert_true(answer_number(a, "revision.0") == all[39]);
    char path[64];
    snprintf(path, sizeof path, "/signals?since=%.0f&until=%.0f", all[35], all[37]);
    assert_int_equal(remote_numbers(remote_get(c, "m", path), "revision", some, 64), 2);
    snprintf(path, sizeof path, "/signals?since=%.0f", all[39]);
    a = remote_get(c, "m", path);
    assert_int_equal(json_array_size(answer_find(a, "revision")), 0);
    assert_true(answer_number(a, "last_revision") == all[39]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(recorded_at_its_interval),
        DAEMON_TEST(recorded_is_what_gradients_says),
        DAEMON_TEST(recorded_histograms),
        DAEMON_TEST(recording_changes_nothing),
        DAEMON_TEST(recorded_once),
        DAEMON_TEST(lost_steps_leave_none),
        DAEMON_TEST(sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
