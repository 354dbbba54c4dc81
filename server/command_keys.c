/* command_keys.c: `backpropd keys add|list|revoke`: the keys of a data folder, also of one that a
 * daemon uses. A key is printed once and never taken from the command line, which others can see.
 */
#include "command_keys.h"

#include "config_private.h"
#include "key.h"

#include <string.h>

const char command_keys_forms[] =
    "keys add --role read|train|admin --name NAME [--models GLOBS] [--max-models N] "
    "[--max-bytes SIZE] [--requests-per-second N] DATA; keys list DATA; keys revoke --name NAME "
    "DATA";

static int usage(struct error *e)
{
    return error_set(e, ERROR_BAD_VALUE, "expected: %s", command_keys_forms);
}

/* ---- words ----------------------------------------------------------------------------------- */

/* "a*,b" -> ["a*","b"] */
static json_t *read_globs(const char *text)
{
    json_t *list = json_array();
    int bad = 0;
    for (size_t n; *(text += strspn(text, ", ")); text += n) {
        n = strcspn(text, ", ");
        bad |= json_array_append_new(list, json_stringn(text, n));
    }
    if (!bad)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *read_text(const char *text)
{
    return json_string(text);
}

/* What is no size becomes a string, which is refused with its name. */
static json_t *read_size(const char *text)
{
    int64_t n = strchr(text, '%') ? -1 : config_parse_size(text);
    return n < 0 ? json_string(text) : json_integer(n);
}

static const struct {
    const char *flag, *field;
    json_t *(*read)(const char *text);
    const char *value; /* choices, or in capitals what it is */
} words[] = {
    {"--name", "name", read_text, "NAME"},
    {"--role", "role", read_text, "read|train|admin"},
    {"--models", "models", read_globs, "GLOBS"},
    {"--max-models", "max_models", read_size, "N"},
    {"--max-bytes", "max_bytes", read_size, "SIZE"},
    {"--requests-per-second", "requests_per_second", read_size, "N"},
};
enum { WORDS = sizeof words / sizeof *words };

/* The flag at argv[*i], whose value may be the next word. -1: it is none. */
static int take_flag(json_t *given, char **argv, int *i)
{
    for (int k = 0; k < WORDS; k++) {
        size_t n = strlen(words[k].flag);
        if (strncmp(argv[*i], words[k].flag, n) || (argv[*i][n] && argv[*i][n] != '='))
            continue;
        const char *value = argv[*i][n] ? argv[*i] + n + 1 : argv[*i + 1];
        if (!value)
            return -1;
        *i += !argv[*i][n];
        return json_object_set_new(given, words[k].field, words[k].read(value));
    }
    return -1;
}

/* Flags into an object as POST /v2/keys takes, and the one word that is no flag. NULL: cannot. */
static json_t *take_words(char **argv, const char **dir_r, struct error *e)
{
    json_t *given = json_object();
    *dir_r = NULL;
    for (int i = 0; argv[i]; i++) {
        bool flag = !strncmp(argv[i], "--", 2);
        if (flag ? !take_flag(given, argv, &i) : !*dir_r) {
            *dir_r = flag ? *dir_r : argv[i];
            continue;
        }
        json_decref(given);
        usage(e);
        return NULL;
    }
    if (*dir_r)
        return given;
    json_decref(given);
    usage(e);
    return NULL;
}

/* ---- verbs ----------------------------------------------------------------------------------- */

static int add(const char *dir, const json_t *given, FILE *out, struct error *e)
{
    struct key k;
    char text[KEY_TEXT_SIZE];
    int status = key_describe(&k, given, e) || key_file_add(dir, &k, text, e) ? -1 : 0;
    key_clear(&k);
    if (!status)
        fprintf(out, "%s\n", text);
    return status;
}

static void print_quota(FILE *out, const char *name, int64_t n)
{
    if (n)
        fprintf(out, " %s=%lld", name, (long long)n);
}

static void print_key(FILE *out, const struct key *k)
{
    fprintf(out, "%-20s %-6s models=%s", k->name, key_role_name(k->role), k->models ? "" : "all");
    const char *at = k->models ? k->models : "";
    for (size_t n; (n = strcspn(at, " ")) > 0; at += n + 1)
        fprintf(out, "%s%.*s", at == k->models ? "" : ",", (int)n, at);
    print_quota(out, "max-models", k->max_models);
    print_quota(out, "max-bytes", k->max_bytes);
    print_quota(out, "requests-per-second", k->requests_per_second);
    fputc('\n', out);
}

static int list(const char *dir, const json_t *given, FILE *out, struct error *e)
{
    struct key_list l;
    if (json_object_size(given))
        return usage(e);
    if (key_file_read(dir, &l, e))
        return -1;
    for (int i = 0; i < l.n; i++)
        print_key(out, &l.keys[i]);
    key_list_free(&l);
    return 0;
}

static int revoke(const char *dir, const json_t *given, FILE *out, struct error *e)
{
    const char *name = json_string_value(json_object_get(given, "name"));
    if (!name || json_object_size(given) != 1)
        return usage(e);
    if (key_file_revoke(dir, name, e))
        return -1;
    fprintf(out, "revoked %s\n", name);
    return 0;
}

static const struct {
    const char *name;
    int n_words; /* it takes the first so many of `words` */
    int (*run)(const char *dir, const json_t *given, FILE *out, struct error *e);
} verbs[] = {{"add", WORDS, add}, {"list", 0, list}, {"revoke", 1, revoke}};
enum { VERBS = sizeof verbs / sizeof *verbs };

int command_keys(char **argv, FILE *out, struct error *e)
{
    const char *dir;
    for (int i = 0; argv[0] && i < VERBS; i++) {
        if (strcmp(argv[0], verbs[i].name))
            continue;
        json_t *given = take_words(argv + 1, &dir, e);
        int status = given ? verbs[i].run(dir, given, out, e) : -1;
        json_decref(given);
        return status;
    }
    return usage(e);
}

void command_keys_print_completion(FILE *out)
{
    fputs("    case $before in\n", out);
    for (int i = 0; i < WORDS; i++)
        config_print_completion_value(out, words[i].flag, words[i].value);
    fputs("    keys) _backpropd_words '", out);
    for (int i = 0; i < VERBS; i++)
        fprintf(out, "%s%s", i ? " " : "", verbs[i].name);
    fputs("'; return ;;\n    esac\n    case ${COMP_WORDS[2]} in\n", out);
    for (int i = 0; i < VERBS; i++) {
        fprintf(out, "    %s) _backpropd_files -d -W '", verbs[i].name);
        for (int k = 0; k < verbs[i].n_words; k++)
            fprintf(out, "%s%s", k ? " " : "", words[k].flag);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n", out);
}
