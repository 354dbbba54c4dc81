/* test_diagnosis.c: each rule of the diagnosis sees its trouble, and leaves a healthy net in peace.
 */
#include "signals_fixture.h"

/* Stem, `depth` times linear and sigmoid, head; `residual`: batch norm before each sigmoid, and
 * each added to what came before. */
static void deep_create(struct client *c, const char *name, int depth, bool residual)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":["
                 "{\"name\":\"stem\",\"op\":\"linear\",\"out_features\":32}");
    for (int i = 0; i < depth; i++) {
        text_add(&t, ",{\"name\":\"l%d\",\"op\":\"linear\",\"out_features\":32}", i);
        if (residual)
            text_add(&t, ",{\"name\":\"bn%d\",\"op\":\"batch_norm1d\"}", i);
        text_add(&t, ",{\"name\":\"a%d\",\"op\":\"sigmoid\"}", i);
        if (residual && i)
            text_add(&t, ",{\"name\":\"s%d\",\"op\":\"add\",\"inputs\":[\"a%d\",\"s%d\"]}", i, i,
                     i - 1);
        else if (residual)
            text_add(&t, ",{\"name\":\"s0\",\"op\":\"add\",\"inputs\":[\"a0\",\"stem\"]}");
    }
    text_add(&t, ",{\"name\":\"head\",\"op\":\"linear\",\"out_features\":3}],"
                 "\"loss\":\"cross_entropy\",\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01},"
                 "\"seed\":3}");
    remote_create(c, name, t.data);
    text_free(&t);
}

/* The finding of this problem; NULL: none. */
static json_t *finding(struct answer *a, const char *problem)
{
    size_t i;
    json_t *item;
    json_array_foreach(answer_find(a, "diagnosis"), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "problem")), problem) == 0)
            return item;
    }
    return NULL;
}

static double figure(json_t *f, const char *name)
{
    return json_number_value(json_object_get(json_object_get(f, "figures"), name));
}

static json_t *found(struct answer *a, const char *problem, const char *layer)
{
    json_t *f = finding(a, problem);
    if (!f)
        fail_msg("no %s: %s", problem, json_dumps(answer_find(a, "diagnosis"), 0));
    assert_string_equal(json_string_value(json_object_get(f, "layer")), layer);
    assert_non_null(strstr(json_string_value(json_object_get(f, "says")), layer));
    assert_true(strlen(json_string_value(json_object_get(f, "helps"))) > 10);
    assert_true(json_array_size(json_object_get(f, "layers")) > 0);
    return f;
}

static void healthy(struct answer *a)
{
    if (json_array_size(answer_find(a, "diagnosis")))
        fail_msg("%s", json_dumps(answer_find(a, "diagnosis"), 0));
}

/* Fifty sigmoids: at each layer the gradient shrinks about sevenfold, the stem gets nothing that
 * float32 can hold. With residual connections and batch norm the stem gets more than a 200th of
 * what the head gets, and no layer less than a thousandth; so at the start, so after training. */
static void fifty_layers(struct daemon *d)
{
    struct client *c = d->client;
    deep_create(c, "sigmoid", 50, false);
    deep_create(c, "residual", 50, true);
    for (int round = 0; round < 2; round++) {
        struct answer *a = ask(c, "sigmoid", 32);
        json_t *f = found(a, "vanishing_gradients", "stem");
        assert_true(figure(f, "ratio") < 1e-30);
        assert_true(json_array_size(json_object_get(f, "layers")) > 40);
        assert_true(named_number(a, "layers", "l10", "gradient_norm") <
                    1e-20 * named_number(a, "layers", "head", "gradient_norm"));
        assert_null(finding(a, "learning_rate_too_low")); /* follows from it */
        a = ask(c, "residual", 32);
        healthy(a);
        double head = named_number(a, "layers", "head", "gradient_norm");
        assert_true(named_number(a, "layers", "stem", "gradient_norm") > 0.005 * head);
        for (int i = 0; i < 50; i++) {
            char name[16];
            snprintf(name, sizeof name, "l%d", i);
            assert_true(named_number(a, "layers", name, "gradient_norm") > 1e-3 * head);
        }
        for (int i = 0; i < 10; i++) {
            remote_post(c, "sigmoid", "train_step", remote_batch(c, 1, 32, 4, NULL));
            remote_post(c, "residual", "train_step", remote_batch(c, 1, 32, 4, NULL));
        }
    }
}

/* tanh with weights so large that the backward grows at each layer while the forward is bounded. */
static void exploding(struct daemon *d)
{
    struct client *c = d->client;
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":["
                 "{\"name\":\"stem\",\"op\":\"linear\",\"out_features\":32}");
    for (int i = 0; i < 40; i++)
        text_add(&t,
                 ",{\"name\":\"l%d\",\"op\":\"linear\",\"out_features\":32,\"init\":{\"weight\":"
                 "{\"op\":\"normal\",\"std\":0.8}}},{\"name\":\"a%d\",\"op\":\"tanh\"}",
                 i, i);
    text_add(&t, ",{\"name\":\"head\",\"op\":\"linear\",\"out_features\":3}],"
                 "\"loss\":\"cross_entropy\",\"optimizer\":{\"op\":\"sgd\",\"lr\":1e-9},"
                 "\"seed\":3,\"signals\":{\"every\":1}}");
    remote_create(c, "m", t.data);
    text_free(&t);
    struct answer *a = ask(c, "m", 32);
    json_t *f = finding(a, "exploding_gradients");
    assert_non_null(f);
    assert_true(figure(f, "ratio") > 1e3);
    assert_true(figure(f, "gradient_norm") >
                1e3 * named_number(a, "layers", "head", "gradient_norm"));
    assert_null(finding(a, "vanishing_gradients"));
    remote_post(c, "m", "train_step", remote_batch(c, 1, 32, 4, NULL));
    assert_non_null(finding(remote_get(c, "m", "/signals"), "exploding_gradients"));
}

/* A gradient that is large beside the weights is one too, whatever the depth. */
static void exploding_beside_the_weights(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"name\":\"grow\","
                  "\"op\":\"mul\",\"inputs\":[\"x\",\"x\"]},{\"name\":\"out\",\"op\":\"linear\","
                  "\"out_features\":3}],\"loss\":\"cross_entropy\",\"seed\":1}");
    const char *body = "{\"inputs\":[[300,1,1,1],[1,300,1,1]],\"targets\":[0,1],"
                       "\"parameters\":{\"signals\":true}}";
    json_t *f = found(remote_post(c, "m", "gradients", body), "exploding_gradients", "out");
    assert_true(figure(f, "ratio") > 1e3 && figure(f, "weight_norm") > 0);
}

static void dead_and_saturated(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "dead", KNOWN("relu", "-2"));
    json_t *f = found(ask(c, "dead", 16), "dead_relus", "act");
    assert_true(figure(f, "dead_share") == 1 && figure(f, "numbers_per_unit") == 16);
    close_to(figure(f, "limit"), 0.4 + 0.6 * pow(0.98, 16), 1e-12); /* some are silent by chance */
    assert_null(finding(ask(c, "dead", 15), "dead_relus"));         /* too few numbers to be sure */
    remote_create(c, "flat", KNOWN("tanh", "4"));
    f = found(ask(c, "flat", 4), "saturated_units", "act");
    assert_true(figure(f, "saturated_share") == 1);
    remote_create(c, "alive", KNOWN("relu", "0.1"));
    assert_null(finding(ask(c, "alive", 16), "dead_relus"));
}

/* Channels of an image are units, whichever way the image lies in memory. */
static void dead_channels(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,1,6,6]}],\"layers\":["
                  "{\"name\":\"conv\",\"op\":\"conv2d\",\"out_channels\":2,\"kernel_size\":1,"
                  "\"bias\":false,\"init\":{\"weight\":\"zeros\"}},{\"name\":\"both\",\"op\":"
                  "\"concat\",\"inputs\":[\"conv\",\"image\"],\"dim\":1},{\"name\":\"act\","
                  "\"op\":\"relu\"},{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"
                  "\"loss\":\"cross_entropy\"}");
    struct answer *a =
        remote_post(c, "m", "gradients", remote_batch(c, 1, 4, 36, WITH("\"signals\":true")));
    close_to(named_number(a, "layers", "act", "dead_share"), 2.0 / 3, 1e-12);
    assert_true(figure(found(a, "dead_relus", "act"), "numbers_per_unit") == 4 * 36);
}

static void learning_rate(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    healthy(ask(c, "m", 16)); /* lr 0.1 */
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":20}"), 200);
    json_t *f = finding(ask(c, "m", 16), "learning_rate_too_high");
    assert_non_null(f);
    assert_true(figure(f, "median_update_ratio") > 0.1);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":1e-6}"), 200);
    f = finding(ask(c, "m", 16), "learning_rate_too_low");
    assert_non_null(f);
    assert_true(figure(f, "median_update_ratio") < 1e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(fifty_layers),
        DAEMON_TEST(exploding),
        DAEMON_TEST(exploding_beside_the_weights),
        DAEMON_TEST(dead_and_saturated),
        DAEMON_TEST(dead_channels),
        DAEMON_TEST(learning_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
