/* images_fixture.h: a model of images and requests that send them, for the tests of what is taken
 * and of what is refused. */
#ifndef IMAGES_FIXTURE_H
#define IMAGES_FIXTURE_H

#include "../support/daemon.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[-1,3,15,20]}],"
    "\"layers\":[{\"op\":\"conv2d\",\"out_channels\":4,\"kernel_size\":3},{\"op\":\"relu\"},"
    "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":\"cross_entropy\",\"seed\":3,\"labels\":[\"cat\",\"dog\",\"owl\"],"
    "\"preprocess\":{\"mean\":[0.5,0.25,0],\"std\":[0.5,1,2]}}";

struct bytes {
    unsigned char *data;
    size_t size;
};

static inline struct bytes file_read(const char *name)
{
    char path[200];
    struct bytes b = {malloc(1 << 20), 0};
    snprintf(path, sizeof path, "tests/data/images/%s", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    b.size = fread(b.data, 1, 1 << 20, f);
    fclose(f);
    return b;
}

static inline void put_model(struct daemon *d, const char *name, const char *json)
{
    char path[100];
    snprintf(path, sizeof path, "/v2/models/%s", name);
    answer_expect(client_json(d->client, "PUT", path, json), 201);
}

static inline struct answer *send_typed(struct daemon *d, const char *path, const char *type,
                                        const void *body, size_t size, const char *const *headers)
{
    return client_send(d->client, &(struct call){.method = "POST",
                                                 .path = path,
                                                 .body = body,
                                                 .size = size,
                                                 .content_type = type,
                                                 .headers = headers});
}

static inline struct answer *send_file(struct daemon *d, const char *path, const char *type,
                                       const char *name)
{
    struct bytes b = file_read(name);
    struct answer *a = send_typed(d, path, type, b.data, b.size, NULL);
    free(b.data);
    return a;
}

/* ---- ways to send ---------------------------------------------------------------------------- */

static inline char *base64_of(const struct bytes *b)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(b->size / 3 * 4 + 8), *to = text;
    for (size_t i = 0; i < b->size; i += 3) {
        unsigned v = (unsigned)b->data[i] << 16;
        v |= i + 1 < b->size ? (unsigned)b->data[i + 1] << 8 : 0;
        v |= i + 2 < b->size ? b->data[i + 2] : 0;
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = i + 1 < b->size ? digits[v >> 6 & 63] : '=';
        *to++ = i + 2 < b->size ? digits[v & 63] : '=';
    }
    *to = 0;
    return text;
}

/* A request with files as base64: `head` comes before the list of strings, `tail` after it. */
static inline struct answer *send_base64(struct daemon *d, const char *path, const char *head,
                                         const char *const *names, int n, const char *tail)
{
    char *text = calloc(1, 1 << 20);
    strcpy(text, head);
    for (int i = 0; i < n; i++) {
        struct bytes b = file_read(names[i]);
        char *image = base64_of(&b);
        sprintf(text + strlen(text), "%s\"%s\"", i ? "," : "", image);
        free(image);
        free(b.data);
    }
    strcat(text, tail);
    struct answer *a = client_post(d->client, path, text);
    free(text);
    return a;
}

struct part {
    const char *name, *file, *type, *text; /* text, or the file */
};

static inline struct answer *send_form(struct daemon *d, const char *path, const struct part *parts)
{
    char *body = calloc(1, 1 << 20);
    size_t size = 0;
    for (const struct part *p = parts; p->name; p++) {
        size += (size_t)sprintf(body + size,
                                "--xX-b\r\nContent-Disposition: form-data; name=\"%s\"", p->name);
        if (p->file)
            size += (size_t)sprintf(body + size, "; filename=\"%s\"", p->file);
        size += (size_t)sprintf(body + size, "\r\n%s%s%s\r\n", p->type ? "Content-Type: " : "",
                                p->type ? p->type : "", p->type ? "\r\n" : "");
        struct bytes b = p->text ? (struct bytes){(unsigned char *)strdup(p->text), strlen(p->text)}
                                 : file_read(p->file);
        memcpy(body + size, b.data, b.size);
        size += b.size;
        size += (size_t)sprintf(body + size, "\r\n");
        free(b.data);
    }
    size += (size_t)sprintf(body + size, "--xX-b--\r\n");
    struct answer *a =
        send_typed(d, path, "multipart/form-data; boundary=\"xX-b\"", body, size, NULL);
    free(body);
    return a;
}

/* Elements behind their lengths, after the JSON. */
static inline struct answer *send_bytes(struct daemon *d, const char *path, const char *json,
                                        const char *const *names, int n, int lie)
{
    char *body = calloc(1, 1 << 20), header[80], text[600];
    char *elements = body + 700;
    size_t size = 0;
    for (int i = 0; i < n; i++) {
        struct bytes b = file_read(names[i]);
        uint32_t length = (uint32_t)((long)b.size + lie);
        memcpy(elements + size, &length, 4);
        memcpy(elements + size + 4, b.data, b.size);
        size += 4 + b.size;
        free(b.data);
    }
    int head = snprintf(text, sizeof text, json, size);
    memcpy(elements - head, text, (size_t)head);
    snprintf(header, sizeof header, "Inference-Header-Content-Length: %d", head);
    struct answer *a = send_typed(d, path, "application/octet-stream", elements - head,
                                  size + (size_t)head, (const char *const[]){header, NULL});
    free(body);
    return a;
}

#endif
