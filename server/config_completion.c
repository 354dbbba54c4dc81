/* config_completion.c: the script that makes bash complete flags, their values and commands,
 * printed from the tables that the command line is read by. bash calls _backpropd with the line in
 * COMP_WORDS and takes what it leaves in COMPREPLY; --flag=value is three words to it. */
#include "command.h"
#include "config_private.h"

#include <ctype.h>
#include <string.h>

void config_print_completion_value(FILE *out, const char *flag, const char *value)
{
    fprintf(out, "    %s) ", flag);
    if (!strcmp(value, "DIR") || !strcmp(value, "FILE")) {
        fprintf(out, "_backpropd_files -%c", value[0] == 'D' ? 'd' : 'f');
    } else if (islower((unsigned char)*value)) {
        fputs("_backpropd_words '", out);
        for (const char *c = value; *c; c++)
            fputc(*c == '|' ? ' ' : *c, out);
        fputc('\'', out);
    } else {
        fputs("COMPREPLY=()", out); /* a number, a name: nothing to choose from */
    }
    fputs("; return ;;\n", out);
}

/* What is there before the commands and the flags. */
static const char begin[] =
    "# source <(backpropd --completion bash)\n"
    "_backpropd_words() { mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$word\"); }\n"
    "_backpropd_files() {\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    mapfile -t COMPREPLY < <(compgen \"$@\" -- \"$word\")\n"
    "}\n"
    "_backpropd() {\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} commands=\n"
    "    if [[ $word == = ]]; then\n"
    "        word=\n"
    "    elif [[ $before == = ]]; then\n"
    "        before=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n";

int config_print_completion(const char *shell, FILE *out)
{
    if (strcmp(shell, "bash"))
        return -1;
    fputs(begin, out);
    command_print_completion(out);
    fputs("    case $before in\n", out);
    for (const struct flag *f = config_flags; f->name; f++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", f->name);
        if (f->value)
            config_print_completion_value(out, name, f->value);
    }
    fputs("    esac\n    _backpropd_words \"$commands", out);
    for (const struct flag *f = config_flags; f->name; f++) {
        fprintf(out, " --%s", f->name);
        if (f->type == FLAG_SWITCH && f->fallback)
            fprintf(out, " --no-%s", f->name);
    }
    fputs("\"\n}\ncomplete -F _backpropd backpropd\n", out);
    return 0;
}
