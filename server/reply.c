/* reply.c: filling in responses. Every reply replaces one that was there before; the headers that
 * were added stay. */
#include "request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void response_drop(struct response *r)
{
    void *body = (void *)(uintptr_t)r->body;
    if (r->kind == BODY_MALLOC)
        free(body);
    if (r->kind == BODY_PULL)
        r->pull.done(r->pull.arg);
    if (r->kind == BODY_STREAM)
        ((struct body_stream *)body)->close(body);
    r->kind = BODY_ARENA;
    r->body = NULL;
    r->size = 0;
}

int reply_pull(struct request *q, int status, const char *content_type, size_t size,
               struct body_pull pull)
{
    reply_bytes(q, status, content_type, NULL, size, BODY_PULL);
    q->response.pull = pull;
    return status;
}

int reply_bytes(struct request *q, int status, const char *content_type, const void *bytes,
                size_t size, enum body_kind kind)
{
    struct response *r = &q->response;
    if (r->body != bytes || r->kind == BODY_PULL)
        response_drop(r);
    r->content_type = content_type;
    r->body = bytes;
    r->size = size;
    r->kind = kind;
    q->error = ERROR_NONE;
    q->sentence = NULL;
    return q->status = status;
}

int reply_stream(struct request *q, int status, const char *content_type, struct body_stream *b)
{
    return reply_bytes(q, status, content_type, b, 0, BODY_STREAM);
}

int reply_text(struct request *q, int status, const char *content_type, const char *text)
{
    return reply_bytes(q, status, content_type, text, strlen(text), BODY_ARENA);
}

int reply_json_text(struct request *q, int status, const char *json)
{
    return reply_text(q, status, NULL, json);
}

void reply_changed(struct request *q)
{
    q->changed = true;
}

/* When there is no memory even for an error. */
static int reply_out_of_memory(struct request *q)
{
    if (q->changed)
        return reply_json_text(q, error_status(ERROR_ANSWER_LOST),
                               "{\"error\":\"the change was made, but there was no memory for its "
                               "answer\",\"code\":\"answer_lost\"}");
    return reply_json_text(
        q, error_status(ERROR_OUT_OF_MEMORY),
        "{\"error\":\"out of memory for the answer\",\"code\":\"out_of_memory\"}");
}

int reply_json(struct request *q, int status, struct json_out *w)
{
    char *data = w->data;
    size_t size = w->size;
    if (w->failed) {
        out_free(w);
        return reply_out_of_memory(q);
    }
    *w = JSON_OUT_INIT;
    return reply_bytes(q, status, NULL, data, size, BODY_MALLOC);
}

static bool has_header(const struct response *r, const char *name)
{
    for (int i = 0; i < r->n_headers; i++)
        if (!strcmp(r->headers[i].name, name))
            return true;
    return false;
}

/* No more than a line of the log has room for, and whole characters. NULL: out of memory. */
static const char *logged_sentence(struct request *q, const char *text)
{
    enum { MOST = 400 };
    size_t n = strnlen(text, MOST);
    while (n && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    return arena_printf(q->arena, "%.*s", (int)n, text);
}

int reply_error(struct request *q, const struct error *e)
{
    struct json_out w = JSON_OUT_INIT;
    struct error lost = *e;
    if (!q->changed && json_in_starved() && error_status(e->code) < 500) {
        /* What was missing or wrong may have been there. */
        error_set(&lost, ERROR_OUT_OF_MEMORY, "out of memory for the request");
        e = &lost;
    }
    if (q->changed) {
        lost.code = ERROR_ANSWER_LOST;
        error_prefix(&lost, "the change was made, but its answer could not be written");
        e = &lost;
    }
    out_open_object(&w);
    out_put_string(&w, "error", e->text);
    out_put_string(&w, "code", error_slug(e->code));
    out_close(&w);
    if (error_status(e->code) == 429 && !has_header(&q->response, "Retry-After"))
        reply_header(q, "Retry-After", "1");
    int status = reply_json(q, error_status(e->code), &w);
    q->error = e->code;
    q->sentence = logged_sentence(q, e->text);
    return status;
}

int reply_errorf(struct request *q, enum error_code code, const char *format, ...)
{
    struct error e = {.code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(e.text, sizeof e.text, format, args);
    va_end(args);
    return reply_error(q, &e);
}

void reply_header(struct request *q, const char *name, const char *value)
{
    struct response *r = &q->response;
    if (r->n_headers == RESPONSE_MAX_HEADERS)
        return;
    char *copy = arena_strdup(q->arena, value);
    r->starved |= !copy;
    if (copy)
        r->headers[r->n_headers++] = (struct name_value){name, copy};
}

void reply_finish(struct request *q)
{
    if (q->status < 300 && (q->response.starved || json_in_starved()))
        reply_out_of_memory(q);
}
