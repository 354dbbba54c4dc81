/* test_tensor.c: tensors of requests, as JSON and as bytes, into what models want, and back. */
#include "../../server/tensor_reply.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A request whose body is `json` and then `size` bytes; these lie `place` bytes past a multiple of
 * 8. */
static struct request *make_at(struct server *s, const char *json, const void *bytes, size_t size,
                               size_t place)
{
    const size_t lead = (place - strlen(json)) % 8;
    struct error e;
    struct request *q = request_create(s, "POST", "/", "");
    q->json_size = strlen(json);
    q->body_size = q->json_size + size;
    q->body_block = malloc(lead + q->body_size + 1);
    q->body = q->body_block + lead;
    memcpy(q->body, json, q->json_size);
    if (size)
        memcpy(q->body + q->json_size, bytes, size);
    if (json_in_read(&q->json, q->arena, q->body, q->json_size, true, &e))
        fail_msg("%s: %s", json, e.text);
    return q;
}

static struct request *make(struct server *s, const char *json, const void *bytes, size_t size)
{
    return make_at(s, json, bytes, size, 0);
}

/* Reads field "inputs" and converts its only tensor: the values as text, or the error. */
static const char *convert(struct request *q, enum dtype dtype, const struct shape *want)
{
    struct error e = {0};
    struct tensor *t;
    const void *out;
    int n;
    int64_t batch, count;
    if (tensors_read(q, "inputs", &t, &n, &e) || tensors_end(q, &e))
        return arena_printf(q->arena, "%s: %s", error_slug(e.code), e.text);
    assert_int_equal(n, 1);
    if (tensor_resolve(t, dtype, want, &batch, &count, &e))
        return arena_printf(q->arena, "%s: %s", error_slug(e.code), e.text);
    assert_true(count < 100);
    if (tensor_take(t, dtype, q->arena, count, &out, &e))
        return arena_printf(q->arena, "%s: %s", error_slug(e.code), e.text);
    char *text = arena_printf(q->arena, "%lld:", (long long)batch);
    for (int64_t i = 0; i < count; i++)
        text = dtype == DTYPE_REAL
                   ? arena_printf(q->arena, "%s %g", text, (double)((const real *)out)[i])
                   : arena_printf(q->arena, "%s %lld", text, (long long)((const int64_t *)out)[i]);
    return text;
}

struct row {
    const char *json; /* the inputs */
    const void *bytes;
    size_t size;
    enum dtype dtype;
    const char *expected; /* a part of it */
};

static void check_rows(const struct row *rows, size_t n, const struct shape *want)
{
    struct server s = {0};
    for (size_t i = 0; i < n; i++) {
        char json[400];
        snprintf(json, sizeof json, "{\"inputs\":%s}", rows[i].json);
        struct request *q = make(&s, json, rows[i].bytes, rows[i].size);
        const char *got = convert(q, rows[i].dtype, want);
        if (!strstr(got, rows[i].expected))
            fail_msg("%s: %s, expected %s", json, got, rows[i].expected);
        request_destroy(&q);
    }
}
#define CHECK_ROWS(rows, want) check_rows(rows, sizeof(rows) / sizeof *(rows), want)
#define JSON(text)             text, NULL, 0

static void test_json(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {JSON("[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5,6.5]}]"),
         DTYPE_REAL, "2: 1 2 3 4 5 6.5"},
        {JSON("[{\"shape\":[2,3],\"data\":[[1,2,3],[4,5,6]]}]"), DTYPE_REAL, "2: 1 2 3 4 5 6"},
        {JSON("[[1,2,3],[4,5,6]]"), DTYPE_REAL, "2: 1 2 3 4 5 6"},
        {JSON("[1,2,3]"), DTYPE_REAL, "1: 1 2 3"},
        {JSON("[1,2,3,4,5,6]"), DTYPE_INT64, "2: 1 2 3 4 5 6"},
        {JSON("[1,2,3,4]"), DTYPE_REAL, "bad_shape: inputs has shape [4], expected [N, 3]"},
        {JSON("[[1,2],[3,4]]"), DTYPE_REAL, "bad_shape: inputs has shape [2, 2]"},
        {JSON("[]"), DTYPE_REAL, "empty_batch: inputs has no examples"},
        {JSON("[{\"shape\":[0,3],\"data\":[]}]"), DTYPE_REAL, "empty_batch: inputs[0]"},
        {JSON("[{\"shape\":[1,3],\"data\":[1,2]}]"), DTYPE_REAL, "bad_shape: inputs[0]"},
        {JSON("[{\"shape\":[1,3],\"data\":[1,2,3,4]}]"), DTYPE_REAL,
         "bad_shape: inputs[0]: line 1"},
        {JSON("[{\"shape\":[1000000,3],\"data\":[1]}]"), DTYPE_REAL,
         "bad_shape: inputs[0] has fewer"},
        {JSON("[{\"shape\":[4611686018427387904,3],\"data\":[1]}]"), DTYPE_REAL, "too_large"},
        {JSON("[{\"shape\":[-1,3],\"data\":[1,2,3]}]"), DTYPE_REAL,
         "bad_shape: inputs[0]: shape has the size -1"},
        {JSON("[{\"shape\":[1.5,3],\"data\":[1,2,3]}]"), DTYPE_REAL, "bad_type"},
        {JSON("[{\"shape\":[1,1,1,1,1,1,1,1,3],\"data\":[1,2,3]}]"), DTYPE_REAL, "at most 8"},
        {JSON("[{\"shape\":3,\"data\":[1,2,3]}]"), DTYPE_REAL,
         "bad_type: inputs[0]: 'shape' is an integer"},
        {JSON("[{\"name\":7,\"data\":[1,2,3]}]"), DTYPE_REAL, "bad_type: inputs[0]: 'name'"},
        {JSON("[{\"datatype\":\"FP31\",\"data\":[1,2,3]}]"), DTYPE_REAL,
         "unknown datatype 'FP31', did you mean FP"},
        {JSON("[{\"datatype\":\"FP16\",\"data\":[1,2,3]}]"), DTYPE_REAL,
         "bad_datatype: inputs[0]: FP16 has no JSON form"},
        {JSON("[{\"datatype\":\"BYTES\",\"data\":[\"a\"]}]"), DTYPE_REAL, "bad_datatype"},
        {JSON("[{\"data\":[\"a\"]}]"), DTYPE_REAL, "bad_type: inputs[0]: 'data' is a string"},
        {JSON("[{\"shap\":[3],\"data\":[1,2,3]}]"), DTYPE_REAL,
         "unknown_field: inputs[0]: unknown field 'shap', did you mean shape"},
        {JSON("[{\"name\":\"x\"}]"), DTYPE_REAL, "missing_field: inputs 'x' has no data"},
        {JSON("[\"x\"]"), DTYPE_REAL, "bad_type: inputs[0] is a string"},
        {JSON("{}"), DTYPE_REAL, "bad_type: 'inputs' is an object"},
        {JSON("[{\"datatype\":\"UINT8\",\"data\":[1,255,3]}]"), DTYPE_REAL, "1: 1 255 3"},
        {JSON("[{\"datatype\":\"UINT8\",\"data\":[1,256,3]}]"), DTYPE_REAL,
         "bad_value: inputs[0]: element 1 is 256, out of range for UINT8"},
        {JSON("[{\"datatype\":\"INT8\",\"data\":[1,-129,3]}]"), DTYPE_INT64,
         "bad_value: inputs[0]: element 1 is -129"},
        {JSON("[{\"datatype\":\"INT32\",\"data\":[1,2.5,3]}]"), DTYPE_REAL,
         "bad_type: inputs[0]: line 1"},
        {JSON("[{\"datatype\":\"UINT64\",\"data\":[1,18446744073709551615,3]}]"), DTYPE_REAL,
         "1: 1 1.84467e+19 3"},
        {JSON("[{\"datatype\":\"UINT64\",\"data\":[1,-1,3]}]"), DTYPE_INT64, "bad_value"},
        {JSON("[{\"datatype\":\"BOOL\",\"data\":[true,false,1]}]"), DTYPE_REAL, "1: 1 0 1"},
        {JSON("[{\"datatype\":\"BOOL\",\"data\":[true,false,1]}]"), DTYPE_INT64, "1: 1 0 1"},
        {JSON("[{\"datatype\":\"FP32\",\"data\":[true,false,1]}]"), DTYPE_REAL,
         "bad_type: inputs[0]: line 1, column"},
        {JSON("[{\"datatype\":\"FP32\",\"data\":[1,1e39,1]}]"), DTYPE_REAL,
         "bad_value: inputs[0]: line 1"},
        {JSON("[{\"data\":[1,2.5,1]}]"), DTYPE_INT64, "bad_type"},
        {JSON("[{\"data\":[01,2,1]}]"), DTYPE_INT64, "bad_json: inputs[0]: line 1, column 22"},
        {JSON("[{\"data\":[1,2,3],\"parameters\":{\"content_type\":\"np\"}}]"), DTYPE_REAL,
         "1: 1 2 3"},
        {JSON("[{\"data\":[1,2,3],\"parameters\":{\"binary_data_size\":0}}]"), DTYPE_REAL,
         "bad_binary: inputs[0] has both"},
    };
    CHECK_ROWS(rows, &SHAPE(BATCH, 3));
}

#define BINARY(datatype, shape, size)                                                              \
    "[{\"shape\":" shape ",\"datatype\":\"" datatype                                               \
    "\",\"parameters\":{\"binary_data_size\":" size "}}]"

static void test_binary(void **state)
{
    (void)state;
    static const float f[] = {1, -2.5f, 3}, bad[] = {1, NAN, 3}, inf[] = {1, 2, -INFINITY};
    static const double d[] = {1, 1e300, 3};
    static const int64_t i[] = {1, INT64_MIN, 3};
    static const uint64_t u[] = {1, UINT64_MAX, 3};
    static const uint16_t half[] = {0x3C00, 0xC100, 0x0001}, brain[] = {0x3F80, 0xC020, 0x4040};
    static const uint16_t half_bad[] = {0x3C00, 0x7C00, 0};
    static const unsigned char b[] = {1, 0, 7};
    static const struct row rows[] = {
        {BINARY("FP32", "[1,3]", "12"), f, 12, DTYPE_REAL, "1: 1 -2.5 3"},
        {BINARY("FP64", "[1,3]", "24"), d, 24, DTYPE_REAL,
         "not_finite: inputs[0]: element 1 is Infinity or too large"},
        {BINARY("FP32", "[1,3]", "12"), bad, 12, DTYPE_REAL,
         "not_finite: inputs[0]: element 1 is NaN"},
        {BINARY("FP32", "[1,3]", "12"), inf, 12, DTYPE_REAL,
         "not_finite: inputs[0]: element 2 is -Infinity"},
        {BINARY("FP32", "[1,3]", "12"), f, 12, DTYPE_INT64, "bad_value: inputs[0]: element 1"},
        {BINARY("FP32", "[1,3]", "12"), bad, 12, DTYPE_INT64, "bad_value: inputs[0]: element 1"},
        {BINARY("INT64", "[1,3]", "24"), i, 24, DTYPE_INT64, "1: 1 -9223372036854775808 3"},
        {BINARY("UINT64", "[1,3]", "24"), u, 24, DTYPE_INT64, "bad_value: inputs[0]: element 1"},
        {BINARY("UINT64", "[1,3]", "24"), u, 24, DTYPE_REAL, "1: 1 1.84467e+19 3"},
        {BINARY("FP16", "[1,3]", "6"), half, 6, DTYPE_REAL, "1: 1 -2.5 5.96046e-08"},
        {BINARY("FP16", "[1,3]", "6"), half_bad, 6, DTYPE_REAL, "not_finite"},
        {BINARY("BF16", "[1,3]", "6"), brain, 6, DTYPE_REAL, "1: 1 -2.5 3"},
        {BINARY("BOOL", "[1,3]", "3"), b, 3, DTYPE_REAL, "1: 1 0 1"},
        {BINARY("UINT8", "[1,3]", "3"), b, 3, DTYPE_INT64, "1: 1 0 7"},
        {BINARY("FP32", "[1,3]", "8"), f, 12, DTYPE_REAL, "bad_binary: 12 bytes follow the JSON"},
        {BINARY("FP32", "[1,3]", "16"), f, 12, DTYPE_REAL,
         "bad_binary: inputs[0]: binary_data_size is 16, but 12"},
        {BINARY("FP32", "[1,3]", "8"), f, 8, DTYPE_REAL,
         "bad_binary: inputs[0] has 8 bytes, shape [1, 3] of FP32 needs 12"},
        {BINARY("FP32", "[1,3]", "-1"), f, 12, DTYPE_REAL,
         "bad_type: inputs[0]: 'binary_data_size'"},
        {BINARY("FP32", "[1,3]", "\"12\""), f, 12, DTYPE_REAL, "bad_type"},
        {BINARY("BYTES", "[1,3]", "12"), f, 12, DTYPE_REAL, "bad_datatype"},
        {BINARY("FP32", "[4611686018427387904,4]", "12"), f, 12, DTYPE_REAL, "too_large"},
        {"[{\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":12}}]", f, 12, DTYPE_REAL,
         "1: 1 -2.5 3"},
        {"[{\"parameters\":{\"binary_data_size\":12}}]", f, 12, DTYPE_REAL, "1: 1 -2.5 3"},
        {"[{\"parameters\":{\"binary_data_size\":11}}]", f, 11, DTYPE_REAL,
         "bad_binary: inputs[0] has 11 bytes, not a multiple"},
    };
    CHECK_ROWS(rows, &SHAPE(BATCH, 3));
}

static void test_every_half(void **state)
{
    (void)state;
    const struct datatype *fp16 = datatype_find("FP16");
    for (int bits = 0; bits < 65536; bits++) {
        uint16_t h = (uint16_t)bits;
        real got;
        fp16->to_real((const unsigned char *)&h, 1, &got);
        int e = bits >> 10 & 31, fraction = bits & 1023;
        double want = e == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                      : e     ? (1 + fraction / 1024.0) * pow(2, e - 15)
                              : fraction / 1024.0 * pow(2, -14);
        want = bits & 0x8000 ? -want : want;
        assert_true(isnan(want) ? isnan(got)
                                : (double)got == want && !signbit(got) == !signbit(want));
    }
}

/* Bytes are given away in the order of the tensors, over both fields. */
static void test_two_fields(void **state)
{
    (void)state;
    struct server s = {0};
    struct error e;
    static const float data[] = {1, 2, 3, 4};
    struct request *q = make(&s,
                             "{\"inputs\":[{\"name\":\"a\",\"shape\":[1],\"datatype\":\"FP32\","
                             "\"parameters\":{\"binary_data_size\":4}},"
                             "{\"name\":\"b\",\"shape\":[2],\"datatype\":\"FP32\","
                             "\"parameters\":{\"binary_data_size\":8}}],"
                             "\"targets\":[{\"name\":\"t\",\"shape\":[1],\"datatype\":\"FP32\","
                             "\"parameters\":{\"binary_data_size\":4}}]}",
                             data, sizeof data);
    struct tensor *in, *out;
    int n_in, n_out;
    assert_int_equal(tensors_read(q, "inputs", &in, &n_in, &e), 0);
    assert_int_equal(tensors_end(q, &e), -1);
    assert_int_equal(tensors_read(q, "targets", &out, &n_out, &e), 0);
    assert_int_equal(tensors_end(q, &e), 0);
    assert_true(n_in == 2 && n_out == 1);
    int64_t count;
    const void *taken;
    assert_int_equal(tensor_resolve_any(&in[1], DTYPE_REAL, &count, &e), 0);
    assert_int_equal(tensor_take(&in[1], DTYPE_REAL, q->arena, count, &taken, &e), 0);
    const real *v = taken;
    assert_true(count == 2 && v[0] == 2 && v[1] == 3);
    assert_int_equal(tensor_resolve_any(&out[0], DTYPE_REAL, &count, &e), 0);
    assert_int_equal(tensor_take(&out[0], DTYPE_REAL, q->arena, count, &taken, &e), 0);
    v = taken;
    assert_true(v[0] == 4);
    request_destroy(&q);
}

/* Bytes that are what is wanted stay where they are; at an address that will not do, and of other
 * datatypes, they are copied. The numbers, and what is said of bad ones, are the same. */
static void test_in_place(void **state)
{
    (void)state;
    struct server s = {0};
    static const float fp32[] = {1.5f, -2, 0, 3, 4, 1e30f}, bad[] = {1, 2, 3, 4, NAN, 6};
    static const int64_t int64[] = {1, -2, INT64_MAX, 3, 4, 5};
    static const struct {
        const char *datatype;
        const void *bytes;
        size_t size, align; /* 0: never in place */
        enum dtype dtype;
        const char *expected;
    } rows[] = {
        {"FP32", fp32, sizeof fp32, 4, DTYPE_REAL, "2: 1.5 -2 0 3 4 1e+30"},
        {"FP32", bad, sizeof bad, 0, DTYPE_REAL, "not_finite: inputs[0]: element 4 is NaN"},
        {"INT64", int64, sizeof int64, 8, DTYPE_INT64, "2: 1 -2 9223372036854775807 3 4 5"},
        {"INT64", int64, sizeof int64, 0, DTYPE_REAL, "2: 1 -2 9.22337e+18 3 4 5"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows * 8; k++) {
        size_t i = k / 8, place = k % 8;
        char json[200];
        snprintf(json, sizeof json,
                 "{\"inputs\":[{\"shape\":[2,3],\"datatype\":\"%s\","
                 "\"parameters\":{\"binary_data_size\":%zu}}]}",
                 rows[i].datatype, rows[i].size);
        struct request *q = make_at(&s, json, rows[i].bytes, rows[i].size, place);
        const char *got = convert(q, rows[i].dtype, &SHAPE(BATCH, 3));
        if (!strstr(got, rows[i].expected))
            fail_msg("%s at %zu: %s, expected %s", rows[i].datatype, place, got, rows[i].expected);
        request_destroy(&q);
        if (strchr(rows[i].expected, '_'))
            continue;
        q = make_at(&s, json, rows[i].bytes, rows[i].size, place);
        struct error e;
        struct tensor *t;
        const void *out;
        int64_t batch, count;
        int n;
        assert_int_equal(tensors_read(q, "inputs", &t, &n, &e), 0);
        assert_int_equal(tensor_resolve(t, rows[i].dtype, &SHAPE(BATCH, 3), &batch, &count, &e), 0);
        assert_int_equal(tensor_take(t, rows[i].dtype, q->arena, count, &out, &e), 0);
        assert_int_equal(out == q->body + q->json_size,
                         rows[i].align && place % rows[i].align == 0);
        request_destroy(&q);
    }
}

static void test_raw_and_named(void **state)
{
    (void)state;
    struct server s = {0};
    struct error e;
    static const float data[] = {1, 2, 3};
    struct request *q = request_create(&s, "POST", "/", "");
    q->body = q->body_block = malloc(13);
    memcpy(q->body, data, 12);
    q->body_size = 12;
    q->raw_tensor = true;
    assert_string_equal(convert(q, DTYPE_REAL, &SHAPE(BATCH, 3)), "1: 1 2 3");
    struct output_wishes wishes;
    assert_int_equal(output_wishes_read(q, &wishes, &e), 0);
    assert_true(wishes.all && wishes.binary);
    request_destroy(&q);
    q = make(&s, "{\"tensors\":{\"w\":{\"data\":[[2]],\"requires_grad\":true}}}", NULL, 0);
    struct tensor t;
    int64_t count;
    const json_t *w = json_object_get(json_object_get(q->json.root, "tensors"), "w");
    assert_int_equal(tensor_read(q, "tensors", "w", w, NULL, &t, &e), -1);
    assert_int_equal(e.code, ERROR_UNKNOWN_FIELD);
    assert_int_equal(tensor_read(q, "tensors", "w", w, "requires_grad", &t, &e), 0);
    assert_int_equal(tensor_resolve_any(&t, DTYPE_REAL, &count, &e), 0);
    assert_true(count == 1 && shape_equal(&t.shape, &SHAPE(1, 1)));
    assert_int_equal(tensors_read(q, "inputs", NULL, NULL, &e), -1);
    assert_int_equal(e.code, ERROR_MISSING_FIELD);
    request_destroy(&q);
}

static void reply_two(struct request *q, struct output_wishes *w)
{
    struct error e;
    struct tensor_reply r;
    struct output_wish store;
    const struct output_wish *wish;
    static const real a[] = {1, (real)0.1, NAN};
    static const int64_t b[] = {7, -8};
    assert_int_equal(output_wishes_read(q, w, &e), 0);
    tensor_reply_begin(&r, q);
    out_key(&r.json, "outputs");
    out_open_array(&r.json);
    if ((wish = output_wish_find(w, "a", &store)))
        tensor_reply_add(&r, &(struct tensor_out){"a", DTYPE_REAL, SHAPE(1, 3), a, 3},
                         wish->binary);
    if ((wish = output_wish_find(w, "b", &store)))
        tensor_reply_add(&r, &(struct tensor_out){"b", DTYPE_INT64, SHAPE(2), b, 2}, wish->binary);
    out_close(&r.json);
    assert_int_equal(tensor_reply_end(&r, 200), 200);
}

static void test_reply(void **state)
{
    (void)state;
    struct server s = {0};
    struct output_wishes w;
    struct error e;
    struct request *q = make(&s, "{}", NULL, 0);
    reply_two(q, &w);
    const char *want =
        "{\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[1,3],"
        "\"data\":[1,0.1,null]},{\"name\":\"b\",\"datatype\":\"INT64\",\"shape\":[2],"
        "\"data\":[7,-8]}],\"non_finite\":1}";
    assert_int_equal(q->response.size, strlen(want));
    assert_memory_equal(q->response.body, want, strlen(want));
    request_destroy(&q);
    q = make(&s,
             "{\"parameters\":{\"binary_data_output\":true},\"outputs\":[{\"name\":\"a\"},"
             "{\"name\":\"b\",\"parameters\":{\"binary_data\":false}}]}",
             NULL, 0);
    reply_two(q, &w);
    want = "{\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[1,3],"
           "\"parameters\":{\"binary_data_size\":12}},{\"name\":\"b\",\"datatype\":\"INT64\","
           "\"shape\":[2],\"data\":[7,-8]}]}";
    assert_int_equal(q->response.size, strlen(want) + 12);
    assert_memory_equal(q->response.body, want, strlen(want));
    assert_string_equal(q->response.headers[0].name, "Inference-Header-Content-Length");
    assert_int_equal(atoi(q->response.headers[0].value), strlen(want));
    assert_string_equal(q->response.content_type, "application/octet-stream");
    request_destroy(&q);
    q = make(&s, "{\"outputs\":[{\"name\":\"b\"}]}", NULL, 0);
    reply_two(q, &w);
    assert_null(output_wish_find(&w, "a", &(struct output_wish){0}));
    request_destroy(&q);
    static const char *const broken[] = {"{\"outputs\":{}}",
                                         "{\"outputs\":[1]}",
                                         "{\"outputs\":[{}]}",
                                         "{\"outputs\":[{\"name\":1}]}",
                                         "{\"outputs\":[{\"name\":\"a\",\"x\":1}]}",
                                         "{\"parameters\":{\"binary_data_output\":1}}"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        q = make(&s, broken[i], NULL, 0);
        assert_int_equal(output_wishes_read(q, &w, &e), -1);
        assert_int_equal(error_status(e.code), 400);
        request_destroy(&q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),          cmocka_unit_test(test_binary),
        cmocka_unit_test(test_every_half),    cmocka_unit_test(test_two_fields),
        cmocka_unit_test(test_raw_and_named), cmocka_unit_test(test_reply),
        cmocka_unit_test(test_in_place),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
