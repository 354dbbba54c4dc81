/* test_versions.c: saving the whole state and going back to it: counters, optimiser state, pending
 * gradients. After a restore training goes on as it did the first time, to the bit. */
#include "../support/faults.h"
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static int version_save(struct client *c, const char *name)
{
    struct answer *a = remote_call(c, "POST", name, "/versions", NULL);
    answer_expect(a, 201);
    return (int)answer_number(a, "version");
}

static struct answer *version_restore(struct client *c, const char *name, int version)
{
    char verb[64];
    snprintf(verb, sizeof verb, "versions/%d/restore", version);
    return remote_post(c, name, verb, NULL);
}

/* ---- creating and listing -------------------------------------------------------------------- */

static void create_list_get(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    struct answer *a =
        remote_call(c, "POST", "m", "/versions", "{\"note\":\"after one step: \\u00e4\\n\\\"\"}");
    answer_expect(a, 201);
    assert_true(answer_number(a, "version") == 1);
    assert_true(answer_number(a, "step") == 1 && answer_number(a, "draw") == 1);
    assert_int_equal(strlen(answer_string(a, "sha256")), 64);
    assert_string_equal(answer_string(a, "note"), "after one step: \xc3\xa4\n\"");
    remote_step(c, "m", 2, 4);
    assert_int_equal(version_save(c, "m"), 2);
    a = remote_get(c, "m", "/versions");
    assert_int_equal(json_array_size(answer_find(a, "versions")), 2);
    assert_true(answer_number(a, "versions.1.step") == 2);
    assert_string_equal(answer_string(a, "versions.1.note"), "");
    char body[1100] = "{\"note\":\"";
    memset(body + 9, 'x', 1001);
    strcpy(body + 1010, "\"}");
    answer_refused(remote_call(c, "POST", "m", "/versions", body), 422, "bad_value",
                   "'note' has 1001 bytes, the limit is 1000");
    assert_string_not_equal(answer_string(a, "versions.0.sha256"),
                            answer_string(a, "versions.1.sha256"));
    a = remote_get(c, "m", "/versions/1");
    assert_string_equal(answer_string(a, "parts.0.name"), "params");
    assert_true(answer_number(a, "parts.0.bytes") == 4 * (4 * 8 + 8 + 8 * 3 + 3));
    assert_true(answer_number(a, "description.optimizer.momentum") == 0.9);
    assert_true(answer_number(a, "version") == 1);
    a = remote_get(c, "m", "");
    assert_string_equal(answer_string(a, "versions.0"), "1");
    assert_string_equal(answer_string(a, "versions.1"), "2");
    /* A version is no change of the model. */
    assert_true(answer_number(a, "revision") == 2);
}

/* What the protocol has below versions/{v}: metadata, readiness, configuration. */
static void of_the_protocol(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    version_save(c, "m");
    answer_expect(remote_call(c, "PUT", "m", "/aliases/best", "{\"version\":1}"), 201);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.5}"), 200);
    json_t *model = json_incref(answer_json(remote_get(c, "m", "")));
    static const char *const same[] = {"name", "versions", "platform", "inputs", "outputs"};
    for (int i = 0; i < 2; i++) {
        const char *version = i ? "best" : "1";
        char path[64];
        snprintf(path, sizeof path, "/versions/%s", version);
        struct answer *a = remote_get(c, "m", path);
        for (size_t k = 0; k < sizeof same / sizeof *same; k++)
            assert_true(json_equal(answer_find(a, same[k]), json_object_get(model, same[k])));
        snprintf(path, sizeof path, "/versions/%s/ready", version);
        a = remote_get(c, "m", path);
        assert_string_equal(answer_string(a, "name"), "m");
        assert_true(json_is_true(answer_find(a, "ready")));
        snprintf(path, sizeof path, "/versions/%s/config?plan=1", version);
        a = remote_get(c, "m", path);
        assert_string_equal(answer_string(a, "platform"),
                            json_string_value(json_object_get(model, "platform")));
        assert_true(answer_number(a, "description.optimizer.lr") == 0.1);
        assert_non_null(answer_find(a, "plan.infer.0"));
    }
    assert_true(answer_number(remote_get(c, "m", "/config"), "description.optimizer.lr") == 0.5);
    json_decref(model);
}

static void unknown(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    version_save(c, "m");
    static const char *const rows[][2] = {
        {"GET", "/versions/2"},          {"GET", "/versions/2/ready"},
        {"GET", "/versions/2/config"},   {"DELETE", "/versions/2"},
        {"POST", "/versions/2/restore"}, {"POST", "/versions/2/infer"},
        {"POST", "/versions/2/evaluate"}};
    for (int i = 0; i < 7; i++) {
        const char *body = i >= 5 ? "{\"inputs\":[[1,2,3,4]]}" : NULL;
        answer_refused(remote_call(c, rows[i][0], "m", rows[i][1], body), 404, "unknown_version",
                       "2");
        answer_refused(remote_call(c, rows[i][0], "n", rows[i][1], body), 404, "unknown_model",
                       "'n'");
    }
}

static void numbers_are_not_reused(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    for (int i = 1; i <= 3; i++)
        assert_int_equal(version_save(c, "m"), i);
    struct answer *a = remote_call(c, "DELETE", "m", "/versions/3", NULL);
    answer_expect(a, 200);
    assert_true(answer_number(a, "deleted") == 3);
    answer_refused(remote_call(c, "DELETE", "m", "/versions/3", NULL), 404, "unknown_version", "3");
    answer_refused(remote_call(c, "POST", "m", "/versions/3/restore", NULL), 404, "unknown_version",
                   "3");
    assert_int_equal(version_save(c, "m"), 4);
    answer_expect(remote_call(c, "DELETE", "m", "/versions/4", NULL), 200);
    daemon_stop(d);
    daemon_start(d, d->flags);
    c = d->client;
    assert_int_equal(version_save(c, "m"), 5);
    a = remote_get(c, "m", "/versions");
    assert_int_equal(json_array_size(answer_find(a, "versions")), 3);
    assert_true(answer_number(a, "versions.2.version") == 5);
}

static void infer_from_version(struct daemon *d)
{
    struct client *c = d->client;
    double then[6], from_version[6], now[6];
    const char *question = remote_inputs(c, 3, 2, 36, NULL);
    remote_create(c, "m", remote_cnn);
    remote_step(c, "m", 1, 36);
    remote_numbers(remote_post(c, "m", "infer", question), "outputs.0.data", then, 6);
    version_save(c, "m");
    remote_step(c, "m", 2, 36);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"optimizer\":{\"op\":\"sgd\",\"lr\":1}}"),
                  200);
    struct answer *a = remote_post(c, "m", "versions/1/infer", question);
    assert_string_equal(answer_string(a, "model_version"), "1");
    assert_true(answer_number(a, "parameters.step") == 1);
    remote_numbers(a, "outputs.0.data", from_version, 6);
    assert_memory_equal(then, from_version, sizeof then);
    remote_numbers(remote_post(c, "m", "infer", question), "outputs.0.data", now, 6);
    assert_memory_not_equal(then, now, sizeof then);
}

/* The loss is that of then, by number and by alias, and no curve gets a point. */
static void evaluate_version(struct daemon *d)
{
    static const char *const paths[] = {"versions/1/evaluate", "versions/good/evaluate"};
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    remote_step(c, "m", 1, 36);
    const char *batch = remote_batch(c, 3, 8, 36, NULL);
    double then = answer_number(remote_post(c, "m", "evaluate", batch), "loss");
    version_save(c, "m");
    answer_expect(remote_call(c, "PUT", "m", "/aliases/good", "{\"version\":1}"), 201);
    remote_step(c, "m", 2, 36);
    assert_true(answer_number(remote_post(c, "m", "evaluate", batch), "loss") != then);
    for (int i = 0; i < 2; i++) {
        struct answer *a = remote_post(c, "m", paths[i], batch);
        assert_true(answer_number(a, "loss") == then);
        assert_true(json_is_number(answer_find(a, "metrics.top5")));
        assert_string_equal(answer_string(a, "model_version"), "1");
        assert_true(answer_number(a, "step") == 1 && answer_number(a, "revision") == 1);
    }
    batch = remote_batch(c, 3, 8, 36, "\"parameters\":{\"record\":true}");
    answer_refused(remote_call(c, "POST", "m", "/versions/1/evaluate", batch), 422, "bad_value",
                   "parameters.record");
    answer_refused(remote_call(c, "POST", "m", "/versions/bad/evaluate", batch), 404,
                   "unknown_alias", "bad");
    assert_null(answer_find(remote_get(c, "m", "/metrics"), "series.val_loss"));
}

/* ---- going back ------------------------------------------------------------------------------ */

static void train_on_after_restore(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *name, *description;
        int pixels;
    } models[] = {{"mlp", remote_mlp, 4}, {"cnn", remote_cnn, 36}};
    for (int i = 0; i < 2; i++) {
        const char *name = models[i].name;
        double losses[5];
        remote_create(c, name, models[i].description);
        for (unsigned k = 0; k < 3; k++)
            remote_step(c, name, k, models[i].pixels);
        struct remote_hash saved = remote_hash(c, name);
        int version = version_save(c, name);
        for (unsigned k = 0; k < 5; k++)
            losses[k] = answer_number(remote_step(c, name, 10 + k, models[i].pixels), "loss");
        struct remote_hash end = remote_hash(c, name);
        for (int pass = 0; pass < 2; pass++) {
            struct answer *a = version_restore(c, name, version);
            assert_true(answer_number(a, "restored_version") == version);
            assert_true(answer_number(a, "step") == 3);
            assert_true(answer_number(a, "revision") == 9 + 6 * pass);
            assert_true(remote_number(c, name, "draw") == 3);
            assert_same_state(remote_hash(c, name), saved);
            for (unsigned k = 0; k < 5; k++) {
                a = remote_step(c, name, 10 + k, models[i].pixels);
                assert_true(answer_number(a, "loss") == losses[k]);
                assert_true(answer_number(a, "step") == 4 + k);
            }
            assert_same_state(remote_hash(c, name), end);
        }
    }
}

/* Pending gradients and moved statistics are part of a version. */
static void restore_with_pending(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    remote_step(c, "m", 1, 36);
    int without = version_save(c, "m");
    struct remote_hash clean = remote_hash(c, "m");
    remote_post(c, "m", "forward_backward", remote_batch(c, 2, 8, 36, NULL));
    int with = version_save(c, "m");
    struct remote_hash pending = remote_hash(c, "m");
    remote_post(c, "m", "optim_step", NULL);
    struct remote_hash stepped = remote_hash(c, "m");
    version_restore(c, "m", with);
    assert_same_state(remote_hash(c, "m"), pending);
    assert_true(json_is_true(answer_find(remote_get(c, "m", ""), "gradients_pending")));
    answer_refused(remote_call(c, "POST", "m", "/train_step", remote_batch(c, 1, 8, 36, NULL)), 409,
                   "conflict", "pending");
    remote_post(c, "m", "optim_step", NULL);
    assert_same_state(remote_hash(c, "m"), stepped);
    /* Back to one without, while some are pending. */
    remote_post(c, "m", "forward_backward", remote_batch(c, 3, 8, 36, NULL));
    version_restore(c, "m", without);
    assert_same_state(remote_hash(c, "m"), clean);
    assert_true(json_is_false(answer_find(remote_get(c, "m", ""), "gradients_pending")));
    remote_step(c, "m", 2, 36);
    assert_same_state(remote_hash(c, "m"), stepped);
}

/* The optimiser's state only makes sense with its optimiser: that one comes back with it. */
static void restore_other_optimizer(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const others[] = {
        "{\"optimizer\":{\"op\":\"adam\",\"lr\":0.01}}",
        "{\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01}}",
    };
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    struct remote_hash saved = remote_hash(c, "m");
    int version = version_save(c, "m");
    double loss = answer_number(remote_step(c, "m", 2, 4), "loss");
    struct remote_hash end = remote_hash(c, "m");
    for (int i = 0; i < 2; i++) {
        answer_expect(remote_call(c, "PATCH", "m", "", others[i]), 200);
        remote_step(c, "m", 7, 4);
        version_restore(c, "m", version);
        assert_same_state(remote_hash(c, "m"), saved);
        struct answer *a = remote_get(c, "m", "/config");
        assert_string_equal(answer_string(a, "description.optimizer.op"), "sgd");
        assert_true(answer_number(a, "description.optimizer.momentum") == 0.9);
        assert_true(answer_number(remote_step(c, "m", 2, 4), "loss") == loss);
        assert_same_state(remote_hash(c, "m"), end);
        daemon_stop(d);
        daemon_start(d, d->flags);
        c = d->client;
        assert_same_state(remote_hash(c, "m"), end);
    }
}

/* A learning rate that was PATCHed since then stays: it belongs to the settings. */
static void settings_stay(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    int version = version_save(c, "m");
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.25,\"frozen\":[\"out.*\"]}"), 200);
    struct answer *a = remote_get(c, "m", "/versions/1");
    assert_true(version == 1 && json_array_size(answer_find(a, "settings_differ")) == 2);
    assert_string_equal(answer_string(a, "settings_differ.0"), "frozen");
    assert_string_equal(answer_string(a, "settings_differ.1"), "optimizer");
    version_restore(c, "m", version);
    a = remote_step(c, "m", 1, 4);
    assert_true(answer_number(a, "metrics.lr") == 0.25);
    assert_string_equal(answer_string(remote_get(c, "m", "/config"), "description.frozen.0"),
                        "out.*");
}

struct asker {
    const char *address;
    int version;
};

static void *ask_version(void *arg)
{
    struct asker *a = arg;
    struct client *c = client_create(a->address);
    char rest[60];
    snprintf(rest, sizeof rest, "/versions/%d/infer", a->version);
    remote_call(c, "POST", "m", rest, "{\"inputs\":[[1,2,3,4]]}");
    client_destroy(&c);
    return NULL;
}

/* A version that is read for a prediction while it is deleted is not kept, even where each thread
 * stands still whenever it has let go of a lock. */
static void deleted_while_it_is_read(struct daemon *d)
{
    if (!faults_possible())
        skip();
    struct faults *f = faults_start_slow(d);
    remote_create(d->client, "m", remote_mlp);
    faults_arm_slow(f);
    for (int i = 1; i <= 6; i++) {
        struct asker a = {d->address, i};
        char rest[60];
        pthread_t thread;
        answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
        assert_int_equal(pthread_create(&thread, NULL, ask_version, &a), 0);
        snprintf(rest, sizeof rest, "/versions/%d", i);
        answer_expect(remote_call(d->client, "DELETE", "m", rest, NULL), 200);
        pthread_join(thread, NULL);
        snprintf(rest, sizeof rest, "/versions/%d/infer", i);
        answer_refused(remote_call(d->client, "POST", "m", rest, "{\"inputs\":[[1,2,3,4]]}"), 404,
                       "unknown_version", NULL);
    }
    faults_disarm(f);
    faults_destroy(&f);
}

/* Of a model without durability steps may be lost; the revision that a version has is not used for
 * another state. */
static void revisions_are_not_reused(struct daemon *d)
{
    remote_create(d->client, "m", remote_mlp);
    answer_expect(remote_call(d->client, "PATCH", "m", "", "{\"durability\":\"none\"}"), 200);
    for (unsigned i = 0; i < 10; i++)
        remote_step(d->client, "m", i, 4);
    double revision = remote_number(d->client, "m", "revision");
    answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "step") == 0);
    assert_true(remote_number(d->client, "m", "revision") >= revision);
}

/* A version of a version: the same state has the same hash. */
static void same_state_same_hash(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    remote_step(c, "m", 1, 36);
    int first = version_save(c, "m");
    remote_step(c, "m", 2, 36);
    version_restore(c, "m", first);
    version_save(c, "m");
    struct answer *a = remote_get(c, "m", "/versions");
    assert_string_equal(answer_string(a, "versions.0.sha256"),
                        answer_string(a, "versions.1.sha256"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(create_list_get),          DAEMON_TEST(unknown),
        DAEMON_TEST(numbers_are_not_reused),   DAEMON_TEST(infer_from_version),
        DAEMON_TEST(train_on_after_restore),   DAEMON_TEST(restore_with_pending),
        DAEMON_TEST(restore_other_optimizer),  DAEMON_TEST(settings_stay),
        DAEMON_TEST(deleted_while_it_is_read), DAEMON_TEST(revisions_are_not_reused),
        DAEMON_TEST(same_state_same_hash),     DAEMON_TEST(of_the_protocol),
        DAEMON_TEST(evaluate_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
