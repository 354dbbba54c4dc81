/* log.c: lines of the log. A line is put together in a buffer of its own and written with one call.
 */
#include "log.h"

#include "json_out.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

static void write_all(const struct log *log, const char *text, size_t size)
{
    while (write(log->fd, text, size) < 0 && errno == EINTR)
        ;
}

/* "2024-01-31T12:00:00.123Z" */
static void time_text(char text[64])
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, 64, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, 64 - n, ".%03ldZ", now.tv_nsec / 1000000);
}

/* ---- logfmt ---------------------------------------------------------------------------------- */

struct line {
    char text[2048];
    size_t size;
};

static void put(struct line *l, const char *text, size_t size)
{
    size_t room = sizeof l->text - 1 - l->size; /* one is kept for the newline */
    size = size < room ? size : room;
    memcpy(l->text + l->size, text, size);
    l->size += size;
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

/* Bytes that may stand in a value without quotes. */
static bool bare(unsigned char c)
{
    return c > ' ' && c < 0x7F && c != '"' && c != '=' && c != '\\';
}

static void put_value(struct line *l, const char *value)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    while (bare((unsigned char)value[n]))
        n++;
    if (n && !value[n]) {
        put(l, value, n);
        return;
    }
    put(l, "\"", 1);
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        char quoted[] = {'\\', *p}, byte[] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
        if (c == '"' || c == '\\')
            put(l, quoted, sizeof quoted);
        else if (c < ' ' || c == 0x7F) /* a client cannot begin a line */
            put(l, byte, sizeof byte);
        else
            put(l, p, 1);
    }
    put(l, "\"", 1);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char number[48];
    put(l, " ", 1);
    put_text(l, f->key);
    put(l, "=", 1);
    if (f->kind == LOG_IS_STR) {
        put_value(l, f->s);
        return;
    }
    if (f->kind == LOG_IS_INT)
        snprintf(number, sizeof number, "%lld", (long long)f->i);
    else
        snprintf(number, sizeof number, "%.3f", f->d);
    put_text(l, number);
}

static void write_logfmt(const struct log *log, enum log_level level, const char *event,
                         const struct log_field *fields, size_t n)
{
    struct line l = {.size = 0};
    char now[64];
    time_text(now);
    put_text(&l, "time=");
    put_text(&l, now);
    put_text(&l, " level=");
    put_text(&l, level_names[level]);
    put_text(&l, " event=");
    put_text(&l, event);
    for (size_t i = 0; i < n; i++)
        if (fields[i].kind != LOG_IS_STR || fields[i].s)
            put_field(&l, &fields[i]);
    l.text[l.size++] = '\n';
    write_all(log, l.text, l.size);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void out_field(struct json_out *w, const struct log_field *f)
{
    if (f->kind == LOG_IS_STR && f->s)
        out_put_string(w, f->key, f->s);
    else if (f->kind == LOG_IS_INT)
        out_put_int(w, f->key, f->i);
    else if (f->kind == LOG_IS_REAL)
        out_put_double(w, f->key, round(f->d * 1000) / 1000);
}

/* A line for which there is no memory is lost. */
static void write_json(const struct log *log, enum log_level level, const char *event,
                       const struct log_field *fields, size_t n)
{
    struct json_out w = JSON_OUT_INIT;
    char now[64];
    time_text(now);
    out_open_object(&w);
    out_put_string(&w, "time", now);
    out_put_string(&w, "level", level_names[level]);
    out_put_string(&w, "event", event);
    for (size_t i = 0; i < n; i++)
        out_field(&w, &fields[i]);
    out_close(&w);
    out_append_bytes(&w, "\n", 1);
    if (!w.failed)
        write_all(log, w.data, w.size);
    out_free(&w);
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t n)
{
    if (level < __atomic_load_n(&log->level, __ATOMIC_RELAXED))
        return;
    (log->format == LOG_JSON ? write_json : write_logfmt)(log, level, event, fields + 1, n - 1);
}
