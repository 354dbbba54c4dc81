/* test_profile.c: POST .../profile: its figures hang together, it changes nothing, and it refuses
 * what would take too long. */
#include "../support/remote.h"

#include <stdio.h>
#include <string.h>

static const char net[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3,8,8]}],\"layers\":["
    "{\"name\":\"conv\",\"op\":\"conv2d\",\"out_channels\":4,\"kernel_size\":3,\"padding\":1},"
    "{\"op\":\"relu\"},{\"op\":\"flatten\"},{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":5}]"
    ","
    "\"loss\":{\"op\":\"cross_entropy\"}}";

static void figures(struct daemon *d)
{
    remote_create(d->client, "m", net);
    struct remote_hash before = remote_hash(d->client, "m");
    struct answer *a =
        remote_post(d->client, "m", "profile", "{\"parameters\":{\"steps\":3,\"batch\":6}}");
    answer_expect(a, 200);
    assert_string_equal(answer_string(a, "mode"), "train");
    assert_true(answer_number(a, "batch") == 6 && answer_number(a, "steps") == 3);
    assert_true(answer_number(a, "peak_gflops_per_second") > 0);
    assert_string_equal(answer_string(a, "layers.1.name"), "conv");
    /* The image is put channels-last first. 6 samples, 64 places, 4 x 27 products; the image's own
     * gradient is not wanted. */
    const double flops = answer_number(a, "layers.1.forward.flops");
    assert_true(flops >= 2.0 * 6 * 64 * 4 * 27);
    assert_true(answer_number(a, "layers.1.backward.flops") == flops);
    double sum = answer_number(a, "optimizer_milliseconds");
    for (size_t i = 0; i < json_array_size(answer_find(a, "operators")); i++) {
        char path[64];
        snprintf(path, sizeof path, "operators.%zu.forward.milliseconds", i);
        sum += answer_find(a, path) ? answer_number(a, path) : 0;
        snprintf(path, sizeof path, "operators.%zu.backward.milliseconds", i);
        sum += answer_find(a, path) ? answer_number(a, path) : 0;
    }
    assert_true(sum > 0 && sum <= 1.001 * answer_number(a, "milliseconds"));
    a = remote_post(d->client, "m", "profile", "{\"parameters\":{\"mode\":\"infer\"}}");
    answer_expect(a, 200);
    assert_null(answer_find(a, "layers.1.backward"));
    assert_same_state(before, remote_hash(d->client, "m"));
}

static void as_text(struct daemon *d)
{
    remote_create(d->client, "m", net);
    static const char *const accept[] = {"Accept: text/plain", NULL};
    struct call call = {.method = "POST", .path = "/v2/models/m/profile", .headers = accept};
    struct answer *a = client_send(d->client, &call);
    answer_expect(a, 200);
    assert_non_null(strstr(a->body, "conv2d"));
    assert_non_null(strstr(a->body, "for the optimiser"));
}

static void refused(struct daemon *d)
{
    static const struct {
        const char *body, *slug, *part;
        int status;
    } rows[] = {
        {"{\"parameters\":{\"steps\":0}}", "bad_value", "parameters.steps: expected 1 to 100", 422},
        {"{\"parameters\":{\"steps\":101}}", "bad_value", "found 101", 422},
        {"{\"parameters\":{\"batch\":4097}}", "bad_value", "parameters.batch", 422},
        {"{\"parameters\":{\"mode\":\"both\"}}", "bad_value", "parameters.mode", 422},
        {"{\"parameters\":{\"epochs\":1}}", "unknown_field", "epochs", 400},
        {"{\"steps\":1}", "unknown_field", "steps", 400},
    };
    remote_create(d->client, "m", net);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(remote_call(d->client, "POST", "m", "/profile", rows[i].body),
                       rows[i].status, rows[i].slug, rows[i].part);
    remote_create(d->client, "large", "{\"template\":{\"name\":\"resnet18\",\"num_classes\":10}}");
    answer_refused(remote_call(d->client, "POST", "large", "/profile",
                               "{\"parameters\":{\"steps\":100,\"batch\":4096}}"),
                   422, "too_large", "expected at most");
    remote_create(d->client, "plain",
                  "{\"inputs\":[{\"shape\":[-1,2]}],\"layers\":[{\"op\":\"relu\"}]}");
    answer_refused(remote_call(d->client, "POST", "plain", "/profile",
                               "{\"parameters\":{\"mode\":\"train\"}}"),
                   409, "conflict", "without a loss");
    answer_expect(remote_call(d->client, "POST", "plain", "/profile", "{}"), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(figures),
        DAEMON_TEST(as_text),
        DAEMON_TEST(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
