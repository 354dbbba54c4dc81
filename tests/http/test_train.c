/* test_train.c: the verbs that train, and what they do to the three counters: step, revision, draw.
 * The scalar model w * x makes their arithmetic plain: with one sample the gradient of its mse is
 * 2 x (w x - y). What gradients says is in test_gradients.c. */
#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct expected {
    double step, revision, draw;
    bool pending;
};

static void expect_counters(struct client *c, const char *name, struct expected want)
{
    struct answer *a = remote_get(c, name, "");
    if (answer_number(a, "step") != want.step || answer_number(a, "revision") != want.revision ||
        answer_number(a, "draw") != want.draw ||
        json_is_true(answer_find(a, "gradients_pending")) != want.pending)
        fail_msg("expected step %g, revision %g, draw %g, pending %d, found %s", want.step,
                 want.revision, want.draw, want.pending, a->body);
}

/* w of the scalar model. */
static double weight(struct client *c, const char *name)
{
    return answer_number(remote_post(c, name, "infer", "{\"inputs\":[[1]]}"), "outputs.0.data.0");
}

static void assert_close(double a, double b)
{
    if (!(fabs(a - b) <= 1e-5 * (1 + fabs(b))))
        fail_msg("%.9g is not %.9g", a, b);
}

/* ---- counters and pending gradients ---------------------------------------------------------- */

static void counters(struct daemon *d)
{
    struct client *c = d->client;
    const char *batch = remote_batch(c, 1, 6, 36, NULL);
    remote_create(c, "m", remote_cnn);
    struct answer *a = remote_post(c, "m", "train_step", batch);
    assert_true(answer_number(a, "step") == 1 && answer_number(a, "revision") == 1);
    assert_true(answer_number(a, "metrics.samples") == 6);
    assert_true(answer_number(a, "metrics.lr") == 0.01);
    assert_true(answer_number(a, "metrics.accuracy") <= 1);
    expect_counters(c, "m", (struct expected){1, 1, 1, false});
    a = remote_post(c, "m", "forward_backward", batch);
    assert_null(answer_find(a, "metrics.lr"));
    expect_counters(c, "m", (struct expected){1, 2, 2, true});
    answer_refused(remote_call(c, "POST", "m", "/train_step", batch), 409, "conflict", "pending");
    remote_post(c, "m", "forward_backward", batch);
    expect_counters(c, "m", (struct expected){1, 3, 3, true});
    a = remote_post(c, "m", "optim_step", "{\"id\":\"seven\"}");
    assert_string_equal(answer_string(a, "id"), "seven");
    assert_null(answer_find(a, "loss"));
    expect_counters(c, "m", (struct expected){2, 4, 3, false});
    answer_refused(remote_call(c, "POST", "m", "/optim_step", NULL), 409, "conflict",
                   "forward_backward");
    remote_post(c, "m", "forward_backward", batch);
    remote_post(c, "m", "zero_grad", NULL);
    expect_counters(c, "m", (struct expected){2, 6, 4, false});
    answer_refused(remote_call(c, "POST", "m", "/optim_step", "{}"), 409, "conflict", NULL);
    remote_post(c, "m", "train_step", batch);
    expect_counters(c, "m", (struct expected){3, 7, 5, false});
}

/* One forward_backward and optim_step are one train_step, to the bit. */
static void apart_or_together(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const descriptions[] = {remote_mlp, remote_cnn};
    for (int i = 0; i < 2; i++) {
        char one[16], two[16];
        snprintf(one, sizeof one, "one%d", i);
        snprintf(two, sizeof two, "two%d", i);
        remote_create(c, one, descriptions[i]);
        remote_create(c, two, descriptions[i]);
        for (unsigned k = 0; k < 3; k++) {
            const char *batch = remote_batch(c, k, 8, i ? 36 : 4, NULL);
            double loss = answer_number(remote_post(c, one, "train_step", batch), "loss");
            struct answer *a = remote_post(c, two, "forward_backward", batch);
            assert_true(answer_number(a, "loss") == loss);
            remote_post(c, two, "optim_step", NULL);
        }
        assert_same_state(remote_hash(c, one), remote_hash(c, two));
    }
}

/* Each half is a mean over half as many samples: their sum is twice the gradient of the whole. */
static void halves(struct daemon *d)
{
    struct client *c = d->client;
    double whole[12], half[12];
    remote_create(c, "whole", remote_mlp);
    remote_create(c, "half", remote_mlp);
    const char *batch = remote_batch(c, 5, 8, 4, "\"parameters\":{\"lr\":0.2}");
    struct answer *a = remote_post(c, "whole", "train_step", batch);
    double norm = answer_number(a, "metrics.grad_norm");
    remote_post(c, "half", "forward_backward", remote_batch_part(c, 5, 0, 4, 4));
    remote_post(c, "half", "forward_backward", remote_batch_part(c, 5, 4, 8, 4));
    a = remote_post(c, "half", "optim_step", "{\"parameters\":{\"lr\":0.1}}");
    assert_close(answer_number(a, "metrics.grad_norm"), 2 * norm);
    const char *inputs = remote_inputs(c, 9, 4, 4, NULL);
    int n = remote_numbers(remote_post(c, "whole", "infer", inputs), "outputs.0.data", whole, 12);
    assert_int_equal(n, 12);
    remote_numbers(remote_post(c, "half", "infer", inputs), "outputs.0.data", half, 12);
    for (int i = 0; i < n; i++)
        assert_close(half[i], whole[i]);
}

static void keep_gradients(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_scalar);
    double w = weight(c, "m"), gradient = 2 * (w - 3);
    remote_post(c, "m", "forward_backward", "{\"inputs\":[[1]],\"targets\":[[3]]}");
    for (int i = 1; i <= 3; i++) {
        struct answer *a =
            remote_post(c, "m", "optim_step", "{\"parameters\":{\"keep_gradients\":true}}");
        assert_close(answer_number(a, "metrics.grad_norm"), fabs(gradient));
        assert_close(weight(c, "m"), w - 0.1 * i * gradient);
        expect_counters(c, "m", (struct expected){i, i + 1, 1, true});
    }
    remote_post(c, "m", "optim_step", "{\"parameters\":{\"keep_gradients\":false}}");
    expect_counters(c, "m", (struct expected){4, 5, 1, false});
}

/* Statistics of batch norm move in the training state; predictions see them at the next publish. */
static void moved_statistics(struct daemon *d)
{
    struct client *c = d->client;
    double before[6], pending[6], after[6];
    const char *batch = remote_batch(c, 1, 8, 36, NULL), *inputs = remote_inputs(c, 2, 2, 36, NULL);
    remote_create(c, "m", remote_cnn);
    remote_numbers(remote_post(c, "m", "infer", inputs), "outputs.0.data", before, 6);
    struct remote_hash fresh = remote_hash(c, "m");
    remote_post(c, "m", "forward_backward", batch);
    assert_other_state(remote_hash(c, "m"), fresh);
    remote_numbers(remote_post(c, "m", "infer", inputs), "outputs.0.data", pending, 6);
    assert_memory_equal(before, pending, sizeof before);
    remote_post(c, "m", "optim_step", "{\"parameters\":{\"lr\":0}}");
    remote_numbers(remote_post(c, "m", "infer", inputs), "outputs.0.data", after, 6);
    assert_memory_not_equal(before, after, sizeof before);
}

/* ---- learning rate, clipping, dropout -------------------------------------------------------- */

static void learning_rate(struct daemon *d)
{
    struct client *c = d->client;
    const char *step = "{\"inputs\":[[1]],\"targets\":[[3]]}";
    remote_create(c, "m", remote_scalar);
    double w = weight(c, "m");
    struct answer *a = remote_post(
        c, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[3]],\"parameters\":{\"lr\":0.25}}");
    assert_true(answer_number(a, "metrics.lr") == 0.25);
    w -= 0.25 * 2 * (w - 3);
    assert_close(weight(c, "m"), w);
    a = remote_post(c, "m", "train_step", step); /* the one above was for one call */
    assert_true(answer_number(a, "metrics.lr") == 0.1);
    w -= 0.1 * 2 * (w - 3);
    assert_close(weight(c, "m"), w);
    double exact = weight(c, "m");
    remote_post(c, "m", "train_step",
                "{\"inputs\":[[1]],\"targets\":[[3]],\"parameters\":{\"lr\":0}}");
    assert_true(weight(c, "m") == exact);
    answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.05}"), 200);
    for (int i = 0; i < 2; i++) {
        a = remote_post(c, "m", "train_step", step);
        assert_true(answer_number(a, "metrics.lr") == 0.05);
        w -= 0.05 * 2 * (w - 3);
        assert_close(weight(c, "m"), w);
    }
}

static void schedule(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_scalar);
    answer_expect(remote_call(c, "PATCH", "m", "",
                              "{\"schedule\":{\"op\":\"cosine\",\"warmup_steps\":3,"
                              "\"total_steps\":8,\"min_lr\":0.01}}"),
                  200);
    for (int i = 0; i < 10; i++) {
        double want = i < 3   ? 0.1 * (i + 1) / 3
                      : i < 8 ? 0.01 + 0.09 * (1 + cos(M_PI * (i - 3) / 5)) / 2
                              : 0.01;
        struct answer *a =
            remote_post(c, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[3]]}");
        assert_close(answer_number(a, "metrics.lr"), want);
    }
}

static void clipping(struct daemon *d)
{
    struct client *c = d->client;
    static const char *const rows[] = {"{\"clip_grad_norm\":0.5}", "{\"clip_grad_value\":0.5}",
                                       "{\"clip_grad_norm\":null,\"clip_grad_value\":null}"};
    remote_create(c, "m", remote_scalar);
    for (int i = 0; i < 3; i++) {
        double w = weight(c, "m"), gradient = 2 * (w - 30);
        answer_expect(remote_call(c, "PATCH", "m", "", rows[i]), 200);
        struct answer *a =
            remote_post(c, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[30]]}");
        /* As clip_grad_norm_ of PyTorch: the norm before clipping. */
        assert_close(answer_number(a, "metrics.grad_norm"), fabs(gradient));
        assert_close(weight(c, "m"), w - 0.1 * (i < 2 ? -0.5 : gradient));
        answer_expect(remote_call(c, "PATCH", "m", "", rows[2]), 200);
    }
}

/* The mask depends on seed and draw alone: a refused step uses up no draw. */
static void dropout(struct daemon *d)
{
    struct client *c = d->client;
    const char *still = remote_batch(c, 1, 8, 36, "\"parameters\":{\"lr\":0}");
    static const char without_decay[] = "{\"optimizer\":{\"op\":\"sgd\",\"lr\":0}}";
    remote_create(c, "a", remote_cnn);
    remote_create(c, "b", remote_cnn);
    answer_expect(remote_call(c, "PATCH", "a", "", without_decay), 200);
    answer_expect(remote_call(c, "PATCH", "b", "", without_decay), 200);
    double losses[4];
    for (int i = 0; i < 4; i++)
        losses[i] = answer_number(remote_post(c, "a", "train_step", still), "loss");
    assert_true(losses[0] != losses[1] && losses[1] != losses[2] && losses[2] != losses[3]);
    for (int i = 0; i < 4; i++) {
        answer_expect(remote_call(c, "POST", "b", "/train_step", "{\"inputs\":[[1]]}"), 400);
        answer_expect(remote_call(c, "POST", "b", "/train_step",
                                  remote_batch(c, 1, 8, 36, "\"parameters\":{\"lr\":-1}")),
                      422);
        double loss = answer_number(remote_post(c, "b", "train_step", still), "loss");
        assert_true(loss == losses[i]);
    }
}

/* ---- what does not change, and what must not ------------------------------------------------- */

static void frozen(struct daemon *d)
{
    struct client *c = d->client;
    const char *question = remote_batch(c, 1, 4, 4, NULL);
    double before[4], after[4];
    remote_create(c, "m", remote_mlp);
    for (int pass = 0; pass < 2; pass++) {
        struct answer *a = remote_post(c, "m", "gradients", question);
        for (int i = 0; i < 4; i++) {
            char path[64];
            snprintf(path, sizeof path, "gradients.%d.parameter_norm", i);
            (pass ? after : before)[i] = answer_number(a, path);
        }
        if (pass)
            break;
        answer_expect(remote_call(c, "PATCH", "m", "", "{\"frozen\":[\"hidden.*\"]}"), 200);
        a = remote_post(c, "m", "gradients", question);
        assert_int_equal(json_array_size(answer_find(a, "gradients")), 2);
        assert_string_equal(answer_string(a, "gradients.0.name"), "out.weight");
        for (unsigned i = 0; i < 3; i++)
            remote_step(c, "m", i, 4);
        answer_expect(remote_call(c, "PATCH", "m", "", "{\"frozen\":null}"), 200);
    }
    assert_true(before[0] == after[0] && before[1] == after[1]);
    assert_true(before[2] != after[2] && before[3] != after[3]);
}

/* An optimiser counts its steps for each parameter, as torch's do: those for which one was frozen
 * have not been, also after a restart, a restore, and in a copy. */
static void frozen_for_a_while(struct daemon *d)
{
    static const char *const step = "{\"inputs\":[[1]],\"targets\":[[5]]}",
                             *const ask = "{\"inputs\":[[1]]}";
    const char *names[] = {"whole", "paused", "copy"};
    struct client *c = d->client;
    for (int i = 0; i < 2; i++)
        remote_create(
            c, names[i],
            "{\"inputs\":[{\"shape\":[-1,1]}],\"layers\":[{\"op\":\"linear\",\"name\":\"w\","
            "\"out_features\":1,\"bias\":false}],\"loss\":\"mse\",\"optimizer\":"
            "{\"op\":\"adam\",\"lr\":0.1},\"seed\":3}");
    for (int i = 0; i < 6; i++) {
        if (i == 2) {
            answer_expect(remote_call(c, "PATCH", "paused", "", "{\"frozen\":[\"w.*\"]}"), 200);
            for (int k = 0; k < 5; k++)
                remote_post(c, "paused", "train_step", step);
            answer_expect(remote_call(c, "PATCH", "paused", "", "{\"frozen\":null}"), 200);
            answer_expect(remote_call(c, "POST", "paused", "/versions", NULL), 201);
            remote_post(c, "paused", "train_step", step);
            remote_post(c, "paused", "versions/1/restore", NULL);
            answer_expect(remote_call(c, "POST", "paused", "/clone", "{\"name\":\"copy\"}"), 201);
        } else if (i == 4) {
            daemon_kill(d);
            daemon_start(d, d->flags);
            c = d->client;
        }
        double found[3];
        for (int k = 0; k < (i < 2 ? 2 : 3); k++) {
            remote_post(c, names[k], "train_step", step);
            found[k] = answer_number(remote_post(c, names[k], "infer", ask), "outputs.0.data.0");
            assert_true(found[k] == found[0]);
        }
    }
}

static void no_loss(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"shape\":[-1,2]}],"
                  "\"layers\":[{\"op\":\"linear\",\"out_features\":1}]}");
    static const char *const verbs[] = {"/train_step", "/forward_backward", "/optim_step",
                                        "/gradients", "/evaluate"};
    remote_post(c, "m", "infer", "{\"inputs\":[[1,2]]}");
    for (int i = 0; i < 5; i++) {
        bool bare = i == 2;
        struct answer *a = remote_call(c, "POST", "m", verbs[i],
                                       bare ? NULL : "{\"inputs\":[[1,2]],\"targets\":[[1]]}");
        assert_true(a->status == 409 || a->status == 400 || a->status == 422);
        assert_true(*answer_string(a, "error"));
    }
    expect_counters(c, "m", (struct expected){0, 0, 0, false});
}

/* A step whose numbers overflow is refused, says where, and leaves all as it was. */
static void diverged(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    remote_step(c, "m", 1, 36);
    struct remote_hash before = remote_hash(c, "m");
    struct answer *a = remote_call(c, "POST", "m", "/train_step",
                                   remote_batch(c, 1, 8, 36, "\"parameters\":{\"lr\":1e38}"));
    answer_refused(a, 422, "not_finite", "conv.weight");
    assert_same_state(remote_hash(c, "m"), before);
    expect_counters(c, "m", (struct expected){1, 1, 1, false});
    remote_create(c, "w", remote_scalar);
    struct remote_hash scalar = remote_hash(c, "w");
    a = remote_call(c, "POST", "w", "/train_step", "{\"inputs\":[[1e30]],\"targets\":[[0]]}");
    answer_refused(a, 422, "not_finite", "loss");
    a = remote_call(c, "POST", "w", "/forward_backward", "{\"inputs\":[[1e30]],\"targets\":[[0]]}");
    answer_refused(a, 422, "not_finite", "loss");
    assert_same_state(remote_hash(c, "w"), scalar);
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* The state after three steps by an optimiser with these attributes. */
static struct remote_hash adam_state(struct client *c, const char *attributes)
{
    char description[500];
    snprintf(description, sizeof description,
             "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"op\":\"linear\","
             "\"out_features\":3}],\"loss\":\"cross_entropy\",\"seed\":42,"
             "\"optimizer\":{\"op\":\"adam\",%s}}",
             attributes);
    remote_create(c, "adam", description);
    for (unsigned i = 0; i < 3; i++)
        answer_expect(remote_call(c, "POST", "adam", "/train_step", remote_batch(c, i, 8, 4, NULL)),
                      200);
    struct remote_hash h = remote_hash(c, "adam");
    answer_expect(remote_call(c, "DELETE", "adam", "", NULL), 200);
    return h;
}

/* A group's beta1 counts whatever form the optimiser has, and keeps the optimiser's beta2. */
static void betas_of_groups(struct daemon *d)
{
    static const char *const same[] = {
        "\"betas\":[0.8,0.95],\"groups\":[{\"params\":[\"*\"],\"beta1\":0.5}]",
        "\"betas\":[0.5,0.7],\"groups\":[{\"params\":[\"*\"],\"beta2\":0.95}]",
        "\"beta1\":0.8,\"beta2\":0.7,\"groups\":[{\"params\":[\"*\"],\"betas\":[0.5,0.95]}]",
        "\"beta1\":0.8,\"beta2\":0.95,\"groups\":[{\"params\":[\"*\"],\"beta1\":0.5}]",
    };
    struct client *c = d->client;
    const struct remote_hash plain = adam_state(c, "\"betas\":[0.5,0.95]");
    assert_other_state(adam_state(c, "\"betas\":[0.8,0.95]"), plain);
    for (int i = 0; i < 4; i++)
        assert_same_state(adam_state(c, same[i]), plain);
}

/* ---- classes by their names ------------------------------------------------------------------ */

static const char pets[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,2]}],\"layers\":[{\"op\":"
                           "\"linear\",\"out_features\":3}],\"loss\":\"cross_entropy\","
                           "\"labels\":[\"cat\",\"dog\",\"Fuchs \u00e4\"],\"seed\":4}";

/* The same step as with their numbers, in all forms, also after a kill. */
static void classes_by_name(struct daemon *d)
{
    static const char *const forms[] = {
        "[1,0,2]", "[\"dog\",\"cat\",\"Fuchs \u00e4\"]",
        "[{\"name\":\"target\",\"data\":[\"dog\",\"cat\",\"Fuchs \u00e4\"]}]",
        "[{\"shape\":[3],\"datatype\":\"BYTES\",\"data\":[\"dog\",\"cat\",\"Fuchs \u00e4\"]}]"};
    struct client *c = d->client;
    struct remote_hash numbers = {""};
    char name[8], batch[300];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "m%d", i);
        snprintf(batch, sizeof batch, "{\"inputs\":[[1,2],[3,4],[5,7]],\"targets\":%s}", forms[i]);
        remote_create(c, name, pets);
        remote_post(c, name, "train_step", batch);
        if (i)
            assert_same_state(remote_hash(c, name), numbers);
        else
            numbers = remote_hash(c, name);
    }
    daemon_kill(d);
    daemon_start(d, d->flags);
    assert_same_state(remote_hash(d->client, "m1"), numbers);
    /* Labels of now, not of then. */
    answer_expect(remote_call(d->client, "PATCH", "m1", "", "{\"labels\":[\"a\",\"b\",\"c\"]}"),
                  200);
    snprintf(batch, sizeof batch, "{\"inputs\":[[1,2]],\"targets\":[\"b\"]}");
    remote_post(d->client, "m1", "evaluate", batch);
    answer_refused(remote_call(d->client, "POST", "m0", "/evaluate", batch), 422, "bad_value",
                   "targets[0]: the model has no label 'b'");
}

static void classes_refused(struct daemon *d)
{
    static const struct {
        const char *model, *targets;
        int status;
        const char *code, *part;
    } rows[] = {
        {"m", "[\"dog\",\"cta\"]", 422, "bad_value",
         "targets[1]: the model has no label 'cta'; did you mean 'cat'?"},
        {"m", "[\"dog\",1]", 400, "bad_type", "targets[1]: expected the name of a class"},
        {"m", "[\"dog\"]", 422, "bad_shape", "1 examples"},
        {"m", "[{\"data\":[\"dog\",\"cat\"],\"shape\":[3]}]", 422, "bad_shape", "2 names"},
        {"bare", "[\"dog\",\"cat\"]", 422, "bad_value", "the model has none"},
        {"value", "[\"dog\",\"cat\"]", 400, "bad_type", "expected numbers"},
    };
    struct client *c = d->client;
    remote_create(c, "m", pets);
    remote_create(c, "bare",
                  "{\"inputs\":[{\"shape\":[-1,2]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":3}],\"loss\":\"cross_entropy\"}");
    remote_create(c, "value",
                  "{\"inputs\":[{\"shape\":[-1,2]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":1}],\"loss\":\"mse\"}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char batch[200];
        snprintf(batch, sizeof batch, "{\"inputs\":[[1,2],[3,4]],\"targets\":%s}", rows[i].targets);
        answer_refused(remote_call(c, "POST", rows[i].model, "/train_step", batch), rows[i].status,
                       rows[i].code, rows[i].part);
    }
    assert_true(remote_number(c, "m", "revision") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(counters),        DAEMON_TEST(apart_or_together),  DAEMON_TEST(halves),
        DAEMON_TEST(keep_gradients),  DAEMON_TEST(moved_statistics),   DAEMON_TEST(learning_rate),
        DAEMON_TEST(schedule),        DAEMON_TEST(clipping),           DAEMON_TEST(dropout),
        DAEMON_TEST(frozen),          DAEMON_TEST(frozen_for_a_while), DAEMON_TEST(no_loss),
        DAEMON_TEST(diverged),        DAEMON_TEST(betas_of_groups),    DAEMON_TEST(classes_by_name),
        DAEMON_TEST(classes_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
