/* log.c: logfmt lines. A line is put together in a buffer of its own and written with one call. */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

int log_level_find(const char *name)
{
    for (int i = 0; i <= LOG_OFF; i++)
        if (!strcmp(name, level_names[i]))
            return i;
    return -1;
}

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
        put_value(l, f->s ? f->s : "");
        return;
    }
    if (f->kind == LOG_IS_INT)
        snprintf(number, sizeof number, "%lld", (long long)f->i);
    else
        snprintf(number, sizeof number, "%.3f", f->d);
    put_text(l, number);
}

static void put_time(struct line *l)
{
    struct timespec now;
    struct tm utc;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, sizeof text, "time=%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(text + n, sizeof text - n, ".%03ldZ", now.tv_nsec / 1000000);
    put(l, text, n);
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t n)
{
    if (level < log->level)
        return;
    struct line l = {.size = 0};
    put_time(&l);
    put_text(&l, " level=");
    put_text(&l, level_names[level]);
    put_text(&l, " event=");
    put_text(&l, event);
    for (size_t i = 1; i < n; i++)
        put_field(&l, &fields[i]);
    l.text[l.size++] = '\n';
    while (write(log->fd, l.text, l.size) < 0 && errno == EINTR)
        ;
}
