/* log.h: one line an event on stderr, in logfmt (key=value, quoted where needed) or as JSON.
 *
 *   log_line(log, LOG_INFO, "request", LOG_STR("method", "GET"), LOG_INT("status", 200));
 *   -> time=2024-01-31T12:00:00.123Z level=info event=request method=GET status=200
 *   ->
 * {"time":"2024-01-31T12:00:00.123Z","level":"info","event":"request","method":"GET","status":200}
 *
 * Lines of several threads do not mix. With a buffer those below LOG_WARN are written some
 * milliseconds later, many at once; the others at once, after all that came before. Without one a
 * line is one write(2). Any thread may call. */
#ifndef BACKPROPD_LOG_H
#define BACKPROPD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
#define LOG_LEVELS "debug|info|warn|error|off"
enum log_format { LOG_LOGFMT, LOG_JSON };
#define LOG_FORMATS "logfmt|json"

struct log_buffer;
struct log {
    enum log_level level; /* atomic: lines below it are dropped */
    int fd;               /* 2 */
    enum log_format format;
    struct log_buffer *buffer; /* for `fd`; NULL: none */
};

/* Lines in memory on their way to `fd`, with a thread that writes them. NULL: out of memory or
 * threads. Destroying it writes what there is; nobody may log any more. */
struct log_buffer *log_buffer_create(int fd);
void log_buffer_destroy(struct log_buffer **b);
/* Of log.c. `urgent`: it is in the file when this returns. */
void log_buffer_put(struct log_buffer *b, const char *line, size_t size, bool urgent);
/* "2024-01-31T12:00:00.123Z" of a time after 1970. */
enum { LOG_TIME_TEXT = 32 };
void log_time_text(const struct timespec *now, char text[LOG_TIME_TEXT]);
void log_write_all(int fd, const char *text, size_t size);

enum log_kind { LOG_IS_NONE, LOG_IS_STR, LOG_IS_INT, LOG_IS_REAL };
struct log_field {
    const char *key;
    enum log_kind kind;
    const char *s; /* STR; NULL: the field is left out */
    int64_t i;     /* INT */
    double d;      /* REAL, three decimals */
};
#define LOG_STR(key, value)  ((struct log_field){(key), LOG_IS_STR, (value), 0, 0})
#define LOG_INT(key, value)  ((struct log_field){(key), LOG_IS_INT, NULL, (int64_t)(value), 0})
#define LOG_REAL(key, value) ((struct log_field){(key), LOG_IS_REAL, NULL, 0, (value)})

/* Fields beyond a line of 2048 bytes are cut, in logfmt. `event` is a plain word. */
#define log_line(log, level, event, ...)                                                           \
    log_write((log), (level), (event), (const struct log_field[]){{0}, ##__VA_ARGS__},             \
              sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field))

/* What log_line calls: fields[0] is not used. */
void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t n);

#endif
