/* command.c: what is done from the command line without serving. */
#include "command.h"

#include "bench.h"
#include "command_keys.h"
#include "config_private.h"
#include "data_folder.h"

#include <string.h>

static const struct command {
    const char *name, *words; /* of its arguments */
    int n_words;              /* -1: `run` looks at them */
    int (*run)(char **words, FILE *out, struct error *e);
    void (*complete)(FILE *out); /* NULL: its words are folders */
    const char *forms;           /* what `words` only hints at; NULL: nothing */
    const char *doc;
} commands[] = {
    {"check", "DIR", 1, data_folder_check, NULL, NULL,
     "look for damage in a data folder that no daemon uses; changes nothing"},
    {"backup", "DIR TARGET", 2, data_folder_backup, NULL, NULL,
     "copy a data folder, also one in use, to a new folder that --data takes"},
    {"keys", "add|list|revoke ... DIR", -1, command_keys, command_keys_print_completion,
     command_keys_forms,
     "make, list and revoke the keys that clients need; a running daemon takes them at SIGHUP"},
    {"bench", "[--nets mlp,...]", -1, bench_command, bench_print_completion, bench_forms,
     "training steps and predictions of known networks: how fast this machine is"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

void command_usage(FILE *out)
{
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "       backpropd %-6s %-23s %s\n", commands[i].name, commands[i].words,
                commands[i].doc);
}

void command_list(FILE *out, const char *before)
{
    fputs(before, out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "%s%s", i ? " " : "", commands[i].name);
}

void command_print_completion(FILE *out)
{
    fputs("    [[ $COMP_CWORD -gt 1 ]] && case ${COMP_WORDS[1]} in\n", out);
    for (int i = 0; i < COMMANDS; i++) {
        fprintf(out, "    %s)\n", commands[i].name);
        if (commands[i].complete)
            commands[i].complete(out);
        else
            fputs("    _backpropd_files -d\n", out);
        fputs("    return ;;\n", out);
    }
    fputs("    esac\n    [[ $COMP_CWORD -eq 1 ]] && commands='", out);
    command_list(out, "");
    fputs("'\n", out);
}

static void print_usage(const struct command *c, FILE *out)
{
    fprintf(out, "usage: backpropd %s %s: %s\n", c->name, c->words, c->doc);
    if (c->forms)
        fprintf(out, "%s\n", c->forms);
}

static bool asks_for_help(char **words)
{
    for (; *words; words++)
        if (!strcmp(*words, "--help") || !strcmp(*words, "-h"))
            return true;
    return false;
}

/* Whether a command that looks at its words itself could not use them. */
static bool words_at_fault(const struct command *c, const struct error *e)
{
    const int status = error_status(e->code);
    return c->n_words < 0 && (status == 400 || status == 422);
}

/* The status to exit with. */
static int run(const struct command *c, int argc, char **argv, FILE *out, FILE *err)
{
    struct error e;
    if (asks_for_help(argv + 2)) {
        print_usage(c, out);
        return 0;
    }
    if (c->n_words >= 0 && (argc != 2 + c->n_words || !strncmp(argv[2], "--", 2))) {
        print_usage(c, err);
        return 2;
    }
    if (!c->run(argv + 2, out, &e))
        return 0;
    fprintf(err, "backpropd %s: %s\n", c->name, e.text);
    return words_at_fault(c, &e) ? 2 : 1;
}

int command_run(int argc, char **argv, FILE *out, FILE *err)
{
    if (argc > 1 && (!strcmp(argv[1], "help") || !strcmp(argv[1], "-h"))) {
        config_print_help(out);
        return 0;
    }
    for (int i = 0; argc > 1 && i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name))
            return run(&commands[i], argc, argv, out, err);
    return -1;
}
