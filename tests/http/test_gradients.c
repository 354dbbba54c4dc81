/* test_gradients.c: gradients is a pure question. What it answers is what train_step would compute,
 * to the bit; it changes nothing; and it is right: against central differences of the loss over
 * the inputs, and for each parameter against the loss after a small step along its gradient. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES "\"parameters\":{\"values\":true,\"wrt\":[\"parameters\",\"inputs\"]}"

static const struct {
    const char *name, *description;
    int pixels, parameters;
} models[] = {{"mlp", remote_mlp, 4, 4}, {"cnn", remote_cnn, 36, 6}};

/* ---- pure and the same as train_step --------------------------------------------------------- */

static void same_as_train_step(struct daemon *d)
{
    struct client *c = d->client;
    for (int i = 0; i < 2; i++) {
        const char *name = models[i].name;
        remote_create(c, name, models[i].description);
        for (unsigned seed = 0; seed < 4; seed++) {
            const char *batch = remote_batch(c, seed, 8, models[i].pixels, NULL);
            struct answer *g = remote_post(c, name, "gradients", batch);
            struct answer *t = remote_post(c, name, "train_step", batch);
            assert_true(answer_number(g, "loss") == answer_number(t, "loss"));
            assert_true(answer_number(g, "grad_norm") == answer_number(t, "metrics.grad_norm"));
            assert_true(answer_number(g, "step") == seed);
            assert_int_equal(json_array_size(answer_find(g, "gradients")), models[i].parameters);
        }
    }
}

static void reads_change_nothing(struct daemon *d)
{
    struct client *c = d->client;
    for (int i = 0; i < 2; i++) {
        const char *name = models[i].name;
        const char *batch = remote_batch(c, 1, 5, models[i].pixels, NULL);
        remote_create(c, name, models[i].description);
        remote_step(c, name, 7, models[i].pixels);
        remote_post(c, name, "forward_backward", batch);
        struct remote_hash before = remote_hash(c, name);
        double revision = remote_number(c, name, "revision");
        for (int k = 0; k < 2; k++) {
            remote_post(c, name, "gradients", batch);
            remote_post(c, name, "gradients", remote_batch(c, 2, 3, models[i].pixels, VALUES));
            remote_post(
                c, name, "gradients",
                remote_batch(c, 1, 5, models[i].pixels, "\"parameters\":{\"mode\":\"eval\"}"));
            remote_post(c, name, "evaluate", batch);
            remote_post(c, name, "infer", remote_inputs(c, 3, 4, models[i].pixels, NULL));
            remote_get(c, name, "/metrics");
            remote_get(c, name, "/config");
        }
        assert_same_state(remote_hash(c, name), before);
        assert_true(remote_number(c, name, "revision") == revision);
    }
}

/* By evaluation rules there is no dropout and no batch statistics: the loss is that of evaluate. */
static void mode_eval(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch = remote_batch(c, 1, 8, 36, NULL);
    remote_create(c, "cnn", remote_cnn);
    remote_step(c, "cnn", 2, 36);
    struct answer *a = remote_post(c, "cnn", "gradients",
                                   remote_batch(c, 1, 8, 36, "\"parameters\":{\"mode\":\"eval\"}"));
    double loss = answer_number(remote_post(c, "cnn", "evaluate", batch), "loss");
    assert_true(answer_number(a, "loss") == loss);
    assert_true(answer_number(remote_post(c, "cnn", "gradients", batch), "loss") != loss);
}

/* ---- right ----------------------------------------------------------------------------------- */

/* The loss by evaluation rules with one number of the inputs moved. */
static double loss_moved(struct client *c, const char *name, json_t *body, size_t at, double by)
{
    json_t *moved = json_deep_copy(body);
    json_t *input = json_array_get(json_object_get(moved, "inputs"), 0);
    json_t *data = json_object_get(input, "data");
    double x = json_number_value(json_array_get(data, at)) + by;
    json_array_set_new(data, at, json_real(x));
    char *text = json_dumps(moved, 0);
    double loss = answer_number(remote_post(c, name, "evaluate", text), "loss");
    free(text);
    json_decref(moved);
    return loss;
}

/* In float32 the differences are good to a few parts in a thousand. */
static void inputs_by_differences(struct daemon *d)
{
    struct client *c = d->client;
    enum { SAMPLES = 3 };
    for (int i = 0; i < 2; i++) {
        const char *name = models[i].name;
        int n = SAMPLES * models[i].pixels;
        double gradient[SAMPLES * 36], error = 0, norm = 0;
        remote_create(c, name, models[i].description);
        struct answer *a = remote_post(
            c, name, "gradients",
            remote_batch(
                c, 4, SAMPLES, models[i].pixels,
                "\"parameters\":{\"wrt\":[\"inputs\"],\"values\":true,\"mode\":\"eval\"}"));
        assert_int_equal(remote_numbers(a, "gradients.0.data", gradient, SAMPLES * 36), n);
        json_t *body = json_loads(remote_batch(c, 4, SAMPLES, models[i].pixels, NULL), 0, NULL);
        for (int k = 0; k < n; k++) {
            double h = 1e-2, up = loss_moved(c, name, body, (size_t)k, h);
            double slope = (up - loss_moved(c, name, body, (size_t)k, -h)) / (2 * h);
            error += (slope - gradient[k]) * (slope - gradient[k]);
            norm += gradient[k] * gradient[k];
        }
        json_decref(body);
        if (!(sqrt(error) < 1e-2 * sqrt(norm)))
            fail_msg("%s: relative error %g", name, sqrt(error / norm));
    }
}

/* With all but one tensor frozen, a plain step of size h along its gradient g lowers the loss by
 * h |g|^2 - h^2 c: two sizes take out the second term. */
static void parameter_by_step(struct client *c, const char *name, const char *others, int pixels)
{
    char body[512];
    double slope[2], loss = 0, norm = 0;
    for (int k = 0; k < 2; k++) {
        double h = k ? 0.01 : 0.02;
        snprintf(body, sizeof body, "{\"frozen\":[%s],\"optimizer\":{\"op\":\"sgd\",\"lr\":%g}}",
                 others, h);
        answer_expect(remote_call(c, "PATCH", name, "", body), 200);
        struct answer *a = remote_post(c, name, "gradients", remote_batch(c, 6, 8, pixels, NULL));
        loss = answer_number(a, "loss");
        norm = answer_number(a, "grad_norm");
        assert_true(fabs(answer_number(a, "gradients.0.norm") - norm) <= 1e-5 * norm);
        answer_expect(remote_call(c, "POST", name, "/versions", NULL), 201);
        remote_post(c, name, "train_step", remote_batch(c, 6, 8, pixels, NULL));
        a = remote_post(c, name, "gradients", remote_batch(c, 6, 8, pixels, NULL));
        slope[k] = (loss - answer_number(a, "loss")) / h;
        a = remote_get(c, name, "/versions");
        size_t n = json_array_size(answer_find(a, "versions"));
        snprintf(body, sizeof body, "versions/%zu/restore", n);
        remote_post(c, name, body, NULL);
    }
    double limit = 2 * slope[1] - slope[0];
    if (!(fabs(limit - norm * norm) <= 0.01 * norm * norm + 2e-5))
        fail_msg("all but %s: slope %g, |g|^2 %g", others, limit, norm * norm);
}

/* Batch statistics, without dropout: its mask would change with the draw. */
static void parameters_by_steps(struct daemon *d)
{
    struct client *c = d->client;
    static const char cnn[] =
        "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,1,6,6]}],"
        "\"layers\":[{\"name\":\"conv\",\"op\":\"conv2d\",\"out_channels\":3,\"kernel_size\":3},"
        "{\"name\":\"bn\",\"op\":\"batch_norm2d\"},{\"op\":\"tanh\"},{\"op\":\"flatten\"},"
        "{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":3}],\"loss\":\"cross_entropy\"}";
    static const char *const all_but_one[] = {
        "\"bn.*\",\"fc.*\",\"conv.bias\"", "\"conv.*\",\"fc.*\",\"bn.bias\"",
        "\"conv.*\",\"fc.*\",\"bn.weight\"", "\"conv.*\",\"bn.*\",\"fc.bias\"",
        "\"conv.*\",\"bn.*\",\"fc.weight\""};
    remote_create(c, "m", cnn);
    for (int i = 0; i < 5; i++)
        parameter_by_step(c, "m", all_but_one[i], 36);
}

/* ---- the form of the answer ------------------------------------------------------------------ */

/* The statistics are those of the values. */
static void check_statistics(struct answer *a, int i)
{
    double x[1024], sum = 0, squares = 0, most = 0, zeros = 0;
    char path[64];
    snprintf(path, sizeof path, "gradients.%d.data", i);
    int n = remote_numbers(a, path, x, 1024);
    for (int k = 0; k < n; k++) {
        sum += x[k];
        squares += x[k] * x[k];
        most = fmax(most, fabs(x[k]));
        zeros += x[k] == 0;
    }
    double mean = sum / n, variance = 0;
    for (int k = 0; k < n; k++)
        variance += (x[k] - mean) * (x[k] - mean) / n;
    const struct {
        const char *name;
        double value;
    } rows[] = {{"norm", sqrt(squares)},
                {"mean", mean},
                {"std", sqrt(variance)},
                {"abs_max", most},
                {"zero_fraction", zeros / n}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        snprintf(path, sizeof path, "gradients.%d.%s", i, rows[k].name);
        assert_true(fabs(answer_number(a, path) - rows[k].value) <= 1e-6 * (1e-3 + most));
    }
}

static void statistics(struct daemon *d)
{
    struct client *c = d->client;
    for (int i = 0; i < 2; i++) {
        remote_create(c, models[i].name, models[i].description);
        struct answer *a = remote_post(c, models[i].name, "gradients",
                                       remote_batch(c, 1, 4, models[i].pixels, VALUES));
        for (int k = 0; k <= models[i].parameters; k++)
            check_statistics(a, k);
        char path[64];
        snprintf(path, sizeof path, "gradients.%d.name", models[i].parameters);
        assert_string_equal(answer_string(a, path), models[i].pixels == 4 ? "x" : "image");
    }
}

static void wrt(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *wrt, *names; /* each followed by a blank */
    } rows[] = {
        {"\"parameters\"", "hidden.weight hidden.bias out.weight out.bias "},
        {"[\"inputs\"]", "x "},
        {"[\"x\"]", "x "},
        {"\"out.*\"", "out.weight out.bias "},
        {"[\"*.bias\",\"inputs\"]", "hidden.bias out.bias x "},
        {"[\"out.weight\",\"parameters\"]", "hidden.weight hidden.bias out.weight out.bias "},
        {"[]", ""},
        {"null", "hidden.weight hidden.bias out.weight out.bias "},
    };
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char more[128], names[256] = "";
        snprintf(more, sizeof more, "\"parameters\":{\"wrt\":%s}", rows[i].wrt);
        struct answer *a = remote_post(c, "m", "gradients", remote_batch(c, 1, 4, 4, more));
        size_t k;
        json_t *g;
        json_array_foreach(answer_find(a, "gradients"), k, g)
        {
            assert_null(json_object_get(g, "data"));
            strcat(names, json_string_value(json_object_get(g, "name")));
            strcat(names, " ");
        }
        assert_string_equal(names, rows[i].names);
    }
    answer_refused(remote_call(c, "POST", "m", "/gradients",
                               remote_batch(c, 1, 4, 4, "\"parameters\":{\"wrt\":[\"outt.*\"]}")),
                   422, "bad_value", "outt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(same_as_train_step),
        DAEMON_TEST(reads_change_nothing),
        DAEMON_TEST(mode_eval),
        DAEMON_TEST(inputs_by_differences),
        DAEMON_TEST(parameters_by_steps),
        DAEMON_TEST(statistics),
        DAEMON_TEST(wrt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
