/* fuzz_tensor.c: requests of tensors, as JSON, with binary parts after it, and raw: through the
 * dispatcher to a handler that reads them all and sends them back. What must hold: the answer is
 * JSON; values that are answered in binary are the ones that were read; binary FP32 and INT64 keep
 * their bits.
 *
 * The first byte of an input says the framing: even: JSON only; odd: the next two bytes are the
 * length of the JSON. */
#include "fuzz.h"

#include "../../server/dispatch.h"
#include "../../server/tensor_reply.h"

enum { MAX_COUNT = 1 << 16 };

/* What was sent as bytes of the same type comes out as the same bytes. */
static void check_bits(const struct tensor *t, const void *out, int64_t count, enum dtype dtype)
{
    if (t->bytes && t->datatype == datatype_of(dtype))
        FUZZ_CHECK(!count || !memcmp(out, t->bytes, (size_t)count * dtype_size(dtype)),
                   "other bits");
}

static int echo_tensor(struct tensor_reply *r, struct tensor *t, struct error *e)
{
    struct arena *a = r->q->arena;
    enum dtype dtype = t->datatype && t->datatype->integer ? DTYPE_INT64 : DTYPE_REAL;
    const struct image_source *sources;
    struct tensor_text what;
    int64_t count, n;
    FUZZ_CHECK(tensor_what(t, &what)[0], "a tensor that cannot be called anything");
    if (t->boxes)
        return 0;
    if (tensor_is_bytes(t))
        return tensor_sources(r->q, t, &sources, &n, e);
    if (tensor_resolve_any(t, dtype, &count, e))
        return -1;
    if (count > MAX_COUNT)
        return 0;
    const void *out;
    if (tensor_take(t, dtype, a, count, &out, e))
        return -1;
    check_bits(t, out, count, dtype);
    struct tensor_out o = {t->name ? t->name : "t", dtype, t->shape, out, count};
    tensor_reply_add(r, &o, t->index & 1);
    return 0;
}

static int echo_field(struct tensor_reply *r, const char *field, struct error *e)
{
    struct tensor *tensors;
    int n, status = 0;
    if (tensors_read(r->q, field, &tensors, &n, e))
        return -1;
    out_key(&r->json, field);
    out_open_array(&r->json);
    for (int i = 0; i < n && !status; i++)
        status = echo_tensor(r, &tensors[i], e);
    out_close(&r->json);
    return status;
}

static int echo_raw(struct tensor_reply *r, struct error *e)
{
    struct tensor t;
    int64_t count, batch;
    struct shape want = SHAPE(BATCH, 2);
    tensor_read_raw(r->q, &t);
    if (tensor_resolve(&t, DTYPE_REAL, &want, &batch, &count, e))
        return -1;
    const void *out;
    return tensor_take(&t, DTYPE_REAL, r->q->arena, count, &out, e);
}

static int echo(struct request *q)
{
    struct tensor_reply r;
    struct error e = {0};
    struct output_wishes wishes;
    if (output_wishes_read(q, &wishes, &e))
        return reply_error(q, &e);
    tensor_reply_begin(&r, q);
    int status = q->raw_tensor ? echo_raw(&r, &e)
                               : echo_field(&r, "inputs", &e) ||
                                     (json_object_get(q->json.root, "targets") &&
                                      echo_field(&r, "targets", &e)) ||
                                     tensors_end(q, &e);
    if (!status)
        return tensor_reply_end(&r, 200);
    out_free(&r.json);
    fuzz_check_error(&e);
    return reply_error(q, &e);
}

static const struct route rows[] = {
    {"POST", "/echo", echo, ROUTE_BODY | ROUTE_BINARY, ROLE_NONE, NULL, NULL, "", NULL},
    {0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config = {.max_body = 1 << 20};
    struct server s = {.config = &config, .routes = rows};
    char length[24];
    size_t head = size && data[0] & 1 && size >= 3 ? 3 : size > 0;
    struct request *q = request_create(&s, "POST", "/echo", "");
    q->body_size = size - head;
    q->body = q->body_block = fuzz_copy(data + head, q->body_size, true);
    q->content_length = (int64_t)q->body_size;
    if (head == 3) {
        snprintf(length, sizeof length, "%d", data[1] + 256 * data[2]);
        request_add_header(q, "Inference-Header-Content-Length", length);
    }
    dispatch(q);
    fuzz_check_answer(q);
    request_destroy(&q);
    return 0;
}
