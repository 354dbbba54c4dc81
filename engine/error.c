/* error.c: writing the one error type. The table of codes is in error.h. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void error_write(struct error *e, enum error_code code, const char *format, ...)
{
    if (!e)
        return;
    va_list args;
    va_start(args, format);
    e->code = code;
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
}

int error_prefix(struct error *e, const char *format, ...)
{
    if (!e)
        return -1;
    char rest[sizeof e->text];
    memcpy(rest, e->text, sizeof rest);
    rest[sizeof rest - 1] = 0;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n + 3 < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %.*s", (int)sizeof e->text - n - 3,
                 rest);
    return -1;
}

static const struct {
    int status;
    const char *slug;
} rows[] = {
#define ERROR_ROW(name, status, slug, doc) [name] = {status, slug},
    ERROR_LIST(ERROR_ROW)
#undef ERROR_ROW
};

/* A code that nobody has set is a defect too, not a reason to end. */
static enum error_code known(enum error_code code)
{
    return (size_t)code < sizeof rows / sizeof rows[0] ? code : ERROR_INTERNAL;
}

int error_status(enum error_code code)
{
    return rows[known(code)].status;
}

const char *error_slug(enum error_code code)
{
    return rows[known(code)].slug;
}
