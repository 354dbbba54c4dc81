/* test_provisioning.c: the files of docker/ that Grafana and Prometheus are given fit the daemon
 * and each other: every name and label that a query asks for is one that /metrics has. What
 * Prometheus itself says of them is in tests/prometheus.sh. */
#include "../support/remote.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 24 }; /* of a Grafana dashboard */

static json_t *load_dashboard(void)
{
    json_error_t e;
    json_t *d =
        json_load_file("docker/grafana/dashboards/backpropd.json", JSON_REJECT_DUPLICATES, &e);
    if (!d)
        fail_msg("%s:%d: %s", e.source, e.line, e.text);
    return d;
}

static const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    if (!s)
        fail_msg("no '%s'", key);
    return s;
}

static int number(const json_t *object, const char *key)
{
    const json_t *n = json_object_get(object, key);
    assert_true(json_is_integer(n));
    return (int)json_integer_value(n);
}

/* ---- queries --------------------------------------------------------------------------------- */

/* The length of a word of PromQL at `at`: a name of a metric, a function, a label. */
static size_t word_size(const char *at)
{
    return strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
}

/* Whether `metrics` says what kind the family is. */
static bool has_family(const char *metrics, const char *name)
{
    char line[160];
    snprintf(line, sizeof line, "# TYPE %s ", name);
    return strstr(metrics, line);
}

/* Whether a sample of this name has the label; also when it has no sample yet. */
static bool has_label(const char *metrics, const char *name, const char *label)
{
    char begin[160], key[96];
    snprintf(begin, sizeof begin, "\n%s{", name);
    snprintf(key, sizeof key, "%s=\"", label);
    const char *sample = strstr(metrics, begin), *found = sample ? strstr(sample, key) : NULL;
    return !sample || (found && found < strchr(sample + 1, '\n'));
}

/* The words between `open` and `close`, which are labels where `end` comes after them. */
static void check_labels(const char *metrics, const char *query, const char *name, const char *open,
                         char close, const char *end)
{
    for (const char *at = query; (at = strstr(at, open));) {
        at += strlen(open);
        for (size_t n; *at && *at != close; at += n ? n : 1) {
            char label[64];
            n = word_size(at);
            snprintf(label, sizeof label, "%.*s", (int)n, at);
            /* Prometheus itself adds "job". */
            if (n && strchr(end, at[n]) && strcmp(label, "job") && !has_label(metrics, name, label))
                fail_msg("%s has no label '%s', which stands in: %s", name, label, query);
        }
    }
}

/* The family that the query asks for; each of the dashboard asks for one. */
static void check_query(const char *metrics, const char *query, const char *legend)
{
    char name[128] = "", family[128];
    for (const char *at = query; *at; at += word_size(at) ? word_size(at) : 1) {
        if (strncmp(at, "backpropd_", 10) && strncmp(at, "process_", 8))
            continue;
        assert_string_equal(name, "");
        snprintf(name, sizeof name, "%.*s", (int)word_size(at), at);
    }
    snprintf(family, sizeof family, "%s", name);
    char *bucket = strstr(family, "_bucket");
    if (bucket)
        *bucket = 0;
    if (!*name || !has_family(metrics, family))
        fail_msg("/metrics has no family '%s': %s", family, query);
    check_labels(metrics, query, name, "{", '}', "=!");
    check_labels(metrics, query, name, "by (", ')', ",)");
    check_labels(metrics, legend, name, "{{", '}', "}");
}

static void queries_fit(struct daemon *d)
{
    json_t *dashboard = load_dashboard(), *panel, *target;
    remote_create(d->client, "m", remote_scalar);
    remote_post(d->client, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[2]]}");
    remote_post(d->client, "m", "infer", "{\"inputs\":[[1]]}");
    struct answer *a = client_get(d->client, "/metrics");
    answer_expect(a, 200);
    size_t i, k;
    int queries = 0;
    json_array_foreach(json_object_get(dashboard, "panels"), i, panel)
    {
        json_array_foreach(json_object_get(panel, "targets"), k, target)
        {
            check_query(a->body, text(target, "expr"), text(target, "legendFormat"));
            queries++;
        }
    }
    assert_true(queries >= 25);
    /* The variable's own, label_values(NAME, LABEL). */
    char name[128], label[64];
    json_t *variable =
        json_array_get(json_object_get(json_object_get(dashboard, "templating"), "list"), 0);
    const char *values = text(json_object_get(variable, "query"), "query");
    assert_int_equal(sscanf(values, "label_values(%127[a-z_], %63[a-z_])", name, label), 2);
    assert_true(has_family(a->body, name) && has_label(a->body, name, label));
    assert_string_equal(label, "model");
    json_decref(dashboard);
}

/* The checks above see what is wrong. */
static void queries_that_do_not_fit(struct daemon *d)
{
    static const char metrics[] = "# TYPE backpropd_x counter\nbackpropd_x{model=\"m\"} 1\n"
                                  "backpropd_y{route=\"r\"} 1\n";
    (void)d;
    assert_true(has_family(metrics, "backpropd_x") && !has_family(metrics, "backpropd_"));
    assert_true(has_label(metrics, "backpropd_x", "model"));
    assert_false(has_label(metrics, "backpropd_x", "route"));
}

/* ---- panels ---------------------------------------------------------------------------------- */

struct place {
    int x, y, w, h;
};
static struct place place_of(const json_t *panel)
{
    const json_t *at = json_object_get(panel, "gridPos");
    return (struct place){number(at, "x"), number(at, "y"), number(at, "w"), number(at, "h")};
}

static bool overlap(struct place a, struct place b)
{
    return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/* Each has its own id and place, a title, and asks the data source that is provisioned. */
static void panels_are_whole(struct daemon *d)
{
    json_t *dashboard = load_dashboard(), *panels = json_object_get(dashboard, "panels"), *panel;
    size_t i;
    (void)d;
    assert_true(json_array_size(panels) >= 15);
    json_array_foreach(panels, i, panel)
    {
        struct place here = place_of(panel);
        assert_true(here.x >= 0 && here.w > 0 && here.x + here.w <= COLUMNS && here.h > 0);
        assert_true(*text(panel, "title"));
        if (json_object_get(panel, "targets"))
            assert_string_equal(text(json_object_get(panel, "datasource"), "uid"), "prometheus");
        for (size_t k = 0; k < i; k++) {
            const json_t *other = json_array_get(panels, k);
            if (number(other, "id") == number(panel, "id") || overlap(place_of(other), here))
                fail_msg("'%s' and '%s' are at one place or have one id", text(other, "title"),
                         text(panel, "title"));
        }
    }
    json_decref(dashboard);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void file_has(const char *path, const char *part)
{
    static char content[16384];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(content, 1, sizeof content - 1, f);
    fclose(f);
    content[n] = 0;
    if (!strstr(content, part))
        fail_msg("%s has no '%s'", path, part);
}

/* What one file calls something is what the others call it. */
static void files_agree(struct daemon *d)
{
    static const char *const rows[][2] = {
        {"docker/grafana/datasources/prometheus.yaml", "uid: prometheus"},
        {"docker/grafana/datasources/prometheus.yaml", "url: http://prometheus:9090"},
        {"docker/grafana/dashboards/provider.yaml", "path: /etc/grafana/provisioning/dashboards"},
        {"docker/compose.yaml", "./grafana:/etc/grafana/provisioning:ro"},
        {"docker/compose.yaml", "/etc/grafana/provisioning/dashboards/backpropd.json"},
        {"docker/compose.yaml", "./prometheus.yml:/etc/prometheus/prometheus.yml:ro"},
        {"docker/compose.yaml", "\n  prometheus:\n"},
        {"docker/compose.yaml", "\n  backpropd:\n"},
        {"docker/compose.yaml", "dockerfile: docker/Dockerfile"},
        {"docker/prometheus.yml", "job_name: backpropd"},
        {"docker/prometheus.yml", "targets: [\"backpropd:8080\"]"},
        /* Or it would answer 421 to that name. */
        {"docker/compose.yaml", "BACKPROPD_ALLOWED_HOSTS: backpropd"},
        {"docker/Dockerfile", "BACKPROPD_LISTEN=0.0.0.0:8080"},
    };
    (void)d;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        file_has(rows[i][0], rows[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(queries_fit),
        DAEMON_TEST(queries_that_do_not_fit),
        DAEMON_TEST(panels_are_whole),
        DAEMON_TEST(files_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
