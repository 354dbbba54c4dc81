/* test_weights.c: weights as safetensors, out and in: files of PyTorch predict the same here, a
 * model's own file gives the same model back, and what is refused changes nothing. */
#define _GNU_SOURCE
#include "../support/remote.h"

#include "../../server/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "tests/data/weights/"

static struct answer *put_bytes(struct client *c, const char *name, const char *query,
                                const void *bytes, size_t size)
{
    char path[200];
    snprintf(path, sizeof path, "/v2/models/%s/weights%s", name, query);
    struct call call = {.method = "PUT",
                        .path = path,
                        .body = bytes,
                        .size = size,
                        .content_type = "application/octet-stream"};
    return client_send(c, &call);
}

static struct answer *put_file(struct client *c, const char *name, const char *query,
                               const char *path)
{
    char bytes[16384];
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in);
    assert_true(feof(in));
    fclose(in);
    return put_bytes(c, name, query, bytes, size);
}

/* One tensor of a file that is put together by hand. */
static struct answer *put_header(struct client *c, const char *name, const char *query,
                                 const char *header, const void *data, size_t size)
{
    unsigned char bytes[4096] = {(unsigned char)strlen(header),
                                 (unsigned char)(strlen(header) >> 8)};
    size_t n = strlen(header);
    assert_true(8 + n + size <= sizeof bytes);
    memcpy(bytes + 8, header, n);
    memcpy(bytes + 8 + n, data, size);
    return put_bytes(c, name, query, bytes, 8 + n + size);
}

static const struct safetensor *tensor_find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->tensors[i].name, name))
            return &s->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static struct safetensors answer_tensors(struct answer *a, struct arena *arena)
{
    struct safetensors s;
    struct error e;
    answer_expect(a, 200);
    assert_string_equal(answer_header(a, "Content-Type"), "application/octet-stream");
    if (safetensors_read(&s, arena, a->body, a->size, &e))
        fail_msg("%s", e.text);
    return s;
}

/* ---- PyTorch --------------------------------------------------------------------------------- */

static char *numbers_text(json_t *list, const char *before, const char *after)
{
    struct text t = {0};
    size_t i;
    json_t *x;
    text_add(&t, "%s", before);
    json_array_foreach(list, i, x) text_add(&t, "%s%.9g", i ? "," : "", json_number_value(x));
    text_add(&t, "%s", after);
    return t.data;
}

static void pytorch_predicts_the_same(struct daemon *d)
{
    struct client *c = d->client;
    json_t *golden = json_load_file(FOLDER "cases.json", 0, NULL), *row;
    char *description = json_dumps(json_object_get(golden, "description"), 0);
    char *question = numbers_text(json_object_get(golden, "input"),
                                  "{\"inputs\":[{\"shape\":[3,2,8,8],\"data\":[", "]}]}");
    size_t i;
    json_array_foreach(json_object_get(golden, "cases"), i, row)
    {
        char name[32], path[128];
        double output[15];
        json_t *expected = json_object_get(row, "output");
        snprintf(name, sizeof name, "m%zu", i);
        snprintf(path, sizeof path, FOLDER "%s", json_string_value(json_object_get(row, "file")));
        remote_create(c, name, description);
        struct answer *a = put_file(c, name, "", path);
        answer_expect(a, 200);
        assert_true(answer_number(a, "loaded") ==
                    (double)json_integer_value(json_object_get(row, "tensors")));
        assert_string_equal(answer_string(a, "stripped_prefix"),
                            json_string_value(json_object_get(row, "prefix")));
        a = remote_post(c, name, "infer", question);
        assert_int_equal(remote_numbers(a, "outputs.0.data", output, 15), 15);
        for (size_t k = 0; k < 15; k++)
            if (!(fabs(output[k] - json_number_value(json_array_get(expected, k))) < 2e-5))
                fail_msg("%s: output %zu is %.9g", path, k, output[k]);
    }
    free(question);
    free(description);
    json_decref(golden);
}

/* What PyTorch wrote comes back, to the byte and in its order; only the metadata differ. */
static void pytorch_file_comes_back(struct daemon *d)
{
    struct client *c = d->client;
    json_t *golden = json_load_file(FOLDER "cases.json", 0, NULL);
    char *description = json_dumps(json_object_get(golden, "description"), 0);
    struct arena *arena = arena_create(4096);
    struct safetensors ours, theirs;
    struct error e;
    static char bytes[16384];
    remote_create(c, "m", description);
    answer_expect(put_file(c, "m", "", FOLDER "f32.safetensors"), 200);
    struct answer *a = client_get(c, "/v2/models/m/weights");
    ours = answer_tensors(a, arena);
    FILE *in = fopen(FOLDER "f32.safetensors", "rb");
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_int_equal(safetensors_read(&theirs, arena, bytes, size, &e), 0);
    assert_int_equal(ours.n, theirs.n);
    for (size_t i = 0; i < ours.n; i++) {
        assert_string_equal(ours.tensors[i].name, theirs.tensors[i].name);
        assert_string_equal(ours.tensors[i].type->name, theirs.tensors[i].type->name);
        assert_true(shape_equal(&ours.tensors[i].shape, &theirs.tensors[i].shape));
        assert_int_equal(ours.tensors[i].size, theirs.tensors[i].size);
        assert_memory_equal(ours.tensors[i].data, theirs.tensors[i].data, ours.tensors[i].size);
    }
    const struct safetensor *count = tensor_find(&ours, "bn1.num_batches_tracked");
    assert_int_equal(count->shape.rank, 0);
    assert_int_equal(*(const unsigned char *)count->data, 7);
    assert_non_null(strstr(answer_header(a, "Content-Disposition"), "m.safetensors"));
    assert_non_null(memmem(a->body, a->size, "\"format\":\"pt\"", 13));
    arena_destroy(&arena);
    free(description);
    json_decref(golden);
}

/* ---- a model's own file ---------------------------------------------------------------------- */

static void version_and_live(struct daemon *d)
{
    struct client *c = d->client;
    double then[6], now[6];
    const char *question = remote_inputs(c, 3, 2, 36, NULL);
    remote_create(c, "m", remote_cnn);
    remote_step(c, "m", 1, 36);
    remote_numbers(remote_post(c, "m", "infer", question), "outputs.0.data", then, 6);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    struct answer *live = remote_get(c, "m", "/weights");
    remote_step(c, "m", 2, 36);
    struct answer *old = remote_get(c, "m", "/versions/1/weights");
    assert_int_equal(live->size, old->size);
    assert_memory_equal(live->body, old->body, old->size);
    assert_memory_not_equal(old->body, remote_get(c, "m", "/weights")->body, old->size);
    /* Into another model: no state but the weights. */
    remote_create(c, "n", remote_cnn);
    answer_expect(put_bytes(c, "n", "", old->body, old->size), 200);
    remote_numbers(remote_post(c, "n", "infer", question), "outputs.0.data", now, 6);
    assert_memory_equal(then, now, sizeof then);
    assert_true(remote_number(c, "n", "step") == 0 && remote_number(c, "n", "revision") == 1);
    answer_refused(remote_call(c, "GET", "m", "/versions/2/weights", NULL), 404, "unknown_version",
                   "2");
    struct answer *head = remote_call(c, "HEAD", "m", "/weights", NULL);
    answer_expect(head, 200);
    assert_int_equal(atoi(answer_header(head, "Content-Length")), old->size);
}

/* More than one block of the body, and a connection that goes on after it. */
static void large(struct daemon *d)
{
    struct client *c = d->client;
    struct arena *arena = arena_create(4096);
    remote_create(c, "m",
                  "{\"inputs\":[{\"shape\":[-1,300]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":700},{\"op\":\"relu\"},{\"op\":\"linear\",\"out_features\":"
                  "500}],\"loss\":\"mse\"}");
    struct remote_hash before = remote_hash(c, "m");
    struct answer *a = remote_get(c, "m", "/weights");
    struct safetensors s = answer_tensors(a, arena);
    assert_int_equal(s.n, 4);
    assert_true(a->size > 4 * (300 * 700 + 700 + 700 * 500 + 500));
    answer_expect(put_bytes(c, "m", "", a->body, a->size), 200);
    assert_same_state(remote_hash(c, "m"), before);
    a = remote_get(c, "m", "/ready");
    assert_int_equal(a->connects, 0);
    arena_destroy(&arena);
}

/* ---- a change like any other ----------------------------------------------------------------- */

/* Own weights into oneself: with the optimiser's state training goes on as it would have. */
static void optimizer_state(struct daemon *d)
{
    struct client *c = d->client;
    double loss[2];
    remote_create(c, "m", remote_mlp);
    for (unsigned k = 0; k < 3; k++)
        remote_step(c, "m", k, 4);
    answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    struct remote_hash saved = remote_hash(c, "m");
    struct answer *file = remote_get(c, "m", "/weights");
    answer_expect(put_bytes(c, "m", "", file->body, file->size), 200);
    assert_same_state(remote_hash(c, "m"), saved);
    assert_true(remote_number(c, "m", "revision") == 4 && remote_number(c, "m", "step") == 3);
    remote_step(c, "m", 5, 4);
    loss[0] = answer_number(remote_step(c, "m", 6, 4), "loss");
    answer_expect(put_bytes(c, "m", "?reset_optimizer=1", file->body, file->size), 200);
    assert_other_state(remote_hash(c, "m"), saved);
    remote_step(c, "m", 5, 4);
    loss[1] = answer_number(remote_step(c, "m", 6, 4), "loss");
    assert_true(loss[0] != loss[1]);
}

static void survives_kill(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    struct answer *file = remote_get(c, "m", "/weights");
    remote_step(c, "m", 1, 36);
    answer_expect(put_bytes(c, "m", "", file->body, file->size), 200);
    struct remote_hash loaded = remote_hash(c, "m");
    daemon_kill(d);
    daemon_start(d, d->flags);
    c = d->client;
    assert_same_state(remote_hash(c, "m"), loaded);
    assert_true(remote_number(c, "m", "revision") == 2);
    remote_step(c, "m", 2, 36);
    struct remote_hash stepped = remote_hash(c, "m");
    daemon_kill(d);
    daemon_start(d, d->flags);
    c = d->client;
    assert_same_state(remote_hash(c, "m"), stepped);
}

static void pending_gradients(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_cnn);
    struct answer *file = remote_get(c, "m", "/weights");
    remote_post(c, "m", "forward_backward", remote_batch(c, 2, 8, 36, NULL));
    struct remote_hash pending = remote_hash(c, "m");
    answer_refused(put_bytes(c, "m", "", file->body, file->size), 409, "conflict", "pending");
    assert_same_state(remote_hash(c, "m"), pending);
    remote_post(c, "m", "zero_grad", NULL);
    answer_expect(put_bytes(c, "m", "", file->body, file->size), 200);
    struct answer *again = remote_get(c, "m", "/weights");
    assert_int_equal(again->size, file->size);
    /* All but the header, which names the revision. */
    assert_memory_equal(again->body + again->size - 200, file->body + file->size - 200, 200);
}

/* ---- parts and refusals ---------------------------------------------------------------------- */

static void parts(struct daemon *d)
{
    struct client *c = d->client;
    const float one[3] = {1, 2, 3};
    remote_create(c, "m", remote_mlp);
    static const char part[] =
        "{\"out.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}";
    static const char more[] =
        "{\"module.out.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
        "\"module.head.weight\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[12,12]},"
        "\"module.bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[0],"
        "\"data_offsets\":[12,12]}}";
    answer_refused(put_header(c, "m", "", part, one, 12), 422, "bad_value", "'hidden.weight'");
    answer_refused(put_header(c, "m", "", more, one, 12), 422, "bad_value", "'head.weight'");
    struct answer *a = put_header(c, "m", "?strict=false", part, one, 12);
    answer_expect(a, 200);
    assert_true(answer_number(a, "loaded") == 1);
    assert_int_equal(json_array_size(answer_find(a, "missing_keys")), 3);
    assert_int_equal(json_array_size(answer_find(a, "unexpected_keys")), 0);
    struct arena *arena = arena_create(4096);
    struct safetensors s = answer_tensors(remote_get(c, "m", "/weights"), arena);
    assert_memory_equal(tensor_find(&s, "out.bias")->data, one, sizeof one);
    arena_destroy(&arena);
    a = put_header(c, "m", "?strict=0", more, one, 12);
    answer_expect(a, 200);
    assert_string_equal(answer_string(a, "stripped_prefix"), "module.");
    assert_int_equal(json_array_size(answer_find(a, "unexpected_keys")), 1);
    assert_string_equal(answer_string(a, "unexpected_keys.0"), "head.weight");
}

/* A count that would be rounded is refused, up to there it comes back exactly. */
static void large_counts(struct daemon *d)
{
    static const char header[] =
        "{\"bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}";
    static const int64_t refused[] = {-1, 1 << 24, (1 << 24) + 1, INT64_C(1) << 40},
                         most = (1 << 24) - 1;
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"shape\":[-1,3]}],\"layers\":[{\"name\":\"bn\","
                  "\"op\":\"batch_norm1d\",\"momentum\":null}]}");
    struct remote_hash before = remote_hash(c, "m");
    for (int i = 0; i < 4; i++)
        answer_refused(put_header(c, "m", "?strict=false", header, &refused[i], 8), 422,
                       "bad_value", "'bn.num_batches_tracked' is ");
    assert_same_state(remote_hash(c, "m"), before);
    answer_expect(put_header(c, "m", "?strict=false", header, &most, 8), 200);
    struct arena *arena = arena_create(4096);
    struct safetensors s = answer_tensors(remote_get(c, "m", "/weights"), arena);
    assert_memory_equal(tensor_find(&s, "bn.num_batches_tracked")->data, &most, sizeof most);
    arena_destroy(&arena);
}

static void refusals(struct daemon *d)
{
    struct client *c = d->client;
    const float nan3[3] = {0, NAN, 0};
    const double large3[3] = {1, 2, 1e300};
    static const struct {
        const char *header;
        size_t size;
        int status;
        const char *code, *part;
    } rows[] = {
        {"{\"out.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", 12, 422,
         "not_finite", "'out.bias': element 1"},
        {"{\"out.bias\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[0,12]}}", 12, 422,
         "bad_shape", "[1, 3], expected [3]"},
        {"{\"out.bias\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[0,12]}}", 12, 422,
         "bad_datatype", "I32"},
        {"{\"out.bias\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, 422,
         "bad_datatype", "F8_E4M3"},
        {"{\"out.bia\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", 12, 422,
         "bad_value", "no tensor of the file"},
        {"{\"out.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", 8, 400,
         "bad_safetensors", "cut off"},
        {"{\"out.bias\":[]}", 0, 400, "bad_safetensors", "out.bias"},
    };
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    struct remote_hash before = remote_hash(c, "m");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(put_header(c, "m", "?strict=false", rows[i].header, nan3, rows[i].size),
                       rows[i].status, rows[i].code, rows[i].part);
    answer_refused(put_header(c, "m", "?strict=false",
                              "{\"out.bias\":{\"dtype\":\"F64\",\"shape\":[3],"
                              "\"data_offsets\":[0,24]}}",
                              large3, 24),
                   422, "not_finite", "element 2");
    answer_refused(put_bytes(c, "m", "", "", 0), 400, "bad_safetensors", "0 bytes");
    answer_refused(put_bytes(c, "m", "?strict=maybe", "x", 1), 400, "bad_query", "strict");
    answer_refused(put_bytes(c, "m", "?part=1", "x", 1), 400, "bad_query", "part");
    answer_refused(put_bytes(c, "none", "", "x", 1), 404, "unknown_model", "none");
    assert_same_state(remote_hash(c, "m"), before);
    assert_true(remote_number(c, "m", "revision") == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(pytorch_predicts_the_same),
        DAEMON_TEST(pytorch_file_comes_back),
        DAEMON_TEST(version_and_live),
        DAEMON_TEST(large),
        DAEMON_TEST(optimizer_state),
        DAEMON_TEST(survives_kill),
        DAEMON_TEST(pending_gradients),
        DAEMON_TEST(parts),
        DAEMON_TEST(large_counts),
        DAEMON_TEST(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
