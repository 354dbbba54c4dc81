/* faults_requests.h: the requests of test_faults.c, one row for each, and what there must be before
 * them. */
#ifndef FAULTS_REQUESTS_H
#define FAULTS_REQUESTS_H

#include "../support/client_private.h"
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

#endif
