/* test_evaluate.c: metrics over HTTP: of a model's labelled batch, and of boxes without a model. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char description_values[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,1]}],"
    "\"layers\":[{\"op\":\"linear\",\"out_features\":1,\"bias\":false}],\"loss\":{\"op\":\"mse\"},"
    "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1}}";

/* What applies to the loss is given unasked, and nothing else. */
static void scalars_unasked(struct daemon *d)
{
    static const char *const names[] = {
        "samples", "accuracy", "top5", "f1_macro", "f1_micro", "roc_auc", "calibration_error"};
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_post(c, "m", "evaluate", remote_batch(c, 1, 32, 4, NULL));
    const json_t *metrics = answer_find(a, "metrics");
    assert_int_equal(json_object_size(metrics), sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(json_is_number(json_object_get(metrics, names[i])));
    assert_true(answer_number(a, "metrics.samples") == 32);
    assert_true(answer_number(a, "metrics.top5") == 1);
    assert_true(answer_number(a, "metrics.accuracy") == answer_number(a, "metrics.f1_micro"));
}

static void asked_by_name(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const more =
        "\"parameters\":{\"metrics\":[\"confusion_matrix\",\"accuracy\"]}";
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_post(c, "m", "evaluate", remote_batch(c, 1, 32, 4, more));
    assert_int_equal(json_object_size(answer_find(a, "metrics")), 3);
    double sum = 0, right = 0;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            char path[64];
            snprintf(path, sizeof path, "metrics.confusion_matrix.%d.%d", i, k);
            sum += answer_number(a, path);
            right += i == k ? answer_number(a, path) : 0;
        }
    assert_true(sum == 32 && right / sum == answer_number(a, "metrics.accuracy"));
}

static void refused(struct daemon *d)
{
    static const struct {
        const char *metrics, *slug, *part;
        int status;
    } rows[] = {
        {"[\"accuracy\",\"mae\"]", "bad_value", "found 'mae', the loss cross_entropy has: accuracy",
         422},
        {"[1]", "bad_type", "parameters.metrics[0]", 400},
        {"\"all\"", "bad_type", "a list of names", 400},
    };
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char more[200];
        snprintf(more, sizeof more, "\"parameters\":{\"metrics\":%s}", rows[i].metrics);
        answer_refused(remote_call(c, "POST", "m", "/evaluate", remote_batch(c, 1, 2, 4, more)),
                       rows[i].status, rows[i].slug, rows[i].part);
    }
}

/* Rows whose target the loss ignores do not count in any metric, also of train_step. */
static void ignored_class(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const batch =
        "{\"inputs\":[[9,0,0],[0,9,0],[0,0,9],[9,0,0]],\"targets\":[0,2,2,2]}";
    for (int ignore = -100; ignore <= 2; ignore += 102) {
        char description[400], name[20];
        snprintf(name, sizeof name, "m%d", ignore + 100);
        snprintf(description, sizeof description,
                 "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3]}],\"layers\":[{\"op\":\"mul\","
                 "\"inputs\":[\"x\",\"x\"]},{\"op\":\"prelu\"}],\"loss\":{\"op\":\"cross_entropy\","
                 "\"ignore_index\":%d}}",
                 ignore);
        remote_create(c, name, description);
        struct answer *a = remote_post(c, name, "evaluate", batch);
        assert_true(answer_number(a, "metrics.accuracy") == (ignore == 2 ? 1 : 0.5));
        a = remote_post(c, name, "train_step", batch);
        assert_true(answer_number(a, "metrics.accuracy") == (ignore == 2 ? 1 : 0.5));
    }
    struct answer *a =
        remote_post(c, "m102", "evaluate", "{\"inputs\":[[9,0,0],[0,9,0]],\"targets\":[2,2]}");
    static const char *const unknown[] = {"accuracy", "top5", "f1_macro", "f1_micro", "roc_auc"};
    for (int i = 0; i < 5; i++)
        if (!json_is_null(json_object_get(answer_find(a, "metrics"), unknown[i])))
            fail_msg("%s of nothing: %s", unknown[i], a->body);
}

static void regression(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "r", description_values);
    struct answer *a = remote_post(
        c, "r", "evaluate",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[3,1],\"datatype\":\"FP32\",\"data\":[0,0,0]}],"
        "\"targets\":[{\"shape\":[3,1],\"datatype\":\"FP32\",\"data\":[1,2,6]}]}");
    assert_int_equal(json_object_size(answer_find(a, "metrics")), 4);
    assert_true(answer_number(a, "metrics.mae") == 3);
    assert_true(fabs(answer_number(a, "metrics.rmse") - sqrt(41.0 / 3)) < 1e-12);
    assert_true(fabs(answer_number(a, "metrics.r2") - (1 - 41.0 / 14)) < 1e-12);
}

/* ---- recording -------------------------------------------------------------------------------
 */

static const char recorded[] = "\"parameters\":{\"record\":true}";

/* The numbers of an answer are points of curves: of two evaluations of one revision the second's,
 * also after a restart. Without being asked nothing is recorded. */
static void recording(struct daemon *d)
{
    static const char *const names[] = {"accuracy", "top5",    "f1_macro",
                                        "f1_micro", "roc_auc", "calibration_error"};
    static const char gauge[] = "backpropd_evaluation_loss{model=\"m\"}";
    enum { NAMES = sizeof names / sizeof *names };
    double loss, said[NAMES];
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    struct remote_hash before = remote_hash(c, "m");
    remote_post(c, "m", "evaluate", remote_batch(c, 2, 32, 4, NULL));
    assert_null(answer_find(remote_get(c, "m", "/metrics"), "series.val_loss"));
    assert_true(remote_sample(c, gauge) == -1);
    remote_post(c, "m", "evaluate", remote_batch(c, 3, 32, 4, recorded));
    struct answer *a = remote_post(c, "m", "evaluate", remote_batch(c, 2, 32, 4, recorded));
    loss = answer_number(a, "loss");
    for (int i = 0; i < NAMES; i++)
        said[i] = json_number_value(json_object_get(answer_find(a, "metrics"), names[i]));
    assert_same_state(remote_hash(c, "m"), before);
    for (int pass = 0; pass < 2; pass++) {
        a = remote_get(c, "m", "/metrics");
        assert_int_equal(json_array_size(answer_find(a, "series.val_loss.value")), 1);
        assert_true((float)answer_number(a, "series.val_loss.value.0") == (float)loss);
        assert_true(answer_number(a, "series.val_loss.revision.0") == 1);
        assert_true(answer_number(a, "series.val_loss.step.0") == 1);
        for (int i = 0; i < NAMES; i++) {
            char series[64];
            snprintf(series, sizeof series, "series.val_%s.value.0", names[i]);
            assert_true(answer_number(a, series) == said[i]);
        }
        assert_null(answer_find(a, "series.val_samples"));
        assert_true((float)remote_sample(c, gauge) == (float)loss);
        assert_true(remote_sample(c, "backpropd_evaluation_accuracy{model=\"m\"}") == said[0]);
        daemon_kill(d);
        daemon_start(d, d->flags);
        c = d->client;
    }
}

/* Only the scores that were asked for; of a model that was never trained, at revision 0. */
static void recording_regression(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "r", description_values);
    remote_post(c, "r", "evaluate",
                "{\"inputs\":[[0],[0]],\"targets\":[[1],[3]],"
                "\"parameters\":{\"record\":true,\"metrics\":[\"mae\"]}}");
    struct answer *a = remote_get(c, "r", "/metrics");
    assert_int_equal(json_object_size(answer_find(a, "series")), 2);
    assert_true(answer_number(a, "series.val_loss.value.0") == 5);
    assert_true(answer_number(a, "series.val_mae.value.0") == 2);
    assert_true(answer_number(a, "series.val_mae.revision.0") == 0);
}

/* ---- boxes -----------------------------------------------------------------------------------
 */

#define TRUTH                                                                                      \
    "{\"ground_truth\":{\"images\":[{\"id\":1}],\"categories\":[{\"id\":4}],\"annotations\":["     \
    "{\"id\":1,\"image_id\":1,\"category_id\":4,\"bbox\":[0,0,100,50],\"area\":5000}]},"

static void boxes(struct daemon *d)
{
    struct answer *a = client_post(d->client, "/v2/detection/evaluate",
                                   TRUTH "\"detections\":[{\"image_id\":1,\"category_id\":4,"
                                         "\"bbox\":[0,0,100,30],\"score\":0.5}]}");
    answer_expect(a, 200);
    assert_string_equal(answer_string(a, "protocol"), "coco");
    assert_true(fabs(answer_number(a, "stats.AP") - 0.3) < 1e-12); /* IoU 0.6: at three of ten */
    assert_true(fabs(answer_number(a, "per_class_ap.4") - 0.3) < 1e-12);
    assert_true(json_is_null(answer_find(a, "stats.AP_small")));
    assert_true(answer_number(a, "counts.detections") == 1);
}

static void boxes_refused(struct daemon *d)
{
    static const char path[] = "/v2/detection/evaluate";
    struct client *c = d->client;
    answer_refused(client_post(c, path, "{\"ground_truth\":"), 400, "bad_json", "line 1");
    answer_refused(client_post(c, path, "{}"), 400, "missing_field", "ground_truth");
    answer_refused(client_post(c, path,
                               TRUTH "\"detections\":[{\"image_id\":1,\"category_id\":4,"
                                     "\"bbox\":[0,0,1,1],\"score\":NaN}]}"),
                   422, "bad_value", "detections[0]: score");
    answer_refused(client_json(c, "GET", path, NULL), 405, "method_not_allowed", "POST");
    /* What is not read is nevertheless JSON, to the letter. */
    static const char *const wrong[] = {"[[1,2,3,]]", "[1 2]", "[,]",  "[[1],]", "[01]", "[1.]",
                                        "[+1]",       "[1e]",  "[--]", "[.5]",   "[[]1]"};
    static const char *const right[] = {"[]",    "[[]]",  "[[1,-2.5e3,\n3],[0]]",
                                        "[ 1 ]", "\"x\"", "{\"counts\":[1,2],\"size\":[3,4]}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong + sizeof right / sizeof *right; i++) {
        const bool bad = i < sizeof wrong / sizeof *wrong;
        char body[300];
        snprintf(body, sizeof body,
                 "{\"ground_truth\":{\"images\":[],\"categories\":[],\n\"annotations\":[],"
                 "\"x\":{\"segmentation\":%s}},\"detections\":[]}",
                 bad ? wrong[i] : right[i - sizeof wrong / sizeof *wrong]);
        struct answer *a = client_post(c, path, body);
        if (bad)
            answer_refused(a, 400, "bad_json", "line 2, column ");
        else
            answer_expect(a, 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(scalars_unasked),      DAEMON_TEST(asked_by_name), DAEMON_TEST(refused),
        DAEMON_TEST(regression),           DAEMON_TEST(ignored_class), DAEMON_TEST(recording),
        DAEMON_TEST(recording_regression), DAEMON_TEST(boxes),         DAEMON_TEST(boxes_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
