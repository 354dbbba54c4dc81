/* fuzz.h: what fuzz targets share. A target is fuzz_NAME.c with LLVMFuzzerTestOneInput, which both
 * libFuzzer (NAME.fuzz) and corpus.c (NAME.test) call. It must not keep anything between calls. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "../../server/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold whatever the input is. */
#define FUZZ_CHECK(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What a sentence must be: there, and one line. */
static inline void fuzz_check_error(const struct error *e)
{
    FUZZ_CHECK(e->code != ERROR_NONE && e->text[0], "an error without a sentence");
    FUZZ_CHECK(memchr(e->text, 0, sizeof e->text), "a sentence without an end");
}

/* A copy in a block of its own, so that a sanitizer sees a read beyond the end; with `nul` there is
 * a NUL after it. */
static inline char *fuzz_copy(const uint8_t *data, size_t size, bool nul)
{
    char *copy = malloc(size + nul + (size + nul == 0));
    if (copy && size)
        memcpy(copy, data, size);
    if (copy && nul)
        copy[size] = 0;
    return copy;
}

/* The answer of a request that is JSON: it can be read, and a refusal says why. */
static inline void fuzz_check_answer(const struct request *q)
{
    json_error_t where;
    if (!q->response.body || (q->response.content_type && q->status < 400))
        return;
    json_t *root = json_loadb(q->response.body, q->response.size, JSON_REJECT_DUPLICATES, &where);
    FUZZ_CHECK(root, "%s in the answer: %.*s", where.text, (int)q->response.size,
               (const char *)q->response.body);
    if (q->status >= 400)
        FUZZ_CHECK(json_string_length(json_object_get(root, "error")) > 0 &&
                       json_string_length(json_object_get(root, "code")) > 0,
                   "status %d without a sentence", q->status);
    json_decref(root);
}

#endif
