/* test_signals.c: what a step says of each layer: gradients of layers' outputs, norms of single
 * samples, histograms, figures. */
#include "signals_fixture.h"

#define WRT(names) "\"parameters\":{\"values\":true,\"wrt\":[" names "]}"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
