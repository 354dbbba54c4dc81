/* test_gradcheck.c: gradcheck finds that right gradients are right, in double precision; that one
 * which is not that of the value is not; and says "kink" where differences can tell nothing. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WITH(names) "\"parameters\":{" names "}"

static struct answer *check(struct client *c, const char *name, const char *batch)
{
    return remote_post(c, name, "gradcheck", batch);
}

static void all_agree(struct answer *a, int checked)
{
    if (!json_is_true(answer_find(a, "agrees")) || answer_number(a, "agreed") != checked)
        fail_msg("%.2000s", a->body);
    assert_true(answer_number(a, "checked") == checked && answer_number(a, "kinks") == 0);
    size_t i;
    json_t *row;
    json_array_foreach(answer_find(a, "parameters"), i, row)
    {
        json_t *worst = json_object_get(row, "worst");
        assert_true(json_is_true(json_object_get(row, "agrees")));
        assert_true(json_number_value(json_object_get(worst, "relative_error")) < 2e-6);
    }
}

/* Every element, by the rules of training (batch statistics, one draw of dropout) and by the
 * others; the loss is that of gradients but for float's rounding; nothing changes. */
static void right_is_right(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "mlp", remote_mlp);
    remote_create(c, "cnn", remote_cnn);
    remote_step(c, "cnn", 1, 36);
    struct remote_hash before = remote_hash(c, "cnn");
    all_agree(check(c, "mlp", remote_batch(c, 2, 6, 4, WITH("\"count\":1000"))), 67);
    struct answer *a = check(c, "cnn", remote_batch(c, 2, 6, 36, WITH("\"count\":1000")));
    all_agree(a, 40 + 8 + 4 * 9 * 3 + 3);
    double loss =
        answer_number(remote_post(c, "cnn", "gradients", remote_batch(c, 2, 6, 36, NULL)), "loss");
    assert_true(fabs(answer_number(a, "loss") - loss) < 1e-5 * loss);
    a = check(c, "cnn", remote_batch(c, 2, 6, 36, WITH("\"count\":1000,\"mode\":\"eval\"")));
    all_agree(a, 159);
    assert_true(fabs(answer_number(a, "loss") - loss) > 1e-5 * loss);
    assert_same_state(remote_hash(c, "cnn"), before);
}

/* A sequence of ids into an embedding: targets and inputs that are not numbers. */
static void integers(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"ids\",\"datatype\":\"INT64\",\"shape\":[-1,3]}],"
                  "\"layers\":[{\"name\":\"e\",\"op\":\"embedding\",\"num_embeddings\":5,"
                  "\"embedding_dim\":4},{\"op\":\"flatten\"},{\"op\":\"layer_norm\","
                  "\"normalized_shape\":12},{\"op\":\"gelu\"},{\"name\":\"o\",\"op\":\"linear\","
                  "\"out_features\":2}],\"loss\":\"cross_entropy\"}");
    struct answer *a = check(c, "m",
                             "{\"inputs\":[[0,1,2],[3,3,1]],\"targets\":[0,1],"
                             "\"parameters\":{\"count\":1000}}");
    all_agree(a, 20 + 24 + 26);
}

/* Of one (count, seed) always the same elements, of another seed others; only what wrt names. */
static void samples(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    const char *one = remote_batch(c, 2, 6, 4, WITH("\"count\":1,\"wrt\":[\"hidden.*\"]"));
    json_t *first = json_incref(answer_json(check(c, "m", one)));
    assert_int_equal(json_array_size(json_object_get(first, "parameters")), 2);
    assert_int_equal(json_integer_value(json_object_get(first, "checked")), 2);
    assert_true(json_equal(first, answer_json(check(c, "m", one))));
    bool differs = false;
    for (int seed = 1; seed < 5; seed++) {
        char more[128];
        snprintf(more, sizeof more, WITH("\"count\":1,\"wrt\":[\"hidden.*\"],\"seed\":%d"), seed);
        differs |= !json_equal(first, answer_json(check(c, "m", remote_batch(c, 2, 6, 4, more))));
    }
    assert_true(differs);
    json_decref(first);
    assert_true(answer_number(check(c, "m", remote_batch(c, 2, 6, 4, NULL)), "checked") ==
                4 + 4 + 4 + 3);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"frozen\":[\"out.*\"]}"), 200);
    assert_true(answer_number(check(c, "m", remote_batch(c, 2, 6, 4, NULL)), "checked") == 8);
}

/* Hidden numbers all at `bias`: relu has its kink at 0. */
static void kink_create(struct client *c, const char *name, const char *bias)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,2]}],\"layers\":[{\"name\":\"h\","
             "\"op\":\"linear\",\"out_features\":3,\"init\":{\"weight\":\"zeros\",\"bias\":{"
             "\"op\":\"constant\",\"value\":%s}}},{\"op\":\"relu\"},{\"name\":\"o\",\"op\":"
             "\"linear\",\"out_features\":2}],\"loss\":\"cross_entropy\",\"seed\":4}",
             bias);
    remote_create(c, name, text);
}

static void kinks(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch =
        "{\"inputs\":[[1,2],[2,1]],\"targets\":[0,0],\"parameters\":{\"count\":100}}";
    kink_create(c, "at", "0");
    struct answer *a = check(c, "at", batch);
    assert_true(json_is_true(answer_find(a, "agrees")));
    assert_true(answer_number(a, "kinks") == 9 && answer_number(a, "agreed") == 8);
    assert_true(answer_number(a, "parameters.0.kinks") == 6);
    assert_null(answer_find(a, "parameters.0.worst"));
    /* Less than a step away, but more than the shorter one: the shorter one tells. */
    kink_create(c, "near", "5e-7");
    all_agree(check(c, "near", batch), 17);
    /* Within the shorter one too, but not at it. */
    kink_create(c, "nearer", "5e-8");
    a = check(c, "nearer", batch);
    assert_true(answer_number(a, "kinks") == 9 && answer_number(a, "disagreed") == 0);
    kink_create(c, "far", "0.1");
    all_agree(check(c, "far", batch), 17);
}

/* A detector's loss holds its assignment of targets constant, so that its gradient is not that of
 * its value: where that shows, gradcheck must see it, and say why it may be. */
static void other_gradients_are_seen(struct daemon *d)
{
    struct client *c = d->client;
    struct text t = {0};
    remote_create(c, "m",
                  "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":2,\"image_size\":64},"
                  "\"seed\":1}");
    text_add(&t, "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,3,64,64],\"datatype\":\"FP32\","
                 "\"data\":[0");
    for (int i = 1; i < 3 * 64 * 64; i++)
        text_add(&t, ",%.3f", (i * 37 % 101) / 101.0);
    text_add(&t, "]}],\"targets\":[{\"name\":\"boxes\",\"boxes\":[[{\"category\":0,\"bbox\":"
                 "[10,12,30,28]}]]}],\"parameters\":{\"wrt\":[\"model.19*\",\"model.0.*\"],"
                 "\"count\":2}}");
    struct answer *a = check(c, "m", t.data);
    text_free(&t);
    assert_true(json_is_false(answer_find(a, "agrees")));
    assert_true(answer_number(a, "disagreed") > 0);
    assert_string_equal(answer_string(a, "detaches"), "yolo_detection");
    assert_true(json_is_false(answer_find(a, "parameters.0.agrees")));
    assert_true(answer_number(a, "parameters.0.worst.relative_error") > 1e-5);
}

/* A row of padding has no gradient by design, though the loss depends on it: that is no fault. */
static void padding(struct daemon *d)
{
    static const char batch[] = "{\"inputs\":[{\"data\":[[0,1,2],[3,2,1]]}],\"targets\":[0,1],"
                                "\"parameters\":{\"count\":1000}}";
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"ids\",\"datatype\":\"INT64\",\"shape\":[-1,3]}],"
                  "\"layers\":[{\"name\":\"e\",\"op\":\"embedding\",\"num_embeddings\":4,"
                  "\"embedding_dim\":5,\"padding_idx\":2},{\"op\":\"flatten\"},{\"op\":\"linear\","
                  "\"out_features\":2}],\"loss\":\"cross_entropy\"}");
    struct answer *a = check(c, "m", batch);
    all_agree(a, 15 + 30 + 2);
    assert_true(answer_number(a, "padding") == 5);
    assert_true(answer_number(a, "parameters.0.padding") == 5);
    assert_null(answer_find(a, "parameters.1.padding"));
}

static void refusals(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *parameters, *slug, *part;
        int status;
    } rows[] = {{"\"count\":0", "bad_value", "count", 422},
                {"\"count\":2.5", "bad_type", "count", 400},
                {"\"eps\":0", "bad_value", "eps", 422},
                {"\"eps\":1", "bad_value", "eps", 422},
                {"\"tolerance\":-1", "bad_value", "tolerance", 422},
                {"\"mode\":\"test\"", "bad_value", "mode", 422},
                {"\"wrt\":[\"hiden.weight\"]", "bad_value", "did you mean 'hidden.weight'", 422},
                {"\"wrt\":[1]", "bad_type", "wrt[0]", 400},
                {"\"wrt\":\"out.*\"", "bad_type", "wrt", 400},
                {"\"step\":1", "unknown_field", "step", 400}};
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char more[128];
        snprintf(more, sizeof more, WITH("%s"), rows[i].parameters);
        answer_refused(remote_call(c, "POST", "m", "/gradcheck", remote_batch(c, 1, 4, 4, more)),
                       rows[i].status, rows[i].slug, rows[i].part);
    }
    remote_create(
        c, "large",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,400]}],\"layers\":[{\"op\":\"linear\","
        "\"out_features\":400}],\"loss\":\"mse\"}");
    struct text t = {0};
    text_add(&t,
             "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,400],\"datatype\":\"FP32\",\"data\":[0");
    for (int i = 1; i < 400; i++)
        text_add(&t, ",0");
    text_add(&t, "]}],\"targets\":[[0");
    for (int i = 1; i < 400; i++)
        text_add(&t, ",0");
    text_add(&t, "]],\"parameters\":{\"count\":100000}}");
    answer_refused(remote_call(c, "POST", "large", "/gradcheck", t.data), 422, "too_large",
                   "100400 elements");
    text_free(&t);
    remote_create(c, "none",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":3}]}");
    struct answer *a = remote_call(c, "POST", "none", "/gradcheck", remote_batch(c, 1, 4, 4, NULL));
    assert_true(a->status >= 400 && a->status < 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(right_is_right),
        DAEMON_TEST(integers),
        DAEMON_TEST(samples),
        DAEMON_TEST(kinks),
        DAEMON_TEST(other_gradients_are_seen),
        DAEMON_TEST(padding),
        DAEMON_TEST(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
