/* test_augment.c: augmentation over HTTP: what the model sees is what /augment shows, gradients are
 * those of train_step, the same requests give the same state, class indices become probabilities
 * where samples are mixed, and everything that cannot be is refused with its place. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5, PIXELS = 36, CLASSES = 3 };

#define MODEL_BEGIN                                                                                \
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,1,6,6]}],\"layers\":[{\"op\":\"flatten\"},"    \
    "{\"name\":\"out\",\"op\":\"linear\",\"out_features\":3}],\"loss\":\"cross_entropy\","         \
    "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1},\"seed\":4"
static const char mixing[] =
    MODEL_BEGIN ",\"augment\":[{\"op\":\"random_crop\",\"padding\":1},\"hflip\",\"mixup\"]}";
static const char moving[] =
    MODEL_BEGIN ",\"augment\":[{\"op\":\"affine\",\"degrees\":20,\"scale\":0.2},\"hflip\"]}";
static const char plain[] = MODEL_BEGIN "}";

/* ---- soft labels by hand --------------------------------------------------------------------- */

struct seen {
    double x[N * PIXELS], y[N * CLASSES], logits[N * CLASSES];
};

/* What /augment shows of the batch, and what the model predicts of it. */
static void see(struct client *c, const char *name, const char *batch, struct seen *s)
{
    struct text body = {0};
    struct answer *a = remote_post(c, name, "augment", batch);
    assert_int_equal(remote_numbers(a, "inputs.0.data", s->x, N * PIXELS), N * PIXELS);
    assert_int_equal(remote_numbers(a, "targets.0.data", s->y, N * CLASSES), N * CLASSES);
    text_add(&body, "{\"inputs\":[{\"shape\":[%d,1,6,6],\"datatype\":\"FP32\",\"data\":[", N);
    for (int i = 0; i < N * PIXELS; i++)
        text_add(&body, "%s%.9g", i ? "," : "", s->x[i]);
    text_add(&body, "]}]}");
    a = remote_post(c, name, "infer", body.data);
    assert_int_equal(remote_numbers(a, "outputs.0.data", s->logits, N * CLASSES), N * CLASSES);
    text_free(&body);
}

/* Mean cross entropy and its gradient by the logits' bias. */
static double loss_by_hand(const struct seen *s, double gradient_r[CLASSES])
{
    double loss = 0;
    memset(gradient_r, 0, CLASSES * sizeof *gradient_r);
    for (int i = 0; i < N; i++) {
        double sum = 0, all = 0;
        for (int k = 0; k < CLASSES; k++) {
            sum += exp(s->logits[i * CLASSES + k]);
            all += s->y[i * CLASSES + k];
        }
        assert_true(fabs(all - 1) < 1e-6);
        for (int k = 0; k < CLASSES; k++) {
            const double p = exp(s->logits[i * CLASSES + k]) / sum;
            loss -= s->y[i * CLASSES + k] * log(p) / N;
            gradient_r[k] += (p - s->y[i * CLASSES + k]) / N;
        }
    }
    return loss;
}

static void soft_labels_by_hand(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", mixing);
    for (unsigned seed = 1; seed <= 3; seed++) {
        const char *batch = remote_batch(c, seed, N, PIXELS, NULL);
        const char *ask = remote_batch(c, seed, N, PIXELS,
                                       "\"parameters\":{\"wrt\":[\"out.bias\"],\"values\":true}");
        struct seen s;
        double want[CLASSES], got[CLASSES];
        see(c, "m", batch, &s);
        const double loss = loss_by_hand(&s, want);
        struct answer *a = remote_post(c, "m", "gradients", ask);
        assert_true(fabs(answer_number(a, "loss") - loss) < 1e-5);
        assert_int_equal(remote_numbers(a, "gradients.0.data", got, CLASSES), CLASSES);
        for (int k = 0; k < CLASSES; k++)
            assert_true(fabs(got[k] - want[k]) < 1e-5);
        struct answer *b = remote_post(c, "m", "train_step", batch);
        assert_true(answer_number(a, "loss") == answer_number(b, "loss"));
    }
}

/* ---- replay ---------------------------------------------------------------------------------- */

static void the_same_requests_give_the_same_state(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const models[] = {mixing, moving};
    for (int k = 0; k < 2; k++) {
        char a[16], b[16];
        snprintf(a, sizeof a, "a%d", k);
        snprintf(b, sizeof b, "b%d", k);
        remote_create(c, a, models[k]);
        remote_create(c, b, models[k]);
        for (unsigned seed = 1; seed <= 4; seed++) {
            remote_step(c, a, seed, PIXELS);
            remote_post(c, b, "gradients", remote_batch(c, seed, N, PIXELS, NULL));
            remote_step(c, b, seed, PIXELS);
            assert_same_state(remote_hash(c, a), remote_hash(c, b));
        }
    }
}

static void a_restored_draw_augments_alike(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch = remote_batch(c, 1, N, PIXELS, NULL);
    remote_create(c, "m", moving);
    answer_expect(remote_call(c, "POST", "m", "/versions", "{}"), 201);
    const double first = answer_number(remote_post(c, "m", "train_step", batch), "loss");
    const struct remote_hash after = remote_hash(c, "m");
    remote_post(c, "m", "versions/1/restore", NULL);
    assert_true(answer_number(remote_post(c, "m", "train_step", batch), "loss") == first);
    assert_same_state(remote_hash(c, "m"), after);
}

/* Only training sees augmented batches. */
static void evaluation_and_eval_gradients_do_not_augment(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch = remote_batch(c, 1, N, PIXELS, NULL);
    const char *eval = remote_batch(c, 1, N, PIXELS, "\"parameters\":{\"mode\":\"eval\"}");
    remote_create(c, "m", mixing);
    remote_create(c, "p", plain);
    const double loss = answer_number(remote_post(c, "p", "evaluate", batch), "loss");
    assert_true(fabs(answer_number(remote_post(c, "m", "evaluate", batch), "loss") - loss) < 1e-6);
    assert_true(fabs(answer_number(remote_post(c, "m", "gradients", eval), "loss") - loss) < 1e-6);
    assert_true(answer_number(remote_post(c, "m", "train_step", batch), "loss") != loss);
}

/* ---- /augment -------------------------------------------------------------------------------- */

static struct answer *sheet(struct client *c, const char *name, const char *batch)
{
    static const char *const headers[] = {"Accept: image/png", NULL};
    char path[64];
    snprintf(path, sizeof path, "/v2/models/%s/augment", name);
    return client_send(c, &(struct call){.method = "POST",
                                         .path = path,
                                         .body = batch,
                                         .size = strlen(batch),
                                         .headers = headers});
}

static void shows_what_is_seen(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch = remote_batch(c, 1, N, PIXELS, NULL);
    const char *later = remote_batch(c, 1, N, PIXELS, "\"parameters\":{\"draw\":1}");
    remote_create(c, "m", moving);
    const struct remote_hash before = remote_hash(c, "m");
    struct answer *now = remote_post(c, "m", "augment", batch);
    struct answer *next = remote_post(c, "m", "augment", later);
    assert_true(answer_number(now, "draw") == 0 && answer_number(next, "draw") == 1);
    assert_false(json_equal(answer_find(now, "inputs.0.data"), answer_find(next, "inputs.0.data")));
    struct answer *png = sheet(c, "m", batch);
    answer_expect(png, 200);
    assert_string_equal(answer_header(png, "Content-Type"), "image/png");
    assert_memory_equal(png->body, "\x89PNG\r\n\x1a\n", 8);
    assert_same_state(remote_hash(c, "m"), before);
    remote_post(c, "m", "train_step", batch);
    struct answer *after = remote_post(c, "m", "augment", batch);
    assert_true(
        json_equal(answer_find(next, "inputs.0.data"), answer_find(after, "inputs.0.data")));
}

static void without_targets(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", mixing);
    struct answer *a = remote_post(c, "m", "augment", remote_inputs(c, 1, N, PIXELS, NULL));
    assert_int_equal(json_array_size(answer_find(a, "targets")), 0);
    answer_expect(sheet(c, "m", remote_inputs(c, 1, N, PIXELS, NULL)), 200);
}

/* ---- targets --------------------------------------------------------------------------------- */

static void indices_and_probabilities(struct daemon *d)
{
    struct client *c = d->client;
    static const char body[] = "{\"inputs\":[{\"shape\":[2,1,6,6],\"datatype\":\"FP32\",\"data\":["
                               "%s]}],\"targets\":%s}";
    struct text x = {0}, with[5] = {{0}};
    static const char *const targets[] = {
        "[2,1]", "[[0,0,1],[0,1,0]]",
        "[{\"name\":\"target\",\"shape\":[2],\"datatype\":\"INT64\",\"data\":[2,1]}]", "[2,3]",
        "[2,1,0]"};
    for (int i = 0; i < 2 * PIXELS; i++)
        text_add(&x, "%s0.%d", i ? "," : "", i % 10);
    for (int k = 0; k < 5; k++)
        text_add(&with[k], body, x.data, targets[k]);
    remote_create(c, "m", mixing);
    const double loss = answer_number(remote_post(c, "m", "gradients", with[0].data), "loss");
    assert_true(answer_number(remote_post(c, "m", "gradients", with[1].data), "loss") == loss);
    assert_true(answer_number(remote_post(c, "m", "gradients", with[2].data), "loss") == loss);
    answer_refused(remote_call(c, "POST", "m", "/train_step", with[3].data), 422, "bad_value",
                   "class 3 at position 1 is outside 0..2");
    answer_refused(remote_call(c, "POST", "m", "/train_step", with[4].data), 422, "bad_shape",
                   NULL);
    for (int k = 0; k < 5; k++)
        text_free(&with[k]);
    text_free(&x);
}

/* ---- descriptions ---------------------------------------------------------------------------- */

static void ultralytics_names_are_rows(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  MODEL_BEGIN ",\"augment\":{\"fliplr\":0.5,\"scale\":0.2,\"mixup\":0.1,"
                              "\"flipud\":0,\"degrees\":10}}");
    struct answer *a = remote_get(c, "m", "/config");
    assert_int_equal(json_array_size(answer_find(a, "description.augment")), 3);
    assert_string_equal(answer_string(a, "description.augment.0.op"), "affine");
    assert_true(answer_number(a, "description.augment.0.degrees") == 10);
    assert_string_equal(answer_string(a, "description.augment.1.op"), "mixup");
    assert_string_equal(answer_string(a, "description.augment.2.op"), "hflip");
    assert_true(answer_number(a, "description.augment.2.p") == 0.5);
    assert_string_equal(answer_string(a, "description.targets.0.datatype"), "FP32");
}

static void patch_takes_rows_away_and_back(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch = remote_batch(c, 1, N, PIXELS, NULL);
    remote_create(c, "m", mixing);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"augment\":[]}"), 200);
    const double loss = answer_number(remote_post(c, "m", "evaluate", batch), "loss");
    assert_true(fabs(answer_number(remote_post(c, "m", "gradients", batch), "loss") - loss) < 1e-6);
    answer_refused(remote_call(c, "POST", "m", "/augment", batch), 409, "conflict", "no 'augment'");
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"augment\":null}"), 200);
    remote_post(c, "m", "augment", batch);
}

static void refused(struct daemon *d)
{
    static const struct {
        const char *augment;
        int status;
        const char *code, *part;
    } cases[] = {
        {"\"hflip\"", 400, "bad_type", "augment: expected a list or an object"},
        {"[3]", 400, "bad_type", "augment[0]"},
        {"[\"hflip\",\"hflop\"]", 422, "unknown_operator", "augment[1]: no augmentation 'hflop'"},
        {"[{\"op\":\"hflip\",\"q\":1}]", 422, "bad_attribute", "did you mean 'p'?"},
        {"{\"fliplrr\":1}", 400, "unknown_field", "did you mean 'fliplr'?"},
        {"{\"fliplr\":2}", 422, "bad_attribute", "augment.fliplr"},
        {"{\"auto_augment\":\"augmix\"}", 422, "bad_value", "augment.auto_augment"},
        {"[\"mosaic\"]", 422, "bad_graph", "detectors"},
        {"[\"hsv\"]", 422, "bad_shape", "3 channels"},
    };
    struct client *c = d->client;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct text t = {0};
        text_add(&t, "%s,\"augment\":%s}", MODEL_BEGIN, cases[i].augment);
        answer_refused(remote_call(c, "PUT", "m", "", t.data), cases[i].status, cases[i].code,
                       cases[i].part);
        text_free(&t);
    }
    answer_refused(remote_call(c, "PUT", "m", "",
                               "{\"inputs\":[{\"shape\":[-1,4]}],\"layers\":[{\"op\":\"linear\","
                               "\"out_features\":3}],\"loss\":\"mse\",\"augment\":[\"hflip\"]}"),
                   422, "bad_graph", "expected one input that is an image");
    answer_refused(
        remote_call(c, "PUT", "m", "",
                    "{\"inputs\":[{\"shape\":[-1,1,4,4]}],\"layers\":[{\"op\":\"relu\"}],"
                    "\"loss\":\"mse\",\"augment\":[\"hflip\"]}"),
        422, "bad_graph", "would have to move with the pixels");
}

/* A step that is refused because of its values has used up no counter. */
static void values_out_of_range(struct daemon *d)
{
    struct client *c = d->client;
    struct text t = {0};
    text_add(&t, "%s,\"augment\":[\"brightness\"]}", MODEL_BEGIN);
    remote_create(c, "m", t.data);
    text_free(&t);
    text_add(&t, "{\"inputs\":[{\"shape\":[1,1,6,6],\"datatype\":\"FP32\",\"data\":[255");
    for (int i = 1; i < PIXELS; i++)
        text_add(&t, ",0");
    text_add(&t, "]}],\"targets\":[0]}");
    answer_refused(remote_call(c, "POST", "m", "/train_step", t.data), 422, "bad_value",
                   "image 0 has the value 255, but 'brightness' expects values from 0 to 1");
    assert_true(remote_number(c, "m", "revision") == 0);
    text_free(&t);
}

static void listed(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/v2/operators");
    answer_expect(a, 200);
    assert_string_equal(answer_string(a, "augmentations.0.name"), "hflip");
    assert_string_equal(answer_string(a, "augmentations.0.kind"), "geometric");
    assert_string_equal(answer_string(a, "augmentations.0.attributes.0.name"), "p");
}

/* ---- class weights and ignored samples ------------------------------------------------------- */

static void weighted_create(struct client *c, const char *name, const char *more)
{
    char description[700];
    snprintf(description, sizeof description,
             "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,1,2,2]}],\"layers\":["
             "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],\"loss\":{"
             "\"op\":\"cross_entropy\",\"weight\":[0.5,1,4],\"label_smoothing\":0.1},\"seed\":4%s}",
             more);
    remote_create(c, name, description);
}

static const char *weighted_batch(const char *targets)
{
    static char body[400];
    snprintf(body, sizeof body,
             "{\"inputs\":[[[[1,0],[2,1]]],[[[0,3],[1,1]]],[[[2,2],[0,1]]],[[[1,1],[1,0]]]],"
             "\"targets\":%s}",
             targets);
    return body;
}

static void expect_alike(struct client *c, const char *a, const char *b, const char *targets)
{
    static const char *const numbers[] = {"loss", "metrics.accuracy", "metrics.f1_macro"};
    struct answer *left = remote_post(c, a, "evaluate", weighted_batch(targets));
    struct answer *right = remote_post(c, b, "evaluate", weighted_batch(targets));
    for (int i = 0; i < 3; i++) {
        const double x = answer_number(left, numbers[i]), y = answer_number(right, numbers[i]);
        if (fabs(x - y) > 1e-6 * fabs(y))
            fail_msg("%s of %s and %s: %.9g and %.9g", numbers[i], a, b, x, y);
    }
}

/* Indices mean what they mean without mixing: the mean is over the sum of their weights, those that
 * are ignored do not count; also when the expanded description is read again. Of probabilities the
 * mean is over the samples, as in PyTorch. */
static void indices_stay_indices(struct daemon *d)
{
    struct client *c = d->client;
    weighted_create(c, "plain", "");
    weighted_create(c, "mixes", ",\"augment\":[\"mixup\",\"cutmix\"]");
    weighted_create(c, "soft", ",\"targets\":[{\"datatype\":\"FP32\",\"shape\":[-1,3]}]");
    json_t *expanded = answer_find(remote_get(c, "mixes", "/config"), "description");
    assert_true(json_is_true(json_object_get(json_object_get(expanded, "loss"), "mixed_indices")));
    char *text = json_dumps(expanded, 0);
    remote_create(c, "again", text);
    free(text);
    expect_alike(c, "mixes", "plain", "[0,2,1,2]");
    expect_alike(c, "mixes", "plain", "[0,-100,1,2]");
    expect_alike(c, "again", "plain", "[-100,2,-100,0]");
    const double hard =
        answer_number(remote_post(c, "plain", "evaluate", weighted_batch("[0,2,1,2]")), "loss");
    const double soft = answer_number(
        remote_post(c, "soft", "evaluate", weighted_batch("[[1,0,0],[0,0,1],[0,1,0],[0,0,1]]")),
        "loss");
    assert_true(fabs(soft - hard * 9.5 / 4) < 1e-5 * soft);
    struct answer *a = remote_post(c, "mixes", "train_step", weighted_batch("[0,-100,1,2]"));
    assert_true(answer_number(a, "loss") > 0);
    answer_refused(remote_call(c, "POST", "mixes", "/train_step", weighted_batch("[0,-99,1,2]")),
                   422, "bad_value", "class -99");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(soft_labels_by_hand),
        DAEMON_TEST(the_same_requests_give_the_same_state),
        DAEMON_TEST(a_restored_draw_augments_alike),
        DAEMON_TEST(evaluation_and_eval_gradients_do_not_augment),
        DAEMON_TEST(shows_what_is_seen),
        DAEMON_TEST(without_targets),
        DAEMON_TEST(indices_and_probabilities),
        DAEMON_TEST(ultralytics_names_are_rows),
        DAEMON_TEST(patch_takes_rows_away_and_back),
        DAEMON_TEST(refused),
        DAEMON_TEST(values_out_of_range),
        DAEMON_TEST(indices_stay_indices),
        DAEMON_TEST(listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
