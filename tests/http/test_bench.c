/* test_bench.c: `backpropd bench` in a short form: every net runs, says what it has, and is one
 * that a daemon takes. */
#include "../support/remote.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Their numbers of parameters are PyTorch's for the same layers. */
static const struct {
    const char *name;
    int parameters;
} nets[] = {
    {"mlp", 535818},        {"lenet", 61706},           {"cifar", 2360522},
    {"resnet18", 11173962}, {"resnet18_224", 11689512}, {"char_gpt", 826368},
    {"yolo_n", 3157184},
};

static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    if (!json_is_number(value))
        fail_msg("no number '%s'", key);
    return json_number_value(value);
}

/* A line of --json: figures that hang together. */
static void expect_line(const char *text, const char *net, const char *mode, int parameters)
{
    json_t *line = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "net")), net);
    assert_string_equal(json_string_value(json_object_get(line, "mode")), mode);
    assert_int_equal((int)number(line, "parameters"), parameters);
    assert_int_equal((int)number(line, "batch"), 2);
    assert_int_equal((int)number(line, "threads"), 1);
    assert_true(number(line, "steps") >= 3);
    assert_true(number(line, "seconds_p25") > 0);
    assert_true(number(line, "seconds_p25") <= number(line, "seconds_p50"));
    assert_true(number(line, "seconds_p50") <= number(line, "seconds_p75"));
    double rate = 2 / number(line, "seconds_p50");
    assert_true(number(line, "examples_per_second") > 0.999 * rate);
    assert_true(number(line, "examples_per_second") < 1.001 * rate);
    assert_true(number(line, "gflops_per_second") > 0);
    assert_true(number(line, "peak_gflops_per_second") > 0);
    assert_true(number(line, "resident_bytes") >= 4.0 * parameters);
    /* Also of the second net of a process: what the first has freed is not taken for it. */
    assert_true(number(line, "net_bytes") >= 4.0 * parameters);
    json_decref(line);
}

static void every_net(struct daemon *d)
{
    struct outcome o;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* minutes; one thread computes, and `tables` has two */
#endif
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        daemon_command(d, &o,
                       WORDS("bench", "--nets", nets[i].name, "--threads", "1", "--batch", "2",
                             "--seconds", "0.001", "--json"));
        if (o.status)
            fail_msg("%s: status %d: %s", nets[i].name, o.status, o.err);
        expect_line(o.out, nets[i].name, "train", nets[i].parameters);
        const char *second = strchr(o.out, '\n');
        assert_non_null(second);
        expect_line(second, nets[i].name, "infer", nets[i].parameters);
    }
}

/* Training steps of it, then the table of where their time went. */
static void tables(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o,
                   WORDS("bench", "--nets", "lenet,mlp", "--mode", "train", "--batch", "3",
                         "--seconds", "0.001", "--threads", "2"));
    assert_int_equal(o.status, 0);
    const char *lenet = strstr(o.out, "\nlenet "), *mlp = strstr(o.out, "\nmlp ");
    assert_true(lenet && mlp && mlp < lenet && !strstr(o.out, "infer"));
    daemon_command(d, &o,
                   WORDS("bench", "--nets", "lenet", "--mode", "train", "--batch", "3", "--seconds",
                         "0.001", "--profile"));
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.out, "conv2"));
    assert_non_null(strstr(o.out, "all layers"));
    assert_non_null(strstr(o.out, "for the optimiser"));
}

static void daemon_takes_nets(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o, WORDS("bench", "--describe", "yolo_n"));
    assert_int_equal(o.status, 0);
    remote_create(d->client, "yolo_n", o.out);
    assert_int_equal((int)remote_number(d->client, "yolo_n", "parameter_count"), 3157184);
}

static void refused(struct daemon *d)
{
    static const struct {
        const char *words[4], *part;
    } rows[] = {
        {{"--nets", "mlp,alexnet"}, "no net is called 'alexnet'"},
        {{"--describe", "alexnet"}, "no net is called 'alexnet'"},
        {{"--mode", "both"}, "--mode is 'both', expected train or infer"},
        {{"--batch", "0"}, "--batch is '0', expected a whole number above 0"},
        {{"--batch", "1.5"}, "expected a whole number"},
        {{"--threads", "2x"}, "--threads is '2x'"},
        {{"--seconds", "-1"}, "--seconds is '-1'"},
        {{"--seconds", "nan"}, "--seconds is 'nan'"},
        {{"--nets"}, "expected: bench"},
        {{"mlp"}, "expected: bench"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome o;
        daemon_command(d, &o, WORDS("bench", rows[i].words[0], rows[i].words[1]));
        if (o.status != 2 || !strstr(o.err, rows[i].part))
            fail_msg("status %d, expected '%s' in: %s", o.status, rows[i].part, o.err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(every_net),
        DAEMON_TEST(tables),
        DAEMON_TEST(daemon_takes_nets),
        DAEMON_TEST(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
