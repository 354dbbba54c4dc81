/* test_models.c: models as things: creating, describing, listing, deleting. A PUT is idempotent and
 * never wipes. Changing and copying them is in test_changes.c. */
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- creating -------------------------------------------------------------------------------- */

static void create_again(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct remote_hash fresh = remote_hash(c, "m");
    answer_expect(remote_call(c, "PUT", "m", "", remote_mlp), 200);
    assert_same_state(remote_hash(c, "m"), fresh);
    remote_step(c, "m", 1, 4);
    struct remote_hash trained = remote_hash(c, "m");
    assert_other_state(trained, fresh);
    struct answer *a = remote_call(c, "PUT", "m", "", remote_mlp);
    answer_expect(a, 200);
    assert_true(answer_number(a, "step") == 1);
    answer_refused(remote_call(c, "PUT", "m", "", remote_cnn), 409, "model_exists", "'m'");
    answer_refused(remote_call(c, "PUT", "m", "", "{\"layers\":[]}"), 400, "missing_field",
                   "inputs");
    assert_same_state(remote_hash(c, "m"), trained);
}

/* The description that config gives, with all defaults written out, is the same description. */
static void expanded_is_the_same(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const given[] = {remote_scalar, remote_mlp, remote_cnn};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        char name[8];
        snprintf(name, sizeof name, "m%zu", i);
        remote_create(c, name, given[i]);
        json_t *full = answer_find(remote_get(c, name, "/config"), "description");
        assert_non_null(json_object_get(full, "targets"));
        assert_non_null(json_object_get(json_object_get(full, "optimizer"), "lr"));
        char *text = json_dumps(full, 0);
        answer_expect(remote_call(c, "PUT", name, "", text), 200);
        free(text);
    }
}

/* Fused layers are one step; convolutions say how they are computed, and a layer may refuse
 * Winograd's algorithm. */
static void plan_shown(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,16,16,16]}],\"layers\":["
                  "{\"name\":\"a\",\"op\":\"conv2d\",\"out_channels\":16,\"kernel_size\":3,"
                  "\"padding\":1},{\"name\":\"b\",\"op\":\"batch_norm2d\"},{\"op\":\"relu\"},"
                  "{\"name\":\"c\",\"op\":\"conv2d\",\"out_channels\":16,\"kernel_size\":3,"
                  "\"padding\":1,\"winograd\":false},{\"op\":\"flatten\"},"
                  "{\"op\":\"linear\",\"out_features\":2}],\"loss\":\"cross_entropy\"}");
    assert_null(answer_find(remote_get(c, "m", "/config"), "plan"));
    struct answer *a = remote_get(c, "m", "/config?plan=1");
    static const char *const purposes[] = {"infer", "train"};
    for (int i = 0; i < 2; i++) {
        json_t *step, *plan = json_object_get(answer_find(a, "plan"), purposes[i]);
        const char *found[3] = {"", "", ""};
        bool whole = false;
        size_t k;
        json_array_foreach(plan, k, step)
        {
            const char *name = json_string_value(json_object_get(step, "name"));
            json_t *algorithm = json_object_get(step, "algorithm");
            /* A change of layout behind a layer has its name too. */
            if (name[0] && strchr("abc", name[0]) && !name[1] && !found[name[0] - 'a'][0])
                found[name[0] - 'a'] =
                    json_string_value(algorithm ? algorithm : json_object_get(step, "op"));
            const char *op = json_string_value(json_object_get(step, "op"));
            assert_string_not_equal(op, "relu");
            whole |= strcmp(op, "conv2d+batch_norm2d+relu") == 0 && strcmp(name, "a") == 0;
            if (algorithm)
                assert_true((json_integer_value(json_object_get(step, "prepared_bytes")) > 0) ==
                            (i == 0));
        }
        assert_string_equal(found[0], "winograd");
        assert_string_equal(found[1], i == 0 ? "" : "batch_norm_relu");
        assert_int_equal(whole, i == 0);
        assert_string_equal(found[2], "direct");
    }
    answer_refused(remote_call(c, "GET", "m", "/config?plan=2", NULL), 400, "bad_query", "plan");
}

static int steps_again(struct client *c, const char *name, const char *purpose)
{
    json_t *step;
    size_t k;
    int n = 0;
    json_array_foreach(
        json_object_get(answer_find(remote_get(c, name, "/config?plan=1"), "plan"), purpose), k,
        step) n += json_is_true(json_object_get(step, "recompute"));
    return n;
}

/* Blocks that are computed again: shown, the same bits, part of the description. */
static void recompute(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const text =
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,6]}],\"layers\":["
        "{\"op\":\"linear\",\"out_features\":32%s},{\"op\":\"tanh\"%s},{\"op\":\"dropout\"%s},"
        "{\"op\":\"linear\",\"out_features\":3}],\"loss\":\"cross_entropy\"}";
    static const char *const ways[] = {"", ",\"recompute\":true", ",\"recompute\":\"a.1\""};
    static const char *const step = "{\"inputs\":[[1,2,3,4,5,6],[0,1,0,1,0,1]],\"targets\":[2,0]}";
    char names[3][16], description[1000];
    for (int i = 0; i < 3; i++) {
        snprintf(names[i], sizeof names[i], "r%d", i);
        snprintf(description, sizeof description, text, ways[i], ways[i], ways[i]);
        remote_create(c, names[i], description);
        answer_expect(remote_call(c, "PUT", names[i], "", description), 200);
        for (int k = 0; k < 3; k++)
            remote_post(c, names[i], "train_step", step);
        assert_int_equal(steps_again(c, names[i], "infer"), 0);
        assert_int_equal(steps_again(c, names[i], "train"), i ? 2 : 0);
    }
    assert_same_state(remote_hash(c, "r0"), remote_hash(c, "r1"));
    assert_same_state(remote_hash(c, "r0"), remote_hash(c, "r2"));
    snprintf(description, sizeof description, text, ",\"recompute\":\"a b\"", "", "");
    answer_refused(remote_call(c, "PUT", "r3", "", description), 400, "bad_name",
                   "layers[0].recompute");
    snprintf(description, sizeof description, text, ",\"recompute\":1", "", "");
    answer_refused(remote_call(c, "PUT", "r3", "", description), 400, "bad_type",
                   "layers[0].recompute");
}

/* What torch's constructors are told, and padding in torch's word: the same model as without. */
static void torch_arguments(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const ways[] = {"\"padding\":\"same\",\"in_channels\":2",
                                       "\"in_channels\":2,\"padding\":\"same\"",
                                       "\"padding\":\"same\"", "\"padding\":[1,4]"};
    double first[2 * 3 * 5 * 6], other[2 * 3 * 5 * 6];
    char description[300], name[8];
    struct text question = {0};
    text_add(&question, "{\"inputs\":[{\"shape\":[2,2,5,6],\"data\":[");
    for (int i = 0; i < 2 * 2 * 5 * 6; i++)
        text_add(&question, "%s%d", i ? "," : "", i * 7 % 11);
    text_add(&question, "]}]}");
    for (int i = 0; i < 4; i++) {
        snprintf(description, sizeof description,
                 "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,2,5,6]}],\"layers\":[{\"op\":"
                 "\"conv2d\",\"out_channels\":3,\"kernel_size\":[3,5],\"dilation\":[1,2],%s}],"
                 "\"seed\":5}",
                 ways[i]);
        snprintf(name, sizeof name, "m%d", i == 3);
        answer_expect(remote_call(c, "PUT", name, "", description), i == 0 || i == 3 ? 201 : 200);
        struct answer *a = remote_post(c, name, "infer", question.data);
        remote_numbers(a, "outputs.0.data", i ? other : first, 180);
        if (i)
            assert_memory_equal(first, other, sizeof first);
    }
    assert_null(strstr(remote_get(c, "m0", "/config")->body, "in_channels"));
    text_free(&question);
}

static void same_seed_same_model(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "a", remote_cnn);
    remote_create(c, "b", remote_cnn);
    assert_same_state(remote_hash(c, "a"), remote_hash(c, "b"));
    remote_step(c, "a", 1, 36);
    remote_step(c, "b", 1, 36);
    assert_same_state(remote_hash(c, "a"), remote_hash(c, "b"));
}

static void names(struct daemon *d)
{
    struct client *c = d->client;
    char longest[130] = "";
    memset(longest, 'n', 128);
    static const char *const good[] = {"a", "...", "-", "A.b-c_9", "versions", "0"};
    static const char *const bad[] = {"a%20b", "%2e%2e", "..", "a%2Fb", "%C3%A4", "a%27b", "a%0a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        remote_create(c, good[i], remote_scalar);
        assert_string_equal(answer_string(remote_get(c, good[i], ""), "name"), good[i]);
    }
    remote_create(c, longest, remote_scalar);
    longest[128] = 'n';
    answer_refused(remote_call(c, "PUT", longest, "", remote_scalar), 400, "bad_name", "128");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        answer_refused(remote_call(c, "PUT", bad[i], "", remote_scalar), 400, "bad_name", NULL);
    /* What stands in the place of a name in another path. */
    answer_refused(remote_call(c, "PUT", "stats", "", remote_scalar), 400, "bad_name",
                   "GET /v2/models/stats is a path");
    answer_refused(remote_call(c, "POST", "a", "/clone", "{\"name\":\"stats\"}"), 400, "bad_name",
                   "'stats'");
    remote_create(c, "stat", remote_scalar);
}

/* ---- describing ------------------------------------------------------------------------------ */

static void metadata(struct daemon *d)
{
    struct client *c = d->client;
    struct answer *a = remote_create(c, "m", remote_cnn);
    assert_string_equal(answer_string(a, "name"), "m");
    assert_int_equal(json_array_size(answer_find(a, "versions")), 0);
    assert_string_equal(answer_string(a, "inputs.0.name"), "image");
    assert_string_equal(answer_string(a, "inputs.0.datatype"), "FP32");
    assert_true(answer_number(a, "inputs.0.shape.0") == -1);
    assert_true(answer_number(a, "inputs.0.shape.3") == 6);
    assert_string_equal(answer_string(a, "outputs.0.name"), "output");
    assert_string_equal(answer_string(a, "outputs_on_request.0.name"), "probabilities");
    assert_string_equal(answer_string(a, "targets.0.datatype"), "INT64");
    static const char *const zero[] = {"step", "revision", "draw"};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        assert_true(answer_number(a, zero[i]) == 0);
    assert_true(json_is_false(answer_find(a, "gradients_pending")));
    assert_true(json_is_null(answer_find(a, "last_loss")));
    /* conv 4*9+4, batch norm 4+4, fc 36*3+3 */
    assert_true(answer_number(a, "parameter_count") == 40 + 8 + 111);
    assert_true(answer_number(a, "flops_per_sample") >= 2 * (4 * 9 * 36 + 36 * 3));
    remote_post(c, "m", "forward_backward", remote_batch(c, 1, 4, 36, NULL));
    a = remote_get(c, "m", "");
    assert_true(json_is_true(answer_find(a, "gradients_pending")));
    assert_true(answer_number(a, "last_loss") > 0);
    answer_refused(remote_call(c, "GET", "m", "?sha=1", NULL), 400, "bad_query", "state_sha256");
    answer_refused(remote_call(c, "GET", "m", "?state_sha256=2", NULL), 400, "bad_query", "2");
    assert_null(answer_find(remote_get(c, "m", "?state_sha256=false"), "state_sha256"));
    a = remote_get(c, "m", "/ready");
    assert_true(json_is_true(answer_find(a, "ready")));
}

static void config(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"frozen\":[\"conv.*\"]}"), 200);
    struct answer *a = remote_get(c, "m", "/config");
    assert_string_equal(answer_string(a, "description.frozen.0"), "conv.*");
    assert_string_equal(answer_string(a, "layers.0.name"), "conv");
    assert_string_equal(answer_string(a, "layers.0.op"), "conv2d");
    assert_true(answer_number(a, "layers.0.output_shape.1") == 4);
    assert_true(answer_number(a, "layers.0.parameter_count") == 40);
    assert_string_equal(answer_string(a, "parameters.0.name"), "conv.weight");
    assert_true(answer_number(a, "parameters.0.shape.3") == 3);
    assert_true(json_is_true(answer_find(a, "parameters.0.frozen")));
    size_t i, buffers = 0, frozen = 0;
    json_t *p;
    json_array_foreach(answer_find(a, "parameters"), i, p)
    {
        buffers += json_is_true(json_object_get(p, "buffer"));
        frozen += json_is_true(json_object_get(p, "frozen"));
    }
    assert_true(buffers >= 2);
    assert_int_equal(frozen, 2);
}

static void lists(struct daemon *d)
{
    struct client *c = d->client;
    assert_int_equal(json_array_size(answer_find(client_get(c, "/v2/models"), "models")), 0);
    remote_create(c, "b", remote_mlp);
    remote_create(c, "a", remote_scalar);
    remote_create(c, "c", remote_cnn);
    remote_step(c, "b", 1, 4);
    struct answer *a = client_get(c, "/v2/models");
    assert_int_equal(json_array_size(answer_find(a, "models")), 3);
    assert_string_equal(answer_string(a, "models.0.name"), "a");
    assert_string_equal(answer_string(a, "models.2.name"), "c");
    assert_true(answer_number(a, "models.1.step") == 1);
    assert_true(answer_number(a, "models.1.last_loss") > 0);
    a = client_post(c, "/v2/repository/index", NULL);
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_json(a)), 3);
    assert_string_equal(answer_string(a, "1.name"), "b");
    assert_string_equal(answer_string(a, "1.state"), "READY");
    answer_expect(client_post(c, "/v2/repository/index", "{\"ready\":true}"), 200);
    answer_refused(client_post(c, "/v2/repository/index", "{\"ready\":1}"), 400, "bad_type",
                   "ready");
}

static double memory_used(struct client *c)
{
    return answer_number(client_get(c, "/v2"), "memory_used_bytes");
}

static void memory(struct daemon *d)
{
    struct client *c = d->client;
    double before = memory_used(c);
    struct answer *a = remote_create(c, "m", remote_cnn);
    double model = answer_number(a, "memory_bytes.model");
    assert_true(model >= 159 * 4 * 3);
    assert_true(memory_used(c) == before + model);
    static const char *const uses[][2] = {{"infer_batch_1", "infer_batch_32"},
                                          {"train_batch_1", "train_batch_32"},
                                          {"infer_batch_32", "train_batch_32"}};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        char less[64], more[64];
        snprintf(less, sizeof less, "memory_bytes.%s", uses[i][0]);
        snprintf(more, sizeof more, "memory_bytes.%s", uses[i][1]);
        assert_true(answer_number(a, less) > 0 && answer_number(a, less) < answer_number(a, more));
    }
    remote_step(c, "m", 1, 36);
    assert_true(memory_used(c) > before + model);
    /* Another optimiser's state is counted too. */
    a = remote_call(c, "PATCH", "m", "", "{\"optimizer\":{\"op\":\"sgd\",\"lr\":1}}");
    answer_expect(a, 200);
    assert_true(answer_number(a, "memory_bytes.model") < model);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"optimizer\":null}"), 200);
    assert_true(remote_number(c, "m", "memory_bytes.model") == model);
    answer_expect(remote_call(c, "DELETE", "m", "", NULL), 200);
    assert_true(memory_used(c) == before);
}

/* ---- deleting -------------------------------------------------------------------------------- */

static void delete_and_create(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct remote_hash fresh = remote_hash(c, "m");
    remote_step(c, "m", 1, 4);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    answer_refused(remote_call(c, "DELETE", "m", "?force=1", NULL), 400, "bad_query", "force");
    struct answer *a = remote_call(c, "DELETE", "m", "", NULL);
    answer_expect(a, 200);
    assert_string_equal(answer_string(a, "deleted"), "m");
    answer_refused(remote_call(c, "DELETE", "m", "", NULL), 404, "unknown_model", "'m'");
    answer_refused(remote_call(c, "GET", "m", "/versions", NULL), 404, "unknown_model", NULL);
    answer_refused(remote_call(c, "POST", "m", "/infer", "{}"), 404, "unknown_model", NULL);
    remote_create(c, "m", remote_mlp);
    assert_same_state(remote_hash(c, "m"), fresh);
    a = remote_get(c, "m", "/metrics");
    assert_int_equal(json_object_size(answer_find(a, "series")), 0);
    a = remote_get(c, "m", "/versions");
    assert_int_equal(json_array_size(answer_find(a, "versions")), 0);
}

static void too_many(struct daemon *d)
{
    remote_create(d->client, "a", remote_scalar);
    remote_create(d->client, "b", remote_scalar);
    answer_refused(remote_call(d->client, "PUT", "c", "", remote_scalar), 507, "out_of_memory",
                   "--max-models");
    answer_expect(remote_call(d->client, "DELETE", "a", "", NULL), 200);
    remote_create(d->client, "c", remote_scalar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(create_again),
        DAEMON_TEST(expanded_is_the_same),
        DAEMON_TEST(plan_shown),
        DAEMON_TEST(recompute),
        DAEMON_TEST(torch_arguments),
        DAEMON_TEST(same_seed_same_model),
        DAEMON_TEST(names),
        DAEMON_TEST(metadata),
        DAEMON_TEST(config),
        DAEMON_TEST(lists),
        DAEMON_TEST(memory),
        DAEMON_TEST(delete_and_create),
        DAEMON_TEST(too_many, "--max-models", "2"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
