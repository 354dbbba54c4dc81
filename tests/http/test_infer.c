/* test_infer.c: predictions: the form of the answer, short forms of the question, several inputs,
 * and that a sample's bits do not depend on its batch. While the model trains:
 * test_infer_training.c. Binary tensors are in test_binary.c. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- form ------------------------------------------------------------------------------------ */

static void answer_form(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    struct answer *a =
        remote_post(c, "m", "infer", remote_inputs(c, 1, 2, 4, "\"id\":\"question 7\""));
    assert_string_equal(answer_string(a, "model_name"), "m");
    assert_string_equal(answer_string(a, "id"), "question 7");
    assert_null(answer_find(a, "model_version"));
    assert_true(answer_number(a, "parameters.step") == 1);
    assert_true(answer_number(a, "parameters.revision") == 1);
    assert_int_equal(json_array_size(answer_find(a, "outputs")), 1);
    assert_string_equal(answer_string(a, "outputs.0.name"), "output");
    assert_string_equal(answer_string(a, "outputs.0.datatype"), "FP32");
    assert_true(answer_number(a, "outputs.0.shape.0") == 2);
    assert_true(answer_number(a, "outputs.0.shape.1") == 3);
    assert_int_equal(json_array_size(answer_find(a, "outputs.0.data")), 6);
    a = remote_post(c, "m", "infer", remote_inputs(c, 1, 2, 4, NULL));
    assert_null(answer_find(a, "id"));
    /* Parameters that mean nothing here are the client's own. */
    remote_post(c, "m", "infer", remote_inputs(c, 1, 2, 4, "\"parameters\":{\"priority\":3}"));
}

/* What clients of other languages send for what they do not set. */
static void nulls_are_absent(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const same[] = {
        "{\"inputs\":[[1,2,3,4]],\"outputs\":null,\"id\":null,\"parameters\":null}",
        "{\"inputs\":[[1,2,3,4]],\"outputs\":[]}",
        "{\"inputs\":[{\"name\":null,\"shape\":null,\"datatype\":null,\"parameters\":null,"
        "\"boxes\":null,\"format\":null,\"data\":[[1,2,3,4]]}]}",
        "{\"inputs\":[{\"parameters\":{\"binary_data_size\":null},\"data\":[[1,2,3,4]]}],"
        "\"parameters\":{\"binary_data_output\":null,\"weights\":null,\"top_k\":null,"
        "\"sequence_id\":null,\"priority\":null}}",
        "{\"inputs\":[[1,2,3,4]],\"outputs\":[{\"name\":\"output\",\"parameters\":null}]}",
        "{\"inputs\":[[1,2,3,4]],\"outputs\":[{\"name\":\"output\",\"parameters\":"
        "{\"binary_data\":null,\"classification\":null}}]}"};
    remote_create(c, "m", remote_mlp);
    json_t *wanted = json_incref(
        answer_find(remote_post(c, "m", "infer", "{\"inputs\":[[1,2,3,4]]}"), "outputs"));
    assert_int_equal(json_array_size(wanted), 1);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct answer *a = remote_post(c, "m", "infer", same[i]);
        if (!json_equal(answer_find(a, "outputs"), wanted))
            fail_msg("%s: %s", same[i], a->body);
    }
    json_decref(wanted);
    remote_post(
        c, "m", "train_step",
        "{\"inputs\":[[1,2,3,4]],\"targets\":[0],\"parameters\":{\"lr\":null,\"seq\":null}}");
    answer_refused(
        remote_call(c, "POST", "m", "/train_step", "{\"inputs\":[[1,2,3,4]],\"targets\":null}"),
        400, "missing_field", "'targets'");
    answer_refused(remote_call(c, "POST", "m", "/infer", "{\"inputs\":[{\"data\":null}]}"), 400,
                   "missing_field", "has no data");
    struct answer *a = client_post(c, "/v2/autograd",
                                   "{\"expression\":\"x\",\"tensors\":{\"x\":{\"data\":[1],"
                                   "\"requires_grad\":null}}}");
    answer_expect(a, 200);
    assert_int_equal(json_object_size(answer_find(a, "gradients")), 0);
}

static void outputs_on_request(struct daemon *d)
{
    struct client *c = d->client;
    double logits[6], p[6];
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_post(
        c, "m", "infer",
        remote_inputs(c, 1, 2, 4,
                      "\"outputs\":[{\"name\":\"probabilities\"},{\"name\":\"output\"}]"));
    assert_int_equal(json_array_size(answer_find(a, "outputs")), 2);
    for (int i = 0; i < 2; i++) {
        char path[32];
        snprintf(path, sizeof path, "outputs.%d.data", i);
        bool logit = !strcmp(answer_string(a, i ? "outputs.1.name" : "outputs.0.name"), "output");
        remote_numbers(a, path, logit ? logits : p, 6);
    }
    for (int i = 0; i < 6; i += 3) {
        double sum = exp(logits[i]) + exp(logits[i + 1]) + exp(logits[i + 2]);
        for (int k = i; k < i + 3; k++)
            assert_true(fabs(p[k] - exp(logits[k]) / sum) < 1e-6);
    }
    a = remote_post(c, "m", "infer",
                    remote_inputs(c, 1, 2, 4, "\"outputs\":[{\"name\":\"probabilities\"}]"));
    assert_int_equal(json_array_size(answer_find(a, "outputs")), 1);
    assert_true(answer_number(a, "outputs.0.data.0") == p[0]);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static void statistics(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "a", remote_mlp);
    remote_create(c, "b", remote_mlp);
    answer_expect(remote_call(c, "POST", "a", "/versions", NULL), 201);
    for (int i = 0; i < 3; i++)
        remote_post(c, "a", i ? "infer" : "versions/1/infer", remote_inputs(c, 1, 5, 4, NULL));
    for (int i = 0; i < 2; i++)
        answer_expect(remote_call(c, "POST", "a", "/infer", "{\"inputs\":[[1,2]]}"), 422);
    struct answer *a = remote_get(c, "a", "/stats");
    assert_string_equal(answer_string(a, "model_stats.0.name"), "a");
    assert_true(answer_number(a, "model_stats.0.inference_count") == 15);
    assert_true(answer_number(a, "model_stats.0.execution_count") == 3);
    assert_true(answer_number(a, "model_stats.0.last_inference") > 1.6e12);
    assert_true(answer_number(a, "model_stats.0.inference_stats.success.count") == 3);
    assert_true(answer_number(a, "model_stats.0.inference_stats.fail.count") == 2);
    static const char *const parts[] = {"queue", "compute_input", "compute_infer",
                                        "compute_output"};
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        char path[80];
        snprintf(path, sizeof path, "model_stats.0.inference_stats.%s.ns", parts[i]);
        double ns = answer_number(a, path);
        assert_true(ns > 0);
        sum += ns;
    }
    assert_true(answer_number(a, "model_stats.0.inference_stats.success.ns") == sum);
    a = client_get(c, "/v2/models/stats");
    answer_expect(a, 200);
    assert_int_equal(json_array_size(answer_find(a, "model_stats")), 2);
    assert_string_equal(answer_string(a, "model_stats.1.name"), "b");
    assert_true(answer_number(a, "model_stats.1.inference_count") == 0);
    assert_true(answer_number(a, "model_stats.1.memory_usage.0.byte_size") > 0);
}

/* One row of classification: "value:index[:label]", the value as in the numbers, best first. */
static void check_classes(json_t *strings, size_t begin, size_t k, const double *row, int classes,
                          const char *const *labels)
{
    double last = INFINITY;
    for (size_t j = 0; j < k; j++) {
        const char *text = json_string_value(json_array_get(strings, begin + j));
        char *end;
        assert_non_null(text);
        double value = strtod(text, &end);
        assert_int_equal(*end, ':');
        long index = strtol(end + 1, &end, 10);
        assert_in_range(index, 0, classes - 1);
        assert_true((float)value == (float)row[index] && value <= last);
        last = value;
        if (!labels)
            assert_string_equal(end, "");
        else
            assert_string_equal(end + 1, labels[index]);
    }
}

static void classification(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const labels[] = {"cat", "d:og", "\xc3\xa4"};
    double numbers[6];
    remote_create(c, "m", remote_mlp);
    remote_numbers(remote_post(c, "m", "infer", remote_inputs(c, 3, 2, 4, NULL)), "outputs.0.data",
                   numbers, 6);
    for (int labelled = 0; labelled < 2; labelled++) {
        if (labelled)
            answer_expect(
                remote_call(c, "PATCH", "m", "", "{\"labels\":[\"cat\",\"d:og\",\"\\u00e4\"]}"),
                200);
        for (int k = 2; k <= 4; k++) {
            char wish[160];
            snprintf(wish, sizeof wish,
                     "\"outputs\":[{\"name\":\"output\",\"parameters\":"
                     "{\"classification\":%d}},{\"name\":\"probabilities\"}]",
                     k);
            struct answer *a = remote_post(c, "m", "infer", remote_inputs(c, 3, 2, 4, wish));
            size_t shown = k < 3 ? (size_t)k : 3;
            assert_string_equal(answer_string(a, "outputs.0.datatype"), "BYTES");
            assert_true(answer_number(a, "outputs.0.shape.0") == 2);
            assert_true(answer_number(a, "outputs.0.shape.1") == (double)shown);
            assert_string_equal(answer_string(a, "outputs.1.datatype"), "FP32");
            json_t *strings = answer_find(a, "outputs.0.data");
            assert_int_equal(json_array_size(strings), 2 * shown);
            for (size_t i = 0; i < 2; i++)
                check_classes(strings, i * shown, shown, numbers + 3 * i, 3,
                              labelled ? labels : NULL);
        }
    }
}

static void short_forms(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const rows[] = {
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,4],\"datatype\":\"FP32\","
        "\"data\":[1,2,3,4,5,6,7,8]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,4],\"datatype\":\"FP32\","
        "\"data\":[[1,2,3,4],[5,6,7,8]]}]}",
        "{\"inputs\":[[1,2,3,4],[5,6,7,8]]}",
        "{\"inputs\":[1,2,3,4,5,6,7,8]}",
        "{\"inputs\":[1.0,2e0,0.3e1,400e-2,5,6,7.000,8]}",
        "{\"inputs\":[{\"data\":[1,2,3,4,5,6,7,8]}]}",
        "{\"inputs\":[{\"data\":[[1,2,3,4],[5,6,7,8]],\"name\":\"x\"}]}",
        "{\"inputs\":[{\"shape\":[2,4],\"datatype\":\"INT8\",\"data\":[1,2,3,4,5,6,7,8]}]}",
        "\n\t{ \"inputs\" :\r\n [ [ 1 , 2,3,4 ] ,[5,6,7,8]] }\n",
    };
    double first[6], other[6];
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct answer *a = remote_post(c, "m", "infer", rows[i]);
        assert_int_equal(remote_numbers(a, "outputs.0.data", i ? other : first, 6), 6);
        if (i)
            assert_memory_equal(first, other, sizeof first);
    }
}

static void several_inputs(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(
        c, "m",
        "{\"inputs\":[{\"name\":\"a\",\"shape\":[-1,2]},{\"name\":\"b\",\"shape\":[-1,2]}],"
        "\"layers\":[{\"name\":\"all\",\"op\":\"concat\",\"inputs\":[\"a\",\"b\"]},"
        "{\"name\":\"sum\",\"op\":\"sum\",\"dim\":[1],\"inputs\":[\"all\"]},"
        "{\"name\":\"less\",\"op\":\"sub\",\"inputs\":[\"a\",\"b\"]}],"
        "\"outputs\":[\"sum\",{\"name\":\"difference\",\"layer\":\"less\"}]}");
    struct answer *a = remote_post(c, "m", "infer",
                                   "{\"inputs\":[{\"name\":\"b\",\"data\":[[1,2]]},"
                                   "{\"name\":\"a\",\"data\":[[30,40]]}]}");
    assert_string_equal(answer_string(a, "outputs.0.name"), "sum");
    assert_true(answer_number(a, "outputs.0.data.0") == 73);
    assert_string_equal(answer_string(a, "outputs.1.name"), "difference");
    assert_true(answer_number(a, "outputs.1.data.1") == 38);
    static const struct {
        const char *body, *code, *part;
        int status;
    } rows[] = {
        {"{\"inputs\":[{\"name\":\"a\",\"data\":[[1,2]]}]}", "missing_field", "'b'", 400},
        {"{\"inputs\":[[1,2]]}", "missing_field", "no name", 400},
        {"{\"inputs\":[{\"name\":\"a\",\"data\":[[1,2]]},{\"name\":\"a\",\"data\":[[1,2]]}]}",
         "bad_value", "twice", 422},
        {"{\"inputs\":[{\"name\":\"a\",\"data\":[[1,2]]},{\"name\":\"b\",\"data\":[[1,2],[3,4]]}]}",
         "bad_shape", "2 examples", 422},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(remote_call(c, "POST", "m", "/infer", rows[i].body), rows[i].status,
                       rows[i].code, rows[i].part);
}

/* A number that is not finite is null in JSON, and counted. */
static void not_finite(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", "{\"inputs\":[{\"shape\":[-1,2]}],\"layers\":[{\"op\":\"exp\"}]}");
    struct answer *a = remote_post(c, "m", "infer", "{\"inputs\":[[1000,0],[1,2000]]}");
    assert_true(json_is_null(answer_find(a, "outputs.0.data.0")));
    assert_true(answer_number(a, "outputs.0.data.1") == 1);
    assert_true(json_is_null(answer_find(a, "outputs.0.data.3")));
    assert_true(answer_number(a, "non_finite") == 2);
    a = remote_post(c, "m", "infer", "{\"inputs\":[[0,0]]}");
    assert_null(answer_find(a, "non_finite"));
}

/* ---- a sample's bits do not depend on its company -------------------------------------------- */

enum { DIGITS = 1797, PIXELS = 64, CLASSES = 10 };

static int digits[DIGITS][PIXELS];

static void digits_read(void)
{
    FILE *f = fopen("tests/data/optdigits/optdigits.tes", "r");
    int label;
    assert_non_null(f);
    for (int i = 0; i < DIGITS; i++) {
        for (int k = 0; k < PIXELS; k++)
            assert_int_equal(fscanf(f, "%d,", &digits[i][k]), 1);
        assert_int_equal(fscanf(f, "%d", &label), 1);
    }
    fclose(f);
}

/* The outputs of samples [begin, end), as the numbers that the answer's text says. */
static void classify(struct client *c, const char *name, int begin, int end, double *out)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"data\":[");
    for (int i = begin * PIXELS; i < end * PIXELS; i++)
        text_add(&t, "%s%d", i > begin * PIXELS ? "," : "", digits[i / PIXELS][i % PIXELS]);
    text_add(&t, "]}]}");
    struct answer *a = remote_post(c, name, "infer", t.data);
    text_free(&t);
    assert_int_equal(remote_numbers(a, "outputs.0.data", out, (end - begin) * CLASSES),
                     (end - begin) * CLASSES);
    client_forget(c);
}

static void batch_is_singles(struct daemon *d)
{
    struct client *c = d->client;
    static double all[DIGITS][CLASSES], some[DIGITS][CLASSES];
    static const char *const layers[] = {
        "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":32},{\"op\":\"relu\"},",
        "{\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":3,\"padding\":1},"
        "{\"op\":\"batch_norm2d\"},{\"op\":\"relu\"},{\"op\":\"max_pool2d\",\"kernel_size\":2},"
        "{\"op\":\"flatten\"},"};
    digits_read();
    for (int m = 0; m < 2; m++) {
        char name[16], description[800];
        snprintf(name, sizeof name, "m%d", m);
        snprintf(description, sizeof description,
                 "{\"inputs\":[{\"shape\":[-1,1,8,8]}],\"layers\":[%s"
                 "{\"op\":\"linear\",\"out_features\":10}],\"loss\":\"cross_entropy\"}",
                 layers[m]);
        remote_create(c, name, description);
        classify(c, name, 0, DIGITS, all[0]);
        for (int i = m; i < DIGITS; i += 9) {
            classify(c, name, i, i + 1, some[i]);
            assert_memory_equal(all[i], some[i], sizeof all[i]);
        }
        static const int sizes[] = {2, 3, 5, 63, 64, 65, 200};
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            int begin = 37 * ((int)k + 1);
            classify(c, name, begin, begin + sizes[k], some[begin]);
            assert_memory_equal(all[begin], some[begin], (size_t)sizes[k] * sizeof all[0]);
        }
    }
}

/* ---- pools ----------------------------------------------------------------------------------- */

/* With ceil_mode a window may be larger than the image if it begins inside; what PyTorch gives of
 * 0, 1, 2, ... */
static void ceil_mode(struct daemon *d)
{
    static const struct {
        const char *shape, *layer;
        double want;
    } rows[] = {
        {"1,2,3", "\"max_pool2d\",\"kernel_size\":3,\"stride\":2", 5},
        {"1,2,3", "\"avg_pool2d\",\"kernel_size\":3,\"stride\":2", 2.5},
        {"1,3,3", "\"max_pool2d\",\"kernel_size\":4,\"stride\":3", 8},
        {"1,3,3", "\"avg_pool2d\",\"kernel_size\":4,\"stride\":3", 4},
        {"1,2,2", "\"max_pool2d\",\"kernel_size\":5,\"stride\":3,\"padding\":1", 3},
        {"1,2,2", "\"avg_pool2d\",\"kernel_size\":5,\"stride\":3,\"padding\":1", 0.375},
        {"1,2,2",
         "\"avg_pool2d\",\"kernel_size\":5,\"stride\":3,\"padding\":1,\"count_include_pad\":false",
         1.5},
        {"1,2", "\"max_pool1d\",\"kernel_size\":3,\"stride\":2", 1},
        {"1,2", "\"avg_pool1d\",\"kernel_size\":3,\"stride\":2", 0.5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[16], text[400];
        double got[9];
        snprintf(name, sizeof name, "pool%zu", i);
        snprintf(text, sizeof text,
                 "{\"inputs\":[{\"shape\":[-1,%s]}],\"layers\":[{\"op\":%s,\"ceil_mode\":true}]}",
                 rows[i].shape, rows[i].layer);
        remote_create(d->client, name, text);
        const char *data = strlen(rows[i].shape) < 5             ? "0,1"
                           : strcmp(rows[i].shape, "1,2,2") == 0 ? "0,1,2,3"
                           : strcmp(rows[i].shape, "1,2,3") == 0 ? "0,1,2,3,4,5"
                                                                 : "0,1,2,3,4,5,6,7,8";
        snprintf(text, sizeof text, "{\"inputs\":[{\"shape\":[1,%s],\"data\":[%s]}]}",
                 rows[i].shape, data);
        struct answer *a = remote_post(d->client, name, "infer", text);
        assert_int_equal(remote_numbers(a, "outputs.0.data", got, 9), 1);
        if (got[0] != rows[i].want)
            fail_msg("%s of %s gave %g, not %g", rows[i].layer, rows[i].shape, got[0],
                     rows[i].want);
    }
    answer_refused(
        remote_call(d->client, "PUT", "none", "",
                    "{\"inputs\":[{\"shape\":[-1,1,3,3]}],\"layers\":[{\"op\":"
                    "\"max_pool2d\",\"kernel_size\":6,\"stride\":3,\"ceil_mode\":true}]}"),
        422, "bad_shape", "does not fit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(answer_form),    DAEMON_TEST(outputs_on_request), DAEMON_TEST(statistics),
        DAEMON_TEST(classification), DAEMON_TEST(short_forms),        DAEMON_TEST(several_inputs),
        DAEMON_TEST(not_finite),     DAEMON_TEST(batch_is_singles),   DAEMON_TEST(nulls_are_absent),
        DAEMON_TEST(ceil_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
