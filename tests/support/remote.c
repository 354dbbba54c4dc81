/* remote.c: models on a daemon, for tests: creating, asking, hashing, and batches for them. */
#include "remote.h"

#include "client_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char remote_scalar[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,1]}],"
    "\"layers\":[{\"name\":\"w\",\"op\":\"linear\",\"out_features\":1,\"bias\":false}],"
    "\"loss\":\"mse\",\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1},\"seed\":3}";

const char remote_mlp[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,4]}],"
    "\"layers\":[{\"name\":\"hidden\",\"op\":\"linear\",\"out_features\":8},{\"op\":\"tanh\"},"
    "{\"name\":\"out\",\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":{\"op\":\"cross_entropy\"},"
    "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.1,\"momentum\":0.9},\"seed\":42}";

const char remote_cnn[] =
    "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[-1,1,6,6]}],"
    "\"layers\":[{\"name\":\"conv\",\"op\":\"conv2d\",\"out_channels\":4,\"kernel_size\":3,"
    "\"padding\":1},{\"name\":\"bn\",\"op\":\"batch_norm2d\"},{\"op\":\"relu\"},"
    "{\"op\":\"max_pool2d\",\"kernel_size\":2},{\"op\":\"flatten\"},"
    "{\"op\":\"dropout\",\"p\":0.3},{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":{\"op\":\"cross_entropy\",\"label_smoothing\":0.1},"
    "\"optimizer\":{\"op\":\"adamw\",\"lr\":0.01},\"seed\":7}";

/* ---- text ------------------------------------------------------------------------------------ */

void text_add(struct text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    assert_true(n >= 0);
    if (t->size + (size_t)n >= t->capacity) {
        t->capacity = 2 * (t->size + (size_t)n) + 64;
        t->data = realloc(t->data, t->capacity);
        assert_non_null(t->data);
    }
    vsnprintf(t->data + t->size, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    t->size += (size_t)n;
}

void text_free(struct text *t)
{
    free(t->data);
    *t = (struct text){0};
}

/* ---- models ---------------------------------------------------------------------------------- */

struct answer *remote_call(struct client *c, const char *method, const char *name, const char *rest,
                           const char *json)
{
    char path[1024];
    snprintf(path, sizeof path, "/v2/models/%s%s", name, rest);
    return client_json(c, method, path, json);
}

struct answer *remote_create(struct client *c, const char *name, const char *description)
{
    struct answer *a = remote_call(c, "PUT", name, "", description);
    answer_expect(a, 201);
    return a;
}

struct answer *remote_post(struct client *c, const char *name, const char *verb, const char *json)
{
    char rest[256];
    snprintf(rest, sizeof rest, "/%s", verb);
    struct answer *a = remote_call(c, "POST", name, rest, json);
    answer_expect(a, 200);
    return a;
}

struct answer *remote_get(struct client *c, const char *name, const char *rest)
{
    struct answer *a = remote_call(c, "GET", name, rest, NULL);
    answer_expect(a, 200);
    return a;
}

double remote_number(struct client *c, const char *name, const char *path)
{
    return answer_number(remote_get(c, name, ""), path);
}

struct remote_hash remote_hash(struct client *c, const char *name)
{
    struct remote_hash h;
    const char *text = answer_string(remote_get(c, name, "?state_sha256=1"), "state_sha256");
    assert_int_equal(strlen(text), 64);
    snprintf(h.text, sizeof h.text, "%s", text);
    return h;
}

/* ---- batches --------------------------------------------------------------------------------- */

static unsigned next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Numbers in [-2, 2) with few digits, so that they are the same as text and as float. */
static void add_samples(struct text *t, unsigned seed, int begin, int end, int pixels)
{
    const char *shape = pixels == 36 ? "1,6,6" : pixels == 1 ? "1" : "4";
    text_add(t, "\"inputs\":[{\"name\":\"%s\",\"datatype\":\"FP32\",\"shape\":[%d,%s],\"data\":[",
             pixels == 36 ? "image" : "x", end - begin, shape);
    unsigned state = seed * 2654435761u + 1;
    for (int i = 0; i < end * pixels; i++) {
        double x = (double)(next_random(&state) % 256) / 64 - 2;
        if (i >= begin * pixels)
            text_add(t, "%s%g", i > begin * pixels ? "," : "", x);
    }
    text_add(t, "]}]");
}

static void add_targets(struct text *t, unsigned seed, int begin, int end)
{
    text_add(t,
             ",\"targets\":[{\"name\":\"target\",\"datatype\":\"INT64\",\"shape\":[%d],\"data\":[",
             end - begin);
    unsigned state = seed + 12345;
    for (int i = 0; i < end; i++) {
        unsigned class = next_random(&state) % 3;
        if (i >= begin)
            text_add(t, "%s%u", i > begin ? "," : "", class);
    }
    text_add(t, "]}]");
}

static const char *finish(struct client *c, struct text *t, const char *more)
{
    if (more)
        text_add(t, ",%s", more);
    text_add(t, "}");
    struct answer *keeper = client_answer(c);
    free(keeper->body);
    return keeper->body = t->data;
}

const char *remote_batch(struct client *c, unsigned seed, int n, int pixels, const char *more)
{
    struct text t = {0};
    text_add(&t, "{");
    add_samples(&t, seed, 0, n, pixels);
    add_targets(&t, seed, 0, n);
    return finish(c, &t, more);
}

const char *remote_batch_part(struct client *c, unsigned seed, int begin, int end, int pixels)
{
    struct text t = {0};
    text_add(&t, "{");
    add_samples(&t, seed, begin, end, pixels);
    add_targets(&t, seed, begin, end);
    return finish(c, &t, NULL);
}

const char *remote_inputs(struct client *c, unsigned seed, int n, int pixels, const char *more)
{
    struct text t = {0};
    text_add(&t, "{");
    add_samples(&t, seed, 0, n, pixels);
    return finish(c, &t, more);
}

struct answer *remote_step(struct client *c, const char *name, unsigned seed, int pixels)
{
    return remote_post(c, name, "train_step", remote_batch(c, seed, 8, pixels, NULL));
}

int remote_numbers(struct answer *a, const char *path, double *numbers, int max)
{
    json_t *list = answer_find(a, path), *item;
    size_t i;
    assert_true(json_is_array(list));
    assert_true(json_array_size(list) <= (size_t)max);
    json_array_foreach(list, i, item) numbers[i] = json_number_value(item);
    return (int)json_array_size(list);
}

double remote_sample(struct client *c, const char *name)
{
    struct answer *a = client_get(c, "/metrics");
    size_t n = strlen(name);
    answer_expect(a, 200);
    for (const char *at = a->body; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (!strncmp(at, name, n) && at[n] == ' ')
            return strtod(at + n, NULL);
    }
    return -1;
}

void remote_expect_sample(struct client *c, const char *name, double value)
{
    double found = remote_sample(c, name);
    for (int i = 0; i < 200 && found != value; i++) {
        sleep_ms(10);
        found = remote_sample(c, name);
    }
    if (found != value)
        fail_msg("%s is %g, expected %g", name, found, value);
}

char *remote_rows(int n, int width)
{
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"shape\":[%d,%d],\"datatype\":\"FP32\",\"data\":[", n, width);
    for (int i = 0; i < n * width; i++)
        text_add(&t, "%s%d", i ? "," : "", i * 7 % 10);
    text_add(&t, "]}],\"targets\":[");
    for (int i = 0; i < n; i++)
        text_add(&t, "%s%d", i ? "," : "", i & 1);
    text_add(&t, "]}");
    return t.data;
}
