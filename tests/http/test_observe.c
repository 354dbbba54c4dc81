/* test_observe.c: what people see of a daemon that works: GET /metrics, request ids, and the
 * log. */
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char scalar_step[] = "{\"inputs\":[[1]],\"targets\":[[2]]}";

/* ---- GET /metrics ---------------------------------------------------------------------------- */

static void counts(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_scalar);
    for (int i = 0; i < 3; i++)
        remote_post(c, "m", "train_step", scalar_step);
    remote_post(c, "m", "forward_backward", scalar_step);
    remote_post(c, "m", "optim_step", "{}");
    remote_post(c, "m", "infer", "{\"inputs\":[[1],[2]]}");
    client_get(c, "/nothing");
    remote_expect_sample(c,
                         "backpropd_requests_total{method=\"POST\",route=\"/v2/models/{model}/"
                         "train_step\",code=\"200\"}",
                         3);
    remote_expect_sample(c, "backpropd_requests_total{method=\"\",route=\"unknown\",code=\"404\"}",
                         1);
    remote_expect_sample(
        c,
        "backpropd_request_duration_seconds_count{method=\"POST\",route=\"/v2/models/"
        "{model}/infer\"}",
        1);
    remote_expect_sample(
        c,
        "backpropd_queue_duration_seconds_bucket{method=\"POST\",route=\"/v2/models/"
        "{model}/infer\",le=\"+Inf\"}",
        1);
    remote_expect_sample(c, "backpropd_train_steps_total{model=\"m\"}", 4);
    remote_expect_sample(c, "backpropd_train_samples_total{model=\"m\"}", 4);
    remote_expect_sample(c, "backpropd_predictions_total{model=\"m\"}", 2);
    remote_expect_sample(c, "backpropd_models", 1);
    remote_expect_sample(c, "backpropd_storage_up", 1);
    assert_true(remote_sample(c, "backpropd_redo_log_bytes{model=\"m\"}") > 100);
    assert_true(remote_sample(c, "process_resident_memory_bytes") > 1e6);
    assert_true(remote_sample(c, "process_start_time_seconds") > 1.6e9);
}

/* The gauges are the numbers of the last step, and those of a model go with it. */
static void gauges(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_scalar);
    assert_true(remote_sample(c, "backpropd_train_loss{model=\"m\"}") == -1);
    struct answer *a = remote_post(c, "m", "train_step", scalar_step);
    assert_true((float)remote_sample(c, "backpropd_train_loss{model=\"m\"}") ==
                (float)answer_number(a, "loss"));
    assert_true(remote_sample(c, "backpropd_grad_norm{model=\"m\"}") ==
                answer_number(a, "metrics.grad_norm"));
    assert_true(remote_sample(c, "backpropd_learning_rate{model=\"m\"}") == 0.1);
    double loss = remote_sample(c, "backpropd_train_loss{model=\"m\"}");
    daemon_kill(d);
    daemon_start(d, d->flags);
    c = d->client;
    assert_true(remote_sample(c, "backpropd_train_loss{model=\"m\"}") == loss);
    assert_true(remote_sample(c, "backpropd_train_steps_total{model=\"m\"}") == 0);
    answer_refused(
        remote_call(c, "POST", "m", "/train_step", "{\"inputs\":[[3e38]],\"targets\":[[-3e38]]}"),
        422, "not_finite", NULL);
    assert_true(remote_sample(c, "backpropd_nonfinite_steps_total{model=\"m\"}") == 1);
    answer_expect(remote_call(c, "DELETE", "m", "", NULL), 200);
    assert_null(strstr(client_get(c, "/metrics")->body, "model=\"m\""));
}

/* Buckets never fall, and each family is named once, before its samples. */
static void format(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_scalar);
    struct answer *a = client_get(c, "/metrics");
    assert_string_equal(answer_header(a, "Content-Type"),
                        "text/plain; version=0.0.4; charset=utf-8");
    char family[128] = "", *save = NULL;
    double last = 0;
    for (char *line = strtok_r(a->body, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (!strncmp(line, "# TYPE ", 7)) {
            snprintf(family, sizeof family, "%.*s", (int)strcspn(line + 7, " "), line + 7);
            continue;
        }
        if (*line == '#')
            continue;
        if (strncmp(line, family, strlen(family)))
            fail_msg("'%s' stands among the samples of %s", line, family);
        double value = strtod(strrchr(line, ' '), NULL);
        if (!strstr(line, "_bucket{"))
            last = 0;
        else if (value < last)
            fail_msg("the buckets fall at '%s'", line);
        else
            last = strstr(line, "+Inf") ? 0 : value;
    }
}

/* Each name of ours in the query is in GET /metrics. */
static void check_query(const char *metrics, const char *query)
{
    int names = 0;
    for (const char *at = query; (at = strpbrk(at, "bp"));) {
        char name[128], line[160];
        size_t n = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_");
        bool ours = !strncmp(at, "backpropd_", 10) || !strncmp(at, "process_", 8);
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        char *bucket = strstr(name, "_bucket");
        if (bucket)
            *bucket = 0;
        snprintf(line, sizeof line, "# TYPE %s ", name);
        if (ours && !strstr(metrics, line))
            fail_msg("'%s' asks for %s, which is not in /metrics", query, name);
        names += ours;
        at += n;
    }
    assert_true(names > 0);
}

/* The dashboard of docker/ is JSON, and each panel asks for something that there is. */
static void dashboard(struct daemon *d)
{
    json_error_t why;
    json_t *root = json_load_file("docker/grafana/dashboards/backpropd.json", 0, &why);
    if (!root)
        fail_msg("line %d: %s", why.line, why.text);
    const char *metrics = client_get(d->client, "/metrics")->body;
    size_t i, k, queries = 0;
    json_t *panel, *target;
    json_array_foreach(json_object_get(root, "panels"), i, panel)
    {
        const char *type = json_string_value(json_object_get(panel, "type"));
        json_t *targets = json_object_get(panel, "targets");
        assert_true(!strcmp(type, "row") || json_array_size(targets) > 0);
        json_array_foreach(targets, k, target)
        {
            check_query(metrics, json_string_value(json_object_get(target, "expr")));
            queries++;
        }
    }
    assert_true(queries >= 15);
    json_decref(root);
}

/* ---- ids and the log ------------------------------------------------------------------------- */

static const char *read_log(struct daemon *d)
{
    static char text[65536];
    char path[320];
    snprintf(path, sizeof path, "%s/log", d->folder);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* The line of the log that holds this; a line is there a moment after the answer. */
static const char *log_line_with(struct daemon *d, const char *part)
{
    static char line[4096];
    for (int i = 0; i < 200; i++, sleep_ms(10)) {
        const char *text = read_log(d), *at = strstr(text, part);
        const char *end = at ? strchr(at, '\n') : NULL;
        if (!end)
            continue;
        while (at > text && at[-1] != '\n')
            at--;
        snprintf(line, sizeof line, "%.*s", (int)(end - at), at);
        return line;
    }
    fail_msg("no '%s' in the log: %s", part, read_log(d));
    return NULL;
}

static struct answer *get_with_id(struct daemon *d, const char *header)
{
    return client_send(
        d->client,
        &(struct call){.method = "GET", .path = "/v2/health/live", .headers = WORDS(header)});
}

static void request_id(struct daemon *d)
{
    struct answer *a = get_with_id(d, "X-Request-Id: 3f2a-b:7");
    assert_string_equal(answer_header(a, "X-Request-Id"), "3f2a-b:7");
    const char *line = log_line_with(d, "id=3f2a-b:7");
    assert_non_null(strstr(line, "path=/v2/health/live"));
    assert_non_null(strstr(line, "status=200"));
    assert_null(strstr(line, "model="));
    /* Ours, when there is none or one that would not fit a log. */
    const char *one = answer_header(client_get(d->client, "/v2"), "X-Request-Id");
    const char *other = answer_header(client_get(d->client, "/nothing"), "X-Request-Id");
    const char *third = answer_header(get_with_id(d, "X-Request-Id: a\"b c"), "X-Request-Id");
    assert_int_equal(strlen(one), 16);
    assert_int_equal(strlen(third), 16);
    assert_string_not_equal(one, other);
}

static void log_times(struct daemon *d)
{
    remote_create(d->client, "m", remote_scalar);
    remote_post(d->client, "m", "train_step", scalar_step);
    const char *line = log_line_with(d, "path=/v2/models/m/train_step");
    static const char *const parts[] = {"level=info", "event=request", "model=m",    "status=200",
                                        " ms=",       "queue_ms=",     "compute_ms="};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(line, parts[i]))
            fail_msg("no '%s' in '%s'", parts[i], line);
}

/* The line of a refused request says why, in the answer's own words, however long those are. */
static void log_refusals(struct daemon *d)
{
    static char path[700] = "/v2/models/";
    remote_create(d->client, "m", remote_scalar);
    answer_expect(remote_call(d->client, "POST", "m", "/infer", "{\"inputs\":[[1,2]],\"x\":1}"),
                  400);
    const char *line = log_line_with(d, "path=/v2/models/m/infer");
    assert_non_null(strstr(line, " status=400 code=unknown_field error=\"unknown field 'x'"));
    remote_post(d->client, "m", "evaluate", scalar_step);
    assert_null(strstr(log_line_with(d, "path=/v2/models/m/evaluate"), " code="));
    memset(path + 11, 'a', 128);
    memcpy(path + 139, "/versions/", 10);
    memset(path + 149, 'b', 500);
    struct answer *a = client_get(d->client, path);
    answer_expect(a, 404);
    line = log_line_with(d, "aaaa/versions/bbbb");
    assert_non_null(strstr(line, " code=unknown_model error=\"no model 'aaaa"));
    assert_non_null(strstr(line, " compute_ms="));
}

static void log_json(struct daemon *d)
{
    remote_create(d->client, "m", remote_scalar);
    remote_post(d->client, "m", "infer", "{\"inputs\":[[1]]}");
    log_line_with(d, "/infer");
    char *text = strdup(read_log(d)), *save = NULL;
    int requests = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *j = json_loads(line, 0, NULL);
        if (!j)
            fail_msg("no JSON: %s", line);
        assert_non_null(json_object_get(j, "time"));
        assert_non_null(json_object_get(j, "level"));
        const char *event = json_string_value(json_object_get(j, "event"));
        const char *path = json_string_value(json_object_get(j, "path"));
        if (!strcmp(event, "request") && !strcmp(path, "/v2/models/m/infer")) {
            requests++;
            assert_string_equal(json_string_value(json_object_get(j, "model")), "m");
            assert_true(json_is_number(json_object_get(j, "compute_ms")));
        }
        json_decref(j);
    }
    free(text);
    assert_int_equal(requests, 1);
}

/* Lines gather in memory: all are in the file after a normal end, and after a kill those that are
 * older than some milliseconds. */
static void log_whole(struct daemon *d)
{
    enum { LINES = 100 };
    static const char *const ends[] = {"stop", "kill"};
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < LINES; k++) {
            char header[40];
            snprintf(header, sizeof header, "X-Request-Id: %s-%d", ends[i], k);
            assert_int_equal(get_with_id(d, header)->status, 200);
        }
        if (i == 0)
            daemon_stop(d);
        else
            sleep_ms(500), daemon_kill(d);
        const char *text = read_log(d);
        for (int k = 0; k < LINES; k++) {
            char id[40];
            snprintf(id, sizeof id, " id=%s-%d method=GET", ends[i], k);
            const char *at = strstr(text, id);
            if (!at || strstr(at + 1, id))
                fail_msg("the line of %s-%d is not there once", ends[i], k);
        }
        daemon_start(d, d->flags);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(counts),
        DAEMON_TEST(gauges),
        DAEMON_TEST(format),
        DAEMON_TEST(dashboard),
        DAEMON_TEST(request_id),
        DAEMON_TEST(log_times),
        DAEMON_TEST(log_refusals),
        DAEMON_TEST(log_whole),
        DAEMON_TEST(log_json, "--log-format", "json"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
