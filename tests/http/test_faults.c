/* test_faults.c: a daemon whose calls fail. For each route the n-th write, fsync, read or
 * allocation of the request goes wrong (faults.h), for n = 0, 1, ... until none is left to go
 * wrong:
 *
 *   - the daemon lives and answers: 2xx, or 500, 503 or 507 with a sentence;
 *   - after an error nothing has changed, unless it is answer_lost, which says the opposite;
 *   - when the fault is gone the same request works;
 *   - after a kill -9 the state is the one that was last seen.
 *
 * A connection that is closed without an answer is allowed when no memory is left for one: a client
 * cannot know what became of its request, as after any lost answer. The short form tries every
 * seventh allocation, and each one of some requests, FAULTS_LONG=1 (make test-faults) every one.
 * ROUTE=/events tries only routes with that in their path. */
#include "../support/client_private.h"
#include "../support/faults.h"
#include "../support/remote.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { SHORT_STRIDE = 7, MAX_CALLS = 5000 };

/* ---- requests -------------------------------------------------------------------------------- */

enum body { NO_BODY, A_BATCH, SOME_INPUTS, A_FILE, A_TEXT, AN_IMAGE, A_FORM, BOXED, A_STREAM };
enum prepare {
    NOTHING,
    PENDING,
    NO_PENDING,
    A_VERSION,
    AN_ALIAS,
    TWO_MOVES,
    A_MODEL,
    UNLOADED,
    AN_EVALUATION,
    A_KEY
};

/* A pixel, as a file and in an answerable form of each kind. */
#define PIXEL                                                                                      \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+"                                \
    "M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
#define PIXELS "{\"inputs\":[{\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"" PIXEL "\"]}]}"

static const unsigned char pixel[] = {
    0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0,    0,    0,    13,   'I',  'H',
    'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    6,    0,    0,
    0,    0x1f, 0x15, 0xc4, 0x89, 0,    0,    0,    0x0d, 'I',  'D',  'A',  'T',  0x78,
    0xda, 0x63, 0x64, 0xf8, 0xcf, 0x50, 0x0f, 0,    3,    0x86, 1,    0x80, 0x5a, 0x34,
    0x7d, 0x6b, 0,    0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};

static const char boxes_of_coco[] =
    "{\"ground_truth\":{\"images\":[{\"id\":1}],\"categories\":[{\"id\":4}],\"annotations\":["
    "{\"id\":1,\"image_id\":1,\"category_id\":4,\"bbox\":[1,1,9,9],\"area\":81,\"iscrowd\":0}]},"
    "\"detections\":[{\"image_id\":1,\"category_id\":4,\"bbox\":[1,1,9,8],\"score\":0.5}]}";

/* In a path {v} is the version, {e} the evaluation and {n} the number of the model or key that was
 * prepared, or a new one; in a header too. */
static const struct row {
    const char *method, *path;
    enum prepare prepare;
    enum body body;
    const char *text, *header;
} model_rows[] = {
    {"GET", "/v2", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/operators", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/templates", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/openapi.json", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/metrics", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/stats", NOTHING, NO_BODY, NULL, NULL},
    {"POST", "/v2/repository/index", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m?state_sha256=1", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/ready", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/stats", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/config", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/metrics", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/weights", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/versions", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/versions/{v}", A_VERSION, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/versions/{v}/weights", A_VERSION, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/aliases", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/aliases/best", AN_ALIAS, NO_BODY, NULL, NULL},
    {"POST", "/v2/autograd", NOTHING, A_TEXT,
     "{\"expression\":\"(w*x-10)**2\",\"tensors\":{\"w\":{\"data\":[2],\"requires_grad\":true},"
     "\"x\":{\"data\":[3]}}}",
     NULL},
    {"POST", "/v2/models/m/infer", NOTHING, SOME_INPUTS, NULL, NULL},
    {"POST", "/v2/models/m/versions/{v}/infer", A_VERSION, SOME_INPUTS, NULL, NULL},
    {"POST", "/v2/models/m/gradients", NOTHING, A_BATCH, NULL, NULL},
    {"POST", "/v2/models/m/evaluate", NOTHING, A_BATCH, NULL, NULL},
    {"POST", "/v2/models/m/train_step", NO_PENDING, A_BATCH, NULL, NULL},
    {"POST", "/v2/models/m/forward_backward", NOTHING, A_BATCH, NULL, NULL},
    {"POST", "/v2/models/m/optim_step", PENDING, NO_BODY, NULL, NULL},
    {"POST", "/v2/models/m/zero_grad", PENDING, NO_BODY, NULL, NULL},
    {"PATCH", "/v2/models/m", NOTHING, A_TEXT, "{\"lr\":0.01}", NULL},
    {"POST", "/v2/models/m/versions", NOTHING, A_TEXT, "{\"note\":\"n\"}", NULL},
    {"POST", "/v2/models/m/versions/{v}/restore", A_VERSION, NO_BODY, NULL, NULL},
    {"DELETE", "/v2/models/m/versions/{v}", A_VERSION, NO_BODY, NULL, NULL},
    {"PUT", "/v2/models/m/aliases/a{n}", NOTHING, A_TEXT, "{\"version\":1}", NULL},
    {"POST", "/v2/models/m/aliases/best/rollback", TWO_MOVES, NO_BODY, NULL, NULL},
    {"DELETE", "/v2/models/m/aliases/best", AN_ALIAS, NO_BODY, NULL, NULL},
    {"PUT", "/v2/models/m/weights", NO_PENDING, A_FILE, NULL, NULL},
    {"PUT", "/v2/models/n{n}", NOTHING, A_TEXT, remote_mlp, NULL},
    {"POST", "/v2/models/m/clone", NOTHING, A_TEXT, "{\"name\":\"c{n}\"}", NULL},
    {"DELETE", "/v2/models/n{n}", A_MODEL, NO_BODY, NULL, NULL},
    {0},
};

/* What has come since: images, detectors, questions, keys of requests, streams. */
#define ONCE "Idempotency-Key: \"k{n}\""
static const struct row other_rows[] = {
    {"GET", "/v2/operators", NOTHING, NO_BODY, NULL, "Accept-Encoding: gzip"},
    {"POST", "/v2/models/pic/infer", NOTHING, AN_IMAGE, NULL, NULL},
    {"POST", "/v2/models/pic/infer", NOTHING, A_FORM, NULL, NULL},
    {"POST", "/v2/models/pic/infer", NOTHING, A_TEXT, PIXELS, NULL},
    {"POST", "/v2/models/pic/augment", NOTHING, A_TEXT, PIXELS, NULL},
    {"POST", "/v2/models/pic/augment", NOTHING, A_TEXT, PIXELS, "Accept: image/png"},
    {"POST", "/v2/models/det/infer", NOTHING, AN_IMAGE, NULL, NULL},
    {"POST", "/v2/models/det/infer", NOTHING, AN_IMAGE, NULL, "Accept: image/png"},
    {"POST", "/v2/detection/evaluate", NOTHING, A_TEXT, boxes_of_coco, NULL},
    {"POST", "/v2/models/det/evaluations", NOTHING, NO_BODY, NULL, NULL},
    {"POST", "/v2/models/det/evaluations/{e}", AN_EVALUATION, BOXED, NULL, NULL},
    {"POST", "/v2/models/det/evaluations/{e}/finish", AN_EVALUATION, NO_BODY, NULL, NULL},
    {"DELETE", "/v2/models/det/evaluations/{e}", AN_EVALUATION, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/signals?histograms=1", NOTHING, NO_BODY, NULL, NULL},
    {"GET", "/v2/models/m/config?plan=1", NOTHING, NO_BODY, NULL, NULL},
    {"POST", "/v2/models/m/gradients", NOTHING, A_BATCH,
     "\"parameters\":{\"signals\":true,\"histograms\":{},\"per_sample_norms\":true}", NULL},
    {"POST", "/v2/models/m/gradcheck", NOTHING, A_BATCH, "\"parameters\":{\"count\":1}", NULL},
    {"POST", "/v2/models/m/profile", NOTHING, A_TEXT, "{\"parameters\":{\"steps\":1,\"batch\":1}}",
     NULL},
    {"GET", "/v2/models/m/events", NOTHING, A_STREAM, NULL, NULL},
    {"POST", "/v2/models/m/train_step", NO_PENDING, A_BATCH, NULL, ONCE},
    {"POST", "/v2/models/m/versions", NOTHING, NO_BODY, NULL, ONCE},
    {"PUT", "/v2/models/n{n}", NOTHING, A_TEXT, remote_mlp, ONCE},
    {"PUT", "/v2/models/m", NOTHING, A_TEXT, remote_mlp, ONCE},
    {"POST", "/v2/models/m/clone", NOTHING, A_TEXT, "{\"name\":\"c{n}\"}", ONCE},
    {"DELETE", "/v2/models/n{n}", A_MODEL, NO_BODY, NULL, ONCE},
    {"POST", "/v2/repository/models/n{n}/unload", A_MODEL, NO_BODY, NULL, NULL},
    {"POST", "/v2/repository/models/n{n}/load", UNLOADED, NO_BODY, NULL, NULL},
    {0},
};

/* For a daemon with keys. */
static const struct row key_rows[] = {
    {"GET", "/v2/keys", NOTHING, NO_BODY, NULL, NULL},
    {"POST", "/v2/keys", NOTHING, A_TEXT, "{\"name\":\"k{n}\",\"role\":\"train\"}", NULL},
    {"DELETE", "/v2/keys/k{n}", A_KEY, NO_BODY, NULL, NULL},
    {0},
};

struct probe {
    struct daemon *d;
    struct faults *faults;
    const struct row *rows;
    const char *key;                 /* header of requests of key_rows; NULL: none */
    int version, number, evaluation; /* {v}, {n} and {e} */
    char *file;                      /* a safetensors file of the model's */
    size_t file_size;
    int asked, refused, lost, dropped, failures;
};

/* A copy with {v}, {n} and {e} filled in; belongs to the client. */
static const char *fill(const struct probe *p, const char *text)
{
    struct text out = {0};
    for (; *text; text++)
        if (text[0] == '{' && text[1] && strchr("vne", text[1]) && text[2] == '}') {
            text_add(&out, "%d",
                     text[1] == 'v'   ? p->version
                     : text[1] == 'n' ? p->number
                                      : p->evaluation);
            text += 2;
        } else {
            text_add(&out, "%c", *text);
        }
    struct answer *keeper = client_answer(p->d->client);
    free(keeper->body);
    return keeper->body = out.data;
}

static const char *keep(struct client *c, struct text *t)
{
    struct answer *keeper = client_answer(c);
    free(keeper->body);
    return keeper->body = t->data;
}

/* An image of the detector's, and what is on it. */
static const char *boxed_batch(struct client *c)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"shape\":[1,1,64,64],\"data\":[");
    for (int i = 0; i < 64 * 64; i++)
        text_add(&t, "%s%d", i ? "," : "", i % 7);
    text_add(&t, "]}],\"targets\":[{\"boxes\":[[{\"category\":1,\"bbox\":[3,4,9,9]}]]}]}");
    return keep(c, &t);
}

static const char *form_of_pixel(struct client *c, size_t *size_r)
{
    static const char head[] = "--b\r\nContent-Disposition: form-data; name=\"image\"; "
                               "filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n",
                      tail[] = "\r\n--b--\r\n";
    struct text t = {0};
    bytes_append(&t.data, &t.size, head, sizeof head - 1);
    bytes_append(&t.data, &t.size, pixel, sizeof pixel);
    bytes_append(&t.data, &t.size, tail, sizeof tail - 1);
    *size_r = t.size;
    return keep(c, &t);
}

/* What comes of an answer that does not end; NULL: nothing. */
static struct answer *ask_stream(struct probe *p, const struct row *row)
{
    struct text t = {0};
    text_add(&t, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", row->method, row->path);
    struct answer *a = client_raw(p->d->client, t.data, t.size, false, 30);
    const char *body = strstr(a->body, "\r\n\r\n");
    text_free(&t);
    if (body)
        memmove(a->body, body + 4, strlen(body + 4) + 1);
    return a->status ? a : NULL;
}

static struct answer *ask_kept(struct probe *p, const struct row *row)
{
    struct client *c = p->d->client;
    const char *headers[3] = {p->key ? p->key : row->header ? fill(p, row->header) : NULL};
    struct call call = {.method = row->method, .path = fill(p, row->path), .headers = headers};
    if (row->body == A_STREAM)
        return ask_stream(p, row);
    if (row->body == A_BATCH)
        call.body = remote_batch(c, 7, 4, 4, row->text);
    else if (row->body == BOXED)
        call.body = boxed_batch(c);
    else if (row->body == SOME_INPUTS)
        call.body = remote_inputs(c, 7, 4, 4, NULL);
    else if (row->body == A_TEXT)
        call.body = fill(p, row->text);
    if (row->body == A_FILE) {
        call.body = p->file;
        call.size = p->file_size;
        call.content_type = "application/octet-stream";
    } else if (row->body == AN_IMAGE) {
        call.body = pixel;
        call.size = sizeof pixel;
        call.content_type = "image/png";
    } else if (row->body == A_FORM) {
        call.body = form_of_pixel(c, &call.size);
        call.content_type = "multipart/form-data; boundary=b";
    } else if (call.body) {
        call.size = strlen(call.body);
    }
    return client_try(c, &call);
}

/* Over a connection of its own: libcurl sends a request again when one that was kept has been
 * closed.
 */
static struct answer *ask(struct probe *p, const struct row *row)
{
    client_destroy(&p->d->client);
    p->d->client = client_create(p->d->address);
    return ask_kept(p, row);
}

static bool is_pending(struct probe *p)
{
    return json_is_true(answer_find(remote_get(p->d->client, "m", ""), "gradients_pending"));
}

static void set_alias(struct probe *p, int version)
{
    char body[32];
    snprintf(body, sizeof body, "{\"version\":%d}", version);
    struct answer *a = remote_call(p->d->client, "PUT", "m", "/aliases/best", body);
    assert_true(a->status < 300);
}

/* Status 0: any. */
static void repository(struct probe *p, const char *verb, int status)
{
    char path[80];
    snprintf(path, sizeof path, "/v2/repository/models/n%d/%s", p->number, verb);
    struct answer *a = client_json(p->d->client, "POST", path, NULL);
    if (status)
        answer_expect(a, status);
}

static int evaluation_begin(struct client *c)
{
    struct answer *a = remote_call(c, "POST", "det", "/evaluations", NULL);
    answer_expect(a, 201);
    return (int)answer_number(a, "evaluation");
}

/* One may have been begun whose number nobody was told. */
static void evaluations_end(struct client *c)
{
    char rest[64];
    for (int last = evaluation_begin(c), i = last; i > last - 3 && i > 0; i--) {
        snprintf(rest, sizeof rest, "/evaluations/%d", i);
        remote_call(c, "DELETE", "det", rest, NULL);
    }
}

static void prepare(struct probe *p, const struct row *row)
{
    struct client *c = p->d->client;
    char name[16];
    p->number++;
    if (row->prepare == PENDING && !is_pending(p))
        remote_post(c, "m", "forward_backward", remote_batch(c, 1, 4, 4, NULL));
    if (row->prepare == NO_PENDING && is_pending(p))
        remote_post(c, "m", "zero_grad", NULL);
    if (row->prepare == A_VERSION) {
        struct answer *a = remote_call(c, "POST", "m", "/versions", NULL);
        answer_expect(a, 201);
        p->version = (int)answer_number(a, "version");
    }
    if (row->prepare == TWO_MOVES)
        set_alias(p, 1);
    if (row->prepare == AN_ALIAS || row->prepare == TWO_MOVES)
        set_alias(p, 2);
    snprintf(name, sizeof name, "n%d", p->number);
    if (row->prepare == A_MODEL || row->prepare == UNLOADED)
        remote_create(c, name, remote_mlp);
    if (row->prepare == UNLOADED)
        repository(p, "unload", 200);
    if (row->prepare == AN_EVALUATION)
        p->evaluation = evaluation_begin(c);
    if (row->prepare == A_KEY)
        answer_expect(ask_kept(p, &key_rows[1]), 201);
}

/* Takes back the keys that were made, which are many. */
static void keys_end(struct probe *p)
{
    static const struct row revoke = {"DELETE", "/v2/keys/k{n}", NOTHING, NO_BODY, NULL, NULL};
    int last = p->number;
    for (; p->number > last - 25 && p->number > 0; p->number--)
        ask_kept(p, &revoke);
    p->number = last;
}

/* What must not be left behind: thousands of models and versions make views long. */
static void tidy(struct probe *p, const struct row *row)
{
    struct client *c = p->d->client;
    char rest[64], name[16];
    snprintf(rest, sizeof rest, "/versions/%d", p->version);
    if (row->prepare == A_VERSION)
        remote_call(c, "DELETE", "m", rest, NULL);
    if (strstr(row->path, "repository/models"))
        repository(p, "load", 0);
    if (strstr(row->path, "det/evaluations"))
        evaluations_end(c);
    if (p->key && p->number % 20 == 0)
        keys_end(p);
    for (const char *kind = "nc"; *kind; kind++) {
        snprintf(name, sizeof name, "%c%d", *kind, p->number);
        if (strstr(row->path, "/n{n}") || (row->text && strstr(row->text, "c{n}")))
            remote_call(c, "DELETE", name, "", NULL);
    }
    client_forget(c);
}

/* ---- what is there --------------------------------------------------------------------------- */

/* All that a change could change, as text; the caller frees it. */
static char *view(struct probe *p)
{
    static const char *const fields[] = {"step",         "revision", "draw", "gradients_pending",
                                         "state_sha256", "optimizer"};
    static const char *const lists[] = {"/v2/models/m/versions", "/v2/models/m/aliases?limit=0"};
    struct client *c = p->d->client;
    struct text t = {0};
    struct answer *a = p->key ? ask_kept(p, &key_rows[0]) : remote_get(c, "m", "?state_sha256=1");
    if (p->key) {
        answer_expect(a, 200);
        text_add(&t, "%s", a->body);
        return t.data;
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char *value = json_dumps(answer_find(a, fields[i]), JSON_ENCODE_ANY);
        text_add(&t, "%s ", value ? value : "");
        free(value);
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        text_add(&t, "\n%s", client_get(c, lists[i])->body);
    a = client_get(c, "/v2/models");
    for (size_t i = 0; i < json_array_size(answer_find(a, "models")); i++)
        text_add(&t, "\n%s",
                 json_string_value(
                     json_object_get(json_array_get(answer_find(a, "models"), i), "name")));
    return t.data;
}

/* ---- one request with one fault -------------------------------------------------------------- */

static void complain(struct probe *p, const struct row *row, const struct faults *how,
                     const char *what, const char *more)
{
    if (p->failures++ < 20)
        print_error("%s %s, kind %d action %d at call %lld: %s %.600s\n", row->method, row->path,
                    how->kinds, how->action, (long long)how->skip, what, more);
}

static void judge_error(struct probe *p, const struct row *row, const struct faults *how,
                        struct answer *a, const char *before)
{
    char *after = view(p);
    json_t *json = json_loads(a->body, 0, NULL);
    if (a->status != 500 && a->status != 503 && a->status != 507)
        complain(p, row, how, "a fault was answered with", a->body);
    if (a->status >= 400 && !json_string_value(json_object_get(json, "error")))
        complain(p, row, how, "no sentence:", a->body);
    bool lost = strstr(a->body, "\"answer_lost\"") != NULL;
    p->lost += lost;
    if (!lost && strcmp(before, after) != 0) {
        complain(p, row, how, "changed, but answered", a->body);
        if (p->failures < 4)
            print_error("before: %.900s\nafter: %.900s\n", before, after);
    }
    json_decref(json);
    free(after);
    p->refused++;
}

static void revive_if_dead(struct probe *p, const struct row *row, const struct faults *how)
{
    int status;
    if (waitpid(p->d->pid, &status, WNOHANG) != p->d->pid)
        return;
    p->d->pid = 0;
    complain(p, row, how, "the daemon ended", "");
    faults_start(p->d, p->d->flags, NULL);
}

/* Whether the fault came about. */
static bool try_once(struct probe *p, const struct row *row, const struct faults *how)
{
    prepare(p, row);
    char *before = view(p);
    client_forget(p->d->client);
    faults_arm(p->faults, how);
    struct answer *a = ask(p, row);
    faults_disarm(p->faults);
    bool struck = p->faults->struck > 0;
    p->asked++;
    if (!a) {
        p->dropped++;
        revive_if_dead(p, row, how);
    } else if (a->status >= 300) {
        judge_error(p, row, how, a, before);
    }
    free(before);
    tidy(p, row);
    return struck;
}

/* Whatever was struck may have left work that is tried again in the background. */
static void works_again(struct probe *p, const struct row *row)
{
    static const struct faults none = {.kinds = 0};
    prepare(p, row);
    struct answer *a = ask(p, row);
    if (!a || a->status >= 300)
        complain(p, row, &none, "still fails without a fault:", a ? a->body : "");
    tidy(p, row);
}

static void kept_after_a_kill(struct probe *p, const char *what)
{
    char *before = view(p);
    daemon_kill(p->d);
    faults_start(p->d, p->d->flags, NULL);
    char *after = view(p);
    size_t same = 0;
    while (before[same] && before[same] == after[same])
        same++;
    if (strcmp(before, after) != 0)
        fail_msg("%s: after a kill the state has changed from byte %zu on: %.200s\nit was: %.200s",
                 what, same, after + same, before + same);
    free(before);
    free(after);
}

/* Requests of which the short form tries every call too, for what they have shown: jansson's
 * reading, texts of the store, keys. The ends of their paths. */
static bool tried_whole(const struct row *row)
{
    static const char *const ends[] = {"/restore", "/load", "/m/versions", "/keys"};
    size_t length = strlen(row->path);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (length > strlen(ends[i]) && !strcmp(row->path + length - strlen(ends[i]), ends[i]))
            return true;
    return false;
}

static void every_call(struct probe *p, struct faults how, int stride)
{
    const char *route = getenv("ROUTE");
    for (const struct row *row = p->rows; row->method; row++) {
        bool more = !route || strstr(row->path, route);
        for (how.skip = 0; more && how.skip < MAX_CALLS; how.skip += tried_whole(row) ? 1 : stride)
            more = try_once(p, row, &how);
        works_again(p, row);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static bool is_long(void)
{
    return getenv("FAULTS_LONG") != NULL;
}

static struct probe probe_begin(struct daemon *d)
{
    struct probe p = {.d = d, .rows = model_rows};
    if (!faults_possible())
        skip();
    daemon_stop(d);
    p.faults = faults_create(d);
    faults_start(d, d->flags, NULL);
    remote_create(d->client, "m", remote_mlp);
    for (unsigned i = 0; i < 3; i++) {
        remote_step(d->client, "m", i, 4);
        answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
    }
    struct answer *a = remote_get(d->client, "m", "/weights");
    p.file = malloc(a->size);
    p.file_size = a->size;
    memcpy(p.file, a->body, a->size);
    set_alias(&p, 1);
    return p;
}

static void probe_end(struct probe *p)
{
    kept_after_a_kill(p, "at the end");
    print_message("%d requests, %d refused, %d of them after the change, %d without an answer\n",
                  p->asked, p->refused, p->lost, p->dropped);
    faults_destroy(&p->faults);
    free(p->file);
    assert_int_equal(p->failures, 0);
}

enum { DISK = PLACE_REDO | PLACE_WAL | PLACE_DATABASE };

/* With each durability in turn, or (in the long form) with both. */
static void fail_disk(struct probe *p, int places)
{
    static const struct faults kinds[] = {
        {.kinds = FAULT_WRITE, .error = ENOSPC, .strikes = INT32_MAX},
        {.kinds = FAULT_WRITE, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE, .action = STRIKE_SHORT, .error = ENOSPC, .strikes = 1},
        {.kinds = FAULT_SYNC, .error = EIO, .strikes = 1},
        {.kinds = FAULT_SYNC | FAULT_TRUNCATE | FAULT_UNLINK, .error = EIO, .strikes = INT32_MAX},
        {.kinds = FAULT_READ, .error = EIO, .strikes = 1},
    };
    struct client **c = &p->d->client;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int power = is_long() ? 0 : k % 2; power < (is_long() ? 2 : (int)k % 2 + 1); power++) {
            struct faults how = kinds[k];
            how.places = places;
            remote_call(*c, "PATCH", "m", "",
                        power ? "{\"durability\":\"power\"}" : "{\"durability\":\"process\"}");
            every_call(p, how, 1);
            kept_after_a_kill(p, "after faults of the disk");
        }
}

static void fail_memory(struct probe *p)
{
    struct faults how = {.kinds = FAULT_ALLOCATE, .places = PLACE_MEMORY, .strikes = 1};
    every_call(p, how, is_long() ? 1 : SHORT_STRIDE);
    kept_after_a_kill(p, "after failed allocations");
    how.strikes = INT32_MAX; /* all that follow too */
    every_call(p, how, is_long() ? 1 : 5 * SHORT_STRIDE);
}

static void a_disk_that_fails(struct daemon *d)
{
    struct probe p = probe_begin(d);
    fail_disk(&p, DISK);
    probe_end(&p);
}

static void no_memory(struct daemon *d)
{
    struct probe p = probe_begin(d);
    fail_memory(&p);
    probe_end(&p);
}

static struct probe others_begin(struct daemon *d)
{
    struct probe p = probe_begin(d);
    p.rows = other_rows;
    remote_create(d->client, "pic",
                  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[-1,3,4,4]}],"
                  "\"preprocess\":{},\"augment\":[\"hflip\"],\"layers\":[{\"op\":\"flatten\"},"
                  "{\"op\":\"linear\",\"out_features\":2}],\"loss\":{\"op\":\"cross_entropy\"}}");
    remote_create(d->client, "det",
                  "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":2,\"image_size\":64,"
                  "\"channels\":1},\"preprocess\":{\"color\":\"gray\"}}");
    return p;
}

static void others_on_a_disk_that_fails(struct daemon *d)
{
    struct probe p = others_begin(d);
    fail_disk(&p, DISK);
    probe_end(&p);
}

static void others_without_memory(struct daemon *d)
{
    struct probe p = others_begin(d);
    fail_memory(&p);
    probe_end(&p);
}

/* Keys are in a file of their own. */
static void keys_with_faults(struct daemon *d)
{
    struct probe p = probe_begin(d);
    char header[128];
    struct outcome o;
    daemon_command(
        d, &o,
        (const char *const[]){"keys", "add", "--name", "root", "--role", "admin", d->data, NULL});
    assert_int_equal(o.status, 0);
    snprintf(header, sizeof header, "Authorization: Bearer %.*s", (int)strcspn(o.out, "\n"), o.out);
    kill(d->pid, SIGHUP);
    while (client_get(d->client, "/v2")->status != 401)
        client_forget(d->client);
    p.rows = key_rows;
    p.key = header;
    fail_disk(&p, DISK | PLACE_OTHER);
    fail_memory(&p);
    probe_end(&p);
}

/* At start, with steps to replay: it starts or says why it does not, and starts when the fault is
 * gone. */
static void starts_with_faults(struct daemon *d)
{
    struct probe p = probe_begin(d);
    struct faults kinds[] = {
        {.kinds = FAULT_ALLOCATE, .places = PLACE_MEMORY, .strikes = 1},
        {.kinds = FAULT_READ, .places = DISK, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE | FAULT_SYNC, .places = DISK, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE, .places = DISK, .error = ENOSPC, .strikes = INT32_MAX},
    };
    char *before = view(&p);
    int refused = 0, started = 0;
    daemon_kill(d);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        int64_t stride = kinds[k].kinds != FAULT_ALLOCATE ? 1 : is_long() ? 1 : 61;
        do {
            faults_arm_start(p.faults, &kinds[k]);
            int status = faults_try(d, d->flags);
            if (status > 1)
                fail_msg("with call %lld of kind %d failing the daemon ended with %d",
                         (long long)kinds[k].skip, kinds[k].kinds, status);
            refused += status == 1;
            started += status < 0;
            if (status < 0)
                daemon_kill(d);
            kinds[k].skip += stride;
        } while (p.faults->struck);
    }
    print_message("%d starts, %d refused\n", started + refused, refused);
    faults_disarm(p.faults);
    faults_start(d, d->flags, NULL);
    char *after = view(&p);
    assert_string_equal(before, after);
    free(before);
    free(after);
    probe_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(a_disk_that_fails, "--log-level", "error"),
        DAEMON_TEST(no_memory, "--log-level", "error"),
        DAEMON_TEST(others_on_a_disk_that_fails, "--log-level", "error"),
        DAEMON_TEST(others_without_memory, "--log-level", "error"),
        DAEMON_TEST(keys_with_faults, "--log-level", "error"),
        DAEMON_TEST(starts_with_faults, "--log-level", "error"),
    };
    cmocka_set_test_filter(getenv("ONLY") ? getenv("ONLY") : "*");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
