/* test_infer_training.c: predictions while the model trains: each is by one published state, which
 * it names, and is what a twin gives that was trained alone with the same batches. */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 60, ASKERS = 3, ANSWERS = 2000 };

struct asker {
    const char *address, *question;
    int done; /* atomic */
    int n;    /* atomic while it asks */
    struct {
        int revision;
        double output[3];
    } seen[ANSWERS];
};

/* No checks that end the test in a thread of its own: a failed request is a revision of -1. */
static void *ask(void *arg)
{
    struct asker *s = arg;
    struct client *c = client_create(s->address);
    struct call call = {"POST", "/v2/models/m/infer", s->question, strlen(s->question), NULL, NULL};
    while (s->n < ANSWERS && !__atomic_load_n(&s->done, __ATOMIC_ACQUIRE)) {
        struct answer *a = client_try(c, &call);
        json_t *root = a ? json_loads(a->body, 0, NULL) : NULL;
        int revision = -1;
        double *x = s->seen[s->n].output;
        if (root)
            json_unpack(root, "{s:{s:i}, s:[{s:[F,F,F]}]}", "parameters", "revision", &revision,
                        "outputs", "data", &x[0], &x[1], &x[2]);
        s->seen[s->n].revision = revision;
        __atomic_store_n(&s->n, s->n + 1, __ATOMIC_RELEASE);
        json_decref(root);
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

/* Until each has had two more answers: of which the second was asked after this was called. */
static void wait_for_answers(struct asker askers[ASKERS])
{
    for (int k = 0; k < ASKERS; k++) {
        int before = __atomic_load_n(&askers[k].n, __ATOMIC_ACQUIRE), now = before;
        while (now < before + 2 && now < ANSWERS) {
            usleep(200);
            now = __atomic_load_n(&askers[k].n, __ATOMIC_ACQUIRE);
        }
    }
}

/* Each answer is that of the one generation that it names: a twin, trained alone with the same
 * batches, says what that is. */
static void answers_while_training(struct daemon *d, const char *model, int pixels)
{
    struct client *c = d->client;
    static double truth[STEPS + 1][3];
    static struct asker askers[ASKERS];
    pthread_t threads[ASKERS];
    const char *question = remote_inputs(c, 99, 1, pixels, NULL);
    remote_create(c, "twin", model);
    remote_create(c, "m", model);
    for (int i = 0; i <= STEPS; i++) {
        remote_numbers(remote_post(c, "twin", "infer", question), "outputs.0.data", truth[i], 3);
        if (i < STEPS)
            remote_step(c, "twin", (unsigned)i, pixels);
    }
    for (int k = 0; k < ASKERS; k++) {
        askers[k] = (struct asker){.address = d->address, .question = question};
        assert_int_equal(pthread_create(&threads[k], NULL, ask, &askers[k]), 0);
    }
    for (int i = 0; i < STEPS; i++) {
        remote_step(c, "m", (unsigned)i, pixels);
        if (i % 20 == 10)
            wait_for_answers(askers);
    }
    for (int k = 0; k < ASKERS; k++) {
        __atomic_store_n(&askers[k].done, 1, __ATOMIC_RELEASE);
        pthread_join(threads[k], NULL);
    }
    int between = 0;
    for (int k = 0; k < ASKERS; k++)
        for (int i = 0; i < askers[k].n; i++) {
            int r = askers[k].seen[i].revision;
            assert_in_range(r, 0, STEPS);
            assert_memory_equal(askers[k].seen[i].output, truth[r], sizeof truth[r]);
            between += r > 0 && r < STEPS;
        }
    assert_true(between > 0);
    assert_same_state(remote_hash(c, "m"), remote_hash(c, "twin"));
}

static void while_training(struct daemon *d)
{
    answers_while_training(d, remote_mlp, 4);
}

/* Weights of convolutions are packed for a generation when it is asked again: by several askers at
 * once here, while the twin is asked once. */
static void while_training_packed(struct daemon *d)
{
    answers_while_training(d, remote_cnn, 36);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(while_training),
        DAEMON_TEST(while_training_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
