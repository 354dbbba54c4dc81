/* test_json_in.c: bodies with spans: what is found, what is read, and where errors are reported. */
#include "../../server/json_in.h"
#include "backprop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
    struct arena *arena;
    struct json_in in;
    struct error e;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->arena = arena_create(0);
    *state = f;
    return !f->arena;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    json_in_free(&f->in);
    arena_destroy(&f->arena);
    free(f);
    return 0;
}

static int read_text(struct fixture *f, const char *text)
{
    json_in_free(&f->in);
    f->e = (struct error){0};
    return json_in_read(&f->in, f->arena, text, strlen(text), true, &f->e);
}

static const struct json_span *span_of(struct fixture *f, const char *text)
{
    if (read_text(f, text))
        fail_msg("%s: %s", text, f->e.text);
    const struct json_span *s = json_in_span(&f->in, f->in.root, "data");
    assert_non_null(s);
    return s;
}

static void test_envelope(void **state)
{
    struct fixture *f = *state;
    const char *text = "{\"a\":[1,2],\n \"inputs\":[{\"name\":\"x\",\"shape\":[2],\"data\":[1,2]},"
                       "{\"data\" : [[3],[4]] }], \"targets\":[1], \"data\":[\"s\"]}";
    assert_int_equal(read_text(f, text), 0);
    json_t *root = f->in.root, *inputs = json_object_get(root, "inputs");
    assert_int_equal(f->in.n_spans, 3);
    assert_int_equal(json_array_size(json_object_get(root, "a")), 2);
    assert_int_equal(json_array_size(inputs), 2);
    assert_null(json_in_span(&f->in, root, "inputs"));
    assert_null(json_in_span(&f->in, root, "data")); /* strings stay */
    const struct json_span *s = json_in_span(&f->in, json_array_get(inputs, 1), "data");
    assert_non_null(s);
    assert_memory_equal(s->begin, "[[3],[4]]", 9);
    assert_int_equal(s->end - s->begin, 9);
    s = json_in_span(&f->in, root, "targets");
    assert_memory_equal(s->begin, "[1]", 3);
}

/* A client cannot write something that is taken for a span: what looks like one is one. */
static void test_forged_marks(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(read_text(f, "{\"d\\u0061ta\":[0],\"inputs\":[7],\"x\":\"\\\"data\\\":[\"}"),
                     0);
    assert_int_equal(f->in.n_spans, 2);
    assert_memory_equal(json_in_span(&f->in, f->in.root, "data")->begin, "[0]", 3);
    assert_memory_equal(json_in_span(&f->in, f->in.root, "inputs")->begin, "[7]", 3);
    /* Under other keys an array is what the client wrote, whether it looks like a mark or not. */
    assert_int_equal(read_text(f, "{\"a\":[0],\"data\":[5],\"parameters\":[0],\"shape\":[0]}"), 0);
    assert_int_equal(f->in.n_spans, 1);
    static const char *const others[] = {"a", "parameters", "shape", "none", ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_null(json_in_span(&f->in, f->in.root, others[i]));
    assert_int_equal(read_text(f, "{\"data\":7}"), 0);
    assert_null(json_in_span(&f->in, f->in.root, "data"));
    json_in_free(&f->in);
    assert_int_equal(json_in_read(&f->in, f->arena, "{\"data\":[0]}", 12, false, &f->e), 0);
    assert_null(json_in_span(&f->in, f->in.root, "data"));
}

/* Text, the code of its error, and the place that the sentence must name. */
static void test_broken_bodies(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *place;
        enum error_code code;
    } rows[] = {
        {"", "line 1, column 1: unexpected token near end", ERROR_BAD_JSON},
        {"nope", "line 1, column 1:", ERROR_BAD_JSON},
        {"{\"data\":[1,2],\n  \"b\" 1}", "line 2, column 7: ':' expected", ERROR_BAD_JSON},
        {"{\"data\":[1,2,3,4,5,6,7,8,9,10,11,12], \"b\":x}", "line 1, column 43:", ERROR_BAD_JSON},
        {"{\"data\":[], \"b\":x}", "line 1, column 17:", ERROR_BAD_JSON},
        {"{\"data\":[1],\n\n\"b\":[1 2]}", "line 3, column 8:", ERROR_BAD_JSON},
        {"{\"a\":1,\"a\":2}", "line 1, column 8: duplicate object key", ERROR_DUPLICATE_FIELD},
        {"{\"data\":[1],\"d\\u0061ta\":[2]}", "line 1, column 13: duplicate",
         ERROR_DUPLICATE_FIELD},
        {"{\"data\":[1,2", "line 1, column 9: the list that begins here does not end",
         ERROR_BAD_JSON},
        {"{\"data\":[1,\"x\"]}", "line 1, column 12: a string", ERROR_BAD_TYPE},
        {"{\"data\":[1,{}]}", "line 1, column 12: an object", ERROR_BAD_TYPE},
        {"{\"a\":1} x", "line 1, column 9:", ERROR_BAD_JSON},
        {"{\"\xc3\xa9\":\"\xc3\xa9\", y}", "line 1, column 11:", ERROR_BAD_JSON},
        {"{\"a\":\"", "line 1, column 6:", ERROR_BAD_JSON},
        {"{\"a\":[NaN]}", "line 1, column 7:", ERROR_BAD_JSON},
        {"{\"a\":\"\\u0000\"}", "line 1, column 6:", ERROR_BAD_VALUE},
        {"{\"\\u0000\":1}", "line 1, column 2:", ERROR_BAD_NAME},
        /* Nobody may read what is in parameters: it is checked at once. */
        {"{\"parameters\":{\"data\":[1,,2]}}", "line 1, column 26: expected a value",
         ERROR_BAD_JSON},
        {"{\"parameters\":{\"a\":[{\"inputs\":[[01]]}]}}", "line 1, column 34:", ERROR_BAD_JSON},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!read_text(f, rows[i].text))
            fail_msg("'%s' was read", rows[i].text);
        if (f->e.code != rows[i].code || strncmp(f->e.text, rows[i].place, strlen(rows[i].place)))
            fail_msg("'%s': %s: %s", rows[i].text, error_slug(f->e.code), f->e.text);
    }
}

static void test_depth(void **state)
{
    struct fixture *f = *state;
    char text[4000];
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    text[130] = 0;
    assert_int_equal(read_text(f, text), -1);
    assert_non_null(strstr(f->e.text, "column 65: values are nested"));
    text[64] = ' ';
    text[65] = ' ';
    assert_int_equal(read_text(f, text), 0);
    memset(text, '[', 3000);
    memcpy(text, "{\"data\":", 8);
    memset(text + 1500, ']', 1492);
    strcpy(text + 2992, "}");
    assert_int_equal(read_text(f, text), -1);
    assert_int_equal(f->e.code, ERROR_BAD_JSON);
}

/* What jansson would need memory for, and end the process without: json_memory.c. */
static void test_tokens(void **state)
{
    struct fixture *f = *state;
    enum { ROOM = 3 * JSON_IN_MAX_TOKEN };
    static const char *const before[] = {"", "[", "{\"a\":", "[1, \"b\", "};
    static const char *const after[] = {"", "]", "}", "]"};
    char text[ROOM];
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        for (int longer = 0; longer < 2; longer++)
            for (int word = 0; word < 2; word++) {
                char *p = text + sprintf(text, "%s", before[i]);
                memset(p, word ? 't' : '1', JSON_IN_MAX_TOKEN + longer);
                p[1] = word ? 't' : '.';
                strcpy(p + JSON_IN_MAX_TOKEN + longer, after[i]);
                assert_int_equal(read_text(f, text) != 0, longer || word);
                assert_int_equal(strstr(f->e.text, "more than 4096 characters") != NULL, longer);
            }
    strcpy(text, "{\"a\":\"");
    memset(text + 6, 'x', ROOM - 6);
    strcpy(text + ROOM - 3, "\"}");
    assert_int_equal(read_text(f, text), 0); /* a string may be as long as it likes */
    text[ROOM - 4] = '\n';
    assert_int_equal(read_text(f, text), -1);
    assert_non_null(strstr(f->e.text, "column 12285: a control character in a string"));
}

static void test_shapes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *data, *shape; /* or the error */
    } rows[] = {
        {"[1,2,3]", "[3]"},
        {"[ [1,2,3] , [4,5,6] ]", "[2, 3]"},
        {"[[[1],[2]]]", "[1, 2, 1]"},
        {"[]", "[0]"},
        {"[[],[]]", "[2, 0]"},
        {"[true,false]", "[2]"},
        {"[[1,2],[3]]", "line 1, column 18: a list of length 1 after one of length 2"},
        {"[1,[2]]", "line 1, column 12: a list where"},
        {"[[1],2]", "line 1, column 14: a number where"},
        {"[[[[[[[[[1]]]]]]]]]", "line 1, column 17: data are nested more than 8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[100];
        struct shape shape;
        struct shape_text printed;
        int64_t count;
        snprintf(text, sizeof text, "{\"data\":%s}", rows[i].data);
        const struct json_span *s = span_of(f, text);
        const char *got =
            span_shape(s, &shape, &count, &f->e) ? f->e.text : shape_print(&shape, &printed);
        if (strncmp(got, rows[i].shape, strlen(rows[i].shape)))
            fail_msg("%s: %s", rows[i].data, got);
    }
}

static void test_values(void **state)
{
    struct fixture *f = *state;
    struct shape shape = SHAPE(2, 3);
    static const char *const texts[] = {"{\"data\":[1,2.5,-3e2,0,-0,1e-2]}",
                                        "{\"data\":[ [1 ,2.5,-3e2],\n[0,-0 , 1e-2 ]\t]}"};
    for (int i = 0; i < 2; i++) {
        float v[7] = {[6] = 77}, want[] = {1, 2.5f, -300, 0, -0.0f, 0.01f, 77};
        assert_int_equal(span_read(span_of(f, texts[i]), SPAN_FLOAT, &shape, v, 6, &f->e), 0);
        assert_memory_equal(v, want, sizeof v);
    }
    int64_t whole[2];
    struct shape two = SHAPE(2);
    assert_int_equal(span_read(span_of(f, "{\"data\":[-9223372036854775808,1.0]}"), SPAN_INT64,
                               &two, whole, 2, &f->e),
                     0);
    assert_true(whole[0] == INT64_MIN && whole[1] == 1);
    unsigned char flags[2];
    assert_int_equal(span_read(span_of(f, "{\"data\":[true,0]}"), SPAN_BOOL, &two, flags, 2, &f->e),
                     0);
    assert_true(flags[0] == 1 && flags[1] == 0);
    struct shape none = SHAPE(0, 5);
    assert_int_equal(span_read(span_of(f, "{\"data\":[]}"), SPAN_FLOAT, &none, NULL, 0, &f->e), 0);
}

static void test_broken_values(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *data;
        enum span_type type;
        enum error_code code;
        const char *text;
    } rows[] = {
        {"[1,01]", SPAN_FLOAT, ERROR_BAD_JSON, "column 13: expected ',' or ']', found '1'"},
        {"[1,NaN]", SPAN_FLOAT, ERROR_BAD_JSON, "column 12: 'NaN' is not a JSON number"},
        {"[1,.5]", SPAN_FLOAT, ERROR_BAD_JSON, "column 12: '.5' is not"},
        {"[1,-]", SPAN_FLOAT, ERROR_BAD_JSON, "column 13: '-' is not"},
        {"[1,2,]", SPAN_FLOAT, ERROR_BAD_JSON, "column 14: nothing between ',' and ']'"},
        {"[1,,2]", SPAN_FLOAT, ERROR_BAD_JSON, "column 12:"},
        {"[1 2]", SPAN_FLOAT, ERROR_BAD_JSON, "column 12: expected ',' or ']', found '2'"},
        {"[1]", SPAN_FLOAT, ERROR_BAD_SHAPE, "column 11: the list ends after 1 number, expected 2"},
        {"[1,2,3]", SPAN_FLOAT, ERROR_BAD_SHAPE,
         "column 14: the list has more than the expected 2"},
        {"[]", SPAN_FLOAT, ERROR_BAD_SHAPE, "column 10: an empty list, expected 2"},
        {"[[1],[2]]", SPAN_FLOAT, ERROR_BAD_SHAPE, "column 9: nested lists"},
        {"[1,true]", SPAN_FLOAT, ERROR_BAD_TYPE, "column 12: found true, expected a number"},
        {"[1,null]", SPAN_INT64, ERROR_BAD_TYPE, "column 12: found null"},
        {"[1,1e39]", SPAN_FLOAT, ERROR_BAD_VALUE, "column 12: 1e39 is too large for 32-bit"},
        {"[1,1e309]", SPAN_DOUBLE, ERROR_BAD_VALUE, "column 12: 1e309 is too large for 64-bit"},
        {"[1,1.5]", SPAN_INT64, ERROR_BAD_TYPE, "column 12: 1.5 is not a whole number"},
        {"[1,9223372036854775808]", SPAN_INT64, ERROR_BAD_VALUE, "column 12: 9223372036854775808"},
        {"[1,-1]", SPAN_UINT64, ERROR_BAD_VALUE, "column 12: a negative number"},
        {"[1,2]", SPAN_BOOL, ERROR_BAD_TYPE, "column 12: found 2, expected true or false"},
        {"[1,tru]", SPAN_FLOAT, ERROR_BAD_JSON, "column 12: 'tru' is not"},
    };
    struct shape two = SHAPE(2);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[100];
        double out[2];
        snprintf(text, sizeof text, "{\"data\":%s}", rows[i].data);
        const struct json_span *s = span_of(f, text);
        if (!span_read(s, rows[i].type, &two, out, 2, &f->e))
            fail_msg("%s was read", rows[i].data);
        if (f->e.code != rows[i].code || !strstr(f->e.text, rows[i].text))
            fail_msg("%s: %s: %s", rows[i].data, error_slug(f->e.code), f->e.text);
    }
}

static void test_nested_errors(void **state)
{
    struct fixture *f = *state;
    struct shape shape = SHAPE(2, 2);
    static const struct {
        const char *data, *text;
    } rows[] = {
        {"[[1,2]]", "ends after 1 list, expected 2"},
        {"[[1,2],[3,4],[5,6]]", "more than the expected 2 lists"},
        {"[[1,2],3]", "expected a list, found '3'"},
        {"[[1,2],[3]]", "ends after 1 number, expected 2"},
        {"[[[1],[2]],[[3],[4]]]", "a list where a number was expected"},
        {"[1,2,3]", "ends after 3 numbers, expected 4"},
        {"[[1,2],[3,4],]", "nothing between"},
        {"[[1,2] [3,4]]", "expected ',' or ']', found '['"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[100];
        float out[4];
        snprintf(text, sizeof text, "{\"data\":%s}", rows[i].data);
        assert_int_equal(span_read(span_of(f, text), SPAN_FLOAT, &shape, out, 4, &f->e), -1);
        if (!strstr(f->e.text, rows[i].text))
            fail_msg("%s: %s", rows[i].data, f->e.text);
    }
}

/* json_in_check finds what jansson finds, and nothing else. */
static void check_agrees(struct fixture *f, const char *text, size_t size)
{
    json_t *root = json_loadb(text, size, JSON_DECODE_ANY, NULL);
    struct json_in in = {.text = text, .size = size};
    f->e = (struct error){0};
    if (!root != !!json_in_check(&in, &f->e))
        fail_msg("%.*s: %s", (int)size, text, root ? f->e.text : "passes for JSON");
    json_decref(root);
}

/* Places of mistakes that no reader has seen. */
static void test_check(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *error; /* NULL: it is JSON */
    } rows[] = {
        {" [1, -0.5e+7, \"\\ud83d\\u00e9\\n\", true, {}, [], {\"a\":null}]\n", NULL},
        {"7", NULL},
        {"{\"data\":[1,2,,3]}", "line 1, column 14: expected a value"},
        {"[1,\n2 3]", "line 2, column 3: expected ',' or ']'"},
        {"{\"a\":1 2}", "line 1, column 8: expected ',' or '}'"},
        {"{\"a\" 1}", "line 1, column 6: expected ':'"},
        {"{1:2}", "line 1, column 2: expected a string"},
        {"[\"\\x\"]", "line 1, column 4: an escape"},
        {"[\"\\u12g4\"]", "line 1, column 7: \\u without"},
        {"[\"\t\"]", "line 1, column 3: a control character"},
        {"[\"\xed\xa0\x80\"]", "line 1, column 3: bytes that are not UTF-8"},
        {"[\"a", "line 1, column 4: a string that does not end"},
        {"[-]", "line 1, column 3: not a JSON number"},
        {"[01]", "line 1, column 3: expected ',' or ']'"},
        {"{}}", "line 1, column 3: expected the end"},
        {"[[]", "line 1, column 4: expected ',' or ']'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct json_in in = {.text = rows[i].text, .size = strlen(rows[i].text)};
        f->e = (struct error){0};
        bool bad = json_in_check(&in, &f->e);
        if (bad != !!rows[i].error ||
            (bad && strncmp(f->e.text, rows[i].error, strlen(rows[i].error)) != 0))
            fail_msg("%s: %s", rows[i].text, f->e.text);
        if (strstr(rows[i].text, "ud83d") == NULL) /* jansson takes no lone surrogates */
            check_agrees(f, rows[i].text, strlen(rows[i].text));
    }
    char deep[2 * JSON_IN_MAX_DEPTH + 2];
    memset(deep, '[', JSON_IN_MAX_DEPTH + 1);
    memset(deep + JSON_IN_MAX_DEPTH + 1, ']', JSON_IN_MAX_DEPTH + 1);
    struct json_in in = {.text = deep, .size = sizeof deep};
    assert_int_equal(json_in_check(&in, &f->e), -1);
    in = (struct json_in){.text = deep + 1, .size = sizeof deep - 2};
    assert_int_equal(json_in_check(&in, &f->e), 0);
}

/* Bodies cut short, with single bytes changed: no crash, no read beyond the end (sanitizers tell).
 */
static void test_mutations(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],\"datatype\":\"FP32\","
                               "\"data\":[[1,2],[3,4]]}],"
                               "\"t\\u0061rgets\":[1,2.5e3,-7],\"id\":\"a\\\"b\"}";
    static const char bytes[] = "\"\\[]{},:0-.etfn \n\x80\xff";
    size_t size = sizeof body - 1;
    for (size_t at = 0; at < size; at++)
        for (size_t b = 0; b < sizeof bytes; b++) { /* the last is a NUL; then a cut */
            char *copy = malloc(size);
            memcpy(copy, body, size);
            copy[at] = bytes[b];
            size_t n = b + 1 == sizeof bytes ? at : size;
            check_agrees(f, copy, n);
            arena_reset(f->arena);
            json_in_free(&f->in);
            if (!json_in_read(&f->in, f->arena, copy, n, true, &f->e))
                for (size_t i = 0; i < f->in.n_spans; i++) {
                    struct shape shape;
                    int64_t count;
                    float *v;
                    if (!span_shape(&f->in.spans[i], &shape, &count, &f->e) && count < 100 &&
                        (v = malloc((size_t)count * 4 + 1))) {
                        span_read(&f->in.spans[i], SPAN_FLOAT, &shape, v, count, &f->e);
                        free(v);
                    }
                }
            else
                assert_true(f->e.code != ERROR_NONE && strncmp(f->e.text, "line ", 5) == 0);
            json_in_free(&f->in);
            free(copy);
        }
}

/* A long flat list by several threads: the bits of one, and nothing that one would refuse. */
static void test_pieces(void **state)
{
    struct fixture *f = *state;
    enum { N = 20000 };
    static const char *const gaps[] = {",", " ,", ",  ", "\n,\t"};
    static const char *const wrong[] = {"x", "", "[1]", "1e99", "1 2", "null"};
    char *text = malloc(N * 24);
    float *one = malloc(N * sizeof *one), *many = malloc(N * sizeof *many);
    struct shape shape = SHAPE(N);
    struct pool *pool = pool_create(3, &f->e);
    assert_non_null(pool);
    for (int i = 0; i < 4 + 6 * 9; i++) {
        int bad = i < 4 ? -1 : (i - 4) % 9 * (N - 1) / 8;
        char *p = text + sprintf(text, "{\"data\":[ ");
        for (int k = 0; k < N; k++) {
            p += sprintf(p, "%s", k ? gaps[i < 3 ? i : k % 4] : "");
            p += k == bad ? sprintf(p, "%s", wrong[(i - 4) / 9])
                          : sprintf(p, "%.9g", (k * 7919 % 10007 - 5000) / 1234.5);
        }
        sprintf(p, " ]}");
        if (read_text(f, text)) /* the scan has refused it already */
            continue;
        const struct json_span *s = json_in_span(&f->in, f->in.root, "data");
        assert_non_null(s);
        memset(many, 0, N * sizeof *many);
        bool read = span_read_pieces(s, pool, many, N);
        assert_int_equal(read, bad < 0);
        assert_int_equal(!span_read(s, SPAN_FLOAT, &shape, one, N, &f->e), read);
        if (read)
            assert_memory_equal(one, many, N * sizeof *many);
        assert_false(span_read_pieces(s, pool, many, N - 1));
        assert_false(span_read_pieces(s, NULL, many, N));
    }
    pool_destroy(&pool);
    free(text);
    free(one);
    free(many);
}

static void test_time(void **state)
{
    struct fixture *f = *state;
    enum { N = 200000 };
    char *text = malloc(N * 16 + 100), *p = text;
    float *v = malloc(N * sizeof *v);
    p += sprintf(p, "{\"data\":[");
    for (int i = 0; i < N; i++)
        p += sprintf(p, "%s%.6f", i ? "," : "", (i * 7919 % 10007) / 10007.0);
    p += sprintf(p, "]}");
    struct timespec a, b;
    struct shape shape = SHAPE(N);
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(json_in_read(&f->in, f->arena, text, (size_t)(p - text), true, &f->e), 0);
    const struct json_span *s = json_in_span(&f->in, f->in.root, "data");
    assert_int_equal(span_read(s, SPAN_FLOAT, &shape, v, N, &f->e), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    print_message("body of %d floats: %.1f ns a float\n", N, ns / N);
    free(text);
    free(v);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_envelope),  TEST(test_forged_marks),  TEST(test_broken_bodies),
        TEST(test_depth),     TEST(test_tokens),        TEST(test_shapes),
        TEST(test_values),    TEST(test_broken_values), TEST(test_nested_errors),
        TEST(test_mutations), TEST(test_check),         TEST(test_pieces),
        TEST(test_time),
    };
    return cmocka_run_group_tests_name("json_in", tests, NULL, NULL);
}
