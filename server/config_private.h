/* config_private.h: the table of flags, for the files that read it: config.c (the command line),
 * config_sources.c (environment and file), config_help.c and config_completion.c (what is printed
 * from it). */
#ifndef BACKPROPD_CONFIG_PRIVATE_H
#define BACKPROPD_CONFIG_PRIVATE_H

#include "config.h"

#include <stddef.h>

/* CHOICE is an enum, whose names are in `value`. An ACTION is done at once, and only on the command
 * line. */
enum flag_type { FLAG_TEXT, FLAG_INT, FLAG_SIZE, FLAG_CHOICE, FLAG_SWITCH, FLAG_ACTION };

struct flag {
    const char *name; /* without the dashes */
    enum flag_type type;
    size_t offset;
    const char *fallback; /* "cores": of the machine, at least `min`; NULL: none */
    int64_t min, max;
    const char *value; /* what --help calls it, "a|b" of choices; NULL: it has none */
    const char *doc;
};

extern const struct flag config_flags[]; /* ends with name NULL */

/* Sets it from text. `where` says where that was found: "--threads", "BACKPROPD_THREADS". -1 after
 * saying what is wrong. The text is kept. */
int config_set(struct config *c, const struct flag *f, const char *text, const char *where,
               FILE *err);
/* The flag of this name; NULL: none, *near_r is the nearest or NULL. */
const struct flag *config_find(const char *name, const char **near_r);

/* What was set by environment variables, and what the file says that --config or BACKPROPD_CONFIG
 * names (`path` NULL: none). -1 after saying what is wrong. */
int config_read_environment(struct config *c, FILE *err);
int config_read_file(struct config *c, const char *path, FILE *err);

void config_print_help(FILE *out);
/* A script that makes this shell complete flags and commands: "bash". -1: another shell. */
int config_print_completion(const char *shell, FILE *out);
/* Of that script, the case for what comes after a flag: `value` is DIR, FILE, choices "a|b" in
 * small letters, or in capitals what nobody can complete. */
void config_print_completion_value(FILE *out, const char *flag, const char *value);

#endif
