/* json_in.c: reading bodies with jansson, without their numbers. json_scan.c has found the spans;
 * here jansson is fed the text around them, and places that it reports in what it was fed are
 * brought back to the text that the client sent. */
#include "json_in.h"
#include "json_memory.h"
#include "json_scan.h"

#include <stdio.h>
#include <string.h>

void json_position(const char *body, const char *at, long *line_r, long *column_r)
{
    long line = 1;
    const char *begin = body, *newline;
    while ((newline = memchr(begin, '\n', (size_t)(at - begin)))) {
        begin = newline + 1;
        line++;
    }
    long column = 1;
    for (const char *p = begin; p < at; p++)
        column += ((unsigned char)*p & 0xC0) != 0x80; /* characters, not bytes */
    *line_r = line;
    *column_r = column;
}

/* ---- what jansson is fed --------------------------------------------------------------------- */

struct feed {
    const struct json_in *in;
    const char *p, *end; /* of the body, what is left */
    size_t span;         /* the next one */
    char mark[32];       /* "[k]", when in the middle of it */
    size_t mark_size, mark_used;
};

static size_t mark_write(char *mark, size_t size, size_t span)
{
    return (size_t)snprintf(mark, size, "[%zu]", span);
}

/* Copies what is at hand, up to the next border between text and spans. */
static size_t feed_some(struct feed *f, char *to, size_t room)
{
    bool mark = f->mark_used < f->mark_size;
    const char *stop = f->span < f->in->n_spans ? f->in->spans[f->span].begin : f->end;
    const char *from = mark ? f->mark + f->mark_used : f->p;
    size_t n = mark ? f->mark_size - f->mark_used : (size_t)(stop - f->p);
    n = n < room ? n : room;
    memcpy(to, from, n);
    if (mark) {
        f->mark_used += n;
        return n;
    }
    f->p += n;
    if (f->p == stop && stop != f->end) {
        f->mark_size = mark_write(f->mark, sizeof f->mark, f->span);
        f->mark_used = 0;
        f->p = f->in->spans[f->span++].end;
    }
    return n;
}

/* A json_load_callback_t; 0 at the end, and where memory has run out. */
static size_t feed_read(void *buffer, size_t room, void *arg)
{
    struct feed *f = arg;
    size_t n = 0;
    while (n < room && !json_memory_refused() && (f->p < f->end || f->mark_used < f->mark_size))
        n += feed_some(f, (char *)buffer + n, room - n);
    return n;
}

/* The place in the body of a place in what was fed; within a mark it is where the span begins. */
static const char *feed_origin(const struct json_in *in, const char *text, size_t at)
{
    size_t removed = 0; /* bytes by which the spans before were longer than their marks */
    for (size_t i = 0; i < in->n_spans; i++) {
        char mark[32];
        const struct json_span *s = &in->spans[i];
        size_t size = mark_write(mark, sizeof mark, i), begin = (size_t)(s->begin - text);
        if (at + removed <= begin)
            break;
        if (at + removed < begin + size)
            return s->begin;
        removed += (size_t)(s->end - s->begin) - size; /* may wrap: a span can be shorter */
    }
    return text + (at + removed);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* The length of TOKEN in "... near 'TOKEN'", where jansson stands behind the token. */
static size_t token_length(const char *message)
{
    static const char near[] = " near '";
    const char *p = strstr(message, near);
    size_t n = p ? strlen(p + sizeof near - 1) : 0;
    return n > 1 ? n - 1 : 0; /* without the last quote */
}

static void plain_text(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ')
            *text = ' ';
}

/* Texts that are JSON, but not what we take. */
static enum error_code error_of(const json_error_t *je)
{
    static const struct {
        enum json_error_code given;
        enum error_code code;
    } rows[] = {
        {json_error_duplicate_key, ERROR_DUPLICATE_FIELD},
        {json_error_null_byte_in_key, ERROR_BAD_NAME},
        {json_error_null_character, ERROR_BAD_VALUE}, /* of a string: it would end there */
        {json_error_numeric_overflow, ERROR_BAD_VALUE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].given == json_error_code(je))
            return rows[i].code;
    return ERROR_BAD_JSON;
}

static int report(const struct json_in *in, const char *text, size_t size, json_error_t *je,
                  struct error *e)
{
    long line, column;
    size_t position = je->position < 0 ? 0 : (size_t)je->position, back = token_length(je->text);
    const char *at = feed_origin(in, text, position > back ? position - back : 0);
    if (at > text + size)
        at = text + size;
    json_position(text, at, &line, &column);
    enum error_code code = error_of(je);
    plain_text(je->text);
    return error_set(e, code, "line %ld, column %ld: %s", line, column, je->text);
}

/* ---- the whole ------------------------------------------------------------------------------- */

void json_in_start(void)
{
    json_memory_start();
}

bool json_in_starved(void)
{
    return json_memory_refused();
}

void json_in_forget(void)
{
    json_memory_forget();
}

char *json_in_dump(const json_t *value, size_t flags)
{
    char *text = json_dumps(value, flags);
    if (!json_memory_refused())
        return text;
    free(text);
    return NULL;
}

/* NULL with a place in what was fed, or because memory was refused. */
static json_t *feed_load(struct feed *f, size_t flags, json_error_t *where_r)
{
    json_memory_begin();
    json_t *root = json_load_callback(feed_read, f, flags, where_r);
    if (json_memory_refused()) {
        json_decref(root); /* it may lack parts, or lie in the reserve */
        root = NULL;
    }
    json_memory_end();
    return root;
}

json_t *json_in_load(const char *text, size_t size, json_error_t *where_r)
{
    struct json_in in = {.text = text, .size = size};
    struct feed feed = {.in = &in, .p = text, .end = text + size};
    json_error_t where;
    return feed_load(&feed, JSON_REJECT_DUPLICATES, where_r ? where_r : &where);
}

int json_in_read(struct json_in *in, struct arena *a, const char *text, size_t size, bool spans,
                 struct error *e)
{
    json_error_t je;
    *in = (struct json_in){.text = text, .size = size};
    if (json_scan(in, a, text, size, spans, e))
        return -1;
    struct feed feed = {.in = in, .p = text, .end = text + size};
    in->root = feed_load(&feed, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!in->root && json_memory_refused())
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the body");
    return in->root ? 0 : report(in, text, size, &je, e);
}

int json_in_check(const struct json_in *in, struct error *e)
{
    return in->text ? json_check(in->text, in->text, in->text + in->size, e) : 0;
}

void json_in_free(struct json_in *in)
{
    json_decref(in->root); /* NULL will do */
    *in = (struct json_in){0};
}

const struct json_span *json_in_span(const struct json_in *in, const json_t *object,
                                     const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_scan_key(key) || !json_is_array(value) || json_array_size(value) != 1)
        return NULL;
    const json_t *k = json_array_get(value, 0);
    json_int_t i = json_is_integer(k) ? json_integer_value(k) : -1;
    return i >= 0 && (uint64_t)i < in->n_spans ? &in->spans[i] : NULL;
}
