/* log.h: one line an event on stderr, in logfmt (key=value, quoted where needed) or as JSON.
 *
 *   log_line(log, LOG_INFO, "request", LOG_STR("method", "GET"), LOG_INT("status", 200));
 *   -> time=2024-01-31T12:00:00.123Z level=info event=request method=GET status=200
 *   ->
 * {"time":"2024-01-31T12:00:00.123Z","level":"info","event":"request","method":"GET","status":200}
 *
 * A line is one write(2), so lines of several threads do not mix. Any thread may call. */
#ifndef BACKPROPD_LOG_H
#define BACKPROPD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
#define LOG_LEVELS "debug|info|warn|error|off"
enum log_format { LOG_LOGFMT, LOG_JSON };
#define LOG_FORMATS "logfmt|json"

struct log {
    enum log_level level; /* atomic: lines below it are dropped */
    int fd;               /* 2 */
    enum log_format format;
};

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
