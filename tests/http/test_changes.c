/* test_changes.c: PATCH and clone. A refused change leaves state, settings and budget as they were;
 * the optimiser's state stays with its optimiser; a copy has the whole state, or the layers that
 * were named. */
#include "../support/faults.h"
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double memory_used(struct client *c)
{
    return answer_number(client_get(c, "/v2"), "memory_used_bytes");
}

/* ---- changing -------------------------------------------------------------------------------- */

static void patch(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct answer *a =
        remote_call(c, "PATCH", "m", "",
                    "{\"lr\":0.5,\"clip_grad_norm\":2,\"labels\":[\"a\",\"b\",\"c\"],"
                    "\"schedule\":{\"op\":\"cosine\",\"total_steps\":9}}");
    answer_expect(a, 200);
    assert_true(answer_number(a, "revision") == 1 && answer_number(a, "step") == 0);
    assert_string_equal(answer_string(a, "labels.2"), "c");
    a = remote_get(c, "m", "/config");
    assert_true(answer_number(a, "description.optimizer.lr") == 0.5);
    assert_true(answer_number(a, "description.optimizer.momentum") == 0.9);
    assert_true(answer_number(a, "description.clip_grad_norm") == 2);
    /* The description that it was created with still stands for it. */
    answer_expect(remote_call(c, "PUT", "m", "", remote_mlp), 200);
    /* null takes back what was changed. */
    answer_expect(
        remote_call(c, "PATCH", "m", "", "{\"lr\":null,\"clip_grad_norm\":null,\"labels\":null}"),
        200);
    a = remote_get(c, "m", "/config");
    assert_true(answer_number(a, "description.optimizer.lr") == 0.1);
    assert_null(answer_find(a, "description.clip_grad_norm"));
    assert_null(answer_find(a, "description.labels"));
    assert_true(answer_number(a, "description.schedule.total_steps") == 9);
}

static void patch_refused(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *patch;
        int status;
        const char *code, *part;
    } rows[] = {
        {"{\"lrr\":1}", 400, "unknown_field", "'lr'"},
        {"{\"layers\":[]}", 400, "unknown_field", "layers"},
        {"{\"lr\":\"1\"}", 400, "bad_type", "lr"},
        {"{\"lr\":-1}", 422, "bad_attribute", "lr"},
        {"{\"lr\":1,\"optimizer\":{\"op\":\"adam\"}}", 422, "bad_value", "not both"},
        {"{\"optimizer\":{\"op\":\"adamm\"}}", 422, "unknown_operator", "adamw"},
        {"{\"schedule\":{\"op\":\"cosine\"}}", 422, "bad_attribute", "total_steps"},
        {"{\"clip_grad_norm\":0}", 422, "bad_value", "clip_grad_norm"},
        {"{\"frozen\":[\"nothing\"]}", 422, "bad_value", "nothing"},
        {"{\"labels\":[\"one\"]}", 422, "bad_value", "3"},
        {"{\"labels\":[1,\"b\",\"c\"]}", 400, "bad_type", "labels[0]"},
    };
    remote_create(c, "m", remote_mlp);
    struct remote_hash before = remote_hash(c, "m");
    json_t *config = json_incref(answer_json(remote_get(c, "m", "/config")));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(remote_call(c, "PATCH", "m", "", rows[i].patch), rows[i].status,
                       rows[i].code, rows[i].part);
    assert_true(json_equal(config, answer_json(remote_get(c, "m", "/config"))));
    json_decref(config);
    assert_true(remote_number(c, "m", "revision") == 0);
    assert_same_state(remote_hash(c, "m"), before);
}

/* The same optimiser keeps its state, another one begins anew. */
static void patch_and_momentum(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "a", remote_mlp);
    remote_step(c, "a", 1, 4);
    answer_expect(remote_call(c, "POST", "a", "/clone", "{\"name\":\"b\"}"), 201);
    answer_expect(remote_call(c, "PATCH", "b", "", "{\"lr\":0.7,\"clip_grad_norm\":5}"), 200);
    assert_same_state(remote_hash(c, "a"), remote_hash(c, "b"));
    answer_expect(remote_call(c, "PATCH", "b", "", "{\"optimizer\":{\"op\":\"adam\"}}"), 200);
    assert_other_state(remote_hash(c, "a"), remote_hash(c, "b"));
    answer_expect(remote_call(c, "PATCH", "b", "", "{\"optimizer\":null}"), 200);
    assert_other_state(remote_hash(c, "a"), remote_hash(c, "b"));
}

/* Adam keeps two blocks more than SGD: where they do not fit, all stays as it was. */
static void patch_over_budget(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"shape\":[-1,1000]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":500}],\"loss\":\"mse\"}");
    struct remote_hash before = remote_hash(c, "m");
    double used = memory_used(c);
    answer_refused(remote_call(c, "PATCH", "m", "", "{\"optimizer\":{\"op\":\"adam\"}}"), 507,
                   "out_of_memory", "--max-memory");
    assert_true(memory_used(c) == used);
    assert_same_state(remote_hash(c, "m"), before);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.5}"), 200);
    assert_true(memory_used(c) == used);
}

/* ---- copying --------------------------------------------------------------------------------- */

/* Asks what class an input is of until told to stop; the label's number must be the revision. */
struct asker {
    const char *address;
    bool stop;
    int answers, mixed;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    struct client *c = client_create(a->address);
    while (!__atomic_load_n(&a->stop, __ATOMIC_ACQUIRE)) {
        struct answer *r = remote_post(c, "m", "infer",
                                       "{\"inputs\":[[1,2,3,4]],\"outputs\":[{\"name\":\"output\","
                                       "\"parameters\":{\"classification\":1}}]}");
        const char *label = strrchr(answer_string(r, "outputs.0.data.0"), '_');
        a->answers++;
        a->mixed += !label || atoi(label + 1) != (int)answer_number(r, "parameters.revision");
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

static void label(struct daemon *d, int i)
{
    char json[100];
    snprintf(json, sizeof json, "{\"labels\":[\"a_%d\",\"b_%d\",\"c_%d\"]}", i, i, i);
    answer_expect(remote_call(d->client, "PATCH", "m", "", json), 200);
}

/* Nobody sees the new revision with the old settings, even where each thread stands still whenever
 * it has let go of a lock. */
static void patched_at_once(struct daemon *d)
{
    if (!faults_possible())
        skip();
    struct faults *f = faults_start_slow(d);
    remote_create(d->client, "m", remote_mlp);
    label(d, 1);
    faults_arm_slow(f);
    struct asker a = {.address = d->address};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask, &a), 0);
    for (int i = 2; i < 22; i++)
        label(d, i);
    __atomic_store_n(&a.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    faults_disarm(f);
    faults_destroy(&f);
    assert_true(a.answers > 0);
    assert_int_equal(a.mixed, 0);
}

static void clone_whole(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "a", remote_cnn);
    remote_step(c, "a", 1, 36);
    answer_expect(remote_call(c, "PATCH", "a", "", "{\"lr\":0.05}"), 200);
    remote_post(c, "a", "forward_backward", remote_batch(c, 2, 4, 36, NULL));
    struct remote_hash before = remote_hash(c, "a");
    struct answer *a = remote_call(c, "POST", "a", "/clone", "{\"name\":\"b\"}");
    answer_expect(a, 201);
    assert_true(answer_number(a, "step") == 1 && answer_number(a, "draw") == 2);
    assert_same_state(remote_hash(c, "b"), before);
    remote_post(c, "b", "optim_step", NULL);
    double loss = answer_number(remote_step(c, "b", 3, 36), "loss");
    assert_same_state(remote_hash(c, "a"), before);
    a = remote_post(c, "a", "optim_step", NULL);
    assert_true(answer_number(a, "metrics.lr") == 0.05);
    assert_true(answer_number(remote_step(c, "a", 3, 36), "loss") == loss);
    assert_same_state(remote_hash(c, "a"), remote_hash(c, "b"));
}

/* The norms of the parameters, in their order. */
static void parameter_norms(struct client *c, const char *name, double norm[4])
{
    struct answer *a = remote_post(c, name, "gradients", remote_batch(c, 1, 4, 4, NULL));
    for (int i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "gradients.%d.parameter_norm", i);
        norm[i] = answer_number(a, path);
    }
}

static void clone_layers(struct daemon *d)
{
    struct client *c = d->client;
    double fresh[4], trained[4], copy[4];
    remote_create(c, "a", remote_mlp);
    parameter_norms(c, "a", fresh);
    for (unsigned i = 0; i < 3; i++)
        remote_step(c, "a", i, 4);
    parameter_norms(c, "a", trained);
    /* hidden.weight, hidden.bias, out.weight, out.bias */
    static const struct {
        const char *layers;
        bool taken[4];
    } rows[] = {
        {"[\"hidden\"]", {true, true, false, false}},
        {"[\"*.bias\",\"out.w*\"]", {false, true, true, true}},
        {"[\"*\"]", {true, true, true, true}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[96];
        snprintf(body, sizeof body, "{\"name\":\"b%zu\",\"layers\":%s}", i, rows[i].layers);
        struct answer *a = remote_call(c, "POST", "a", "/clone", body);
        answer_expect(a, 201);
        assert_true(answer_number(a, "step") == 0);
        parameter_norms(c, answer_string(a, "name"), copy);
        for (int k = 0; k < 4; k++)
            assert_true(copy[k] == (rows[i].taken[k] ? trained : fresh)[k]);
    }
}

/* A copy of a version has the state that a restore gives: moving statistics, pending gradients and
 * the optimiser's state, also when the model has another optimiser by now. */
static void clone_version(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "a", remote_cnn);
    remote_step(c, "a", 1, 36);
    remote_post(c, "a", "forward_backward", remote_batch(c, 2, 4, 36, NULL));
    answer_expect(remote_call(c, "POST", "a", "/versions", NULL), 201);
    answer_expect(remote_call(c, "PUT", "a", "/aliases/good", "{\"version\":1}"), 201);
    struct remote_hash then = remote_hash(c, "a");
    remote_post(c, "a", "optim_step", NULL);
    answer_expect(remote_call(c, "PATCH", "a", "", "{\"optimizer\":{\"op\":\"rmsprop\"}}"), 200);
    remote_step(c, "a", 3, 36);
    struct remote_hash now = remote_hash(c, "a");
    struct answer *a =
        remote_call(c, "POST", "a", "/clone", "{\"name\":\"b\",\"version\":\"good\"}");
    answer_expect(a, 201);
    assert_true(answer_number(a, "step") == 1 && answer_number(a, "revision") == 1);
    assert_true(json_is_true(answer_find(a, "gradients_pending")));
    answer_expect(remote_call(c, "POST", "a", "/clone", "{\"name\":\"c\",\"version\":1}"), 201);
    assert_same_state(remote_hash(c, "b"), then);
    assert_same_state(remote_hash(c, "a"), now);
    daemon_kill(d);
    daemon_start(d, d->flags);
    c = d->client;
    remote_post(c, "a", "versions/1/restore", NULL);
    static const char *const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        assert_same_state(remote_hash(c, names[i]), then);
        remote_post(c, names[i], "optim_step", NULL);
        remote_step(c, names[i], 4, 36);
        assert_same_state(remote_hash(c, names[i]), remote_hash(c, "a"));
    }
}

static void clone_layers_of_version(struct daemon *d)
{
    struct client *c = d->client;
    double fresh[4], then[4], copy[4];
    remote_create(c, "a", remote_mlp);
    parameter_norms(c, "a", fresh);
    remote_step(c, "a", 1, 4);
    answer_expect(remote_call(c, "POST", "a", "/versions", NULL), 201);
    parameter_norms(c, "a", then);
    remote_step(c, "a", 2, 4);
    answer_expect(remote_call(c, "POST", "a", "/clone",
                              "{\"name\":\"b\",\"layers\":[\"hidden\"],\"version\":1}"),
                  201);
    parameter_norms(c, "b", copy);
    for (int i = 0; i < 4; i++)
        assert_true(copy[i] == (i < 2 ? then : fresh)[i]);
}

static void clone_refused(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *body;
        int status;
        const char *code, *part;
    } rows[] = {
        {"{}", 400, "missing_field", "name"},
        {"{\"name\":1}", 400, "bad_type", "name"},
        {"{\"name\":\"a b\"}", 400, "bad_name", "name"},
        {"{\"name\":\"a\"}", 409, "model_exists", "'a'"},
        {"{\"name\":\"b\",\"layer\":[]}", 400, "unknown_field", "'layers'"},
        {"{\"name\":\"b\",\"layers\":[\"hiden\"]}", 422, "bad_value", "hiden"},
        {"{\"name\":\"b\",\"layers\":[\"hidden\",3]}", 400, "bad_type", "layers[1]"},
        {"{\"name\":\"b\",\"version\":1}", 404, "unknown_version", "1"},
        {"{\"name\":\"b\",\"layers\":[\"hidden\"],\"version\":7}", 404, "unknown_version", "7"},
        {"{\"name\":\"b\",\"version\":\"good\"}", 404, "unknown_alias", "good"},
        {"{\"name\":\"b\",\"version\":0}", 422, "bad_value", "from 1 or an alias"},
        {"{\"name\":\"b\",\"version\":1.5}", 400, "bad_type", "version"},
    };
    remote_create(c, "a", remote_mlp);
    double used = memory_used(c);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(remote_call(c, "POST", "a", "/clone", rows[i].body), rows[i].status,
                       rows[i].code, rows[i].part);
    answer_refused(remote_call(c, "GET", "b", "", NULL), 404, "unknown_model", "'b'");
    assert_true(memory_used(c) == used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(patch),
        DAEMON_TEST(patch_refused),
        DAEMON_TEST(patch_and_momentum),
        DAEMON_TEST(clone_whole),
        DAEMON_TEST(clone_layers),
        DAEMON_TEST(clone_version),
        DAEMON_TEST(clone_layers_of_version),
        DAEMON_TEST(clone_refused),
        DAEMON_TEST(patched_at_once),
        DAEMON_TEST(patch_over_budget, "--max-memory", "16M"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
