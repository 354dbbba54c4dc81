/* test_once.c: requests that are sent again. A retry gets the first answer and changes nothing: at
 * once, after a kill -9, and after a checkpoint has let go of the log. */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char step[] = "/v2/models/m/train_step";

static struct answer *keyed(struct client *c, const char *path, const char *key, const char *body)
{
    char header[400];
    snprintf(header, sizeof header, "Idempotency-Key: %s", key);
    struct call call = {.method = "POST",
                        .path = path,
                        .body = body,
                        .size = strlen(body),
                        .headers = (const char *const[]){header, NULL}};
    return client_send(c, &call);
}

static void assert_same_answer(struct answer *a, struct answer *b)
{
    answer_expect(a, 200);
    answer_expect(b, 200);
    assert_string_equal(a->body, b->body);
}

static void a_retry_gets_the_first_answer(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    const char *body = remote_batch(c, 1, 8, 4, NULL);
    struct answer *first = keyed(c, step, "\"a\"", body);
    struct answer *again = keyed(c, step, "\"a\"", body);
    assert_same_answer(first, again);
    assert_true(remote_number(c, "m", "step") == 1);
    answer_expect(keyed(c, step, "\"b\"", body), 200);
    assert_true(remote_number(c, "m", "step") == 2);
    answer_refused(keyed(c, step, "\"a\"", remote_batch(c, 2, 8, 4, NULL)), 422, "key_reused",
                   "used");
    answer_refused(keyed(c, "/v2/models/m/forward_backward", "\"a\"", body), 422, "key_reused",
                   NULL);
    assert_true(remote_number(c, "m", "revision") == 2);
}

static void malformed_keys_are_refused(struct daemon *d)
{
    static const char *const keys[] = {"a", "\"\"", "\"a", "a\"", "\"a\\\"", "\"a\"b\"", "'a'"};
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    const char *body = remote_batch(c, 1, 8, 4, NULL);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        answer_refused(keyed(c, step, keys[i], body), 400, "bad_header", "quotes");
    char large[300];
    memset(large, 'x', sizeof large - 1);
    large[0] = large[sizeof large - 2] = '"';
    large[sizeof large - 1] = 0;
    answer_refused(keyed(c, step, large, body), 400, "bad_header", "quotes");
    assert_true(remote_number(c, "m", "revision") == 0);
}

static void refused_requests_leave_no_answer(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    answer_refused(keyed(c, "/v2/models/m/optim_step", "\"o\"", "{}"), 409, "conflict", "pending");
    answer_expect(client_post(c, "/v2/models/m/forward_backward", remote_batch(c, 1, 8, 4, NULL)),
                  200);
    struct answer *a = keyed(c, "/v2/models/m/optim_step", "\"o\"", "{}");
    assert_same_answer(a, keyed(c, "/v2/models/m/optim_step", "\"o\"", "{}"));
    assert_same_answer(keyed(c, "/v2/models/m/zero_grad", "\"z\"", "{}"),
                       keyed(c, "/v2/models/m/zero_grad", "\"z\"", "{}"));
    assert_true(remote_number(c, "m", "revision") == 3);
}

static struct answer *sequenced(struct client *c, unsigned seed, int seq)
{
    char more[64];
    snprintf(more, sizeof more, "\"parameters\":{\"seq\":%d}", seq);
    return client_post(c, step, remote_batch(c, seed, 8, 4, more));
}

static void seq_is_in_order(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct answer *first = sequenced(c, 1, 7); /* any may be the first */
    assert_same_answer(first, sequenced(c, 1, 7));
    answer_expect(sequenced(c, 2, 8), 200);
    assert_same_answer(first, sequenced(c, 1, 7));
    answer_refused(sequenced(c, 3, 10), 409, "conflict", "the next one is 9");
    answer_refused(sequenced(c, 3, 5), 409, "conflict", "5");
    answer_refused(sequenced(c, 3, 8), 422, "key_reused", "seq");
    answer_refused(sequenced(c, 3, 0), 422, "bad_value", "seq");
    assert_true(remote_number(c, "m", "step") == 2);
}

static void expect_step_guards(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    const char *guarded = remote_batch(c, 1, 8, 4, "\"parameters\":{\"expect_step\":0}");
    answer_expect(client_post(c, step, guarded), 200);
    answer_refused(client_post(c, step, guarded), 412, "precondition_failed",
                   "step 1, expected was 0");
    assert_true(remote_number(c, "m", "step") == 1);
}

static void answers_survive(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    const char *body = remote_batch(c, 1, 8, 4, NULL);
    char first[2][1024];
    snprintf(first[0], sizeof first[0], "%s", keyed(c, step, "\"kept\"", body)->body);
    snprintf(first[1], sizeof first[1], "%s", sequenced(c, 2, 1)->body);
    for (int round = 0; round < 3; round++) {
        if (round < 2)
            daemon_kill(d);
        else
            daemon_stop(d);
        daemon_start(d, d->flags);
        c = d->client;
        assert_string_equal(keyed(c, step, "\"kept\"", remote_batch(c, 1, 8, 4, NULL))->body,
                            first[0]);
        assert_string_equal(sequenced(c, 2, 1)->body, first[1]);
        assert_true(remote_number(c, "m", "step") == 2);
        if (round == 0) /* a checkpoint lets go of the log */
            answer_expect(remote_call(c, "PATCH", "m", "", "{\"lr\":0.1}"), 200);
    }
}

/* A checkpoint in the background, which takes the place of the log, has the answer of the step that
 * was due for it. */
static void checkpoints_have_the_answer(struct daemon *d)
{
    enum { ROUNDS = 6, SAMPLES = 8000 };
    remote_create(d->client, "m", remote_mlp);
    for (int round = 0; round < ROUNDS; round++) {
        char key[16], first[1024];
        snprintf(key, sizeof key, "\"k%d\"", round);
        const char *body = remote_batch(d->client, (unsigned)round, SAMPLES, 4, NULL);
        double before = remote_sample(d->client, "backpropd_checkpoints_total{model=\"m\"}");
        struct answer *a = keyed(d->client, step, key, body);
        answer_expect(a, 200);
        snprintf(first, sizeof first, "%s", a->body);
        remote_expect_sample(d->client, "backpropd_checkpoints_total{model=\"m\"}", before + 1);
        daemon_kill(d);
        daemon_start(d, d->flags);
        body = remote_batch(d->client, (unsigned)round, SAMPLES, 4, NULL);
        assert_string_equal(keyed(d->client, step, key, body)->body, first);
        assert_true(remote_number(d->client, "m", "step") == round + 1);
    }
}

/* The last seq is known however many other answers came after it. */
static void old_seqs_are_not_repeated(struct daemon *d)
{
    remote_create(d->client, "m", remote_mlp);
    char first[1024];
    answer_expect(sequenced(d->client, 1, 1), 200);
    snprintf(first, sizeof first, "%s", sequenced(d->client, 2, 2)->body);
    for (int i = 0; i < 1001; i++) {
        char key[16];
        snprintf(key, sizeof key, "\"z%d\"", i);
        answer_expect(keyed(d->client, "/v2/models/m/zero_grad", key, "{}"), 200);
        client_forget(d->client);
    }
    for (int round = 0; round < 2; round++) {
        answer_refused(sequenced(d->client, 1, 1), 409, "conflict", "the next one is 3");
        assert_string_equal(sequenced(d->client, 2, 2)->body, first);
        daemon_stop(d);
        daemon_start(d, d->flags);
    }
    assert_true(remote_number(d->client, "m", "step") == 2);
}

/* A version, a restore, a PATCH, weights and moves of an alias are kept with their answers: sent
 * again, at once and after a kill -9, they change nothing. */
static void changes_are_made_once(struct daemon *d)
{
    static const struct {
        const char *method, *path, *body;
        int status;
        bool same; /* the answer; PATCH answers with the metadata of now */
    } rows[] = {
        {"POST", "/v2/models/m/versions", "{\"note\":\"a\"}", 201, true},
        {"POST", "/v2/models/m/versions", "{\"note\":\"b\"}", 201, true},
        {"POST", "/v2/models/m/versions/1/restore", "", 200, true},
        {"PATCH", "/v2/models/m", "{\"lr\":0.5}", 200, false},
        {"PUT", "/v2/models/m/aliases/best", "{\"version\":1}", 201, true},
        {"PUT", "/v2/models/m/aliases/best", "{\"version\":2}", 200, true},
        {"POST", "/v2/models/m/aliases/best/rollback", "", 200, true},
        {"DELETE", "/v2/models/m/versions/2", "", 200, true},
        {"PUT", "/v2/models/m/weights?strict=false", NULL, 200, true},
        {"DELETE", "/v2/models/m/aliases/best", "", 200, true},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    remote_create(d->client, "m", remote_mlp);
    remote_step(d->client, "m", 1, 4);
    struct answer *a = remote_get(d->client, "m", "/weights");
    size_t size = a->size;
    char *file = malloc(size), *bodies[ROWS];
    memcpy(file, a->body, size);
    for (int round = 0; round < 3; round++) {
        if (round == 2) {
            daemon_kill(d);
            daemon_start(d, d->flags);
        }
        for (int i = 0; i < ROWS; i++) {
            char header[64];
            snprintf(header, sizeof header, "Idempotency-Key: \"change %d\"", i);
            struct call call = {.method = rows[i].method,
                                .path = rows[i].path,
                                .body = rows[i].body ? rows[i].body : file,
                                .size = rows[i].body ? strlen(rows[i].body) : size,
                                .headers = (const char *const[]){header, NULL}};
            a = client_send(d->client, &call);
            /* The version has been deleted since; nothing else is left of its answer. */
            answer_expect(a, round && i == 1 ? 404 : rows[i].status);
            if (!round)
                bodies[i] = strdup(a->body);
            else if (rows[i].same && i != 1)
                assert_string_equal(a->body, bodies[i]);
        }
        a = remote_get(d->client, "m", "");
        assert_true(answer_number(a, "revision") == 4); /* step, restore, PATCH, weights */
        assert_int_equal(json_array_size(answer_find(a, "versions")), 1);
        a = client_get(d->client, "/v2/models/m/aliases");
        assert_int_equal(json_array_size(answer_find(a, "moves")), 4);
    }
    answer_refused(keyed(d->client, "/v2/models/m/versions", "\"change 0\"", "{\"note\":\"c\"}"),
                   422, "key_reused", NULL);
    for (int i = 0; i < ROWS; i++)
        free(bodies[i]);
    free(file);
}

static struct answer *keyed_as(struct client *c, const char *method, const char *path,
                               const char *key, const char *body)
{
    char header[400];
    snprintf(header, sizeof header, "Idempotency-Key: %s", key);
    struct call call = {.method = method,
                        .path = path,
                        .body = body,
                        .size = body ? strlen(body) : 0,
                        .headers = (const char *const[]){header, NULL}};
    return client_send(c, &call);
}

/* Makes a model, clones it, deletes it, each under a key; sent again they change nothing, whatever
 * has happened meanwhile, at once and after a kill -9. */
static void models_are_made_and_deleted_once(struct daemon *d)
{
    static const char m[] = "/v2/models/m", clone[] = "/v2/models/m/clone",
                      body[] = "{\"name\":\"copy\"}";
    struct answer *made = keyed_as(d->client, "PUT", m, "\"a\"", remote_mlp);
    answer_expect(made, 201);
    struct answer *again = keyed_as(d->client, "PUT", m, "\"a\"", remote_mlp);
    answer_expect(again, 201);
    assert_string_equal(made->body, again->body);
    answer_expect(keyed_as(d->client, "PUT", m, "\"b\"", remote_mlp), 200); /* another request */
    remote_step(d->client, "m", 1, 4);
    struct answer *cloned = keyed_as(d->client, "POST", clone, "\"a c\"", body);
    answer_expect(cloned, 201);
    char *first = strdup(cloned->body);
    answer_refused(keyed_as(d->client, "POST", clone, "\"other\"", body), 409, "model_exists",
                   NULL);
    for (int round = 0; round < 3; round++) {
        struct client *c = d->client;
        again = keyed_as(c, "POST", clone, "\"a c\"", body);
        answer_expect(again, 201);
        assert_string_equal(again->body, first);
        answer_refused(keyed_as(c, "POST", clone, "\"a c\"", "{\"name\":\"copy2\"}"), 422,
                       "key_reused", "Idempotency-Key");
        answer_refused(keyed_as(c, "DELETE", m, "\"a\"", NULL), 422, "key_reused", NULL);
        again = keyed_as(c, "DELETE", m, "\"d\"", NULL);
        answer_expect(again, 200);
        assert_string_equal(answer_string(again, "deleted"), "m");
        /* Neither what was deleted nor its clone is made anew. */
        answer_refused(keyed_as(c, "PUT", m, "\"a\"", remote_mlp), 404, "unknown_model",
                       "deleted since");
        answer_refused(keyed_as(c, "DELETE", m, "\"e\"", NULL), 404, "unknown_model", NULL);
        answer_refused(keyed_as(c, "POST", clone, "\"e\"", body), 404, "unknown_model", NULL);
        if (round == 0)
            daemon_kill(d);
        else
            daemon_stop(d);
        daemon_start(d, d->flags);
    }
    remote_create(d->client, "m", remote_mlp); /* another of this name is not deleted by a retry */
    answer_expect(keyed_as(d->client, "DELETE", m, "\"d\"", NULL), 200);
    answer_refused(keyed_as(d->client, "PUT", m, "\"a\"", remote_mlp), 404, "unknown_model", NULL);
    assert_true(remote_number(d->client, "m", "step") == 0);
    answer_refused(keyed_as(d->client, "DELETE", m, "d", NULL), 400, "bad_header", "quotes");
    answer_refused(keyed_as(d->client, "PUT", "/v2/models/n", "'x'", remote_mlp), 400, "bad_header",
                   "quotes");
    answer_expect(keyed_as(d->client, "DELETE", "/v2/models/copy", "\"d\"", NULL), 200);
    free(first);
}

struct retry {
    const char *address, *body;
    int status;
};

static void *retry_main(void *arg)
{
    struct retry *r = arg;
    struct client *c = client_create(r->address);
    struct call call = {.method = "POST",
                        .path = step,
                        .body = r->body,
                        .size = strlen(r->body),
                        .headers = (const char *const[]){"Idempotency-Key: \"same\"", NULL}};
    struct answer *a = client_try(c, &call);
    r->status = a ? a->status : 0;
    client_destroy(&c);
    return NULL;
}

/* Of several at once one is carried out; the others are told so, or get its answer. */
static void at_the_same_time(struct daemon *d)
{
    enum { CLIENTS = 6 };
    pthread_t thread[CLIENTS];
    struct retry retry[CLIENTS];
    remote_create(d->client, "m", remote_mlp);
    const char *body = remote_batch(d->client, 1, 2000, 4, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        retry[i] = (struct retry){d->address, body, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, retry_main, &retry[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(retry[i].status == 200 || retry[i].status == 409);
    }
    assert_true(remote_number(d->client, "m", "step") == 1);
}

/* What would be done again says so, and does nothing; what changes nothing does not mind. */
static void others_refuse_keys(struct daemon *d)
{
    static const char body[] = "{\"name\":\"k\",\"role\":\"read\"}";
    struct client *c = d->client;
    static const struct {
        const char *method, *path;
    } rows[] = {{"POST", "/v2/models/m/evaluations"},
                {"POST", "/v2/models/m/evaluations/1"},
                {"POST", "/v2/models/m/evaluations/1/finish"},
                {"DELETE", "/v2/models/m/evaluations/1"},
                {"POST", "/v2/keys"},
                {"DELETE", "/v2/keys/k"},
                {"POST", "/v2/repository/models/m/unload"},
                {"POST", "/v2/repository/models/m/load"}};
    remote_create(c, "m", remote_mlp);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct call call = {.method = rows[i].method,
                            .path = rows[i].path,
                            .body = body,
                            .size = sizeof body - 1,
                            .headers = (const char *const[]){"Idempotency-Key: \"a\"", NULL}};
        answer_refused(client_send(c, &call), 400, "bad_header", "done again");
    }
    assert_true(remote_number(c, "m", "revision") == 0);
    answer_expect(keyed(c, "/v2/models/m/infer", "\"a\"", "{\"inputs\":[[1,2,3,4]]}"), 200);
    answer_expect(keyed(c, "/v2/autograd", "\"a\"", "{\"expression\":\"1\"}"), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(a_retry_gets_the_first_answer),
        DAEMON_TEST(malformed_keys_are_refused),
        DAEMON_TEST(refused_requests_leave_no_answer),
        DAEMON_TEST(seq_is_in_order),
        DAEMON_TEST(expect_step_guards),
        DAEMON_TEST(answers_survive),
        DAEMON_TEST(checkpoints_have_the_answer, "--redo-bytes", "64K"),
        DAEMON_TEST(old_seqs_are_not_repeated),
        DAEMON_TEST(changes_are_made_once),
        DAEMON_TEST(models_are_made_and_deleted_once),
        DAEMON_TEST(at_the_same_time),
        DAEMON_TEST(others_refuse_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
