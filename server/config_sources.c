/* config_sources.c: flags from the environment and from a file.
 *
 * The file has a line a flag, "max-body = 64M", as named on the command line without the dashes;
 * switches are true or false; empty lines and lines that begin with # are left out. Environment
 * variables that are not known are left alone: container platforms set some of their own that begin
 * with the same word. */
#include "config_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

/* ---- the environment ------------------------------------------------------------------------- */

/* "max-body" -> "BACKPROPD_MAX_BODY" */
static void variable_name(const struct flag *f, char name[64])
{
    snprintf(name, 64, "BACKPROPD_%s", f->name);
    for (char *c = name; *c; c++)
        *c = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
}

int config_read_environment(struct config *c, FILE *err)
{
    for (const struct flag *f = config_flags; f->name; f++) {
        char name[64];
        variable_name(f, name);
        const char *value = f->type == FLAG_ACTION ? NULL : getenv(name);
        if (value && config_set(c, f, value, name, err))
            return -1;
    }
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

static char *read_all(const char *path, FILE *err)
{
    FILE *f = fopen(path, "re");
    char *text = f ? calloc(1, FILE_MAX + 1) : NULL;
    size_t n = text ? fread(text, 1, FILE_MAX + 1, f) : 0;
    bool bad = !text || ferror(f) || n > FILE_MAX || strlen(text) != n;
    const char *why = !f || !text || ferror(f) ? strerror(errno)
                      : n > FILE_MAX           ? "it is too large"
                                               : "it holds a NUL";
    if (bad)
        fprintf(err, "backpropd: cannot read --config %s: %s\n", path, why);
    if (f)
        fclose(f);
    if (bad) {
        free(text);
        return NULL;
    }
    return text;
}

/* Without the spaces at both ends; in place. */
static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    char *end = text + strlen(text);
    while (end > text && strchr(" \t\r", end[-1]))
        *--end = 0;
    return text;
}

static int unknown_key(const char *where, const char *near, FILE *err)
{
    fprintf(err, "backpropd: %s: no flag has this name", where);
    if (near)
        fprintf(err, "; did you mean %s?", near);
    fputc('\n', err);
    return -1;
}

static int take_entry(struct config *c, const char *path, int number, char *line, FILE *err)
{
    char where[400], *key = trim(line), *equals = strchr(key, '=');
    const char *near = NULL;
    if (!*key || *key == '#')
        return 0;
    if (!equals) {
        fprintf(err, "backpropd: %s:%d: '%.80s', expected name = value\n", path, number, key);
        return -1;
    }
    *equals = 0;
    key = trim(key);
    snprintf(where, sizeof where, "%.250s:%d: %.80s", path, number, key);
    const struct flag *f = config_find(key, &near);
    if (!f)
        return unknown_key(where, near, err);
    if (f->type != FLAG_ACTION && f->offset != offsetof(struct config, config_file))
        return config_set(c, f, trim(equals + 1), where, err);
    fprintf(err, "backpropd: %s belongs on the command line\n", where);
    return -1;
}

int config_read_file(struct config *c, const char *path, FILE *err)
{
    char *text = path ? read_all(path, err) : NULL;
    if (!text)
        return path ? -1 : 0;
    c->file_text = text;
    for (int number = 1; text; number++) {
        char *line = strsep(&text, "\n");
        if (take_entry(c, path, number, line, err))
            return -1;
    }
    return 0;
}
