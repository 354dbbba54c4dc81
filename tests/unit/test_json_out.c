/* test_json_out.c: what the writer writes, read back by jansson. */
#include "../../server/json_out.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct json_out *w, const char *text)
{
    assert_false(w->failed);
    if (w->size != strlen(text) || memcmp(w->data, text, w->size))
        fail_msg("%.*s, expected %s", (int)w->size, w->data, text);
    out_free(w);
}

static void test_commas(void **state)
{
    (void)state;
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "a", "b");
    out_key(&w, "c");
    out_open_array(&w);
    out_open_array(&w);
    out_close(&w);
    out_open_object(&w);
    out_close(&w);
    out_int(&w, -5);
    out_uint(&w, UINT64_MAX);
    out_bool(&w, true);
    out_null(&w);
    out_string(&w, NULL);
    out_raw(&w, "[1]", 3);
    out_close(&w);
    out_put_bool(&w, "d", false);
    out_put_double(&w, "e", 0.1);
    out_close(&w);
    expect(&w, "{\"a\":\"b\",\"c\":[[],{},-5,18446744073709551615,true,null,null,[1]],"
               "\"d\":false,\"e\":0.1}");
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *json;
    } rows[] = {
        {"", "\"\""},
        {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\x80", "\"\xef\xbf\xbd\""},
        {"a\xc3", "\"a\xef\xbf\xbd\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf5\x80\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe2\x82"
         "x",
         "\"\xef\xbf\xbd\xef\xbf\xbdx\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json_out w = JSON_OUT_INIT;
        out_string(&w, rows[i].text);
        json_t *back = json_loadb(w.data, w.size, JSON_DECODE_ANY, NULL);
        assert_non_null(back);
        json_decref(back);
        expect(&w, rows[i].json);
    }
    struct json_out w = JSON_OUT_INIT;
    out_string_n(&w, "a\0b", 3);
    expect(&w, "\"a\\u0000b\"");
}

/* Every byte, alone and in pairs, gives text that jansson accepts. */
static void test_any_bytes(void **state)
{
    (void)state;
    for (int a = 0; a < 256; a++)
        for (int b = 1; b < 256; b++) {
            char text[] = {(char)a, (char)b, (char)(a ^ b), 'x'};
            struct json_out w = JSON_OUT_INIT;
            out_string_n(&w, text, sizeof text);
            json_t *back = json_loadb(w.data, w.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            if (!back)
                fail_msg("bytes %d %d: %.*s", a, b, (int)w.size, w.data);
            json_decref(back);
            out_free(&w);
        }
}

static void test_numbers(void **state)
{
    (void)state;
    struct json_out w = JSON_OUT_INIT;
    float v[] = {1, 0.1f, NAN, -0.0f, INFINITY, 1e-45f};
    int64_t i[] = {INT64_MIN, 0, INT64_MAX};
    uint8_t b[] = {0, 1, 7};
    double d[] = {0.1, -INFINITY};
    out_open_object(&w);
    out_key(&w, "f");
    out_floats(&w, v, 6);
    out_put_int64s(&w, "i", i, 3);
    out_key(&w, "b");
    out_bools(&w, b, 3);
    out_key(&w, "d");
    out_doubles(&w, d, 2);
    out_key(&w, "none");
    out_floats(&w, NULL, 0);
    out_put_double(&w, "x", NAN);
    out_key(&w, "y");
    out_float(&w, 2.5f);
    out_put_non_finite(&w);
    out_close(&w);
    expect(&w, "{\"f\":[1,0.1,null,-0.0,null,1e-45],"
               "\"i\":[-9223372036854775808,0,9223372036854775807],\"b\":[false,true,true],"
               "\"d\":[0.1,null],\"none\":[],\"x\":null,\"y\":2.5,\"non_finite\":4}");
    out_open_object(&w);
    out_put_non_finite(&w);
    out_close(&w);
    expect(&w, "{}");
}

static void test_large_array(void **state)
{
    (void)state;
    enum { N = 10000 };
    float *v = malloc(N * sizeof *v);
    for (int i = 0; i < N; i++)
        v[i] = (float)(i - 5000) / 7;
    struct json_out w = JSON_OUT_INIT;
    out_floats(&w, v, N);
    json_t *back = json_loadb(w.data, w.size, 0, NULL);
    assert_int_equal(json_array_size(back), N);
    for (size_t i = 0; i < N; i++)
        assert_true((float)json_number_value(json_array_get(back, i)) == v[i]);
    json_decref(back);
    out_free(&w);
    free(v);
}

static void test_depth(void **state)
{
    (void)state;
    struct json_out w = JSON_OUT_INIT;
    for (int i = 0; i < JSON_OUT_MAX_DEPTH; i++)
        i % 2 ? out_open_object(&w) : out_open_array(&w);
    assert_false(w.failed);
    out_open_array(&w);
    assert_true(w.failed);
    out_floats(&w, (float[]){1}, 1);
    out_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commas),      cmocka_unit_test(test_strings),
        cmocka_unit_test(test_any_bytes),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_large_array), cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests_name("json_out", tests, NULL, NULL);
}
