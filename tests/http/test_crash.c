/* test_crash.c: the daemon is killed with SIGKILL at random moments while two clients train two
 * models, save and restore versions and add up gradients, and a third one reads. After each
 * restart, from the clients' own record of requests and answers and with a second daemon as the
 * oracle, which is given the same requests and never killed:
 *
 *   - every change that was answered is there, once, and none that was never sent;
 *   - the whole state is the oracle's, byte for byte;
 *   - every answered loss is in the metrics, once, under its revision.
 *
 * Of a request whose answer was lost the client cannot know whether it was carried out: the
 * revision says it. CRASH_KILLS=1000 is the long form (make test-crash). */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { MODELS = 2, MAX_ENTRIES = 400000, SHORT_KILLS = 12, MAX_VERSIONS = 4 };

/* What a client may ask for. `changes`: it moves the revision. */
enum ask { ASK_TRAIN, ASK_ADD, ASK_OPTIM, ASK_ZERO, ASK_VERSION, ASK_RESTORE, ASK_PATCH };
static const struct {
    const char *rest, *method;
    bool changes, batch;
} asks[] = {
    [ASK_TRAIN] = {"/train_step", "POST", true, true},
    [ASK_ADD] = {"/forward_backward", "POST", true, true},
    [ASK_OPTIM] = {"/optim_step", "POST", true, false},
    [ASK_ZERO] = {"/zero_grad", "POST", true, false},
    [ASK_VERSION] = {"/versions", "POST", false, false},
    [ASK_RESTORE] = {NULL, "POST", true, false},
    [ASK_PATCH] = {"", "PATCH", true, false},
};

struct entry {
    enum ask ask;
    unsigned number; /* seed of the batch, version, or learning rate */
    double loss;     /* that was answered; -1: none */
    double revision;
};

/* One client's model: everything that is known to have been carried out, and the one request whose
 * answer was lost. */
struct subject {
    const char *name, *description;
    int pixels;
    const char *address;
    struct entry *done;
    int n_done, n_replayed; /* by the oracle */
    struct entry lost;
    bool has_lost;
    bool pending; /* gradients are, after n_done */
    double revision;
    int versions;
    bool version_pending[MAX_VERSIONS + 2]; /* by number */
    unsigned random;
    char problem[512];
};

static unsigned next_random(struct subject *s)
{
    s->random = s->random * 1664525u + 1013904223u;
    return s->random >> 8;
}

/* A request that the model's state allows. */
static struct entry choose(struct subject *s)
{
    unsigned r = next_random(s) % 100;
    struct entry e = {s->pending ? ASK_OPTIM : ASK_TRAIN, next_random(s) % 1000, -1, 0};
    if (r < 12)
        e.ask = ASK_ADD;
    else if (r < 15 && s->pending)
        e.ask = ASK_ZERO;
    else if (r < 18 && s->versions < MAX_VERSIONS)
        e.ask = ASK_VERSION;
    else if (r < 20 && s->versions)
        e.ask = ASK_RESTORE;
    else if (r < 22)
        e.ask = ASK_PATCH;
    if (e.ask == ASK_RESTORE)
        e.number = 1 + e.number % (unsigned)s->versions;
    return e;
}

static struct answer *ask(struct client *c, const struct subject *s, const struct entry *e)
{
    char path[128], text[64];
    const char *body = asks[e->ask].batch ? remote_batch(c, e->number, 4, s->pixels, NULL) : NULL;
    if (e->ask == ASK_RESTORE)
        snprintf(path, sizeof path, "/v2/models/%s/versions/%u/restore", s->name, e->number);
    else
        snprintf(path, sizeof path, "/v2/models/%s%s", s->name, asks[e->ask].rest);
    if (e->ask == ASK_PATCH) {
        snprintf(text, sizeof text, "{\"lr\":%g}", 0.001 * (1 + e->number % 10));
        body = text;
    }
    struct call call = {
        .method = asks[e->ask].method, .path = path, .body = body, .size = body ? strlen(body) : 0};
    return client_try(c, &call);
}

/* Takes a request as carried out. */
static void note(struct subject *s, struct entry e)
{
    if (e.ask == ASK_VERSION)
        s->version_pending[++s->versions] = s->pending;
    else if (e.ask == ASK_RESTORE)
        s->pending = s->version_pending[e.number];
    else if (e.ask == ASK_ADD)
        s->pending = true;
    else if (e.ask == ASK_OPTIM || e.ask == ASK_ZERO)
        s->pending = false;
    s->revision += asks[e.ask].changes;
    e.revision = s->revision;
    s->done[s->n_done++] = e;
}

/* Trains until the daemon is gone. No checks of cmocka here: they belong to the main thread. */
static void *client_main(void *arg)
{
    struct subject *s = arg;
    struct client *c = client_create(s->address);
    while (s->n_done < MAX_ENTRIES && !s->problem[0]) {
        struct entry e = choose(s);
        struct answer *a = ask(c, s, &e);
        if (!a) {
            s->lost = e;
            s->has_lost = true;
            break;
        }
        const char *loss = strstr(a->body, "\"loss\":");
        if (asks[e.ask].batch && loss)
            e.loss = strtod(loss + 7, NULL);
        if (a->status < 300)
            note(s, e);
        else
            snprintf(s->problem, sizeof s->problem, "%s %s was answered %d: %.300s", s->name,
                     asks[e.ask].rest ? asks[e.ask].rest : "restore", a->status, a->body);
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

/* Reads what people read, until the daemon is gone. */
static void *reader_main(void *arg)
{
    struct client *c = client_create(arg);
    struct call call = {.method = "GET", .path = "/v2/models/crash0/metrics?max_points=50"};
    while (client_try(c, &call))
        client_forget(c);
    client_destroy(&c);
    return NULL;
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* What became of the request whose answer was lost: the revision, or the number of versions, says.
 */
static void settle_lost(struct client *c, struct subject *s)
{
    struct answer *a = remote_get(c, s->name, "");
    double revision = answer_number(a, "revision");
    int versions = (int)json_array_size(answer_find(a, "versions"));
    if (s->has_lost && s->lost.ask == ASK_VERSION && versions == s->versions + 1)
        note(s, s->lost);
    else if (s->has_lost && asks[s->lost.ask].changes && revision == s->revision + 1)
        note(s, s->lost);
    s->has_lost = false;
    assert_true(revision == s->revision); /* nothing answered is missing, nothing unsent is there */
    assert_int_equal(versions, s->versions);
    assert_int_equal(json_is_true(answer_find(a, "gradients_pending")), s->pending);
}

/* The oracle is given what was carried out since the last time. */
static void replay_on_oracle(struct client *oracle, struct subject *s)
{
    for (; s->n_replayed < s->n_done; s->n_replayed++) {
        const struct entry *e = &s->done[s->n_replayed];
        struct answer *a = ask(oracle, s, e);
        if (!a || a->status >= 300)
            fail_msg("the oracle refused %s: %s", s->name, a ? a->body : "no answer");
        if (e->loss >= 0)
            assert_true(answer_number(a, "loss") == e->loss);
        client_forget(oracle);
    }
}

/* Every answered loss under its revision, once, and nothing else. */
static void check_metrics(struct client *c, const struct subject *s)
{
    struct answer *a = remote_get(c, s->name, "/metrics?names=loss&max_points=100000");
    json_t *revisions = answer_find(a, "series.loss.revision");
    json_t *values = answer_find(a, "series.loss.value");
    size_t k = 0;
    for (int i = 0; i < s->n_done; i++) {
        const struct entry *e = &s->done[i];
        if (!asks[e->ask].batch)
            continue;
        double found = json_number_value(json_array_get(revisions, k));
        if (found != e->revision)
            fail_msg("%s: metrics row %zu has revision %.0f, expected %.0f of %.0f", s->name, k,
                     found, e->revision, s->revision);
        if (e->loss >= 0)
            assert_true((float)json_number_value(json_array_get(values, k)) == (float)e->loss);
        k++;
    }
    assert_int_equal(json_array_size(revisions), k);
}

static void check_subject(struct daemon *d, struct daemon *oracle, struct subject *s)
{
    if (s->problem[0])
        fail_msg("%s", s->problem);
    settle_lost(d->client, s);
    replay_on_oracle(oracle->client, s);
    assert_same_state(remote_hash(d->client, s->name), remote_hash(oracle->client, s->name));
    check_metrics(d->client, s);
    client_forget(d->client);
    client_forget(oracle->client);
}

/* ---- the test -------------------------------------------------------------------------------- */

static void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Clients at work, then the kill. */
static void work_and_kill(struct daemon *d, struct subject *s)
{
    pthread_t thread[MODELS + 1];
    int ms = 5 + (int)(next_random(&s[0]) % 250);
    for (int i = 0; i < MODELS; i++) {
        s[i].address = d->address;
        assert_int_equal(pthread_create(&thread[i], NULL, client_main, &s[i]), 0);
    }
    assert_int_equal(pthread_create(&thread[MODELS], NULL, reader_main, d->address), 0);
    sleep_ms(ms);
    daemon_kill(d);
    for (int i = 0; i <= MODELS; i++)
        pthread_join(thread[i], NULL);
}

static void kills(struct daemon *d)
{
    static const char *const flags[] = {"--redo-bytes", "64K", "--log-level", "warn", NULL};
    static struct subject s[MODELS] = {
        {.name = "crash0", .description = remote_cnn, .pixels = 36, .random = 1},
        {.name = "crash1", .description = remote_mlp, .pixels = 4, .random = 2},
    };
    const char *asked = getenv("CRASH_KILLS");
    int n = asked ? atoi(asked) : SHORT_KILLS, lost[sizeof asks / sizeof asks[0]] = {0}, idle = 0;
    struct daemon oracle = *d;
    oracle.pid = 0;
    oracle.client = NULL;
    snprintf(oracle.folder, sizeof oracle.folder, "%.240s/oracle", d->folder);
    snprintf(oracle.data, sizeof oracle.data, "%s/data", oracle.folder);
    assert_int_equal(mkdir(oracle.folder, 0700), 0);
    daemon_start(&oracle, flags);
    for (int i = 0; i < MODELS; i++) {
        s[i].done = calloc(MAX_ENTRIES, sizeof *s[i].done);
        remote_create(d->client, s[i].name, s[i].description);
        remote_create(oracle.client, s[i].name, s[i].description);
    }
    for (int k = 0; k < n; k++) {
        work_and_kill(d, s);
        for (int i = 0; i < MODELS; i++)
            if (s[i].has_lost)
                lost[s[i].lost.ask]++;
            else
                idle++;
        daemon_start(d, d->flags);
        for (int i = 0; i < MODELS; i++)
            check_subject(d, &oracle, &s[i]);
    }
    print_message("%d kills; answers lost: %d train_step, %d forward_backward, %d optim_step, %d "
                  "zero_grad, %d versions, %d restore, %d PATCH; %d changes kept\n",
                  n, lost[ASK_TRAIN], lost[ASK_ADD], lost[ASK_OPTIM], lost[ASK_ZERO],
                  lost[ASK_VERSION], lost[ASK_RESTORE], lost[ASK_PATCH], s[0].n_done + s[1].n_done);
    assert_int_equal(idle, 0);
    daemon_stop(&oracle);
    client_destroy(&oracle.client);
    for (int i = 0; i < MODELS; i++)
        free(s[i].done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(kills, "--redo-bytes", "64K", "--log-level", "warn"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
