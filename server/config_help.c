/* config_help.c: --help, printed from the tables of flags and commands. */
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
