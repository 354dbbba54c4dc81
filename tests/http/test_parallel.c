/* test_parallel.c: many clients at once: creating, training, asking and deleting, on models of
 * their own and on one that all share. Nothing fails but what must, no step is lost or counted
 * twice, and the shared model ends where the same steps one after the other would have taken it. */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 8, ROUNDS = 12 };

struct worker {
    const char *address, *batch, *question;
    int number;
    int steps;         /* that were answered 200 on the shared model */
    unsigned revision; /* the last one seen there */
    char wrong[512];   /* the first thing that was not as expected; checks are the main thread's */
};

/* An answer of one of the statuses, or a note of what came instead. */
static int expect(struct worker *w, struct client *c, const char *method, const char *path,
                  const char *body, const char *statuses)
{
    struct call call = {method, path, body, body ? strlen(body) : 0, NULL, NULL};
    struct answer *a = client_try(c, &call);
    char status[8];
    snprintf(status, sizeof status, "%d", a ? a->status : 0);
    if (!w->wrong[0] && !strstr(statuses, status))
        snprintf(w->wrong, sizeof w->wrong, "%s %s: %s instead of %s: %.300s", method, path, status,
                 statuses, a ? a->body : "");
    return a ? a->status : 0;
}

static void own_model(struct worker *w, struct client *c, int round)
{
    char path[64], step[96];
    snprintf(path, sizeof path, "/v2/models/own%d-%d", w->number, round % 2);
    snprintf(step, sizeof step, "%s/train_step", path);
    expect(w, c, "PUT", path, remote_mlp, "201");
    for (int i = 0; i < 3; i++)
        expect(w, c, "POST", step, w->batch, "200");
    snprintf(step, sizeof step, "%s/versions", path);
    expect(w, c, "POST", step, NULL, "201");
    expect(w, c, "GET", path, NULL, "200");
    expect(w, c, "DELETE", path, NULL, "200");
    expect(w, c, "GET", path, NULL, "404");
}

/* All fight for one name: who comes late finds it there, or gone. */
static void contested_model(struct worker *w, struct client *c)
{
    expect(w, c, "PUT", "/v2/models/prize", remote_mlp, "200 201");
    expect(w, c, "POST", "/v2/models/prize/train_step", w->batch, "200 404");
    expect(w, c, "POST", "/v2/models/prize/infer", w->question, "200 404");
    expect(w, c, "POST", "/v2/models/shared/clone", "{\"name\":\"copy\"}", "201 409");
    expect(w, c, "DELETE", "/v2/models/prize", NULL, "200 404");
    expect(w, c, "DELETE", "/v2/models/copy", NULL, "200 404");
}

static void shared_model(struct worker *w, struct client *c)
{
    w->steps += expect(w, c, "POST", "/v2/models/shared/train_step", w->batch, "200") == 200;
    expect(w, c, "POST", "/v2/models/shared/infer", w->question, "200");
    expect(w, c, "POST", "/v2/models/shared/gradients", w->batch, "200");
    expect(w, c, "POST", "/v2/models/shared/evaluate", w->batch, "200");
    expect(w, c, "GET", "/v2/models/shared?state_sha256=1", NULL, "200");
    expect(w, c, "GET", "/v2/models/shared/metrics?max_points=5", NULL, "200");
    expect(w, c, "GET", "/v2/models", NULL, "200");
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct client *c = client_create(w->address);
    for (int round = 0; round < ROUNDS; round++) {
        own_model(w, c, round);
        contested_model(w, c);
        shared_model(w, c);
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

static void run_workers(struct daemon *d, struct worker workers[CLIENTS])
{
    pthread_t threads[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        workers[i] = (struct worker){.address = d->address,
                                     .batch = remote_batch(d->client, 1, 8, 4, NULL),
                                     .question = remote_inputs(d->client, 1, 3, 4, NULL),
                                     .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CLIENTS; i++)
        if (workers[i].wrong[0])
            fail_msg("client %d: %s", i, workers[i].wrong);
}

static void eight_clients(struct daemon *d)
{
    static struct worker workers[CLIENTS];
    struct client *c = d->client;
    double steps = 0;
    remote_create(c, "shared", remote_mlp);
    double memory = answer_number(client_get(c, "/v2"), "memory_used_bytes");
    run_workers(d, workers);
    for (int i = 0; i < CLIENTS; i++)
        steps += workers[i].steps;
    assert_true(steps == CLIENTS * ROUNDS);
    struct answer *a = remote_get(c, "shared", "");
    static const char *const counters[] = {"step", "revision", "draw"};
    for (int i = 0; i < 3; i++)
        assert_true(answer_number(a, counters[i]) == steps);
    a = remote_get(c, "shared", "/metrics?names=loss&max_points=100000");
    assert_int_equal(json_array_size(answer_find(a, "series.loss.value")), (int)steps);
    /* All sent the same batch, so one after the other gives the same state. */
    remote_create(c, "alone", remote_mlp);
    for (int i = 0; i < (int)steps; i++)
        remote_step(c, "alone", 1, 4);
    assert_same_state(remote_hash(c, "shared"), remote_hash(c, "alone"));
    answer_expect(remote_call(c, "DELETE", "alone", "", NULL), 200);
    a = client_get(c, "/v2/models");
    assert_int_equal(json_array_size(answer_find(a, "models")), 1);
    /* What the models that are gone had taken was given back; runs of the shared one stay. */
    assert_true(answer_number(client_get(c, "/v2"), "memory_used_bytes") - memory < 8e6);
}

/* ---- deleting while others wait in its queue ------------------------------------------------- */

static void *train_until_gone(void *arg)
{
    struct worker *w = arg;
    struct client *c = client_create(w->address);
    int status = 200;
    for (int i = 0; i < 10000 && status == 200 && !w->wrong[0]; i++) {
        status = expect(w, c, "POST", "/v2/models/m/train_step", w->batch, "200 404");
        w->steps += status == 200;
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

static void delete_under_load(struct daemon *d)
{
    static struct worker workers[CLIENTS];
    struct client *c = d->client;
    pthread_t threads[CLIENTS];
    for (int round = 0; round < 3; round++) {
        int steps = 0;
        remote_create(c, "m", remote_mlp);
        for (int i = 0; i < CLIENTS; i++) {
            workers[i] =
                (struct worker){.address = d->address, .batch = remote_batch(c, 1, 8, 4, NULL)};
            assert_int_equal(pthread_create(&threads[i], NULL, train_until_gone, &workers[i]), 0);
        }
        while (remote_number(c, "m", "step") < 50)
            continue;
        answer_expect(remote_call(c, "DELETE", "m", "", NULL), 200);
        for (int i = 0; i < CLIENTS; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < CLIENTS; i++) {
            assert_string_equal(workers[i].wrong, "");
            steps += workers[i].steps;
        }
        assert_true(steps >= 50);
    }
    assert_int_equal(json_array_size(answer_find(client_get(c, "/v2/models"), "models")), 0);
}

/* ---- clones while the settings change -------------------------------------------------------- */

enum { MOMENTS = 4000, CLONES = 40 };

/* Changes the optimiser and trains, in turns, and notes every state that there was. */
struct changer {
    const char *address, *batch;
    bool stop; /* atomic */
    int n;
    struct remote_hash moment[MOMENTS];
};

static void note_moment(struct changer *x, struct client *c)
{
    struct call call = {.method = "GET", .path = "/v2/models/m?state_sha256=1"};
    struct answer *a = client_try(c, &call);
    const char *hash = a ? strstr(a->body, "\"state_sha256\":\"") : NULL;
    if (hash && x->n < MOMENTS)
        snprintf(x->moment[x->n++].text, sizeof x->moment[0].text, "%s",
                 hash + strlen("\"state_sha256\":\""));
}

static void *change_settings(void *arg)
{
    static const char *const optimizers[] = {
        "{\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1,\"momentum\":0.9}}",
        "{\"optimizer\":{\"op\":\"adam\",\"lr\":0.1}}"};
    struct changer *x = arg;
    struct client *c = client_create(x->address);
    for (int i = 0; !__atomic_load_n(&x->stop, __ATOMIC_ACQUIRE); i++) {
        const char *body = i % 2 ? x->batch : optimizers[i / 2 % 2];
        struct call call = {.method = i % 2 ? "POST" : "PATCH",
                            .path = i % 2 ? "/v2/models/m/train_step" : "/v2/models/m",
                            .body = body,
                            .size = strlen(body)};
        client_try(c, &call);
        note_moment(x, c);
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

static bool was_there(const struct changer *x, const struct remote_hash *hash)
{
    for (int i = 0; i < x->n; i++)
        if (strcmp(x->moment[i].text, hash->text) == 0)
            return true;
    return false;
}

/* A clone has the settings and the optimiser's state of one moment, or is refused. */
static void clones_are_of_one_moment(struct daemon *d)
{
    static struct changer x;
    struct remote_hash copy[CLONES];
    int n = 0;
    pthread_t thread;
    remote_create(d->client, "m", remote_mlp);
    x = (struct changer){.address = d->address, .batch = remote_batch(d->client, 1, 8, 4, NULL)};
    char *batch = strdup(x.batch);
    x.batch = batch;
    note_moment(&x, d->client);
    assert_int_equal(pthread_create(&thread, NULL, change_settings, &x), 0);
    for (int i = 0; i < CLONES; i++) {
        struct answer *a = remote_call(d->client, "POST", "m", "/clone", "{\"name\":\"copy\"}");
        assert_true(a->status == 201 || a->status == 409);
        if (a->status == 201) {
            copy[n++] = remote_hash(d->client, "copy");
            answer_expect(remote_call(d->client, "DELETE", "copy", "", NULL), 200);
        }
        client_forget(d->client);
    }
    __atomic_store_n(&x.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    free(batch);
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
        assert_true(was_there(&x, &copy[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(eight_clients, "--workers", "4"),
        DAEMON_TEST(delete_under_load, "--workers", "4"),
        DAEMON_TEST(clones_are_of_one_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
