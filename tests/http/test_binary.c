/* test_binary.c: Triton's binary tensor extension: bytes behind the JSON in questions and answers,
 * a raw tensor without JSON, every datatype, and framing that does not add up. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_LENGTH "Inference-Header-Content-Length"

/* POST of the JSON with the bytes behind it to the model "m"; header_length -1: its length. */
static struct answer *send_binary(struct client *c, const char *verb, const char *json,
                                  const void *bytes, size_t size, long long header_length)
{
    char path[64], header[96];
    size_t n = strlen(json);
    char *body = malloc(n + size + 1);
    assert_non_null(body);
    memcpy(body, json, n);
    memcpy(body + n, bytes, size);
    snprintf(path, sizeof path, "/v2/models/m/%s", verb);
    snprintf(header, sizeof header, HEADER_LENGTH ": %lld",
             header_length < 0 ? (long long)n : header_length);
    const char *const headers[] = {header, NULL};
    struct call call = {"POST", path, body, n + size, "application/octet-stream", headers};
    struct answer *a = client_send(c, &call);
    free(body);
    return a;
}

/* The JSON of an answer with binary outputs; *bytes_r is what follows it. A new reference. */
static json_t *split_answer(struct answer *a, const char **bytes_r, size_t *size_r)
{
    const char *length = answer_header(a, HEADER_LENGTH);
    answer_expect(a, 200);
    assert_non_null(length);
    assert_string_equal(answer_header(a, "Content-Type"), "application/octet-stream");
    size_t n = strtoul(length, NULL, 10);
    assert_true(n <= a->size);
    json_t *root = json_loadb(a->body, n, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    *bytes_r = a->body + n;
    *size_r = a->size - n;
    return root;
}

static const char two_samples[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,4],\"datatype\":\"FP32\","
    "\"parameters\":{\"binary_data_size\":32}}]}";
static const float samples[8] = {0.5f, -1, 2, 0.25f, 1, 1, -3, 0.125f};

/* ---- in and out ------------------------------------------------------------------------------ */

static void in_and_out(struct daemon *d)
{
    struct client *c = d->client;
    double text[6], from_binary[6];
    const char *bytes;
    size_t size;
    remote_create(c, "m", remote_mlp);
    struct answer *a =
        remote_post(c, "m", "infer", "{\"inputs\":[[0.5,-1,2,0.25],[1,1,-3,0.125]]}");
    remote_numbers(a, "outputs.0.data", text, 6);
    a = send_binary(c, "infer", two_samples, samples, sizeof samples, -1);
    answer_expect(a, 200);
    remote_numbers(a, "outputs.0.data", from_binary, 6);
    assert_memory_equal(text, from_binary, sizeof text);
    /* All outputs binary; one of two; JSON in and binary out. */
    json_t *root = split_answer(remote_post(c, "m", "infer",
                                            "{\"inputs\":[[0.5,-1,2,0.25],[1,1,-3,0.125]],"
                                            "\"parameters\":{\"binary_data_output\":true}}"),
                                &bytes, &size);
    json_int_t declared = 0;
    json_t *output = json_array_get(json_object_get(root, "outputs"), 0);
    assert_int_equal(json_unpack(output, "{s:{s:I}}", "parameters", "binary_data_size", &declared),
                     0);
    assert_null(json_object_get(output, "data"));
    assert_int_equal(declared, 24);
    assert_int_equal(size, 24);
    for (int i = 0; i < 6; i++) {
        float x;
        memcpy(&x, bytes + 4 * i, 4);
        assert_true((double)x == (double)(float)text[i]);
    }
    json_decref(root);
    a = remote_post(c, "m", "infer",
                    "{\"inputs\":[[0.5,-1,2,0.25],[1,1,-3,0.125]],\"outputs\":["
                    "{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":true}},"
                    "{\"name\":\"output\"}]}");
    root = split_answer(a, &bytes, &size);
    assert_int_equal(size, 24);
    assert_int_equal(json_array_size(json_object_get(root, "outputs")), 2);
    json_decref(root);
}

static void train_and_gradients(struct daemon *d)
{
    struct client *c = d->client;
    static const int64_t classes[2] = {0, 2};
    static const char json[] =
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,4],\"datatype\":\"FP32\","
        "\"parameters\":{\"binary_data_size\":32}}],"
        "\"targets\":[{\"name\":\"target\",\"shape\":[2],\"datatype\":\"INT64\","
        "\"parameters\":{\"binary_data_size\":16}}]%s}";
    static const char text[] = "{\"inputs\":[[0.5,-1,2,0.25],[1,1,-3,0.125]],\"targets\":[0,2]}";
    char body[512], bytes[48];
    const char *values;
    size_t size;
    memcpy(bytes, samples, 32);
    memcpy(bytes + 32, classes, 16);
    remote_create(c, "m", remote_mlp);
    remote_create(c, "n", remote_mlp);
    struct answer *plain = remote_post(c, "m", "gradients", text);
    snprintf(body, sizeof body, json,
             ",\"parameters\":{\"values\":true,\"binary_data_output\":true}");
    json_t *root =
        split_answer(send_binary(c, "gradients", body, bytes, sizeof bytes, -1), &values, &size);
    assert_int_equal(size, 4 * (4 * 8 + 8 + 8 * 3 + 3));
    assert_true(json_number_value(json_object_get(root, "loss")) == answer_number(plain, "loss"));
    json_decref(root);
    snprintf(body, sizeof body, json, "");
    struct answer *a = send_binary(c, "train_step", body, bytes, sizeof bytes, -1);
    answer_expect(a, 200);
    remote_post(c, "n", "train_step", text);
    assert_same_state(remote_hash(c, "m"), remote_hash(c, "n"));
}

/* autograd: tensors in, value and gradients out, as bytes behind the JSON. */
static void expressions(struct daemon *d)
{
    struct client *c = d->client;
    static const char json[] =
        "{\"id\":\"e1\",\"expression\":\"sum(w*x)\",\"parameters\":{\"binary_data_output\":true},"
        "\"tensors\":{\"w\":{\"shape\":[2],\"datatype\":\"FP32\",\"requires_grad\":true,"
        "\"parameters\":{\"binary_data_size\":8}},\"x\":{\"data\":[3,-4]}}}";
    char body[sizeof json + 8], header[64];
    const char *bytes;
    size_t size;
    float numbers[3];
    memcpy(body, json, sizeof json - 1);
    memcpy(body + sizeof json - 1, samples, 8);
    snprintf(header, sizeof header, HEADER_LENGTH ": %zu", sizeof json - 1);
    const char *const headers[] = {header, NULL};
    struct call call = {
        "POST", "/v2/autograd", body, sizeof json - 1 + 8, "application/octet-stream", headers};
    json_t *root = split_answer(client_send(c, &call), &bytes, &size);
    assert_int_equal(size, 12);
    memcpy(numbers, bytes, 12);
    assert_true(numbers[0] == 3 * 0.5f + 4 && numbers[1] == 3 && numbers[2] == -4);
    const char *id, *value, *gradient;
    json_int_t value_size, gradient_size;
    assert_int_equal(json_unpack(root, "{s:s, s:{s:s, s:{s:I}}, s:{s:{s:s, s:{s:I}}}}", "id", &id,
                                 "value", "datatype", &value, "parameters", "binary_data_size",
                                 &value_size, "gradients", "w", "name", &gradient, "parameters",
                                 "binary_data_size", &gradient_size),
                     0);
    assert_string_equal(id, "e1");
    assert_string_equal(value, "FP32");
    assert_string_equal(gradient, "w");
    assert_true(value_size == 4 && gradient_size == 8);
    json_decref(root);
    struct answer *a = client_post(
        c, "/v2/autograd",
        "{\"expression\":\"2\",\"id\":\"e2\",\"parameters\":{\"binary_data_output\":false}}");
    answer_expect(a, 200);
    assert_string_equal(a->body,
                        "{\"id\":\"e2\",\"value\":{\"shape\":[],\"data\":[2]},\"gradients\":{}}");
    answer_refused(client_post(c, "/v2/autograd",
                               "{\"expression\":\"2\",\"parameters\":{\"binary_data\":true}}"),
                   400, "unknown_field", "'binary_data_output'");
}

/* Clients that ask for binary answers in every request are not kept from training. */
static void always_asked_for(struct daemon *d)
{
    struct client *c = d->client;
    static const char batch[] = "{\"inputs\":[[0.5,-1,2,0.25]],\"targets\":[0],"
                                "\"parameters\":{\"binary_data_output\":true}}";
    static const char bare[] = "{\"parameters\":{\"binary_data_output\":true}}";
    static const struct {
        const char *verb, *body;
    } rows[] = {{"forward_backward", batch}, {"optim_step", bare}, {"zero_grad", bare},
                {"train_step", batch},       {"evaluate", batch},  {"gradcheck", batch}};
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_non_null(answer_find(remote_post(c, "m", rows[i].verb, rows[i].body), "model_name"));
}

/* Length 0: the body is one tensor. */
static void raw_tensor(struct daemon *d)
{
    struct client *c = d->client;
    double text[6];
    const char *bytes;
    size_t size;
    remote_create(c, "m", remote_mlp);
    struct answer *a =
        remote_post(c, "m", "infer", "{\"inputs\":[[0.5,-1,2,0.25],[1,1,-3,0.125]]}");
    remote_numbers(a, "outputs.0.data", text, 6);
    json_t *root =
        split_answer(send_binary(c, "infer", "", samples, sizeof samples, 0), &bytes, &size);
    assert_int_equal(size, 24);
    for (int i = 0; i < 6; i++) {
        float x;
        memcpy(&x, bytes + 4 * i, 4);
        assert_true((double)x == (double)(float)text[i]);
    }
    json_decref(root);
    answer_refused(send_binary(c, "infer", "", samples, 31, 0), 400, "bad_binary", "31");
    answer_refused(send_binary(c, "infer", "", samples, 20, 0), 422, "bad_shape", "[N, 4]");
    static const char *const verbs[] = {"train_step", "forward_backward", "gradients", "evaluate"};
    for (int i = 0; i < 4; i++)
        answer_refused(send_binary(c, verbs[i], "", samples, 32, 0), 400, "missing_field",
                       "targets");
    struct call call = {"POST",
                        "/v2/autograd",
                        samples,
                        32,
                        "application/octet-stream",
                        (const char *const[]){HEADER_LENGTH ": 0", NULL}};
    answer_refused(client_send(c, &call), 400, "missing_field", "expression");
    assert_true(remote_number(c, "m", "revision") == 0);
}

/* ---- datatypes ------------------------------------------------------------------------------- */

/* A row: 4 numbers as bytes, and as they are. */
static void datatypes(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *datatype;
        size_t size;
        union {
            int8_t i8[4];
            uint8_t u8[4];
            int16_t i16[4];
            uint16_t u16[4];
            int32_t i32[4];
            uint32_t u32[4];
            int64_t i64[4];
            uint64_t u64[4];
            float f32[4];
            double f64[4];
        } bytes;
        float value[4];
    } rows[] = {
        {"BOOL", 4, {.u8 = {1, 0, 0, 1}}, {1, 0, 0, 1}},
        {"INT8", 4, {.i8 = {-128, 127, 0, -1}}, {-128, 127, 0, -1}},
        {"UINT8", 4, {.u8 = {255, 128, 0, 1}}, {255, 128, 0, 1}},
        {"INT16", 8, {.i16 = {-32768, 32767, 5, -1}}, {-32768, 32767, 5, -1}},
        {"UINT16", 8, {.u16 = {65535, 1, 0, 2}}, {65535, 1, 0, 2}},
        {"INT32", 16, {.i32 = {-16777216, 1, 0, 2}}, {-16777216, 1, 0, 2}},
        {"UINT32", 16, {.u32 = {4294967040u, 1, 0, 2}}, {4294967040.f, 1, 0, 2}},
        {"INT64", 32, {.i64 = {-1099511627776, 1, 0, 2}}, {-1099511627776.f, 1, 0, 2}},
        {"UINT64",
         32,
         {.u64 = {18446742974197923840u, 1, 0, 2}},
         {18446742974197923840.f, 1, 0, 2}},
        {"FP16", 8, {.u16 = {0x3c00, 0xc000, 0x0001, 0x7bff}}, {1, -2, 0x1p-24f, 65504}},
        {"BF16", 8, {.u16 = {0x3f80, 0xc000, 0x0001, 0x4049}}, {1, -2, 0x1p-133f, 3.140625f}},
        {"FP32", 16, {.f32 = {0.1f, -2, 3e38f, 0}}, {0.1f, -2, 3e38f, 0}},
        {"FP64", 32, {.f64 = {0.1, -2, 1e-30, 0}}, {0.1f, -2, 1e-30f, 0}},
    };
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],"
                  "\"layers\":[{\"op\":\"reshape\",\"shape\":[4]}]}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[256];
        snprintf(json, sizeof json,
                 "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,4],\"datatype\":\"%s\","
                 "\"parameters\":{\"binary_data_size\":%zu}}],"
                 "\"parameters\":{\"binary_data_output\":true}}",
                 rows[i].datatype, rows[i].size);
        const char *bytes;
        size_t size;
        struct answer *a = send_binary(c, "infer", json, &rows[i].bytes, rows[i].size, -1);
        json_decref(split_answer(a, &bytes, &size));
        assert_int_equal(size, 16);
        if (memcmp(bytes, rows[i].value, 16))
            fail_msg("%s: %s", rows[i].datatype, json);
    }
}

/* ---- framing that does not add up ------------------------------------------------------------ */

static void refused(struct daemon *d)
{
    struct client *c = d->client;
#define TENSOR(fields) "{\"inputs\":[{\"name\":\"x\"," fields "}]}"
#define SIZE(n)        "\"parameters\":{\"binary_data_size\":" n "}"
    static const struct {
        const char *json;
        size_t size;
        long long header;
        int status;
        const char *code, *part;
    } rows[] = {
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP32\"," SIZE("33")), 32, -1, 400, "bad_binary",
         "32"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP32\"," SIZE("28")), 28, -1, 400, "bad_binary",
         "32"},
        {TENSOR("\"shape\":[1,4],\"datatype\":\"FP32\"," SIZE("16")), 32, -1, 400, "bad_binary",
         "32 bytes follow"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP32\"," SIZE("-1")), 32, -1, 400, "bad_type",
         "binary_data_size"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP32\"," SIZE("\"32\"")), 32, -1, 400, "bad_type",
         "binary_data_size"},
        {TENSOR("\"shape\":[1,4],\"data\":[1,2,3,4]," SIZE("16")), 16, -1, 400, "bad_binary",
         "both"},
        {TENSOR("\"shape\":[1,4],\"datatype\":\"FP32\""), 16, -1, 400, "missing_field", "data"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP99\"," SIZE("32")), 32, -1, 422, "bad_datatype",
         "FP99"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"BYTES\"," SIZE("32")), 32, -1, 400, "bad_type",
         "expected numbers"},
        {TENSOR("\"shape\":[0,4],\"datatype\":\"FP32\"," SIZE("0")), 0, -1, 422, "empty_batch",
         "'x'"},
        {TENSOR("\"shape\":[4294967296,4294967296],\"datatype\":\"FP32\"," SIZE("32")), 32, -1, 422,
         "too_large", "'x'"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP32\"," SIZE("32")), 32, 1000, 400, "bad_binary",
         "1000"},
        {TENSOR("\"shape\":[2,4],\"datatype\":\"FP32\"," SIZE("32")), 32, 20, 400, "bad_json",
         "line 1"},
        {TENSOR("\"shape\":[1,4],\"datatype\":\"FP16\",\"data\":[1,2,3,4]"), 0, -1, 422,
         "bad_datatype", "FP16"},
    };
    remote_create(c, "m", remote_mlp);
    struct remote_hash before = remote_hash(c, "m");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(send_binary(c, "infer", rows[i].json, samples, rows[i].size, rows[i].header),
                       rows[i].status, rows[i].code, rows[i].part);
    /* Numbers that are not finite, as bits. */
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        float x[8] = {1, 2, 3, 4, 5, 6, 7, bad[i]};
        answer_refused(send_binary(c, "infer", two_samples, x, sizeof x, -1), 422, "not_finite",
                       "element 7");
    }
    static const char *const lengths[] = {"x", "-3", "1e2", "", "99999999999999999999"};
    for (int i = 0; i < 5; i++) {
        char header[80];
        snprintf(header, sizeof header, HEADER_LENGTH "%s%s", *lengths[i] ? ": " : ";", lengths[i]);
        struct call call = {"POST",      "/v2/models/m/infer",
                            two_samples, strlen(two_samples),
                            NULL,        (const char *const[]){header, NULL}};
        answer_refused(client_send(c, &call), 400, "bad_header", "whole number");
    }
    assert_same_state(remote_hash(c, "m"), before);
}

/* The index of the largest is INT64, in the metadata, as text and as bytes, also in another shape;
 * what is computed with it is a number. */
static void indices(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const names[] = {"index", "column", "twice"};
    static const char *const types[] = {"INT64", "INT64", "FP32"};
    static const int64_t expected[2] = {2, 1};
    const char *bytes;
    size_t size;
    remote_create(
        c, "m",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3]}],\"layers\":[{\"name\":\"index\","
        "\"op\":\"argmax\",\"dim\":1},{\"name\":\"column\",\"op\":\"unsqueeze\",\"dim\":1},"
        "{\"name\":\"twice\",\"op\":\"add\",\"inputs\":[\"index\",\"index\"]}],"
        "\"outputs\":[\"index\",\"column\",\"twice\"]}");
    struct answer *a = remote_get(c, "m", "");
    for (int i = 0; i < 3; i++) {
        char path[40];
        snprintf(path, sizeof path, "outputs.%d.datatype", i);
        assert_string_equal(answer_string(a, path), types[i]);
    }
    a = remote_post(c, "m", "infer", "{\"inputs\":[[1,2,3],[0,5,-1]]}");
    for (int i = 0; i < 3; i++) {
        char path[40];
        double data[2];
        snprintf(path, sizeof path, "outputs.%d.datatype", i);
        assert_string_equal(answer_string(a, path), types[i]);
        snprintf(path, sizeof path, "outputs.%d.name", i);
        assert_string_equal(answer_string(a, path), names[i]);
        snprintf(path, sizeof path, "outputs.%d.data", i);
        assert_int_equal(remote_numbers(a, path, data, 2), 2);
        assert_true(data[0] == (i < 2 ? 2 : 4) && data[1] == (i < 2 ? 1 : 2));
    }
    json_t *root = split_answer(
        remote_post(c, "m", "infer",
                    "{\"inputs\":[[1,2,3],[0,5,-1]],\"outputs\":[{\"name\":\"index\"}],"
                    "\"parameters\":{\"binary_data_output\":true}}"),
        &bytes, &size);
    assert_int_equal(size, sizeof expected);
    assert_memory_equal(bytes, expected, sizeof expected);
    json_decref(root);
}

/* Classes as strings, each behind its length. */
static void classes_out(struct daemon *d)
{
    struct client *c = d->client;
    const char *bytes;
    size_t size, at = 0;
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_post(
        c, "m", "infer",
        remote_inputs(c, 1, 2, 4,
                      "\"outputs\":[{\"name\":\"output\",\"parameters\":{\"classification\":1,"
                      "\"binary_data\":true}}]"));
    json_t *root = split_answer(a, &bytes, &size);
    json_t *output = json_array_get(json_object_get(root, "outputs"), 0);
    assert_string_equal(json_string_value(json_object_get(output, "datatype")), "BYTES");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(output, "parameters"),
                                                        "binary_data_size")),
                     size);
    for (int i = 0; i < 2; i++) {
        uint32_t length;
        memcpy(&length, bytes + at, 4);
        assert_in_range(length, 3, 20);
        assert_non_null(memchr(bytes + at + 4, ':', length));
        at += 4 + length;
    }
    assert_int_equal(at, size);
    json_decref(root);
}

/* The bytes begin wherever the JSON ends: the numbers are the same at each length of it. */
static void any_length(struct daemon *d)
{
    struct client *c = d->client;
    double first[6], x[6];
    remote_create(c, "m", remote_mlp);
    for (int spaces = 0; spaces <= 8; spaces++) {
        char json[sizeof two_samples + 8];
        snprintf(json, sizeof json, "%s%*s", two_samples, spaces, "");
        struct answer *a = send_binary(c, "infer", json, samples, sizeof samples, -1);
        answer_expect(a, 200);
        assert_int_equal(remote_numbers(a, "outputs.0.data", spaces ? x : first, 6), 6);
        if (spaces)
            assert_memory_equal(first, x, sizeof x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(in_and_out),  DAEMON_TEST(indices),
        DAEMON_TEST(classes_out), DAEMON_TEST(train_and_gradients),
        DAEMON_TEST(raw_tensor),  DAEMON_TEST(datatypes),
        DAEMON_TEST(refused),     DAEMON_TEST(any_length),
        DAEMON_TEST(expressions), DAEMON_TEST(always_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
