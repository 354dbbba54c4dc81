/* command.c: what is done from the command line without serving. */
#include "command.h"

#include "bench.h"
#include "command_keys.h"
#include "data_folder.h"

#include <string.h>

static const struct command {
    const char *name, *words; /* of its arguments */
    int n_words;              /* -1: `run` looks at them */
    int (*run)(char **words, FILE *out, struct error *e);
    void (*complete)(FILE *out); /* NULL: its words are folders */
    const char *doc;
} commands[] = {
    {"check", "DIR", 1, data_folder_check, NULL,
     "look for damage in a data folder that no daemon uses; changes nothing"},
    {"backup", "DIR TARGET", 2, data_folder_backup, NULL,
     "copy a data folder, also one in use, to a new folder that --data takes"},
    {"keys", "add|list|revoke ... DIR", -1, command_keys, command_keys_print_completion,
     "make, list and revoke the keys that clients need; a running daemon takes them at SIGHUP"},
    {"bench", "[--nets mlp,...]", -1, bench_command, bench_print_completion,
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

static int usage(const struct command *c, FILE *err)
{
    fprintf(err, "usage: backpropd %s %s: %s\n", c->name, c->words, c->doc);
    return 2;
}

int command_run(int argc, char **argv, FILE *out, FILE *err)
{
    struct error e;
    for (int i = 0; argc > 1 && i < COMMANDS; i++) {
        const struct command *c = &commands[i];
        if (strcmp(argv[1], c->name))
            continue;
        if (c->n_words >= 0 && (argc != 2 + c->n_words || !strncmp(argv[2], "--", 2)))
            return usage(c, err);
        if (!c->run(argv + 2, out, &e))
            return 0;
        fprintf(err, "backpropd %s: %s\n", c->name, e.text);
        return 1;
    }
    return -1;
}
