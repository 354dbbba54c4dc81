/* test_encoding.c: compressed bodies, both ways: the same answers as without, damaged ones refused,
 * and no more memory than --max-body however well they were compressed. */
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { GZIP = 16 + MAX_WBITS, ZLIB = MAX_WBITS, RAW = -MAX_WBITS };

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes pack(const void *text, size_t size, int bits)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)text, .avail_in = (unsigned)size};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&z, size);
    struct bytes b = {malloc(room), 0};
    z.next_out = b.data;
    z.avail_out = (unsigned)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    b.size = z.total_out;
    deflateEnd(&z);
    return b;
}

static struct bytes unpack(const char *data, size_t size, int bits)
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)size};
    struct bytes b = {calloc(1, 1 << 20), 0};
    assert_int_equal(inflateInit2(&z, bits), Z_OK);
    z.next_out = b.data;
    z.avail_out = (1 << 20) - 1;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    b.size = z.total_out;
    inflateEnd(&z);
    return b;
}

static struct answer *send_packed(struct client *c, const char *path, const void *data, size_t size,
                                  const char *encoding)
{
    char header[64];
    snprintf(header, sizeof header, "Content-Encoding: %s", encoding);
    const char *const headers[] = {header, NULL};
    struct call call = {"POST", path, data, size, NULL, headers};
    return client_send(c, &call);
}

/* ---- in -------------------------------------------------------------------------------------- */

static void requests(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        int bits;
        const char *name;
    } rows[] = {{GZIP, "gzip"}, {GZIP, "X-GZip"}, {ZLIB, "deflate"}, {RAW, "deflate"}};
    const char *question = remote_inputs(c, 3, 500, 36, NULL);
    remote_create(c, "m", remote_cnn);
    struct answer *plain = remote_post(c, "m", "infer", question);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bytes b = pack(question, strlen(question), rows[i].bits);
        struct answer *a = send_packed(c, "/v2/models/m/infer", b.data, b.size, rows[i].name);
        answer_expect(a, 200);
        assert_int_equal(a->size, plain->size);
        assert_memory_equal(a->body, plain->body, a->size);
        free(b.data);
    }
    struct answer *a = send_packed(c, "/v2/models/m/infer", question, strlen(question), "identity");
    answer_expect(a, 200);
}

/* Two files behind each other are one body; so is binary data behind JSON. */
static void joined(struct daemon *d)
{
    struct client *c = d->client;
    static const char json[] = "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,4],\"datatype\":\"FP32\","
                               "\"parameters\":{\"binary_data_size\":16}}]}";
    const float x[4] = {1, 2, 3, 4};
    char header[96];
    remote_create(c, "m", remote_mlp);
    struct bytes head = pack(json, sizeof json - 1, GZIP), tail = pack(x, sizeof x, GZIP);
    unsigned char *both = malloc(head.size + tail.size);
    memcpy(both, head.data, head.size);
    memcpy(both + head.size, tail.data, tail.size);
    snprintf(header, sizeof header, "Inference-Header-Content-Length: %zu", sizeof json - 1);
    const char *const headers[] = {"Content-Encoding: gzip", header, NULL};
    struct call call = {
        "POST", "/v2/models/m/infer", both, head.size + tail.size, "application/octet-stream",
        headers};
    struct answer *a = client_send(c, &call);
    answer_expect(a, 200);
    struct answer *b = remote_post(c, "m", "infer", "{\"inputs\":[[1,2,3,4]]}");
    assert_string_equal(a->body, b->body);
    free(head.data), free(tail.data), free(both);
}

static void damaged(struct daemon *d)
{
    struct client *c = d->client;
    const char *question = remote_batch(c, 1, 4, 4, NULL), *path = "/v2/models/m/train_step";
    remote_create(c, "m", remote_mlp);
    struct bytes b = pack(question, strlen(question), GZIP), z = pack(question, 20, ZLIB);
    unsigned char *longer = calloc(1, b.size + 1);
    memcpy(longer, b.data, b.size);
    for (size_t size = 1; size < b.size; size++)
        answer_refused(send_packed(c, path, b.data, size, "gzip"), 400, "bad_encoding", NULL);
    answer_refused(send_packed(c, path, longer, b.size + 1, "gzip"), 400, "bad_encoding", NULL);
    longer[b.size / 2] ^= 1;
    answer_refused(send_packed(c, path, longer, b.size, "gzip"), 400, "bad_encoding", NULL);
    answer_refused(send_packed(c, path, b.data, b.size, "deflate"), 400, "bad_encoding", NULL);
    unsigned char behind[64];
    memcpy(behind, z.data, z.size);
    behind[z.size] = 1;
    answer_refused(send_packed(c, path, behind, z.size + 1, "deflate"), 400, "bad_encoding",
                   "goes on");
    answer_refused(send_packed(c, path, b.data, b.size, "gzip, gzip"), 415,
                   "unsupported_media_type", "gzip, gzip");
    assert_true(remote_number(c, "m", "revision") == 0);
    answer_expect(send_packed(c, path, b.data, b.size, "gzip"), 200);
    free(b.data), free(z.data), free(longer);
}

/* A limit of 100,000 bytes: just that much will do, one more is too much, and so is a bomb. */
static void bombs(struct daemon *d)
{
    struct client *c = d->client;
    enum { LIMIT = 100000, BOMB = 50 << 20 };
    char *text = malloc(BOMB);
    memset(text, ' ', BOMB);
    memcpy(text, "{\"expression\":\"1+1\"}", 20);
    static const struct {
        size_t size;
        int status;
    } rows[] = {{LIMIT - 1, 200}, {LIMIT, 200}, {LIMIT + 1, 413}, {BOMB, 413}};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) {
            struct bytes b = pack(text, rows[i].size, k ? GZIP : RAW);
            assert_true(b.size < LIMIT);
            struct answer *a =
                send_packed(c, "/v2/autograd", b.data, b.size, k ? "gzip" : "deflate");
            if (rows[i].status == 200)
                answer_expect(a, 200);
            else
                answer_refused(a, 413, "body_too_large", "unpacked");
            free(b.data);
        }
    free(text);
}

/* ---- out ------------------------------------------------------------------------------------- */

static struct answer *get(struct client *c, const char *path, const char *accept)
{
    char header[100];
    snprintf(header, sizeof header, "Accept-Encoding: %s", accept);
    const char *const headers[] = {header, NULL};
    return client_send(c, &(struct call){.method = "GET", .path = path, .headers = headers});
}

static void answers(struct daemon *d)
{
    struct client *c = d->client;
    static const struct {
        const char *accept;
        const char *encoding; /* NULL: as it is */
    } rows[] = {{"gzip", "gzip"},
                {"GZIP;q=0.5", "gzip"},
                {"br, gzip , deflate", "gzip"},
                {"gzip;q=0.2, deflate", "deflate"},
                {"deflate", "deflate"},
                {"*", "gzip"},
                {"gzip;q=0", NULL},
                {"gzip; q=0.0, *;q=1", "deflate"},
                {"br;q=1.0, *;q=0", NULL},
                {"identity", NULL},
                {"gzipped", NULL}};
    struct answer *plain = client_get(c, "/v2/operators");
    assert_true(plain->size > 4096);
    assert_string_equal(answer_header(plain, "Vary"), "Accept-Encoding");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct answer *a = get(c, "/v2/operators", rows[i].accept);
        answer_expect(a, 200);
        const char *encoding = answer_header(a, "Content-Encoding");
        if (!encoding != !rows[i].encoding)
            fail_msg("%s: %s", rows[i].accept, encoding ? encoding : "not compressed");
        if (!encoding)
            continue;
        assert_string_equal(encoding, rows[i].encoding);
        assert_true(a->size < plain->size / 2);
        struct bytes b = unpack(a->body, a->size, *encoding == 'g' ? GZIP : ZLIB);
        assert_int_equal(b.size, plain->size);
        assert_memory_equal(b.data, plain->body, b.size);
        free(b.data);
    }
    /* Small ones and those that are no JSON stay as they are. */
    assert_null(answer_header(get(c, "/v2/health/live", "gzip"), "Content-Encoding"));
    assert_null(answer_header(get(c, "/", "gzip"), "Content-Encoding"));
    remote_create(c, "m", remote_mlp);
    assert_null(answer_header(get(c, "/v2/models/m/weights", "gzip"), "Content-Encoding"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(requests), DAEMON_TEST(joined),
        DAEMON_TEST(damaged),  DAEMON_TEST(bombs, "--max-body", "100000"),
        DAEMON_TEST(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
