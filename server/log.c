/* log.c: lines of the log. A line is put together in a buffer of its own and written with one call.
 */
#include "log.h"

#include "json_out.h"
#include "number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

static void write_line(const struct log *log, enum log_level level, const char *text, size_t size)
{
    if (log->buffer)
        log_buffer_put(log->buffer, text, size, level >= LOG_WARN);
    else
        log_write_all(log->fd, text, size);
}

/* `digits` digits with zeros before them; the place behind. */
static char *put_digits(char *out, int64_t value, int digits)
{
    for (int i = digits; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
    return out + digits;
}

/* The days are counted in years that begin in March, so that the day
 * that some years have more is their last: 146097 days are 400 years, and the months before the
 * m-th have (153 m + 2) / 5 days. */
void log_time_text(const struct timespec *now, char text[LOG_TIME_TEXT])
{
    int64_t seconds = now->tv_sec, days = seconds / 86400 + 719468, clock = seconds % 86400;
    int64_t era = days / 146097, of_era = days % 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
    int64_t m = (5 * of_year + 2) / 153, month = m < 10 ? m + 3 : m - 9;
    const struct {
        int64_t value;
        int digits;
        char after;
    } parts[] = {
        {era * 400 + years + (month <= 2), 4, '-'},
        {month, 2, '-'},
        {of_year - (153 * m + 2) / 5 + 1, 2, 'T'},
        {clock / 3600, 2, ':'},
        {clock / 60 % 60, 2, ':'},
        {clock % 60, 2, '.'},
        {now->tv_nsec / 1000000, 3, 'Z'},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        text = put_digits(text, parts[i].value, parts[i].digits);
        *text++ = parts[i].after;
    }
    *text = 0;
}

static void time_now(char text[LOG_TIME_TEXT])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    log_time_text(&now, text);
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

/* Three decimals. */
static size_t real_text(char *out, double value)
{
    if (!(fabs(value) < 1e12)) /* NaN too */
        return (size_t)snprintf(out, 32, "%.3g", value);
    int64_t thousandths = llround(fabs(value) * 1000);
    char *p = out;
    if (value < 0)
        *p++ = '-';
    p += number_write_int(p, thousandths / 1000);
    *p++ = '.';
    return (size_t)(put_digits(p, thousandths % 1000, 3) - out);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char number[NUMBER_INT_MAX + 32];
    put(l, " ", 1);
    put_text(l, f->key);
    put(l, "=", 1);
    if (f->kind == LOG_IS_STR) {
        put_value(l, f->s);
        return;
    }
    put(l, number,
        f->kind == LOG_IS_INT ? number_write_int(number, f->i) : real_text(number, f->d));
}

static void write_logfmt(const struct log *log, enum log_level level, const char *event,
                         const struct log_field *fields, size_t n)
{
    struct line l = {.size = 0};
    char now[LOG_TIME_TEXT];
    time_now(now);
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
    write_line(log, level, l.text, l.size);
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
    char now[LOG_TIME_TEXT];
    time_now(now);
    out_open_object(&w);
    out_put_string(&w, "time", now);
    out_put_string(&w, "level", level_names[level]);
    out_put_string(&w, "event", event);
    for (size_t i = 0; i < n; i++)
        out_field(&w, &fields[i]);
    out_close(&w);
    out_append_bytes(&w, "\n", 1);
    if (!w.failed)
        write_line(log, level, w.data, w.size);
    out_free(&w);
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t n)
{
    if (level < __atomic_load_n(&log->level, __ATOMIC_RELAXED))
        return;
    (log->format == LOG_JSON ? write_json : write_logfmt)(log, level, event, fields + 1, n - 1);
}
