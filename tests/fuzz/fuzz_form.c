/* fuzz_form.c: bodies of images: multipart forms and single files. The first line of an input is
 * the Content-Type. What must hold: images lie within the body, one after the other; a refusal is
 * JSON with a sentence. */
#include "fuzz.h"

#include "../../server/dispatch.h"
#include "../../server/preprocess.h"

static int look(struct request *q)
{
    const char *end = q->body;
    for (int64_t i = 0; i < q->n_images; i++) {
        const char *at = q->images[i].bytes;
        FUZZ_CHECK(at >= end && at + q->images[i].size <= q->body + q->body_size,
                   "image %lld lies elsewhere", (long long)i);
        end = at + q->images[i].size;
    }
    FUZZ_CHECK(q->raw_tensor || json_is_object(q->json.root), "no body");
    return reply_json_text(q, 200, "{}");
}

static const struct route rows[] = {
    {"POST", "/images", look, ROUTE_BODY | ROUTE_BINARY | ROUTE_FORM | ROUTE_IMAGE, ROLE_NONE, NULL,
     NULL, "", NULL},
    {0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config = {.max_body = 1 << 20};
    struct server s = {.config = &config, .routes = rows};
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    size_t type_size = line ? (size_t)(line - data) : 0, head = line ? type_size + 1 : 0;
    char *type = fuzz_copy(data, type_size, true);
    struct request *q = request_create(&s, "POST", "/images", "");
    q->body_size = size - head;
    q->body = q->body_block = fuzz_copy(data + head, q->body_size, true);
    q->content_length = (int64_t)q->body_size;
    request_add_header(q, "Content-Type", type);
    dispatch(q);
    fuzz_check_answer(q);
    request_destroy(&q);
    free(type);
    return 0;
}
