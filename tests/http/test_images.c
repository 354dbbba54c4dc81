/* test_images.c: encoded images in requests, in every form in which they may come: as the body, in
 * forms, in JSON and in binary tensors; and what is refused. */
#include "../support/daemon.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 20, HEIGHT = 15, VALUES = 3 * WIDTH * HEIGHT };

static const char description[] =
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,3,15,20]}],"
    "\"layers\":[{\"op\":\"conv2d\",\"out_channels\":4,\"kernel_size\":3},{\"op\":\"relu\"},"
    "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":\"cross_entropy\",\"seed\":3,\"labels\":[\"cat\",\"dog\",\"owl\"],"
    "\"preprocess\":{\"mean\":[0.5,0.25,0],\"std\":[0.5,1,2]}}";

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes file_read(const char *name)
{
    char path[200];
    struct bytes b = {malloc(1 << 20), 0};
    snprintf(path, sizeof path, "tests/data/images/%s", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    b.size = fread(b.data, 1, 1 << 20, f);
    fclose(f);
    return b;
}

static void put_model(struct daemon *d, const char *name, const char *json)
{
    char path[100];
    snprintf(path, sizeof path, "/v2/models/%s", name);
    answer_expect(client_json(d->client, "PUT", path, json), 201);
}

static struct answer *send_typed(struct daemon *d, const char *path, const char *type,
                                 const void *body, size_t size, const char *const *headers)
{
    return client_send(d->client, &(struct call){.method = "POST",
                                                 .path = path,
                                                 .body = body,
                                                 .size = size,
                                                 .content_type = type,
                                                 .headers = headers});
}

static struct answer *send_file(struct daemon *d, const char *path, const char *type,
                                const char *name)
{
    struct bytes b = file_read(name);
    struct answer *a = send_typed(d, path, type, b.data, b.size, NULL);
    free(b.data);
    return a;
}

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

/* ---- ways to send ---------------------------------------------------------------------------- */

static char *base64_of(const struct bytes *b)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(b->size / 3 * 4 + 8), *to = text;
    for (size_t i = 0; i < b->size; i += 3) {
        unsigned v = (unsigned)b->data[i] << 16;
        v |= i + 1 < b->size ? (unsigned)b->data[i + 1] << 8 : 0;
        v |= i + 2 < b->size ? b->data[i + 2] : 0;
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = i + 1 < b->size ? digits[v >> 6 & 63] : '=';
        *to++ = i + 2 < b->size ? digits[v & 63] : '=';
    }
    *to = 0;
    return text;
}

/* A request with files as base64: `head` comes before the list of strings, `tail` after it. */
static struct answer *send_base64(struct daemon *d, const char *path, const char *head,
                                  const char *const *names, int n, const char *tail)
{
    char *text = calloc(1, 1 << 20);
    strcpy(text, head);
    for (int i = 0; i < n; i++) {
        struct bytes b = file_read(names[i]);
        char *image = base64_of(&b);
        sprintf(text + strlen(text), "%s\"%s\"", i ? "," : "", image);
        free(image);
        free(b.data);
    }
    strcat(text, tail);
    struct answer *a = client_post(d->client, path, text);
    free(text);
    return a;
}

struct part {
    const char *name, *file, *type, *text; /* text, or the file */
};

static struct answer *send_form(struct daemon *d, const char *path, const struct part *parts)
{
    char *body = calloc(1, 1 << 20);
    size_t size = 0;
    for (const struct part *p = parts; p->name; p++) {
        size += (size_t)sprintf(body + size,
                                "--xX-b\r\nContent-Disposition: form-data; name=\"%s\"", p->name);
        if (p->file)
            size += (size_t)sprintf(body + size, "; filename=\"%s\"", p->file);
        size += (size_t)sprintf(body + size, "\r\n%s%s%s\r\n", p->type ? "Content-Type: " : "",
                                p->type ? p->type : "", p->type ? "\r\n" : "");
        struct bytes b = p->text ? (struct bytes){(unsigned char *)strdup(p->text), strlen(p->text)}
                                 : file_read(p->file);
        memcpy(body + size, b.data, b.size);
        size += b.size;
        size += (size_t)sprintf(body + size, "\r\n");
        free(b.data);
    }
    size += (size_t)sprintf(body + size, "--xX-b--\r\n");
    struct answer *a =
        send_typed(d, path, "multipart/form-data; boundary=\"xX-b\"", body, size, NULL);
    free(body);
    return a;
}

/* Elements behind their lengths, after the JSON. */
static struct answer *send_bytes(struct daemon *d, const char *path, const char *json,
                                 const char *const *names, int n, int lie)
{
    char *body = calloc(1, 1 << 20), header[80], text[600];
    char *elements = body + 700;
    size_t size = 0;
    for (int i = 0; i < n; i++) {
        struct bytes b = file_read(names[i]);
        uint32_t length = (uint32_t)((long)b.size + lie);
        memcpy(elements + size, &length, 4);
        memcpy(elements + size + 4, b.data, b.size);
        size += 4 + b.size;
        free(b.data);
    }
    int head = snprintf(text, sizeof text, json, size);
    memcpy(elements - head, text, (size_t)head);
    snprintf(header, sizeof header, "Inference-Header-Content-Length: %d", head);
    struct answer *a = send_typed(d, path, "application/octet-stream", elements - head,
                                  size + (size_t)head, (const char *const[]){header, NULL});
    free(body);
    return a;
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

/* ---- what is refused ------------------------------------------------------------------------- */

static void broken_images(struct daemon *d)
{
    static const char path[] = "/v2/models/m/infer";
    put_model(d, "m", description);
    answer_refused(send_file(d, path, "image/png", "bomb.png"), 422, "too_large",
                   "100000 x 100000");
    answer_refused(send_file(d, path, "image/jpeg", "bomb.jpg"), 422, "too_large", "65500 x 65500");
    struct bytes b = file_read("rgb.jpg");
    for (size_t n = 1; n < b.size; n += 37)
        answer_refused(send_typed(d, path, "image/jpeg", b.data, n, NULL), 400, "bad_image", NULL);
    answer_refused(send_typed(d, path, "image/jpeg", "GIF89a", 6, NULL), 400, "bad_image",
                   "JPEG or PNG");
    answer_refused(send_typed(d, path, "image/webp", b.data, b.size, NULL), 415,
                   "unsupported_media_type", "image/png");
    free(b.data);
    answer_refused(client_post(d->client, path, "{\"inputs\":[\"Zm*v\"]}"), 400, "bad_image",
                   "character 2");
    answer_refused(client_post(d->client, path, "{\"inputs\":[\"Zm9vYmFy\"]}"), 400, "bad_image",
                   "JPEG or PNG");
    answer_refused(
        client_post(d->client, path, "{\"inputs\":[{\"datatype\":\"BYTES\",\"data\":[]}]}"), 400,
        "bad_type", "base64");
    static const char *const names[] = {"photo.png", "rgb.jpg"};
    answer_refused(send_base64(d, path, "{\"inputs\":[", names, 2, ",\"/9j/\"]}"), 400, "bad_image",
                   "image 2");
    answer_refused(send_base64(d, path, "{\"inputs\":[{\"shape\":[3],\"data\":[", names, 2, "]}]}"),
                   422, "bad_shape", "[3]");
    static const char json[] = "{\"inputs\":[{\"datatype\":\"BYTES\",\"shape\":[1],"
                               "\"parameters\":{\"binary_data_size\":%zu}}]}";
    answer_refused(send_bytes(d, path, json, names, 1, 1), 400, "bad_binary", "element 0");
    answer_refused(send_bytes(d, path, json, names, 1, -1), 400, "bad_binary", "element 1");
    answer_refused(send_bytes(d, path, json, names, 1, -2000000), 400, "bad_binary", "element 0");
    answer_refused(send_bytes(d, path, json, names, 2, 0), 422, "bad_shape", NULL);
}

static void small_limit(struct daemon *d)
{
    put_model(d, "m", description);
    answer_refused(send_file(d, "/v2/models/m/infer", "image/png", "photo.png"), 422, "too_large",
                   "61 x 47");
    answer_expect(send_file(d, "/v2/models/m/infer", "image/png", "rgb.png"), 200);
}

static void broken_forms(struct daemon *d)
{
    static const char type[] = "multipart/form-data; boundary=b";
    static const struct {
        const char *type, *body, *code, *part;
    } rows[] = {
        {"multipart/form-data", "--b--", "bad_form", "boundary"},
        {"multipart/form-data; boundary=", "--b--", "bad_form", "boundary"},
        {type, "nothing", "bad_form", "boundary"},
        {type, "--b", "bad_form", "line end"},
        {type, "--b\r\n", "bad_form", "ends before"},
        {type, "--b\r\n\r\n--b--", "bad_form", "Content-Disposition"},
        {type, "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "bad_form", "name"},
        {type, "--b\r\nContent-Disposition: form-data; name=x\r\n\r\nx\r\n--b--", "unknown_field",
         "'x'"},
        {type, "--b\r\nContent-Disposition: form-data; name=json\r\n\r\n{]\r\n--b--", "bad_json",
         "the form's JSON"},
        {type, "--b\r\nContent-Disposition: form-data; name=json\r\n\r\n[]\r\n--b--", "bad_type",
         "object"},
        {type, "--b\r\nContent-Disposition: form-data; name=json\r\n\r\n{}\r\n--b--",
         "missing_field", "image"},
        {type, "--b--", "missing_field", "image"},
        {type, "--b\r\nContent-Disposition: form-data; name=x; filename=y\r\n\r\n\r\n--b--",
         "bad_image", "empty"},
        {type,
         "--b\r\nContent-Disposition: form-data; name=json\r\n\r\n{}\r\n--b\r\n"
         "Content-Disposition: form-data; name=request\r\n\r\n{}\r\n--b--",
         "bad_form", "two parts"},
    };
    put_model(d, "m", description);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(send_typed(d, "/v2/models/m/infer", rows[i].type, rows[i].body,
                                  strlen(rows[i].body), NULL),
                       400, rows[i].code, rows[i].part);
}

static void other_models(struct daemon *d)
{
    put_model(d, "plain",
              "{\"inputs\":[{\"shape\":[-1,3,8,8]}],\"layers\":[{\"op\":\"flatten\"},"
              "{\"op\":\"linear\",\"out_features\":2}]}");
    answer_refused(send_file(d, "/v2/models/plain/infer", "image/png", "photo.png"), 409,
                   "conflict", "preprocess");
    /* two inputs: images go to the one that preprocess names */
    put_model(d, "two",
              "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,2]},{\"name\":\"y\","
              "\"shape\":[-1,1,8,8]}],\"preprocess\":{\"input\":\"y\"},"
              "\"layers\":[{\"name\":\"f\",\"op\":\"flatten\",\"inputs\":[\"y\"]},"
              "{\"name\":\"l\",\"op\":\"linear\",\"out_features\":2},"
              "{\"op\":\"add\",\"inputs\":[\"l\",\"x\"]}]}");
    struct answer *a = send_form(
        d, "/v2/models/two/infer",
        (struct part[]){{"i", "photo.png", NULL, NULL},
                        {"json", NULL, NULL, "{\"inputs\":[{\"name\":\"x\",\"data\":[[1,2]]}]}"},
                        {0}});
    answer_expect(a, 200);
    assert_null(answer_find(a, "predictions"));
    answer_refused(client_post(d->client, "/v2/models/two/infer",
                               "{\"inputs\":[{\"name\":\"x\",\"data\":[\"Zm9v\"]},"
                               "{\"name\":\"y\",\"data\":[\"Zm9v\"]}]}"),
                   409, "conflict", "'y'");
    struct bytes b = file_read("photo.png");
    const char *accept[] = {"Accept: image/png", NULL};
    answer_refused(send_typed(d, "/v2/models/plain/infer", "image/png", b.data, b.size, accept),
                   409, "conflict", NULL);
    free(b.data);
}

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
        DAEMON_TEST(every_form),
        DAEMON_TEST(batches),
        DAEMON_TEST(predictions),
        DAEMON_TEST(versions),
        DAEMON_TEST(drawn),
        DAEMON_TEST(memory),
        DAEMON_TEST(training),
        DAEMON_TEST(broken_images),
        DAEMON_TEST(small_limit, "--max-image-pixels", "2000"),
        DAEMON_TEST(broken_forms),
        DAEMON_TEST(other_models),
        DAEMON_TEST(described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
