/* config_sources.c: flags from the environment and from a file.
 *
 * The file has a line a flag, "max-body = 64M", as named on the command line without the dashes;
 * switches are true or false; empty lines and lines that begin with # are left out. Of environment
 * variables that are not known only those are errors which look like a slip in one that is:
 * container platforms and clients have some of their own that begin with the same word. */
#define _GNU_SOURCE /* environ */
#include "config_private.h"

#include "backprop.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "BACKPROPD_"
enum { FILE_MAX = 1 << 20 };

/* ---- the environment ------------------------------------------------------------------------- */

/* "max-body" -> "BACKPROPD_MAX_BODY" */
static void variable_name(const struct flag *f, char name[64])
{
    snprintf(name, 64, PREFIX "%s", f->name);
    for (char *c = name; *c; c++)
        *c = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
}

/* The flag that this name, "max-bdoy", is or is a slip of; NULL: it is like none. Nearer than where
 * a name is refused in any case and the hint only helps. */
static const struct flag *meant_flag(const char *name)
{
    struct nearest near = {.given = name};
    const struct flag *best = NULL;
    for (const struct flag *f = config_flags; f->name; f++) {
        if (strcmp(f->name, name) == 0)
            return f;
        if (f->type != FLAG_ACTION)
            nearest_offer(&near, f->name);
        best = near.best == f->name ? f : best;
    }
    return best && near.distance <= 1 + (int)strlen(name) / 6 ? best : NULL;
}

static int check_variable(const char *variable, FILE *err)
{
    char name[64], meant[64];
    const size_t n = strcspn(variable, "="), prefix = strlen(PREFIX);
    if (n >= sizeof name || strncmp(variable, PREFIX, prefix) != 0)
        return 0;
    for (size_t i = prefix; i <= n; i++)
        name[i - prefix] = (char)(variable[i] == '_' ? '-' : tolower((unsigned char)variable[i]));
    name[n - prefix] = 0;
    const struct flag *f = meant_flag(name);
    if (!f)
        return 0;
    variable_name(f, meant);
    if (strlen(meant) == n && memcmp(meant, variable, n) == 0)
        return 0;
    fprintf(err, "backpropd: the environment has %.*s, which is no flag; did you mean %s?\n",
            (int)n, variable, meant);
    return -1;
}

int config_read_environment(struct config *c, FILE *err)
{
    for (char **v = environ; *v; v++)
        if (check_variable(*v, err))
            return -1;
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
