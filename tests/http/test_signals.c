/* test_signals.c: what a step says of each layer: gradients of layers' outputs, norms of single
 * samples, histograms, signals; that training records them at its interval, once each, through
 * restarts; and that each rule of the diagnosis sees its trouble and leaves a healthy net in peace.
 */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WRT(names)  "\"parameters\":{\"values\":true,\"wrt\":[" names "]}"
#define WITH(names) "\"parameters\":{" names "}"

/* The field of the entry of a list whose "name" is `name`. */
static json_t *named(struct answer *a, const char *list, const char *name, const char *field)
{
    size_t i;
    json_t *item;
    json_array_foreach(answer_find(a, list), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0)
            return json_object_get(item, field);
    }
    fail_msg("%s has no '%s': %.400s", list, name, a->body);
    return NULL;
}

static double named_number(struct answer *a, const char *list, const char *name, const char *field)
{
    json_t *x = named(a, list, name, field);
    if (!json_is_number(x))
        fail_msg("%s of '%s' is no number", field, name);
    return json_number_value(x);
}

static double at(json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static void close_to(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * fmax(fabs(a), fabs(b))))
        fail_msg("%.9g, expected %.9g", a, b);
}

/* ---- gradients of layers' outputs ------------------------------------------------------------ */

static const char images[] =
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,1,6,6]}],"
    "\"layers\":[{\"name\":\"same\",\"op\":\"leaky_relu\",\"negative_slope\":1},"
    "{\"name\":\"conv\",\"op\":\"conv2d\",\"out_channels\":3,\"kernel_size\":3},"
    "{\"name\":\"bend\",\"op\":\"tanh\"},"
    "{\"name\":\"conv2\",\"op\":\"conv2d\",\"out_channels\":4,\"kernel_size\":2},"
    "{\"name\":\"flat\",\"op\":\"flatten\"},{\"name\":\"also\",\"op\":\"leaky_relu\","
    "\"negative_slope\":1},{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":\"cross_entropy\",\"seed\":5}";

/* The gradient of a bias is the sum of that of the output that it is added to: over samples and
 * positions, channel by channel, which also shows the order of the numbers. */
static void bias_is_sum(struct answer *a, const char *layer, int n, int channels, int positions)
{
    char bias[64];
    snprintf(bias, sizeof bias, "%s.bias", layer);
    json_t *sums = named(a, "gradients", bias, "data"), *x = named(a, "gradients", layer, "data");
    assert_int_equal(json_array_size(x), (size_t)(n * channels * positions));
    for (int c = 0; c < channels; c++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            for (int p = 0; p < positions; p++)
                sum += at(x, (size_t)((i * channels + c) * positions + p));
        assert_true(fabs(sum - at(sums, (size_t)c)) <= 1e-6);
    }
}

static void same_numbers(struct answer *a, const char *one, const char *other)
{
    json_t *x = named(a, "gradients", one, "data"), *y = named(a, "gradients", other, "data");
    size_t n = json_array_size(x);
    assert_true(n > 0 && n == json_array_size(y));
    for (size_t i = 0; i < n; i++)
        assert_true(at(x, i) == at(y, i));
}

static void layers_have_gradients(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", images);
    struct answer *a =
        remote_post(c, "m", "gradients",
                    remote_batch(c, 1, 5, 36, WRT("\"layers\",\"inputs\",\"parameters\"")));
    bias_is_sum(a, "conv", 5, 3, 16);
    bias_is_sum(a, "conv2", 5, 4, 9);
    bias_is_sum(a, "fc", 5, 3, 1);
    same_numbers(a, "image", "same");
    same_numbers(a, "conv2", "flat"); /* a view */
    same_numbers(a, "flat", "also");
    struct answer *plain = remote_post(c, "m", "gradients", remote_batch(c, 1, 5, 36, NULL));
    assert_true(answer_number(plain, "grad_norm") == answer_number(a, "grad_norm"));
    assert_int_equal(json_array_size(answer_find(a, "gradients.9.shape")), 4);
}

/* Names and globs mean layers only where nothing else is called so; a view alone has one too. */
static void layers_by_name(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *wrt, *names;
    } rows[] = {{"\"conv\"", "conv "},
                {"\"conv?\"", "conv2 "},
                {"\"conv*\"", "conv.weight conv.bias conv2.weight conv2.bias "},
                {"\"flat\"", "flat "},
                {"\"flat\",\"fla*\",\"same\"", "flat same "}};
    remote_create(c, "m", images);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char more[128], names[256] = "";
        snprintf(more, sizeof more, WITH("\"wrt\":[%s]"), rows[i].wrt);
        struct answer *a = remote_post(c, "m", "gradients", remote_batch(c, 1, 4, 36, more));
        size_t k;
        json_t *g;
        json_array_foreach(answer_find(a, "gradients"), k, g)
        {
            strcat(names, json_string_value(json_object_get(g, "name")));
            strcat(names, " ");
        }
        assert_string_equal(names, rows[i].names);
    }
    answer_refused(remote_call(c, "POST", "m", "/gradients",
                               remote_batch(c, 1, 4, 36, WITH("\"wrt\":[\"falt\"]"))),
                   422, "bad_value", "did you mean 'flat'");
}

/* With all parameters frozen a layer's gradient is still what it was. */
static void frozen_layers(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", images);
    const char *batch = remote_batch(c, 1, 5, 36, WRT("\"bend\",\"same\""));
    struct answer *before = remote_post(c, "m", "gradients", batch);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"frozen\":[\"*\"]}"), 200);
    struct answer *after = remote_post(c, "m", "gradients", batch);
    assert_true(json_equal(answer_find(before, "gradients"), answer_find(after, "gradients")));
    assert_true(answer_number(after, "grad_norm") == 0);
}

/* ---- norms of single samples ----------------------------------------------------------------- */

static void sample_norms(struct daemon *d)
{
    struct client *c = d->client;
    enum { N = 6 };
    remote_create(c, "m", remote_mlp);
    struct answer *a = remote_post(c, "m", "gradients",
                                   remote_batch(c, 3, N, 4, WITH("\"per_sample_norms\":true")));
    double norms[N];
    assert_int_equal(remote_numbers(a, "per_sample_norms", norms, N), N);
    for (int i = 0; i < N; i++) {
        struct answer *one = remote_post(c, "m", "gradients", remote_batch_part(c, 3, i, i + 1, 4));
        assert_true(answer_number(one, "grad_norm") == norms[i]);
    }
    assert_null(answer_find(remote_post(c, "m", "gradients", remote_batch(c, 3, N, 4, NULL)),
                            "per_sample_norms"));
}

static void sample_norms_need_no_batch(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    answer_refused(remote_call(c, "POST", "m", "/gradients",
                               remote_batch(c, 3, 4, 36, WITH("\"per_sample_norms\":true"))),
                   422, "bad_value", "'bn'");
    struct answer *a =
        remote_post(c, "m", "gradients",
                    remote_batch(c, 3, 4, 36, WITH("\"per_sample_norms\":true,\"mode\":\"eval\"")));
    assert_int_equal(json_array_size(answer_find(a, "per_sample_norms")), 4);
    remote_create(c, "untracked",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"name\":\"bn\","
                  "\"op\":\"batch_norm1d\",\"track_running_stats\":false},{\"op\":\"linear\","
                  "\"out_features\":3}],\"loss\":\"cross_entropy\"}");
    answer_refused(
        remote_call(c, "POST", "untracked", "/gradients",
                    remote_batch(c, 3, 4, 4, WITH("\"per_sample_norms\":true,\"mode\":\"eval\""))),
        422, "bad_value", "'bn'");
}

/* ---- histograms ------------------------------------------------------------------------------ */

/* Counts all numbers, and as many in each bin as the values themselves say. */
static void check_histogram(json_t *h, json_t *data, int bins)
{
    json_t *counts = json_object_get(h, "counts");
    double low = json_number_value(json_object_get(h, "min"));
    double width = (json_number_value(json_object_get(h, "max")) - low) / bins;
    int expected[64] = {0};
    assert_int_equal(json_array_size(counts), (size_t)bins);
    for (size_t i = 0; i < json_array_size(data); i++) {
        int bin = (int)((at(data, i) - low) / width);
        expected[bin < bins ? bin : bins - 1]++;
    }
    int off = 0;
    for (int i = 0; i < bins; i++)
        off += abs(expected[i] - (int)at(counts, (size_t)i));
    assert_true(off <= 2); /* values on an edge: they are printed as float32 */
}

static void histograms(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", images);
    struct answer *a =
        remote_post(c, "m", "gradients",
                    remote_batch(c, 1, 5, 36, WITH("\"values\":true,\"histograms\":{\"bins\":8}")));
    check_histogram(named(a, "gradients", "fc.weight", "histogram"),
                    named(a, "gradients", "fc.weight", "data"), 8);
    double sum = 0, sum_of_activations = 0;
    for (size_t i = 0; i < 8; i++) {
        sum += at(
            json_object_get(named(a, "gradients", "conv2.weight", "parameter_histogram"), "counts"),
            i);
        sum_of_activations +=
            at(json_object_get(named(a, "layers", "bend", "activation_histogram"), "counts"), i);
    }
    assert_true(sum == 4 * 3 * 2 * 2);
    assert_true(sum_of_activations == 5 * 3 * 16);
    json_t *bend = named(a, "layers", "bend", "activation_histogram");
    assert_true(json_number_value(json_object_get(bend, "min")) >= -1);
    assert_true(json_number_value(json_object_get(bend, "max")) <= 1);
    assert_null(answer_find(a, "diagnosis"));
    a = remote_post(c, "m", "gradients", remote_batch(c, 1, 5, 36, WITH("\"histograms\":{}")));
    assert_int_equal(json_array_size(answer_find(a, "gradients.0.histogram.counts")), 32);
}

static void bad_questions(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *parameters, *slug, *part;
        int status;
    } rows[] = {{"\"histograms\":{\"bins\":0}", "bad_value", "bins", 422},
                {"\"histograms\":{\"bins\":1025}", "bad_value", "1025", 422},
                {"\"histograms\":{\"bin\":3}", "unknown_field", "bin", 400},
                {"\"histograms\":true", "bad_type", "histograms", 400},
                {"\"signals\":1", "bad_type", "signals", 400},
                {"\"per_sample_norms\":\"yes\"", "bad_type", "per_sample_norms", 400}};
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char more[128];
        snprintf(more, sizeof more, WITH("%s"), rows[i].parameters);
        answer_refused(remote_call(c, "POST", "m", "/gradients", remote_batch(c, 1, 4, 4, more)),
                       rows[i].status, rows[i].slug, rows[i].part);
    }
}

/* ---- the figures ----------------------------------------------------------------------------- */

/* A net whose numbers are known: hidden = 2 everywhere or below 0, by its bias. */
#define KNOWN(activation, bias)                                                                    \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"name\":\"hidden\","            \
    "\"op\":\"linear\",\"out_features\":8,\"init\":{\"weight\":\"zeros\",\"bias\":{\"op\":"        \
    "\"constant\",\"value\":" bias "}}},{\"name\":\"act\",\"op\":\"" activation "\"},"             \
    "{\"name\":\"out\",\"op\":\"linear\",\"out_features\":3}],\"loss\":\"cross_entropy\","         \
    "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01},\"seed\":1}"

static struct answer *ask(struct client *c, const char *name, int n)
{
    return remote_post(c, name, "gradients", remote_batch(c, 1, n, 4, WITH("\"signals\":true")));
}

static void figures(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "alive", KNOWN("relu", "2"));
    struct answer *a = ask(c, "alive", 16);
    assert_true(named_number(a, "layers", "hidden", "activation_mean") == 2);
    assert_true(named_number(a, "layers", "hidden", "activation_std") == 0);
    assert_true(named_number(a, "layers", "act", "dead_share") == 0);
    assert_null(named(a, "layers", "hidden", "dead_share"));
    assert_null(named(a, "layers", "act", "gradient_norm"));
    close_to(named_number(a, "layers", "hidden", "weight_norm"), sqrt(8 * 4), 1e-6);
    remote_create(c, "dead", KNOWN("relu", "-2"));
    a = ask(c, "dead", 16);
    assert_true(named_number(a, "layers", "act", "dead_share") == 1);
    remote_create(c, "flat", KNOWN("sigmoid", "5"));
    a = ask(c, "flat", 16);
    assert_true(named_number(a, "layers", "act", "saturated_share") == 1);
    close_to(named_number(a, "layers", "act", "activation_mean"), 1 / (1 + exp(-5)), 1e-6);
    remote_create(c, "steep", KNOWN("sigmoid", "4"));
    assert_true(named_number(ask(c, "steep", 16), "layers", "act", "saturated_share") == 0);
}

/* Of plain SGD the update is lr times the gradient; the layer's norm is that of its parameters. */
static void update_ratio(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", KNOWN("relu", "2"));
    struct answer *a = ask(c, "m", 16);
    double g = named_number(a, "layers", "out", "gradient_norm");
    close_to(g,
             hypot(named_number(a, "gradients", "out.weight", "norm"),
                   named_number(a, "gradients", "out.bias", "norm")),
             1e-9);
    close_to(named_number(a, "layers", "out", "update_ratio"),
             0.01 * g / named_number(a, "layers", "out", "weight_norm"), 1e-4);
    a = remote_post(c, "m", "gradients",
                    remote_batch(c, 1, 16, 4, WITH("\"signals\":true,\"mode\":\"eval\"")));
    assert_null(named(a, "layers", "out", "update_ratio")); /* no step goes by those rules */
    /* clipping changes the update, not the gradients that are told */
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"clip_grad_norm\":0.001}"), 200);
    a = ask(c, "m", 16);
    assert_true(named_number(a, "layers", "out", "gradient_norm") == g);
    assert_true(named_number(a, "layers", "out", "update_ratio") < 1e-4 * g);
}

/* ---- recorded by training -------------------------------------------------------------------- */

/* The number of layer `layer`, by name, at point `point`. */
static double recorded(struct answer *a, const char *signal, const char *layer, size_t point)
{
    char path[64];
    size_t i;
    json_t *item;
    snprintf(path, sizeof path, "signals.%s", signal);
    json_array_foreach(answer_find(a, "layers"), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "name")), layer) == 0)
            return at(json_array_get(answer_find(a, path), i), point);
    }
    fail_msg("no layer '%s'", layer);
    return NAN;
}

static void train(struct client *c, const char *name, int steps, int pixels)
{
    for (int i = 0; i < steps; i++)
        remote_step(c, name, (unsigned)i, pixels);
}

static void recorded_at_its_interval(struct daemon *d)
{
    struct client *c = d->client;
    double steps[16];
    remote_create(c, "m", remote_mlp);
    train(c, "m", 4, 4);
    struct answer *a = remote_get(c, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 0);
    assert_null(answer_find(a, "every"));
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":3}}"), 200);
    train(c, "m", 9, 4); /* steps 5 to 13 */
    a = remote_get(c, "m", "/signals");
    assert_int_equal(remote_numbers(a, "step", steps, 16), 3);
    assert_true(steps[0] == 6 && steps[1] == 9 && steps[2] == 12);
    assert_true(answer_number(a, "every") == 3);
    assert_true(answer_number(a, "last_revision") == answer_number(a, "revision.2"));
    assert_non_null(answer_find(a, "diagnosis"));
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":0}}"), 200);
    train(c, "m", 3, 4);
    assert_int_equal(remote_numbers(remote_get(c, "m", "/signals"), "step", steps, 16), 3);
    answer_refused(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":-1}}"), 422,
                   "bad_value", "signals.every");
    answer_refused(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"each\":1}}"), 400,
                   "unknown_field", "each");
    answer_refused(remote_call(c, "GET", "m", "/signals?max_points=0", NULL), 400, "bad_query",
                   "max_points");
}

/* What training records is what gradients answers for the same batch before. */
static void recorded_is_what_gradients_says(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const fields[] = {"gradient_norm", "weight_norm", "update_ratio",
                                         "activation_mean", "activation_std"};
    remote_create(c, "m", remote_cnn);
    answer_expect(
        remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1},\"clip_grad_norm\":0.01}"),
        200);
    struct answer *asked =
        remote_post(c, "m", "gradients", remote_batch(c, 5, 8, 36, WITH("\"signals\":true")));
    remote_post(c, "m", "train_step", remote_batch(c, 5, 8, 36, NULL));
    struct answer *a = remote_get(c, "m", "/signals");
    for (size_t i = 0; i < 5; i++)
        assert_true(recorded(a, fields[i], "conv", 0) ==
                    named_number(asked, "layers", "conv", fields[i]));
    assert_true(recorded(a, "dead_share", "layers.2", 0) ==
                named_number(asked, "layers", "layers.2", "dead_share"));
    assert_true(json_equal(answer_find(a, "diagnosis"), answer_find(asked, "diagnosis")));
}

/* Histograms of the newest step: as many numbers as the parameters have, those of its gradients. */
static void recorded_histograms(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    answer_expect(
        remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1},\"frozen\":[\"out.bias\"]}"),
        200);
    assert_null(answer_find(remote_get(c, "m", "/signals?histograms=1"), "histograms"));
    train(c, "m", 12, 4);
    struct answer *asked = remote_post(
        c, "m", "gradients", remote_batch(c, 5, 8, 4, WITH("\"histograms\":{\"bins\":32}")));
    remote_post(c, "m", "train_step", remote_batch(c, 5, 8, 4, NULL));
    struct answer *a = remote_get(c, "m", "/signals?histograms=1");
    assert_true(answer_number(a, "histograms.step") == 13);
    assert_int_equal(json_array_size(answer_find(a, "histograms.parameters")), 4);
    assert_true(json_equal(answer_find(a, "histograms.parameters.0.gradients"),
                           answer_find(asked, "gradients.0.histogram")));
    assert_true(json_equal(answer_find(a, "histograms.parameters.0.weights"),
                           answer_find(asked, "gradients.0.parameter_histogram")));
    assert_non_null(answer_find(a, "histograms.parameters.3.weights"));
    assert_null(answer_find(a, "histograms.parameters.3.gradients")); /* frozen */
    assert_null(answer_find(remote_get(c, "m", "/signals"), "histograms"));
}

/* Recording changes nothing else; accumulated steps have no forward of their own to look at. */
static void recording_changes_nothing(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "plain", remote_cnn);
    remote_create(c, "watched", remote_cnn);
    answer_expect(remote_call(c, "PATCH", "watched", "", "{\"signals\":{\"every\":1}}"), 200);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "watched" : "plain";
        train(c, name, 3, 36);
        remote_post(c, name, "forward_backward", remote_batch(c, 8, 8, 36, NULL));
        remote_post(c, name, "optim_step", NULL);
    }
    assert_same_state(remote_hash(c, "plain"), remote_hash(c, "watched"));
    struct answer *a = remote_get(c, "watched", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 4);
    assert_true(recorded(a, "gradient_norm", "fc", 3) > 0);
    assert_true(recorded(a, "update_ratio", "fc", 3) > 0);
    assert_true(json_is_null(
        json_array_get(json_array_get(answer_find(a, "signals.activation_mean"), 0), 3)));
}

/* The same answer after a kill, which replays the log, and after a clean stop; then no more. */
static void recorded_once(struct daemon *d)
{
    remote_create(d->client, "m", remote_cnn);
    answer_expect(remote_call(d->client, "PATCH", "m", "", "{\"signals\":{\"every\":2}}"), 200);
    train(d->client, "m", 7, 36);
    json_t *before = json_incref(answer_json(remote_get(d->client, "m", "/signals")));
    assert_int_equal(json_array_size(json_object_get(before, "step")), 3);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "replayed.records") == 7);
    assert_true(json_equal(before, answer_json(remote_get(d->client, "m", "/signals"))));
    daemon_stop(d);
    daemon_start(d, d->flags);
    assert_true(json_equal(before, answer_json(remote_get(d->client, "m", "/signals"))));
    json_decref(before);
    answer_expect(remote_call(d->client, "DELETE", "m", "", NULL), 200);
    remote_create(d->client, "m", remote_cnn);
    struct answer *a = remote_get(d->client, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 0);
}

/* Steps that were lost with the process take their signals with them. */
static void lost_steps_leave_none(struct daemon *d)
{
    remote_create(d->client, "m", remote_mlp);
    answer_expect(remote_call(d->client, "PATCH", "m", "",
                              "{\"signals\":{\"every\":1},\"durability\":\"none\"}"),
                  200);
    train(d->client, "m", 5, 4);
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_true(remote_number(d->client, "m", "step") == 0);
    struct answer *a = remote_get(d->client, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 0);
    train(d->client, "m", 2, 4);
    a = remote_get(d->client, "m", "/signals");
    assert_int_equal(json_array_size(answer_find(a, "step")), 2);
    assert_true(answer_number(a, "step.0") == 1);
}

static void sampled(struct daemon *d)
{
    struct client *c = d->client;
    double all[64], some[64];
    remote_create(c, "m", remote_mlp);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"signals\":{\"every\":1}}"), 200);
    train(c, "m", 40, 4);
    assert_int_equal(remote_numbers(remote_get(c, "m", "/signals"), "revision", all, 64), 40);
    struct answer *a = remote_get(c, "m", "/signals?max_points=5");
    assert_int_equal(remote_numbers(a, "revision", some, 64), 5);
    assert_true(some[0] == all[0] && some[4] == all[39]);
    assert_int_equal(json_array_size(answer_find(a, "signals.gradient_norm.0")), 5);
    a = remote_get(c, "m", "/signals?max_points=1");
    assert_true(answer_number(a, "revision.0") == all[39]);
    char path[64];
    snprintf(path, sizeof path, "/signals?since=%.0f&until=%.0f", all[35], all[37]);
    assert_int_equal(remote_numbers(remote_get(c, "m", path), "revision", some, 64), 2);
    snprintf(path, sizeof path, "/signals?since=%.0f", all[39]);
    a = remote_get(c, "m", path);
    assert_int_equal(json_array_size(answer_find(a, "revision")), 0);
    assert_true(answer_number(a, "last_revision") == all[39]);
}

/* ---- diagnosis ------------------------------------------------------------------------------- */

/* Stem, `depth` times linear and sigmoid, head; `residual`: batch norm before each sigmoid, and
 * each added to what came before. */
static void deep_create(struct client *c, const char *name, int depth, bool residual)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":["
                 "{\"name\":\"stem\",\"op\":\"linear\",\"out_features\":32}");
    for (int i = 0; i < depth; i++) {
        text_add(&t, ",{\"name\":\"l%d\",\"op\":\"linear\",\"out_features\":32}", i);
        if (residual)
            text_add(&t, ",{\"name\":\"bn%d\",\"op\":\"batch_norm1d\"}", i);
        text_add(&t, ",{\"name\":\"a%d\",\"op\":\"sigmoid\"}", i);
        if (residual && i)
            text_add(&t, ",{\"name\":\"s%d\",\"op\":\"add\",\"inputs\":[\"a%d\",\"s%d\"]}", i, i,
                     i - 1);
        else if (residual)
            text_add(&t, ",{\"name\":\"s0\",\"op\":\"add\",\"inputs\":[\"a0\",\"stem\"]}");
    }
    text_add(&t, ",{\"name\":\"head\",\"op\":\"linear\",\"out_features\":3}],"
                 "\"loss\":\"cross_entropy\",\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01},"
                 "\"seed\":3}");
    remote_create(c, name, t.data);
    text_free(&t);
}

/* The finding of this problem; NULL: none. */
static json_t *finding(struct answer *a, const char *problem)
{
    size_t i;
    json_t *item;
    json_array_foreach(answer_find(a, "diagnosis"), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "problem")), problem) == 0)
            return item;
    }
    return NULL;
}

static double figure(json_t *f, const char *name)
{
    return json_number_value(json_object_get(json_object_get(f, "figures"), name));
}

static json_t *found(struct answer *a, const char *problem, const char *layer)
{
    json_t *f = finding(a, problem);
    if (!f)
        fail_msg("no %s: %s", problem, json_dumps(answer_find(a, "diagnosis"), 0));
    assert_string_equal(json_string_value(json_object_get(f, "layer")), layer);
    assert_non_null(strstr(json_string_value(json_object_get(f, "says")), layer));
    assert_true(strlen(json_string_value(json_object_get(f, "helps"))) > 10);
    assert_true(json_array_size(json_object_get(f, "layers")) > 0);
    return f;
}

static void healthy(struct answer *a)
{
    if (json_array_size(answer_find(a, "diagnosis")))
        fail_msg("%s", json_dumps(answer_find(a, "diagnosis"), 0));
}

/* Fifty sigmoids: at each layer the gradient shrinks about sevenfold, the stem gets nothing that
 * float32 can hold. With residual connections and batch norm the stem gets more than a 200th of
 * what the head gets, and no layer less than a thousandth; so at the start, so after training. */
static void fifty_layers(struct daemon *d)
{
    struct client *c = d->client;
    deep_create(c, "sigmoid", 50, false);
    deep_create(c, "residual", 50, true);
    for (int round = 0; round < 2; round++) {
        struct answer *a = ask(c, "sigmoid", 32);
        json_t *f = found(a, "vanishing_gradients", "stem");
        assert_true(figure(f, "ratio") < 1e-30);
        assert_true(json_array_size(json_object_get(f, "layers")) > 40);
        assert_true(named_number(a, "layers", "l10", "gradient_norm") <
                    1e-20 * named_number(a, "layers", "head", "gradient_norm"));
        assert_null(finding(a, "learning_rate_too_low")); /* follows from it */
        a = ask(c, "residual", 32);
        healthy(a);
        double head = named_number(a, "layers", "head", "gradient_norm");
        assert_true(named_number(a, "layers", "stem", "gradient_norm") > 0.005 * head);
        for (int i = 0; i < 50; i++) {
            char name[16];
            snprintf(name, sizeof name, "l%d", i);
            assert_true(named_number(a, "layers", name, "gradient_norm") > 1e-3 * head);
        }
        for (int i = 0; i < 10; i++) {
            remote_post(c, "sigmoid", "train_step", remote_batch(c, 1, 32, 4, NULL));
            remote_post(c, "residual", "train_step", remote_batch(c, 1, 32, 4, NULL));
        }
    }
}

/* tanh with weights so large that the backward grows at each layer while the forward is bounded. */
static void exploding(struct daemon *d)
{
    struct client *c = d->client;
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":["
                 "{\"name\":\"stem\",\"op\":\"linear\",\"out_features\":32}");
    for (int i = 0; i < 40; i++)
        text_add(&t,
                 ",{\"name\":\"l%d\",\"op\":\"linear\",\"out_features\":32,\"init\":{\"weight\":"
                 "{\"op\":\"normal\",\"std\":0.8}}},{\"name\":\"a%d\",\"op\":\"tanh\"}",
                 i, i);
    text_add(&t, ",{\"name\":\"head\",\"op\":\"linear\",\"out_features\":3}],"
                 "\"loss\":\"cross_entropy\",\"optimizer\":{\"op\":\"sgd\",\"lr\":1e-9},"
                 "\"seed\":3,\"signals\":{\"every\":1}}");
    remote_create(c, "m", t.data);
    text_free(&t);
    struct answer *a = ask(c, "m", 32);
    json_t *f = finding(a, "exploding_gradients");
    assert_non_null(f);
    assert_true(figure(f, "ratio") > 1e3);
    assert_true(figure(f, "gradient_norm") >
                1e3 * named_number(a, "layers", "head", "gradient_norm"));
    assert_null(finding(a, "vanishing_gradients"));
    remote_post(c, "m", "train_step", remote_batch(c, 1, 32, 4, NULL));
    assert_non_null(finding(remote_get(c, "m", "/signals"), "exploding_gradients"));
}

/* A gradient that is large beside the weights is one too, whatever the depth. */
static void exploding_beside_the_weights(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"name\":\"grow\","
                  "\"op\":\"mul\",\"inputs\":[\"x\",\"x\"]},{\"name\":\"out\",\"op\":\"linear\","
                  "\"out_features\":3}],\"loss\":\"cross_entropy\",\"seed\":1}");
    const char *body = "{\"inputs\":[[300,1,1,1],[1,300,1,1]],\"targets\":[0,1],"
                       "\"parameters\":{\"signals\":true}}";
    json_t *f = found(remote_post(c, "m", "gradients", body), "exploding_gradients", "out");
    assert_true(figure(f, "ratio") > 1e3 && figure(f, "weight_norm") > 0);
}

static void dead_and_saturated(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "dead", KNOWN("relu", "-2"));
    json_t *f = found(ask(c, "dead", 16), "dead_relus", "act");
    assert_true(figure(f, "dead_share") == 1 && figure(f, "numbers_per_unit") == 16);
    close_to(figure(f, "limit"), 0.4 + 0.6 * pow(0.98, 16), 1e-12); /* some are silent by chance */
    assert_null(finding(ask(c, "dead", 15), "dead_relus"));         /* too few numbers to be sure */
    remote_create(c, "flat", KNOWN("tanh", "4"));
    f = found(ask(c, "flat", 4), "saturated_units", "act");
    assert_true(figure(f, "saturated_share") == 1);
    remote_create(c, "alive", KNOWN("relu", "0.1"));
    assert_null(finding(ask(c, "alive", 16), "dead_relus"));
}

/* Channels of an image are units, whichever way the image lies in memory. */
static void dead_channels(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,1,6,6]}],\"layers\":["
                  "{\"name\":\"conv\",\"op\":\"conv2d\",\"out_channels\":2,\"kernel_size\":1,"
                  "\"bias\":false,\"init\":{\"weight\":\"zeros\"}},{\"name\":\"both\",\"op\":"
                  "\"concat\",\"inputs\":[\"conv\",\"image\"],\"dim\":1},{\"name\":\"act\","
                  "\"op\":\"relu\"},{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"
                  "\"loss\":\"cross_entropy\"}");
    struct answer *a =
        remote_post(c, "m", "gradients", remote_batch(c, 1, 4, 36, WITH("\"signals\":true")));
    close_to(named_number(a, "layers", "act", "dead_share"), 2.0 / 3, 1e-12);
    assert_true(figure(found(a, "dead_relus", "act"), "numbers_per_unit") == 4 * 36);
}

static void learning_rate(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    healthy(ask(c, "m", 16)); /* lr 0.1 */
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":20}"), 200);
    json_t *f = finding(ask(c, "m", 16), "learning_rate_too_high");
    assert_non_null(f);
    assert_true(figure(f, "median_update_ratio") > 0.1);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":1e-6}"), 200);
    f = finding(ask(c, "m", 16), "learning_rate_too_low");
    assert_non_null(f);
    assert_true(figure(f, "median_update_ratio") < 1e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(layers_have_gradients),
        DAEMON_TEST(layers_by_name),
        DAEMON_TEST(frozen_layers),
        DAEMON_TEST(sample_norms),
        DAEMON_TEST(sample_norms_need_no_batch),
        DAEMON_TEST(histograms),
        DAEMON_TEST(bad_questions),
        DAEMON_TEST(figures),
        DAEMON_TEST(update_ratio),
        DAEMON_TEST(recorded_at_its_interval),
        DAEMON_TEST(recorded_is_what_gradients_says),
        DAEMON_TEST(recorded_histograms),
        DAEMON_TEST(recording_changes_nothing),
        DAEMON_TEST(recorded_once),
        DAEMON_TEST(lost_steps_leave_none),
        DAEMON_TEST(sampled),
        DAEMON_TEST(fifty_layers),
        DAEMON_TEST(exploding),
        DAEMON_TEST(exploding_beside_the_weights),
        DAEMON_TEST(dead_and_saturated),
        DAEMON_TEST(dead_channels),
        DAEMON_TEST(learning_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
