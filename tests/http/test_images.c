/* test_images.c: encoded images in requests, in every form in which they may come: as the body, in
 * forms, in JSON and in binary tensors. */
#include "images_fixture.h"

enum { WIDTH = 20, HEIGHT = 15, VALUES = 3 * WIDTH * HEIGHT };

/* The numbers of outputs[0], from sample `i` on, are these. */
static void expect_outputs(struct answer *a, int i, const double *want, int n)
{
    answer_expect(a, 200);
    for (int k = 0; k < n; k++) {
        char path[60];
        snprintf(path, sizeof path, "outputs.0.data.%d", i * n + k);
        if (answer_number(a, path) != want[k])
            fail_msg("%s is %.9g, expected %.9g: %s", path, answer_number(a, path), want[k],
                     a->body);
    }
}

static void outputs_of(struct answer *a, double *out, int n)
{
    answer_expect(a, 200);
    for (int k = 0; k < n; k++) {
        char path[60];
        snprintf(path, sizeof path, "outputs.0.data.%d", k);
        out[k] = answer_number(a, path);
    }
}

/* ---- predictions ----------------------------------------------------------------------------- */

/* The numbers that photo.png becomes, from Pillow's pixels. */
static char *photo_numbers(void)
{
    static const float mean[] = {0.5f, 0.25f, 0}, std[] = {0.5f, 1, 2};
    struct bytes b = file_read("fit_stretch_20x15.ppm");
    const unsigned char *pixels = b.data + b.size - VALUES;
    char *text = malloc(VALUES * 20 + 200), *to = text;
    to += sprintf(to, "{\"inputs\":[{\"shape\":[1,3,15,20],\"data\":[");
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < WIDTH * HEIGHT; i++)
            to += sprintf(to, "%s%.9g", c || i ? "," : "",
                          (double)(((float)pixels[i * 3 + c] / 255.0f - mean[c]) / std[c]));
    strcpy(to, "]}]}");
    free(b.data);
    return text;
}

static struct answer *send_data_url(struct daemon *d, const char *path, const char *scheme,
                                    const char *name)
{
    struct bytes b = file_read(name);
    char *image = base64_of(&b), *body = calloc(1, strlen(image) + 100);
    sprintf(body, "{\"inputs\":[\"%s%s\"]}", scheme, image);
    struct answer *a = client_post(d->client, path, body);
    free(body);
    free(image);
    free(b.data);
    return a;
}

/* Every form gives the bits that the numbers give. */
static void every_form(struct daemon *d)
{
    static const char path[] = "/v2/models/m/infer";
    static const char *const names[] = {"photo.png"};
    double want[3];
    put_model(d, "m", description);
    char *numbers = photo_numbers();
    outputs_of(client_post(d->client, path, numbers), want, 3);
    free(numbers);
    expect_outputs(send_file(d, path, "image/png", "photo.png"), 0, want, 3);
    expect_outputs(send_file(d, path, "IMAGE/PNG; charset=binary", "photo.png"), 0, want, 3);
    expect_outputs(send_file(d, path, "application/x-www-form-urlencoded", "photo.png"), 0, want,
                   3);
    expect_outputs(send_base64(d, path, "{\"inputs\":[", names, 1, "]}"), 0, want, 3);
    expect_outputs(send_base64(d, path,
                               "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\","
                               "\"shape\":[1],\"data\":[",
                               names, 1, "]}]}"),
                   0, want, 3);
    /* As browsers make them of files. */
    static const char *const schemes[] = {"data:image/png;base64,", "data:;base64,",
                                          "DATA:image/png;name=a.png;BASE64,"};
    for (int i = 0; i < 3; i++)
        expect_outputs(send_data_url(d, path, schemes[i], names[0]), 0, want, 3);
    answer_refused(send_data_url(d, path, "data:image/png,", names[0]), 400, "bad_image",
                   "character 4");
    expect_outputs(
        send_base64(d, path, "{\"inputs\":[{\"shape\":[1,1],\"data\":[", names, 1, "]}]}"), 0, want,
        3);
    expect_outputs(send_form(d, path, (struct part[]){{"x", "photo.png", "image/png", NULL}, {0}}),
                   0, want, 3);
    expect_outputs(send_bytes(d, path,
                              "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\","
                              "\"shape\":[1],\"parameters\":{\"binary_data_size\":%zu}}]}",
                              names, 1, 0),
                   0, want, 3);
}

/* Each image of a batch has the bits that it has alone. */
static void batches(struct daemon *d)
{
    static const char *const names[] = {"photo.png",        "rgb.jpg",  "gray.png",
                                        "orientation6.jpg", "cmyk.jpg", "rgba.png"};
    enum { N = 6 };
    static const char path[] = "/v2/models/m/infer";
    struct part parts[N + 1] = {{0}};
    put_model(d, "m", description);
    struct answer *json = send_base64(d, path, "{\"inputs\":[", names, N, "]}");
    for (int i = 0; i < N; i++)
        parts[i] = (struct part){"images", names[i], NULL, NULL};
    struct answer *form = send_form(d, path, parts);
    struct answer *binary = send_bytes(d, path,
                                       "{\"inputs\":[{\"datatype\":\"BYTES\",\"shape\":[6],"
                                       "\"parameters\":{\"binary_data_size\":%zu}}]}",
                                       names, N, 0);
    for (int i = 0; i < N; i++) {
        double want[3];
        outputs_of(send_file(d, path, "image/jpeg", names[i]), want, 3);
        expect_outputs(json, i, want, 3);
        expect_outputs(form, i, want, 3);
        expect_outputs(binary, i, want, 3);
    }
    assert_int_equal(json_array_size(answer_find(form, "predictions")), N);
}

static void predictions(struct daemon *d)
{
    put_model(d, "m", description);
    struct answer *a = send_file(d, "/v2/models/m/infer", "image/jpeg", "rgb.jpg");
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_find(a, "predictions.0")), 3);
    assert_int_equal(json_array_size(answer_find(a, "outputs")), 1);
    double sum = 0, last = 1;
    for (int k = 0; k < 3; k++) {
        char path[60];
        snprintf(path, sizeof path, "predictions.0.%d.probability", k);
        double p = answer_number(a, path);
        assert_true(p <= last && p >= 0);
        sum += last = p;
        snprintf(path, sizeof path, "predictions.0.%d.index", k);
        double index = answer_number(a, path);
        snprintf(path, sizeof path, "predictions.0.%d.label", k);
        static const char *const labels[] = {"cat", "dog", "owl"};
        assert_string_equal(answer_string(a, path), labels[(int)index]);
    }
    assert_true(fabs(sum - 1) < 1e-5);
    struct part one[] = {{"file", "rgb.jpg", "image/jpeg", NULL},
                         {"json", NULL, NULL, "{\"parameters\":{\"top_k\":1},\"id\":\"z\"}"},
                         {0}};
    a = send_form(d, "/v2/models/m/infer", one);
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_find(a, "predictions.0")), 1);
    assert_string_equal(answer_string(a, "id"), "z");
    one[1].text = "{\"outputs\":[{\"name\":\"probabilities\"}],\"parameters\":{\"top_k\":0}}";
    a = send_form(d, "/v2/models/m/infer", one);
    answer_expect(a, 200);
    assert_null(answer_find(a, "predictions"));
    assert_string_equal(answer_string(a, "outputs.0.name"), "probabilities");
    one[1].text = "{\"parameters\":{\"top_k\":\"1\"}}";
    answer_refused(send_form(d, "/v2/models/m/infer", one), 400, "bad_type", "top_k");
    /* numbers get them when they ask */
    char *numbers = photo_numbers();
    a = client_post(d->client, "/v2/models/m/infer", numbers);
    assert_null(answer_find(a, "predictions"));
    numbers[strlen(numbers) - 1] = 0;
    strcat(numbers, ",\"parameters\":{\"top_k\":2}}");
    a = client_post(d->client, "/v2/models/m/infer", numbers);
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_find(a, "predictions.0")), 2);
    free(numbers);
}

static void versions(struct daemon *d)
{
    put_model(d, "m", description);
    answer_expect(client_post(d->client, "/v2/models/m/versions", "{}"), 201);
    struct answer *a = send_file(d, "/v2/models/m/versions/1/infer", "image/png", "photo.png");
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_find(a, "predictions.0")), 3);
}

static void drawn(struct daemon *d)
{
    put_model(d, "m", description);
    struct bytes b = file_read("photo.png");
    const char *accept[] = {"Accept: image/png", NULL};
    struct answer *a = send_typed(d, "/v2/models/m/infer", "image/png", b.data, b.size, accept);
    answer_expect(a, 200);
    assert_string_equal(answer_header(a, "Content-Type"), "image/png");
    assert_memory_equal(a->body, "\x89PNG", 4);
    /* its size is the original's */
    assert_memory_equal(a->body + 16, "\0\0\0\x3D\0\0\0\x2F", 8);
    a = send_typed(d, "/v2/models/m/infer", "application/json", "{\"inputs\":[0]}", 14, accept);
    assert_true(a->status == 422 || a->status == 400);
    free(b.data);
    static const char *const names[] = {"photo.png", "rgb.jpg"};
    char *text = calloc(1, 1 << 18);
    strcpy(text, "{\"inputs\":[");
    for (int i = 0; i < 2; i++) {
        b = file_read(names[i]);
        char *image = base64_of(&b);
        sprintf(text + strlen(text), "%s\"%s\"", i ? "," : "", image);
        free(image);
        free(b.data);
    }
    strcat(text, "]}");
    answer_refused(
        send_typed(d, "/v2/models/m/infer", "application/json", text, strlen(text), accept), 400,
        "bad_header", "2");
    free(text);
}

/* What images take of the memory budget is given back, also when they are refused. */
static void memory(struct daemon *d)
{
    static const char *const files[] = {"photo.png", "progressive.jpg", "bomb.png", "cmyk.jpg"};
    double used = 0;
    put_model(d, "m", description);
    for (int i = 0; i < 40; i++) {
        struct bytes b = file_read(files[i % 4]);
        size_t size = i % 8 == 5 ? b.size / 2 : b.size;
        struct answer *a = send_typed(d, "/v2/models/m/infer", "image/jpeg", b.data, size, NULL);
        assert_true(a->status == 200 || a->status == 400 || a->status == 422);
        free(b.data);
        a = client_get(d->client, "/v2");
        if (i < 4) /* the first predictions keep a run and packed weights */
            used = answer_number(a, "memory_used_bytes");
        assert_true(answer_number(a, "memory_used_bytes") == used);
    }
}

/* ---- training -------------------------------------------------------------------------------- */

static void training(struct daemon *d)
{
    static const char *const names[] = {"photo.png", "rgb.jpg"};
    static const char *const verbs[] = {"evaluate", "gradients", "train_step", "forward_backward"};
    put_model(d, "m", description);
    put_model(d, "n", description);
    for (int i = 0; i < 4; i++) {
        char path[60];
        snprintf(path, sizeof path, "/v2/models/m/%s", verbs[i]);
        struct answer *a = send_base64(d, path, "{\"inputs\":[", names, 2, "],\"targets\":[1,2]}");
        answer_expect(a, 200);
        double loss = answer_number(a, "loss");
        assert_true(loss > 0 && loss < 100);
        snprintf(path, sizeof path, "/v2/models/n/%s", verbs[i]);
        a = send_form(d, path,
                      (struct part[]){{"a", "photo.png", NULL, NULL},
                                      {"b", "rgb.jpg", NULL, NULL},
                                      {"json", NULL, NULL, "{\"targets\":[1,2]}"},
                                      {0}});
        answer_expect(a, 200);
        assert_true(answer_number(a, "loss") == loss);
    }
    struct answer *m = client_get(d->client, "/v2/models/m?state_sha256=1");
    struct answer *n = client_get(d->client, "/v2/models/n?state_sha256=1");
    assert_string_equal(answer_string(m, "state_sha256"), answer_string(n, "state_sha256"));
    answer_refused(send_file(d, "/v2/models/m/train_step", "image/png", "photo.png"), 415,
                   "unsupported_media_type", "multipart/form-data");
    answer_refused(send_base64(d, "/v2/models/m/train_step", "{\"inputs\":[", names, 2,
                               "],\"targets\":[1,2,0]}"),
                   422, "bad_shape", NULL);
    answer_refused(
        send_form(d, "/v2/models/m/evaluate", (struct part[]){{"a", "photo.png", NULL, NULL}, {0}}),
        400, "missing_field", "targets");
}

/* ---- descriptions ---------------------------------------------------------------------------- */

/* A row: a field of preprocess, and what is said of it; "": it is taken. */
static void described(struct daemon *d)
{
    static const struct {
        const char *preprocess, *code, *part;
    } rows[] = {
        {"{}", "", NULL},
        {"\"imagenet\"", "", NULL},
        {"{\"preset\":\"yolo\",\"fill\":0,\"scale\":1,\"mean\":0.5}", "", NULL},
        {"{\"color\":\"bgr\",\"size\":[15,20],\"std\":[2]}", "", NULL},
        {"\"vgg\"", "bad_value", "imagenet"},
        {"{\"fit\":\"squash\"}", "bad_value", "letterbox"},
        {"{\"color\":\"gray\"}", "bad_shape", "channels"},
        {"{\"color\":\"cmyk\"}", "bad_value", "rgb"},
        {"{\"size\":[20,15]}", "bad_shape", "[15,20]"},
        {"{\"mean\":[1,2]}", "bad_shape", "3"},
        {"{\"std\":[1,0,1]}", "bad_value", "std[1]"},
        {"{\"std\":[1,\"x\",1]}", "bad_type", "std[1]"},
        {"{\"scale\":0}", "bad_value", "scale"},
        {"{\"crop_pct\":2}", "bad_value", "crop_pct"},
        {"{\"fill\":300}", "bad_value", "fill"},
        {"{\"input\":\"imag\"}", "bad_graph", "'image'"},
        {"{\"men\":1}", "unknown_field", "'mean'"},
        {"[]", "bad_type", "preprocess"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[600], path[60];
        snprintf(path, sizeof path, "/v2/models/m%zu", i);
        snprintf(json, sizeof json,
                 "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,3,15,20]}],\"layers\":["
                 "{\"op\":\"flatten\"}],\"preprocess\":%s}",
                 rows[i].preprocess);
        struct answer *a = client_json(d->client, "PUT", path, json);
        if (*rows[i].code) {
            assert_true(a->status == 400 || a->status == 422);
            answer_refused(a, a->status, rows[i].code, rows[i].part);
        } else {
            answer_expect(a, 201);
            answer_expect(client_json(d->client, "PUT", path, json), 200);
        }
    }
    struct answer *a = client_get(d->client, "/v2/models/m1/config");
    assert_string_equal(answer_string(a, "description.preprocess.fit"), "crop");
    assert_true(answer_number(a, "description.preprocess.mean.2") == 0.406);
    assert_true(answer_number(a, "description.preprocess.crop_pct") == 0.875);
    assert_string_equal(answer_string(a, "description.preprocess.color"), "rgb");
    assert_string_equal(answer_string(a, "description.preprocess.input"), "image");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(every_form), DAEMON_TEST(batches),   DAEMON_TEST(predictions),
        DAEMON_TEST(versions),   DAEMON_TEST(drawn),     DAEMON_TEST(memory),
        DAEMON_TEST(training),   DAEMON_TEST(described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
