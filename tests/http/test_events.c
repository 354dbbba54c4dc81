/* test_events.c: a model's events: the same rows as its metrics, each once and in order, whenever a
 * client connects, comes back or is slow, over restarts; bounded; and out of the way of all else.
 */
#define _GNU_SOURCE /* strcasestr */
#include "../support/remote.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 25, QUIET_MS = 700, MAX_EVENTS = 4000 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What comes until nothing has come for `quiet_ms`. `header`: a line of the request, or "". */
static struct answer *listen_until(struct client *c, const char *query, const char *header,
                                   int quiet_ms)
{
    char request[512];
    int n = snprintf(
        request, sizeof request,
        "GET /v2/models/m/events%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
        query, header);
    return client_raw(c, request, (size_t)n, false, quiet_ms);
}

static struct answer *listen_to(struct client *c, const char *query, const char *header)
{
    return listen_until(c, query, header, QUIET_MS);
}

/* The events of an answer, whose chunks may be cut anywhere: lines of chunk sizes are left out. */
struct seen {
    uint64_t ids[MAX_EVENTS];
    double losses[MAX_EVENTS];
    int n;
    bool deleted, unloaded; /* the last event */
};
static void see(struct answer *a, struct seen *s)
{
    struct text body = {0};
    const char *at = strstr(a->body, "\r\n\r\n");
    assert_non_null(at);
    for (at += 4; *at;) {
        size_t size = strtoul(at, NULL, 16);
        at = strstr(at, "\r\n") + 2;
        text_add(&body, "%.*s", (int)size, at);
        at += size + 2;
        if (!size)
            break;
    }
    s->n = 0;
    for (const char *id = body.data ? strstr(body.data, "id: ") : NULL; id;
         id = strstr(id + 1, "\nid: ")) {
        const char *loss = strstr(id, "\"loss\":");
        assert_non_null(loss);
        assert_true(s->n < MAX_EVENTS);
        s->ids[s->n] = strtoull(strchr(id, ' '), NULL, 10);
        s->losses[s->n++] = strtod(loss + 7, NULL);
    }
    s->deleted = body.data && strstr(body.data, "event: deleted\n");
    s->unloaded = body.data && strstr(body.data, "event: unloaded\n");
    text_free(&body);
}

static void train(struct client *c, int n, double *losses)
{
    for (int i = 0; i < n; i++)
        losses[i] = answer_number(remote_step(c, "m", (unsigned)i % 5, 4), "loss");
}

static void assert_events(const struct seen *s, uint64_t first, const double *losses, int n)
{
    assert_int_equal(s->n, n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(s->ids[i], first + (uint64_t)i);
        assert_true((float)s->losses[i] == (float)losses[i]);
    }
}

static struct seen *seen_new(void)
{
    struct seen *s = calloc(1, sizeof *s);
    assert_non_null(s);
    return s;
}

/* ---- what is sent ---------------------------------------------------------------------------- */

static void all_rows(struct daemon *d)
{
    double losses[STEPS];
    struct seen *s = seen_new();
    remote_create(d->client, "m", remote_mlp);
    train(d->client, STEPS, losses);
    struct answer *a = listen_to(d->client, "", "");
    assert_int_equal(a->status, 200);
    assert_non_null(strstr(a->body, "Content-Type: text/event-stream"));
    assert_non_null(strstr(a->body, "retry: "));
    see(a, s);
    assert_events(s, 1, losses, STEPS);
    free(s);
    a = client_send(d->client, &(struct call){.method = "HEAD", .path = "/v2/models/m/events"});
    answer_expect(a, 200);
    assert_string_equal(answer_header(a, "Content-Type"), "text/event-stream");
    /* GET has no length, so HEAD has none; and nothing comes after the headers. */
    static const char head[] = "HEAD /v2/models/m/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    a = client_raw(d->client, head, sizeof head - 1, false, 5000);
    assert_int_equal(a->status, 200);
    assert_null(strcasestr(a->body, "Content-Length"));
    assert_string_equal(strstr(a->body, "\r\n\r\n"), "\r\n\r\n");
}

static void cursors(struct daemon *d)
{
    struct client *c = d->client;
    double losses[STEPS];
    struct seen *s = seen_new();
    remote_create(c, "m", remote_mlp);
    train(c, STEPS, losses);
    see(listen_to(c, "?since=20", ""), s);
    assert_events(s, 21, losses + 20, 5);
    see(listen_to(c, "?since=3", "Last-Event-ID: 23\r\n"), s);
    assert_events(s, 24, losses + 23, 2);
    see(listen_to(c, "?since=25", ""), s);
    assert_int_equal(s->n, 0);
    see(listen_to(c, "?since=9000", ""), s);
    assert_int_equal(s->n, 0);
    answer_refused(client_get(c, "/v2/models/m/events?since=x"), 400, "bad_query", "since");
    answer_refused(client_get(c, "/v2/models/m/events?after=1"), 400, "bad_query", "after");
    answer_refused(client_get(c, "/v2/models/no/events"), 404, "unknown_model", NULL);
    const char *const headers[] = {"Last-Event-ID: x1", NULL};
    answer_refused(
        client_send(
            c, &(struct call){.method = "GET", .path = "/v2/models/m/events", .headers = headers}),
        400, "bad_header", "Last-Event-ID");
    free(s);
}

/* More revisions than one window of the server, some of them without rows. */
static void long_histories(struct daemon *d)
{
    struct client *c = d->client;
    enum { MANY = 1300 };
    double *losses = calloc(MANY, sizeof *losses);
    struct seen *s = seen_new();
    remote_create(c, "m", remote_mlp);
    for (int i = 0; i < MANY; i += 100) {
        train(c, 100, losses + i);
        client_forget(c);
    }
    see(listen_to(c, "", ""), s);
    assert_events(s, 1, losses, MANY);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    for (int i = 0; i < 3; i++)
        remote_post(c, "m", "versions/1/restore", NULL);
    train(c, 1, losses);
    see(listen_to(c, "?since=1300", ""), s);
    assert_int_equal(s->n, 1);
    assert_int_equal(s->ids[0], (uint64_t)remote_number(c, "m", "revision"));
    free(losses);
    free(s);
}

/* ---- while the model trains ------------------------------------------------------------------ */

struct listener {
    pthread_t thread;
    char address[288];
    struct seen *seen;
    int quiet_ms;
    double ended;
};
static void *listener_run(void *arg)
{
    struct listener *l = arg;
    struct client *c = client_create(l->address);
    see(listen_until(c, "", "", l->quiet_ms), l->seen);
    l->ended = seconds();
    client_destroy(&c);
    return NULL;
}
static void listener_start(struct listener *l, const struct daemon *d, int quiet_ms)
{
    l->quiet_ms = quiet_ms;
    memcpy(l->address, d->address, sizeof l->address);
    l->seen = seen_new();
    assert_int_equal(pthread_create(&l->thread, NULL, listener_run, l), 0);
}

static void as_they_come(struct daemon *d)
{
    enum { LISTENERS = 8, PATIENCE_MS = 5000 }; /* steps may be slow, and nothing comes meanwhile */
    struct listener l[LISTENERS];
    double losses[200];
    remote_create(d->client, "m", remote_mlp);
    for (int i = 0; i < LISTENERS; i++)
        listener_start(&l[i], d, PATIENCE_MS);
    train(d->client, 200, losses);
    for (int i = 0; i < LISTENERS; i++) {
        pthread_join(l[i].thread, NULL);
        assert_events(l[i].seen, 1, losses, 200);
        free(l[i].seen);
    }
}

/* What somebody sees of a model that trains three steps and then is taken away by this call; how
 * long it took to hear of the end is below what the listener waits for when nothing comes. */
static void ended_by(struct daemon *d, const char *method, const char *path, struct seen *seen)
{
    struct listener l;
    double losses[3];
    remote_create(d->client, "m", remote_mlp);
    train(d->client, 3, losses);
    listener_start(&l, d, QUIET_MS);
    usleep(300000);
    answer_expect(client_json(d->client, method, path, NULL), 200);
    double ended = seconds();
    pthread_join(l.thread, NULL);
    assert_events(l.seen, 1, losses, 3);
    assert_true(l.ended - ended < QUIET_MS / 1e3);
    *seen = *l.seen;
    free(l.seen);
}

/* Deleting the model ends its streams with an event of their own; so does taking it out of memory,
 * which is not called the same, as it can come back. */
static void the_end(struct daemon *d)
{
    struct seen *seen = seen_new();
    ended_by(d, "DELETE", "/v2/models/m", seen);
    assert_true(seen->deleted && !seen->unloaded);
    ended_by(d, "POST", "/v2/repository/models/m/unload", seen);
    assert_true(seen->unloaded && !seen->deleted);
    free(seen);
}

static void over_restarts(struct daemon *d)
{
    double losses[STEPS];
    struct seen *s = seen_new();
    remote_create(d->client, "m", remote_mlp);
    train(d->client, 10, losses);
    see(listen_to(d->client, "", ""), s);
    assert_events(s, 1, losses, 10);
    train(d->client, 5, losses + 10);
    daemon_kill(d);
    daemon_start(d, d->flags);
    train(d->client, 5, losses + 15);
    see(listen_to(d->client, "", "Last-Event-ID: 10\r\n"), s);
    assert_events(s, 11, losses + 10, 10);
    free(s);
}

/* ---- rows that come late --------------------------------------------------------------------- */

static const char detector[] = "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":2,"
                               "\"image_size\":64,\"channels\":1}}";

/* One image of 64 x 64 with one box, for a detector. */
static void evaluate_detector(struct client *c, int evaluation, bool finish)
{
    struct text body = {0};
    char rest[64];
    snprintf(rest, sizeof rest, "/evaluations/%d%s", evaluation, finish ? "/finish" : "");
    if (finish) {
        answer_expect(remote_call(c, "POST", "m", rest, NULL), 200);
        return;
    }
    text_add(&body, "{\"inputs\":[{\"shape\":[1,1,64,64],\"datatype\":\"FP32\",\"data\":[0");
    for (int i = 1; i < 64 * 64; i++)
        text_add(&body, ",%d", i % 2);
    text_add(&body, "]}],\"targets\":[{\"boxes\":[[{\"category\":1,\"bbox\":[9,9,30,30]}]]}]}");
    remote_call(c, "POST", "m", "/evaluations", NULL);
    answer_expect(remote_call(c, "POST", "m", rest, body.data), 200);
    text_free(&body);
}

static void step_detector(struct client *c, int n)
{
    struct text body = {0};
    text_add(&body, "{\"inputs\":[{\"shape\":[1,1,64,64],\"datatype\":\"FP32\",\"data\":[0");
    for (int i = 1; i < 64 * 64; i++)
        text_add(&body, ",0.5");
    text_add(&body, "]}],\"targets\":[{\"boxes\":[[{\"category\":0,\"bbox\":[5,5,20,20]}]]}]}");
    for (int i = 0; i < n; i++)
        answer_expect(remote_call(c, "POST", "m", "/train_step", body.data), 200);
    text_free(&body);
}

static int occurrences(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        n++;
    return n;
}

/* An evaluation began at revision 2 and is finished at 4: a client that has passed 2 gets its rows
 * once, with the revision that was evaluated, and so does one that polls with the cursor. */
static void evaluations_come_late(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", detector);
    step_detector(c, 2);
    evaluate_detector(c, 1, false);
    step_detector(c, 2);
    struct answer *a = remote_get(c, "m", "/metrics");
    assert_string_equal(answer_string(a, "cursor"), "4");
    evaluate_detector(c, 1, true);
    a = listen_to(c, "", "Last-Event-ID: 4\r\n");
    assert_int_equal(occurrences(a->body, "data: "), 1);
    assert_non_null(strstr(a->body, "data: {\"revision\":2,\"step\":2,"));
    assert_non_null(strstr(a->body, "\"mAP50\":"));
    const char *id = strstr(a->body, "id: 4.");
    assert_non_null(id);
    char header[64], rest[64];
    snprintf(header, sizeof header, "Last-Event-ID: %.*s\r\n", (int)strcspn(id + 4, "\n"), id + 4);
    daemon_stop(d);
    daemon_start(d, d->flags);
    c = d->client;
    assert_int_equal(occurrences(listen_to(c, "", header)->body, "data: "), 0);
    assert_int_equal(occurrences(listen_to(c, "?since=4", "")->body, "data: "), 0);
    /* From the beginning they stand at their revision. */
    a = listen_to(c, "", "");
    assert_int_equal(occurrences(a->body, "data: "), 4);
    assert_int_equal(occurrences(a->body, "\"mAP50\":"), 1);
    a = remote_get(c, "m", "/metrics?since=4.0");
    assert_true(answer_number(a, "series.mAP50.revision.0") == 2);
    assert_null(answer_find(a, "series.loss"));
    assert_true(answer_number(a, "last_revision") == 4);
    assert_memory_equal(answer_string(a, "cursor"), "4.", 2);
    snprintf(rest, sizeof rest, "/metrics?since=%s", answer_string(a, "cursor"));
    assert_int_equal(json_object_size(answer_find(remote_get(c, "m", rest), "series")), 0);
    assert_int_equal(
        json_object_size(answer_find(remote_get(c, "m", "/metrics?since=4"), "series")), 0);
    answer_refused(remote_call(c, "GET", "m", "/metrics?since=4.", NULL), 400, "bad_query",
                   "since is '4.'");
}

/* The evaluation of a model that was never trained is of revision 0. */
static void evaluations_at_the_start(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", detector);
    evaluate_detector(c, 1, false);
    evaluate_detector(c, 1, true);
    assert_int_equal(occurrences(listen_to(c, "", "")->body, "data: {\"revision\":0,"), 1);
    struct answer *a = remote_get(c, "m", "/metrics");
    assert_true(answer_number(a, "series.mAP50.step.0") == 0);
    a = listen_to(c, "?since=0", "Last-Event-ID: 0.3\r\n");
    assert_int_equal(occurrences(a->body, "\"mAP50\":"), 0);
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static void stops_with_open_streams(struct daemon *d)
{
    struct listener l[4];
    remote_create(d->client, "m", remote_mlp);
    for (int i = 0; i < 4; i++)
        listener_start(&l[i], d, QUIET_MS);
    usleep(300000);
    double begin = seconds();
    daemon_stop(d);
    assert_true(seconds() - begin < 2);
    for (int i = 0; i < 4; i++) {
        pthread_join(l[i].thread, NULL);
        free(l[i].seen);
    }
    daemon_start(d, d->flags);
}

/* With two workers, more streams than workers leave both free; too many are refused; and those
 * whose clients have gone make room, also when there is nothing to send. */
static void bounded(struct daemon *d)
{
    struct listener l[3];
    int status = 429;
    remote_create(d->client, "m", remote_mlp);
    for (int i = 0; i < 3; i++)
        listener_start(&l[i], d, QUIET_MS);
    usleep(200000);
    struct answer *a = client_get(d->client, "/v2/models/m/events");
    answer_refused(a, 429, "queue_full", "--max-streams");
    assert_non_null(answer_header(a, "Retry-After"));
    answer_expect(client_get(d->client, "/v2"), 200);
    for (int i = 0; i < 3; i++) {
        pthread_join(l[i].thread, NULL);
        free(l[i].seen);
    }
    for (int i = 0; i < 50 && status == 429;
         i++) { /* 5 seconds, a third of the time to a comment */
        usleep(100000);
        status = listen_to(d->client, "", "")->status;
    }
    assert_int_equal(status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(all_rows),
        DAEMON_TEST(cursors),
        DAEMON_TEST(long_histories),
        DAEMON_TEST(as_they_come),
        DAEMON_TEST(the_end),
        DAEMON_TEST(over_restarts),
        DAEMON_TEST(evaluations_come_late),
        DAEMON_TEST(evaluations_at_the_start),
        DAEMON_TEST(stops_with_open_streams),
        DAEMON_TEST(bounded, "--max-streams", "3", "--workers", "2"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
