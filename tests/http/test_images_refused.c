/* test_images_refused.c: images and forms that are broken, too large or for another model. */
#include "images_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(broken_images),
        DAEMON_TEST(small_limit, "--max-image-pixels", "2000"),
        DAEMON_TEST(broken_forms),
        DAEMON_TEST(other_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
