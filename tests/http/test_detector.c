/* test_detector.c: a detector on a daemon: templates, targets as lists of boxes in their forms,
 * answers as boxes and as pictures, evaluations over several requests. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 64, CLASSES = 2 };

/* `more`: further fields of the description, each with a comma before it. */
static void put_detector(struct daemon *d, const char *name, int channels, const char *more)
{
    struct text t = {0};
    text_add(&t,
             "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":%d,\"image_size\":%d,"
             "\"channels\":%d},\"seed\":3,\"labels\":[\"disc\",\"ring\"]%s}",
             CLASSES, SIDE, channels, more);
    remote_create(d->client, name, t.data);
    text_free(&t);
}

/* "inputs" of n grey images, in a pattern that depends on the place. */
static void add_inputs(struct text *t, int n)
{
    text_add(t, "\"inputs\":[{\"name\":\"image\",\"shape\":[%d,1,%d,%d],\"data\":[", n, SIDE, SIDE);
    for (int i = 0; i < n * SIDE * SIDE; i++) {
        const int x = i % SIDE, y = i / SIDE % SIDE, image = i / SIDE / SIDE;
        const bool inside = abs(x - 20 - 8 * image) < 10 && abs(y - 30) < 12;
        text_add(t, "%s%s", i ? "," : "", inside ? "1" : (x * 7 + y * 3) % 5 ? "0.25" : "0.5");
    }
    text_add(t, "]}]");
}

/* A batch of n such images with these targets (the text of the list) and further fields. */
static struct answer *post_batch(struct daemon *d, const char *path, int n, const char *targets,
                                 const char *more)
{
    struct text t = {0};
    char whole[200];
    text_add(&t, "{");
    add_inputs(&t, n);
    if (targets)
        text_add(&t, ",\"targets\":%s", targets);
    text_add(&t, "%s}", more);
    snprintf(whole, sizeof whole, "/v2/models/%s", path);
    struct answer *a = client_post(d->client, whole, t.data);
    text_free(&t);
    return a;
}

static const char two_images[] =
    "[{\"name\":\"boxes\",\"boxes\":[[{\"category\":\"ring\",\"bbox\":[10,18,20,24]},"
    "{\"category\":0,\"bbox\":[40,4,16,8]}],[]]}]";

/* ---- templates ------------------------------------------------------------------------------- */

static void templates(struct daemon *d)
{
    struct answer *a = client_get(d->client, "/v2/templates");
    answer_expect(a, 200);
    assert_non_null(strstr(a->body, "{\"name\":\"yolo_tiny\",\"doc\":"));
    assert_string_equal(answer_string(a, "templates.0.name"), "mlp");
    assert_string_equal(answer_string(a, "templates.0.attributes.1.default"), "128");
    put_detector(d, "m", 1, "");
    put_detector(d, "other", 1, "");
    answer_expect(client_json(d->client, "PUT", "/v2/models/m",
                              "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":2,"
                              "\"image_size\":64,\"channels\":1},\"seed\":3,"
                              "\"labels\":[\"disc\",\"ring\"]}"),
                  200); /* the same again */
    a = remote_get(d->client, "m", "/config");
    assert_null(strstr(a->body, "\"template\""));
    answer_refused(client_json(d->client, "PUT", "/v2/models/x",
                               "{\"template\":{\"name\":\"yolo_tiny\",\"classes\":2}}"),
                   422, "bad_attribute", "num_classes");
}

/* ---- targets --------------------------------------------------------------------------------- */

static double loss_of(struct daemon *d, const char *targets)
{
    struct answer *a = post_batch(d, "m/evaluate", 2, targets, "");
    answer_expect(a, 200);
    const double parts = answer_number(a, "metrics.box_loss") +
                         answer_number(a, "metrics.cls_loss") +
                         answer_number(a, "metrics.dfl_loss");
    assert_true(fabs(parts - answer_number(a, "loss")) < 1e-5 * parts);
    return answer_number(a, "loss");
}

static void forms_of_targets(struct daemon *d)
{
    put_detector(d, "m", 1, ",\"targets\":[{\"name\":\"boxes\",\"shape\":[-1,3,5]}]");
    const double loss = loss_of(d, two_images);
    assert_true(loss == loss_of(d,
                                "[{\"boxes\":[[{\"category\":0,\"bbox\":[0.75,0.125,0.25,0.125]},"
                                "{\"category\":1,\"bbox\":[0.3125,0.46875,0.3125,0.375]}],[]],"
                                "\"format\":\"cxcywhn\"}]"));
    assert_true(loss == loss_of(d, "[{\"name\":\"boxes\",\"shape\":[2,3,5],\"data\":["
                                   "1,0.3125,0.46875,0.3125,0.375,0,0.75,0.125,0.25,0.125,"
                                   "-1,0,0,0,0,-1,0,0,0,0,-1,0,0,0,0,-1,0,0,0,0]}]"));
    assert_true(loss == loss_of(d, "[{\"boxes\":[[{\"category\":1,\"bbox\":[10,18,20,24]},"
                                   "{\"category\":1,\"bbox\":[1,1,9,9],\"iscrowd\":1},"
                                   "{\"category\":0,\"bbox\":[40,4,16,8]}],[]]}]"));
    /* What is partly outside is cut; shares may be rounded up. */
    assert_true(loss_of(d, "[{\"boxes\":[[{\"category\":1,\"bbox\":[-6,60,16,24]}],[]]}]") ==
                loss_of(d, "[{\"boxes\":[[{\"category\":1,\"bbox\":[0,60,10,4]}],[]]}]"));
    assert_true(loss_of(d, "[{\"boxes\":[[{\"category\":1,\"bbox\":[0.5,0.5,1.0009,1]}],[]],"
                           "\"format\":\"cxcywhn\"}]") ==
                loss_of(d, "[{\"boxes\":[[{\"category\":1,\"bbox\":[0,0,64,64]}],[]]}]"));
    assert_true(loss != loss_of(d, "[{\"boxes\":[[{\"category\":1,\"bbox\":[11,18,20,24]},"
                                   "{\"category\":0,\"bbox\":[40,4,16,8]}],[]]}]"));
}

static void refused_targets(struct daemon *d)
{
    static const struct {
        const char *targets, *slug, *says;
        int status;
    } cases[] = {
        {"[{\"boxes\":[[{\"category\":2,\"bbox\":[1,2,3,4]}],[]]}]", "bad_value",
         "[0][0].category: expected 0 to 1, found 2", 422},
        {"[{\"boxes\":[[],[{\"category\":\"rings\",\"bbox\":[1,2,3,4]}]]}]", "bad_value",
         "did you mean 'ring'", 422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[1,2,3]}],[]]}]", "bad_shape", "4 numbers", 422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[1,2,0,4]}],[]]}]", "bad_value", "above 0", 422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[1,2,\"3\",4]}],[]]}]", "bad_type", "bbox[2]",
         400},
        {"[{\"boxes\":[[],[{\"category\":1,\"bbox\":[1,2,3,4]},"
         "{\"category\":1,\"bbox\":[1000,12,30,28]}]]}]",
         "bad_value",
         "[1][1].bbox: the box, 1000 to 1030 in x and 12 to 40 in y, is outside of its image, "
         "which "
         "has 64 x 64 pixels",
         422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[-3,2,3,4]}],[]]}]", "bad_value", "outside", 422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[2,64,3,4]}],[]]}]", "bad_value", "outside", 422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[30,20,10,12]}],[]],\"format\":\"cxcywhn\"}]",
         "bad_value", "[0][0].bbox[0]: expected a share of the image, at most 1, found 30", 422},
        {"[{\"boxes\":[[{\"category\":1,\"bbox\":[0.5,0.5,0.1,1.01]}],[]],\"format\":\"cxcywhn\"}]",
         "bad_value", "[0][0].bbox[3]", 422},
        {"[{\"boxes\":[[{\"bbox\":[1,2,3,4]}],[]]}]", "missing_field", "category", 400},
        {"[{\"boxes\":[[{\"category\":1,\"box\":[1,2,3,4]}],[]]}]", "unknown_field", "bbox", 400},
        {"[{\"boxes\":[[]]}]", "bad_shape", "1 examples", 422},
        {"[{\"boxes\":[[],3]}]", "bad_type", "[1]", 400},
        {"[{\"boxes\":[]}]", "empty_batch", "no image", 422},
        {"[{\"boxes\":[[],[]],\"format\":\"xyxy\"}]", "bad_value", "cxcywhn", 422},
        {"[{\"boxes\":[[],[]],\"data\":[1]}]", "bad_type", "both", 400},
        {"[{\"shape\":[2,3,5],\"data\":[0,0.5,0.5,0.1,0,0,0.5,0.5,0.1,0.1,0,0.5,0.5,0.1,0.1,"
         "-1,0,0,0,0,-1,0,0,0,0,-1,0,0,0,0]}]",
         "bad_value", "box 0 of image 0", 422},
        {"[{\"boxes\":[[],[{\"category\":1,\"bbox\":[1,2,3,4]},{\"category\":1,\"bbox\":[1,2,3,4]},"
         "{\"category\":1,\"bbox\":[1,2,3,4]},{\"category\":1,\"bbox\":[1,2,3,4]}]]}]",
         "bad_value", "more than the 3 boxes", 422},
    };
    put_detector(d, "m", 1, ",\"targets\":[{\"name\":\"boxes\",\"shape\":[-1,3,5]}]");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        answer_refused(post_batch(d, "m/train_step", 2, cases[i].targets, ""), cases[i].status,
                       cases[i].slug, cases[i].says);
    assert_true(remote_number(d->client, "m", "revision") == 0);
    remote_create(d->client, "mlp", remote_mlp);
    answer_refused(client_post(d->client, "/v2/models/mlp/train_step",
                               "{\"inputs\":[[1,2,3,4]],\"targets\":[{\"boxes\":[[]]}]}"),
                   400, "unknown_field", "detector");
}

/* ---- training, and what it leaves behind ----------------------------------------------------- */

static void parts_are_metrics(struct daemon *d)
{
    put_detector(d, "m", 1, "");
    struct answer *a = post_batch(d, "m/train_step", 2, two_images, "");
    answer_expect(a, 200);
    const double first = answer_number(a, "loss");
    for (int i = 0; i < 15; i++)
        a = post_batch(d, "m/train_step", 2, two_images, "");
    answer_expect(a, 200);
    assert_true(answer_number(a, "loss") < 0.9 * first);
    const double box = answer_number(a, "metrics.box_loss");
    a = remote_get(d->client, "m", "/metrics?names=box_loss,cls_loss,dfl_loss");
    assert_int_equal(json_array_size(answer_find(a, "series.dfl_loss.value")), 16);
    assert_true(answer_number(a, "series.box_loss.value.15") == box);
}

/* A kill: the steps are replayed from the log, their parts are in the metrics again. */
static void parts_survive_a_kill(struct daemon *d)
{
    put_detector(d, "m", 1, ",\"augment\":{\"mosaic\":0.5,\"fliplr\":0.5,\"scale\":0.3}");
    for (int i = 0; i < 3; i++)
        answer_expect(post_batch(d, "m/train_step", 2, two_images, ""), 200);
    const struct remote_hash before = remote_hash(d->client, "m");
    daemon_kill(d);
    daemon_start(d, NULL);
    assert_same_state(before, remote_hash(d->client, "m"));
    struct answer *a = remote_get(d->client, "m", "/metrics?names=box_loss");
    assert_int_equal(json_array_size(answer_find(a, "series.box_loss.value")), 3);
}

/* A retry gets the whole first answer, its parts too, also when a checkpoint has let go of the log.
 */
static void a_retry_has_the_parts(struct daemon *d)
{
    const char more[] = ",\"parameters\":{\"seq\":1}";
    char first[512];
    put_detector(d, "m", 1, "");
    struct answer *a = post_batch(d, "m/train_step", 2, two_images, more);
    answer_expect(a, 200);
    assert_non_null(strstr(a->body, "\"box_loss\":"));
    snprintf(first, sizeof first, "%s", a->body);
    for (int round = 0; round < 2; round++) {
        if (round)
            daemon_stop(d); /* saves a checkpoint */
        else
            daemon_kill(d);
        daemon_start(d, NULL);
        assert_string_equal(post_batch(d, "m/train_step", 2, two_images, more)->body, first);
    }
}

/* Boxes are in pixels of the photograph, whatever the network's size. */
static void boxes_of_photographs(struct daemon *d)
{
    static const char *const forms[] = {
        "\"boxes\":[[{\"category\":1,\"bbox\":[5.75,4.25,11.5,8.5]}]]",
        "\"boxes\":[[{\"category\":1,\"bbox\":[0.5,0.5,0.5,0.5]}]],\"format\":\"cxcywhn\""};
    unsigned char file[8192];
    char base64[12000];
    double loss[2];
    FILE *f = fopen("tests/data/images/rgb.jpg", "rb"); /* 23 x 17 */
    assert_non_null(f);
    const size_t size = fread(file, 1, sizeof file, f);
    fclose(f);
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < size; i += 3) {
        const unsigned v = (unsigned)file[i] << 16 |
                           (i + 1 < size ? (unsigned)file[i + 1] << 8 : 0) |
                           (i + 2 < size ? file[i + 2] : 0u);
        for (int k = 0; k < 4; k++)
            base64[n++] = i + (size_t)k > size ? '=' : digits[v >> (18 - 6 * k) & 63];
    }
    put_detector(d, "m", 3, ",\"preprocess\":\"yolo\"");
    for (int i = 0; i < 2; i++) {
        struct text t = {0};
        text_add(&t,
                 "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\",\"data\":[\"%.*s\"]}],"
                 "\"targets\":[{%s}]}",
                 (int)n, base64, forms[i]);
        loss[i] = answer_number(remote_post(d->client, "m", "evaluate", t.data), "loss");
        text_free(&t);
    }
    assert_true(fabs(loss[0] - loss[1]) < 1e-6 * loss[0]);
    struct answer *a = client_send(
        d->client, &(struct call){.method = "POST",
                                  .path = "/v2/models/m/infer",
                                  .body = file,
                                  .size = size,
                                  .content_type = "image/jpeg",
                                  .headers = (const char *const[]){"Accept: image/png", NULL}});
    answer_expect(a, 200);
    assert_string_equal(answer_header(a, "Content-Type"), "image/png");
    assert_memory_equal(a->body, "\x89PNG", 4);
}

/* ---- detections and evaluations -------------------------------------------------------------- */

/* Large objects are learnt in few steps. */
static const char seen_images[] =
    "[{\"name\":\"boxes\",\"boxes\":[[{\"category\":\"ring\",\"bbox\":[2,4,40,50]}],"
    "[{\"category\":\"ring\",\"bbox\":[10,4,40,50]}]]}]";

static void detections(struct daemon *d)
{
    put_detector(d, "m", 1, "");
    for (int i = 0; i < 40; i++)
        answer_expect(post_batch(d, "m/train_step", 2, seen_images, ""), 200);
    struct answer *a = post_batch(d, "m/infer", 3, NULL,
                                  ",\"parameters\":{\"conf\":0.0,\"iou\":1.0,\"max_det\":50}");
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_find(a, "detections")), 3);
    assert_int_equal(json_array_size(answer_find(a, "detections.2")), 50);
    for (int k = 0; k < 50; k++) {
        char path[64];
        double bbox[4];
        snprintf(path, sizeof path, "detections.1.%d.bbox", k);
        assert_int_equal(remote_numbers(a, path, bbox, 4), 4);
        assert_true(bbox[0] >= 0 && bbox[1] >= 0 && bbox[2] >= 0 && bbox[3] >= 0);
        assert_true(bbox[0] + bbox[2] <= SIDE + 1e-4 && bbox[1] + bbox[3] <= SIDE + 1e-4);
    }
    assert_true(answer_number(a, "detections.0.0.score") >=
                answer_number(a, "detections.0.1.score"));
    a = post_batch(d, "m/infer", 1, NULL, ",\"outputs\":[{\"name\":\"p4\"}]");
    answer_expect(a, 200);
    assert_null(answer_find(a, "detections"));
    assert_int_equal(json_array_size(answer_find(a, "outputs.0.data")), (4 * 12 + CLASSES) * 16);
    answer_refused(post_batch(d, "m/infer", 1, NULL, ",\"parameters\":{\"conf\":2}"), 422,
                   "bad_value", "conf");
    answer_refused(post_batch(d, "m/infer", 1, NULL, ",\"parameters\":{\"max_det\":\"x\"}"), 400,
                   "bad_type", "max_det");
}

/* The AP of POST /v2/detection/evaluate for what infer says of the two images with these weights.
 */
static double ap_by_hand(struct daemon *d, const char *weights)
{
    char parameters[80];
    snprintf(parameters, sizeof parameters, ",\"parameters\":{\"conf\":0.001,\"weights\":\"%s\"}",
             weights);
    struct answer *a = post_batch(d, "m/infer", 2, NULL, parameters);
    struct text t = {0};
    text_add(&t, "{\"ground_truth\":{\"images\":[{\"id\":0},{\"id\":1}],\"categories\":[{\"id\":0},"
                 "{\"id\":1}],\"annotations\":[{\"id\":1,\"image_id\":0,\"category_id\":1,"
                 "\"bbox\":[2,4,40,50],\"area\":2000,\"iscrowd\":0},{\"id\":2,\"image_id\":1,"
                 "\"category_id\":1,\"bbox\":[10,4,40,50],\"area\":2000,\"iscrowd\":0}]},"
                 "\"detections\":[");
    size_t i, k;
    json_t *image, *found;
    bool first = true;
    json_array_foreach(answer_find(a, "detections"), i, image) json_array_foreach(image, k, found)
    {
        char *bbox = json_dumps(json_object_get(found, "bbox"), JSON_COMPACT);
        text_add(&t, "%s{\"image_id\":%zu,\"category_id\":%d,\"score\":%.17g,\"bbox\":%s}",
                 first ? "" : ",", i, (int)json_integer_value(json_object_get(found, "category")),
                 json_number_value(json_object_get(found, "score")), bbox);
        free(bbox);
        first = false;
    }
    text_add(&t, "]}");
    a = client_post(d->client, "/v2/detection/evaluate", t.data);
    answer_expect(a, 200);
    text_free(&t);
    return answer_number(a, "stats.AP");
}

static void evaluations(struct daemon *d)
{
    put_detector(d, "m", 1, ",\"optimizer\":{\"op\":\"adamw\",\"lr\":0.005}");
    for (int i = 0; i < 120; i++)
        answer_expect(post_batch(d, "m/train_step", 2, seen_images, ""), 200);
    const double ap = ap_by_hand(d, "live");
    if (!(ap > 0))
        fail_msg("AP %g: two images are not learnt by heart", ap);
    struct answer *a = client_json(d->client, "POST", "/v2/models/m/evaluations", NULL);
    answer_expect(a, 201);
    assert_true(answer_number(a, "evaluation") == 1 && answer_number(a, "step") == 120);
    /* Training goes on; the evaluation stays with its state. */
    answer_expect(post_batch(d, "m/train_step", 2, seen_images, ""), 200);
    answer_refused(post_batch(d, "m/evaluations/1", 1, seen_images, ""), 422, "bad_shape",
                   "2 images");
    a = post_batch(d, "m/evaluations/1", 2, seen_images, "");
    answer_expect(a, 200);
    assert_true(answer_number(a, "images") == 2 && answer_number(a, "revision") == 120);
    a = client_json(d->client, "POST", "/v2/models/m/evaluations/1/finish", NULL);
    answer_expect(a, 200);
    assert_true(answer_number(a, "metrics.mAP50-95") == ap);
    assert_true(answer_number(a, "stats.AP") == ap);
    assert_true(answer_number(a, "per_class.ring.mAP50") >= 0);
    a = remote_get(d->client, "m", "/metrics?names=mAP50-95,mAP50/ring");
    assert_true(answer_number(a, "series.mAP50-95.value.0") == ap);
    assert_true(answer_number(a, "series.mAP50-95.revision.0") == 120);
    answer_refused(client_json(d->client, "POST", "/v2/models/m/evaluations/1/finish", NULL), 404,
                   "unknown_evaluation", "1");
}

/* Of the moving averages, as they were when it began. */
static void evaluations_of_averages(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const path = "/v2/models/m/evaluations",
                             *const ema = "{\"parameters\":{\"weights\":\"ema\"}}";
    put_detector(d, "m", 1,
                 ",\"optimizer\":{\"op\":\"adamw\",\"lr\":0.005},\"ema\":{\"decay\":0.98}");
    for (int i = 0; i < 120; i++)
        answer_expect(post_batch(d, "m/train_step", 2, seen_images, ""), 200);
    const double ap = ap_by_hand(d, "ema"), live = ap_by_hand(d, "live");
    if (ap == live)
        fail_msg("AP %g of both: the test sees nothing", ap);
    answer_expect(client_post(c, path, ema), 201);
    answer_expect(post_batch(d, "m/train_step", 2, seen_images, ""), 200);
    answer_expect(post_batch(d, "m/evaluations/1", 2, seen_images, ""), 200);
    struct answer *a = client_json(c, "POST", "/v2/models/m/evaluations/1/finish", NULL);
    answer_expect(a, 200);
    assert_true(answer_number(a, "metrics.mAP50-95") == ap);
    answer_refused(client_post(c, path, "{\"parameters\":{\"weights\":\"best\"}}"), 422,
                   "bad_value", "best");
    answer_refused(client_post(c, path, "{\"parameters\":{\"weights\":1}}"), 400, "bad_type",
                   "weights");
    put_detector(d, "n", 1, "");
    answer_refused(client_post(c, "/v2/models/n/evaluations", ema), 409, "conflict", "keeps no");
}

static void evaluations_are_few(struct daemon *d)
{
    put_detector(d, "m", 1, "");
    const double before = answer_number(client_get(d->client, "/v2"), "memory_used_bytes");
    for (int i = 1; i <= 4; i++)
        answer_expect(client_json(d->client, "POST", "/v2/models/m/evaluations", NULL), 201);
    /* Each keeps the state that it began with. */
    const double parameters = 4 * remote_number(d->client, "m", "parameter_count");
    const double held = answer_number(client_get(d->client, "/v2"), "memory_used_bytes") - before;
    assert_true(held >= 4 * parameters);
    answer_refused(client_json(d->client, "POST", "/v2/models/m/evaluations", NULL), 409,
                   "conflict", "4 evaluations");
    answer_expect(client_json(d->client, "DELETE", "/v2/models/m/evaluations/2", NULL), 200);
    struct answer *a = client_json(d->client, "POST", "/v2/models/m/evaluations", NULL);
    answer_expect(a, 201);
    assert_true(answer_number(a, "evaluation") == 5);
    answer_refused(client_get(d->client, "/v2/models/m/evaluations"), 405, "method_not_allowed",
                   NULL);
    remote_create(d->client, "mlp", remote_mlp);
    answer_refused(client_json(d->client, "POST", "/v2/models/mlp/evaluations", NULL), 409,
                   "conflict", "no detector");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(templates),
        DAEMON_TEST(forms_of_targets),
        DAEMON_TEST(refused_targets),
        DAEMON_TEST(parts_are_metrics),
        DAEMON_TEST(parts_survive_a_kill),
        DAEMON_TEST(a_retry_has_the_parts),
        DAEMON_TEST(boxes_of_photographs),
        DAEMON_TEST(detections),
        DAEMON_TEST(evaluations),
        DAEMON_TEST(evaluations_of_averages),
        DAEMON_TEST(evaluations_are_few),
    };
    return cmocka_run_group_tests_name("detector", tests, NULL, NULL);
}
