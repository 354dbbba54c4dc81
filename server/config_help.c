/* config_help.c: what is printed from the table of flags: --help, and completion for shells. */
#include "command.h"
#include "config_private.h"

#include <string.h>

void config_print_help(FILE *out)
{
    fprintf(out, "backpropd: hosts neural networks and trains them over HTTP\n\n"
                 "usage: backpropd [flags]\n");
    command_usage(out);
    fprintf(out, "\nflags:\n");
    for (const struct flag *f = config_flags; f->name; f++) {
        char name[64];
        snprintf(name, sizeof name, "--%s%s%s", f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        fprintf(out, "  %-26s ", name);
        if (strlen(name) > 26) /* the text has a line of its own */
            fprintf(out, "\n%29s", "");
        fputs(f->doc, out);
        if (f->fallback)
            fprintf(out, " (%s)", f->fallback);
        fputc('\n', out);
    }
    fprintf(out, "\nEach flag may also be an environment variable (--max-body 64M is\n"
                 "BACKPROPD_MAX_BODY=64M) or a line of the --config file (max-body = 64M).\n"
                 "The command line goes before the environment, that before the file.\n");
}

/* A case of bash for the value of a flag. */
static void print_value_case(FILE *out, const struct flag *f)
{
    if (!f->value)
        return;
    fprintf(out, "    --%s) COMPREPLY=($(compgen ", f->name);
    if (!strcmp(f->value, "DIR")) {
        fputs("-d", out);
    } else if (!strcmp(f->value, "FILE")) {
        fputs("-f", out);
    } else {
        fputs("-W '", out);
        for (const char *c = f->type == FLAG_CHOICE || f->type == FLAG_ACTION ? f->value : ""; *c;
             c++)
            fputc(*c == '|' ? ' ' : *c, out);
        fputc('\'', out);
    }
    fputs(" -- \"$word\")); return ;;\n", out);
}

int config_print_completion(const char *shell, FILE *out)
{
    if (strcmp(shell, "bash"))
        return -1;
    fputs("# source <(backpropd --completion bash)\n"
          "_backpropd() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]}\n"
          "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n",
          out);
    for (const struct flag *f = config_flags; f->name; f++)
        print_value_case(out, f);
    fputs("    esac\n"
          "    if [[ $word != -* && $COMP_CWORD -gt 1 ]]; then\n"
          "        COMPREPLY=($(compgen -f -- \"$word\")); return\n"
          "    fi\n"
          "    COMPREPLY=($(compgen -W '",
          out);
    command_list(out, "");
    for (const struct flag *f = config_flags; f->name; f++)
        fprintf(out, f->type == FLAG_SWITCH && f->fallback ? " --no-%s" : " --%s", f->name);
    fputs("' -- \"$word\"))\n}\ncomplete -F _backpropd backpropd\n", out);
    return 0;
}
